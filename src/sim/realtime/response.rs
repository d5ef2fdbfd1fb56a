//! How the agent speaks: responses, one at a time, made of a script's steps.
//!
//! A reply is one response up to its `end`, or up to a tool call that holds it: what comes behind that is
//! played when the call is answered and the client asks for a response, never before. An `end` directly
//! ahead of a tool call is none: both are items of one response. What a script does behind the `end`
//! (waits, closes, speaks again) happens when the response is over; speech there begins a response of the
//! server's own.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::{
    Dialect,
    chat::Chat,
    errors::Failure,
    items::{Call, Item},
    session::Format,
    speech::Spoken,
};
use crate::sim::evi::{Millis, On, Say, Step, Tool, What, chat::Next};

/// So much audio after its beginning a client must know of a response.
const UNAWARES_MS: f64 = 1000.0;
/// Responses that wait for their turn.
const MAX_WAITING: usize = 64;

/// How long a model that is to speak first, and has no words for it, thinks about that: mostly the caller
/// has spoken meanwhile, and is not talked over.
const PONDERS: Millis = Millis(3_000.0);

/// Why a response was cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    TurnDetected,
    ClientCancelled,
}

/// The response under way.
pub(super) struct Response {
    pub id: String,
    pub by_client: bool,
    /// In audio received.
    began_ms: f64,
    metadata: Value,
    steps: VecDeque<Step>,
    until: Option<f64>,
    pub saying: Option<Spoken>,
    /// Its items, finished.
    output: Vec<Value>,
    /// Words and octets so far, for the bill.
    pub words: u64,
    pub octets: u64,
}

impl Chat {
    // ---- the client asks ----

    pub(super) fn create(&mut self, asked: &Value, event_id: Option<&str>, _now: f64) {
        if let Some(active) = &self.response {
            let (id, ours) = (active.id.clone(), !active.by_client);
            let message = format!(
                "Conversation already has an active response in progress: {id}. Wait until the response is finished before creating a new one."
            );
            let failure = Failure::request("conversation_already_has_active_response", message);
            // Only a response that the server has just begun by itself can be in a client's way unawares.
            let unawares = ours && self.ears.clock_ms() < active.began_ms + UNAWARES_MS;
            return match unawares {
                true => self.refuse(&failure, event_id),
                false => self.wrong(failure, event_id),
            };
        }
        let instructions = asked["instructions"].as_str().unwrap_or_default();
        let metadata = asked["metadata"].clone();
        if let Some(text) = told_to_say(instructions) {
            // An order of somebody's, at any time.
            self.log(What::AssistantInput { text: text.clone() });
            return self.begin(vec![Step::Say(Say::words(text)), Step::End], true, metadata);
        }
        if self.responses > 0 && !self.to_ask {
            self.violation("response.create: the server answers by itself, and there is nothing else to answer");
        }
        let first = self.responses == 0 && self.ears.utterances == 0;
        let asked_in_writing = self.trailing.is_some();
        let _settled = self.group();
        let steps = match self.trailing.take() {
            Some(text) if first => {
                self.log(What::UserInput { text: text.clone() });
                let reply = self.take(|reply| reply.on == On::Prompt && reply.has(&text));
                reply.map(|reply| reply.steps)
            }
            _ => None,
        };
        let steps = match steps {
            Some(steps) => steps,
            None if !self.due.is_empty() => joined(std::mem::take(&mut self.due)),
            None if first && !self.continues => self.world.shared.script.greeting.clone(),
            None if first && asked_in_writing => {
                let reply = self.take_on(On::Utterance);
                reply.map(|reply| reply.steps).unwrap_or_default()
            }
            None if first => self.world.shared.script.resumed.clone(),
            None => Vec::new(),
        };
        let steps = match steps.is_empty() && first {
            true => vec![Step::Wait(PONDERS)],
            false => steps,
        };
        self.begin(steps, true, metadata);
    }

