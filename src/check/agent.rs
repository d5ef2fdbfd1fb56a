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
        Agents, Closed, Codec, Event, Persona,
        link::{self, ConnectError, Socket, Tls},
    },
    config::AgentKind,
    printable::Printable,
};

const CHECK: &str = "agent";
/// For the answer to our close.
const FAREWELL: Duration = Duration::from_secs(1);
/// Ours is 1000; after an error the agent's follows at once or not at all.
const AFTER_ERROR: Duration = Duration::from_secs(2);

pub async fn look(agents: &Agents, kind: AgentKind, persona: Persona, tls: &Tls) -> Finding {
    let name = kind.as_str();
    let manner = agents.manner(kind);
    let mut codec = agents.codec(kind, None, persona);
    let began = Instant::now();
    let mut socket = match link::connect(&codec.request(), tls, manner.connect_timeout).await {
        Ok(socket) => socket,
        Err(error) => return unconnected(name, error),
    };
    let connected = began.elapsed();
    let outcome = ready(&mut *codec, &mut socket, manner.ready_timeout).await;
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
        Err(unready) => refused(name, unready),
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

fn unconnected(name: &str, error: ConnectError) -> Finding {
    let key = format!("put the right {name}_api_key into the credentials");
    let url = format!("check {name}.url");
    let (what, mend) = match error {
        ConnectError::Refused { status: 401 | 403 } | ConnectError::BadKey => {
            (format!("{name} refuses the key: {error}"), key)
        }
        ConnectError::Refused { status: 402 } => (
            format!("{name} wants to be paid: {error}"),
            "buy credits from the agent's vendor".to_owned(),
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
            format!("the host of {name}.url does not resolve"),
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

fn refused(name: &str, unready: Unready) -> Finding {
    let code = match &unready.code {
        Some(code) => format!(" (error {code})"),
        None => String::new(),
    };
    let (what, mend) = match unready.closed {
        Some(Closed::Auth) => (
            format!("{name} refuses the key{code}"),
            format!("put the right {name}_api_key into the credentials"),
        ),
        Some(Closed::Quota) => (
            format!("{name} has no credits left, or its plan's limit is reached{code}"),
            "buy credits or a larger plan from the agent's vendor".to_owned(),
        ),
        Some(Closed::Rejected) => (
            format!("{name} refuses the session{code}"),
            format!("check {name}.config_id: it must be a config of the key's account"),
        ),
        Some(closed) => (
            format!("{name} closes before it listens: {closed}{code}"),
            format!("check {name}.config_id, and try again"),
        ),
        None => (
            format!("{name} connects and does not come to listen{code}"),
            format!("try again; if it stays so, raise {name}.ready_timeout"),
        ),
    };
    Finding::fail(CHECK, what, mend)
}
