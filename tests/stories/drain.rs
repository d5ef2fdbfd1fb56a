//! A daemon that is told to go: it takes no new calls and cuts no old ones.

use std::time::Duration;

use hume_bridge::sim::{
    phone::{Awaited, Document, Ended, Event, Step},
    scenario::World,
};

use crate::stage::{
    PATIENCE, answer, causes, close, exchange, heard, in_time, say, start, until, wait_for, world,
};

async fn health(world: &World) -> (u16, serde_json::Value) {
    let request = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer = exchange(world.bridge.http, request)
        .await
        .expect("an answer");
    (
        answer.status,
        serde_json::from_str(&answer.body).expect("JSON"),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_loses_no_call() {
    // Twilio speaks the greeting between the webhook and the stream.
    let mut world = world(
        r#"
        config = 'calls.greeting = "Welcome to the harbour museum. Please hold the line for a moment, somebody will be with you."'
        [agent]
        greeting = [{ say = "agent-greeting" }, { end = true }]
        [[agent.replies]]
        steps = [{ tool = { name = "hang_up" } }, { say = "agent-goodbye" }, { end = true }]
        "#,
    )
    .await;
    let polite = || {
        vec![
            wait_for(Awaited::AgentSpeaking),
            wait_for(Awaited::AgentQuiet),
            say("caller-thanks"),
            wait_for(Awaited::StreamOver),
        ]
    };
    let live = start(&world.phone, polite());
    until(&live, |event| matches!(event, Event::PlayingBegan)).await;
    let admitted = start(&world.phone, polite());
    until(&admitted, |event| {
        matches!(
            event,
            Event::Fetched {
                what: Document::Webhook,
                status: 200,
                ..
            }
        )
    })
    .await;
    assert_eq!(health(&world).await.0, 200);

    world.bridge.signal("TERM").await.unwrap();
    world.bridge.until_notified("STOPPING=1").await.unwrap();
    let (code, body) = health(&world).await;
    assert_eq!((code, &body["status"]), (503, &"draining".into()), "{body}");
    let refused = start(&world.phone, vec![Step::HangUp]).finish().await;
    assert!(
        matches!(refused.ended, Ended::ApplicationError { .. }),
        "{:?}",
        refused.ended
    );
    assert!(refused.entries.iter().any(|entry| {
        matches!(
            entry.event,
            Event::Fetched {
                what: Document::Webhook,
                status: 503,
                ..
            }
        )
    }));
    world
        .bridge
        .until_notified("EXTEND_TIMEOUT_USEC=10000000")
        .await
        .unwrap();

    let (live, admitted) = tokio::join!(live.finish(), admitted.finish());
    for report in [live, admitted] {
        assert_eq!(report.ended, Ended::RestCompleted, "{:#?}", report.entries);
        assert!(heard(&report, "agent-goodbye"));
        assert_eq!(report.violations, []);
    }
    assert!(world.bridge.ended(PATIENCE).await.unwrap().success());
    assert_eq!(
        causes(&world.bridge.log()),
        ["agent-hung-up", "agent-hung-up"]
    );
    assert_eq!(world.agent.record().violations(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_hangs_up() {
    let mut world = world("").await;
    let call = start(&world.phone, vec![wait_for(Awaited::StreamOver)]);
    until(&call, |event| matches!(event, Event::StreamStarted { .. })).await;
    in_time(world.agent.until(|record| !record.uplinks.is_empty())).await;
    world.bridge.signal("TERM").await.unwrap();
    world.bridge.until_notified("STOPPING=1").await.unwrap();
    world.bridge.signal("TERM").await.unwrap();
    assert_eq!(call.finish().await.ended, Ended::RestCompleted);
    assert!(world.bridge.ended(PATIENCE).await.unwrap().success());
    assert_eq!(causes(&world.bridge.log()), ["drain"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patience_with_a_drain_has_an_end() {
    let mut world =
        world("config = 'calls.drain_limit = \"200ms\"'\n[rest]\nfail = [\"auth\"]").await;
    let call = start(&world.phone, vec![wait_for(Awaited::StreamOver)]);
    until(&call, |event| matches!(event, Event::StreamStarted { .. })).await;
    in_time(world.agent.until(|record| !record.uplinks.is_empty())).await;
    world.bridge.signal("INT").await.unwrap();
    // REST refuses, so what ends the call is the daemon's answer to what comes after the stream.
    assert_eq!(call.finish().await.ended, Ended::Hangup);
    assert!(world.bridge.ended(PATIENCE).await.unwrap().success());
    assert_eq!(causes(&world.bridge.log()), ["drain"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_patience_can_be_spoken() {
    let mut world = world("config = 'calls.drain_goodbye = \"We have to close. Goodbye.\"'").await;
    let call = start(&world.phone, vec![wait_for(Awaited::StreamOver)]);
    until(&call, |event| matches!(event, Event::StreamStarted { .. })).await;
    in_time(world.agent.until(|record| !record.uplinks.is_empty())).await;
    world.bridge.signal("TERM").await.unwrap();
    world.bridge.until_notified("STOPPING=1").await.unwrap();
    world.bridge.signal("TERM").await.unwrap();
    let report = call.finish().await;
    assert_eq!(report.ended, Ended::Hangup);
    let said = |event: &Event| matches!(event, Event::Said { text } if text == "We have to close. Goodbye.");
    assert!(
        report.entries.iter().any(|entry| said(&entry.event)),
        "{:#?}",
        report.entries
    );
    assert!(world.bridge.ended(PATIENCE).await.unwrap().success());
    assert_eq!(causes(&world.bridge.log()), ["drain"]);
    assert_eq!(world.agent.record().violations(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_on_the_line_and_the_daemon_goes_at_once() {
    let mut world = world("").await;
    // A connection that says nothing does not hold it up.
    let mut idle = tokio::net::TcpStream::connect(world.bridge.http)
        .await
        .unwrap();
    assert_eq!(health(&world).await.0, 200);
    world.bridge.signal("TERM").await.unwrap();
    assert!(
        world
            .bridge
            .ended(Duration::from_secs(10))
            .await
            .unwrap()
            .success()
    );
    assert!(answer(&mut idle).await.is_none());
    assert!(!world.bridge.control.exists(), "the control socket is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hangup_signal_ends_no_call() {
    let world = world("[agent]\ngreeting = [{ say = \"agent-greeting\" }, { end = true }]").await;
    let call = start(
        &world.phone,
        vec![
            wait_for(Awaited::AgentSpeaking),
            wait_for(Awaited::AgentQuiet),
            Step::HangUp,
        ],
    );
    until(&call, |event| matches!(event, Event::PlayingBegan)).await;
    world.bridge.signal("HUP").await.unwrap();
    let report = call.finish().await;
    assert!(heard(&report, "agent-greeting"));
    assert_eq!(health(&world).await.0, 200);
    let log = close(world).await;
    assert!(
        log.iter().any(|line| line.contains("config reloaded")),
        "{log:#?}"
    );
    assert_eq!(causes(&log), ["caller-hung-up"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_gave_up_during_the_greeting_is_not_waited_for() {
    let mut world =
        world("config = 'calls.greeting = \"Welcome to the harbour museum. Hold on.\"'").await;
    // The number tells us how its calls end.
    world.phone.options.status_path = Some("/voice/status".to_owned());
    let call = start(&world.phone, vec![]);
    until(&call, |event| matches!(event, Event::Said { .. })).await;
    call.hang_up().await;
    assert_eq!(call.finish().await.ended, Ended::CallerHungUp);
    world.bridge.signal("TERM").await.unwrap();
    assert!(
        world
            .bridge
            .ended(Duration::from_secs(15))
            .await
            .unwrap()
            .success()
    );
    let log = world.bridge.log();
    assert!(
        log.iter().any(|line| line.contains("draining calls=0")),
        "{log:#?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_new_call_meets_in_a_drain_can_be_chosen() {
    for (answer, expected) in [
        (r#""busy""#, Ended::Rejected { busy: true }),
        (r#"{ say = "We are about to restart." }"#, Ended::Hangup),
    ] {
        let mut world = world(&format!(
            "config = 'calls.drain_answer = {answer}'\n[agent]\ngreeting = [{{ say = \"agent-greeting\" }}]"
        ))
        .await;
        let live = start(&world.phone, vec![wait_for(Awaited::StreamOver)]);
        until(&live, |event| matches!(event, Event::PlayingBegan)).await;
        world.bridge.signal("TERM").await.unwrap();
        world.bridge.until_notified("STOPPING=1").await.unwrap();
        let refused = start(&world.phone, vec![Step::HangUp]).finish().await;
        assert_eq!(refused.ended, expected);
        live.hang_up().await;
        live.finish().await;
        assert!(world.bridge.ended(PATIENCE).await.unwrap().success());
    }
}
