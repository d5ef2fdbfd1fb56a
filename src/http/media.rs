//! The media socket: from the upgrade to the moment when it is known whose call it is.
//!
//! The upgrade is signed; after it the socket is nobody's until Twilio's `start` brings the token
//! that the webhook minted for this very call, within [`START_DEADLINE`]. Then the call's own task
//! carries it ([`driver::run`]). A socket that cannot show its call is closed with 1008 and leaves
//! no trace but a log line.

use std::{net::SocketAddr, sync::Arc, time::Duration, time::Instant};

use super::{
    Front, connect, facts,
    listener::{Body, Peer, method_not_allowed, respond},
    signed::{charged, forbidden, signature_headers, too_many, turned_back_unread},
    stranger::{Stranger, refuse},
    unix_now,
};
use crate::{
    metrics::labels::{Endpoint, SocketRefused},
    session::{
        driver,
        leg::{self, Telephone},
        registry::{CallFacts, Claim, ClaimError, Return},
    },
    tools,
    twilio::{CallSid, StreamSid, media, token::TokenError},
};
use futures_util::StreamExt;
use hyper::{Request, Response, StatusCode, body::Incoming, header};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error as WsError, Message,
        error::ProtocolError,
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};

/// From the upgrade to `start`.
const START_DEADLINE: Duration = Duration::from_secs(5);
/// For hyper to hand over the socket after its 101.
const UPGRADE_DEADLINE: Duration = Duration::from_secs(5);
/// Senseless messages before `start`.
const MAX_GARBAGE: usize = 16;

/// A media frame is about 400 bytes; nothing of Twilio's comes near the limit.
const MAX_MESSAGE: usize = 64 * 1024;

fn socket_config() -> WebSocketConfig {
    // The library's 128 KiB read buffer is allocated for every socket; these are measured to be
    // as fast and thirty times smaller. What may wait for a slow Twilio is about a minute of audio.
    WebSocketConfig::default()
        .read_buffer_size(2 * 1024)
        .write_buffer_size(2 * 1024)
        .max_write_buffer_size(1024 * 1024)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
}

