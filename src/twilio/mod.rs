//! Twilio's wires: webhooks and their signatures, TwiML, Media Streams, REST.
//!
//! All but [`rest`] is sans-I/O: bytes in, values out.

pub mod media;
pub mod rest;
pub mod signature;
pub mod token;
pub mod twiml;
pub mod webhook;

/// A call's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallSid([u8; 34]);
impl CallSid {
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("ascii by construction")
    }
}
/// A stream's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSid(String);
impl StreamSid {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
