//! Calls that go away and come back.

use super::*;
use crate::{
    session::errand::{Failed, Redirected, Transferred},
    tools::{Digits, Outcome, Transfer},
};

const AFTER: &str = "after: Transfer(Transfer { warm: false, .. })";
const REDIRECT: &str = "redirect: Transfer(Transfer { warm: false, .. })";
const SORRY: &str = "prompt The transfer failed: nobody answered.";

fn transfer() -> Transfer {
    Transfer {
        number: "+15550001111".into(),
        announce: None,
    }
}

fn no_answer() -> Order {
    Order::Transferred(Transferred::Returning(Failed::NoAnswer))
}

/// The caller is being put through, by an operator's order, and has left.
fn away() -> Paper {
    let mut paper = Paper::greeted();
    assert_eq!(paper.order(Order::Transfer(transfer())), Verdict::Done);
    paper.expect(&[AFTER, REDIRECT]);
    paper.event(Event::RedirectAnswered(Redirected::Done));
    paper.event(Event::Carrier(Carrier::Stop));
    paper.expect(&["close carrier"]);
    paper
}

#[test]
fn the_agent_is_heard_before_the_caller_is_put_through() {
    let mut paper = Paper::greeted();
    paper.says(2, 2000);
    paper.taken();
    paper.calls_tool("a", "stock");
    paper.event(Event::ToolDone {
        ticket: 0,
        outcome: Outcome::Transfer(transfer()),
    });
    paper.expect(&["run a (1) as 0", "answer a: Transferring"]);
    paper.agent(agent::Event::SegmentEnd {
        segment: SegmentId(2),
    });
    paper.says(3, 1000);
    paper.agent(agent::Event::TurnDone);
    paper.expect(&["mark", "play 1000", "mark"]);
    // "Thank you": nothing that changes it.
    paper.agent(agent::Event::Transcript {
        role: Role::Caller,
        text: "Thank you",
        interim: true,
        replace: true,
    });
    paper.wait(3000);
    paper.echo_all();
    paper.wait(2600);
    paper.expect(&[AFTER, REDIRECT]);
}

#[test]
fn an_agent_that_hangs_up_besides_does_not_end_the_transfer() {
    let mut paper = Paper::greeted();
    paper.calls_tool("a", "stock");
    paper.event(Event::ToolDone {
        ticket: 0,
        outcome: Outcome::Transfer(transfer()),
    });
    paper.taken();
    paper.calls_tool("b", "hang_up");
    paper.expect(&["answer b"]);
    paper.event(Event::AgentClosed(Closed::HungUp));
    let taken = paper.taken();
    assert!(taken.contains(&REDIRECT.to_owned()), "{taken:?}");
    assert!(!taken.contains(&"hang up".to_owned()), "{taken:?}");
}

#[test]
fn who_is_put_through_needs_the_agent_no_more() {
    let mut paper = away();
    paper.wait(5000);
    paper.taken();
    let order = Order::Transferred(Transferred::Connected);
    assert_eq!(paper.order(order), Verdict::Done);
    paper.expect(&["after: hang up", "close agent", "end transferred 1000"]);
}

#[test]
fn who_is_not_put_through_comes_back_to_an_agent_that_knows_why() {
    let mut paper = away();
    paper.wait(25_000);
    assert_eq!(paper.order(no_answer()), Verdict::Done);
    paper.taken();
    paper.event(Event::Returned);
    paper.expect(&["after: fallback", SORRY]);
    // As ever from here on.
    paper.says(2, 500);
    paper.expect(&["play 500"]);
    let before = paper.caller_bytes;
    paper.frame();
    assert_eq!(paper.caller_bytes, before + 160);
}

