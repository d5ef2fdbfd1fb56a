//! One chat of the simulated EVI: a state machine without I/O.
//!
//! Frames of the bridge go in ([`Chat::frame`]), and [`Chat::next`] says what the connection is to
//! do at a virtual time: one thing at a time, asked for only when the last has reached the socket.
//! So an interruption or a pause takes hold between two messages, and nothing is queued here but
//! short control messages. The agent's idea of how long its voice plays is kept in audio received,
//! like everything else that hears.

use std::{
    collections::{HashMap, VecDeque},
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    hearing::{Heard, Hearing},
    log::{Log, What},
    script::{Interruptible, On, Opening, Reply, Say, Script, Step, Tool, ToolKind},
    voice::{Layout, Pcm, Renderer, wav},
    wire::{self, AudioFormat, ChatMessage, Downlink, Models, Settings, Span, Uplink},
};

/// Replies that wait for their turn; only `assistant_input` could make them more.
const MAX_QUEUE: usize = 64;
/// More audio than this in one message is a file, not a stream (E0723).
const MAX_MESSAGE_MS: u64 = 10_000;
/// The k-th interim transcript comes after k times this much voice.
const INTERIM_MS: u64 = 300;

/// What all chats of a simulator share.
pub(in crate::sim) struct World {
    pub script: Script,
    pub renderer: Renderer,
    pub log: Log,
    /// Chat groups, and which replies each has used.
    groups: Mutex<HashMap<String, Vec<bool>>>,
    /// The group of each chat that neither side has ended.
    open: Mutex<HashMap<u32, String>>,
    ids: AtomicU64,
    openings: AtomicU64,
}

impl World {
    pub fn new(script: Script, renderer: Renderer, log: Log) -> World {
        World {
            script,
            renderer,
            log,
            groups: Mutex::default(),
            open: Mutex::default(),
            ids: AtomicU64::new(1),
            openings: AtomicU64::new(0),
        }
    }

    /// An id that looks like the service's and is the same in every run.
    pub fn id(&self, kind: u32) -> String {
        let n = self.ids.fetch_add(1, Ordering::Relaxed);
        format!("{kind:08x}-51e0-4000-8000-{n:012x}")
    }

    pub fn opening(&self) -> Opening {
        let n = self.openings.fetch_add(1, Ordering::Relaxed) as usize;
        self.script
            .opening
            .get(n)
            .unwrap_or(&self.script.then_opening)
            .clone()
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u32, String>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The group of a new connection.
    fn group(&self, wanted: Option<String>) -> (String, Resumption) {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let resumption = match &wanted {
            None => Resumption::None,
            Some(group) => {
                let known = groups.contains_key(group);
                let busy = self.open().values().any(|open| open == group);
                if known && busy && self.script.one_chat_a_group {
                    Resumption::Busy
                } else if known && self.script.refuse_resume.is_none() {
                    Resumption::Granted
                } else {
                    Resumption::Refused {
                        group: group.clone(),
                        known,
                    }
                }
            }
        };
        let group = match (wanted, &resumption) {
            (Some(group), Resumption::Granted | Resumption::Busy) => group,
            _ => self.id(2),
        };
        groups
            .entry(group.clone())
            .or_insert_with(|| vec![false; self.script.replies.len()]);
        (group, resumption)
    }

    /// The group of a conversation that takes up no other.
    pub fn new_group(&self) -> String {
        self.group(None).0
    }

    /// The next reply of this kind, and whether it is now used.
    fn reply(&self, group: &str, on: On, take: bool) -> Option<&Reply> {
        self.reply_that(group, take, |reply| reply.on == on)
    }

    pub fn reply_that(
        &self,
        group: &str,
        take: bool,
        fits: impl Fn(&Reply) -> bool,
    ) -> Option<&Reply> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let used = groups.get_mut(group)?;
        let at = (0..used.len()).find(|&i| !used[i] && fits(&self.script.replies[i]))?;
        used[at] = take;
        Some(&self.script.replies[at])
    }
}

