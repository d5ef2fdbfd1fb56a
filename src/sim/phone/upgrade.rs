//! The upgrade to a Media Stream, with exactly the headers that Twilio sends.
//!
//! The handshake is written out by hand, because a WebSocket library would send its own; frames are the
//! library's again.

use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::fetch::sign;
use super::{Fault, Phone, http, webhook};
use crate::stream::Stream;

pub type Socket = WebSocketStream<Stream>;

pub enum NoSocket {
    Refused(u16),
    Broken(String),
}

/// Opens the WebSocket with Twilio's own headers.
pub async fn open(phone: &Phone, url: &str) -> Result<Socket, NoSocket> {
    let broken = |error: http::Error| NoSocket::Broken(format!("31920: {error}"));
    let slash = if phone.has(Fault::TrailingSlash) {
        "/"
    } else {
        ""
    };
    let signature = sign(
        phone,
        &format!("{url}{slash}"),
        &[],
        phone.has(Fault::UpgradeSignature),
    )
    .await
    .map_err(NoSocket::Broken)?;
    let key = base64_simd::STANDARD.encode_to_string(webhook::random::<16>());
    let mut line = phone
        .way()
        .connect(phone.has(Fault::SlowReader))
        .await
        .map_err(broken)?;
    let request = webhook::upgrade_request(url, &key, &signature);
    let (head, rest) = http::upgrade(&mut line, &request).await.map_err(broken)?;
    if head.status != 101 {
        return Err(NoSocket::Refused(head.status));
    }
    let is = |name: &str, value: &str| {
        head.header(name)
            .is_some_and(|found| found.eq_ignore_ascii_case(value))
    };
    if !is("upgrade", "websocket") || !is("connection", "upgrade") {
        return Err(NoSocket::Broken(
            "31920: a 101 that does not upgrade to websocket".into(),
        ));
    }
    if head.header("sec-websocket-accept") != Some(&webhook::accept_of(&key)) {
        return Err(NoSocket::Broken(
            "31920: the wrong sec-websocket-accept".into(),
        ));
    }
    for header in ["sec-websocket-extensions", "sec-websocket-protocol"] {
        if head.header(header).is_some() {
            return Err(NoSocket::Broken(format!(
                "31920: {header} was answered and never offered"
            )));
        }
    }
    // Small buffers: hundreds of telephones share a process.
    let config = WebSocketConfig::default()
        .read_buffer_size(2048)
        .write_buffer_size(2048)
        .max_write_buffer_size(1024 * 1024)
        .max_message_size(Some(16 * 1024 * 1024))
        .max_frame_size(Some(16 * 1024 * 1024));
    Ok(WebSocketStream::from_partially_read(line, rest, Role::Client, Some(config)).await)
}
