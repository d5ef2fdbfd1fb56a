//! From an agent's sample rate down to the telephone's 8 kHz, and up again.
//!
//! A [`Downsampler`] is one stream's linear-phase FIR filter, a rational L/M polyphase: 48 kHz is 1/6,
//! 24 kHz 1/3, 44.1 kHz 80/441, all by the same code. It keeps speech up to 3.4 kHz within 0.1 dB and
//! puts everything that would fold back from 4.6 kHz upwards more than 70 dB down, at a delay just under
//! 2 ms ([`Downsampler::delay`]). 8 kHz passes through untouched and undelayed.
//!
//! How a stream was cut into pushes never changes a sample: all of its history is kept. The start of
//! the output is the filter's delay, [`Downsampler::flush`] is its other end. Results are rounded to
//! the nearest and saturate; nothing wraps, nothing panics, and once the buffers are warm nothing
//! allocates. Coefficients are computed once per rate and shared by all calls; a stream of its own
//! holds only the last few milliseconds of input.

use std::f64::consts::PI;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;

/// The telephone's rate, in Hz.
const TELEPHONE: u32 = 8_000;
/// The highest rate taken, in Hz; with it the largest table is bounded, whatever a header says.
const HIGHEST: u32 = 192_000;
/// The most phases a table may have.
const MOST_PHASES: u32 = 640;

/// The middle of the transition from speech (3,400 Hz) to what would fold back into it (4,600 Hz), in Hz;
/// a little towards speech, whose hundredths of a decibel nobody hears, for the sake of the stop band.
const CUTOFF: f64 = 3_970.0;
/// The filter's length in milliseconds of input. Longer is steeper, and half of it is the delay.
const LENGTH_MS: u32 = 4;
/// Kaiser's beta for a stop band of about 77 dB, which is what the length affords for this transition.
const KAISER_BETA: f64 = 7.5;

/// Coefficients are padded to full strides of this many, the width at which the products add up.
const STRIDE: usize = 16;
/// The longest filter: that of [`HIGHEST`].
const MOST_TAPS: usize = (HIGHEST * LENGTH_MS / 1_000) as usize;

/// A rate from which there is no way to 8 kHz here, in Hz.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "cannot resample {0} Hz to 8000 Hz; let the agent send 8000, 16000, 24000, 44100 or 48000 Hz"
)]
pub struct UnsupportedRate(pub u32);

/// The rates to which the telephone's is brought, in Hz.
const WIDER: [u32; 4] = [8_000, 16_000, 24_000, 48_000];

/// A rate to which there is no way from 8 kHz here, in Hz.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("cannot resample 8000 Hz to {0} Hz; let the agent take 8000, 16000, 24000 or 48000 Hz")]
pub struct UnsupportedTarget(pub u32);

/// One stream's way up from 8 kHz: the same filter, run at the higher rate. What speech leaves mirrored
/// above 4.6 kHz is as far down as what folds back on the other way; there is nothing new to be heard.
#[derive(Clone, Debug)]
pub struct Upsampler {
    stream: Downsampler,
    rate: u32,
}

impl Upsampler {
    /// A filter for output at `rate` Hz: 8,000, 16,000, 24,000 or 48,000.
    pub fn new(rate: u32) -> Result<Self, UnsupportedTarget> {
        if !WIDER.contains(&rate) {
            return Err(UnsupportedTarget(rate));
        }
        let stream = match rate {
            TELEPHONE => Downsampler::with(None),
            _ => Downsampler::with(Some(shared(TELEPHONE, rate / TELEPHONE, 1))),
        };
        Ok(Upsampler { stream, rate })
    }

    /// The output's rate, in Hz.
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// Appends to `out` every sample that is complete with `input`: as many for each as the rates differ.
    pub fn push(&mut self, input: &[i16], out: &mut Vec<i16>) {
        self.stream.push(input, out);
    }
}

/// One stream's way down to 8 kHz.
#[derive(Clone, Debug)]
pub struct Downsampler {
    /// None at 8 kHz, where there is nothing to do.
    table: Option<Arc<Table>>,
    /// The last `taps - 1` input samples, silence at first; during a push, as many of the new behind them.
    history: Vec<i16>,
    /// Where the next output's window begins, in samples from the beginning of `history`.
    next: usize,
    /// Which row of the table the next output takes.
    phase: usize,
    /// Whether samples have come that a flush must bring out.
    pending: bool,
}

