//! A whole conversation with a Realtime server: what it sends and what the host asks for, in any order.
//!
//! Nothing panics, and the promises of the seam hold: ready once a connection; an utterance ends once;
//! nothing of it is heard after it was cut, and yet nobody can mute the agent for good; no sound appears
//! that did not come; a tool call is told once and its answer sent once; no response is asked for while
//! another is under way, none while the agent is paused; a truncation never says more than was heard;
//! every message that was skipped says so, once; and every frame that goes out has the fields of the SDK
//! types and no others.
//!
//! The first byte chooses the server; a brace is OpenAI's. Each line is a message of it, but for those that begin with a
//! letter: see [`line`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hume_bridge::{
    agent::{
        Closed, Codec as _, Command, Declared, Event, Persona, Role, SegmentId, ToolResult,
        realtime::{Codec, Server, Settings},
    },
    config::{
        Credentials, Realtime, Secret,
        realtime::{Dialect, Preset, ToolTrigger},
    },
};
use serde_json::{Value, json};

/// Takes any bytes. Panics when a promise is broken.
pub fn run(data: &[u8]) {
    let mut call = Call::new(data.first().map_or(0, |first| (first ^ b'{') % 4));
    for bytes in data.split(|byte| *byte == b'\n') {
        line(&mut call, bytes);
    }
    // An input that spells the next utterance's id has named one of its own so.
    if !data.windows(NEXT.len()).any(|part| part == NEXT.as_bytes()) {
        call.end();
    }
}

/// The id of a response, and of an utterance, that nobody has begun.
const NEXT: &str = "the next one";

/// What a letter means; the words behind it are separated by single blanks.
fn line(call: &mut Call, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (letter, rest) = match text.split_once(' ') {
        Some((letter, rest)) => (letter, rest),
        None => (&*text, ""),
    };
    let (first, more) = rest.split_once(' ').unwrap_or((rest, ""));
    match letter {
        // The caller's voice; a number is so many milliseconds of silence.
        "a" => match first.parse::<usize>() {
            Ok(ms) => call.audio_in(&vec![0xFF; ms.min(20_000) * 8]),
            Err(_) => call.audio_in(&bytes[2.min(bytes.len())..]),
        },
        // A tool's result: the call's id and the result, why there is none, or the agent's last word.
        "r" => call.settle(first, ToolResult::Ok(more)),
        "e" => call.settle(first, ToolResult::Ending(more)),
        "f" => call.settle(
            first,
            ToolResult::Failed {
                error: more,
                content: rest,
            },
        ),
        "s" => call.command(Command::Say { text: rest }),
        "t" => call.command(Command::Prompt { text: rest }),
        "c" => call.command(Command::AddContext { text: rest }),
        "m" => call.command(Command::Remind),
        // Cut: the newest utterance that was heard, or any number; and how much of it was heard.
        "h" => call.cut(first.parse().ok(), more.parse().unwrap_or(20)),
        "p" => call.pause(),
        "u" => call.resume(),
        "x" => call.closed(first.parse().ok(), more),
        // Another connection.
        "n" => call.reconnect(first == "resume"),
        // Audio in short: the response's id, the item's and bytes, as far as they are given.
        "w" => call.audio(first, more),
        _ => match std::str::from_utf8(bytes) {
            Ok(text) => call.message(text),
            // A text frame is UTF-8, or tungstenite has closed the connection.
            Err(_) => call.message(&text),
        },
    }
}

struct Call {
    codec: Codec,
    ready: bool,
    /// The newest utterance that sounded, and how much of each was passed on, in bytes.
    sounded: BTreeMap<u32, u64>,
    ended: BTreeSet<u32>,
    /// Everything up to here has been cut.
    cut: u32,
    /// What the host said that was heard of the utterance it cut last.
    heard: u64,
    /// Tool calls of this connection that were told, and whether they are answered.
    calls: BTreeMap<String, bool>,
    told: usize,
    paused: bool,
    /// So much of the caller's voice has gone up since a response was asked for that is under way.
    asked: Option<usize>,
}

/// Calls that the codec remembers.
const CALLS: usize = 64;

