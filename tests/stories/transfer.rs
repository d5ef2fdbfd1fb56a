//! Callers are put through to people who can be called, and come back when nobody takes the call.

use std::{path::Path, time::Duration};

use hume_bridge::sim::{
    phone::{Awaited, Ended, Event, OngoingCall, Step},
    scenario::{Story, World},
};

use crate::{
    PROGRAM,
    stage::{
        PACE, PATIENCE, causes, close, ctl, heard, reload, say, start, until, wait_for, world,
    },
};

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

/// A caller is being put through to somebody who lets it ring, and Twilio's REST API answers so from then on.
async fn ringing(ring: &str, rest: &str, steps: Vec<Step>) -> (World, OngoingCall) {
    let world = world(&format!(
        r#"
config = '''
[transfer]
numbers = [{{ number = "+61255501234", name = "sales" }}]
ring = "{ring}"
'''
[callee."+61255501234"]
when_called = "no-answer"
[rest]
fail = [{rest}]
[agent]
[[agent.replies]]
steps = [{{ tool = {{ name = "transfer_call", arguments = {{ to = "sales" }} }} }}, {{ end = true }}]
[[agent.replies]]
on = "prompt"
steps = [{{ say = "agent-more" }}, {{ end = true }}]
"#
    ))
    .await;
    let begins = vec![say("caller-hours"), wait_for(Awaited::StreamOver)];
    let call = start(&world.phone, [begins, steps].concat());
    until(&call, |event| matches!(event, Event::CalleeRings { .. })).await;
    (world, call)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_away_is_hung_up_on_as_soon_as_twilio_can_be_reached_again() {
    // More failures than fit into the time that a call with a stream has.
    let fails = format!("\"ok\"{}", ", \"503\"".repeat(7));
    let (world, call) = ringing("300s", &fails, Vec::new()).await;
    let (code, _, err) = ctl(&world, &["hangup", call.call_sid()]).await;
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(call.finish().await.ended, Ended::RestCompleted);
    let log = close(world).await;
    assert_eq!(causes(&log), ["operator"]);
    assert!(!log.iter().any(|line| line.contains("goes on")), "{log:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_away_and_cannot_be_hung_up_on_is_told_of() {
    let leaves = vec![Step::Wait(Duration::from_secs(20)), Step::HangUp];
    let (world, call) = ringing("300s", "\"ok\", \"auth\"", leaves).await;
    let sid = call.call_sid().to_owned();
    let (code, _, err) = ctl(&world, &["hangup", &sid]).await;
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(call.finish().await.ended, Ended::CallerHungUp);
    let log = close(world).await;
    assert_eq!(causes(&log), ["operator"]);
    let told = |line: &&String| line.contains("the call goes on at Twilio") && line.contains(&sid);
    assert_eq!(log.iter().filter(told).count(), 1, "{log:#?}");
    let untrue = "closing the stream instead";
    assert!(!log.iter().any(|line| line.contains(untrue)), "{log:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_waits_for_who_is_being_put_through() {
    let back = vec![
        wait_for(Awaited::Streaming),
        wait_for(Awaited::AgentSpeaking),
        wait_for(Awaited::AgentQuiet),
        Step::HangUp,
    ];
    let (mut world, call) = ringing("5s", "", back).await;
    world.bridge.signal("TERM").await.unwrap();
    world.bridge.until_notified("STOPPING=1").await.unwrap();
    let report = call.finish().await;
    assert_eq!(report.ended, Ended::CallerHungUp);
    assert!(heard(&report, "agent-more"));
    assert!(world.bridge.ended(PATIENCE).await.unwrap().success());
    assert_eq!(causes(&world.bridge.log()), ["caller-hung-up"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_changes_nothing_for_who_is_being_put_through() {
    let back = vec![
        wait_for(Awaited::Streaming),
        wait_for(Awaited::AgentSpeaking),
        wait_for(Awaited::AgentQuiet),
        Step::HangUp,
    ];
    let (world, call) = ringing("5s", "", back).await;
    let new = "ring = \"5s\"\nno_answer = { say = \"Nobody is there.\" }";
    let changed = reload(&world, "ring = \"5s\"", new).await;
    assert!(changed.contains("transfer.no_answer"), "{changed}");
    let report = call.finish().await;
    assert_eq!(report.ended, Ended::CallerHungUp);
    assert!(heard(&report, "agent-more"));
    assert_eq!(causes(&close(world).await), ["caller-hung-up"]);
}

/// There is no stream that could tell it, and no telephone that stops ringing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_hangs_up_while_keys_are_sounded_is_told_of_by_the_numbers_status_callback() {
    let mut world = world(
        r#"
[agent]
[[agent.replies]]
steps = [{ tool = { name = "send_digits", arguments = { digits = "WWWWWW1234567" }, wait = false } }]
"#,
    )
    .await;
    world.phone.options.status_path = Some("/voice/status".to_owned());
    let steps = vec![
        say("caller-hours"),
        wait_for(Awaited::StreamOver),
        Step::Wait(Duration::from_secs(1)),
        Step::HangUp,
    ];
    let report = start(&world.phone, steps).finish().await;
    assert_eq!(report.ended, Ended::CallerHungUp);
    // Long before the keys are over.
    assert_eq!(causes(&close(world).await), ["caller-hung-up"]);
}
