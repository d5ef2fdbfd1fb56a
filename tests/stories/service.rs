//! What systemd and the operator see of the daemon as a service: reloads, the watchdog, passed
//! sockets.

use std::path::Path;

use hume_bridge::sim::{
    bridge::{Bridge, Far, Setup},
    phone::{Awaited, Ended, Event, Phone, Step},
    scenario::World,
};

use crate::{
    PROGRAM,
    stage::{PATIENCE, close, ctl, exchange, heard, say, start, until, wait_for, world},
};

const TALK: &str = r#"
    config = 'calls.greeting = "Hello from the old config."'
    [agent]
    greeting = [{ say = "agent-greeting" }, { end = true }]
    [[agent.replies]]
    steps = [{ tool = { name = "hang_up" } }, { say = "agent-goodbye" }, { end = true }]
"#;

async fn greeting_of_a_new_call(world: &World) -> String {
    let report = start(&world.phone, vec![Step::HangUp]).finish().await;
    let said = report.entries.iter().find_map(|entry| match &entry.event {
        Event::Said { text } => Some(text.clone()),
        _ => None,
    });
    said.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_is_for_the_next_call_and_costs_the_present_one_nothing() {
    let mut world = world(TALK).await;
    let live = start(
        &world.phone,
        vec![
            wait_for(Awaited::AgentSpeaking),
            wait_for(Awaited::AgentQuiet),
            Step::Wait(std::time::Duration::from_secs(2)),
            say("caller-thanks"),
            wait_for(Awaited::StreamOver),
        ],
    );
    until(&live, |event| matches!(event, Event::PlayingBegan)).await;

    world
        .bridge
        .rewrite_config("the old config", "the new config")
        .unwrap();
    world.bridge.signal("HUP").await.unwrap();
    let reloading = world.bridge.until_notified("RELOADING=1").await.unwrap();
    assert!(
        reloading.lines().any(|line| {
            line.strip_prefix("MONOTONIC_USEC=")
                .is_some_and(|usec| usec.parse::<u64>().is_ok())
        }),
        "{reloading}"
    );
    world.bridge.until_notified("READY=1").await.unwrap();
    assert_eq!(
        greeting_of_a_new_call(&world).await,
        "Hello from the new config."
    );

    // Again by the control socket, with a key that needs a restart.
    world
        .bridge
        .rewrite_config("the new config", "the newest config")
        .unwrap();
    world
        .bridge
        .rewrite_config("admin.group = \"\"", "admin.group = \"daemon\"")
        .unwrap();
    let (code, out, err) = ctl(&world, &["reload"]).await;
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(out, "changed: calls.greeting\nneed restart: admin.group\n");
    assert_eq!(
        greeting_of_a_new_call(&world).await,
        "Hello from the newest config."
    );

    let report = live.finish().await;
    assert_eq!(report.ended, Ended::RestCompleted);
    assert!(report.violations.is_empty(), "{:?}", report.violations);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_file_changes_nothing() {
    let mut world = world(TALK).await;
    world
        .bridge
        .rewrite_config("public_url", "pubic_url")
        .unwrap();
    let (code, out, err) = ctl(&world, &["reload"]).await;
    assert_eq!((code, out.as_str()), (Some(78), ""));
    assert!(
        err.contains("pubic_url") && err.contains("did you mean public_url?"),
        "{err}"
    );
    world.bridge.signal("HUP").await.unwrap();
    world.bridge.until_notified("RELOADING=1").await.unwrap();
    world.bridge.until_notified("READY=1").await.unwrap();
    assert_eq!(
        greeting_of_a_new_call(&world).await,
        "Hello from the old config."
    );
    let refused = world.bridge.until_logged("config not reloaded").await;
    assert!(refused.unwrap().contains("problems=2"));
    let told = world.bridge.until_logged("pubic_url").await.unwrap();
    assert!(told.contains("did you mean public_url?"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_files_under_load_are_heard_by_nobody() {
    let mut world = world(TALK).await;
    let talk = || {
        vec![
            wait_for(Awaited::AgentSpeaking),
            wait_for(Awaited::AgentQuiet),
            say("caller-thanks"),
            wait_for(Awaited::StreamOver),
        ]
    };
    // As many as one caller may have.
    let calls: Vec<_> = (0..4).map(|_| start(&world.phone, talk())).collect();
    for call in &calls {
        until(call, |event| matches!(event, Event::PlayingBegan)).await;
    }
    world
        .bridge
        .rewrite_config("public_url", "pubic_url")
        .unwrap();
    for _ in 0..5 {
        assert_eq!(ctl(&world, &["reload"]).await.0, Some(78));
        world.bridge.signal("HUP").await.unwrap();
        world.bridge.until_notified("RELOADING=1").await.unwrap();
        world.bridge.until_notified("READY=1").await.unwrap();
    }
    for call in calls {
        let report = call.finish().await;
        assert_eq!(report.ended, Ended::RestCompleted, "{:#?}", report.entries);
        assert!(heard(&report, "agent-greeting") && heard(&report, "agent-goodbye"));
        assert_eq!(report.violations, []);
    }
    // And whoever calls now meets the config that was good.
    assert_eq!(
        greeting_of_a_new_call(&world).await,
        "Hello from the old config."
    );
    close(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn systemd_is_told_everything_in_order() {
    let mut world = world(TALK).await;
    let live = start(&world.phone, vec![wait_for(Awaited::StreamOver)]);
    until(&live, |event| matches!(event, Event::PlayingBegan)).await;
    // READY has been waited for. Each of these is looked for after the one before.
    world.bridge.until_notified("STATUS=1 call").await.unwrap();
    assert_eq!(ctl(&world, &["drain"]).await.0, Some(0));
    world
        .bridge
        .until_notified("STATUS=1 call, taking no new ones")
        .await
        .unwrap();
    assert_eq!(ctl(&world, &["undrain"]).await.0, Some(0));
    world.bridge.until_notified("STATUS=1 call").await.unwrap();
    world.bridge.signal("HUP").await.unwrap();
    world.bridge.until_notified("RELOADING=1").await.unwrap();
    world.bridge.until_notified("READY=1").await.unwrap();
    world.bridge.signal("TERM").await.unwrap();
    world.bridge.until_notified("STOPPING=1").await.unwrap();
    let extended = world
        .bridge
        .until_notified("EXTEND_TIMEOUT_USEC=10000000")
        .await
        .unwrap();
    assert!(extended.contains("STATUS=draining, 1 call\n"), "{extended}");
    live.hang_up().await;
    live.finish().await;
    assert!(world.bridge.ended(PATIENCE).await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_that_is_rotated_is_taken_by_a_reload() {
    let world = world(TALK).await;
    let path = world.bridge.directory().join("credentials.json");
    let old = std::fs::read_to_string(&path).unwrap();
    let token = world.phone.auth_token.clone();
    std::fs::write(&path, old.replace(&token, "another-token")).unwrap();
    let (code, out, _) = ctl(&world, &["reload"]).await;
    assert_eq!((code, out.as_str()), (Some(0), "changed: credentials\n"));
    let refused = start(&world.phone, vec![Step::HangUp]).finish().await;
    assert!(
        matches!(refused.ended, Ended::ApplicationError { .. }),
        "{:?}",
        refused.ended
    );
    let rotated = Phone {
        auth_token: "another-token".into(),
        ..world.phone.clone()
    };
    let taken = start(&rotated, vec![Step::HangUp]).finish().await;
    assert_eq!(taken.ended, Ended::CallerHungUp);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_watchdog_is_fed_in_calls_and_in_the_drain() {
    let mut world = world(TALK).await;
    world.bridge.until_notified("WATCHDOG=1").await.unwrap();
    let live = start(&world.phone, vec![wait_for(Awaited::StreamOver)]);
    until(&live, |event| matches!(event, Event::PlayingBegan)).await;
    world.bridge.signal("TERM").await.unwrap();
    world.bridge.until_notified("STOPPING=1").await.unwrap();
    world.bridge.until_notified("WATCHDOG=1").await.unwrap();
    live.hang_up().await;
    live.finish().await;
    assert!(
        world
            .bridge
            .ended(crate::stage::PATIENCE)
            .await
            .unwrap()
            .success()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_under_a_passed_socket_refuses_no_connection() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let setup = || Setup {
        program: Path::new(PROGRAM),
        agent: Far::Hume("ws://127.0.0.1:9/v0/evi/chat"),
        rest_url: "http://127.0.0.1:9",
        config: "",
        passed: Some(socket.try_clone().unwrap()),
    };
    let health = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let mut first = Bridge::start(setup()).await.unwrap();
    assert_eq!(first.http, address);
    assert_eq!(
        exchange(address, health).await.expect("an answer").status,
        200
    );
    assert!(first.stop().await.unwrap().success());
    // Nobody is there now. The connection waits in the socket's own queue.
    let waiting = tokio::spawn(async move { exchange(address, health).await });
    let mut second = Bridge::start(setup()).await.unwrap();
    assert_eq!(waiting.await.unwrap().expect("an answer").status, 200);
    assert!(second.stop().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_of_a_call_without_greeting_is_good_for_half_a_minute() {
    let world = world("[agent]\ngreeting = [{ say = \"agent-greeting\" }]").await;
    let report = start(&world.phone, vec![Step::HangUp]).finish().await;
    let token = report.entries.iter().find_map(|entry| match &entry.event {
        Event::StreamStarted { parameters, .. } => parameters
            .iter()
            .find(|(name, _)| name == "token")
            .map(|(_, value)| value.clone()),
        _ => None,
    });
    let token = token.expect("a token");
    let expires: u64 = token
        .split('.')
        .nth(1)
        .expect("its expiry")
        .parse()
        .unwrap();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    assert!(expires <= now + 30, "{} s", expires - now);
}
