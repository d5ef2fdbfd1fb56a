//! The figures, as a table and as JSON whose keys are stable.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use crate::sim::measure::{self, HEADING, Way, row};

#[derive(Debug, Serialize)]
pub struct Report {
    /// No frame was lost on a call without a fault, nothing was left behind, and there are no problems.
    pub ok: bool,
    /// Held at the same time.
    pub calls: usize,
    pub minutes: f64,
    /// With it, the same fates again.
    pub seed: u64,
    /// Shared by the daemon and the generator.
    pub cores: usize,
    pub carried: Carried,
    /// Faults that struck, by kind, on the telephones' wires and on the agent's.
    pub faults: BTreeMap<&'static str, u32>,
    /// From the caller to the agent, on calls without a fault.
    pub up: Way,
    /// From the agent to the caller, on calls without a fault.
    pub down: Way,
    pub daemon: Daemon,
    pub generator_cpu_cores: f64,
    /// Everything else on the machine: other processes, interrupts, and what its host took away.
    pub others_cpu_cores: f64,
    /// What went wrong on calls without a fault; the first few.
    pub problems: Vec<String>,
}

#[derive(Debug, Default, Serialize)]
pub struct Carried {
    pub calls: u64,
    pub without_fault: u64,
    pub with_fault: u64,
    /// Of all, those that did not end when their callers had hung up.
    pub hung: u64,
    /// How they ended for the caller.
    pub ended: BTreeMap<String, u64>,
    /// How they ended for the daemon, from its metrics.
    pub causes: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
pub struct Daemon {
    /// Cores kept busy, on average.
    pub cpu_cores: f64,
    pub cpu_seconds_per_call_minute: f64,
    pub rss_begin_kib: u64,
    pub rss_max_kib: u64,
    pub rss_end_kib: u64,
    /// By least squares, behind the warm-up, while calls were held. `null`: too few samples.
    pub rss_slope_kib_per_minute: Option<f64>,
    pub warm_up_seconds: f64,
    pub samples: usize,
    pub fds_begin: usize,
    pub fds_max: usize,
    pub fds_end: usize,
    pub threads_begin: u64,
    pub threads_max: u64,
    pub threads_end: u64,
    pub tasks_begin: u64,
    pub tasks_end: u64,
    pub sessions_end: u64,
}

impl Daemon {
    /// Whether something of the calls is still there.
    pub fn keeps_something(&self) -> bool {
        self.sessions_end > 0 || self.fds_end > self.fds_begin || self.tasks_end > self.tasks_begin
    }
}

impl measure::Report for Report {
    fn ok(&self) -> bool {
        self.ok
    }
}

/// `a 3, b 4`
fn listed<K: fmt::Display, V: fmt::Display>(counts: &BTreeMap<K, V>) -> String {
    let counts: Vec<String> = counts
        .iter()
        .map(|(what, n)| format!("{what} {n}"))
        .collect();
    match counts.is_empty() {
        true => "none".to_owned(),
        false => counts.join(", "),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report {
            daemon, carried, ..
        } = self;
        writeln!(
            f,
            "{} calls at once for {} min, seed {}; cores: {}, shared by daemon and generator\n\n\
             calls           {}: {} without a fault, {} with; {} did not end\n\
             for callers     {}\n\
             for the daemon  {}\n\
             faults          {}\n\n\
             {HEADING}",
            self.calls,
            self.minutes,
            self.seed,
            self.cores,
            carried.calls,
            carried.without_fault,
            carried.with_fault,
            carried.hung,
            listed(&carried.ended),
            listed(&carried.causes),
            listed(&self.faults),
        )?;
        writeln!(f, "{}", row("caller to agent", &self.up))?;
        writeln!(f, "{}", row("agent to caller", &self.down))?;
        let mib = |kib: u64| kib as f64 / 1024.0;
        let slope = match daemon.rss_slope_kib_per_minute {
            Some(slope) => format!("{slope:+.1} KiB a minute"),
            None => "too few samples for a slope".to_owned(),
        };
        writeln!(
            f,
            "\ndaemon     CPU  {:.3} s a call-minute; {:.0} % of one core\n\
             \x20          RSS  {:.1} MiB before, {:.1} MiB at most, {:.1} MiB after; {slope} after {:.0} s of warm-up\n\
             \x20          files {} before, {} at most, {} after; threads {}, {}, {}\n\
             \x20          tasks {} before, {} after; {} sessions left\n\
             generator  CPU  {:.0} % of one core\n\
             others     CPU  {:.0} % of one core",
            daemon.cpu_seconds_per_call_minute,
            daemon.cpu_cores * 100.0,
            mib(daemon.rss_begin_kib),
            mib(daemon.rss_max_kib),
            mib(daemon.rss_end_kib),
            daemon.warm_up_seconds,
            daemon.fds_begin,
            daemon.fds_max,
            daemon.fds_end,
            daemon.threads_begin,
            daemon.threads_max,
            daemon.threads_end,
            daemon.tasks_begin,
            daemon.tasks_end,
            daemon.sessions_end,
            self.generator_cpu_cores * 100.0,
            self.others_cpu_cores * 100.0,
        )?;
        for problem in &self.problems {
            writeln!(f, "problem: {problem}")?;
        }
        Ok(())
    }
}
