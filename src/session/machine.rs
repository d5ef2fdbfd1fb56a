//! The truth of one call, without I/O.
//!
//! [`Machine::handle`] takes what happened and the time; what to do about it is put into an
//! [`Outbox`]. The machine knows no socket, no clock, no task and no log: everything hard about a
//! call (barge-in, goodbyes, deadlines, ends) is decided here and can be tested with a list of
//! events. It promises:
//!
//! - exactly one [`Action::End`], after which nothing is done any more;
//! - every tool call that expects an answer gets one, at once and once;
//! - no audio of an interrupted generation is played after its clear;
//! - an agent's goodbye is heard to its last word, within bounds, or withdrawn if the caller speaks;
//! - every wait has a deadline ([`Machine::next_deadline`]) and every buffer a bound.

mod obey;

use std::{
    collections::VecDeque,
    ops::Range,
    time::{Duration, Instant},
};

use super::{
    cause::Cause,
    goodbye::Goodbye,
    order::{After, Order, Verdict, Words},
    playback::{self, Cut, Echo, Playback},
    turn::Turn,
    uplink::Uplink,
};
use crate::agent::{self, Capabilities, Closed, Ignored, Role, SegmentId};

/// The tool with which an agent ends a call.
pub const HANG_UP: &str = "hang_up";
/// Tool calls remembered so that a repeated one is not answered twice.
const REMEMBERED_TOOL_CALLS: usize = 32;
/// Of a very long message of the agent's, so much goes into one of ours: ten seconds.
const MAX_PIECE: usize = 80_000;
/// Messages from Twilio's side that make no sense, before the socket is given up as hopeless.
const MAX_GARBAGE: u32 = 100;
/// Without any message from Twilio's side for so long, it is pinged; for so much longer, it is lost.
const CARRIER_SILENCE: Duration = Duration::from_secs(15);
const CARRIER_PONG: Duration = Duration::from_secs(10);
/// From ordering the end of the call at Twilio's REST API to closing the socket regardless.
const HANG_UP_LIMIT: Duration = Duration::from_secs(4);
/// The close code for a media socket that takes nothing from us.
pub const STALLED: u16 = 1011;
/// From Twilio's "it is over" to the socket's own end.
const STOP_LIMIT: Duration = Duration::from_millis(500);

/// The deadlines of a call, from the config it began with.
#[derive(Clone, Debug)]
pub struct Settings {
    pub ready_timeout: Duration,
    pub ping_interval: Duration,
    pub pong_timeout: Duration,
    pub max_duration: Duration,
    /// The caller's words, as transcribed, interrupt an agent that has finished generating and is
    /// still being heard.
    pub words_interrupt: bool,
    /// There is a sentence for callers whose call outlasts a drain.
    pub drain_goodbye: bool,
    /// What the agent can do: an order beyond it is refused.
    pub capabilities: &'static Capabilities,
}

/// Something happened.
pub enum Event<'a> {
    Carrier(Carrier<'a>),
    /// The agent's socket is open.
    AgentOpened,
    /// The agent showed a sign of life of whatever kind.
    AgentAlive,
    Agent(agent::Event<'a>),
    /// The agent's socket is over, or never came to be.
    AgentClosed(Closed),
    /// Twilio's REST API was asked to end the call: did that work?
    HangUpAnswered {
        ended: bool,
    },
    Order(Order),
    /// Time has passed.
    Tick,
}

/// From the telephone.
pub enum Carrier<'a> {
    /// Caller audio, mu-law, with Twilio's clock in ms since the stream began.
    Media {
        timestamp_ms: Option<u64>,
        mulaw: &'a [u8],
    },
    Mark {
        name: &'a str,
    },
    Key,
    /// Twilio says that the stream is over.
    Stop,
    /// The socket is over.
    Closed,
    /// A message that cannot be understood.
    Garbage(Garbage),
    /// A message of a type we do not know, or a sign of life.
    Other,
    /// The socket's peer broke the WebSocket protocol or its limits.
    Broken {
        close_code: u16,
    },
    /// The socket takes nothing more from us.
    Stalled,
}

/// What is wrong with a message from the telephone side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Garbage {
    Malformed,
    Binary,
}

