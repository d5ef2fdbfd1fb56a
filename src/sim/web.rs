//! A web server of somebody else's: what tools call and lookups ask.
//!
//! It answers as its [`Script`] says and keeps every request as it came. It is raw on purpose, because
//! what it is for is to misbehave: answers come late, are cut short, are far too long, lead elsewhere
//! or never come. Delays are of the wall clock, as the deadlines of a daemon's tools are. It listens on
//! loopback, without TLS, and is gone when its handle is dropped.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Deserializer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::phone::parse_duration;

/// More than any client here sends.
const LARGEST_REQUEST: usize = 1024 * 1024;
/// How long a request may take to arrive, and an answer to be taken.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than any sensible client waits, and still an end.
const SILENCE: Duration = Duration::from_secs(120);

/// What is answered. To a request that no answer is for: 404.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Script {
    /// The first that fits is given, and, unless it is given [`always`](Answer::always), used up.
    pub answers: Vec<Answer>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Answer {
    /// For requests to this path; `""`: to any.
    pub path: String,
    pub status: u16,
    /// A redirection there, with `status` 302 unless it says otherwise.
    pub redirect: Option<String>,
    pub content_type: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
    /// The body as a table, in place of it.
    pub json: Option<toml::Table>,
    /// A body of so many bytes that say nothing, in place of it.
    pub huge: usize,
    /// Before the first byte.
    #[serde(deserialize_with = "span")]
    pub delay: Duration,
    /// Half of the body, and the connection breaks.
    pub cut: bool,
    /// Nothing ever comes.
    pub silent: bool,
    pub always: bool,
}

impl Default for Answer {
    fn default() -> Self {
        Answer {
            path: String::new(),
            status: 200,
            redirect: None,
            content_type: "application/json".into(),
            headers: BTreeMap::new(),
            body: String::new(),
            json: None,
            huge: 0,
            delay: Duration::ZERO,
            cut: false,
            silent: false,
            always: false,
        }
    }
}

fn span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text)
        .ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no time such as \"300ms\"")))
}

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebRequest {
    pub method: String,
    /// With its query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// What has become of it.
    pub fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Waiting,
    Answered(u16),
    /// The client did not wait.
    Abandoned,
}

impl WebRequest {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body, if it is JSON.
    pub fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// The server; only [`start`](Web::start) is needed.
pub struct Web {
    script: Mutex<Script>,
    requests: Mutex<Vec<WebRequest>>,
    changed: watch::Sender<()>,
}

/// A running server. Dropped, it is gone.
pub struct WebHandle {
    pub addr: SocketAddr,
    web: Arc<Web>,
    _server: JoinSet<()>,
}

impl WebHandle {
    /// `http://127.0.0.1:PORT`, without a slash.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn requests(&self) -> Vec<WebRequest> {
        self.web.requests().clone()
    }

    /// More answers, behind those that there are.
    pub fn answer(&self, answers: impl IntoIterator<Item = Answer>) {
        self.web.script().answers.extend(answers);
    }

    /// Returns when `done` holds of the requests. It may never: callers set the deadline.
    pub async fn until(&self, mut done: impl FnMut(&[WebRequest]) -> bool) {
        let mut changed = self.web.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if done(&self.web.requests()) {
                return;
            }
            // The sender lives in what we hold.
            let _ = changed.changed().await;
        }
    }
}