impl Downsampler {
    /// A filter for input at `from_rate` Hz: 8,000 to 192,000, if its ratio to 8,000 needs no more than
    /// 640 phases. All usual rates qualify.
    pub fn new(from_rate: u32) -> Result<Self, UnsupportedRate> {
        Ok(Downsampler::with(match from_rate {
            TELEPHONE => None,
            _ => Some(table_for(from_rate)?),
        }))
    }

    fn with(table: Option<Arc<Table>>) -> Self {
        let history = match &table {
            None => vec![],
            Some(table) => {
                let mut history = Vec::with_capacity(2 * (table.taps - 1));
                history.resize(table.taps - 1, 0);
                history
            }
        };
        Downsampler {
            table,
            history,
            next: 0,
            phase: 0,
            pending: false,
        }
    }

    /// The input's rate, in Hz.
    pub fn from_rate(&self) -> u32 {
        self.table.as_ref().map_or(TELEPHONE, |table| table.rate)
    }

    /// By how much the output lags behind the input, at every frequency.
    pub fn delay(&self) -> Duration {
        self.table
            .as_ref()
            .map_or(Duration::ZERO, |table| table.delay)
    }

    /// Appends to `out` every 8 kHz sample that is complete with `input`.
    pub fn push(&mut self, input: &[i16], out: &mut Vec<i16>) {
        let Some(table) = &self.table else {
            out.extend_from_slice(input);
            return;
        };
        if input.is_empty() {
            return;
        }
        self.pending = true;
        out.reserve(input.len() * table.up / table.down + 1);

        // Windows that begin in the history see the joint; all others read the input where it lies.
        let kept = table.taps - 1;
        let joint = input.len().min(kept);
        self.history.extend_from_slice(&input[..joint]);
        while self.next < kept
            && let Some(window) = self.history.get(self.next..self.next + table.taps)
        {
            out.push(table.sample(self.phase, window));
            (self.next, self.phase) = table.step(self.next, self.phase);
        }
        if self.next >= kept {
            while let Some(window) = input.get(self.next - kept..self.next - kept + table.taps) {
                out.push(table.sample(self.phase, window));
                (self.next, self.phase) = table.step(self.next, self.phase);
            }
        }

        if joint == kept {
            self.history.clear();
            self.history.extend_from_slice(&input[input.len() - kept..]);
        } else {
            self.history.drain(..joint);
        }
        // Every window that begins among the first `input.len()` samples was complete.
        self.next -= input.len();
    }

    /// Appends what the filter still holds of the last samples, until nothing of them is left in it:
    /// exactly what silence would push out. Then the stream is as new.
    pub fn flush(&mut self, out: &mut Vec<i16>) {
        let Some(table) = self.table.as_ref().filter(|_| self.pending) else {
            return;
        };
        static SILENCE: [i16; MOST_TAPS] = [0; MOST_TAPS];
        let silence = &SILENCE[..table.designed - 1];
        self.push(silence, out);
        self.history.fill(0);
        self.next = 0;
        self.phase = 0;
        self.pending = false;
    }
}

/// The coefficients for one input rate.
#[derive(Debug)]
struct Table {
    rate: u32,
    /// L and M: the rate times `up` over `down` is the output's.
    up: usize,
    down: usize,
    /// Coefficients a phase, as designed and as padded to full strides.
    designed: usize,
    taps: usize,
    /// How many of a coefficient's bits stand behind the point.
    shift: u32,
    /// `up` rows of `taps`, each in the order of the samples (oldest first).
    coefficients: Vec<i16>,
    delay: Duration,
}

