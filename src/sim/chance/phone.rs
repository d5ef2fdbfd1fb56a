//! A telephone behind Twilio, on paper: what it is given it plays in order and in real time.
//!
//! It knows to the sample what its caller has heard of which segment, which is the truth that the
//! machine can only estimate. Marks come back when they are reached, all of them at once after a
//! clear (Twilio docs, Media Streams); a forgetful one loses some. Frames come to the beat, with
//! Twilio's clock in them, until the line is gone.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::{agent::SegmentId, session::playback::duration};

/// Whose sound it is: the connection to the agent, and the segment in it.
pub type Origin = (u32, SegmentId);

/// Nobody's but the bridge's.
pub const HOLD: Origin = (0, SegmentId(0));

/// What the caller hears, from then to then.
struct Stretch {
    origin: Origin,
    begins: Instant,
    ends: Instant,
}

pub struct Phone {
    /// From our socket to the caller's ear.
    pub latency: Duration,
    /// The way back of a mark.
    pub echo: Duration,
    /// Every so many marks one is lost.
    pub forgets: Option<u32>,
    /// When the next frame is due; `None` when nothing more comes.
    pub next_frame: Option<Instant>,
    /// Answers a ping, whatever else it does.
    pub answers: bool,
    /// Caller samples sent so far.
    pub sent: u64,
    /// What Twilio's clock says to the next frame, in microseconds since the stream began.
    pub clock_us: u64,
    heard: Vec<Stretch>,
    marks: VecDeque<(Instant, String)>,
    given: u32,
    /// Sound was given after the last mark.
    pub unmarked: bool,
}

impl Phone {
    pub fn new(now: Instant, latency: Duration, echo: Duration) -> Self {
        Phone {
            latency,
            echo,
            forgets: None,
            next_frame: Some(now),
            answers: true,
            sent: 0,
            clock_us: 155_000,
            heard: Vec::new(),
            marks: VecDeque::new(),
            given: 0,
            unmarked: false,
        }
    }

    pub fn play(&mut self, now: Instant, origin: Origin, bytes: usize) {
        self.unmarked = true;
        let at = now + self.latency;
        let begins = self.silent_from().map_or(at, |end| end.max(at));
        let ends = begins + duration(bytes);
        match self.heard.last_mut() {
            Some(last) if last.origin == origin && last.ends == begins => last.ends = ends,
            _ => self.heard.push(Stretch {
                origin,
                begins,
                ends,
            }),
        }
    }

    /// The bridge's own sound, while there is no agent.
    pub fn hold(&mut self, now: Instant, bytes: usize) {
        let unmarked = self.unmarked;
        self.play(now, HOLD, bytes);
        self.unmarked = unmarked;
    }

    pub fn mark(&mut self, now: Instant, name: &str) {
        self.unmarked = false;
        self.given += 1;
        if self
            .forgets
            .is_some_and(|every| self.given.is_multiple_of(every))
        {
            return;
        }
        let at = now + self.latency;
        let reached = self.silent_from().map_or(at, |end| end.max(at));
        self.marks.push_back((reached + self.echo, name.to_owned()));
    }

    /// Returns the newest segment of which something was flushed.
    pub fn clear(&mut self, now: Instant) -> Option<Origin> {
        self.unmarked = false;
        let flushes = |stretch: &&Stretch| stretch.ends > now && stretch.origin != HOLD;
        let flushed = self
            .heard
            .iter()
            .filter(flushes)
            .map(|stretch| stretch.origin)
            .max();
        self.heard.retain(|stretch| stretch.begins < now);
        if let Some(last) = self.heard.last_mut() {
            last.ends = last.ends.min(now);
        }
        for (due, _) in &mut self.marks {
            *due = (*due).min(now + self.echo);
        }
        flushed
    }

    /// When everything given so far will have been heard.
    fn silent_from(&self) -> Option<Instant> {
        self.heard.last().map(|last| last.ends)
    }

