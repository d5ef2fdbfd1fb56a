//! What the caller's keys do.

use std::time::Instant;

use super::{AgentState, Machine, Note, Outbox, Phase};
use crate::{
    config::KeyAction,
    session::{cause::Cause, errand::Errand, goodbye::Goodbye, keys::Pressed, order::Words},
    tools::Transfer,
};

impl Machine {
    pub(super) fn key(&mut self, now: Instant, key: char, out: &mut Outbox) {
        self.caller_is_there(now);
        // What was pressed long before is an input of its own.
        self.keys_step(now, out);
        if !self.heeds_keys() {
            return;
        }
        let keys = self.settings.keys.clone();
        let pressed = self.keys.press(now, key, &keys);
        self.pressed(now, pressed, out);
    }

    /// An input to which nothing is added any more is over.
    pub(super) fn keys_step(&mut self, now: Instant, out: &mut Outbox) {
        if self.keys.due().is_some_and(|due| now >= due) {
            let pressed = self.keys.take();
            if self.heeds_keys() {
                self.pressed(now, pressed, out);
            }
        }
    }

    /// There is somebody to be told, or who would withdraw a goodbye for it.
    fn heeds_keys(&self) -> bool {
        match &self.phase {
            Phase::Talking => true,
            Phase::Goodbye(goodbye) => goodbye.may_be_withdrawn() && self.agent != AgentState::Gone,
            _ => false,
        }
    }

    fn pressed(&mut self, now: Instant, pressed: Pressed, out: &mut Outbox) {
        match pressed {
            Pressed::More => {}
            Pressed::Input(_) if self.settings.keys.words.trim().is_empty() => {}
            Pressed::Input(keys) => {
                self.withdraw_goodbye(out);
                out.note(Note::KeysTold { count: keys.len() });
                let words = self.settings.keys.words.replace("{keys}", &keys);
                // Who presses keys does not want to hear the rest.
                self.hush(now, out);
                self.prompt(now, Words(words), out);
            }
            // Nobody would say it, and what is being heard is not cut for nothing.
            Pressed::Act(KeyAction::Say(_)) if self.is_mute() => {}
            Pressed::Act(action) => {
                self.withdraw_goodbye(out);
                out.note(Note::KeyActed);
                self.act(now, action, out);
            }
        }
    }

    fn act(&mut self, now: Instant, action: KeyAction, out: &mut Outbox) {
        self.hush(now, out);
        match action {
            KeyAction::HangUp => {
                let goodbye = Goodbye::ordered(Cause::Key, now, false);
                self.say_goodbye(now, goodbye, out);
            }
            KeyAction::Say(words) => match self.can_say() {
                true => self.have_said(Words(words), out),
                // The agent is on its way, for the first time or again.
                false => self.awaited = Some(Words(words)),
            },
            KeyAction::Transfer(number) => {
                // Nothing is announced but that there is somebody.
                let announce = self.settings.warm.then(|| Words(String::new()));
                let errand = Errand::Transfer(Transfer { number, announce });
                let goodbye = Goodbye::ordered(Cause::Transferred, now, false).before(errand);
                self.part(now, goodbye, out);
            }
        }
    }

    /// Nothing more is heard of what the agent is saying.
    fn hush(&mut self, now: Instant, out: &mut Outbox) {
        // Nor from the next agent, if this one is lost.
        self.connection.unsay();
        if self.playback.unheard(now) {
            self.cut(now, out);
        } else if let Some(segment) = self.turn_segment.filter(|_| self.turn_open) {
            self.turn_over();
            let cut = self.playback.cut_at(segment);
            self.tell_heard([cut], out);
        }
    }
}
