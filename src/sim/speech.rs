//! What the simulated caller and the simulated agent say, and how loud a stretch of telephone is.
//!
//! The clips are raw mu-law at 8 kHz, in the binary; `speech/README.md` says how they were made. The measuring
//! helpers work on the same bytes. The decoder here is the textbook one and is nobody else's: the simulators
//! hold the bridge's own G.711 to account and so do not share it.

use std::ops::Range;
use std::time::Duration;

/// Samples, and so bytes of mu-law, in a second.
pub const SAMPLES_PER_SECOND: usize = 8000;
/// 20 ms, the beat of Media Streams.
pub const FRAME_SAMPLES: usize = 160;
/// A frame louder than this is speech.
pub const ACTIVE_DBFS: f64 = -45.0;
/// Pauses shorter than this do not end a span of speech.
pub const ACTIVE_GAP: Duration = Duration::from_millis(300);

struct Clip {
    name: &'static str,
    transcript: &'static str,
    audio: &'static [u8],
}

macro_rules! clips {
    ($($name:literal: $transcript:literal,)*) => {
        &[$(Clip {
            name: $name,
            transcript: $transcript,
            audio: include_bytes!(concat!("speech/", $name, ".ulaw")),
        }),*]
    };
}

const CLIPS: &[Clip] = clips! {
    "caller-hours": "Hello, what are your opening hours?",
    "caller-interrupt": "Sorry, just the Saturday hours please.",
    "caller-thanks": "Great, thank you. That's all, goodbye.",
    "caller-wait": "Oh wait, one more thing.",
    "caller-yes": "Yes, please.",
    "agent-greeting": "Hello, this is the harbour museum. How can I help you?",
    "agent-hours": "We are open from nine until five, Monday to Wednesday, from nine until eight on Thursday \
        and Friday, and from ten until four at the weekend.",
    "agent-saturday": "On Saturday we are open from ten until four.",
    "agent-goodbye": "You're welcome. Thank you for calling, and goodbye!",
    "agent-more": "Of course, go ahead.",
};

fn find(name: &str) -> Option<&'static Clip> {
    CLIPS.iter().find(|clip| clip.name == name)
}

/// The mu-law bytes of a clip.
pub fn clip(name: &str) -> Option<&'static [u8]> {
    find(name).map(|clip| clip.audio)
}

/// The words of a clip.
pub fn transcript(name: &str) -> Option<&'static str> {
    find(name).map(|clip| clip.transcript)
}

/// The clip of this name, or with these words.
pub fn named(name_or_words: &str) -> Option<&'static str> {
    let is = |clip: &&Clip| [clip.name, clip.transcript].contains(&name_or_words);
    CLIPS.iter().find(is).map(|clip| clip.name)
}

/// The names of all clips.
pub fn names() -> impl Iterator<Item = &'static str> {
    CLIPS.iter().map(|clip| clip.name)
}

/// How long mu-law audio lasts.
pub fn duration(mulaw: &[u8]) -> Duration {
    Duration::from_micros(mulaw.len() as u64 * 125)
}

const fn decode(code: u8) -> i16 {
    let code = !code;
    let exponent = (code >> 4) & 7;
    let magnitude = (((((code & 0x0f) as i16) << 3) + 0x84) << exponent) - 0x84;
    if code & 0x80 == 0 {
        magnitude
    } else {
        -magnitude
    }
}

/// A frame is measured at every beat of every call, so the squares come from a table.
const SQUARES: [u32; 256] = {
    let mut squares = [0; 256];
    let mut code = 0;
    while code < 256 {
        let sample = decode(code as u8) as i32;
        squares[code] = (sample * sample) as u32;
        code += 1;
    }
    squares
};

/// The level of mu-law audio against full scale; negative infinity for silence and for nothing at all.
pub fn rms_dbfs(mulaw: &[u8]) -> f64 {
    let energy: u64 = mulaw
        .iter()
        .map(|&code| u64::from(SQUARES[usize::from(code)]))
        .sum();
    10.0 * (energy as f64 / mulaw.len().max(1) as f64 / (32768.0 * 32768.0)).log10()
}

/// The stretches of speech, in samples: 20 ms frames above [`ACTIVE_DBFS`], pauses under [`ACTIVE_GAP`] filled.
pub fn active_spans(mulaw: &[u8]) -> Vec<Range<usize>> {
    active_spans_by(mulaw, ACTIVE_DBFS, ACTIVE_GAP)
}

/// As [`active_spans`], with a threshold and a longest pause of the caller's choice.
pub fn active_spans_by(mulaw: &[u8], threshold_dbfs: f64, gap: Duration) -> Vec<Range<usize>> {
    let gap = (gap.as_micros() / 125) as usize;
    let mut spans: Vec<Range<usize>> = Vec::new();
    for (index, frame) in mulaw.chunks(FRAME_SAMPLES).enumerate() {
        if rms_dbfs(frame) <= threshold_dbfs {
            continue;
        }
        let start = index * FRAME_SAMPLES;
        let end = start + frame.len();
        match spans.last_mut() {
            Some(last) if start - last.end < gap => last.end = end,
            _ => spans.push(start..end),
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_clip_is_speech_from_end_to_end() {
        for name in names() {
            let audio = clip(name).unwrap();
            let seconds = duration(audio).as_secs_f64();
            assert!((1.0..8.6).contains(&seconds), "{name} lasts {seconds} s");
            assert!(
                (-28.0..-18.0).contains(&rms_dbfs(audio)),
                "{name}: {} dBFS",
                rms_dbfs(audio)
            );
            let spans = active_spans(audio);
            assert!(
                spans[0].start <= 640,
                "{name} begins with silence: {spans:?}"
            );
            assert!(
                audio.len() - spans.last().unwrap().end <= 1600,
                "{name} ends with silence: {spans:?}"
            );
            assert!(!transcript(name).unwrap().is_empty());
        }
        assert!(
            clip("agent-hours").unwrap().len() > 7 * SAMPLES_PER_SECOND,
            "too short to be interrupted"
        );
        assert!(names().map(|name| clip(name).unwrap().len()).sum::<usize>() < 350_000);
        assert_eq!(clip("caller-nobody"), None);
    }

    #[test]
    fn decodes_the_landmarks_of_g711() {
        assert_eq!(
            [0x00, 0x80, 0x7f, 0xff, 0xf0, 0x8f].map(decode),
            [-32124, 32124, 0, 0, 120, 16764]
        );
    }

    #[test]
    fn measures_levels() {
        assert_eq!(rms_dbfs(&[]), f64::NEG_INFINITY);
        assert_eq!(rms_dbfs(&[0xff, 0x7f]), f64::NEG_INFINITY);
        assert!((rms_dbfs(&[0x00, 0x80]) - -0.172).abs() < 0.01);
    }

    #[test]
    fn short_pauses_do_not_end_a_span_and_long_ones_do() {
        let loud = [0x80u8; FRAME_SAMPLES];
        let mut line = vec![0xff; 320];
        line.extend(loud);
        line.extend([0xff; 14 * FRAME_SAMPLES]); // 280 ms
        line.extend(loud);
        line.extend([0xff; 15 * FRAME_SAMPLES]); // 300 ms
        line.extend(&loud[..50]);
        assert_eq!(
            active_spans(&line),
            [320..320 + 16 * 160, 320 + 31 * 160..line.len()]
        );
    }
}
