//! What an agent can have done: the built-in tools, and those that the operator has written down.
//!
//! A [`Catalogue`] says what one call's agent may use; its [`Offer`]s are declared to the agent and are
//! all that the call's [machine](crate::session::machine) needs to know. [`Runner::run`] carries one
//! tool call out, within the offer's time whatever the tool does, and ends with an [`Outcome`]: words
//! for the agent, or something that the call itself has to do. Dropping what it returned ends the tool.

mod builtin;
mod catalogue;
mod exact;
mod exec;
mod http;
mod ledger;
mod request;
mod run;
pub mod schema;
pub mod sign;

#[cfg(test)]
mod stage_tests;

pub use catalogue::{Builtin, Catalogue, Filler, Offer, Use};
pub use run::{Failure, Message, Runner, SendMessage, Sending, SetupError};

use std::{collections::BTreeMap, time::SystemTime};

use crate::{
    session::{caller::Caller, order::Words},
    twilio::CallSid,
};

/// What a tool may know of the call that it serves.
#[derive(Clone)]
pub struct Facts {
    pub call: CallSid,
    pub from: String,
    pub to: String,
    pub route: Option<String>,
    pub agent: &'static str,
    pub started: SystemTime,
    /// What else the webhook said that the config asks for: `city`, `country`, `param.NAME`.
    pub known: BTreeMap<String, String>,
    /// Placed by an operator: nothing of it may reach anybody's telephone.
    pub test: bool,
}

impl Facts {
    /// Who calls, if they let it be known: a withheld number may come as one that nobody has.
    pub fn caller(&self) -> Option<&str> {
        match Caller::of(&self.from) {
            Caller::Withheld => None,
            Caller::Known(_) => Some(&self.from),
        }
    }
}

/// What came of a tool call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What the agent gets to read.
    Done(Words),
    /// `error` is a word for logs; `content` is for the agent.
    Failed { error: &'static str, content: Words },
    /// The caller is to be put through.
    Transfer(Transfer),
    /// These keys are to be sounded into the call.
    Digits(Digits),
    /// To be kept in the call's record.
    Note(Words),
}

/// To whom a caller is put through.
#[derive(Clone, PartialEq, Eq)]
pub struct Transfer {
    /// `+...`
    pub number: String,
    /// Said to the callee, who then accepts with a key; `None`: they are connected at once.
    pub announce: Option<Words>,
}

/// Keys, and `w` for half a second of waiting. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Digits(pub String);

/// Without the number.
impl std::fmt::Debug for Transfer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let warm = self.announce.is_some();
        f.debug_struct("Transfer")
            .field("warm", &warm)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Digits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Digits({})", self.0.len())
    }
}
