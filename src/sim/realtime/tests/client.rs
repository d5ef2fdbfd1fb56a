//! A client that knows nothing but JSON.

use std::ops::{Deref, DerefMut};

use futures_util::SinkExt as _;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    client_async,
    tungstenite::{Error, Message, client::IntoClientRequest},
};

pub use crate::sim::talk::{End, PATIENCE};
use crate::sim::{
    evi::{self, AgentHandle, Record, Script, What},
    realtime::{Dialect, Options, Realtime},
    talk::Talk,
};

pub const KEY: &str = "simulated-key";

pub struct Client {
    talk: Talk,
    /// Octets of a 20 ms frame, and one loud octet pair.
    linear: bool,
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

pub async fn server(toml: &str) -> AgentHandle {
    server_of(Dialect::Ga, toml).await
}

pub async fn server_of(dialect: Dialect, toml: &str) -> AgentHandle {
    let script: Script = toml::from_str(toml).unwrap();
    let agent = evi::Options {
        api_key: KEY.into(),
        ..evi::Options::default()
    };
    Realtime::start(script, Options { agent, dialect })
        .await
        .unwrap()
}

pub async fn connect(
    server: &AgentHandle,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Result<Client, Error> {
    let mut request = format!("ws://{}{path}", server.addr)
        .into_client_request()
        .unwrap();
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    let tcp = TcpStream::connect(server.addr).await.unwrap();
    let (ws, _) = tokio::time::timeout(PATIENCE, client_async(request, tcp))
        .await
        .unwrap()?;
    Ok(Client {
        talk: Talk { ws },
        linear: false,
    })
}

pub async fn status(server: &AgentHandle, path: &str, headers: &[(&'static str, &str)]) -> u16 {
    match connect(server, path, headers).await {
        Ok(_) => 101,
        Err(Error::Http(response)) => response.status().as_u16(),
        Err(e) => panic!("{e}"),
    }
}

pub fn bearer() -> String {
    format!("Bearer {KEY}")
}

/// Connected, and nothing sent.
pub async fn dial(server: &AgentHandle) -> Client {
    let mut client = connect(
        server,
        "/v1/realtime?model=m",
        &[("Authorization", &bearer())],
    )
    .await
    .unwrap();
    let created = client.next().await;
    assert_eq!(created["type"], "session.created");
    client
}

/// The session of a telephone call; the tables may be changed before it is sent.
pub fn session() -> Value {
    json!({
        "type": "realtime",
        "output_modalities": ["audio"],
        "instructions": "Be brief.",
        "audio": {
            "input": {
                "format": { "type": "audio/pcmu" },
                "transcription": { "model": "gpt-transcribe" },
                "turn_detection": { "type": "server_vad" },
            },
            "output": { "format": { "type": "audio/pcmu" }, "voice": "marin" },
        },
    })
}

/// A call that is ready.
pub async fn call(server: &AgentHandle) -> Client {
    call_with(server, session()).await
}

pub async fn call_with(server: &AgentHandle, session: Value) -> Client {
    let mut client = dial(server).await;
    let linear = session["audio"]["input"]["format"]["type"] == "audio/pcm"
        || session["input_audio_format"] == "pcm16";
    client.linear = linear;
    client
        .send(json!({ "type": "session.update", "session": session }))
        .await;
    client.upto("session.updated").await;
    client
}

impl Client {
    pub async fn send(&mut self, value: Value) {
        self.text(&value.to_string()).await;
    }

    pub async fn text(&mut self, text: &str) {
        self.ws.send(Message::text(text)).await.unwrap();
    }

    /// So much audio, in frames of 20 ms.
    pub async fn audio(&mut self, ms: usize, loud: bool) {
        let frame: Vec<u8> = match (self.linear, loud) {
            (false, true) => [0x20, 0xa0].repeat(80),
            (false, false) => vec![0xff; 160],
            (true, true) => [0x00, 0x20, 0x00, 0xe0].repeat(240),
            (true, false) => vec![0; 960],
        };
        let audio = base64_simd::STANDARD.encode_to_string(frame);
        for _ in 0..ms / 20 {
            self.send(json!({ "type": "input_audio_buffer.append", "audio": audio }))
                .await;
        }
    }

    pub async fn utterance(&mut self) {
        self.audio(400, true).await;
        self.audio(600, false).await;
    }

    pub async fn create(&mut self) {
        self.send(json!({ "type": "response.create", "event_id": "ours" }))
            .await;
    }

    pub async fn output(&mut self, call_id: &Value, output: &str) {
        let item = json!({ "type": "function_call_output", "call_id": call_id, "output": output });
        self.send(json!({ "type": "conversation.item.create", "item": item }))
            .await;
    }
}

pub fn types(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect()
}

/// The octets of all deltas.
pub fn audio(events: &[Value]) -> Vec<u8> {
    let deltas = events.iter().filter(|event| {
        let kind = event["type"].as_str().unwrap_or_default();
        kind == "response.output_audio.delta" || kind == "response.audio.delta"
    });
    let octets = deltas.map(|event| {
        base64_simd::STANDARD
            .decode_to_vec(event["delta"].as_str().unwrap())
            .unwrap()
    });
    octets.collect::<Vec<_>>().concat()
}

/// Whether the deltas are these clips, octet by octet.
pub fn is_said(events: &[Value], clips: &[&str]) -> bool {
    let octets: Vec<u8> = clips
        .iter()
        .flat_map(|clip| evi::test_tones(clip).unwrap().0.to_vec())
        .collect();
    audio(events) == octets
}

/// Whatever else was on record, no rule was broken.
pub async fn clean(server: AgentHandle) -> Record {
    let record = server.stop().await;
    assert_eq!(record.violations(), [""; 0]);
    record
}

/// What the record has of a kind.
pub fn all<T>(record: &Record, of: impl Fn(&What) -> Option<T>) -> Vec<T> {
    record.events.iter().filter_map(|e| of(&e.what)).collect()
}
