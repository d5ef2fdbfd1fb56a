//! A client of the simulated EVI that is written for its tests: it shares nothing with the bridge.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest},
};

use super::super::*;

/// Nothing here takes long; this only bounds a test that has gone wrong.
pub const PATIENCE: Duration = Duration::from_secs(30);
pub const AUDIO: &str = "session_settings[audio][encoding]=linear16\
    &session_settings[audio][sample_rate]=8000&session_settings[audio][channels]=1";

pub struct Client {
    pub ws: WebSocketStream<TcpStream>,
}

/// What came last.
#[derive(Debug, PartialEq)]
pub enum End {
    Closed(u16),
    Lost,
}

pub async fn evi(toml: &str) -> EviHandle {
    evi_at(toml, 1.0).await
}

pub async fn evi_at(toml: &str, pace: f64) -> EviHandle {
    let script: Script = toml::from_str(toml).unwrap();
    Evi::start(
        script,
        Options {
            pace,
            ..Options::default()
        },
    )
    .await
    .unwrap()
}

pub async fn connect(evi: &EviHandle, path: &str, key: Option<&str>) -> Result<Client, Error> {
    let mut request = format!("ws://{}{path}", evi.addr)
        .into_client_request()
        .unwrap();
    if let Some(key) = key {
        request
            .headers_mut()
            .insert("X-Hume-Api-Key", key.parse().unwrap());
    }
    let tcp = TcpStream::connect(evi.addr).await.unwrap();
    let (ws, _) = tokio::time::timeout(PATIENCE, client_async(request, tcp))
        .await
        .unwrap()?;
    Ok(Client { ws })
}

pub async fn status(evi: &EviHandle, path: &str, key: Option<&str>) -> u16 {
    match connect(evi, path, key).await {
        Ok(_) => 101,
        Err(Error::Http(response)) => response.status().as_u16(),
        Err(e) => panic!("{e}"),
    }
}

/// A connection whose audio format stands in the query.
pub async fn call(evi: &EviHandle) -> Client {
    call_with(evi, "").await
}

pub async fn call_with(evi: &EviHandle, query: &str) -> Client {
    let path = format!("/v0/evi/chat?{AUDIO}{query}");
    connect(evi, &path, Some("simulated-hume-key"))
        .await
        .unwrap()
}

impl Client {
    pub async fn send(&mut self, value: Value) {
        self.text(&value.to_string()).await;
    }

    pub async fn text(&mut self, text: &str) {
        self.ws.send(Message::text(text)).await.unwrap();
    }

    /// So much audio, in frames of 20 ms.
    pub async fn audio(&mut self, ms: usize, level: i16) {
        for _ in 0..ms / 20 {
            let pcm: Vec<u8> = (0..160)
                .flat_map(|n| (if n % 2 == 0 { level } else { -level }).to_le_bytes())
                .collect();
            let data = base64_simd::STANDARD.encode_to_string(pcm);
            self.text(&json!({ "type": "audio_input", "data": data }).to_string())
                .await;
        }
    }

    pub async fn utterance(&mut self) {
        self.audio(400, 5_000).await;
        self.audio(600, 0).await;
    }

    pub async fn message(&mut self) -> Result<Message, End> {
        match tokio::time::timeout(PATIENCE, self.ws.next())
            .await
            .expect("a message in time")
        {
            Some(Ok(Message::Close(frame))) => {
                // The answer to it leaves with the next read.
                _ = tokio::time::timeout(PATIENCE, self.ws.next()).await;
                Err(End::Closed(frame.map_or(1005, |f| f.code.into())))
            }
            Some(Ok(message)) => Ok(message),
            _ => Err(End::Lost),
        }
    }

    pub async fn next(&mut self) -> Value {
        match self.message().await.expect("a message") {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("not text: {other:?}"),
        }
    }

    /// Everything up to and including the first message of this type.
    pub async fn upto(&mut self, kind: &str) -> Vec<Value> {
        let mut all = Vec::new();
        loop {
            let message = self.next().await;
            let found = message["type"] == kind;
            all.push(message);
            if found {
                return all;
            }
        }
    }

    pub async fn await_type(&mut self, kind: &str) -> Value {
        self.upto(kind).await.pop().unwrap()
    }

    /// Everything up to the end.
    pub async fn rest(&mut self) -> (Vec<Message>, End) {
        let mut all = Vec::new();
        loop {
            match self.message().await {
                Ok(message) => all.push(message),
                Err(end) => return (all, end),
            }
        }
    }
}

pub fn types(messages: &[Value]) -> Vec<&str> {
    messages
        .iter()
        .map(|m| m["type"].as_str().unwrap())
        .collect()
}

/// Rate, channels and samples of a canonical WAV.
pub fn unwav(message: &Value) -> (u32, u16, Vec<i16>) {
    let wav = base64_simd::STANDARD
        .decode_to_vec(message["data"].as_str().unwrap())
        .unwrap();
    let data = wav.windows(4).position(|w| w == b"data").unwrap() + 8;
    let pcm = wav[data..]
        .chunks_exact(2)
        .map(|b| i16::from_le_bytes([b[0], b[1]]))
        .collect();
    (
        u32::from_le_bytes(wav[24..28].try_into().unwrap()),
        u16::from_le_bytes(wav[22..24].try_into().unwrap()),
        pcm,
    )
}

pub fn assert_violation(record: &Record, start: &str) {
    let violations = record.violations();
    assert!(
        violations.iter().any(|v| v.starts_with(start)),
        "{start:?} not in {violations:?}"
    );
}

pub async fn until_event(evi: &EviHandle, is: impl Fn(&What) -> bool) {
    let found = evi.until(|r| r.events.iter().any(|e| is(&e.what)));
    tokio::time::timeout(PATIENCE, found)
        .await
        .expect("the event in time");
}
