//! How the bridge is reached: over TCP, or over TLS as the real Twilio speaks it.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::http::{CONNECT, Error};
use crate::stream::Stream;

/// Where the bridge is, and how it is spoken to.
#[derive(Clone)]
pub struct Way {
    pub dial: SocketAddr,
    /// With it, TLS; the certificate has to be made out to `host`.
    pub tls: Option<Arc<ClientConfig>>,
    pub host: String,
}

impl Way {
    /// A connection, tried twice as far as TCP goes. `small`: with the smallest receive buffer, for
    /// a reader that lags.
    pub async fn connect(&self, small: bool) -> Result<Stream, Error> {
        let tcp = self.tcp(small).await?;
        let Some(config) = &self.tls else {
            return Ok(Stream::Plain(tcp));
        };
        let name = ServerName::try_from(self.host.clone())
            .map_err(|_| Error::Tls(format!("{:?} is no host name", self.host)))?;
        let handshake = TlsConnector::from(config.clone()).connect(name, tcp);
        match timeout(CONNECT, handshake).await {
            Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(stream))),
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
