//! EVI's messages, both ways.
//!
//! What arrives is parsed in two steps: an [`Envelope`], which is all that audio needs, and then
//! the one type that it names. Both borrow from the frame; a `Value` or an internally tagged enum
//! would copy every base64 body once more. Unknown fields are ignored, since Hume adds some with
//! every release; a known field of another shape makes the message malformed.
//!
//! What is sent has exactly the fields of the SDK types and never an optional one without need:
//! EVI answers an unknown or misspelt field with E0101 and closes (seen in the field).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::agent::Declared;
use crate::agent::wire::{Loose, Text};
use crate::config::Variable;

/// The part that all messages share, and the body of `audio_output`.
#[derive(Deserialize)]
pub(super) struct Envelope<'a> {
    #[serde(rename = "type", borrow)]
    pub kind: Text<'a>,
    #[serde(borrow, default)]
    pub id: Loose<'a>,
    #[serde(borrow, default)]
    pub data: Loose<'a>,
}

#[derive(Deserialize)]
pub(super) struct ChatMetadata<'a> {
    #[serde(borrow)]
    pub chat_id: Text<'a>,
    #[serde(borrow)]
    pub chat_group_id: Option<Text<'a>>,
}

#[derive(Deserialize)]
pub(super) struct AssistantMessage<'a> {
    #[serde(borrow)]
    pub message: ChatMessage<'a>,
}

#[derive(Deserialize)]
pub(super) struct UserMessage<'a> {
    pub from_text: Option<bool>,
    pub interim: Option<bool>,
    #[serde(borrow)]
    pub message: ChatMessage<'a>,
    pub time: Option<Span>,
}

#[derive(Deserialize)]
pub(super) struct ChatMessage<'a> {
    #[serde(borrow)]
    pub content: Option<Text<'a>>,
}

/// When something was said, in milliseconds of the chat. Documented as integers.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Span {
    pub begin: f64,
    pub end: f64,
}

#[derive(Deserialize)]
pub(super) struct ToolCall<'a> {
    #[serde(borrow)]
    pub tool_call_id: Text<'a>,
    #[serde(borrow)]
    pub name: Text<'a>,
    /// JSON in a string, or that JSON itself.
    #[serde(borrow)]
    pub parameters: Option<&'a RawValue>,
    pub response_required: Option<bool>,
    /// Missing in a sample of the EVI docs, where it is a function.
    #[serde(borrow)]
    pub tool_type: Option<Text<'a>>,
}

/// A `tool_response` or `tool_error` that the server sent itself; of a `tool_call`, what is needed to answer it.
#[derive(Deserialize)]
pub(super) struct ToolSettled<'a> {
    #[serde(borrow)]
    pub tool_call_id: Text<'a>,
}

#[derive(Deserialize)]
pub(super) struct ErrorMessage<'a> {
    #[serde(borrow)]
    pub code: Option<Text<'a>>,
    #[serde(borrow)]
    pub slug: Option<Text<'a>>,
}

const AUDIO_INPUT: (&str, &str) = (r#"{"type":"audio_input","data":""#, r#""}"#);

/// `audio_input` for little-endian 16-bit samples: the hot path, one exactly sized allocation.
pub(super) fn audio_input(pcm: &[u8]) -> String {
    let (prefix, suffix) = AUDIO_INPUT;
    let base64 = base64_simd::STANDARD.encoded_length(pcm.len());
    let mut frame = String::with_capacity(prefix.len() + base64 + suffix.len());
    frame.push_str(prefix);
    base64_simd::STANDARD.encode_append(pcm, &mut frame);
    frame.push_str(suffix);
    frame
}

/// Everything else that is sent.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Publish<'a> {
    SessionSettings {
        #[serde(skip_serializing_if = "Option::is_none")]
        audio: Option<AudioSettings>,
        #[serde(skip_serializing_if = "Option::is_none")]
        context: Option<Context<'a>>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tools: Vec<Tool<'a>>,
        #[serde(skip_serializing_if = "Variables::is_empty")]
        variables: Variables<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        voice_id: Option<&'a str>,
    },
    AssistantInput {
        text: &'a str,
    },
    UserInput {
        text: &'a str,
    },
    ToolResponse {
        tool_call_id: &'a str,
        content: &'a str,
    },
    /// `content` is what the language model gets, `error` is not shown to it (EVI docs).
    ToolError {
        tool_call_id: &'a str,
        error: &'a str,
        content: &'a str,
        level: &'static str,
    },
    PauseAssistantMessage {},
    ResumeAssistantMessage {},
}

/// All three are needed: the server refuses audio settings without `encoding`, though the SDK
/// types let it be left out.
#[derive(Serialize)]
pub(super) struct AudioSettings {
    pub encoding: &'static str,
    pub sample_rate: u32,
    pub channels: u32,
}

#[derive(Serialize)]
pub(super) struct Context<'a> {
    pub text: &'a str,
    #[serde(rename = "type")]
    pub kind: &'static str,
}

#[derive(Serialize)]
pub(super) struct Tool<'a> {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub name: &'a str,
    pub description: &'a str,
    /// A JSON Schema, serialised as a string.
    pub parameters: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback_content: Option<&'a str>,
}

impl<'a> Tool<'a> {
    pub fn of(declared: &'a Declared) -> Tool<'a> {
        Tool {
            kind: "function",
            name: &declared.name,
            description: &declared.description,
            parameters: &declared.parameters,
            fallback_content: declared.fallback.as_deref(),
        }
    }
}

/// By name.
pub(super) type Variables<'a> = BTreeMap<&'a str, Value<'a>>;

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Value<'a> {
    Text(&'a str),
    /// Written without a fraction: a prompt says what it gets, and nobody has 3.0 orders.
    Whole(i64),
    Number(f64),
    Flag(bool),
}

impl<'a> Value<'a> {
    pub fn of(variable: &'a Variable) -> Value<'a> {
        match variable {
            Variable::Text(text) => Value::Text(text),
            Variable::Number(number) if number.fract() == 0.0 && number.abs() < Variable::EXACT => {
                Value::Whole(*number as i64)
            }
            Variable::Number(number) => Value::Number(*number),
            Variable::Flag(flag) => Value::Flag(*flag),
        }
    }
}

/// What the bridge sends: 16-bit, because EVI takes nothing else; 8 kHz, because the telephone has
/// no more.
pub(super) const AUDIO: AudioSettings = AudioSettings {
    encoding: "linear16",
    sample_rate: 8000,
    channels: 1,
};

impl Publish<'_> {
    pub fn to_frame(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers always have a JSON form")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variables_number_is_written_as_one_says_it() {
        for (number, written) in [
            (3.0, "3"),
            (-3.0, "-3"),
            (0.0, "0"),
            (2.5, "2.5"),
            (1e15, "1000000000000000"),
            (1e300, "1e+300"),
        ] {
            let value = serde_json::to_string(&Value::of(&Variable::Number(number)));
            assert_eq!(value.unwrap(), written);
        }
    }
}
