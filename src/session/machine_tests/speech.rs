//! Calls with an agent that hears the caller speak, generates long before it is heard, and promises no
//! words: a Realtime server.

use super::*;
use crate::session::machine::NoInput;

const EAR: Capabilities = Capabilities {
    name: "ear",
    say: Saying::Nearly,
    parallel_tools: true,
    hears_speech: true,
    ..ABLE
};

fn with(change: impl FnOnce(&mut Settings)) -> Paper {
    let mut paper = Paper::with(|settings| {
        settings.capabilities = EAR;
        settings.ping_interval = Duration::from_secs(100_000);
        change(settings);
    });
    paper.ready();
    paper.taken();
    paper
}

fn call() -> Paper {
    with(|_| {})
}

impl Paper {
    fn begins(&mut self) {
        self.agent(agent::Event::CallerSpeaks);
    }

    fn ends(&mut self) {
        self.agent(agent::Event::CallerSpoke);
    }

    /// Sound alone; the words come when they come.
    fn sounds(&mut self, segment: u32, ms: usize) {
        self.agent(agent::Event::Audio {
            segment: SegmentId(segment),
            mulaw: &vec![0x20; ms * 8],
        });
    }

    fn segment_ends(&mut self, segment: u32) {
        self.agent(agent::Event::SegmentEnd {
            segment: SegmentId(segment),
        });
    }

    fn turn_ends(&mut self) {
        self.agent(agent::Event::TurnDone);
    }

    /// A whole turn of one utterance, which has been heard to its end.
    fn said(&mut self, segment: u32, ms: usize) {
        self.sounds(segment, ms);
        self.segment_ends(segment);
        self.turn_ends();
        self.wait(ms as u64);
        self.echo_all();
    }

    fn transcript(&mut self, role: Role, text: &str) {
        self.agent(agent::Event::Transcript {
            role,
            text,
            interim: false,
            replace: false,
        });
    }

    fn errs(&mut self, ends: Option<Closed>) {
        self.agent(agent::Event::Error {
            code: "insufficient_quota",
            ends,
        });
    }

    fn cuts(&mut self) -> Vec<String> {
        let cuts = |done: &String| done == "clear" || done.starts_with("heard ");
        self.taken().into_iter().filter(cuts).collect()
    }
}

#[test]
fn a_caller_who_begins_to_speak_silences_an_agent_that_is_still_generating() {
    let mut paper = call();
    paper.sounds(1, 600);
    paper.wait(100);
    paper.begins();
    assert_eq!(paper.cuts(), ["clear", "heard 1:100"]);
    // What is on its way of it is not wanted any more.
    paper.sounds(1, 400);
    paper.turn_ends();
    paper.expect(&[]);
    paper.wait(2000);
    paper.ends();
    paper.sounds(2, 100);
    paper.expect(&["play 100"]);
}

#[test]
fn and_one_that_has_finished_generating_and_is_still_being_heard() {
    let mut paper = call();
    paper.sounds(1, 400);
    paper.segment_ends(1);
    paper.sounds(2, 400);
    paper.segment_ends(2);
    paper.sounds(3, 400);
    paper.segment_ends(3);
    paper.turn_ends();
    // The first mark of each utterance lies in it, and those of the first have come back.
    let marks: Vec<String> = paper.marks.drain(..).collect();
    paper.wait(500);
    for name in &marks[..2] {
        paper.event(Event::Carrier(Carrier::Mark { name }));
    }
    paper.wait(50);
    paper.taken();
    paper.begins();
    paper.expect(&["clear", "heard 2:50", "heard 3:0"]);
    // Marks that come back for the clear say nothing.
    for name in &marks[2..] {
        paper.event(Event::Carrier(Carrier::Mark { name }));
    }
    paper.expect(&[]);
}

#[test]
fn between_two_utterances_of_one_response_the_rest_of_it_is_stale() {
    let mut paper = call();
    paper.sounds(1, 200);
    paper.segment_ends(1);
    paper.wait(200);
    paper.echo_all();
    paper.taken();
    paper.begins();
    paper.expect(&["heard 1:200"]);
    paper.sounds(1, 200);
    paper.expect(&[]);
}

#[test]
fn with_nothing_to_interrupt_a_beginning_is_only_a_sign_of_the_caller() {
    let mut paper = call();
    paper.begins();
    paper.ends();
    paper.said(1, 400);
    paper.taken();
    paper.begins();
    paper.expect(&[]);
    assert!(!paper.notes.contains(&Note::SpuriousInterruption));
}

