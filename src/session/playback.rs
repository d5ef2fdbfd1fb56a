//! What has been sent to the caller's ear, and how much of it was heard.
//!
//! Twilio plays what it is given in order and in real time, and echoes a mark when everything
//! before it has been played. So: heard is what marks say, bounded by added-up duration; bytes sent
//! say nothing. A clear opens a new *generation*: Twilio then echoes every pending mark at once, so
//! a mark's name carries its generation and an echo of an older one means "flushed", not "heard".
//! (Twilio docs, Media Streams: mark and clear.)
//!
//! The sums know nothing of the way to the caller, so they say too much. For an agent to which that
//! matters there are marks inside an utterance too ([`Playback::counting`]): heard is then what the last
//! one said, and the time since, up to the next. Far behind what is being heard they are far between:
//! what is queued for long cannot run dry in between.
//!
//! Pure bookkeeping: time is handed in, memory is bounded by [`MAX_QUEUED`].

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::agent::SegmentId;

/// Twilio discards what is queued beyond ten minutes (warning 31931); we stop short of that.
pub const MAX_QUEUED: Duration = Duration::from_secs(9 * 60);
/// More unheard segments than this are kept as one.
const MAX_SEGMENTS: usize = 256;
/// Marks inside an utterance are so far apart, or by that share of what is queued before them.
const MARK_EVERY: Duration = Duration::from_millis(200);
const MARK_SHARE: u32 = 8;
/// 20 ms: audio is cut into whole frames.
const FRAME: usize = 160;
/// How much later than the sums say the last sample may be heard: Twilio's own way to the caller.
const SLACK: Duration = Duration::from_secs(1);

/// Audio on its way to the caller.
#[derive(Debug, Default)]
pub struct Playback {
    generation: u32,
    marks: u32,
    /// There are marks inside utterances.
    counts: bool,
    /// Since when the oldest unheard audio has been heard, at the earliest: the last mark said so.
    heard_since: Option<Instant>,
    /// When the last sample sent will have been played, if Twilio began at once.
    plays_until: Option<Instant>,
    /// Sent and not yet known to be heard, oldest first.
    unheard: VecDeque<Sent>,
    /// The segment last sent, and how much of it in all.
    newest: Option<(SegmentId, Duration)>,
    /// Audio of this segment and older ones belongs to an interrupted generation.
    cut: Option<SegmentId>,
}

#[derive(Debug)]
struct Sent {
    segment: SegmentId,
    /// So much of the same segment came before it.
    from: Duration,
    duration: Duration,
    /// The mark that follows its last sample.
    mark: Option<u32>,
}

/// What a clear took away from the caller, segment by segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    pub segment: SegmentId,
    pub heard_ms: u64,
}

/// What an echoed mark means.
#[derive(Debug, PartialEq, Eq)]
pub enum Echo {
    /// Everything up to the mark has been heard.
    Heard,
    /// A mark of a generation that was cleared, or one we never sent.
    Stale,
}

/// Mu-law at 8 kHz: eight bytes a millisecond.
pub fn duration(mulaw_bytes: usize) -> Duration {
    Duration::from_micros(mulaw_bytes as u64 * 125)
}

impl Playback {
    /// One that marks the inside of utterances, for agents that are told to the fraction of a second what
    /// was heard.
    pub fn counting(counts: bool) -> Playback {
        Playback {
            counts,
            ..Playback::default()
        }
    }

    /// May this segment's audio be sent, and is there room for it?
    pub fn accepts(&self, now: Instant, segment: SegmentId) -> bool {
        self.cut.is_none_or(|cut| segment > cut) && self.queued(now) < MAX_QUEUED
    }

    /// Notes audio that is being sent.
    pub fn sent(&mut self, now: Instant, segment: SegmentId, mulaw_bytes: usize) {
        let duration = duration(mulaw_bytes);
        let begins = self.plays_until.map_or(now, |until| until.max(now));
        self.plays_until = Some(begins + duration);
        if self.unheard.is_empty() {
            self.heard_since = Some(begins);
        }
        let from = self.sent_of(segment);
        self.newest = Some((segment, from + duration));
        let full = self.unheard.len() >= MAX_SEGMENTS;
        let counts = self.counts;
        let joins = |last: &Sent| last.segment == segment && !(counts && last.mark.is_some());
        match self.unheard.back_mut() {
            Some(last) if full || joins(last) => {
                last.segment = segment;
                last.duration += duration;
                last.mark = None;
            }
            _ => self.unheard.push_back(Sent {
                segment,
                from,
                duration,
                mark: None,
            }),
        }
    }

