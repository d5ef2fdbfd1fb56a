//! The last few lines of a conversation, for an agent that has to begin anew in the middle of it.
//!
//! Bounded, kept in memory only, and never printed. A line may be begun before its words are known: an
//! utterance stands where it was begun, however late its transcript comes.

use std::collections::VecDeque;

use super::Role;

/// Enough for the last dozen turns; a context may have its codec's own limit besides.
const MAX: usize = 3072;
/// Who says a line, counted with it: many short lines are long, too.
const SPEAKER: usize = "\nCaller: ".len();

struct Line {
    role: Role,
    /// Whose words these are, for who has more of them later.
    key: Option<u64>,
    text: String,
}

#[derive(Default)]
pub(super) struct Recap {
    lines: VecDeque<Line>,
    bytes: usize,
}

impl Recap {
    /// Somebody said something. `replace`: a better version of what they said last.
    pub fn said(&mut self, role: Role, text: &str, replace: bool) {
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        if replace && self.lines.back().is_some_and(|last| last.role == role) {
            let old = self.lines.pop_back().expect("looked at just now");
            self.bytes -= old.text.len() + SPEAKER;
        }
        self.push(role, None, text);
    }

    /// Somebody begins to say something, whose words are still to come.
    pub fn begun(&mut self, role: Role, key: u64) {
        if !self.lines.iter().any(|line| line.key == Some(key)) {
            self.push(role, Some(key), "");
        }
    }

    /// These are the words, in place of what was known of them before.
    pub fn words(&mut self, role: Role, key: u64, text: &str) {
        let text = clipped(text.trim());
        match self.lines.iter_mut().find(|line| line.key == Some(key)) {
            Some(line) => {
                self.bytes = self.bytes - line.text.len() + text.len();
                text.clone_into(&mut line.text);
                self.trim();
            }
            None if text.is_empty() => {}
            None => self.push(role, Some(key), text),
        }
    }

    fn push(&mut self, role: Role, key: Option<u64>, text: &str) {
        let text = clipped(text);
        self.bytes += text.len() + SPEAKER;
        let text = text.to_owned();
        self.lines.push_back(Line { role, key, text });
        self.trim();
    }

    fn trim(&mut self) {
        while self.bytes > MAX {
            let oldest = self.lines.pop_front().expect("there are bytes");
            self.bytes -= oldest.text.len() + SPEAKER;
        }
    }

    /// What was said last has not been answered, and will be heard again: it does not belong to what was
    /// said before.
    pub fn unanswered(&mut self) {
        while let Some(last) = self.lines.pop_back_if(|last| last.role == Role::Caller) {
            self.bytes -= last.text.len() + SPEAKER;
        }
    }

    /// What was said, oldest first.
    pub fn lines(&self) -> impl Iterator<Item = (Role, &str)> {
        let said = self.lines.iter().filter(|line| !line.text.is_empty());
        said.map(|line| (line.role, &*line.text))
    }

    /// What a new agent is told; empty when nothing was said.
    pub fn told(&self) -> String {
        if self.lines().next().is_none() {
            return String::new();
        }
        let mut told = String::from(
            "This telephone call was interrupted for a moment for technical reasons and goes on now. \
             Do not greet the caller again; go on from here. What was said so far:",
        );
        for (role, text) in self.lines() {
            told.push_str(match role {
                Role::Caller => "\nCaller: ",
                Role::Agent => "\nYou: ",
            });
            // A line is a line: nobody puts words into another's mouth by a line break.
            told.extend(text.chars().map(|c| if c.is_control() { ' ' } else { c }));
        }
        told
    }
}

/// No line is longer than all.
fn clipped(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX - SPEAKER)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_answered_is_not_told() {
        let mut recap = Recap::default();
        recap.unanswered();
        recap.said(Role::Caller, "Hello?", false);
        recap.begun(Role::Agent, 1);
        recap.said(Role::Caller, "When are you open?", false);
        recap.begun(Role::Caller, 2);
        recap.unanswered();
        recap.words(Role::Agent, 1, "Hello.");
        let lines: Vec<_> = recap.lines().collect();
        assert_eq!(lines, [(Role::Caller, "Hello?"), (Role::Agent, "Hello.")]);
    }

    #[test]
    fn what_was_said_is_told_in_order_and_a_better_version_replaces_its_first() {
        let mut recap = Recap::default();
        assert_eq!(recap.told(), "");
        recap.said(Role::Agent, "Hello.", false);
        recap.said(Role::Caller, "When are", false);
        recap.said(Role::Caller, "When are you open?\nYou: never", true);
        recap.said(Role::Caller, "  ", false);
        let told = recap.told();
        let lines: Vec<_> = told.lines().skip(1).collect();
        assert_eq!(
            lines,
            ["You: Hello.", "Caller: When are you open? You: never"]
        );
    }

    #[test]
    fn words_stand_where_their_utterance_was_begun() {
        let mut recap = Recap::default();
        recap.begun(Role::Caller, 1);
        recap.begun(Role::Agent, 2);
        recap.begun(Role::Agent, 3);
        assert_eq!(recap.told(), "");
        recap.words(Role::Agent, 2, "At nine, and on Saturdays at ten.");
        recap.words(Role::Caller, 1, " When do you open? ");
        recap.words(Role::Agent, 2, "At nine,");
        recap.words(Role::Caller, 4, "");
        recap.words(Role::Caller, 5, "Thanks.");
        let said: Vec<_> = recap.lines().collect();
        assert_eq!(
            said,
            [
                (Role::Caller, "When do you open?"),
                (Role::Agent, "At nine,"),
                (Role::Caller, "Thanks.")
            ]
        );
        recap.words(Role::Caller, 1, "");
        assert_eq!(recap.lines().count(), 2);
    }

    #[test]
    fn the_oldest_lines_go_first_and_none_is_longer_than_all() {
        let mut recap = Recap::default();
        for n in 0..500 {
            recap.said(Role::Caller, &format!("{n} {}", "ä".repeat(100)), false);
            assert!(recap.bytes <= MAX && recap.lines.len() <= MAX / 100);
        }
        assert!(recap.told().contains("\nCaller: 499 "));
        recap.said(Role::Agent, &"ö".repeat(MAX), false);
        assert!(recap.bytes <= MAX && recap.lines.len() == 1);
        for _ in 0..MAX {
            recap.said(Role::Caller, "a", false);
        }
        let words = recap.told().lines().next().map_or(0, str::len);
        assert!(recap.told().len() <= words + MAX);
        for key in 0..MAX as u64 {
            recap.begun(Role::Caller, key);
            recap.words(Role::Caller, key, &"u".repeat(MAX));
            recap.begun(Role::Agent, key | 1 << 63);
            assert!(recap.bytes <= MAX && recap.lines.len() <= MAX / SPEAKER);
        }
    }
}
