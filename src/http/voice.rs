//! Twilio's webhooks: a call comes in, a stream has ended, a call or a stream changes state.
//!
//! Nothing is answered before the signature has been checked against `public_url`, and a refusal
//! says nothing but 403. Both POST with a form and GET with a query are taken, as a number may be
//! set to either.

use std::{sync::Arc, time::Instant};

use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CONNECTION, HeaderValue},
};
use jiff::Timestamp;
use tracing::{debug, info, warn};

use super::{
    Front,
    connect::connect,
    errand,
    listener::{Body, Peer, respond},
    signed::signed_form,
};
use crate::{
    config::{DrainAnswer, Fallback},
    metrics::labels::{CallRefused, Endpoint},
    printable::Printable,
    routing::{Facts, Picked, Plan},
    session::{
        caller::Caller,
        order::After,
        registry::{Admitted, Asking, OnRoute, Refused},
        terms::Terms,
    },
    twilio::{
        CallSid, twiml,
        webhook::{CallRequest, Direction, Form},
    },
};

/// A call comes in: a place for it, and the way to the media socket.
pub async fn incoming(front: &Front, request: Request<Incoming>, peer: Peer) -> Response<Body> {
    let form = match signed_form(front, Endpoint::Incoming, request, peer).await {
        Ok(form) => form,
        Err(refusal) => return refusal,
    };
    let call = match CallRequest::from_form(&form) {
        Ok(call) => call,
        Err(error) => {
            warn!(limited = true, %error, "a signed webhook without a usable call");
            return respond(
                StatusCode::BAD_REQUEST,
                "text/plain",
                "not a voice webhook\n",
            );
        }
    };
    let (from, to) = (&*call.from, &*call.to);
    let Picked { plan, closed, .. } = front.router.pick(to, from, Timestamp::now());
    let asking = Asking {
        call: call.call_sid,
        from,
        to,
        inbound: !call.direction.is_outbound(),
        on: OnRoute {
            name: &plan.name,
            max_concurrent: plan.max_concurrent,
            max_per_caller: plan.max_per_caller,
            closed: closed.is_some(),
        },
    };
    match front.registry.admit(asking, Instant::now()) {
        Ok(Admitted::New) => front.metrics.calls_admitted.inc(),
        Ok(Admitted::Again) => {}
        Err(refused) => {
            let closed = closed.unwrap_or_else(|| plan.fallback.clone());
            return turned_away(front, &call, refused, &plan, &closed);
        }
    }
    let (caller, _) = call.direction.ends();
    let known = front.router.known(caller, |field| form.get(field));
    let lifetime = front.registry.limits().admission_lifetime;
    if let Some(lookup) = &front.lookup {
        let facts = Facts {
            call: &call.call_sid,
            from,
            to,
            route: &plan.name,
            known: &known,
        };
        lookup.begin(&facts, lifetime, &front.calls);
    }
    let route = Some(&*plan.name);
    let way = connect(front, &call.call_sid, from, to, route, &known, lifetime);
    let greeting = &plan.greeting;
    let answer = way.to_xml((!greeting.is_empty()).then_some(greeting));
    match answer {
        Ok(answer) => xml(answer),
        Err(error) => {
            // Only a caller's id of monstrous length can bring this about.
            warn!(limited = true, CALL_SID = call.call_sid.as_str(), %error, "no TwiML for this call");
            front.registry.forget_admitted(&call.call_sid);
            xml(met(&plan.fallback, &call.from, &call.to))
        }
    }
}

/// What a call meets that gets no place. Never with a number in the log.
fn turned_away(
    front: &Front,
    asking: &CallRequest,
    why: Refused,
    plan: &Plan,
    closed: &Fallback,
) -> Response<Body> {
    let call = asking.call_sid.as_str();
    let (reason, answer) = match why {
        Refused::Draining => {
            info!(
                limited = true,
                CALL_SID = call,
                "call refused while draining"
            );
            let answer = match &front.config.calls.drain_answer {
                DrainAnswer::Unavailable => {
                    respond(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "draining\n")
                }
                DrainAnswer::Busy => xml(twiml::reject_busy()),
                DrainAnswer::Say(text) => xml(twiml::say_and_hang_up(text)),
            };
            (CallRefused::Draining, answer)
        }
        Refused::Full => {
            warn!(
                limited = true,
                CALL_SID = call,
                "call refused, calls.max_concurrent is reached"
            );
            (CallRefused::Full, xml(twiml::reject_busy()))
        }
        Refused::NumberFull => {
            warn!(
                limited = true,
                CALL_SID = call,
                "call refused, calls.max_per_number is reached"
            );
            (CallRefused::NumberFull, xml(twiml::reject_busy()))
        }
        Refused::RouteFull => {
            warn!(
                limited = true,
                CALL_SID = call,
                route = %plan.name,
                "call refused, its route's max_concurrent is reached"
            );
            (CallRefused::RouteFull, xml(twiml::reject_busy()))
        }
        Refused::Closed => {
            info!(
                limited = true,
                CALL_SID = call,
                route = %plan.name,
                "call not taken, its route is closed"
            );
            (
                CallRefused::Closed,
                xml(met(closed, &asking.from, &asking.to)),
            )
        }
        Refused::CallerFull => {
            info!(
                limited = true,
                CALL_SID = call,
                route = %plan.name,
                "call refused, calls.max_per_caller is reached, or its route's"
            );
            (CallRefused::CallerFull, xml(twiml::reject_busy()))
        }
        Refused::Denied => {
            info!(
                limited = true,
                CALL_SID = call,
                "call rejected, its caller is in calls.deny"
            );
            (CallRefused::Denied, xml(twiml::reject()))
        }
        Refused::NotAllowed => {
            info!(
                limited = true,
                CALL_SID = call,
                "call rejected, its caller is not in calls.allow"
            );
            (CallRefused::NotAllowed, xml(twiml::reject()))
        }
    };
    front.metrics.calls_refused.of(reason).inc();
    answer
}

