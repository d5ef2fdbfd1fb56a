//! The agent's connection: made, lost, made again, recycled.

use super::*;
use crate::session::hold::{Sound, Waiting};

impl Paper {
    pub(super) fn lose(&mut self, closed: Closed) {
        self.event(Event::AgentClosed(closed));
    }

    /// Until the machine dials.
    pub(super) fn until_dialled(&mut self) {
        for _ in 0..100 {
            if self.done.iter().any(|done| done.starts_with("connect")) {
                return;
            }
            self.wait(50);
        }
        panic!("nobody is dialled: {:?}", self.done);
    }

    pub(super) fn back(&mut self, resumed: bool) {
        self.event(Event::AgentOpened);
        self.agent(agent::Event::Ready {
            chat: "chat",
            resumed,
        });
    }

    pub(super) fn note(&self, is: impl Fn(&Note) -> bool) -> usize {
        self.notes.iter().filter(|note| is(note)).count()
    }
}

#[test]
fn a_lost_agent_is_called_again_and_asked_to_go_on() {
    let mut paper = Paper::greeted();
    paper.lose(Closed::Lost);
    paper.until_dialled();
    paper.expect(&["close agent", "connect to resume"]);
    assert!(paper.now - paper.start < Duration::from_secs(2));
    paper.back(true);
    assert!(paper.notes.iter().any(|note| matches!(
        note,
        Note::AgentReady {
            again: true,
            resumed: true,
            ..
        }
    )));
    paper.frame();
    assert_eq!(paper.caller_bytes, 160);
    paper.says(9, 500);
    paper.expect(&["play 500"]);
}

#[test]
fn nothing_of_the_old_connection_is_taken_for_the_new_ones() {
    let mut paper = Paper::greeted();
    paper.lose(Closed::Lost);
    paper.says(2, 100);
    paper.calls_tool("t", "weather");
    paper.until_dialled();
    paper.says(2, 100);
    paper.agent(agent::Event::Ready {
        chat: "chat",
        resumed: true,
    });
    assert!(!paper.machine.agent_ready());
    paper.expect(&["close agent", "connect to resume"]);
}

#[test]
fn an_agent_that_answers_no_ping_is_lost_and_one_that_does_is_not() {
    let mut paper = Paper::greeted();
    for _ in 0..3 {
        paper.wait(20_000);
        paper.expect(&["ping"]);
        paper.pong();
    }
    paper.wait(20_000);
    paper.expect(&["ping"]);
    paper.wait(10_000);
    paper.until_dialled();
    paper.expect(&["close agent", "connect to resume"]);
    paper.back(true);
    // The clock begins anew.
    paper.wait(19_000);
    paper.expect(&[]);
}

#[test]
fn what_the_caller_said_and_nobody_answered_is_said_again() {
    let mut paper = Paper::greeted();
    // Answered: not to be repeated.
    paper.voice();
    paper.caller_speaks();
    paper.says(2, 100);
    paper.agent(agent::Event::SegmentEnd {
        segment: SegmentId(2),
    });
    paper.agent(agent::Event::TurnDone);
    // Understood, and the answer never came; and what came in the gap.
    paper.voice();
    paper.voice();
    paper.caller_speaks();
    paper.lose(Closed::Lost);
    paper.voice();
    paper.until_dialled();
    paper.voice();
    let before = paper.caller_bytes;
    paper.back(true);
    assert_eq!(paper.caller_bytes - before, 4 * 160);
    assert!(
        paper
            .notes
            .contains(&Note::CallerAudioRepeated { bytes: 2 * 160 })
    );
    // The new agent is lost as well before it has said a word: nothing is forgotten.
    paper.lose(Closed::Lost);
    paper.taken();
    paper.until_dialled();
    let before = paper.caller_bytes;
    paper.back(true);
    assert_eq!(paper.caller_bytes - before, 4 * 160);
}

#[test]
fn what_the_agent_had_only_begun_to_say_is_said_again() {
    let mut paper = Paper::greeted();
    paper.says(2, 500);
    paper.agent(agent::Event::SegmentEnd {
        segment: SegmentId(2),
    });
    paper.agent(agent::Event::Transcript {
        role: Role::Agent,
        text: "The rest.",
        interim: false,
        replace: false,
    });
    paper.lose(Closed::Lost);
    paper.until_dialled();
    paper.back(true);
    paper.expect(&[
        "play 500",
        "mark",
        "close agent",
        "connect to resume",
        "say The rest.",
    ]);
}