    pub(super) fn cancel_asked(&mut self, id: Option<&str>, event_id: Option<&str>) {
        let active = self.response.as_ref();
        if active.is_some_and(|active| id.is_none_or(|id| id == active.id)) {
            self.cancel(Reason::ClientCancelled);
        } else {
            let message = "Cancellation failed: no active response found";
            let failure = Failure::request("response_cancel_not_active", message);
            match self.talked_over && self.world.dialect == Dialect::Ga {
                true => self.wrong(failure, event_id),
                false => self.refuse(&failure, event_id),
            }
        }
    }

    // ---- the life of a response ----

    pub(super) fn begin(&mut self, steps: Vec<Step>, by_client: bool, metadata: Value) {
        self.responses += 1;
        self.unanswered = false;
        (self.to_ask, self.talked_over) = (false, false);
        self.trailing = None;
        self.response = Some(Response {
            id: self.id("resp"),
            by_client,
            began_ms: self.ears.clock_ms(),
            metadata,
            steps: steps.into(),
            until: None,
            saying: None,
            output: Vec::new(),
            words: 0,
            octets: 0,
        });
        let shown = self.shown("in_progress", Value::Null, Value::Null);
        self.tell(json!({ "type": "response.created", "response": shown }));
    }

    /// The active response, as events show it.
    fn shown(&self, status: &str, details: Value, usage: Value) -> Value {
        let Some(response) = &self.response else {
            return Value::Null;
        };
        if self.world.dialect == Dialect::Beta {
            return json!({
                "id": response.id,
                "object": "realtime.response",
                "status": status,
                "status_details": details,
                "output": response.output,
                "modalities": ["audio", "text"],
                "metadata": response.metadata,
                "usage": usage,
            });
        }
        let format = match self.session.format_out() {
            Format::Pcmu => json!({ "type": "audio/pcmu" }),
            Format::Pcma => json!({ "type": "audio/pcma" }),
            Format::Pcm(rate) => json!({ "type": "audio/pcm", "rate": rate }),
        };
        json!({
            "id": response.id,
            "object": "realtime.response",
            "status": status,
            "status_details": details,
            "output": response.output,
            "conversation_id": format!("conv_{}", response.id),
            "output_modalities": ["audio"],
            "max_output_tokens": "inf",
            "audio": { "output": { "format": format, "voice": self.session.voice() } },
            "metadata": response.metadata,
            "usage": usage,
        })
    }

    fn finish(&mut self, status: &str, details: Value) {
        let Some(response) = &self.response else {
            return;
        };
        let (text, audio) = (response.words, response.octets / 800);
        let usage = json!({
            "total_tokens": 64 + text + audio,
            "input_tokens": 64,
            "output_tokens": text + audio,
            "input_token_details": {
                "text_tokens": 48,
                "audio_tokens": 16,
                "image_tokens": 0,
                "cached_tokens": 0,
                "cached_tokens_details": { "text_tokens": 0, "audio_tokens": 0, "image_tokens": 0 },
            },
            "output_token_details": { "text_tokens": text, "audio_tokens": audio },
        });
        let shown = self.shown(status, details, usage);
        let calls = |item: &Value| item["type"] == "function_call";
        let ends_turn = !response.output.iter().any(calls);
        self.response = None;
        self.tell(json!({ "type": "response.done", "response": shown }));
        self.tell(json!({
            "type": "rate_limits.updated",
            "rate_limits": [
                { "name": "requests", "limit": 1000, "remaining": 999, "reset_seconds": 0.5 },
                { "name": "tokens", "limit": 50000, "remaining": 49900, "reset_seconds": 0.25 },
            ],
        }));
        if ends_turn && status == "completed" {
            self.log(What::TurnEnded);
        }
    }

