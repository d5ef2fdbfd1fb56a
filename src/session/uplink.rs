//! The caller's voice on its way to the agent.
//!
//! Until the agent is ready the audio is held, in order, in a bounded buffer that loses its oldest
//! bytes first. What has been sent is kept too, from the caller's first voice on, until the agent has
//! answered it: an agent that is lost meanwhile has heard it in vain, and its successor hears it
//! again. Twilio stops sending when its own network does, and says so only by its timestamps: a jump
//! is filled with silence, bounded, so that the agent's idea of time and turns stays right.
//! Timestamps are a clock, not multiples of 20 ms (live captures: 19.97 ms a frame), so only a jump
//! from one frame to the next counts, never a sum.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::audio::g711;

/// 20 ms.
pub const FRAME: usize = 160;
/// Ten seconds, held or sent in vain: as long as connecting and getting ready may reasonably take.
const MAX_HELD: usize = 10 * 8000;
const MAX_KEPT: Duration = Duration::from_secs(60);
/// The mean amplitude of a frame with a voice in it. A quiet line is below 100, speech beyond 1000.
const VOICE: u32 = 300;
/// Somebody who has not been heard for so long has stopped speaking, or is thinking.
const PAUSE: Duration = Duration::from_millis(1500);
/// Words that have not been understood by then were none.
const UNDERSTOOD: Duration = Duration::from_secs(8);
/// A jump smaller than this is jitter.
const MIN_GAP_MS: u64 = 40;
/// A jump is filled up to this; more would only delay the conversation.
const MAX_FILL_MS: u64 = 2000;

/// Caller audio not yet with the agent, and Twilio's clock.
#[derive(Debug, Default)]
pub struct Uplink {
    held: VecDeque<u8>,
    /// Sent and not yet answered.
    sent: VecDeque<u8>,
    /// So much of that is in the agent's own transcript.
    understood: usize,
    understood_at: Option<Instant>,
    /// When the caller's voice was last heard.
    voice: Option<Instant>,
    /// When, on Twilio's clock, the next frame is due.
    due_ms: Option<u64>,
}

impl Uplink {
    /// Another stream, with a clock of its own.
    pub fn begin_again(&mut self) {
        self.due_ms = None;
    }

    /// Follows Twilio's clock; returns how many bytes of silence are missing before this frame.
    pub fn gap(&mut self, timestamp_ms: Option<u64>, frame_bytes: usize) -> usize {
        let Some(at) = timestamp_ms else { return 0 };
        let gap = match self.due_ms {
            Some(due) => at.saturating_sub(due),
            None => 0,
        };
        self.due_ms = Some(at.saturating_add(frame_bytes as u64 / 8));
        if gap < MIN_GAP_MS {
            0
        } else {
            gap.min(MAX_FILL_MS) as usize * 8
        }
    }

    /// Listens for a voice.
    pub fn listen(&mut self, now: Instant, mulaw: &[u8]) {
        let sum: u32 = mulaw
            .iter()
            .map(|code| u32::from(g711::decode(*code).unsigned_abs()))
            .sum();
        if sum > VOICE * mulaw.len() as u32 {
            self.voice = Some(now);
        }
    }

    /// The caller's voice has been heard since then.
    pub fn voice_since(&self, then: Instant) -> bool {
        self.voice.is_some_and(|voice| voice >= then)
    }

    /// The caller is not speaking.
    pub fn pauses(&self, now: Instant) -> bool {
        self.voice.is_none_or(|voice| now >= voice + PAUSE)
    }

    /// When that will be so if nothing more is heard.
    pub fn pauses_at(&self) -> Option<Instant> {
        self.voice.map(|voice| voice + PAUSE)
    }

    /// The caller is not speaking, and nothing that they said is still to be understood.
    pub fn rests(&self, now: Instant) -> bool {
        self.voice.is_none_or(|voice| {
            let understood = self.understood_at.is_some_and(|at| at >= voice);
            now >= voice + if understood { PAUSE } else { UNDERSTOOD }
        })
    }

    /// Audio goes to the agent. Of silence nothing is kept but the end of a sentence.
    pub fn sent(&mut self, now: Instant, mulaw: &[u8]) {
        if self.voice.is_none_or(|voice| now >= voice + MAX_KEPT) {
            // Nothing but silence is left of it.
            self.sent = VecDeque::new();
            self.understood = 0;
            return;
        }
        if self.pauses(now) {
            return;
        }
        let excess = (self.sent.len() + mulaw.len()).saturating_sub(MAX_HELD);
        self.sent.drain(..excess.min(self.sent.len()));
        self.understood = self.understood.saturating_sub(excess);
        // By the second: doubling would be most of a call's memory.
        if self.sent.capacity() - self.sent.len() < mulaw.len() {
            self.sent.reserve_exact(mulaw.len().max(8000));
        }
        self.sent.extend(mulaw);
    }

