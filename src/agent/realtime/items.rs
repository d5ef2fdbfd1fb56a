//! The agent's utterances: which there were, what came of them, what of them was heard.
//!
//! One for each item and content index, numbered in the order in which they were begun. Bounded: of a
//! long conversation's utterances the oldest are forgotten, of which nothing is waiting to be heard.

use std::collections::VecDeque;

use crate::agent::SegmentId;

/// More than the utterances that wait to be heard.
const KNOWN: usize = 64;
/// What is kept of the words of one.
const MAX_TEXT: usize = 3072;
/// Mu-law at 8 kHz.
const BYTES_A_MS: u64 = 8;

#[derive(Debug)]
pub(super) struct Item {
    /// The server's, without which it cannot be told anything about it.
    pub id: Option<String>,
    pub content: u32,
    pub segment: SegmentId,
    /// Of which response, by our numbering.
    pub response: u32,
    /// So much of it was passed on, in bytes.
    pub sounded: u64,
    /// No more audio of it comes, and the host knows.
    pub ended: bool,
    /// The words that have come so far.
    text: String,
    /// They are its audio's transcript; otherwise they were written, and perhaps never spoken.
    pub spoken: bool,
    /// The words are complete, and the host has them.
    pub told: bool,
    /// So much of it was heard, of so much that was passed on, in milliseconds.
    pub cut: Option<(u64, u64)>,
}

impl Item {
    /// More of its words.
    pub fn more(&mut self, words: &str) {
        let room = MAX_TEXT.saturating_sub(self.text.len());
        self.text
            .push_str(&words[..words.floor_char_boundary(room)]);
    }

    /// All of its words.
    pub fn all(&mut self, words: &str) {
        self.text.clear();
        self.more(words);
    }

    /// What of its words was heard, as far as anybody can tell: the transcript has no times.
    pub fn heard(&self) -> &str {
        match self.cut {
            Some((heard, of)) => part(&self.text, heard, of),
            None => &self.text,
        }
    }

    pub fn has_words(&self) -> bool {
        !self.text.trim().is_empty()
    }

    /// What was passed on, in milliseconds.
    pub fn received_ms(&self) -> u64 {
        self.sounded / BYTES_A_MS
    }
}

/// The beginning of a text of which so much was heard, in whole words.
fn part(text: &str, heard: u64, of: u64) -> &str {
    if heard >= of {
        return text;
    }
    let share = text.len() as u128 * u128::from(heard) / u128::from(of);
    let begin = &text[..text.floor_char_boundary(share as usize)];
    match text[begin.len()..].starts_with(char::is_whitespace) {
        true => begin,
        false => begin
            .rfind(char::is_whitespace)
            .map_or("", |at| &begin[..at]),
    }
}

/// All of them, over one connection after another.
#[derive(Debug, Default)]
pub(super) struct Items {
    known: VecDeque<Item>,
    /// The newest number given; 0 is none.
    newest: u32,
    /// The one that audio without an id belongs to.
    current: Option<SegmentId>,
    /// The newest number when the caller last began to speak.
    interrupted: u32,
    /// Everything up to here has been cut.
    stale: u32,
}

impl Items {
    /// The utterance that this belongs to; also whether it is a new one.
    pub fn place(&mut self, id: Option<&str>, content: u32, response: u32) -> (SegmentId, bool) {
        let found = match id {
            Some(_) => self
                .known
                .iter()
                .rev()
                .find(|item| item.id.as_deref() == id && item.content == content),
            None => self
                .of_current()
                .filter(|item| !item.ended && item.response == response),
        };
        if let Some(item) = found {
            return (item.segment, false);
        }
        self.newest = self.newest.saturating_add(1);
        let segment = SegmentId(self.newest);
        if self.known.len() == KNOWN {
            self.known.pop_front();
        }
        self.known.push_back(Item {
            id: id.map(str::to_owned),
            content,
            segment,
            response,
            sounded: 0,
            ended: false,
            text: String::new(),
            spoken: false,
            told: false,
            cut: None,
        });
        self.current = Some(segment);
        (segment, true)
    }

    fn of_current(&self) -> Option<&Item> {
        let current = self.current?;
        self.known.iter().rev().find(|item| item.segment == current)
    }

    pub fn get(&mut self, segment: SegmentId) -> Option<&mut Item> {
        self.known
            .iter_mut()
            .rev()
            .find(|item| item.segment == segment)
    }

    /// Those that sound and have not ended, but for this one, oldest first.
    pub fn sounding_but(&self, segment: Option<SegmentId>) -> Vec<SegmentId> {
        let open = self
            .known
            .iter()
            .filter(|item| item.sounded > 0 && !item.ended);
        open.map(|item| item.segment)
            .filter(|other| Some(*other) != segment)
            .collect()
    }

