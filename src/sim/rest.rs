//! Twilio's REST API, as much of it as a bridge needs: calls ([`calls`]), messages ([`messages`]) and the
//! account ([`account`]).
//!
//! Strict about what it is sent: what Twilio would refuse is refused with Twilio's status and error JSON, and
//! recorded as a [`Violation`] unless the bridge could not know better; so is what Twilio would take and a
//! bridge should not send. It ends calls of the [`Switchboard`] that it shares with the telephones, and leads
//! them elsewhere. Faults are played one a request, in order; then it is
//! well again. It listens on loopback, without TLS, and stops when its handle is dropped.

pub mod account;
mod calls;
mod messages;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use self::account::Account;
pub use self::messages::{Message, Sms};
use super::phone::{Switchboard, Violation, sid};

const LARGEST_FORM: usize = 64 * 1024;
/// Longer than any sensible client waits, and still an end.
const STALL: Duration = Duration::from_secs(120);

/// How the API misbehaves.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RestScript {
    /// Consumed by the requests in their order.
    pub fail: VecDeque<Failure>,
    /// What the end of a call that has ended is answered with; both have been seen in the field.
    pub ended: EndedAnswer,
    /// What the account is, and what it owns.
    pub account: Account,
    pub sms: Sms,
    /// Twilio's clock, as many seconds before ours.
    pub behind: i64,
}

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// Nothing: the request is served. For failures further on.
    Ok,
    #[serde(rename = "429")]
    TooManyRequests,
    #[serde(rename = "500")]
    InternalError,
    #[serde(rename = "503")]
    Unavailable,
    /// 401, as if the auth token had been rotated.
    Auth,
    /// As if the call were over, though its stream is still there.
    #[serde(rename = "404/20404")]
    NotFound,
    /// The same in the other form that has been seen.
    #[serde(rename = "400/21220")]
    NotInProgress,
    /// The request is taken and never answered.
    Stall,
    /// The request is carried out and the connection is cut before the answer.
    Cut,
    /// The answer of a proxy in between: HTML where JSON belongs.
    Html,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum EndedAnswer {
    #[default]
    #[serde(rename = "404/20404")]
    NotFound,
    #[serde(rename = "400/21220")]
    NotInProgress,
}

/// A request as it was served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestRequest {
    pub method: String,
    pub path: String,
    pub form: Vec<(String, String)>,
    /// `None`: there was no answer, by design.
    pub status: Option<u16>,
}

/// The API itself; only [`start`](Rest::start) is needed.
pub struct Rest {
    switchboard: Arc<Switchboard>,
    account_sid: String,
    auth_token: String,
    script: Mutex<RestScript>,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    requests: Vec<RestRequest>,
    messages: Vec<Message>,
    violations: Vec<Violation>,
}

/// A running API. Dropped, it is gone.
pub struct RestHandle {
    pub addr: SocketAddr,
    rest: Arc<Rest>,
    _server: JoinSet<()>,
}

impl RestHandle {
    /// For `twilio.api_url`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn requests(&self) -> Vec<RestRequest> {
        self.rest.log().requests.clone()
    }

    /// Messages that were taken.
    pub fn messages(&self) -> Vec<Message> {
        self.rest.log().messages.clone()
    }

    pub fn violations(&self) -> Vec<Violation> {
        self.rest.log().violations.clone()
    }

    /// More failures for the requests to come.
    pub fn fail(&self, failures: impl IntoIterator<Item = Failure>) {
        self.rest.script().fail.extend(failures);
    }

    /// Somebody at the console changes the account.
    pub fn with_account(&self, change: impl FnOnce(&mut Account)) {
        change(&mut self.rest.script().account);
    }

    /// From now on Twilio's clock is so many seconds behind ours.
    pub fn set_behind(&self, seconds: i64) {
        self.rest.script().behind = seconds;
    }
}

/// An answer, before it is one of hyper's.
struct Answer {
    status: StatusCode,
    body: Value,
}

impl Answer {
    fn ok(body: Value) -> Answer {
        Answer {
            status: StatusCode::OK,
            body,
        }
    }
}

/// Twilio's error JSON.
fn error(status: StatusCode, code: u32, message: impl Into<String>) -> Answer {
    let body = json!({
        "code": code,
        "message": message.into(),
        "more_info": format!("https://www.twilio.com/docs/errors/{code}"),
        "status": status.as_u16(),
    });
    Answer { status, body }
}

