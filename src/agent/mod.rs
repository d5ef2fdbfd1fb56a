//! The neutral seam between a call and whatever speech-to-speech agent answers it.
//!
//! The host (the session) speaks [`Command`]s and hears [`Event`]s; it never sees a vendor's ids,
//! message names or audio formats. A [`Codec`] is the sans-I/O translation for one agent: text
//! frames in, events out; commands in, text frames out. The codec owns resampling, base64,
//! de-duplication and the dropping of audio that belongs to an utterance already interrupted; the
//! host owns marks, clears, what the caller has heard, hanging up and every timer.
//!
//! Audio crosses the seam as G.711 mu-law, 8 kHz, mono: what the telephone speaks.

pub mod evi;
pub mod link;
pub mod realtime;
mod recap;
mod scratch;
mod wire;

use std::{collections::BTreeMap, fmt, sync::Arc, time::SystemTime};

use crate::config::{self, AgentKind, Secret, Variable};

/// One utterance of the agent. Opaque to the host; later utterances compare greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentId(pub u32);

/// What the host asks of the agent.
pub enum Command<'a> {
    /// The caller's voice: mu-law 8 kHz mono, usually 20 ms (160 bytes).
    AudioIn(&'a [u8]),
    /// The answer to a [`Event::ToolCall`]; each call is answered exactly once.
    ToolResult {
        call_id: &'a str,
        result: ToolResult<'a>,
    },
    /// Have the agent speak this text.
    Say { text: &'a str },
    /// Text that the agent answers as if the caller had typed it.
    Prompt { text: &'a str },
    /// Give the agent something to know, to the end of the conversation and in those after it. The host sees
    /// to it that there is no end of it.
    AddContext { text: &'a str },
    /// Tell the agent what was said so far: it was asked to take the conversation up and has begun
    /// another.
    Remind,
    /// What the caller heard of an utterance before it was cut off by a clear; one for each that was
    /// not heard to its end, oldest first. Only after a real clear: from here on the codec drops what
    /// still arrives of this utterance and of older ones ([`Ignored::Stale`]), until a new utterance
    /// begins.
    Heard { segment: SegmentId, heard_ms: u64 },
    /// Keep listening, stop answering.
    Pause,
    /// Answer again.
    Resume,
}

/// How a tool call went.
#[derive(Debug, Clone, Copy)]
pub enum ToolResult<'a> {
    /// The text that the agent's language model gets.
    Ok(&'a str),
    /// The same, and the agent's part ends here: the text asks for a last sentence, which one that has
    /// spoken in this turn has said already.
    Ending(&'a str),
    /// `content` is what the language model gets, `error` is for the vendor's logs.
    Failed { error: &'a str, content: &'a str },
}

/// Who said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Caller,
    Agent,
}

/// What the host hears from the agent.
pub enum Event<'a> {
    /// The agent listens and may be given audio. `chat` names the conversation in the vendor's
    /// own words, for logs; `resumed`: it is the one of the connection before.
    Ready { chat: &'a str, resumed: bool },
    /// The conversation ends then, by the agent's own rules.
    Expires { at: SystemTime },
    /// Speech: mu-law 8 kHz mono. Comes faster than real time and in bursts.
    Audio { segment: SegmentId, mulaw: &'a [u8] },
    /// No more audio will come for this utterance: it is over, or a newer one has begun. At most
    /// one for each utterance that had audio. Should an agent break its own order, a straggler is
    /// still passed on under its own segment, without a second end.
    SegmentEnd { segment: SegmentId },
    /// The agent has finished its turn: generated, not heard.
    TurnDone,
    /// The caller speaks over the agent: what is queued should not be heard.
    Interrupt,
    /// The caller begins to speak, which is an interruption if something is still to be heard. Only
    /// from agents that cannot tell ([`Capabilities::hears_speech`]).
    CallerSpeaks,
    /// The caller has finished, and the agent will answer. Only from these, and at once; the words, if
    /// they come at all, may come when the answer has long begun.
    CallerSpoke,
    /// Words. `replace`: an improved version of the same utterance's earlier transcript.
    Transcript {
        role: Role,
        text: &'a str,
        interim: bool,
        replace: bool,
    },
    /// A tool is called. `expects_reply` is false for tools that the agent runs itself.
    ToolCall {
        call_id: &'a str,
        name: &'a str,
        arguments: &'a str,
        expects_reply: bool,
    },
    /// The agent no longer waits for this call's answer.
    ToolCancelled { call_id: &'a str },
    /// The agent reports an error in band. It may or may not close afterwards; `ends` is what a
    /// close would mean, `None` for an error after which the conversation goes on.
    Error { code: &'a str, ends: Option<Closed> },
    /// A message that was not understood and has been skipped.
    Ignored { why: Ignored },
}

/// Why a message of the agent was skipped. Counted, never fatal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// A type that this codec does not know.
    UnknownType,
    /// Not JSON, or a known type whose fields do not have the documented shape.
    Malformed,
    /// Audio that cannot be played: see the logs' `audio` field for which rule it broke.
    BadAudio(crate::audio::wav::WavError),
    /// Audio at a sampling rate that cannot be brought to the telephone's.
    BadRate,
    /// Audio of an utterance that [`Command::Heard`] has declared cut.
    Stale,
    /// A binary frame.
    Binary,
}

/// Why an agent's connection is over, as far as its last words tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The agent ended the conversation of its own accord: a hang-up.
    HungUp,
    /// Nobody spoke for too long, in the agent's opinion.
    Inactive,
    /// The conversation reached the agent's limit of length.
    Expired,
    /// The credentials were refused.
    Auth,
    /// Credits or a subscription limit.
    Quota,
    /// The agent refuses what we sent or are; trying again would not help.
    Rejected,
    /// Lost or failing; a new connection may work.
    Lost,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Closed::HungUp => "hung up",
            Closed::Inactive => "inactive",
            Closed::Expired => "expired",
            Closed::Auth => "auth",
            Closed::Quota => "quota",
            Closed::Rejected => "rejected",
            Closed::Lost => "lost",
        })
    }
}

/// How an agent says the words that it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saying {
    /// It cannot be told to.
    Not,
    /// In these words or nearly so: nobody promises it.
    Nearly,
    /// Word for word.
    Exactly,
}