#[test]
fn who_comes_back_to_a_paused_agent_is_answered() {
    let mut paper = Paper::greeted();
    assert_eq!(paper.order(Order::Pause), Verdict::Done);
    assert_eq!(paper.order(Order::Transfer(transfer())), Verdict::Done);
    paper.event(Event::RedirectAnswered(Redirected::Done));
    paper.event(Event::Carrier(Carrier::Stop));
    assert_eq!(paper.order(no_answer()), Verdict::Done);
    paper.taken();
    paper.event(Event::Returned);
    paper.expect(&["after: fallback", "resume", SORRY]);
    assert_eq!(paper.order(Order::Resume), Verdict::Already);
}

#[test]
fn a_return_that_does_not_come_is_not_waited_for() {
    let mut paper = away();
    paper.order(no_answer());
    paper.wait(19_000);
    assert!(!paper.machine.is_over());
    paper.wait(2000);
    let taken = paper.taken();
    assert_eq!(taken.last().unwrap(), "end carrier-lost 1000");
}

#[test]
fn a_caller_of_whom_nothing_more_is_heard_is_talking_to_somebody() {
    let mut paper = away();
    paper.wait(49_000);
    assert!(!paper.machine.is_over());
    paper.wait(2000);
    let taken = paper.taken();
    assert_eq!(taken.last().unwrap(), "end transferred 1000");
}

#[test]
fn a_caller_who_is_told_and_let_go_is_not_waited_for() {
    let mut paper = away();
    paper.taken();
    paper.order(Order::Transferred(Transferred::Ended(Failed::Busy)));
    paper.expect(&["after: hang up", "close agent", "end transfer-failed 1000"]);
}

#[test]
fn a_caller_who_hangs_up_while_it_rings_is_gone() {
    let mut paper = away();
    paper.taken();
    // The stream is over, as it should be.
    paper.order(Order::CallOver { caller_left: false });
    paper.wait(5000);
    assert!(!paper.machine.is_over());
    paper.taken();
    paper.order(Order::CallOver { caller_left: true });
    paper.expect(&["after: hang up", "close agent", "end caller-hung-up 1000"]);
}

#[test]
fn where_the_rest_api_fails_the_stream_is_closed_and_twilio_asks() {
    let mut paper = Paper::greeted();
    paper.order(Order::Transfer(transfer()));
    paper.taken();
    paper.event(Event::RedirectAnswered(Redirected::Failed));
    paper.expect(&["close carrier"]);
    paper.event(Event::RedirectAnswered(Redirected::Failed));
    paper.expect(&[]);

    // It answers nothing at all.
    let mut paper = Paper::greeted();
    paper.order(Order::Transfer(transfer()));
    paper.taken();
    paper.wait(4100);
    paper.expect(&["close carrier"]);
}

#[test]
fn a_call_that_is_over_by_twilios_word_is_over_when_nothing_follows_its_stream() {
    // The caller has hung up just now, and the stream says so.
    let mut paper = Paper::greeted();
    paper.order(Order::Transfer(transfer()));
    paper.taken();
    paper.event(Event::RedirectAnswered(Redirected::Over));
    paper.expect(&[]);
    paper.event(Event::Carrier(Carrier::Stop));
    paper.expect(&["close agent", "end caller-hung-up 1000"]);
    assert!(!paper.notes.contains(&Note::OverDoubted));

    // It says nothing.
    let mut paper = Paper::greeted();
    paper.order(Order::Transfer(transfer()));
    paper.taken();
    paper.event(Event::RedirectAnswered(Redirected::Over));
    paper.wait(2100);
    paper.expect(&["close carrier"]);
    assert!(paper.notes.contains(&Note::OverDoubted));
    paper.wait(9800);
    assert!(!paper.machine.is_over());
    paper.wait(300);
    let taken = paper.taken();
    assert_eq!(taken.last().unwrap(), "end caller-hung-up 1000");

    // Twilio was wrong, and asks what follows.
    let mut paper = Paper::greeted();
    paper.order(Order::Transfer(transfer()));
    paper.event(Event::RedirectAnswered(Redirected::Over));
    paper.wait(3000);
    assert_eq!(paper.order(Order::ErrandBegun), Verdict::Done);
    paper.wait(25_000);
    assert_eq!(paper.order(no_answer()), Verdict::Done);
    paper.taken();
    paper.event(Event::Returned);
    paper.expect(&["after: fallback", SORRY]);
}

