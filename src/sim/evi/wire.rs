//! EVI's wire, read a second time: what a client may send, and the messages that the server sends.
//!
//! Independent of `agent::evi` on purpose: two readings of one protocol that agree are worth more than
//! one reading used twice. Uplink messages are taken apart field by field instead of being derived,
//! because a missing field must be answered with its path (E0101) while a surplus one is only put
//! on record: the real server ignores it, and the official models would not forgive it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

/// How the caller's audio is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AudioFormat {
    pub sample_rate: u32,
    pub channels: u32,
}

/// A tool as the bridge declares it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeclaredTool {
    pub name: String,
    pub description: Option<String>,
    /// A JSON Schema.
    pub parameters: Value,
    pub fallback_content: Option<String>,
}

/// A fault that the server answers with `error` and a close.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub code: &'static str,
    pub slug: &'static str,
    pub message: String,
}

impl Fault {
    fn field(path: &str, what: &str) -> Fault {
        Fault {
            code: "E0101",
            slug: "invalid_message",
            message: format!("{path}: {what}"),
        }
    }

    fn audio(code: &'static str, slug: &'static str, message: String) -> Fault {
        Fault {
            code,
            slug,
            message,
        }
    }
}

/// A message of the client that has the documented shape.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Uplink {
    Audio(Vec<u8>),
    Settings(Settings),
    UserInput(String),
    AssistantInput(String),
    ToolResponse {
        id: String,
        content: String,
    },
    ToolError {
        id: String,
        error: String,
        content: Option<String>,
    },
    Pause,
    Resume,
}

/// What of the settings the simulator acts on or reports.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Settings {
    pub audio: Option<AudioFormat>,
    pub tools: Vec<DeclaredTool>,
    pub voice_id: Option<String>,
    pub context: Option<String>,
    pub builtin_tools: Vec<String>,
    pub variables: BTreeMap<String, String>,
    pub custom_session_id: Option<String>,
}

/// An object being taken apart. What is left at the end does not belong there.
struct Fields {
    path: String,
    map: Map<String, Value>,
}

impl Fields {
    fn of(value: Value, path: String) -> Result<Fields, Fault> {
        match value {
            Value::Object(map) => Ok(Fields { path, map }),
            _ => Err(Fault::field(&path, "an object is required")),
        }
    }

    fn at(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    fn required(&mut self, key: &str) -> Result<Value, Fault> {
        self.map
            .remove(key)
            .ok_or_else(|| Fault::field(&self.at(key), "field required"))
    }

    fn string(&mut self, key: &str) -> Result<String, Fault> {
        match self.required(key)? {
            Value::String(s) => Ok(s),
            _ => Err(Fault::field(&self.at(key), "a string is required")),
        }
    }

    fn maybe_string(&mut self, key: &str) -> Result<Option<String>, Fault> {
        if self.map.contains_key(key) {
            self.string(key).map(Some)
        } else {
            Ok(None)
        }
    }

    fn number(&mut self, key: &str) -> Result<u32, Fault> {
        let value = self.required(key)?;
        value
            .as_u64()
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| *n > 0)
            .ok_or_else(|| Fault::field(&self.at(key), "a positive integer is required"))
    }

    fn one_of(&mut self, key: &str, words: &[&str]) -> Result<String, Fault> {
        let word = self.string(key)?;
        if words.contains(&word.as_str()) {
            Ok(word)
        } else {
            Err(Fault::field(
                &self.at(key),
                &format!("{word:?} is not one of {words:?}"),
            ))
        }
    }

    fn maybe_one_of(&mut self, key: &str, words: &[&str]) -> Result<(), Fault> {
        if self.map.contains_key(key) {
            self.one_of(key, words).map(drop)
        } else {
            Ok(())
        }
    }

    fn maybe_object(&mut self, key: &str) -> Result<Option<Fields>, Fault> {
        let path = self.at(key);
        self.map
            .remove(key)
            .map(|v| Fields::of(v, path))
            .transpose()
    }

    fn maybe_list(&mut self, key: &str) -> Result<Vec<Fields>, Fault> {
        let path = self.at(key);
        match self.map.remove(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => items
                .into_iter()
                .enumerate()
                .map(|(i, item)| Fields::of(item, format!("{path}.{i}")))
                .collect(),
            Some(_) => Err(Fault::field(&path, "a list is required")),
        }
    }

