//! Is it really Twilio? The one gate through which every webhook passes.
//!
//! The signature is checked over the request as it came, against `public_url`; a refusal says 403
//! and nothing else. Reading is bounded in size and time before that, and an address that keeps
//! sending what Twilio has not signed is answered 429 (see [`unsigned`](super::unsigned)).

use std::time::{Duration, Instant};

use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER},
};

use super::{
    Front,
    listener::{self, Body, FORM_DEADLINE, FORM_LIMIT, Peer, method_not_allowed, respond},
    stranger::{Stranger, refuse},
    unsigned::{Charged, Source},
};
use crate::{
    metrics::labels::Endpoint,
    printable::Printable,
    twilio::{
        signature::{SignatureHeaders, is_form},
        webhook::Form,
    },
};

/// The form of a request that is really Twilio's, or the refusal to send. What it came to is for the
/// counters only.
pub async fn signed_form(
    front: &Front,
    endpoint: Endpoint,
    mut request: Request<Incoming>,
    peer: Peer,
) -> Result<Form, Response<Body>> {
    let stranger = Stranger::of(&request, peer);
    if let Some(refusal) = turned_back_unread(front, endpoint, request.headers(), peer) {
        return Err(refusal);
    }
    let read = read_form(&mut request).await;
    if !front.config.twilio.validate_signatures {
        return read.map(|(form, _)| form).map_err(|refusal| refusal.answer);
    }
    let path = Printable(request.uri().path());
    // What cannot even be read is nothing that Twilio has sent.
    let (form, signed) = match read {
        Ok(read) => read,
        Err(Unreadable { why, answer }) => {
            return Err(match charged(front, endpoint, stranger) {
                Ok(news) => {
                    if news && let Some(why) = why {
                        refuse!(info, stranger, %path, why, "webhook refused: not a form");
                    }
                    answer
                }
                Err(wait) => too_many(wait),
            });
        }
    };
    let path_and_query = request
        .uri()
        .path_and_query()
        .map_or("/", |both| both.as_str());
    let params = signed.then(|| form.pairs());
    let headers = signature_headers(request.headers());
    let public = &front.config.public_url;
    if front
        .verifier
        .verify_request(public, path_and_query, params, headers)
    {
        return Ok(form);
    }
    front.metrics.signature_failures.of(endpoint).inc();
    match charged(front, endpoint, stranger) {
        Ok(true) => refuse!(warn, stranger, %path, "webhook refused: signature"),
        Ok(false) => {}
        Err(wait) => return Err(too_many(wait)),
    }
    Err(forbidden())
}

/// A request without a form.
struct Unreadable {
    /// For the log; `None` where the method says it all.
    why: Option<String>,
    answer: Response<Body>,
}

/// The form of a POST's body or a GET's query, and whether the fields are part of what is signed.
async fn read_form(request: &mut Request<Incoming>) -> Result<(Form, bool), Unreadable> {
    let unreadable = |why, answer| Unreadable {
        why: Some(why),
        answer,
    };
    let (form, signed) = match *request.method() {
        Method::GET => {
            let query = request.uri().query().unwrap_or_default();
            (Form::parse(query.as_bytes()), false)
        }
        Method::POST => {
            if !content_type(request.headers()).is_some_and(is_form) {
                let answer = respond(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    "text/plain",
                    "application/x-www-form-urlencoded, please\n",
                );
                return Err(unreadable("content type".into(), answer));
            }
            let body = listener::read_form_body(request, FORM_LIMIT, FORM_DEADLINE)
                .await
                .map_err(|error| unreadable(error.to_string(), error.response()))?;
            (Form::parse(&body), true)
        }
        _ => {
            return Err(Unreadable {
                why: None,
                answer: method_not_allowed("GET, POST"),
            });
        }
    };
    let form = form.map_err(|_| {
        let answer = respond(StatusCode::BAD_REQUEST, "text/plain", "not a form\n");
        unreadable("encoding".into(), answer)
    })?;
    Ok((form, signed))
}

/// 429, before anything is read or computed: the address has spent its budget, and this request has
/// nothing in it that could be Twilio's signature. What could be one is always looked at, or a
/// stranger behind Twilio's proxy could have Twilio turned away.
pub fn turned_back_unread(
    front: &Front,
    endpoint: Endpoint,
    headers: &HeaderMap,
    peer: Peer,
) -> Option<Response<Body>> {
    if !front.config.twilio.validate_signatures || could_be_signed(headers) {
        return None;
    }
    let (source, rate) = (
        Source::of(peer.addr.ip()),
        front.config.listen.unsigned_rate,
    );
    let wait = front.unsigned.spent(source, rate, Instant::now())?;
    front.metrics.requests_limited.of(endpoint).inc();
    Some(too_many(wait))
}

/// Charges an address for a request that was not Twilio's. If it had spent its budget before, how
/// long it is to wait ([`too_many`]); otherwise whether this one is worth a line in the audit log,
/// which is not to be filled by one stranger. All are counted.
pub fn charged(front: &Front, endpoint: Endpoint, stranger: Stranger) -> Result<bool, Duration> {
    let (source, rate) = (
        Source::of(stranger.peer.ip()),
        front.config.listen.unsigned_rate,
    );
    match front.unsigned.charge(source, rate, Instant::now()) {
        Charged::Within => Ok(true),
        Charged::Exhausted => {
            refuse!(
                warn,
                stranger,
                "too many requests that Twilio has not signed: what is above listen.unsigned_rate \
                 is answered 429, and nothing more of it is logged until it has ceased"
            );
            Ok(true)
        }
        Charged::Known => Ok(false),
        Charged::Spent(wait) => {
            front.metrics.requests_limited.of(endpoint).inc();
            Err(wait)
        }
    }
}

/// Base64 of an HMAC with SHA-1 or SHA-256. Anything else is refused by the check, too.
fn could_be_signed(headers: &HeaderMap) -> bool {
    signature_headers(headers).signature.is_some_and(|text| {
        let base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
        matches!(text.len(), 28 | 44) && text.bytes().all(base64)
    })
}

/// The connection ends with it: its rest is nothing we want to read.
pub fn too_many(wait: Duration) -> Response<Body> {
    let mut response = respond(StatusCode::TOO_MANY_REQUESTS, "text/plain", "");
    let seconds = wait.as_millis().div_ceil(1000).max(1);
    let headers = response.headers_mut();
    headers.insert(RETRY_AFTER, HeaderValue::from(seconds as u64));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
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