impl Call {
    fn new(server: u8) -> Call {
        let mut config = Realtime::of(match server {
            0 => Preset::OpenAi,
            1 => Preset::LocalAi,
            2 => Preset::Xai,
            _ => Preset::Custom,
        });
        if server == 3 {
            config.dialect = Dialect::Beta;
            config.tool_trigger = ToolTrigger::Arguments;
        }
        let credentials = Credentials {
            hume_api_key: None,
            realtime_api_key: Some(Secret::new("key")),
            twilio_account_sid: String::new(),
            twilio_auth_token: Secret::new(""),
            twilio_phone_number: None,
            twilio_shared_key: None,
            named: BTreeMap::new(),
        };
        let mut call = Call {
            codec: Codec::new(Settings {
                server: Arc::new(Server::new(&config, &credentials)),
                persona: Persona {
                    tools: vec![Declared {
                        name: "hang_up".into(),
                        description: "End the phone call.".into(),
                        parameters: r#"{"type":"object","properties":{}}"#.into(),
                        fallback: None,
                    }],
                    ..Persona::default()
                },
            }),
            ready: false,
            sounded: BTreeMap::new(),
            ended: BTreeSet::new(),
            cut: 0,
            heard: 0,
            calls: BTreeMap::new(),
            told: 0,
            paused: false,
            asked: None,
        };
        call.opened();
        call
    }

    fn opened(&mut self) {
        let mut frames = Vec::new();
        self.codec.opened(&mut |frame| frames.push(frame));
        assert_eq!(frames.len(), 1);
        let frame = self.checked(&frames[0]);
        assert_eq!(frame["type"], "session.update");
        assert_eq!(frame["session"]["tools"][0]["name"], "hang_up");
        assert!(!frames[0].contains("key\""));
    }

    fn reconnect(&mut self, resume: bool) {
        self.codec.reconnect(resume);
        // Nothing of the old connection's is expected or waited for any more.
        (self.ready, self.asked) = (false, None);
        self.calls.clear();
        self.told = 0;
        let newest = self.sounded.keys().last().copied().unwrap_or_default();
        self.cut = self.cut.max(newest);
        self.opened();
    }

    fn frames(&mut self, command: Command<'_>) -> Vec<Value> {
        let mut frames = Vec::new();
        self.codec.command(command, &mut |frame| frames.push(frame));
        frames.iter().map(|frame| self.checked(frame)).collect()
    }

    fn command(&mut self, command: Command<'_>) {
        assert!(self.frames(command).len() <= 2);
    }

