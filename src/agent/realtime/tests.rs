//! Telephone conversations, told to the codec in a server's own words.
//!
//! An event is written as a line ("audio 1 160" is 160 bytes of the first utterance), a frame as JSON
//! without its event id.

mod broken;
mod caller;
mod session;
mod tools;
mod turns;

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::{Codec, Server, Settings};
use crate::{
    agent::{Closed, Codec as _, Command, Declared, Event, Persona, Role, SegmentId, ToolResult},
    config::{self, Credentials, Realtime, Secret, realtime::Preset},
};

fn credentials() -> Credentials {
    Credentials {
        hume_api_key: None,
        realtime_api_key: Some(Secret::new("the-key")),
        twilio_account_sid: String::new(),
        twilio_auth_token: Secret::new(""),
        twilio_phone_number: None,
        twilio_shared_key: None,
        named: BTreeMap::from([("crm".to_owned(), Secret::new("the-crm-key"))]),
    }
}

fn settings(config: &Realtime) -> Settings {
    Settings {
        server: Arc::new(Server::new(config, &credentials())),
        persona: Persona::default(),
    }
}

/// One call's codec, and the last frames it sent with their event ids.
struct Call {
    codec: Codec,
    sent: Vec<Value>,
}

fn line(event: Event<'_>) -> String {
    match event {
        Event::Ready {
            chat,
            resumed: false,
        } => format!("ready {chat}"),
        Event::Ready { chat, .. } => format!("resumed {chat}"),
        Event::Expires { at } => {
            let since = at.duration_since(std::time::SystemTime::UNIX_EPOCH);
            format!("expires {}", since.unwrap().as_secs())
        }
        Event::Audio { segment, mulaw } => format!("audio {} {}", segment.0, mulaw.len()),
        Event::SegmentEnd { segment } => format!("end {}", segment.0),
        Event::TurnDone => "turn".into(),
        Event::Interrupt => "interrupt".into(),
        Event::CallerSpeaks => "speaks".into(),
        Event::CallerSpoke => "spoke".into(),
        Event::Transcript {
            role,
            text,
            interim,
            replace,
        } => {
            let who = match role {
                Role::Agent => "agent",
                Role::Caller => "caller",
            };
            let interim = if interim { "..." } else { "" };
            let replace = if replace { "again" } else { "" };
            format!("{who}{replace}: {text}{interim}")
        }
        Event::ToolCall {
            call_id,
            name,
            arguments,
            expects_reply,
        } => {
            assert!(expects_reply);
            format!("tool {call_id} {name} {arguments}")
        }
        Event::ToolCancelled { call_id } => format!("tool cancelled {call_id}"),
        Event::Error { code, ends } => format!("error {code} {ends:?}"),
        Event::Ignored { why } => format!("ignored {why:?}"),
    }
}

impl Call {
    /// Before its socket is open.
    fn dialled(change: impl FnOnce(&mut Realtime)) -> Call {
        let mut config = Realtime::of(Preset::OpenAi);
        change(&mut config);
        Call {
            codec: Codec::new(settings(&config)),
            sent: Vec::new(),
        }
    }

    /// The session is up, and nobody has said a word.
    fn with(change: impl FnOnce(&mut Realtime)) -> Call {
        let mut call = Call::dialled(|config| {
            config.greet = config::realtime::Greet::No;
            change(config);
        });
        call.opened();
        call.hears(updated(), &["ready sess_1"], &[]);
        call
    }

    fn new() -> Call {
        Call::with(|_| {})
    }

    fn opened(&mut self) -> Value {
        let mut frames = Vec::new();
        self.codec.opened(&mut |frame| frames.push(frame));
        assert_eq!(frames.len(), 1);
        let update: Value = serde_json::from_str(&frames[0]).unwrap();
        assert_eq!(update["type"], "session.update");
        update["session"].clone()
    }

    /// The server says this; it comes to these events and these frames.
    #[track_caller]
    fn hears(&mut self, message: Value, events: &[&str], frames: &[Value]) {
        let (mut told, mut sent) = (Vec::new(), Vec::new());
        self.codec.message(
            &message.to_string(),
            &mut |event| told.push(line(event)),
            &mut |frame| sent.push(frame),
        );
        assert_eq!(told, events, "{message}");
        self.sends(sent, frames);
    }

    #[track_caller]
    fn told(&mut self, command: Command<'_>, frames: &[Value]) {
        let mut sent = Vec::new();
        self.codec.command(command, &mut |frame| sent.push(frame));
        self.sends(sent, frames);
    }

    #[track_caller]
    fn sends(&mut self, sent: Vec<String>, frames: &[Value]) {
        let read = |frame: &String| serde_json::from_str::<Value>(frame).unwrap();
        self.sent = sent.iter().map(read).collect();
        let mut bare = self.sent.clone();
        for frame in &mut bare {
            let id = frame.as_object_mut().unwrap().remove("event_id");
            assert!(id.is_some() || frame["type"] == "input_audio_buffer.append");
        }
        assert_eq!(bare, frames);
    }

