//! The agent's voice: clips made into the WAV messages that EVI sends.
//!
//! Clips are mu-law at 8 kHz; EVI's output is linear at a rate of its own (EVI docs), so they are
//! interpolated here with a windowed sinc in f64, whole and once per clip and rate. Deliberately a
//! second implementation: it shares nothing with `audio`, which it is used to test.

use std::{
    collections::HashMap,
    f64::consts::PI,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

/// Where clips come from: by name, the mu-law samples at 8 kHz and the words.
pub type Clips = fn(&str) -> Option<(&'static [u8], &'static str)>;

/// The rate of the clips, in Hz.
pub const CLIP_RATE: u32 = 8_000;

/// Input samples to either side of an output sample that it is made of.
const REACH: i64 = 16;

/// Decodes one mu-law octet (ITU-T G.711).
pub(in crate::sim) fn linear(octet: u8) -> i16 {
    let bits = !octet;
    let exponent = (bits >> 4) & 7;
    let mantissa = i32::from(bits & 15);
    let magnitude = (((mantissa << 3) + 0x84) << exponent) - 0x84;
    (if bits & 0x80 == 0 {
        magnitude
    } else {
        -magnitude
    }) as i16
}

/// The octet whose value is nearest.
fn mulaw(sample: f64) -> u8 {
    let distance = |octet: u8| (f64::from(linear(octet)) - sample).abs();
    (0..=255)
        .min_by(|a, b| distance(*a).total_cmp(&distance(*b)))
        .expect("256 octets")
}

/// Clips for tests that need lengths and not words: tones, a pitch to each.
pub fn test_tones(name: &str) -> Option<(&'static [u8], &'static str)> {
    static TONES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    const NAMES: [(&str, &str, usize, usize); 5] = [
        // name, words, period in samples, length in ms
        ("agent-greeting", "Good day.", 20, 2_500),
        (
            "agent-hours",
            "We are open from nine to five on weekdays.",
            16,
            7_500,
        ),
        ("agent-saturday", "On Saturday until noon.", 10, 2_000),
        ("agent-goodbye", "Goodbye.", 25, 1_200),
        ("agent-more", "Is there anything else?", 8, 1_500),
    ];
    let tones = TONES.get_or_init(|| {
        NAMES
            .iter()
            .map(|&(_, _, period, ms)| {
                let cycle: Vec<u8> = (0..period)
                    .map(|i| mulaw(8_000.0 * (2.0 * PI * i as f64 / period as f64).sin()))
                    .collect();
                cycle.iter().copied().cycle().take(ms * 8).collect()
            })
            .collect()
    });
    let at = NAMES.iter().position(|n| n.0 == name)?;
    Some((&tones[at], NAMES[at].1))
}

/// 16-bit little-endian samples as a WAV holds them, shared by all who say them: cutting a message
/// is then a copy, and an unoptimised build keeps up with a world that runs fast.
pub(in crate::sim) type Pcm = Arc<[u8]>;

/// Renders clips and keeps what it has rendered.
pub(in crate::sim) struct Renderer {
    clips: Clips,
    /// By name and rate.
    rendered: Mutex<HashMap<(String, u32), Pcm>>,
}

impl Renderer {
    pub fn new(clips: Clips) -> Renderer {
        Renderer {
            clips,
            rendered: Mutex::new(HashMap::new()),
        }
    }

    /// The clip's samples at this rate, and its words. `None`: there is no such clip.
    pub fn clip(&self, name: &str, rate: u32) -> Option<(Pcm, &'static str)> {
        let (octets, words) = (self.clips)(name)?;
        let key = (name.to_owned(), rate);
        if let Some(pcm) = self
            .rendered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
        {
            return Some((pcm.clone(), words));
        }
        let source: Vec<i16> = octets.iter().map(|&o| linear(o)).collect();
        let pcm: Pcm = octets_of(&interpolate(&source, rate)).into();
        self.rendered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, pcm.clone());
        Some((pcm, words))
    }

    /// The clip as it is stored, mu-law at 8 kHz, and its words.
    pub fn stored(&self, name: &str) -> Option<(&'static [u8], &'static str)> {
        (self.clips)(name)
    }

    /// [`Renderer::tone_for`] as clips are stored.
    pub fn stored_tone(words: &str) -> Vec<u8> {
        let octets = Renderer::tone_for(words, CLIP_RATE).len() / 2;
        // 400 Hz repeats itself after 20 samples.
        let cycle: Vec<u8> = tone(20, CLIP_RATE)
            .into_iter()
            .map(|sample| mulaw(f64::from(sample)))
            .collect();
        cycle.into_iter().cycle().take(octets).collect()
    }

    /// Speech for words of which there is no clip: a tone of a plausible length.
    pub fn tone_for(words: &str, rate: u32) -> Pcm {
        let ms = (words.chars().count() as u64 * 60).clamp(300, 15_000);
        octets_of(&tone(ms * u64::from(rate) / 1000, rate)).into()
    }
}

/// Samples as they stand in a WAV.
pub(super) fn octets_of(samples: &[i16]) -> Vec<u8> {
    samples.iter().flat_map(|s| s.to_le_bytes()).collect()
}