    fn audio_in(&mut self, mulaw: &[u8]) {
        if let Some(asked) = &mut self.asked {
            *asked += mulaw.len();
        }
        let mut frames = Vec::new();
        let command = Command::AudioIn(mulaw);
        self.codec.command(command, &mut |frame| frames.push(frame));
        // Not read as JSON: it may be long, and is the one frame that is put together by hand.
        let audio = frames.first().and_then(|frame| {
            frame.strip_prefix(r#"{"type":"input_audio_buffer.append","audio":""#)
        });
        assert_eq!(audio.is_none(), mulaw.is_empty());
        if let Some(audio) = audio {
            let data = audio.strip_suffix(r#""}"#).expect("an end");
            let bytes = base64_simd::STANDARD.decode_to_vec(data).expect("base64");
            assert!(bytes.len() == mulaw.len() || bytes.len() == 6 * mulaw.len());
            frames.remove(0);
        }
        for frame in &frames {
            self.checked(frame);
        }
    }

    fn settle(&mut self, call_id: &str, result: ToolResult<'_>) {
        let frames = self.frames(Command::ToolResult { call_id, result });
        let outputs = frames
            .iter()
            .filter(|frame| frame["item"]["type"] == "function_call_output");
        for output in outputs {
            assert_eq!(output["item"]["call_id"], call_id);
            let text = output["item"]["output"].as_str().expect("a string");
            match result {
                ToolResult::Ok(content) | ToolResult::Ending(content) => assert_eq!(text, content),
                ToolResult::Failed { error, content } => {
                    let read: Value = serde_json::from_str(text).expect("JSON");
                    assert_eq!(read, json!({ "error": error, "message": content }));
                }
            }
            let answered = self.calls.insert(call_id.to_owned(), true);
            assert_eq!(answered, Some(false), "{call_id}: told and not answered");
        }
    }

    fn cut(&mut self, segment: Option<u32>, heard_ms: u64) {
        let newest = self.sounded.keys().last().copied().unwrap_or_default();
        let segment = segment.unwrap_or(newest);
        self.heard = heard_ms;
        let sent = self.sounded.get(&segment).copied().unwrap_or_default() / 8;
        for frame in self.frames(Command::Heard {
            segment: SegmentId(segment),
            heard_ms,
        }) {
            match frame["type"].as_str() {
                Some("conversation.item.truncate") => {
                    let ms = frame["audio_end_ms"].as_u64().expect("an integer");
                    assert!(ms == heard_ms && (1..sent).contains(&ms));
                }
                Some("conversation.item.delete") => assert!(heard_ms == 0 && sent > 0),
                Some("response.cancel" | "response.create" | "conversation.item.create") => {}
                other => panic!("{other:?} for a cut"),
            }
        }
        // A number that was never given cuts what there is, and no more.
        self.cut = self.cut.max(segment.min(newest));
    }

    fn pause(&mut self) {
        self.paused = true;
        let frames = self.frames(Command::Pause);
        let kinds: Vec<_> = frames.iter().map(|frame| &frame["type"]).collect();
        // What was being thought of is not wanted any more.
        assert!(
            kinds == ["session.update"] || kinds == ["session.update", "response.cancel"],
            "{kinds:?}"
        );
    }

    fn resume(&mut self) {
        self.paused = false;
        let frames = self.frames(Command::Resume);
        assert_eq!(frames[0]["type"], "session.update");
    }

    fn closed(&mut self, code: Option<u16>, reason: &str) {
        let meaning = self.codec.closed(code, reason);
        assert_eq!(self.codec.closed(code, reason), meaning);
        assert_ne!(meaning, Closed::HungUp);
    }

    fn audio(&mut self, response: &str, more: &str) {
        let (item, bytes) = more.split_once(' ').unwrap_or((more, ""));
        let bytes = bytes.parse::<usize>().unwrap_or(160).min(10_000);
        let delta = base64_simd::STANDARD.encode_to_string(vec![0x55; bytes]);
        let mut message = json!({ "type": "response.output_audio.delta", "delta": delta });
        for (name, id) in [("response_id", response), ("item_id", item)] {
            if !id.is_empty() {
                message[name] = id.into();
            }
        }
        self.message(&message.to_string());
    }

    fn message(&mut self, text: &str) {
        let (mut ignored, mut audio, mut errors) = (0, 0, 0);
        let mut frames = Vec::new();
        // What ends a response, or says that there is none, opens the way for another; so do the caller's
        // words, for one without a name that was cut.
        let ends = ["response.done", "error", "input_audio", "\\"];
        if ends.iter().any(|end| text.contains(end)) {
            self.asked = None;
        }
        let Call {
            codec,
            ready,
            sounded,
            ended,
            cut,
            calls,
            told,
            ..
        } = self;
        codec.message(
            text,
            &mut |event| {
                assert_eq!(
                    ignored, 0,
                    "nothing comes of a message after it was skipped"
                );
                match event {
                    Event::Ready { chat, .. } => {
                        assert!(!std::mem::replace(ready, true));
                        assert!((1..=512).contains(&chat.len()));
                    }
                    Event::Audio { segment, mulaw } => {
                        assert!(!mulaw.is_empty());
                        assert!(segment.0 > *cut, "{segment:?} was cut, as all up to {cut}");
                        *sounded.entry(segment.0).or_default() += mulaw.len() as u64;
                        audio += mulaw.len();
                    }
                    Event::SegmentEnd { segment } => {
                        assert!(sounded.contains_key(&segment.0), "{segment:?} had no audio");
                        assert!(ended.insert(segment.0), "{segment:?} ends twice");
                    }
                    Event::TurnDone
                    | Event::Expires { .. }
                    | Event::CallerSpeaks
                    | Event::CallerSpoke => {}
                    Event::Interrupt | Event::ToolCancelled { .. } => {
                        panic!("a Realtime server tells no such thing")
                    }
                    Event::Transcript {
                        role,
                        text,
                        interim,
                        replace,
                    } => {
                        assert!(!text.trim().is_empty() && text.len() <= 3072);
                        assert!(role == Role::Caller || !interim && !replace);
                    }
                    Event::ToolCall {
                        call_id,
                        name,
                        expects_reply,
                        ..
                    } => {
                        for id in [call_id, name] {
                            assert!((1..=512).contains(&id.len()));
                        }
                        assert!(expects_reply);
                        *told += 1;
                        // Beyond that many the oldest is forgotten.
                        let before = calls.insert(call_id.to_owned(), false);
                        assert!(before.is_none() || *told > CALLS, "{call_id} is told twice");
                    }
                    Event::Error { code, ends } => {
                        errors += 1;
                        assert!((1..=64).contains(&code.len()));
                        assert!(ends != Some(Closed::HungUp), "an error is no hang-up");
                    }
                    Event::Ignored { why } => {
                        ignored += 1;
                        assert!(!format!("{why:?}").is_empty());
                    }
                }
            },
            &mut |frame| frames.push(frame),
        );
        assert!(errors <= 1);
        for frame in &frames {
            self.checked(frame);
        }
        // Four characters for three bytes; a filter gives out what it held, once for each utterance that
        // ends.
        assert!(
            audio <= text.len() * 3 / 4 + 33 * 65,
            "{audio} of {}",
            text.len()
        );
    }

    /// However it went, the next response is heard, as a new utterance, and ends once.
    fn end(&mut self) {
        if self.paused {
            self.resume();
        }
        let before = self.sounded.keys().last().copied().unwrap_or_default();
        self.message(
            &json!({ "type": "response.created", "response": { "id": NEXT } }).to_string(),
        );
        self.audio(NEXT, &format!("{NEXT} 4800").replacen(' ', "-", 2));
        let next = self.sounded.keys().last().copied().unwrap_or_default();
        assert!(next > before && next > self.cut, "muted");
        self.message(&json!({ "type": "response.done", "response": { "id": NEXT } }).to_string());
        assert!(self.ended.contains(&next));
    }

    /// A frame of ours, as the SDK types have it: nothing missing, nothing besides.
    fn checked(&mut self, frame: &str) -> Value {
        let value: Value = serde_json::from_str(frame).expect("JSON");
        let kind = value["type"].as_str().expect("a type").to_owned();
        let (required, optional): (&[&str], &[&str]) = match &*kind {
            "session.update" => (&["event_id", "session"], &[]),
            "conversation.item.create" => (&["event_id", "item"], &[]),
            "conversation.item.truncate" => (
                &["event_id", "item_id", "content_index", "audio_end_ms"],
                &[],
            ),
            "conversation.item.delete" => (&["event_id", "item_id"], &[]),
            "response.create" => (&["event_id"], &["response"]),
            "response.cancel" => (&["event_id"], &["response_id"]),
            other => panic!("{other} is none of the protocol's"),
        };
        fields(&value, required, optional);
        if kind == "response.create" || value["item"]["type"] == "force_message" {
            assert!(self.ready && !self.paused, "{frame}");
            // Unless nothing has come of the other for a long time.
            let free = self.asked.is_none_or(|bytes| bytes >= 160_000);
            assert!(free, "{frame}: while another is under way");
            self.asked = Some(0);
        }
        if let Some(response) = value.get("response") {
            let known = &[
                "instructions",
                "input",
                "tool_choice",
                "output_modalities",
                "modalities",
            ];
            fields(response, &[], known);
        }
        if let Some(item) = value.get("item") {
            match item["type"].as_str() {
                Some("function_call_output") => fields(item, &["call_id", "output"], &[]),
                Some("message" | "force_message") => {
                    fields(item, &["role", "content"], &[]);
                    let content = item["content"].as_array().expect("a list");
                    assert_eq!(content.len(), 1);
                    fields(&content[0], &["text"], &[]);
                }
                other => panic!("{other:?} is no item of ours"),
            }
        }
        value
    }
}

/// An object with these fields and perhaps those, besides its type.
fn fields(value: &Value, required: &[&str], optional: &[&str]) {
    let object = value.as_object().expect("an object");
    for name in object.keys().filter(|name| *name != "type") {
        let name = &&**name;
        assert!(
            required.contains(name) || optional.contains(name),
            "{value}"
        );
    }
    assert!(
        required.iter().all(|name| object.contains_key(*name)),
        "{value}"
    );
}
