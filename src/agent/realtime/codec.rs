//! The translation between the Realtime protocol's events and the seam.
//!
//! What the session is and what the host asks for; the agent's turns are in [`super::turn`], the caller in
//! [`super::hearing`]. The
//! session's settings go out as soon as the socket is open, ahead of the server's own first word: they
//! need nothing of it, and the agent is there one way across the network earlier.

use std::time::{Duration, SystemTime};

use serde_json::json;

use super::{
    Settings,
    audio::{Down, Up},
    caller::Caller,
    calls::{Calls, Settled},
    items::Items,
    messages::{self, Envelope, Nested, Session},
    responses::{Purpose, Responses},
    session,
};
use crate::{
    agent::{
        Briefing, Capabilities, Closed, Command, Event, Ignored, Request, Role, ToolResult,
        recap::Recap, wire::parse,
    },
    config::realtime::{ContextRole, Greet, ReadyOn, Say, UserTranscript},
};

/// Audio comes whole in one message, if a server likes.
const MAX_MESSAGE: usize = 16 << 20;
/// The host keeps ids; a longer one is not an id.
const MAX_ID: usize = 512;
/// In seconds since 1970: what is later than the year 2100 is no time at which a session ends.
const LATEST: f64 = 4_102_444_800.0;

/// A Realtime server's [`Codec`](crate::agent::Codec).
pub struct Codec {
    pub(super) settings: Settings,
    pub(super) line: Line,
    pub(super) items: Items,
    pub(super) recap: Recap,
    /// What the host has added so far.
    pub(super) context: String,
    /// Events of ours so far.
    pub(super) events: u32,
    /// There has been an agent in this call, and it has been heard.
    ever_ready: bool,
    pub(super) sounded: bool,
    /// It was in the middle of a sentence when it was lost.
    pub(super) cut_off: bool,
    /// The agent had spoken, and the rest of its turn was lost: a tool was running, or its result was still to
    /// be spoken of.
    pub(super) owes: bool,
}

/// What belongs to one connection.
pub(super) struct Line {
    pub up: Up,
    pub down: Down,
    pub responses: Responses,
    pub calls: Calls,
    pub caller: Caller,
    pub ready: bool,
    /// The server's name for the session.
    chat: String,
    expires: Option<u64>,
    /// What a close would mean; forgotten when the conversation goes on.
    pub error: Option<Closed>,
    /// Responses in a row that came to nothing.
    pub failures: u8,
    /// The caller began to speak just now, and the server ends by itself what that interrupts.
    pub server_cuts: bool,
    /// The agent has been heard since the caller's last words.
    pub spoke: bool,
    /// A turn ended by what we did: the next message has to tell it.
    turn_done: bool,
    pub paused: bool,
    /// The caller has spoken meanwhile.
    pub unanswered: bool,
}

impl Line {
    fn new(settings: &Settings) -> Line {
        Line {
            up: Up::new(settings.server.config.audio_in),
            down: Down::new(settings.server.config.audio_out),
            responses: Responses::default(),
            calls: Calls::default(),
            caller: Caller::default(),
            ready: false,
            chat: String::new(),
            expires: None,
            error: None,
            failures: 0,
            server_cuts: false,
            spoke: false,
            turn_done: false,
            paused: false,
            unanswered: false,
        }
    }
}

pub(super) type Tell<'t, 'e> = &'t mut (dyn FnMut(Event<'_>) + 'e);
pub(super) type Send<'t, 'e> = &'t mut (dyn FnMut(String) + 'e);
pub(super) type Handled = Result<(), Ignored>;

/// An id that is one.
pub(super) fn id(text: Option<&str>) -> Option<&str> {
    text.filter(|text| (1..=MAX_ID).contains(&text.len()))
}

impl Codec {
    /// A codec for one conversation. Segments are numbered from 1.
    pub fn new(settings: Settings) -> Codec {
        Codec {
            line: Line::new(&settings),
            settings,
            items: Items::default(),
            recap: Recap::default(),
            context: String::new(),
            events: 0,
            ever_ready: false,
            sounded: false,
            cut_off: false,
            owes: false,
        }
    }

