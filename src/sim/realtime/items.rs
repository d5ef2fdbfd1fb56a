//! The conversation: its items, what the client adds to them and takes away.

use serde_json::{Value, json};

use super::{chat::Chat, errors::Failure, shape::Fault};
use crate::sim::evi::{On, Say, Step, What};

/// Items that are known at once; what is older is forgotten.
const MAX_ITEMS: usize = 4_096;

/// An item of the conversation.
pub(super) struct Item {
    pub id: String,
    /// As events show it.
    pub value: Value,
    /// What it says aloud.
    pub speech: Option<Speech>,
}

/// The sound of an item.
pub(super) struct Speech {
    pub clip: String,
    /// Octets sent, and how many make a second.
    pub sent: u64,
    pub octets: u64,
    /// Nothing is to come any more.
    pub over: bool,
    /// What the client has left of it.
    pub kept_ms: Option<u64>,
}

impl Speech {
    /// How long it is, in ms.
    fn ms(&self) -> u64 {
        self.kept_ms.unwrap_or(self.sent * 1000 / self.octets)
    }
}

impl Item {
    /// Something without a sound.
    pub fn of(value: Value) -> Item {
        Item {
            id: value["id"].as_str().unwrap_or_default().to_owned(),
            value,
            speech: None,
        }
    }
}

/// A tool call.
pub(super) struct Call {
    pub id: String,
    pub sent_at: f64,
    pub answered: bool,
    /// What the agent does when it is answered and asked for a response.
    pub rest: Vec<Step>,
}

impl Chat {
    pub(super) fn keep(&mut self, item: Item) {
        if self.items.len() >= MAX_ITEMS {
            self.items.remove(0);
        }
        self.items.push(item);
    }

    /// A whole item is in the conversation now.
    pub(super) fn announce(&mut self, item: Item) {
        let previous = self.items.last().map(|item| item.id.clone());
        for kind in ["conversation.item.added", "conversation.item.done"] {
            self.tell(json!({
                "type": kind,
                "previous_item_id": previous,
                "item": item.value,
            }));
        }
        self.keep(item);
    }

    pub(super) fn item(&mut self, id: &str) -> Option<&mut Item> {
        self.items.iter_mut().find(|item| item.id == id)
    }

    /// The client adds an item, whose shape is right.
    pub(super) fn add(
        &mut self,
        item: &Value,
        previous: Option<&str>,
        event_id: Option<&str>,
        now: f64,
    ) {
        if let Some(previous) = previous
            && previous != "root"
            && self.item(previous).is_none()
        {
            let message = format!("Item with previous_item_id '{previous}' not found.");
            let fault = Fault::new("invalid_value", "previous_item_id", message);
            return self.wrong_field(fault, event_id);
        }
        let kind = item["type"].as_str().unwrap_or_default();
        let text = spoken_text(item);
        if kind == "force_message" {
            self.log(What::AssistantInput { text: text.clone() });
            let steps = vec![Step::Say(Say::words(text)), Step::End];
            return self.owe(steps);
        }
        if let Some(id) = item["id"].as_str()
            && self.item(id).is_some()
        {
            let message = format!("Item with id '{id}' already exists.");
            return self.wrong_field(
                Fault::new("item_create_duplicate_id", "item.id", message),
                event_id,
            );
        }
        let call_id = item["call_id"].as_str().unwrap_or_default();
        if kind == "function_call_output" && !self.open_call(call_id, event_id) {
            return;
        }
        let mut value = item.clone();
        if value["id"].is_null() {
            value["id"] = self.id("item").into();
        }
        value["object"] = "realtime.item".into();
        value["status"] = "completed".into();
        self.announce(Item::of(value));
        match (kind, item["role"].as_str().unwrap_or_default()) {
            ("function_call_output", _) => {
                let output = item["output"].as_str().unwrap_or_default().to_owned();
                self.answered(call_id, output, now);
            }
            ("message", "system") => self.told_context(text),
            ("message", role) => self.told_words(role, text),
            _ => {}
        }
    }

    fn told_context(&self, text: String) {
        self.log(What::Settings {
            in_query: false,
            audio: None,
            tools: Vec::new(),
            declared: Vec::new(),
            voice_id: None,
            context: Some(text),
            builtin_tools: Vec::new(),
            variables: Default::default(),
            custom_session_id: None,
        });
    }

    /// Words in the caller's name or the agent's: what was said before this connection, or, in the
    /// caller's and once the conversation is under way, something that is to be answered.
    fn told_words(&mut self, role: &str, text: String) {
        let before = self.responses == 0 && self.ears.utterances == 0;
        self.said(&text);
        if before {
            self.told.push(text.clone());
            self.log(What::Replayed {
                role: role.to_owned(),
                text: text.clone(),
            });
            self.trailing = (role == "user").then_some(text);
        } else if role == "user" {
            self.prompted(text);
        } else {
            self.violation("an item of the agent in the middle of the conversation");
        }
    }

