//! One session of the simulated Realtime server: a state machine without I/O.
//!
//! As the simulated EVI's: frames of the bridge go in, and [`Chat::next`] says what the connection is to
//! do, one thing at a time. This file has the connection's life and the client's events; what comes of them
//! is in [`super::turns`] (hearing), [`super::items`] (the conversation) and [`super::response`] (speaking).

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use super::{
    Dialect,
    errors::Failure,
    items::{Call, Item},
    response::Response,
    session::{self, Format, Session},
    shape::Fault,
    speech::Spoken,
    tables,
    tongue::translate,
    turns::Ears,
    world::{Past, World},
};
use crate::sim::evi::{
    AudioFormat, DeclaredTool, On, Opening, Reply, Step, What, chat::Next, server,
};

/// Frames that wait until the session is there.
const MAX_EARLY: usize = 10_000;
/// A session's greatest age where the script has none (OpenAI docs), in ms.
const GREATEST_AGE: f64 = 3_600_000.0;
/// Texts that tell one conversation from another.
const MAX_TEXTS: usize = 1_000;

pub(super) enum Phase {
    Opening { at: f64 },
    Open,
    Mute,
}

pub(super) struct Chat {
    pub(super) world: Arc<World>,
    connection: u32,
    phase: Phase,
    /// The request had the header of the beta.
    beta: bool,
    /// Came before the session was there.
    early: VecDeque<String>,
    /// Goes out ahead of the script.
    pub(super) urgent: VecDeque<String>,
    pub(super) closing: Option<(u16, String)>,
    pub(super) session: Session,
    session_id: String,
    model: String,
    /// When the session began.
    began: f64,
    /// Events sent.
    events: u64,
    /// An error was sent, and the last one's code.
    pub(super) failed: Option<String>,
    /// Taken up by another session, or ready to be.
    parted: bool,

    pub(super) ears: Ears,

    /// Which replies of the script are used; known when the first is wanted.
    group: Option<String>,
    /// The conversation goes on from an older session.
    pub(super) continues: bool,
    /// What was said by both.
    texts: Vec<String>,
    /// What the client said was said before.
    pub(super) told: Vec<String>,
    /// Written by the client as the caller's, ahead of any response.
    pub(super) trailing: Option<String>,
    pub(super) items: Vec<Item>,
    pub(super) calls: Vec<Call>,

    pub(super) response: Option<Response>,
    /// Responses begun.
    pub(super) responses: u64,
    /// Replies that wait for the client's `response.create`.
    pub(super) due: VecDeque<Vec<Step>>,
    /// Replies that begin by themselves as soon as they can.
    pub(super) owed: VecDeque<Vec<Step>>,
    /// There is something that the client alone can ask an answer to: a text of its own, a tool's output, a
    /// turn that is left to it, a response that came to nothing.
    pub(super) to_ask: bool,
    /// The last response was ended by the caller's voice, and by nobody else.
    pub(super) talked_over: bool,
    /// What happens when a response is over, and until when it waits.
    pub(super) aftermath: VecDeque<Step>,
    pub(super) aftermath_until: Option<f64>,
    /// The speech that was begun last.
    pub(super) last: Option<Spoken>,
    /// Speech was sent.
    pub(super) spoken: bool,
    /// In ms of audio received.
    pub(super) playing_until: f64,
    /// The caller's last words were not answered.
    pub(super) unanswered: bool,
    paused: bool,
}

impl Drop for Chat {
    fn drop(&mut self) {
        self.part(true);
    }
}

impl server::Chat for Chat {
    fn frame(&mut self, text: &str, now: f64) {
        let value = serde_json::from_str::<Value>(text);
        let kind = value.as_ref().ok().and_then(|value| value["type"].as_str());
        let is_audio = kind == Some("input_audio_buffer.append");
        let log = &self.world.shared.log;
        log.frame(self.connection, text, is_audio);
        if self.closing.is_some() {
            return; // sent before our close could be known
        }
        match self.phase {
            Phase::Open => match value {
                Ok(value) => self.event(&value, now),
                Err(error) => {
                    let message = format!("The message is not valid JSON: {error}");
                    self.wrong(Failure::request("invalid_json", message), None);
                }
            },
            Phase::Opening { .. } if self.early.len() < MAX_EARLY => {
                self.early.push_back(text.to_owned());
            }
            Phase::Opening { .. } | Phase::Mute => {}
        }
    }

