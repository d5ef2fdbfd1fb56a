//! Callers of whom nothing is heard, and calls that have lasted long enough.

use super::*;
use crate::session::machine::NoInput;

fn words(text: &str) -> Option<Words> {
    Some(Words(text.to_owned()))
}

fn watched(change: impl FnOnce(&mut Settings)) -> Paper {
    let mut paper = Paper::with(|settings| {
        settings.ping_interval = Duration::from_secs(100_000);
        settings.no_input = Some(NoInput {
            timeout: Duration::from_secs(60),
            check: words("Hello?"),
            farewell: words("Goodbye."),
        });
        change(settings);
    });
    paper.ready();
    paper.taken();
    paper
}

impl Paper {
    /// A whole turn of the agent's, so long.
    fn agent_says(&mut self, text: &str, segment: u32, ms: usize) {
        self.agent(agent::Event::Transcript {
            role: Role::Agent,
            text,
            interim: false,
            replace: false,
        });
        self.agent(agent::Event::Audio {
            segment: SegmentId(segment),
            mulaw: &vec![0x20; ms * 8],
        });
        self.agent(agent::Event::SegmentEnd {
            segment: SegmentId(segment),
        });
        self.agent(agent::Event::TurnDone);
    }

    /// The agent says what it was told to, and it is heard.
    fn says_it(&mut self, segment: u32, text: &str) {
        self.agent_says(text, segment, 1000);
        self.wait(1000);
        self.echo_all();
        self.taken();
    }
}

#[test]
fn a_caller_of_whom_nothing_is_heard_is_asked_and_then_said_goodbye_to() {
    let mut paper = watched(|_| {});
    paper.wait(59_900);
    paper.expect(&[]);
    paper.wait(200);
    paper.expect(&["say Hello?"]);
    paper.says_it(1, "Hello?");
    paper.wait(14_000);
    paper.expect(&[]);
    paper.wait(1100);
    paper.expect(&["say Goodbye."]);
    paper.says_it(2, "Goodbye.");
    paper.wait(5000);
    paper.expect(&["end no-input 1000"]);
    assert!(paper.notes.contains(&Note::HangingUp(Cause::NoInput)));
}

#[test]
fn words_and_keys_are_signs_of_the_caller_and_so_is_listening() {
    let mut paper = watched(|_| {});
    paper.wait(50_000);
    paper.event(Event::Carrier(Carrier::Key { key: '1' }));
    paper.wait(50_000);
    paper.caller_speaks();
    paper.wait(50_000);
    // A long speech of the agent's is listened to; the time runs from its end.
    paper.says(1, 100_000);
    paper.agent(agent::Event::SegmentEnd {
        segment: SegmentId(1),
    });
    paper.agent(agent::Event::TurnDone);
    paper.taken();
    paper.wait(159_000);
    paper.expect(&[]);
    paper.wait(1100);
    paper.expect(&["say Hello?"]);
    // Who answers is asked again the next time, not sent away.
    paper.says_it(2, "Hello?");
    paper.caller_speaks();
    paper.wait(59_000);
    paper.expect(&[]);
    paper.wait(1000);
    paper.expect(&["say Hello?"]);
}

#[test]
fn a_caller_who_speaks_into_the_farewell_is_not_sent_away() {
    let mut paper = watched(|_| {});
    paper.wait(60_000);
    paper.says_it(1, "Hello?");
    paper.wait(15_000);
    paper.expect(&["say Goodbye."]);
    paper.says(2, 1000);
    paper.caller_speaks();
    assert!(!paper.machine.is_ending());
    assert!(paper.notes.contains(&Note::GoodbyeWithdrawn));
    paper.taken();
    paper.wait(59_000);
    assert!(!paper.machine.is_ending());
}

#[test]
fn nobody_is_asked_by_an_agent_that_cannot_and_twilio_says_the_farewell() {
    let mut paper = watched(|settings| settings.capabilities = PLAIN);
    paper.wait(60_000);
    paper.expect(&[
        "after: no-input farewell",
        "close agent",
        "end no-input 1000",
    ]);
}

#[test]
fn a_caller_who_is_speaking_is_neither_asked_nor_sent_away() {
    let mut paper = watched(|_| {});
    paper.wait(59_000);
    for _ in 0..10 {
        paper.voice();
        paper.wait(1000);
    }
    paper.expect(&[]);
    paper.caller_speaks();
    paper.wait(59_000);
    paper.expect(&[]);
    // A line that is never silent is no caller.
    let mut paper = watched(|_| {});
    for _ in 0..121 {
        paper.voice();
        paper.wait(1000);
    }
    paper.expect(&["say Hello?"]);
}

