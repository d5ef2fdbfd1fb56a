//! Twilio's REST API, as much of it as a bridge needs: ending a call, giving it other TwiML, sending a
//! [`message`], and a look at the [`account`].
//!
//! A [`Rest`] is cheap to clone and shares its connections. Every wait is bounded: 2 s to connect,
//! 3 s for an exchange, and the caller's own deadline over all attempts. What may pass (429, 5xx, a
//! lost connection) is tried again after a jittered pause, as far as it may be done twice
//! ([`Operation`]). No proxy, no redirect: the auth token goes to the configured host or nowhere, and
//! in the clear to a loopback address only.
//!
//! Nothing is logged here, and no error holds the token, a number, the words of a message or anything
//! the server wrote but its error code.

pub mod account;
pub mod message;

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use reqwest::{
    Client, Response, StatusCode, Url,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
    redirect,
};
use ring::rand::{SecureRandom, SystemRandom};
use serde::Deserialize;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{CallSid, is_sid};
use crate::config::Secret;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(2);
/// An error document has some 200 bytes, a call's resource 2 kB.
const MAX_BODY: usize = 64 * 1024;

/// One account's access to the REST API.
#[derive(Clone)]
pub struct Rest {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    /// `{api_url}/2010-04-01/Accounts/{AC}`
    account_url: String,
    host: String,
}

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rest({})", self.inner.host)
    }
}

/// What is asked of Twilio, and so what a second request for the same would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Ending a call twice is ending it once: one that is already over counts as ended.
    Complete,
    /// Other TwiML a second time begins it anew: keys would be sounded twice, a telephone that rings or
    /// is spoken on would be left and called again. So it is asked for again only when Twilio has turned
    /// the first request away or failed at it. Where the answer was lost, the caller of this can do
    /// better: close the media stream. If Twilio has acted, that stream is over anyway; if not, its end
    /// makes Twilio ask `/voice/after`, where the same TwiML is waiting.
    Redirect,
    /// Somebody would read it twice, and pay twice: only when Twilio has not looked at the first.
    Message,
}

impl Operation {
    /// Whether it may be asked for again after an attempt that left such doubt.
    fn bears(self, doubt: Doubt) -> bool {
        match self {
            Operation::Complete => true,
            Operation::Redirect => doubt <= Doubt::Little,
            Operation::Message => doubt == Doubt::None,
        }
    }

    /// How to mend a refusal, as far as its code tells.
    fn mend(self, code: TwilioCode) -> &'static str {
        match self {
            Operation::Complete | Operation::Redirect => {
                "check that [twilio] account_sid owns the call and api_url is Twilio's"
            }
            Operation::Message => message::mend(code),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Complete => "end the call",
            Operation::Redirect => "redirect the call",
            Operation::Message => "send the message",
        })
    }
}

/// Whether an attempt that failed may have had its effect all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Doubt {
    /// The request never left, or Twilio turned it away unread (429).
    None,
    /// Twilio says that it failed.
    Little,
    /// There is no answer, or that of a gateway that had none.
    Much,
}

/// How a call came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completed {
    /// Twilio has ended it now.
    Ended,
    /// There was nothing left to end.
    AlreadyOver,
}

/// What became of a call that was to get other TwiML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Updated {
    /// Twilio runs it; the media stream ends by that.
    Redirected,
    /// There is nobody left to run it for.
    AlreadyOver,
}

/// Twilio's own error code, when its answer had one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TwilioCode(pub Option<u32>);

impl fmt::Display for TwilioCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(code) => write!(f, "error {code}"),
            None => f.write_str("no error code"),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum RestError {
    #[error(
        "[twilio] api_url is not usable ({0}): give https://host, or http:// with a loopback address"
    )]
    ApiUrl(&'static str),
    #[error("[twilio] account_sid is not AC followed by 32 hexadecimal digits")]
    AccountSid,
    #[error("the http client for twilio cannot be set up: {0}")]
    Client(String),
    #[error(
        "twilio does not accept the credentials ({code}): set twilio_auth_token in the credentials \
         to the primary auth token of [twilio] account_sid"
    )]
    Auth { code: TwilioCode },
    #[error("twilio refused to {operation} with status {status} ({code}): {}", operation.mend(*code))]
    Refused {
        operation: Operation,
        status: u16,
        code: TwilioCode,
    },
    #[error("twilio was not able to {operation} in time, last with status {status} ({code})")]
    Busy {
        operation: Operation,
        status: u16,
        code: TwilioCode,
    },
    #[error(
        "twilio's REST API at {host} was not reachable in time ({why}): check [twilio] api_url and the network"
    )]
    Unreachable {
        host: String,
        why: String,
        /// The request may have arrived, and what it asked for may have been done.
        perhaps_done: bool,
    },
}

