//! What the tests of tools stand on: a call, an operator's service on loopback, an operator's script.

use std::{
    convert::Infallible,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{body::Bytes, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{Catalogue, Facts, Offer, Outcome, Runner, SendMessage};
use crate::{
    config::{self, Config, Destination, PublicUrl, Secret, Sms, Tool, ToolKind},
    metrics::Metrics,
};

pub const CALL: &str = "CA0123456789abcdef0123456789abcdef";
/// Longer than anything here takes on a busy machine.
pub const LONG: Duration = Duration::from_secs(30);
pub const SECRET: &str = "the-secret-of-the-booking-desk";

pub fn config() -> Config {
    Config::new(PublicUrl::parse("https://bridge.example.com").unwrap())
}

/// Every built-in tool has something to work with.
pub fn everything() -> Config {
    let mut config = config();
    config.transfer.numbers = vec![
        Destination {
            number: "+61299990001".to_owned(),
            name: Some("sales".to_owned()),
        },
        Destination {
            number: "+61299990002".to_owned(),
            name: None,
        },
    ];
    config.sms = Sms {
        numbers: vec!["+61299990003".to_owned()],
        to_caller: true,
        from: None,
    };
    config.calls.record = Some(PathBuf::from("/var/lib/hume-bridge/calls"));
    config
}

pub fn facts() -> Facts {
    Facts {
        call: CALL.parse().unwrap(),
        from: "+61400000001".to_owned(),
        to: "+61299990000".to_owned(),
        route: Some("front desk".to_owned()),
        agent: "hume",
        started: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_400),
        known: [("city".to_owned(), "SYDNEY".to_owned())].into(),
        test: false,
    }
}

pub fn tool(name: &str, kind: ToolKind) -> Tool {
    Tool {
        name: name.to_owned(),
        description: "A tool.".to_owned(),
        parameters: json!({ "type": "object", "properties": { "n": { "type": "integer" } } }),
        kind,
        timeout: LONG,
        fallback: String::new(),
        filler: String::new(),
        filler_after: Duration::from_secs(1),
        max_output: 16 * 1024,
        max_concurrent: 4,
    }
}

/// A runner, what it counts, and its tools.
pub struct Desk {
    pub runner: Runner,
    pub metrics: Arc<Metrics>,
    pub catalogue: Catalogue,
}

impl Desk {
    pub fn new(config: &Config, send: Option<SendMessage>) -> Desk {
        let metrics = Arc::new(Metrics::default());
        let named = [("booking-key".to_owned(), Secret::new(SECRET))].into();
        let runner = Runner::new(config, &named, None, send, metrics.clone()).unwrap();
        Desk {
            runner,
            metrics,
            catalogue: Catalogue::of(config, None),
        }
    }

    pub fn with(tool: Tool) -> Desk {
        let mut config = config();
        config.tools.push(tool);
        Desk::new(&config, None)
    }

    pub fn offer(&self, name: &str) -> &Offer {
        self.catalogue.find(name).unwrap().1
    }

    pub async fn run(&self, name: &str, arguments: &str) -> Outcome {
        let facts = Arc::new(facts());
        let run = self
            .runner
            .run(self.offer(name), "call-1", arguments, facts);
        run.await
    }

    /// The words of something that was done.
    pub async fn done(&self, name: &str, arguments: &str) -> String {
        match self.run(name, arguments).await {
            Outcome::Done(words) => words.0,
            other => panic!("{other:?}: {}", content(&other)),
        }
    }

    /// Word and content of something that failed.
    pub async fn failed(&self, name: &str, arguments: &str) -> (&'static str, String) {
        match self.run(name, arguments).await {
            Outcome::Failed { error, content } => (error, content.0),
            other => panic!("{other:?}: {}", content(&other)),
        }
    }
}

pub fn content(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Done(words) | Outcome::Note(words) => &words.0,
        Outcome::Failed { content, .. } => &content.0,
        Outcome::Transfer(_) | Outcome::Digits(_) => "",
    }
}

