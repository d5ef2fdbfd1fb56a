//! One HTTP request, as a stranger would make it.
//!
//! Name, TCP and TLS are the agent link's, so that each can be told from the others; after that it is
//! plain HTTP/1.1 on a connection of its own. No redirect is followed, nothing secret is sent, and no
//! more than 64 KiB are read.

use std::{pin::pin, time::Duration};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Request,
    body::Bytes,
    client::conn::http1,
    header::{HOST, HeaderName, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::time::{Instant, timeout};
use url::{Position, Url};

use crate::agent::link::{ConnectError, Tls, reach};

/// For name, TCP, TLS and answer together. Twilio waits 15 s in all.
pub const DEADLINE: Duration = Duration::from_secs(10);
const MAX_BODY: usize = 64 * 1024;

pub struct Answer {
    pub status: u16,
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silent {
    /// There is not even a connection.
    Unconnected(ConnectError),
    /// Connected, and then nothing in time.
    Timeout,
    /// Connected, and then no HTTP.
    NotHttp,
}

/// What to ask for.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    pub url: &'a Url,
    /// A form makes it a POST.
    pub form: Option<&'static str>,
    pub headers: &'a [(HeaderName, &'static str)],
}

impl<'a> Ask<'a> {
    pub fn get(url: &'a Url) -> Self {
        Ask {
            url,
            form: None,
            headers: &[],
        }
    }
}

pub async fn ask(ask: Ask<'_>, tls: &Tls, deadline: Duration) -> Result<Answer, Silent> {
    let until = Instant::now() + deadline;
    let io = timeout(deadline, reach(ask.url, tls, until))
        .await
        .unwrap_or(Err(ConnectError::Timeout))
        .map_err(Silent::Unconnected)?;
    timeout(
        until.saturating_duration_since(Instant::now()),
        Box::pin(exchange(ask, TokioIo::new(io))),
    )
    .await
    .unwrap_or(Err(Silent::Timeout))
}

async fn exchange<I>(ask: Ask<'_>, io: I) -> Result<Answer, Silent>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
{
    let target = &ask.url[Position::BeforePath..Position::AfterQuery];
    let host = &ask.url[Position::BeforeHost..Position::AfterPort];
    let mut request = Request::builder()
        .method(if ask.form.is_some() { "POST" } else { "GET" })
        .uri(target)
        .header(HOST, host)
        .header(USER_AGENT, "hume-bridge-check");
    if ask.form.is_some() {
        request = request.header("content-type", "application/x-www-form-urlencoded");
    }
    for (name, value) in ask.headers {
        request = request.header(name, *value);
    }
    let body = Full::new(Bytes::from_static(ask.form.unwrap_or_default().as_bytes()));
    let request = request.body(body).map_err(|_| Silent::NotHttp)?;

    let (mut sender, connection) = http1::handshake(io).await.map_err(|_| Silent::NotHttp)?;
    let answered = async {
        let response = sender.send_request(request).await;
        let response = response.map_err(|_| Silent::NotHttp)?;
        let status = response.status().as_u16();
        // A page that is too long or breaks off has still shown its status.
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        Ok(Answer { status, body })
    };
    let mut answered = pin!(answered);
    tokio::select! {
        answer = &mut answered => answer,
        // The connection may end with its answer already read.
        _ = connection => answered.await,
    }
}

/// What a `/health` of ours says, if the answer is one.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    pub status: String,
    pub active_sessions: usize,
}

impl Answer {
    pub fn health(&self) -> Option<Health> {
        let health: Health = serde_json::from_slice(&self.body).ok()?;
        let ours = matches!(
            (self.status, health.status.as_str()),
            (200, "healthy") | (503, "draining")
        );
        ours.then_some(health)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_health_of_ours_is_told_from_any_other_page() {
        let health = |status, body: &'static str| {
            let body = Bytes::from_static(body.as_bytes());
            Answer { status, body }.health()
        };
        let ours = r#"{"status":"healthy","timestamp":"2026-11-22T00:00:00Z","activeSessions":2}"#;
        let expected = Health {
            status: "healthy".into(),
            active_sessions: 2,
        };
        assert_eq!(health(200, ours), Some(expected));
        assert_eq!(health(503, ours), None, "healthy is 200");
        let draining = r#"{"status":"draining","activeSessions":0}"#;
        assert!(health(503, draining).is_some());
        for other in [
            "",
            "ok",
            r#"{"status":"healthy"}"#,
            r#"{"status":"up","activeSessions":0}"#,
        ] {
            assert_eq!(health(200, other), None, "{other}");
        }
    }
}
