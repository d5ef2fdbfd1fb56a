//! Frames matched from their sending to their arrival, and the times that they took.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// Frames of one call in one direction. They are numbered without holes and arrive in order, or
/// never.
#[derive(Default)]
pub struct Ledger {
    /// The number of the first in `sent`; those before it have arrived or are lost.
    first: Option<u64>,
    sent: VecDeque<Instant>,
    /// Arrivals whose sending has not been told yet: the teller runs beside the frame.
    early: VecDeque<(u64, Instant)>,
    /// One more than the highest number that has arrived.
    arrived: u64,
    skipped: u64,
}

impl Ledger {
    /// More early arrivals than that are not early but wrong.
    const MOST_EARLY: usize = 64;

    /// A frame was sent. `Some`: it had arrived by then, at this time.
    pub fn sent(&mut self, number: u64, at: Instant) -> Option<Instant> {
        if self.first.is_none() && number < self.arrived {
            return None;
        }
        self.first.get_or_insert(number);
        if let Some((early, arrived)) = self.early.front().copied()
            && early == number
            && self.sent.is_empty()
        {
            self.early.pop_front();
            self.first = Some(number + 1);
            return Some(arrived);
        }
        self.sent.push_back(at);
        None
    }

    /// A frame arrived; returns when it was sent, if that is known.
    pub fn arrived(&mut self, number: u64, at: Instant) -> Option<Instant> {
        self.arrived = self.arrived.max(number + 1);
        // From before the books were opened.
        let first = self.first?;
        let place = number.checked_sub(first)? as usize;
        if place >= self.sent.len() {
            if self.early.len() < Self::MOST_EARLY {
                self.early.push_back((number, at));
            }
            return None;
        }
        self.skipped += place as u64;
        self.first = Some(number + 1);
        self.sent.drain(..=place).next_back()
    }

    /// Whether anything has arrived.
    pub fn is_open(&self) -> bool {
        self.arrived > 0
    }

    /// Frames sent before `end` that were overtaken, or have not arrived by now.
    pub fn missing(&self, end: Instant) -> u64 {
        self.skipped + self.sent.partition_point(|sent| *sent < end) as u64
    }
}

/// Durations in nanoseconds, counted in buckets of one sixty-fourth of their size or less.
pub struct Histogram {
    buckets: Box<[AtomicU64]>,
    count: AtomicU64,
    max: AtomicU64,
}

/// Buckets an octave, as a power of two.
const FINE: u32 = 6;

