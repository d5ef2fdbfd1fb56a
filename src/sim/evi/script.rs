//! What a simulated EVI is to do, as data: the `[agent]` table of a story.
//!
//! Owns the shapes and their checks; runs nothing. A step is a table with exactly one verb
//! (`{ say = "agent-hours", rate = 24000 }`); an option that does not belong to the verb, or any
//! unknown key, is an error, so a misspelt story fails before a call is placed. Times are virtual:
//! `"300ms"`, `"2s"`, `"1m"`. An empty script is valid: it accepts, becomes ready, and only listens.
//!
//! ```toml
//! [agent]
//! greeting = [{ say = "agent-greeting" }, { end = true }]
//! [[agent.replies]]
//! heard = "when are you open"
//! steps = [{ say = "agent-hours", message_ms = [100, 333, 1200] }, { end = true }]
//! [[agent.replies]]
//! steps = [{ say = "agent-goodbye" }, { end = true }, { tool = { name = "hang_up" } }, { close = 1000 }]
//! ```

use serde::{Deserialize, Deserializer, de::Error as _};

/// A story's agent. Everything has a default; see the fields.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// How each TCP connection is received, in order, and those beyond the list.
    pub handshake: Vec<Handshake>,
    pub then_handshake: Handshake,
    /// What each accepted chat begins with, in order, and those beyond the list.
    pub opening: Vec<Opening>,
    pub then_opening: Opening,
    /// From the 101 to `chat_metadata`.
    pub ready_after: Millis,
    /// Run when a new chat is ready.
    pub greeting: Vec<Step>,
    /// Run when a resumed chat is ready. A resumed chat is not greeted again.
    pub resumed: Vec<Step>,
    /// Reactions, each used once. Their place in the order survives a resume.
    pub replies: Vec<Reply>,
    /// Silence that ends an utterance, counted in samples received.
    pub end_of_turn: Millis,
    /// Voice that counts as an interruption.
    pub interrupt_after: Millis,
    /// When the caller's voice is an interruption at all.
    pub interruptible: Interruptible,
    /// Send `assistant_end` for a reply that was interrupted.
    pub end_on_interruption: bool,
    /// Send all 48 prosody scores (and `assistant_prosody`); otherwise `prosody` is null.
    pub prosody: bool,
    /// Add a field of the future to every message.
    pub extra_fields: bool,
    /// Send every `session_settings` back, as later servers do.
    pub mirror_settings: bool,
    /// After this long without an answer the server answers a tool call itself with `tool_error`.
    pub tool_timeout: Millis,
    /// Refuse resumption with this error code (E0708, E0720).
    pub refuse_resume: Option<String>,
    /// Refuse a chat of a group of which another chat is still open (E0301).
    pub one_chat_a_group: bool,
    /// Read nothing after the settings: pings stay unanswered, while speech still goes out.
    pub never_pong: bool,
    /// A Realtime server's session ends when it is this old.
    pub session_limit: Option<Millis>,
    /// Set by [`Script::echo_load`].
    #[serde(skip)]
    pub(in crate::sim) load: bool,
}

impl Default for Script {
    fn default() -> Script {
        Script {
            handshake: Vec::new(),
            then_handshake: Handshake::Accept,
            opening: Vec::new(),
            then_opening: Opening::Ready,
            ready_after: Millis(0.0),
            greeting: Vec::new(),
            resumed: Vec::new(),
            replies: Vec::new(),
            end_of_turn: Millis(500.0),
            interrupt_after: Millis(200.0),
            interruptible: Interruptible::Speaking,
            end_on_interruption: false,
            prosody: false,
            extra_fields: false,
            mirror_settings: false,
            tool_timeout: Millis(60_000.0),
            refuse_resume: None,
            one_chat_a_group: false,
            never_pong: false,
            session_limit: None,
            load: false,
        }
    }
}

impl Script {
    /// The script of the load command: every chat is sent 100 ms of 48 kHz audio ten times a second,
    /// for ever; what it sends is timestamped by the hooks and neither parsed nor kept.
    pub fn echo_load() -> Script {
        Script {
            load: true,
            ..Script::default()
        }
    }