/// Its agent has asked for keys, and they are being sounded.
fn sounding() -> Paper {
    let mut paper = Paper::greeted();
    paper.calls_tool("a", "stock");
    paper.event(Event::ToolDone {
        ticket: 0,
        outcome: Outcome::Digits(Digits("ww12#".into())),
    });
    paper.wait(600);
    paper.event(Event::RedirectAnswered(Redirected::Done));
    paper.event(Event::Carrier(Carrier::Stop));
    paper.taken();
    paper
}

#[test]
fn an_agent_that_hangs_up_while_keys_are_sounded_says_goodbye_when_they_have_been() {
    let mut paper = sounding();
    paper.calls_tool("b", "hang_up");
    paper.expect(&["answer b: HangingUpAfterKeys"]);
    paper.wait(3000);
    paper.taken();
    paper.event(Event::Returned);
    paper.expect(&["after: fallback", "answer a: LastKeysSent"]);
    paper.says(2, 500);
    paper.agent(agent::Event::TurnDone);
    paper.echo_all();
    let taken = paper.taken();
    assert!(taken.contains(&"hang up".to_owned()), "{taken:?}");
}

#[test]
fn an_agent_that_hangs_up_before_the_keys_are_sounded_has_them_sounded_first() {
    let mut paper = Paper::greeted();
    paper.calls_tool("a", "stock");
    paper.event(Event::ToolDone {
        ticket: 0,
        outcome: Outcome::Digits(Digits("1".into())),
    });
    paper.taken();
    paper.calls_tool("b", "hang_up");
    paper.expect(&["answer b: HangingUpAfterKeys"]);
    paper.wait(600);
    paper.expect(&["after: Digits(Digits(1))", "redirect: Digits(Digits(1))"]);
    paper.event(Event::RedirectAnswered(Redirected::Done));
    paper.event(Event::Carrier(Carrier::Stop));
    paper.event(Event::Returned);
    // It says nothing.
    paper.wait(5000);
    let taken = paper.taken();
    assert!(taken.contains(&"hang up".to_owned()), "{taken:?}");
    assert!(paper.notes.contains(&Note::HangingUp(Cause::AgentHungUp)));
}

#[test]
fn an_agent_that_closes_while_keys_are_sounded_has_hung_up() {
    let mut paper = sounding();
    paper.event(Event::AgentClosed(Closed::HungUp));
    paper.wait(3000);
    paper.expect(&["close agent"]);
    paper.event(Event::Returned);
    paper.expect(&["after: fallback", "after: hang up", "hang up"]);
}

#[test]
fn what_else_takes_the_call_away_waits_for_the_keys() {
    let mut paper = Paper::with(|settings| settings.capabilities.parallel_tools = true);
    paper.ready();
    paper.calls_tool("a", "stock");
    paper.calls_tool("b", "stock");
    let outcome = || Outcome::Digits(Digits("1".into()));
    let told = |ticket| Event::ToolDone {
        ticket,
        outcome: outcome(),
    };
    paper.event(told(0));
    paper.taken();
    paper.event(told(1));
    paper.expect(&["answer b: KeysFirst"]);
}