impl Web {
    /// Serves on a free loopback port.
    pub async fn start(script: Script) -> io::Result<WebHandle> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let web = Arc::new(Web {
            script: Mutex::new(script),
            requests: Mutex::default(),
            changed: watch::Sender::new(()),
        });
        let mut server = JoinSet::new();
        server.spawn(web.clone().serve(listener));
        Ok(WebHandle {
            addr,
            web,
            _server: server,
        })
    }

    async fn serve(self: Arc<Self>, listener: TcpListener) {
        // Dropped with this task, and every connection with it.
        let mut connections = JoinSet::new();
        loop {
            let Ok((tcp, _)) = listener.accept().await else {
                // Out of descriptors, most likely: give some back before the next.
                sleep(Duration::from_millis(50)).await;
                continue;
            };
            connections.spawn(self.clone().connection(tcp));
            while connections.try_join_next().is_some() {}
        }
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn requests(&self) -> MutexGuard<'_, Vec<WebRequest>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One request a connection: the answer says that it is closed then.
    async fn connection(self: Arc<Self>, mut tcp: TcpStream) {
        let Ok(Some(request)) = timeout(PATIENCE, read(&mut tcp)).await else {
            return;
        };
        let answer = self.answer(&request);
        let index = {
            let mut requests = self.requests();
            requests.push(request);
            requests.len() - 1
        };
        self.changed.send_replace(());
        let waits = if answer.silent { SILENCE } else { answer.delay };
        let mut more = [0; 64];
        let fate = tokio::select! {
            biased;
            // A client that has sent its request has nothing more to say, so this is its end.
            _ = tcp.read(&mut more), if !waits.is_zero() => Fate::Abandoned,
            () = sleep(waits) => match answer.silent {
                true => Fate::Waiting,
                false => match timeout(PATIENCE, write(&mut tcp, &answer)).await {
                    Ok(Ok(())) => Fate::Answered(answer.status()),
                    _ => Fate::Abandoned,
                },
            },
        };
        self.requests()[index].fate = fate;
        self.changed.send_replace(());
    }

    fn answer(&self, request: &WebRequest) -> Answer {
        let path = request.path.split('?').next().unwrap_or_default();
        let answers = &mut self.script().answers;
        let found = answers
            .iter()
            .position(|answer| answer.path.is_empty() || answer.path == path);
        match found {
            Some(at) if answers[at].always => answers[at].clone(),
            Some(at) => answers.remove(at),
            None => Answer {
                status: 404,
                body: "{}".into(),
                ..Answer::default()
            },
        }
    }
}

impl Answer {
    fn status(&self) -> u16 {
        match self.redirect {
            Some(_) if self.status == 200 => 302,
            _ => self.status,
        }
    }

    fn body(&self) -> Vec<u8> {
        match &self.json {
            _ if self.huge > 0 => vec![b'x'; self.huge],
            Some(table) => serde_json::to_vec(table).expect("a table of plain values is JSON"),
            None => self.body.clone().into_bytes(),
        }
    }
}

async fn write(tcp: &mut TcpStream, answer: &Answer) -> io::Result<()> {
    let body = answer.body();
    let mut head = format!(
        "HTTP/1.1 {} Simulated\r\ncontent-type: {}\r\ncontent-length: {}\r\nconnection: close\r\n",
        answer.status(),
        answer.content_type,
        body.len()
    );
    if let Some(elsewhere) = &answer.redirect {
        head += &format!("location: {elsewhere}\r\n");
    }
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    tcp.write_all(head.as_bytes()).await?;
    let length = if answer.cut {
        body.len() / 2
    } else {
        body.len()
    };
    tcp.write_all(&body[..length]).await?;
    tcp.shutdown().await
}

/// Reads one request; `None` if it is none, or too large.
async fn read(tcp: &mut TcpStream) -> Option<WebRequest> {
    let mut bytes = Vec::new();
    let head_ends = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        more(tcp, &mut bytes).await?;
    };
    let mut body = bytes.split_off(head_ends + 4);
    let text = String::from_utf8(bytes).ok()?;
    let mut lines = text[..head_ends].split("\r\n");
    let mut start = lines.next()?.split(' ');
    let (method, path) = (start.next()?.to_owned(), start.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut request = WebRequest {
        method,
        path,
        headers,
        body: Vec::new(),
        fate: Fate::Waiting,
    };
    let chunked = request
        .header("transfer-encoding")
        .is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    if chunked {
        return None; // every client here knows how long its body is
    }
    let length: usize = request
        .header("content-length")
        .map_or(Ok(0), str::parse)
        .ok()?;
    while body.len() < length {
        more(tcp, &mut body).await?;
    }
    body.truncate(length);
    request.body = body;
    Some(request)
}

