//! What the two listeners serve.
//!
//! The public one is Twilio's: webhooks ([`voice`]) and the media socket ([`media`]), all signed
//! ([`signed`]; [`unsigned`] keeps count of the others), plus a bare health check; [`rehearsal`] says
//! what a test call may have signed. The private one is for operators and monitors ([`ops`]).
//! [`listener`] keeps both from being held up, filled up or brought down by a client, and the public
//! one speaks TLS by itself where there is no proxy ([`tls`]).

pub mod listener;
pub mod media;
pub mod ops;
pub mod paths;
pub mod rehearsal;
pub mod router;
pub mod signed;
mod stranger;
pub mod tls;
pub mod unsigned;
pub mod voice;

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::{
    agent::{Agents, link::Tls},
    config::{Config, Credentials},
    metrics::Metrics,
    session::{machine, registry::Registry},
    twilio::{rest::Rest, signature::Verifier, token::Minter},
};

/// Media sockets that have not yet shown whose they are.
const MAX_UNCLAIMED: usize = 256;

/// What outlives a config.
pub struct Shared {
    pub registry: Arc<Registry>,
    /// Every call's task: what a stopping daemon waits for.
    pub calls: TaskTracker,
    pub tls: Arc<Tls>,
    pub metrics: Arc<Metrics>,
    unclaimed: Arc<Semaphore>,
    unsigned: Arc<unsigned::Unsigned>,
}

impl Shared {
    pub fn new(registry: Arc<Registry>, tls: Arc<Tls>, metrics: Arc<Metrics>) -> Self {
        Shared {
            registry,
            calls: TaskTracker::new(),
            tls,
            metrics,
            unclaimed: Arc::new(Semaphore::new(MAX_UNCLAIMED)),
            unsigned: Arc::default(),
        }
    }
}

/// Everything the public listener works with, under one config. A reload makes a new one; requests
/// and calls that have begun keep theirs.
pub struct Front {
    pub config: Arc<Config>,
    pub registry: Arc<Registry>,
    /// Every call's task: what a stopping daemon waits for.
    pub calls: TaskTracker,
    agents: Agents,
    verifier: Verifier,
    minter: Minter,
    rest: Rest,
    tls: Arc<Tls>,
    metrics: Arc<Metrics>,
    unclaimed: Arc<Semaphore>,
    unsigned: Arc<unsigned::Unsigned>,
}

impl Front {
    pub fn new(
        config: Arc<Config>,
        credentials: &Credentials,
        rest: Rest,
        shared: &Shared,
    ) -> Self {
        Front {
            agents: Agents::new(&config, credentials),
            verifier: Verifier::new(&credentials.twilio_auth_token)
                .with_shared_key(credentials.twilio_shared_key.as_ref()),
            minter: Minter::new(&credentials.twilio_auth_token),
            config,
            registry: shared.registry.clone(),
            calls: shared.calls.clone(),
            rest,
            tls: shared.tls.clone(),
            metrics: shared.metrics.clone(),
            unclaimed: shared.unclaimed.clone(),
            unsigned: shared.unsigned.clone(),
        }
    }

    fn call_settings(&self) -> machine::Settings {
        let manner = self.agents.manner();
        machine::Settings {
            ready_timeout: manner.ready_timeout,
            ping_interval: manner.ping_interval,
            pong_timeout: manner.pong_timeout,
            max_duration: self.config.calls.max_duration,
            words_interrupt: manner.words_interrupt,
            drain_goodbye: !self.config.calls.drain_goodbye.is_empty(),
            capabilities: self.agents.capabilities(),
        }
    }
}

/// Seconds since 1970; a clock before that counts as 1970.
fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