/// The media stream is over: what does the caller meet next?
pub async fn after(front: &Front, request: Request<Incoming>, peer: Peer) -> Response<Body> {
    let form = match signed_form(front, Endpoint::After, request, peer).await {
        Ok(form) => form,
        Err(refusal) => return refusal,
    };
    let call = form
        .get("CallSid")
        .and_then(|sid| sid.parse::<CallSid>().ok());
    let over = form
        .get("CallStatus")
        .is_some_and(|status| status == "completed");
    // Its <Connect> is over, so no media socket can be its own any more.
    if let Some(call) = &call {
        front.registry.call_over(call, None, over);
    }
    // A call that this process does not know has lost its stream to a crash, a restart or a failed
    // handshake: its caller is owed the fallback, not a dead line.
    match call.and_then(|call| front.registry.after(&call)) {
        Some(After::HangUp) => xml(twiml::hang_up()),
        _ if over => xml(twiml::empty()),
        Some(After::NoInputFarewell) => said(&terms(front, &form).config.calls.no_input_farewell),
        Some(After::MaxDurationFarewell) => {
            said(&terms(front, &form).config.calls.max_duration_farewell)
        }
        Some(After::DrainGoodbye) => said(&terms(front, &form).config.calls.drain_goodbye),
        Some(After::Errand(on)) => xml(errand::again(front, &form, &on)),
        Some(After::Fallback) | None => xml(fallback(front, &form)),
    }
}

/// Call progress.
pub async fn status(front: &Front, request: Request<Incoming>, peer: Peer) -> Response<Body> {
    let form = match signed_form(front, Endpoint::Status, request, peer).await {
        Ok(form) => form,
        Err(refusal) => return refusal,
    };
    errand::progress(front, &form);
    // A callee's leg is a call that nobody here knows, and its end is nobody's.
    const OVER: [&str; 5] = ["completed", "busy", "no-answer", "failed", "canceled"];
    if let Some(call) = form
        .get("CallSid")
        .and_then(|sid| sid.parse::<CallSid>().ok())
        && form
            .get("CallStatus")
            .is_some_and(|status| OVER.contains(&status))
    {
        front.registry.call_over(&call, None, true);
    }
    xml(twiml::empty())
}

/// What Twilio says about the media stream: for the log, and for a call whose media socket has not heard
/// of it.
pub async fn stream(front: &Front, request: Request<Incoming>, peer: Peer) -> Response<Body> {
    let form = match signed_form(front, Endpoint::Stream, request, peer).await {
        Ok(form) => form,
        Err(refusal) => return refusal,
    };
    let call = form.get("CallSid").unwrap_or_default();
    let (event, stream) = (form.get("StreamEvent"), form.get("StreamSid"));
    // An error may be one that the stream survives; of one that it does not, its stop and
    // `/voice/after` tell.
    if let (Some("stream-stopped"), Some(stream)) = (event, stream)
        && let Ok(call) = call.parse::<CallSid>()
    {
        front.registry.call_over(&call, Some(stream), false);
    }
    match event {
        Some("stream-error") => {
            let error = form.get("StreamError").unwrap_or_default();
            warn!(limited = true, CALL_SID = %Printable(call), error = %Printable(error), "Twilio reports a stream error");
        }
        event => {
            debug!(CALL_SID = %Printable(call), event = %Printable(event.unwrap_or_default()), "stream event")
        }
    }
    xml(twiml::empty())
}

fn said(text: &str) -> Response<Body> {
    xml(twiml::say_and_hang_up(text))
}

/// The terms on which a webhook's call began.
pub(super) fn terms(front: &Front, form: &Form) -> Arc<Terms> {
    let call = form
        .get("CallSid")
        .and_then(|call| call.parse::<CallSid>().ok());
    let (from, to) = parties(form);
    front.terms(call.as_ref(), to, from)
}

/// Whoever talks to the agent, and our number.
fn parties(form: &Form) -> (&str, &str) {
    let (caller, ours) = Direction::of(form).ends();
    let field = |name| form.get(name).unwrap_or_default();
    (field(caller), field(ours))
}

/// What a caller meets whose agent has failed, by the call's route.
pub(super) fn fallback(front: &Front, form: &Form) -> String {
    let fallback = &terms(front, form).fallback;
    let (from, to) = parties(form);
    met(fallback, from, to)
}

/// What a caller meets in place of an agent.
pub(super) fn met(fallback: &Fallback, from: &str, to: &str) -> String {
    match fallback {
        Fallback::Say(text) => twiml::say_and_hang_up(text),
        Fallback::Dial(number) => twiml::dial(number, caller_id(from, to)),
        Fallback::HangUp => twiml::hang_up(),
    }
}

/// What a callee sees of a caller who has no number to be shown: the one that they have called. A number that
/// is withheld may come as one that nobody has, the word spelt on a telephone's keys.
pub(super) fn caller_id<'a>(from: &str, to: &'a str) -> Option<&'a str> {
    match Caller::of(from) {
        Caller::Withheld => twiml::caller_id("", to),
        Caller::Known(_) => twiml::caller_id(from, to),
    }
}

/// TwiML. The connection ends with it: a proxy that kept it for later could lose the next webhook,
/// which is the next caller, to our closing it for idleness at that very moment.
pub(super) fn xml(document: String) -> Response<Body> {
    let mut response = respond(StatusCode::OK, "text/xml", document);
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
