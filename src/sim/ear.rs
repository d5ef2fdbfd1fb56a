//! Listens to a recording: which clip is in it, where, and is it whole?
//!
//! Finding a clip by its loudness (20 ms at a time) and then comparing the waveforms sample by
//! sample tells a goodbye that was heard from one that was cut, and says so for its last word
//! separately, since that is what gets lost.

use std::{ops::Range, time::Duration};

use crate::audio::g711;

/// Samples a second.
const RATE: usize = 8000;
/// Samples in 20 ms.
const FRAME: usize = RATE / 50;
/// The last word, roughly.
const TAIL: usize = RATE * 3 / 10;
/// Waveforms that have been through the same filters and codecs once more correlate at 0.98 and
/// more; different speech of the same voice below 0.3.
const SAME: f64 = 0.9;

/// A clip found in a recording.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// The recording's sample at which the clip begins.
    pub at: usize,
    /// How alike the waveforms are, 1.0 for the same: the whole clip, and its last 300 ms.
    pub whole: f64,
    pub tail: f64,
}

impl Found {
    /// Every word of the clip was heard.
    pub fn is_whole(&self) -> bool {
        self.whole >= SAME && self.tail >= SAME
    }
}

/// Looks for a clip, or its beginning, in a recording (both mu-law, 8 kHz). Of several the first.
pub fn find(recording: &[u8], clip: &[u8]) -> Option<Found> {
    let recording = samples(recording);
    let clip = samples(clip);
    let (there, wanted) = (loudness(&recording), loudness(&clip));
    if wanted.is_empty() {
        return None;
    }
    // By loudness to 20 ms, by a second of waveform to the sample. The clip may have been cut, so
    // only its beginning decides where it is.
    let head = wanted.len().min(50);
    let scores: Vec<f64> = (0..there.len())
        .map(|at| alike(&there[at..there.len().min(at + head)], &wanted[..head]))
        .collect();
    let best = (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b]))?;
    let first = scores
        .iter()
        .position(|score| *score >= scores[best] - 0.03)?;
    let head = &clip[..clip.len().min(RATE / 2)];
    let at = [first, best].into_iter().find_map(|coarse| {
        let coarse = coarse * FRAME;
        let around = coarse.saturating_sub(2 * FRAME)..(coarse + 2 * FRAME).min(recording.len());
        let at = around.max_by(|a, b| {
            score_at(&recording, head, *a).total_cmp(&score_at(&recording, head, *b))
        })?;
        (score_at(&recording, head, at) >= SAME).then_some(at)
    })?;
    let tail = clip.len().saturating_sub(TAIL);
    Some(Found {
        at,
        whole: score_at(&recording, &clip, at),
        tail: score_at(&recording, &clip[tail..], at + tail),
    })
}

/// Where there is speech: spans louder than -45 dBFS, pauses below 300 ms closed.
pub fn speech(recording: &[u8]) -> Vec<Range<Duration>> {
    let threshold = 32768.0 * 10f64.powf(-45.0 / 20.0);
    let time = |frame: usize| Duration::from_millis(20 * frame as u64);
    let mut spans: Vec<Range<usize>> = Vec::new();
    for (frame, level) in loudness(&samples(recording)).into_iter().enumerate() {
        if level < threshold {
            continue;
        }
        match spans.last_mut() {
            Some(last) if frame - last.end < 15 => last.end = frame + 1,
            _ => spans.push(frame..frame + 1),
        }
    }
    spans
        .into_iter()
        .map(|span| time(span.start)..time(span.end))
        .collect()
}

fn samples(mulaw: &[u8]) -> Vec<f64> {
    mulaw
        .iter()
        .map(|code| f64::from(g711::decode(*code)))
        .collect()
}

fn loudness(samples: &[f64]) -> Vec<f64> {
    let rms =
        |frame: &[f64]| (frame.iter().map(|x| x * x).sum::<f64>() / frame.len() as f64).sqrt();
    samples.chunks(FRAME).map(rms).collect()
}

fn score_at(recording: &[f64], clip: &[f64], at: usize) -> f64 {
    let end = (at + clip.len()).min(recording.len());
    if at >= end {
        return 0.0;
    }
    alike(&recording[at..end], clip)
}

/// Normalised correlation; what is missing at the end of `a` counts as silence.
fn alike(a: &[f64], b: &[f64]) -> f64 {
    let product: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
    let energy = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>();
    let norm = (energy(a) * energy(b)).sqrt();
    if norm == 0.0 { 0.0 } else { product / norm }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::speech::clip;

    fn on_the_line(parts: &[(usize, &[u8])]) -> Vec<u8> {
        let mut line = Vec::new();
        for (silence, clip) in parts {
            line.extend(std::iter::repeat_n(g711::SILENCE, *silence));
            line.extend_from_slice(clip);
        }
        line.extend(std::iter::repeat_n(g711::SILENCE, RATE));
        line
    }

    #[test]
    fn a_clip_is_found_where_it_is() {
        let (greeting, goodbye) = (
            clip("agent-greeting").unwrap(),
            clip("agent-goodbye").unwrap(),
        );
        let line = on_the_line(&[(1234, greeting), (4321, goodbye)]);
        let found = find(&line, goodbye).unwrap();
        assert_eq!(found.at, 1234 + greeting.len() + 4321);
        assert!(found.is_whole(), "{found:?}");
    }

    #[test]
    fn of_two_of_a_kind_the_first_is_found() {
        let goodbye = clip("agent-goodbye").unwrap();
        let line = on_the_line(&[(1234, goodbye), (4321, goodbye)]);
        let found = find(&line, goodbye).unwrap();
        assert_eq!((found.at, found.is_whole()), (1234, true));
        let next = find(&line[goodbye.len()..], goodbye).unwrap();
        assert_eq!(next.at, 1234 + 4321);
    }

    #[test]
    fn a_clip_that_was_never_said_is_not_found() {
        let line = on_the_line(&[(100, clip("agent-greeting").unwrap())]);
        assert_eq!(find(&line, clip("agent-goodbye").unwrap()), None);
        assert_eq!(find(&[], clip("agent-goodbye").unwrap()), None);
    }

    #[test]
    fn a_goodbye_without_its_last_word_is_not_whole() {
        let goodbye = clip("agent-goodbye").unwrap();
        let cut = &goodbye[..goodbye.len() - RATE / 2];
        let found = find(&on_the_line(&[(777, cut)]), goodbye).unwrap();
        assert!(!found.is_whole(), "{found:?}");
    }

    #[test]
    fn speech_is_told_from_silence() {
        let goodbye = clip("agent-goodbye").unwrap();
        let line = on_the_line(&[(RATE, goodbye), (2 * RATE, goodbye)]);
        let spans = speech(&line);
        assert!(spans.len() >= 2, "{spans:?}");
        assert!(spans[0].start >= Duration::from_millis(900), "{spans:?}");
    }
}
