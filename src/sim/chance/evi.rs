//! The same agent in EVI's words, for the real codec; and a strict reader of what the codec sends.
//!
//! The frames have the fields of the EVI docs and the SDK types. What comes back must too: EVI
//! answers an unknown or misspelt field with an error and closes (seen in the field).

use serde_json::{Value, json};

use super::agent::{Said, Tool, tool_id};
use crate::{agent::Closed, audio::g711};

/// One message as it goes over the wire.
pub enum Frame {
    Text(String),
    Binary,
    Pong,
    Close(Option<u16>),
}

/// How many final words of the caller there were: each utterance has a time of its own.
#[derive(Default)]
pub struct Wire {
    spoken: u64,
}

impl Wire {
    /// The frames of one message; an error that explains a close goes before it.
    pub fn frames(&mut self, said: Said, sound: &[u8]) -> Vec<Frame> {
        let text = |value: Value| vec![Frame::Text(value.to_string())];
        match said {
            Said::Ready => text(json!({
                "type": "chat_metadata", "chat_id": "chat", "chat_group_id": "group",
                "request_id": "1"
            })),
            Said::Words { utterance } => text(json!({
                "type": "assistant_message", "id": format!("u{utterance}"), "from_text": false,
                "message": {"role": "assistant", "content": "Hello."}, "models": {}
            })),
            Said::Audio { utterance, .. } => vec![Frame::Text(audio_output(utterance, sound))],
            Said::EndOfTurn => text(json!({"type": "assistant_end"})),
            Said::Interruption => text(json!({"type": "user_interruption", "time": 1})),
            Said::Caller {
                interim,
                replace,
                blank,
            } => {
                if !replace {
                    self.spoken += 1;
                }
                let (begin, end) = (self.spoken * 1000, self.spoken * 1000 + 500);
                let content = if blank { " " } else { "Yes, please." };
                text(json!({
                    "type": "user_message", "from_text": false, "interim": interim,
                    "message": {"role": "user", "content": content}, "models": {},
                    "time": {"begin": begin, "end": end}
                }))
            }
            Said::Tool { number, kind } => {
                let own = kind == Tool::Builtin;
                text(json!({
                    "type": "tool_call", "tool_call_id": tool_id(number), "name": kind.name(),
                    "parameters": "{}", "response_required": !own,
                    "tool_type": if own { "builtin" } else { "function" }
                }))
            }
            Said::Settled { number } => text(json!({
                "type": "tool_error", "tool_call_id": tool_id(number), "error": "timeout"
            })),
            // Seen in the field to end nothing.
            Said::Error => text(error("E0712", "custom_language_model_timed_out")),
            Said::Failure(ends) => text(match ends {
                Closed::Rejected => error("E0708", "chat_not_found"),
                Closed::Quota | Closed::Auth => error("E0300", "zero_credits"),
                _ => error("I0100", "internal_error"),
            }),
            // EVI tells no such thing, and nobody has it do so.
            Said::CallerBegins | Said::CallerEnds | Said::Expires { .. } => Vec::new(),
            Said::Nonsense => vec![Frame::Text("{\"type\":\"audio_output\"}".into())],
            Said::Binary => vec![Frame::Binary],
            Said::Alive => vec![Frame::Pong],
            Said::Closed(closed) => close(closed),
        }
    }
}

fn error(code: &str, slug: &str) -> Value {
    json!({"type": "error", "code": code, "slug": slug, "message": "sorry"})
}

fn close(closed: Closed) -> Vec<Frame> {
    let (reason, code) = match closed {
        Closed::HungUp => return vec![Frame::Close(Some(1000))],
        Closed::Lost => return vec![Frame::Close(None)],
        Closed::Rejected => return vec![Frame::Close(Some(1008))],
        Closed::Inactive => (error("E0714", "inactivity_timeout"), 1000),
        Closed::Expired => (error("E0715", "max_duration_timeout"), 1000),
        // Nobody is refused in mid-chat; the nearest is to run out of credits.
        Closed::Quota | Closed::Auth => (error("E0300", "zero_credits"), 1000),
    };
    vec![Frame::Text(reason.to_string()), Frame::Close(Some(code))]
}

