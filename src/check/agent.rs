//! The agent: connect as a call would, wait until it listens, and leave politely.
//!
//! Nothing is said and no audio is sent; what the agent says meanwhile is dropped unheard.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use super::report::Finding;
use crate::{
    agent::{
        Agents, Closed, Codec, Event,
        link::{self, ConnectError, Socket, Tls},
    },
    config::AgentKind,
    printable::Printable,
    routing::{DEFAULT, Plan},
};

const CHECK: &str = "agent";
/// For the answer to our close.
const FAREWELL: Duration = Duration::from_secs(1);
/// Ours is 1000; after an error the agent's follows at once or not at all.
const AFTER_ERROR: Duration = Duration::from_secs(2);

/// `no_key`: the config says that it wants none.
pub async fn look(agents: &Agents, plan: &Plan, no_key: bool, tls: &Tls) -> Finding {
    let kind = plan.agent;
    let mends = Mends {
        kind,
        no_key,
        route: (plan.name != DEFAULT).then_some(&*plan.name),
    };
    let name = mends.name();
    let connection = agents.manner(kind).connection;
    let mut codec = agents.codec(kind, plan.config_id.as_deref(), plan.persona(None));
    let began = Instant::now();
    let mut socket = match link::connect(&codec.request(), tls, connection.connect_timeout).await {
        Ok(socket) => socket,
        Err(error) => return unconnected(mends, error),
    };
    let connected = began.elapsed();
    let outcome = ready(&mut *codec, &mut socket, connection.ready_timeout).await;
    let ready = began.elapsed();
    leave(socket).await;
    match outcome {
        Ok(()) => Finding::ok(
            CHECK,
            format!(
                "{name} listens after {} ms (connected after {})",
                ready.as_millis(),
                connected.as_millis()
            ),
        ),
        Err(unready) => refused(mends, unready),
    }
}

/// Why a connection does not come to listen.
#[derive(Debug, PartialEq, Eq)]
struct Unready {
    /// Of the last error that the agent reported in band.
    code: Option<String>,
    /// `None`: it said no more in time.
    closed: Option<Closed>,
}

async fn ready(
    codec: &mut dyn Codec,
    socket: &mut Socket,
    within: Duration,
) -> Result<(), Unready> {
    let mut until = Instant::now() + within;
    let mut unready = Unready {
        code: None,
        closed: None,
    };
    let mut frames = Vec::new();
    codec.opened(&mut |frame| frames.push(frame));
    send(socket, frames, until).await;
    loop {
        let Ok(next) = timeout_at(until, socket.next()).await else {
            // An error may say enough, also of an agent that does not close after it.
            unready.closed = Some(codec.closed(None, "")).filter(|closed| *closed != Closed::Lost);
            return Err(unready);
        };
        let (code, reason) = match next {
            Some(Ok(Message::Text(text))) => {
                let mut listens = false;
                let mut frames = Vec::new();
                codec.message(
                    &text,
                    &mut |event| match event {
                        Event::Ready { .. } => listens = true,
                        Event::Error { code, .. } => {
                            unready.code = Some(Printable(code).to_string());
                        }
                        _ => {}
                    },
                    &mut |frame| frames.push(frame),
                );
                if listens {
                    return Ok(());
                }
                send(socket, frames, until).await;
                if unready.code.is_some() {
                    until = until.min(Instant::now() + AFTER_ERROR);
                }
                continue;
            }
            Some(Ok(Message::Close(Some(frame)))) => (Some(frame.code.into()), frame.reason),
            Some(Ok(Message::Close(None)) | Err(_)) | None => (None, "".into()),
            Some(Ok(_)) => continue,
        };
        unready.closed = Some(codec.closed(code, &reason));
        return Err(unready);
    }
}

/// A socket that takes nothing has a reason to give, which is read next.
async fn send(socket: &mut Socket, frames: Vec<String>, until: Instant) {
    for frame in frames {
        let sent = timeout_at(until, socket.send(Message::text(frame))).await;
        if !matches!(sent, Ok(Ok(()))) {
            break;
        }
    }
}

async fn leave(mut socket: Socket) {
    let frame = CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    };
    let farewell = async {
        // Where the agent has closed first, this is an error, and reading on sends our answer.
        let _ = socket.close(Some(frame)).await;
        while let Some(Ok(_)) = socket.next().await {}
    };
    // An agent that does not take its leave is left all the same.
    let _ = timeout(FAREWELL, farewell).await;
}

