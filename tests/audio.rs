//! What a caller hears, measured: G.711 against two independent judges, and the way from an agent's
//! WAV down to 8 kHz against what a telephone engineer would ask of it.
//!
//! `cargo test --test audio -- --nocapture` prints the figures.

use std::f64::consts::TAU;

use hume_bridge::audio::resample::{Downsampler, UnsupportedRate, UnsupportedTarget, Upsampler};
use hume_bridge::audio::{g711, wav};

/// The rates that agents send, in Hz; the goals are held for these with a fine sweep.
const AGENT_RATES: [u32; 3] = [48_000, 44_100, 24_000];
/// What else a WAV may bring.
const OTHER_RATES: [u32; 9] = [
    9_600, 11_025, 12_000, 16_000, 22_050, 32_000, 88_200, 96_000, 192_000,
];

// --- G.711 -----------------------------------------------------------------------------------------

/// G.711 table 2a by its definition, scaled from 14 bits to 16: the decision value at which each of the
/// 128 intervals of a magnitude begins. Eight segments of sixteen steps, each step twice the last
/// segment's; only the very first interval, around zero, is half a step.
fn decision_values() -> [i32; 128] {
    let mut values = [0; 128];
    let mut end = 0;
    for (interval, value) in values.iter_mut().enumerate() {
        *value = end;
        let step = 2 << (interval / 16);
        end += 4 * if interval == 0 { 1 } else { step };
    }
    values
}

/// The output value of an interval: its middle, and for the first one zero.
fn output_value(interval: usize) -> i32 {
    let values = decision_values();
    let end = values.get(interval + 1).copied().unwrap_or(4 * 8_159);
    if interval == 0 {
        0
    } else {
        (values[interval] + end) / 2
    }
}

/// The code of an interval as it goes over the line: sign bit set for positive, all other bits inverted.
fn code(negative: bool, interval: usize) -> u8 {
    !(interval as u8 | if negative { 0x80 } else { 0 })
}

#[test]
fn every_code_decodes_to_the_output_value_of_its_interval() {
    for interval in 0..128 {
        assert_eq!(
            i32::from(g711::decode(code(false, interval))),
            output_value(interval)
        );
        assert_eq!(
            i32::from(g711::decode(code(true, interval))),
            -output_value(interval)
        );
    }
    for code in 0..=255 {
        assert_eq!(
            g711::decode(code),
            audio_codec_algorithms::decode_ulaw(code),
            "code {code:#04x}"
        );
    }
    assert_eq!(g711::decode(g711::SILENCE), 0);
}

#[test]
fn every_sample_encodes_to_the_interval_it_lies_in() {
    let decisions = decision_values();
    let mut differing = vec![];
    for sample in i16::MIN..=i16::MAX {
        let magnitude = i32::from(sample).abs();
        let interval = decisions
            .iter()
            .rposition(|&begin| begin <= magnitude)
            .unwrap();
        let ours = g711::encode(sample);
        assert_eq!(ours, code(sample < 0, interval), "sample {sample}");

        let theirs = audio_codec_algorithms::encode_ulaw(sample);
        if ours != theirs {
            // The G.191 form takes the ones' complement of a negative sample. That makes a difference
            // only on a decision value itself, which G.711 gives to neither neighbour: both codes stand.
            assert!(
                sample < 0 && magnitude == decisions[interval],
                "sample {sample}"
            );
            assert_eq!(theirs, code(true, interval - 1), "sample {sample}");
            differing.push(sample);
        }
    }
    println!(
        "mu-law: 65,536 samples as by definition; {} on a decision value differ from G.191's",
        differing.len()
    );
    assert_eq!(
        differing.len(),
        127,
        "every negative decision value but zero"
    );
}

#[test]
fn a_bridge_in_tandem_with_another_changes_nothing() {
    for code in 0..=255 {
        let again = g711::encode(g711::decode(code));
        // The two zeros: a negative one is a positive one after decoding.
        assert_eq!(again, if code == 0x7F { g711::SILENCE } else { code });
    }
}

