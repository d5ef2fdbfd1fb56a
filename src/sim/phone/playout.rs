//! What Twilio does with the audio that it is sent: queue it, play it in real time, answer marks.
//!
//! Pure and without a clock: the owner calls [`Playout::play`] once every 20 ms, echoes what
//! [`Playout::due`] hands out, and tells the two kinds of echo apart, which the wire cannot: a mark that was
//! heard (`played`), and one that came back only because of a `clear` (`flushed`).
//!
//! A frame handed out by `play` is on its way to the ear until the next beat. So a mark behind it is due at
//! that beat, not at once; and a `clear` cannot take that frame back.

use std::collections::VecDeque;
use std::time::Duration;

use crate::sim::speech::{FRAME_SAMPLES, SAMPLES_PER_SECOND};

/// Twilio throws away what would make the queue longer than this (error 31931).
pub const CEILING: usize = 600 * SAMPLES_PER_SECOND;

/// Marks are as free as audio; a peer that only ever sends marks must still hit a wall.
const MARKS_CEILING: usize = 100_000;

/// What was thrown away by a `clear`.
#[derive(Debug, PartialEq, Eq)]
pub struct Flushed {
    pub bytes: usize,
    /// To be echoed at once, in the order in which they came.
    pub marks: Vec<String>,
}

/// The queue of audio and marks of one stream.
#[derive(Debug, Default)]
pub struct Playout {
    queue: VecDeque<u8>,
    /// Marks, each with the byte of the stream behind which it stands.
    marks: VecDeque<(u64, String)>,
    /// Bytes ever taken from the queue, by playing or by flushing.
    taken: u64,
    /// How many of them are past the caller's ear: all but the frame that is being played.
    heard: u64,
}

impl Playout {
    /// Queues audio; returns how many bytes of it found no room.
    #[must_use]
    pub fn push(&mut self, audio: &[u8]) -> usize {
        let room = CEILING - self.queue.len();
        let (kept, lost) = audio.split_at(audio.len().min(room));
        self.queue.extend(kept);
        lost.len()
    }

    /// Queues a mark behind all audio so far. False: there are too many, and it was dropped.
    #[must_use]
    pub fn mark(&mut self, name: String) -> bool {
        if self.marks.len() >= MARKS_CEILING {
            return false;
        }
        self.marks
            .push_back((self.taken + self.queue.len() as u64, name));
        true
    }

    /// The next mark that has nothing unheard in front of it. To be asked until it says none, after every
    /// [`mark`](Self::mark) and every [`play`](Self::play).
    pub fn due(&mut self) -> Option<String> {
        match self.marks.front() {
            Some((behind, _)) if *behind <= self.heard => {
                self.marks.pop_front().map(|(_, name)| name)
            }
            _ => None,
        }
    }

    /// One beat: what was being played is now heard, and up to 20 ms are taken to be played next. The rest of
    /// `frame` is filled with silence. Returns how many bytes were really audio.
    pub fn play(&mut self, frame: &mut [u8; FRAME_SAMPLES]) -> usize {
        self.heard = self.taken;
        let count = self.queue.len().min(FRAME_SAMPLES);
        for (slot, byte) in frame.iter_mut().zip(self.queue.drain(..count)) {
            *slot = byte;
        }
        frame[count..].fill(0xff);
        self.taken += count as u64;
        count
    }

    /// `clear`: nothing of what is queued will be played, and every pending mark comes back.
    #[must_use]
    pub fn clear(&mut self) -> Flushed {
        let bytes = self.queue.len();
        self.queue.clear();
        self.taken += bytes as u64;
        Flushed {
            bytes,
            marks: self.marks.drain(..).map(|(_, name)| name).collect(),
        }
    }

    /// Bytes that wait to be played.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Marks that wait for their audio.
    pub fn pending_marks(&self) -> usize {
        self.marks.len()
    }

    /// How long what is queued will last.
    pub fn queued_for(&self) -> Duration {
        Duration::from_micros(self.queue.len() as u64 * 125)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(playout: &mut Playout) -> (usize, Vec<String>) {
        let mut frame = [0; FRAME_SAMPLES];
        let count = playout.play(&mut frame);
        assert!(frame[count..].iter().all(|&byte| byte == 0xff));
        (count, std::iter::from_fn(|| playout.due()).collect())
    }

    #[test]
    fn a_mark_on_an_idle_line_is_due_at_once() {
        let mut playout = Playout::default();
        assert!(playout.mark("now".into()));
        assert_eq!(playout.due().as_deref(), Some("now"));
        assert_eq!(playout.due(), None);
    }

    #[test]
    fn a_mark_is_due_when_the_last_byte_before_it_has_been_heard_and_not_when_it_was_taken() {
        let mut playout = Playout::default();
        assert_eq!(playout.push(&[1; 250]), 0);
        assert!(playout.mark("a".into()));
        assert_eq!(playout.push(&[2; 10]), 0);
        assert!(playout.mark("b".into()));
        assert_eq!(playout.due(), None);
        assert_eq!(beat(&mut playout), (160, vec![]));
        assert_eq!(
            beat(&mut playout),
            (100, vec![]),
            "the last 100 bytes are only now on their way"
        );
        assert_eq!(
            beat(&mut playout),
            (0, vec!["a".to_owned(), "b".to_owned()])
        );
    }

    #[test]
    fn a_mark_behind_the_frame_in_the_air_waits_one_beat() {
        let mut playout = Playout::default();
        assert_eq!(playout.push(&[1; 160]), 0);
        assert_eq!(beat(&mut playout), (160, vec![]));
        assert!(playout.mark("tail".into()));
        assert_eq!(playout.due(), None);
        assert_eq!(beat(&mut playout), (0, vec!["tail".to_owned()]));
    }

    #[test]
    fn clear_empties_the_queue_and_gives_back_every_mark_in_order() {
        let mut playout = Playout::default();
        assert_eq!(playout.push(&[1; 1000]), 0);
        assert!(playout.mark("one".into()));
        assert_eq!(playout.push(&[1; 500]), 0);
        assert!(playout.mark("two".into()));
        assert_eq!(beat(&mut playout).0, 160);
        assert_eq!(
            playout.clear(),
            Flushed {
                bytes: 1340,
                marks: vec!["one".into(), "two".into()]
            }
        );
        assert_eq!(
            playout.clear(),
            Flushed {
                bytes: 0,
                marks: vec![]
            }
        );
        assert_eq!(beat(&mut playout), (0, vec![]));
    }

    #[test]
    fn audio_in_flight_at_the_clear_is_played_after_it() {
        let mut playout = Playout::default();
        assert_eq!(playout.push(&[1; 1000]), 0);
        let _ = playout.clear();
        assert_eq!(playout.push(&[2; 160]), 0);
        assert!(playout.mark("late".into()));
        assert_eq!(beat(&mut playout), (160, vec![]));
        assert_eq!(beat(&mut playout), (0, vec!["late".to_owned()]));
    }

    #[test]
    fn ten_minutes_fit_and_not_a_byte_more() {
        let mut playout = Playout::default();
        assert_eq!(playout.push(&vec![0; CEILING - 1]), 0);
        assert_eq!(playout.push(&[0; 3]), 2);
        assert_eq!(playout.queued_for(), Duration::from_secs(600));
    }
}
