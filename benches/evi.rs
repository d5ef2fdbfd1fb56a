//! What one message costs on the way to EVI and back: the two paths that run all day.
//!
//! Up: 20 ms of mu-law to an `audio_input` frame, 50 times a second and call. Down: an
//! `audio_output` of 100 ms at 48 kHz to mu-law, and on to the base64 that Twilio wants.

use divan::{Bencher, black_box, counter::BytesCount};
use hume_bridge::agent::evi::{Codec, Settings};
use hume_bridge::agent::{Codec as _, Command, Event, Persona};
use hume_bridge::config::Secret;

fn main() {
    divan::main();
}

fn codec() -> Codec {
    Codec::new(Settings {
        url: "ws://127.0.0.1/".into(),
        api_key: Secret::new("key"),
        config_id: None,
        persona: Persona::default(),
    })
}

/// 100 ms of noise at 48 kHz, as EVI sends it.
fn audio_output() -> String {
    let mut noise = 1u32;
    let samples = (0..4800).flat_map(|_| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((noise >> 18) as i16).to_le_bytes()
    });
    let mut wav = b"RIFF".to_vec();
    wav.extend(9636u32.to_le_bytes());
    wav.extend(b"WAVEfmt ");
    wav.extend(16u32.to_le_bytes());
    wav.extend([1, 0, 1, 0]);
    wav.extend(48_000u32.to_le_bytes());
    wav.extend(96_000u32.to_le_bytes());
    wav.extend([2, 0, 16, 0]);
    wav.extend(b"data");
    wav.extend(9600u32.to_le_bytes());
    wav.extend(samples);
    let data = base64_simd::STANDARD.encode_to_string(wav);
    format!(r#"{{"type":"audio_output","id":"8f2c1a","index":3,"data":"{data}"}}"#)
}

#[divan::bench]
fn up_20_ms(bencher: Bencher) {
    let mut codec = codec();
    let mulaw: [u8; 160] = std::array::from_fn(|n| (n * 37) as u8);
    bencher
        .counter(BytesCount::new(160u32))
        .bench_local(move || {
            codec.command(Command::AudioIn(black_box(&mulaw)), &mut |frame| {
                black_box(frame);
            });
        });
}

#[divan::bench]
fn down_100_ms(bencher: Bencher) {
    let mut codec = codec();
    let message = audio_output();
    bencher
        .counter(BytesCount::of_str(&message))
        .bench_local(move || {
            codec.message(
                black_box(&message),
                &mut |event| {
                    black_box(&event);
                },
                &mut |_| {},
            );
        });
}

#[divan::bench]
fn down_100_ms_and_ready_for_twilio(bencher: Bencher) {
    let mut codec = codec();
    let message = audio_output();
    let mut payload = String::new();
    bencher
        .counter(BytesCount::of_str(&message))
        .bench_local(move || {
            codec.message(
                black_box(&message),
                &mut |event| {
                    if let Event::Audio { mulaw, .. } = event {
                        payload.clear();
                        base64_simd::STANDARD.encode_append(mulaw, &mut payload);
                    }
                },
                &mut |_| {},
            );
            black_box(&payload);
        });
}

/// A message that is skipped still has to be read.
#[divan::bench]
fn a_prosody_message(bencher: Bencher) {
    let mut codec = codec();
    let scores: Vec<_> = (0..48)
        .map(|n| format!(r#""Emotion {n}":0.012345678901234567"#))
        .collect();
    let message = format!(
        r#"{{"type":"assistant_prosody","id":"8f2c1a","models":{{"prosody":{{"scores":{{{}}}}}}}}}"#,
        scores.join(",")
    );
    bencher
        .counter(BytesCount::of_str(&message))
        .bench_local(move || {
            codec.message(
                black_box(&message),
                &mut |event| {
                    black_box(&event);
                },
                &mut |_| {},
            );
        });
}
