//! Thousands of whole calls as chance would have them, each from a seed and each in no time.
//!
//! `cargo test --test simulation` plays the same calls every time. More, and others:
//!
//!     HUME_BRIDGE_CALLS=1000000 cargo test --release --test simulation -- --nocapture
//!
//! A call that breaks a promise is printed with its seed, and once more made as small as it can be,
//! with all that happened in it. To see it again:
//!
//!     HUME_BRIDGE_SEED=123 cargo test --test simulation -- --nocapture
//!     HUME_BRIDGE_CALL=00ff... cargo test --test simulation -- --nocapture

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use hume_bridge::sim::chance::{self, Broken, Outcome, Rule};

/// How many calls unless somebody asks for more; some seconds of work without optimisation.
const CALLS: u64 = 6000;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name}={text}: a number is needed")))
}

fn play(bytes: &[u8], start: Instant, wanted: bool) -> Outcome {
    let panicked = |_| Outcome {
        broken: Some(Broken {
            rule: Rule::Panic,
            what: "see above".into(),
        }),
        tally: Default::default(),
        most_held: 0,
        script: Vec::new(),
    };
    catch_unwind(AssertUnwindSafe(|| chance::play(bytes, start, wanted))).unwrap_or_else(panicked)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes().chunks(2);
    digits
        .map(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok())
        .collect()
}

/// Everything that somebody needs who wants to mend it.
fn tell(bytes: &[u8], broken: &Broken, start: Instant) -> String {
    let mut same = |bytes: &[u8]| {
        let found = play(bytes, start, false).broken;
        found.is_some_and(|found| found.rule == broken.rule)
    };
    let small = chance::shrink(bytes, &mut same);
    let told = play(&small, start, true);
    let broken = told.broken.as_ref().unwrap_or(broken);
    format!(
        "{broken}\n\nat its smallest:\n{}\n\nHUME_BRIDGE_CALL={}\n",
        told.script.join("\n"),
        hex(&small)
    )
}

#[test]
fn calls_as_chance_would_have_them() {
    let start = Instant::now();
    if let Ok(call) = std::env::var("HUME_BRIDGE_CALL") {
        let bytes = bytes(&call).expect("HUME_BRIDGE_CALL: hexadecimal digits are needed");
        return alone(&bytes, start);
    }
    let (seed, calls) = (number("HUME_BRIDGE_SEED"), number("HUME_BRIDGE_CALLS"));
    if let (Some(seed), None) = (seed, calls) {
        return alone(&chance::bytes_of(seed), start);
    }
    let first = seed.unwrap_or(1);
    let calls = calls.unwrap_or(CALLS);
    let next = AtomicU64::new(first);
    let all = Mutex::new(Sum::default());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let mut sum = Sum::default();
                while sum.broken.is_none() {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= first + calls {
                        break;
                    }
                    let bytes = chance::bytes_of(seed);
                    sum.add(seed, play(&bytes, start, false));
                    if sum.broken.is_some() {
                        // Nobody begins another; those that have begun are smaller.
                        next.store(u64::MAX / 2, Relaxed);
                    }
                }
                all.lock().expect("no panic in a sum").join(sum);
            });
        }
    });
    let Sum {
        broken,
        met,
        steps,
        lasted,
        most_held,
    } = all.into_inner().expect("no panic in a sum");
    if let Some((seed, broken)) = broken {
        let told = tell(&chance::bytes_of(seed), &broken, start);
        panic!("HUME_BRIDGE_SEED={seed} breaks a promise: {told}");
    }
    let took = start.elapsed();
    println!(
        "{calls} calls from seed {first}, {steps} events, {} hours of talk in {:.1} s: {:.0} calls a second; \
         none held more than {most_held} bytes",
        lasted.as_secs() / 3600,
        took.as_secs_f64(),
        calls as f64 / took.as_secs_f64(),
    );
    println!("{met:#?}");
    if calls >= CALLS {
        everything_was_met(&met);
    }
}

