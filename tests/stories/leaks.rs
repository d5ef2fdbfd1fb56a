//! When the last caller has gone, nothing of any call is left.

use std::time::Duration;

use hume_bridge::sim::phone::{Fault, Step};
use serde_json::Value;
use tokio::{task::JoinSet, time::Instant};

use crate::stage::{PATIENCE, binary, close, faulty, raw, say, start, status, world};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_calls_end_in_thirty_ways_and_leave_nothing_behind() {
    let world = world(
        r#"
        config = """
        calls.max_per_caller = 0
        hume.connect_timeout = "700ms"
        hume.ready_timeout = "700ms"
        hume.ping_interval = "300ms"
        hume.pong_timeout = "900ms"
        calls.fallback = { hangup = true }
        """
        [agent]
        handshake = ["accept", 503, "accept", "close", "accept", "silent", "accept", 401]
        opening = ["ready", "never", "E0300", "ready", "E0101", "never"]
        greeting = [{ say = "agent-more" }, { end = true }]
        [[agent.replies]]
        steps = [{ tool = { name = "hang_up" } }, { say = "agent-more" }, { end = true }]
        [rest]
        fail = ["ok", "500", "auth", "cut", "html"]
        "#,
    )
    .await;
    let base = status(&world).await["process"].clone();

    let many = |step: Step| vec![step; 150];
    let wait = |ms| Step::Wait(Duration::from_millis(ms));
    let kinds: Vec<(Option<Fault>, Vec<Step>)> = vec![
        (None, vec![wait(1000), Step::HangUp]),
        (None, vec![wait(700), Step::Drop]),
        (None, vec![say("caller-yes")]),
        (None, many(raw("nonsense"))),
        (None, many(binary("nonsense"))),
        (None, vec![wait(200), raw("x".repeat(100_000))]),
        (None, vec![Step::HangUp]),
        (Some(Fault::NoToken), vec![]),
        (Some(Fault::SecondSocket), vec![wait(1500), Step::HangUp]),
        (Some(Fault::UpgradeSignature), vec![]),
    ];
    let mut calls = JoinSet::new();
    for (fault, steps) in kinds.iter().cycle().take(30) {
        let phone = match fault {
            Some(fault) => faulty(&world, *fault),
            None => world.phone.clone(),
        };
        let call = start(&phone, steps.clone());
        calls.spawn(call.finish());
    }
    while let Some(ended) = calls.join_next().await {
        let report = ended.expect("no telephone panics");
        assert!(report.violations.is_empty(), "{:?}", report.violations);
    }
    // Connections to the REST API are kept for the next goodbye; without an API they go.
    let hume_bridge::sim::scenario::World {
        bridge,
        agent: evi,
        rest,
        phone,
        ..
    } = world;
    let requests = rest.requests().len();
    drop(rest);

    let deadline = Instant::now() + PATIENCE;
    let now: Value = loop {
        let body = hume_bridge::sim::get(bridge.ops, "/status")
            .await
            .expect("/status");
        let now: Value = serde_json::from_str(&body).expect("JSON");
        let same = |what: &str| now["process"][what].as_u64() <= base[what].as_u64();
        if now["activeSessions"] == 0 && same("tasks") && same("openFiles") {
            break now;
        }
        assert!(
            Instant::now() < deadline,
            "left behind: {now}, at first {base}"
        );
        // Not to wait for anything: so that asking does not take the processor from those asked.
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(
        base["tasks"].is_u64() && base["openFiles"].is_u64(),
        "{base}"
    );
    assert_eq!(now["sessions"], serde_json::json!([]));
    assert!(requests > 0, "some of the calls were hung up");

    // A new call finds everything as the first one did.
    let switchboard = phone.switchboard.clone();
    let rest = hume_bridge::sim::rest::Rest::start(
        switchboard,
        hume_bridge::sim::bridge::ACCOUNT_SID,
        hume_bridge::sim::bridge::AUTH_TOKEN,
        Default::default(),
    )
    .await
    .expect("a REST API");
    let world = hume_bridge::sim::scenario::World {
        bridge,
        agent: evi,
        rest,
        phone,
        beside: Default::default(),
    };
    let report = start(&world.phone, vec![wait(3000), Step::HangUp])
        .finish()
        .await;
    assert!(crate::stage::heard(&report, "agent-more"));
    close(world).await;
}
