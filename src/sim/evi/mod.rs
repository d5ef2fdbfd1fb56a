//! A simulated Hume EVI: a second, independent reading of the protocol.
//!
//! It listens on a loopback port, speaks EVI's chat protocol there, and does what its [`Script`]
//! says. It is strict: whatever the protocol does not know in a request or a frame is put on record
//! as a violation, or refused as the real service refuses it; only what the documentation leaves open (uuid
//! syntax, binary frames' meaning, pacing of the uplink) is not judged. It is faithful in what
//! hurts: every audio message is a WAV of its own, speech comes in bursts, errors come in band
//! after a 101, nearly every end is a close 1000, and sockets go half-open. It understands no words:
//! it hears energy, and what it then says was written before.
//!
//! Nothing here uses `agent::evi`, which it is there to test. Time is virtual (see
//! [`Options::pace`]); hearing counts samples and needs no clock. Every task belongs to the
//! [`EviHandle`] and ends with it.

pub(in crate::sim) mod chat;
mod front;
pub(in crate::sim) mod hearing;
mod load;
pub(in crate::sim) mod log;
mod script;
pub(in crate::sim) mod server;
#[cfg(test)]
mod tests;
pub(in crate::sim) mod voice;
mod wire;

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub use load::MESSAGE_MS as LOAD_MESSAGE_MS;
pub use log::{By, Event, Record, Uplink, What};
pub use script::{
    Handshake, Interruptible, Millis, On, Opening, Reply, Say, Script, Step, Tool, ToolKind,
};
pub use voice::{Clips, test_tones};
pub use wire::{AudioFormat, DeclaredTool};

/// Called with the connection's number, a text frame of the bridge, and when it was read.
pub type UplinkHook = Arc<dyn Fn(u32, &str, Instant) + Send + Sync>;
/// Called with the connection's number, the number of the audio message (from 0), and when the
/// kernel had taken it. Under [`Script::echo_load`] only.
pub type SentHook = Arc<dyn Fn(u32, u64, Instant) + Send + Sync>;

/// Asked with the connection's number before each message: whether the agent has enough, says
/// goodbye and hangs up by the tool. Under [`Script::echo_load`] only.
pub type LeavesHook = Arc<dyn Fn(u32) -> bool + Send + Sync>;

/// Callbacks, called on the connections' tasks: they must not block.
#[derive(Clone, Default)]
pub struct Hooks {
    pub on_uplink: Option<UplinkHook>,
    pub on_sent: Option<SentHook>,
    pub leaves: Option<LeavesHook>,
    /// Whether this connection's agent is to be interrupted now; asked before each of its messages.
    pub interrupted: Option<LeavesHook>,
}

/// What does not belong to a story.
#[derive(Clone)]
pub struct Options {
    /// The key that `X-Hume-Api-Key` must hold.
    pub api_key: String,
    /// Where the agent's voice comes from.
    pub clips: Clips,
    /// How much faster than real time the world is. The caller's audio must come at this pace too.
    pub pace: f64,
    /// `audio_input` frames kept as text, of each connection.
    pub audio_frames_kept: usize,
    /// Samples of the caller kept, of each connection.
    pub caller_samples_kept: usize,
    pub hooks: Hooks,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            api_key: "simulated-hume-key".into(),
            clips: test_tones,
            pace: 1.0,
            audio_frames_kept: 200,
            caller_samples_kept: 10 * 60 * 8_000,
            hooks: Hooks::default(),
        }
    }
}

/// The handle of any simulated agent.
pub type AgentHandle = EviHandle;

/// Why a simulator did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the script says the clip {0:?}, which does not exist")]
    NoSuchClip(String),
    #[error("pace {0} is not a speed")]
    Pace(f64),
    #[error("the script has {0:?}, which is for another agent")]
    Foreign(&'static str),
    #[error("cannot listen on a loopback port: {0}")]
    Listen(#[from] io::Error),
}

/// The simulator.
pub struct Evi;

impl Evi {
    /// Renders every clip of the script, then listens on a free loopback port.
    pub async fn start(script: Script, options: Options) -> Result<EviHandle, StartError> {
        if let Some(word) = script.foreign() {
            return Err(StartError::Foreign(word));
        }
        let (api_key, hooks) = (options.api_key.clone(), options.hooks.clone());
        let world = world(script, options, |say| say.rate).await?;
        let host = Arc::new(front::Front {
            world: world.clone(),
            api_key,
        });
        listen(world, host, hooks, front::PATH).await
    }
}

/// What all connections of a simulator share: every clip of the script is there, at this rate.
pub(in crate::sim) async fn world(
    script: Script,
    options: Options,
    rate: fn(&Say) -> u32,
) -> Result<Arc<chat::World>, StartError> {
    if !(options.pace > 0.0 && options.pace.is_finite()) {
        return Err(StartError::Pace(options.pace));
    }
    let renderer = voice::Renderer::new(options.clips);
    // Interpolating is work for a processor: done ahead, it delays no caller.
    let (script, renderer) = tokio::task::spawn_blocking(move || {
        for say in script.says() {
            if renderer.clip(&say.clip, rate(say)).is_none() {
                return Err(StartError::NoSuchClip(say.clip.clone()));
            }
        }
        Ok((script, renderer))
    })
    .await
    .unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))?;
    let log = log::Log::new(
        log::Clock::new(options.pace),
        options.audio_frames_kept,
        options.caller_samples_kept,
    );
    Ok(Arc::new(chat::World::new(script, renderer, log)))
}

/// Listens on a free loopback port, for as long as the handle lives.
pub(in crate::sim) async fn listen(
    world: Arc<chat::World>,
    host: Arc<dyn server::Host>,
    hooks: Hooks,
    path: &'static str,
) -> Result<EviHandle, StartError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let addr = listener.local_addr()?;
    let ground = Arc::new(server::Ground {
        world,
        host,
        hooks,
        stop: CancellationToken::new(),
    });
    let task = tokio::spawn(server::serve(listener, ground.clone()));
    Ok(EviHandle {
        addr,
        path,
        ground,
        task: Some(task),
    })
}

/// A running simulator. Dropped, it is gone at once, with all its connections.
pub struct EviHandle {
    pub addr: SocketAddr,
    path: &'static str,
    ground: Arc<server::Ground>,
    /// Taken by [`EviHandle::stop`].
    task: Option<JoinHandle<()>>,
}

impl EviHandle {
    /// What the agent's `url` in the config is to be set to.
    pub fn url(&self) -> String {
        format!("ws://{}{}", self.addr, self.path)
    }

    /// The simulator's own time, on which its events are dated.
    pub fn now_ms(&self) -> f64 {
        self.ground.world.log.clock.now()
    }

    /// The record so far.
    pub fn record(&self) -> Record {
        self.ground.world.log.snapshot()
    }

    /// Returns when `done` holds of the record. It may never: callers set the deadline.
    pub async fn until(&self, done: impl FnMut(&Record) -> bool) {
        self.ground.world.log.until(done).await;
    }

    /// Ends every connection without a close frame and hands over the record. A panic of the
    /// simulator surfaces here.
    pub async fn stop(mut self) -> Record {
        self.ground.stop.cancel();
        if let Some(task) = self.task.take()
            && let Err(e) = task.await
            && let Ok(panic) = e.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
        self.record()
    }
}

impl Drop for EviHandle {
    fn drop(&mut self) {
        self.ground.stop.cancel();
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl fmt::Debug for EviHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EviHandle")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}
