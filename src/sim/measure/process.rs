//! What the kernel knows of a process: `/proc`.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::Context as _;

/// The kernel's USER_HZ, in which `/proc/PID/stat` counts on every machine that this runs on.
const TICKS_A_SECOND: u64 = 100;
/// Descriptors beside the calls': listeners, the runtime's, webhooks under way.
const SPARE_FDS: u64 = 200;

pub struct Process(PathBuf);

/// One look at a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// User and system time so far.
    pub cpu: Duration,
    pub rss_kib: u64,
    pub fds: usize,
    pub threads: u64,
}

impl Process {
    pub fn of(pid: u32) -> Process {
        Process(format!("/proc/{pid}").into())
    }

    pub fn own() -> Process {
        Process("/proc/self".into())
    }

    pub fn look(&self) -> anyhow::Result<Look> {
        let read = |name: &str| {
            let path = self.0.join(name);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let fds = fs::read_dir(self.0.join("fd"))
            .with_context(|| format!("cannot read {}/fd", self.0.display()))?;
        let status = read("status")?;
        Ok(Look {
            cpu: cpu(&read("stat")?).context("/proc/PID/stat is not as expected")?,
            rss_kib: rss_kib(&status).context("no VmRSS in /proc/PID/status")?,
            fds: fds.count(),
            threads: threads(&status).context("no Threads in /proc/PID/status")?,
        })
    }
}

/// What all processors together have been doing since the machine started, idling apart; time that
/// the machine's own host took away is work too.
pub fn machine_cpu() -> anyhow::Result<Duration> {
    let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    busy(&stat).context("/proc/stat is not as expected")
}

fn busy(stat: &str) -> Option<Duration> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Result<Vec<u64>, _> = fields.split_whitespace().map(str::parse).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, steal] =
        *ticks.ok()?.first_chunk::<8>()?;
    let ticks = user + nice + system + irq + softirq + steal;
    Some(Duration::from_millis(ticks * (1000 / TICKS_A_SECOND)))
}

fn cpu(stat: &str) -> Option<Duration> {
    // The name in parentheses may hold anything, spaces too.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(Duration::from_millis(
        (user + system) * (1000 / TICKS_A_SECOND),
    ))
}

fn rss_kib(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

fn threads(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Threads:"))?;
    line.trim().parse().ok()
}

fn most_fds(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// Whether a process may have `each` sockets a call; the daemon gets its limit from this one.
pub fn room_for(calls: usize, each: u64) -> anyhow::Result<()> {
    let limits =
        fs::read_to_string("/proc/self/limits").context("cannot read /proc/self/limits")?;
    let most = most_fds(&limits).context("/proc/self/limits is not as expected")?;
    let needed = each * calls as u64 + SPARE_FDS;
    anyhow::ensure!(
        most >= needed,
        "{calls} calls need {needed} open files, and only {most} are allowed; run `ulimit -n {needed}` first"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_read() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 1 0 0 0 250 131 0 0 20 0 3 0 99 1 1";
        assert_eq!(cpu(stat), Some(Duration::from_millis(3810)));
        let status = "Name:\tx\nVmHWM:\t  9000 kB\nVmRSS:\t    2816 kB\nThreads:\t3\n";
        assert_eq!(rss_kib(status), Some(2816));
        assert_eq!(threads(status), Some(3));
        let limits = "Limit   Soft  Hard  Units\nMax open files            1024                 4096      files\n";
        assert_eq!(most_fds(limits), Some(1024));
        let stat = "cpu  10 2 30 4000 50 6 7 8 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n";
        assert_eq!(busy(stat), Some(Duration::from_millis(630)));
        assert_eq!(busy("cpu 1 2"), None);
        assert_eq!(cpu(""), None);
        assert_eq!(rss_kib("VmRSS: many kB"), None);
        assert_eq!(threads("Threads:\tsome\n"), None);
        assert_eq!(most_fds(""), None);
    }

    #[test]
    fn this_process_can_be_looked_at() {
        let look = Process::own().look().unwrap();
        assert!(look.rss_kib > 0 && look.fds >= 3 && look.threads > 0);
    }

    #[test]
    fn too_small_a_limit_is_told_with_its_mend() {
        let error = room_for(usize::MAX >> 2, 2).unwrap_err().to_string();
        assert!(error.contains("ulimit -n"), "{error}");
    }
}