/// What the driver is to do, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    ConnectAgent,
    PingAgent,
    PingCarrier,
    /// Caller audio for the agent: a range of [`Outbox::audio`].
    ToAgent(Range<usize>),
    AnswerTool {
        call_id: String,
        answer: Answer,
    },
    /// The caller heard this much of a segment that has been cut.
    AgentHeard(Cut),
    /// Have the agent speak these words, or know them.
    Say(Words),
    AddContext(Words),
    /// Have the agent stop answering, and answer again.
    Pause,
    Resume,
    CloseAgent,
    /// Agent audio for the caller: a range of [`Outbox::audio`].
    Play(Range<usize>),
    Mark(String),
    Clear,
    /// Ask Twilio's REST API to end the call.
    HangUp,
    /// What `/voice/after` is to answer from now on.
    Decide(After),
    /// Close what is open; the call is over.
    End {
        cause: Cause,
        close_code: u16,
    },
    Note(Note),
    /// The answer to the order just taken; behind everything it led to.
    Verdict(Verdict),
}

/// The answers the machine itself gives to tool calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    HangingUp,
    UnknownTool,
}

/// For logs and counters: never needed to carry the call.
#[derive(Debug, PartialEq, Eq)]
pub enum Note {
    AgentReady {
        chat: String,
    },
    AgentError {
        code: String,
    },
    AgentIgnored(Ignored),
    AgentClosed(Closed),
    ToolCall {
        name: String,
        answered: bool,
    },
    BargeIn {
        unheard: Duration,
    },
    SpuriousInterruption,
    /// The first audio since the caller's last words is on its way, so long after them.
    Answered {
        after: Duration,
    },
    /// The caller has heard an answer; it began so long after the caller's last words.
    AnswerHeard {
        after: Duration,
    },
    HangingUp(Cause),
    GoodbyeWithdrawn,
    /// The agent was told to listen only, and to answer again.
    Paused,
    Resumed,
    AudioDropped {
        bytes: usize,
    },
    CallerAudioDropped {
        bytes: usize,
    },
    SilenceFilled {
        bytes: usize,
    },
    RestFailed,
}

/// What [`Machine::handle`] asks for; kept by the driver and reused, so that a frame costs no
/// allocation.
#[derive(Default)]
pub struct Outbox {
    pub actions: Vec<Action>,
    /// The bytes that [`Action::ToAgent`] and [`Action::Play`] point into.
    pub audio: Vec<u8>,
}

impl Outbox {
    /// Empty again, and small again after a burst: there are many calls.
    pub fn clear(&mut self) {
        self.actions.clear();
        self.actions.shrink_to(16);
        self.audio.clear();
        self.audio.shrink_to(4096);
    }

    fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn note(&mut self, note: Note) {
        self.actions.push(Action::Note(note));
    }

