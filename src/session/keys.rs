//! The keys that a caller presses, gathered into inputs.
//!
//! A key that stands for an action and is the first of an input is that action, at once. All others are
//! gathered until the end key, the count, or a pause; an input is at most [`MAX_KEYS`] long, whatever the
//! config says. What was pressed is never printed.

use std::{fmt, time::Instant};

use crate::config::{KeyAction, Keys};

/// More than a card number and its date; the same as Twilio's own limit for sending.
pub const MAX_KEYS: usize = 64;

/// What has been pressed so far.
#[derive(Default)]
pub struct Collector {
    keys: String,
    until: Option<Instant>,
}

/// What a key comes to.
#[derive(Clone, PartialEq, Eq)]
pub enum Pressed {
    /// There is more to come, or it was none.
    More,
    Input(String),
    Act(KeyAction),
}

/// Without the keys.
impl fmt::Debug for Pressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pressed::More => f.write_str("More"),
            Pressed::Input(keys) => write!(f, "Input({})", keys.len()),
            Pressed::Act(action) => action.fmt(f),
        }
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Collector({})", self.keys.len())
    }
}

impl Collector {
    /// An input that is [due](Collector::due) has been taken before.
    pub fn press(&mut self, now: Instant, key: char, how: &Keys) -> Pressed {
        if how.end == Some(key) {
            return self.take();
        }
        if !matches!(key, '0'..='9' | '*' | '#' | 'A'..='D') {
            return Pressed::More;
        }
        if self.keys.is_empty()
            && let Some(action) = how.actions.get(&key)
        {
            return Pressed::Act(action.clone());
        }
        self.keys.push(key);
        self.until = Some(now + how.timeout);
        let full = how.count > 0 && self.keys.len() >= how.count;
        match full || self.keys.len() >= MAX_KEYS {
            true => self.take(),
            false => Pressed::More,
        }
    }

    /// When the input is over if nothing more is pressed.
    pub fn due(&self) -> Option<Instant> {
        self.until
    }

    /// The input as it is.
    pub fn take(&mut self) -> Pressed {
        self.until = None;
        match std::mem::take(&mut self.keys) {
            keys if keys.is_empty() => Pressed::More,
            keys => Pressed::Input(keys),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const MS: Duration = Duration::from_millis(1);

    fn how(count: usize) -> Keys {
        Keys {
            count,
            timeout: 3000 * MS,
            actions: [('0', KeyAction::HangUp)].into(),
            ..Keys::default()
        }
    }

    fn press(keys: &str, how: &Keys) -> (Vec<Pressed>, Collector) {
        let mut collector = Collector::default();
        let now = Instant::now();
        let pressed = keys.chars().map(|key| collector.press(now, key, how));
        (pressed.collect(), collector)
    }

    fn input(keys: &str) -> Pressed {
        Pressed::Input(keys.to_owned())
    }

    #[test]
    fn an_input_ends_with_its_key_its_count_or_a_pause() {
        let (pressed, _) = press("12#", &how(0));
        assert_eq!(pressed, [Pressed::More, Pressed::More, input("12")]);
        let (pressed, collector) = press("1234", &how(4));
        assert_eq!(pressed[3], input("1234"));
        assert_eq!(collector.due(), None);

        let now = Instant::now();
        let mut collector = Collector::default();
        collector.press(now, '7', &how(0));
        collector.press(now + 2000 * MS, '8', &how(0));
        assert_eq!(collector.due(), Some(now + 5000 * MS));
        assert_eq!(collector.take(), input("78"));
        assert_eq!(collector.take(), Pressed::More);
    }

    #[test]
    fn a_key_is_an_action_only_at_the_beginning_of_an_input() {
        let (pressed, _) = press("0", &how(0));
        assert_eq!(pressed, [Pressed::Act(KeyAction::HangUp)]);
        let (pressed, _) = press("100#", &how(0));
        assert_eq!(pressed[3], input("100"));
    }

    #[test]
    fn an_end_key_alone_and_what_is_no_key_come_to_nothing() {
        let (pressed, collector) = press("#x\u{e9}", &how(0));
        assert_eq!(pressed, [Pressed::More, Pressed::More, Pressed::More]);
        assert_eq!(collector.due(), None);
    }

    #[test]
    fn an_input_without_end_ends() {
        let endless = Keys {
            end: None,
            ..how(0)
        };
        let (pressed, _) = press(&"1".repeat(MAX_KEYS), &endless);
        assert_eq!(pressed[MAX_KEYS - 1], input(&"1".repeat(MAX_KEYS)));
        assert!(!format!("{pressed:?}").contains("11"));
    }
}