    /// Cuts the active response, if there is one.
    pub(super) fn cancel(&mut self, reason: Reason) {
        let Some(response) = &mut self.response else {
            return;
        };
        self.talked_over = reason == Reason::TurnDetected;
        let upcoming = response.steps.pop_front();
        if let Some(spoken) = response.saying.take() {
            self.hush(spoken, "incomplete");
        } else if let Some(Step::Tool(tool)) = upcoming {
            self.fragment(&tool);
        }
        let reason = match reason {
            Reason::TurnDetected => "turn_detected",
            Reason::ClientCancelled => "client_cancelled",
        };
        self.finish(
            "cancelled",
            json!({ "type": "cancelled", "reason": reason }),
        );
    }

    // ---- the script ----

    pub(super) fn run(&mut self, now: f64) -> Next {
        loop {
            if let Some(frame) = self.urgent.pop_front() {
                return Next::Send(frame);
            }
            if self.closing.is_some() {
                return Next::Until(now);
            }
            if self.response.is_some() {
                if let Some(next) = self.respond(now) {
                    return next;
                }
                continue;
            }
            if let Some(steps) = self.owed.pop_front() {
                self.begin(steps, false, Value::Null);
                continue;
            }
            match self.aftermath_until {
                Some(at) if now < at => return Next::Until(at),
                _ => self.aftermath_until = None,
            }
            match self.aftermath.pop_front() {
                None => return Next::Idle,
                Some(step @ (Step::Say(_) | Step::Tool(_) | Step::Fail(_) | Step::Mute)) => {
                    let mut steps = vec![step];
                    steps.extend(self.aftermath.drain(..));
                    self.begin(steps, false, Value::Null);
                }
                Some(Step::Wait(time)) => self.aftermath_until = Some(now + time.0),
                Some(step) => {
                    if let Some(next) = self.step(step) {
                        return next;
                    }
                }
            }
        }
    }

    /// Goes on with the active response. `None`: ask again.
    fn respond(&mut self, now: f64) -> Option<Next> {
        let response = self.response.as_mut()?;
        if let Some(spoken) = response.saying.take() {
            return self.speak(spoken, now);
        }
        match response.until {
            Some(at) if now < at => return Some(Next::Until(at)),
            _ => response.until = None,
        }
        let empty = response.by_client && response.output.is_empty();
        match response.steps.pop_front() {
            step @ (None | Some(Step::End)) if empty => {
                response.steps.extend(step);
                self.breathe(now);
            }
            None => self.finish("completed", Value::Null),
            // What the agent has said and what it has done next are one response.
            Some(Step::End) if matches!(response.steps.front(), Some(Step::Tool(_))) => {}
            Some(Step::End) => {
                self.aftermath = std::mem::take(&mut response.steps);
                self.finish("completed", Value::Null);
            }
            Some(Step::Wait(time)) => response.until = Some(now + time.0),
            Some(Step::Say(say)) => self.say(say, now),
            Some(Step::Tool(tool)) => self.tool(&tool, now),
            // What comes behind is for the next response that is asked for.
            Some(Step::Mute) => {
                let rest = Vec::from(std::mem::take(&mut response.steps));
                self.write("(in writing)");
                self.finish("completed", Value::Null);
                self.to_ask = true;
                self.due.extend((!rest.is_empty()).then_some(rest));
            }
            Some(Step::Fail(code)) => {
                let rest = Vec::from(std::mem::take(&mut response.steps));
                self.due.extend((!rest.is_empty()).then_some(rest));
                let failure = Failure::scripted(&code, "The server had an error.");
                let error = json!({
                    "type": failure.kind,
                    "code": failure.code,
                    "message": failure.message,
                });
                self.finish("failed", json!({ "type": "failed", "error": error }));
                self.to_ask = true;
                self.log(What::Error {
                    code: failure.code,
                    message: failure.message,
                });
            }
            Some(step) => return self.step(step),
        }
        None
    }

