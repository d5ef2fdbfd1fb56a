//! Connects to an agent: name, TCP, TLS, WebSocket, all under one deadline.
//!
//! [`connect`] gives a socket that is ready for frames, or a [`ConnectError`] whose
//! [`class`](ConnectError::class) says whether trying again makes sense. It follows no redirect,
//! asks for no extension, and sends secrets in headers only. What an error
//! prints is made of our own words and numbers: it can carry neither the secret nor the URL, nor
//! anything that the far end said.
//!
//! The TLS configuration is shared by all calls, so that sessions are resumed, and built when the
//! first `wss://` is dialled: a loopback far end works on a machine without any certificate store.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{self, HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Error as WsError};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use url::{Host, Url};

use super::{Closed, Request};
use crate::files;
use crate::stream::Stream;

/// What the kernel may hold for a peer that does not read; it doubles the number. Audio in there can no
/// longer be dropped: this is one second or two of a caller's, and at a round trip of 300 ms still ten
/// times the rate at which that comes.
const SEND_BUFFER: u32 = 32 * 1024;

/// An open WebSocket to an agent.
pub type Socket = WebSocketStream<Stream>;

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Not `ws://` or `wss://` with a host, or it names a user.
    #[error("the agent's url is not a plain ws:// or wss:// url")]
    BadUrl,
    /// The secret holds characters that no header may carry, such as a line break.
    #[error("the agent's key has characters that a header cannot carry")]
    BadKey,
    /// There is no usable store of certificates on this machine.
    #[error("no certificate authorities on this machine (install ca-certificates)")]
    NoTrust,
    #[error("no answer in time")]
    Timeout,
    #[error("the agent's host name does not resolve")]
    Dns,
    #[error("cannot connect: {0}")]
    Tcp(io::ErrorKind),
    /// Ours, not the agent's.
    #[error("this machine lets the daemon open no more files: raise LimitNOFILE= in its unit")]
    NoFiles,
    /// The agent's certificate is not acceptable.
    #[error("the agent's certificate is refused: {0}")]
    Certificate(&'static str),
    #[error("the TLS handshake failed")]
    Tls,
    /// An HTTP answer other than 101.
    #[error("refused with HTTP status {status}")]
    Refused { status: u16 },
    /// The connection ended before the handshake did.
    #[error("the connection was lost during the handshake")]
    Lost,
    /// The answer was no WebSocket handshake.
    #[error("the answer is not a WebSocket handshake")]
    Protocol,
}

impl ConnectError {
    /// What the failure means for the call.
    pub fn class(&self) -> Closed {
        match self {
            ConnectError::BadKey => Closed::Auth,
            ConnectError::BadUrl | ConnectError::NoTrust | ConnectError::Certificate(_) => {
                Closed::Rejected
            }
            ConnectError::Refused { status } => match status {
                401 | 403 => Closed::Auth,
                402 => Closed::Quota,
                // Slow, too early, too many: later may be better.
                408 | 425 | 429 | 500.. => Closed::Lost,
                _ => Closed::Rejected,
            },
            // A name that does not resolve may be a resolver that is restarting, and garbage may
            // be a proxy that is.
            ConnectError::Timeout
            | ConnectError::Dns
            | ConnectError::Tcp(_)
            | ConnectError::NoFiles
            | ConnectError::Tls
            | ConnectError::Lost
            | ConnectError::Protocol => Closed::Lost,
        }
    }
}

/// The one TLS configuration for all calls.
#[derive(Default)]
pub struct Tls {
    config: OnceLock<Arc<ClientConfig>>,
}

impl Tls {
    /// Cheap; nothing is read until TLS is needed.
    pub fn new() -> Tls {
        Tls::default()
    }

    /// For one peer, in a manner of its own.
    pub fn with(config: Arc<ClientConfig>) -> Tls {
        Tls {
            config: OnceLock::from(config),
        }
    }

    /// The configuration: ring, the machine's own certificate store, sessions resumed. The first
    /// use reads the store from disk; a failure is not remembered, since the store can be mended.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, ConnectError> {
        if let Some(config) = self.config.get() {
            return Ok(config.clone());
        }
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .expect("ring serves the default versions of TLS")
            .with_platform_verifier()
            .map_err(|_| ConnectError::NoTrust)?
            .with_no_client_auth();
        // Two calls may build it at once; then both use the first.
        Ok(self.config.get_or_init(|| Arc::new(config)).clone())
    }
}

/// Connects and shakes hands, within `deadline`.
pub async fn connect(
    request: &Request,
    tls: &Tls,
    deadline: Duration,
) -> Result<Socket, ConnectError> {
    // Boxed, so that the room a handshake needs is not part of the call's future for good.
    timeout(
        deadline,
        Box::pin(open(request, tls, Instant::now() + deadline)),
    )
    .await
    .unwrap_or(Err(ConnectError::Timeout))
}