    /// Every clip that may be said, with its rate.
    pub(in crate::sim) fn says(&self) -> impl Iterator<Item = &Say> {
        self.steps().filter_map(|s| match s {
            Step::Say(say) => Some(say),
            _ => None,
        })
    }

    /// The first thing in it that EVI knows nothing of.
    pub(super) fn foreign(&self) -> Option<&'static str> {
        let verb = |step: &Step| match step {
            Step::Fail(_) => Some("fail"),
            Step::Mute => Some("mute"),
            _ => None,
        };
        let limit = self.session_limit.map(|_| "session_limit");
        limit.or_else(|| self.steps().find_map(verb))
    }

    fn steps(&self) -> impl Iterator<Item = &Step> {
        self.greeting
            .iter()
            .chain(&self.resumed)
            .chain(self.replies.iter().flat_map(|r| &r.steps))
    }
}

/// A virtual duration in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Millis(pub f64);

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Millis, D::Error> {
        let text = String::deserialize(d)?;
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let scale = match &text[digits.len()..] {
            "ms" => 1.0,
            "s" => 1000.0,
            "m" => 60_000.0,
            _ => {
                return Err(D::Error::custom(format!(
                    "{text:?} is not a time such as \"300ms\""
                )));
            }
        };
        match digits.parse::<f64>() {
            Ok(n) if n >= 0.0 && n.is_finite() => Ok(Millis(n * scale)),
            _ => Err(D::Error::custom(format!(
                "{text:?} is not a time such as \"300ms\""
            ))),
        }
    }
}

/// How a TCP connection is received: a status (`503`), `"accept"`, `"silent"` or `"close"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawHandshake")]
pub enum Handshake {
    Accept,
    /// An HTTP status instead of 101.
    Status(u16),
    /// The connection stands, nothing is ever answered.
    Silent,
    /// The connection is closed unread.
    Close,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawHandshake {
    Status(u16),
    Word(String),
}

impl TryFrom<RawHandshake> for Handshake {
    type Error = String;
    fn try_from(raw: RawHandshake) -> Result<Handshake, String> {
        match raw {
            RawHandshake::Status(s @ 300..=599) => Ok(Handshake::Status(s)),
            RawHandshake::Status(s) => Err(format!("handshake status {s} is not a refusal")),
            RawHandshake::Word(w) => match w.as_str() {
                "accept" => Ok(Handshake::Accept),
                "silent" => Ok(Handshake::Silent),
                "close" => Ok(Handshake::Close),
                _ => Err(format!(
                    "handshake {w:?}: a status, \"accept\", \"silent\" or \"close\""
                )),
            },
        }
    }
}

/// What an accepted chat begins with: `"ready"`, `"never"` or an error code such as `"E0300"`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum Opening {
    Ready,
    /// 101, then no word.
    Never,
    /// 101, an in-band error, close 1000 (EVI docs).
    Error(String),
}

impl From<String> for Opening {
    fn from(word: String) -> Opening {
        match word.as_str() {
            "ready" => Opening::Ready,
            "never" => Opening::Never,
            _ => Opening::Error(word),
        }
    }
}

/// When the caller's voice interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interruptible {
    /// While generating, and for as long as what was sent takes to play.
    Speaking,
    /// Only while generating: afterwards no `user_interruption` comes, only `user_message` (the audio
    /// guide's reading).
    Generating,
    Never,
}

/// What starts a reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum On {
    /// The next utterance of the caller, spoken or written (`user_input`).
    #[default]
    Utterance,
    /// The next that is written; what no such reply waits for is an utterance.
    Prompt,
    /// The next answer to a tool call that is still waited for.
    ToolAnswer,
    /// The next interruption.
    Interruption,
}