    /// The name of an event of ours, by which an error tells what it answers.
    pub(super) fn event_id(&mut self, what: &str) -> String {
        self.events = self.events.wrapping_add(1);
        format!("{what}-{}", self.events)
    }

    fn session(&mut self, kind: &str, session: Option<&Session<'_>>, tell: Tell<'_, '_>) -> bool {
        if let Some(session) = session {
            if let Some(chat) = id(session.id.get()) {
                chat.clone_into(&mut self.line.chat);
            }
            let at = session.expires_at.0.filter(|at| (1.0..LATEST).contains(at));
            if let Some(at) = at.map(|at| at as u64)
                && self.line.expires.replace(at) != Some(at)
            {
                let at = SystemTime::UNIX_EPOCH + Duration::from_secs(at);
                tell(Event::Expires { at });
            }
        }
        match self.settings.server.config.ready_on {
            ReadyOn::Updated => kind == "session.updated",
            ReadyOn::Created => true,
        }
    }

    /// The session is as we want it. A later confirmation is no news.
    fn ready(&mut self, tell: Tell<'_, '_>, send: Send<'_, '_>) {
        if std::mem::replace(&mut self.line.ready, true) {
            return;
        }
        let replayed = self.replay(send);
        let resumed = replayed || self.ever_ready;
        self.ever_ready = true;
        let chat = match &*self.line.chat {
            "" => "unnamed",
            chat => chat,
        };
        tell(Event::Ready { chat, resumed });
        self.line.chat = String::new();
        if self.cut_off {
            self.line.responses.want(Purpose::GoOn);
        } else if std::mem::take(&mut self.owes) {
            self.line.responses.want(Purpose::Go { follow: true });
        } else if !replayed && !self.sounded {
            // Also if nobody has heard a greeting because its agent was lost before.
            match self.settings.server.config.greet {
                Greet::Response => self.line.responses.want(Purpose::Greet),
                Greet::Message => {
                    let greeting = self.greeting();
                    self.message_of(Role::Caller, "item", &greeting, send);
                    self.line.responses.want(Purpose::Go { follow: false });
                }
                Greet::No => {}
            }
        }
    }

    fn add_context(&mut self, text: &str, send: Send<'_, '_>) {
        let event = self.event_id("item");
        let role = match self.settings.server.config.context_role {
            ContextRole::System => "system",
            ContextRole::User => "user",
        };
        send(messages::message(&event, role, "input_text", text));
        // For a session that has to begin anew.
        if !self.context.is_empty() {
            self.context.push('\n');
        }
        self.context.push_str(text);
    }

    fn tool_result(&mut self, call_id: &str, result: ToolResult<'_>, send: Send<'_, '_>) {
        let failed;
        let (output, ending) = match result {
            ToolResult::Ok(text) => (text, None),
            ToolResult::Ending(text) => (text, Some(text)),
            ToolResult::Failed { error, content } => {
                failed = json!({ "error": error, "message": content }).to_string();
                (&*failed, None)
            }
        };
        let settled = self.line.calls.settle(call_id, ending);
        if settled == Settled::No {
            return;
        }
        let event = self.event_id("item");
        send(messages::tool_output(&event, call_id, output));
        if let Settled::All(answered) = settled {
            self.line.turn_done |= self.answered(answered);
        }
    }