    /// What was sent so far stands in the agent's transcript.
    pub fn understood(&mut self, now: Instant) {
        self.understood = self.sent.len();
        self.understood_at = Some(now);
    }

    /// The agent answers what it has understood: nobody needs to hear that again.
    pub fn answered(&mut self) {
        self.sent.drain(..self.understood);
        self.understood = 0;
        if self.sent.is_empty() {
            self.sent = VecDeque::new();
        }
    }

    /// The agent has heard all and owes nothing.
    pub fn settled(&mut self) {
        self.sent = VecDeque::new();
        self.understood = 0;
    }

    /// The agent is lost: what it has heard and not answered is held for the next. Returns how many bytes.
    pub fn take_back(&mut self) -> usize {
        let mut all = std::mem::take(&mut self.sent);
        let again = all.len();
        self.understood = 0;
        all.extend(self.held.drain(..));
        // What is newer is held in any case.
        let excess = all.len().saturating_sub(MAX_HELD).min(again);
        all.drain(..excess);
        self.held = all;
        again - excess
    }

    /// Hands out `bytes` of silence in frames.
    pub fn silence(bytes: usize, mut frame: impl FnMut(&[u8])) {
        const SILENCE: [u8; FRAME] = [g711::SILENCE; FRAME];
        let mut left = bytes;
        while left > 0 {
            let now = left.min(FRAME);
            frame(&SILENCE[..now]);
            left -= now;
        }
    }

    /// Keeps silence and audio for later; returns how many bytes were given up: when there is no more
    /// room, of somebody who does not speak the newest, of somebody who does the oldest.
    pub fn hold(&mut self, now: Instant, silence: usize, mulaw: &[u8]) -> usize {
        if self.pauses(now) && self.held.len() + silence + mulaw.len() > MAX_HELD {
            return silence + mulaw.len();
        }
        self.held
            .extend(std::iter::repeat_n(g711::SILENCE, silence));
        self.held.extend(mulaw);
        let excess = self.held.len().saturating_sub(MAX_HELD);
        self.held.drain(..excess);
        excess
    }

    /// Hands out everything held, in order and in frames: it counts as sent from now on.
    pub fn release(&mut self, mut frame: impl FnMut(&[u8])) {
        let mut held = std::mem::take(&mut self.held);
        for chunk in held.make_contiguous().chunks(FRAME) {
            frame(chunk);
        }
        // An agent that is lost before it has answered must not take this with it.
        if self.voice.is_some() {
            self.sent = held;
        }
        self.understood = 0;
    }

    /// What is held on the heap, in bytes.
    pub fn footprint(&self) -> usize {
        self.held.capacity() + self.sent.capacity()
    }

