//! The webhooks of errands, and the TwiML that sends a call on one and brings it back.
//!
//! A call that is away on an [`Errand`] is in Twilio's hands. Keys are sounded and the stream begins
//! again by the same document. A transfer is a `<Dial>`: its callee, if they are to be asked first, hears
//! the [announcement](announce) and [accepts](accept) with a key; whether they answered comes by
//! [`answered`], and when the `<Dial>` is over, [`transferred`] says what the caller meets next. What
//! Twilio says of a transfer is passed on to the call, which may be on its way to its end by then, or may
//! never have been this instance's.
//!
//! All of it is signed. The key that a callee presses and the numbers are never logged.

use std::{collections::BTreeMap, time::Duration};

use hyper::{Request, Response, body::Incoming};
use tracing::{info, warn};

use super::{
    Front,
    connect::{Way, connect},
    listener::{Body, Peer},
    paths,
    signed::signed_form,
    unix_now,
    voice::{caller_id, fallback, met, terms, xml},
};
use crate::{
    config::NoAnswer,
    metrics::labels::Endpoint,
    session::{
        errand::{Errand, Failed, Guide, Transferred},
        order::After,
        registry::{CallFacts, Callee},
    },
    tools::{Digits, Transfer},
    twilio::{
        CallSid,
        twiml::{self, ConnectStream, TwimlError},
        webhook::Form,
    },
};

/// Whom a callee is told of when nobody has said.
const SOMEBODY: &str = "A caller is on the line";
/// What a callee does to take the call, and the key.
const PRESS: &str = "Press 1 to take the call.";
const ACCEPTS: &str = "1";
/// 32 keys, each a second of waiting.
const LONGEST_KEYS: Duration = Duration::from_secs(32);

impl Guide for Front {
    fn twiml(&self, call: &CallFacts, errand: &Errand) -> String {
        let written = match errand {
            Errand::Digits(digits) => self.keys(call, digits),
            Errand::Transfer(transfer) => self.transfer(call, transfer),
        };
        written.unwrap_or_else(|error| {
            // What tools and operators may ask for can be written. Should it not be, the caller is owed
            // words, not a dead line.
            warn!(limited = true, CALL_SID = call.call.as_str(), %error, "no TwiML for an errand");
            let terms = self.terms(Some(&call.call), &call.to, &call.from);
            met(&terms.fallback, &call.from, &call.to)
        })
    }
}

impl Front {
    fn keys(&self, call: &CallFacts, digits: &Digits) -> Result<String, TwimlError> {
        match after_keys(&self.way_back(call), digits) {
            Err(TwimlError::TooLongForRest { .. }) => {
                // The call itself has not forgotten what is known of it. Only an instance that does not
                // carry it would, and for that one the rest of the call is new anyway.
                let bare = CallFacts {
                    known: BTreeMap::new(),
                    ..call.clone()
                };
                after_keys(&self.way_back(&bare), digits)
            }
            written => written,
        }
    }

    fn transfer(&self, call: &CallFacts, transfer: &Transfer) -> Result<String, TwimlError> {
        let public = &self.config.public_url;
        let terms = self.terms(Some(&call.call), &call.to, &call.from);
        let rules = &terms.config.transfer;
        // The announcement itself stands behind this URL: it may be longer than the REST API's document.
        let announce =
            asks_callee(transfer).then(|| of_call(public.http(paths::ANNOUNCE), &call.call));
        twiml::Transfer {
            number: &transfer.number,
            caller_id: rules
                .caller_id
                .as_deref()
                .or(caller_id(&call.from, &call.to)),
            ring: rules.ring,
            action: &public.http(paths::TRANSFERRED),
            announce: announce.as_deref(),
            status_callback: &public.http(paths::STATUS),
        }
        .to_xml()
    }