async fn open(request: &Request, tls: &Tls, deadline: Instant) -> Result<Socket, ConnectError> {
    let url = Url::parse(&request.url).map_err(|_| ConnectError::BadUrl)?;
    if !matches!(url.scheme(), "ws" | "wss") {
        return Err(ConnectError::BadUrl);
    }
    let handshake = handshake(&url, request)?;
    let io = reach(&url, tls, deadline).await?;

    // Small buffers: the library allocates the read buffer at once, and its default of 128 KiB
    // would be most of a call's memory. Writes go out at every flush whatever the sizes.
    let config = WebSocketConfig::default()
        .read_buffer_size(4 << 10)
        .write_buffer_size(2 << 10)
        .max_write_buffer_size(1 << 20)
        .max_message_size(Some(request.max_message))
        .max_frame_size(Some(request.max_message));
    match client_async_with_config(handshake, io, Some(config)).await {
        Ok((socket, _)) => Ok(socket),
        Err(error) => Err(handshake_error(&error)),
    }
}

/// Name, TCP and, for `wss` and `https`, TLS. Whoever calls sets the deadline for the whole; here
/// it only shares the time among a host's addresses.
pub async fn reach(url: &Url, tls: &Tls, deadline: Instant) -> Result<Stream, ConnectError> {
    let secure = match url.scheme() {
        "ws" | "http" => false,
        "wss" | "https" => true,
        _ => return Err(ConnectError::BadUrl),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(ConnectError::BadUrl);
    }
    let host = url.host().ok_or(ConnectError::BadUrl)?;
    let port = url.port_or_known_default().ok_or(ConnectError::BadUrl)?;
    let tcp = dial(&host, port, deadline).await?;
    // A frame every 20 ms: waiting to fill a packet would be heard.
    tcp.set_nodelay(true)
        .map_err(|error| ConnectError::Tcp(error.kind()))?;
    if !secure {
        return Ok(Stream::Plain(tcp));
    }
    let name = match host {
        Host::Domain(name) => {
            ServerName::try_from(name.to_owned()).map_err(|_| ConnectError::BadUrl)?
        }
        Host::Ipv4(ip) => ServerName::IpAddress(std::net::IpAddr::V4(ip).into()),
        Host::Ipv6(ip) => ServerName::IpAddress(std::net::IpAddr::V6(ip).into()),
    };
    let connector = TlsConnector::from(tls.client_config()?);
    let stream = connector
        .connect(name, tcp)
        .await
        .map_err(|error| tls_error(&error))?;
    Ok(Stream::Tls(Box::new(stream)))
}

/// The upgrade request. Marking the secret as sensitive hides it from `Debug`, but the WebSocket
/// library writes the whole request to the `log` facade at trace level: that target must never be
/// turned into a log of ours.
fn handshake(url: &Url, request: &Request) -> Result<http::Request<()>, ConnectError> {
    let mut handshake = url
        .as_str()
        .into_client_request()
        .map_err(|_| ConnectError::BadUrl)?;
    for (name, secret) in &request.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| ConnectError::BadKey)?;
        let mut value = HeaderValue::from_str(secret.expose()).map_err(|_| ConnectError::BadKey)?;
        value.set_sensitive(true);
        handshake.headers_mut().insert(name, value);
    }
    if !request.subprotocols.is_empty() {
        let offered = request.subprotocols.join(", ");
        let offered = HeaderValue::from_str(&offered).map_err(|_| ConnectError::BadKey)?;
        let headers = handshake.headers_mut();
        headers.insert(http::header::SEC_WEBSOCKET_PROTOCOL, offered);
    }
    Ok(handshake)
}

/// Tries all addresses of a host, in the resolver's order.
async fn dial(host: &Host<&str>, port: u16, deadline: Instant) -> Result<TcpStream, ConnectError> {
    let addresses: Vec<SocketAddr> = match *host {
        Host::Domain(name) => tokio::net::lookup_host((name, port))
            .await
            .map_err(|error| tcp_error(&error, ConnectError::Dns))?
            .collect(),
        Host::Ipv4(ip) => vec![(ip, port).into()],
        Host::Ipv6(ip) => vec![(ip, port).into()],
    };
    let mut error = ConnectError::Dns;
    for (tried, address) in addresses.iter().enumerate() {
        // A share of what is left for each, or one dead address would take the time of all.
        let left = (addresses.len() - tried) as u32;
        let until = Instant::now() + deadline.saturating_duration_since(Instant::now()) / left;
        error = match timeout_at(until, dial_one(*address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(refused)) => tcp_error(&refused, ConnectError::Tcp(refused.kind())),
            Err(_) => ConnectError::Timeout,
        };
    }
    Err(error)
}

