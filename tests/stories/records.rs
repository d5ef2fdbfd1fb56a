//! What is left of a call: a line in an operator's file.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use hume_bridge::sim::{
    phone::{Awaited, Ended},
    scenario::World,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    metrics::Families,
    stage::{causes, close, ctl, start, status, wait_for, world},
};

/// Every key of a record.
const KEYS: [&str; 16] = [
    "agent",
    "barge_ins",
    "call_sid",
    "cause",
    "chats",
    "duration_seconds",
    "ended_at",
    "from",
    "notes",
    "route",
    "started_at",
    "test",
    "to",
    "tool_calls",
    "transfers",
    "turns",
];

async fn recorded(file: &Path) -> World {
    world(&format!(
        "config = '''\ncalls.record = \"{}\"\n'''\n[agent]\ngreeting = [{{ say = \"agent-greeting\" }}, {{ end = true }}]",
        file.display()
    ))
    .await
}

/// A call that an operator ends; how `show` had it.
async fn carry(world: &World) -> Value {
    let call = start(
        &world.phone,
        vec![
            wait_for(Awaited::AgentSpeaking),
            wait_for(Awaited::StreamOver),
        ],
    );
    let sid = call.call_sid().to_owned();
    let shown = loop {
        let (code, out, _) = ctl(world, &["--json", "show", &sid]).await;
        if code == Some(0) {
            break out;
        }
    };
    let (code, _, err) = ctl(world, &["hangup", &sid]).await;
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(call.finish().await.ended, Ended::RestCompleted);
    while status(world).await["activeSessions"] != 0 {}
    serde_json::from_str(&shown).unwrap()
}

async fn until_written(world: &World, records: f64) {
    let written = "hume_bridge_call_records_total{outcome=\"written\"}";
    while Families::of(world).await.value(written) < records {}
}

fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.ends_with('\n'), "{text}");
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_over_is_a_line_in_the_operators_file() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("calls.jsonl");
    let world = recorded(&file).await;
    let first = carry(&world).await;
    until_written(&world, 1.0).await;

    // Rotated as logrotate does it.
    let old = directory.path().join("calls.jsonl.1");
    fs::rename(&file, &old).unwrap();
    let (code, _, err) = ctl(&world, &["reload"]).await;
    assert_eq!(code, Some(0), "{err}");
    let second = carry(&world).await;
    // What is still queued is written before the daemon leaves.
    let log = close(world).await;
    assert_eq!(causes(&log), ["operator", "operator"]);

    for (shown, file) in [(first, &old), (second, &file)] {
        let records = lines(file);
        let [record] = &records[..] else {
            panic!("{records:?}");
        };
        let keys: Vec<_> = record.as_object().unwrap().keys().collect();
        assert_eq!(keys, KEYS);
        for (ours, theirs) in [
            ("call_sid", "callSid"),
            ("from", "from"),
            ("to", "to"),
            ("started_at", "startedAt"),
            ("agent", "agent"),
            ("route", "route"),
            ("test", "test"),
        ] {
            assert_eq!(record[ours], shown[theirs], "{ours}");
        }
        assert_eq!(record["cause"], "operator");
        assert!(record["duration_seconds"].as_f64().unwrap() > 0.0);
        assert!(record["ended_at"].as_str() > record["started_at"].as_str());
        assert_eq!(record["notes"], Value::Array(Vec::new()));
        let mode = fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640, "{mode:o}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_cannot_be_written_costs_no_call() {
    // A disk that is full for ever.
    let world = recorded(Path::new("/dev/full")).await;
    carry(&world).await;
    carry(&world).await;
    let failed = "hume_bridge_call_records_total{outcome=\"failed\"}";
    while Families::of(&world).await.value(failed) < 2.0 {}
    let log = close(world).await;
    let told = log
        .iter()
        .filter(|line| line.contains("call records cannot be written"));
    let told: Vec<_> = told.collect();
    assert!(
        told.len() == 1 && told[0].contains("file=/dev/full"),
        "{log:#?}"
    );
    assert_eq!(causes(&log), ["operator", "operator"]);
}