impl Table {
    fn new(rate: u32, up: u32, down: u32) -> Table {
        let designed = (rate * LENGTH_MS / 1_000) as usize;
        let taps = designed.next_multiple_of(STRIDE);
        let (up, down) = (up as usize, down as usize);
        let prototype = low_pass(designed * up, f64::from(rate) * up as f64);

        // Row p takes every L-th coefficient from the p-th on: the others would meet only the zeros that
        // stand between the samples at L times the rate.
        let mut exact = Vec::with_capacity(up * taps);
        for phase in 0..up {
            exact.resize(phase * taps + taps - designed, 0.0);
            let row = prototype[phase..].iter().step_by(up);
            exact.extend(row.rev().map(|h| h * up as f64));
        }

        // As many bits behind the point as the arithmetic of `sample` allows. A longer filter has smaller
        // coefficients, and at Q15 their rounding alone would spoil the stop band of 48 kHz.
        let (shift, coefficients) = (0..=20)
            .rev()
            .find_map(|shift| Some((shift, quantised(&exact, shift, taps)?)))
            .expect("coefficients without fractional bits are at most one");

        let half = (designed * up - 1) as f64 / 2.0;
        let delay = Duration::from_secs_f64(half / (f64::from(rate) * up as f64));
        Table {
            rate,
            up,
            down,
            designed,
            taps,
            shift,
            coefficients,
            delay,
        }
    }

    /// The output at `phase` for the `taps` samples in `window`.
    #[inline]
    fn sample(&self, phase: usize, window: &[i16]) -> i16 {
        let row = &self.coefficients[phase * self.taps..][..self.taps];
        let (window, _) = window.as_chunks::<STRIDE>();
        let (row, _) = row.as_chunks::<STRIDE>();
        // One lane a place, because then all of it vectorises on any target. No lane can overflow
        // (`quantised` saw to it), but the sum of the lanes may.
        let mut lanes = [0i32; STRIDE];
        for (x, h) in window.iter().zip(row) {
            for lane in 0..STRIDE {
                lanes[lane] += i32::from(x[lane]) * i32::from(h[lane]);
            }
        }
        let sum: i64 = lanes.into_iter().map(i64::from).sum();
        let rounded = (sum + ((1 << self.shift) >> 1)) >> self.shift;
        rounded.clamp(i64::from(i16::MIN), i64::from(i16::MAX)) as i16
    }

    /// Window and phase of the output after that at `next` and `phase`.
    #[inline]
    fn step(&self, next: usize, phase: usize) -> (usize, usize) {
        let phase = phase + self.down;
        (next + phase / self.up, phase % self.up)
    }
}

/// A windowed sinc of `taps` coefficients with unit gain at 0 Hz.
fn low_pass(taps: usize, rate: f64) -> Vec<f64> {
    let centre = (taps - 1) as f64 / 2.0;
    let mut h: Vec<f64> = (0..taps)
        .map(|n| {
            let from_centre = n as f64 - centre;
            let angle = 2.0 * PI * CUTOFF / rate * from_centre;
            let sinc = if angle == 0.0 {
                1.0
            } else {
                angle.sin() / angle
            };
            let edge = from_centre / centre;
            sinc * bessel_i0(KAISER_BETA * (1.0 - edge * edge).max(0.0).sqrt())
        })
        .collect();
    let gain: f64 = h.iter().sum();
    h.iter_mut().for_each(|h| *h /= gain);
    h
}

/// The modified Bessel function of order zero, which shapes Kaiser's window.
fn bessel_i0(x: f64) -> f64 {
    let mut term = 1.0;
    let mut sum = 1.0;
    for k in 1..50 {
        term *= (x / 2.0 / f64::from(k)).powi(2);
        sum += term;
        if term < sum * 1e-17 {
            break;
        }
    }
    sum
}

/// `exact` with `shift` bits behind the point; None if a coefficient does not fit 16 bits, or if some
/// input, however loud and however wicked, could overflow a lane of [`Table::sample`].
fn quantised(exact: &[f64], shift: u32, taps: usize) -> Option<Vec<i16>> {
    let scale = f64::from(1u32 << shift);
    let fits = |h: &f64| i16::try_from((h * scale).round() as i64).ok();
    let coefficients: Vec<i16> = exact.iter().map(fits).collect::<Option<_>>()?;

    let loudest = i64::from(i16::MIN).abs();
    let lane_fits = |row: &[i16], lane: usize| {
        let weight: i64 = row[lane..]
            .iter()
            .step_by(STRIDE)
            .map(|&h| i64::from(h).abs())
            .sum();
        weight * loudest <= i64::from(i32::MAX)
    };
    coefficients
        .chunks_exact(taps)
        .all(|row| (0..STRIDE).all(|lane| lane_fits(row, lane)))
        .then_some(coefficients)
}

