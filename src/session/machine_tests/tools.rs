//! Tool calls: run, answered once, replaced, given up.

use super::*;
use crate::tools::Outcome;

const MANY: Capabilities = Capabilities {
    parallel_tools: true,
    ..ABLE
};

fn done(paper: &mut Paper, ticket: u32, words: &str) {
    paper.event(Event::ToolDone {
        ticket,
        outcome: Outcome::Done(Words(words.into())),
    });
}

#[test]
fn a_tool_is_run_and_its_word_is_the_answer() {
    let mut paper = Paper::greeted();
    paper.calls_tool("a", "stock");
    paper.expect(&["run a (1) as 0"]);
    // The agent asks again: it is being done.
    paper.calls_tool("a", "stock");
    paper.wait(1000);
    done(&mut paper, 0, "twelve");
    paper.expect(&["answer a: Done(Words(6 characters))"]);
    done(&mut paper, 0, "thirteen");
    paper.calls_tool("a", "stock");
    paper.expect(&[]);
}

#[test]
fn a_tool_that_fails_is_answered_with_words() {
    let mut paper = Paper::greeted();
    paper.calls_tool("a", "stock");
    paper.taken();
    paper.event(Event::ToolDone {
        ticket: 0,
        outcome: Outcome::Failed {
            error: "status",
            content: Words("Sorry.".into()),
        },
    });
    paper.expect(&["answer a: Failed { error: \"status\", content: Words(6 characters) }"]);
}

#[test]
fn a_runner_that_never_comes_back_is_not_waited_for() {
    let mut paper = Paper::greeted();
    paper.calls_tool("a", "stock");
    paper.taken();
    paper.wait(6900);
    paper.expect(&[]);
    paper.wait(200);
    paper.expect(&["stop 0", "answer a: TimedOut"]);
    done(&mut paper, 0, "twelve");
    paper.expect(&[]);
}

#[test]
fn a_newer_call_takes_the_place_of_an_older_one() {
    let mut paper = Paper::greeted();
    paper.calls_tool("a", "stock");
    paper.calls_tool("b", "slow");
    paper.expect(&[
        "run a (1) as 0",
        "answer a: Replaced",
        "stop 0",
        "run b (2) as 1",
    ]);
    // Late, and harmless.
    done(&mut paper, 0, "twelve");
    paper.expect(&[]);
    done(&mut paper, 1, "thirteen");
    paper.expect(&["answer b: Done(Words(8 characters))"]);
}

#[test]
fn an_agent_that_can_has_several_at_once_but_not_any_number() {
    let mut paper = Paper::with(|settings| settings.capabilities = MANY);
    paper.ready();
    paper.taken();
    for id in 0..9 {
        paper.calls_tool(&id.to_string(), "stock");
    }
    let taken = paper.taken();
    assert_eq!(taken[7], "run 7 (1) as 7");
    assert_eq!(taken[8], "answer 8: TooMany");
    done(&mut paper, 3, "twelve");
    paper.calls_tool("9", "stock");
    paper.expect(&["answer 3: Done(Words(6 characters))", "run 9 (1) as 8"]);
}

#[test]
fn what_the_agent_no_longer_waits_for_is_stopped_and_not_answered() {
    let mut paper = Paper::greeted();
    paper.calls_tool("a", "stock");
    paper.taken();
    paper.agent(agent::Event::ToolCancelled { call_id: "a" });
    paper.expect(&["stop 0"]);
    paper.wait(20_000);
    done(&mut paper, 0, "twelve");
    assert!(!paper.taken().iter().any(|done| done.starts_with("answer")));
}

#[test]
fn the_end_of_a_call_ends_its_tools() {
    let mut paper = Paper::greeted();
    paper.calls_tool("a", "stock");
    paper.taken();
    paper.event(Event::Carrier(Carrier::Stop));
    paper.expect(&["stop 0", "close agent", "end caller-hung-up 1000"]);
}

#[test]
fn a_lost_agents_tools_are_forgotten_and_its_successor_may_ask_again() {
    let mut paper = Paper::greeted();
    paper.calls_tool("a", "stock");
    paper.taken();
    paper.event(Event::AgentClosed(Closed::Lost));
    let taken = paper.taken();
    assert!(taken.contains(&"stop 0".to_owned()), "{taken:?}");
    done(&mut paper, 0, "twelve");
    paper.wait(2000);
    paper.taken();
    paper.ready();
    paper.taken();
    paper.calls_tool("a", "stock");
    paper.expect(&["run a (1) as 1"]);
}

#[test]
fn a_tool_that_takes_long_is_bridged_by_words_once_it_is_silent() {
    let mut paper = Paper::greeted();
    paper.says(2, 3000);
    paper.agent(agent::Event::SegmentEnd {
        segment: SegmentId(2),
    });
    paper.calls_tool("a", "slow");
    paper.taken();
    paper.wait(2900);
    paper.expect(&[]);
    paper.wait(200);
    paper.echo_all();
    paper.expect(&["say One moment, please."]);
    // Once.
    paper.wait(3000);
    paper.expect(&[]);
    done(&mut paper, 0, "twelve");
    paper.expect(&["answer a: Done(Words(6 characters))"]);
}

