//! The way to the media socket: what the TwiML says that connects a call's audio to us.

use std::{collections::BTreeMap, time::Duration};

use super::{Front, paths, unix_now};
use crate::twilio::{
    CallSid,
    twiml::{ConnectStream, TwimlError},
};

/// Everything that a `<Connect><Stream>` needs.
pub struct Way {
    pub action: String,
    pub stream_url: String,
    pub status_callback: String,
    /// The token first.
    pub parameters: Vec<(String, String)>,
}

/// The way back to us for this call, open for `lifetime`.
pub fn connect(
    front: &Front,
    call: &CallSid,
    from: &str,
    to: &str,
    _route: Option<&str>,
    _known: &BTreeMap<String, String>,
    lifetime: Duration,
) -> Way {
    let expires = unix_now() + lifetime.as_secs();
    let token = front.minter.mint(call, from, to, expires);
    let public = &front.config.public_url;
    let parameters = [("token", token.as_str()), ("from", from), ("to", to)];
    Way {
        action: public.http(paths::AFTER),
        stream_url: public.ws(paths::MEDIA),
        status_callback: public.http(paths::STREAM),
        parameters: parameters
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
    }
}

impl Way {
    /// The whole document; `say` is spoken by Twilio before the stream begins.
    pub fn to_xml(&self, say: Option<&str>) -> Result<String, TwimlError> {
        let parameters: Vec<(&str, &str)> = self
            .parameters
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        ConnectStream {
            say,
            action: &self.action,
            stream_url: &self.stream_url,
            status_callback: &self.status_callback,
            parameters: &parameters,
        }
        .to_xml()
    }
}
