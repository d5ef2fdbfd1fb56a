//! What the two listeners serve.
//!
//! The public one is Twilio's: webhooks ([`voice`], and [`errand`] for calls that are away) and the media
//! socket ([`media`], to which [`connect`] is the way), all signed ([`signed`]; [`unsigned`] keeps count of
//! the others), plus a bare health check; [`rehearsal`] says what a test call may have signed. The private one is for operators and monitors ([`ops`]).
//! [`listener`] keeps both from being held up, filled up or brought down by a client, and the public
//! one speaks TLS by itself where there is no proxy ([`tls`]).

pub mod connect;
pub mod errand;
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
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::{
    agent::{Agents, Manner, link::Tls},
    config::{Config, Credentials, HoldSound, NoAnswer, Transfer},
    metrics::Metrics,
    routing::{Facts, Plan, Router, lookup::Lookup},
    session::{
        hold::{Sound, Waiting},
        machine::{self, NoInput},
        order::Words,
        record::Recorder,
        registry::{CallFacts, Registry},
        terms::Terms,
    },
    tools::Runner,
    twilio::{CallSid, rest::Rest, signature::Verifier, token::Minter},
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
    /// Of the calls that are over.
    pub recorder: Arc<Recorder>,
    unclaimed: Arc<Semaphore>,
    unsigned: Arc<unsigned::Unsigned>,
}

impl Shared {
    pub fn new(registry: Arc<Registry>, tls: Arc<Tls>, metrics: Arc<Metrics>) -> Self {
        Shared {
            registry,
            calls: TaskTracker::new(),
            tls,
            recorder: Recorder::new(metrics.clone()),
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
    pub router: Router,
    agents: Agents,
    tools: Arc<Runner>,
    lookup: Option<Arc<Lookup>>,
    verifier: Verifier,
    minter: Minter,
    hold: Option<Sound>,
    rest: Rest,
    tls: Arc<Tls>,
    metrics: Arc<Metrics>,
    recorder: Arc<Recorder>,
    unclaimed: Arc<Semaphore>,
    unsigned: Arc<unsigned::Unsigned>,
}

/// What calls are carried with, and could not be set up under every config.
pub struct Means {
    pub rest: Rest,
    pub tools: Runner,
    pub lookup: Option<Lookup>,
}

impl Front {
    pub fn new(
        config: Arc<Config>,
        credentials: &Credentials,
        means: Means,
        shared: &Shared,
    ) -> Self {
        Front {
            router: Router::new(&config),
            lookup: means.lookup.map(Arc::new),
            agents: Agents::new(&config, credentials),
            tools: Arc::new(means.tools),
            verifier: Verifier::new(&credentials.twilio_auth_token)
                .with_shared_key(credentials.twilio_shared_key.as_ref()),
            minter: Minter::new(&credentials.twilio_auth_token),
            hold: match &config.calls.hold_sound {
                HoldSound::Nothing => None,
                HoldSound::Tones => Some(Sound::tones()),
                HoldSound::Recording(recording) => Sound::new(recording.mulaw.clone()),
            },
            config,
            registry: shared.registry.clone(),
            calls: shared.calls.clone(),
            rest: means.rest,
            tls: shared.tls.clone(),
            metrics: shared.metrics.clone(),
            recorder: shared.recorder.clone(),
            unclaimed: shared.unclaimed.clone(),
            unsigned: shared.unsigned.clone(),
        }
    }

    /// The plan of a call that has been admitted: here or elsewhere, under this config or another. Where
    /// its route is not known, that is found anew.
    fn plan(&self, route: Option<&str>, to: &str, from: &str) -> Arc<Plan> {
        let known = route.and_then(|name| self.router.named(name, to, from));
        known.unwrap_or_else(|| self.router.pick(to, from, Timestamp::now()).plan)
    }

    fn terms_of(&self, plan: &Plan) -> Arc<Terms> {
        Arc::new(Terms {
            config: self.config.clone(),
            fallback: plan.fallback.clone(),
        })
    }

    /// Those on which a call began; of one that this instance does not know, today's.
    fn terms(&self, call: Option<&CallSid>, to: &str, from: &str) -> Arc<Terms> {
        if let Some(terms) = call.and_then(|call| self.registry.terms(call)) {
            return terms;
        }
        let route = call.and_then(|call| self.registry.route_of(call));
        self.terms_of(&self.plan(route.as_deref(), to, from))
    }

    /// The agent of a plan as its vendor names it: the prepared configuration, and the voice.
    pub fn agent_names<'a>(&'a self, plan: &'a Plan) -> (Option<&'a str>, Option<&'a str>) {
        let (config_id, voice) = (plan.config_id.as_deref(), plan.voice.as_deref());
        self.agents.names(plan.agent, config_id, voice)
    }

    fn call_settings(&self, plan: &Plan) -> machine::Settings {
        let Manner {
            connection,
            words_interrupt,
        } = self.agents.manner(plan.agent);
        let calls = &self.config.calls;
        let words = |text: &str| (!text.trim().is_empty()).then(|| Words(text.to_owned()));
        let some = |duration: Duration| (!duration.is_zero()).then_some(duration);
        machine::Settings {
            ready_timeout: connection.ready_timeout,
            ping_interval: connection.ping_interval,
            pong_timeout: connection.pong_timeout,
            connect_budget: connection.connect_budget,
            reconnect_budget: connection.reconnect_budget,
            recycle_after: some(connection.recycle_after),
            seed: RandomState::new().hash_one(0),
            hold: self.hold.clone().map(|sound| Waiting {
                after: calls.hold_after,
                sound,
            }),
            max_duration: plan.max_duration,
            max_duration_farewell: words(&calls.max_duration_farewell),
            no_input: some(plan.no_input_timeout).map(|timeout| NoInput {
                timeout,
                check: words(&calls.no_input_check),
                farewell: words(&calls.no_input_farewell),
            }),
            words_interrupt,
            drain_goodbye: !calls.drain_goodbye.is_empty(),
            capabilities: self.agents.capabilities(plan.agent),
            tools: plan.catalogue.clone(),
            keys: plan.keys.clone(),
            ring: self.config.transfer.ring,
            warm: self.config.transfer.warm,
            no_answer: match &self.config.transfer.no_answer {
                NoAnswer::Agent(words) => Some(Words(words.clone())),
                // Should another config send such a caller back all the same.
                NoAnswer::Say(_) => match Transfer::default().no_answer {
                    NoAnswer::Agent(words) => Some(Words(words)),
                    NoAnswer::Say(_) => None,
                },
            },
        }
    }
}

/// A call as its plan's texts may name it.
fn facts<'a>(call: &'a CallFacts, plan: &'a Plan) -> Facts<'a> {
    Facts {
        call: &call.call,
        from: &call.from,
        to: &call.to,
        route: &plan.name,
        known: &call.known,
    }
}

/// Seconds since 1970; a clock before that counts as 1970.
fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