#[test]
fn frames_are_appended_and_the_uplinks_bytes_are_little_endian() {
    let frame: Vec<u8> = (0..=255).collect();
    let (mut samples, mut bytes, mut codes) = (vec![1], vec![2], vec![3]);
    g711::decode_into(&frame, &mut samples);
    g711::decode_le_into(&frame, &mut bytes);
    g711::encode_into(&samples[1..], &mut codes);

    assert_eq!((samples[0], bytes[0], codes[0]), (1, 2, 3));
    assert_eq!((samples.len(), bytes.len(), codes.len()), (257, 513, 257));
    for (n, &code) in frame.iter().enumerate() {
        assert_eq!(samples[n + 1], g711::decode(code));
        assert_eq!(bytes[2 * n + 1..][..2], g711::decode(code).to_le_bytes());
        assert_eq!(codes[n + 1], g711::encode(samples[n + 1]));
    }
}

// --- measuring instruments -------------------------------------------------------------------------

/// `amplitude * sin(2 pi hz t + phase)` at `rate`, from `delay` seconds before t = 0.
fn delayed_tone(
    rate: u32,
    hz: f64,
    amplitude: f64,
    phase: f64,
    delay: f64,
    length: usize,
) -> Vec<i16> {
    (0..length)
        .map(|n| {
            let t = n as f64 / f64::from(rate) - delay;
            (amplitude * (TAU * hz * t + phase).sin()).round() as i16
        })
        .collect()
}

fn tone(rate: u32, hz: f64, amplitude: f64, phase: f64, length: usize) -> Vec<i16> {
    delayed_tone(rate, hz, amplitude, phase, 0.0, length)
}

fn downsample(rate: u32, input: &[i16]) -> Vec<i16> {
    let mut out = vec![];
    Downsampler::new(rate).unwrap().push(input, &mut out);
    out
}

fn rms(samples: &[i16]) -> f64 {
    let energy: f64 = samples.iter().map(|&s| f64::from(s).powi(2)).sum();
    (energy / samples.len() as f64).sqrt()
}

fn db(ratio: f64) -> f64 {
    20.0 * ratio.log10()
}

struct Fit {
    amplitude: f64,
    phase: f64,
    /// Signal to everything else, in dB.
    snr: f64,
}

/// The sine of `hz` that fits 8 kHz `samples` best; the first of them is at `first` / 8000 seconds.
fn fit(samples: &[i16], hz: f64, first: usize) -> Fit {
    fit_at(8_000, samples, hz, first)
}

/// The same at another rate.
fn fit_at(rate: u32, samples: &[i16], hz: f64, first: usize) -> Fit {
    let basis = |n: usize| (TAU * hz * (first + n) as f64 / f64::from(rate)).sin_cos();
    let (mut ss, mut sc, mut cc, mut ys, mut yc) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (n, &y) in samples.iter().enumerate() {
        let ((s, c), y) = (basis(n), f64::from(y));
        ss += s * s;
        sc += s * c;
        cc += c * c;
        ys += y * s;
        yc += y * c;
    }
    let determinant = ss * cc - sc * sc;
    let (a, b) = (
        (ys * cc - yc * sc) / determinant,
        (yc * ss - ys * sc) / determinant,
    );
    let (mut signal, mut noise) = (0.0, 0.0);
    for (n, &y) in samples.iter().enumerate() {
        let (s, c) = basis(n);
        let fitted = a * s + b * c;
        signal += fitted * fitted;
        noise += (f64::from(y) - fitted).powi(2);
    }
    Fit {
        amplitude: a.hypot(b),
        phase: b.atan2(a),
        snr: 10.0 * (signal / noise).log10(),
    }
}

/// Outputs skipped before measuring: the filter has swung in.
const SETTLED: usize = 64;
const LOUD: f64 = 30_000.0;

/// Lowest and highest gain in dB from 50 to 3,400 Hz.
fn passband(rate: u32, step: usize) -> (f64, f64) {
    let length = rate as usize / 5;
    let gains = (50..3_400).step_by(step).chain([3_400]).map(|hz| {
        let out = downsample(rate, &tone(rate, f64::from(hz), LOUD, 0.4, length));
        db(fit(&out[SETTLED..], f64::from(hz), SETTLED).amplitude / LOUD)
    });
    gains.fold((f64::MAX, f64::MIN), |(low, high), gain| {
        (low.min(gain), high.max(gain))
    })
}

