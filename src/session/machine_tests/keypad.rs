//! What the caller's keys do.

use super::*;

fn press(paper: &mut Paper, keys: &str) {
    for key in keys.chars() {
        paper.event(Event::Carrier(Carrier::Key { key }));
    }
}

const TOLD: &str = "prompt The caller pressed 12 on the telephone's keypad.";

#[test]
fn the_agent_is_told_what_was_pressed_and_the_log_is_not() {
    let mut paper = Paper::greeted();
    press(&mut paper, "12#");
    paper.expect(&[TOLD]);
    assert!(paper.notes.contains(&Note::KeysTold { count: 2 }));
    assert!(!format!("{:?}", paper.notes).contains("12"));
}

#[test]
fn an_input_ends_by_itself() {
    let mut paper = Paper::greeted();
    press(&mut paper, "12");
    paper.wait(2900);
    paper.expect(&[]);
    paper.wait(200);
    paper.expect(&[TOLD]);
}

#[test]
fn who_presses_keys_does_not_hear_the_rest() {
    let mut paper = Paper::greeted();
    paper.says(2, 3000);
    paper.wait(1000);
    paper.taken();
    press(&mut paper, "12#");
    paper.expect(&["clear", "heard 2:1000", TOLD]);
    // What still comes of that turn is stale.
    paper.says(2, 500);
    paper.expect(&[]);
}

#[test]
fn an_agent_that_is_not_there_is_told_when_it_is_and_again_if_it_is_lost_before_it_answers() {
    let mut paper = Paper::new();
    paper.taken();
    press(&mut paper, "12#");
    paper.expect(&[]);
    paper.ready();
    paper.expect(&[TOLD]);
    paper.event(Event::AgentClosed(Closed::Lost));
    paper.wait(2000);
    paper.taken();
    paper.ready();
    paper.expect(&["remind", TOLD]);
    paper.says(1, 500);
    paper.event(Event::AgentClosed(Closed::Lost));
    paper.wait(2000);
    paper.taken();
    paper.ready();
    assert!(!paper.taken().contains(&TOLD.to_owned()));
}

#[test]
fn a_key_puts_the_caller_through_at_once() {
    let mut paper = Paper::greeted();
    paper.says(2, 3000);
    paper.wait(1000);
    paper.taken();
    press(&mut paper, "0");
    paper.expect(&[
        "clear",
        "heard 2:1000",
        "after: Transfer(Transfer { warm: false, .. })",
        "redirect: Transfer(Transfer { warm: false, .. })",
    ]);
}

#[test]
fn a_key_hangs_up_and_another_has_something_said() {
    let mut paper = Paper::greeted();
    press(&mut paper, "8");
    paper.expect(&["say We open at nine."]);
    press(&mut paper, "9");
    paper.expect(&["close agent", "after: hang up", "hang up"]);
    paper.event(Event::HangUpAnswered { ended: true });
    paper.event(Event::Carrier(Carrier::Stop));
    paper.expect(&["end key 1000"]);
}

#[test]
fn what_a_key_wants_said_waits_for_somebody_to_say_it() {
    let mut paper = Paper::new();
    paper.taken();
    press(&mut paper, "8");
    paper.expect(&[]);
    paper.ready();
    paper.expect(&["say We open at nine."]);
    paper.says(1, 500);
    paper.event(Event::AgentClosed(Closed::Lost));
    paper.taken();
    press(&mut paper, "8");
    paper.expect(&["clear"]);
    paper.wait(2000);
    paper.taken();
    paper.ready();
    paper.expect(&["remind", "say We open at nine."]);
}

#[test]
fn a_key_that_could_have_nothing_said_cuts_nobody_off() {
    let mut mute = Paper::with(|settings| settings.capabilities = PLAIN);
    mute.ready();
    let mut paused = Paper::greeted();
    assert_eq!(paused.order(Order::Pause), Verdict::Done);
    for paper in [&mut mute, &mut paused] {
        paper.says(2, 3000);
        paper.wait(1000);
        paper.taken();
        paper.notes.clear();
        press(paper, "8");
        paper.expect(&[]);
        assert_eq!(paper.notes, []);
    }
}

#[test]
fn an_agent_that_is_told_nothing_is_told_nothing() {
    let mut paper = Paper::with(|settings| {
        settings.keys = Arc::new(Keys {
            words: String::new(),
            ..Keys::default()
        });
    });
    paper.ready();
    paper.taken();
    press(&mut paper, "12#");
    paper.wait(5000);
    paper.expect(&[]);
}

#[test]
fn a_key_after_the_pause_begins_another_input_even_if_nobody_has_looked_since() {
    let mut paper = Paper::greeted();
    press(&mut paper, "12");
    paper.now += Duration::from_secs(4);
    press(&mut paper, "9");
    let taken = paper.taken();
    assert_eq!(taken[0], TOLD);
    assert_eq!(taken.last().unwrap(), "hang up", "{taken:?}");
}

#[test]
fn nobody_is_told_what_was_heard_of_an_agent_that_is_lost() {
    let mut paper = Paper::greeted();
    paper.says(2, 3000);
    paper.event(Event::AgentClosed(Closed::Lost));
    paper.taken();
    press(&mut paper, "12#");
    paper.expect(&["clear"]);

    // Nor when the caller leaves before its mark has come back.
    let mut paper = Paper::greeted();
    paper.says(2, 1000);
    paper.event(Event::AgentClosed(Closed::Lost));
    let number = "+15550001111".into();
    let transfer = crate::tools::Transfer {
        number,
        announce: None,
    };
    paper.order(Order::Transfer(transfer));
    paper.wait(3500);
    let taken = paper.taken();
    assert!(taken.iter().any(|done| done.starts_with("redirect")));
    assert!(
        !taken.iter().any(|done| done.starts_with("heard")),
        "{taken:?}"
    );
}

#[test]
fn who_presses_a_key_while_the_agent_says_goodbye_is_not_hung_up_on() {
    let mut paper = Paper::greeted();
    paper.calls_tool("a", "hang_up");
    paper.says(2, 2000);
    paper.taken();
    press(&mut paper, "0");
    let taken = paper.taken();
    assert!(taken.contains(&"clear".to_owned()), "{taken:?}");
    assert!(
        taken.last().unwrap().starts_with("redirect: Transfer"),
        "{taken:?}"
    );

    let mut paper = Paper::greeted();
    paper.calls_tool("a", "hang_up");
    paper.taken();
    press(&mut paper, "12#");
    paper.expect(&[TOLD]);
    assert!(!paper.machine.is_ending());
}
