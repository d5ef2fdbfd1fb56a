//! Servers that speak OpenAI's Realtime protocol over a WebSocket: OpenAI itself and everybody who
//! copied it.
//!
//! One codec, two audio paths (the telephone's mu-law untouched, or PCM16 resampled) and two dialects
//! (both are always read; one is sent). Every other difference between servers is a value of
//! [`config::Realtime`].
//!
//! The agent says when the caller begins and stops to speak, never whether that interrupts anything:
//! it has generated long before the telephone has played. So it has to be told what was heard
//! ([`Command::Heard`](super::Command::Heard)), and nothing but the codec asks it for a response
//! besides its own turn detection.
//!
//! Protocol facts are cited as "SDK types" (Python `openai` 3.54, npm `openai` 7.57), "OpenAI docs"
//! (developers.openai.com) or "seen in the field".

mod asking;
mod audio;
mod caller;
mod calls;
mod codec;
mod errors;
mod hearing;
mod items;
mod messages;
mod responses;
mod session;
#[cfg(test)]
mod tests;
mod turn;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

pub use codec::Codec;

use super::{Capabilities, Persona, Saying};
use crate::config::{
    self, Secret,
    realtime::{Auth, Dialect, Interrupt, Say},
};

/// A server, and how to be let in; the same for all calls.
pub struct Server {
    pub config: config::Realtime,
    /// Headers of every connection, the key's among them.
    pub headers: Vec<(String, Secret)>,
    /// It hears by itself when the caller has spoken.
    detects: bool,
    /// And then answers by itself.
    answers: bool,
    /// It ends a response by itself that the caller talks over.
    interrupts: bool,
}

/// One call's agent.
#[derive(Clone)]
pub struct Settings {
    pub server: Arc<Server>,
    pub persona: Persona,
}

impl Server {
    pub fn new(config: &config::Realtime, credentials: &config::Credentials) -> Server {
        let mut server = Server {
            config: config.clone(),
            headers: headers(config, credentials),
            detects: true,
            answers: true,
            interrupts: config.interrupt == Interrupt::Server,
        };
        // The session's patch is stronger than the key, so it is the whole that is asked.
        let bare = Settings {
            server: Arc::new(Server {
                config: config.clone(),
                headers: Vec::new(),
                ..server
            }),
            persona: Persona::default(),
        };
        let whole = session::whole(&bare, "");
        if let Some(detection) = session::turn_detection(&whole) {
            let off = |name| detection.get(name).and_then(|v| v.as_bool()) == Some(false);
            server.answers = !off("create_response");
            server.interrupts &= !off("interrupt_response");
        } else {
            server.detects = false;
        }
        server
    }

    /// What it can do, which depends on its config.
    pub fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "realtime",
            heard: true,
            say: match self.config.say {
                Say::Instruct => Saying::Nearly,
                Say::Force => Saying::Exactly,
                Say::No => Saying::Not,
            },
            mid_context: true,
            // Pausing switches its answers off, which are a part of its turn detection.
            pause: self.detects,
            parallel_tools: true,
            hears_speech: true,
            turn_events: true,
        }
    }
}

/// The key's and the operator's own. A credential that is not there has been complained about when the
/// config was read.
fn headers(config: &config::Realtime, credentials: &config::Credentials) -> Vec<(String, Secret)> {
    let mut headers = Vec::new();
    if let Some(key) = &credentials.realtime_api_key {
        let under = |scheme: &str| Secret::new(format!("{scheme} {}", key.expose()));
        match &config.auth {
            Auth::Bearer => headers.push(("Authorization".into(), under("Bearer"))),
            Auth::Basic => headers.push(("Authorization".into(), under("Basic"))),
            Auth::Header(name) => headers.push((name.clone(), key.clone())),
            Auth::None => {}
        }
    }
    // A server of today's dialect refuses whoever asks for the older one (seen in the field).
    if config.dialect == Dialect::Beta {
        headers.push(("OpenAI-Beta".into(), Secret::new("realtime=v1")));
    }
    for (name, value) in &config.headers {
        if let Ok(value) = value.filled(&credentials.named) {
            headers.retain(|(ours, _)| !ours.eq_ignore_ascii_case(name));
            headers.push((name.clone(), value));
        }
    }
    headers
}

/// How ids are remembered. It is not keyed; a server that goes out of its way to collide confuses only
/// its own call.
fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