/// What the connection is to do now.
#[derive(Debug, PartialEq)]
pub(in crate::sim) enum Next {
    Send(String),
    SendBinary,
    Close {
        code: u16,
        reason: String,
    },
    /// Lose the TCP connection.
    Drop,
    /// Neither read nor write again.
    Freeze,
    /// Ask again at this virtual time, or when a frame has come.
    Until(f64),
    /// Ask again when a frame has come.
    Idle,
}

enum Phase {
    Opening { at: f64 },
    Open,
    Mute,
}

enum Resumption {
    None,
    Granted,
    /// Another chat of the group is still open, and that is one too many.
    Busy,
    /// The group that was asked for; `known` unless we never made it.
    Refused {
        group: String,
        known: bool,
    },
}

enum Hold {
    Until(f64),
    Answer(String),
}

#[derive(PartialEq)]
enum CallState {
    Open,
    /// The agent has stopped waiting: timed out, or its reply was abandoned.
    GivenUp,
    Answered,
}

struct Call {
    id: String,
    sent_at: f64,
    wants_answer: bool,
    state: CallState,
}

struct Segment {
    id: String,
    say: Say,
    pcm: Pcm,
    /// Samples sent so far.
    sent: usize,
    index: u64,
    started: f64,
}

impl Segment {
    fn samples(&self) -> usize {
        self.pcm.len() / 2
    }

    fn ms(&self, samples: usize) -> f64 {
        samples as f64 * 1000.0 / f64::from(self.say.rate)
    }

    /// When the next message may go out.
    fn due(&self) -> f64 {
        if self.say.realtime_factor > 0.0 {
            self.started + self.ms(self.sent) / self.say.realtime_factor
        } else {
            self.started
        }
    }

    fn next_range(&self) -> Range<usize> {
        let lengths = &self.say.message_ms;
        let index = self.index as usize;
        let ms = match lengths.get(index) {
            Some(ms) => *ms,
            None if lengths.len() == 1 => lengths[0],
            None => lengths[1 + (index - 1) % (lengths.len() - 1)],
        };
        let samples = (u64::from(ms) * u64::from(self.say.rate) / 1000).max(1) as usize;
        self.sent..(self.sent + samples).min(self.samples())
    }

    /// The frame of these samples.
    fn message(&mut self, range: Range<usize>, tail: &str) -> String {
        let size = self
            .say
            .streaming_size
            .then_some(if self.index.is_multiple_of(2) {
                u32::MAX
            } else {
                0
            });
        let layout = Layout {
            list_chunk: self.say.list_chunk,
            stereo: self.say.stereo,
            size,
        };
        let file = wav(
            &self.pcm[2 * range.start..2 * range.end],
            self.say.rate,
            layout,
        );
        let data = base64_simd::STANDARD.encode_to_string(file);
        self.index += 1;
        wire::audio_output(&self.id, self.index - 1, &data, tail)
    }
}

pub(super) struct Chat {
    world: Arc<World>,
    connection: u32,
    verbose: bool,
    resumption: Resumption,
    custom_session_id: Option<String>,
    group: String,
    phase: Phase,
    /// Goes out ahead of the script.
    urgent: VecDeque<String>,
    closing: Option<(u16, String)>,

    frames: u64,
    format: Option<AudioFormat>,
    hearing: Option<Hearing>,
    deaf: bool,
    utterances: u32,
    /// In ms of audio received.
    speech_began: u64,
    /// This utterance has interrupted.
    interrupted: bool,
    interims: usize,

    reply: Option<VecDeque<Step>>,
    queue: VecDeque<VecDeque<Step>>,
    /// Said while a tool call is waited for, ahead of everything else.
    aside: VecDeque<Step>,
    hold: Option<Hold>,
    saying: Option<Segment>,
    /// The segment said last or cut short last.
    last: Option<Segment>,
    /// In ms of audio received.
    playing_until: f64,
    paused: bool,
    calls: Vec<Call>,
}

impl Drop for Chat {
    fn drop(&mut self) {
        self.world.open().remove(&self.connection);
    }
}

