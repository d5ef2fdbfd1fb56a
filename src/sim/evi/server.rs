//! Sockets: the listener, the strict handshake, and the task of each connection.
//!
//! One task a connection, all owned by the listener's task. A connection reads before it writes,
//! and goes on reading while a write waits, so a bridge that is slow to read is still heard.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep_until,
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async_with_config,
    tungstenite::{
        Error, Message,
        error::ProtocolError,
        handshake::server::{ErrorResponse, Request, Response},
        protocol::{CloseFrame, WebSocketConfig},
    },
};
use tokio_util::sync::CancellationToken;

use super::{
    Hooks,
    chat::{Next, World},
    load,
    log::{By, What},
    script::Handshake,
};

/// One message at most (EVI docs; a Realtime server takes one megabyte less).
const MAX_MESSAGE: usize = 16 << 20;
/// How long our close waits for the bridge's, and a lost connection for the bridge to leave it.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// Which agent it is that is called.
pub(in crate::sim) trait Host: Send + Sync {
    /// Checks a request against what the agent documents; the error is the status and why.
    fn admit(
        &self,
        request: &Request,
        plan: Handshake,
        number: u32,
    ) -> Result<Admitted, (u16, String)>;
}

/// A request that is let in.
pub(in crate::sim) struct Admitted {
    pub connected: What,
    /// Begins the chat, at this virtual time.
    pub chat: Box<dyn FnOnce(f64) -> Box<dyn Chat> + Send>,
}

/// The agent's part in one connection.
pub(in crate::sim) trait Chat: Send {
    /// A text frame of the bridge.
    fn frame(&mut self, text: &str, now: f64);
    /// A binary frame of so many bytes.
    fn binary(&mut self, length: usize);
    /// What to do now. Asked when the socket has taken what came before.
    fn next(&mut self, now: f64) -> Next;
    /// Whether the socket is to be read.
    fn reads(&self) -> bool;
    /// One side has closed, and nothing more is to be done.
    fn over(&mut self);
}

/// What a connection's task needs.
pub(in crate::sim) struct Ground {
    pub world: Arc<World>,
    pub host: Arc<dyn Host>,
    pub hooks: Hooks,
    pub stop: CancellationToken,
}

/// Accepts until stopped, then waits for every connection to end.
pub(super) async fn serve(listener: TcpListener, ground: Arc<Ground>) {
    let mut tasks = JoinSet::new();
    let mut connections = 0;
    loop {
        tokio::select! {
            () = ground.stop.cancelled() => break,
            accepted = listener.accept() => {
                if let Ok((tcp, _)) = accepted {
                    tasks.spawn(connection(tcp, connections, ground.clone()));
                    connections += 1;
                }
            }
            Some(ended) = tasks.join_next() => surface(ended),
        }
    }
    while let Some(ended) = tasks.join_next().await {
        surface(ended);
    }
}

