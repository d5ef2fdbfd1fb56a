//! What monitoring reads after a call is what the far ends saw of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use hume_bridge::sim::{
    self,
    evi::What,
    phone::{Awaited, Ended, Event, Fault},
    scenario::{Story, World},
};

use crate::{
    PROGRAM,
    stage::{PACE, close, exchange, faulty, in_time, start, status, wait_for, world},
    tls::Certificates,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_counters_hold_what_the_far_ends_saw_of_a_call() {
    let story = Story::named("demo").unwrap();
    let world = World::start(&story, Path::new(PROGRAM), PACE)
        .await
        .unwrap();
    let fresh = Families::of(&world).await;
    assert_eq!(fresh.sum("hume_bridge_calls_ended_total"), 0.0);
    assert_eq!(fresh.rows("hume_bridge_calls_ended_total"), 17);

    let report = world.call(&story).await;
    while status(&world).await["activeSessions"] != 0 {}
    let counted = Families::of(&world).await;
    let seen = world.end(report).await.unwrap();
    assert_eq!(seen.missed(&story.expect), Vec::<String>::new());

    let told = |what: fn(&What) -> bool| {
        let told = seen.agent.events.iter().filter(|event| what(&event.what));
        told.count() as f64
    };
    let heard: Vec<f64> = seen.call.entries.iter().filter_map(audio).collect();
    let caller_frames = counted.value("hume_bridge_caller_frames_total");
    let agent_frames: u64 = seen.agent.uplinks.values().map(|up| up.audio_frames).sum();
    for (series, expected) in [
        ("hume_bridge_calls_active", 0.0),
        ("hume_bridge_calls_expected", 0.0),
        ("hume_bridge_calls_admitted_total", 1.0),
        (
            "hume_bridge_calls_ended_total{cause=\"agent-hung-up\"}",
            1.0,
        ),
        ("hume_bridge_call_duration_seconds_count", 1.0),
        (
            "hume_bridge_caller_audio_bytes_total",
            160.0 * caller_frames,
        ),
        ("hume_bridge_agent_audio_messages_total", heard.len() as f64),
        ("hume_bridge_agent_audio_bytes_total", heard.iter().sum()),
        ("hume_bridge_agent_connect_seconds_count", 1.0),
        ("hume_bridge_agent_ready_seconds_count", 1.0),
        ("hume_bridge_barge_ins_total", 1.0),
        ("hume_bridge_interruption_clear_seconds_count", 1.0),
        (
            "hume_bridge_spurious_interruptions_total",
            told(|what| matches!(what, What::Interrupted { spurious: true, .. })),
        ),
        // Three answers, of which one was cut off.
        ("hume_bridge_turn_first_audio_seconds_count", 3.0),
        ("hume_bridge_turn_heard_seconds_count", 2.0),
        (
            "hume_bridge_tool_calls_total{tool=\"hang_up\",outcome=\"ok\"}",
            told(|what| matches!(what, What::ToolAnswered { ok: true, .. })),
        ),
        (
            "hume_bridge_tool_call_duration_seconds_count{tool=\"hang_up\"}",
            1.0,
        ),
        (
            "hume_bridge_rest_operations_total{operation=\"complete\",outcome=\"ended\"}",
            seen.requests.len() as f64,
        ),
        (
            "hume_bridge_rest_operation_duration_seconds_count{operation=\"complete\"}",
            1.0,
        ),
    ] {
        assert_eq!(counted.value(series), expected, "{series}");
    }
    assert!(caller_frames >= agent_frames as f64, "{caller_frames}");
    for family in [
        "hume_bridge_calls_admitted_total",
        "hume_bridge_calls_ended_total",
        "hume_bridge_tool_calls_total",
        "hume_bridge_rest_operations_total",
    ] {
        assert_eq!(counted.sum(family), 1.0, "{family}");
    }
    for family in [
        "hume_bridge_calls_refused_total",
        "hume_bridge_caller_frames_dropped_total",
        "hume_bridge_signature_failures_total",
        "hume_bridge_media_sockets_refused_total",
        "hume_bridge_stalls_total",
        "hume_bridge_admin_requests_total",
    ] {
        assert_eq!(counted.sum(family), 0.0, "{family}");
    }
    // The agent's 300 ms of thinking, at twice the pace; what the caller feels is not less.
    let answered = counted.value("hume_bridge_turn_first_audio_seconds_sum");
    assert!((0.3..9.0).contains(&answered), "{answered}");
    let seconds = counted.value("hume_bridge_call_duration_seconds_sum");
    assert!((5.0..60.0).contains(&seconds), "{seconds}");
    assert!(counted.value("hume_bridge_interruption_clear_seconds_sum") < 1.0);
    assert!(counted.value("process_resident_memory_bytes") > 1e6);
    assert!(counted.value("process_cpu_seconds_total") > 0.0);
    assert!(counted.value("process_start_time_seconds") > 1.7e9);
}

fn audio(entry: &sim::phone::Entry) -> Option<f64> {
    match entry.event {
        Event::AudioReceived { bytes, .. } => Some(bytes as f64),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_not_let_in_is_counted_at_the_door() {
    let world = world("").await;
    let forged = faulty(&world, Fault::WebhookSignature);
    start(&forged, vec![]).finish().await;
    let forged = faulty(&world, Fault::UpgradeSignature);
    start(&forged, vec![wait_for(Awaited::StreamOver)])
        .finish()
        .await;
    let stranger = b"GET /media-stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert_eq!(
        exchange(world.bridge.http, stranger).await.unwrap().status,
        426
    );
    let drain = tokio::process::Command::new(env!("CARGO_BIN_EXE_humebridgectl"))
        .arg("--socket")
        .arg(&world.bridge.control)
        .arg("drain")
        .output();
    assert!(in_time(drain).await.unwrap().status.success());
    let late = start(&world.phone, vec![]).finish().await;
    assert!(matches!(late.ended, Ended::ApplicationError { .. }));

    let counted = Families::of(&world).await;
    for (series, expected) in [
        (
            "hume_bridge_signature_failures_total{endpoint=\"incoming\"}",
            1.0,
        ),
        (
            "hume_bridge_signature_failures_total{endpoint=\"media\"}",
            1.0,
        ),
        (
            "hume_bridge_media_sockets_refused_total{reason=\"signature\"}",
            1.0,
        ),
        (
            "hume_bridge_media_sockets_refused_total{reason=\"handshake\"}",
            1.0,
        ),
        // That of the forged upgrade.
        ("hume_bridge_calls_admitted_total", 1.0),
        ("hume_bridge_calls_refused_total{reason=\"draining\"}", 1.0),
        ("hume_bridge_admin_requests_total{op=\"drain\"}", 1.0),
        ("hume_bridge_draining", 1.0),
    ] {
        assert_eq!(counted.value(series), expected, "{series}");
    }
    for family in [
        "hume_bridge_signature_failures_total",
        "hume_bridge_media_sockets_refused_total",
    ] {
        assert_eq!(counted.sum(family), 2.0, "{family}");
    }
    assert_eq!(counted.sum("hume_bridge_calls_ended_total"), 0.0);

    let head = b"HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let head = exchange(world.bridge.ops, head).await.unwrap();
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    let kind = "content-type: text/plain; version=0.0.4; charset=utf-8\r\n";
    assert!(head.head.contains(kind), "{}", head.head);
    let public = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let public = exchange(world.bridge.http, public).await.unwrap();
    assert_eq!(public.status, 404, "the public listener tells nobody");
    close(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_board_the_alerts_and_the_manual_know_what_is_exposed() {
    // With TLS, or there is no certificate to be exposed.
    let certificates = Certificates::new();
    let world = world(&certificates.stage("")).await;
    let exposed = Families::of(&world).await;
    close(world).await;

    let board = file("packaging/grafana/hume-bridge.json");
    serde_json::from_str::<serde_json::Value>(&board).expect("the board is JSON");
    let rules = file("packaging/prometheus/hume-bridge.rules.yml");
    for (name, text) in [("the board", &board), ("the rules", &rules)] {
        let names = names(text);
        assert!(names.len() > 10, "{name}: {names:?}");
        for used in names {
            assert!(exposed.has_series(used), "{name}: {used}");
        }
    }

    // | `family` | type | `label`, `label` | meaning |
    let manual = file("docs/metrics.md");
    let rows = manual.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
        let name = cells.next()?.trim_end_matches('`');
        let (kind, labels) = (cells.next()?, cells.next()?);
        let labels = labels.split(", ").map(|label| label.trim_matches('`'));
        let labels: BTreeSet<_> = labels.filter(|label| !label.is_empty()).collect();
        Some((name, (kind, labels)))
    });
    let documented: BTreeMap<_, _> = rows.collect();
    let exposed: BTreeMap<_, _> = exposed
        .0
        .iter()
        .map(|(name, family)| (name.as_str(), (family.kind.as_str(), family.labels())))
        .collect();
    assert_eq!(documented, exposed);
}

fn file(path: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), path].iter().collect();
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every metric's name in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with("hume_bridge_") || word.starts_with("process_"))
        .collect()
}