    fn end(self, violations: &mut Vec<String>) {
        violations.extend(
            self.map
                .keys()
                .map(|key| format!("{}: no such field in the protocol", self.at(key))),
        );
    }
}

/// Reads a text frame. Harmless faults go to `violations`; an error is one that ends the chat.
pub(super) fn read(text: &str, violations: &mut Vec<String>) -> Result<Uplink, Fault> {
    let not_json = |e: &dyn std::fmt::Display| Fault {
        code: "E0100",
        slug: "invalid_json",
        message: format!("message is not valid JSON: {e}"),
    };
    let value: Value = serde_json::from_str(text).map_err(|e| not_json(&e))?;
    let Value::Object(map) = value else {
        return Err(not_json(&"not an object"));
    };
    let mut fields = Fields {
        path: "message".into(),
        map,
    };
    let kind = fields.string("type")?;
    fields.path.clone_from(&kind);
    let custom_session_id = fields.maybe_string("custom_session_id")?;
    let uplink = match kind.as_str() {
        "audio_input" => Uplink::Audio(audio(&fields.string("data")?, violations)?),
        "session_settings" => {
            let mut settings = settings(&mut fields, violations)?;
            settings.custom_session_id = custom_session_id;
            Uplink::Settings(settings)
        }
        "user_input" => Uplink::UserInput(fields.string("text")?),
        "assistant_input" => Uplink::AssistantInput(fields.string("text")?),
        "tool_response" => {
            fields.maybe_string("tool_name")?;
            fields.maybe_one_of("tool_type", &["builtin", "function"])?;
            Uplink::ToolResponse {
                id: fields.string("tool_call_id")?,
                content: fields.string("content")?,
            }
        }
        "tool_error" => {
            fields.maybe_string("code")?;
            fields.maybe_one_of("level", &["warn"])?;
            fields.maybe_one_of("tool_type", &["builtin", "function"])?;
            Uplink::ToolError {
                id: fields.string("tool_call_id")?,
                error: fields.string("error")?,
                content: fields.maybe_string("content")?,
            }
        }
        "pause_assistant_message" => Uplink::Pause,
        "resume_assistant_message" => Uplink::Resume,
        _ => {
            return Err(Fault::field(
                "type",
                &format!("{kind:?} is not a message type"),
            ));
        }
    };
    fields.end(violations);
    Ok(uplink)
}

fn audio(data: &str, violations: &mut Vec<String>) -> Result<Vec<u8>, Fault> {
    let bytes = base64_simd::STANDARD.decode_to_vec(data).map_err(|_| {
        Fault::audio(
            "E0201",
            "invalid_base64",
            "audio_input.data: not base64".into(),
        )
    })?;
    if bytes.is_empty() {
        return Err(Fault::audio(
            "E0202",
            "no_audio",
            "audio_input.data: no audio".into(),
        ));
    }
    if bytes.len() % 2 != 0 {
        violations.push(format!(
            "audio_input.data: {} bytes are no whole samples",
            bytes.len()
        ));
    }
    Ok(bytes)
}

