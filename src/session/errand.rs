//! What takes a caller away from their agent, and how they come back.
//!
//! Sounding keys into a call and putting its caller through both need Twilio to run other TwiML than our
//! stream. Meanwhile the call is *away*: it has no media socket, and its agent waits for it.

use crate::{
    session::registry::CallFacts,
    tools::{Digits, Transfer},
};

/// What a call is away for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Errand {
    /// The keys are sounded, then the stream begins again.
    Digits(Digits),
    /// The callee rings; the stream begins again if nothing comes of it.
    Transfer(Transfer),
}

/// Why a transfer has come to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    NoAnswer,
    Busy,
    /// The callee did not accept it.
    Declined,
    /// The number cannot be called.
    Unreachable,
}

impl Failed {
    /// As an agent is told: "the transfer did not succeed: ...".
    pub fn words(self) -> &'static str {
        match self {
            Failed::NoAnswer => "nobody answered",
            Failed::Busy => "the line was busy",
            Failed::Declined => "the other person did not take the call",
            Failed::Unreachable => "the number could not be reached",
        }
    }
}

/// What Twilio says of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transferred {
    /// The callee has taken it, or has already spoken with the caller: the agent is not needed again.
    Connected,
    /// The caller has been sent back to us, and a media socket will come.
    Returning(Failed),
    /// The caller was told so, and that was the end.
    Ended(Failed),
}

/// What Twilio's REST API made of an errand's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirected {
    Done,
    Failed,
    /// The call is over.
    Over,
}

/// Knows the TwiML for an errand.
pub trait Guide: Send + Sync {
    /// At most 4000 characters, as Twilio takes them from its REST API.
    fn twiml(&self, call: &CallFacts, errand: &Errand) -> String;
}
