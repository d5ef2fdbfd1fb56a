//! What to do when `accept(2)` fails: go on, more slowly, and say so once.
//!
//! A connection that cannot be accepted waits in the kernel's backlog; nothing else in the house is
//! touched by it, least of all the calls that are up. Each loop that accepts has an [`Accepting`]: it
//! counts what fails, tells the first failure with what mends it, says how long to wait before the
//! next try, and tells when it works again.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    files,
    metrics::{Metrics, labels::Door},
};

/// After the first failure; doubled with each that follows, up to the second.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];

/// How one loop fares.
pub struct Accepting {
    door: Door,
    metrics: Arc<Metrics>,
    trouble: Option<Trouble>,
}

struct Trouble {
    since: Instant,
    failures: u64,
    pause: Duration,
}

impl Accepting {
    pub fn new(door: Door, metrics: Arc<Metrics>) -> Self {
        Accepting {
            door,
            metrics,
            trouble: None,
        }
    }

    /// A connection was accepted.
    pub fn works(&mut self) {
        if let Some(trouble) = self.trouble.take() {
            tracing::warn!(
                limited = true,
                listener = self.door.as_str(),
                failures = trouble.failures,
                seconds = trouble.since.elapsed().as_secs(),
                "connections are accepted again"
            );
        }
    }

    /// None was. How long to wait before the next try; `None` where only the peer is to blame.
    pub fn fails(&mut self, error: &io::Error) -> Option<Duration> {
        if is_the_peers(error) {
            return None;
        }
        self.metrics.accept_failures.of(self.door).inc();
        if let Some(trouble) = &mut self.trouble {
            trouble.failures += 1;
            trouble.pause = (trouble.pause * 2).min(PAUSES[1]);
            return Some(trouble.pause);
        }
        tracing::error!(
            limited = true,
            listener = self.door.as_str(),
            %error,
            "cannot accept connections; {}. They wait, and calls that are up go on",
            remedy(error)
        );
        self.trouble = Some(Trouble {
            since: Instant::now(),
            failures: 1,
            pause: PAUSES[0],
        });
        Some(PAUSES[0])
    }
}

/// Network errors of one connection, which `accept(2)` reports as its own.
fn is_the_peers(error: &io::Error) -> bool {
    use io::ErrorKind::*;
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | ConnectionRefused | TimedOut
    )
}

fn remedy(error: &io::Error) -> &'static str {
    const ENOMEM: i32 = 12;
    const ENOBUFS: i32 = 105;
    match error.raw_os_error() {
        _ if files::are_spent(error) => {
            "raise LimitNOFILE= in the unit (ulimit -n elsewhere), or lower calls.max_concurrent"
        }
        Some(ENOMEM | ENOBUFS) => "the machine is out of memory for sockets",
        _ => "the reason is the system's",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peers_own_errors_cost_nothing_and_ours_a_growing_pause() {
        let metrics = Arc::new(Metrics::default());
        let mut accepting = Accepting::new(Door::Http, metrics.clone());
        let fails = |accepting: &mut Accepting, number| {
            accepting.fails(&io::Error::from_raw_os_error(number))
        };
        // ECONNABORTED.
        assert_eq!(fails(&mut accepting, 103), None);
        assert_eq!(metrics.accept_failures.of(Door::Http).get(), 0);
        let pauses: Vec<_> = [24, 23, 12, 24, 24, 24, 24]
            .map(|number| fails(&mut accepting, number).map(|pause| pause.as_millis()))
            .to_vec();
        let expected = [100, 200, 400, 800, 1000, 1000, 1000].map(Some);
        assert_eq!(pauses, expected);
        assert_eq!(metrics.accept_failures.of(Door::Http).get(), 7);
        assert_eq!(metrics.accept_failures.of(Door::Admin).get(), 0);
        accepting.works();
        assert_eq!(fails(&mut accepting, 24), Some(PAUSES[0]), "begun anew");
    }

    #[test]
    fn what_mends_it_is_said_where_it_is_known() {
        let remedy = |number| remedy(&io::Error::from_raw_os_error(number));
        assert!(remedy(24).contains("LimitNOFILE="));
        assert!(remedy(105).contains("memory"));
        assert!(!remedy(1).contains("LimitNOFILE="));
    }
}