/// The loudest that a tone from 4,600 Hz to Nyquist comes out at, in dB to its own level, and its Hz.
/// Everything that comes out counts, wherever it folded to.
fn worst_alias(rate: u32, step: usize) -> (f64, u32) {
    let nyquist = rate / 2;
    let mut worst = (f64::MIN, 0);
    for hz in (4_600..nyquist).step_by(step).chain([nyquist]) {
        // What folds to 0 Hz or to 4 kHz depends on the phase.
        for phase in [0.3, 0.3 + TAU / 4.0] {
            let input = tone(rate, f64::from(hz), LOUD, phase, rate as usize / 10);
            let out = downsample(rate, &input);
            let level = db(rms(&out[SETTLED..]).max(1e-3) / rms(&input));
            if level > worst.0 {
                worst = (level, hz);
            }
        }
    }
    worst
}

/// The measured delay at speech frequencies, in seconds: the one furthest from `stated`.
fn measured_delay(rate: u32, stated: f64) -> f64 {
    let delays = [300.0, 1_000.0, 1_700.0, 2_500.0, 3_300.0].map(|hz| {
        let out = downsample(rate, &tone(rate, hz, LOUD, 0.0, rate as usize / 5));
        let lag = -fit(&out[SETTLED..], hz, SETTLED).phase;
        // A phase tells the delay only up to whole periods.
        let periods = (stated * hz - lag / TAU).round();
        (lag / TAU + periods) / hz
    });
    let off = |delay: f64| (delay - stated).abs();
    delays
        .into_iter()
        .max_by(|&a, &b| off(a).total_cmp(&off(b)))
        .unwrap()
}

// --- resampling ------------------------------------------------------------------------------------

fn hold_to_the_goals(rate: u32, step: usize) {
    let (low, high) = passband(rate, step);
    let (alias, at) = worst_alias(rate, step);
    let stated = Downsampler::new(rate).unwrap().delay().as_secs_f64();
    let measured = measured_delay(rate, stated);
    println!(
        "{rate:>6} Hz: passband {low:+.4}..{high:+.4} dB, worst alias {alias:.1} dB (at {at} Hz), \
         delay {:.4} ms (measured {:.4})",
        stated * 1e3,
        measured * 1e3,
    );
    assert!(
        low > -0.1 && high < 0.1,
        "speech up to 3.4 kHz must pass unchanged"
    );
    assert!(alias < -70.0, "what is above 4.6 kHz must not fold back");
    assert!(
        (measured - stated).abs() < 1e-6,
        "the stated delay must be the real one"
    );
    assert!(
        stated <= 0.002,
        "2 ms is what a listener may wait for a filter"
    );
}

#[test]
fn speech_passes_and_sibilants_do_not_fold_back_at_48_khz() {
    hold_to_the_goals(48_000, 97);
}

#[test]
fn speech_passes_and_sibilants_do_not_fold_back_at_44_1_khz() {
    hold_to_the_goals(44_100, 97);
}

#[test]
fn speech_passes_and_sibilants_do_not_fold_back_at_24_khz() {
    hold_to_the_goals(24_000, 97);
}

#[test]
fn the_rates_nobody_sends_yet_are_as_good() {
    for rate in OTHER_RATES {
        hold_to_the_goals(rate, 997);
    }
}

#[test]
fn after_mu_law_nobody_could_tell_the_resampled_tone_from_an_ideal_one() {
    // A tone of exactly 1 kHz takes the same eight samples for ever, so its noise hangs on where they
    // happen to fall: only the mean over phases and levels says something. 1,004 Hz, the telephone
    // engineer's tone, visits all of them by itself.
    const PHASES: u32 = 16;
    const LEVELS: [f64; 5] = [-3.0, -10.0, -20.0, -30.0, -40.0];
    for rate in AGENT_RATES {
        let delay = Downsampler::new(rate).unwrap().delay().as_secs_f64();
        for hz in [1_000.0, 1_004.0] {
            let (mut ours, mut ideal) = (0.0, 0.0);
            for (level, n) in LEVELS
                .into_iter()
                .flat_map(|level| (0..PHASES).map(move |n| (level, n)))
            {
                let amplitude = 32_767.0 * 10f64.powf(level / 20.0);
                let phase = 0.1 + TAU * f64::from(n) / f64::from(PHASES) / 8.0;
                let message = wav::write(
                    rate,
                    1,
                    &tone(rate, hz, amplitude, phase, rate as usize / 8),
                );
                let mut samples = vec![];
                wav::parse(&message).unwrap().samples_into(&mut samples);
                let narrow = downsample(rate, &samples);
                let exact = delayed_tone(8_000, hz, amplitude, phase, delay, narrow.len());
                ours += through_mulaw(&narrow, hz) / f64::from(PHASES) / LEVELS.len() as f64;
                ideal += through_mulaw(&exact, hz) / f64::from(PHASES) / LEVELS.len() as f64;
            }
            println!("{rate:>6} Hz: {hz} Hz after mu-law, SNR {ours:.2} dB, ideal {ideal:.2} dB");
            assert!(ours > ideal - 0.5);
        }
    }
}