#[test]
fn a_caller_who_has_spoken_in_the_gap_is_answered_instead() {
    let mut paper = Paper::greeted();
    paper.says(2, 500);
    paper.lose(Closed::Lost);
    paper.voice();
    paper.until_dialled();
    paper.back(true);
    assert!(!paper.done.iter().any(|done| done.starts_with("say")));
}

#[test]
fn a_paused_agent_is_paused_again_and_says_nothing() {
    let mut paper = Paper::greeted();
    paper.says(2, 500);
    assert_eq!(paper.order(Order::Pause), Verdict::Done);
    paper.lose(Closed::Lost);
    paper.until_dialled();
    paper.taken();
    paper.back(true);
    paper.expect(&["pause"]);
    assert_eq!(paper.order(Order::Resume), Verdict::Done);
}

#[test]
fn a_tool_call_that_the_next_agent_repeats_is_answered_again() {
    let mut paper = Paper::greeted();
    paper.calls_tool("a", "weather");
    paper.lose(Closed::Lost);
    paper.until_dialled();
    paper.back(true);
    paper.taken();
    paper.calls_tool("a", "weather");
    paper.calls_tool("a", "weather");
    paper.expect(&["refuse a"]);
}

#[test]
fn the_budget_ends_in_the_fallback_whatever_the_agent_is_doing_then() {
    // Never a connection; a connection that hangs; one that opens and says nothing.
    for (opens, fails) in [(false, true), (false, false), (true, false)] {
        let mut paper = Paper::greeted();
        paper.lose(Closed::Lost);
        let lost = paper.now;
        let mut attempts = 0;
        while !paper.machine.is_over() {
            paper.wait(10);
            let dialled = paper.taken();
            if dialled.iter().any(|done| done.starts_with("connect")) {
                attempts += 1;
                if opens {
                    paper.event(Event::AgentOpened);
                }
                if fails {
                    paper.lose(Closed::Lost);
                }
            }
            paper.done.extend(dialled);
            paper.done.retain(|done| done.starts_with("end"));
        }
        let took = paper.now - lost;
        assert!(took <= Duration::from_secs(31), "{took:?}");
        assert!(fails || took >= Duration::from_secs(30), "{took:?}");
        assert!(!fails || (5..100).contains(&attempts), "{attempts}");
        assert_eq!(paper.done, ["end agent-lost 1000"]);
    }
}

#[test]
fn an_agent_that_comes_and_goes_does_not_get_a_new_budget_each_time() {
    let mut paper = Paper::greeted();
    let mut losses = 0;
    while !paper.machine.is_over() {
        paper.lose(Closed::Lost);
        losses += 1;
        assert!(losses < 100, "for ever");
        if !paper.machine.is_over() {
            paper.until_dialled();
            paper.taken();
            paper.back(true);
        }
    }
    assert!(losses > 10);
}

#[test]
fn what_another_attempt_would_not_mend_is_not_tried() {
    for closed in [Closed::Auth, Closed::Quota, Closed::Rejected] {
        let mut paper = Paper::greeted();
        paper.lose(closed);
        let end = format!("end {} 1000", Cause::AgentFailed(closed).as_str());
        paper.expect(&["close agent", "after: fallback", &end]);
        // In the middle of an outage no more than at its beginning, but for a refusal to resume.
        if closed != Closed::Rejected {
            let mut paper = Paper::greeted();
            paper.lose(Closed::Lost);
            paper.until_dialled();
            paper.lose(closed);
            paper.wait(5000);
            assert!(paper.machine.is_over());
        }
    }
}

#[test]
fn a_failure_lets_what_was_said_be_heard_before_the_fallback() {
    let mut paper = Paper::greeted();
    paper.says(2, 3000);
    paper.lose(Closed::Quota);
    paper.expect(&["play 3000", "mark", "close agent"]);
    paper.wait(3000);
    paper.expect(&[]);
    paper.echo_all();
    paper.expect(&["after: fallback", "end agent-quota 1000"]);
}

#[test]
fn an_operator_can_end_a_call_that_has_lost_its_agent() {
    let mut paper = Paper::greeted();
    paper.lose(Closed::Lost);
    assert_eq!(paper.order(Order::HangUp { now: false }), Verdict::Done);
    paper.expect(&["close agent", "after: hang up", "hang up"]);
    paper.wait(30_000);
    paper.expect(&["end operator 1000"]);
}

