//! The protocol's messages, both ways.
//!
//! What arrives is read twice at most: the [`Envelope`], which is all that audio and words need, and for
//! the rarer types what they nest. Servers differ in what they leave out, so nothing but the type is
//! insisted on. What is sent has exactly the fields of the SDK types.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::agent::wire::{Few, Loose, Number, Part, Text};

/// What all messages share, and the bodies of those that nest nothing.
#[derive(Deserialize)]
pub(super) struct Envelope<'a> {
    #[serde(rename = "type", borrow)]
    pub kind: Text<'a>,
    #[serde(borrow, default)]
    pub response_id: Loose<'a>,
    #[serde(borrow, default)]
    pub item_id: Loose<'a>,
    #[serde(default)]
    pub content_index: Number,
    /// Base64, or words.
    #[serde(borrow, default)]
    pub delta: Loose<'a>,
    /// The same under another name (vLLM's documentation).
    #[serde(borrow, default)]
    pub audio: Loose<'a>,
    #[serde(borrow, default)]
    pub transcript: Loose<'a>,
    #[serde(borrow, default)]
    pub text: Loose<'a>,
    #[serde(borrow, default)]
    pub status: Loose<'a>,
    #[serde(borrow, default)]
    pub call_id: Loose<'a>,
    #[serde(borrow, default)]
    pub name: Loose<'a>,
    #[serde(borrow, default)]
    pub arguments: Loose<'a>,
}

/// What some messages nest.
#[derive(Deserialize)]
pub(super) struct Nested<'a> {
    #[serde(borrow, default)]
    pub session: Part<Session<'a>>,
    #[serde(borrow, default)]
    pub conversation: Part<Named<'a>>,
    #[serde(borrow, default)]
    pub response: Part<Response<'a>>,
    #[serde(borrow, default)]
    pub item: Part<Item<'a>>,
    #[serde(borrow, default)]
    pub error: Part<Failure<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Named<'a> {
    #[serde(borrow, default)]
    pub id: Loose<'a>,
}

#[derive(Deserialize)]
pub(super) struct Session<'a> {
    #[serde(borrow, default)]
    pub id: Loose<'a>,
    /// Seconds since 1970; not in the SDK types, but on the wire.
    #[serde(default)]
    pub expires_at: Number,
}

#[derive(Deserialize)]
pub(super) struct Response<'a> {
    #[serde(borrow, default)]
    pub id: Loose<'a>,
    #[serde(borrow, default)]
    pub status: Loose<'a>,
    #[serde(borrow, default)]
    pub status_details: Part<Details<'a>>,
    #[serde(borrow, default)]
    pub output: Few<Item<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Details<'a> {
    #[serde(borrow, default)]
    pub error: Part<Failure<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Item<'a> {
    #[serde(borrow, default)]
    pub id: Loose<'a>,
    #[serde(rename = "type", borrow, default)]
    pub kind: Loose<'a>,
    #[serde(borrow, default)]
    pub status: Loose<'a>,
    #[serde(borrow, default)]
    pub call_id: Loose<'a>,
    #[serde(borrow, default)]
    pub name: Loose<'a>,
    #[serde(borrow, default)]
    pub arguments: Loose<'a>,
}

#[derive(Deserialize)]
pub(super) struct Failure<'a> {
    #[serde(rename = "type", borrow, default)]
    pub kind: Loose<'a>,
    #[serde(borrow, default)]
    pub code: Loose<'a>,
    #[serde(borrow, default)]
    pub message: Loose<'a>,
    #[serde(borrow, default)]
    pub event_id: Loose<'a>,
}

const APPEND: (&str, &str) = (r#"{"type":"input_audio_buffer.append","audio":""#, r#""}"#);

/// The caller's voice: the hot path, one exactly sized allocation.
pub(super) fn append(audio: &[u8]) -> String {
    let (prefix, suffix) = APPEND;
    let base64 = base64_simd::STANDARD.encoded_length(audio.len());
    let mut frame = String::with_capacity(prefix.len() + base64 + suffix.len());
    frame.push_str(prefix);
    base64_simd::STANDARD.encode_append(audio, &mut frame);
    frame.push_str(suffix);
    frame
}

/// A message in somebody's name. The kind of an assistant's text is another in each dialect.
pub(super) fn message(event_id: &str, role: &str, content: &str, text: &str) -> String {
    item(
        event_id,
        json!({
            "type": "message",
            "role": role,
            "content": [{ "type": content, "text": text }],
        }),
    )
}

/// What xAI says word for word.
pub(super) fn force_message(event_id: &str, text: &str) -> String {
    item(
        event_id,
        json!({
            "type": "force_message",
            "role": "assistant",
            "content": [{ "type": "output_text", "text": text }],
        }),
    )
}

/// A tool's result. `output` is a string, whatever is in it.
pub(super) fn tool_output(event_id: &str, call_id: &str, output: &str) -> String {
    item(
        event_id,
        json!({ "type": "function_call_output", "call_id": call_id, "output": output }),
    )
}

fn item(event_id: &str, item: Value) -> String {
    json!({ "type": "conversation.item.create", "event_id": event_id, "item": item }).to_string()
}

/// So much of an utterance was heard.
pub(super) fn truncate(event_id: &str, item_id: &str, content_index: u32, ms: u64) -> String {
    json!({
        "type": "conversation.item.truncate",
        "event_id": event_id,
        "item_id": item_id,
        "content_index": content_index,
        "audio_end_ms": ms,
    })
    .to_string()
}

/// Nothing of it was.
pub(super) fn delete(event_id: &str, item_id: &str) -> String {
    json!({ "type": "conversation.item.delete", "event_id": event_id, "item_id": item_id })
        .to_string()
}

pub(super) fn cancel(event_id: &str, response_id: Option<&str>) -> String {
    let mut cancel = json!({ "type": "response.cancel", "event_id": event_id });
    if let Some(id) = response_id {
        cancel["response_id"] = id.into();
    }
    cancel.to_string()
}

/// Asks for a response; `response` is null where the session says all.
pub(super) fn create(event_id: &str, response: Value) -> String {
    let mut create = json!({ "type": "response.create", "event_id": event_id });
    if !response.is_null() {
        create["response"] = response;
    }
    create.to_string()
}
