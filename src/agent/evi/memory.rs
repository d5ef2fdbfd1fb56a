//! What the codec remembers of a chat: which utterances there were, which are stale, what the
//! caller was last heard to say, which tool calls are open.
//!
//! All of it is bounded and none of it is text: vendor ids and words are kept as hashes. They are
//! not keyed; an agent that goes out of its way to collide confuses only its own call.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::messages::Span;
use crate::agent::SegmentId;

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// How many vendor ids are remembered: more than the utterances of a long turn that overlap.
const KNOWN: usize = 16;

/// The agent's utterances, and their numbering.
#[derive(Default)]
pub(super) struct Segments {
    /// Vendor ids by hash, the oldest overwritten first.
    known: [Option<(u64, SegmentId)>; KNOWN],
    next: usize,
    /// The newest number given; 0 is none.
    newest: u32,
    current: Option<Current>,
    /// The newest number at the last interruption, real or not.
    interrupted: u32,
    /// Everything up to here has been cut.
    stale: u32,
}

#[derive(Clone, Copy)]
struct Current {
    segment: SegmentId,
    /// Whether audio was taken for it; without, the host has never heard of it.
    fed: bool,
}

/// Where a message belongs.
pub(super) struct Placed {
    pub segment: SegmentId,
    /// The utterance that is over because this one begins.
    pub ended: Option<SegmentId>,
}

impl Segments {
    /// Places the text of an utterance. Without an id it belongs to the current utterance, unless
    /// that one was cut: then these are the first words of the next.
    pub fn text(&mut self, vendor: Option<&str>) -> Placed {
        let fresh = self.current.is_some_and(|c| self.is_stale(c.segment));
        self.place(vendor, fresh)
    }

    /// Places audio. Without an id it belongs to the current utterance.
    pub fn audio(&mut self, vendor: Option<&str>) -> Placed {
        self.place(vendor, false)
    }

    fn place(&mut self, vendor: Option<&str>, fresh: bool) -> Placed {
        let vendor = vendor.map(hash);
        let found = match vendor {
            Some(vendor) => self
                .known
                .iter()
                .flatten()
                .find(|(known, _)| *known == vendor)
                .map(|(_, segment)| *segment),
            None => self.current.filter(|_| !fresh).map(|c| c.segment),
        };
        if let Some(segment) = found {
            return Placed {
                segment,
                ended: None,
            };
        }
        let ended = self.end();
        self.newest = self.newest.saturating_add(1);
        let segment = SegmentId(self.newest);
        self.current = Some(Current {
            segment,
            fed: false,
        });
        if let Some(vendor) = vendor {
            self.known[self.next] = Some((vendor, segment));
            self.next = (self.next + 1) % KNOWN;
        }
        Placed { segment, ended }
    }

    /// Audio was taken for this utterance.
    pub fn fed(&mut self, segment: SegmentId) {
        if let Some(current) = self.current.as_mut().filter(|c| c.segment == segment) {
            current.fed = true;
        }
    }

    /// The current utterance, if audio was taken for it and it was not cut.
    pub fn sounding(&self) -> Option<SegmentId> {
        self.current
            .filter(|c| c.fed && !self.is_stale(c.segment))
            .map(|c| c.segment)
    }

    /// Ends the current utterance; `Some` if it had audio.
    pub fn end(&mut self) -> Option<SegmentId> {
        self.current.take().filter(|c| c.fed).map(|c| c.segment)
    }

    /// The agent says it was interrupted. Whatever it had begun by now belongs to that turn.
    pub fn interrupted(&mut self) {
        self.interrupted = self.newest;
    }

    /// Another connection: nothing more comes of the utterances so far, and ids may come again.
    pub fn reconnect(&mut self) {
        self.known = [None; KNOWN];
        self.current = None;
        self.interrupted = self.newest;
        self.stale = self.newest;
    }

    /// The host has cut this utterance: it, all older ones, and what else the interrupted turn had
    /// begun are stale.
    pub fn cut(&mut self, segment: SegmentId) {
        // Never beyond what exists, or a wrong number from the host would mute the agent.
        let through = segment.0.max(self.interrupted).min(self.newest);
        self.stale = self.stale.max(through);
    }

    pub fn is_stale(&self, segment: SegmentId) -> bool {
        segment.0 <= self.stale
    }
}

/// The caller's last utterance, to recognise an improved version of it.
///
/// EVI may send several final messages for one utterance, each a superset of the last (seen in the
/// field), and with `verbose_transcription` interim ones before them.
#[derive(Default)]
pub(super) struct Utterance {
    last: Option<Words>,
}

#[derive(Clone, Copy)]
struct Words {
    span: Option<Span>,
    /// Letters and digits, and the hash of them in lower case: punctuation and case get revised.
    count: u64,
    hash: u64,
}

impl Utterance {
    /// Takes note of what the caller said; true if it replaces what was noted before.
    pub fn heard(&mut self, text: &str, span: Option<Span>) -> bool {
        // Nobody speaks for no time: such a span says nothing.
        let span = span.filter(|s| s.end > s.begin);
        let (mut count, mut hasher) = (0u64, DefaultHasher::new());
        let mut extends = false;
        let before = self.last.map(|w| (w.count, w.hash)).filter(|w| w.0 > 0);
        for c in text
            .chars()
            .filter(|c| c.is_alphanumeric())
            .flat_map(char::to_lowercase)
        {
            c.hash(&mut hasher);
            count += 1;
            extends |= before == Some((count, hasher.finish()));
        }
        let words = Words {
            span,
            count,
            hash: hasher.finish(),
        };
        let replace = self.last.is_some_and(|last| match (last.span, span) {
            (Some(last), Some(span)) if last.begin == span.begin => true,
            // A repeated beginning ("Yes." - "Yes, please.") is a new utterance unless the two
            // overlap in time.
            (Some(last), Some(span)) => extends && span.begin > last.begin && span.begin < last.end,
            _ => extends,
        });
        self.last = Some(words);
        replace
    }

    /// What comes next is a new utterance, whatever it looks like.
    pub fn forget(&mut self) {
        self.last = None;
    }
}

/// Tool calls that wait for an answer. EVI makes one at a time (EVI docs); a few more are kept for
/// those that were superseded.
#[derive(Default)]
pub(super) struct Calls {
    open: [Option<u64>; 8],
    next: usize,
}

impl Calls {
    /// False if this call is open already: the message is a repetition.
    pub fn open(&mut self, id: &str) -> bool {
        let id = hash(id);
        if self.open.contains(&Some(id)) {
            return false;
        }
        self.open[self.next] = Some(id);
        self.next = (self.next + 1) % self.open.len();
        true
    }

    /// True if this call was open.
    pub fn settle(&mut self, id: &str) -> bool {
        let id = hash(id);
        match self.open.iter_mut().find(|open| **open == Some(id)) {
            Some(open) => {
                *open = None;
                true
            }
            None => false,
        }
    }
}