/// A simulator that panics must not look like an agent that hangs up.
fn surface(ended: Result<(), tokio::task::JoinError>) {
    if let Err(e) = ended
        && let Ok(panic) = e.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

async fn connection(tcp: TcpStream, number: u32, ground: Arc<Ground>) {
    let log = &ground.world.log;
    let _ = tcp.set_nodelay(true);
    let plan = ground.world.script.handshake.get(number as usize);
    let plan = plan.copied().unwrap_or(ground.world.script.then_handshake);
    if matches!(plan, Handshake::Close | Handshake::Silent) {
        log.event(
            number,
            What::Refused {
                status: None,
                why: format!("{plan:?}"),
            },
        );
        if plan == Handshake::Silent {
            ground.stop.cancelled().await;
        }
        return;
    }
    let mut admitted = None;
    // The library clears the whole read buffer before each read, and its own is 128 KiB.
    let config = WebSocketConfig::default()
        .read_buffer_size(4096)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    #[expect(clippy::result_large_err, reason = "the library's type")]
    let callback =
        |request: &Request, response: Response| match ground.host.admit(request, plan, number) {
            Ok(let_in) => {
                admitted = Some(let_in);
                Ok(response)
            }
            Err((status, why)) => {
                log.event(
                    number,
                    What::Refused {
                        status: Some(status),
                        why,
                    },
                );
                let mut refusal = ErrorResponse::new(None);
                *refusal.status_mut() = status
                    .try_into()
                    .expect("a status of the script or of ours");
                Err(refusal)
            }
        };
    let upgraded = tokio::select! {
        upgraded = accept_hdr_async_with_config(tcp, callback, Some(config)) => upgraded,
        () = ground.stop.cancelled() => return,
    };
    let (ws, admitted) = match (upgraded, admitted) {
        (Ok(ws), Some(admitted)) => (ws, admitted),
        (Err(Error::Http(_)), _) => return,
        (Err(e), _) => return log.violation(number, format!("handshake: {e}")),
        (Ok(_), None) => unreachable!("an upgrade is admitted first"),
    };
    log.event(number, admitted.connected);
    let link = Link {
        ws,
        pending: None,
        dirty: false,
        reading: true,
    };
    if ground.world.script.load {
        load::run(link, number, &ground).await;
    } else {
        run(link, number, admitted.chat, &ground).await;
    }
}

/// A WebSocket that is read and written by one task, each when it can be.
pub(super) struct Link {
    ws: WebSocketStream<TcpStream>,
    pending: Option<Message>,
    dirty: bool,
    reading: bool,
}

pub(super) enum Io {
    Frame(Message),
    /// What was to be sent has gone to the kernel.
    Written,
    /// The connection is over. `Some`: by a breach of RFC 6455.
    Gone(Option<String>),
}

impl Link {
    pub fn idle(&self) -> bool {
        self.pending.is_none() && !self.dirty
    }

    pub fn send(&mut self, message: Message) {
        self.pending = Some(message);
    }

    pub async fn io(&mut self) -> Io {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// Ends the connection without a close frame, behind all that was sent. In order and not by a reset: a
    /// socket that is closed while audio of the caller's waits in it, or still comes, makes the kernel forget
    /// what the bridge has not taken yet, which is the more the busier the machine is. `false`: the bridge
    /// did not leave in its turn.
    async fn lose(mut self, stop: &CancellationToken) -> bool {
        let tcp = self.ws.get_mut();
        let left = async {
            _ = tcp.shutdown().await;
            _ = tokio::io::copy(tcp, &mut tokio::io::sink()).await;
        };
        tokio::select! {
            left = tokio::time::timeout(CLOSE_PATIENCE, left) => left.is_ok(),
            () = stop.cancelled() => true,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Io> {
        if self.reading
            && let Poll::Ready(read) = self.ws.poll_next_unpin(cx)
        {
            return Poll::Ready(match read {
                Some(Ok(message)) => Io::Frame(message),
                Some(Err(e)) => Io::Gone(breach(&e)),
                None => Io::Gone(None),
            });
        }
        if self.pending.is_some() {
            if let Err(e) = ready!(self.ws.poll_ready_unpin(cx)) {
                return Poll::Ready(Io::Gone(breach(&e)));
            }
            let message = self.pending.take().expect("checked above");
            if let Err(e) = self.ws.start_send_unpin(message) {
                return Poll::Ready(Io::Gone(breach(&e)));
            }
            self.dirty = true;
        }
        if self.dirty {
            if let Err(e) = ready!(self.ws.poll_flush_unpin(cx)) {
                return Poll::Ready(Io::Gone(breach(&e)));
            }
            self.dirty = false;
            return Poll::Ready(Io::Written);
        }
        Poll::Pending
    }
}

fn breach(e: &Error) -> Option<String> {
    match e {
        Error::Protocol(
            ProtocolError::ResetWithoutClosingHandshake | ProtocolError::SendAfterClosing,
        )
        | Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Io(_) => None,
        e => Some(format!("websocket: {e}")),
    }
}

/// Drives one chat to its end.
async fn run(
    mut link: Link,
    number: u32,
    begin: Box<dyn FnOnce(f64) -> Box<dyn Chat> + Send>,
    ground: &Ground,
) {
    let log = &ground.world.log;
    let clock = log.clock;
    let mut chat = begin(clock.now());
    // Set once either side has closed: until then the other is waited for.
    let mut patience: Option<Instant> = None;
    let closed = |by, code, reason: &str| {
        log.event(
            number,
            What::Closed {
                by,
                code,
                reason: reason.to_owned(),
            },
        );
    };
    // Our close frame went out and the bridge's has not come: RFC 6455 wants it back.
    let mut unanswered = false;
    loop {
        link.reading = chat.reads();
        let mut wake = patience;
        if link.idle() && patience.is_none() {
            match chat.next(clock.now()) {
                Next::Send(text) => link.send(Message::text(text)),
                Next::SendBinary => link.send(Message::binary(vec![0u8; 16])),
                Next::Close { code, reason } => {
                    closed(By::Agent, Some(code), &reason);
                    let frame = CloseFrame {
                        code: code.into(),
                        reason: reason.into(),
                    };
                    link.send(Message::Close(Some(frame)));
                    unanswered = true;
                    patience = Some(Instant::now() + CLOSE_PATIENCE);
                    continue;
                }
                Next::Drop => {
                    closed(By::Agent, None, "dropped");
                    // The chat is over with its connection, whatever that still takes.
                    drop(chat);
                    if !link.lose(&ground.stop).await {
                        log.violation(number, "the bridge kept a connection that was lost");
                    }
                    return;
                }
                Next::Freeze => {
                    ground.stop.cancelled().await;
                    return closed(By::Stopped, None, "");
                }
                Next::Until(at) => wake = Some(clock.instant(at)),
                Next::Idle => {}
            }
        }
        let timer = async {
            match wake {
                Some(at) => sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = ground.stop.cancelled() => {
                if patience.is_none() {
                    closed(By::Stopped, None, "");
                }
                return;
            }
            io = link.io() => match io {
                Io::Frame(Message::Text(text)) => {
                    if let Some(hook) = &ground.hooks.on_uplink {
                        hook(number, &text, Instant::now());
                    }
                    if patience.is_none() {
                        chat.frame(&text, clock.now());
                    }
                }
                Io::Frame(Message::Binary(bytes)) => chat.binary(bytes.len()),
                Io::Frame(Message::Close(frame)) => {
                    unanswered = false;
                    if patience.is_none() {
                        let code = frame.as_ref().map(|f| f.code.into());
                        let reason = frame.as_ref().map_or("", |f| f.reason.as_str());
                        closed(By::Bridge, code, reason);
                        link.pending = None;
                        patience = Some(Instant::now() + CLOSE_PATIENCE);
                    }
                    chat.over();
                }
                Io::Frame(_) | Io::Written => {}
                Io::Gone(why) => {
                    if let Some(why) = why {
                        log.violation(number, why);
                    }
                    if patience.is_none() {
                        closed(By::Lost, None, "");
                    }
                    if unanswered {
                        log.violation(number, "the bridge left without answering the close");
                    }
                    return;
                }
            },
            () = timer => if patience.is_some() {
                if unanswered {
                    log.violation(number, "the bridge did not answer the close in time");
                }
                return;
            },
        }
    }
}
