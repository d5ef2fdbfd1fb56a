//! The JSON shapes, letter by letter.

use http_body_util::BodyExt;

use super::*;
use crate::session::{news::News, registry::CallFacts};

const CALL: &str = "CA0123456789abcdef0123456789abcdef";
const STREAM: &str = "MZ0123456789abcdef0123456789abcdef";

fn state() -> OpsState {
    OpsState {
        registry: Registry::new(crate::session::registry::Limits::of(
            10,
            std::time::Duration::from_secs(30),
        )),
        metrics: Arc::default(),
        config: Arc::new(ConfigFacts {
            port: 3000,
            agent: "hume",
            hume_config_id: Some("c0ffee".into()),
            twilio_number: None,
        }),
        certificate_expires: None,
        started: Instant::now(),
    }
}

fn facts(agent: &'static str) -> CallFacts {
    CallFacts {
        call: CALL.parse().unwrap(),
        stream: STREAM.parse().unwrap(),
        from: "+61400000001".into(),
        to: "+61200000002".into(),
        agent,
        route: None,
        known: Default::default(),
        token_expires_unix: 0,
    }
}

fn ask(state: &OpsState, method: Method, path: &str) -> Response<Body> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .body(())
        .unwrap();
    respond_to(state, &request)
}

/// Body text, with what differs from run to run replaced.
async fn text(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let mut text = String::from_utf8(bytes.to_vec()).unwrap();
    for key in ["timestamp", "startedAt"] {
        let key = format!("\"{key}\":\"");
        if let Some(at) = text.find(&key) {
            let at = at + key.len();
            let stamp = &text[at..at + 24];
            assert!(
                stamp.parse::<jiff::Timestamp>().is_ok() && stamp.ends_with('Z'),
                "{stamp}"
            );
            text.replace_range(at..at + 24, "TIME");
        }
    }
    text
}

#[tokio::test]
async fn a_stranger_learns_only_that_somebody_is_at_home() {
    let registry = Registry::new(crate::session::registry::Limits::of(
        1,
        std::time::Duration::from_secs(30),
    ));
    let healthy = public_health(&registry, &Method::GET);
    assert_eq!(healthy.status(), 200);
    assert_eq!(healthy.headers()["cache-control"], "no-store");
    assert_eq!(healthy.headers()["content-type"], "application/json");
    assert_eq!(
        text(healthy).await,
        r#"{"status":"healthy","timestamp":"TIME","activeSessions":0}"#
    );
    registry.set_draining(true);
    let draining = public_health(&registry, &Method::HEAD);
    assert_eq!(draining.status(), 503);
    assert_eq!(
        text(draining).await,
        r#"{"status":"draining","timestamp":"TIME","activeSessions":0}"#
    );
    let refused = public_health(&registry, &Method::POST);
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["allow"]),
        (405, &"GET, HEAD".parse().unwrap())
    );
}

#[tokio::test]
async fn the_operator_also_sees_what_is_configured() {
    let state = state();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        text(ask(&state, Method::GET, "/health?x=1")).await,
        format!(
            r#"{{"status":"healthy","timestamp":"TIME","activeSessions":0,"version":"{version}","config":{{"port":3000,"agent":"hume","humeConfigId":"c0ffee","twilioNumber":null}}}}"#
        )
    );
    assert_eq!(
        text(ask(&state, Method::GET, "/ready")).await,
        r#"{"ready":true,"draining":false}"#
    );
    state.registry.set_draining(true);
    assert_eq!(ask(&state, Method::GET, "/health").status(), 503);
    let ready = ask(&state, Method::HEAD, "/ready");
    assert_eq!(ready.status(), 503);
    assert_eq!(text(ready).await, r#"{"ready":false,"draining":true}"#);
    assert_eq!(ask(&state, Method::GET, "/status").status(), 200);
    assert_eq!(ask(&state, Method::POST, "/status").status(), 405);
    assert_eq!(ask(&state, Method::POST, "/nothing").status(), 404);
    assert_eq!(ask(&state, Method::GET, "/health/").status(), 404);
}