    /// The token is good for what comes before the stream, and newer than the one that the call began with,
    /// which is used up. The time is the same for all ways back, so that the next is newer, too.
    fn way_back(&self, call: &CallFacts) -> Way {
        let lifetime = self.registry.limits().admission_lifetime + LONGEST_KEYS;
        let newer = (call.token_expires_unix + 1).saturating_sub(unix_now());
        let lifetime = lifetime.max(Duration::from_secs(newer));
        let (from, to, route) = (&call.from, &call.to, call.route.as_deref());
        connect(self, &call.call, from, to, route, &call.known, lifetime)
    }
}

/// Whether the callee is told who is calling, and accepts.
fn asks_callee(transfer: &Transfer) -> bool {
    transfer.announce.is_some()
}

fn after_keys(way: &Way, digits: &Digits) -> Result<String, TwimlError> {
    let parameters: Vec<(&str, &str)> = way
        .parameters
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    ConnectStream {
        say: None,
        action: &way.action,
        stream_url: &way.stream_url,
        status_callback: &way.status_callback,
        parameters: &parameters,
    }
    .after_keys(&digits.0)
}

/// A call's errand once more, for a stream that ended before Twilio's REST API had taken it. The stream's
/// end is part of the errand, so the call is not told of it.
///
/// Once: if it has been run, it is the way back that has failed, and nobody is rung or sounded to twice.
pub fn again(front: &Front, form: &Form, errand: &Errand) -> String {
    let call = sid(form.get("CallSid")).filter(|call| front.registry.take_errand(call));
    match call.and_then(|call| front.registry.facts(&call)) {
        Some(facts) => {
            front.registry.errand_begun(&facts.call);
            front.twiml(&facts, errand)
        }
        // It has died on its errand.
        None => fallback(front, form),
    }
}

/// A transfer's `<Dial>` is over: what does the caller meet next?
pub async fn transferred(front: &Front, request: Request<Incoming>, peer: Peer) -> Response<Body> {
    match signed_form(front, Endpoint::Transferred, request, peer).await {
        Ok(form) => xml(after_dial(front, &form)),
        Err(refusal) => refusal,
    }
}

fn after_dial(front: &Front, form: &Form) -> String {
    let registry = &front.registry;
    let call = sid(form.get("CallSid"));
    let on = call.and_then(|call| match registry.errand(&call) {
        Some(Errand::Transfer(transfer)) => Some((call, transfer)),
        _ => None,
    });
    let status = form.get("DialCallStatus").unwrap_or_default();
    let bridged = match form.get("DialBridged") {
        Some("true") => Some(true),
        Some("false") => Some(false),
        _ => None,
    };
    let asks = on
        .as_ref()
        .is_some_and(|(_, transfer)| asks_callee(transfer));
    let callee = call.map(|call| registry.callee(&call)).unwrap_or_default();
    // Of a callee who was asked first and did not take the call, both are said: that they answered, and
    // that they did not.
    let answered = matches!(status, "completed" | "answered");
    let connected = callee == Callee::Accepted || (answered && bridged.unwrap_or(!asks));
    let tell = |what| {
        if let Some((call, _)) = &on {
            registry.transferred(call, what);
        }
    };
    if connected {
        tell(Transferred::Connected);
    }
    if form.get("CallStatus") == Some("completed") {
        if let Some(call) = &call {
            registry.call_over(call, None, true);
        }
        return twiml::empty();
    }
    if connected {
        // They have spoken, and the callee has hung up.
        return twiml::hang_up();
    }
    let failed = match status {
        _ if answered || callee == Callee::Asked => Failed::Declined,
        "busy" => Failed::Busy,
        "no-answer" => Failed::NoAnswer,
        _ => Failed::Unreachable,
    };
    if let NoAnswer::Say(text) = &terms(front, form).config.transfer.no_answer {
        tell(Transferred::Ended(failed));
        return twiml::say_and_hang_up(text);
    }
    let Some((call, _)) = &on else {
        return unexpected(front, form);
    };
    let Some(facts) = registry.facts(call) else {
        return unexpected(front, form);
    };
    match front.way_back(&facts).to_xml(None) {
        Ok(back) => {
            registry.take_errand(call);
            tell(Transferred::Returning(failed));
            back
        }
        Err(error) => {
            warn!(limited = true, CALL_SID = call.as_str(), %error, "no TwiML for a call that comes back");
            tell(Transferred::Ended(failed));
            fallback(front, form)
        }
    }
}

