//! What an operator's tools may ask over HTTP: `/health`, `/ready`, `/status`.
//!
//! A function of the register, a few facts from the config, and the process itself; nothing here
//! changes anything. The private listener serves [`respond_to`]; the public one only
//! [`public_health`], which tells a stranger no more than that somebody is at home. `/status` names
//! telephone numbers: it belongs on loopback. `/health` is 503 while draining, so that a load
//! balancer sends new calls elsewhere. The JSON shapes are public: fields are added, never renamed.

use std::{
    fs,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Instant, SystemTime},
};

use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;

use super::listener::{Body, method_not_allowed, not_found, respond};
use crate::session::registry::{Registry, View};

const ALLOWED: &str = "GET, HEAD";

/// What the private listener answers from.
pub struct OpsState {
    pub registry: Arc<Registry>,
    pub config: ConfigFacts,
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
    process: Process,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SessionStatus<'a> {
    call_sid: &'a str,
    stream_sid: &'a str,
    /// Nobody has begun to end it.
    is_active: bool,
    agent: &'static str,
    agent_connected: bool,
    /// As the predecessor had it: false for a call on another agent.
    hume_connected: bool,
    /// A session that is listed has its media socket.
    twilio_connected: bool,
    from: &'a str,
    to: &'a str,
    started_at: String,
    duration_seconds: u64,
    ending: bool,
    frames_in: u64,
    audio_out: u64,
    frames_dropped: u64,
    barge_ins: u64,
}

impl<'a> SessionStatus<'a> {
    fn of(view: &'a View) -> Self {
        let facts = &view.facts;
        let (agent_connected, ending) = (view.agent_connected(), view.ending.load(Relaxed));
        SessionStatus {
            call_sid: facts.call.as_str(),
            stream_sid: facts.stream.as_str(),
            is_active: !ending,
            agent: facts.agent,
            agent_connected,
            hume_connected: facts.agent == "hume" && agent_connected,
            twilio_connected: true,
            from: &facts.from,
            to: &facts.to,
            started_at: rfc3339(view.started_at),
            duration_seconds: view.started.elapsed().as_secs(),
            ending,
            frames_in: view.frames_in.load(Relaxed),
            audio_out: view.audio_out.load(Relaxed),
            frames_dropped: view.frames_dropped.load(Relaxed),
            barge_ins: view.barge_ins.load(Relaxed),
        }
    }
}

/// What a leak would make grow; `null` where the system does not tell.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    tasks: Option<usize>,
    open_files: Option<usize>,
    rss_bytes: Option<u64>,
}

impl Process {
    fn now() -> Self {
        Process {
            tasks: tokio::runtime::Handle::try_current()
                .ok()
                .map(|runtime| runtime.metrics().num_alive_tasks()),
            // Listing the directory holds one of its own open.
            open_files: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|fds| fds.count().saturating_sub(1)),
            // Not `statm`: that counts pages, and the size of a page is not to be had without libc.
            rss_bytes: fs::read_to_string("/proc/self/status")
                .ok()
                .and_then(|text| rss(&text)),
        }
    }
}

/// `VmRSS:     5432 kB` in bytes.
fn rss(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
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
            process: Process::now(),
        },
    )
}

fn json(code: StatusCode, body: &impl Serialize) -> Response<Body> {
    let text = serde_json::to_vec(body).expect("strings and numbers always serialise");
    respond(code, "application/json", text)
}

fn now() -> String {
    rfc3339(SystemTime::now())
}