impl Capabilities {
    /// It can be given words to say.
    pub fn says(&self) -> bool {
        self.say != Saying::Not
    }

    /// What the caller has heard of an utterance matters to it to the fraction of a second: it keeps
    /// the beginning that was heard and forgets the rest.
    pub fn wants_heard_ms(&self) -> bool {
        self.heard && self.hears_speech
    }
}

/// What an agent can do; constant for a codec. An operator's order that the agent cannot follow is
/// refused, not silently accepted.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities {
    /// The word for logs, `/status` and metrics.
    pub name: &'static str,
    /// Wants [`Command::Heard`] after an interruption, to tell the agent or to drop stale audio.
    pub heard: bool,
    /// How [`Command::Say`] is spoken.
    pub say: Saying,
    /// [`Command::AddContext`] works in mid-conversation.
    pub mid_context: bool,
    /// [`Command::Pause`] works.
    pub pause: bool,
    /// It may have several tool calls under way; otherwise a newer one replaces the older.
    pub parallel_tools: bool,
    /// It tells when the caller speaks ([`Event::CallerSpeaks`]); otherwise only their words tell.
    pub hears_speech: bool,
    /// [`Event::TurnDone`] is sent; otherwise the end of a turn has to be inferred from silence.
    pub turn_events: bool,
}

/// Where and how to connect.
pub struct Request {
    /// `ws://` or `wss://`; never carries a secret.
    pub url: String,
    /// Header names and values, of which any may be a secret.
    pub headers: Vec<(String, Secret)>,
    /// WebSocket subprotocols to offer.
    pub subprotocols: Vec<String>,
    /// Upper bound for one message of the agent, in bytes.
    pub max_message: usize,
}

/// What an agent is to know before its first word.
#[derive(Clone, Default, PartialEq)]
pub struct Briefing {
    /// What its prompt may name. Of these, `fixed` are the operator's own words and may stand where the
    /// agent wants them earliest, in a URL; the others are the caller's affair.
    pub fixed: BTreeMap<String, Variable>,
    pub variables: BTreeMap<String, Variable>,
    pub context: String,
}

impl Briefing {
    /// What has become known later stands over what was known before; what is to be borne in mind is added
    /// to.
    pub fn add(&mut self, more: Briefing) {
        let Briefing {
            fixed,
            variables,
            context,
        } = more;
        self.fixed.extend(fixed);
        self.variables.extend(variables);
        if !self.context.is_empty() && !context.is_empty() {
            self.context.push('\n');
        }
        self.context.push_str(&context);
    }
}

/// A tool that the agent may call, as it is declared.
#[derive(Clone)]
pub struct Declared {
    pub name: String,
    pub description: String,
    /// A JSON Schema, as text.
    pub parameters: String,
    /// What the agent may say when the tool gives no answer.
    pub fallback: Option<String>,
}

