//! TLS on the public listener, for a machine without a proxy.
//!
//! One server configuration is in force: TLS 1.2 and 1.3, HTTP/1.1 only (a WebSocket begins there),
//! no client certificates, sessions resumed. [`ServerTls::renew`] puts another in its place; the
//! handshakes that begin after that use the new certificate, and connections that are open keep
//! theirs. Old sessions are not resumed under it, since the old key may have been given up for a
//! reason.
//!
//! A handshake runs in its connection's own task, under a deadline. Whoever fails at it costs a
//! count and a line at debug level: strangers knock all day long.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use rustls::{
    AlertDescription, Error as TlsError, ServerConfig, crypto::ring, sign::SingleCertAndKey,
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    config::Certificate,
    metrics::{Metrics, labels::TlsFailure},
};

/// What new connections shake hands with.
pub struct ServerTls {
    in_force: Mutex<Arc<ServerConfig>>,
    metrics: Arc<Metrics>,
}

impl ServerTls {
    pub fn new(certificate: &Certificate, metrics: Arc<Metrics>) -> Self {
        ServerTls {
            in_force: Mutex::new(server_config(certificate)),
            metrics,
        }
    }

    /// Another certificate, for the handshakes to come.
    pub fn renew(&self, certificate: &Certificate) {
        let config = server_config(certificate);
        *self
            .in_force
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner()) = config;
    }

    /// The handshake. `None` when it failed, which has been counted and logged then.
    pub async fn accept(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        deadline: Duration,
    ) -> Option<TlsStream<TcpStream>> {
        let config = self
            .in_force
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .clone();
        let handshake = TlsAcceptor::from(config).accept(stream);
        let failure = match timeout(deadline, handshake).await {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(error)) => failure(&error),
            Err(_) => TlsFailure::Timeout,
        };
        self.metrics.tls_failures.of(failure).inc();
        tracing::debug!(%peer, reason = ?failure, "TLS handshake failed");
        None
    }
}

fn server_config(certificate: &Certificate) -> Arc<ServerConfig> {
    let provider = Arc::new(ring::default_provider());
    let resolver = SingleCertAndKey::from(certificate.certified.clone());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring serves the default versions of TLS")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// rustls reports through `io::Error`; what a peer has sent is never part of what we say.
fn failure(error: &io::Error) -> TlsFailure {
    use AlertDescription as Alert;
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(TlsError::InvalidMessage(_)) => TlsFailure::NotTls,
        Some(TlsError::AlertReceived(
            Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA,
        )) => TlsFailure::Certificate,
        Some(_) => TlsFailure::Refused,
        None => TlsFailure::Gone,
    }
}