/// Answers the upgrade; the call goes on in a task of its own.
pub fn upgrade(front: Arc<Front>, mut request: Request<Incoming>, peer: Peer) -> Response<Body> {
    if let Some(refusal) = turned_back_unread(&front, Endpoint::Media, request.headers(), peer) {
        refused(&front, SocketRefused::Limited);
        return refusal;
    }
    if request.method() != hyper::Method::GET {
        return method_not_allowed("GET");
    }
    let stranger = Stranger::of(&request, peer);
    let accept = match accept_key(&request) {
        Ok(accept) => accept,
        Err(refusal) => {
            refuse!(
                info,
                stranger,
                "media socket refused: no WebSocket handshake"
            );
            refused(&front, SocketRefused::Handshake);
            return *refusal;
        }
    };
    if front.config.twilio.validate_signatures {
        let path_and_query = request
            .uri()
            .path_and_query()
            .map_or("/", |both| both.as_str());
        let headers = signature_headers(request.headers());
        if !front
            .verifier
            .verify_upgrade(&front.config.public_url, path_and_query, headers)
        {
            front.metrics.signature_failures.of(Endpoint::Media).inc();
            match charged(&front, Endpoint::Media, stranger) {
                Ok(true) => refuse!(warn, stranger, "media socket refused: signature"),
                Ok(false) => {}
                Err(wait) => {
                    refused(&front, SocketRefused::Limited);
                    return too_many(wait);
                }
            }
            refused(&front, SocketRefused::Signature);
            return forbidden();
        }
    }
    let Ok(unclaimed) = front.unclaimed.clone().try_acquire_owned() else {
        refuse!(
            warn,
            stranger,
            "media socket refused: too many without a call"
        );
        refused(&front, SocketRefused::TooMany);
        return respond(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "");
    };
    let upgraded = hyper::upgrade::on(&mut request);
    let carried = front.clone();
    front.calls.spawn(async move {
        let Ok(Ok(io)) = timeout(UPGRADE_DEADLINE, upgraded).await else {
            refuse!(
                info,
                stranger,
                "media socket refused: gone before the upgrade"
            );
            return refused(&carried, SocketRefused::NoUpgrade);
        };
        let mut socket =
            WebSocketStream::from_raw_socket(TokioIo::new(io), Role::Server, Some(socket_config()))
                .await;
        match Box::pin(whose(&carried, &mut socket)).await {
            Ok(Whose::Back(way, stream)) => {
                drop(unclaimed);
                // Its call ended a moment ago: Twilio asks what follows.
                if let Err(socket) = way.bring(socket, stream) {
                    leg::close(*socket, 1000).await;
                }
            }
            Ok(Whose::New(claim)) => {
                drop(unclaimed);
                let call = call(&carried, claim, socket, stranger.peer);
                drop(carried);
                driver::run(call).await;
            }
            Err(refusal) => {
                refused(&carried, refusal.label());
                refusal.tell(stranger);
                leg::close(socket, 1008).await;
            }
        }
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, accept)
        .body(Body::default())
        .expect("a constant response with a base64 header")
}

fn call(front: &Arc<Front>, claim: Claim, carrier: Telephone, peer: SocketAddr) -> driver::Call {
    let rest = (!claim.view.test).then(|| front.rest.clone());
    let call = &claim.view.facts;
    let plan = front.plan(call.route.as_deref(), &call.to, &call.from);
    claim.agree(front.terms_of(&plan));
    let facts = facts(call, &plan);
    let codec = front.agents.codec(
        plan.agent,
        plan.config_id.as_deref(),
        plan.persona(Some(&facts)),
    );
    let for_tools = Arc::new(tools::Facts {
        call: call.call,
        from: call.from.clone(),
        to: call.to.clone(),
        route: call.route.clone(),
        agent: call.agent,
        started: claim.view.started_at,
        known: call.known.clone(),
        test: claim.view.test,
    });
    let briefing = front
        .lookup
        .as_ref()
        .map(|lookup| lookup.answer(&facts, &front.calls));
    driver::Call {
        claim,
        peer,
        carrier,
        codec,
        tls: front.tls.clone(),
        connect_timeout: front.agents.manner(plan.agent).connection.connect_timeout,
        rest,
        settings: front.call_settings(&plan),
        briefing,
        tools: front.tools.clone(),
        facts: for_tools,
        guide: front.clone(),
        metrics: front.metrics.clone(),
        recorder: Some(front.recorder.clone()),
    }
}

/// RFC 6455, section 4.2: is this a WebSocket handshake that we can answer?
fn accept_key<B>(request: &Request<B>) -> Result<String, Box<Response<Body>>> {
    let header = |name| {
        request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let names = |value: Option<&str>, token: &str| {
        value.is_some_and(|value| {
            value
                .split(',')
                .any(|part| part.trim().eq_ignore_ascii_case(token))
        })
    };
    if !names(header(header::CONNECTION), "upgrade") || !names(header(header::UPGRADE), "websocket")
    {
        let mut response = respond(
            StatusCode::UPGRADE_REQUIRED,
            "text/plain",
            "a WebSocket, please\n",
        );
        response.headers_mut().insert(
            header::UPGRADE,
            header::HeaderValue::from_static("websocket"),
        );
        return Err(Box::new(response));
    }
    if header(header::SEC_WEBSOCKET_VERSION) != Some("13") {
        let mut response = respond(
            StatusCode::UPGRADE_REQUIRED,
            "text/plain",
            "WebSocket version 13, please\n",
        );
        response.headers_mut().insert(
            header::SEC_WEBSOCKET_VERSION,
            header::HeaderValue::from_static("13"),
        );
        return Err(Box::new(response));
    }
    match header(header::SEC_WEBSOCKET_KEY) {
        Some(key) if key.len() == 24 => Ok(derive_accept_key(key.as_bytes())),
        _ => Err(Box::new(respond(
            StatusCode::BAD_REQUEST,
            "text/plain",
            "no WebSocket key\n",
        ))),
    }
}

/// Why a media socket does not become a call, and how it is closed.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("no start within five seconds")]
    NoStart,
    #[error("closed before start")]
    Gone,
    #[error("messages that make no sense")]
    Garbage,
    #[error("an audio format that is not mu-law, 8 kHz, mono")]
    Format,
    #[error("{0}")]
    Token(TokenError),
    /// Of a call whose token is good.
    #[error("{1}")]
    Claim(CallSid, ClaimError),
}

impl Refusal {
    fn label(&self) -> SocketRefused {
        match self {
            Refusal::NoStart => SocketRefused::NoStart,
            Refusal::Gone => SocketRefused::Gone,
            Refusal::Garbage => SocketRefused::Garbage,
            Refusal::Format => SocketRefused::Format,
            Refusal::Token(_) => SocketRefused::Token,
            Refusal::Claim(_, ClaimError::Live) => SocketRefused::Live,
            Refusal::Claim(_, ClaimError::Spent) => SocketRefused::Spent,
            Refusal::Claim(_, ClaimError::Full) => SocketRefused::Full,
            Refusal::Claim(_, ClaimError::Leaving) => SocketRefused::Leaving,
        }
    }

    /// No call is named but one whose token is good: any other is a stranger's word.
    fn tell(&self, stranger: Stranger) {
        match self {
            Refusal::Token(why) => refuse!(warn, stranger, %why, "media socket refused: token"),
            Refusal::Garbage | Refusal::Format => {
                refuse!(warn, stranger, why = %self, "media socket refused: it makes no sense");
            }
            Refusal::NoStart | Refusal::Gone => {
                refuse!(info, stranger, why = %self, "media socket refused: no call was named");
            }
            Refusal::Claim(call, why) => {
                let call = call.as_str();
                refuse!(warn, stranger, CALL_SID = call, %why, "media socket refused: no place");
            }
        }
    }
}

fn refused(front: &Front, why: SocketRefused) {
    front.metrics.sockets_refused.of(why).inc();
}

/// Whom a media socket brings.
enum Whose {
    New(Claim),
    /// A call that was away, and the stream it comes back with.
    Back(Return, StreamSid),
}

/// Waits for `start` and takes the call that its token names.
async fn whose(front: &Arc<Front>, socket: &mut Telephone) -> Result<Whose, Refusal> {
    let start = timeout(START_DEADLINE, start(socket))
        .await
        .map_err(|_| Refusal::NoStart)??;
    start.check_format().map_err(|_| Refusal::Format)?;
    let call: CallSid = start.call_sid;
    let mut parameters = start.custom_parameters;
    let token = parameters.remove(connect::TOKEN).unwrap_or_default();
    let token_expires_unix = front
        .minter
        .check(&token, &call, &parameters, unix_now())
        .map_err(Refusal::Token)?;
    // From here on all of them are our own words.
    let mut parameter = |name| parameters.remove(name).unwrap_or_default();
    let (from, to) = (parameter(connect::FROM), parameter(connect::TO));
    let plan = front.plan(Some(&parameter(connect::ROUTE)), &to, &from);
    let facts = CallFacts {
        call,
        stream: start.stream_sid.clone(),
        from,
        to,
        agent: plan.agent.as_str(),
        route: Some(plan.name.clone()),
        known: connect::facts_of(parameters),
        token_expires_unix,
    };
    if let Some(way) = front.registry.come_back(&facts) {
        return Ok(Whose::Back(way, facts.stream));
    }
    let claimed = front.registry.claim(facts, Instant::now());
    claimed
        .map(Whose::New)
        .map_err(|why| Refusal::Claim(call, why))
}

async fn start(socket: &mut Telephone) -> Result<media::Start, Refusal> {
    let mut garbage = 0;
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => match media::parse(&text) {
                Ok(media::Inbound::Start(start)) => return Ok(*start),
                Ok(media::Inbound::Stop) => return Err(Refusal::Gone),
                Ok(media::Inbound::Connected) => continue,
                Ok(_) | Err(_) => garbage += 1,
            },
            Some(Ok(Message::Binary(_))) => garbage += 1,
            Some(Ok(Message::Close(_))) | None => return Err(Refusal::Gone),
            Some(Ok(_)) => {}
            Some(Err(WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake))) => {
                return Err(Refusal::Gone);
            }
            Some(Err(WsError::Capacity(_) | WsError::Utf8(_) | WsError::Protocol(_))) => {
                return Err(Refusal::Garbage);
            }
            Some(Err(_)) => return Err(Refusal::Gone),
        }
        if garbage > MAX_GARBAGE {
            return Err(Refusal::Garbage);
        }
    }
}
