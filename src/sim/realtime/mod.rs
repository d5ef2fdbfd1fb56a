//! A simulated server of OpenAI's Realtime protocol: a second, independent reading of it.
//!
//! It plays the same [`Script`] as the simulated EVI and fills the same [`Record`](super::evi::Record), so a
//! story can be told with either agent. It is as strict as the real server: an unknown field, a missing one
//! or one of another kind is answered with the error that OpenAI has for it, and is on record as a violation
//! unless a race can bring it. It is faithful in what hurts: speech comes in bursts of odd lengths, words run
//! ahead of it, `done` says nothing about hearing, the server begins responses by itself and only one at a
//! time, it never goes on after a tool call unless it is asked, and it truncates nothing by itself.
//!
//! Which server it is like is its [`Dialect`]. What EVI's script has and this protocol has not is mapped
//! in [`response`]; what a script's error codes are here, in [`errors`].
//!
//! Nothing here uses `agent::realtime`, which it is there to test. Protocol facts are cited as "SDK types"
//! (Python `openai` 3.54), "OpenAI docs" or "seen in the field".

mod chat;
mod errors;
mod front;
mod items;
mod response;
mod session;
mod shape;
mod speech;
mod tables;
#[cfg(test)]
mod tests;
mod tongue;
mod turns;
mod world;

use std::sync::Arc;

use serde::Deserialize;

use super::evi::{self, AgentHandle, Script, StartError};

/// Which server's habits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// OpenAI's own, and Azure's: strict.
    #[default]
    Ga,
    /// The names of the beta, at the top of the session; linear audio only (speaches).
    Beta,
    /// xAI: voice and turn detection at the top of the session, `ping`, words that are replaced, no
    /// `audio_start_ms`, `force_message`.
    Xai,
    /// Self-hosted (LocalAI, speech-to-speech): hears and speaks linear audio only whatever it is told; sends
    /// no `response.created`, no `response.output_item.done`, no `conversation.item.truncated`.
    Plain,
}

/// What does not belong to a story.
#[derive(Clone, Default)]
pub struct Options {
    /// Key, voice, pace and limits.
    pub agent: evi::Options,
    pub dialect: Dialect,
}

/// The simulator.
pub struct Realtime;

impl Realtime {
    /// Renders every clip of the script, then listens on a free loopback port. The handle's URL has no
    /// query: the model is the client's.
    pub async fn start(script: Script, options: Options) -> Result<AgentHandle, StartError> {
        if script.load {
            return Err(StartError::Foreign("load"));
        }
        let agent = options.agent;
        let (api_key, hooks) = (agent.api_key.clone(), agent.hooks.clone());
        let shared = evi::world(script, agent, |_| front::LINEAR_RATE).await?;
        let world = Arc::new(world::World::new(shared.clone(), options.dialect));
        let host = Arc::new(front::Front { world, api_key });
        evi::listen(shared, host, hooks, front::PATH).await
    }
}