#[test]
fn a_conversation_that_cannot_be_resumed_is_begun_anew_once() {
    let mut paper = Paper::greeted();
    paper.lose(Closed::Lost);
    paper.until_dialled();
    paper.taken();
    paper.event(Event::AgentOpened);
    paper.lose(Closed::Rejected);
    paper.until_dialled();
    paper.expect(&["close agent", "connect anew"]);
    paper.event(Event::AgentOpened);
    paper.lose(Closed::Lost);
    paper.until_dialled();
    paper.expect(&["close agent", "connect anew"]);
    paper.event(Event::AgentOpened);
    paper.lose(Closed::Rejected);
    paper.expect(&["close agent", "after: fallback", "end agent-rejected 1000"]);
}

#[test]
fn an_agent_that_never_resumes_is_asked_once() {
    let mut paper = Paper::greeted();
    paper.lose(Closed::Lost);
    paper.until_dialled();
    paper.lose(Closed::Rejected);
    paper.taken();
    paper.until_dialled();
    paper.back(false);
    paper.says(2, 100);
    paper.agent(agent::Event::TurnDone);
    paper.taken();
    paper.lose(Closed::Lost);
    paper.until_dialled();
    paper.expect(&["close agent", "connect anew"]);
}

#[test]
fn an_agent_that_begins_another_conversation_is_told_of_the_first() {
    let mut paper = Paper::greeted();
    paper.lose(Closed::Lost);
    paper.until_dialled();
    paper.taken();
    paper.back(false);
    paper.expect(&["remind"]);
}

#[test]
fn words_that_were_to_be_said_survive_a_second_loss() {
    let mut paper = Paper::greeted();
    paper.says(2, 500);
    paper.lose(Closed::Lost);
    paper.until_dialled();
    paper.back(true);
    paper.lose(Closed::Lost);
    paper.taken();
    paper.until_dialled();
    paper.back(true);
    paper.expect(&["connect to resume", "say words"]);
    // Once they are being said they are no longer owed, but for what is cut off again.
    paper.says(3, 100);
    paper.agent(agent::Event::TurnDone);
    paper.lose(Closed::Lost);
    paper.taken();
    paper.until_dialled();
    paper.back(true);
    paper.expect(&["connect to resume"]);

    // So do an operator's.
    let mut paper = Paper::greeted();
    paper.order(Order::Say(Words("One moment.".into())));
    paper.lose(Closed::Lost);
    paper.taken();
    paper.until_dialled();
    paper.back(true);
    paper.expect(&["connect to resume", "say One moment."]);
}

#[test]
fn half_an_answer_is_asked_for_again_where_its_words_are_not_known() {
    let mut paper = Paper::greeted();
    paper.voice();
    paper.caller_speaks();
    paper.says(2, 500);
    paper.agent(agent::Event::SegmentEnd {
        segment: SegmentId(2),
    });
    // The next sentence has not come, nor the end of the turn.
    paper.lose(Closed::Lost);
    paper.until_dialled();
    let before = paper.caller_bytes;
    paper.back(true);
    assert_eq!(paper.caller_bytes - before, 160);
}

#[test]
fn a_question_is_not_forgotten_before_a_dead_agent_is_found_out() {
    let mut paper = Paper::greeted();
    for _ in 0..50 {
        paper.voice();
        paper.wait(20);
    }
    // Silence on the line until no pong comes, and in the gap.
    for _ in 0..1400 {
        paper.frame();
        paper.tick_until(paper.now + Duration::from_millis(20));
    }
    paper.lose(Closed::Lost);
    paper.taken();
    for _ in 0..1000 {
        if paper.done.iter().any(|done| done.starts_with("connect")) {
            break;
        }
        paper.frame();
        paper.tick_until(paper.now + Duration::from_millis(20));
    }
    let before = paper.caller_bytes;
    paper.back(true);
    let again = paper.caller_bytes - before;
    assert!(again >= 50 * 160, "{again}");
    assert!(again <= (50 + 75 + 20) * 160, "{again}: silence");
}

#[test]
fn an_agent_that_is_not_ready_is_not_heard() {
    let mut paper = Paper::new();
    paper.event(Event::AgentOpened);
    paper.taken();
    paper.says(1, 100);
    paper.calls_tool("t", "weather");
    paper.expect(&[]);
}