/// What many calls came to.
#[derive(Default)]
struct Sum {
    /// The first of them.
    broken: Option<(u64, Broken)>,
    met: BTreeMap<&'static str, u64>,
    steps: u64,
    lasted: Duration,
    most_held: usize,
}

impl Sum {
    fn add(&mut self, seed: u64, outcome: Outcome) {
        self.join(Sum {
            broken: outcome.broken.map(|broken| (seed, broken)),
            met: outcome
                .tally
                .met
                .into_iter()
                .map(|(what, times)| (what, u64::from(times)))
                .collect(),
            steps: u64::from(outcome.tally.steps),
            lasted: outcome.tally.lasted,
            most_held: outcome.most_held,
        });
    }

    fn join(&mut self, other: Sum) {
        let broken = self.broken.take().into_iter().chain(other.broken);
        self.broken = broken.min_by_key(|(seed, _)| *seed);
        self.steps += other.steps;
        self.lasted += other.lasted;
        self.most_held = self.most_held.max(other.most_held);
        for (what, times) in other.met {
            *self.met.entry(what).or_default() += times;
        }
    }
}

/// One call, and what happened in it.
fn alone(bytes: &[u8], start: Instant) {
    let outcome = play(bytes, start, true);
    println!("{}", outcome.script.join("\n"));
    if let Some(broken) = outcome.broken {
        panic!("{}", tell(bytes, &broken, start));
    }
}

/// A simulation in which nothing happens would find nothing.
fn everything_was_met(met: &BTreeMap<&str, u64>) {
    let expected = [
        "caller-hung-up",
        "carrier-lost",
        "carrier-failed",
        "agent-hung-up",
        "agent-inactive",
        "agent-expired",
        "agent-auth",
        "agent-quota",
        "agent-rejected",
        "agent-lost",
        "operator",
        "max-duration",
        "drain",
        "after: hang up",
        "after: fallback",
        "after: drain goodbye",
        "agent ready",
        "agent ready again",
        "retrying",
        "recycling",
        "recycling, forced",
        "caller audio repeated",
        "said again",
        "holding",
        "no-input check",
        "no-input",
        "after: no-input farewell",
        "after: max-duration farewell",
        "agent error",
        "agent ignored",
        "agent closed",
        "tool call",
        "barge-in",
        "spurious interruption",
        "answered",
        "answer heard",
        "hanging up",
        "goodbye withdrawn",
        "paused",
        "resumed",
        "audio dropped",
        "caller audio dropped",
        "silence filled",
        "rest failed",
        "clear",
        "done",
        "already",
        "nearly",
        "expires",
        "refused",
        "transferred",
        "transfer-failed",
        "key",
        "filler",
        "note kept",
        "prompt",
        "keys told",
        "key acted",
        "away: transfer",
        "away: digits",
        "back",
        "after: transfer",
        "after: digits",
        "redirect: done",
        "redirect: failed",
        "redirect: over",
        "tool replaced",
        "answer: hanging up",
        "answer: unknown tool",
        "answer: done",
        "answer: failed",
        "answer: noted",
        "answer: transferring",
        "answer: keys sent",
        "answer: replaced",
        "answer: too many",
        "answer: timed out",
        "answer: ending",
    ];
    for what in expected {
        let times = met.get(what).copied().unwrap_or_default();
        assert!(times >= 10, "{what}: {times} times in all calls");
    }
}

#[test]
fn a_call_is_the_same_whenever_it_is_played() {
    for seed in 1..50 {
        let bytes = chance::bytes_of(seed);
        let now = Instant::now();
        let once = play(&bytes, now, true);
        let again = play(&bytes, now + Duration::from_secs(12_345), true);
        assert_eq!(once.script, again.script);
        assert!(once.script.len() > 2, "{:?}", once.script);
        assert_eq!(chance::bytes_of(seed), bytes);
    }
}
