//! What `load` and `soak` measure with: frames that bear numbers ([`stamp`]), books in which their
//! sending and arrival are matched ([`ledger`]), and what the kernel knows of a process
//! ([`process`]).

pub mod ledger;
pub mod process;
pub mod stamp;

use std::{
    fmt::Display,
    process::ExitCode,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use serde::Serialize;
use tokio::time::{sleep, timeout};

use self::ledger::{Histogram, Ledger};
use super::evi::LOAD_MESSAGE_MS;

/// Shorter media messages are the tail of a segment: what the resampler held back.
pub const WHOLE_MESSAGE: usize = LOAD_MESSAGE_MS as usize * 8 / 2;
/// For a frame to arrive; what has not come by then is lost.
pub const ARRIVAL_LIMIT: Duration = Duration::from_secs(5);
/// For telephones to be off the line once their callers have hung up.
pub const HANG_UP_LIMIT: Duration = Duration::from_secs(30);
/// Problems that are told; of a thousand calls all may have the same.
pub const PROBLEMS_TOLD: usize = 10;

/// One direction: added latency in ms, and what was lost.
#[derive(Debug, Serialize)]
pub struct Way {
    pub frames: u64,
    pub lost: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

impl Way {
    pub fn of(histogram: &Histogram, lost: u64) -> Way {
        let ms = |duration: Duration| rounded(duration.as_secs_f64() * 1000.0, 3);
        Way {
            frames: histogram.count(),
            lost,
            p50_ms: ms(histogram.quantile(0.5)),
            p99_ms: ms(histogram.quantile(0.99)),
            max_ms: ms(histogram.max()),
        }
    }
}

/// The heading of a table of [`row`]s.
pub const HEADING: &str = "added latency, ms     p50      p99      max     frames   lost";

/// One way as a line of a table.
pub fn row(name: &str, way: &Way) -> String {
    format!(
        "{name:<16} {:>8.3} {:>8.3} {:>8.3} {:>10} {:>6}",
        way.p50_ms, way.p99_ms, way.max_ms, way.frames, way.lost
    )
}

/// Digits that were not measured are not printed.
pub fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

pub fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks until it is so, or the time is up.
pub async fn until(limit: Duration, so: impl AsyncFn() -> bool) -> bool {
    let asked = async {
        while !so().await {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(limit, asked).await.is_ok()
}

/// What a command has found out, for people and as an object on one line.
pub trait Report: Display + Serialize {
    /// Nothing was lost and nothing left behind.
    fn ok(&self) -> bool;
}

/// Runs a command and prints its report; the exit code is 1 unless all is well.
pub fn main<R: Report>(
    name: &str,
    json: bool,
    run: impl Future<Output = anyhow::Result<R>>,
) -> ExitCode {
    let result = tokio::runtime::Runtime::new()
        .context("cannot start the runtime")
        .and_then(|runtime| runtime.block_on(super::unless_stopped(run)));
    match result {
        Ok(report) => {
            let text = match json {
                true => {
                    serde_json::to_string(&report).expect("strings and finite numbers are JSON")
                }
                false => report.to_string(),
            };
            print(&text);
            match report.ok() {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            }
        }
        Err(error) => {
            eprintln!("hume-bridge {name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// On standard output. A reader that has gone away has seen enough.
fn print(text: &str) {
    use std::io::Write as _;
    _ = writeln!(std::io::stdout(), "{}", text.trim_end());
}
