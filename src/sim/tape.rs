//! Recordings: what a caller says, from a WAV file, and what was said and heard, into one.

use std::{fs::File, io::Write as _, path::Path, time::Duration};

use anyhow::Context as _;

use super::speech;
use crate::audio::{g711, resample::Downsampler, wav};

/// Longer recordings make no better call.
const LONGEST: Duration = Duration::from_secs(60);

/// A file's audio as the telephone speaks it: mu-law, 8 kHz, mono.
pub fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let name = path.display();
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {name}"))?;
    let wav = wav::parse(&bytes).with_context(|| name.to_string())?;
    let mut samples = Vec::new();
    wav.samples_into(&mut samples);
    let mut downsampler = Downsampler::new(wav.rate).with_context(|| name.to_string())?;
    let (mut narrow, mut mulaw) = (Vec::new(), Vec::new());
    downsampler.push(&samples, &mut narrow);
    downsampler.flush(&mut narrow);
    g711::encode_into(&narrow, &mut mulaw);
    anyhow::ensure!(
        speech::duration(&mulaw) <= LONGEST,
        "{name} is longer than {} seconds",
        LONGEST.as_secs()
    );
    Ok(mulaw)
}

/// A stereo WAV of a whole call: left the caller, right the agent as the caller heard it.
pub fn write(file: &mut File, spoken: &[u8], heard: &[u8]) -> std::io::Result<()> {
    let length = spoken.len().max(heard.len());
    let sample =
        |side: &[u8], at: usize| g711::decode(side.get(at).copied().unwrap_or(g711::SILENCE));
    let samples: Vec<i16> = (0..length)
        .flat_map(|at| [sample(spoken, at), sample(heard, at)])
        .collect();
    file.write_all(&wav::write(8000, 2, &samples))
}