impl Chat {
    /// A connection that has just been answered with 101.
    pub fn new(world: Arc<World>, connection: u32, query: wire::Query, now: f64) -> Chat {
        let phase = Phase::Opening {
            at: now + world.script.ready_after.0,
        };
        let (group, resumption) = world.group(query.resumed_chat_group_id);
        world.open().insert(connection, group.clone());
        let mut chat = Chat {
            world,
            connection,
            verbose: query.verbose_transcription,
            resumption,
            custom_session_id: None,
            group,
            phase,
            urgent: VecDeque::new(),
            closing: None,
            frames: 0,
            format: None,
            hearing: None,
            deaf: false,
            utterances: 0,
            speech_began: 0,
            interrupted: false,
            interims: 0,
            reply: None,
            queue: VecDeque::new(),
            aside: VecDeque::new(),
            hold: None,
            saying: None,
            last: None,
            playing_until: 0.0,
            paused: false,
            calls: Vec::new(),
        };
        if query.settings != Settings::default() {
            chat.settings(query.settings, true);
        }
        chat
    }

    /// Whether the socket is to be read: see [`Script::never_pong`].
    pub fn reads(&self) -> bool {
        !(self.world.script.never_pong && self.format.is_some())
    }

    /// Nothing more is to be done.
    pub fn over(&mut self) {
        self.world.open().remove(&self.connection);
        self.phase = Phase::Mute;
        self.urgent.clear();
        self.closing = None;
    }

    fn log(&self, what: What) {
        self.world.log.event(self.connection, what);
    }

    fn violation(&self, what: impl Into<String>) {
        self.world.log.violation(self.connection, what);
    }

    /// What every message ends with.
    fn tail(&self) -> String {
        wire::tail(
            self.custom_session_id.as_deref(),
            self.world.script.extra_fields,
        )
    }

    fn push(&mut self, message: Downlink<'_>) {
        let frame = message.frame(&self.tail());
        self.urgent.push_back(frame);
    }

    fn error(&mut self, code: &str, slug: &str, message: &str) {
        let request_id = self.world.id(3);
        self.push(Downlink::Error {
            code,
            slug,
            message,
            request_id: &request_id,
        });
        self.log(What::Error {
            code: code.into(),
            message: message.into(),
        });
    }

    /// An error that ends the chat: the error, then 1000 (EVI docs).
    fn fatal(&mut self, code: &str, slug: &str, message: &str) {
        self.error(code, slug, message);
        self.closing = Some((1000, String::new()));
    }

    // ---- the bridge speaks ----

    /// A text frame of the bridge.
    pub fn frame(&mut self, text: &str, now: f64) {
        let mut violations = Vec::new();
        let uplink = wire::read(text, &mut violations);
        self.world.log.frame(
            self.connection,
            text,
            matches!(uplink, Ok(Uplink::Audio(_))),
        );
        for violation in violations {
            self.violation(violation);
        }
        self.frames += 1;
        if self.closing.is_some() {
            return; // sent before our close could be known
        }
        match uplink {
            Err(fault) => {
                self.violation(fault.message.clone());
                self.fatal(fault.code, fault.slug, &fault.message);
            }
            Ok(Uplink::Audio(bytes)) => self.audio(&bytes),
            Ok(Uplink::Settings(settings)) => {
                if self.world.script.mirror_settings {
                    self.urgent.push_back(text.to_owned());
                }
                self.settings(settings, false);
            }
            Ok(Uplink::UserInput(text)) => {
                self.log(What::UserInput { text: text.clone() });
                let at = self.clock_ms() as u64;
                self.user_message(&text, false, true, Span { begin: at, end: at });
                let steps = self.take_that(|reply| reply.on == On::Prompt && reply.has(&text));
                let steps = steps.unwrap_or_else(|| self.take(On::Utterance));
                self.enqueue(steps);
            }
            Ok(Uplink::AssistantInput(text)) => {
                self.log(What::AssistantInput { text: text.clone() });
                let steps = vec![Step::Say(Say::words(text)), Step::End];
                if !matches!(self.hold, Some(Hold::Answer(_))) {
                    self.enqueue(steps);
                } else if self.aside.len() < MAX_QUEUE {
                    // The tool works, and the agent has a voice meanwhile.
                    self.aside.extend(steps);
                }
            }
            Ok(Uplink::ToolResponse { id, content }) => self.answer(&id, true, content, now),
            Ok(Uplink::ToolError { id, error, content }) => {
                self.answer(&id, false, content.unwrap_or(error), now);
            }
            Ok(Uplink::Pause) => {
                self.paused = true;
                self.log(What::Paused);
            }
            Ok(Uplink::Resume) => {
                self.paused = false;
                self.log(What::Resumed);
            }
        }
    }

