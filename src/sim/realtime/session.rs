//! A session's configuration: what it is by default, what an update makes of it, and what it means.
//!
//! It is kept as the JSON that `session.created` and `session.updated` show. Only what an update holds
//! is changed; what stands under `audio` is merged, everything else replaced.

use serde_json::{Map, Value, json};

use super::{Dialect, shape::Fault};

/// How audio is carried in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Mu-law, 8 kHz.
    Pcmu,
    /// A-law, 8 kHz. Nobody here hears or speaks it.
    Pcma,
    /// 16 bits, little-endian, mono, at this rate.
    Pcm(u32),
}

impl Format {
    pub fn rate(self) -> u32 {
        match self {
            Format::Pcmu | Format::Pcma => 8_000,
            Format::Pcm(rate) => rate,
        }
    }

    /// Octets of a second.
    pub fn octets(self) -> u64 {
        match self {
            Format::Pcmu | Format::Pcma => 8_000,
            Format::Pcm(rate) => 2 * u64::from(rate),
        }
    }

    fn of(value: &Value) -> Format {
        match value["type"].as_str().or(value.as_str()) {
            Some("audio/pcmu" | "g711_ulaw") => Format::Pcmu,
            Some("audio/pcma" | "g711_alaw") => Format::Pcma,
            _ => {
                let rate = value["rate"].as_u64().and_then(|n| u32::try_from(n).ok());
                Format::Pcm(rate.unwrap_or(24_000))
            }
        }
    }
}

/// The server's own detection of turns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Turns {
    pub creates: bool,
    pub interrupts: bool,
    /// Silence that ends a turn, if the client has said so.
    pub silence_ms: Option<f64>,
    pub idles: bool,
}

pub(super) struct Session {
    dialect: Dialect,
    value: Map<String, Value>,
    /// The client has sent an update.
    pub updated: bool,
    silence_ms: Option<f64>,
}

impl Session {
    /// What a connection begins with. `expires_at` in seconds of Unix time.
    pub fn new(dialect: Dialect, id: &str, model: &str, expires_at: u64) -> Session {
        let turns = turn_defaults(json!({ "type": "server_vad" }));
        let pcm = json!({ "type": "audio/pcm", "rate": 24000 });
        let value = match dialect {
            Dialect::Beta => json!({
                "id": id,
                "object": "realtime.session",
                "model": model,
                "expires_at": expires_at,
                "modalities": ["audio", "text"],
                "instructions": "",
                "voice": "alloy",
                "input_audio_format": "pcm16",
                "output_audio_format": "pcm16",
                "input_audio_transcription": null,
                "turn_detection": turns,
                "tools": [],
                "tool_choice": "auto",
                "temperature": 0.8,
                "max_response_output_tokens": "inf",
            }),
            Dialect::Xai => json!({
                "id": id,
                "object": "realtime.session",
                "model": model,
                "instructions": "",
                "voice": "ara",
                "turn_detection": turns,
                "audio": {
                    "input": { "format": pcm, "transcription": null },
                    "output": { "format": pcm },
                },
                "tools": [],
            }),
            Dialect::Ga | Dialect::Plain => json!({
                "type": "realtime",
                "id": id,
                "object": "realtime.session",
                "model": model,
                "expires_at": expires_at,
                "output_modalities": ["audio"],
                "instructions": "",
                "tools": [],
                "tool_choice": "auto",
                "max_output_tokens": "inf",
                "tracing": null,
                "truncation": "auto",
                "prompt": null,
                "include": null,
                "audio": {
                    "input": {
                        "format": pcm,
                        "transcription": null,
                        "noise_reduction": null,
                        "turn_detection": turns,
                    },
                    "output": { "format": pcm, "voice": "marin", "speed": 1.0 },
                },
            }),
        };
        let Value::Object(value) = value else {
            unreachable!("each of them is an object");
        };
        Session {
            dialect,
            value,
            updated: false,
            silence_ms: None,
        }
    }

    /// What the events about the session show.
    pub fn shown(&self) -> Value {
        Value::Object(self.value.clone())
    }

