//! The translation between EVI's messages and the seam.
//!
//! Takes every type of the SDK types' subscribe union; skips and reports the rest. One resampler
//! lives across messages, since a filter that starts anew with each WAV clicks at every edge; it is
//! replaced only after an interruption or a cut, at the end of a turn (where its tail is played
//! out), and when the rate changes.
//!
//! Bodies are decoded in a scratch that belongs to the thread.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::closing;
use super::memory::{Calls, Placed, Segments, Utterance};
use super::messages::{
    AUDIO, AssistantMessage, ChatMetadata, Context, Envelope, ErrorMessage, Publish, Tool,
    ToolCall, ToolSettled, UserMessage, Value, Variables, audio_input,
};
use super::{CAPABILITIES, Settings};
use crate::agent::recap::Recap;
use crate::agent::scratch::{Scratch, with_scratch};
use crate::agent::wire::{Text, parse};
use crate::agent::{
    Briefing, Capabilities, Closed, Command, Event, Ignored, Persona, Request, Role, ToolResult,
};
use crate::audio::resample::Downsampler;
use crate::audio::{g711, wav};

/// One message may have 16 MB (EVI docs).
const MAX_MESSAGE: usize = 16 << 20;
/// The host keeps ids; a longer one is not an id.
const MAX_ID: usize = 512;

/// In place of a tool's name that is none: no tool is called so.
const NAMELESS: &str = "(nameless)";

/// EVI's [`Codec`](crate::agent::Codec).
pub struct Codec {
    settings: Settings,
    ready: bool,
    segments: Segments,
    resampler: Option<Downsampler>,
    utterance: Utterance,
    calls: Calls,
    /// What a close would mean; forgotten when the conversation goes on.
    error: Option<Closed>,
    /// What the host has added so far.
    context: String,
    /// The chat group, by which EVI would take up the conversation.
    group: Option<String>,
    /// This connection asks for that.
    resuming: bool,
    /// It is not the first.
    again: bool,
    recap: Recap,
    /// The utterance that the caller is at stands in the recap.
    noted: bool,
    /// What this chat was told of an earlier one.
    preface: String,
}

impl Codec {
    /// A codec for one conversation. Segments are numbered from 1.
    pub fn new(settings: Settings) -> Codec {
        Codec {
            settings,
            ready: false,
            segments: Segments::default(),
            resampler: None,
            utterance: Utterance::default(),
            calls: Calls::default(),
            error: None,
            context: String::new(),
            group: None,
            resuming: false,
            again: false,
            recap: Recap::default(),
            noted: false,
            preface: String::new(),
        }
    }