    /// What has nothing to do with a response.
    fn step(&mut self, step: Step) -> Option<Next> {
        match step {
            Step::Close { code, reason } => {
                let expired = self.failed.as_deref() == Some("session_expired");
                return Some(if expired && reason.is_empty() {
                    let (code, reason) = Failure::scripted("session_expired", "").close();
                    Next::Close { code, reason }
                } else {
                    Next::Close { code, reason }
                });
            }
            Step::Error { code, message, .. } => self.fail(&Failure::scripted(&code, &message)),
            Step::Raw(text) => self.urgent.push_back(text),
            Step::Binary => return Some(Next::SendBinary),
            Step::SpuriousInterruption => {
                let (item, at) = (self.id("item"), self.ears.clock_ms() as u64);
                self.tell(json!({
                    "type": "input_audio_buffer.speech_started",
                    "audio_start_ms": at,
                    "item_id": item,
                }));
                self.tell(json!({
                    "type": "input_audio_buffer.speech_stopped",
                    "audio_end_ms": at,
                    "item_id": item,
                }));
                self.log(What::Interrupted {
                    id: None,
                    spurious: true,
                });
            }
            Step::Drop => return Some(Next::Drop),
            Step::Freeze => {
                self.log(What::Frozen);
                return Some(Next::Freeze);
            }
            Step::StaleAudio => self.stale_audio(),
            Step::WebSearch => self.web_search(),
            // This server never answers a call itself.
            Step::ServerToolError => {}
            Step::End
            | Step::Say(_)
            | Step::Tool(_)
            | Step::Wait(_)
            | Step::Fail(_)
            | Step::Mute => {}
        }
        None
    }

    // ---- items of the response ----

    /// A new item of the response: its number in it.
    pub(super) fn open_item(&mut self, item: Value) -> (String, usize) {
        let previous = self.items.last().map(|item| item.id.clone());
        let response = self.response.as_ref();
        let (id, index) = response.map_or((String::new(), 0), |r| (r.id.clone(), r.output.len()));
        self.tell(json!({
            "type": "response.output_item.added",
            "response_id": id,
            "output_index": index,
            "item": item,
        }));
        self.tell(json!({
            "type": "conversation.item.added",
            "previous_item_id": previous,
            "item": item,
        }));
        self.keep(Item::of(item));
        (id, index)
    }

    pub(super) fn close_item(&mut self, item: Value) {
        let id = item["id"].as_str().unwrap_or_default().to_owned();
        let at = self.items.iter().position(|item| item.id == id);
        let previous = at
            .and_then(|at| at.checked_sub(1))
            .map(|at| self.items[at].id.clone());
        if let Some(at) = at {
            self.items[at].value = item.clone();
        }
        self.tell(json!({
            "type": "conversation.item.done",
            "previous_item_id": previous,
            "item": item,
        }));
        if let Some(response) = &mut self.response {
            let (id, index) = (response.id.clone(), response.output.len());
            response.output.push(item.clone());
            self.tell(json!({
                "type": "response.output_item.done",
                "response_id": id,
                "output_index": index,
                "item": item,
            }));
        }
    }

    // ---- tools ----

