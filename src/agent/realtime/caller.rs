//! What the caller says, as far as the server tells: that they speak, that they have spoken, and in its
//! own time, often when the answer has long begun, their words.

use std::collections::VecDeque;

use super::hash;
use crate::config::realtime::UserTranscript;

/// Utterances whose words may still come.
const KNOWN: usize = 16;
/// What is kept of the words of one.
const MAX_TEXT: usize = 3072;

#[derive(Debug)]
struct Utterance {
    id: u64,
    /// The host knows that it has ended.
    spoke: bool,
    /// The host has some of its words.
    told: bool,
    text: String,
}

/// The caller's utterances.
#[derive(Debug, Default)]
pub(super) struct Caller {
    known: VecDeque<Utterance>,
    /// They have stopped, by this server which may not say that it has heard them out.
    stopped: Option<u64>,
    /// It does say when they speak.
    tells: bool,
}

/// Words for the host.
pub(super) struct Words<'a> {
    pub key: u64,
    pub text: &'a str,
    /// The host has earlier ones.
    pub replace: bool,
    /// It does not know yet that the caller has spoken.
    pub news: bool,
}

/// An utterance without an id is always the same.
fn key(id: Option<&str>) -> u64 {
    id.map_or(0, hash) | 1 << 63
}

impl Caller {
    fn utterance(&mut self, key: u64) -> &mut Utterance {
        let place = self.known.iter().position(|known| known.id == key);
        let place = place.unwrap_or_else(|| {
            if self.known.len() == KNOWN {
                self.known.pop_front();
            }
            self.known.push_back(Utterance {
                id: key,
                spoke: false,
                told: false,
                text: String::new(),
            });
            self.known.len() - 1
        });
        &mut self.known[place]
    }

    /// The caller begins to speak.
    pub fn speaks(&mut self, id: Option<&str>) {
        (self.stopped, self.tells) = (None, true);
        if id.is_none() {
            self.known.retain(|known| known.id != key(None));
        }
    }

    /// They have stopped.
    pub fn stopped(&mut self, id: Option<&str>) {
        (self.stopped, self.tells) = (Some(key(id)), true);
    }

    /// The server has heard them out. The key of the utterance, if that is news.
    pub fn spoke(&mut self, id: Option<&str>) -> Option<u64> {
        (self.stopped, self.tells) = (None, true);
        self.ends(key(id))
    }

    fn ends(&mut self, key: u64) -> Option<u64> {
        let known = self.utterance(key);
        // Without an id there is nothing to know it by.
        let news = !known.spoke || key == self::key(None);
        known.spoke = true;
        news.then_some(key)
    }

    /// The server begins to answer, whether or not it has said so.
    pub fn answered(&mut self) -> Option<u64> {
        let stopped = self.stopped.take()?;
        self.ends(stopped)
    }

    /// It was nobody's utterance.
    pub fn nobody(&mut self, id: Option<&str>) {
        self.utterance(key(id)).spoke = true;
    }

    /// Some words of an utterance.
    pub fn interim(&mut self, id: Option<&str>, words: &str, manner: UserTranscript) -> Words<'_> {
        let known = self.utterance(key(id));
        if manner == UserTranscript::Replace {
            known.text.clear();
        }
        let room = MAX_TEXT.saturating_sub(known.text.len());
        known
            .text
            .push_str(&words[..words.floor_char_boundary(room)]);
        let replace = known.told;
        known.told |= !known.text.trim().is_empty();
        Words {
            key: known.id,
            text: &known.text,
            replace,
            news: false,
        }
    }

    /// All of its words.
    pub fn words<'a>(&mut self, id: Option<&str>, words: &'a str) -> Words<'a> {
        let stopped = self.stopped.take_if(|stopped| *stopped == key(id));
        let sure = id.is_some() || stopped.is_some() || !self.tells;
        let known = self.utterance(key(id));
        let said = !words.trim().is_empty();
        let news = said && !known.spoke;
        known.spoke |= said;
        let replace = known.told;
        known.told |= said;
        known.text = String::new();
        if id.is_none() {
            // The next one is another.
            known.told = false;
            known.spoke = false;
        }
        Words {
            key: key(id),
            text: &words[..words.floor_char_boundary(MAX_TEXT)],
            replace,
            news: news && sure,
        }
    }

    /// They will not come.
    pub fn no_words(&mut self, id: Option<&str>) {
        let key = key(id);
        if let Some(known) = self.known.iter_mut().find(|known| known.id == key) {
            known.text = String::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_utterance_ends_once_whatever_says_so() {
        let a = Some("a");
        let mut caller = Caller::default();
        caller.speaks(a);
        caller.stopped(a);
        assert!(caller.spoke(a).is_some() && caller.spoke(a).is_none());
        assert!(caller.answered().is_none());
        assert!(!caller.words(a, "Hello.").news);
        // A server that only answers.
        caller.stopped(Some("b"));
        assert!(caller.answered().is_some());
        assert!(caller.answered().is_none() && caller.spoke(Some("b")).is_none());
        // One that only writes; an empty line is nobody's.
        assert!(!caller.words(Some("c"), " ").news);
        assert!(caller.words(Some("c"), "Hello.").news);
        assert!(!caller.words(Some("c"), "Hello there.").news);
        // A silence that it found too long.
        caller.nobody(Some("d"));
        assert!(caller.spoke(Some("d")).is_none());
        // Without names.
        for _ in 0..2 {
            caller.speaks(None);
            caller.stopped(None);
            assert!(caller.spoke(None).is_some());
            assert!(!caller.words(None, "Hello.").news);
        }
    }

    #[test]
    fn words_add_up_or_replace_each_other() {
        let mut caller = Caller::default();
        let a = Some("a");
        for (manner, words, sum, replace) in [
            (UserTranscript::Append, "When", "When", false),
            (UserTranscript::Append, " are", "When are", true),
            (
                UserTranscript::Replace,
                "When are you",
                "When are you",
                true,
            ),
        ] {
            let told = caller.interim(a, words, manner);
            assert_eq!((told.text, told.replace), (sum, replace));
        }
        assert!(caller.words(a, "When are you open?").replace);
        assert!(!caller.words(Some("b"), "Thanks.").replace);
        for n in 0..1000 {
            let id = n.to_string();
            caller.interim(Some(&id), &"é".repeat(MAX_TEXT), UserTranscript::Append);
        }
        assert!(caller.known.len() <= KNOWN);
        assert!(
            caller
                .known
                .iter()
                .all(|known| known.text.len() <= MAX_TEXT)
        );
    }
}