/// A WAV file at the telephone's rate, which the codec passes through untouched.
fn audio_output(utterance: u32, sound: &[u8]) -> String {
    let data = 2 * sound.len() as u32;
    let mut wav = Vec::with_capacity(44 + data as usize);
    wav.extend_from_slice(b"RIFF");
    wav.extend_from_slice(&(36 + data).to_le_bytes());
    wav.extend_from_slice(b"WAVEfmt ");
    wav.extend_from_slice(&16u32.to_le_bytes());
    // PCM, one channel, 8 kHz, 16 bit.
    for field in [1u16, 1] {
        wav.extend_from_slice(&field.to_le_bytes());
    }
    for field in [8000u32, 16_000] {
        wav.extend_from_slice(&field.to_le_bytes());
    }
    for field in [2u16, 16] {
        wav.extend_from_slice(&field.to_le_bytes());
    }
    wav.extend_from_slice(b"data");
    wav.extend_from_slice(&data.to_le_bytes());
    g711::decode_le_into(sound, &mut wav);
    let data = base64_simd::STANDARD.encode_to_string(&wav);
    format!(r#"{{"type":"audio_output","id":"u{utterance}","index":0,"data":"{data}"}}"#)
}

/// What one frame of ours asks of EVI.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// Mu-law again.
    Audio(Vec<u8>),
    Settings {
        first: bool,
    },
    Say,
    Prompt,
    ToolAnswer {
        call_id: String,
    },
    Pause,
    Resume,
}

/// Reads one of our frames as strictly as EVI does. `Err`: what EVI would refuse.
pub fn read(frame: &str) -> Result<Asked, String> {
    let value: Value = serde_json::from_str(frame).map_err(|error| error.to_string())?;
    let fields = value.as_object().ok_or("not an object")?;
    let kind = value["type"].as_str().ok_or("no type")?;
    let (known, needed): (&[&str], &[&str]) = match kind {
        "audio_input" => (&["type", "data"], &["data"]),
        "session_settings" => (
            &["type", "audio", "context", "tools", "variables", "voice_id"],
            &[],
        ),
        "assistant_input" | "user_input" => (&["type", "text"], &["text"]),
        "tool_response" => (
            &["type", "tool_call_id", "content"],
            &["tool_call_id", "content"],
        ),
        "tool_error" => (
            &["type", "tool_call_id", "error", "content", "level"],
            &["tool_call_id", "error"],
        ),
        "pause_assistant_message" | "resume_assistant_message" => (&["type"], &[]),
        _ => return Err(format!("unknown type {kind}")),
    };
    if let Some(field) = fields.keys().find(|field| !known.contains(&field.as_str())) {
        return Err(format!("{kind} has an unknown field {field}"));
    }
    if let Some(field) = needed.iter().find(|field| !value[**field].is_string()) {
        return Err(format!("{kind} lacks {field}"));
    }
    let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
    Ok(match kind {
        "audio_input" => {
            let linear = base64_simd::STANDARD
                .decode_to_vec(text("data"))
                .map_err(|_| "audio that is not base64")?;
            if linear.len() % 2 != 0 {
                return Err("half a sample".into());
            }
            let samples: Vec<i16> = linear
                .chunks_exact(2)
                .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
                .collect();
            let mut mulaw = Vec::new();
            g711::encode_into(&samples, &mut mulaw);
            Asked::Audio(mulaw)
        }
        "session_settings" => {
            let audio = &value["audio"];
            let first = !audio.is_null();
            let wanted = json!({"encoding": "linear16", "sample_rate": 8000, "channels": 1});
            if first && *audio != wanted {
                return Err(format!("odd audio settings: {audio}"));
            }
            Asked::Settings { first }
        }
        "assistant_input" => Asked::Say,
        "user_input" => Asked::Prompt,
        "tool_response" | "tool_error" => Asked::ToolAnswer {
            call_id: text("tool_call_id"),
        },
        "pause_assistant_message" => Asked::Pause,
        _ => Asked::Resume,
    })
}