#[test]
fn a_conversation_that_is_refused_after_all_is_begun_anew() {
    let mut paper = Paper::greeted();
    paper.lose(Closed::Lost);
    paper.until_dialled();
    paper.back(true);
    paper.taken();
    paper.lose(Closed::Rejected);
    paper.until_dialled();
    paper.expect(&["close agent", "connect anew"]);
}

#[test]
fn a_first_connection_is_tried_again_only_for_a_moment() {
    let mut paper = Paper::new();
    paper.expect(&["connect"]);
    let mut attempts = 1;
    while !paper.machine.is_over() {
        paper.lose(Closed::Lost);
        if !paper.machine.is_over() {
            paper.until_dialled();
            paper.expect(&["close agent", "connect anew"]);
            attempts += 1;
        }
    }
    paper.expect(&["close agent", "after: fallback", "end agent-lost 1000"]);
    assert!(attempts > 2, "{attempts}");
    assert!(paper.now - paper.start <= Duration::from_secs(3));

    // Who has waited for a connection until its deadline has waited long enough.
    let mut paper = Paper::new();
    paper.wait(10_000);
    paper.taken();
    paper.lose(Closed::Lost);
    paper.expect(&["close agent", "after: fallback", "end agent-lost 1000"]);

    let mut paper = Paper::with(|settings| settings.connect_budget = Duration::ZERO);
    paper.taken();
    paper.lose(Closed::Lost);
    paper.expect(&["close agent", "after: fallback", "end agent-lost 1000"]);
}

#[test]
fn a_close_before_the_conversation_began_is_a_failure_not_a_hang_up() {
    let mut paper = Paper::new();
    paper.event(Event::AgentOpened);
    paper.taken();
    paper.lose(Closed::HungUp);
    paper.until_dialled();
    paper.expect(&["close agent", "connect anew"]);
    paper.back(false);
    paper.lose(Closed::HungUp);
    paper.expect(&["close agent", "after: hang up", "hang up"]);
}

#[test]
fn an_agent_that_reports_a_failure_and_falls_silent_has_failed() {
    let error = |ends| agent::Event::Error {
        code: "I0100",
        ends,
    };
    let mut paper = Paper::greeted();
    for _ in 0..3 {
        paper.agent(error(Some(Closed::Lost)));
        paper.wait(500);
    }
    paper.expect(&[]);
    paper.wait(600);
    paper.until_dialled();
    paper.expect(&["close agent", "connect to resume"]);

    // One that goes on has not, nor one that refuses what may have been a single message: should it mean
    // the whole conversation, it says so by closing.
    for ends in [Some(Closed::Lost), Some(Closed::Rejected), None] {
        let mut paper = Paper::greeted();
        paper.agent(error(ends));
        if ends == Some(Closed::Lost) {
            paper.says(2, 100);
        }
        paper.taken();
        paper.wait(5000);
        paper.expect(&[]);
    }
}

fn recycling() -> Paper {
    let mut paper = Paper::with(|settings| {
        settings.recycle_after = Some(Duration::from_secs(100));
        settings.ping_interval = Duration::from_secs(3600);
    });
    paper.ready();
    paper.taken();
    paper.wait(99_000);
    paper.expect(&[]);
    paper
}

#[test]
fn an_old_conversation_is_taken_up_anew_at_a_pause() {
    let mut paper = recycling();
    paper.wait(1000);
    paper.expect(&["close agent", "connect to resume"]);
    // The caller notices nothing: what is said meanwhile is heard.
    paper.voice();
    paper.back(true);
    assert_eq!(paper.caller_bytes, 160);
    paper.says(2, 500);
    paper.expect(&["play 500"]);
    assert_eq!(
        paper.note(|note| *note == Note::Recycling { forced: false }),
        1
    );
    // And again when that one has grown old.
    paper.agent(agent::Event::TurnDone);
    paper.echo_all();
    paper.taken();
    paper.wait(110_000);
    paper.expect(&["close agent", "connect to resume"]);
}

#[test]
fn neither_the_agent_nor_the_caller_is_interrupted_by_recycling() {
    let mut paper = recycling();
    paper.says(2, 3000);
    paper.taken();
    paper.wait(2000);
    paper.expect(&[]);
    paper.agent(agent::Event::SegmentEnd {
        segment: SegmentId(2),
    });
    paper.agent(agent::Event::TurnDone);
    paper.wait(900);
    paper.expect(&["mark"]);
    paper.voice();
    paper.echo_all();
    paper.wait(1400);
    paper.expect(&[]);
    // Somebody has asked and waits for the answer.
    paper.caller_speaks();
    paper.wait(5000);
    paper.expect(&[]);
    paper.says(3, 200);
    paper.agent(agent::Event::TurnDone);
    paper.echo_all();
    paper.expect(&["play 200", "mark", "close agent", "connect to resume"]);
}

