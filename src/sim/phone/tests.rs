//! Telephone stories against a bridge of a few lines, counted in frames, bytes and marks.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::*;

mod errands;
mod faults;
mod stories;

const TWIML: &str = "<Response><Connect action='/voice/after'><Stream url='wss://bridge.example.com/media-stream' \
    name='evi' statusCallback='https://bridge.example.com/voice/stream'><Parameter name='token' value='t&amp;1'/>\
    </Stream></Connect></Response>";

type Socket = WebSocketStream<TcpStream>;
type Behaviour = Arc<dyn Fn(Leg) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

#[derive(Default)]
struct Seen {
    /// Path and form of each webhook.
    forms: Vec<(String, HashMap<String, String>)>,
    /// Heads of all requests, as they were.
    heads: Vec<String>,
    /// Everything that came over sockets, after `connected`.
    messages: Vec<Value>,
    close_codes: Vec<Option<u16>>,
}

impl Seen {
    /// What the first webhook must be signed with, going by the form that arrived.
    fn signature_of_the_webhook(&self) -> String {
        let params: Vec<_> = self.forms[0].1.clone().into_iter().collect();
        webhook::signature(
            "12345",
            "https://bridge.example.com/voice/incoming",
            &params,
        )
    }
}

/// The bridge's side of one stream.
struct Leg {
    socket: Socket,
    stream_sid: String,
    seen: Arc<Mutex<Seen>>,
}

impl Leg {
    async fn send(&mut self, text: String) {
        let _ = self.socket.send(Message::text(text)).await;
    }

    async fn media(&mut self, audio: &[u8]) {
        let payload = base64_simd::STANDARD.encode_to_string(audio);
        self.send(
            json!({"event": "media", "streamSid": self.stream_sid, "media": {"payload": payload}})
                .to_string(),
        )
        .await;
    }

    async fn mark(&mut self, name: &str) {
        self.send(
            json!({"event": "mark", "streamSid": self.stream_sid, "mark": {"name": name}})
                .to_string(),
        )
        .await;
    }

    async fn clear(&mut self) {
        self.send(json!({"event": "clear", "streamSid": self.stream_sid}).to_string())
            .await;
    }

    /// Reads on until such a message; `None` at the end of the stream.
    async fn until(&mut self, mut what: impl FnMut(&Value) -> bool) -> Option<Value> {
        while let Some(Ok(message)) = self.socket.next().await {
            match message {
                Message::Text(text) => {
                    let value: Value =
                        serde_json::from_str(&text).unwrap_or(Value::String(text.to_string()));
                    self.seen.lock().unwrap().messages.push(value.clone());
                    if what(&value) {
                        return Some(value);
                    }
                }
                Message::Close(frame) => {
                    self.seen
                        .lock()
                        .unwrap()
                        .close_codes
                        .push(frame.map(|frame| frame.code.into()));
                }
                _ => {}
            }
        }
        None
    }

    async fn listen(&mut self) {
        self.until(|_| false).await;
    }

    async fn close(&mut self) {
        let _ = self
            .socket
            .close(Some(CloseFrame {
                code: 1000.into(),
                reason: "done".into(),
            }))
            .await;
        self.listen().await;
    }
}

struct Bridge {
    phone: Phone,
    seen: Arc<Mutex<Seen>>,
    _tasks: JoinSet<()>,
}

impl Bridge {
    /// A bridge that answers these documents by path, and behaves so on its streams.
    async fn new<F>(
        documents: &[(&str, &str)],
        behaviour: impl Fn(Leg) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let documents: Arc<HashMap<String, String>> = Arc::new(
            documents
                .iter()
                .map(|(path, body)| ((*path).into(), (*body).into()))
                .collect(),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut phone = Phone::new(
            "https://bridge.example.com",
            listener.local_addr().unwrap(),
            "AC0123456789abcdef0123456789abcdef",
            "12345",
        );
        phone.pace = 10.0;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let behaviour: Behaviour = Arc::new(move |leg| Box::pin(behaviour(leg)));
        let mut tasks = JoinSet::new();
        let for_task = seen.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                connections.spawn(serve(
                    tcp,
                    documents.clone(),
                    behaviour.clone(),
                    for_task.clone(),
                ));
            }
        });
        Self {
            phone,
            seen,
            _tasks: tasks,
        }
    }

    async fn listening(documents: &[(&str, &str)]) -> Self {
        Self::new(documents, async |mut leg: Leg| leg.listen().await).await
    }

    fn paths(&self) -> Vec<String> {
        self.seen
            .lock()
            .unwrap()
            .forms
            .iter()
            .map(|(path, _)| path.clone())
            .collect()
    }

    fn messages(&self, event: &str) -> Vec<Value> {
        self.seen
            .lock()
            .unwrap()
            .messages
            .iter()
            .filter(|message| message["event"] == event)
            .cloned()
            .collect()
    }
}

async fn serve(
    mut tcp: TcpStream,
    documents: Arc<HashMap<String, String>>,
    behaviour: Behaviour,
    seen: Arc<Mutex<Seen>>,
) {
    let mut start = [0; 18];
    while tcp.peek(&mut start).await.unwrap() < start.len() {
        tokio::task::yield_now().await;
    }
    if start.starts_with(b"GET /media-stream ") {
        let heads = seen.clone();
        // The crate's own type for the refusal is large; it is never made.
        #[allow(clippy::result_large_err)]
        let socket =
            tokio_tungstenite::accept_hdr_async(tcp, |request: &Request, response: Response| {
                heads
                    .lock()
                    .unwrap()
                    .heads
                    .push(format!("{:?}", request.headers()));
                Ok(response)
            });
        let mut socket = socket.await.unwrap();
        let connected = socket.next().await.unwrap().unwrap();
        assert_eq!(
            connected,
            Message::text(r#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#)
        );
        let mut leg = Leg {
            socket,
            stream_sid: String::new(),
            seen,
        };
        if let Some(start) = leg.until(|message| message["event"] == "start").await {
            leg.stream_sid = start["streamSid"].as_str().unwrap().to_owned();
            behaviour(leg).await;
        }
        return;
    }
    let mut bytes = Vec::new();
    let (head, body) = loop {
        tcp.read_buf(&mut bytes).await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "))
            .map_or(0, |n| n.parse().unwrap());
        if body.len() >= length {
            break (head.to_owned(), body.to_owned());
        }
    };
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let form = form_urlencoded::parse(body.as_bytes())
        .into_owned()
        .collect();
    seen.lock().unwrap().forms.push((path.clone(), form));
    seen.lock().unwrap().heads.push(head);
    let answer = match documents.get(path.split('?').next().unwrap()) {
        Some(body) if body.starts_with("HTTP/1.1") => body.clone(),
        Some(body) => format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
        None => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
    };
    let _ = tcp.write_all(answer.as_bytes()).await;
}

/// Audio that counts: never a code that silence uses.
fn tone(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index % 100) as u8).collect()
}

fn is_tone(heard: &[u8]) -> usize {
    heard.iter().filter(|&&code| code < 100).count()
}

fn wait_for(what: Awaited) -> Step {
    Step::WaitFor {
        what,
        timeout: Duration::from_secs(60),
    }
}

#[track_caller]
fn clean(report: &CallReport) {
    assert_eq!(report.violations, [], "{:#?}", report.entries);
}