#[test]
fn an_agent_that_never_stops_asking_is_told_so() {
    let mut paper = Paper::greeted();
    for call in 0..6 {
        paper.calls_tool(&format!("t{call}"), "stock");
        paper.taken();
        paper.event(Event::ToolDone {
            ticket: call,
            outcome: Outcome::Transfer(transfer()),
        });
        if call == 5 {
            paper.expect(&["answer t5: TransfersSpent"]);
            break;
        }
        paper.wait(5000);
        paper.event(Event::RedirectAnswered(Redirected::Done));
        paper.event(Event::Carrier(Carrier::Stop));
        paper.order(no_answer());
        paper.event(Event::Returned);
    }
    for call in 0..21 {
        paper.event(Event::AgentAlive);
        paper.calls_tool(&format!("k{call}"), "stock");
        paper.taken();
        paper.event(Event::ToolDone {
            ticket: 6 + call,
            outcome: Outcome::Digits(Digits("1".into())),
        });
        if call == 20 {
            paper.expect(&["answer k20: KeysSpent"]);
            break;
        }
        paper.wait(700);
        let taken = paper.taken();
        let left = taken.iter().any(|done| done.starts_with("redirect"));
        assert!(left, "{call}: {taken:?}");
        paper.event(Event::RedirectAnswered(Redirected::Done));
        paper.event(Event::Carrier(Carrier::Stop));
        paper.event(Event::Returned);
    }
}

#[test]
fn a_call_without_a_stream_that_cannot_be_ended_goes_on_and_that_is_said() {
    let mut paper = away();
    paper.order(Order::HangUp { now: false });
    paper.taken();
    // As ever with a stream that ends.
    paper.order(Order::CallOver { caller_left: false });
    paper.wait(29_000);
    assert!(!paper.machine.is_over());
    paper.event(Event::HangUpAnswered { ended: false });
    paper.expect(&["end operator 1000"]);
    assert!(paper.notes.contains(&Note::GoesOn));
    assert!(!paper.notes.contains(&Note::RestFailed));

    // The caller hangs up meanwhile.
    let mut paper = away();
    paper.order(Order::HangUp { now: false });
    paper.order(Order::CallOver { caller_left: true });
    paper.wait(2100);
    assert!(paper.machine.is_over());
    assert!(!paper.notes.contains(&Note::GoesOn));
}

#[test]
fn keys_are_sounded_and_the_agent_that_waited_is_answered() {
    let mut paper = Paper::greeted();
    paper.calls_tool("a", "stock");
    paper.taken();
    paper.event(Event::ToolDone {
        ticket: 0,
        outcome: Outcome::Digits(Digits("ww12#".into())),
    });
    paper.wait(600);
    paper.expect(&["after: Digits(Digits(5))", "redirect: Digits(Digits(5))"]);
    paper.event(Event::RedirectAnswered(Redirected::Done));
    paper.event(Event::Carrier(Carrier::Stop));
    paper.expect(&["close carrier"]);
    paper.wait(3000);
    paper.event(Event::Returned);
    paper.expect(&["after: fallback", "answer a: KeysSent"]);
}

#[test]
fn an_agent_that_is_lost_meanwhile_is_there_again_when_the_caller_is() {
    let mut paper = away();
    paper.event(Event::AgentClosed(Closed::Inactive));
    paper.wait(2000);
    let taken = paper.taken();
    assert_eq!(taken.last().unwrap(), "connect to resume", "{taken:?}");
    paper.ready();
    paper.order(no_answer());
    paper.taken();
    paper.event(Event::Returned);
    paper.expect(&["after: fallback", SORRY]);
}

#[test]
fn an_agent_that_was_given_up_meanwhile_is_looked_for_when_the_caller_is_back() {
    let mut paper = Paper::with(|settings| {
        settings.ring = Duration::from_secs(300);
        settings.reconnect_budget = Duration::ZERO;
    });
    paper.ready();
    paper.order(Order::Transfer(transfer()));
    paper.event(Event::RedirectAnswered(Redirected::Done));
    paper.event(Event::Carrier(Carrier::Stop));
    paper.event(Event::AgentClosed(Closed::Lost));
    paper.wait(60_000);
    assert!(!paper.machine.is_over());
    paper.order(no_answer());
    paper.taken();
    paper.event(Event::Returned);
    paper.expect(&["after: fallback", "connect to resume"]);
    paper.ready();
    paper.expect(&["remind", SORRY]);
}