    /// A binary frame: undocumented, so not for a bridge to rely on.
    pub fn binary(&mut self, length: usize) {
        self.frames += 1;
        self.violation(format!(
            "a binary frame of {length} bytes; the schema has JSON only"
        ));
    }

    fn settings(&mut self, settings: Settings, in_query: bool) {
        if let Some(format) = settings.audio {
            if self.deaf {
                // Already on record; nothing mends it.
            } else if self.format.is_some_and(|f| f != format) {
                self.violation("session_settings.audio: the format changes in mid-chat");
            } else if self.format.is_none() {
                if self.frames > 1 {
                    self.violation(
                        "session_settings.audio: neither in the query nor the first frame",
                    );
                }
                if format.channels == 1 && (8_000..=48_000).contains(&format.sample_rate) {
                    let silence = self.world.script.end_of_turn.0;
                    self.hearing = Some(Hearing::new(format.sample_rate, silence));
                } else {
                    self.violation(format!(
                        "session_settings.audio: only mono of 8 to 48 kHz is heard here, not {format:?}"
                    ));
                }
                self.format = Some(format);
            }
        }
        if settings.custom_session_id.is_some() {
            self.custom_session_id
                .clone_from(&settings.custom_session_id);
        }
        self.log(What::Settings {
            in_query,
            audio: settings.audio,
            tools: settings
                .tools
                .iter()
                .map(|tool| tool.name.clone())
                .collect(),
            declared: settings.tools,
            voice_id: settings.voice_id,
            context: settings.context,
            builtin_tools: settings.builtin_tools,
            variables: settings.variables,
            custom_session_id: settings.custom_session_id,
        });
    }

    fn clock_ms(&self) -> f64 {
        self.hearing.as_ref().map_or(0.0, Hearing::clock_ms)
    }

    fn audio(&mut self, bytes: &[u8]) {
        if self.format.is_none() && !self.deaf {
            self.deaf = true;
            self.violation("audio_input before any audio settings: the agent is deaf from here on");
        }
        let Some(hearing) = &mut self.hearing else {
            return;
        };
        if self.deaf || !bytes.len().is_multiple_of(2) {
            return;
        }
        let rate = u64::from(self.format.map_or(8_000, |f| f.sample_rate));
        if bytes.len() as u64 / 2 > rate * MAX_MESSAGE_MS / 1000 {
            self.violation("audio_input.data: a whole file at once");
            return self.fatal("E0723", "audio_too_long", "audio must be streamed");
        }
        let pcm: Vec<i16> = bytes
            .chunks_exact(2)
            .map(|b| i16::from_le_bytes([b[0], b[1]]))
            .collect();
        self.world.log.caller(self.connection, &pcm);
        let mut heard = Vec::new();
        hearing.listen(&pcm, &mut heard);
        for heard in heard {
            match heard {
                Heard::Began { at } => {
                    self.speech_began = at;
                    self.interrupted = false;
                    self.interims = 0;
                    self.log(What::SpeechBegan {
                        utterance: self.utterances,
                        audio_ms: at,
                    });
                }
                Heard::Voice { ms } => self.voice(ms),
                Heard::Ended { begin, end } => self.utterance(Span { begin, end }),
            }
        }
    }