    fn take(
        &mut self,
        text: &str,
        envelope: &Envelope<'_>,
        tell: Tell<'_, '_>,
        send: Send<'_, '_>,
    ) -> Handled {
        let item = id(envelope.item_id.get());
        let nested = || parse::<Nested<'_>>(text);
        let words = envelope.transcript.get().or(envelope.text.get());
        let words = words.or(envelope.delta.get());
        match &*envelope.kind.0 {
            "response.output_audio.delta" | "response.audio.delta" => self.audio(envelope, tell),
            "response.output_audio.done" | "response.audio.done" => {
                self.audio_done(envelope, tell);
                Ok(())
            }
            "response.output_audio_transcript.delta" | "response.audio_transcript.delta" => {
                self.some_words(envelope, true)
            }
            "response.output_audio_transcript.done" | "response.audio_transcript.done" => {
                self.all_words(envelope, true, tell);
                Ok(())
            }
            "response.output_text.delta" | "response.text.delta" => {
                self.some_words(envelope, false)
            }
            "response.output_text.done" | "response.text.done" => {
                self.all_words(envelope, false, tell);
                Ok(())
            }
            "input_audio_buffer.speech_started" => {
                self.caller_speaks(item, tell, send);
                Ok(())
            }
            "input_audio_buffer.speech_stopped" => {
                self.line.caller.stopped(item);
                self.line.responses.caller_pauses();
                Ok(())
            }
            "input_audio_buffer.committed" => {
                if let Some(key) = self.line.caller.spoke(item) {
                    self.caller_spoke(key, false, tell);
                }
                Ok(())
            }
            "input_audio_buffer.timeout_triggered" => {
                self.line.caller.nobody(item);
                Ok(())
            }
            "conversation.item.input_audio_transcription.delta" => {
                let manner = self.settings.server.config.user_transcript;
                self.caller_words(item, words.unwrap_or_default(), Some(manner), tell);
                Ok(())
            }
            "conversation.item.input_audio_transcription.updated" => {
                let manner = Some(UserTranscript::Replace);
                self.caller_words(item, words.unwrap_or_default(), manner, tell);
                Ok(())
            }
            "conversation.item.input_audio_transcription.completed" => {
                let going_on = envelope.status.get() == Some("in_progress");
                let manner = going_on.then_some(UserTranscript::Replace);
                self.caller_words(item, words.unwrap_or_default(), manner, tell);
                Ok(())
            }
            "conversation.item.input_audio_transcription.failed" => {
                self.line.caller.no_words(item);
                Ok(())
            }
            "response.created" => {
                let response = nested()?.response.0;
                let id = response.as_ref().and_then(|response| id(response.id.get()));
                self.response_created(id, tell, send);
                Ok(())
            }
            "response.done" => {
                let response = nested()?.response.0.ok_or(Ignored::Malformed)?;
                self.response_done(&response, tell);
                Ok(())
            }
            "response.output_item.added" => self.item_added(envelope, &nested()?),
            "response.output_item.done" => self.item_done(envelope, &nested()?, tell),
            "response.function_call_arguments.done" => self.arguments_done(envelope, tell),
            kind @ ("session.created" | "session.updated" | "conversation.created") => {
                let nested = nested()?;
                if let Some(conversation) = nested.conversation.0
                    && self.line.chat.is_empty()
                    && let Some(chat) = id(conversation.id.get())
                {
                    chat.clone_into(&mut self.line.chat);
                }
                if self.session(kind, nested.session.0.as_ref(), tell) {
                    self.ready(tell, send);
                }
                Ok(())
            }
            "error" => {
                let failure = nested()?.error.0.ok_or(Ignored::Malformed)?;
                self.error(&failure, tell);
                Ok(())
            }
            other if is_nothing(other) => Ok(()),
            _ => Err(Ignored::UnknownType),
        }
    }
}

/// Known, and nothing to a telephone call.
fn is_nothing(kind: &str) -> bool {
    const PREFIXES: [&str; 6] = [
        "conversation.item.",
        "response.content_part.",
        "response.mcp_",
        "mcp_",
        "output_audio_buffer.",
        "input_audio_buffer.",
    ];
    const TYPES: [&str; 4] = [
        "rate_limits.updated",
        "response.function_call_arguments.delta",
        // Named in a guide, where the response's end says the same.
        "response.cancelled",
        "ping",
    ];
    TYPES.contains(&kind) || PREFIXES.iter().any(|prefix| kind.starts_with(prefix))
}

impl crate::agent::Codec for Codec {
    fn capabilities(&self) -> Capabilities {
        self.settings.server.capabilities()
    }

    fn request(&self) -> Request {
        let config = &self.settings.server.config;
        let (base, old) = config.url.split_once('?').unwrap_or((&config.url, ""));
        let old = old.trim_matches('&');
        let has_model = config.query.contains_key("model")
            || form_urlencoded::parse(old.as_bytes()).any(|(name, _)| name == "model");
        let mut more = form_urlencoded::Serializer::new(String::new());
        let model = config
            .model
            .as_ref()
            .filter(|_| config.model_in_query && !has_model);
        if let Some(model) = model {
            more.append_pair("model", model);
        }
        more.extend_pairs(&config.query);
        let more = more.finish();
        // What stands in the config goes out as it stands there.
        let query = [old, &more].into_iter().filter(|part| !part.is_empty());
        let query = query.collect::<Vec<_>>().join("&");
        Request {
            url: match query.is_empty() {
                true => base.to_owned(),
                false => format!("{base}?{query}"),
            },
            headers: self.settings.server.headers.clone(),
            subprotocols: config.subprotocols.clone(),
            max_message: MAX_MESSAGE,
        }
    }

