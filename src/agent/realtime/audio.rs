//! The two ways of audio: the telephone's mu-law untouched, or samples at the server's rate.

use base64_simd::STANDARD;

use super::messages::append;
use crate::{
    agent::{Ignored, scratch::with_scratch},
    audio::{
        g711,
        resample::{Downsampler, Upsampler},
    },
    config::realtime::Format,
};

/// The caller's voice, on its way to the server.
pub(super) struct Up {
    format: Format,
    filter: Option<Upsampler>,
}

impl Up {
    pub fn new(format: Format) -> Up {
        let filter = match format {
            Format::Pcmu => None,
            // The config has no other rates; without a filter nothing is sent.
            Format::Pcm(rate) => Upsampler::new(rate).ok(),
        };
        Up { format, filter }
    }

    /// The frame for this, if there is one.
    pub fn frame(&mut self, mulaw: &[u8]) -> Option<String> {
        if mulaw.is_empty() {
            return None;
        }
        if self.format == Format::Pcmu {
            return Some(append(mulaw));
        }
        let filter = self.filter.as_mut()?;
        with_scratch(|scratch| {
            g711::decode_into(mulaw, &mut scratch.narrow);
            filter.push(&scratch.narrow, &mut scratch.wide);
            let samples = scratch.wide.iter().flat_map(|sample| sample.to_le_bytes());
            scratch.bytes.extend(samples);
            Some(append(&scratch.bytes))
        })
    }
}

/// The agent's, on its way to the telephone.
pub(super) struct Down {
    format: Format,
    filter: Option<Downsampler>,
    /// The first half of a sample whose other half is still to come.
    half: Option<u8>,
}

impl Down {
    pub fn new(format: Format) -> Down {
        Down {
            format,
            filter: None,
            half: None,
        }
    }

    /// Base64 as it came; `play` gets what is complete of it, in mu-law.
    pub fn take<R: Default>(
        &mut self,
        base64: &str,
        play: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, Ignored> {
        with_scratch(|scratch| {
            let bytes = &mut scratch.bytes;
            if let (Some(half), Format::Pcm(_)) = (self.half, self.format) {
                bytes.push(half);
            }
            STANDARD
                .decode_append(base64.as_bytes(), bytes)
                .map_err(|_| Ignored::Malformed)?;
            let Format::Pcm(rate) = self.format else {
                return Ok(if_any(bytes, play));
            };
            let (pairs, rest) = bytes.as_chunks::<2>();
            self.half = rest.first().copied();
            let samples = pairs.iter().map(|pair| i16::from_le_bytes(*pair));
            scratch.wide.extend(samples);
            let filter = match &mut self.filter {
                Some(filter) => filter,
                None => {
                    let filter = Downsampler::new(rate).map_err(|_| Ignored::BadRate)?;
                    self.filter.insert(filter)
                }
            };
            filter.push(&scratch.wide, &mut scratch.narrow);
            g711::encode_into(&scratch.narrow, &mut scratch.mulaw);
            Ok(if_any(&scratch.mulaw, play))
        })
    }

    /// An utterance is over: what the filter still holds of it.
    pub fn end<R: Default>(&mut self, play: impl FnOnce(&[u8]) -> R) -> R {
        self.half = None;
        let Some(mut filter) = self.filter.take() else {
            return R::default();
        };
        with_scratch(|scratch| {
            filter.flush(&mut scratch.narrow);
            g711::encode_into(&scratch.narrow, &mut scratch.mulaw);
            if_any(&scratch.mulaw, play)
        })
    }

    /// It was cut: nothing of it is to be heard.
    pub fn drop(&mut self) {
        (self.filter, self.half) = (None, None);
    }
}

fn if_any<R: Default>(mulaw: &[u8], play: impl FnOnce(&[u8]) -> R) -> R {
    match mulaw {
        [] => R::default(),
        mulaw => play(mulaw),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn sent(up: &mut Up, mulaw: &[u8]) -> Vec<u8> {
        let frame: Value = serde_json::from_str(&up.frame(mulaw).unwrap()).unwrap();
        assert_eq!(frame["type"], "input_audio_buffer.append");
        STANDARD
            .decode_to_vec(frame["audio"].as_str().unwrap())
            .unwrap()
    }

    #[test]
    fn the_telephones_own_bytes_go_both_ways_as_they_are() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(sent(&mut Up::new(Format::Pcmu), &all), all);
        let mut down = Down::new(Format::Pcmu);
        for bytes in [&all[..], &all[..1], &all[..7]] {
            let base64 = STANDARD.encode_to_string(bytes);
            assert_eq!(down.take(&base64, <[u8]>::to_vec).unwrap(), bytes);
        }
        assert!(down.take("", |_| true).is_ok_and(|played| !played));
        assert!(down.take("*", |_| ()).is_err());
        assert!(!down.end(|_| true));
        assert_eq!(Up::new(Format::Pcmu).frame(&[]), None);
    }

    #[test]
    fn a_tone_goes_up_and_comes_back_at_its_level() {
        for rate in [8_000, 16_000, 24_000, 48_000] {
            let (mut up, mut down) = (Up::new(Format::Pcm(rate)), Down::new(Format::Pcm(rate)));
            let tone: Vec<i16> = (0..8000)
                .map(|n| ((f64::from(n) * 0.7).sin() * 12_000.0) as i16)
                .collect();
            let mut mulaw = Vec::new();
            g711::encode_into(&tone, &mut mulaw);
            let mut back = Vec::new();
            for frame in mulaw.chunks(160) {
                let bytes = sent(&mut up, frame);
                assert_eq!(bytes.len(), 320 * rate as usize / 8_000);
                // However it is cut into messages, in the middle of a sample too.
                for piece in bytes.chunks(77) {
                    let base64 = STANDARD.encode_to_string(piece);
                    down.take(&base64, |mulaw| back.extend_from_slice(mulaw))
                        .unwrap();
                }
            }
            down.end(|mulaw| back.extend_from_slice(mulaw));
            let mut heard = Vec::new();
            g711::decode_into(&back, &mut heard);
            let power = |samples: &[i16]| {
                let sum: f64 = samples.iter().map(|s| f64::from(*s).powi(2)).sum();
                (sum / samples.len() as f64).sqrt()
            };
            let (was, is) = (power(&tone[400..7600]), power(&heard[400..7600]));
            assert!((is / was - 1.0).abs() < 0.02, "{rate} Hz: {was} {is}");
            assert!(
                (8000..8100).contains(&back.len()),
                "{rate} Hz: {}",
                back.len()
            );
        }
    }

    #[test]
    fn a_rate_that_nobody_can_serve_is_said_to_be_one() {
        assert_eq!(Up::new(Format::Pcm(7)).frame(&[1]), None);
        let mut down = Down::new(Format::Pcm(7));
        assert_eq!(down.take("AAAA", |_| ()), Err(Ignored::BadRate));
    }
}