    /// The caller speaks, and has done for `ms` of voice.
    fn voice(&mut self, ms: u64) {
        let script = &self.world.script;
        if !self.interrupted && ms as f64 >= script.interrupt_after.0 {
            let generating = self.reply.is_some() || !self.queue.is_empty();
            let speaking = self.clock_ms() < self.playing_until;
            let interrupts = match script.interruptible {
                Interruptible::Speaking => generating || speaking,
                Interruptible::Generating => generating,
                Interruptible::Never => false,
            };
            if interrupts && !self.paused && matches!(self.phase, Phase::Open) {
                self.interruption();
            }
        }
        if self.verbose && ms >= INTERIM_MS * (self.interims as u64 + 1) {
            self.interim();
        }
    }

    fn interruption(&mut self) {
        self.interrupted = true;
        if let Some(Hold::Answer(id)) = self.hold.take()
            && let Some(call) = self.calls.iter_mut().find(|c| c.id == id)
        {
            call.state = CallState::GivenUp;
        }
        if let Some(cut) = self.saying.take() {
            self.last = Some(cut);
        }
        self.reply = None;
        self.queue.clear();
        self.aside.clear();
        self.playing_until = self.clock_ms();
        self.push(Downlink::UserInterruption { time: unix_ms() });
        self.log(What::Interrupted {
            id: self.last.as_ref().map(|s| s.id.clone()),
            spurious: false,
        });
        if self.world.script.end_on_interruption {
            self.push(Downlink::AssistantEnd);
            self.log(What::TurnEnded);
        }
        let steps = self.take(On::Interruption);
        self.enqueue(steps);
    }

    /// The next interim transcript of the utterance under way, if the script has one.
    fn interim(&mut self) -> bool {
        let world = self.world.clone();
        let reply = world.reply(&self.group, On::Utterance, false);
        let Some(text) = reply.and_then(|r| r.interims.get(self.interims)) else {
            return false;
        };
        self.interims += 1;
        let now = self.clock_ms() as u64;
        self.user_message(
            text,
            true,
            false,
            Span {
                begin: self.speech_began,
                end: now,
            },
        );
        true
    }

    fn utterance(&mut self, span: Span) {
        let utterance = self.utterances;
        self.log(What::SpeechEnded {
            utterance,
            begin_ms: span.begin,
            end_ms: span.end,
        });
        self.utterances += 1;
        while self.verbose && self.interim() {}
        let world = self.world.clone();
        let reply = world.reply(&self.group, On::Utterance, true);
        for text in reply.iter().flat_map(|r| &r.earlier_finals) {
            self.user_message(text, false, false, span);
        }
        let text = match reply.and_then(|r| r.heard.clone()) {
            Some(text) => text,
            None => format!("(utterance {utterance})"),
        };
        self.user_message(&text, false, false, span);
        if self.paused {
            // On resume only the last message of the user is answered.
            self.queue.clear();
        }
        self.enqueue(reply.map(|r| r.steps.clone()).unwrap_or_default());
    }

    fn user_message(&mut self, text: &str, interim: bool, from_text: bool, time: Span) {
        let message = ChatMessage {
            role: "user",
            content: text,
        };
        let models = Models::new(self.world.script.prosody);
        let language = Some("en");
        self.push(Downlink::UserMessage {
            from_text,
            interim,
            language,
            message,
            models,
            time,
        });
        self.log(What::UserMessage {
            text: text.to_owned(),
            interim,
            from_text,
        });
    }

