//! An HTTP/1.1 listener that strangers may talk to.
//!
//! [`serve`] owns a bound socket and every connection accepted from it, until the connection ends
//! or becomes a WebSocket: from then on it belongs to whoever took the upgrade. It promises that a
//! peer costs little and not for long: headers are bounded in size, number and time, idle
//! keep-alive connections are closed, a connection has a greatest age, and there is a bound on how
//! many there are. Above the bound the kernel's backlog waits; nobody is accepted to be refused. It
//! waits, too, while the system lets us accept nothing ([`accepting`](crate::accepting)).
//! A panic in a handler costs its connection only. All connections end within a second of the
//! token's cancellation.
//!
//! With a [`ServerTls`] it speaks TLS: the handshake is part of the connection, has a deadline of its
//! own and takes a place like any other.
//!
//! It never looks at a path or a header: that is the handler's. Every response leaves with
//! `Cache-Control: no-store`, because every answer here is about this moment and some hold numbers.

use std::{convert::Infallible, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::{Body as HttpBody, Bytes, Incoming},
    header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::tls::ServerTls;
use crate::accepting::Accepting;

/// What every handler answers with: all our answers are small and whole.
pub type Body = Full<Bytes>;

/// A form from Twilio is 1 to 4 KiB; see [`read_form_body`].
pub const FORM_LIMIT: usize = 64 * 1024;
/// Twilio itself gives up after 15 s.
pub const FORM_DEADLINE: Duration = Duration::from_secs(10);

/// Request line and headers together, in bytes; more is answered 431 by hyper.
const HEADER_BYTES: usize = 16 * 1024;
const HEADER_COUNT: usize = 64;
/// For a response in flight when the token is cancelled; keeps the promise of one second.
const STOP_GRACE: Duration = Duration::from_millis(800);
/// For a request in flight when its connection is too old.
const AGE_GRACE: Duration = Duration::from_secs(30);

/// Who is at the other end: a proxy, often. Never a proof of anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub addr: SocketAddr,
}

/// What one listener allows its peers.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at once that have not become WebSockets.
    pub connections: usize,
    /// For the whole head of a request. hyper starts the same clock when a kept-alive connection
    /// falls idle, so this is the idle limit too.
    pub header_timeout: Duration,
    /// For a TLS handshake, where there is one.
    pub handshake_timeout: Duration,
    /// A connection is closed at the first gap after this age. hyper has no deadline for writing,
    /// so without this a peer that asks and never reads would keep its place for ever.
    pub age: Duration,
}

impl Limits {
    /// So many connections, but no more than a quarter of the files that may be open: those who only
    /// connect must not take what the calls need to reach their agents and to be hung up.
    pub fn within(connections: usize, files: Option<u64>) -> Limits {
        let most = files.map_or(usize::MAX, |files| {
            usize::try_from(files / 4).unwrap_or(usize::MAX)
        });
        Limits {
            connections: connections.min(most).max(1),
            ..Limits::default()
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 1024,
            header_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            age: Duration::from_secs(600),
        }
    }
}

/// Accepts and serves until the token is cancelled. Connections run in `tracker`; waiting for the
/// tracker is waiting for them.
pub async fn serve<H, F>(
    listener: TcpListener,
    tls: Option<Arc<ServerTls>>,
    limits: Limits,
    accepting: Accepting,
    handler: H,
    tracker: TaskTracker,
    token: CancellationToken,
) where
    H: Fn(Request<Incoming>, Peer) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    serve_from(listener, tls, limits, accepting, handler, tracker, token).await;
}

