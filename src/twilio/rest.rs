//! Twilio's REST API, as much of it as a bridge needs: ending a call, and a look at the [`account`].
//!
//! A [`Rest`] is cheap to clone and shares its connections. Every wait is bounded: 2 s to connect,
//! 3 s for an exchange, and the caller's own deadline over all attempts. What may pass (429, 5xx, a
//! lost connection) is tried again after a jittered pause; ending a call twice is harmless, because
//! a call that is already over counts as ended. No proxy, no redirect: the auth token goes to the
//! configured host or nowhere, and in the clear to a loopback address only.
//!
//! Nothing is logged here, and no error holds the token, a number or anything the server wrote but
//! its error code.

pub mod account;

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

/// How a call came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completed {
    /// Twilio has ended it now.
    Ended,
    /// There was nothing left to end.
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
    #[error(
        "twilio refused to end the call with status {status} ({code}): check that [twilio] \
         account_sid owns the call and api_url is Twilio's"
    )]
    Refused { status: u16, code: TwilioCode },
    #[error("twilio was not able to end the call in time, last with status {status} ({code})")]
    Busy { status: u16, code: TwilioCode },
    #[error(
        "twilio's REST API at {host} was not reachable in time ({why}): check [twilio] api_url and the network"
    )]
    Unreachable { host: String, why: String },
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
        let deadline = Instant::now() + within;
        let mut backoff = FIRST_BACKOFF;
        // What the last attempt met; none has ended yet.
        let mut last = self.unreachable("no answer".to_owned());
        loop {
            match timeout_at(deadline, self.try_complete(call)).await {
                Ok(Ok(Attempt::Done(completed))) => return Ok(completed),
                Ok(Ok(Attempt::Again(error))) => last = error,
                Ok(Err(error)) => return Err(error),
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

    async fn try_complete(&self, call: &CallSid) -> Result<Attempt, RestError> {
        let url = format!("{}/Calls/{call}.json", self.inner.account_url);
        let request = self.inner.client.post(url).form(&[("Status", "completed")]);
        let response = match request.send().await {
            Ok(response) => response,
            // Also when it is unclear whether Twilio has acted: acting twice does no harm.
            Err(error) => {
                let why = innermost(&error.without_url());
                return Ok(Attempt::Again(self.unreachable(why)));
            }
        };
        let status = response.status();
        // Read in any case: only a connection that has been read empty is used again.
        let code = error_code(response).await;
        let refused = RestError::Refused {
            status: status.as_u16(),
            code,
        };
        match (status, code.0) {
            (status, _) if status.is_success() => Ok(Attempt::Done(Completed::Ended)),
            // Both have been seen for a call that is over.
            (StatusCode::NOT_FOUND, Some(20404)) | (StatusCode::BAD_REQUEST, Some(21220)) => {
                Ok(Attempt::Done(Completed::AlreadyOver))
            }
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => Err(RestError::Auth { code }),
            (StatusCode::TOO_MANY_REQUESTS, _) => Ok(Attempt::Again(busy(status, code))),
            (status, _) if status.is_server_error() => Ok(Attempt::Again(busy(status, code))),
            _ => Err(refused),
        }
    }

    fn unreachable(&self, why: String) -> RestError {
        RestError::Unreachable {
            host: self.inner.host.clone(),
            why,
        }
    }
}

/// How one attempt went, when it did not settle the matter for good.
enum Attempt {
    Done(Completed),
    Again(RestError),
}

fn busy(status: StatusCode, code: TwilioCode) -> RestError {
    RestError::Busy {
        status: status.as_u16(),
        code,
    }
}

/// Twilio's error document has a numeric `code`; of anything else there is none.
async fn error_code(mut response: Response) -> TwilioCode {
    #[derive(Deserialize)]
    struct ErrorDocument {
        code: Option<u32>,
    }

    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        if body.len() + chunk.len() > MAX_BODY {
            return TwilioCode(None);
        }
        body.extend_from_slice(&chunk);
    }
    let document = serde_json::from_slice::<ErrorDocument>(&body);
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

fn is_loopback(host: &str) -> bool {
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
mod tests {
    use std::{collections::VecDeque, convert::Infallible, sync::Mutex};

    use http_body_util::{BodyExt, Full};
    use hyper::{body::Bytes, service::service_fn};
    use hyper_util::rt::TokioIo;
    use tokio::net::TcpListener;

    use super::*;

    const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";
    const CALL: &str = "CA0123456789abcdef0123456789abcdef";
    const LONG: Duration = Duration::from_secs(20);

    /// What the fake Twilio answers, in turn; the last answer stays.
    type Answers = &'static [(u16, &'static str)];
    /// Request line, authorization, content type and body of each request.
    type Seen = Arc<Mutex<Vec<[String; 4]>>>;

    async fn twilio(answers: Answers) -> (String, Seen) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Seen::default();
        let record = seen.clone();
        let left: Arc<Mutex<VecDeque<_>>> = Arc::new(Mutex::new(answers.iter().collect()));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (record, left) = (record.clone(), left.clone());
                let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                    let (record, left) = (record.clone(), left.clone());
                    async move {
                        let header = |name| {
                            let value = request.headers().get(name);
                            value.map_or("", |value| value.to_str().unwrap()).to_owned()
                        };
                        let line = format!("{} {}", request.method(), request.uri());
                        let (auth, kind) = (header("authorization"), header("content-type"));
                        let body = request.into_body().collect().await.unwrap().to_bytes();
                        let body = String::from_utf8(body.into()).unwrap();
                        record.lock().unwrap().push([line, auth, kind, body]);
                        let (status, body) = {
                            let mut left = left.lock().unwrap();
                            let answer = *left[0];
                            if left.len() > 1 {
                                left.pop_front();
                            }
                            answer
                        };
                        let response = hyper::Response::builder()
                            .status(status)
                            .header("location", "http://127.0.0.1:1/elsewhere")
                            .body(Full::new(Bytes::from_static(body.as_bytes())));
                        Ok::<_, Infallible>(response.unwrap())
                    }
                });
                let socket = TokioIo::new(socket);
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(socket, service),
                );
            }
        });
        (url, seen)
    }

    fn rest(url: &str) -> Rest {
        Rest::new(url, ACCOUNT, &Secret::new("12345"), None).unwrap()
    }

    async fn hang_up(answers: Answers, within: Duration) -> (Result<Completed, RestError>, usize) {
        let (url, seen) = twilio(answers).await;
        let result = rest(&url)
            .complete_call(&CALL.parse().unwrap(), within)
            .await;
        let requests = seen.lock().unwrap().len();
        (result, requests)
    }

    #[tokio::test]
    async fn hanging_up_is_one_authenticated_form() {
        let (url, seen) = twilio(&[(200, r#"{"status":"completed"}"#)]).await;
        let rest = rest(&format!("{url}/"));
        assert_eq!(
            rest.complete_call(&CALL.parse().unwrap(), LONG)
                .await
                .unwrap(),
            Completed::Ended
        );
        let auth = base64_simd::STANDARD.encode_to_string(format!("{ACCOUNT}:12345"));
        assert_eq!(
            *seen.lock().unwrap(),
            [[
                format!("POST /2010-04-01/Accounts/{ACCOUNT}/Calls/{CALL}.json"),
                format!("Basic {auth}"),
                "application/x-www-form-urlencoded".to_owned(),
                "Status=completed".to_owned(),
            ]]
        );
        let shown = format!("{rest:?} {:?}", rest.inner.client);
        assert!(
            !shown.contains(&auth) && !shown.contains("12345\""),
            "{shown}"
        );
    }

    #[tokio::test]
    async fn the_caller_was_faster() {
        for answers in [
            &[(404, r#"{"code":20404,"message":"x","status":404}"#)],
            &[(
                400,
                r#"{"code":21220,"message":"Call is not in-progress.","status":400}"#,
            )],
        ] {
            let (result, requests) = hang_up(answers, LONG).await;
            assert_eq!((result.unwrap(), requests), (Completed::AlreadyOver, 1));
        }
    }

    #[tokio::test]
    async fn wrong_credentials_are_not_tried_twice() {
        let (result, requests) = hang_up(&[(401, r#"{"code":20003,"status":401}"#)], LONG).await;
        let error = result.unwrap_err();
        assert!(
            matches!(
                error,
                RestError::Auth {
                    code: TwilioCode(Some(20003))
                }
            ),
            "{error:?}"
        );
        assert!(
            error
                .to_string()
                .contains("(error 20003): set twilio_auth_token"),
            "{error}"
        );
        assert_eq!(requests, 1);

        let (result, _) = hang_up(&[(403, "<html>")], LONG).await;
        assert!(matches!(
            result,
            Err(RestError::Auth {
                code: TwilioCode(None)
            })
        ));
    }

    #[tokio::test]
    async fn a_busy_twilio_is_asked_again() {
        let answers = &[
            (429, r#"{"code":20429}"#),
            (503, ""),
            (500, r#"{"code":20500}"#),
            (200, "{}"),
        ];
        let (result, requests) = hang_up(answers, LONG).await;
        assert_eq!((result.unwrap(), requests), (Completed::Ended, 4));
    }

    #[tokio::test]
    async fn a_twilio_that_stays_busy_is_given_up_in_time() {
        let started = Instant::now();
        let (result, requests) =
            hang_up(&[(429, r#"{"code":20429}"#)], Duration::from_millis(400)).await;
        let error = result.unwrap_err();
        let expected = RestError::Busy {
            status: 429,
            code: TwilioCode(Some(20429)),
        };
        assert_eq!(format!("{error:?}"), format!("{expected:?}"));
        assert!(requests >= 2, "{requests}");
        assert!(started.elapsed() < Duration::from_secs(2));
    }

    #[tokio::test]
    async fn any_other_refusal_is_final() {
        for (answers, status) in [
            (&[(404, "not found")], 404),
            (&[(404, r#"{"code":"20404"}"#)], 404),
            (&[(400, r#"{"code":21218,"status":400}"#)], 400),
            // Followed, the redirect would carry the auth token elsewhere.
            (&[(307, "")], 307),
        ] {
            let (result, requests) = hang_up(answers, LONG).await;
            let error = result.unwrap_err();
            assert!(matches!(error, RestError::Refused { status: got, .. } if got == status));
            assert_eq!(requests, 1);
        }
    }

    #[tokio::test]
    async fn an_endless_error_page_is_not_read() {
        static PAGE: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
            format!(
                "{{\"code\":21220,\"message\":\"{}\"}}",
                "x".repeat(MAX_BODY)
            )
        });
        let answers: Answers = Box::leak(Box::new([(400, PAGE.as_str())]));
        let (result, _) = hang_up(answers, LONG).await;
        assert!(matches!(
            result,
            Err(RestError::Refused {
                code: TwilioCode(None),
                ..
            })
        ));
    }

    #[tokio::test]
    async fn nobody_there_is_an_error_in_time_without_secrets() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let rest = rest(&url);
        let result = rest
            .complete_call(&CALL.parse().unwrap(), Duration::from_millis(300))
            .await;
        let error = result.unwrap_err();
        let words = error.to_string();
        assert!(matches!(error, RestError::Unreachable { .. }), "{error:?}");
        assert!(
            words.contains("refused") && words.contains("127.0.0.1"),
            "{words}"
        );
    }

    #[tokio::test]
    async fn a_silent_twilio_does_not_hold_the_call() {
        // Accepted by the kernel, answered by nobody.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let rest = rest(&format!("http://{}", listener.local_addr().unwrap()));
        let started = Instant::now();
        let result = rest
            .complete_call(&CALL.parse().unwrap(), Duration::from_millis(200))
            .await;
        assert!(matches!(result, Err(RestError::Unreachable { .. })));
        assert!(started.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn the_token_never_travels_in_the_clear_or_to_an_odd_place() {
        let setup = |url: &str, account: &str| {
            Rest::new(url, account, &Secret::new("12345"), None).map(|_| ())
        };
        for url in [
            "http://127.0.0.1:9",
            "http://[::1]:9",
            "http://localhost:9/prefix",
        ] {
            setup(url, ACCOUNT).unwrap();
        }
        for url in [
            "",
            "api.twilio.com",
            "http://api.twilio.com",
            "http://127.0.0.1.example.com",
            "https://api.twilio.com",
            "ftp://127.0.0.1",
            "http://user@127.0.0.1",
            "http://:word@127.0.0.1",
            "http://127.0.0.1/?x",
        ] {
            assert!(
                matches!(setup(url, ACCOUNT), Err(RestError::ApiUrl(_))),
                "{url}"
            );
        }
        for account in ["", "AC123", "AC0123456789abcdef0123456789abcde/"] {
            let result = setup("http://127.0.0.1:9", account);
            assert!(matches!(result, Err(RestError::AccountSid)));
        }
        let tls = Some(no_tls().unwrap());
        Rest::new(
            "https://api.twilio.com",
            ACCOUNT,
            &Secret::new("12345"),
            tls,
        )
        .unwrap();
    }

    #[test]
    fn pauses_grow_apart() {
        let backoff = Duration::from_millis(100);
        for _ in 0..1_000 {
            let pause = jittered(backoff);
            assert!((backoff / 2..=backoff).contains(&pause), "{pause:?}");
        }
    }
}