    /// How much longer the agent will be heard.
    pub fn unplayed(&self, now: Instant) -> Duration {
        let mut agents = self.heard.iter().rev();
        let last = agents.find(|stretch| stretch.origin != HOLD);
        last.map_or(Duration::ZERO, |last| {
            last.ends.saturating_duration_since(now)
        })
    }

    /// The bridge's own sound is heard, or will be.
    pub fn holds(&self, now: Instant) -> bool {
        let sounds = |stretch: &Stretch| stretch.origin == HOLD && stretch.ends > now;
        self.heard.iter().rev().take(2).any(sounds)
    }

    /// Since when the caller has heard nothing.
    pub fn silent_since(&self) -> Option<Instant> {
        self.silent_from()
    }

    /// How much of a segment has been heard.
    pub fn heard(&self, now: Instant, origin: Origin) -> Duration {
        self.heard
            .iter()
            .filter(|stretch| stretch.origin == origin)
            .map(|stretch| {
                stretch
                    .ends
                    .min(now)
                    .saturating_duration_since(stretch.begins)
            })
            .sum()
    }

    /// When the next mark comes back.
    pub fn next_mark(&self) -> Option<Instant> {
        self.marks.front().map(|(due, _)| *due)
    }

    pub fn take_mark(&mut self) -> Option<String> {
        self.marks.pop_front().map(|(_, name)| name)
    }

    /// The stream is over, and the call is not: what was on its way is never heard.
    pub fn leaves(&mut self, now: Instant) {
        self.next_frame = None;
        self.answers = true;
        self.marks.clear();
        self.clear(now);
    }

    /// On a new stream, with a clock of its own; what was heard before was heard.
    pub fn returns(&mut self, now: Instant, forgets: Option<u32>) {
        self.next_frame = Some(now);
        self.forgets = forgets;
        self.clock_us = 0;
    }

    /// From now on nothing more comes of it.
    pub fn vanish(&mut self) {
        self.next_frame = None;
        self.answers = false;
        self.marks.clear();
        self.forgets = Some(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const A: Origin = (1, SegmentId(1));
    const B: Origin = (1, SegmentId(2));

    fn phone(now: Instant) -> Phone {
        Phone::new(now, Duration::ZERO, 10 * MS)
    }

    #[test]
    fn what_is_given_is_heard_in_order_and_in_real_time() {
        let start = Instant::now();
        let mut phone = phone(start);
        phone.play(start, A, 8000);
        phone.mark(start, "a");
        phone.play(start + 100 * MS, B, 8000);
        phone.mark(start + 100 * MS, "b");
        assert_eq!(phone.heard(start + 1500 * MS, A), 1000 * MS);
        assert_eq!(phone.heard(start + 1500 * MS, B), 500 * MS);
        assert_eq!(phone.unplayed(start + 1500 * MS), 500 * MS);
        assert_eq!(phone.next_mark(), Some(start + 1010 * MS));
        assert_eq!(phone.take_mark().as_deref(), Some("a"));
        assert_eq!(phone.next_mark(), Some(start + 2010 * MS));
    }

    #[test]
    fn a_clear_flushes_and_brings_all_marks_back() {
        let start = Instant::now();
        let mut phone = phone(start);
        phone.play(start, A, 8000);
        phone.mark(start, "a");
        phone.play(start, B, 8000);
        phone.mark(start, "b");
        assert_eq!(phone.clear(start + 400 * MS), Some(B));
        assert_eq!(phone.heard(start + 5000 * MS, A), 400 * MS);
        assert_eq!(phone.heard(start + 5000 * MS, B), Duration::ZERO);
        assert_eq!(phone.unplayed(start + 400 * MS), Duration::ZERO);
        assert_eq!(phone.take_mark().as_deref(), Some("a"));
        assert_eq!(phone.next_mark(), Some(start + 410 * MS));
        assert_eq!(phone.clear(start + 400 * MS), None);
    }
}
