//! What one call's agent may use.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::{
    agent::Declared,
    config::{self, Config},
    session::order::Words,
};

/// Whom an agent calls to whom it speaks.
pub(super) const THE_CALLER: &str = "caller";
/// Lengths in characters. Twilio takes no longer message.
const MAX_SMS: usize = 1600;
const MAX_NOTE: usize = 2000;
const MAX_ANNOUNCEMENT: usize = 300;
/// For Twilio to take a message.
const SMS_TIMEOUT: Duration = Duration::from_secs(5);
const AT_ONCE: Duration = Duration::from_secs(1);

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
    pub fn of(config: &Config, names: Option<&[String]>) -> Self {
        let wanted = |name: &str| names.is_none_or(|names| names.iter().any(|one| one == name));
        let builtin = Builtin::ALL
            .into_iter()
            .filter_map(|tool| builtin(tool, config));
        let written = config.tools.iter().map(written);
        Catalogue::new(
            builtin
                .chain(written)
                .filter(|offer| wanted(&offer.name))
                .collect(),
        )
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

/// One that the operator has written down.
fn written(tool: &config::Tool) -> Offer {
    let words = |text: &String| (!text.is_empty()).then(|| Words(text.clone()));
    Offer {
        name: tool.name.clone(),
        description: tool.description.clone(),
        parameters: tool.parameters.to_string(),
        fallback: words(&tool.fallback),
        timeout: tool.timeout,
        filler: words(&tool.filler).map(|words| Filler {
            after: tool.filler_after,
            words,
        }),
        what: Use::Config(Arc::new(tool.clone())),
    }
}

/// `None` where the config gives it nothing to work with.
fn builtin(tool: Builtin, config: &Config) -> Option<Offer> {
    let (description, parameters) = match tool {
        Builtin::HangUp => hang_up(),
        Builtin::TransferCall if config.transfer.numbers.is_empty() => return None,
        Builtin::TransferCall => transfer_call(&config.transfer),
        Builtin::SendDigits => send_digits(),
        Builtin::SendSms if recipients(&config.sms).is_empty() => return None,
        Builtin::SendSms => send_sms(&config.sms),
        Builtin::GetCallInfo => get_call_info(),
        Builtin::LeaveNote if config.calls.record.is_none() => return None,
        Builtin::LeaveNote => leave_note(),
    };
    Some(Offer {
        name: tool.name().to_owned(),
        description: description.to_owned(),
        parameters: parameters.to_string(),
        fallback: None,
        timeout: match tool {
            Builtin::HangUp => Duration::ZERO,
            Builtin::SendSms => SMS_TIMEOUT,
            // They decide something and wait for nobody.
            Builtin::TransferCall
            | Builtin::SendDigits
            | Builtin::GetCallInfo
            | Builtin::LeaveNote => AT_ONCE,
        },
        filler: None,
        what: Use::Builtin(tool),
    })
}

fn hang_up() -> (&'static str, Value) {
    let description = "End the phone call. Use it when the conversation is over: the caller has said \
                       goodbye, or asks to end the call. Say goodbye first.";
    let parameters = json!({
        "type": "object",
        "properties": {
            "reason": { "type": "string", "description": "Why the call ends, in a few words." }
        },
        "required": []
    });
    (description, parameters)
}

fn transfer_call(transfer: &config::Transfer) -> (&'static str, Value) {
    let description = "Put the caller through to a person. Use it when the caller asks for a person, or \
                       when you cannot help them and somebody of the list can. Tell the caller first to \
                       whom you are putting them through. Do not use it to end the call, nor without \
                       the caller's consent. If nobody answers, the caller may come back to you.";
    let names: Vec<_> = transfer.numbers.iter().map(known_as).collect();
    let mut properties = json!({
        "to": { "type": "string", "enum": names, "description": "To whom." }
    });
    if transfer.warm {
        properties["announcement"] = json!({
            "type": "string",
            "maxLength": MAX_ANNOUNCEMENT,
            "description": "One or two sentences that the person hears before they take the call: who \
                            is calling, and what about."
        });
    }
    let parameters = json!({ "type": "object", "properties": properties, "required": ["to"] });
    (description, parameters)
}

fn send_digits() -> (&'static str, Value) {
    let description = "Press telephone keys for the other side of this call to hear, as on a keypad. Use \
                       it when a machine on the other side asks for keys: a menu, an extension, a \
                       conference code. Do not use it to read digits to a person: say them.";
    let parameters = json!({
        "type": "object",
        "properties": {
            "digits": {
                "type": "string",
                "pattern": "^[0-9A-D*#wW]{1,32}$",
                "description": "The keys in order: 0-9, *, #, A-D; w waits half a second, W a second."
            }
        },
        "required": ["digits"]
    });
    (description, parameters)
}

fn send_sms(sms: &config::Sms) -> (&'static str, Value) {
    let description = "Send a text message (SMS). Use it when the caller agrees to get something in \
                       writing, such as an address, a link or a confirmation, or when you are to pass a \
                       message on to somebody of the list. Send each message once, and never what the \
                       caller would not want to be written down.";
    let parameters = json!({
        "type": "object",
        "properties": {
            "to": {
                "type": "string",
                "enum": recipients(sms),
                "description": "To whom. \"caller\" is the number that this call comes from."
            },
            "text": {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_SMS,
                "description": "The whole message, in the caller's language. Short: 160 characters are one message."
            }
        },
        "required": ["to", "text"]
    });
    (description, parameters)
}

fn get_call_info() -> (&'static str, Value) {
    let description = "Find out about this phone call: the caller's number, the number they called, city \
                       and country as far as known, when the call began, and what date and time it is \
                       now. Use it before you speak of today, tomorrow or opening hours, and when you \
                       need the caller's number.";
    (
        description,
        json!({ "type": "object", "properties": {}, "required": [] }),
    )
}

fn leave_note() -> (&'static str, Value) {
    let description = "Write a note about this call for the people you work for; they read it later. Use \
                       it for what they should know or do: a request to be called back, a complaint, \
                       an agreement. The caller does not hear it, and nobody acts on it at once.";
    let parameters = json!({
        "type": "object",
        "properties": {
            "note": {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_NOTE,
                "description": "The note, in full sentences that make sense without the conversation."
            }
        },
        "required": ["note"]
    });
    (description, parameters)
}

/// What an agent calls a destination by.
pub(super) fn known_as(destination: &config::Destination) -> &str {
    destination.name.as_deref().unwrap_or(&destination.number)
}

fn recipients(sms: &config::Sms) -> Vec<&str> {
    let caller = sms.to_caller.then_some(THE_CALLER);
    let numbers = sms.numbers.iter().map(String::as_str);
    caller.into_iter().chain(numbers).collect()
}

#[cfg(test)]
#[path = "catalogue_tests.rs"]
mod tests;