fn settings(fields: &mut Fields, violations: &mut Vec<String>) -> Result<Settings, Fault> {
    let mut settings = Settings::default();
    if let Some(mut audio) = fields.maybe_object("audio")? {
        audio.one_of("encoding", &["linear16"])?;
        settings.audio = Some(AudioFormat {
            sample_rate: audio.number("sample_rate")?,
            channels: audio.number("channels")?,
        });
        audio.maybe_string("codec")?;
        audio.end(violations);
    }
    for mut tool in fields.maybe_list("builtin_tools")? {
        settings
            .builtin_tools
            .push(tool.one_of("name", &["web_search", "hang_up"])?);
        tool.maybe_string("fallback_content")?;
        tool.end(violations);
    }
    for mut tool in fields.maybe_list("tools")? {
        tool.one_of("type", &["function", "builtin"])?;
        let name = tool.string("name")?;
        let schema = tool.string("parameters")?;
        let parameters = match serde_json::from_str(&schema) {
            Ok(parameters @ Value::Object(_)) => parameters,
            _ => {
                return Err(Fault::field(
                    &tool.at("parameters"),
                    "a JSON Schema serialised as a string is required",
                ));
            }
        };
        if parameters.get("type").is_some_and(|of| of != "object") {
            violations.push(format!(
                "{}: not the schema of an object",
                tool.at("parameters")
            ));
        }
        if name.is_empty() || settings.tools.iter().any(|known| known.name == name) {
            violations.push(format!("{}: empty, or there twice", tool.at("name")));
        }
        settings.tools.push(DeclaredTool {
            name,
            parameters,
            description: tool.maybe_string("description")?,
            fallback_content: tool.maybe_string("fallback_content")?,
        });
        tool.end(violations);
    }
    // null clears the context (EVI docs); nothing else may be null.
    if fields.map.get("context").is_some_and(Value::is_null) {
        fields.map.remove("context");
    }
    if let Some(mut context) = fields.maybe_object("context")? {
        settings.context = Some(context.string("text")?);
        context.maybe_one_of("type", &["persistent", "temporary"])?;
        context.end(violations);
    }
    for key in ["language_model_api_key", "system_prompt"] {
        fields.maybe_string(key)?;
    }
    settings.voice_id = fields.maybe_string("voice_id")?;
    if let Some(mut metadata) = fields.maybe_object("metadata")? {
        metadata.map.clear(); // anything may be in it
    }
    if let Some(variables) = fields.maybe_object("variables")? {
        for (name, value) in &variables.map {
            let text = match value {
                Value::String(s) => s.clone(),
                Value::Number(n) => n.to_string(),
                Value::Bool(b) => b.to_string(),
                _ => {
                    return Err(Fault::field(
                        &variables.at(name),
                        "a plain value is required",
                    ));
                }
            };
            settings.variables.insert(name.clone(), text);
        }
    }
    Ok(settings)
}

/// What the query asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Query {
    pub config_id: Option<String>,
    pub resumed_chat_group_id: Option<String>,
    pub verbose_transcription: bool,
    /// The key or a token is in the URL, where logs find it.
    pub secret: bool,
    pub settings: Settings,
}

/// Reads the query strictly; the error names every parameter at fault.
pub(super) fn query(raw: &str) -> Result<Query, Vec<String>> {
    let mut query = Query::default();
    let mut faults = Vec::new();
    let mut seen = Vec::new();
    let mut audio: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in url::form_urlencoded::parse(raw.as_bytes()) {
        let (name, value) = (name.into_owned(), value.into_owned());
        if seen.contains(&name) {
            faults.push(format!("query: {name} is given twice"));
            continue;
        }
        seen.push(name.clone());
        if value.is_empty() {
            faults.push(format!("query: {name} is empty"));
            continue;
        }
        let integer = value.parse::<u32>().is_ok();
        let boolean = matches!(value.as_str(), "true" | "false");
        let good = match name.as_str() {
            "api_key" | "access_token" => {
                query.secret = true;
                true
            }
            "config_id" => {
                query.config_id = Some(value);
                true
            }
            "resumed_chat_group_id" => {
                query.resumed_chat_group_id = Some(value);
                true
            }
            "verbose_transcription" => {
                query.verbose_transcription = value == "true";
                boolean
            }
            "allow_connection" => boolean,
            "config_version" | "event_limit" => integer,
            "voice_id" => {
                query.settings.voice_id = Some(value);
                true
            }
            "fernSdkLanguage" | "fernSdkVersion" => true,
            nested => match nested.strip_prefix("session_settings").and_then(brackets) {
                Some(path) => in_query(&path, value, &mut query.settings, &mut audio),
                None => {
                    faults.push(format!("query: {name} is no parameter of the protocol"));
                    continue;
                }
            },
        };
        if !good {
            faults.push(format!(
                "query: {name} is not allowed or its value is not valid"
            ));
        }
    }
    // Part of a format says nothing about the rest: all three or the chat is deaf.
    if let (Some(_), Some(rate), Some(channels)) = (
        audio.get("encoding"),
        audio.get("sample_rate"),
        audio.get("channels"),
    ) && let (Ok(sample_rate), Ok(channels)) = (rate.parse(), channels.parse())
    {
        query.settings.audio = Some(AudioFormat {
            sample_rate,
            channels,
        });
    }
    if faults.is_empty() {
        Ok(query)
    } else {
        Err(faults)
    }
}