/// A quiet 400 Hz.
pub(super) fn tone(samples: u64, rate: u32) -> Vec<i16> {
    (0..samples)
        .map(|n| (6_000.0 * (2.0 * PI * 400.0 * n as f64 / f64::from(rate)).sin()) as i16)
        .collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// 8 kHz to `rate` (not lower): Blackman-windowed sinc, one set of taps per phase.
fn interpolate(source: &[i16], rate: u32) -> Vec<i16> {
    let divisor = gcd(rate, CLIP_RATE);
    let (up, down) = (u64::from(rate / divisor), u64::from(CLIP_RATE / divisor));
    let width = 2 * REACH as usize;
    let mut taps = Vec::with_capacity(up as usize * width);
    for phase in 0..up {
        let offset = phase as f64 / up as f64;
        let start = taps.len();
        for k in (1 - REACH)..=REACH {
            let x = k as f64 - offset;
            let sinc = if x == 0.0 {
                1.0
            } else {
                (PI * x).sin() / (PI * x)
            };
            let turn = PI * x / REACH as f64;
            taps.push(sinc * (0.42 + 0.5 * turn.cos() + 0.08 * (2.0 * turn).cos()));
        }
        let gain: f64 = taps[start..].iter().sum();
        taps[start..].iter_mut().for_each(|t| *t /= gain);
    }
    // Silence to both sides spares a bounds check per tap.
    let mut padded = vec![0.0; width + source.len() + width];
    for (to, from) in padded[width..].iter_mut().zip(source) {
        *to = f64::from(*from);
    }
    let length = source.len() as u64 * up / down;
    (0..length)
        .map(|n| {
            let (whole, phase) = ((n * down / up) as usize, (n * down % up) as usize);
            let first = whole + width + 1 - REACH as usize;
            let sum: f64 = padded[first..first + width]
                .iter()
                .zip(&taps[phase * width..(phase + 1) * width])
                .map(|(s, t)| s * t)
                .sum();
            sum.round().clamp(-32_768.0, 32_767.0) as i16
        })
        .collect()
}

/// How a WAV is written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Layout {
    pub list_chunk: bool,
    pub stereo: bool,
    /// What stands for the sizes, if not the truth.
    pub size: Option<u32>,
}

/// A complete WAV file of 16-bit samples. Stereo has the same sound on both sides.
pub(super) fn wav(pcm: &[u8], rate: u32, layout: Layout) -> Vec<u8> {
    let channels: u16 = if layout.stereo { 2 } else { 1 };
    let data = pcm.len() as u32 * u32::from(channels);
    // The second chunk's size is odd, so the pad byte that RIFF wants is there to be overlooked.
    const LIST: &[u8] =
        b"LIST\x12\x00\x00\x00INFOISFT\x05\x00\x00\x00sim-1\x00junk\x03\x00\x00\x00odd\x00";
    let list: &[u8] = if layout.list_chunk { LIST } else { &[] };
    let riff = 4 + 24 + list.len() as u32 + 8 + data;
    let mut out = Vec::with_capacity(riff as usize + 8);
    out.extend_from_slice(b"RIFF");
    out.extend_from_slice(&layout.size.unwrap_or(riff).to_le_bytes());
    out.extend_from_slice(b"WAVEfmt \x10\x00\x00\x00\x01\x00");
    out.extend_from_slice(&channels.to_le_bytes());
    out.extend_from_slice(&rate.to_le_bytes());
    out.extend_from_slice(&(rate * 2 * u32::from(channels)).to_le_bytes());
    out.extend_from_slice(&(2 * channels).to_le_bytes());
    out.extend_from_slice(&16u16.to_le_bytes());
    out.extend_from_slice(list);
    out.extend_from_slice(b"data");
    out.extend_from_slice(&layout.size.unwrap_or(data).to_le_bytes());
    if layout.stereo {
        for sample in pcm.chunks_exact(2) {
            out.extend_from_slice(sample);
            out.extend_from_slice(sample);
        }
    } else {
        out.extend_from_slice(pcm);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mulaw_has_the_tables_corner_values() {
        for (octet, value) in [
            (0xff, 0),
            (0x7f, 0),
            (0x80, 32124),
            (0x00, -32124),
            (0xfe, 8),
            (0xf0, 120),
            (0xef, 132),
        ] {
            assert_eq!(linear(octet), value, "{octet:#x}");
        }
    }

    #[test]
    fn an_interpolated_tone_is_the_tone() {
        let source: Vec<i16> = (0..1600)
            .map(|n| (10_000.0 * (2.0 * PI * 1000.0 * n as f64 / 8000.0).sin()).round() as i16)
            .collect();
        for rate in [8_000, 24_000, 44_100, 48_000] {
            let out = interpolate(&source, rate);
            assert_eq!(out.len(), 1600 * rate as usize / 8000);
            // The edges lack their neighbours.
            let edge = 20 * rate as usize / 8000;
            for (n, sample) in out.iter().enumerate().take(out.len() - edge).skip(edge) {
                let ideal = 10_000.0 * (2.0 * PI * 1000.0 * n as f64 / f64::from(rate)).sin();
                assert!(
                    (f64::from(*sample) - ideal).abs() < 30.0,
                    "{rate} Hz, {n}: {sample} {ideal}"
                );
            }
        }
    }

    #[test]
    fn a_wav_is_what_its_header_says() {
        let plain = wav(&octets_of(&[1, -2, 3]), 24_000, Layout::default());
        assert_eq!(plain.len(), 44 + 6);
        assert_eq!(plain[4..8], 42u32.to_le_bytes());
        assert_eq!(plain[24..28], 24_000u32.to_le_bytes());
        assert_eq!(plain[44..], [1, 0, 0xfe, 0xff, 3, 0]);

        let odd = wav(
            &octets_of(&[7]),
            48_000,
            Layout {
                list_chunk: true,
                stereo: true,
                size: Some(u32::MAX),
            },
        );
        assert_eq!(&odd[36..40], b"LIST");
        assert_eq!(odd[40..44], 18u32.to_le_bytes());
        assert_eq!(odd[62..70], *b"junk\x03\x00\x00\x00");
        assert_eq!(odd[74..82], *b"data\xff\xff\xff\xff");
        assert_eq!(odd[82..], [7, 0, 7, 0]);
    }
}
