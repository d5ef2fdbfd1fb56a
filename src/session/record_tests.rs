//! Records and their file: what is in a line, and what happens when the file does not take it.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::session::registry::{CallFacts, Claim, Limits, Registry};

const LIMIT: Duration = Duration::from_secs(30);

fn claim(number: usize) -> Claim {
    let facts = CallFacts {
        call: format!("CA{number:032x}").parse().unwrap(),
        stream: "MZ0123456789abcdef0123456789abcdef".parse().unwrap(),
        from: "+61400000001".into(),
        to: "+61200000002".into(),
        agent: "able",
        route: Some("night".into()),
        known: Default::default(),
        token_expires_unix: 1,
    };
    let registry = Registry::new(Limits::of(1, Duration::ZERO));
    registry.claim(facts, Instant::now()).unwrap()
}

fn record(call: &str) -> Record {
    Record {
        call_sid: call.into(),
        ..Record::default()
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().unwrap()
}

fn calls(path: &Path) -> Vec<String> {
    let lines = lines(path);
    let sids = lines.iter().map(|line| line["call_sid"].as_str().unwrap());
    sids.map(str::to_owned).collect()
}

fn counted(metrics: &Metrics) -> [u64; 3] {
    [CallRecord::Written, CallRecord::Dropped, CallRecord::Failed]
        .map(|outcome| metrics.call_records.of(outcome).get())
}

/// Waits until the writer has come so far.
fn until(what: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !what() {
        assert!(Instant::now() < deadline, "it comes to that");
        std::thread::yield_now();
    }
}

#[test]
fn a_record_says_what_became_of_a_call() {
    let claim = claim(7);
    claim.view.barge_ins.store(2, Relaxed);
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_007);
    let mut record = Record {
        turns: 3,
        ..Record::default()
    };
    record.chat("chat-1");
    record.chat("chat-1");
    record.chat("chat-2");
    record.tool_call("weather", "ok");
    record.tool_call("weather", "ok");
    record.tool_call("weather", "timeout");
    record.tool_call("hang_up", "ok");
    record.transfer("sales", at);
    record.transferred(errand::Transferred::Returning(errand::Failed::NoAnswer));
    record.transfer("+61299990000", at);
    record.note("calls again \"tomorrow\"\n", at);
    let record = record.ended(&claim.view, Cause::AgentHungUp);
    let line: Value = serde_json::from_slice(&record.line()).unwrap();
    let when = "2023-11-14T22:13:20.007Z";
    assert_eq!(
        line,
        json!({
            "call_sid": claim.view.facts.call.as_str(),
            "started_at": rfc3339(claim.view.started_at), "ended_at": line["ended_at"],
            "duration_seconds": line["duration_seconds"], "cause": "agent-hung-up",
            "route": "night", "agent": "able", "from": "+61400000001", "to": "+61200000002",
            "test": false, "chats": ["chat-1", "chat-2"], "turns": 3, "barge_ins": 2,
            "tool_calls": {"hang_up": {"ok": 1}, "weather": {"ok": 2, "timeout": 1}},
            "transfers": [
                {"at": when, "to": "sales", "outcome": "no-answer"},
                {"at": when, "to": "+61299990000", "outcome": null},
            ],
            "notes": [{"at": when, "text": "calls again \"tomorrow\"\n"}],
        })
    );
    assert!(line["duration_seconds"].as_f64().unwrap() < 60.0);
    assert!(line["ended_at"].as_str() >= line["started_at"].as_str());
    let printed = format!("{record:?}");
    for private in ["+61", "tomorrow", "sales"] {
        assert!(!printed.contains(private), "{printed}");
    }
}

#[test]
fn no_agent_can_make_a_record_endless() {
    let mut record = Record::default();
    for n in 0..1000 {
        record.chat(&n.to_string());
        record.tool_call(&n.to_string(), "unknown");
        record.transfer("sales", SystemTime::UNIX_EPOCH);
        record.note("a note", SystemTime::UNIX_EPOCH);
    }
    assert_eq!(record.chats.len(), MOST);
    assert_eq!(record.transfers.len(), MOST);
    assert_eq!(record.notes.len(), MOST);
    assert_eq!(record.tool_calls.len(), MOST + 1);
    let counted: u64 = record.tool_calls.values().flat_map(BTreeMap::values).sum();
    assert_eq!(counted, 1000);
}

#[test]
fn each_call_is_a_line_at_the_end_of_a_file_that_others_may_not_read() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("calls.jsonl");
    for day in ["CA1", "CA2"] {
        let metrics = Arc::new(Metrics::default());
        let recorder = Recorder::open(&path, metrics.clone());
        recorder.write(record(day));
        assert!(recorder.close(LIMIT));
        assert_eq!(counted(&metrics), [1, 0, 0]);
        // It is over: nothing is lost unseen.
        recorder.write(record("late"));
        assert_eq!(counted(&metrics), [1, 1, 0]);
    }
    assert_eq!(calls(&path), ["CA1", "CA2"]);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640, "{mode:o}");
}