#[test]
fn a_long_utterance_is_sent_in_pieces_with_marks_behind_them() {
    let mut paper = call();
    paper.sounds(1, 500);
    paper.expect(&["play 200", "mark", "play 200", "mark", "play 100"]);
    paper.sounds(1, 150);
    paper.expect(&["play 100", "mark", "play 50"]);
    paper.segment_ends(1);
    paper.expect(&["mark"]);
}

#[test]
fn the_callers_words_come_when_they_come_and_change_nothing() {
    let mut paper = call();
    paper.begins();
    paper.wait(1000);
    paper.ends();
    paper.wait(300);
    paper.sounds(1, 2000);
    paper.taken();
    paper.transcript(Role::Caller, "what time is it");
    paper.expect(&[]);
    assert_eq!(paper.note(|note| matches!(note, Note::BargeIn { .. })), 0);
    let after = Duration::from_millis(300);
    assert!(paper.notes.contains(&Note::Answered { after }));
    // Not even where words interrupt, in what is generated and not yet heard.
    paper.segment_ends(1);
    paper.turn_ends();
    paper.taken();
    paper.transcript(Role::Caller, "please");
    paper.expect(&[]);
    // Nor do the agent's own: those of an answer that has been cut come late.
    paper.begins();
    paper.ends();
    paper.transcript(Role::Agent, "it is nine");
    paper.wait(400);
    paper.sounds(2, 100);
    let after = Duration::from_millis(400);
    assert!(paper.notes.contains(&Note::Answered { after }));
}

#[test]
fn an_agents_goodbye_is_withdrawn_by_who_has_spoken_not_by_a_noise() {
    let mut paper = call();
    paper.said(1, 400);
    paper.calls_tool("a", "hang_up");
    assert!(paper.machine.is_ending());
    paper.begins();
    assert!(paper.machine.is_ending());
    paper.wait(500);
    paper.ends();
    assert!(!paper.machine.is_ending());

    // Who talks over it has something to say.
    let mut paper = call();
    paper.sounds(1, 2000);
    paper.calls_tool("a", "hang_up");
    paper.wait(300);
    paper.begins();
    assert!(!paper.machine.is_ending());

    // An operator's order stands.
    let mut paper = call();
    paper.sounds(1, 2000);
    paper.order(Order::HangUp { now: false });
    paper.wait(300);
    paper.taken();
    paper.begins();
    paper.expect(&[
        "clear",
        "heard 1:200",
        "close agent",
        "after: hang up",
        "hang up",
    ]);
}

#[test]
fn a_paused_agent_is_silenced_too_and_its_answer_is_not_waited_for() {
    let mut paper = call();
    paper.sounds(1, 2000);
    paper.segment_ends(1);
    paper.turn_ends();
    paper.order(Order::Pause);
    paper.wait(100);
    paper.taken();
    paper.begins();
    paper.ends();
    paper.expect(&["clear", "heard 1:100"]);
    assert_eq!(paper.note(|note| matches!(note, Note::Answered { .. })), 0);
}

#[test]
fn an_agent_that_is_not_ready_hears_nobody() {
    let mut paper = Paper::with(|settings| settings.capabilities = EAR);
    paper.event(Event::AgentOpened);
    paper.taken();
    paper.begins();
    paper.ends();
    paper.expect(&[]);
}

#[test]
fn a_tool_goes_on_whoever_speaks_and_nobody_fills_the_callers_own_words() {
    let mut paper = call();
    paper.calls_tool("a", "slow");
    paper.sounds(1, 1000);
    paper.wait(500);
    paper.taken();
    paper.begins();
    assert_eq!(paper.cuts(), ["clear", "heard 1:200"]);
    paper.wait(4000);
    paper.expect(&[]);
    paper.ends();
    paper.expect(&["say One moment, please."]);
    paper.event(Event::ToolDone {
        ticket: 0,
        outcome: crate::tools::Outcome::Done(Words("nine".into())),
    });
    paper.expect(&["answer a: Done(Words(4 characters))"]);

    // A caller whose end is never told has been a noise.
    let mut paper = with(|settings| {
        settings.tools = Arc::new(Catalogue::new(vec![offer(
            "slow",
            100_000,
            Some("One moment."),
        )]));
    });
    paper.calls_tool("a", "slow");
    paper.taken();
    paper.begins();
    paper.wait(59_000);
    paper.expect(&[]);
    paper.wait(1100);
    paper.expect(&["say One moment."]);
}