/// What is to be done, in an agent's own keys.
#[derive(Clone, Copy)]
struct Mends<'a> {
    kind: AgentKind,
    no_key: bool,
    /// Whose agent it is, if not that of calls on no route.
    route: Option<&'a str>,
}

impl Mends<'_> {
    fn name(self) -> String {
        let name = self.kind.as_str();
        match self.route {
            Some(route) => format!("{name} on route \"{route}\""),
            None => name.to_owned(),
        }
    }

    /// A route's own keys stand over those of all calls.
    fn own(self) -> &'static str {
        match self.route {
            Some(_) => "the route's own keys, and ",
            None => "",
        }
    }

    fn key(self) -> String {
        let name = self.kind.as_str();
        match self.no_key {
            true => format!(
                "it wants a key: put {name}_api_key into the credentials and say in {name}.auth how it \
                 is shown"
            ),
            false if self.kind == AgentKind::Realtime => format!(
                "put the right {name}_api_key into the credentials; {name}.url must be its vendor's, \
                 and {name}.auth says how it is shown"
            ),
            false => format!("put the right {name}_api_key into the credentials"),
        }
    }

    fn url(self) -> String {
        format!("check {}.url", self.kind.as_str())
    }

    /// `code` is the agent's word for it.
    fn session(self, code: Option<&str>) -> String {
        if self.kind != AgentKind::Realtime {
            let name = self.kind.as_str();
            let whose = "it must be a config of the key's account";
            return format!("check {}{name}.config_id: {whose}", self.own());
        }
        match code {
            Some(code) if is_about_the_model(code) => {
                "check realtime.model: it must be a model, or for Azure a deployment, of the key's \
                 account"
                    .to_owned()
            }
            Some("beta_api_shape_disabled") => {
                "write realtime.dialect = \"ga\", and no OpenAI-Beta in realtime.headers".to_owned()
            }
            _ => format!(
                "check what it is told: {}realtime.model, voice, turn_detection, transcription, \
                 modalities, session",
                self.own()
            ),
        }
    }
}

fn is_about_the_model(code: &str) -> bool {
    // The letters of the last are Azure's.
    [
        "model_not_found",
        "deploymentnotfound",
        "opperationnotsupported",
    ]
    .iter()
    .any(|known| code.eq_ignore_ascii_case(known))
}

fn unconnected(mends: Mends<'_>, error: ConnectError) -> Finding {
    let name = mends.name();
    let (key, url) = (mends.key(), mends.url());
    let (what, mend) = match error {
        ConnectError::Refused { status: 401 | 403 } | ConnectError::BadKey => {
            (format!("{name} refuses the key: {error}"), key)
        }
        ConnectError::Refused { status: 402 } => (
            format!("{name} wants to be paid: {error}"),
            "buy credits from the agent's vendor".to_owned(),
        ),
        // Some refuse a model so that they do not have.
        ConnectError::Refused {
            status: 400 | 404 | 410,
        } if mends.kind == AgentKind::Realtime => (
            format!("{name} is not there, or has no such model: {error}"),
            format!("{url} and realtime.model"),
        ),
        ConnectError::Refused { status: 404 | 410 } => (
            format!("{name} is not there: {error}"),
            format!("{url}, and whether the vendor still offers the service"),
        ),
        ConnectError::Refused { status: 429 } => (
            format!("{name} has too many connections: {error}"),
            "end other chats, or ask the vendor for a higher limit".to_owned(),
        ),
        ConnectError::Refused { status: 500.. } => (
            format!("{name} is in trouble: {error}"),
            "try again; see the vendor's status page".to_owned(),
        ),
        ConnectError::Dns => (
            format!("the host of {}.url does not resolve", mends.kind.as_str()),
            format!("{url} and the resolver: resolvectl status"),
        ),
        ConnectError::Tcp(_) | ConnectError::Timeout | ConnectError::Lost => (
            format!("{name}: {error}"),
            format!("{url}, and whether a firewall lets this machine out to it"),
        ),
        ConnectError::NoTrust => (error.to_string(), "install ca-certificates".to_owned()),
        ConnectError::NoFiles => (error.to_string(), "here: ulimit -n".to_owned()),
        ConnectError::Certificate(_) | ConnectError::Tls => (
            format!("{name}: {error}"),
            format!("{url}, the clock, and whether a proxy breaks TLS open on the way"),
        ),
        ConnectError::BadUrl | ConnectError::Protocol | ConnectError::Refused { .. } => {
            (format!("{name}: {error}"), url)
        }
    };
    Finding::fail(CHECK, what, mend)
}