/// `[a][b]` to its names.
fn brackets(nested: &str) -> Option<Vec<&str>> {
    let inner = nested.strip_prefix('[')?.strip_suffix(']')?;
    let names: Vec<&str> = inner.split("][").collect();
    names
        .iter()
        .all(|n| !n.is_empty() && !n.contains(['[', ']']))
        .then_some(names)
}

/// One `session_settings[...]` parameter (EVI docs). Tools and metadata need the first message.
fn in_query(
    path: &[&str],
    value: String,
    settings: &mut Settings,
    audio: &mut BTreeMap<String, String>,
) -> bool {
    let positive = value.parse::<u32>().is_ok_and(|n| n > 0);
    match path {
        ["audio", key @ ("encoding" | "sample_rate" | "channels")] => {
            let good = if *key == "encoding" {
                value == "linear16"
            } else {
                positive
            };
            audio.insert((*key).to_owned(), value);
            good
        }
        ["context", "text"] => {
            settings.context = Some(value);
            true
        }
        ["voice_id"] => {
            settings.voice_id = Some(value);
            true
        }
        ["language_model_api_key" | "system_prompt"] => true,
        ["custom_session_id"] => {
            settings.custom_session_id = Some(value);
            true
        }
        ["context", "type"] => matches!(value.as_str(), "persistent" | "temporary"),
        ["event_limit"] => positive,
        ["variables", name] => {
            settings.variables.insert((*name).to_owned(), value);
            true
        }
        // The official Twilio example's form; which of the two the service honours is not known.
        ["variables"] => match serde_json::from_str::<BTreeMap<String, Value>>(&value) {
            Ok(map) => {
                let text = |v: Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
                settings
                    .variables
                    .extend(map.into_iter().map(|(k, v)| (k, text(v))));
                true
            }
            Err(_) => false,
        },
        _ => false,
    }
}

/// The expressions that the prosody model scores; the official models want all of them.
pub(super) const EXPRESSIONS: [&str; 48] = [
    "Admiration",
    "Adoration",
    "Aesthetic Appreciation",
    "Amusement",
    "Anger",
    "Anxiety",
    "Awe",
    "Awkwardness",
    "Boredom",
    "Calmness",
    "Concentration",
    "Confusion",
    "Contemplation",
    "Contempt",
    "Contentment",
    "Craving",
    "Desire",
    "Determination",
    "Disappointment",
    "Disgust",
    "Distress",
    "Doubt",
    "Ecstasy",
    "Embarrassment",
    "Empathic Pain",
    "Entrancement",
    "Envy",
    "Excitement",
    "Fear",
    "Guilt",
    "Horror",
    "Interest",
    "Joy",
    "Love",
    "Nostalgia",
    "Pain",
    "Pride",
    "Realization",
    "Relief",
    "Romance",
    "Sadness",
    "Satisfaction",
    "Shame",
    "Surprise (negative)",
    "Surprise (positive)",
    "Sympathy",
    "Tiredness",
    "Triumph",
];

/// A message of the server (EVI docs), but for [`audio_output`].
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Downlink<'a> {
    ChatMetadata {
        chat_id: &'a str,
        chat_group_id: &'a str,
        request_id: &'a str,
    },
    AssistantMessage {
        id: &'a str,
        from_text: bool,
        is_quick_response: bool,
        language: Option<&'a str>,
        message: ChatMessage<'a>,
        models: Models,
    },
    AssistantProsody {
        id: &'a str,
        models: Models,
    },
    AssistantEnd,
    UserMessage {
        from_text: bool,
        interim: bool,
        language: Option<&'a str>,
        message: ChatMessage<'a>,
        models: Models,
        time: Span,
    },
    UserInterruption {
        time: u64,
    },
    ToolCall {
        name: &'a str,
        parameters: &'a str,
        response_required: bool,
        tool_call_id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        tool_type: Option<&'a str>,
    },
    ToolResponse {
        tool_call_id: &'a str,
        content: &'a str,
        tool_name: &'a str,
        tool_type: &'a str,
    },
    ToolError {
        tool_call_id: &'a str,
        error: &'a str,
        content: &'a str,
        level: &'a str,
        tool_type: &'a str,
    },
    Error {
        code: &'a str,
        slug: &'a str,
        message: &'a str,
        request_id: &'a str,
    },
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct ChatMessage<'a> {
    pub role: &'a str,
    pub content: &'a str,
}

