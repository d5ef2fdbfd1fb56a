//! What the agent is asked to say: its first words, an answer, given words, its last sentence.

use serde_json::json;

use super::{
    codec::{Codec, Send},
    messages,
    responses::{Purpose, Want},
    session,
};
use crate::{agent::Role, config::realtime::Dialect};

const SAY: &str = "Say exactly this to the caller, word for word, and nothing else: ";
const ALOUD: &str = "Answer the caller now, in spoken words.";
const GO_ON: &str = "You were cut off in the middle of your last sentence for technical reasons. Go on \
                     where you stopped; do not greet the caller again.";

impl Codec {
    /// A new session is told what was said; true if anything was.
    pub(super) fn replay(&mut self, send: Send<'_, '_>) -> bool {
        let lines: Vec<(Role, String)> = self
            .recap
            .lines()
            .map(|(role, text)| (role, text.to_owned()))
            .collect();
        for (role, text) in &lines {
            self.message_of(*role, "replay", text, send);
        }
        !lines.is_empty()
    }

    pub(super) fn message_of(&mut self, role: Role, what: &str, text: &str, send: Send<'_, '_>) {
        let event = self.event_id(what);
        let (name, content) = match (role, self.settings.server.config.dialect) {
            (Role::Caller, _) => ("user", "input_text"),
            (Role::Agent, Dialect::Ga) => ("assistant", "output_text"),
            (Role::Agent, Dialect::Beta) => ("assistant", "text"),
        };
        send(messages::message(&event, name, content, text));
    }

    pub(super) fn greeting(&self) -> String {
        let greeting = &self.settings.server.config.greeting;
        session::filled(greeting, &self.settings.persona.briefing)
    }

    /// What is wanted and has its time goes out.
    pub(super) fn flush(&mut self, send: Send<'_, '_>) {
        if !self.line.ready || self.line.paused {
            return;
        }
        let events = &mut self.events;
        let next = self.line.responses.next(|| {
            *events = events.wrapping_add(1);
            format!("create-{events}")
        });
        if let Some((event, want)) = next {
            send(self.create(&event, &want));
        }
    }

    pub(super) fn create(&self, event: &str, want: &Want) -> String {
        let config = &self.settings.server.config;
        // They stand in the place of the session's own, so these come first.
        let with = |task: &str| {
            let all = session::instructions(&self.settings, &self.context);
            json!({ "instructions": format!("{all}\n\n{task}").trim() })
        };
        let mut response = match &want.purpose {
            Purpose::Force(text) => return messages::force_message(event, text),
            Purpose::Greet => with(&self.greeting()),
            Purpose::Go { .. } if want.failed > 1 => with(ALOUD),
            Purpose::Go { .. } => serde_json::Value::Null,
            Purpose::GoOn => with(GO_ON),
            Purpose::Goodbye(text) => {
                let mut response = with(text);
                response["tool_choice"] = "none".into();
                response
            }
            Purpose::Say(text) => {
                let mut response = json!({ "instructions": format!("{SAY}{text}") });
                // The conversation is no part of it; a server that refuses this is asked without.
                if want.failed == 0 {
                    response["tool_choice"] = "none".into();
                    if config.dialect == Dialect::Ga {
                        response["input"] = json!([]);
                    }
                }
                response
            }
        };
        if want.failed > 1 && !config.modalities.is_empty() {
            response[session::modalities(config.dialect)] = json!(config.modalities);
        }
        messages::create(event, response)
    }

    pub(super) fn update(&mut self, answers: bool) -> String {
        let whole = session::whole(&self.settings, "");
        let event = self.event_id("session");
        session::update(&event, session::answering(&whole, answers))
    }
}