/// What `/metrics` says, read more strictly than Prometheus would.
pub struct Families(BTreeMap<String, Family>);

type Labels = Vec<(String, String)>;

#[derive(Default)]
pub struct Family {
    kind: String,
    /// By name and labels, as written.
    samples: BTreeMap<String, f64>,
    /// As they come.
    rows: Vec<(String, Labels, f64)>,
}

impl Families {
    pub async fn of(world: &World) -> Families {
        let text = sim::get(world.bridge.ops, "/metrics").await;
        Families::read(&text.expect("/metrics answers"))
    }

    fn read(text: &str) -> Families {
        assert!(text.ends_with('\n'));
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let mut current = String::new();
        let mut helped = None;
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').expect("a help text");
                assert!(!help.is_empty() && helped.is_none(), "{line}");
                helped = Some(name);
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a type");
                assert_eq!(helped.take(), Some(name), "HELP and TYPE belong together");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                let family = Family {
                    kind: kind.to_owned(),
                    ..Family::default()
                };
                let twice = families.insert(name.to_owned(), family);
                assert!(twice.is_none(), "{name} is announced twice");
                current = name.to_owned();
            } else {
                assert!(helped.is_none(), "a sample between HELP and TYPE: {line}");
                let family = families.get_mut(&current).expect("a type before a sample");
                family.sample(&current, line);
            }
        }
        for (name, family) in &families {
            assert!(!family.samples.is_empty(), "{name} has no samples");
            if family.kind == "histogram" {
                family.check_buckets(name);
            }
        }
        Families(families)
    }

    fn series(&self, series: &str) -> Option<f64> {
        let mut families = self.0.values();
        families.find_map(|family| family.samples.get(series).copied())
    }

    pub fn value(&self, series: &str) -> f64 {
        self.series(series).unwrap_or_else(|| panic!("no {series}"))
    }

    pub fn sum(&self, family: &str) -> f64 {
        self.0[family].samples.values().sum()
    }

    fn rows(&self, family: &str) -> usize {
        self.0[family].samples.len()
    }

    /// As a query may name it.
    fn has_series(&self, name: &str) -> bool {
        let mut rows = self.0.values().flat_map(|family| &family.rows);
        rows.any(|(sample, ..)| sample == name)
    }
}