#[test]
fn orders_to_a_call_that_is_away_are_refused_but_its_end() {
    let mut paper = away();
    for order in [
        Order::Say(Words("x".into())),
        Order::Pause,
        Order::Transfer(transfer()),
    ] {
        assert_eq!(paper.order(order), Verdict::Refused(Refusal::Away));
    }
    paper.taken();
    assert_eq!(paper.order(Order::HangUp { now: false }), Verdict::Done);
    paper.expect(&["close agent", "after: hang up", "hang up streamless"]);
    paper.event(Event::HangUpAnswered { ended: true });
    paper.wait(600);
    paper.expect(&["end operator 1000"]);
}

#[test]
fn what_the_agent_says_to_nobody_is_not_played() {
    let mut paper = away();
    paper.taken();
    paper.says(2, 500);
    paper.agent(agent::Event::SegmentEnd {
        segment: SegmentId(2),
    });
    paper.agent(agent::Event::TurnDone);
    paper.expect(&[]);
}

#[test]
fn a_daemon_that_leaves_does_not_hang_up_on_who_is_being_put_through() {
    let mut paper = away();
    paper.taken();
    paper.order(Order::DrainExpired);
    paper.expect(&["close agent", "end drain 1000"]);
}

#[test]
fn an_agent_without_a_caller_may_hang_up_on_nobody() {
    let mut paper = away();
    paper.taken();
    paper.calls_tool("b", "hang_up");
    paper.expect(&["answer b"]);
    paper.order(no_answer());
    paper.taken();
    paper.event(Event::Returned);
    paper.expect(&["after: fallback", SORRY]);
}

#[test]
fn an_order_before_the_caller_has_left_is_told_the_truth_about_it() {
    let mut paper = Paper::greeted();
    paper.says(2, 2000);
    assert_eq!(paper.order(Order::Transfer(transfer())), Verdict::Done);
    let say = Order::Say(Words("x".into()));
    assert_eq!(paper.order(say), Verdict::Refused(Refusal::Away));
    // The end is another thing, and the log tells of it.
    paper.notes.clear();
    assert_eq!(paper.order(Order::HangUp { now: false }), Verdict::Done);
    assert!(paper.notes.contains(&Note::HangingUp(Cause::Operator)));
    let say = Order::Say(Words("x".into()));
    assert_eq!(paper.order(say), Verdict::Refused(Refusal::Ending));

    let mut paper = Paper::greeted();
    paper.says(2, 2000);
    paper.order(Order::Transfer(transfer()));
    paper.notes.clear();
    paper.order(Order::HangUp { now: true });
    assert!(paper.notes.contains(&Note::HangingUp(Cause::Operator)));
}

#[test]
fn a_hang_up_instead_of_keys_lets_the_agent_finish() {
    let mut paper = Paper::greeted();
    paper.says(2, 500);
    paper.calls_tool("a", "stock");
    paper.event(Event::ToolDone {
        ticket: 0,
        outcome: Outcome::Digits(Digits("12".into())),
    });
    paper.order(Order::HangUp { now: false });
    paper.taken();
    paper.wait(2500);
    assert!(!paper.taken().contains(&"hang up".to_owned()));
    paper.agent(agent::Event::TurnDone);
    paper.echo_all();
    assert!(paper.taken().contains(&"hang up".to_owned()));
}

#[test]
fn a_caller_who_is_sent_back_before_the_old_stream_has_ended_needs_it_no_more() {
    let mut paper = Paper::greeted();
    paper.order(Order::Transfer(transfer()));
    paper.event(Event::RedirectAnswered(Redirected::Done));
    paper.taken();
    assert_eq!(paper.order(no_answer()), Verdict::Done);
    paper.expect(&["close carrier"]);
    paper.event(Event::Returned);
    paper.expect(&["after: fallback", SORRY]);
}