    fn binary(&mut self, length: usize) {
        self.violation(format!(
            "a binary frame of {length} bytes; the protocol has JSON only"
        ));
    }

    fn next(&mut self, now: f64) -> Next {
        if let Phase::Opening { at } = self.phase
            && self.closing.is_none()
            && now >= at
        {
            self.open(now);
        }
        if self.closing.is_none() {
            match self.phase {
                Phase::Open => {}
                Phase::Opening { at } => return Next::Until(at),
                Phase::Mute => return Next::Idle,
            }
        }
        let expiry = self.expire(now);
        if let Some(frame) = self.urgent.pop_front() {
            return Next::Send(frame);
        }
        if let Some((code, reason)) = self.closing.take() {
            self.part(true);
            self.phase = Phase::Mute;
            return Next::Close { code, reason };
        }
        let next = match (self.run(now), expiry) {
            (Next::Idle, Some(at)) => Next::Until(at),
            (Next::Until(t), Some(at)) => Next::Until(t.min(at)),
            (next, _) => next,
        };
        if let Next::Close { .. } | Next::Drop | Next::Freeze = next {
            self.part(true);
            self.phase = Phase::Mute;
        }
        next
    }

    fn reads(&self) -> bool {
        !(self.world.shared.script.never_pong && self.session.updated)
    }

    fn over(&mut self) {
        self.part(false);
        self.phase = Phase::Mute;
        self.urgent.clear();
        self.closing = None;
    }
}

impl Chat {
    /// A connection that has just been answered with 101.
    pub fn new(world: Arc<World>, connection: u32, model: String, beta: bool, now: f64) -> Chat {
        let at = now + world.shared.script.ready_after.0;
        let session_id = format!("sess_{}", world.shared.id(1));
        Chat {
            phase: Phase::Opening { at },
            session: Session::new(world.dialect, &session_id, &model, 0),
            session_id,
            model,
            world,
            connection,
            beta,
            early: VecDeque::new(),
            urgent: VecDeque::new(),
            closing: None,
            began: now,
            events: 0,
            failed: None,
            parted: false,
            ears: Ears::default(),
            group: None,
            continues: false,
            texts: Vec::new(),
            told: Vec::new(),
            trailing: None,
            items: Vec::new(),
            calls: Vec::new(),
            response: None,
            responses: 0,
            due: VecDeque::new(),
            owed: VecDeque::new(),
            to_ask: false,
            talked_over: false,
            aftermath: VecDeque::new(),
            aftermath_until: None,
            last: None,
            spoken: false,
            playing_until: 0.0,
            unanswered: false,
            paused: false,
        }
    }

    pub(super) fn log(&self, what: What) {
        self.world.shared.log.event(self.connection, what);
    }

    pub(super) fn violation(&self, what: impl Into<String>) {
        self.world.shared.log.violation(self.connection, what);
    }

    /// The caller's voice, at 8 kHz, for the record.
    pub(super) fn record_caller(&self, pcm: &[i16]) {
        self.world.shared.log.caller(self.connection, pcm);
    }

    pub(super) fn id(&self, prefix: &str) -> String {
        let id = self.world.shared.id(6).replace('-', "");
        format!("{prefix}_{id}")
    }

    /// The text of an event, if this dialect has it.
    pub(super) fn compose(&mut self, mut event: Value) -> Option<String> {
        self.events += 1;
        event["event_id"] = format!("event_{:06}_{:08}", self.connection, self.events).into();
        if self.world.shared.script.extra_fields {
            event["field_of_the_future"] = json!(["1"]);
        }
        translate(self.world.dialect, event).map(|event| event.to_string())
    }

    pub(super) fn tell(&mut self, event: Value) {
        let text = self.compose(event);
        self.urgent.extend(text);
    }

    /// An `error` in answer to an event of the client that a race can bring.
    pub(super) fn refuse(&mut self, failure: &Failure, event_id: Option<&str>) {
        self.tell(failure.event(event_id));
    }