impl Rest {
    /// `tls` may be absent for an `http://` loopback address only.
    pub fn new(
        api_url: &str,
        account_sid: &str,
        auth_token: &Secret,
        tls: Option<rustls::ClientConfig>,
    ) -> Result<Rest, RestError> {
        let url = Url::parse(api_url).map_err(|_| RestError::ApiUrl("it is no URL"))?;
        let host = url.host_str().ok_or(RestError::ApiUrl("it has no host"))?;
        let tls = match (url.scheme(), tls) {
            ("https", None) => return Err(RestError::ApiUrl("https without a TLS setup")),
            ("http", _) if !is_loopback(host) => {
                return Err(RestError::ApiUrl(
                    "the auth token would travel in the clear",
                ));
            }
            ("https" | "http", tls) => tls,
            _ => return Err(RestError::ApiUrl("its scheme is neither https nor http")),
        };
        let user = !url.username().is_empty() || url.password().is_some();
        if url.query().is_some() || url.fragment().is_some() || user {
            return Err(RestError::ApiUrl("it has a query, a fragment or a user"));
        }
        // It becomes part of a path.
        if !is_sid(account_sid, "AC") {
            return Err(RestError::AccountSid);
        }

        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, basic_auth(account_sid, auth_token)?);
        let client = Client::builder()
            .default_headers(headers)
            .tls_backend_preconfigured(match tls {
                Some(tls) => tls,
                None => no_tls()?,
            })
            .http1_only()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(4)
            .build()
            .map_err(|error| RestError::Client(innermost(&error.without_url())))?;

        let base = url.as_str().trim_end_matches('/');
        let inner = Inner {
            client,
            account_url: format!("{base}/2010-04-01/Accounts/{account_sid}"),
            host: host.to_owned(),
        };
        Ok(Rest {
            inner: Arc::new(inner),
        })
    }

    /// Hangs up. Comes back within `within`, whatever Twilio does.
    pub async fn complete_call(
        &self,
        call: &CallSid,
        within: Duration,
    ) -> Result<Completed, RestError> {
        let path = format!("/Calls/{call}.json");
        let form = [("Status", "completed")];
        match self.ask(Operation::Complete, &path, &form, within).await {
            Ok(_) => Ok(Completed::Ended),
            Err(error) if error.call_is_over() => Ok(Completed::AlreadyOver),
            Err(error) => Err(error),
        }
    }

    /// Has Twilio leave what it does for this call and run this TwiML, of at most
    /// [4000 characters](super::twiml::MAX_REST). Comes back within `within`. After an error it may have
    /// been done all the same; see [`Operation::Redirect`] for what to do then.
    pub async fn update_call(
        &self,
        call: &CallSid,
        twiml: &str,
        within: Duration,
    ) -> Result<Updated, RestError> {
        let path = format!("/Calls/{call}.json");
        let form = [("Twiml", twiml)];
        match self.ask(Operation::Redirect, &path, &form, within).await {
            Ok(_) => Ok(Updated::Redirected),
            Err(error) if error.call_is_over() => Ok(Updated::AlreadyOver),
            Err(error) => Err(error),
        }
    }

    /// POSTs a form to `{account}{path}`, again and again as far as the operation may be repeated.
    /// Returns the body of a good answer, as far as it could be read.
    async fn ask(
        &self,
        operation: Operation,
        path: &str,
        form: &[(&str, &str)],
        within: Duration,
    ) -> Result<Vec<u8>, RestError> {
        let deadline = Instant::now() + within;
        let mut backoff = FIRST_BACKOFF;
        let unanswered = || self.unreachable("no answer".to_owned(), true);
        // What the last attempt met; none has ended yet.
        let mut last = unanswered();
        loop {
            match timeout_at(deadline, self.attempt(operation, path, form)).await {
                Ok(Ok(Attempt::Done(body))) => return Ok(body),
                Ok(Ok(Attempt::Failed(doubt, error))) if operation.bears(doubt) => last = error,
                Ok(Ok(Attempt::Failed(_, error)) | Err(error)) => return Err(error),
                // This attempt may have got through, whatever the one before it met.
                Err(_) if !operation.bears(Doubt::Much) => return Err(unanswered()),
                Err(_) => return Err(last),
            }
            let pause_ends = Instant::now() + jittered(backoff);
            // An answer that comes after the deadline helps nobody: say now what was wrong.
            if pause_ends >= deadline {
                return Err(last);
            }
            sleep_until(pause_ends).await;
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
    }

    async fn attempt(
        &self,
        operation: Operation,
        path: &str,
        form: &[(&str, &str)],
    ) -> Result<Attempt, RestError> {
        let url = format!("{}{path}", self.inner.account_url);
        let request = self.inner.client.post(url).form(form);
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => {
                let doubt = match error.is_connect() {
                    true => Doubt::None,
                    false => Doubt::Much,
                };
                let why = innermost(&error.without_url());
                let error = self.unreachable(why, doubt == Doubt::Much);
                return Ok(Attempt::Failed(doubt, error));
            }
        };
        let status = response.status();
        // Read in any case: only a connection that has been read empty is used again.
        let body = body(response).await;
        if status.is_success() {
            return Ok(Attempt::Done(body));
        }
        let code = code_in(&body);
        let status_code = status.as_u16();
        let busy = |doubt| {
            let error = RestError::Busy {
                operation,
                status: status_code,
                code,
            };
            Ok(Attempt::Failed(doubt, error))
        };
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(RestError::Auth { code }),
            StatusCode::TOO_MANY_REQUESTS => busy(Doubt::None),
            StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => busy(Doubt::Much),
            status if status.is_server_error() => busy(Doubt::Little),
            _ => Err(RestError::Refused {
                operation,
                status: status_code,
                code,
            }),
        }
    }

    fn unreachable(&self, why: String, perhaps_done: bool) -> RestError {
        RestError::Unreachable {
            host: self.inner.host.clone(),
            why,
            perhaps_done,
        }
    }
}

