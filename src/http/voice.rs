//! Twilio's webhooks: a call comes in, a stream has ended, a call or a stream changes state.
//!
//! Nothing is answered before the signature has been checked against `public_url`, and a refusal
//! says nothing but 403. Both POST with a form and GET with a query are taken, as a number may be
//! set to either.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use tracing::{debug, info, warn};

use super::{
    Front,
    listener::{self, Body, BodyError, FORM_DEADLINE, FORM_LIMIT, method_not_allowed, respond},
    router,
};
use crate::{
    config::Fallback,
    printable::Printable,
    session::registry::{After, Refused},
    twilio::{
        CallSid,
        signature::{SignatureHeaders, is_form},
        twiml,
        webhook::{CallRequest, Form},
    },
};

/// A call comes in: a place for it, and the way to the media socket.
pub async fn incoming(front: &Front, request: Request<Incoming>) -> Response<Body> {
    let form = match signed_form(front, request).await {
        Ok(form) => form,
        Err(refusal) => return refusal,
    };
    let call = match CallRequest::from_form(&form) {
        Ok(call) => call,
        Err(error) => {
            warn!(%error, "a signed webhook without a usable call");
            return respond(
                StatusCode::BAD_REQUEST,
                "text/plain",
                "not a voice webhook\n",
            );
        }
    };
    match front.registry.admit(call.call_sid, Instant::now()) {
        Ok(()) => {}
        Err(Refused::Draining) => {
            // Not 200: the number's fallback, or another instance, is to take the call.
            info!(
                CALL_SID = call.call_sid.as_str(),
                "call refused while draining"
            );
            return respond(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "draining\n");
        }
        Err(Refused::Full) => {
            warn!(
                CALL_SID = call.call_sid.as_str(),
                "call refused, calls.max_concurrent is reached"
            );
            return xml(twiml::reject_busy());
        }
    }
    let public = &front.config.public_url;
    let expires = unix_now() + front.registry.admission_lifetime().as_secs();
    let token = front
        .minter
        .mint(&call.call_sid, &call.from, &call.to, expires);
    let greeting = &front.config.calls.greeting;
    let answer = twiml::ConnectStream {
        say: (!greeting.is_empty()).then_some(greeting.as_str()),
        action: &public.http(router::AFTER),
        stream_url: &public.ws(router::MEDIA),
        status_callback: &public.http(router::STREAM),
        parameters: &[("token", &token), ("from", &call.from), ("to", &call.to)],
    }
    .to_xml();
    match answer {
        Ok(answer) => xml(answer),
        Err(error) => {
            // Only a caller's id of monstrous length can bring this about.
            warn!(CALL_SID = call.call_sid.as_str(), %error, "no TwiML for this call");
            front.registry.forget_admitted(&call.call_sid);
            xml(fallback(front))
        }
    }
}

/// The media stream is over: what does the caller meet next?
pub async fn after(front: &Front, request: Request<Incoming>) -> Response<Body> {
    let form = match signed_form(front, request).await {
        Ok(form) => form,
        Err(refusal) => return refusal,
    };
    let call = form
        .get("CallSid")
        .and_then(|sid| sid.parse::<CallSid>().ok());
    let over = form
        .get("CallStatus")
        .is_some_and(|status| status == "completed");
    if let Some(call) = &call {
        front.registry.forget_admitted(call);
    }
    // A call that this process does not know has lost its stream to a crash, a restart or a failed
    // handshake: its caller is owed the fallback, not a dead line.
    match call.and_then(|call| front.registry.after(&call)) {
        Some(After::HangUp) => xml(twiml::hang_up()),
        _ if over => xml(twiml::empty()),
        Some(After::Fallback) | None => xml(fallback(front)),
    }
}

/// Call progress.
pub async fn status(front: &Front, request: Request<Incoming>) -> Response<Body> {
    let form = match signed_form(front, request).await {
        Ok(form) => form,
        Err(refusal) => return refusal,
    };
    const OVER: [&str; 5] = ["completed", "busy", "no-answer", "failed", "canceled"];
    if let Some(call) = form
        .get("CallSid")
        .and_then(|sid| sid.parse::<CallSid>().ok())
        && form
            .get("CallStatus")
            .is_some_and(|status| OVER.contains(&status))
    {
        front.registry.forget_admitted(&call);
    }
    xml(twiml::empty())
}

/// What Twilio says about the media stream.
pub async fn stream(front: &Front, request: Request<Incoming>) -> Response<Body> {
    let form = match signed_form(front, request).await {
        Ok(form) => form,
        Err(refusal) => return refusal,
    };
    let call = form.get("CallSid").unwrap_or_default();
    match form.get("StreamEvent") {
        Some("stream-error") => {
            let error = form.get("StreamError").unwrap_or_default();
            warn!(CALL_SID = %Printable(call), error = %Printable(error), "Twilio reports a stream error");
        }
        event => {
            debug!(CALL_SID = %Printable(call), event = %Printable(event.unwrap_or_default()), "stream event")
        }
    }
    xml(twiml::empty())
}

/// The form of a request that is really Twilio's, or the refusal to send.
async fn signed_form(
    front: &Front,
    mut request: Request<Incoming>,
) -> Result<Form, Response<Body>> {
    let path_and_query = request
        .uri()
        .path_and_query()
        .map_or("/", |both| both.as_str())
        .to_owned();
    let (form, signed) = match *request.method() {
        Method::GET => {
            let query = request.uri().query().unwrap_or_default();
            (Form::parse(query.as_bytes()), false)
        }
        Method::POST => {
            if !content_type(request.headers()).is_some_and(is_form) {
                return Err(respond(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    "text/plain",
                    "application/x-www-form-urlencoded, please\n",
                ));
            }
            let body = listener::read_form_body(&mut request, FORM_LIMIT, FORM_DEADLINE)
                .await
                .map_err(BodyError::response)?;
            (Form::parse(&body), true)
        }
        _ => return Err(method_not_allowed("GET, POST")),
    };
    let form = form.map_err(|_| respond(StatusCode::BAD_REQUEST, "text/plain", "not a form\n"))?;
    if front.config.twilio.validate_signatures {
        let params = signed.then(|| form.pairs());
        let headers = signature_headers(request.headers());
        let public = &front.config.public_url;
        if !front
            .verifier
            .verify_request(public, &path_and_query, params, headers)
        {
            warn!(target: "audit", path = %Printable(request.uri().path()), "webhook refused: signature");
            return Err(forbidden());
        }
    }
    Ok(form)
}

/// Twilio's signature headers, as far as they are text.
pub fn signature_headers(headers: &HeaderMap) -> SignatureHeaders<'_> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    SignatureHeaders {
        signature: text("x-twilio-signature"),
        settings: text("x-twilio-webhooks-signature-settings"),
    }
}

/// 403 and no detail.
pub fn forbidden() -> Response<Body> {
    respond(StatusCode::FORBIDDEN, "text/plain", "")
}

fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
}

fn fallback(front: &Front) -> String {
    match &front.config.calls.fallback {
        Fallback::Say(text) => twiml::say_and_hang_up(text),
        Fallback::Dial(number) => twiml::dial(number),
        Fallback::HangUp => twiml::hang_up(),
    }
}

/// TwiML. The connection ends with it: a proxy that kept it for later could lose the next webhook,
/// which is the next caller, to our closing it for idleness at that very moment.
fn xml(document: String) -> Response<Body> {
    let mut response = respond(StatusCode::OK, "text/xml", document);
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Seconds since 1970; a clock before that counts as 1970.
pub fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