fn through_mulaw(samples: &[i16], hz: f64) -> f64 {
    let (mut mulaw, mut heard) = (vec![], vec![]);
    g711::encode_into(samples, &mut mulaw);
    g711::decode_into(&mulaw, &mut heard);
    fit(&heard[SETTLED..], hz, SETTLED).snr
}

/// splitmix64: the same noise and the same cuts on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn noise(&mut self, length: usize) -> Vec<i16> {
        (0..length).map(|_| self.next() as i16).collect()
    }
}

#[test]
fn however_the_agent_cuts_its_speech_the_caller_hears_the_same() {
    let mut random = Random(0x48_55_4D_45);
    for rate in AGENT_RATES.into_iter().chain([8_000, 16_000, 22_050]) {
        let speech = random.noise(rate as usize / 8);
        let mut stream = Downsampler::new(rate).unwrap();
        let mut whole = vec![];
        stream.push(&speech, &mut whole);
        assert_eq!(
            whole.len(),
            1_000,
            "an eighth of a second in, an eighth of a second out"
        );
        stream.flush(&mut whole);

        for longest in [1, 2, 7, 50, 191, 400, 400, 400, 3_000, 3_000, 3_000, 6_000] {
            let mut cut = vec![];
            let mut rest = speech.as_slice();
            while !rest.is_empty() {
                let (chunk, others) = rest.split_at((1 + random.below(longest)).min(rest.len()));
                stream.push(chunk, &mut cut);
                if random.below(9) == 0 {
                    stream.push(&[], &mut cut); // an agent's empty WAV
                }
                rest = others;
            }
            stream.flush(&mut cut);
            assert!(cut == whole, "{rate} Hz in chunks of up to {longest}");
        }
    }
}

#[test]
fn the_last_syllable_is_not_lost_and_the_next_segment_starts_clean() {
    let mut random = Random(7);
    for rate in AGENT_RATES.into_iter().chain(OTHER_RATES) {
        for length in [1, 5, 100, rate as usize / 50 + 3] {
            let speech = random.noise(length);
            let mut stream = Downsampler::new(rate).unwrap();
            let mut flushed = vec![];
            stream.push(&speech, &mut flushed);
            let before = flushed.len();
            stream.flush(&mut flushed);
            let tail = (flushed.len() - before) as f64 / 8_000.0;
            assert!(
                tail <= 2.0 * stream.delay().as_secs_f64() + 1.0 / 8_000.0,
                "a tail of {tail} s"
            );

            let long = [speech.as_slice(), &vec![0; rate as usize / 100]].concat();
            let silence_after = downsample(rate, &long);
            let (heard, silence) = silence_after.split_at(flushed.len());
            assert!(heard == flushed, "{rate} Hz, {length} samples");
            assert!(
                silence.iter().all(|&sample| sample == 0),
                "{rate} Hz: something came after the flush"
            );

            let mut again = vec![];
            stream.flush(&mut again);
            assert!(again.is_empty(), "nothing to flush twice");
            stream.push(&speech, &mut again);
            stream.flush(&mut again);
            assert!(
                again == flushed,
                "{rate} Hz: the segment before must not be heard in the next"
            );
        }
    }
}