/// The first value of a field, if it has one that is not empty.
fn field<'f>(form: &'f [(String, String)], name: &str) -> Option<&'f str> {
    form.iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.as_str())
        .filter(|value| !value.is_empty())
}

/// As the API writes a time.
fn now() -> String {
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    jiff::fmt::rfc2822::to_string(&now).expect("this century can be written so")
}

impl Rest {
    /// Serves on a free loopback port.
    pub async fn start(
        switchboard: Arc<Switchboard>,
        account_sid: &str,
        auth_token: &str,
        script: RestScript,
    ) -> std::io::Result<RestHandle> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let addr = listener.local_addr()?;
        let rest = Arc::new(Self {
            switchboard,
            account_sid: account_sid.to_owned(),
            auth_token: auth_token.to_owned(),
            script: Mutex::new(script),
            log: Mutex::default(),
        });
        let mut server = JoinSet::new();
        server.spawn(rest.clone().serve(listener));
        Ok(RestHandle {
            addr,
            rest,
            _server: server,
        })
    }

    async fn serve(self: Arc<Self>, listener: TcpListener) {
        // Dropped with this task, and every connection with it.
        let mut connections = JoinSet::new();
        loop {
            let Ok((tcp, _)) = listener.accept().await else {
                // Out of descriptors, most likely: give some back before the next.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let rest = self.clone();
            connections.spawn(async move {
                let service = service_fn(|request| {
                    let rest = rest.clone();
                    async move { rest.answer(request).await }
                });
                // A client that breaks off is its own affair.
                let _ = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(Duration::from_secs(30))
                    .serve_connection(TokioIo::new(tcp), service)
                    .await;
            });
            while connections.try_join_next().is_some() {}
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn script(&self) -> MutexGuard<'_, RestScript> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn violation(&self, what: impl Into<String>) {
        self.log().violations.push(Violation(what.into()));
    }

    /// `Err` cuts the connection.
    async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, std::io::Error> {
        let (parts, body) = request.into_parts();
        let body = Limited::new(body, LARGEST_FORM)
            .collect()
            .await
            .map(|body| body.to_bytes())
            .unwrap_or_else(|_| {
                self.violation("a request body of more than 64 kB, or one that broke off");
                Bytes::new()
            });
        let form: Vec<(String, String)> = form_urlencoded::parse(&body).into_owned().collect();
        let failure = self.script().fail.pop_front().unwrap_or(Failure::Ok);
        let answer = match failure {
            Failure::Stall => None,
            Failure::TooManyRequests => Some(error(
                StatusCode::TOO_MANY_REQUESTS,
                20429,
                "Too Many Requests",
            )),
            Failure::InternalError => Some(error(
                StatusCode::INTERNAL_SERVER_ERROR,
                20500,
                "An internal server error has occurred",
            )),
            Failure::Unavailable => Some(error(
                StatusCode::SERVICE_UNAVAILABLE,
                20503,
                "Service unavailable",
            )),
            Failure::Auth => Some(error(StatusCode::UNAUTHORIZED, 20003, "Authenticate")),
            Failure::NotFound => Some(error(
                StatusCode::NOT_FOUND,
                20404,
                "The requested resource was not found",
            )),
            Failure::NotInProgress => Some(calls::not_in_progress()),
            Failure::Html => Some(Answer {
                status: StatusCode::BAD_GATEWAY,
                body: Value::Null,
            }),
            Failure::Ok | Failure::Cut => Some(self.route(&parts, &form)),
        };
        let answer = answer.filter(|_| failure != Failure::Cut);
        self.log().requests.push(RestRequest {
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            form,
            status: answer.as_ref().map(|answer| answer.status.as_u16()),
        });
        let behind = self.script().behind;
        match answer {
            Some(answer) => Ok(dated(respond(answer), behind)),
            None if failure == Failure::Cut => Err(std::io::Error::other("cut, as the story says")),
            None => {
                tokio::time::sleep(STALL).await;
                Err(std::io::Error::other("stalled, as the story says"))
            }
        }
    }

    fn route(&self, parts: &hyper::http::request::Parts, form: &[(String, String)]) -> Answer {
        let path = parts.uri.path();
        if let Err(what) = self.authorised(parts) {
            self.violation(what);
            return error(StatusCode::UNAUTHORIZED, 20003, "Authenticate");
        }
        let below = path
            .strip_prefix("/2010-04-01/Accounts/")
            .and_then(|rest| rest.strip_prefix(&self.account_sid));
        if let Some(below) = below {
            if let Some(answer) = self.account_resource(parts, below) {
                return answer;
            }
            if parts.uri.query().is_some() {
                self.violation(format!("a query on {path}"));
            }
            if let Some(answer) = self.calls(parts, below, form) {
                return answer;
            }
            if let Some(answer) = self.messages(parts, below, form) {
                return answer;
            }
        }
        self.refuse(
            format!("{} {path:?} is no resource of this account", parts.method),
            calls::not_found(parts),
        )
    }

    /// Refuses what no bridge should send.
    fn refuse(&self, violation: String, answer: Answer) -> Answer {
        self.violation(violation);
        answer
    }

    fn wrong_method(&self, parts: &hyper::http::request::Parts) -> Answer {
        self.refuse(
            format!("{} on {}", parts.method, parts.uri.path()),
            error(StatusCode::METHOD_NOT_ALLOWED, 20004, "Method not allowed"),
        )
    }

    /// Refuses a body that is no form.
    fn unformed(&self, parts: &hyper::http::request::Parts) -> Option<Answer> {
        let content_type = parts
            .headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("");
        let media_type = content_type.split(';').next().unwrap_or("").trim();
        (!media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded")).then(|| {
            self.refuse(
                format!("a form with content type {content_type:?}"),
                error(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    20415,
                    "Unsupported Media Type",
                ),
            )
        })
    }

    /// Twilio leaves out what it does not know; a bridge that sends it means something by it.
    fn unknown_fields(
        &self,
        what: &str,
        form: &[(String, String)],
        known: &[&str],
        many: &[&str],
    ) -> Option<Answer> {
        let mut seen: Vec<&str> = Vec::new();
        for (name, _) in form {
            let name = name.as_str();
            let wrong = match (known.contains(&name), seen.contains(&name)) {
                (false, _) => "which Twilio does not know",
                (true, true) if !many.contains(&name) => "twice",
                _ => {
                    seen.push(name);
                    continue;
                }
            };
            return Some(self.refuse(
                format!("{what} with {name:?}, {wrong}"),
                error(StatusCode::BAD_REQUEST, 20001, "Invalid parameters"),
            ));
        }
        None
    }

    /// Whether a number is the account's: in its list, or the number of the simulated world.
    fn owns(&self, number: &str) -> bool {
        let listed = &self.script().account.numbers;
        number == account::Number::default().phone_number
            || listed.iter().any(|known| known.phone_number == number)
    }

    fn authorised(&self, parts: &hyper::http::request::Parts) -> Result<(), String> {
        let header = parts.headers.get(AUTHORIZATION).ok_or("no Authorization")?;
        let encoded = header
            .to_str()
            .ok()
            .and_then(|text| text.strip_prefix("Basic "))
            .ok_or("not Basic auth")?;
        let decoded = base64_simd::STANDARD
            .decode_to_vec(encoded.as_bytes())
            .map_err(|_| "Basic auth is not base64")?;
        if decoded == format!("{}:{}", self.account_sid, self.auth_token).as_bytes() {
            Ok(())
        } else {
            Err("Basic auth with the wrong AccountSid or auth token".to_owned())
        }
    }
}

