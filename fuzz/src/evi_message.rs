//! A whole conversation with EVI: what it sends and what the host asks for, in any order.
//!
//! Nothing panics, and the promises of the seam hold: ready once; utterances end in the order in
//! which they began, each once; nothing of an utterance is heard after it was cut, and yet nobody
//! can mute the agent for good; no sound appears that did not come; a tool call is told once until
//! it is settled; every message that was skipped says so, once; and every frame that goes out is
//! one that the SDK types know, to the letter.
//!
//! Each line is a message of EVI, but for those that begin with a letter: see [`line`].

use std::collections::BTreeSet;

use hume_bridge::{
    agent::{
        Closed, Codec as _, Command, Declared, Event, Persona, Role, SegmentId, ToolResult,
        evi::{Codec, Settings},
    },
    audio::{g711, wav},
    config::Secret,
};
use serde_json::{Value, json};

/// Takes any bytes. Panics when a promise is broken.
pub fn run(data: &[u8]) {
    let mut call = Call::new(data.first().is_some_and(|first| first % 2 == 0));
    for bytes in data.split(|byte| *byte == b'\n') {
        line(&mut call, bytes);
    }
    // An input that spells the last utterance's id has named one of its own so.
    if !data.windows(NEXT.len()).any(|part| part == NEXT.as_bytes()) {
        call.end();
    }
}

/// The id of an utterance that nobody has begun.
const NEXT: &str = "the next utterance";

