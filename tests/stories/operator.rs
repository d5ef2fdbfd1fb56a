//! An operator looks at live calls and ends them.

use hume_bridge::sim::{
    phone::{Awaited, Ended, Event, OngoingCall},
    scenario::World,
};
use serde_json::Value;

use crate::stage::{causes, close, ctl, heard, start, status, until, wait_for, world};

const TALKATIVE: &str = "[agent]\ngreeting = [{ say = \"agent-goodbye\" }, { end = true }]";

async fn speaking(world: &World) -> OngoingCall {
    let call = start(&world.phone, vec![wait_for(Awaited::StreamOver)]);
    until(&call, |event| matches!(event, Event::PlayingBegan)).await;
    call
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_polite_hang_up_lets_the_agent_finish_its_words() {
    let world = world(TALKATIVE).await;
    let call = speaking(&world).await;
    let sid = call.call_sid().to_owned();

    let (code, out, _) = ctl(&world, &["sessions", "--json"]).await;
    let sessions: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, Some(0));
    assert_eq!(
        sessions["sessions"][0]["callSid"].as_str(),
        Some(sid.as_str()),
        "{out}"
    );
    let (code, out, _) = ctl(&world, &["sessions"]).await;
    assert!(code == Some(0) && out.contains(&sid), "{out}");
    let seen = status(&world).await;
    assert_eq!(
        seen["sessions"][0]["callSid"].as_str(),
        Some(sid.as_str()),
        "{seen}"
    );
    assert_eq!(seen["sessions"][0]["humeConnected"], true, "{seen}");

    let (code, _, err) = ctl(&world, &["hangup", "CAffff", "--reason", "nobody"]).await;
    assert_eq!(code, Some(3), "{err}");
    let (code, _, err) = ctl(&world, &["hangup", &sid[..12], "--reason", "closing time"]).await;
    assert_eq!(code, Some(0), "{err}");
    let report = call.finish().await;
    assert_eq!(report.ended, Ended::RestCompleted);
    assert!(heard(&report, "agent-goodbye"));
    let log = close(world).await;
    assert_eq!(causes(&log), ["operator"]);
    assert!(
        log.iter()
            .any(|line| line.contains("closing time") && line.contains("uid=")),
        "{log:#?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_impolite_hang_up_does_not() {
    let world = world(TALKATIVE).await;
    let (one, two) = tokio::join!(speaking(&world), speaking(&world));
    let (code, out, err) = ctl(&world, &["hangup", "--all", "--now"]).await;
    assert_eq!(code, Some(0), "{err}");
    assert!(
        out.contains(one.call_sid()) && out.contains(two.call_sid()),
        "{out}"
    );
    for call in [one, two] {
        let report = call.finish().await;
        assert_eq!(report.ended, Ended::RestCompleted);
        assert!(!heard(&report, "agent-goodbye"));
    }
    let (code, out, err) = ctl(&world, &["hangup", "--all"]).await;
    assert_eq!((code, out.as_str()), (Some(0), ""), "{err}");
    assert_eq!(causes(&close(world).await), ["operator", "operator"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_can_be_begun_and_taken_back() {
    let world = world(TALKATIVE).await;
    assert_eq!(ctl(&world, &["drain"]).await.0, Some(0));
    let refused = start(&world.phone, vec![]).finish().await;
    assert!(matches!(refused.ended, Ended::ApplicationError { .. }));
    assert_eq!(ctl(&world, &["undrain"]).await.0, Some(0));
    let call = speaking(&world).await;
    call.hang_up().await;
    assert_eq!(call.finish().await.ended, Ended::CallerHungUp);
    close(world).await;
}