    /// The event id of the last frame sent.
    fn event(&self) -> String {
        self.sent.last().unwrap()["event_id"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    #[track_caller]
    fn heard(&mut self, segment: u32, heard_ms: u64, frames: &[Value]) {
        let segment = SegmentId(segment);
        self.told(Command::Heard { segment, heard_ms }, frames);
    }

    #[track_caller]
    fn answers(&mut self, call_id: &str, text: &str, frames: &[Value]) {
        let result = ToolResult::Ok(text);
        self.told(Command::ToolResult { call_id, result }, frames);
    }

    /// A response of the server's own that is heard, in one second of audio, and done.
    #[track_caller]
    fn says(&mut self, response: &str, item: &str, segment: u32, text: &str) {
        let audio = format!("audio {segment} 8000");
        let end = format!("end {segment}");
        let words = format!("agent: {text}");
        self.hears(created(response), &[], &[]);
        self.hears(delta(response, item, 8000), &[&audio], &[]);
        self.hears(audio_done(response, item), &[&end], &[]);
        self.hears(transcript(response, item, text), &[&words], &[]);
        self.hears(done(response), &["turn"], &[]);
    }

    fn lost(&mut self) {
        self.codec.reconnect(true);
        self.opened();
    }
}

fn updated() -> Value {
    json!({ "type": "session.updated", "session": { "id": "sess_1", "type": "realtime" } })
}

fn created(id: &str) -> Value {
    json!({ "type": "response.created", "response": { "id": id, "status": "in_progress" } })
}

fn done(id: &str) -> Value {
    done_as(id, "completed")
}

fn done_as(id: &str, status: &str) -> Value {
    json!({ "type": "response.done", "response": { "id": id, "status": status, "output": [] } })
}

fn failed(id: &str, code: &str) -> Value {
    json!({ "type": "response.done", "response": {
        "id": id, "status": "failed", "output": [],
        "status_details": { "type": "failed", "error": { "type": "server_error", "code": code } } } })
}

fn delta(response: &str, item: &str, bytes: usize) -> Value {
    let delta = base64_simd::STANDARD.encode_to_string(vec![0x55; bytes]);
    json!({ "type": "response.output_audio.delta", "response_id": response, "item_id": item,
        "output_index": 0, "content_index": 0, "delta": delta })
}

fn audio_done(response: &str, item: &str) -> Value {
    json!({ "type": "response.output_audio.done", "response_id": response, "item_id": item,
        "output_index": 0, "content_index": 0 })
}

fn transcript(response: &str, item: &str, text: &str) -> Value {
    json!({ "type": "response.output_audio_transcript.done", "response_id": response,
        "item_id": item, "output_index": 0, "content_index": 0, "transcript": text })
}

fn speech_started(item: &str) -> Value {
    json!({ "type": "input_audio_buffer.speech_started", "audio_start_ms": 1, "item_id": item })
}

fn committed(item: &str) -> Value {
    json!({ "type": "input_audio_buffer.committed", "item_id": item })
}

fn heard_words(item: &str, text: &str) -> Value {
    json!({ "type": "conversation.item.input_audio_transcription.completed", "item_id": item,
        "content_index": 0, "transcript": text, "usage": {} })
}

fn error(code: &str, event_id: Option<&str>) -> Value {
    json!({ "type": "error", "error": { "type": "invalid_request_error", "code": code,
        "message": "words", "event_id": event_id } })
}

fn create() -> Value {
    json!({ "type": "response.create" })
}

fn cancel(id: &str) -> Value {
    json!({ "type": "response.cancel", "response_id": id })
}

fn truncate(item: &str, ms: u64) -> Value {
    json!({ "type": "conversation.item.truncate", "item_id": item, "content_index": 0,
        "audio_end_ms": ms })
}

fn delete(item: &str) -> Value {
    json!({ "type": "conversation.item.delete", "item_id": item })
}

fn user(text: &str) -> Value {
    message("user", "input_text", text)
}

fn message(role: &str, kind: &str, text: &str) -> Value {
    json!({ "type": "conversation.item.create", "item": {
        "type": "message", "role": role, "content": [{ "type": kind, "text": text }] } })
}

fn output(call_id: &str, output: &str) -> Value {
    json!({ "type": "conversation.item.create", "item": {
        "type": "function_call_output", "call_id": call_id, "output": output } })
}

fn call_item(call_id: &str, name: &str, arguments: &str, status: &str) -> Value {
    json!({ "id": format!("item_{call_id}"), "type": "function_call", "status": status,
        "call_id": call_id, "name": name, "arguments": arguments })
}

fn item_done(response: &str, item: Value) -> Value {
    json!({ "type": "response.output_item.done", "response_id": response, "output_index": 0,
        "item": item })
}

fn tool() -> Declared {
    Declared {
        name: "opening_hours".into(),
        description: "When we open.".into(),
        parameters: r#"{"type":"object","properties":{"day":{"type":"string"}}}"#.into(),
        fallback: None,
    }
}