    /// Takes an update that has the right shape. `spoken`: the agent's voice has been heard already.
    pub fn update(&mut self, update: &Value, spoken: bool) -> Result<(), Fault> {
        for name in ["output_modalities", "modalities"] {
            let both = update[name].as_array().is_some_and(|list| list.len() != 1);
            if both && self.dialect != Dialect::Beta {
                let path = format!("session.{name}");
                let message = format!(
                    "Invalid modalities: {}. Supported combinations are: ['text'] and ['audio'].",
                    update[name]
                );
                return Err(Fault::new("invalid_value", &path, message));
            }
        }
        let voice = find(update, &["voice"]).or(find(update, &["audio", "output", "voice"]));
        if spoken && voice.is_some_and(|voice| Some(voice) != self.voice()) {
            return Err(Fault::new(
                "cannot_update_voice",
                "session.audio.output.voice",
                "Cannot update a conversation's voice if assistant audio is present.",
            ));
        }
        if self.dialect == Dialect::Beta {
            for name in ["input_audio_format", "output_audio_format"] {
                if update[name]
                    .as_str()
                    .is_some_and(|format| format != "pcm16")
                {
                    let path = format!("session.{name}");
                    return Err(Fault::new(
                        "invalid_value",
                        &path,
                        "The audio formats of this server cannot be changed.",
                    ));
                }
            }
        }
        for (key, new) in update.as_object().into_iter().flatten() {
            match (key.as_str(), self.value.get_mut(key)) {
                ("audio", Some(audio)) => {
                    for (direction, new) in new.as_object().into_iter().flatten() {
                        for (key, new) in new.as_object().into_iter().flatten() {
                            audio[direction][key] = completed(key, new);
                        }
                    }
                }
                _ => _ = self.value.insert(key.clone(), completed(key, new)),
            }
        }
        if let Some(turns) = detection(update) {
            self.silence_ms = turns["silence_duration_ms"].as_f64();
        }
        self.updated = true;
        Ok(())
    }

    fn at(&self, path: &[&str]) -> Option<&Value> {
        let first = self.value.get(*path.first()?)?;
        path[1..]
            .iter()
            .try_fold(first, |value, key| value.get(key))
    }

    pub fn format_in(&self) -> Format {
        let nested = self.at(&["audio", "input", "format"]);
        let value = nested.or(self.at(&["input_audio_format"]));
        Format::of(value.unwrap_or(&Value::Null))
    }

    pub fn format_out(&self) -> Format {
        let nested = self.at(&["audio", "output", "format"]);
        let value = nested.or(self.at(&["output_audio_format"]));
        Format::of(value.unwrap_or(&Value::Null))
    }

    pub fn voice(&self) -> Option<&Value> {
        self.at(&["voice"])
            .or(self.at(&["audio", "output", "voice"]))
    }

    /// `None`: the client says itself where a turn ends.
    pub fn turns(&self) -> Option<Turns> {
        let nested = self.at(&["audio", "input", "turn_detection"]);
        let value = self.at(&["turn_detection"]).or(nested)?;
        value.is_object().then(|| Turns {
            creates: value["create_response"] != false,
            interrupts: value["interrupt_response"] != false,
            silence_ms: self.silence_ms,
            idles: value["idle_timeout_ms"].is_number(),
        })
    }

    /// Whether the caller's words are written down.
    pub fn transcribes(&self) -> bool {
        let nested = self.at(&["audio", "input", "transcription"]);
        let value = nested.or(self.at(&["input_audio_transcription"]));
        value.is_some_and(Value::is_object)
    }

    /// Whether an update that has to do with audio leaves a format out: servers were seen to fall back
    /// to linear audio then, in mid-call.
    pub fn forgets_format(&self, update: &Value) -> bool {
        let without = |direction: &str| update["audio"][direction]["format"].is_null();
        self.updated && update["audio"].is_object() && (without("input") || without("output"))
    }
}

fn find<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, key| value.get(key))
}

/// The turn detection that an update is about.
pub(super) fn detection(update: &Value) -> Option<&Value> {
    find(update, &["turn_detection"]).or(find(update, &["audio", "input", "turn_detection"]))
}

/// What the server makes of a part that leaves things out.
fn completed(key: &str, new: &Value) -> Value {
    match (key, new) {
        ("turn_detection", Value::Object(_)) => turn_defaults(new.clone()),
        ("format", Value::Object(format)) if format.get("type") == Some(&json!("audio/pcm")) => {
            let mut format = format.clone();
            format.entry("rate").or_insert_with(|| json!(24000));
            Value::Object(format)
        }
        _ => new.clone(),
    }
}

fn turn_defaults(mut turns: Value) -> Value {
    let defaults = if turns["type"] == "semantic_vad" {
        json!({ "eagerness": "auto", "create_response": true, "interrupt_response": true })
    } else {
        json!({
            "threshold": 0.5,
            "prefix_padding_ms": 300,
            "silence_duration_ms": 500,
            "idle_timeout_ms": null,
            "create_response": true,
            "interrupt_response": true,
        })
    };
    if let (Value::Object(turns), Value::Object(defaults)) = (&mut turns, defaults) {
        for (key, value) in defaults {
            turns.entry(key).or_insert(value);
        }
    }
    turns
}