/// In ms since the chat's audio began.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Span {
    pub begin: u64,
    pub end: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Models {
    pub prosody: Option<Prosody>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Prosody {
    pub scores: BTreeMap<&'static str, f64>,
}

impl Models {
    pub fn new(scored: bool) -> Models {
        let scores = || {
            EXPRESSIONS
                .iter()
                .enumerate()
                .map(|(i, e)| (*e, i as f64 / 100.0))
        };
        Models {
            prosody: scored.then(|| Prosody {
                scores: scores().collect(),
            }),
        }
    }
}

impl Downlink<'_> {
    /// The frame's text.
    pub fn frame(&self, tail: &str) -> String {
        let mut frame = serde_json::to_string(self).expect("strings and numbers");
        frame.pop();
        frame + tail
    }
}

/// What every message of the server ends with: the session's custom id, or null.
pub(super) fn tail(custom_session_id: Option<&str>, extra_field: bool) -> String {
    let id = serde_json::to_string(&custom_session_id).expect("a string");
    let extra = if extra_field {
        r#","field_of_the_future":["1"]"#
    } else {
        ""
    };
    format!(r#","custom_session_id":{id}{extra}}}"#)
}

/// The one message that is large: written by hand, as base64 needs no escaping.
pub(super) fn audio_output(id: &str, index: u64, data: &str, tail: &str) -> String {
    format!(r#"{{"type":"audio_output","id":"{id}","index":{index},"data":"{data}"{tail}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> (&'static str, String) {
        let fault = read(text, &mut Vec::new()).unwrap_err();
        (fault.code, fault.message)
    }

    fn violations(text: &str) -> Vec<String> {
        let mut violations = Vec::new();
        read(text, &mut violations).unwrap();
        violations
    }

    #[test]
    fn a_missing_field_is_named_by_its_path() {
        for (text, path) in [
            (r#"{}"#, "message.type: field required"),
            (r#"{"type":"hello"}"#, "type: "),
            (
                r#"{"type":"audio_input"}"#,
                "audio_input.data: field required",
            ),
            (
                r#"{"type":"session_settings","audio":{"format":"linear16","sample_rate":8000,"channels":1}}"#,
                "session_settings.audio.encoding: field required",
            ),
            (
                r#"{"type":"session_settings","audio":{"encoding":"mulaw","sample_rate":8000,"channels":1}}"#,
                "session_settings.audio.encoding: ",
            ),
            (
                r#"{"type":"session_settings","tools":[{"type":"function","name":"x"}]}"#,
                "session_settings.tools.0.parameters: field required",
            ),
            (
                r#"{"type":"session_settings","tools":[{"type":"function","name":"x","parameters":{}}]}"#,
                "session_settings.tools.0.parameters: a string",
            ),
            (
                r#"{"type":"session_settings","builtin_tools":[{"name":"dial"}]}"#,
                "session_settings.builtin_tools.0.name: ",
            ),
            (
                r#"{"type":"session_settings","context":{"text":"x","type":"editable"}}"#,
                "session_settings.context.type: ",
            ),
            (
                r#"{"type":"session_settings","variables":{"x":null}}"#,
                "session_settings.variables.x: ",
            ),
            (
                r#"{"type":"session_settings","system_prompt":null}"#,
                "session_settings.system_prompt: ",
            ),
            (
                r#"{"type":"tool_response","tool_call_id":"x","content":{}}"#,
                "tool_response.content: ",
            ),
            (
                r#"{"type":"tool_error","tool_call_id":"x"}"#,
                "tool_error.error: field required",
            ),
            (
                r#"{"type":"tool_error","tool_call_id":"x","error":"y","level":"info"}"#,
                "tool_error.level: ",
            ),
        ] {
            let (code, message) = fault(text);
            assert_eq!(code, "E0101", "{text}");
            assert!(message.starts_with(path), "{text}: {message}");
        }
        assert_eq!(fault("hello").0, "E0100");
        assert_eq!(fault("[]").0, "E0100");
        assert_eq!(fault(r#"{"type":"audio_input","data":"*"}"#).0, "E0201");
        assert_eq!(fault(r#"{"type":"audio_input","data":""}"#).0, "E0202");
    }

    #[test]
    fn a_surplus_field_is_put_on_record() {
        for (text, path) in [
            (
                r#"{"type":"session_settings","voice":"x"}"#,
                "session_settings.voice",
            ),
            (
                r#"{"type":"audio_input","data":"AAA=","metadata":{}}"#,
                "audio_input.metadata",
            ),
            (
                r#"{"type":"tool_error","tool_call_id":"x","error":"y","fallback_content":"z"}"#,
                "tool_error.fallback_content",
            ),
            (
                r#"{"type":"pause_assistant_message","text":"x"}"#,
                "pause_assistant_message.text",
            ),
            (
                r#"{"type":"session_settings","tools":[{"type":"function","name":"x","parameters":"{\"type\":\"string\"}"}]}"#,
                "session_settings.tools.0.parameters: not the schema",
            ),
            (
                r#"{"type":"session_settings","tools":[{"type":"function","name":"x","parameters":"{}"},{"type":"function","name":"x","parameters":"{}"}]}"#,
                "session_settings.tools.1.name: empty, or there twice",
            ),
            (
                r#"{"type":"audio_input","data":"AAAA"}"#,
                "audio_input.data: 3 bytes",
            ),
        ] {
            let found = violations(text);
            assert!(
                found.len() == 1 && found[0].starts_with(path),
                "{text}: {found:?}"
            );
        }
        for good in [
            r#"{"type":"session_settings","context":null,"metadata":{"a":[1]},"variables":{"n":1}}"#,
            r#"{"type":"session_settings","tools":[{"type":"function","name":"x","parameters":"{}","description":"y","fallback_content":"z"}]}"#,
            r#"{"type":"resume_assistant_message","custom_session_id":"x"}"#,
            r#"{"type":"tool_response","tool_call_id":"x","content":"","tool_name":"y","tool_type":"function"}"#,
        ] {
            assert_eq!(violations(good), [""; 0], "{good}");
        }
    }

    #[test]
    fn the_query_is_decoded_and_held_to_the_protocol() {
        let q = query(
            "config_id=c&verbose_transcription=true&session_settings%5Baudio%5D%5Bencoding%5D=linear16\
             &session_settings%5Baudio%5D%5Bsample_rate%5D=8000&session_settings%5Baudio%5D%5Bchannels%5D=1\
             &session_settings[variables][name]=Ada%20L&fernSdkVersion=1&session_settings[context][type]=persistent",
        )
        .unwrap();
        assert_eq!(
            q.settings.audio,
            Some(AudioFormat {
                sample_rate: 8000,
                channels: 1
            })
        );
        assert_eq!(q.settings.variables["name"], "Ada L");
        assert!(q.verbose_transcription && !q.secret);
        assert!(query("api_key=x").unwrap().secret);
        assert_eq!(
            query("session_settings[audio][encoding]=linear16")
                .unwrap()
                .settings
                .audio,
            None
        );
        let json = query("session_settings[variables]=%7B%22a%22%3A1%7D").unwrap();
        assert_eq!(json.settings.variables["a"], "1");

        for wrong in [
            "evi_version=3",
            "enable_context_injection=true",
            "verbose_transcription=yes",
            "config_version=latest",
            "config_id=",
            "config_id=a&config_id=b",
            "session_settings[tools]=x",
            "session_settings[metadata][a]=x",
            "session_settings[audio][format]=linear16",
            "session_settings[audio][encoding]=mulaw",
            "session_settings[audio][sample_rate]=0",
            "session_settings[context][type]=editable",
            "session_settings[variables]=x",
            "session_settings=x",
            "session_settings[]=x",
        ] {
            assert_eq!(query(wrong).map_err(|f| f.len()), Err(1), "{wrong}");
        }
    }

    #[test]
    fn the_server_names_its_type_first_and_its_expressions_once() {
        let frame = Downlink::AssistantEnd.frame(&tail(None, true));
        assert_eq!(
            frame,
            r#"{"type":"assistant_end","custom_session_id":null,"field_of_the_future":["1"]}"#
        );
        let scores = Models::new(true).prosody.unwrap().scores;
        assert_eq!(scores.len(), 48);
    }
}