/// Only a clock that is off says the time itself: the server dates everything else.
fn dated(mut response: Response<Full<Bytes>>, behind: i64) -> Response<Full<Bytes>> {
    if behind != 0 {
        let then = jiff::Timestamp::now().as_second() - behind;
        let then = jiff::Timestamp::from_second(then).expect("a story's clock is of this age");
        let date = then.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let date = HeaderValue::from_str(&date).expect("a date is ASCII");
        response.headers_mut().insert(hyper::header::DATE, date);
    }
    response
}

fn is_sid(text: &str, prefix: &str) -> bool {
    text.len() == 34
        && text
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn respond(answer: Answer) -> Response<Full<Bytes>> {
    let (content_type, body) = if answer.body.is_null() {
        (
            "text/html",
            "<html><body><h1>502 Bad Gateway</h1></body></html>".to_owned(),
        )
    } else {
        ("application/json", answer.body.to_string())
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if answer.status == StatusCode::UNAUTHORIZED {
        headers.insert(
            WWW_AUTHENTICATE,
            HeaderValue::from_static("Basic realm=\"Twilio API\""),
        );
    }
    let id = HeaderValue::from_str(&sid("RQ")).expect("a SID is ASCII");
    headers.insert(HeaderName::from_static("twilio-request-id"), id);
    headers.insert(
        HeaderName::from_static("twilio-concurrent-requests"),
        HeaderValue::from_static("1"),
    );
    response
}

#[cfg(test)]
mod tests;