impl Default for Histogram {
    fn default() -> Self {
        let buckets = bucket(u64::MAX) + 1;
        Histogram {
            buckets: (0..buckets).map(|_| AtomicU64::new(0)).collect(),
            count: AtomicU64::new(0),
            max: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    pub fn record(&self, took: Duration) {
        let ns = took.as_nanos().min(u128::from(u64::MAX)) as u64;
        self.buckets[bucket(ns)].fetch_add(1, Relaxed);
        self.count.fetch_add(1, Relaxed);
        self.max.fetch_max(ns, Relaxed);
    }

    pub fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// Exact.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max.load(Relaxed))
    }

    /// The smallest duration that this share of all is not above (nearest rank), up to 1.6 % too
    /// large. Zero if there are none.
    pub fn quantile(&self, share: f64) -> Duration {
        let rank = ((self.count() as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let found = self.buckets.iter().position(|bucket| {
            seen += bucket.load(Relaxed);
            seen >= rank
        });
        found.map_or(Duration::ZERO, |index| {
            Duration::from_nanos(largest(index)).min(self.max())
        })
    }
}

fn bucket(ns: u64) -> usize {
    let octave = (ns | 1).ilog2();
    match octave.checked_sub(FINE) {
        None => ns as usize,
        Some(shift) => ((shift as usize) << FINE) + (ns >> shift) as usize,
    }
}

/// The largest value that falls into a bucket.
fn largest(index: usize) -> u64 {
    match (index >> FINE).checked_sub(1) {
        None => index as u64,
        Some(shift) => {
            let mantissa = (index - (shift << FINE)) as u64;
            (mantissa << shift) | ((1 << shift) - 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_frame_is_matched_by_its_number() {
        let start = Instant::now();
        let mut ledger = Ledger::default();
        for number in 0..5 {
            assert_eq!(ledger.sent(number, start + ms(20 * number)), None);
        }
        assert!(!ledger.is_open());
        assert_eq!(ledger.arrived(0, start + ms(1)), Some(start));
        assert!(ledger.is_open());
        assert_eq!(ledger.arrived(1, start + ms(22)), Some(start + ms(20)));
        assert_eq!(ledger.missing(start + ms(1000)), 3);
        assert_eq!(ledger.missing(start + ms(60)), 1);
    }

    #[test]
    fn an_overtaken_frame_is_lost_for_good() {
        let start = Instant::now();
        let mut ledger = Ledger::default();
        for number in 0..4 {
            ledger.sent(number, start + ms(number));
        }
        assert_eq!(ledger.arrived(2, start + ms(9)), Some(start + ms(2)));
        assert_eq!(ledger.arrived(1, start + ms(9)), None);
        assert_eq!(ledger.arrived(3, start + ms(9)), Some(start + ms(3)));
        assert_eq!(ledger.missing(start + ms(1000)), 2);
    }

    #[test]
    fn books_that_are_opened_late_ignore_what_was_before() {
        let start = Instant::now();
        let mut ledger = Ledger::default();
        assert_eq!(ledger.arrived(0, start), None);
        assert_eq!(ledger.arrived(1, start), None);
        assert_eq!(ledger.sent(1, start), None, "told late");
        assert_eq!(ledger.sent(2, start), None);
        assert_eq!(ledger.arrived(1, start), None);
        assert_eq!(ledger.arrived(2, start + ms(1)), Some(start));
        assert_eq!(ledger.missing(start + ms(1000)), 0);
    }

    #[test]
    fn a_frame_may_arrive_before_its_sending_is_told() {
        let start = Instant::now();
        let mut ledger = Ledger::default();
        ledger.sent(0, start);
        assert_eq!(ledger.arrived(0, start), Some(start));
        assert_eq!(ledger.arrived(1, start + ms(5)), None);
        assert_eq!(ledger.sent(1, start + ms(6)), Some(start + ms(5)));
        assert_eq!(ledger.sent(2, start + ms(7)), None);
        assert_eq!(ledger.arrived(2, start + ms(8)), Some(start + ms(7)));
        assert_eq!(ledger.missing(start + ms(1000)), 0);
    }

    #[test]
    fn every_value_is_in_a_bucket_that_is_not_much_larger() {
        let mut last = 0;
        for ns in (0..300).chain((9..64).flat_map(|bit| [(1 << bit) - 1, 1 << bit, 3 << (bit - 1)]))
        {
            let (index, top) = (bucket(ns), largest(bucket(ns)));
            assert!(index >= last, "{ns}");
            assert!(top >= ns && top - ns <= ns >> FINE, "{ns} {top}");
            assert_eq!(bucket(top), index, "{ns}");
            last = index;
        }
        assert_eq!(largest(bucket(u64::MAX)), u64::MAX);
    }

    #[test]
    fn quantiles_are_by_nearest_rank() {
        let histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.99), Duration::ZERO);
        for n in 1..=1000u64 {
            histogram.record(Duration::from_micros(n));
        }
        let near = |share, micros: f64| {
            let got = histogram.quantile(share).as_secs_f64() * 1e6;
            assert!(got >= micros && got <= micros * 1.016, "{share}: {got}");
        };
        near(0.5, 500.0);
        near(0.99, 990.0);
        assert_eq!(histogram.quantile(1.0), Duration::from_micros(1000));
        assert_eq!(histogram.max(), Duration::from_micros(1000));
        assert_eq!(histogram.count(), 1000);
    }
}
