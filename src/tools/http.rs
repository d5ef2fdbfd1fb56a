//! Tools that are requests to an operator's own service.
//!
//! One request, or two for a tool that may be tried again; all within the tool's time. It is a failure
//! that is tried again, and never slowness: who needs most of the time is given all of it, and is not
//! asked for the same work twice. No proxy, no redirect, no cookie: what is asked goes to the configured
//! URL or nowhere, and in the clear to a loopback address only. Secrets stand in headers that no `Debug`
//! prints. No more of an answer is read than the tool may say. Nothing is logged here, and a [`Failure`]
//! holds a word of ours and, where the service gave one, a sentence for the agent.

use std::{collections::BTreeMap, time::Duration};

use reqwest::{
    Client, RequestBuilder, Response, StatusCode, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
    redirect,
};
use ring::digest;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{
    request,
    run::{Failure, SetupError, TIMEOUT},
    sign::{self, SIGNATURE, TIMESTAMP},
};
use crate::{
    config::{self, HttpTool, Method, Secret},
    twilio::{CallSid, rest},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Before a second attempt, so that a service which restarts has a moment; at most a tenth of the time
/// that is left.
const PAUSE: Duration = Duration::from_millis(200);
/// An error document is short, or it is not ours to read.
const MAX_ERROR_BODY: usize = 16 * 1024;
/// For that document, and at most half of the time that is left: the status is known by then, and is not
/// to be lost over words that do not come.
const ERROR_BODY: Duration = Duration::from_secs(1);

/// The client of all tools under one config; they share its connections.
///
/// `tls` may be absent where no tool asks by `https://`.
pub fn client(tls: Option<rustls::ClientConfig>) -> Result<Client, SetupError> {
    let tls = match tls {
        Some(tls) => tls,
        None => rest::no_tls().map_err(|error| SetupError::Client(error.to_string()))?,
    };
    Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(concat!("hume-bridge/", env!("CARGO_PKG_VERSION")))
        .http1_only()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(Duration::from_secs(30))
        .pool_max_idle_per_host(4)
        .build()
        .map_err(|error| SetupError::Client(error.without_url().to_string()))
}

/// One tool, ready to be asked.
pub struct Service {
    client: Client,
    method: Method,
    url: Url,
    headers: HeaderMap,
    key: Option<Secret>,
    idempotent: bool,
    max_output: usize,
}

/// What an attempt met that did not do.
struct Met {
    failure: Failure,
    /// It may pass.
    again: bool,
}

impl Service {
    pub fn new(
        client: &Client,
        tool: &config::Tool,
        http: &HttpTool,
        named: &BTreeMap<String, Secret>,
    ) -> Result<Service, SetupError> {
        let url = Url::parse(&http.url).map_err(|_| SetupError::Url(tool.name.clone()))?;
        let safe = match url.scheme() {
            "https" => true,
            "http" => url.host_str().is_some_and(rest::is_loopback),
            _ => false,
        };
        if !safe {
            return Err(SetupError::Url(tool.name.clone()));
        }
        let missing = |name: &str| SetupError::NoCredential {
            tool: tool.name.clone(),
            credential: name.to_owned(),
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &http.headers {
            let wrong = || SetupError::Header {
                tool: tool.name.clone(),
                header: name.clone(),
            };
            let filled = value.filled(named).map_err(missing)?;
            let mut value = HeaderValue::from_str(filled.expose()).map_err(|_| wrong())?;
            // Also those without a credential: whatever an operator put there is nobody's to see.
            value.set_sensitive(true);
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
            headers.insert(name, value);
        }
        let sign_with = http.sign_with.as_deref();
        let key = sign_with
            .map(|name| named.get(name).ok_or_else(|| missing(name)))
            .transpose()?;
        Ok(Service {
            client: client.clone(),
            method: http.method,
            url,
            headers,
            key: key.cloned(),
            idempotent: http.idempotent,
            max_output: tool.max_output,
        })
    }

    /// Asks, and comes back by `deadline` or a moment after it.
    ///
    /// `question` is the body; a GET has none.
    pub async fn ask(
        &self,
        call: &CallSid,
        call_id: &str,
        question: Vec<u8>,
        deadline: Instant,
    ) -> Result<String, Failure> {
        let once = idempotency_key(call, call_id);
        let attempt = |question| timeout_at(deadline, self.attempt(&once, question, deadline));
        let twice = self.idempotent.then(|| question.clone());
        let first = attempt(question).await;
        let done = match (first, twice) {
            (Ok(Err(met)), Some(question)) if met.again => {
                let left = deadline.saturating_duration_since(Instant::now());
                sleep(PAUSE.min(left / 10)).await;
                attempt(question).await
            }
            (first, _) => first,
        };
        match done {
            Ok(done) => done.map_err(|met| met.failure),
            Err(_) => Err(Failure::word(TIMEOUT)),
        }
    }

    async fn attempt(
        &self,
        once: &str,
        question: Vec<u8>,
        deadline: Instant,
    ) -> Result<String, Met> {
        let response = self.request(once, question).send().await;
        // Whether or not it has arrived: only what may be done twice is tried again.
        let response = response.map_err(|error| Met::passing(unreachable(error)))?;
        let status = response.status();
        if status.is_success() {
            let body = body(response, self.max_output).await?;
            return request::answer(&body).ok_or_else(|| Met::lasting(Failure::word("not-text")));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let said = match timeout(ERROR_BODY.min(left / 2), body(response, MAX_ERROR_BODY)).await {
            Ok(Ok(body)) => request::error(&body),
            Ok(Err(_)) | Err(_) => None,
        };
        let failure = Failure {
            said,
            ..Failure::because("status", status.as_u16().to_string())
        };
        Err(Met {
            failure,
            again: status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS,
        })
    }

    fn request(&self, once: &str, question: Vec<u8>) -> RequestBuilder {
        let method = match self.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
        };
        let body = match self.method {
            Method::Get => Vec::new(),
            Method::Post | Method::Put => question,
        };
        let ours = |value: &str| HeaderValue::from_str(value).expect("it is ASCII and printable");
        let mut headers = self.headers.clone();
        // The operator's own stand, but for the signature.
        headers.entry("idempotency-key").or_insert(ours(once));
        if let Some(key) = &self.key {
            let now = jiff::Timestamp::now().as_second().unsigned_abs();
            let signature = sign::sign(key, now, &body);
            headers.insert(TIMESTAMP, ours(&now.to_string()));
            headers.insert(SIGNATURE, ours(&format!("v1={signature}")));
        }
        let request = self.client.request(method, self.url.clone());
        match self.method {
            Method::Get => request.headers(headers),
            Method::Post | Method::Put => {
                let kind = HeaderValue::from_static("application/json");
                headers.entry(CONTENT_TYPE).or_insert(kind);
                request.headers(headers).body(body)
            }
        }
    }
}

impl Met {
    fn passing(failure: Failure) -> Met {
        Met {
            failure,
            again: true,
        }
    }

    fn lasting(failure: Failure) -> Met {
        Met {
            failure,
            again: false,
        }
    }
}

/// The innermost cause is the one that an operator can do something about. No address is in it.
fn unreachable(error: reqwest::Error) -> Failure {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    Failure::because("unreachable", cause.to_string())
}

async fn body(mut response: Response, most: usize) -> Result<Vec<u8>, Met> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > most => {
                return Err(Met::lasting(Failure::word("too-large")));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) => return Err(Met::passing(unreachable(error))),
        }
    }
}

/// The same for both attempts, and for no other call of a tool. The agent's own id could hold anything,
/// so it goes as a hash.
fn idempotency_key(call: &CallSid, call_id: &str) -> String {
    let hash = digest::digest(&digest::SHA256, call_id.as_bytes());
    format!("{call}-{}", sign::hex(&hash.as_ref()[..16]))
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