impl Family {
    fn sample(&mut self, family: &str, line: &str) {
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let value: f64 = value.parse().expect("a number");
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, read_labels(labels)),
            None => (series, Vec::new()),
        };
        let suffix = name.strip_prefix(family).expect("a sample of the family");
        let suffixes: &[&str] = match self.kind.as_str() {
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        assert!(suffixes.contains(&suffix), "{line}");
        for key in labels.iter().map(|(key, _)| key) {
            let named = key.bytes().all(|c| c.is_ascii_lowercase() || c == b'_');
            assert!(named && !key.is_empty(), "{line}");
        }
        let digits = labels
            .iter()
            .filter(|(key, _)| key != "le" && key != "version");
        for (_, value) in digits {
            let ours = value
                .bytes()
                .all(|c| c.is_ascii_lowercase() || b"_-".contains(&c));
            assert!(ours, "no label holds what a peer said: {line}");
        }
        let twice = self.samples.insert(series.to_owned(), value);
        assert!(twice.is_none(), "{series} is there twice");
        self.rows.push((name.to_owned(), labels, value));
    }

    /// Rising bounds and counts, up to +Inf, which is the count.
    fn check_buckets(&self, name: &str) {
        let (mut bound, mut count) = (f64::NEG_INFINITY, 0.0);
        for (sample, labels, value) in &self.rows {
            if let Some((_, le)) = labels.iter().find(|(key, _)| key == "le") {
                let le: f64 = le.parse().expect("a bound");
                assert!(le > bound && *value >= count, "{name}: {labels:?}");
                (bound, count) = (le, *value);
            } else if sample.ends_with("_count") {
                assert!(bound == f64::INFINITY && *value == count, "{name}");
                (bound, count) = (f64::NEG_INFINITY, 0.0);
            }
        }
        assert_eq!(bound, f64::NEG_INFINITY, "{name} has no count");
    }

    fn labels(&self) -> BTreeSet<&str> {
        let labels = self.rows.iter().flat_map(|(_, labels, _)| labels);
        let keys = labels.map(|(key, _)| key.as_str());
        keys.filter(|key| *key != "le").collect()
    }
}

/// `a="b",c="d"}`, with escapes.
fn read_labels(text: &str) -> Labels {
    let mut labels = Labels::new();
    let mut rest = text;
    loop {
        let (key, quoted) = rest.split_once("=\"").expect("a label");
        let mut value = String::new();
        let mut chars = quoted.char_indices();
        let end = loop {
            match chars.next().expect("a closing quote") {
                (at, '"') => break at,
                (_, '\\') => value.push(match chars.next() {
                    Some((_, 'n')) => '\n',
                    Some((_, c @ ('\\' | '"'))) => c,
                    other => panic!("an escape that there is not: {other:?}"),
                }),
                (_, c) => value.push(c),
            }
        };
        assert!(!labels.iter().any(|(known, _)| known == key), "{key} twice");
        labels.push((key.to_owned(), value));
        match &quoted[end + 1..] {
            "}" => return labels,
            more => rest = more.strip_prefix(',').expect("a comma or the end"),
        }
    }
}