#[test]
fn without_a_file_there_are_no_records_and_no_thread() {
    let metrics = Arc::new(Metrics::default());
    let recorder = Recorder::new(metrics.clone());
    recorder.write(record("CA1"));
    assert!(!recorder.lock().writing);
    assert!(recorder.close(Duration::ZERO));
    assert_eq!(counted(&metrics), [0, 0, 0]);
}

#[test]
fn a_file_that_was_rotated_away_is_let_go_by_a_reload() {
    let dir = TempDir::new().unwrap();
    let file = |name: &str| dir.path().join(name);
    let metrics = Arc::new(Metrics::default());
    let recorder = Recorder::open(&file("calls"), metrics.clone());
    recorder.write(record("CA1"));
    until(|| counted(&metrics)[0] == 1);
    fs::rename(file("calls"), file("calls.1")).unwrap();
    // Nobody has said so yet.
    recorder.write(record("CA2"));
    until(|| counted(&metrics)[0] == 2);
    recorder.reopen(Some(&file("calls")));
    recorder.write(record("CA3"));
    until(|| counted(&metrics)[0] == 3);
    // Another file, none, and one again.
    recorder.reopen(Some(&file("other")));
    recorder.write(record("CA4"));
    until(|| counted(&metrics)[0] == 4);
    recorder.reopen(None);
    recorder.write(record("CA5"));
    recorder.reopen(Some(&file("other")));
    recorder.write(record("CA6"));
    assert!(recorder.close(LIMIT));
    assert_eq!(calls(&file("calls.1")), ["CA1", "CA2"]);
    assert_eq!(calls(&file("calls")), ["CA3"]);
    assert_eq!(calls(&file("other")), ["CA4", "CA6"]);
    assert_eq!(counted(&metrics), [5, 0, 0]);
}

#[test]
fn a_file_that_cannot_be_written_costs_records_until_it_can() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("missing/calls");
    let metrics = Arc::new(Metrics::default());
    let recorder = Recorder::open(&path, metrics.clone());
    recorder.write(record("CA1"));
    recorder.write(record("CA2"));
    until(|| counted(&metrics)[2] == 2);
    fs::create_dir(dir.path().join("missing")).unwrap();
    recorder.write(record("CA3"));
    assert!(recorder.close(LIMIT));
    assert_eq!(calls(&path), ["CA3"]);
    assert_eq!(counted(&metrics), [1, 0, 2]);

    // A directory is no file, and a full disk takes nothing.
    for path in [dir.path(), Path::new("/dev/full")] {
        let metrics = Arc::new(Metrics::default());
        let recorder = Recorder::open(path, metrics.clone());
        recorder.write(record("CA1"));
        assert!(recorder.close(LIMIT));
        assert_eq!(counted(&metrics), [0, 0, 1], "{}", path.display());
    }
}

#[test]
fn half_a_line_does_not_spoil_the_next() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("calls");
    fs::write(&path, "{\"call_sid\":\"CA1\"}\n{\"call_s").unwrap();
    let recorder = Recorder::open(&path, Arc::default());
    recorder.write(record("CA2"));
    recorder.write(record("CA3"));
    assert!(recorder.close(LIMIT));
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert_eq!(lines[1], "{\"call_s");
    for (line, call) in [(lines[2], "CA2"), (lines[3], "CA3")] {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["call_sid"], call);
    }
}

/// A named pipe that nobody reads: whoever opens it to write waits.
#[test]
fn a_file_that_has_stalled_holds_nobody_up() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("calls.jsonl");
    let metrics = Arc::new(Metrics::default());
    let recorder = Recorder::new(metrics.clone());
    {
        // As if the thread waited for a disk: it is there, and takes nothing.
        let mut state = recorder.lock();
        state.path = Some(path.clone());
        (state.reopen, state.writing) = (true, true);
    }
    for n in 0..QUEUE + 44 {
        recorder.write(record(&n.to_string()));
    }
    assert_eq!(counted(&metrics), [0, 44, 0]);
    assert!(!recorder.close(Duration::from_millis(1)));
    // The disk is back: what was queued is still written.
    recorder.work();
    assert_eq!(counted(&metrics), [QUEUE as u64, 44, 0]);
    assert_eq!(lines(&path).len(), QUEUE);
}

/// A pipe nobody reads would take the thread with it, and the end of the process would wait for that.
#[test]
fn what_cannot_be_opened_at_once_is_a_failure_and_not_a_wait() {
    let directory = TempDir::new().unwrap();
    let pipe = directory.path().join("pipe");
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
    )
    .unwrap();
    let astray = directory.path().join("link");
    std::os::unix::fs::symlink("/nowhere/at/all", &astray).unwrap();
    for path in [pipe, astray] {
        let metrics = Arc::new(Metrics::default());
        let recorder = Recorder::open(&path, metrics.clone());
        recorder.write(record("CA1"));
        assert!(recorder.close(LIMIT), "{}", path.display());
        assert_eq!(counted(&metrics), [0, 0, 1]);
    }
}