/// What a service does with one request.
#[derive(Clone)]
pub enum Act {
    Answer(u16, Vec<u8>),
    /// Nothing, ever.
    Silence,
    /// Promises more than it sends.
    Cut,
    /// A good answer, after so long.
    Late(Duration),
    /// This status, and of the body it promises nothing, ever.
    Stuck(u16),
}

pub fn ok(body: &str) -> Act {
    Act::Answer(200, body.into())
}

pub struct Request {
    pub line: String,
    pub headers: hyper::HeaderMap,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What it has been asked so far.
pub type Seen = Arc<Mutex<Vec<Request>>>;

fn whole(body: impl Into<Bytes>) -> BoxBody<Bytes, Infallible> {
    Full::new(body.into()).boxed()
}

/// Does `acts` in turn; the last one again and again.
pub async fn service(acts: Vec<Act>) -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/book", listener.local_addr().unwrap());
    let seen = Seen::default();
    let record = seen.clone();
    let acts = Arc::new(acts);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (record, acts) = (record.clone(), acts.clone());
            let answer = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let (record, acts) = (record.clone(), acts.clone());
                async move {
                    let (parts, body) = request.into_parts();
                    let request = Request {
                        line: format!("{} {}", parts.method, parts.uri),
                        headers: parts.headers,
                        body: body.collect().await.unwrap().to_bytes().into(),
                    };
                    let act = {
                        let mut record = record.lock().unwrap();
                        record.push(request);
                        acts[(record.len() - 1).min(acts.len() - 1)].clone()
                    };
                    let response = hyper::Response::builder()
                        .header("location", "http://127.0.0.1:1/elsewhere");
                    let response = match act {
                        Act::Answer(status, body) => response.status(status).body(whole(body)),
                        Act::Late(after) => {
                            tokio::time::sleep(after).await;
                            response.body(whole("Booked."))
                        }
                        Act::Stuck(status) => response
                            .status(status)
                            .body(StreamBody::new(futures_util::stream::pending()).boxed()),
                        Act::Silence => std::future::pending().await,
                        Act::Cut => response.header("content-length", "100").body(whole("half")),
                    };
                    Ok::<_, Infallible>(response.unwrap())
                }
            });
            let socket = TokioIo::new(socket);
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(socket, answer),
            );
        }
    });
    (url, seen)
}

/// An operator's script. By a shell of its own and not by its first line: a file that has just been
/// written cannot always be started.
pub struct Script {
    pub directory: tempfile::TempDir,
    pub kind: ToolKind,
}

impl Script {
    /// `$1` is a directory for it to write to.
    pub fn new(text: &str) -> Script {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("script");
        fs::write(&file, text).unwrap();
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let command = vec![
            "/bin/sh".to_owned(),
            path(&file),
            path(directory.path()),
            "two words".to_owned(),
        ];
        Script {
            kind: ToolKind::Exec { command },
            directory,
        }
    }

    /// What it has written to a file there, as soon as that has a whole line.
    pub async fn wrote(&self, name: &str) -> String {
        let file: PathBuf = self.directory.path().join(name);
        let text = until(|| {
            let text = fs::read_to_string(&file).ok()?;
            text.ends_with('\n').then_some(text)
        });
        text.await.trim().to_owned()
    }
}

/// Looks again and again.
pub async fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LONG, found)
        .await
        .expect("it never came")
}

/// Processes of a group; those that only wait to be reaped by somebody else do not count.
pub fn members(group: &str) -> usize {
    let stats = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let path = entry.ok()?.path().join("stat");
        fs::read_to_string(path).ok()
    });
    // `pid (name) state ppid pgrp ...`
    let members = stats.filter(|stat| {
        let (_, rest) = stat.rsplit_once(") ").unwrap();
        let mut fields = rest.split(' ');
        let (state, pgrp) = (fields.next(), fields.nth(1));
        state != Some("Z") && pgrp == Some(group)
    });
    members.count()
}

/// For an HTTP tool.
pub fn http(url: &str) -> config::HttpTool {
    config::HttpTool {
        method: config::Method::Post,
        url: url.to_owned(),
        headers: Default::default(),
        sign_with: None,
        idempotent: false,
    }
}