#[test]
fn recycling_does_not_wait_for_a_pause_for_ever() {
    let mut paper = recycling();
    for _ in 0..60 {
        paper.voice();
        paper.wait(1000);
    }
    paper.expect(&[]);
    paper.says(2, 5000);
    paper.taken();
    paper.wait(2000);
    paper.expect(&["mark", "close agent", "connect to resume"]);
    assert_eq!(
        paper.note(|note| *note == Note::Recycling { forced: true }),
        1
    );
    // What it was saying is said again.
    paper.back(true);
    paper.expect(&["say words"]);
}

#[test]
fn the_agents_own_limit_ends_the_call_and_the_one_that_nobody_set_does_not() {
    let mut paper = recycling();
    paper.lose(Closed::Expired);
    paper.expect(&["close agent", "after: hang up", "hang up"]);

    let mut paper = recycling();
    paper.says(2, 10_000);
    paper.wait(5000);
    paper.taken();
    paper.lose(Closed::Expired);
    paper.until_dialled();
    paper.expect(&["mark", "close agent", "connect to resume"]);
}

#[test]
fn recycling_has_no_budget_until_it_fails_and_costs_none() {
    let mut paper = Paper::with(|settings| {
        settings.recycle_after = Some(Duration::from_secs(30));
        settings.ping_interval = Duration::from_secs(100_000);
        settings.reconnect_budget = Duration::from_secs(1);
    });
    paper.ready();
    for _ in 0..50 {
        paper.taken();
        paper.wait(30_000);
        paper.expect(&["close agent", "connect to resume"]);
        // Slower than the budget.
        paper.wait(2000);
        paper.back(true);
    }
    // When the new connection fails, the budget begins.
    paper.wait(30_000);
    paper.wait(5000);
    paper.lose(Closed::Lost);
    assert!(!paper.machine.is_over());
    paper.wait(1000);
    assert!(paper.machine.is_over());
}

#[test]
fn nothing_is_recycled_between_a_question_and_its_answer() {
    // The question is not transcribed yet.
    let mut paper = recycling();
    paper.voice();
    paper.wait(3000);
    paper.expect(&[]);
    paper.caller_speaks();
    // The agent says that it will look, calls a tool, and thinks about the answer.
    paper.says(2, 100);
    paper.calls_tool("t", "weather");
    paper.agent(agent::Event::TurnDone);
    paper.echo_all();
    paper.taken();
    paper.wait(3000);
    paper.expect(&[]);
    paper.says(3, 100);
    paper.agent(agent::Event::TurnDone);
    paper.echo_all();
    paper.expect(&["play 100", "mark", "close agent", "connect to resume"]);
}

fn with_hold() -> Paper {
    Paper::with(|settings| {
        settings.hold = Some(Waiting {
            after: Duration::from_secs(3),
            sound: Sound::tones(),
        });
    })
}

#[test]
fn a_caller_who_waits_for_the_agent_hears_that_somebody_is_there() {
    let mut paper = with_hold();
    paper.taken();
    paper.wait(2900);
    paper.expect(&[]);
    paper.wait(2500);
    paper.expect(&["play 1000", "play 1000", "play 1000"]);
    assert_eq!(paper.note(|note| *note == Note::Holding), 1);
    paper.ready();
    paper.expect(&["clear"]);
    paper.says(1, 500);
    paper.agent(agent::Event::TurnDone);
    paper.wait(5000);
    paper.expect(&["play 500", "mark"]);
}

#[test]
fn the_hold_sound_does_not_talk_into_what_is_still_being_heard() {
    let mut paper = with_hold();
    paper.ready();
    paper.says(1, 10_000);
    paper.lose(Closed::Lost);
    paper.wait(12_900);
    assert!(!paper.done.contains(&"play 1000".to_owned()));
    paper.wait(200);
    assert_eq!(paper.done.last().map(String::as_str), Some("play 1000"));
    // It ends with the call.
    paper.order(Order::HangUp { now: false });
    assert!(paper.done.contains(&"clear".to_owned()));
    paper.taken();
    paper.wait(3000);
    paper.expect(&[]);
}