    /// Nobody will want it any more.
    pub fn forget(&mut self) {
        self.held = VecDeque::new();
        self.sent = VecDeque::new();
        self.understood = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn released(uplink: &mut Uplink) -> Vec<u8> {
        let mut all = Vec::new();
        uplink.release(|frame| all.extend_from_slice(frame));
        all
    }

    #[test]
    fn audio_is_held_in_order_and_released_once() {
        let mut uplink = Uplink::default();
        let now = Instant::now();
        assert_eq!(uplink.hold(now, 0, &[1; FRAME]), 0);
        assert_eq!(uplink.hold(now, 2, &[2; 100]), 0);
        let mut expected = vec![1; FRAME];
        expected.extend([g711::SILENCE; 2]);
        expected.extend([2; 100]);
        assert_eq!(released(&mut uplink), expected);
        assert!(released(&mut uplink).is_empty());
    }

    #[test]
    fn the_oldest_audio_is_given_up_when_the_agent_takes_too_long() {
        let mut uplink = Uplink::default();
        let mut dropped = 0;
        let now = Instant::now();
        uplink.listen(now, &voice(1));
        for n in 0..600u32 {
            dropped += uplink.hold(now, 0, &[(n % 251) as u8; FRAME]);
        }
        assert_eq!(dropped, 100 * FRAME);
        let kept = released(&mut uplink);
        assert_eq!(kept.len(), MAX_HELD);
        assert_eq!(kept[0], 100);
    }

    /// A loud frame, as different from its neighbours as `n`.
    fn voice(n: u8) -> [u8; FRAME] {
        [n & 0x7f & 0x0f; FRAME]
    }

    #[test]
    fn what_was_sent_and_not_answered_is_held_again_in_front_of_what_came_since() {
        let start = Instant::now();
        let mut uplink = Uplink::default();
        uplink.listen(start, &[g711::SILENCE; FRAME]);
        uplink.sent(start, &[g711::SILENCE; FRAME]);
        assert_eq!(
            uplink.take_back(),
            0,
            "a silent line is not worth repeating"
        );
        for n in [1, 2] {
            uplink.listen(start, &voice(n));
            uplink.sent(start, &voice(n));
        }
        assert!(uplink.voice_since(start) && !uplink.pauses(start));
        assert!(uplink.pauses(start + PAUSE));
        uplink.hold(start, 0, &voice(3));
        assert_eq!(uplink.take_back(), 2 * FRAME);
        let all = [voice(1), voice(2), voice(3)].concat();
        assert_eq!(released(&mut uplink), all);
        // Nor does the next agent's end lose it.
        assert_eq!(uplink.take_back(), 3 * FRAME);
        assert_eq!(released(&mut uplink), all);
    }

    #[test]
    fn what_the_agent_has_answered_is_not_repeated() {
        let start = Instant::now();
        let mut uplink = Uplink::default();
        for n in [1, 2] {
            uplink.listen(start, &voice(n));
            uplink.sent(start, &voice(n));
            if n == 1 {
                uplink.understood(start);
            }
        }
        uplink.answered();
        assert_eq!(uplink.take_back(), FRAME);
        assert_eq!(released(&mut uplink), voice(2));
    }

    #[test]
    fn no_more_than_ten_seconds_are_repeated_and_nothing_newer_is_lost_for_it() {
        let start = Instant::now();
        let mut uplink = Uplink::default();
        for n in 0..700_u64 {
            let now = start + Duration::from_millis(20 * n);
            uplink.listen(now, &voice(1));
            uplink.sent(now, &voice(1));
        }
        let now = start + Duration::from_secs(14);
        uplink.hold(now, 0, &[9; 100 * FRAME]);
        assert_eq!(uplink.take_back(), MAX_HELD - 100 * FRAME);
        let all = released(&mut uplink);
        assert_eq!(all.len(), MAX_HELD);
        assert!(all.ends_with(&[9; 100 * FRAME]));
    }

    #[test]
    fn a_voice_that_has_been_silent_for_long_is_forgotten() {
        let start = Instant::now();
        let mut uplink = Uplink::default();
        uplink.listen(start, &voice(1));
        uplink.sent(start, &voice(1));
        // A quiet line does not push it out.
        for n in 1..2900 {
            let now = start + Duration::from_millis(20 * n);
            uplink.sent(now, &[g711::SILENCE; FRAME]);
        }
        assert_eq!(uplink.sent.len(), FRAME + 74 * FRAME);
        uplink.sent(start + MAX_KEPT, &[g711::SILENCE; FRAME]);
        assert_eq!(uplink.take_back(), 0);
    }

    #[test]
    fn silence_does_not_push_out_what_was_said() {
        let start = Instant::now();
        let mut uplink = Uplink::default();
        uplink.listen(start, &voice(1));
        uplink.hold(start, 0, &voice(1));
        let mut dropped = 0;
        for n in 1..1000 {
            let now = start + Duration::from_millis(20 * n);
            dropped += uplink.hold(now, 0, &[g711::SILENCE; FRAME]);
        }
        assert_eq!(dropped, 500 * FRAME);
        // A voice does.
        let now = start + Duration::from_secs(20);
        uplink.listen(now, &voice(2));
        assert_eq!(uplink.hold(now, 0, &voice(2)), FRAME);
        let held = released(&mut uplink);
        assert!(held.ends_with(&voice(2)) && held.len() == MAX_HELD);
    }

    #[test]
    fn a_caller_rests_when_what_they_said_is_understood() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut uplink = Uplink::default();
        assert!(uplink.rests(start));
        uplink.listen(start, &voice(1));
        assert!(!uplink.rests(at(7999)) && uplink.rests(at(8000)));
        uplink.understood(at(1000));
        assert!(!uplink.rests(at(1499)) && uplink.rests(at(1500)));
    }

    #[test]
    fn real_timestamps_are_not_multiples_of_twenty() {
        let mut uplink = Uplink::default();
        assert_eq!(
            uplink.gap(Some(155), FRAME),
            0,
            "the first frame is not at zero"
        );
        for n in 1..3000u64 {
            let at = 155 + n * 1997 / 100;
            assert_eq!(uplink.gap(Some(at), FRAME), 0);
        }
    }

    #[test]
    fn a_jump_is_filled_and_a_wild_one_bounded() {
        let mut uplink = Uplink::default();
        uplink.gap(Some(100), FRAME);
        assert_eq!(uplink.gap(Some(320), FRAME), 200 * 8);
        assert_eq!(uplink.gap(Some(340), FRAME), 0);
        assert_eq!(uplink.gap(Some(u64::MAX), FRAME), 2000 * 8);
        assert_eq!(
            uplink.gap(Some(5), FRAME),
            0,
            "a clock that runs backwards is followed"
        );
        assert_eq!(uplink.gap(Some(25), FRAME), 0);
        assert_eq!(uplink.gap(None, FRAME), 0);
    }

    #[test]
    fn silence_is_handed_out_in_frames() {
        let mut sizes = Vec::new();
        Uplink::silence(2 * FRAME + 8, |frame| {
            assert!(frame.iter().all(|byte| *byte == g711::SILENCE));
            sizes.push(frame.len());
        });
        assert_eq!(sizes, [FRAME, FRAME, 8]);
    }
}