/// A reaction of the agent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reply {
    pub on: On,
    /// The words the agent understood; for `on = "utterance"`.
    pub heard: Option<String>,
    /// For `prompt` and `tool_answer`: what is written, or answered, has these words in it.
    pub content: Option<String>,
    /// For `tool_answer`: it is a result, or it is an error.
    pub ok: Option<bool>,
    /// Interim transcripts, the k-th after k * 300 ms of voice; only sent if the client asked for
    /// `verbose_transcription`.
    pub interims: Vec<String>,
    /// Final transcripts ahead of the whole one, each a superset of the last (EVI docs).
    pub earlier_finals: Vec<String>,
    pub steps: Vec<Step>,
}

impl Reply {
    /// Whether this text has the words in it that the reply waits for.
    pub(in crate::sim) fn has(&self, text: &str) -> bool {
        self.content
            .as_ref()
            .is_none_or(|words| text.contains(words.as_str()))
    }
}

/// One thing that the agent does.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "RawStep")]
pub enum Step {
    Say(Say),
    /// `assistant_end`.
    End,
    Tool(Tool),
    Wait(Millis),
    Close {
        code: u16,
        reason: String,
    },
    /// An `error` message. Does not close by itself: not all errors do.
    Error {
        code: String,
        slug: String,
        message: String,
    },
    /// This text frame as it stands.
    Raw(String),
    /// A binary frame.
    Binary,
    /// A `user_interruption` that means nothing.
    SpuriousInterruption,
    /// The TCP connection is gone, without a close frame.
    Drop,
    /// Neither read nor write again: half-open.
    Freeze,
    /// Two more `audio_output` of the segment that was interrupted.
    StaleAudio,
    /// A `tool_error` by the server for the call that waits, or for one made up for it.
    ServerToolError,
    /// The built-in pair: `tool_call` that wants no answer, `tool_response` by the server.
    WebSearch,
    /// Of a Realtime server alone: the response fails with this error.
    Fail(String),
    /// Of a Realtime server alone: an answer in writing, without a voice.
    Mute,
}

/// A segment of speech: its text, then its audio, each message a complete WAV.
#[derive(Clone, Debug)]
pub struct Say {
    /// The clip's name.
    pub clip: String,
    /// Words instead of the clip's own.
    pub text: Option<String>,
    /// Of the WAV, in Hz.
    pub rate: u32,
    /// A LIST chunk of odd size ahead of the data.
    pub list_chunk: bool,
    pub stereo: bool,
    /// Chunk sizes as a streaming writer leaves them: 0xFFFFFFFF and, in every other message, 0.
    pub streaming_size: bool,
    /// Lengths of the messages; after the last, all but the first are repeated.
    pub message_ms: Vec<u32>,
    /// How much faster than real time; 0 is everything at once.
    pub realtime_factor: f64,
    /// Marked as a quick response.
    pub quick: bool,
}

/// A tool call.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    pub name: String,
    /// JSON, in a string as on the wire.
    #[serde(default = "empty_object")]
    pub parameters: String,
    /// The same as a table, in place of it.
    pub arguments: Option<toml::Table>,
    #[serde(default)]
    pub kind: ToolKind,
    #[serde(default = "yes")]
    pub response_required: bool,
    /// Hold the following steps until the answer; unless said otherwise, if an answer is required.
    pub wait: Option<bool>,
}

/// The `tool_type` of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolKind {
    #[default]
    Function,
    Builtin,
    /// The field is left out (to be read as a function).
    None,
}