/// A transfer has come to nothing, and there is no agent here to go back to: the call was carried by
/// another instance or before a restart, or has ended for another reason meanwhile.
fn unexpected(front: &Front, form: &Form) -> String {
    let call = sid(form.get("CallSid"));
    match call.and_then(|call| front.registry.after(&call)) {
        Some(After::HangUp) => twiml::hang_up(),
        _ => {
            let call = call.as_ref().map_or("", CallSid::as_str);
            info!(
                limited = true,
                CALL_SID = call,
                "a caller comes back from a transfer to an agent that is not here"
            );
            fallback(front, form)
        }
    }
}

/// A callee has answered who is to be asked first: who is calling, and do they take it?
pub async fn announce(front: &Front, request: Request<Incoming>, peer: Peer) -> Response<Body> {
    let named = named(&request);
    match signed_form(front, Endpoint::Announce, request, peer).await {
        Ok(form) => xml(announcement(front, named.or_else(|| parent(&form)))),
        Err(refusal) => refusal,
    }
}

fn announcement(front: &Front, call: Option<CallSid>) -> String {
    let Some(call) = call else {
        // Nobody would be connected by a key.
        return twiml::hang_up();
    };
    let words = match front.registry.errand(&call) {
        Some(Errand::Transfer(transfer)) => {
            front.registry.set_callee(&call, Callee::Asked);
            transfer.announce
        }
        _ => None,
    };
    let words = words.map(|words| words.0).unwrap_or_default();
    let who = match words.trim().trim_end_matches('.') {
        "" => SOMEBODY,
        who => who,
    };
    let action = of_call(front.config.public_url.http(paths::ACCEPT), &call);
    twiml::announce(&format!("{who}. {PRESS}"), &action)
}

/// And the key that they pressed.
pub async fn accept(front: &Front, request: Request<Incoming>, peer: Peer) -> Response<Body> {
    let named = named(&request);
    match signed_form(front, Endpoint::Accept, request, peer).await {
        Ok(form) => xml(answer(front, named.or_else(|| parent(&form)), &form)),
        Err(refusal) => refusal,
    }
}

fn answer(front: &Front, call: Option<CallSid>, form: &Form) -> String {
    if form.get("Digits") != Some(ACCEPTS) {
        return twiml::hang_up();
    }
    // Where the call is another instance's, Twilio connects the two all the same, and tells that
    // instance when the transfer is over.
    if let Some(call) = call
        && let Some(Errand::Transfer(_)) = front.registry.errand(&call)
    {
        front.registry.set_callee(&call, Callee::Accepted);
        front.registry.transferred(&call, Transferred::Connected);
    }
    twiml::empty()
}

/// Call progress, when it is that of a callee: their answering alone connects them, unless they are asked
/// first. That they are gone is told by the `<Dial>` itself, and is not the end of the caller's call.
pub fn progress(front: &Front, form: &Form) {
    let Some(call) = parent(form) else { return };
    if form.get("CallStatus") == Some("in-progress")
        && let Some(Errand::Transfer(transfer)) = front.registry.errand(&call)
        && !asks_callee(&transfer)
    {
        front.registry.transferred(&call, Transferred::Connected);
    }
}

/// A callee's leg is a call of its own; this is the caller's, as our URL names it.
fn named<B>(request: &Request<B>) -> Option<CallSid> {
    let query = request.uri().query()?;
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let (_, call) = pairs.find(|(name, _)| name == CALL)?;
    sid(Some(&*call))
}

/// The same as Twilio names it.
fn parent(form: &Form) -> Option<CallSid> {
    sid(form.get("ParentCallSid"))
}

const CALL: &str = "call";

fn of_call(url: String, call: &CallSid) -> String {
    format!("{url}?{CALL}={call}")
}

fn sid(text: Option<&str>) -> Option<CallSid> {
    text?.parse().ok()
}

#[cfg(test)]
#[path = "errand_tests.rs"]
mod tests;