/// UTC with milliseconds.
fn rfc3339(time: SystemTime) -> String {
    // A clock outside the years that RFC 3339 can write is shown as its beginning.
    let time = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{time:.3}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt;

    use super::*;
    use crate::session::registry::CallFacts;

    const CALL: &str = "CA0123456789abcdef0123456789abcdef";
    const STREAM: &str = "MZ0123456789abcdef0123456789abcdef";

    fn state() -> OpsState {
        OpsState {
            registry: Registry::new(10),
            config: ConfigFacts {
                port: 3000,
                agent: "hume",
                hume_config_id: Some("c0ffee".into()),
                twilio_number: None,
            },
            started: Instant::now(),
        }
    }

    fn facts(agent: &'static str) -> CallFacts {
        CallFacts {
            call: CALL.parse().unwrap(),
            stream: STREAM.parse().unwrap(),
            from: "+61400000001".into(),
            to: "+61200000002".into(),
            agent,
        }
    }

    fn ask(state: &OpsState, method: Method, path: &str) -> Response<Body> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(())
            .unwrap();
        respond_to(state, &request)
    }

    /// Body text, with what differs from run to run replaced.
    async fn text(response: Response<Body>) -> String {
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let mut text = String::from_utf8(bytes.to_vec()).unwrap();
        for key in ["timestamp", "startedAt"] {
            let key = format!("\"{key}\":\"");
            if let Some(at) = text.find(&key) {
                let at = at + key.len();
                let stamp = &text[at..at + 24];
                assert!(
                    stamp.parse::<jiff::Timestamp>().is_ok() && stamp.ends_with('Z'),
                    "{stamp}"
                );
                text.replace_range(at..at + 24, "TIME");
            }
        }
        text
    }

    #[tokio::test]
    async fn a_stranger_learns_only_that_somebody_is_at_home() {
        let registry = Registry::new(1);
        let healthy = public_health(&registry, &Method::GET);
        assert_eq!(healthy.status(), 200);
        assert_eq!(healthy.headers()["cache-control"], "no-store");
        assert_eq!(healthy.headers()["content-type"], "application/json");
        assert_eq!(
            text(healthy).await,
            r#"{"status":"healthy","timestamp":"TIME","activeSessions":0}"#
        );
        registry.set_draining(true);
        let draining = public_health(&registry, &Method::HEAD);
        assert_eq!(draining.status(), 503);
        assert_eq!(
            text(draining).await,
            r#"{"status":"draining","timestamp":"TIME","activeSessions":0}"#
        );
        let refused = public_health(&registry, &Method::POST);
        assert_eq!(
            (refused.status().as_u16(), &refused.headers()["allow"]),
            (405, &"GET, HEAD".parse().unwrap())
        );
    }

    #[tokio::test]
    async fn the_operator_also_sees_what_is_configured() {
        let state = state();
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            text(ask(&state, Method::GET, "/health?x=1")).await,
            format!(
                r#"{{"status":"healthy","timestamp":"TIME","activeSessions":0,"version":"{version}","config":{{"port":3000,"agent":"hume","humeConfigId":"c0ffee","twilioNumber":null}}}}"#
            )
        );
        assert_eq!(
            text(ask(&state, Method::GET, "/ready")).await,
            r#"{"ready":true,"draining":false}"#
        );
        state.registry.set_draining(true);
        assert_eq!(ask(&state, Method::GET, "/health").status(), 503);
        let ready = ask(&state, Method::HEAD, "/ready");
        assert_eq!(ready.status(), 503);
        assert_eq!(text(ready).await, r#"{"ready":false,"draining":true}"#);
        assert_eq!(ask(&state, Method::GET, "/status").status(), 200);
        assert_eq!(ask(&state, Method::POST, "/status").status(), 405);
        assert_eq!(ask(&state, Method::POST, "/nothing").status(), 404);
        assert_eq!(ask(&state, Method::GET, "/health/").status(), 404);
    }

    #[tokio::test]
    async fn a_call_in_progress_is_shown_with_both_ends() {
        let state = state();
        let claim = state.registry.claim(facts("hume"), Instant::now()).unwrap();
        claim.view.agent_connected.store(true, Relaxed);
        claim.view.frames_in.store(50, Relaxed);
        let shown = text(ask(&state, Method::GET, "/status")).await;
        let (head, process) = shown.split_once(r#","process":"#).unwrap();
        assert_eq!(
            head,
            format!(
                r#"{{"activeSessions":1,"sessions":[{{"callSid":"{CALL}","streamSid":"{STREAM}","isActive":true,"agent":"hume","agentConnected":true,"humeConnected":true,"twilioConnected":true,"from":"+61400000001","to":"+61200000002","startedAt":"TIME","durationSeconds":0,"ending":false,"framesIn":50,"audioOut":0,"framesDropped":0,"bargeIns":0}}],"uptime":0,"timestamp":"TIME""#
            )
        );
        let process: serde_json::Value =
            serde_json::from_str(process.strip_suffix('}').unwrap()).unwrap();
        let keys: Vec<_> = process.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["openFiles", "rssBytes", "tasks"]);
        assert!(process["openFiles"].as_u64().unwrap() >= 3);
        assert!(process["rssBytes"].as_u64().unwrap() > 1 << 20);
    }

    #[tokio::test]
    async fn a_call_on_another_agent_is_not_said_to_be_on_hume() {
        let state = state();
        let claim = state
            .registry
            .claim(facts("realtime"), Instant::now())
            .unwrap();
        claim.view.agent_connected.store(true, Relaxed);
        claim.view.ending.store(true, Relaxed);
        let shown = text(ask(&state, Method::GET, "/status")).await;
        for part in [
            r#""agentConnected":true,"humeConnected":false"#,
            r#""isActive":false"#,
        ] {
            assert!(shown.contains(part), "{shown}");
        }
    }

    #[test]
    fn times_are_utc_with_milliseconds() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_007);
        assert_eq!(rfc3339(time), "2023-11-14T22:13:20.007Z");
        assert_eq!(rfc3339(SystemTime::UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn resident_memory_is_read_in_bytes() {
        assert_eq!(rss("Name:\tx\nVmRSS:\t    5432 kB\n"), Some(5_562_368));
        assert_eq!(rss("Name:\tx\n"), None);
        assert_eq!(rss("VmRSS:\t99999999999999999999 kB"), None);
    }
}