/// How many tables are kept. Agents have a handful of rates; if one keeps inventing others, the tables
/// that no stream holds make room, and if all are held, the new one is its stream's alone.
const MOST_TABLES: usize = 8;
static TABLES: Mutex<Vec<Arc<Table>>> = Mutex::new(Vec::new());

/// The table for `rate` down to 8 kHz.
fn table_for(rate: u32) -> Result<Arc<Table>, UnsupportedRate> {
    let divisor = greatest_common_divisor(TELEPHONE, rate);
    let (up, down) = (TELEPHONE / divisor, rate / divisor);
    if !(TELEPHONE..=HIGHEST).contains(&rate) || up > MOST_PHASES {
        return Err(UnsupportedRate(rate));
    }
    Ok(shared(rate, up, down))
}

/// The shared table for `rate` times `up` over `down`, made on first use.
fn shared(rate: u32, up: u32, down: u32) -> Arc<Table> {
    let tables = || TABLES.lock().unwrap_or_else(PoisonError::into_inner);
    let wanted = (rate, up as usize, down as usize);
    let find = |tables: &[Arc<Table>]| {
        let mut those = tables.iter();
        those
            .find(|table| (table.rate, table.up, table.down) == wanted)
            .cloned()
    };
    if let Some(known) = find(&tables()) {
        return known;
    }
    // Not under the lock: an odd rate takes milliseconds, and other calls want their tables meanwhile.
    let made = Arc::new(Table::new(rate, up, down));
    let mut tables = tables();
    if let Some(quicker) = find(&tables) {
        return quicker;
    }
    if tables.len() >= MOST_TABLES {
        tables.retain(|table| Arc::strong_count(table) > 1);
    }
    if tables.len() < MOST_TABLES {
        tables.push(Arc::clone(&made));
    }
    made
}

fn greatest_common_divisor(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_that_keep_inventing_rates_do_not_fill_the_memory() {
        let steady = Downsampler::new(48_000).unwrap();
        let invented = |n: u32| Downsampler::new(9_600 + 320 * n).unwrap();
        let held: Vec<_> = (0..20).map(invented).collect();
        assert!(TABLES.lock().unwrap().len() <= MOST_TABLES);
        drop(held);
        for n in 0..20 {
            invented(n);
            assert!(TABLES.lock().unwrap().len() <= MOST_TABLES);
        }
        // A rate that a call has been using all the while is not computed anew.
        let again = Downsampler::new(48_000).unwrap();
        assert!(Arc::ptr_eq(
            steady.table.as_ref().unwrap(),
            again.table.as_ref().unwrap()
        ));
    }

    #[test]
    fn nothing_is_allocated_once_the_buffers_are_warm() {
        let mut out = Vec::with_capacity(801);
        for rate in [48_000, 44_100, 24_000] {
            let mut stream = Downsampler::new(rate).unwrap();
            let room = stream.history.capacity();
            let tenth = vec![1_000; rate as usize / 10];
            for cut in [tenth.len(), 1, 20, 191, 192, 193, 1_000] {
                out.clear();
                stream.push(&tenth[..cut], &mut out);
                out.clear();
                stream.flush(&mut out);
            }
            assert_eq!(
                (stream.history.capacity(), out.capacity()),
                (room, 801),
                "{rate} Hz"
            );
        }
    }

    #[test]
    fn every_table_uses_the_bits_it_has() {
        for (rate, up, down, shift) in [
            (48_000, 1, 6, 17),
            (44_100, 80, 441, 17),
            (24_000, 1, 3, 16),
        ] {
            let table = Table::new(rate, up, down);
            assert_eq!(table.shift, shift, "{rate} Hz");
            assert!(table.taps.is_multiple_of(STRIDE) && table.taps <= MOST_TAPS);
            assert_eq!(table.coefficients.len(), up as usize * table.taps);
        }
    }
}