fn empty_object() -> String {
    "{}".into()
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStep {
    say: Option<String>,
    text: Option<String>,
    rate: Option<u32>,
    list_chunk: Option<bool>,
    stereo: Option<bool>,
    streaming_size: Option<bool>,
    message_ms: Option<Vec<u32>>,
    realtime_factor: Option<f64>,
    quick: Option<bool>,
    end: Option<bool>,
    tool: Option<Tool>,
    wait: Option<Millis>,
    close: Option<u16>,
    reason: Option<String>,
    error: Option<String>,
    slug: Option<String>,
    message: Option<String>,
    raw: Option<String>,
    binary: Option<bool>,
    spurious_interruption: Option<bool>,
    drop: Option<bool>,
    freeze: Option<bool>,
    stale_audio: Option<bool>,
    server_tool_error: Option<bool>,
    web_search: Option<bool>,
    fail: Option<String>,
    mute: Option<bool>,
}

impl TryFrom<RawStep> for Step {
    type Error = String;

    fn try_from(raw: RawStep) -> Result<Step, String> {
        let say_options = raw.text.is_some()
            || raw.rate.is_some()
            || raw.list_chunk.is_some()
            || raw.stereo.is_some()
            || raw.streaming_size.is_some()
            || raw.message_ms.is_some()
            || raw.realtime_factor.is_some()
            || raw.quick.is_some();
        let error_options = raw.slug.is_some() || raw.message.is_some();
        let close_options = raw.reason.is_some();
        let mut verbs: Vec<Step> = Vec::new();

        if let Some(clip) = raw.say {
            let say = Say {
                text: raw.text,
                rate: raw.rate.unwrap_or(48_000),
                list_chunk: raw.list_chunk.unwrap_or(false),
                stereo: raw.stereo.unwrap_or(false),
                streaming_size: raw.streaming_size.unwrap_or(false),
                message_ms: raw.message_ms.unwrap_or_else(|| Say::MESSAGE_MS.to_vec()),
                realtime_factor: raw.realtime_factor.unwrap_or(0.0),
                quick: raw.quick.unwrap_or(false),
                clip,
            };
            say.check()?;
            verbs.push(Step::Say(say));
        } else if say_options {
            return Err("an option of `say` in a step that says nothing".into());
        }
        if let Some(code) = raw.close {
            if !(1000..5000).contains(&code) {
                return Err(format!("close = {code} is not a WebSocket close code"));
            }
            verbs.push(Step::Close {
                code,
                reason: raw.reason.unwrap_or_default(),
            });
        } else if close_options {
            return Err("`reason` without `close`".into());
        }
        if let Some(code) = raw.error {
            verbs.push(Step::Error {
                code,
                slug: raw.slug.unwrap_or_else(|| "simulated".into()),
                message: raw.message.unwrap_or_else(|| "as the script says".into()),
            });
        } else if error_options {
            return Err("`slug` or `message` without `error`".into());
        }
        if let Some(mut tool) = raw.tool {
            if let Some(arguments) = tool.arguments.take() {
                if tool.parameters != empty_object() {
                    return Err(format!(
                        "tool {:?}: parameters and arguments are the same thing",
                        tool.name
                    ));
                }
                tool.parameters = serde_json::to_string(&arguments).map_err(|e| e.to_string())?;
            }
            if tool.kind == ToolKind::Builtin && tool.response_required {
                return Err(format!(
                    "tool {:?}: a builtin wants response_required = false",
                    tool.name
                ));
            }
            verbs.push(Step::Tool(tool));
        }
        verbs.extend(raw.wait.map(Step::Wait));
        verbs.extend(raw.raw.map(Step::Raw));
        verbs.extend(raw.fail.map(Step::Fail));
        for (said, step) in [
            (raw.end, Step::End),
            (raw.binary, Step::Binary),
            (raw.spurious_interruption, Step::SpuriousInterruption),
            (raw.drop, Step::Drop),
            (raw.freeze, Step::Freeze),
            (raw.stale_audio, Step::StaleAudio),
            (raw.server_tool_error, Step::ServerToolError),
            (raw.web_search, Step::WebSearch),
            (raw.mute, Step::Mute),
        ] {
            match said {
                Some(true) => verbs.push(step),
                Some(false) => return Err(format!("{step:?} = false does nothing; leave it out")),
                None => {}
            }
        }
        match (verbs.pop(), verbs.is_empty()) {
            (Some(step), true) => Ok(step),
            (None, _) => Err("a step without a verb (say, end, tool, wait, close, ...)".into()),
            (Some(_), false) => Err("a step with more than one verb; write two steps".into()),
        }
    }
}

impl Say {
    /// A short message first, as a service that cares for latency sends, then sizes that are
    /// multiples of no frame.
    pub const MESSAGE_MS: [u32; 3] = [200, 333, 517];

    /// A clip said in the usual way: 48 kHz mono, everything at once.
    pub fn clip(name: &str) -> Say {
        Say {
            clip: name.into(),
            text: None,
            rate: 48_000,
            list_chunk: false,
            stereo: false,
            streaming_size: false,
            message_ms: Say::MESSAGE_MS.to_vec(),
            realtime_factor: 0.0,
            quick: false,
        }
    }

    /// Words that no clip has, spoken as a tone: how `assistant_input` is answered.
    pub(in crate::sim) fn words(text: String) -> Say {
        Say {
            text: Some(text),
            ..Say::clip("")
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.clip.is_empty() {
            return Err("say = \"\": name a clip".into());
        }
        if !(8_000..=48_000).contains(&self.rate) {
            return Err(format!("rate = {}: between 8000 and 48000", self.rate));
        }
        if self.message_ms.is_empty() || self.message_ms.contains(&0) {
            return Err("message_ms: at least one length, and none of 0".into());
        }
        if !(self.realtime_factor >= 0.0 && self.realtime_factor.is_finite()) {
            return Err("realtime_factor: 0 (at once) or more".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(toml: &str) -> Result<Script, String> {
        toml::from_str(toml).map_err(|e| e.to_string())
    }

    #[test]
    fn a_story_reads_as_it_is_written() {
        let s = script(
            r#"
            handshake = [401, "silent", "close", "accept"]
            opening = ["ready", "never", "E0300"]
            ready_after = "1.5s"
            interruptible = "generating"
            greeting = [{ say = "agent-greeting", rate = 24000, stereo = true }, { end = true }]
            [[replies]]
            steps = [{ tool = { name = "x", kind = "none" } }, { wait = "300ms" }, { close = 1000 }]
            [[replies]]
            on = "tool_answer"
            ok = false
            content = "no such day"
            steps = [{ tool = { name = "x", arguments = { day = 1, note = "é" } } }, { error = "E0714", slug = "inactivity_timeout" }, { drop = true }]
            "#,
        )
        .unwrap();
        assert_eq!(
            s.handshake,
            [
                Handshake::Status(401),
                Handshake::Silent,
                Handshake::Close,
                Handshake::Accept
            ]
        );
        assert_eq!(s.opening[2], Opening::Error("E0300".into()));
        assert_eq!(s.ready_after, Millis(1500.0));
        assert!(matches!(&s.greeting[0], Step::Say(say) if say.rate == 24000 && say.stereo));
        assert!(matches!(&s.replies[0].steps[0], Step::Tool(t) if t.kind == ToolKind::None));
        assert_eq!(s.replies[1].on, On::ToolAnswer);
        assert_eq!(s.replies[1].ok, Some(false));
        assert!(
            matches!(&s.replies[1].steps[0], Step::Tool(t) if t.parameters == r#"{"day":1,"note":"é"}"#)
        );
        assert!(script("").unwrap().greeting.is_empty());
    }

    #[test]
    fn a_misspelt_story_is_refused() {
        for wrong in [
            "greetings = []",
            "greeting = [{ sya = \"x\" }]",
            "greeting = [{}]",
            "greeting = [{ end = true, drop = true }]",
            "greeting = [{ end = false }]",
            "greeting = [{ end = true, rate = 8000 }]",
            "greeting = [{ say = \"x\", rate = 96000 }]",
            "greeting = [{ say = \"\" }]",
            "greeting = [{ say = \"x\", message_ms = [] }]",
            "greeting = [{ say = \"x\", reason = \"y\" }]",
            "greeting = [{ wait = \"300\" }]",
            "greeting = [{ close = 99 }]",
            "greeting = [{ tool = { name = \"x\", kind = \"builtin\" } }]",
            "greeting = [{ tool = { name = \"x\", timeout = 1 } }]",
            "greeting = [{ tool = { name = \"x\", parameters = \"[]\", arguments = {} } }]",
            "handshake = [101]",
            "handshake = [\"reject\"]",
            "[[replies]]\non = \"silence\"",
            "load = true",
        ] {
            assert!(script(wrong).is_err(), "accepted: {wrong}");
        }
    }
}