/// How one call's agent is to be.
#[derive(Clone, Default)]
pub struct Persona {
    pub voice: Option<String>,
    /// In place of the config's own, where the vendor has none prepared.
    pub instructions: Option<String>,
    pub tools: Vec<Declared>,
    pub briefing: Briefing,
}

/// The translation for one conversation with one agent, over one connection after another. No I/O,
/// no clock.
pub trait Codec: Send {
    /// What this agent can do.
    fn capabilities(&self) -> Capabilities;
    /// Where to connect.
    fn request(&self) -> Request;
    /// The connection is lost or given up, and [`request`](Codec::request) will be asked for another.
    /// What belonged to the old one (open tool calls, audio under way) is forgotten, the numbering of
    /// utterances goes on. With `resume` the agent is asked to take the conversation up where it was,
    /// if it ever named one; without, a new one is begun that is told what was said before.
    fn reconnect(&mut self, resume: bool);
    /// What has become known since; before [`opened`](Codec::opened) it is part of the beginning.
    fn brief(&mut self, more: Briefing);
    /// The frames to send as soon as the WebSocket is open.
    fn opened(&mut self, send: &mut dyn FnMut(String));
    /// Translates a command into frames.
    fn command(&mut self, command: Command<'_>, send: &mut dyn FnMut(String));
    /// Translates a text frame into events, and into what the codec itself has to answer to it: those
    /// frames are to leave ahead of whatever the events bring about.
    fn message(
        &mut self,
        text: &str,
        event: &mut dyn FnMut(Event<'_>),
        send: &mut dyn FnMut(String),
    );
    /// Says what a close means, in the light of what came before. `None`: lost without a close frame.
    fn closed(&mut self, code: Option<u16>, reason: &str) -> Closed;
}

/// What a call needs to know of its agent's connection.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    pub connection: config::Connection,
    /// The caller's transcribed words interrupt a reply that is generated but not yet heard.
    pub words_interrupt: bool,
}

/// The agents that the config and the credentials allow: the one place that knows their vendors.
pub struct Agents {
    hume: config::Hume,
    hume_api_key: Option<Secret>,
    realtime: Arc<realtime::Server>,
}

impl Agents {
    pub fn new(config: &config::Config, credentials: &config::Credentials) -> Self {
        Agents {
            hume: config.hume.clone(),
            hume_api_key: credentials.hume_api_key.clone(),
            realtime: Arc::new(realtime::Server::new(&config.realtime, credentials)),
        }
    }

    /// A codec for one new call.
    ///
    /// `config_id` is the vendor's name for a prepared configuration, where a route has one.
    pub fn codec(
        &self,
        kind: AgentKind,
        config_id: Option<&str>,
        mut persona: Persona,
    ) -> Box<dyn Codec> {
        match kind {
            AgentKind::Hume => {
                if !self.hume.declare_hang_up {
                    persona.tools.retain(|tool| tool.name != "hang_up");
                }
                Box::new(evi::Codec::new(evi::Settings {
                    url: self.hume.url.clone(),
                    api_key: self.hume_api_key.clone().unwrap_or_else(|| Secret::new("")),
                    config_id: self.names(kind, config_id, None).0.map(str::to_owned),
                    persona,
                }))
            }
            AgentKind::Realtime => Box::new(realtime::Codec::new(realtime::Settings {
                server: self.realtime.clone(),
                persona,
            })),
        }
    }

    /// With whom a conversation will be had, by the vendor's names where there are any: its prepared
    /// configuration, and its voice. What a route says of its own comes first.
    pub fn names<'a>(
        &'a self,
        kind: AgentKind,
        config_id: Option<&'a str>,
        voice: Option<&'a str>,
    ) -> (Option<&'a str>, Option<&'a str>) {
        match kind {
            AgentKind::Hume => (config_id.or(self.hume.config_id.as_deref()), voice),
            AgentKind::Realtime => (None, voice.or(self.realtime.config.voice.as_deref())),
        }
    }

    pub fn capabilities(&self, kind: AgentKind) -> Capabilities {
        match kind {
            AgentKind::Hume => evi::CAPABILITIES,
            AgentKind::Realtime => self.realtime.capabilities(),
        }
    }

    pub fn manner(&self, kind: AgentKind) -> Manner {
        match kind {
            AgentKind::Hume => Manner {
                connection: self.hume.connection,
                words_interrupt: self.hume.clear_on_user_message,
            },
            AgentKind::Realtime => Manner {
                connection: self.realtime.config.connection,
                // It tells when the caller speaks.
                words_interrupt: false,
            },
        }
    }
}
