//! What became of errands, messages and records, and what the agent knew: more of a story's expectations.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    asked,
    observed::{Expect, Observed},
};
use crate::sim::{evi::What, phone::Event};

impl Observed {
    /// Of what happened beside the conversation.
    pub(super) fn missed_errands(&self, expect: &Expect) -> Vec<String> {
        let mut missed = Vec::new();
        let streams = self.call.stream_sids.len();
        if let Some(expected) = expect.streams.filter(|expected| *expected != streams) {
            missed.push(format!("streams: expected {expected}, were {streams}"));
        }
        let bridged = self.all(|event| match event {
            Event::Bridged { number } => Some(number.clone()),
            _ => None,
        });
        if bridged != expect.bridged_with {
            missed.push(format!(
                "bridged with: expected {:?}, was {bridged:?}",
                expect.bridged_with
            ));
        }
        let heard = self.all(|event| match event {
            Event::CalleeHeard { text } => Some(text.clone()),
            _ => None,
        });
        missed.extend(differ("callees heard", &expect.callee_heard, &heard));
        let played = self.all(|event| match event {
            Event::DigitsPlayed { digits } => Some(digits.clone()),
            _ => None,
        });
        if played != expect.digits_played {
            missed.push(format!(
                "digits played: expected {:?}, were {played:?}",
                expect.digits_played
            ));
        }
        let fits = self.messages.len() == expect.messages.len()
            && expect
                .messages
                .iter()
                .zip(&self.messages)
                .all(|(wanted, sent)| wanted.to == sent.to && sent.body.contains(&wanted.body));
        if !fits {
            missed.push(format!(
                "messages: expected {:?}, were {:?}",
                expect.messages, self.messages
            ));
        }
        missed.extend(asked::missed(&expect.web, &self.web, &self.credentials));
        if !expect.records.is_empty() && expect.records.len() != self.records.len() {
            missed.push(format!(
                "records: expected {}, were {:?}",
                expect.records.len(),
                self.records
            ));
        }
        for (wanted, record) in expect.records.iter().zip(&self.records) {
            let wanted = serde_json::to_value(wanted).expect("a table of plain values is JSON");
            if !holds(record, &wanted) {
                missed.push(format!("record: expected {wanted}, was {record}"));
            }
        }
        missed
    }

    /// Of what the agent was told.
    pub(super) fn missed_knowledge(&self, expect: &Expect) -> Vec<String> {
        let mut missed = Vec::new();
        let (mut prompts, mut told) = (Vec::new(), Vec::new());
        let (mut variables, mut contexts) = (BTreeMap::new(), Vec::new());
        let (mut tools, mut voice) = (None, None);
        let (mut names, mut contents) = (BTreeMap::new(), BTreeMap::<String, Vec<String>>::new());
        for event in &self.agent.events {
            match &event.what {
                What::UserInput { text } => prompts.push(text.clone()),
                What::AssistantInput { text } => told.push(text.clone()),
                What::Settings {
                    variables: more,
                    context,
                    voice_id,
                    declared,
                    ..
                } => {
                    variables.extend(more.clone());
                    contexts.extend(context.clone());
                    voice = voice_id.clone().or(voice);
                    if !declared.is_empty() {
                        let names = declared.iter().map(|tool| tool.name.clone());
                        tools = Some(names.collect::<BTreeSet<String>>());
                    }
                }
                What::ToolCalled { id, name, .. } => {
                    names.insert(id.clone(), name.clone());
                }
                What::ToolAnswered { id, content, .. } => {
                    let name = names.get(id).cloned().unwrap_or_default();
                    contents.entry(name).or_default().push(content.clone());
                }
                _ => {}
            }
        }
        missed.extend(differ("prompts", &expect.prompts, &prompts));
        if let Some(expected) = &expect.told_to_say {
            missed.extend(differ("told to say", expected, &told));
        }
        for (name, value) in &expect.variables {
            if variables.get(name) != Some(value) {
                missed.push(format!(
                    "variable {name}: expected {value:?}, was {:?}",
                    variables.get(name)
                ));
            }
        }
        for words in &expect.contexts {
            if !contexts
                .iter()
                .any(|context| context.contains(words.as_str()))
            {
                missed.push(format!("{words:?} is in no context: {contexts:?}"));
            }
        }
        if let Some(expected) = &expect.tools {
            let expected: BTreeSet<String> = expected.iter().cloned().collect();
            let declared = tools.unwrap_or_default();
            if declared != expected {
                missed.push(format!("tools: expected {expected:?}, were {declared:?}"));
            }
        }
        if expect.voice.is_some() && expect.voice != voice {
            missed.push(format!("voice: expected {:?}, was {voice:?}", expect.voice));
        }
        for (tool, expected) in &expect.contents {
            let answered = contents.remove(tool).unwrap_or_default();
            missed.extend(differ(&format!("answers of {tool}"), expected, &answered));
        }
        missed
    }
}

/// Texts that must come in this number and order, each with the words that are expected of it.
pub(super) fn differ(what: &str, expected: &[String], seen: &[String]) -> Option<String> {
    let same = expected.len() == seen.len()
        && expected
            .iter()
            .zip(seen)
            .all(|(words, text)| text.contains(words.as_str()));
    (!same).then(|| format!("{what}: expected {expected:?}, were {seen:?}"))
}

/// Whether a value has everything that is wanted of it.
fn holds(value: &Value, wanted: &Value) -> bool {
    match (value, wanted) {
        (Value::Object(value), Value::Object(wanted)) => wanted
            .iter()
            .all(|(key, wanted)| value.get(key).is_some_and(|value| holds(value, wanted))),
        (Value::Array(value), Value::Array(wanted)) => {
            value.len() == wanted.len()
                && value
                    .iter()
                    .zip(wanted)
                    .all(|(value, wanted)| holds(value, wanted))
        }
        (value, wanted) => value == wanted,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_record_may_have_more_than_is_wanted() {
        let record = json!({"a": 1, "b": {"c": "x", "d": [1, {"e": 2, "f": 3}]}});
        assert!(holds(&record, &json!({"b": {"d": [1, {"e": 2}]}})));
        assert!(!holds(&record, &json!({"b": {"d": [1]}})));
        assert!(!holds(&record, &json!({"z": 1})));
        assert!(!holds(&record, &json!({"a": 2})));
    }

    #[test]
    fn texts_are_counted() {
        let seen = vec!["The caller pressed 12#".to_owned()];
        assert_eq!(differ("x", &["12#".to_owned()], &seen), None);
        assert!(differ("x", &[], &seen).is_some());
        assert!(differ("x", &["13".to_owned()], &seen).is_some());
    }
}
