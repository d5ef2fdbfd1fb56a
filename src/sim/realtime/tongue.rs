//! One dialect made into another: events are written as OpenAI's server sends them, and left out or
//! renamed here where a server of another kind does otherwise.

use serde_json::Value;

use super::Dialect;

/// The event as this dialect has it; `None` if it has none.
pub(super) fn translate(dialect: Dialect, mut event: Value) -> Option<Value> {
    let kind = event["type"].as_str().unwrap_or_default().to_owned();
    match dialect {
        Dialect::Ga => {}
        Dialect::Xai => match kind.as_str() {
            "conversation.item.done" | "rate_limits.updated" => return None,
            "input_audio_buffer.speech_started" => {
                event.as_object_mut()?.remove("audio_start_ms");
            }
            _ => {}
        },
        Dialect::Plain => match kind.as_str() {
            "response.created"
            | "response.output_item.done"
            | "conversation.item.done"
            | "conversation.item.truncated"
            | "rate_limits.updated" => return None,
            _ => {}
        },
        Dialect::Beta => match kind.as_str() {
            "conversation.item.done" | "rate_limits.updated" => return None,
            "conversation.item.added" => event["type"] = "conversation.item.created".into(),
            _ => {
                if let Some(rest) = kind.strip_prefix("response.output_")
                    && !rest.starts_with("item")
                {
                    event["type"] = format!("response.{rest}").into();
                }
            }
        },
    }
    if dialect == Dialect::Beta {
        older_contents(&mut event);
    }
    Some(event)
}

/// `output_audio` was `audio`, and `output_text` was `text`.
fn older_contents(value: &mut Value) {
    match value {
        Value::Object(map) => {
            let older = match map.get("type").and_then(Value::as_str) {
                Some("output_audio") => Some("audio"),
                Some("output_text") => Some("text"),
                _ => None,
            };
            if let Some(older) = older {
                map.insert("type".into(), older.into());
            }
            map.values_mut().for_each(older_contents);
        }
        Value::Array(list) => list.iter_mut().for_each(older_contents),
        _ => {}
    }
}