    fn answer(&mut self, id: &str, ok: bool, content: String, now: f64) {
        let Some(call) = self.calls.iter_mut().find(|c| c.id == id) else {
            return self.violation(format!("an answer to {id:?}, which is no tool call"));
        };
        let latency_ms = now - call.sent_at;
        let (state, wants_answer) = (
            std::mem::replace(&mut call.state, CallState::Answered),
            call.wants_answer,
        );
        if state == CallState::Answered {
            return self.violation(format!("a second answer to the tool call {id}"));
        }
        if !wants_answer {
            return self.violation(format!("an answer to {id}, a call that wants none"));
        }
        let late = state == CallState::GivenUp;
        self.log(What::ToolAnswered {
            id: id.to_owned(),
            ok,
            content: content.clone(),
            latency_ms,
            late,
        });
        if !late {
            if matches!(&self.hold, Some(Hold::Answer(held)) if held == id) {
                self.hold = None;
            }
            let steps = self.take_that(|reply| {
                reply.on == On::ToolAnswer
                    && reply.has(&content)
                    && reply.ok.is_none_or(|wanted| wanted == ok)
            });
            self.enqueue(steps.unwrap_or_default());
        }
    }

    fn take(&self, on: On) -> Vec<Step> {
        self.world
            .reply(&self.group, on, true)
            .map(|r| r.steps.clone())
            .unwrap_or_default()
    }

    fn take_that(&self, fits: impl Fn(&Reply) -> bool) -> Option<Vec<Step>> {
        let reply = self.world.reply_that(&self.group, true, fits)?;
        Some(reply.steps.clone())
    }

    fn enqueue(&mut self, steps: Vec<Step>) {
        if !steps.is_empty() && self.queue.len() < MAX_QUEUE {
            self.queue.push_back(steps.into());
        }
    }

    // ---- the agent acts ----

    /// What to do now. To be asked when the socket has taken what came before.
    pub fn next(&mut self, now: f64) -> Next {
        if let Phase::Opening { at } = self.phase
            && self.closing.is_none()
            && now >= at
        {
            self.open();
        }
        if self.closing.is_none() {
            match self.phase {
                Phase::Open => {}
                // chat_metadata is the first word of a chat; only a fatal error may precede it.
                Phase::Opening { at } => return Next::Until(at),
                Phase::Mute => return Next::Idle,
            }
        }
        let expiry = self.expire(now);
        if let Some(frame) = self.urgent.pop_front() {
            return Next::Send(frame);
        }
        if let Some((code, reason)) = self.closing.take() {
            self.phase = Phase::Mute;
            return Next::Close { code, reason };
        }
        match (self.run(now), expiry) {
            (Next::Idle, Some(at)) => Next::Until(at),
            (Next::Until(t), Some(at)) => Next::Until(t.min(at)),
            (next, _) => next,
        }
    }

    fn open(&mut self) {
        let world = self.world.clone();
        match world.opening() {
            Opening::Never => return self.phase = Phase::Mute,
            Opening::Error(code) => {
                let slug = if code == "E0300" {
                    "user_zero_credits"
                } else {
                    "simulated"
                };
                return self.fatal(&code, slug, "this chat cannot begin");
            }
            Opening::Ready => {}
        }
        let steps = match &self.resumption {
            Resumption::None => &world.script.greeting,
            Resumption::Granted => &world.script.resumed,
            Resumption::Busy => {
                return self.fatal("E0301", "subscription_limit", "too many chats");
            }
            Resumption::Refused { group, known } => {
                if !known {
                    self.violation(format!(
                        "resumed_chat_group_id {group:?} is no group of ours"
                    ));
                }
                let code = world.script.refuse_resume.as_deref().unwrap_or("E0708");
                return self.fatal(code, "resume_not_available", "this chat cannot be resumed");
            }
        };
        self.phase = Phase::Open;
        let (chat_id, request_id, chat_group_id) = (world.id(1), world.id(3), self.group.clone());
        // Ahead of anything else that the server may have had to say by now.
        let later = std::mem::take(&mut self.urgent);
        self.push(Downlink::ChatMetadata {
            chat_id: &chat_id,
            chat_group_id: &chat_group_id,
            request_id: &request_id,
        });
        self.urgent.extend(later);
        self.log(What::Ready {
            chat_id,
            chat_group_id,
        });
        if !steps.is_empty() {
            self.queue.push_front(steps.clone().into());
        }
    }