async fn dial_one(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.connect(address).await
}

/// An error that is our own machine's, or `otherwise`.
fn tcp_error(error: &io::Error, otherwise: ConnectError) -> ConnectError {
    match files::are_spent(error) {
        true => ConnectError::NoFiles,
        false => otherwise,
    }
}

/// rustls reports through `io::Error`. Its own words may quote the certificate, so they are not used.
fn tls_error(error: &io::Error) -> ConnectError {
    use rustls::CertificateError as Bad;
    match error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    {
        Some(rustls::Error::InvalidCertificate(bad)) => ConnectError::Certificate(match bad {
            Bad::Expired | Bad::ExpiredContext { .. } => "expired",
            Bad::NotValidYet | Bad::NotValidYetContext { .. } => "not valid yet",
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => "made out to another name",
            Bad::UnknownIssuer => "unknown issuer",
            Bad::Revoked => "revoked",
            _ => "invalid",
        }),
        Some(_) => ConnectError::Tls,
        None => ConnectError::Lost,
    }
}

fn handshake_error(error: &WsError) -> ConnectError {
    match error {
        WsError::Http(answer) => ConnectError::Refused {
            status: answer.status().as_u16(),
        },
        WsError::Io(_)
        | WsError::ConnectionClosed
        | WsError::AlreadyClosed
        | WsError::Protocol(tungstenite::error::ProtocolError::HandshakeIncomplete) => {
            ConnectError::Lost
        }
        _ => ConnectError::Protocol,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{SinkExt, StreamExt};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_tungstenite::tungstenite::Message;

    use super::*;
    use crate::config::Secret;

    /// In the key, the query and every answer of the far end; never in an error.
    const MARKER: &str = "p1anted-marker";
    const LONG: Duration = Duration::from_secs(10);

    fn request(scheme: &str, address: SocketAddr) -> Request {
        Request {
            url: format!("{scheme}://{address}/chat?config_id={MARKER}"),
            headers: vec![("X-Hume-Api-Key".into(), Secret::new(MARKER))],
            subprotocols: Vec::new(),
            max_message: 1 << 20,
        }
    }

    /// A far end that reads a request and gives this answer; returns what it read.
    async fn far_end(answer: String) -> (SocketAddr, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut read = vec![0; 4096];
            let mut length = 0;
            while !read[..length].ends_with(b"\r\n\r\n") {
                match socket.read(&mut read[length..]).await {
                    Ok(n) if n > 0 => length += n,
                    _ => break,
                }
                if answer.starts_with("garbage") {
                    break;
                }
            }
            let _ = socket.write_all(answer.as_bytes()).await;
            let _ = socket.shutdown().await;
            String::from_utf8_lossy(&read[..length]).into_owned()
        });
        (address, task)
    }

    fn answer(status: &str) -> String {
        format!(
            "HTTP/1.1 {status} {MARKER}\r\nLocation: http://127.0.0.1:1/\r\nX-Echo: {MARKER}\r\nContent-Length: 14\r\n\r\n{MARKER}"
        )
    }

    async fn fails(scheme: &str, answer: String) -> ConnectError {
        let (address, _) = far_end(answer).await;
        let error = connect(&request(scheme, address), &Tls::new(), LONG)
            .await
            .unwrap_err();
        discreet(&error);
        error
    }

    fn discreet(error: &ConnectError) {
        let told = format!("{error} {error:?}");
        assert!(!told.contains(MARKER) && !told.contains("chat"), "{told}");
    }

    #[tokio::test]
    async fn the_far_end_refuses() {
        for (status, class) in [
            (301, Closed::Rejected),
            (400, Closed::Rejected),
            (401, Closed::Auth),
            (402, Closed::Quota),
            (403, Closed::Auth),
            (404, Closed::Rejected),
            (429, Closed::Lost),
            (500, Closed::Lost),
            (503, Closed::Lost),
            (200, Closed::Rejected),
        ] {
            let error = fails("ws", answer(&status.to_string())).await;
            assert_eq!(
                (error, error.class()),
                (ConnectError::Refused { status }, class)
            );
        }
    }

    #[tokio::test]
    async fn the_far_end_talks_garbage() {
        let garbage = format!("garbage {MARKER}\r\n\r\n");
        assert_eq!(fails("ws", garbage.clone()).await, ConnectError::Protocol);
        let wrong = format!(
            "HTTP/1.1 101 {MARKER}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {MARKER}\r\n\r\n"
        );
        assert_eq!(fails("ws", wrong).await, ConnectError::Protocol);
        assert_eq!(fails("ws", String::new()).await, ConnectError::Lost);
        // Without a certificate store it does not come to a handshake.
        let error = fails("wss", garbage).await;
        assert!(
            matches!(error, ConnectError::Tls | ConnectError::NoTrust),
            "{error}"
        );
    }

    #[tokio::test]
    async fn the_far_end_never_answers() {
        // The kernel accepts; nobody reads.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let request = request("ws", listener.local_addr().unwrap());
        let error = connect(&request, &Tls::new(), Duration::from_millis(100))
            .await
            .unwrap_err();
        discreet(&error);
        assert_eq!(
            (error, error.class()),
            (ConnectError::Timeout, Closed::Lost)
        );
    }

    #[tokio::test]
    async fn nobody_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let request = request("ws", listener.local_addr().unwrap());
        drop(listener);
        let error = connect(&request, &Tls::new(), LONG).await.unwrap_err();
        discreet(&error);
        assert_eq!(error, ConnectError::Tcp(io::ErrorKind::ConnectionRefused));
        assert_eq!(error.class(), Closed::Lost);
    }

    #[tokio::test]
    async fn what_cannot_be_dialled_is_not_tried() {
        let target = "127.0.0.1:1".parse().unwrap();
        for url in [
            String::new(),
            format!("https://127.0.0.1:1/{MARKER}"),
            format!("ws://user:{MARKER}@127.0.0.1:1/"),
            format!("ws://{MARKER}@127.0.0.1:1/"),
            "127.0.0.1:1".into(),
        ] {
            let request = Request {
                url,
                ..request("ws", target)
            };
            let error = connect(&request, &Tls::new(), LONG).await.unwrap_err();
            discreet(&error);
            assert_eq!(
                (error, error.class()),
                (ConnectError::BadUrl, Closed::Rejected)
            );
        }
        let headers = vec![(
            "X-Hume-Api-Key".into(),
            Secret::new(format!("{MARKER}\nX-Other: 1")),
        )];
        let request = Request {
            headers,
            ..request("ws", target)
        };
        let error = connect(&request, &Tls::new(), LONG).await.unwrap_err();
        discreet(&error);
        assert_eq!((error, error.class()), (ConnectError::BadKey, Closed::Auth));
    }

    #[tokio::test]
    async fn the_request_says_no_more_than_it_must() {
        let (address, task) = far_end(answer("503")).await;
        let _ = connect(&request("ws", address), &Tls::new(), LONG).await;
        let read = task.await.unwrap();
        let (line, headers) = read.split_once("\r\n").unwrap();
        assert_eq!(line, format!("GET /chat?config_id={MARKER} HTTP/1.1"));
        let mut names: Vec<_> = headers
            .lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, _)| name.to_ascii_lowercase())
            .collect();
        names.sort();
        assert_eq!(
            names,
            [
                "connection",
                "host",
                "sec-websocket-key",
                "sec-websocket-version",
                "upgrade",
                "x-hume-api-key"
            ]
        );
        assert!(
            headers
                .to_ascii_lowercase()
                .contains(&format!("x-hume-api-key: {MARKER}\r\n"))
        );
    }

    #[tokio::test]
    async fn frames_go_both_ways_and_a_message_has_its_limit() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // By name, so that all of its addresses are tried: nothing listens on ::1.
        let mut request = request("ws", listener.local_addr().unwrap());
        request.url = request.url.replace("127.0.0.1", "localhost");
        let far_end = tokio::spawn(async move {
            let (socket, _) = listener.accept().await.unwrap();
            let mut socket = tokio_tungstenite::accept_async(socket).await.unwrap();
            let heard = socket.next().await.unwrap().unwrap();
            socket.send(heard).await.unwrap();
            let _ = socket.send(Message::text("x".repeat((1 << 20) + 1))).await;
        });
        let mut socket = connect(&request, &Tls::new(), LONG).await.unwrap();
        let Stream::Plain(tcp) = socket.get_ref() else {
            panic!("not plain")
        };
        assert!(tcp.nodelay().unwrap());
        socket.send(Message::text("hello")).await.unwrap();
        assert_eq!(
            socket.next().await.unwrap().unwrap(),
            Message::text("hello")
        );
        assert!(matches!(
            socket.next().await,
            Some(Err(WsError::Capacity(_)))
        ));
        drop(socket);
        far_end.await.unwrap();
    }

    #[test]
    fn connecting_takes_little_room_in_the_calls_future() {
        let request = request("ws", "127.0.0.1:1".parse().unwrap());
        let tls = Tls::new();
        let size = size_of_val(&connect(&request, &tls, LONG));
        assert!(size <= 512, "{size}");
    }
}
