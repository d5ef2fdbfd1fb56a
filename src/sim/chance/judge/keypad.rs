//! What a caller presses, and what has to come of it.
//!
//! Keys are gathered here once more, by what the operators' manual says of them.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{Farewell, Judge, Led, Rule};
use crate::{
    config::KeyAction,
    session::{errand::Errand, machine::Note, order::Words},
    tools::Transfer,
};

/// No input is longer.
const LONGEST: usize = 64;

/// What has been pressed and is not an input yet.
#[derive(Default)]
pub(super) struct Keypad {
    keys: String,
    last: Option<Instant>,
    due: VecDeque<Due>,
    /// Words that a key stands for, until there is an agent.
    awaited: Option<String>,
    /// Keys were pressed in this call.
    pressed: bool,
}

/// What has to come of a key, now.
enum Due {
    Input(String),
    Act(KeyAction),
}

impl Judge {
    pub(super) fn key(&mut self, now: Instant, key: char) {
        self.keypad.pressed = true;
        if !self.heeds_keys() {
            return;
        }
        let how = self.settings.keys.clone();
        if self.input_over(now, Duration::ZERO) {
            self.input();
        }
        if how.end == Some(key) {
            return self.input();
        }
        if !(key.is_ascii_digit() || matches!(key, '*' | '#' | 'A'..='D')) {
            return;
        }
        let action = how
            .actions
            .get(&key)
            .filter(|_| self.keypad.keys.is_empty());
        if let Some(action) = action {
            // Nobody would say it.
            let mute = self.paused || !self.settings.capabilities.says();
            if mute && matches!(action, KeyAction::Say(_)) {
                return;
            }
            return self.keypad.due.push_back(Due::Act(action.clone()));
        }
        self.keypad.keys.push(key);
        self.keypad.last = Some(now);
        if self.keypad.keys.len() == how.count || self.keypad.keys.len() == LONGEST {
            self.input();
        }
    }

    /// The conversation goes on, or would for a key.
    fn heeds_keys(&self) -> bool {
        let withdrawn = |farewell: Farewell| !farewell.firm && !farewell.errand;
        let stays = self.line != super::Line::None && self.hung_up.is_none();
        let goodbye = self.farewell.is_some_and(withdrawn) && self.gone.is_none();
        self.talking() || (goodbye && stays && self.end.is_none())
    }

    /// What has been pressed is an input now.
    fn input(&mut self) {
        let keys = std::mem::take(&mut self.keypad.keys);
        if !keys.is_empty() && !self.settings.keys.words.is_empty() {
            self.keypad.due.push_back(Due::Input(keys));
        }
    }

    fn input_over(&self, now: Instant, slack: Duration) -> bool {
        let last = self.keypad.last.filter(|_| !self.keypad.keys.is_empty());
        last.is_some_and(|last| now >= last + self.settings.keys.timeout + slack)
    }

    /// An agent that comes to listen has words of a key to say.
    pub(super) fn awaits_words(&self) -> bool {
        self.keypad.awaited.is_some()
    }

    /// The agent is about to be told of so many keys.
    pub(super) fn keys_told(&mut self, now: Instant, count: usize, led: &mut Led) {
        led.keyed = true;
        if self.keypad.due.is_empty() && self.input_over(now, Duration::ZERO) {
            self.input();
        }
        match self.keypad.due.pop_front() {
            Some(Due::Input(keys)) if keys.len() == count => {
                let words = self.settings.keys.words.replace("{keys}", &keys);
                self.tell(words);
            }
            _ => self.fail(Rule::Keys, "told of keys that nobody pressed"),
        }
    }

    pub(super) fn key_acted(&mut self, now: Instant, led: &mut Led) {
        led.keyed = true;
        match self.keypad.due.pop_front() {
            Some(Due::Act(KeyAction::Transfer(number))) => {
                let announce = self.settings.warm.then(|| Words(String::new()));
                self.parts(Farewell {
                    asked: now,
                    firm: true,
                    said: true,
                    waits: false,
                    owed: 0,
                    begun: false,
                    errand: true,
                });
                self.errand = Some(Errand::Transfer(Transfer { number, announce }));
            }
            Some(Due::Act(KeyAction::Say(words))) => led.key_words = Some(words),
            Some(Due::Act(KeyAction::HangUp)) => led.key_ends = true,
            _ => self.fail(Rule::Keys, "a key acts that nobody pressed"),
        }
    }

    /// Digits belong to nobody who reads logs: no word or number of a note has a star in it.
    pub(super) fn keeps_keys(&mut self, note: &Note) {
        if self.keypad.pressed && format!("{note:?}").contains('*') {
            self.fail(Rule::Keys, "a note tells what was pressed");
        }
    }

    pub(super) fn keys_whole(&mut self, now: Instant, led: &Led) {
        let done = self.keypad.due.is_empty() || self.end.is_some();
        self.holds(Rule::Keys, done, "a key comes to nothing");
        self.keypad.due.clear();
        if let Some(words) = &led.key_words {
            self.keypad.awaited = Some(words.clone());
        }
        if self.line == super::Line::Ready
            && let Some(words) = self.keypad.awaited.take()
        {
            let said = led.words.contains(&words) || !self.talking();
            self.holds(Rule::Keys, said, "the words of a key are not said");
        }
        if led.key_ends {
            let ends = self.farewell.is_some() || self.hung_up.is_some() || self.end.is_some();
            self.holds(Rule::Keys, ends, "a key does not hang up");
        }
        // Whoever goes says nothing more.
        let vain = !self.heeds_keys() || self.settings.keys.words.is_empty();
        if vain && self.input_over(now, Duration::ZERO) {
            self.keypad.keys.clear();
        }
        let late = self.heeds_keys() && self.input_over(now, self.slack + Duration::from_nanos(1));
        self.holds(Rule::Keys, !late, "an input without an end");
    }
}