    /// Answers overdue tool calls; says when the next will be overdue.
    fn expire(&mut self, now: f64) -> Option<f64> {
        let timeout = self.world.script.tool_timeout.0;
        let waits = |c: &Call| c.wants_answer && c.state == CallState::Open;
        while let Some(call) = self
            .calls
            .iter()
            .find(|c| waits(c) && now >= c.sent_at + timeout)
            .map(|c| c.id.clone())
        {
            self.server_tool_error(&call);
        }
        self.calls
            .iter()
            .filter(|c| waits(c))
            .map(|c| c.sent_at + timeout)
            .reduce(f64::min)
    }

    fn server_tool_error(&mut self, id: &str) {
        if let Some(call) = self.calls.iter_mut().find(|c| c.id == id) {
            call.state = CallState::GivenUp;
        }
        if matches!(&self.hold, Some(Hold::Answer(held)) if held == id) {
            self.hold = None;
        }
        self.push(Downlink::ToolError {
            tool_call_id: id,
            error: "tool response timed out",
            content: "The tool did not answer.",
            level: "warn",
            tool_type: "function",
        });
        self.log(What::ToolExpired { id: id.to_owned() });
    }

    fn run(&mut self, now: f64) -> Next {
        loop {
            if self.paused {
                return Next::Idle;
            }
            match &self.hold {
                Some(Hold::Until(at)) if now < *at => return Next::Until(*at),
                Some(Hold::Answer(_)) if self.saying.is_none() && self.aside.is_empty() => {
                    return Next::Idle;
                }
                Some(Hold::Answer(_)) => {}
                _ => self.hold = None,
            }
            if self.saying.is_some() {
                match self.speak(now) {
                    Some(next) => return next,
                    None => continue,
                }
            }
            let step = match self.aside.pop_front() {
                Some(step) => step,
                None => {
                    let Some(reply) = &mut self.reply else {
                        self.reply = self.queue.pop_front();
                        if self.reply.is_none() {
                            return Next::Idle;
                        }
                        continue;
                    };
                    let Some(step) = reply.pop_front() else {
                        self.reply = None;
                        continue;
                    };
                    step
                }
            };
            if let Some(next) = self.step(step, now) {
                return next;
            }
            if let Some(frame) = self.urgent.pop_front() {
                return Next::Send(frame);
            }
        }
    }

    /// The next message of the segment; `None` if there is none left.
    fn speak(&mut self, now: f64) -> Option<Next> {
        let mut segment = self.saying.take()?;
        let range = segment.next_range();
        if range.is_empty() {
            self.log(What::Said {
                id: segment.id.clone(),
                clip: segment.say.clip.clone(),
                messages: segment.index,
                duration_ms: segment.ms(segment.sent),
            });
            self.last = Some(segment);
            return None;
        }
        let due = segment.due();
        if now < due {
            self.saying = Some(segment);
            return Some(Next::Until(due));
        }
        self.playing_until = self.playing_until.max(self.clock_ms()) + segment.ms(range.len());
        segment.sent = range.end;
        let frame = segment.message(range, &self.tail());
        self.saying = Some(segment);
        Some(Next::Send(frame))
    }

