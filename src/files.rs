//! How many files this process may have open, and what it looks like when there are no more.
//!
//! A call has two sockets, and everything else that is open has to find room beside the calls. The
//! limit is the unit's (`LimitNOFILE=`) or the shell's; nothing here changes it.

use std::{fs, io};

/// Listeners, logs, the runtime, a few clients of the private listener and the control socket.
pub const BESIDE_CALLS: u64 = 64;

/// What so many calls at once need.
pub fn needed(max_concurrent: usize) -> u64 {
    BESIDE_CALLS.saturating_add((max_concurrent as u64).saturating_mul(2))
}

/// This process' limit; `None` where the system does not say.
pub fn limit() -> Option<u64> {
    limit_of("/proc/self/limits")
}

/// The limit of the process whose `/proc/PID/limits` this is.
pub fn limit_of(path: &str) -> Option<u64> {
    soft(&fs::read_to_string(path).ok()?)
}

/// `Max open files  1024  1048576  files`, proc(5).
fn soft(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// The process' limit is reached (EMFILE), or the whole machine's (ENFILE).
pub fn are_spent(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_the_soft_one() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max cpu time              unlimited            unlimited            seconds\n\
                      Max open files            1024                 1048576              files\n";
        assert_eq!(soft(limits), Some(1024));
        let unlimited = soft("Max open files unlimited unlimited files");
        assert_eq!(unlimited, Some(u64::MAX));
        assert_eq!(soft(""), None);
        assert!(limit().is_some(), "this system says it");
        assert_eq!((needed(500), needed(usize::MAX)), (1064, u64::MAX));
    }

    #[test]
    fn an_error_for_want_of_files_is_known_by_its_number() {
        for (number, spent) in [(24, true), (23, true), (12, false), (111, false)] {
            assert_eq!(are_spent(&io::Error::from_raw_os_error(number)), spent);
        }
        assert!(!are_spent(&io::Error::other("too many open files")));
    }
}