    fn reconnect(&mut self, _resume: bool) {
        // No server takes an old session up: it is always a new one that is told the old one's words.
        if let Some(active) = &self.line.responses.active
            && active.audio
            && !active.discarded
        {
            self.cut_off = true;
            for segment in self.items.of_response(active.serial) {
                if let Some(item) = self.items.get(segment).filter(|item| !item.told) {
                    let key = u64::from(segment.0);
                    self.recap.words(Role::Agent, key, item.heard());
                }
            }
        }
        let (spoke, paused) = (self.line.spoke, self.line.paused);
        let rest = self.line.calls.waits() || self.line.responses.turn_goes_on();
        self.owes = spoke && (self.owes || rest);
        if paused {
            // What it was saying is not wanted any more.
            (self.cut_off, self.owes) = (false, false);
        }
        // The host has the caller's unanswered words heard again.
        if !spoke {
            self.recap.unanswered();
        }
        self.items.reconnect();
        self.line = Line {
            // Whoever is called next may be lost as well.
            spoke: self.owes || self.cut_off,
            paused,
            ..Line::new(&self.settings)
        };
    }

    fn brief(&mut self, more: Briefing) {
        self.settings.persona.briefing.add(more);
    }

    fn opened(&mut self, send: &mut dyn FnMut(String)) {
        let instructions = session::instructions(&self.settings, &self.context);
        let event = self.event_id("session");
        send(session::update(
            &event,
            session::whole(&self.settings, &instructions),
        ));
    }

    fn command(&mut self, command: Command<'_>, send: &mut dyn FnMut(String)) {
        match command {
            Command::AudioIn(mulaw) => {
                if let Some(frame) = self.line.up.frame(mulaw) {
                    self.line.responses.time_passes(mulaw.len());
                    send(frame);
                }
            }
            Command::ToolResult { call_id, result } => self.tool_result(call_id, result, send),
            Command::Say { text } => {
                let text = text.to_owned();
                match self.settings.server.config.say {
                    Say::Instruct => self.line.responses.want(Purpose::Say(text)),
                    Say::Force => self.line.responses.want(Purpose::Force(text)),
                    // The host asks nobody for what they cannot do.
                    Say::No => {}
                }
            }
            Command::Prompt { text } => {
                self.message_of(Role::Caller, "item", text, send);
                // As if they had said it.
                self.line.spoke = false;
                self.line.responses.want(Purpose::Go { follow: false });
            }
            Command::AddContext { text } => self.add_context(text, send),
            // It was told when it began.
            Command::Remind => {}
            Command::Heard { segment, heard_ms } => self.heard(segment, heard_ms, send),
            Command::Pause => {
                self.line.paused = true;
                send(self.update(false));
                self.hush(send);
            }
            Command::Resume => {
                self.line.paused = false;
                send(self.update(true));
                if std::mem::take(&mut self.line.unanswered) {
                    self.line.responses.want(Purpose::Go { follow: false });
                }
            }
        }
        self.flush(send);
    }

    fn message(
        &mut self,
        text: &str,
        event: &mut dyn FnMut(Event<'_>),
        send: &mut dyn FnMut(String),
    ) {
        self.line.server_cuts = false;
        if std::mem::take(&mut self.line.turn_done) {
            event(Event::TurnDone);
        }
        let handled = parse::<Envelope<'_>>(text)
            .and_then(|envelope| self.take(text, &envelope, event, send));
        if let Err(why) = handled {
            event(Event::Ignored { why });
        }
        self.flush(send);
    }

    fn closed(&mut self, code: Option<u16>, reason: &str) -> Closed {
        super::errors::closed(code, reason, self.line.error)
    }
}