    /// How much of a segment has been sent, as far as that is still known.
    fn sent_of(&self, segment: SegmentId) -> Duration {
        let newest = self.newest.filter(|(newest, _)| *newest == segment);
        let listed = || self.unheard.iter().rfind(|sent| sent.segment == segment);
        match newest {
            Some((_, sent)) => sent,
            None => listed().map_or(Duration::ZERO, |sent| sent.from + sent.duration),
        }
    }

    /// How many bytes of this segment may be sent before a mark has to follow them: whole frames, at
    /// least one.
    pub fn until_mark(&self, now: Instant, segment: SegmentId) -> usize {
        if !self.counts {
            return usize::MAX;
        }
        let every = MARK_EVERY.max(self.queued(now) / MARK_SHARE);
        let last = self.unheard.back();
        let open = last.filter(|last| last.segment == segment && last.mark.is_none());
        let left = every.saturating_sub(open.map_or(Duration::ZERO, |open| open.duration));
        let frames = left.as_millis() as usize * 8 / FRAME;
        frames.max(1) * FRAME
    }

    /// The name of a mark to send now, unless everything sent is already followed by one.
    pub fn mark(&mut self) -> Option<String> {
        let last = self.unheard.back_mut().filter(|last| last.mark.is_none())?;
        self.marks = self.marks.wrapping_add(1);
        last.mark = Some(self.marks);
        Some(format!("{}.{}", self.generation, self.marks))
    }

    /// Twilio echoes a mark.
    pub fn echoed(&mut self, now: Instant, name: &str) -> Echo {
        let Some((generation, mark)) = name.split_once('.') else {
            return Echo::Stale;
        };
        let (Ok(generation), Ok(mark)) = (generation.parse::<u32>(), mark.parse::<u32>()) else {
            return Echo::Stale;
        };
        if generation != self.generation {
            return Echo::Stale;
        }
        // A merged segment may have lost an earlier mark; everything older is heard all the same.
        match self.unheard.iter().position(|sent| sent.mark == Some(mark)) {
            Some(position) => {
                self.unheard.drain(..=position);
                self.heard_since = Some(now);
                Echo::Heard
            }
            None => Echo::Stale,
        }
    }

    /// Is there audio that the caller has not heard to its end?
    ///
    /// Audio whose mark is lost counts as heard a second after the sums say it must have been.
    pub fn unheard(&self, now: Instant) -> bool {
        self.unheard_until().is_some_and(|until| now < until)
    }

    /// Until when that may be so, if no mark comes back.
    pub fn unheard_until(&self) -> Option<Instant> {
        let until = self.plays_until.filter(|_| !self.unheard.is_empty());
        until.map(|until| until + SLACK)
    }

    /// Everything sent has been marked and every mark echoed.
    pub fn drained(&self) -> bool {
        self.unheard.is_empty()
    }

    /// What is held on the heap, in bytes.
    pub fn footprint(&self) -> usize {
        self.unheard.capacity() * size_of::<Sent>()
    }