    fn step(&mut self, step: Step, now: f64) -> Option<Next> {
        match step {
            Step::Say(say) => self.say(say, now),
            Step::End => {
                self.push(Downlink::AssistantEnd);
                self.log(What::TurnEnded);
            }
            Step::Tool(tool) => self.tool(&tool, now),
            Step::Wait(time) => self.hold = Some(Hold::Until(now + time.0)),
            Step::Close { code, reason } => {
                self.over();
                return Some(Next::Close { code, reason });
            }
            Step::Error {
                code,
                slug,
                message,
            } => self.error(&code, &slug, &message),
            Step::Raw(text) => self.urgent.push_back(text),
            Step::Binary => return Some(Next::SendBinary),
            Step::SpuriousInterruption => {
                self.push(Downlink::UserInterruption { time: unix_ms() });
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
            Step::ServerToolError => {
                let waits = |c: &&Call| c.wants_answer && c.state == CallState::Open;
                let open = self.calls.iter().rev().find(waits);
                let id = match open.map(|c| c.id.clone()) {
                    Some(id) => id,
                    None => self.call("simulated", "{}", ToolKind::Function, true, now),
                };
                self.server_tool_error(&id);
            }
            Step::WebSearch => {
                let parameters = r#"{"query":"opening hours"}"#;
                let id = self.call("web_search", parameters, ToolKind::Builtin, false, now);
                self.push(Downlink::ToolResponse {
                    tool_call_id: &id,
                    content: r#"{"summary":"nothing found"}"#,
                    tool_name: "web_search",
                    tool_type: "builtin",
                });
            }
            // No script of ours has them: see `Script::foreign`.
            Step::Fail(_) | Step::Mute => {}
        }
        None
    }

    fn say(&mut self, say: Say, now: f64) {
        let id = self.world.id(4);
        let from_text = say.clip.is_empty();
        let own_words = say.text.clone();
        let (pcm, words) = if from_text {
            let text = own_words.clone().unwrap_or_default();
            // A voice for the words of a clip is the clip's.
            let known = self.world.renderer.clip(&text, say.rate);
            known.unwrap_or_else(|| (Renderer::tone_for(&text, say.rate), ""))
        } else {
            self.world
                .renderer
                .clip(&say.clip, say.rate)
                .expect("clips are checked at the start")
        };
        let models = Models::new(self.world.script.prosody);
        self.push(Downlink::AssistantMessage {
            id: &id,
            from_text,
            is_quick_response: say.quick,
            language: Some("en"),
            message: ChatMessage {
                role: "assistant",
                content: own_words.as_deref().unwrap_or(words),
            },
            models: models.clone(),
        });
        if self.world.script.prosody {
            self.push(Downlink::AssistantProsody { id: &id, models });
        }
        self.log(What::Saying {
            id: id.clone(),
            clip: say.clip.clone(),
        });
        self.saying = Some(Segment {
            id,
            say,
            pcm,
            sent: 0,
            index: 0,
            started: now,
        });
    }

    fn tool(&mut self, tool: &Tool, now: f64) {
        // No parallel calls: a new one replaces the old, whose answer is no longer waited for.
        for call in &mut self.calls {
            if call.state == CallState::Open && call.wants_answer {
                call.state = CallState::GivenUp;
            }
        }
        let id = self.call(
            &tool.name,
            &tool.parameters,
            tool.kind,
            tool.response_required,
            now,
        );
        if tool.response_required && tool.wait.unwrap_or(true) {
            self.hold = Some(Hold::Answer(id));
        }
    }

    fn call(
        &mut self,
        name: &str,
        parameters: &str,
        kind: ToolKind,
        wants: bool,
        now: f64,
    ) -> String {
        let id = format!("call_{}", self.world.id(5).replace('-', ""));
        self.push(Downlink::ToolCall {
            name,
            parameters,
            response_required: wants,
            tool_call_id: &id,
            tool_type: match kind {
                ToolKind::Function => Some("function"),
                ToolKind::Builtin => Some("builtin"),
                ToolKind::None => None,
            },
        });
        self.log(What::ToolCalled {
            id: id.clone(),
            name: name.to_owned(),
            parameters: parameters.to_owned(),
            response_required: wants,
        });
        self.calls.push(Call {
            id: id.clone(),
            sent_at: now,
            wants_answer: wants,
            state: CallState::Open,
        });
        id
    }

    /// Two more messages of the segment that was cut short; of its beginning if it was whole.
    fn stale_audio(&mut self) {
        let Some(mut segment) = self.last.take() else {
            return;
        };
        let length = (segment.say.rate / 10) as usize;
        let from = if segment.sent + 2 * length <= segment.samples() {
            segment.sent
        } else {
            0
        };
        for start in [from, from + length] {
            let end = (start + length).min(segment.samples());
            let frame = segment.message(start.min(end)..end, &self.tail());
            self.urgent.push_back(frame);
        }
        self.last = Some(segment);
    }
}

/// The unit of `user_interruption.time` is not documented; milliseconds are likeliest.
fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as u64)
}
