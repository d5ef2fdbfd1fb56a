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

mod codec;

use std::sync::Arc;

pub use codec::Codec;

use super::{Capabilities, Persona, Saying};
use crate::config::{self, Secret};

/// A server, and how to be let in; the same for all calls.
pub struct Server {
    pub config: config::Realtime,
    /// Headers of every connection, the key's among them.
    pub headers: Vec<(String, Secret)>,
}

/// One call's agent.
#[derive(Clone)]
pub struct Settings {
    pub server: Arc<Server>,
    pub persona: Persona,
}

impl Server {
    pub fn new(config: &config::Realtime, credentials: &config::Credentials) -> Server {
        let _ = credentials;
        Server {
            config: config.clone(),
            headers: Vec::new(),
        }
    }

    /// What it can do, which depends on its config.
    pub fn capabilities(&self) -> &'static Capabilities {
        &CAPABILITIES
    }
}

/// What OpenAI's server can do.
const CAPABILITIES: Capabilities = Capabilities {
    name: "realtime",
    heard: true,
    say: Saying::Nearly,
    mid_context: true,
    pause: true,
    parallel_tools: true,
    hears_speech: true,
    turn_events: true,
};