fn watched() -> Paper {
    with(|settings| {
        settings.no_input = Some(NoInput {
            timeout: Duration::from_secs(10),
            check: Some(Words("Hello?".into())),
            farewell: Some(Words("Goodbye.".into())),
        });
    })
}

#[test]
fn who_speaks_for_long_is_neither_asked_nor_sent_away() {
    let mut paper = watched();
    paper.wait(9000);
    // Too softly for us, not for the agent.
    paper.begins();
    paper.wait(40_000);
    paper.expect(&[]);
    paper.ends();
    paper.wait(9900);
    paper.expect(&[]);
    paper.wait(200);
    paper.expect(&["say Hello?"]);
    // Within bounds.
    let mut paper = watched();
    paper.begins();
    paper.wait(59_900);
    paper.expect(&[]);
    paper.wait(200);
    paper.expect(&["say Hello?"]);
}

#[test]
fn a_farewell_in_other_words_is_the_farewell() {
    let mut paper = watched();
    paper.wait(10_000);
    paper.expect(&["say Hello?"]);
    paper.said(1, 200);
    paper.wait(10_100);
    assert_eq!(paper.taken().last().unwrap(), "say Goodbye.");
    paper.sounds(2, 200);
    paper.transcript(Role::Agent, "Well, goodbye then!");
    paper.segment_ends(2);
    paper.turn_ends();
    paper.wait(200);
    paper.taken();
    paper.echo_all();
    paper.expect(&["close agent", "after: hang up", "hang up"]);
}

#[test]
fn the_rest_of_another_turn_is_not_the_farewell() {
    let mut paper = with(|settings| {
        settings.max_duration = Duration::from_secs(20);
        settings.max_duration_farewell = Some(Words("Time is up.".into()));
    });
    paper.wait(19_000);
    paper.sounds(1, 2000);
    paper.wait(1000);
    assert_eq!(paper.taken().last().unwrap(), "say Time is up.");
    paper.sounds(1, 400);
    paper.segment_ends(1);
    paper.turn_ends();
    paper.wait(2400);
    paper.echo_all();
    paper.taken();
    // Nothing comes of it: Twilio says it.
    paper.wait(10_000);
    paper.expect(&[
        "after: last farewell",
        "close agent",
        "end max-duration 1000",
    ]);
}

#[test]
fn a_farewell_is_said_behind_the_answer_to_who_speaks_meanwhile() {
    let mut paper = with(|settings| {
        settings.max_duration = Duration::from_secs(20);
        settings.max_duration_farewell = Some(Words("Time is up.".into()));
    });
    paper.wait(20_000);
    paper.expect(&["say Time is up."]);
    paper.begins();
    paper.ends();
    paper.said(1, 200);
    paper.taken();
    paper.wait(2000);
    paper.expect(&[]);
    paper.said(2, 200);
    let done = paper.taken();
    assert!(done.ends_with(&["hang up".to_owned()]), "{done:?}");
}

#[test]
fn nobody_is_sent_away_in_the_middle_of_a_sentence() {
    let goodbye = || {
        let mut paper = call();
        paper.said(1, 400);
        paper.calls_tool("a", "hang_up");
        paper.wait(800);
        paper.begins();
        paper
    };
    let hangs_up = |paper: &mut Paper| paper.taken().contains(&"hang up".to_owned());
    let mut paper = goodbye();
    // What there was to be said has had its time.
    paper.wait(8000);
    assert!(paper.machine.is_ending() && !hangs_up(&mut paper));
    paper.ends();
    assert!(!paper.machine.is_ending());

    // A noise that never ends holds it up for no longer than anybody speaks.
    let mut paper = goodbye();
    paper.wait(59_000);
    assert!(!hangs_up(&mut paper));
    paper.wait(1100);
    assert!(hangs_up(&mut paper));
}

#[test]
fn the_turn_of_a_tool_is_not_waited_for_before_the_farewell() {
    let mut paper = with(|settings| {
        settings.max_duration = Duration::from_secs(20);
        settings.max_duration_farewell = Some(Words("Time is up.".into()));
    });
    paper.wait(18_500);
    paper.ends();
    paper.calls_tool("a", "slow");
    paper.wait(1500);
    assert_eq!(paper.taken().last().unwrap(), "say Time is up.");
    paper.said(1, 200);
    let done = paper.taken();
    assert!(done.ends_with(&["hang up".to_owned()]), "{done:?}");
}