fn refused(mends: Mends<'_>, unready: Unready) -> Finding {
    let (name, section) = (mends.name(), mends.kind.as_str());
    let word = unready.code.as_deref();
    let code = match word {
        Some(code) => format!(" (error {code})"),
        None => String::new(),
    };
    let (what, mend) = match unready.closed {
        Some(Closed::Auth) => (format!("{name} refuses the key{code}"), mends.key()),
        Some(Closed::Quota) => (
            format!("{name} has no credits left, or its plan's limit is reached{code}"),
            "buy credits or a larger plan from the agent's vendor".to_owned(),
        ),
        Some(Closed::Rejected) => (
            format!("{name} refuses the session{code}"),
            mends.session(word),
        ),
        Some(closed) => (
            format!("{name} closes before it listens: {closed}{code}"),
            match mends.kind {
                AgentKind::Realtime => format!("try again; {}", mends.session(word)),
                _ => format!("check {}{section}.config_id, and try again", mends.own()),
            },
        ),
        // What it is told has an error in it, and it waits for something better.
        None if word.is_some() && mends.kind == AgentKind::Realtime => (
            format!("{name} connects and does not take the session{code}"),
            mends.session(word),
        ),
        None => (
            format!("{name} connects and does not come to listen{code}"),
            match mends.kind {
                AgentKind::Realtime => format!(
                    "try again; if it stays so, raise {section}.ready_timeout, or write {section}.ready_on = \
                     \"session.created\" for a server that never confirms"
                ),
                _ => format!("try again; if it stays so, raise {section}.ready_timeout"),
            },
        ),
    };
    Finding::fail(CHECK, what, mend)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mend(kind: AgentKind, no_key: bool, code: Option<&str>, closed: Option<Closed>) -> String {
        let code = code.map(str::to_owned);
        let route = None;
        let mends = Mends {
            kind,
            no_key,
            route,
        };
        refused(mends, Unready { code, closed }).mend
    }

    #[test]
    fn what_a_realtime_server_refuses_is_mended_in_its_own_section() {
        let told = |code, closed| mend(AgentKind::Realtime, false, code, closed);
        for code in ["model_not_found", "opperationnotsupported"] {
            let told = told(Some(code), Some(Closed::Rejected));
            assert!(told.starts_with("check realtime.model: "), "{told}");
        }
        let beta = told(Some("beta_api_shape_disabled"), Some(Closed::Rejected));
        assert!(beta.contains("realtime.dialect"), "{beta}");
        let key = told(Some("invalid_api_key"), Some(Closed::Auth));
        assert!(key.contains("the right realtime_api_key"), "{key}");
        let none = mend(AgentKind::Realtime, true, None, Some(Closed::Auth));
        assert!(none.contains("realtime.auth"), "{none}");
        // Refused in band, and the socket stays open.
        let odd = told(Some("unknown_parameter"), None);
        assert!(odd.contains("realtime.model, voice"), "{odd}");
        let silent = told(None, None);
        assert!(silent.contains("realtime.ready_on"), "{silent}");
        for told in [beta, key, none, odd, silent] {
            assert!(!told.contains("config_id"), "{told}");
        }
    }

    #[test]
    fn a_model_that_is_not_there_may_be_refused_before_the_socket_opens() {
        let mends = |kind| Mends {
            kind,
            no_key: false,
            route: None,
        };
        for status in [400, 404] {
            let error = ConnectError::Refused { status };
            let told = unconnected(mends(AgentKind::Realtime), error).mend;
            assert_eq!(told, "check realtime.url and realtime.model");
        }
        for (name, kind) in AgentKind::NAMES {
            let told = unconnected(mends(kind), ConnectError::Refused { status: 404 }).mend;
            assert_eq!(told.contains("model"), name == "realtime", "{told}");
        }
    }
}