/// What a letter means; the words behind it are separated by single blanks.
fn line(call: &mut Call, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (letter, rest) = match text.split_once(' ') {
        Some((letter, rest)) => (letter, rest),
        None => (&*text, ""),
    };
    let (first, more) = rest.split_once(' ').unwrap_or((rest, ""));
    match letter {
        // The caller's voice.
        "a" => call.audio_in(&bytes[2.min(bytes.len())..]),
        // A tool's result: the call's id and the result, or why there is none.
        "r" => call.settle(first, ToolResult::Ok(more)),
        "f" => call.settle(
            first,
            ToolResult::Failed {
                error: more,
                content: rest,
            },
        ),
        "s" => call.say(rest),
        "c" => call.context(rest),
        // Cut: the newest utterance that was heard, or any number.
        "h" => call.cut(first.parse().ok()),
        "m" => call.remind(),
        "p" => call.empty(Command::Pause, "pause_assistant_message"),
        "u" => call.empty(Command::Resume, "resume_assistant_message"),
        "x" => call.closed(first.parse().ok()),
        // Another connection: to resume, or anew.
        "n" => call.reconnect(first == "resume"),
        // Audio in short: the utterance's id, rate, frames and channels, as far as they are given.
        "w" => call.wav(first, more),
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
    /// The newest utterance that sounded, and the newest that ended.
    sounded: u32,
    ended: u32,
    /// All that ended.
    ends: BTreeSet<u32>,
    /// Everything up to here has been cut.
    cut: u32,
    /// Tool calls that wait for an answer, by the order in which they came.
    open: Vec<(usize, String)>,
    calls: usize,
    /// The last thing that mattered to a close was an error.
    error: bool,
    /// The connection asks for the chat of the one before.
    resuming: bool,
    /// What the host has added, a line each.
    added: Vec<String>,
}

/// How many calls the codec tells apart at a time.
const CALLS: usize = 8;

fn hang_up() -> Declared {
    Declared {
        name: "hang_up".into(),
        description: "End the phone call.".into(),
        parameters: r#"{"type":"object","properties":{}}"#.into(),
        fallback: None,
    }
}

impl Call {
    fn new(declare_hang_up: bool) -> Call {
        let mut codec = Codec::new(Settings {
            url: "wss://api.hume.ai/v0/evi/chat".into(),
            api_key: Secret::new("key"),
            config_id: None,
            persona: Persona {
                tools: declare_hang_up.then(hang_up).into_iter().collect(),
                ..Persona::default()
            },
        });
        let settings = opened(&mut codec);
        assert_eq!(settings.get("tools").is_some(), declare_hang_up);
        assert!(settings.get("context").is_none());
        Call {
            codec,
            ready: false,
            sounded: 0,
            ended: 0,
            ends: BTreeSet::new(),
            cut: 0,
            open: Vec::new(),
            calls: 0,
            error: false,
            resuming: false,
            added: Vec::new(),
        }
    }

    /// The host's additions are whole and at the end, behind what is told of an old chat, which is bounded.
    fn knows(&self, context: &str) {
        let added = self.added.join("\n");
        assert!(context.ends_with(&added));
        assert!(context.len() <= added.len() + MOST_TOLD);
    }

    /// Another connection, for the same conversation if that can be had.
    fn reconnect(&mut self, resume: bool) {
        self.codec.reconnect(resume);
        self.resuming = self.codec.request().url.contains("resumed_chat_group_id=");
        assert!(resume || !self.resuming);
        let settings = opened(&mut self.codec);
        if let Some(context) = settings.get("context") {
            self.knows(context["text"].as_str().expect("a text"));
        }
        // Nothing of the old connection's is expected or waited for any more.
        self.ready = false;
        self.error = false;
        self.open.clear();
        self.cut = self.cut.max(self.sounded).max(self.ended);
    }

    /// The one frame that this command must make, or none.
    fn command(&mut self, command: Command<'_>) -> Option<Value> {
        let mut frames = Vec::new();
        self.codec.command(command, &mut |frame| frames.push(frame));
        assert!(frames.len() <= 1);
        frames.pop().map(|frame| checked(&frame))
    }

    fn audio_in(&mut self, mulaw: &[u8]) {
        let frame = self.command(Command::AudioIn(mulaw));
        assert_eq!(frame.is_none(), mulaw.is_empty());
        let Some(frame) = frame else { return };
        let data = frame["data"].as_str().expect("base64");
        let pcm = base64_simd::STANDARD.decode_to_vec(data).expect("base64");
        let samples = mulaw
            .iter()
            .flat_map(|code| g711::decode(*code).to_le_bytes());
        assert!(samples.eq(pcm));
    }

    fn settle(&mut self, call_id: &str, result: ToolResult<'_>) {
        let frame = self
            .command(Command::ToolResult { call_id, result })
            .expect("an answer");
        assert_eq!(frame["tool_call_id"], call_id);
        match result {
            ToolResult::Ok(content) | ToolResult::Ending(content) => {
                assert_eq!(frame["type"], "tool_response");
                assert_eq!(frame["content"], content);
            }
            ToolResult::Failed { error, content } => {
                assert_eq!(frame["type"], "tool_error");
                assert_eq!(
                    (&frame["error"], &frame["content"]),
                    (&json!(error), &json!(content))
                );
            }
        }
        self.open.retain(|(_, open)| open != call_id);
    }

    fn say(&mut self, text: &str) {
        let frame = self.command(Command::Say { text });
        assert_eq!(
            frame,
            Some(json!({"type": "assistant_input", "text": text}))
        );
    }

    fn context(&mut self, text: &str) {
        let frame = self
            .command(Command::AddContext { text })
            .expect("settings");
        let sent = frame["context"]["text"].as_str().expect("a text");
        let context = json!({"text": sent, "type": "persistent"});
        assert_eq!(
            frame,
            json!({"type": "session_settings", "context": context})
        );
        if !text.is_empty() {
            self.added.push(text.to_owned());
        }
        self.knows(sent);
    }

    fn remind(&mut self) {
        let frame = self.command(Command::Remind).expect("settings");
        let sent = frame["context"]["text"].as_str().expect("a text");
        self.knows(sent);
    }

    fn empty(&mut self, command: Command<'_>, kind: &str) {
        assert_eq!(self.command(command), Some(json!({"type": kind})));
    }

    fn cut(&mut self, segment: Option<u32>) {
        let segment = segment.unwrap_or(self.sounded);
        let frame = self.command(Command::Heard {
            segment: SegmentId(segment),
            heard_ms: 20,
        });
        // EVI is told nothing.
        assert_eq!(frame, None);
        // A number that was never given cuts what there is, and no more.
        self.cut = self.cut.max(segment.min(self.sounded));
    }

    fn closed(&mut self, code: Option<u16>) {
        let meaning = self.codec.closed(code, "");
        assert_eq!(self.codec.closed(code, ""), meaning);
        if !self.error {
            match code {
                Some(1000) => assert_eq!(meaning, Closed::HungUp),
                None | Some(1001 | 1006 | 1011..=1014) => assert_eq!(meaning, Closed::Lost),
                _ => {}
            }
        }
        assert!(!meaning.to_string().is_empty());
    }

    /// Frames of a sawtooth, as EVI wraps it.
    fn wav(&mut self, id: &str, numbers: &str) {
        let mut numbers = numbers.split(' ').map(|number| number.parse::<u32>().ok());
        let mut number = |default| numbers.next().flatten().unwrap_or(default);
        let (rate, frames, channels) = (number(48_000), number(480), number(1));
        // The usual ones, and some that nobody has; each odd ratio costs a filter of its own.
        const RATES: [u32; 11] = [
            48_000, 24_000, 44_100, 16_000, 8_000, 22_050, 11_025, 32_000, 96_000, 7_999, 192_001,
        ];
        let rate = match RATES.contains(&rate) {
            true => rate,
            false => RATES[rate as usize % RATES.len()],
        };
        let channels = channels.clamp(1, 9) as u16;
        let samples = frames.min(1_000) * u32::from(channels);
        let samples: Vec<i16> = (0..samples)
            .map(|n| (n * 257 % 20_000) as i16 - 10_000)
            .collect();
        let file = wav::write(rate, channels, &samples);
        let data = base64_simd::STANDARD.encode_to_string(file);
        let message = json!({"type": "audio_output", "id": id, "index": 0, "data": data});
        self.message(&message.to_string());
    }

    fn message(&mut self, text: &str) {
        let Call {
            codec,
            ready,
            sounded,
            ended,
            ends,
            cut,
            open,
            calls,
            error,
            resuming,
            added: _,
        } = self;
        let mut ignored = 0;
        let mut audio = 0;
        let mut told = 0;
        codec.message(
            text,
            &mut |event| {
                assert_eq!(
                    ignored, 0,
                    "nothing comes of a message after it was skipped"
                );
                match event {
                    Event::Ready { chat, resumed } => {
                        assert!(!std::mem::replace(ready, true));
                        assert!((1..=512).contains(&chat.len()));
                        assert!(!resumed || *resuming, "nobody asked to resume");
                    }
                    Event::Audio { segment, mulaw } => {
                        assert!(!mulaw.is_empty());
                        assert!(segment.0 > *cut, "{segment:?} was cut, as all up to {cut}");
                        *sounded = (*sounded).max(segment.0);
                        audio += mulaw.len();
                    }
                    Event::SegmentEnd { segment } => {
                        assert!(segment.0 > *ended, "{segment:?} ends behind {ended}");
                        assert!(ends.insert(segment.0));
                        *ended = segment.0;
                    }
                    Event::TurnDone | Event::Interrupt => {}
                    Event::Expires { .. } | Event::CallerSpeaks | Event::CallerSpoke => {
                        panic!("EVI tells no such thing")
                    }
                    Event::Transcript {
                        role,
                        text: said,
                        interim,
                        replace,
                    } => {
                        assert!(said.len() <= text.len());
                        assert!(role == Role::Caller || !interim && !replace);
                        *error = false;
                    }
                    Event::ToolCall {
                        call_id,
                        name,
                        arguments,
                        expects_reply,
                    } => {
                        told += 1;
                        for id in [call_id, name] {
                            assert!((1..=512).contains(&id.len()));
                        }
                        assert!(arguments.len() <= text.len());
                        if expects_reply {
                            // Beyond that many the oldest is forgotten.
                            open.retain(|(n, _)| n + CALLS > *calls);
                            assert!(!open.iter().any(|(_, open)| open == call_id), "told twice");
                            open.push((*calls, call_id.to_owned()));
                            *calls += 1;
                        }
                    }
                    Event::ToolCancelled { call_id } => {
                        told += 1;
                        let at = open.iter().position(|(_, open)| open == call_id);
                        open.remove(at.expect("only what was open is cancelled"));
                    }
                    Event::Error { code, ends } => {
                        told += 1;
                        assert!(code.len() <= 64);
                        assert!(ends != Some(Closed::HungUp), "an error is no hang-up");
                        *error = true;
                    }
                    Event::Ignored { why } => {
                        ignored += 1;
                        assert!(!format!("{why:?}").is_empty());
                    }
                }
            },
            &mut |frame| panic!("{frame}: nobody asked for it"),
        );
        assert!(told <= 1);
        // Two bytes a sample, four characters for three of them, at 8 kHz or more; a filter or two
        // of four milliseconds may give out what they held.
        assert!(
            audio <= text.len() * 3 / 8 + 2 * 33,
            "{audio} of {}",
            text.len()
        );
    }

    /// However it went, the next utterance is heard, as a new one, and ends once.
    fn end(&mut self) {
        let before = self.sounded.max(self.ended);
        self.wav(NEXT, "48000 480 1");
        assert!(self.sounded > before && self.sounded > self.cut, "muted");
        let next = self.sounded;
        self.message(r#"{"type":"assistant_end"}"#);
        assert_eq!(self.ended, next);
        self.cut(Some(next));
        self.wav(NEXT, "48000 480 1");
        assert_eq!(self.sounded, next);
        self.closed(None);
        self.closed(Some(1000));
    }
}

/// What a new chat is told of an old one.
const MOST_TOLD: usize = 3072 + 512;

/// The settings come first, and with the audio's format.
fn opened(codec: &mut Codec) -> Value {
    let mut frames = Vec::new();
    codec.opened(&mut |frame| frames.push(frame));
    assert_eq!(frames.len(), 1);
    let settings = checked(&frames[0]);
    assert_eq!(settings["type"], "session_settings");
    assert_eq!(
        settings["audio"],
        json!({"encoding": "linear16", "sample_rate": 8000, "channels": 1})
    );
    settings
}

/// A frame of ours, read by the SDK types: nothing missing, nothing besides.
fn checked(frame: &str) -> Value {
    let value: Value = serde_json::from_str(frame).expect("JSON");
    let fields: BTreeSet<_> = value
        .as_object()
        .expect("an object")
        .keys()
        .map(|key| &**key)
        .collect();
    let kind = value["type"].as_str().expect("a type");
    let (required, optional): (&[&str], &[&str]) = match kind {
        "audio_input" => (&["data"], &[]),
        "session_settings" => (&[], &["audio", "context", "tools"]),
        "assistant_input" => (&["text"], &[]),
        "tool_response" => (&["tool_call_id", "content"], &[]),
        "tool_error" => (&["tool_call_id", "error", "content", "level"], &[]),
        "pause_assistant_message" | "resume_assistant_message" => (&[], &[]),
        other => panic!("{other} is none of EVI's types"),
    };
    for field in &fields {
        assert!(
            *field == "type" || required.contains(field) || optional.contains(field),
            "{frame}"
        );
    }
    assert!(
        required.iter().all(|field| fields.contains(field)),
        "{frame}"
    );
    value
}