#[test]
fn an_agent_without_credit_ends_the_call_though_it_goes_on_hearing() {
    for why in [Closed::Quota, Closed::Auth] {
        let mut paper = call();
        paper.said(1, 200);
        paper.taken();
        paper.begins();
        paper.ends();
        paper.errs(Some(why));
        // Its ears are another machine's.
        paper.turn_ends();
        paper.wait(1000);
        paper.transcript(Role::Caller, "hello");
        paper.begins();
        paper.ends();
        paper.wait(900);
        paper.expect(&[]);
        paper.wait(200);
        let end = format!("end {} 1000", Cause::AgentFailed(why).as_str());
        paper.expect(&["close agent", "after: fallback", &end]);
    }
    // It has recovered if it speaks.
    let mut paper = call();
    paper.errs(Some(Closed::Quota));
    paper.sounds(1, 100);
    paper.taken();
    paper.wait(5000);
    paper.expect(&[]);
}

#[test]
fn what_is_refused_before_the_conversation_began_is_refused() {
    let mut paper = Paper::with(|settings| settings.capabilities = EAR);
    paper.event(Event::AgentOpened);
    paper.errs(Some(Closed::Rejected));
    paper.taken();
    paper.wait(2000);
    paper.expect(&["close agent", "after: fallback", "end agent-rejected 1000"]);
    // Unless it begins all the same.
    let mut paper = Paper::with(|settings| settings.capabilities = EAR);
    paper.event(Event::AgentOpened);
    paper.errs(Some(Closed::Rejected));
    paper.agent(agent::Event::Ready {
        chat: "chat",
        resumed: false,
    });
    paper.taken();
    paper.wait(5000);
    paper.expect(&[]);
}

fn in_seconds(paper: &Paper, seconds: u64) -> Event<'static> {
    Event::AgentExpires(paper.now + Duration::from_secs(seconds))
}

#[test]
fn a_conversation_with_an_end_is_taken_up_anew_before_it_at_a_pause() {
    let mut paper = call();
    paper.event(in_seconds(&paper, 3600));
    paper.said(1, 400);
    paper.taken();
    paper.wait(3_469_000);
    // The caller speaks, who is not interrupted.
    paper.begins();
    paper.wait(50_000);
    paper.expect(&[]);
    paper.ends();
    paper.said(2, 400);
    paper.wait(1000);
    let done = paper.taken();
    assert!(
        done.ends_with(&["close agent".into(), "connect to resume".into()]),
        "{done:?}"
    );
    assert!(paper.notes.contains(&Note::Recycling { forced: false }));
}

#[test]
fn the_agents_own_limit_is_not_the_end_of_the_call() {
    // Its end came without time for a pause.
    let mut paper = call();
    paper.event(in_seconds(&paper, 60));
    paper.wait(60_000);
    paper.expect(&[]);
    paper.lose(Closed::Expired);
    paper.until_dialled();
    paper.expect(&["close agent", "connect to resume"]);
    // A limit of which it has not spoken is somebody's will.
    let mut paper = call();
    paper.lose(Closed::Expired);
    paper.expect(&["close agent", "after: hang up", "hang up"]);
}

#[test]
fn a_successor_hears_again_what_was_said_and_not_answered() {
    let mut paper = call();
    for _ in 0..10 {
        paper.voice();
    }
    paper.begins();
    paper.ends();
    assert_eq!(paper.caller_bytes, 10 * 160);
    paper.lose(Closed::Lost);
    paper.until_dialled();
    paper.back(true);
    assert_eq!(paper.caller_bytes, 20 * 160);
    // And this one answers.
    paper.begins();
    paper.ends();
    paper.said(1, 200);
    paper.lose(Closed::Lost);
    paper.until_dialled();
    paper.back(true);
    assert_eq!(paper.caller_bytes, 20 * 160);
}

#[test]
fn who_is_elsewhere_is_heard_by_nobody_and_speaks_when_back() {
    let mut paper = call();
    paper.said(1, 200);
    paper.order(Order::Transfer(crate::tools::Transfer {
        number: "+15550001111".into(),
        announce: None,
    }));
    assert!(paper.machine.is_ending());
    paper.taken();
    paper.begins();
    paper.event(Event::Carrier(Carrier::Stop));
    paper.taken();
    paper.begins();
    paper.order(Order::Transferred(
        super::super::errand::Transferred::Returning(super::super::errand::Failed::NoAnswer),
    ));
    paper.event(Event::Returned);
    paper.taken();
    paper.sounds(2, 200);
    paper.expect(&["play 200", "mark"]);
    paper.begins();
    paper.expect(&["clear", "heard 2:0"]);
}
