//! What the audio of one call costs: `cargo bench --bench audio`.
//!
//! The telephone brings 50 frames of 160 samples a second, the agent about ten WAVs of 100 ms.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use hume_bridge::audio::resample::Downsampler;
use hume_bridge::audio::{g711, wav};

fn main() {
    divan::main();
}

/// `milliseconds` of something that no shortcut compresses: two tones at speech level.
fn tones(rate: u32, milliseconds: u32) -> Vec<i16> {
    (0..rate * milliseconds / 1_000)
        .map(|n| {
            let t = f64::from(n) / f64::from(rate);
            (6_000.0 * (2_764.0 * t).sin() + 3_000.0 * (7_037.0 * t).sin()) as i16
        })
        .collect()
}

fn frame() -> Vec<u8> {
    tones(8_000, 20).into_iter().map(g711::encode).collect()
}

#[divan::bench]
fn decode_frame(bencher: Bencher) {
    let (frame, mut out) = (frame(), Vec::new());
    bencher
        .counter(ItemsCount::new(frame.len()))
        .bench_local(|| {
            out.clear();
            g711::decode_into(black_box(&frame), &mut out);
            black_box(out.len())
        });
}

#[divan::bench]
fn decode_frame_to_linear16_bytes(bencher: Bencher) {
    let (frame, mut out) = (frame(), Vec::new());
    bencher
        .counter(ItemsCount::new(frame.len()))
        .bench_local(|| {
            out.clear();
            g711::decode_le_into(black_box(&frame), &mut out);
            black_box(out.len())
        });
}

#[divan::bench]
fn encode_frame(bencher: Bencher) {
    let (frame, mut out) = (tones(8_000, 20), Vec::new());
    bencher
        .counter(ItemsCount::new(frame.len()))
        .bench_local(|| {
            out.clear();
            g711::encode_into(black_box(&frame), &mut out);
            black_box(out.len())
        });
}

#[divan::bench(args = [48_000, 44_100, 24_000, 16_000])]
fn resample_100_ms(bencher: Bencher, rate: u32) {
    let (input, mut out) = (tones(rate, 100), Vec::new());
    let mut downsampler = Downsampler::new(rate).unwrap();
    bencher.counter(ItemsCount::new(800usize)).bench_local(|| {
        out.clear();
        downsampler.push(black_box(&input), &mut out);
        black_box(out.len())
    });
}

/// The whole way down: an agent's WAV to what Twilio gets, before base64.
#[divan::bench(args = [48_000, 44_100, 24_000])]
fn wav_100_ms_to_mulaw(bencher: Bencher, rate: u32) {
    let message = wav::write(rate, 1, &tones(rate, 100));
    let mut downsampler = Downsampler::new(rate).unwrap();
    let (mut samples, mut narrow, mut mulaw) = (Vec::new(), Vec::new(), Vec::new());
    bencher.counter(ItemsCount::new(800usize)).bench_local(|| {
        samples.clear();
        narrow.clear();
        mulaw.clear();
        wav::parse(black_box(&message))
            .unwrap()
            .samples_into(&mut samples);
        downsampler.push(&samples, &mut narrow);
        g711::encode_into(&narrow, &mut mulaw);
        black_box(mulaw.len())
    });
}

#[divan::bench(args = [48_000, 44_100])]
fn first_downsampler_of_a_known_rate(rate: u32) -> Downsampler {
    Downsampler::new(black_box(rate)).unwrap()
}
