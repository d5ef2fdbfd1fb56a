//! `[realtime]`: how an OpenAI-Realtime server is reached, and in which of its dialects.
//!
//! Servers that speak this protocol differ in details, each of which is a key here. A preset is a set
//! of defaults for one of them: a key that stands in the config is stronger than the preset's.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value};

use super::{Connection, HeaderValue};

/// Whose defaults hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preset {
    #[default]
    OpenAi,
    Azure,
    Xai,
    LocalAi,
    /// The protocol's plainest form, for every other server.
    Custom,
}

impl Preset {
    /// Each by its name in the file.
    pub const NAMES: [(&str, Preset); 5] = [
        ("openai", Preset::OpenAi),
        ("azure", Preset::Azure),
        ("xai", Preset::Xai),
        ("localai", Preset::LocalAi),
        ("custom", Preset::Custom),
    ];
}

/// How the key is shown to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// `Authorization: Bearer KEY`.
    Bearer,
    /// `Authorization: Basic KEY`; the key is sent as it stands in the credentials.
    Basic,
    /// A header of this name with the bare key.
    Header(String),
    /// There is no key.
    None,
}

/// Whose names and shapes are sent. Both are always understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Ga,
    Beta,
}

impl Dialect {
    /// Each by its name in the file.
    pub const NAMES: [(&str, Dialect); 2] = [("ga", Dialect::Ga), ("beta", Dialect::Beta)];
}

/// How audio crosses the wire in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The telephone's own: its bytes go through as they are.
    Pcmu,
    /// 16 bit little-endian mono at this rate in Hz.
    Pcm(u32),
}

impl Format {
    /// Each by its name in the file.
    pub const NAMES: [(&str, Format); 5] = [
        ("pcmu", Format::Pcmu),
        ("pcm@8000", Format::Pcm(8_000)),
        ("pcm@16000", Format::Pcm(16_000)),
        ("pcm@24000", Format::Pcm(24_000)),
        ("pcm@48000", Format::Pcm(48_000)),
    ];
}

/// Something of the session that may be left to the server.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Not sent: the server's own default holds. An empty table in the file.
    Unset,
    /// Sent as `null`: switched off. `false` in the file.
    Off,
    /// Sent as it stands.
    Object(Map<String, Value>),
}

/// Where a field of the session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `session.audio.input` or `session.audio.output`.
    Audio,
    /// `session` itself.
    Session,
}

impl Place {
    /// Each by its name in the file.
    pub const NAMES: [(&str, Place); 2] = [("audio", Place::Audio), ("session", Place::Session)];
}

/// How a tool is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolShape {
    /// `{type, name, description, parameters}`.
    Flat,
    /// `{type, function: {name, description, parameters}}`.
    Nested,
}

impl ToolShape {
    /// Each by its name in the file.
    pub const NAMES: [(&str, ToolShape); 2] =
        [("flat", ToolShape::Flat), ("nested", ToolShape::Nested)];
}

/// What the server says of the caller's words while they are still coming.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserTranscript {
    /// Each delta is more of them.
    Append,
    /// Each is all of them so far.
    Replace,
}

impl UserTranscript {
    /// Each by its name in the file.
    pub const NAMES: [(&str, UserTranscript); 2] = [
        ("append", UserTranscript::Append),
        ("replace", UserTranscript::Replace),
    ];
}

/// What says that the session is as we want it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadyOn {
    /// `session.updated`.
    Updated,
    /// `session.created`, of a server that never confirms.
    Created,
}

impl ReadyOn {
    /// Each by its name in the file.
    pub const NAMES: [(&str, ReadyOn); 2] = [
        ("session.updated", ReadyOn::Updated),
        ("session.created", ReadyOn::Created),
    ];
}

/// Who ends a response that the caller talks over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    Server,
    /// We send `response.cancel`.
    Client,
}

impl Interrupt {
    /// Each by its name in the file.
    pub const NAMES: [(&str, Interrupt); 2] =
        [("server", Interrupt::Server), ("client", Interrupt::Client)];
}

/// What the server is told of an utterance that was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truncate {
    /// How much was heard; one of which nothing was heard is deleted.
    Delete,
    /// How much was heard; of one of which nothing was heard, nothing.
    Keep,
    Off,
}

impl Truncate {
    /// Each by its name in the file, but for [`Truncate::Off`], which is `false` there.
    pub const NAMES: [(&str, Truncate); 2] =
        [("delete", Truncate::Delete), ("keep", Truncate::Keep)];
}

/// What has a tool run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolTrigger {
    /// The finished item, or the finished response that holds it.
    Item,
    /// `response.function_call_arguments.done`, of servers that send nothing else.
    Arguments,
}

impl ToolTrigger {
    /// Each by its name in the file.
    pub const NAMES: [(&str, ToolTrigger); 2] = [
        ("item", ToolTrigger::Item),
        ("arguments", ToolTrigger::Arguments),
    ];
}

/// How the agent is brought to speak first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greet {
    /// By a response with instructions of its own.
    Response,
    /// By a message in the caller's name.
    Message,
    /// Not at all.
    No,
}

impl Greet {
    /// Each by its name in the file, but for [`Greet::No`], which is `false` there.
    pub const NAMES: [(&str, Greet); 2] =
        [("response", Greet::Response), ("message", Greet::Message)];
}

/// How the agent is brought to say given words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Say {
    /// By instructions: mostly word for word, which nobody promises.
    Instruct,
    /// By xAI's `force_message`: word for word.
    Force,
    /// Not at all.
    No,
}

