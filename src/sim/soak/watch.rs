//! A process watched for long: what it takes, and whether that grows.

use std::time::Instant;

use crate::sim::measure::process::{Look, Process};

/// One look and its time, in seconds since the watch began.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub at: f64,
    pub look: Look,
}

pub struct Watch {
    process: Process,
    began: Instant,
    samples: Vec<Sample>,
}

impl Watch {
    pub fn over(process: Process) -> Watch {
        Watch {
            process,
            began: Instant::now(),
            samples: Vec::new(),
        }
    }

    pub fn look(&mut self) -> anyhow::Result<Look> {
        let look = self.process.look()?;
        self.samples.push(Sample {
            at: self.began.elapsed().as_secs_f64(),
            look,
        });
        Ok(look)
    }

    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }
}

/// Growth of the resident set in KiB a minute, by least squares. `None`: there are too few samples,
/// or all of one moment.
pub fn slope(samples: &[Sample]) -> Option<f64> {
    let points = samples
        .iter()
        .map(|sample| (sample.at / 60.0, sample.look.rss_kib as f64));
    let count = samples.len() as f64;
    let (sum_x, sum_y) = points
        .clone()
        .fold((0.0, 0.0), |(sum_x, sum_y), (x, y)| (sum_x + x, sum_y + y));
    let (mean_x, mean_y) = (sum_x / count, sum_y / count);
    let (mut over, mut under) = (0.0, 0.0);
    for (x, y) in points {
        over += (x - mean_x) * (y - mean_y);
        under += (x - mean_x) * (x - mean_x);
    }
    (samples.len() >= 3 && under > 0.0).then(|| over / under)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(of: &[(f64, u64)]) -> Vec<Sample> {
        let look = Process::own().look().unwrap();
        of.iter()
            .map(|&(at, rss_kib)| Sample {
                at,
                look: Look { rss_kib, ..look },
            })
            .collect()
    }

    #[test]
    fn a_line_has_its_slope_and_a_flat_one_none() {
        let line: Vec<(f64, u64)> = (0..50).map(|n| (n as f64 * 6.0, 5000 + n * 3)).collect();
        let growth = slope(&samples(&line)).unwrap();
        assert!((growth - 30.0).abs() < 1e-6, "{growth}");
        let flat: Vec<(f64, u64)> = (0..50).map(|n| (n as f64, 7000 + n % 2)).collect();
        assert!(slope(&samples(&flat)).unwrap().abs() < 1.0);
        assert_eq!(slope(&samples(&[(0.0, 1), (1.0, 2)])), None);
        assert_eq!(slope(&samples(&[(1.0, 1), (1.0, 2), (1.0, 3)])), None);
        assert_eq!(slope(&[]), None);
    }
}