#[test]
fn an_agent_that_does_not_ask_is_the_one_of_whom_nothing_is_heard() {
    let mut paper = watched(|_| {});
    paper.wait(60_000);
    paper.expect(&["say Hello?"]);
    paper.wait(17_000);
    paper.expect(&["close agent", "connect to resume"]);
    paper.event(Event::AgentOpened);
    paper.agent(agent::Event::Ready {
        chat: "chat",
        resumed: true,
    });
    paper.expect(&["say Hello?"]);
    // The caller is given all the time again; but for a mute agent there is only one other.
    paper.wait(59_000);
    paper.expect(&[]);
    paper.wait(18_000);
    paper.expect(&[
        "say Hello?",
        "close agent",
        "after: fallback",
        "end agent-lost 1000",
    ]);
}

#[test]
fn sentences_can_be_left_out() {
    let mut paper = watched(|settings| {
        let watch = settings.no_input.as_mut().unwrap();
        watch.check = None;
        watch.farewell = None;
    });
    paper.wait(60_000);
    paper.expect(&["close agent", "after: hang up", "hang up"]);
}

#[test]
fn who_waits_for_a_lost_or_paused_agent_is_not_asked() {
    let mut paper = watched(|settings| settings.reconnect_budget = Duration::from_secs(300));
    paper.order(Order::Pause);
    paper.taken();
    paper.wait(200_000);
    paper.expect(&[]);
    paper.order(Order::Resume);
    paper.wait(59_000);
    paper.expect(&["resume"]);
    paper.event(Event::AgentClosed(Closed::Lost));
    paper.wait(1000);
    paper.event(Event::AgentOpened);
    paper.wait(5000);
    paper.agent(agent::Event::Ready {
        chat: "chat",
        resumed: true,
    });
    paper.taken();
    paper.wait(59_000);
    paper.expect(&[]);
}

#[test]
fn a_call_has_a_longest_duration_and_ends_with_a_farewell() {
    let mut paper = Paper::with(|settings| {
        settings.ping_interval = Duration::from_secs(100_000);
        settings.max_duration_farewell = words("Time is up.");
    });
    paper.ready();
    paper.taken();
    paper.wait(7_199_000);
    paper.expect(&[]);
    paper.says(1, 5000);
    paper.taken();
    paper.wait(1000);
    paper.expect(&["say Time is up."]);
    // The sentence it was at, then the farewell; the caller's words change nothing.
    paper.agent(agent::Event::SegmentEnd {
        segment: SegmentId(1),
    });
    paper.agent(agent::Event::TurnDone);
    paper.agent_says("Time is up.", 2, 1000);
    paper.expect(&["mark", "play 1000", "mark"]);
    paper.wait(5000);
    paper.expect(&[]);
    paper.echo_all();
    paper.expect(&["close agent", "after: hang up", "hang up"]);
    paper.wait(4000);
    paper.expect(&["end max-duration 1000"]);
}

#[test]
fn without_an_agent_twilio_says_the_last_farewell_and_without_words_nobody_does() {
    let mut paper = Paper::with(|settings| {
        settings.max_duration_farewell = words("Time is up.");
        settings.max_duration = Duration::from_secs(20);
        settings.ready_timeout = Duration::from_secs(100);
    });
    paper.event(Event::AgentOpened);
    paper.taken();
    paper.wait(20_000);
    let done = paper.taken();
    assert_eq!(
        done,
        [
            "close agent",
            "after: last farewell",
            "end max-duration 1000"
        ]
    );

    let mut paper = Paper::with(|settings| {
        settings.max_duration = Duration::from_secs(19);
        settings.ping_interval = Duration::from_secs(100_000);
    });
    paper.ready();
    paper.taken();
    paper.wait(14_000);
    paper.says(1, 8000);
    paper.wait(5000);
    // What is being said is heard.
    paper.expect(&["play 8000"]);
    paper.agent(agent::Event::TurnDone);
    paper.wait(3000);
    paper.echo_all();
    paper.expect(&["mark", "close agent", "after: hang up", "hang up"]);
}

#[test]
fn time_that_is_up_cuts_no_word() {
    for lost in [true, false] {
        let mut paper = Paper::with(|settings| {
            settings.max_duration = Duration::from_secs(10);
            settings.max_duration_farewell = words("Time is up.");
            settings.reconnect_budget = Duration::from_secs(300);
            if !lost {
                settings.capabilities = PLAIN;
            }
        });
        paper.ready();
        paper.wait(5000);
        paper.says(1, 20_000);
        if lost {
            paper.event(Event::AgentClosed(Closed::Lost));
        }
        paper.wait(6000);
        assert!(!paper.done.iter().any(|done| done.starts_with("end")));
        paper.agent(agent::Event::TurnDone);
        paper.wait(14_500);
        assert!(!paper.done.iter().any(|done| done.starts_with("end")));
        paper.echo_all();
        let done = paper.taken();
        assert!(
            done.contains(&"after: last farewell".to_owned()),
            "{done:?}"
        );
        assert_eq!(
            done.last().map(String::as_str),
            Some("end max-duration 1000")
        );
    }
}