/// Where connections come from; tests bring one that fails.
trait Accept {
    fn accept(&mut self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send;
}

impl Accept for TcpListener {
    fn accept(&mut self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send {
        TcpListener::accept(self)
    }
}

async fn serve_from<A, H, F>(
    mut source: A,
    tls: Option<Arc<ServerTls>>,
    limits: Limits,
    mut accepting: Accepting,
    handler: H,
    tracker: TaskTracker,
    token: CancellationToken,
) where
    A: Accept,
    H: Fn(Request<Incoming>, Peer) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let handler = Arc::new(handler);
    let room = Arc::new(Semaphore::new(limits.connections));
    loop {
        if room.available_permits() == 0 {
            tracing::warn!(
                limited = true,
                limit = limits.connections,
                "connections wait: the limit is reached"
            );
        }
        // The place comes before the accept, so that at the limit the backlog does the waiting.
        let place = tokio::select! {
            biased;
            () = token.cancelled() => return,
            place = room.clone().acquire_owned() => place.expect("the semaphore is never closed"),
        };
        let accepted = tokio::select! {
            biased;
            () = token.cancelled() => return,
            accepted = source.accept() => accepted,
        };
        let (stream, addr) = match accepted {
            Ok(accepted) => {
                accepting.works();
                accepted
            }
            Err(error) => match accepting.fails(&error) {
                // The peer went away between its SYN and our accept: its loss only.
                None => continue,
                Some(pause) => tokio::select! {
                    () = token.cancelled() => return,
                    () = sleep(pause) => continue,
                },
            },
        };
        let (handler, limits, token) = (handler.clone(), limits.clone(), token.clone());
        let tls = tls.clone();
        tracker.spawn(async move {
            // Given back when the connection ends, is upgraded, or its handler panics.
            let _place = place;
            // 20 ms frames must not wait for one another. An error means that the peer is already
            // gone.
            let _ = stream.set_nodelay(true);
            match tls {
                None => connection(stream, Peer { addr }, handler, limits, token).await,
                // Boxed: a plain connection need not have room for the handshake's state.
                Some(tls) => {
                    Box::pin(secure(&tls, stream, Peer { addr }, handler, limits, token)).await;
                }
            }
        });
    }
}

/// A connection that begins with a TLS handshake.
async fn secure<H, F>(
    tls: &ServerTls,
    stream: TcpStream,
    peer: Peer,
    handler: Arc<H>,
    limits: Limits,
    token: CancellationToken,
) where
    H: Fn(Request<Incoming>, Peer) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let accepted = tokio::select! {
        biased;
        () = token.cancelled() => return,
        accepted = tls.accept(stream, peer.addr, limits.handshake_timeout) => accepted,
    };
    if let Some(stream) = accepted {
        connection(stream, peer, handler, limits, token).await;
    }
}

async fn connection<S, H, F>(
    stream: S,
    peer: Peer,
    handler: Arc<H>,
    limits: Limits,
    token: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>, Peer) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = handler(request, peer);
        async move { Ok::<_, Infallible>(finished(answer.await)) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .keep_alive(true)
        .pipeline_flush(false)
        .max_buf_size(HEADER_BYTES)
        .max_headers(HEADER_COUNT);
    let mut conn = pin!(
        http.serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
    );
    let log = |result: hyper::Result<()>| {
        if let Err(error) = result {
            tracing::debug!(limited = true, peer = %peer.addr, %error, "connection ended");
        }
    };
    tokio::select! {
        result = conn.as_mut() => return log(result),
        () = token.cancelled() => {}
        () = sleep(limits.age) => {
            conn.as_mut().graceful_shutdown();
            tokio::select! {
                result = conn.as_mut() => return log(result),
                () = token.cancelled() => {}
                () = sleep(AGE_GRACE) => return,
            }
        }
    }
    conn.as_mut().graceful_shutdown();
    let _ = timeout(STOP_GRACE, conn).await;
}

/// What every response has in common.
fn finished(mut response: Response<Body>) -> Response<Body> {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response
            .headers_mut()
            .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

/// A whole response. `content_type` is ours and therefore a valid header value.
pub fn respond(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    finished(response)
}

/// 405. `allow` lists the methods: `"GET, HEAD"`.
pub fn method_not_allowed(allow: &'static str) -> Response<Body> {
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allow));
    response
}

/// 404, which says nothing.
pub fn not_found() -> Response<Body> {
    plain(StatusCode::NOT_FOUND, "not found\n")
}

fn plain(status: StatusCode, words: &'static str) -> Response<Body> {
    respond(status, "text/plain; charset=utf-8", words)
}

/// Why a request's body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("the body is too large")]
    TooLarge,
    #[error("the body did not arrive in time")]
    Slow,
    #[error("the body broke off or is not valid HTTP")]
    Broken,
}

impl BodyError {
    pub fn status(self) -> StatusCode {
        match self {
            BodyError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            BodyError::Slow => StatusCode::REQUEST_TIMEOUT,
            BodyError::Broken => StatusCode::BAD_REQUEST,
        }
    }

    /// The answer; it also ends the connection, whose rest is nothing we want to read.
    pub fn response(self) -> Response<Body> {
        let words = match self {
            BodyError::TooLarge => "body too large\n",
            BodyError::Slow => "body too slow\n",
            BodyError::Broken => "bad body\n",
        };
        let mut response = plain(self.status(), words);
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
        response
    }
}

/// The whole body, for signatures need it byte for byte. Usually with [`FORM_LIMIT`] and
/// [`FORM_DEADLINE`]. The request keeps its head.
pub async fn read_form_body<B>(
    request: &mut Request<B>,
    limit: usize,
    deadline: Duration,
) -> Result<Bytes, BodyError>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    // An announced length needs no reading to be refused.
    if request.body().size_hint().lower() > limit as u64 {
        return Err(BodyError::TooLarge);
    }
    let body = Limited::new(request.body_mut(), limit);
    match timeout(deadline, body.collect()).await {
        Err(_) => Err(BodyError::Slow),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge),
        Ok(Err(_)) => Err(BodyError::Broken),
    }
}

#[cfg(test)]
#[path = "listener_tests.rs"]
mod tests;
