//! Is it really Twilio? The one gate through which every webhook passes.
//!
//! The signature is checked over the request as it came, against `public_url`; a refusal says 403
//! and nothing else. Reading is bounded in size and time before that.

use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderMap},
};

use super::{
    Front,
    listener::{self, Body, BodyError, FORM_DEADLINE, FORM_LIMIT, method_not_allowed, respond},
    stranger::{Stranger, refuse},
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
) -> Result<Form, Response<Body>> {
    let path_and_query = request
        .uri()
        .path_and_query()
        .map_or("/", |both| both.as_str())
        .to_owned();
    let stranger = Stranger::of(&request);
    let path = request.uri().path().to_owned();
    let unreadable = |why: &dyn std::fmt::Display| {
        refuse!(info, stranger, path = %Printable(&path), %why, "webhook refused: not a form");
    };
    let (form, signed) = match *request.method() {
        Method::GET => {
            let query = request.uri().query().unwrap_or_default();
            (Form::parse(query.as_bytes()), false)
        }
        Method::POST => {
            if !content_type(request.headers()).is_some_and(is_form) {
                unreadable(&"content type");
                return Err(respond(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    "text/plain",
                    "application/x-www-form-urlencoded, please\n",
                ));
            }
            let body = listener::read_form_body(&mut request, FORM_LIMIT, FORM_DEADLINE)
                .await
                .inspect_err(|error| unreadable(error))
                .map_err(BodyError::response)?;
            (Form::parse(&body), true)
        }
        _ => return Err(method_not_allowed("GET, POST")),
    };
    let form = form.map_err(|_| {
        unreadable(&"encoding");
        respond(StatusCode::BAD_REQUEST, "text/plain", "not a form\n")
    })?;
    if front.config.twilio.validate_signatures {
        let params = signed.then(|| form.pairs());
        let headers = signature_headers(request.headers());
        let public = &front.config.public_url;
        if !front
            .verifier
            .verify_request(public, &path_and_query, params, headers)
        {
            refuse!(warn, stranger, path = %Printable(&path), "webhook refused: signature");
            front.metrics.signature_failures.of(endpoint).inc();
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
