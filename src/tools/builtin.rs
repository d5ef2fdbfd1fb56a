//! The tools that the house itself has, but for hanging up, which is the call's own.
//!
//! Most of them only decide: whom to call, which keys, which words; the call does the rest. Whom an
//! agent may reach is the config's to say, whatever its language model was talked into: what is not in
//! the config is refused here once more, after the schema. Of a test call nothing reaches a
//! telephone.

use std::{sync::Arc, time::Duration};

use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{
    Builtin, Digits, Facts, Outcome, Transfer,
    catalogue::{THE_CALLER, known_as},
    ledger::Ledger,
    request,
    run::{Failure, Message, SendMessage},
};
use crate::{
    config::{self, Config},
    session::order::Words,
};

/// Said to the callee of a warm transfer when the agent has found no better words.
const ANNOUNCEMENT: &str = "A caller would like to speak with you.";

/// Twilio may take a message and be slow to say so. Its client gives up this much before the tool's time
/// is over, so that the agent hears that it is not known, and not that it did not work.
const MARGIN: Duration = Duration::from_millis(150);

/// What the config says of the built-in tools.
pub struct House {
    transfer: config::Transfer,
    sms: config::Sms,
    /// A route's time zone, by the route's name.
    zones: Vec<(String, TimeZone)>,
    send: Option<SendMessage>,
}

impl House {
    pub fn new(config: &Config, send: Option<SendMessage>) -> House {
        let zone = |route: &config::Route| {
            let hours = route.hours.as_ref()?;
            Some((route.name.clone(), hours.zone.clone()))
        };
        House {
            transfer: config.transfer.clone(),
            sms: config.sms.clone(),
            zones: config.routes.iter().filter_map(zone).collect(),
            send,
        }
    }

    /// The route's, else the machine's.
    fn zone(&self, facts: &Facts) -> TimeZone {
        let mut zones = self.zones.iter();
        let own = zones.find(|(name, _)| Some(name) == facts.route.as_ref());
        own.map_or_else(TimeZone::system, |(_, zone)| zone.clone())
    }
}

pub async fn carry_out(
    tool: Builtin,
    arguments: &Map<String, Value>,
    facts: &Facts,
    house: &House,
    ledger: &Ledger,
    deadline: Instant,
) -> Result<Outcome, Failure> {
    let text = |name: &str| arguments.get(name).and_then(Value::as_str);
    match tool {
        // The call's machine does that.
        Builtin::HangUp => Err(Failure::word("not-available")),
        Builtin::TransferCall => transfer(house, text("to"), text("announcement")),
        Builtin::SendDigits => Ok(Outcome::Digits(Digits(
            text("digits").unwrap_or_default().to_owned(),
        ))),
        Builtin::GetCallInfo => Ok(Outcome::Done(Words(call_info(house, facts)))),
        Builtin::LeaveNote => Ok(Outcome::Note(Words(
            text("note").unwrap_or_default().to_owned(),
        ))),
        Builtin::SendSms => {
            send_sms(
                house,
                facts,
                ledger,
                text("to").unwrap_or_default(),
                text("text").unwrap_or_default(),
                deadline,
            )
            .await
        }
    }
}

fn transfer(
    house: &House,
    to: Option<&str>,
    announcement: Option<&str>,
) -> Result<Outcome, Failure> {
    let mut numbers = house.transfer.numbers.iter();
    let destination = numbers.find(|destination| Some(known_as(destination)) == to);
    let destination = destination.ok_or_else(|| {
        said(
            "not-allowed",
            "Nobody may be called by that name. Use one of the names that the tool lists.",
        )
    })?;
    let announce = || {
        let words = announcement.map(str::trim).unwrap_or_default();
        Words(match words {
            "" => ANNOUNCEMENT.to_owned(),
            words => words.to_owned(),
        })
    };
    Ok(Outcome::Transfer(Transfer {
        number: destination.number.clone(),
        announce: house.transfer.warm.then(announce),
    }))
}

fn call_info(house: &House, facts: &Facts) -> String {
    let known = |name: &str| facts.known.get(name);
    let info = json!({
        "caller_number": facts.caller(),
        "called_number": facts.to,
        "city": known("city"),
        "country": known("country"),
        "route": facts.route,
        "call_started": request::started_at(facts),
        "local_time": local_time(house.zone(facts)),
    });
    info.to_string()
}

/// `Monday 2026-11-23 14:05 Australia/Sydney`: a language model is bad at finding the day of a date.
fn local_time(zone: TimeZone) -> String {
    let now = Timestamp::now().to_zoned(zone);
    match now.time_zone().iana_name() {
        Some(name) => format!("{} {name}", now.strftime("%A %Y-%m-%d %H:%M")),
        None => now.strftime("%A %Y-%m-%d %H:%M %:z").to_string(),
    }
}

async fn send_sms(
    house: &House,
    facts: &Facts,
    ledger: &Ledger,
    to: &str,
    body: &str,
    deadline: Instant,
) -> Result<Outcome, Failure> {
    if facts.test {
        return Err(said(
            "test-call",
            "This is a test call: no message was sent. On a real call it would have been.",
        ));
    }
    let to = match to {
        THE_CALLER if house.sms.to_caller => Some(facts.caller().unwrap_or_default()),
        to => {
            let mut numbers = house.sms.numbers.iter();
            numbers.find(|number| *number == to).map(String::as_str)
        }
    };
    let to = to.ok_or_else(|| {
        said(
            "not-allowed",
            "No message may be sent there. Use one of the recipients that the tool lists.",
        )
    })?;
    if !is_number(to) {
        return Err(said(
            "no-number",
            "The caller's number is withheld, so no message can be sent to it.",
        ));
    }
    let from = house.sms.from.as_ref().unwrap_or(&facts.to);
    let send = house.send.as_ref().filter(|_| is_number(from));
    let Some(send) = send.map(Arc::clone) else {
        return Err(Failure::word("not-available"));
    };
    if !ledger.may_send(&facts.call) {
        return Err(said(
            "too-many",
            "So many messages have been sent on this call that no more are allowed.",
        ));
    }
    let left = deadline.saturating_duration_since(Instant::now());
    let sent = send(Message {
        to: to.to_owned(),
        from: from.clone(),
        body: body.to_owned(),
        within: left.saturating_sub(MARGIN),
    });
    sent.await?;
    Ok(Outcome::Done(Words(
        "The message is on its way.".to_owned(),
    )))
}

fn is_number(address: &str) -> bool {
    let digits = address.strip_prefix('+').unwrap_or_default();
    !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit())
}

fn said(error: &'static str, words: &str) -> Failure {
    Failure {
        said: Some(words.to_owned()),
        ..Failure::word(error)
    }
}
