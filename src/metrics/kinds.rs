//! Counters, gauges and histograms: atomics, and how each writes itself down.
//!
//! Counting is a relaxed add: no lock, no allocation, no lookup by name. Nothing is ever removed, and
//! what has labels has all of its rows from the start, so a rate is right from the first event on.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::{labels::Label, text::Samples};

/// What can be written down as one family.
pub trait Kind {
    const TYPE: &'static str;
    fn write(&self, samples: &mut Samples<'_>);
}

/// Only goes up.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub fn inc(&self) {
        self.add(1);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Kind for Counter {
    const TYPE: &'static str = "counter";

    fn write(&self, samples: &mut Samples<'_>) {
        samples.add("", &[], self.get());
    }
}

/// Goes up and down; whoever owns the thing sets it.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Kind for Gauge {
    const TYPE: &'static str = "gauge";

    fn write(&self, samples: &mut Samples<'_>) {
        samples.add("", &[], self.get());
    }
}

/// How long things took.
#[derive(Debug)]
pub struct Histogram {
    /// Upper bounds in seconds, inclusive, rising.
    bounds: &'static [f64],
    /// Not cumulative; the last is for what is beyond all bounds.
    counts: Box<[AtomicU64]>,
    sum_nanos: AtomicU64,
}

impl Histogram {
    pub fn new(bounds: &'static [f64]) -> Self {
        debug_assert!(bounds.is_sorted());
        Histogram {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum_nanos: AtomicU64::new(0),
        }
    }

    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let at = self.bounds.partition_point(|bound| *bound < seconds);
        self.counts[at].fetch_add(1, Relaxed);
        // Five centuries fit.
        self.sum_nanos.fetch_add(took.as_nanos() as u64, Relaxed);
    }

    fn write_with(&self, samples: &mut Samples<'_>, labels: &[(&str, &str)]) {
        let mut total = 0;
        for (n, count) in self.counts.iter().enumerate() {
            total += count.load(Relaxed);
            let bound = self.bounds.get(n);
            let bound = bound.map_or_else(|| "+Inf".to_owned(), f64::to_string);
            let labels = [labels, &[("le", &bound)]].concat();
            samples.add("_bucket", &labels, total);
        }
        let sum = Duration::from_nanos(self.sum_nanos.load(Relaxed));
        samples.add("_sum", labels, sum.as_secs_f64());
        samples.add("_count", labels, total);
    }
}

impl Kind for Histogram {
    const TYPE: &'static str = "histogram";

    fn write(&self, samples: &mut Samples<'_>) {
        self.write_with(samples, &[]);
    }
}

/// One of its kind for every row of a label.
#[derive(Debug)]
pub struct Each<L, K> {
    rows: Box<[K]>,
    label: std::marker::PhantomData<fn(L)>,
}

pub type Counters<L> = Each<L, Counter>;
pub type Histograms<L> = Each<L, Histogram>;

impl<L: Label, K> Each<L, K> {
    fn with(mut one: impl FnMut() -> K) -> Self {
        Each {
            rows: L::rows().iter().map(|_| one()).collect(),
            label: std::marker::PhantomData,
        }
    }

    pub fn of(&self, label: L) -> &K {
        &self.rows[label.row()]
    }

    fn labelled(&self) -> impl Iterator<Item = (Vec<(&'static str, &'static str)>, &K)> {
        let keys = |values: Vec<&'static str>| L::KEYS.iter().copied().zip(values).collect();
        L::rows().into_iter().map(keys).zip(&self.rows)
    }
}

impl<L: Label> Default for Counters<L> {
    fn default() -> Self {
        Each::with(Counter::default)
    }
}

impl<L: Label> Histograms<L> {
    pub fn new(bounds: &'static [f64]) -> Self {
        Each::with(|| Histogram::new(bounds))
    }
}

impl<L: Label> Kind for Counters<L> {
    const TYPE: &'static str = Counter::TYPE;

    fn write(&self, samples: &mut Samples<'_>) {
        for (labels, counter) in self.labelled() {
            samples.add("", &labels, counter.get());
        }
    }
}

impl<L: Label> Kind for Histograms<L> {
    const TYPE: &'static str = Histogram::TYPE;

    fn write(&self, samples: &mut Samples<'_>) {
        for (labels, histogram) in self.labelled() {
            histogram.write_with(samples, &labels);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{labels::Side, text::Text};

    fn written<K: Kind>(kind: &K) -> String {
        let mut text = Text::default();
        kind.write(&mut text.family("x", K::TYPE, "X."));
        text.finish()
    }

    #[test]
    fn a_small_registry_letter_by_letter() {
        let counters = Counters::<Side>::default();
        counters.of(Side::Agent).inc();
        counters.of(Side::Agent).add(41);
        assert_eq!(
            written(&counters),
            "# HELP x X.\n# TYPE x counter\nx{side=\"twilio\"} 0\nx{side=\"agent\"} 42\n"
        );
        let counter = Counter::default();
        counter.inc();
        assert_eq!(written(&counter), "# HELP x X.\n# TYPE x counter\nx 1\n");
    }

    #[test]
    fn buckets_are_cumulative_and_their_bounds_inclusive() {
        let histogram = Histogram::new(&[0.005, 0.25, 1.0]);
        for ms in [5, 6, 250, 251, 1000, 1001, 60_000] {
            histogram.observe(Duration::from_millis(ms));
        }
        assert_eq!(
            written(&histogram),
            "# HELP x X.\n# TYPE x histogram\n\
             x_bucket{le=\"0.005\"} 1\n\
             x_bucket{le=\"0.25\"} 3\n\
             x_bucket{le=\"1\"} 5\n\
             x_bucket{le=\"+Inf\"} 7\n\
             x_sum 62.513\n\
             x_count 7\n"
        );
    }

    #[test]
    fn a_histogram_with_labels_keeps_them_before_its_bounds() {
        let histograms = Histograms::<Side>::new(&[1.0]);
        histograms.of(Side::Twilio).observe(Duration::ZERO);
        assert_eq!(
            written(&histograms),
            "# HELP x X.\n# TYPE x histogram\n\
             x_bucket{side=\"twilio\",le=\"1\"} 1\n\
             x_bucket{side=\"twilio\",le=\"+Inf\"} 1\n\
             x_sum{side=\"twilio\"} 0\n\
             x_count{side=\"twilio\"} 1\n\
             x_bucket{side=\"agent\",le=\"1\"} 0\n\
             x_bucket{side=\"agent\",le=\"+Inf\"} 0\n\
             x_sum{side=\"agent\"} 0\n\
             x_count{side=\"agent\"} 0\n"
        );
    }
}
