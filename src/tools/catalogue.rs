//! What one call's agent may use.

use std::{sync::Arc, time::Duration};

use crate::{
    agent::Declared,
    config::{self, Config},
    session::order::Words,
};

/// The tools that the house itself has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builtin {
    HangUp,
    TransferCall,
    SendDigits,
    SendSms,
    GetCallInfo,
    LeaveNote,
}

impl Builtin {
    pub const ALL: [Builtin; 6] = [
        Builtin::HangUp,
        Builtin::TransferCall,
        Builtin::SendDigits,
        Builtin::SendSms,
        Builtin::GetCallInfo,
        Builtin::LeaveNote,
    ];

    /// What agents and configs call it by.
    pub fn name(self) -> &'static str {
        match self {
            Builtin::HangUp => "hang_up",
            Builtin::TransferCall => "transfer_call",
            Builtin::SendDigits => "send_digits",
            Builtin::SendSms => "send_sms",
            Builtin::GetCallInfo => "get_call_info",
            Builtin::LeaveNote => "leave_note",
        }
    }
}

/// A tool as it is declared to an agent.
#[derive(Clone, Debug)]
pub struct Offer {
    pub name: String,
    pub description: String,
    /// A JSON Schema, as text.
    pub parameters: String,
    /// What the agent may say when the tool fails, for agents that want to be told beforehand.
    pub fallback: Option<Words>,
    /// Its whole time; the runner's word comes within it.
    pub timeout: Duration,
    pub filler: Option<Filler>,
    pub what: Use,
}

/// Said by the agent when a tool takes long.
#[derive(Clone, Debug)]
pub struct Filler {
    pub after: Duration,
    pub words: Words,
}

/// What stands behind a tool.
#[derive(Clone, Debug)]
pub enum Use {
    Builtin(Builtin),
    Config(Arc<config::Tool>),
}

/// Every tool that a call's agent may use, by name and each once.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    offers: Vec<Offer>,
}

impl Catalogue {
    /// Those of `names` that there are under this config; `None`: all that there are.
    pub fn of(_config: &Config, names: Option<&[String]>) -> Self {
        let wanted = |name: &str| names.is_none_or(|names| names.iter().any(|one| one == name));
        let offers = [hang_up()];
        Catalogue::new(
            offers
                .into_iter()
                .filter(|offer| wanted(&offer.name))
                .collect(),
        )
    }

    /// Only these, and of them those that need no config.
    pub fn builtins(wanted: &[Builtin]) -> Self {
        let offers = wanted.iter().filter(|one| **one == Builtin::HangUp);
        Catalogue::new(offers.map(|_| hang_up()).collect())
    }

    pub fn new(offers: Vec<Offer>) -> Self {
        Catalogue { offers }
    }

    pub fn offers(&self) -> &[Offer] {
        &self.offers
    }

    /// As an agent is told of them.
    pub fn declared(&self) -> Vec<Declared> {
        let declared = self.offers.iter().map(|offer| Declared {
            name: offer.name.clone(),
            description: offer.description.clone(),
            parameters: offer.parameters.clone(),
            fallback: offer.fallback.as_ref().map(|words| words.0.clone()),
        });
        declared.collect()
    }

    /// The tool of that name, and its place.
    pub fn find(&self, name: &str) -> Option<(usize, &Offer)> {
        let mut offers = self.offers.iter().enumerate();
        offers.find(|(_, offer)| offer.name == name)
    }
}

fn hang_up() -> Offer {
    Offer {
        name: Builtin::HangUp.name().to_owned(),
        description: "End the phone call. Use it when the conversation is over: the caller has said \
                      goodbye, or asks to end the call. Say goodbye first."
            .to_owned(),
        parameters: r#"{"type":"object","properties":{"reason":{"type":"string","description":"Why the call ends, in a few words."}},"required":[]}"#
            .to_owned(),
        fallback: None,
        timeout: Duration::ZERO,
        filler: None,
        what: Use::Builtin(Builtin::HangUp),
    }
}