impl Say {
    /// Each by its name in the file, but for [`Say::No`], which is `false` there.
    pub const NAMES: [(&str, Say); 2] = [("instruct", Say::Instruct), ("force", Say::Force)];
}

/// In whose name context is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContextRole {
    System,
    User,
}

impl ContextRole {
    /// Each by its name in the file.
    pub const NAMES: [(&str, ContextRole); 2] =
        [("system", ContextRole::System), ("user", ContextRole::User)];
}

#[derive(Clone, Debug, PartialEq)]
pub struct Realtime {
    pub preset: Preset,
    /// `wss://...`, or `ws://` to a loopback address; a query in it is kept.
    pub url: String,
    /// What the server calls the model; `None` where it has only one.
    pub model: Option<String>,
    /// In the URL's query as `model`.
    pub model_in_query: bool,
    /// More of the URL's query.
    pub query: BTreeMap<String, String>,
    pub auth: Auth,
    pub headers: BTreeMap<String, HeaderValue>,
    pub subprotocols: Vec<String>,
    pub voice: Option<String>,
    /// Who the agent is and what it does; `{{name}}` stands for a variable.
    pub instructions: String,
    pub greet: Greet,
    /// What the agent is to do first.
    pub greeting: String,
    pub dialect: Dialect,
    pub audio_in: Format,
    pub audio_out: Format,
    /// Tell the server about the formats; not where it refuses to be told.
    pub send_formats: bool,
    pub turn_detection: Part,
    pub turn_detection_place: Place,
    pub voice_place: Place,
    pub transcription: Part,
    pub user_transcript: UserTranscript,
    /// `output_modalities` or, in the older dialect, `modalities`; empty: not sent.
    pub modalities: Vec<String>,
    pub tools_shape: ToolShape,
    pub tool_trigger: ToolTrigger,
    pub ready_on: ReadyOn,
    pub interrupt: Interrupt,
    pub truncate: Truncate,
    pub say: Say,
    pub context_role: ContextRole,
    /// Merged into the session last, over all that the other keys make.
    pub session: Map<String, Value>,
    pub connection: Connection,
}

impl Default for Realtime {
    fn default() -> Self {
        Realtime::of(Preset::default())
    }
}

impl Realtime {
    /// What holds for one kind of server where the config is silent.
    pub fn of(preset: Preset) -> Realtime {
        let object = |value: Value| match value {
            Value::Object(map) => Part::Object(map),
            _ => Part::Unset,
        };
        let openai = Realtime {
            preset,
            url: "wss://api.openai.com/v1/realtime".into(),
            model: Some("gpt-realtime-2.1".into()),
            model_in_query: true,
            query: BTreeMap::new(),
            auth: Auth::Bearer,
            headers: BTreeMap::new(),
            subprotocols: Vec::new(),
            voice: None,
            instructions: "You speak with a caller on the telephone. Be brief and friendly.".into(),
            greet: Greet::Response,
            greeting: "Greet the caller and ask how you can help.".into(),
            dialect: Dialect::Ga,
            audio_in: Format::Pcmu,
            audio_out: Format::Pcmu,
            send_formats: true,
            turn_detection: object(serde_json::json!({ "type": "server_vad" })),
            turn_detection_place: Place::Audio,
            voice_place: Place::Audio,
            transcription: object(serde_json::json!({ "model": "gpt-transcribe" })),
            user_transcript: UserTranscript::Append,
            modalities: vec!["audio".into()],
            tools_shape: ToolShape::Flat,
            tool_trigger: ToolTrigger::Item,
            ready_on: ReadyOn::Updated,
            interrupt: Interrupt::Server,
            truncate: Truncate::Delete,
            say: Say::Instruct,
            context_role: ContextRole::System,
            session: Map::new(),
            connection: Connection {
                // OpenAI's sessions end after an hour.
                recycle_after: Duration::from_secs(55 * 60),
                ..Connection::default()
            },
        };
        match preset {
            Preset::OpenAi => openai,
            // The address and the deployments' names are the operator's own; there are no defaults.
            Preset::Azure => Realtime {
                url: String::new(),
                model: None,
                auth: Auth::Header("api-key".into()),
                transcription: Part::Unset,
                ..openai
            },
            Preset::Xai => Realtime {
                url: "wss://api.x.ai/v1/realtime".into(),
                model: Some("grok-voice-latest".into()),
                turn_detection_place: Place::Session,
                voice_place: Place::Session,
                transcription: object(serde_json::json!({ "model": "grok-transcribe" })),
                user_transcript: UserTranscript::Replace,
                interrupt: Interrupt::Client,
                say: Say::Force,
                ..openai
            },
            Preset::LocalAi => Realtime {
                url: "ws://127.0.0.1:8080/v1/realtime".into(),
                model: None,
                auth: Auth::None,
                audio_in: Format::Pcm(24_000),
                audio_out: Format::Pcm(24_000),
                transcription: Part::Unset,
                // The pipeline's models may have to be loaded first.
                connection: Connection {
                    ready_timeout: Duration::from_secs(30),
                    ..openai.connection
                },
                ..openai
            },
            Preset::Custom => Realtime {
                url: String::new(),
                model: None,
                audio_in: Format::Pcm(24_000),
                audio_out: Format::Pcm(24_000),
                transcription: Part::Unset,
                ..openai
            },
        }
    }
}