#[tokio::test]
async fn a_call_in_progress_is_shown_with_both_ends() {
    let state = state();
    let claim = state.registry.claim(facts("hume"), Instant::now()).unwrap();
    claim.view.agent_connected.store(true, Relaxed);
    claim.view.frames_in.store(50, Relaxed);
    let shown = text(ask(&state, Method::GET, "/status")).await;
    let (head, process) = shown.split_once(r#","process":"#).unwrap();
    assert_eq!(
        head,
        format!(
            r#"{{"activeSessions":1,"sessions":[{{"callSid":"{CALL}","streamSid":"{STREAM}","isActive":true,"agent":"hume","agentConnected":true,"humeConnected":true,"twilioConnected":true,"from":"+61400000001","to":"+61200000002","startedAt":"TIME","durationSeconds":0,"ending":false,"paused":false,"framesIn":50,"audioOut":0,"framesDropped":0,"bargeIns":0,"route":null,"away":null}}],"uptime":0,"timestamp":"TIME""#
        )
    );
    let process: serde_json::Value =
        serde_json::from_str(process.strip_suffix('}').unwrap()).unwrap();
    let keys: Vec<_> = process.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["openFiles", "rssBytes", "tasks"]);
    assert!(process["openFiles"].as_u64().unwrap() >= 3);
    assert!(process["rssBytes"].as_u64().unwrap() > 1 << 20);
}

#[tokio::test]
async fn a_call_on_another_agent_is_not_said_to_be_on_hume() {
    let state = state();
    let claim = state
        .registry
        .claim(facts("realtime"), Instant::now())
        .unwrap();
    claim.view.agent_connected.store(true, Relaxed);
    claim.view.ending.store(true, Relaxed);
    let shown = text(ask(&state, Method::GET, "/status")).await;
    for part in [
        r#""agentConnected":true,"humeConnected":false"#,
        r#""isActive":false"#,
    ] {
        assert!(shown.contains(part), "{shown}");
    }
}

#[tokio::test]
async fn a_call_that_is_away_has_no_media_socket() {
    let state = state();
    let mut facts = facts("hume");
    facts.route = Some("night".into());
    let claim = state.registry.claim(facts, Instant::now()).unwrap();
    claim.tell(News::Away {
        why: Away::Transfer,
    });
    let away = text(ask(&state, Method::GET, "/status")).await;
    for part in [
        r#""twilioConnected":false"#,
        r#""route":"night","away":"transfer""#,
    ] {
        assert!(away.contains(part), "{away}");
    }
    claim.tell(News::Back);
    let back = text(ask(&state, Method::GET, "/status")).await;
    assert!(
        back.contains(r#""twilioConnected":true"#) && back.contains(r#""away":null"#),
        "{back}"
    );
}

#[tokio::test]
async fn monitoring_reads_the_counters() {
    let state = state();
    let call = CALL.parse().unwrap();
    let asking = crate::session::registry::Asking {
        call,
        from: "+15551234567",
        to: "+15557654321",
        inbound: true,
        on: Default::default(),
    };
    state.registry.admit(asking, Instant::now()).unwrap();
    state.metrics.barge_ins.add(3);
    let answer = ask(&state, Method::GET, "/metrics");
    assert_eq!(answer.status(), 200);
    assert_eq!(
        answer.headers()["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let lines = text(answer).await;
    for line in [
        "hume_bridge_calls_active 0",
        "hume_bridge_calls_expected 1",
        "hume_bridge_draining 0",
        "hume_bridge_queues_waiting{side=\"twilio\"} 0",
        "hume_bridge_queues_waiting{side=\"agent\"} 0",
        "hume_bridge_queued_bytes{side=\"agent\"} 0",
        "hume_bridge_log_queue_lines 0",
        "hume_bridge_barge_ins_total 3",
        "hume_bridge_calls_ended_total{cause=\"drain\"} 0",
    ] {
        assert!(lines.lines().any(|one| one == line), "{line}: {lines}");
    }
    assert_eq!(ask(&state, Method::HEAD, "/metrics").status(), 200);
    assert_eq!(ask(&state, Method::POST, "/metrics").status(), 405);
}
