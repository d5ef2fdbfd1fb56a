//! Twilio's wires: webhooks and their signatures, TwiML, Media Streams, REST.
//!
//! All but [`rest`] is sans-I/O: bytes in, values out.

pub mod media;
pub mod rest;
pub mod signature;
pub mod token;
pub mod twiml;
pub mod webhook;