/// How one attempt went, when it was not refused for good.
enum Attempt {
    Done(Vec<u8>),
    Failed(Doubt, RestError),
}

impl RestError {
    /// Both have been seen for a call that is over.
    fn call_is_over(&self) -> bool {
        let RestError::Refused { status, code, .. } = self else {
            return false;
        };
        matches!((status, code.0), (404, Some(20404)) | (400, Some(21220)))
    }
}

/// What there is of a body; nothing of one that is too long.
async fn body(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        if body.len() + chunk.len() > MAX_BODY {
            return Vec::new();
        }
        body.extend_from_slice(&chunk);
    }
    body
}

async fn error_code(response: Response) -> TwilioCode {
    code_in(&body(response).await)
}

/// Twilio's error document has a numeric `code`; of anything else there is none.
fn code_in(body: &[u8]) -> TwilioCode {
    #[derive(Deserialize)]
    struct ErrorDocument {
        code: Option<u32>,
    }

    let document = serde_json::from_slice::<ErrorDocument>(body);
    TwilioCode(document.ok().and_then(|document| document.code))
}

fn basic_auth(account_sid: &str, auth_token: &Secret) -> Result<HeaderValue, RestError> {
    let pair = format!("{account_sid}:{}", auth_token.expose());
    let value = format!("Basic {}", base64_simd::STANDARD.encode_to_string(pair));
    let mut value = HeaderValue::from_str(&value).map_err(|_| {
        RestError::Client("the credentials do not fit into an Authorization header".into())
    })?;
    // Kept out of every Debug below us.
    value.set_sensitive(true);
    Ok(value)
}

/// A TLS setup that trusts nobody. Without one, reqwest would look for the machine's certificates
/// and for a process-wide crypto provider, and a plain loopback connection needs neither.
pub(crate) fn no_tls() -> Result<rustls::ClientConfig, RestError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| RestError::Client(error.to_string()))?;
    Ok(config
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth())
}

pub(crate) fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// The cause at the bottom; what is above it is the HTTP client talking about itself.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Half to all of `backoff`: calls that failed together shall not come back together.
fn jittered(backoff: Duration) -> Duration {
    let mut random = [0; 2];
    let random = match SystemRandom::new().fill(&mut random) {
        Ok(()) => u16::from_be_bytes(random),
        // Without randomness the calls do come back together, but they come back.
        Err(_) => u16::MAX,
    };
    let half = backoff / 2;
    half + half.mul_f64(f64::from(random) / f64::from(u16::MAX))
}

#[cfg(test)]
mod tests;