    /// How much longer what has been sent will play, by added-up duration.
    pub fn queued(&self, now: Instant) -> Duration {
        self.plays_until
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// When the last sample sent will have been played, if ever one was.
    pub fn plays_until(&self) -> Option<Instant> {
        self.plays_until
    }

    /// A segment is over for the caller though nothing of it is queued: later audio of it is stale.
    pub fn cut_at(&mut self, segment: SegmentId) -> Cut {
        self.cut = Some(segment).max(self.cut);
        let heard = self.newest.filter(|(newest, _)| *newest == segment);
        Cut {
            segment,
            heard_ms: heard.map_or(0, |(_, sent)| sent.as_millis() as u64),
        }
    }

    /// Of what was sent and is not known to be heard, so much has not been heard.
    fn lost(&self, now: Instant) -> Duration {
        let queued = self.queued(now);
        if !self.counts {
            return queued;
        }
        // Had more been heard, the next mark would have said so.
        let marked = self.unheard.iter().position(|sent| sent.mark.is_some());
        let next = marked.map_or(self.unheard.len(), |at| at + 1);
        let until_mark: Duration = self.unheard.iter().take(next).map(|s| s.duration).sum();
        let since = self.heard_since.unwrap_or(now);
        let heard = now.saturating_duration_since(since).min(until_mark);
        let all: Duration = self.unheard.iter().map(|sent| sent.duration).sum();
        queued.max(all.saturating_sub(heard))
    }

    /// A clear is being sent: a new generation begins. Returns what was cut, segment by segment, the
    /// oldest first; of one that came in pieces, with others in between, all that was heard.
    pub fn clear(&mut self, now: Instant) -> Vec<Cut> {
        let mut remaining = self.lost(now);
        // Of each segment how far it was heard, and whether that is more than its beginning.
        let mut cuts: Vec<(SegmentId, Duration, bool)> = Vec::new();
        for sent in self.unheard.drain(..).rev() {
            let lost = remaining.min(sent.duration);
            remaining -= lost;
            let heard = sent.duration - lost;
            let cut = (sent.segment, sent.from + heard, !heard.is_zero());
            match cuts.iter_mut().find(|cut| cut.0 == sent.segment) {
                // Then what came before it was heard as well.
                Some((_, _, true)) => {}
                Some(known) => *known = cut,
                None => cuts.push(cut),
            }
        }
        cuts.sort_by_key(|(segment, ..)| *segment);
        // The newest of them: a piece of an older one may have come last.
        self.cut = cuts.last().map(|(segment, ..)| *segment).max(self.cut);
        self.generation = self.generation.wrapping_add(1);
        self.plays_until = None;
        self.heard_since = None;
        cuts.into_iter()
            .map(|(segment, heard, _)| Cut {
                segment,
                heard_ms: heard.as_millis() as u64,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SegmentId = SegmentId(1);
    const B: SegmentId = SegmentId(2);
    const SECOND: usize = 8000;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn a_segment_is_heard_when_its_mark_comes_back() {
        let start = Instant::now();
        let mut playback = Playback::default();
        playback.sent(start, A, SECOND);
        playback.sent(start, A, SECOND);
        let mark = playback.mark().expect("a mark follows the segment");
        assert_eq!(playback.mark(), None, "one mark is enough");
        assert!(playback.unheard(at(start, 1000)));
        assert_eq!(playback.queued(at(start, 500)), Duration::from_millis(1500));
        assert_eq!(playback.echoed(start, &mark), Echo::Heard);
        assert!(playback.drained());
        assert!(!playback.unheard(at(start, 1000)));
        assert_eq!(
            playback.echoed(start, &mark),
            Echo::Stale,
            "a mark counts once"
        );
    }

    #[test]
    fn a_clear_tells_how_much_of_each_segment_was_heard() {
        let start = Instant::now();
        let mut playback = Playback::default();
        playback.sent(start, A, 2 * SECOND);
        let mark_a = playback.mark().unwrap();
        playback.sent(start, B, 2 * SECOND);
        let mark_b = playback.mark().unwrap();
        assert_eq!(
            playback.clear(at(start, 1500)),
            [
                Cut {
                    segment: A,
                    heard_ms: 1500
                },
                Cut {
                    segment: B,
                    heard_ms: 0
                }
            ]
        );
        // Twilio now echoes both marks; neither means that anything was heard.
        assert_eq!(playback.echoed(start, &mark_a), Echo::Stale);
        assert_eq!(playback.echoed(start, &mark_b), Echo::Stale);
        assert!(
            !playback.accepts(at(start, 1500), B),
            "late audio of the interrupted reply"
        );
        assert!(playback.accepts(at(start, 1500), SegmentId(3)));
    }

    #[test]
    fn a_segment_in_pieces_is_cut_as_one() {
        let start = Instant::now();
        let mut playback = Playback::default();
        playback.sent(start, A, SECOND);
        let mark = playback.mark().unwrap();
        assert_eq!(playback.echoed(start, &mark), Echo::Heard);
        // More of it, and a straggler of it behind the next one.
        playback.sent(at(start, 1000), A, SECOND);
        playback.sent(at(start, 1000), B, SECOND);
        playback.sent(at(start, 1000), A, SECOND);
        let cut = |segment, heard_ms| Cut { segment, heard_ms };
        assert_eq!(playback.clear(at(start, 2500)), [cut(A, 2000), cut(B, 500)]);
        assert!(!playback.accepts(at(start, 2500), B));
    }

    const FRAMES: usize = 160;

    /// Sends it as the machine does: in pieces, with marks behind them. Returns the marks' names.
    fn send(
        playback: &mut Playback,
        now: Instant,
        segment: SegmentId,
        mut bytes: usize,
    ) -> Vec<String> {
        let mut marks = Vec::new();
        while bytes > 0 {
            let most = playback.until_mark(now, segment);
            let piece = bytes.min(most);
            playback.sent(now, segment, piece);
            if piece == most {
                marks.extend(playback.mark());
            }
            bytes -= piece;
        }
        marks
    }

    #[test]
    fn marks_inside_an_utterance_tell_what_was_really_heard() {
        let start = Instant::now();
        let mut playback = Playback::counting(true);
        let marks = send(&mut playback, start, A, 3 * SECOND);
        assert!(marks.len() > 5, "{marks:?}");
        // The first 200 ms reach the caller half a second late, and the line is slow.
        assert_eq!(playback.echoed(at(start, 700), &marks[0]), Echo::Heard);
        assert_eq!(playback.echoed(at(start, 900), &marks[1]), Echo::Heard);
        let cut = |segment, heard_ms| Cut { segment, heard_ms };
        let mut other = Playback::counting(true);
        send(&mut other, start, A, 3 * SECOND);
        // Without a mark no more than the first piece is known to be heard.
        assert_eq!(other.clear(at(start, 1000)), [cut(A, 200)]);
        let mut early = Playback::counting(true);
        send(&mut early, start, A, 3 * SECOND);
        assert_eq!(early.clear(at(start, 120)), [cut(A, 120)]);
        send(&mut playback, at(start, 900), B, SECOND);
        assert_eq!(playback.clear(at(start, 1050)), [cut(A, 550), cut(B, 0)]);
    }

    #[test]
    fn marks_are_batched_and_far_between_where_nothing_can_run_dry() {
        let start = Instant::now();
        let mut playback = Playback::counting(true);
        // In small pieces, as they come: one mark for ten of them.
        let mut marks = 0;
        for n in 0..100 {
            marks += send(&mut playback, at(start, 20 * n), A, FRAMES).len();
        }
        assert_eq!(marks, 10);
        // Minutes of it at once.
        let mut playback = Playback::counting(true);
        let marks = send(&mut playback, start, A, 540 * SECOND).len();
        assert!((30..100).contains(&marks), "{marks}");
        let mut plain = Playback::default();
        assert!(send(&mut plain, start, A, 540 * SECOND).is_empty());
    }

    #[test]
    fn an_utterance_of_which_a_part_is_known_to_be_heard_is_counted_from_its_beginning() {
        let start = Instant::now();
        let mut playback = Playback::counting(true);
        let marks = send(&mut playback, start, A, SECOND);
        for (n, mark) in marks.iter().take(3).enumerate() {
            playback.echoed(at(start, 200 * (n as u64 + 1)), mark);
        }
        let cuts = playback.clear(at(start, 650));
        let heard_ms = 650;
        assert_eq!(
            cuts,
            [Cut {
                segment: A,
                heard_ms
            }]
        );
    }

    #[test]
    fn later_audio_of_a_marked_segment_needs_a_new_mark() {
        let start = Instant::now();
        let mut playback = Playback::default();
        playback.sent(start, A, SECOND);
        let early = playback.mark().unwrap();
        playback.sent(start, A, SECOND);
        assert_eq!(playback.echoed(start, &early), Echo::Stale);
        let late = playback.mark().unwrap();
        assert_eq!(playback.echoed(start, &late), Echo::Heard);
        assert!(playback.drained());
    }

    #[test]
    fn a_lost_mark_does_not_leave_audio_unheard_for_ever() {
        let start = Instant::now();
        let mut playback = Playback::default();
        playback.sent(start, A, SECOND);
        playback.mark().unwrap();
        assert!(playback.unheard(at(start, 1900)));
        assert!(!playback.unheard(at(start, 2001)));
    }

    #[test]
    fn names_that_are_not_ours_are_harmless() {
        let mut playback = Playback::default();
        playback.sent(Instant::now(), A, SECOND);
        for name in [
            "",
            ".",
            "0",
            "0.",
            ".1",
            "0.1",
            "99999999999.1",
            "x.y",
            "0.1.2",
            "💥",
        ] {
            assert_eq!(playback.echoed(Instant::now(), name), Echo::Stale, "{name}");
        }
    }

    #[test]
    fn what_is_queued_is_bounded() {
        let start = Instant::now();
        let mut playback = Playback::default();
        for n in 0..2000 {
            let segment = SegmentId(n);
            if playback.accepts(start, segment) {
                playback.sent(start, segment, SECOND);
                playback.mark();
            }
        }
        assert_eq!(playback.queued(start), MAX_QUEUED);
        assert!(playback.unheard.len() <= MAX_SEGMENTS);
    }
}
