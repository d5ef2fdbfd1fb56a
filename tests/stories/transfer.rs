//! Callers are put through to people who can be called, and come back when nobody takes the call.

use std::path::Path;

use hume_bridge::sim::scenario::{Story, World};

use crate::{PROGRAM, stage::PACE};

/// Tells a story whose far ends are all that is looked at.
async fn told(callee: &str, transfer: &str, reply: &str, expect: &str) {
    let text = format!(
        r#"
title = "told in Rust"
config = '''
[transfer]
numbers = [{{ number = "+61255501234", name = "sales" }}]
ring = "5s"
{transfer}
'''

[caller]
steps = [
    {{ wait_for = "agent-speaking" }},
    {{ wait_for = "agent-quiet" }},
    {{ say = "caller-hours" }},
    {{ wait_for = "stream-over" }},
]

[callee."+61255501234"]
{callee}

[agent]
greeting = [{{ say = "agent-greeting" }}, {{ end = true }}]
[[agent.replies]]
steps = [{{ tool = {{ name = "transfer_call", arguments = {{ to = "sales"{reply} }} }} }}, {{ say = "agent-more" }}, {{ end = true }}]
[[agent.replies]]
on = "prompt"
steps = [{{ tool = {{ name = "hang_up" }} }}, {{ say = "agent-goodbye" }}, {{ end = true }}]

[expect]
dialled = ["+61255501234"]
answers.transfer_call = ["ok"]
{expect}
"#
    );
    let story = Story::parse(&text).expect("a story");
    let world = World::start(&story, Path::new(PROGRAM), PACE)
        .await
        .expect("the stage");
    let call = world.call(&story).await;
    let seen = world.end(call).await.expect("an end in good order");
    assert_eq!(seen.missed(&story.expect), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_is_put_through_and_talks() {
    told(
        "answers_after = \"1s\"\ntalks_for = \"3s\"",
        "",
        "",
        "ended = \"hangup\"\ncause = \"transferred\"\nheard = [\"agent-greeting\", \"agent-more\"]\n\
         bridged_with = [\"+61255501234\"]\nrest_requests = 1\nstreams = 1\nchats = 1",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_answers_and_the_caller_is_with_the_agent_again() {
    told(
        "when_called = \"no-answer\"",
        "no_answer = { agent = \"The transfer did not succeed: {reason}.\" }",
        "",
        "ended = \"rest\"\ncause = \"agent-hung-up\"\n\
         heard = [\"agent-greeting\", \"agent-more\", \"agent-goodbye\"]\n\
         prompts = [\"nobody answered\"]\nanswers.hang_up = [\"ok\"]\nrest_requests = 2\nstreams = 2\nchats = 1",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callee_is_told_who_is_calling_and_takes_the_call() {
    told(
        "presses = \"1\"\ntalks_for = \"3s\"",
        "warm = true",
        ", announcement = \"Anna Bell, about a bill\"",
        "ended = \"hangup\"\ncause = \"transferred\"\nheard = [\"agent-greeting\", \"agent-more\"]\n\
         callee_heard = [\"Anna Bell, about a bill. Press 1\"]\n\
         bridged_with = [\"+61255501234\"]\nrest_requests = 1\nstreams = 1\nchats = 1",
    )
    .await;
}

/// So does an answering machine, which presses nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callee_does_not_take_the_call_and_the_caller_is_told_so() {
    for callee in ["presses = \"2\"", "unbridged = \"no-answer\""] {
        let heard = match callee.starts_with("presses") {
            true => "[\"A caller would like to speak with you\"]",
            false => {
                "[\"A caller would like to speak with you\", \"A caller would like to speak with you\"]"
            }
        };
        told(
            callee,
            "warm = true\nno_answer = { say = \"Nobody is free just now.\" }",
            "",
            &format!(
                "ended = \"hangup\"\ncause = \"transfer-failed\"\n\
                 heard = [\"agent-greeting\", \"agent-more\"]\n\
                 said = [\"Nobody is free just now.\"]\ncallee_heard = {heard}\n\
                 rest_requests = 1\nstreams = 1\nchats = 1"
            ),
        )
        .await;
    }
}