    fn tool(&mut self, tool: &Tool, now: f64) {
        let (id, call_id) = (self.id("item"), self.id("call"));
        let item = |status: &str, arguments: &str| {
            json!({
                "id": id,
                "object": "realtime.item",
                "type": "function_call",
                "status": status,
                "name": tool.name,
                "call_id": call_id,
                "arguments": arguments,
            })
        };
        let (response_id, output_index) = self.open_item(item("in_progress", ""));
        let about = |kind: &str| {
            json!({
                "type": kind,
                "response_id": response_id,
                "item_id": id,
                "output_index": output_index,
                "call_id": call_id,
            })
        };
        let arguments = &tool.parameters;
        let half = arguments.char_indices().nth(arguments.chars().count() / 2);
        let (first, second) = arguments.split_at(half.map_or(0, |(at, _)| at));
        for part in [first, second] {
            let mut delta = about("response.function_call_arguments.delta");
            delta["delta"] = part.into();
            self.tell(delta);
        }
        let mut done = about("response.function_call_arguments.done");
        done["name"] = tool.name.clone().into();
        done["arguments"] = arguments.clone().into();
        self.tell(done);
        self.close_item(item("completed", arguments));
        self.log(What::ToolCalled {
            id: call_id.clone(),
            name: tool.name.clone(),
            parameters: arguments.clone(),
            // Every call of this protocol wants an output.
            response_required: true,
        });
        let holds = tool.wait.unwrap_or(tool.response_required);
        let mut rest = Vec::new();
        if let Some(response) = &mut self.response
            && holds
        {
            rest.extend(response.steps.drain(..));
        }
        self.calls.push(Call {
            id: call_id,
            sent_at: now,
            answered: false,
            rest,
        });
        if holds {
            self.finish("completed", Value::Null);
        }
    }

    /// A call that was being written down when the response was cut: `done` is sent all the same, and what
    /// it has is no JSON. No client may run it, so it is no call on record.
    fn fragment(&mut self, tool: &Tool) {
        let (id, call_id) = (self.id("item"), self.id("call"));
        let half = tool
            .parameters
            .char_indices()
            .nth(1)
            .map_or(0, |(at, _)| at);
        let arguments = &tool.parameters[..half];
        let item = |status: &str| {
            json!({
                "id": id,
                "object": "realtime.item",
                "type": "function_call",
                "status": status,
                "name": tool.name,
                "call_id": call_id,
                "arguments": arguments,
            })
        };
        let (response_id, output_index) = self.open_item(item("in_progress"));
        self.tell(json!({
            "type": "response.function_call_arguments.done",
            "response_id": response_id,
            "item_id": id,
            "output_index": output_index,
            "call_id": call_id,
            "name": tool.name,
            "arguments": arguments,
        }));
        self.close_item(item("incomplete"));
    }

    /// A tool that the server has at hand itself.
    fn web_search(&mut self) {
        let id = self.id("mcp");
        let item = |output: Value| {
            json!({
                "id": id,
                "type": "mcp_call",
                "server_label": "search",
                "name": "web_search",
                "arguments": r#"{"query":"opening hours"}"#,
                "output": output,
            })
        };
        if self.response.is_none() {
            return;
        }
        let (response_id, output_index) = self.open_item(item(Value::Null));
        for kind in ["in_progress", "completed"] {
            self.tell(json!({
                "type": format!("response.mcp_call.{kind}"),
                "item_id": id,
                "output_index": output_index,
            }));
        }
        self.tell(json!({
            "type": "response.mcp_call_arguments.done",
            "response_id": response_id,
            "item_id": id,
            "output_index": output_index,
            "arguments": r#"{"query":"opening hours"}"#,
        }));
        self.close_item(item("nothing found".into()));
    }

    /// A reply begins by itself, at once or as soon as no response is under way.
    pub(super) fn owe(&mut self, steps: Vec<Step>) {
        if self.response.is_none() {
            self.begin(steps, false, Value::Null);
        } else if self.owed.len() < MAX_WAITING {
            self.owed.push_back(steps);
        }
    }
}

/// The text that instructions ask for word for word: what stands behind the first colon after that.
fn told_to_say(instructions: &str) -> Option<String> {
    let at = instructions.to_ascii_lowercase().find("say exactly")?;
    let (_, text) = instructions.get(at..)?.split_once(':')?;
    Some(text.trim().trim_matches('"').to_owned())
}

/// Several replies to one `response.create` are said in one response.
fn joined(replies: VecDeque<Vec<Step>>) -> Vec<Step> {
    let mut joined = Vec::new();
    for steps in replies {
        if let Some(Step::End) = joined.last() {
            joined.pop();
        }
        joined.extend(steps);
    }
    joined
}