async fn more(tcp: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<()> {
    let room = bytes.len() <= LARGEST_REQUEST;
    (room && tcp.read_buf(bytes).await.ok()? > 0).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn web(toml: &str) -> WebHandle {
        Web::start(toml::from_str(toml).unwrap()).await.unwrap()
    }

    async fn ask(web: &WebHandle, request: &str) -> String {
        let mut tcp = TcpStream::connect(web.addr).await.unwrap();
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(PATIENCE, tcp.read_to_string(&mut answer))
            .await
            .unwrap()
            .unwrap();
        answer
    }

    #[tokio::test]
    async fn answers_as_it_is_told_and_keeps_what_it_was_asked() {
        let web = web(r#"answers = [
            { path = "/orders", json = { open = true, n = 2 }, headers = { x-more = "1" } },
            { path = "/orders", status = 503, body = "later" },
            { redirect = "http://127.0.0.1:1/", path = "/moved" },
            { path = "/always", always = true, body = "yes" },
        ]"#)
        .await;
        let post = "POST /orders?x=1 HTTP/1.1\r\nHost: x\r\nX-Sig: abc\r\nContent-Length: 7\r\n\r\n{\"a\":1}";
        let first = ask(&web, post).await;
        assert!(first.starts_with("HTTP/1.1 200 "), "{first}");
        assert!(first.contains("x-more: 1\r\n"));
        assert!(
            first.ends_with(r#"{"n":2,"open":true}"#) || first.ends_with(r#"{"open":true,"n":2}"#)
        );
        assert!(ask(&web, post).await.starts_with("HTTP/1.1 503 "));
        assert!(
            ask(&web, post).await.starts_with("HTTP/1.1 404 "),
            "used up"
        );
        let moved = ask(&web, "GET /moved HTTP/1.1\r\n\r\n").await;
        assert!(
            moved.starts_with("HTTP/1.1 302 ") && moved.contains("location: http://127.0.0.1:1/")
        );
        for _ in 0..2 {
            assert!(
                ask(&web, "GET /always HTTP/1.1\r\n\r\n")
                    .await
                    .ends_with("yes")
            );
        }
        let requests = web.requests();
        assert_eq!(requests.len(), 6);
        assert_eq!(
            (requests[0].method.as_str(), requests[0].path.as_str()),
            ("POST", "/orders?x=1")
        );
        assert_eq!(requests[0].header("x-sig"), Some("abc"));
        assert_eq!(requests[0].json().unwrap()["a"], 1);
        web.until(|seen| {
            seen.iter()
                .all(|seen| matches!(seen.fate, Fate::Answered(_)))
        })
        .await;
    }

    #[tokio::test]
    async fn misbehaves_as_it_is_told() {
        let web = web(r#"answers = [
            { path = "/cut", cut = true, body = "12345678" },
            { path = "/huge", huge = 300000 },
            { path = "/slow", delay = "1m" },
            { path = "/silent", silent = true },
        ]"#)
        .await;
        let cut = ask(&web, "GET /cut HTTP/1.1\r\n\r\n").await;
        assert!(
            cut.contains("content-length: 8\r\n") && cut.ends_with("\r\n\r\n1234"),
            "{cut}"
        );
        assert!(ask(&web, "GET /huge HTTP/1.1\r\n\r\n").await.len() > 300_000);
        for path in ["/slow", "/silent"] {
            let mut tcp = TcpStream::connect(web.addr).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\n\r\n");
            tcp.write_all(request.as_bytes()).await.unwrap();
            let arrived = |seen: &[WebRequest]| seen.last().is_some_and(|seen| seen.path == path);
            web.until(arrived).await;
            assert_eq!(web.requests().last().unwrap().fate, Fate::Waiting);
            drop(tcp);
            let left =
                |seen: &[WebRequest]| seen.last().is_some_and(|seen| seen.fate == Fate::Abandoned);
            web.until(left).await;
        }
        assert!(toml::from_str::<Script>("answers = [{ stauts = 200 }]").is_err());
    }
}