    fn chat_metadata(&mut self, text: &str, event: &mut dyn FnMut(Event<'_>)) -> Handled {
        let metadata: ChatMetadata = parse(text)?;
        let chat = id(&metadata.chat_id.0)?;
        let group = metadata
            .chat_group_id
            .as_ref()
            .map(|group| id(&group.0))
            .transpose()?;
        // Once a chat; a repetition has nothing to tell.
        if !std::mem::replace(&mut self.ready, true) {
            let resumed = self.resuming && group == self.group.as_deref();
            self.group = group.map(str::to_owned);
            event(Event::Ready { chat, resumed });
        }
        Ok(())
    }

    fn audio_output(
        &mut self,
        id: Option<&str>,
        data: Option<&str>,
        event: &mut dyn FnMut(Event<'_>),
    ) -> Handled {
        let data = data.ok_or(Ignored::Malformed)?;
        self.error = None;
        let Placed { segment, ended } = self.segments.audio(id);
        if let Some(segment) = ended {
            event(Event::SegmentEnd { segment });
        }
        if self.segments.is_stale(segment) {
            return Err(Ignored::Stale);
        }
        with_scratch(|scratch| {
            let Scratch {
                bytes,
                wide,
                narrow,
                mulaw,
            } = scratch;
            base64_simd::STANDARD
                .decode_append(data.as_bytes(), bytes)
                .map_err(|_| Ignored::Malformed)?;
            let wav = wav::parse(bytes).map_err(Ignored::BadAudio)?;
            wav.samples_into(wide);
            let same = self
                .resampler
                .as_mut()
                .filter(|r| r.from_rate() == wav.rate);
            match same {
                Some(resampler) => resampler.push(wide, narrow),
                None => {
                    let mut new = Downsampler::new(wav.rate).map_err(|_| Ignored::BadRate)?;
                    if let Some(mut old) = self.resampler.take() {
                        old.flush(narrow);
                    }
                    new.push(wide, narrow);
                    self.resampler = Some(new);
                }
            }
            self.segments.fed(segment);
            g711::encode_into(narrow, mulaw);
            if !mulaw.is_empty() {
                event(Event::Audio { segment, mulaw });
            }
            Ok(())
        })
    }

    fn assistant_message(
        &mut self,
        id: Option<&str>,
        text: &str,
        event: &mut dyn FnMut(Event<'_>),
    ) -> Handled {
        let message: AssistantMessage = parse(text)?;
        self.error = None;
        if let Some(segment) = self.segments.text(id).ended {
            event(Event::SegmentEnd { segment });
        }
        if let Some(text) = &message.message.content {
            self.recap.said(Role::Agent, &text.0, false);
            event(Event::Transcript {
                role: Role::Agent,
                text: &text.0,
                interim: false,
                replace: false,
            });
        }
        Ok(())
    }

    fn assistant_end(&mut self, event: &mut dyn FnMut(Event<'_>)) {
        let resampler = self.resampler.take();
        if let Some((segment, mut resampler)) = self.segments.sounding().zip(resampler) {
            with_scratch(|Scratch { narrow, mulaw, .. }| {
                resampler.flush(narrow);
                g711::encode_into(narrow, mulaw);
                if !mulaw.is_empty() {
                    event(Event::Audio { segment, mulaw });
                }
            });
        }
        if let Some(segment) = self.segments.end() {
            event(Event::SegmentEnd { segment });
        }
        event(Event::TurnDone);
    }

    fn user_message(&mut self, text: &str, event: &mut dyn FnMut(Event<'_>)) -> Handled {
        let message: UserMessage = parse(text)?;
        self.error = None;
        let Some(text) = &message.message.content else {
            return Ok(());
        };
        let replace = if message.from_text == Some(true) {
            // Typed by someone, not an utterance: it improves nothing and nothing improves it.
            self.utterance.forget();
            false
        } else {
            self.utterance.heard(&text.0, message.time)
        };
        let interim = message.interim == Some(true);
        // Only finals are noted, so only a final can be improved upon.
        self.noted &= replace;
        if !interim {
            self.recap.said(Role::Caller, &text.0, self.noted);
            self.noted = true;
        }
        event(Event::Transcript {
            role: Role::Caller,
            text: &text.0,
            interim,
            replace,
        });
        Ok(())
    }

    fn tool_call(&mut self, text: &str, event: &mut dyn FnMut(Event<'_>)) -> Handled {
        let Ok(call) = parse::<ToolCall>(text) else {
            return self.nameless_call(text, event);
        };
        let call_id = id(&call.tool_call_id.0)?;
        let name = id(&call.name.0).unwrap_or(NAMELESS);
        let parameters = call.parameters.map_or("{}", RawValue::get);
        let string = parameters
            .starts_with('"')
            .then(|| serde_json::from_str::<Text>(parameters));
        let Ok(string) = string.transpose() else {
            return self.nameless_call(text, event);
        };
        let builtin = call.tool_type.is_some_and(|kind| kind.0 == "builtin");
        let expects_reply = call.response_required != Some(false) && !builtin;
        if expects_reply && !self.calls.open(call_id) {
            return Ok(());
        }
        event(Event::ToolCall {
            call_id,
            name,
            arguments: string.as_ref().map_or(parameters, |text| &text.0),
            expects_reply,
        });
        Ok(())
    }

    /// EVI says nothing until the call is answered, and so would the caller hear nothing: as long as it
    /// can be told which call it is, it is told on, under a name that no tool has.
    fn nameless_call(&mut self, text: &str, event: &mut dyn FnMut(Event<'_>)) -> Handled {
        let call: ToolSettled = parse(text)?;
        let call_id = id(&call.tool_call_id.0)?;
        if self.calls.open(call_id) {
            event(Event::ToolCall {
                call_id,
                name: NAMELESS,
                arguments: "{}",
                expects_reply: true,
            });
        }
        Ok(())
    }

    fn tool_settled(&mut self, text: &str, event: &mut dyn FnMut(Event<'_>)) -> Handled {
        let settled: ToolSettled = parse(text)?;
        let call_id = id(&settled.tool_call_id.0)?;
        // A built-in tool's result or an echo of our own answer is no news.
        if self.calls.settle(call_id) {
            event(Event::ToolCancelled { call_id });
        }
        Ok(())
    }

    fn error(&mut self, text: &str, event: &mut dyn FnMut(Event<'_>)) -> Handled {
        let error: ErrorMessage = parse(text)?;
        let slug = error.slug.as_ref().map_or("", |slug| &slug.0);
        let code = error.code.as_ref().map_or(slug, |code| &code.0);
        let ends = closing::meaning(code, slug).map(|ends| match ends {
            // Too many chats: one of them may be the one that was lost just now.
            Closed::Quota if self.again && !self.ready && !closing::no_credits(code, slug) => {
                Closed::Lost
            }
            ends => ends,
        });
        self.error = ends.or(self.error);
        let code = &code[..code.floor_char_boundary(64)];
        event(Event::Error { code, ends });
        Ok(())
    }

    /// EVI has one field for context, which the EVI docs only ever set or clear, so an addition is
    /// sent together with the earlier ones.
    fn add_context(&mut self, text: &str) -> String {
        let added = joined(&self.context, text);
        let earlier = joined(&self.settings.persona.briefing.context, &self.preface);
        let all = joined(&earlier, &added);
        let frame = Publish::SessionSettings {
            audio: None,
            context: Some(persistent(&all)),
            tools: Vec::new(),
            variables: Variables::new(),
            voice_id: None,
        }
        .to_frame();
        self.context = added.into_owned();
        frame
    }
}

/// Two texts, with a line break where both say something.
fn joined<'a>(first: &'a str, second: &'a str) -> Cow<'a, str> {
    match (first, second) {
        ("", text) | (text, "") => Cow::Borrowed(text),
        (first, second) => Cow::Owned(format!("{first}\n{second}")),
    }
}

/// A temporary context serves a single answer, a persistent one the rest of the chat (EVI docs);
/// what an operator wants known stays true for the rest of the call.
fn persistent(text: &str) -> Context<'_> {
    Context {
        text,
        kind: "persistent",
    }
}

impl crate::agent::Codec for Codec {
    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn request(&self) -> Request {
        // The audio format goes into the query as well as into the first frame: a relay that had
        // audio arrive before its settings got a greeting and then a deaf agent (seen in the field).
        let mut query = form_urlencoded::Serializer::new(String::new());
        if let Some(config) = &self.settings.config_id {
            query.append_pair("config_id", config);
        }
        if let Some(group) = self.group.as_ref().filter(|_| self.resuming) {
            query.append_pair("resumed_chat_group_id", group);
        }
        query.append_pair("session_settings[audio][encoding]", AUDIO.encoding);
        query.append_pair(
            "session_settings[audio][sample_rate]",
            &AUDIO.sample_rate.to_string(),
        );
        query.append_pair(
            "session_settings[audio][channels]",
            &AUDIO.channels.to_string(),
        );
        // A greeting that EVI begins at once knows only these. What is the caller's affair never stands in
        // a URL.
        for (name, value) in &self.settings.persona.briefing.fixed {
            query.append_pair(
                &format!("session_settings[variables][{name}]"),
                &value.to_text(),
            );
        }
        let url = self.settings.url.trim_end_matches(['?', '&']);
        let joint = if url.contains('?') { '&' } else { '?' };
        Request {
            url: format!("{url}{joint}{}", query.finish()),
            // EVI would take the key as a query parameter too, where it ends up in logs.
            headers: vec![("X-Hume-Api-Key".into(), self.settings.api_key.clone())],
            subprotocols: Vec::new(),
            max_message: MAX_MESSAGE,
        }
    }

    fn reconnect(&mut self, resume: bool) {
        self.again = true;
        self.ready = false;
        self.segments.reconnect();
        self.resampler = None;
        self.utterance.forget();
        self.noted = false;
        self.calls = Calls::default();
        self.error = None;
        self.resuming = resume && self.group.is_some();
        if !self.resuming {
            self.group = None;
            self.preface = self.recap.told();
        }
    }

    fn brief(&mut self, more: Briefing) {
        self.settings.persona.briefing.add(more);
    }

    fn opened(&mut self, send: &mut dyn FnMut(String)) {
        let Persona {
            voice,
            tools,
            briefing,
            ..
        } = &self.settings.persona;
        // A resumed chat knows its messages but not its settings.
        let added = joined(&self.preface, &self.context);
        let known = joined(&briefing.context, &added);
        let variables = briefing.fixed.iter().chain(&briefing.variables);
        send(
            Publish::SessionSettings {
                audio: Some(AUDIO),
                context: (!known.is_empty()).then(|| persistent(&known)),
                tools: tools.iter().map(Tool::of).collect(),
                variables: variables
                    .map(|(name, value)| (name.as_str(), Value::of(value)))
                    .collect(),
                voice_id: voice.as_deref(),
            }
            .to_frame(),
        );
    }

    fn command(&mut self, command: Command<'_>, send: &mut dyn FnMut(String)) {
        match command {
            Command::AudioIn([]) => {}
            Command::AudioIn(mulaw) => send(with_scratch(|Scratch { bytes, .. }| {
                g711::decode_le_into(mulaw, bytes);
                audio_input(bytes)
            })),
            Command::ToolResult { call_id, result } => {
                self.calls.settle(call_id);
                send(
                    match result {
                        ToolResult::Ok(content) | ToolResult::Ending(content) => {
                            Publish::ToolResponse {
                                tool_call_id: call_id,
                                content,
                            }
                        }
                        ToolResult::Failed { error, content } => Publish::ToolError {
                            tool_call_id: call_id,
                            error,
                            content,
                            // The only level there is (SDK types).
                            level: "warn",
                        },
                    }
                    .to_frame(),
                );
            }
            Command::Prompt { text } => send(Publish::UserInput { text }.to_frame()),
            Command::Say { text } => send(Publish::AssistantInput { text }.to_frame()),
            Command::AddContext { text } => send(self.add_context(text)),
            Command::Remind => {
                self.preface = self.recap.told();
                send(self.add_context(""));
            }
            Command::Heard { segment, .. } => {
                self.segments.cut(segment);
                // A host may cut without an interruption from EVI, which sends none once it has
                // generated the whole turn (EVI docs). If what was in the filter has been cut, so
                // is its tail; a newer utterance keeps its own.
                if self.segments.sounding().is_none() {
                    self.resampler = None;
                }
            }
            Command::Pause => send(Publish::PauseAssistantMessage {}.to_frame()),
            Command::Resume => send(Publish::ResumeAssistantMessage {}.to_frame()),
        }
    }

    fn message(&mut self, text: &str, event: &mut dyn FnMut(Event<'_>), _: &mut dyn FnMut(String)) {
        let handled = parse::<Envelope>(text).and_then(|envelope| {
            let id = envelope.id.0.as_deref();
            match &*envelope.kind.0 {
                "audio_output" => self.audio_output(id, envelope.data.0.as_deref(), event),
                "assistant_message" => self.assistant_message(id, text, event),
                "assistant_end" => {
                    self.assistant_end(event);
                    Ok(())
                }
                "user_message" => self.user_message(text, event),
                "user_interruption" => {
                    self.segments.interrupted();
                    self.resampler = None;
                    event(Event::Interrupt);
                    Ok(())
                }
                "tool_call" => self.tool_call(text, event),
                "tool_response" | "tool_error" => self.tool_settled(text, event),
                "chat_metadata" => self.chat_metadata(text, event),
                "error" => self.error(text, event),
                // Known, and nothing to a telephone call.
                "assistant_prosody" | "session_settings" => Ok(()),
                _ => Err(Ignored::UnknownType),
            }
        });
        if let Err(why) = handled {
            event(Event::Ignored { why });
        }
    }

    fn closed(&mut self, code: Option<u16>, _: &str) -> Closed {
        closing::closed(code, self.error)
    }
}

type Handled = Result<(), Ignored>;

fn id(text: &str) -> Result<&str, Ignored> {
    if text.is_empty() || text.len() > MAX_ID {
        Err(Ignored::Malformed)
    } else {
        Ok(text)
    }
}