    /// The same for what no client should send.
    pub(super) fn wrong(&mut self, failure: Failure, event_id: Option<&str>) {
        self.violation(format!("{}: {}", failure.code, failure.message));
        self.refuse(&failure, event_id);
    }

    pub(super) fn wrong_field(&mut self, fault: Fault, event_id: Option<&str>) {
        self.wrong(Failure::from_fault(fault), event_id);
    }

    /// An error that nothing of the client's has brought about.
    pub(super) fn fail(&mut self, failure: &Failure) {
        self.failed = Some(failure.code.clone());
        self.tell(failure.event(None));
        self.log(What::Error {
            code: failure.code.clone(),
            message: failure.message.clone(),
        });
    }

    fn fatal(&mut self, failure: &Failure) {
        self.fail(failure);
        self.closing = Some(failure.close());
    }

    /// The connection is over; a later session may take the conversation up.
    fn part(&mut self, lost: bool) {
        if std::mem::replace(&mut self.parted, true) || !self.session.updated {
            return;
        }
        let group = self.group();
        self.world.remember(Past {
            group,
            texts: std::mem::take(&mut self.texts),
            lost: lost || self.unanswered || self.failed.is_some(),
        });
    }

    // ---- the session ----

    fn open(&mut self, now: f64) {
        let world = self.world.clone();
        match world.shared.opening() {
            Opening::Never => return self.phase = Phase::Mute,
            Opening::Error(code) => {
                let failure = Failure::scripted(&code, "This session cannot begin.");
                return self.fatal(&failure);
            }
            Opening::Ready => {}
        }
        if self.beta && world.dialect != Dialect::Beta {
            let message = "The Realtime Beta API is no longer supported.";
            return self.fatal(&Failure::request("beta_api_shape_disabled", message));
        }
        self.phase = Phase::Open;
        self.began = now;
        let limit = world.shared.script.session_limit;
        let age = limit.map_or(GREATEST_AGE, |limit| limit.0);
        let left = world
            .shared
            .log
            .clock
            .wall(std::time::Duration::from_secs_f64(age / 1000.0));
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let expires_at = (unix + left).as_secs();
        self.session = Session::new(world.dialect, &self.session_id, &self.model, expires_at);
        let session = self.session.shown();
        self.tell(json!({ "type": "session.created", "session": session }));
        if let Dialect::Xai | Dialect::Beta = world.dialect {
            let id = self.id("conv");
            let conversation = json!({ "id": id, "object": "realtime.conversation" });
            self.tell(json!({ "type": "conversation.created", "conversation": conversation }));
        }
        if world.dialect == Dialect::Xai {
            self.tell(json!({ "type": "ping", "timestamp": unix.as_millis() as u64 }));
        }
        for text in std::mem::take(&mut self.early) {
            match serde_json::from_str(&text) {
                Ok(value) => self.event(&value, now),
                Err(error) => {
                    let message = format!("The message is not valid JSON: {error}");
                    self.wrong(Failure::request("invalid_json", message), None);
                }
            }
        }
    }

    /// Ends a session that is too old; says when it will be.
    fn expire(&mut self, now: f64) -> Option<f64> {
        let limit = self.world.shared.script.session_limit?;
        let at = self.began + limit.0;
        if let Phase::Open = self.phase
            && self.closing.is_none()
            && now >= at
        {
            self.fatal(&Failure::scripted("session_expired", ""));
        }
        Some(at)
    }

    fn update(&mut self, update: &Value, event_id: Option<&str>) {
        if self.session.forgets_format(update) {
            self.violation(
                "session.audio: not both formats again; servers fall back to linear audio",
            );
        }
        let before = (self.session.updated, self.session.turns());
        if let Err(fault) = self.session.update(update, self.spoken) {
            return self.wrong_field(fault, event_id);
        }
        for (direction, format) in [
            ("input", self.session.format_in()),
            ("output", self.session.format_out()),
        ] {
            let linear_only = self.world.dialect == Dialect::Plain;
            if format == Format::Pcma || linear_only && format == Format::Pcmu {
                self.violation(format!(
                    "session.audio.{direction}.format: {format:?} is taken for linear audio here"
                ));
            }
        }
        self.listen_anew();
        let shown = self.session.shown();
        self.tell(json!({ "type": "session.updated", "session": shown }));
        self.settings(update);
        if !before.0 {
            let chat_group_id = self.model.clone();
            self.log(What::Ready {
                chat_id: self.session_id.clone(),
                chat_group_id,
            });
        } else if session::detection(update).is_some() {
            let creates = self.session.turns().is_some_and(|turns| turns.creates);
            if before.1.is_some_and(|turns| turns.creates) != creates {
                self.paused = !creates;
                self.log(if creates { What::Resumed } else { What::Paused });
            }
        }
    }