#[test]
fn a_farewell_that_the_agent_does_not_say_is_twilios() {
    fn given() -> Paper {
        let mut paper = Paper::with(|settings| {
            settings.max_duration = Duration::from_secs(10);
            settings.max_duration_farewell = words("Time is up.");
        });
        paper.ready();
        paper.says(1, 12_000);
        paper.wait(10_000);
        assert_eq!(
            paper.taken().last().map(String::as_str),
            Some("say Time is up.")
        );
        paper
    }
    // Interrupted in the sentence before, lost, and mute.
    let mut paper = given();
    paper.agent(agent::Event::Interrupt);
    paper.wait(5000);
    assert!(paper.taken().contains(&"after: last farewell".to_owned()));
    let mut paper = given();
    paper.event(Event::AgentClosed(Closed::Lost));
    paper.wait(5000);
    paper.echo_all();
    assert!(paper.taken().contains(&"after: last farewell".to_owned()));
    let mut paper = given();
    paper.agent(agent::Event::TurnDone);
    paper.wait(2000);
    paper.echo_all();
    paper.wait(10_000);
    assert!(paper.taken().contains(&"after: last farewell".to_owned()));
    // One that is said is heard once, though a reply came before it.
    let mut paper = given();
    paper.caller_speaks();
    paper.agent(agent::Event::TurnDone);
    paper.agent_says("Time is up.", 5, 1000);
    paper.echo_all();
    paper.wait(3000);
    paper.echo_all();
    let done = paper.taken();
    assert!(done.contains(&"hang up".to_owned()), "{done:?}");
    assert!(
        !done.contains(&"after: last farewell".to_owned()),
        "{done:?}"
    );
}

#[test]
fn a_farewell_is_heard_though_something_else_was_cut_or_answered_first() {
    fn farewell(paper: &mut Paper) {
        // As it stands in a config with line breaks, and in two pieces.
        for text in ["Time is", "up."] {
            paper.agent(agent::Event::Transcript {
                role: Role::Agent,
                text,
                interim: false,
                replace: false,
            });
        }
        paper.agent(agent::Event::Audio {
            segment: SegmentId(9),
            mulaw: &[0x20; 8000],
        });
        paper.agent(agent::Event::TurnDone);
        paper.expect(&["play 1000", "mark"]);
        paper.wait(1000);
        paper.echo_all();
        paper.wait(3000);
        paper.echo_all();
        let done = paper.taken();
        assert!(done.contains(&"hang up".to_owned()), "{done:?}");
        assert!(!done.contains(&"after: last farewell".to_owned()));
    }
    let given = || {
        let mut paper = Paper::with(|settings| {
            settings.max_duration = Duration::from_secs(10);
            settings.max_duration_farewell = words("Time\n  is up.");
        });
        paper.ready();
        paper.says(1, 12_000);
        paper.agent(agent::Event::TurnDone);
        paper.wait(10_000);
        paper.taken();
        paper
    };
    let mut paper = given();
    paper.agent(agent::Event::Interrupt);
    paper.wait(500);
    paper.taken();
    farewell(&mut paper);

    let mut paper = given();
    paper.says(2, 3000);
    paper.agent(agent::Event::TurnDone);
    paper.wait(1000);
    paper.taken();
    farewell(&mut paper);

    // Its words alone are not the farewell.
    let mut paper = given();
    paper.agent(agent::Event::Transcript {
        role: Role::Agent,
        text: "Time is up.",
        interim: false,
        replace: false,
    });
    paper.event(Event::AgentClosed(Closed::Lost));
    paper.echo_all();
    assert!(paper.taken().contains(&"after: last farewell".to_owned()));
}

#[test]
fn a_farewell_that_was_withdrawn_is_not_said_by_the_next_agent() {
    let mut paper = watched(|_| {});
    paper.wait(60_000);
    paper.says_it(1, "Hello?");
    paper.wait(15_000);
    paper.expect(&["say Goodbye."]);
    paper.caller_speaks();
    assert!(!paper.machine.is_ending());
    paper.event(Event::AgentClosed(Closed::Lost));
    paper.wait(1000);
    paper.event(Event::AgentOpened);
    paper.agent(agent::Event::Ready {
        chat: "chat",
        resumed: true,
    });
    assert!(!paper.taken().iter().any(|done| done.starts_with("say")));
}

#[test]
fn no_goodbye_outlasts_the_longest_duration_by_much() {
    let mut paper = Paper::with(|settings| settings.max_duration = Duration::from_secs(20));
    paper.ready();
    paper.wait(19_000);
    paper.says(1, 500_000);
    paper.calls_tool("t", "hang_up");
    paper.taken();
    paper.wait(62_000);
    assert!(paper.taken().contains(&"hang up".to_owned()));
}
