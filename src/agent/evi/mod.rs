//! Hume's Empathic Voice Interface.
//!
//! EVI wants linear16 and is told 8 kHz mono, so the caller's mu-law is only decoded, never
//! upsampled. What it says comes as complete WAV files at a rate of its choosing, usually 48 kHz,
//! faster than real time. Its errors come in band, and nearly every close is 1000, so the last
//! error is what tells a hang-up from a failure.
//!
//! [`Codec`] translates one conversation, over one connection after another. It promises that nothing
//! a peer sends panics, that its memory is bounded (ids are kept as hashes, a handful at a time), and
//! that unknown messages are skipped and reported. Of what was said it keeps the last few lines, in
//! memory and for one purpose: where EVI cannot resume a chat (it needs Hume's data retention), the
//! new chat is told what the call was about. It never decides whether an interruption was real: it
//! reports it, and drops late audio only when the host confirms the cut with
//! [`Command::Heard`](super::Command::Heard).
//!
//! Protocol facts are cited as "SDK types" (Python `hume` 0.14.1, npm `hume` 0.16.0), "EVI docs"
//! (dev.hume.ai) or "seen in the field" (observations by other bridges).

mod closing;
mod codec;
mod memory;
mod messages;
#[cfg(test)]
mod tests;

pub use codec::Codec;

use super::{Capabilities, Persona, Saying};
use crate::config::Secret;

/// How to reach EVI, and as whom.
#[derive(Clone)]
pub struct Settings {
    /// The chat endpoint, `wss://api.hume.ai/v0/evi/chat` unless it is elsewhere.
    pub url: String,
    pub api_key: Secret,
    /// Which EVI configuration answers; `None` is Hume's default one.
    pub config_id: Option<String>,
    /// How the agent is to be in this call.
    pub persona: Persona,
}

/// What EVI can do.
pub const CAPABILITIES: Capabilities = Capabilities {
    name: "hume",
    // EVI itself is told nothing; the codec uses it to drop stale audio.
    heard: true,
    say: Saying::Exactly,
    mid_context: true,
    pause: true,
    // EVI docs: one at a time.
    parallel_tools: false,
    hears_speech: false,
    turn_events: true,
};