    fn settings(&self, update: &Value) {
        let declared: Vec<DeclaredTool> = update["tools"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|tool| DeclaredTool {
                name: tool["name"].as_str().unwrap_or_default().to_owned(),
                description: tool["description"].as_str().map(str::to_owned),
                parameters: tool["parameters"].clone(),
                fallback_content: None,
            })
            .collect();
        let with_format = update["audio"]["input"]["format"].is_object()
            || update["input_audio_format"].is_string();
        let voice = update["audio"]["output"]["voice"].as_str();
        self.log(What::Settings {
            in_query: false,
            audio: with_format.then(|| AudioFormat {
                sample_rate: self.session.format_in().rate(),
                channels: 1,
            }),
            tools: declared.iter().map(|tool| tool.name.clone()).collect(),
            declared,
            voice_id: voice.or(update["voice"].as_str()).map(str::to_owned),
            context: update["instructions"].as_str().map(str::to_owned),
            builtin_tools: Vec::new(),
            variables: Default::default(),
            custom_session_id: None,
        });
    }

    // ---- the client speaks ----

    fn event(&mut self, value: &Value, now: f64) {
        if self.closing.is_some() {
            return;
        }
        let event_id = value["event_id"].as_str();
        if let Err(fault) = tables::event(self.world.dialect).check(value, "") {
            return self.wrong_field(fault, event_id);
        }
        let item_id = value["item_id"].as_str().unwrap_or_default();
        match value["type"].as_str().unwrap_or_default() {
            "session.update" => self.update(&value["session"], event_id),
            "input_audio_buffer.append" => self.append(&value["audio"], event_id),
            "input_audio_buffer.commit" => self.commit(event_id),
            "input_audio_buffer.clear" => {
                self.ears.buffered_ms = 0.0;
                self.tell(json!({ "type": "input_audio_buffer.cleared" }));
            }
            "conversation.item.create" => {
                self.add(
                    &value["item"],
                    value["previous_item_id"].as_str(),
                    event_id,
                    now,
                );
            }
            "conversation.item.truncate" => {
                let index = value["content_index"].as_u64().unwrap_or_default();
                let heard = value["audio_end_ms"].as_u64().unwrap_or_default();
                self.truncate(item_id, index, heard, event_id);
            }
            "conversation.item.delete" => self.delete(item_id, event_id),
            "conversation.item.retrieve" => self.retrieve(item_id, event_id),
            "response.create" => self.create(&value["response"], event_id, now),
            "response.cancel" => self.cancel_asked(value["response_id"].as_str(), event_id),
            other => {
                let message =
                    format!("{other} is for WebRTC and SIP; there is no such buffer here");
                self.wrong(Failure::request("invalid_value", message), event_id);
            }
        }
    }

    // ---- the script ----

    /// Something was said.
    pub(super) fn said(&mut self, text: &str) {
        if self.texts.len() < MAX_TEXTS {
            self.texts.push(text.to_owned());
        }
    }

    /// Whose replies they are. From here on the conversation is a new one, or an older one's continuation.
    pub(super) fn group(&mut self) -> String {
        if let Some(group) = &self.group {
            return group.clone();
        }
        let group = match self.world.take_up(&self.told) {
            Some(past) => {
                self.continues = true;
                self.texts.extend(past.texts);
                past.group
            }
            None => self.world.shared.new_group(),
        };
        self.group.insert(group).clone()
    }

    /// The next reply that fits, which is then used.
    pub(super) fn take(&mut self, fits: impl Fn(&Reply) -> bool) -> Option<Reply> {
        let group = self.group();
        self.world.shared.reply_that(&group, true, fits).cloned()
    }

    pub(super) fn take_on(&mut self, on: On) -> Option<Reply> {
        self.take(|reply| reply.on == on)
    }
}
