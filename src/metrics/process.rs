//! What the system knows of this process: what a leak would make grow.

use std::fs;

use crate::files;

/// The kernel's USER_HZ, in which `/proc` counts on every machine that this runs on.
const TICKS_A_SECOND: f64 = 100.0;

/// One look; `None` where the system does not tell.
pub struct Process {
    pub tasks: Option<usize>,
    pub open_fds: Option<usize>,
    pub max_fds: Option<u64>,
    pub rss_bytes: Option<u64>,
    /// User and system time so far.
    pub cpu_seconds: Option<f64>,
}

impl Process {
    pub fn now() -> Self {
        Process {
            tasks: tokio::runtime::Handle::try_current()
                .ok()
                .map(|runtime| runtime.metrics().num_alive_tasks()),
            // Listing the directory holds one of its own open.
            open_fds: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|fds| fds.count().saturating_sub(1)),
            max_fds: files::limit(),
            // Not `statm`: that counts pages, and the size of a page is not to be had without libc.
            rss_bytes: fs::read_to_string("/proc/self/status")
                .ok()
                .and_then(|text| rss(&text)),
            cpu_seconds: fs::read_to_string("/proc/self/stat")
                .ok()
                .and_then(|text| cpu(&text)),
        }
    }
}

/// `VmRSS:     5432 kB` in bytes.
fn rss(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Fields 14 and 15, proc(5). The name in parentheses may hold anything, spaces too.
fn cpu(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((ticks()? as f64 + ticks()? as f64) / TICKS_A_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_in_bytes() {
        assert_eq!(rss("Name:\tx\nVmRSS:\t    5432 kB\n"), Some(5_562_368));
        assert_eq!(rss("Name:\tx\n"), None);
        assert_eq!(rss("VmRSS:\t99999999999999999999 kB"), None);
    }

    #[test]
    fn processor_time_is_read_in_seconds() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 9 0 0 0 150 25 3 4 20 0 3 0 1234 5 6";
        assert_eq!(cpu(stat), Some(1.75));
        assert_eq!(cpu("7 (a) S 1"), None);
    }
}
