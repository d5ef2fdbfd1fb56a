//! A client of the simulated EVI that is written for its tests: it shares nothing with the bridge.

use std::ops::{Deref, DerefMut};

use futures_util::SinkExt as _;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    client_async,
    tungstenite::{Error, Message, client::IntoClientRequest},
};

use super::super::*;
use crate::sim::talk::Talk;
pub use crate::sim::talk::{End, PATIENCE};

pub const AUDIO: &str = "session_settings[audio][encoding]=linear16\
    &session_settings[audio][sample_rate]=8000&session_settings[audio][channels]=1";

pub struct Client {
    talk: Talk,
}

impl Deref for Client {
    type Target = Talk;

    fn deref(&self) -> &Talk {
        &self.talk
    }
}

impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut Talk {
        &mut self.talk
    }
}

/// Without a reason.
pub fn closed(code: u16) -> End {
    End::Closed(code, String::new())
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
    Ok(Client { talk: Talk { ws } })
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
