//! What one message costs on the way to a Realtime server and back: the two paths that run all day, with
//! the telephone's own bytes and with samples at 24 kHz.
//!
//! Up: 20 ms of mu-law, 50 times a second and call. Down: 100 ms of the agent's speech.

use std::{collections::BTreeMap, sync::Arc};

use divan::{Bencher, black_box, counter::BytesCount};
use hume_bridge::{
    agent::{
        Codec as _, Command, Persona,
        realtime::{Codec, Server, Settings},
    },
    config::{
        Credentials, Realtime, Secret,
        realtime::{Format, Preset},
    },
};

fn main() {
    divan::main();
}

const FORMATS: [&str; 2] = ["pcmu", "pcm24k"];

fn codec(format: &str) -> Codec {
    let format = match format {
        "pcmu" => Format::Pcmu,
        _ => Format::Pcm(24_000),
    };
    let config = Realtime {
        audio_in: format,
        audio_out: format,
        ..Realtime::of(Preset::OpenAi)
    };
    let credentials = Credentials {
        hume_api_key: None,
        realtime_api_key: Some(Secret::new("key")),
        twilio_account_sid: String::new(),
        twilio_auth_token: Secret::new(""),
        twilio_phone_number: None,
        twilio_shared_key: None,
        named: BTreeMap::new(),
    };
    Codec::new(Settings {
        server: Arc::new(Server::new(&config, &credentials)),
        persona: Persona::default(),
    })
}

#[divan::bench(args = FORMATS)]
fn up_20_ms(bencher: Bencher, format: &str) {
    let mut codec = codec(format);
    let mulaw: [u8; 160] = std::array::from_fn(|n| (n * 37) as u8);
    bencher
        .counter(BytesCount::new(160u32))
        .bench_local(move || {
            codec.command(Command::AudioIn(black_box(&mulaw)), &mut |frame| {
                black_box(frame);
            });
        });
}

#[divan::bench(args = FORMATS)]
fn down_100_ms(bencher: Bencher, format: &str) {
    let mut codec = codec(format);
    let mut noise = 1u32;
    let bytes = if format == "pcmu" { 800 } else { 4800 };
    let audio: Vec<u8> = (0..bytes)
        .map(|_| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 24) as u8
        })
        .collect();
    let delta = base64_simd::STANDARD.encode_to_string(audio);
    let message = format!(
        r#"{{"type":"response.output_audio.delta","event_id":"event_1","response_id":"resp_1","item_id":"item_1","output_index":0,"content_index":0,"delta":"{delta}"}}"#
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
