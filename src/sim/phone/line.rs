//! The bytes under HTTP and WebSocket: TCP, or TLS over it as the real Twilio speaks it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::http::{CONNECT, Error};

/// Where the bridge is, and how it is spoken to.
#[derive(Clone)]
pub struct Way {
    pub dial: SocketAddr,
    /// With it, TLS; the certificate has to be made out to `host`.
    pub tls: Option<Arc<ClientConfig>>,
    pub host: String,
}

pub enum Line {
    Plain(TcpStream),
    /// Boxed: TLS state is a kilobyte, and hundreds of telephones do without.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Way {
    /// A connection, tried twice as far as TCP goes. `small`: with the smallest receive buffer, for
    /// a reader that lags.
    pub async fn connect(&self, small: bool) -> Result<Line, Error> {
        let tcp = self.tcp(small).await?;
        let Some(config) = &self.tls else {
            return Ok(Line::Plain(tcp));
        };
        let name = ServerName::try_from(self.host.clone())
            .map_err(|_| Error::Tls(format!("{:?} is no host name", self.host)))?;
        let handshake = TlsConnector::from(config.clone()).connect(name, tcp);
        match timeout(CONNECT, handshake).await {
            Ok(Ok(stream)) => Ok(Line::Tls(Box::new(stream))),
            Ok(Err(error)) => Err(Error::Tls(error.to_string())),
            Err(_) => Err(Error::Tls("no handshake within 5 s".to_owned())),
        }
    }

    async fn tcp(&self, small: bool) -> Result<TcpStream, Error> {
        let mut last = String::new();
        for _ in 0..2 {
            let socket = if self.dial.is_ipv4() {
                TcpSocket::new_v4()?
            } else {
                TcpSocket::new_v6()?
            };
            if small {
                socket.set_recv_buffer_size(4096)?;
            }
            match timeout(CONNECT, socket.connect(self.dial)).await {
                Ok(Ok(stream)) => {
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Ok(Err(error)) => last = error.to_string(),
                Err(_) => last = "no answer within 5 s".to_owned(),
            }
        }
        Err(Error::Connect(last))
    }
}

impl Line {
    /// What is below, for faults that TCP has.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Line::Plain(tcp) => tcp,
            Line::Tls(tls) => tls.get_ref().0,
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Line::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Line::Tls(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Line::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Line::Tls(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Line::Plain(io) => Pin::new(io).poll_flush(cx),
            Line::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Line::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Line::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}