#[test]
fn the_loudest_input_saturates_and_never_wraps() {
    for rate in AGENT_RATES.into_iter().chain(OTHER_RATES) {
        // Silence stays silence; the rounded coefficients add up to one within 0.002 dB.
        for level in [i16::MAX, i16::MIN, 1, 0, -1, 12_345] {
            let out = downsample(rate, &vec![level; rate as usize / 50]);
            let off = out[SETTLED..]
                .iter()
                .map(|sample| sample.abs_diff(level))
                .max()
                .unwrap();
            assert!(
                off <= level.unsigned_abs() / 5_000,
                "{rate} Hz: a constant {level} came out off by {off}"
            );
        }
        // A full-scale square overshoots by far; a wrapped sample would be of the other sign.
        let half = rate as usize / 400;
        let side = |n: usize| {
            if (n / half).is_multiple_of(2) {
                i16::MAX
            } else {
                i16::MIN
            }
        };
        let square: Vec<i16> = (0..half * 40).map(side).collect();
        let out = downsample(rate, &square);
        assert!(out.contains(&i16::MAX) && out.contains(&i16::MIN));
        let crossings = out[SETTLED..]
            .windows(2)
            .filter(|w| (w[0] < 0) != (w[1] < 0))
            .count();
        assert!(
            crossings <= 40,
            "{rate} Hz: {crossings} crossings of 40 edges"
        );
    }
}

#[test]
fn eight_kilohertz_passes_untouched() {
    let speech = Random(3).noise(500);
    let mut stream = Downsampler::new(8_000).unwrap();
    let mut out = vec![42];
    stream.push(&speech, &mut out);
    stream.flush(&mut out);
    assert_eq!((out[0], &out[1..]), (42, speech.as_slice()));
    assert!(stream.delay().is_zero() && stream.from_rate() == 8_000);
}

#[test]
fn on_the_way_up_speech_keeps_its_level_and_gets_no_mirror_image() {
    for rate in [16_000, 24_000, 48_000] {
        let times = rate as usize / 8_000;
        let (mut low, mut high, mut worst) = (f64::MAX, f64::MIN, f64::MAX);
        for hz in (50..3_400).step_by(97).chain([3_400]).map(f64::from) {
            let (mut up, mut out) = (Upsampler::new(rate).unwrap(), vec![]);
            for frame in tone(8_000, hz, LOUD, 0.4, 1_600).chunks(160) {
                up.push(frame, &mut out);
                assert_eq!(out.len() % (160 * times), 0, "as many for each at once");
            }
            assert_eq!((out.len(), up.rate()), (1_600 * times, rate));
            let first = SETTLED * times;
            let fit = fit_at(rate, &out[first..], hz, first);
            let gain = db(fit.amplitude / LOUD);
            (low, high, worst) = (low.min(gain), high.max(gain), worst.min(fit.snr));
        }
        println!("up to {rate} Hz: {low:+.4}..{high:+.4} dB, all else {worst:.1} dB down");
        assert!(low > -0.1 && high < 0.1, "speech must pass unchanged");
        assert!(worst > 68.0, "what mirrors at 4 kHz must not be heard");
    }
}

#[test]
fn on_the_way_up_eight_kilohertz_passes_and_odd_rates_are_refused() {
    let mut out = vec![];
    Upsampler::new(8_000).unwrap().push(&[1, -2, 3], &mut out);
    assert_eq!(out, [1, -2, 3]);
    for rate in [0, 11_025, 12_000, 44_100, 96_000, u32::MAX] {
        let refused = Upsampler::new(rate).unwrap_err();
        assert_eq!(refused, UnsupportedTarget(rate));
        assert!(refused.to_string().contains(&format!(" {rate} Hz")));
    }
    // However loud, nothing wraps.
    let loud: Vec<i16> = (0..800)
        .map(|n| if n % 7 < 3 { i16::MAX } else { i16::MIN })
        .collect();
    out.clear();
    Upsampler::new(24_000).unwrap().push(&loud, &mut out);
    let turns = out
        .windows(2)
        .filter(|w| (i32::from(w[1]) - i32::from(w[0])).abs() > 60_000);
    assert_eq!(turns.count(), 0);
}

#[test]
fn a_rate_without_a_sensible_ratio_is_refused_by_its_name() {
    for rate in [
        0,
        1,
        7_999,
        8_001,
        44_101,
        47_999,
        192_001,
        384_000,
        u32::MAX,
    ] {
        assert_eq!(Downsampler::new(rate).unwrap_err(), UnsupportedRate(rate));
    }
    assert!(UnsupportedRate(44_101).to_string().contains("44101 Hz"));
    for rate in AGENT_RATES.into_iter().chain(OTHER_RATES) {
        assert_eq!(Downsampler::new(rate).unwrap().from_rate(), rate);
    }
}

#[test]
fn a_call_may_move_between_threads() {
    fn movable<T: Send + 'static>() {}
    movable::<Downsampler>();
}