#[test]
fn what_was_pressed_before_is_told_when_there_is_somebody_to_answer() {
    let mut paper = Paper::greeted();
    paper.event(Event::AgentClosed(Closed::Lost));
    for key in "12#".chars() {
        paper.event(Event::Carrier(Carrier::Key { key }));
    }
    paper.order(Order::Transfer(transfer()));
    paper.event(Event::RedirectAnswered(Redirected::Done));
    paper.event(Event::Carrier(Carrier::Stop));
    paper.wait(2000);
    paper.taken();
    paper.ready();
    paper.expect(&["remind"]);
    paper.order(no_answer());
    paper.taken();
    paper.event(Event::Returned);
    let taken = paper.taken();
    let told = taken.iter().filter(|done| done.starts_with("prompt"));
    assert_eq!(told.count(), 2, "{taken:?}");
}

#[test]
fn what_is_said_to_nobody_is_neither_said_nor_heard_in_part() {
    let mut paper = Paper::greeted();
    for key in "12#".chars() {
        paper.event(Event::Carrier(Carrier::Key { key }));
    }
    paper.order(Order::Transfer(transfer()));
    paper.event(Event::RedirectAnswered(Redirected::Done));
    paper.event(Event::Carrier(Carrier::Stop));
    paper.taken();
    // The answer to the keys is begun while it rings.
    paper.says(2, 500);
    paper.expect(&[]);
    paper.order(no_answer());
    paper.event(Event::Returned);
    let told = "prompt The caller pressed 12 on the telephone's keypad.";
    paper.expect(&["after: fallback", told, SORRY]);
    paper.says(2, 500);
    paper.expect(&[]);
    paper.says(3, 500);
    paper.expect(&["play 500"]);
}

#[test]
fn an_agent_that_no_longer_waits_for_the_keys_is_told_that_they_were_sounded() {
    let mut paper = Paper::greeted();
    paper.calls_tool("a", "stock");
    paper.event(Event::ToolDone {
        ticket: 0,
        outcome: Outcome::Digits(Digits("1".into())),
    });
    paper.wait(600);
    paper.event(Event::RedirectAnswered(Redirected::Done));
    paper.event(Event::Carrier(Carrier::Stop));
    paper.agent(agent::Event::ToolCancelled { call_id: "a" });
    paper.taken();
    paper.event(Event::Returned);
    paper.expect(&[
        "after: fallback",
        "prompt The keys have been sent. Go on with the call.",
    ]);
}

#[test]
fn a_call_that_is_over_is_over_whatever_came_first() {
    let mut paper = Paper::greeted();
    paper.order(Order::Transfer(transfer()));
    paper.event(Event::Carrier(Carrier::Stop));
    paper.taken();
    paper.event(Event::RedirectAnswered(Redirected::Over));
    paper.expect(&["close agent", "end caller-hung-up 1000"]);
}

#[test]
fn the_longest_duration_ends_no_conversation_with_somebody_else() {
    let mut paper = Paper::with(|settings| {
        settings.max_duration = Duration::from_secs(30);
        settings.ring = Duration::from_secs(300);
    });
    paper.ready();
    paper.order(Order::Transfer(transfer()));
    paper.event(Event::RedirectAnswered(Redirected::Done));
    paper.event(Event::Carrier(Carrier::Stop));
    paper.wait(100_000);
    let taken = paper.taken();
    assert_eq!(taken.last().unwrap(), "end max-duration 1000");
    assert!(!taken.contains(&"hang up".to_owned()));
}

#[test]
fn a_long_announcement_is_waited_for() {
    let mut paper = Paper::greeted();
    let announce = Some(Words("a".repeat(1000)));
    let order = Order::Transfer(Transfer {
        announce,
        ..transfer()
    });
    paper.order(order);
    paper.event(Event::RedirectAnswered(Redirected::Done));
    paper.event(Event::Carrier(Carrier::Stop));
    paper.wait(300_000);
    assert!(!paper.machine.is_over());
    paper.wait(100_000);
    assert!(paper.machine.is_over());
}
