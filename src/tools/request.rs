//! What a tool of the operator's is told, and what is read off its answer: the same for both kinds.
//!
//! The question is one JSON object: the tool, the call, the arguments. The answer is text for the
//! agent's language model. Where it is a JSON object with a `content`, that is the text, so that a
//! service can answer with more than what the agent gets to read.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use super::Facts;

/// What the agent reads when a tool has nothing to say.
pub const DONE: &str = "Done.";
/// The longest `error` of a tool that is passed on, in characters.
pub const MAX_ERROR: usize = 500;

#[derive(Serialize)]
struct Question<'a> {
    tool: &'a str,
    call_id: &'a str,
    call: Call<'a>,
    arguments: &'a Map<String, Value>,
}

#[derive(Serialize)]
struct Call<'a> {
    call_sid: &'a str,
    /// Empty if it is withheld.
    from: &'a str,
    to: &'a str,
    route: Option<&'a str>,
    agent: &'a str,
    started_at: String,
    test: bool,
    known: &'a BTreeMap<String, String>,
}

/// The question, as JSON.
pub fn question(
    tool: &str,
    call_id: &str,
    facts: &Facts,
    arguments: &Map<String, Value>,
) -> Vec<u8> {
    let question = Question {
        tool,
        call_id,
        call: Call {
            call_sid: facts.call.as_str(),
            from: facts.caller().unwrap_or_default(),
            to: &facts.to,
            route: facts.route.as_deref(),
            agent: facts.agent,
            started_at: started_at(facts),
            test: facts.test,
            known: &facts.known,
        },
        arguments,
    };
    serde_json::to_vec(&question).expect("strings and JSON become JSON")
}

/// When the call began, in RFC 3339, to the second.
pub fn started_at(facts: &Facts) -> String {
    let started = Timestamp::try_from(facts.started).unwrap_or(Timestamp::UNIX_EPOCH);
    started
        .round(jiff::Unit::Second)
        .unwrap_or(started)
        .to_string()
}

/// What the agent gets to read of a good answer; `None` if it is not UTF-8.
pub fn answer(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let text = match serde_json::from_str(text) {
        Ok(Value::Object(object)) => match object.get("content") {
            Some(Value::String(content)) => content.clone(),
            _ => compact(text),
        },
        Ok(_) => compact(text),
        Err(_) => text.trim_end_matches(['\r', '\n']).to_owned(),
    };
    Some(match text.trim().is_empty() {
        true => DONE.to_owned(),
        false => text,
    })
}

/// The `error` of an answer that tells of a failure in words for the agent.
pub fn error(body: &[u8]) -> Option<String> {
    let Ok(Value::Object(object)) = serde_json::from_slice(body) else {
        return None;
    };
    let error = object.get("error")?.as_str()?.trim();
    let error: String = error.chars().take(MAX_ERROR).collect();
    (!error.is_empty()).then_some(error)
}

/// JSON without the white space between its parts. Read and written anew, long numbers would lose
/// their last digits: an account's, say.
fn compact(json: &str) -> String {
    let (mut inside, mut escaped) = (false, false);
    let kept = json.chars().filter(|c| {
        let keep = inside || !c.is_ascii_whitespace();
        if *c == '"' && !escaped {
            inside = !inside;
        }
        escaped = inside && *c == '\\' && !escaped;
        keep
    });
    kept.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> String {
        answer(body.as_bytes()).unwrap()
    }

    #[test]
    fn the_content_of_an_object_is_the_answer() {
        assert_eq!(
            read(r#"{"content":"Table for two.","id":7}"#),
            "Table for two."
        );
        assert_eq!(read(r#" { "content": 7 } "#), r#"{"content":7}"#);
    }

    #[test]
    fn other_json_is_written_shortly_and_not_changed() {
        assert_eq!(
            read(
                "{\n  \"b\": \"two  \\\" words \\\\\",\n  \"a\": [ 1, 123456789012345678901234 ]\n}\n"
            ),
            r#"{"b":"two  \" words \\","a":[1,123456789012345678901234]}"#
        );
        assert_eq!(read(" [ true ] "), "[true]");
    }

    #[test]
    fn text_is_the_answer_as_it_is() {
        assert_eq!(read("Yes: {at noon}.\r\n"), "Yes: {at noon}.");
        assert_eq!(read("  indented\n  lines\n"), "  indented\n  lines");
    }

    #[test]
    fn nothing_to_say_is_done() {
        for body in ["", "\n", "  \r\n", r#"{"content":""}"#] {
            assert_eq!(read(body), DONE, "{body:?}");
        }
        assert_eq!(answer(b"\xff\xfe"), None);
    }

    #[test]
    fn an_error_is_passed_on_if_it_is_in_words() {
        assert_eq!(
            error(br#"{"error":" No such booking. "}"#).as_deref(),
            Some("No such booking.")
        );
        for body in [
            "",
            "No such booking.",
            r#"{"error":17}"#,
            r#"{"error":" "}"#,
            "[]",
        ] {
            assert_eq!(error(body.as_bytes()), None, "{body}");
        }
        let long = format!("{{\"error\":\"{}\"}}", "é".repeat(2000));
        assert_eq!(error(long.as_bytes()).unwrap().chars().count(), MAX_ERROR);
    }
}