#[test]
fn a_quick_tool_needs_no_words() {
    let mut paper = Paper::greeted();
    paper.calls_tool("a", "slow");
    done(&mut paper, 0, "twelve");
    paper.taken();
    paper.wait(5000);
    paper.expect(&[]);
}

#[test]
fn a_note_is_kept_and_so_many_are_enough() {
    let mut paper = Paper::greeted();
    for number in 0..51 {
        paper.calls_tool(&number.to_string(), "stock");
        paper.taken();
        paper.event(Event::ToolDone {
            ticket: number,
            outcome: Outcome::Note(Words("wants a refund".into())),
        });
        match number {
            50 => paper.expect(&["answer 50: NotesFull"]),
            _ => paper.expect(&["note wants a refund", &format!("answer {number}: Noted")]),
        }
    }
}

#[test]
fn a_hang_up_that_was_not_offered_is_refused_but_one_that_is_told_is_taken() {
    let nothing = |settings: &mut Settings| settings.tools = Arc::default();
    let mut paper = Paper::with(nothing);
    paper.ready();
    paper.taken();
    paper.calls_tool("a", "hang_up");
    paper.expect(&["refuse a"]);
    paper.agent(agent::Event::ToolCall {
        call_id: "b",
        name: "hang_up",
        arguments: "{}",
        expects_reply: false,
    });
    paper.wait(5000);
    assert!(paper.taken().contains(&"hang up".to_owned()));
}

#[test]
fn a_name_that_the_agent_makes_up_is_written_nowhere() {
    let mut paper = Paper::greeted();
    paper.notes.clear();
    for (id, name, expects_reply) in [
        ("a", "call_0400123456", true),
        ("b", "search_0400123456", false),
        ("c", "stock", true),
    ] {
        paper.agent(agent::Event::ToolCall {
            call_id: id,
            name,
            arguments: "{}",
            expects_reply,
        });
    }
    let told: Vec<String> = paper.notes.iter().map(|note| format!("{note:?}")).collect();
    assert!(
        !told.iter().any(|note| note.contains("0400123456")),
        "{told:?}"
    );
    let has = |word: &str| told.iter().filter(|note| note.contains(word)).count();
    assert_eq!(
        (has("(unknown)"), has("(its own)"), has("stock")),
        (2, 1, 1),
        "{told:?}"
    );
}

#[test]
fn nobody_is_asked_whether_they_are_there_while_they_wait_for_a_tool() {
    let mut paper = Paper::with(|settings| {
        settings.no_input = Some(crate::session::machine::NoInput {
            timeout: Duration::from_secs(3),
            check: Some(Words("Hello?".into())),
            farewell: None,
        });
    });
    paper.ready();
    paper.taken();
    paper.calls_tool("a", "stock");
    paper.taken();
    paper.wait(5000);
    paper.expect(&[]);
}

#[test]
fn words_for_a_long_wait_do_not_come_over_sound_whose_mark_is_lost() {
    let mut paper = Paper::greeted();
    paper.says(2, 3000);
    paper.agent(agent::Event::SegmentEnd {
        segment: SegmentId(2),
    });
    paper.agent(agent::Event::TurnDone);
    paper.calls_tool("a", "slow");
    paper.taken();
    // No mark comes back: nobody looks again and again until it must have been heard.
    let deadline = paper.machine.next_deadline();
    assert_eq!(deadline, Some(paper.now + Duration::from_millis(4000)));
    paper.wait(3900);
    paper.expect(&[]);
    paper.wait(200);
    paper.expect(&["say One moment, please."]);
}

#[test]
fn who_has_waited_for_a_tool_is_not_asked_at_once_whether_they_are_there() {
    let watched = |settings: &mut Settings| {
        settings.no_input = Some(crate::session::machine::NoInput {
            timeout: Duration::from_secs(3),
            check: Some(Words("Hello?".into())),
            farewell: None,
        });
    };
    let waiting = || {
        let mut paper = Paper::with(watched);
        paper.ready();
        paper.taken();
        paper.calls_tool("a", "stock");
        paper.wait(5000);
        paper.taken();
        paper
    };
    let mut paper = waiting();
    done(&mut paper, 0, "twelve");
    paper.expect(&["answer a: Done(Words(6 characters))"]);
    paper.wait(2900);
    paper.expect(&[]);
    paper.wait(200);
    paper.expect(&["say Hello?"]);

    let mut paper = waiting();
    paper.agent(agent::Event::ToolCancelled { call_id: "a" });
    paper.expect(&["stop 0"]);

    let mut paper = waiting();
    paper.wait(2100);
    paper.expect(&["stop 0", "answer a: TimedOut"]);
}

#[test]
fn several_tools_that_take_long_are_bridged_by_one_sentence() {
    let mut paper = Paper::with(|settings| settings.capabilities = MANY);
    paper.ready();
    paper.taken();
    paper.calls_tool("a", "slow");
    paper.calls_tool("b", "slow");
    paper.taken();
    paper.wait(5000);
    paper.expect(&["say One moment, please."]);
}
