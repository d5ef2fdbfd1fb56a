//! The caller's voice on its way to the agent.
//!
//! Until the agent is ready the audio is held, in order, in a bounded buffer that loses its oldest
//! bytes first. Twilio stops sending when its own network does, and says so only by its timestamps:
//! a jump is filled with silence, bounded, so that the agent's idea of time and turns stays right.
//! Timestamps are a clock, not multiples of 20 ms (live captures: 19.97 ms a frame), so only a jump
//! from one frame to the next counts, never a sum.

use std::collections::VecDeque;

use crate::audio::g711;

/// 20 ms.
pub const FRAME: usize = 160;
/// Ten seconds: as long as connecting and getting ready may reasonably take.
const MAX_HELD: usize = 10 * 8000;
/// A jump smaller than this is jitter.
const MIN_GAP_MS: u64 = 40;
/// A jump is filled up to this; more would only delay the conversation.
const MAX_FILL_MS: u64 = 2000;

/// Caller audio not yet with the agent, and Twilio's clock.
#[derive(Debug, Default)]
pub struct Uplink {
    held: VecDeque<u8>,
    /// When, on Twilio's clock, the next frame is due.
    due_ms: Option<u64>,
}

impl Uplink {
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

    /// Keeps silence and audio for later; returns how many of the oldest bytes were given up.
    pub fn hold(&mut self, silence: usize, mulaw: &[u8]) -> usize {
        self.held
            .extend(std::iter::repeat_n(g711::SILENCE, silence));
        self.held.extend(mulaw);
        let excess = self.held.len().saturating_sub(MAX_HELD);
        self.held.drain(..excess);
        excess
    }

    /// Hands out everything held, in order and in frames, and gives the memory back.
    pub fn release(&mut self, mut frame: impl FnMut(&[u8])) {
        let mut held = std::mem::take(&mut self.held);
        for chunk in held.make_contiguous().chunks(FRAME) {
            frame(chunk);
        }
    }

    /// What is held on the heap, in bytes.
    pub fn footprint(&self) -> usize {
        self.held.capacity()
    }

    /// Nobody will want it any more.
    pub fn forget(&mut self) {
        self.held = VecDeque::new();
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
        assert_eq!(uplink.hold(0, &[1; FRAME]), 0);
        assert_eq!(uplink.hold(2, &[2; 100]), 0);
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
        for n in 0..600u32 {
            dropped += uplink.hold(0, &[(n % 251) as u8; FRAME]);
        }
        assert_eq!(dropped, 100 * FRAME);
        let kept = released(&mut uplink);
        assert_eq!(kept.len(), MAX_HELD);
        assert_eq!(kept[0], 100);
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
