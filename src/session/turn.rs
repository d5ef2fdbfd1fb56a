//! How long the caller waits for an answer: for counters only, nothing depends on it.
//!
//! A turn is asked when the caller's words have their final transcript (the nearest thing to the end
//! of speech that an agent tells), answered when the first audio after that goes to the telephone,
//! and heard when the mark behind that audio comes back, less what the audio itself takes to play.

use std::time::{Duration, Instant};

/// The turn under way, if it is one that can be measured.
#[derive(Debug, Default)]
pub struct Turn(State);

#[derive(Debug, Default)]
enum State {
    #[default]
    Idle,
    Asked {
        at: Instant,
    },
    Answered {
        asked: Instant,
        audio: Duration,
        /// The first one behind the audio so far; what comes later has marks of its own.
        mark: Option<String>,
    },
}

impl Turn {
    /// The caller's words are final. Of several in a row the last are answered.
    pub fn asked(&mut self, now: Instant) {
        self.0 = State::Asked { at: now };
    }

    /// Agent audio goes to the telephone; the first time, returns how long that took.
    pub fn audio(&mut self, now: Instant, duration: Duration) -> Option<Duration> {
        match &mut self.0 {
            State::Asked { at } => {
                let asked = *at;
                self.0 = State::Answered {
                    asked,
                    audio: duration,
                    mark: None,
                };
                Some(now.saturating_duration_since(asked))
            }
            State::Answered {
                audio, mark: None, ..
            } => {
                *audio += duration;
                None
            }
            State::Answered { .. } | State::Idle => None,
        }
    }

    /// A mark follows the audio.
    pub fn marked(&mut self, name: &str) {
        if let State::Answered { mark, .. } = &mut self.0 {
            mark.get_or_insert_with(|| name.to_owned());
        }
    }

    /// A mark says that everything before it has been heard; returns when the answer began, counted
    /// from the question.
    pub fn heard(&mut self, now: Instant, name: &str) -> Option<Duration> {
        match &self.0 {
            State::Answered {
                asked,
                audio,
                mark: Some(mark),
            } if mark == name => {
                let began = now.saturating_duration_since(*asked).saturating_sub(*audio);
                self.0 = State::Idle;
                Some(began)
            }
            _ => None,
        }
    }

    /// The answer has been taken back.
    pub fn cut(&mut self) {
        self.0 = State::Idle;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn an_answer_is_heard_its_own_length_before_its_mark() {
        let start = Instant::now();
        let mut turn = Turn::default();
        turn.asked(start);
        turn.asked(start + 100 * MS);
        assert_eq!(turn.audio(start + 700 * MS, 1000 * MS), Some(600 * MS));
        assert_eq!(turn.audio(start + 800 * MS, 500 * MS), None);
        turn.marked("0.1");
        assert_eq!(turn.audio(start + 900 * MS, 2000 * MS), None);
        turn.marked("0.2");
        assert_eq!(turn.heard(start + 900 * MS, "0.0"), None);
        assert_eq!(turn.heard(start + 2300 * MS, "0.1"), Some(700 * MS));
        assert_eq!(turn.heard(start + 4300 * MS, "0.2"), None);
    }

    #[test]
    fn an_answer_that_is_cut_was_not_heard_and_words_without_a_question_are_no_answer() {
        let start = Instant::now();
        let mut turn = Turn::default();
        assert_eq!(turn.audio(start, MS), None);
        turn.asked(start);
        turn.audio(start, MS);
        turn.marked("0.1");
        turn.cut();
        assert_eq!(turn.heard(start + MS, "0.1"), None);
    }
}