    fn keep(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.audio.len();
        self.audio.extend_from_slice(bytes);
        start..self.audio.len()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AgentState {
    Connecting,
    /// Open, but not yet ready for audio.
    Opened {
        deadline: Instant,
    },
    Ready,
    Gone,
}

#[derive(Debug)]
enum Phase {
    Talking,
    /// Ending politely: what the agent still says is heard first.
    Goodbye(Goodbye),
    /// The end has been ordered at Twilio.
    HangingUp {
        cause: Cause,
        deadline: Instant,
    },
    Over,
}

/// Liveness of the agent's socket.
#[derive(Debug, Default)]
struct Pings {
    next: Option<Instant>,
    unanswered_until: Option<Instant>,
}

/// One call.
pub struct Machine {
    settings: Settings,
    phase: Phase,
    agent: AgentState,
    pings: Pings,
    /// When the telephone side was last heard of, and whether it has been asked since.
    carrier_heard: Instant,
    carrier_asked: bool,
    uplink: Uplink,
    playback: Playback,
    /// The agent has begun a turn and not yet said that it is done.
    turn_open: bool,
    /// The newest segment of this turn of which audio was sent.
    turn_segment: Option<SegmentId>,
    /// The agent has been heard since the caller's last words.
    spoke: bool,
    /// Turns that are to end before all the words that the agent was given have been said.
    owed_turns: u32,
    /// The agent listens and does not answer.
    paused: bool,
    turn: Turn,
    answered: VecDeque<String>,
    garbage: u32,
    ends_by: Instant,
}

impl Machine {
    /// A call whose media stream has started. The first action is to connect the agent.
    pub fn new(settings: Settings, now: Instant, out: &mut Outbox) -> Self {
        out.push(Action::ConnectAgent);
        Machine {
            ends_by: now + settings.max_duration,
            settings,
            phase: Phase::Talking,
            agent: AgentState::Connecting,
            pings: Pings::default(),
            carrier_heard: now,
            carrier_asked: false,
            uplink: Uplink::default(),
            playback: Playback::default(),
            turn_open: false,
            turn_segment: None,
            spoke: false,
            owed_turns: 0,
            paused: false,
            turn: Turn::default(),
            answered: VecDeque::new(),
            garbage: 0,
        }
    }

    /// Takes what happened, says what to do.
    pub fn handle(&mut self, now: Instant, event: Event<'_>, out: &mut Outbox) {
        if self.is_over() {
            return;
        }
        match event {
            Event::Carrier(carrier) => self.carrier(now, carrier, out),
            Event::AgentOpened => {
                if self.agent != AgentState::Connecting {
                    return;
                }
                self.agent = AgentState::Opened {
                    deadline: now + self.settings.ready_timeout,
                };
                self.pings.next = Some(now + self.settings.ping_interval);
            }
            Event::AgentAlive => self.pings.unanswered_until = None,
            Event::Agent(event) => {
                if self.agent != AgentState::Gone {
                    self.agent(now, event, out);
                }
            }
            Event::AgentClosed(closed) => self.agent_closed(now, closed, out),
            Event::HangUpAnswered { ended } => self.hang_up_answered(now, ended, out),
            Event::Order(order) => self.obey(now, order, out),
            Event::Tick => {}
        }
        self.deadlines(now, out);
    }

    /// When [`Event::Tick`] is due at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        let phase = match &self.phase {
            Phase::Over => return None,
            Phase::HangingUp { deadline, .. } => return Some(*deadline),
            Phase::Goodbye(goodbye) => Some(goodbye.next_deadline()),
            Phase::Talking => None,
        };
        let ready = match self.agent {
            AgentState::Opened { deadline } => Some(deadline),
            _ => None,
        };
        [
            Some(self.ends_by),
            phase,
            ready,
            Some(self.carrier_deadline()),
            self.pings.next,
            self.pings.unanswered_until,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// After [`Action::End`].
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// Ending, politely or not.
    pub fn is_ending(&self) -> bool {
        !matches!(self.phase, Phase::Talking)
    }

    pub fn agent_ready(&self) -> bool {
        self.agent == AgentState::Ready
    }

    /// What the call holds on the heap, in bytes: bounded, whatever its far ends do.
    pub fn footprint(&self) -> usize {
        let answered: usize = self.answered.iter().map(String::capacity).sum();
        answered
            + self.answered.capacity() * size_of::<String>()
            + self.uplink.footprint()
            + self.playback.footprint()
    }

    /// Twilio sends 50 frames a second, silence included; a media socket from which nothing comes
    /// is asked for a sign of life and then given up.
    fn carrier_deadline(&self) -> Instant {
        let patience = if self.carrier_asked {
            CARRIER_SILENCE + CARRIER_PONG
        } else {
            CARRIER_SILENCE
        };
        self.carrier_heard + patience
    }

    fn carrier(&mut self, now: Instant, carrier: Carrier<'_>, out: &mut Outbox) {
        self.carrier_heard = now;
        self.carrier_asked = false;
        match carrier {
            Carrier::Media {
                timestamp_ms,
                mulaw,
            } => match self.agent {
                AgentState::Ready => {
                    let filled = self.uplink.gap(timestamp_ms, mulaw.len());
                    if filled > 0 {
                        out.note(Note::SilenceFilled { bytes: filled });
                        Uplink::silence(filled, |frame| {
                            let range = out.keep(frame);
                            out.push(Action::ToAgent(range));
                        });
                    }
                    let range = out.keep(mulaw);
                    out.push(Action::ToAgent(range));
                }
                AgentState::Gone => {}
                _ => {
                    let filled = self.uplink.gap(timestamp_ms, mulaw.len());
                    let dropped = self.uplink.hold(filled, mulaw);
                    if dropped > 0 {
                        out.note(Note::CallerAudioDropped { bytes: dropped });
                    }
                }
            },
            Carrier::Mark { name } => {
                if self.playback.echoed(name) == Echo::Heard {
                    if let Some(after) = self.turn.heard(now, name) {
                        out.note(Note::AnswerHeard { after });
                    }
                    self.goodbye_step(now, out);
                }
            }
            Carrier::Key | Carrier::Other => {}
            Carrier::Stop => match self.phase {
                Phase::HangingUp { cause, .. } => self.end(cause, 1000, out),
                _ => self.end(Cause::CallerHungUp, 1000, out),
            },
            Carrier::Closed => match self.phase {
                Phase::HangingUp { cause, .. } => self.end(cause, 1000, out),
                _ => self.end(Cause::CarrierLost, 1000, out),
            },
            Carrier::Garbage(kind) => {
                self.garbage += 1;
                if self.garbage > MAX_GARBAGE {
                    let close_code = match kind {
                        Garbage::Malformed => 1007,
                        Garbage::Binary => 1003,
                    };
                    self.end(Cause::CarrierFailed, close_code, out);
                }
            }
            Carrier::Broken { close_code } => self.end(Cause::CarrierFailed, close_code, out),
            Carrier::Stalled => self.end(Cause::CarrierFailed, STALLED, out),
        }
    }

    fn agent(&mut self, now: Instant, event: agent::Event<'_>, out: &mut Outbox) {
        match event {
            agent::Event::Ready { chat, resume: _ } => {
                if let AgentState::Opened { .. } | AgentState::Connecting = self.agent {
                    self.agent = AgentState::Ready;
                    out.note(Note::AgentReady {
                        chat: chat.to_owned(),
                    });
                    self.uplink.release(|frame| {
                        let range = out.keep(frame);
                        out.push(Action::ToAgent(range));
                    });
                }
            }
            agent::Event::Audio { segment, mulaw } => self.agent_audio(now, segment, mulaw, out),
            agent::Event::SegmentEnd { .. } => self.mark(out),
            agent::Event::TurnDone => {
                self.turn_open = false;
                self.turn_segment = None;
                self.owed_turns = self.owed_turns.saturating_sub(1);
                self.mark(out);
                if let Phase::Goodbye(goodbye) = &mut self.phase
                    && self.owed_turns == 0
                {
                    goodbye.turn_done();
                }
                self.goodbye_step(now, out);
            }
            agent::Event::Interrupt => self.interrupt(now, out),
            agent::Event::Transcript {
                role: Role::Agent, ..
            } => {
                self.turn_open = true;
                if let Phase::Goodbye(goodbye) = &mut self.phase {
                    goodbye.agent_speaks(now);
                }
            }
            agent::Event::Transcript {
                role: Role::Caller,
                text,
                interim,
                replace,
            } => {
                // An improved transcript of what was said before is not speech over what is said now.
                if !replace && !text.trim().is_empty() {
                    self.caller_words(now, interim, out);
                }
            }
            agent::Event::ToolCall {
                call_id,
                name,
                arguments: _,
                expects_reply,
            } => self.tool_call(now, call_id, name, expects_reply, out),
            agent::Event::ToolCancelled { .. } => {}
            agent::Event::Error { code } => out.note(Note::AgentError {
                code: code.to_owned(),
            }),
            agent::Event::Ignored { why } => out.note(Note::AgentIgnored(why)),
        }
    }

    fn agent_audio(&mut self, now: Instant, segment: SegmentId, mulaw: &[u8], out: &mut Outbox) {
        let wanted = match &mut self.phase {
            Phase::Talking => true,
            Phase::Goodbye(goodbye) => goodbye.wants_audio(now),
            Phase::HangingUp { .. } | Phase::Over => false,
        };
        if !wanted || mulaw.is_empty() || !self.playback.accepts(now, segment) {
            out.note(Note::AudioDropped { bytes: mulaw.len() });
            return;
        }
        self.turn_open = true;
        self.turn_segment = Some(segment);
        self.spoke = true;
        self.playback.sent(now, segment, mulaw.len());
        if let Some(after) = self.turn.audio(now, playback::duration(mulaw.len())) {
            out.note(Note::Answered { after });
        }
        for piece in mulaw.chunks(MAX_PIECE) {
            let range = out.keep(piece);
            out.push(Action::Play(range));
        }
        if let Phase::Goodbye(goodbye) = &mut self.phase {
            goodbye.agent_speaks(now);
        }
    }

    fn mark(&mut self, out: &mut Outbox) {
        if let Some(name) = self.playback.mark() {
            self.turn.marked(&name);
            out.push(Action::Mark(name));
        }
    }

    /// The caller has said something.
    fn caller_words(&mut self, now: Instant, interim: bool, out: &mut Outbox) {
        // An agent that has finished generating may not tell an interruption, only the words: what
        // is still being heard would be talked over, and the next reply would queue behind it.
        // A paused one will not tell either.
        let told = self.turn_open && !self.paused;
        if self.settings.words_interrupt && !told && self.playback.unheard(now) {
            self.cut(now, out);
        }
        if !interim {
            self.spoke = false;
            // Words whose transcript comes when the answer has begun tell nothing about its delay, and
            // a paused agent's answer does not come.
            if !self.turn_open && !self.paused {
                self.turn.asked(now);
            }
            self.withdraw_goodbye(out);
        }
    }

    /// The agent says that the caller interrupts.
    fn interrupt(&mut self, now: Instant, out: &mut Outbox) {
        if self.playback.unheard(now) {
            self.cut(now, out);
        } else if let Some(segment) = self.turn_segment.filter(|_| self.turn_open) {
            // Between two sentences: there is nothing to clear, but what is on its way of this
            // turn is stale.
            self.turn_open = false;
            self.turn_segment = None;
            self.owed_turns = 0;
            self.turn.cut();
            out.push(Action::AgentHeard(self.playback.cut_at(segment)));
            self.withdraw_goodbye(out);
        } else {
            // EVI can report an interruption on the first silence, before it has said a word: there
            // is nothing to interrupt, and the greeting must not be lost.
            out.note(Note::SpuriousInterruption);
        }
    }

    /// Takes back what the caller has not heard.
    fn cut(&mut self, now: Instant, out: &mut Outbox) {
        let unheard = self.playback.queued(now);
        out.push(Action::Clear);
        for cut in self.playback.clear(now) {
            out.push(Action::AgentHeard(cut));
        }
        self.turn_open = false;
        self.turn_segment = None;
        self.owed_turns = 0;
        self.turn.cut();
        out.note(Note::BargeIn { unheard });
        self.withdraw_goodbye(out);
        if let Phase::Goodbye(goodbye) = &mut self.phase {
            // An operator's order stands; the words it waited for have been cut.
            goodbye.turn_done();
            self.goodbye_step(now, out);
        }
    }

    fn tool_call(
        &mut self,
        now: Instant,
        call_id: &str,
        name: &str,
        expects_reply: bool,
        out: &mut Outbox,
    ) {
        if self.answered.iter().any(|id| id == call_id) {
            return;
        }
        let answer = if name == HANG_UP {
            Answer::HangingUp
        } else {
            Answer::UnknownTool
        };
        if self.answered.len() == REMEMBERED_TOOL_CALLS {
            self.answered.pop_front();
        }
        self.answered.push_back(call_id.to_owned());
        if expects_reply {
            out.push(Action::AnswerTool {
                call_id: call_id.to_owned(),
                answer,
            });
        }
        out.note(Note::ToolCall {
            name: name.to_owned(),
            answered: expects_reply,
        });
        if answer == Answer::HangingUp {
            // A paused agent says no farewell.
            let goodbye = Goodbye::of_agent(now, self.words_to_come(), self.spoke || self.paused);
            self.say_goodbye(now, goodbye, out);
        }
    }

    fn say_goodbye(&mut self, now: Instant, goodbye: Goodbye, out: &mut Outbox) {
        match &mut self.phase {
            Phase::Talking => {
                out.note(Note::HangingUp(goodbye.cause()));
                self.phase = Phase::Goodbye(goodbye);
            }
            // An operator's order makes an agent's goodbye final; nothing else changes it.
            Phase::Goodbye(current) => current.confirm(&goodbye),
            Phase::HangingUp { .. } | Phase::Over => return,
        }
        self.goodbye_step(now, out);
    }

    fn withdraw_goodbye(&mut self, out: &mut Outbox) {
        if let Phase::Goodbye(goodbye) = &self.phase
            && goodbye.may_be_withdrawn()
            && self.agent != AgentState::Gone
        {
            self.phase = Phase::Talking;
            out.note(Note::GoodbyeWithdrawn);
        }
    }

    /// Moves a goodbye on: is everything said, is everything heard?
    fn goodbye_step(&mut self, now: Instant, out: &mut Outbox) {
        let Phase::Goodbye(goodbye) = &mut self.phase else {
            return;
        };
        if !goodbye.all_said(now) {
            return;
        }
        if let Some(name) = self.playback.mark() {
            self.turn.marked(&name);
            out.push(Action::Mark(name));
        }
        let cause = goodbye.cause();
        if self.playback.drained() || goodbye.all_heard_by(now, self.playback.queued(now)) {
            self.hang_up(now, cause, out);
        }
    }

    fn hang_up(&mut self, now: Instant, cause: Cause, out: &mut Outbox) {
        match self.phase {
            Phase::Talking => out.note(Note::HangingUp(cause)),
            Phase::Goodbye(_) => {}
            Phase::HangingUp { .. } | Phase::Over => return,
        }
        self.close_agent(out);
        out.push(Action::Decide(After::HangUp));
        out.push(Action::HangUp);
        self.phase = Phase::HangingUp {
            cause,
            deadline: now + HANG_UP_LIMIT,
        };
    }

    /// The daemon leaves. Only a call that is still connected can be told so, and only by what
    /// follows the stream: so the stream is closed, and Twilio asks.
    fn drain_expired(&mut self, now: Instant, out: &mut Outbox) {
        let hanging_up = matches!(self.phase, Phase::HangingUp { .. });
        if hanging_up || !self.settings.drain_goodbye {
            return self.hang_up(now, Cause::Drain, out);
        }
        if matches!(self.phase, Phase::Talking) {
            out.note(Note::HangingUp(Cause::Drain));
        }
        out.push(Action::Decide(After::DrainGoodbye));
        self.end(Cause::Drain, 1000, out);
    }

    fn hang_up_answered(&mut self, now: Instant, ended: bool, out: &mut Outbox) {
        let Phase::HangingUp { cause, deadline } = &mut self.phase else {
            return;
        };
        if ended {
            // Twilio now sends its stop; it is not waited for long.
            *deadline = now + STOP_LIMIT;
        } else {
            let cause = *cause;
            out.note(Note::RestFailed);
            self.end(cause, 1000, out);
        }
    }

    fn agent_closed(&mut self, now: Instant, closed: Closed, out: &mut Outbox) {
        let was_ready = self.agent == AgentState::Ready;
        if self.agent == AgentState::Gone {
            return;
        }
        self.close_agent(out);
        out.note(Note::AgentClosed(closed));
        self.uplink.forget();
        if let Phase::Goodbye(goodbye) = &mut self.phase {
            goodbye.agent_gone();
            return self.goodbye_step(now, out);
        }
        let cause = match closed {
            // A conversation that never began was not hung up; it failed.
            Closed::HungUp if was_ready => Cause::AgentHungUp,
            Closed::Inactive if was_ready => Cause::AgentInactive,
            Closed::Expired if was_ready => Cause::AgentExpired,
            failure => {
                out.push(Action::Decide(After::Fallback));
                return self.end(Cause::AgentFailed(failure), 1000, out);
            }
        };
        let mut goodbye = Goodbye::ordered(cause, now, false);
        goodbye.agent_gone();
        self.say_goodbye(now, goodbye, out);
    }

    fn close_agent(&mut self, out: &mut Outbox) {
        if self.agent != AgentState::Gone {
            self.agent = AgentState::Gone;
            self.pings = Pings::default();
            out.push(Action::CloseAgent);
        }
    }

    fn end(&mut self, cause: Cause, close_code: u16, out: &mut Outbox) {
        self.close_agent(out);
        self.phase = Phase::Over;
        self.uplink.forget();
        out.push(Action::End { cause, close_code });
    }

    fn deadlines(&mut self, now: Instant, out: &mut Outbox) {
        match &self.phase {
            Phase::Over => return,
            Phase::HangingUp { cause, deadline } => {
                if now >= *deadline {
                    let cause = *cause;
                    self.end(cause, 1000, out);
                }
                return;
            }
            Phase::Goodbye(goodbye) if now >= goodbye.next_deadline() => {
                self.goodbye_step(now, out)
            }
            Phase::Goodbye(_) | Phase::Talking => {}
        }
        if now >= self.carrier_deadline() {
            if self.carrier_asked {
                return self.end(Cause::CarrierLost, 1001, out);
            }
            self.carrier_asked = true;
            out.push(Action::PingCarrier);
        }
        if now >= self.ends_by {
            return self.hang_up(now, Cause::MaxDuration, out);
        }
        if let AgentState::Opened { deadline } = self.agent
            && now >= deadline
        {
            return self.agent_closed(now, Closed::Lost, out);
        }
        if self
            .pings
            .unanswered_until
            .is_some_and(|deadline| now >= deadline)
        {
            return self.agent_closed(now, Closed::Lost, out);
        }
        if self.pings.next.is_some_and(|next| now >= next) {
            self.pings.next = Some(now + self.settings.ping_interval);
            if self.pings.unanswered_until.is_none() {
                self.pings.unanswered_until = Some(now + self.settings.pong_timeout);
            }
            out.push(Action::PingAgent);
        }
    }
}