    /// A text of the caller that waits for `response.create`.
    pub(super) fn prompted(&mut self, text: String) {
        self.to_ask = true;
        self.log(What::UserInput { text: text.clone() });
        let reply = self.take(|reply| reply.on == On::Prompt && reply.has(&text));
        if let Some(reply) = reply.or_else(|| self.take_on(On::Utterance)) {
            self.due.push_back(reply.steps);
        }
    }

    /// Whether this is a call without an answer; complains if it is not.
    fn open_call(&mut self, id: &str, event_id: Option<&str>) -> bool {
        let message = match self.calls.iter().find(|call| call.id == id) {
            Some(call) if !call.answered => return true,
            Some(_) => format!("Tool call '{id}' has an output already."),
            None => format!("Tool call ID '{id}' not found in conversation."),
        };
        let fault = Fault::new("invalid_tool_call_id", "item.call_id", message);
        self.wrong_field(fault, event_id);
        false
    }

    fn answered(&mut self, id: &str, content: String, now: f64) {
        let Some(call) = self.calls.iter_mut().find(|call| call.id == id) else {
            return;
        };
        call.answered = true;
        let (latency_ms, rest) = (now - call.sent_at, std::mem::take(&mut call.rest));
        self.to_ask = true;
        // A tool that failed says so in the words that the model gets; the protocol has no field for it.
        let object = serde_json::from_str::<Value>(&content).unwrap_or_default();
        let ok = object.get("error").is_none();
        self.log(What::ToolAnswered {
            id: id.to_owned(),
            ok,
            content: content.clone(),
            latency_ms,
            late: false,
        });
        let more = self.take(|reply| {
            reply.on == On::ToolAnswer
                && reply.has(&content)
                && reply.ok.is_none_or(|wanted| wanted == ok)
        });
        for steps in [rest, more.map(|reply| reply.steps).unwrap_or_default()] {
            if !steps.is_empty() {
                self.due.push_back(steps);
            }
        }
    }

    // ---- what was not heard ----

    pub(super) fn truncate(&mut self, id: &str, index: u64, heard_ms: u64, event_id: Option<&str>) {
        let Some(item) = self.item(id) else {
            let message = format!("Item with item_id not found: {id}.");
            let fault = Fault::new("item_truncate_invalid_item_id", "item_id", message);
            return self.wrong_field(fault, event_id);
        };
        let Some(speech) = &mut item.speech else {
            let message = "Only model output audio messages can be truncated.";
            let failure = Failure::request("unsupported_content_type", message);
            return self.wrong(failure, event_id);
        };
        if index != 0 {
            let message = format!("Content index {index} is beyond the item's content.");
            return self.wrong_field(
                Fault::new("invalid_value", "content_index", message),
                event_id,
            );
        }
        let (of_ms, cut_before) = (speech.ms(), speech.kept_ms.is_some());
        let clip = speech.clip.clone();
        if heard_ms > of_ms {
            let message =
                format!("Audio content of {of_ms}ms is already shorter than {heard_ms}ms");
            let over = speech.over && !cut_before;
            let fault = Fault::new("invalid_value", "audio_end_ms", message);
            // While it is being said a client may know more of it than we do, and hardly afterwards.
            return match over {
                true => self.wrong_field(fault, event_id),
                false => self.refuse(&Failure::from_fault(fault), event_id),
            };
        }
        speech.kept_ms = Some(heard_ms);
        if let Some(content) = item.value["content"][0].as_object_mut() {
            content.remove("transcript");
        }
        if heard_ms == of_ms {
            self.violation(format!("a needless truncate: all {of_ms} ms were heard"));
        }
        self.log(What::Truncated {
            id: id.to_owned(),
            clip,
            heard_ms,
            of_ms,
        });
        self.tell(json!({
            "type": "conversation.item.truncated",
            "item_id": id,
            "content_index": index,
            "audio_end_ms": heard_ms,
        }));
    }

    pub(super) fn delete(&mut self, id: &str, event_id: Option<&str>) {
        let Some(at) = self.items.iter().position(|item| item.id == id) else {
            let message = format!("Error deleting item: the item with id '{id}' does not exist.");
            let fault = Fault::new("item_delete_invalid_item_id", "item_id", message);
            return self.wrong_field(fault, event_id);
        };
        let item = self.items.remove(at);
        self.log(What::Deleted {
            id: item.id,
            clip: item.speech.map(|speech| speech.clip).unwrap_or_default(),
        });
        self.tell(json!({ "type": "conversation.item.deleted", "item_id": id }));
    }

    pub(super) fn retrieve(&mut self, id: &str, event_id: Option<&str>) {
        match self.item(id).map(|item| item.value.clone()) {
            Some(item) => {
                self.tell(json!({ "type": "conversation.item.retrieved", "item": item }));
            }
            None => {
                let message = format!("Item with item_id not found: {id}.");
                let fault = Fault::new("item_retrieve_invalid_item_id", "item_id", message);
                self.wrong_field(fault, event_id);
            }
        }
    }
}

/// The text in an item's content.
fn spoken_text(item: &Value) -> String {
    let parts = item["content"].as_array().into_iter().flatten();
    let texts = parts.filter_map(|part| part["text"].as_str());
    texts.collect::<Vec<_>>().join(" ")
}
