//! What the caller hears while there is no agent to hear.
//!
//! After a while without agent and without anything else to hear, a sound is played, again and again,
//! a second at a time: so it can be taken back the moment the agent is there, and an operator's
//! recorded sentence can be as long as it likes. Pure bookkeeping; time is handed in.

use std::{
    f32::consts::TAU,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::audio::g711;

/// What is given to the telephone at once, in bytes.
const PIECE: usize = 8000;
const LENGTH: Duration = Duration::from_secs(1);
/// So much before a piece has been played, the next is sent.
const LEAD: Duration = Duration::from_millis(400);

/// Mu-law, 8 kHz, not empty.
#[derive(Clone, PartialEq, Eq)]
pub struct Sound(Arc<[u8]>);

impl fmt::Debug for Sound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sound({} bytes)", self.0.len())
    }
}

impl Sound {
    /// `None` for no sound at all.
    pub fn new(mulaw: Arc<[u8]>) -> Option<Sound> {
        (!mulaw.is_empty()).then_some(Sound(mulaw))
    }

    /// Two soft tones and a pause: somebody is still there.
    pub fn tones() -> Sound {
        const RATE: f32 = 8000.0;
        const TONE: usize = 1600;
        const AMPLITUDE: f32 = 2000.0;
        let tone = |hertz: f32| {
            (0..TONE).map(move |n| {
                let t = n as f32 / RATE;
                // Raised at both ends, so that it does not click.
                let envelope = (n.min(TONE - n) as f32 / 400.0).min(1.0);
                ((TAU * hertz * t).sin() * envelope * AMPLITUDE) as i16
            })
        };
        let pause = |ms: usize| std::iter::repeat_n(0_i16, ms * 8);
        let samples: Vec<i16> = tone(440.0)
            .chain(pause(100))
            .chain(tone(349.2))
            .chain(pause(2500))
            .collect();
        let mut mulaw = Vec::new();
        g711::encode_into(&samples, &mut mulaw);
        Sound(mulaw.into())
    }
}

/// When a call without an agent begins to sound, and with what.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub after: Duration,
    pub sound: Sound,
}

/// A sound under way.
#[derive(Debug, Default)]
pub struct Hold {
    /// When the next piece is due; `None` while nothing sounds.
    next: Option<Instant>,
    at: usize,
}

impl Hold {
    pub fn sounds(&self) -> bool {
        self.next.is_some()
    }

    /// When the next piece is due, if the caller has heard nothing since.
    pub fn due(&self, waiting: &Waiting, silent_since: Instant) -> Instant {
        self.next.unwrap_or(silent_since + waiting.after)
    }

    /// The next second of the sound.
    pub fn piece(&mut self, now: Instant, waiting: &Waiting) -> Vec<u8> {
        let sound = &waiting.sound.0;
        let piece = sound.iter().cycle().skip(self.at).take(PIECE).copied();
        let piece = piece.collect();
        self.at = (self.at + PIECE) % sound.len();
        // The first piece gives the lead, the others keep it; a late timer does not add up.
        let begins = self.next.map_or(now, |next| (next + LEAD).max(now));
        self.next = Some(begins + LENGTH - LEAD);
        piece
    }

    /// The agent is back, or the call ends. True if something sounded that has to be cleared.
    pub fn stop(&mut self) -> bool {
        self.at = 0;
        self.next.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sound_is_played_piece_by_piece_round_and_round_without_a_gap() {
        let bytes: Vec<u8> = (0..4_999_u32).map(|n| (n % 251) as u8).collect();
        let sound = Sound::new(bytes.clone().into()).unwrap();
        let waiting = Waiting {
            after: Duration::from_secs(3),
            sound,
        };
        let start = Instant::now();
        let mut hold = Hold::default();
        assert_eq!(hold.due(&waiting, start), start + waiting.after);
        assert!(!hold.sounds() && !hold.stop());
        let began = start + waiting.after;
        let mut now = began;
        let mut played = Vec::new();
        for _ in 0..30 {
            played.extend(hold.piece(now, &waiting));
            let ends = began + Duration::from_micros(played.len() as u64 * 125);
            now = hold.due(&waiting, start);
            assert_eq!(now + LEAD, ends);
        }
        assert!(played.iter().eq(bytes.iter().cycle().take(played.len())));
        assert!(hold.stop());
        assert_eq!(hold.at, 0);
    }

    #[test]
    fn the_tones_are_soft_and_begin_and_end_in_silence() {
        let Sound(mulaw) = Sound::tones();
        let mut samples = Vec::new();
        g711::decode_into(&mulaw, &mut samples);
        assert_eq!((samples[0], samples.last()), (0, Some(&0)));
        let loudest = samples.iter().map(|s| s.unsigned_abs()).max();
        assert!(loudest.is_some_and(|loudest| (1800..2200).contains(&loudest)));
    }
}
