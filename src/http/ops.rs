//! What an operator's tools may ask over HTTP: `/health`, `/ready`, `/status`, `/metrics`.
//!
//! A function of the register, the counters, a few facts from the config, and the process itself; nothing here
//! changes anything. The private listener serves [`respond_to`]; the public one only
//! [`public_health`], which tells a stranger no more than that somebody is at home. `/status` names
//! telephone numbers: it belongs on loopback. `/health` is 503 while draining, so that a load
//! balancer sends new calls elsewhere. The JSON shapes are public: fields are added, never renamed.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Instant, SystemTime},
};

use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;

use super::listener::{Body, method_not_allowed, not_found, respond};
use crate::{
    metrics::{Metrics, Now, process::Process, text::CONTENT_TYPE},
    session::{
        news::Away,
        registry::{Registry, View},
    },
    timestamp::rfc3339,
};

const ALLOWED: &str = "GET, HEAD";

/// What the private listener answers from.
pub struct OpsState {
    pub registry: Arc<Registry>,
    pub metrics: Arc<Metrics>,
    pub config: Arc<ConfigFacts>,
    /// Of the public listener, in Unix time.
    pub certificate_expires: Option<i64>,
    /// When the daemon began.
    pub started: Instant,
}

/// The part of the config that `/health` shows.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigFacts {
    /// Of the public listener.
    pub port: u16,
    /// The default agent.
    pub agent: &'static str,
    pub hume_config_id: Option<String>,
    pub twilio_number: Option<String>,
}

/// The private listener's routes.
pub fn respond_to<B>(state: &OpsState, request: &Request<B>) -> Response<Body> {
    let answer: fn(&OpsState) -> Response<Body> = match request.uri().path() {
        "/health" => health,
        "/ready" => ready,
        "/status" => status,
        "/metrics" => metrics,
        _ => return not_found(),
    };
    // hyper leaves out the body of an answer to HEAD and keeps its length.
    match *request.method() {
        Method::GET | Method::HEAD => answer(state),
        _ => method_not_allowed(ALLOWED),
    }
}

/// The public listener's `/health`.
pub fn public_health(registry: &Registry, method: &Method) -> Response<Body> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return method_not_allowed(ALLOWED);
    }
    let health = Health::of(registry);
    json(health.code(), &health)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Health {
    status: &'static str,
    timestamp: String,
    active_sessions: usize,
}

impl Health {
    fn of(registry: &Registry) -> Self {
        Health {
            status: if registry.draining() {
                "draining"
            } else {
                "healthy"
            },
            timestamp: now(),
            active_sessions: registry.active(),
        }
    }

    fn code(&self) -> StatusCode {
        match self.status {
            "healthy" => StatusCode::OK,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

#[derive(Serialize)]
struct PrivateHealth<'a> {
    #[serde(flatten)]
    health: Health,
    version: &'static str,
    config: &'a ConfigFacts,
}

fn health(state: &OpsState) -> Response<Body> {
    let health = Health::of(&state.registry);
    let version = env!("CARGO_PKG_VERSION");
    json(
        health.code(),
        &PrivateHealth {
            health,
            version,
            config: &state.config,
        },
    )
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    draining: bool,
}

fn ready(state: &OpsState) -> Response<Body> {
    let draining = state.registry.draining();
    let code = if draining {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    json(
        code,
        &Ready {
            ready: !draining,
            draining,
        },
    )
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    active_sessions: usize,
    sessions: Vec<SessionStatus<'a>>,
    /// Seconds.
    uptime: u64,
    timestamp: String,
    process: ProcessStatus,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SessionStatus<'a> {
    call_sid: &'a str,
    stream_sid: String,
    /// Nobody has begun to end it.
    is_active: bool,
    agent: &'static str,
    agent_connected: bool,
    /// As the predecessor had it: false for a call on another agent.
    hume_connected: bool,
    /// A session that is listed has its media socket, unless it is away.
    twilio_connected: bool,
    from: &'a str,
    to: &'a str,
    started_at: String,
    duration_seconds: u64,
    ending: bool,
    paused: bool,
    frames_in: u64,
    audio_out: u64,
    frames_dropped: u64,
    barge_ins: u64,
    route: Option<&'a str>,
    /// What it has left its agent for: `digits` or `transfer`.
    away: Option<&'static str>,
}

impl<'a> SessionStatus<'a> {
    fn of(view: &'a View) -> Self {
        let facts = &view.facts;
        let away = view.away().map(Away::as_str);
        let (agent_connected, ending) = (view.agent_connected(), view.ending.load(Relaxed));
        SessionStatus {
            call_sid: facts.call.as_str(),
            stream_sid: view.stream().as_str().to_owned(),
            is_active: !ending,
            agent: facts.agent,
            agent_connected,
            hume_connected: facts.agent == "hume" && agent_connected,
            twilio_connected: away.is_none(),
            from: &facts.from,
            to: &facts.to,
            started_at: rfc3339(view.started_at),
            duration_seconds: view.started.elapsed().as_secs(),
            ending,
            paused: view.paused.load(Relaxed),
            frames_in: view.frames_in.load(Relaxed),
            audio_out: view.audio_out.load(Relaxed),
            frames_dropped: view.frames_dropped.load(Relaxed),
            barge_ins: view.barge_ins.load(Relaxed),
            route: facts.route.as_deref(),
            away,
        }
    }
}

/// What a leak would make grow; `null` where the system does not tell.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProcessStatus {
    tasks: Option<usize>,
    open_files: Option<usize>,
    rss_bytes: Option<u64>,
}

impl ProcessStatus {
    fn now() -> Self {
        let process = Process::now();
        ProcessStatus {
            tasks: process.tasks,
            open_files: process.open_fds,
            rss_bytes: process.rss_bytes,
        }
    }
}

fn status(state: &OpsState) -> Response<Body> {
    let views = state.registry.views();
    let sessions: Vec<_> = views.iter().map(|view| SessionStatus::of(view)).collect();
    json(
        StatusCode::OK,
        &Status {
            active_sessions: sessions.len(),
            sessions,
            uptime: state.started.elapsed().as_secs(),
            timestamp: now(),
            process: ProcessStatus::now(),
        },
    )
}

fn metrics(state: &OpsState) -> Response<Body> {
    let calls_active = state.registry.active();
    let owed = state.registry.owed(Instant::now());
    let views = state.registry.views();
    let waiting = |waits: fn(&View) -> bool| views.iter().filter(|view| waits(view)).count();
    let queued = |bytes: fn(&View) -> usize| views.iter().map(|view| bytes(view)).sum();
    let text = state.metrics.render(&Now {
        queued_bytes: [
            queued(|view| view.carrier_queued.load(Relaxed)),
            queued(|view| view.agent_queued.load(Relaxed)),
        ],
        queues_waiting: [
            waiting(|view| view.carrier_waits.load(Relaxed)),
            waiting(|view| view.agent_waits.load(Relaxed)),
        ],
        calls_active,
        calls_expected: owed.saturating_sub(calls_active),
        draining: state.registry.draining(),
        certificate_expires: state.certificate_expires,
        process: Process::now(),
    });
    respond(StatusCode::OK, CONTENT_TYPE, text)
}

fn json(code: StatusCode, body: &impl Serialize) -> Response<Body> {
    let text = serde_json::to_vec(body).expect("strings and numbers always serialise");
    respond(code, "application/json", text)
}

fn now() -> String {
    rfc3339(SystemTime::now())
}

#[cfg(test)]
#[path = "ops_tests.rs"]
mod tests;