    /// The utterance of this item, if there is one.
    pub fn find(&mut self, id: &str, content: u32) -> Option<&mut Item> {
        let mut known = self.known.iter_mut().rev();
        known.find(|item| item.id.as_deref() == Some(id) && item.content == content)
    }

    /// All utterances of an item.
    pub fn of_item(&self, id: &str) -> Vec<SegmentId> {
        let those = self
            .known
            .iter()
            .filter(|item| item.id.as_deref() == Some(id));
        those.map(|item| item.segment).collect()
    }

    /// All utterances of a response.
    pub fn of_response(&self, response: u32) -> Vec<SegmentId> {
        let those = self.known.iter().filter(|item| item.response == response);
        those.map(|item| item.segment).collect()
    }

    /// The caller begins to speak: whatever was begun by now is what they interrupt, if they do.
    pub fn interrupted(&mut self) {
        self.interrupted = self.newest;
    }

    /// The host has cut this one: it, all older ones and what else had been begun when the caller
    /// interrupted are stale.
    pub fn cut(&mut self, segment: SegmentId, heard_ms: u64) -> Option<&mut Item> {
        // Never beyond what exists, or a wrong number from the host would mute the agent.
        let through = segment.0.max(self.interrupted).min(self.newest);
        self.stale = self.stale.max(through);
        for item in &mut self.known {
            item.ended |= item.segment.0 <= self.stale;
        }
        let item = self.get(segment).filter(|item| item.cut.is_none())?;
        let received = item.received_ms();
        item.cut = Some((heard_ms.min(received), received));
        Some(item)
    }

    pub fn is_stale(&self, segment: SegmentId) -> bool {
        segment.0 <= self.stale
    }

    /// Another connection: nothing more comes of the utterances so far, and ids may come again.
    pub fn reconnect(&mut self) {
        self.known.clear();
        self.current = None;
        self.interrupted = self.newest;
        self.stale = self.newest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_heard_of_a_text_ends_with_a_word() {
        let text = "We open at nine, Grüezi.";
        for (heard, of, begin) in [
            (0, 100, ""),
            (1, 100, ""),
            (30, 100, "We open"),
            (50, 100, "We open at"),
            (99, 100, "We open at nine,"),
            (100, 100, text),
            (7, 0, text),
        ] {
            assert_eq!(part(text, heard, of), begin, "{heard}");
        }
        assert_eq!(part("", 1, 2), "");
        assert_eq!(part("ééé", 1, 2), "");
    }

    #[test]
    fn utterances_are_numbered_as_they_come_and_forgotten_when_they_are_many() {
        let mut items = Items::default();
        assert_eq!(items.place(Some("a"), 0, 1), (SegmentId(1), true));
        assert_eq!(items.place(Some("a"), 1, 1), (SegmentId(2), true));
        assert_eq!(items.place(Some("a"), 0, 1), (SegmentId(1), false));
        // Without an id it is the newest, until that has ended or the response is another.
        assert_eq!(items.place(None, 0, 1), (SegmentId(2), false));
        assert_eq!(items.place(None, 0, 2), (SegmentId(3), true));
        items.get(SegmentId(3)).unwrap().ended = true;
        assert_eq!(items.place(None, 0, 2), (SegmentId(4), true));
        for n in 0..1000 {
            items.place(Some(&n.to_string()), 0, 3);
        }
        assert_eq!(items.known.len(), KNOWN);
        assert!(items.get(SegmentId(1)).is_none() && items.cut(SegmentId(1), 9).is_none());
        items.reconnect();
        assert_eq!(items.place(Some("a"), 0, 4), (SegmentId(1005), true));
    }

    #[test]
    fn a_cut_goes_as_far_as_what_had_been_begun_when_the_caller_spoke() {
        let mut items = Items::default();
        for id in ["a", "b"] {
            items.place(Some(id), 0, 1);
        }
        items.interrupted();
        items.place(Some("c"), 0, 2);
        items.cut(SegmentId(1), 0);
        let stale = [1, 2, 3].map(|n| items.is_stale(SegmentId(n)));
        assert_eq!(stale, [true, true, false]);
        items.cut(SegmentId(u32::MAX), 0);
        assert_eq!(items.place(Some("d"), 0, 3).0, SegmentId(4));
        assert!(!items.is_stale(SegmentId(4)));
    }

    #[test]
    fn words_have_a_bound() {
        let mut items = Items::default();
        let (segment, _) = items.place(Some("a"), 0, 1);
        let item = items.get(segment).unwrap();
        for _ in 0..2000 {
            item.more("é é");
        }
        assert!(item.heard().len() <= MAX_TEXT && item.heard().len() > MAX_TEXT - 4);
    }
}
