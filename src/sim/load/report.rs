//! The figures, as a table and as JSON whose keys are stable.

use std::fmt;

use serde::Serialize;

use crate::sim::measure::{self, HEADING, Way, row};

#[derive(Debug, Serialize)]
pub struct Report {
    /// No frame was lost, nothing was left behind, and no side had anything to complain of.
    pub ok: bool,
    pub calls: usize,
    pub secs: u64,
    /// Shared by the daemon and the generator.
    pub cores: usize,
    /// From the caller to the agent: latency of the frames sent in the measured time; lost of all
    /// since the calls began.
    pub up: Way,
    /// From the agent to the caller.
    pub down: Way,
    /// After that.
    pub interruptions: Interruptions,
    pub daemon: Daemon,
    pub generator: Generator,
    pub others: Others,
    /// Breaches of protocol and calls that ended by themselves; the first few.
    pub problems: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct Daemon {
    pub cpu_seconds_per_call_minute: f64,
    /// Cores kept busy, on average.
    pub cpu_cores: f64,
    pub rss_base_kib: u64,
    pub rss_peak_kib: u64,
    pub rss_per_call_kib: f64,
    pub rss_after_kib: u64,
    pub fds_before: usize,
    pub fds_after: usize,
    pub sessions_after: u64,
}

#[derive(Debug, Serialize)]
pub struct Generator {
    pub cpu_cores: f64,
}

/// From the daemon's reading of an interruption to its clear on the wire, by its own clock.
#[derive(Debug, Serialize)]
pub struct Interruptions {
    pub told: u64,
    pub cleared: u64,
    pub within_1_ms: u64,
    pub within_5_ms: u64,
}

impl Interruptions {
    /// From the daemon's metrics.
    pub fn read(metrics: &str, told: u64) -> Interruptions {
        let value = |suffix: &str| {
            let name = format!("hume_bridge_interruption_clear_seconds{suffix} ");
            let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
            line.and_then(|value| value.parse().ok()).unwrap_or(0)
        };
        Interruptions {
            told,
            cleared: value("_count"),
            within_1_ms: value("_bucket{le=\"0.001\"}"),
            within_5_ms: value("_bucket{le=\"0.005\"}"),
        }
    }
}

/// Everything else on the machine: other processes, interrupts, and what its host took away.
#[derive(Debug, Serialize)]
pub struct Others {
    pub cpu_cores: f64,
}

impl measure::Report for Report {
    fn ok(&self) -> bool {
        self.ok
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { daemon, calls, .. } = self;
        let cores = match self.cores {
            1 => "one core".to_owned(),
            cores => format!("{cores} cores"),
        };
        writeln!(
            f,
            "{calls} calls, {} s; {cores}, shared by daemon and generator\n\n\
             {HEADING}",
            self.secs
        )?;
        for (name, way) in [
            ("caller to agent", &self.up),
            ("agent to caller", &self.down),
        ] {
            writeln!(f, "{}", row(name, way))?;
        }
        let Interruptions {
            told,
            cleared,
            within_1_ms,
            within_5_ms,
        } = self.interruptions;
        writeln!(
            f,
            "\n{told} interruptions, {cleared} cleared: {within_1_ms} within 1 ms of being read, \
             {within_5_ms} within 5"
        )?;
        let mib = |kib: u64| kib as f64 / 1024.0;
        writeln!(
            f,
            "\ndaemon     CPU  {:.3} s a call-minute; {:.0} % of one core\n\
             \x20          RSS  {:.1} MiB before, {:.1} MiB at most, {:.1} KiB a call, {:.1} MiB after\n\
             \x20          files {} before, {} after; {} sessions left\n\
             generator  CPU  {:.0} % of one core\n\
             others     CPU  {:.0} % of one core",
            daemon.cpu_seconds_per_call_minute,
            daemon.cpu_cores * 100.0,
            mib(daemon.rss_base_kib),
            mib(daemon.rss_peak_kib),
            daemon.rss_per_call_kib,
            mib(daemon.rss_after_kib),
            daemon.fds_before,
            daemon.fds_after,
            daemon.sessions_after,
            self.generator.cpu_cores * 100.0,
            self.others.cpu_cores * 100.0,
        )?;
        for problem in &self.problems {
            writeln!(f, "problem: {problem}")?;
        }
        Ok(())
    }
}
