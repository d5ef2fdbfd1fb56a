//! The truth of one call, without I/O.
//!
//! [`Machine::handle`] takes what happened and the time; what to do about it is put into an
//! [`Outbox`]. The machine knows no socket, no clock, no task and no log: everything hard about a
//! call (barge-in, goodbyes, deadlines, ends) is decided here and can be tested with a list of
//! events. It promises:
//!
//! - exactly one [`Action::End`], after which nothing is done any more;
//! - every tool call that expects an answer gets one and only one, within its tool's time;
//! - no audio of an interrupted generation is played after its clear;
//! - an agent's goodbye is heard to its last word, within bounds, or withdrawn if the caller speaks;
//! - an agent that is lost is looked for within a budget, and hears what its predecessor did not answer;
//! - a caller who is put through, or whose call keys are sounded into, comes back to the same agent;
//! - every wait has a deadline ([`Machine::next_deadline`]) and every buffer a bound.

mod away;
mod connection;
mod ending;
mod keypad;
mod obey;
mod speech;
mod tools;

use std::{
    collections::VecDeque,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    cause::Cause,
    errand::{Errand, Failed, Redirected, Transferred},
    goodbye::Goodbye,
    hold::{Hold, Waiting},
    keys::Collector,
    order::{After, Order, Verdict, Words},
    outage::Outage,
    playback::{self, Cut, Echo, Playback},
    turn::Turn,
    uplink::Uplink,
};
use crate::{
    agent::{self, Capabilities, Closed, Ignored, Role, SegmentId},
    config::Keys,
    tools::{Catalogue, Outcome},
};
use away::Away;
use connection::Connection;
use tools::Tools;

/// The tool with which an agent ends a call.
pub const HANG_UP: &str = "hang_up";
/// Of a very long message of the agent's, so much goes into one of ours: ten seconds.
const MAX_PIECE: usize = 80_000;
/// Messages from Twilio's side that make no sense, before the socket is given up as hopeless.
const MAX_GARBAGE: u32 = 100;
/// Without any message from Twilio's side for so long, it is pinged; for so much longer, it is lost.
const CARRIER_SILENCE: Duration = Duration::from_secs(15);
const CARRIER_PONG: Duration = Duration::from_secs(10);
/// The close code for a media socket that takes nothing from us.
pub const STALLED: u16 = 1011;
/// Somebody who speaks for so long without a word that the agent understands is a noise.
const LONGEST_SENTENCE: Duration = Duration::from_secs(60);
/// Of the agent's words so much is kept until they have been sent to the telephone.
const MAX_WORDS: usize = 2048;
/// From Twilio's word by a webhook that the call is over to the socket's own end.
const OVER_LIMIT: Duration = Duration::from_secs(2);

/// The deadlines of a call, from the config it began with.
#[derive(Clone, Debug)]
pub struct Settings {
    pub ready_timeout: Duration,
    pub ping_interval: Duration,
    pub pong_timeout: Duration,
    /// For how long a first connection that fails is tried again.
    pub connect_budget: Duration,
    /// How long the call waits for an agent that it has lost.
    pub reconnect_budget: Duration,
    /// A conversation this old is taken up on a new connection, at a pause.
    pub recycle_after: Option<Duration>,
    /// For the waits between attempts.
    pub seed: u64,
    /// What is heard while there is no agent, if anything.
    pub hold: Option<Waiting>,
    pub max_duration: Duration,
    pub max_duration_farewell: Option<Words>,
    pub no_input: Option<NoInput>,
    /// The caller's words, as transcribed, interrupt an agent that has finished generating and is
    /// still being heard.
    pub words_interrupt: bool,
    /// There is a sentence for callers whose call outlasts a drain.
    pub drain_goodbye: bool,
    /// What the agent can do: an order beyond it is refused.
    pub capabilities: Capabilities,
    /// What the agent may have done.
    pub tools: Arc<Catalogue>,
    /// What the keys of the caller's telephone do.
    pub keys: Arc<Keys>,
    /// How long somebody to whom the caller is put through is rung, and whether they are told first who
    /// it is.
    pub ring: Duration,
    pub warm: bool,
    /// What the agent is told of a caller whose transfer came to nothing; `{reason}` stands for why.
    /// `None`: such a caller does not come back.
    pub no_answer: Option<Words>,
}

/// What is done about a caller of whom nothing is heard.
#[derive(Clone, Debug)]
pub struct NoInput {
    pub timeout: Duration,
    pub check: Option<Words>,
    pub farewell: Option<Words>,
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
    /// The agent's conversation ends then, by its own rules.
    AgentExpires(Instant),
    /// Twilio's REST API was asked to end the call: did that work?
    HangUpAnswered {
        ended: bool,
    },
    /// It was asked to take the call elsewhere.
    RedirectAnswered(Redirected),
    /// The caller is back, on a new media socket.
    Returned,
    /// A tool that was run has ended.
    ToolDone {
        ticket: u32,
        outcome: Outcome,
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
    Key {
        key: char,
    },
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
    /// Never while there is a connection, or an attempt at one.
    ConnectAgent(Dial),
    PingAgent,
    PingCarrier,
    /// Caller audio for the agent: a range of [`Outbox::audio`].
    ToAgent(Range<usize>),
    AnswerTool {
        call_id: String,
        answer: Answer,
    },
    /// Carry this call of the catalogue's tool out. What comes of it is told under its ticket.
    RunTool {
        ticket: u32,
        tool: usize,
        call_id: String,
        arguments: Words,
    },
    /// Nobody waits for it any more.
    StopTool(u32),
    /// For the call's record.
    KeepNote(Words),
    /// The caller heard this much of a segment that has been cut.
    AgentHeard(Cut),
    /// Have the agent speak these words, or know them.
    Say(Words),
    AddContext(Words),
    /// Have it answer to these, as if the caller had written them.
    Prompt(Words),
    /// Have it know what was said before.
    Remind,
    /// Have the agent stop answering, and answer again.
    Pause,
    Resume,
    CloseAgent,
    /// Agent audio for the caller: a range of [`Outbox::audio`].
    Play(Range<usize>),
    Mark(String),
    Clear,
    /// Ask Twilio's REST API to end the call; again and again where no stream's end would do it.
    HangUp {
        streamless: bool,
    },
    /// Ask it to take the call elsewhere, and be ready for a new media socket.
    Redirect(Errand),
    /// The old media socket is over, and the call is not.
    CloseCarrier,
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

/// What a connection to the agent is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dial {
    First,
    /// To take the conversation up where it was.
    Resume,
    /// To begin anew: the old conversation cannot be had again.
    Anew,
}

/// The answer to a tool call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    HangingUp,
    UnknownTool,
    /// The caller will be put through when the agent has finished.
    Transferring,
    KeysSent,
    /// The same for an agent that has hung up meanwhile: its goodbye is due.
    LastKeysSent,
    /// `hang_up` while keys are sounded, which comes first.
    HangingUpAfterKeys,
    Noted,
    /// A newer call has taken its place.
    Replaced,
    TooMany,
    TimedOut,
    NotesFull,
    TransfersSpent,
    KeysSpent,
    /// Keys are being sounded.
    KeysFirst,
    /// The call is ending, or going elsewhere already.
    Ending,
    /// The tool's own.
    Done(Words),
    Failed {
        error: &'static str,
        content: Words,
    },
}

impl Answer {
    /// For counters and records.
    pub fn outcome(&self) -> &'static str {
        match self {
            Answer::HangingUp
            | Answer::Transferring
            | Answer::KeysSent
            | Answer::LastKeysSent
            | Answer::HangingUpAfterKeys
            | Answer::Noted
            | Answer::Done(_) => "done",
            Answer::UnknownTool => "unknown",
            Answer::Replaced => "replaced",
            Answer::TooMany => "busy",
            Answer::TimedOut => "timeout",
            Answer::NotesFull
            | Answer::TransfersSpent
            | Answer::KeysSpent
            | Answer::KeysFirst
            | Answer::Ending => "refused",
            Answer::Failed { error, .. } => error,
        }
    }
}

/// For logs and counters: never needed to carry the call.
#[derive(Debug, PartialEq, Eq)]
pub enum Note {
    /// `again`: after a loss or a recycling, which took so long; `resumed`: the conversation is the
    /// same.
    AgentReady {
        chat: String,
        again: bool,
        resumed: bool,
        away: Duration,
    },
    /// The agent is gone and will be called in so long.
    Retrying {
        wait: Duration,
    },
    /// The conversation is taken up on a new connection, at a pause or because it was time.
    Recycling {
        forced: bool,
    },
    /// The agent is told again what its predecessor has not answered.
    CallerAudioRepeated {
        bytes: usize,
    },
    /// The agent says again what it had begun to say.
    SaidAgain,
    /// The caller waits for the agent and hears the hold sound.
    Holding,
    /// Nothing was heard of the caller: they are asked.
    NoInputCheck,
    AgentError {
        code: String,
    },
    AgentIgnored(Ignored),
    AgentClosed(Closed),
    /// `name` is one that was offered, or [`HANG_UP`], or a word of ours in place of what the agent made up;
    /// of [`ToolAnswered`](Note::ToolAnswered), too.
    ToolCall {
        name: String,
        answered: bool,
    },
    /// What came of a tool call that the agent waited for, in a word.
    ToolAnswered {
        name: String,
        outcome: &'static str,
    },
    /// A newer call has taken the place of one under way.
    ToolReplaced,
    /// A tool takes long, and the agent says so.
    Filler,
    /// The agent is told what the caller has pressed: so many keys.
    KeysTold {
        count: usize,
    },
    /// The caller has pressed a key that stands for something.
    KeyActed,
    /// Keys are sounded into the call, or its caller is put through.
    Away(Errand),
    /// The caller is back with the agent.
    Back {
        failed: Option<Failed>,
    },
    /// Twilio has said what became of a transfer.
    Transferred(Transferred),
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
    /// The call was to be ended, and Twilio, which alone could do it, was not reached.
    GoesOn,
    /// A call with a stream is over, says Twilio's REST API.
    OverDoubted,
    /// The call was over, by Twilio's word, and its media socket went on.
    Lingered,
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
    /// There is none; it is called then.
    Waiting {
        until: Instant,
    },
    Connecting,
    /// Open, but not yet ready for audio.
    Opened {
        deadline: Instant,
    },
    Ready,
    /// For good.
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
        /// No stream is left whose end would end the call.
        streamless: bool,
    },
    /// Somewhere else; the agent waits.
    Away(Away),
    Over,
}

/// One call.
pub struct Machine {
    settings: Settings,
    phase: Phase,
    agent: AgentState,
    connection: Connection,
    outage: Outage,
    hold: Hold,
    /// When the telephone side was last heard of, and whether it has been asked since.
    carrier_heard: Instant,
    carrier_asked: bool,
    /// Since when nothing has been heard of the caller, and whether they have been asked.
    quiet_since: Instant,
    quiet_asked: bool,
    /// Since when the agent hears them speak, if it is one that tells.
    speaking: Option<Instant>,
    /// They were, as far as that is up to us: nothing of it has come from the agent.
    check_unheard: bool,
    uplink: Uplink,
    playback: Playback,
    /// The agent has begun a turn and not yet said that it is done.
    turn_open: bool,
    /// The newest segment of this turn of which audio was sent.
    turn_segment: Option<SegmentId>,
    /// What the agent is saying: the words of each utterance whose audio may still be coming.
    saying: VecDeque<String>,
    /// The agent has been heard since the caller's last words.
    spoke: bool,
    /// The caller has said something that is not answered yet.
    reply_due: bool,
    /// Turns that are to end before all the words that the agent was given have been said.
    owed_turns: u32,
    /// The agent listens and does not answer.
    paused: bool,
    turn: Turn,
    tools: Tools,
    /// The tool call that is answered when the caller is back.
    waiting_tool: Option<(String, usize)>,
    /// The agent has hung up while keys were being sounded: the call ends when the caller is back.
    hangs_up: bool,
    keys: Collector,
    /// What the agent is to answer to as soon as it is there.
    prompts: VecDeque<Words>,
    /// So many of them it has been given, and has not answered to.
    prompts_given: usize,
    /// What a key wants said, as soon as there is somebody to say it.
    awaited: Option<Words>,
    /// Characters of context that operators have added.
    context: usize,
    garbage: u32,
    /// By Twilio's word the call is over: when the socket has had time to say so, and why.
    over: Option<(Instant, Cause)>,
    ends_by: Instant,
}

impl Machine {
    /// A call whose media stream has started. The first action is to connect the agent.
    pub fn new(settings: Settings, now: Instant, out: &mut Outbox) -> Self {
        out.push(Action::ConnectAgent(Dial::First));
        let playback = Playback::counting(settings.capabilities.wants_heard_ms());
        Machine {
            ends_by: now + settings.max_duration,
            outage: Outage::new(settings.seed, now),
            settings,
            phase: Phase::Talking,
            agent: AgentState::Connecting,
            connection: Connection::new(Dial::First),
            hold: Hold::default(),
            carrier_heard: now,
            carrier_asked: false,
            quiet_since: now,
            quiet_asked: false,
            speaking: None,
            check_unheard: false,
            uplink: Uplink::default(),
            playback,
            turn_open: false,
            turn_segment: None,
            saying: VecDeque::new(),
            spoke: false,
            reply_due: false,
            owed_turns: 0,
            paused: false,
            turn: Turn::default(),
            tools: Tools::default(),
            waiting_tool: None,
            hangs_up: false,
            keys: Collector::default(),
            prompts: VecDeque::new(),
            prompts_given: 0,
            awaited: None,
            context: 0,
            garbage: 0,
            over: None,
        }
    }

    /// Takes what happened, says what to do.
    pub fn handle(&mut self, now: Instant, event: Event<'_>, out: &mut Outbox) {
        if self.is_over() {
            return;
        }
        match event {
            Event::Carrier(carrier) => self.carrier(now, carrier, out),
            Event::AgentOpened => self.agent_opened(now),
            Event::AgentAlive => self.connection.alive(),
            Event::AgentExpires(at) => self.agent_expires(now, at),
            Event::Agent(event) => {
                // Before it is ready an agent has nothing to say but why not.
                let taken = match self.agent {
                    AgentState::Ready => true,
                    AgentState::Opened { .. } => matches!(
                        event,
                        agent::Event::Ready { .. }
                            | agent::Event::Error { .. }
                            | agent::Event::Ignored { .. }
                    ),
                    _ => false,
                };
                if taken {
                    self.agent(now, event, out);
                }
            }
            Event::AgentClosed(closed) => self.agent_closed(now, closed, out),
            Event::HangUpAnswered { ended } => self.hang_up_answered(now, ended, out),
            Event::RedirectAnswered(answer) => self.redirect_answered(now, answer, out),
            Event::Returned => self.returned(now, out),
            Event::ToolDone { ticket, outcome } => self.tool_done(now, ticket, outcome, out),
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
            Phase::Goodbye(goodbye) => {
                // Where the caller speaks into it, they are waited for.
                let waits = goodbye.may_be_withdrawn() && self.agent == AgentState::Ready;
                let speech = self.caller_speaks_until().filter(|_| waits);
                speech.max(Some(goodbye.next_deadline()))
            }
            Phase::Away(away) => Some(away.deadline()),
            Phase::Talking => None,
        };
        let others = [
            Some(self.ends_at()),
            self.over.map(|(by, _)| by),
            self.carrier_deadline(),
            self.hold_due(),
            self.quiet_until(),
            self.tools_due(),
            self.keys.due(),
        ];
        let connection = self.connection_deadlines();
        phase
            .into_iter()
            .chain(others.into_iter().flatten())
            .chain(connection.into_iter().flatten())
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
        let texts = |texts: &VecDeque<String>| -> usize {
            let words: usize = texts.iter().map(String::capacity).sum();
            words + texts.capacity() * size_of::<String>()
        };
        let prompts = self.prompts.iter().chain(&self.awaited);
        let prompts: usize = prompts.map(|words| words.0.capacity()).sum();
        texts(&self.saying)
            + prompts
            + self.tools.footprint()
            + self.connection.footprint()
            + self.uplink.footprint()
            + self.playback.footprint()
    }

    /// Twilio sends 50 frames a second, silence included; a media socket from which nothing comes
    /// is asked for a sign of life and then given up.
    fn carrier_deadline(&self) -> Option<Instant> {
        // While it is away there is none.
        if matches!(self.phase, Phase::Away(_)) {
            return None;
        }
        let patience = if self.carrier_asked {
            CARRIER_SILENCE + CARRIER_PONG
        } else {
            CARRIER_SILENCE
        };
        Some(self.carrier_heard + patience)
    }

    fn carrier(&mut self, now: Instant, carrier: Carrier<'_>, out: &mut Outbox) {
        self.carrier_heard = now;
        self.carrier_asked = false;
        if matches!(self.phase, Phase::Away(_)) {
            return self.away_carrier(now, &carrier, out);
        }
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
                    self.uplink.listen(now, mulaw);
                    self.uplink.sent(now, mulaw);
                    let range = out.keep(mulaw);
                    out.push(Action::ToAgent(range));
                }
                AgentState::Gone => {}
                _ => {
                    let filled = self.uplink.gap(timestamp_ms, mulaw.len());
                    self.uplink.listen(now, mulaw);
                    let dropped = self.uplink.hold(now, filled, mulaw);
                    if dropped > 0 {
                        out.note(Note::CallerAudioDropped { bytes: dropped });
                    }
                }
            },
            Carrier::Mark { name } => {
                if self.playback.echoed(now, name) == Echo::Heard {
                    if let Some(after) = self.turn.heard(now, name) {
                        out.note(Note::AnswerHeard { after });
                    }
                    self.goodbye_step(now, out);
                }
            }
            Carrier::Key { key } => self.key(now, key, out),
            Carrier::Other => {}
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
            agent::Event::Ready { chat, resumed } => self.agent_ready_now(now, chat, resumed, out),
            agent::Event::Audio { segment, mulaw } => self.agent_audio(now, segment, mulaw, out),
            agent::Event::SegmentEnd { .. } => {
                self.saying.pop_front();
                self.mark(out);
            }
            agent::Event::TurnDone => {
                self.agent_goes_on();
                if !self.reply_due {
                    self.uplink.answered();
                }
                self.saying.clear();
                self.turn_open = false;
                self.turn_segment = None;
                self.owed_turns = self.owed_turns.saturating_sub(1);
                self.mark(out);
                // A farewell has been said when its words have, whatever other turns there were.
                if let Phase::Goodbye(goodbye) = &mut self.phase
                    && (self.owed_turns == 0 || goodbye.farewell_begun())
                {
                    goodbye.turn_done();
                }
                self.goodbye_step(now, out);
            }
            agent::Event::Interrupt => self.interrupt(now, out),
            agent::Event::CallerSpeaks => self.caller_speaks(now, out),
            agent::Event::CallerSpoke => {
                self.connection.listens();
                self.speaking = None;
                self.expect_another_turn();
                self.caller_spoke(now, out);
            }
            // The driver tells it in time that runs.
            agent::Event::Expires { .. } => {}
            // It runs ahead of the sound or behind it, and may be all there is: speech is what sounds.
            agent::Event::Transcript { .. } if self.settings.capabilities.hears_speech => {
                self.connection.listens();
            }
            // To nobody.
            agent::Event::Transcript {
                role: Role::Agent, ..
            } if matches!(self.phase, Phase::Away(_)) => self.connection.talks(),
            agent::Event::Transcript {
                role: Role::Agent,
                text,
                ..
            } => {
                self.connection.speaks();
                self.prompts_answered();
                self.reply_due = false;
                self.turn_open = true;
                let words: usize = self.saying.iter().map(String::len).sum();
                if !text.trim().is_empty() && words + text.len() <= MAX_WORDS {
                    self.saying.push_back(text.to_owned());
                }
                if let Phase::Goodbye(goodbye) = &mut self.phase {
                    goodbye.agent_speaks(now);
                    goodbye.says(now, text);
                }
            }
            agent::Event::Transcript {
                role: Role::Caller,
                text,
                interim,
                replace,
            } => {
                self.connection.talks();
                // An improved transcript of what was said before is not speech over what is said now.
                if !replace && !text.trim().is_empty() {
                    self.caller_words(now, interim, out);
                } else if replace && !interim {
                    self.caller_is_there(now);
                    self.uplink.understood(now);
                }
            }
            agent::Event::ToolCall {
                call_id,
                name,
                arguments,
                expects_reply,
            } => {
                // What can still think can still answer.
                self.connection.talks();
                self.tool_call(now, call_id, name, arguments, expects_reply, out);
            }
            agent::Event::ToolCancelled { call_id } => self.tool_cancelled(now, call_id, out),
            agent::Event::Error { code, ends } => {
                out.note(Note::AgentError {
                    code: code.to_owned(),
                });
                let ready = self.agent == AgentState::Ready;
                self.connection.errs(now, ends, ready);
            }
            agent::Event::Ignored { why } => out.note(Note::AgentIgnored(why)),
        }
    }

    fn agent_audio(&mut self, now: Instant, segment: SegmentId, mulaw: &[u8], out: &mut Outbox) {
        let wanted = match &mut self.phase {
            Phase::Talking => true,
            Phase::Goodbye(goodbye) => goodbye.wants_audio(now),
            Phase::HangingUp { .. } | Phase::Away(_) | Phase::Over => false,
        };
        if matches!(self.phase, Phase::Away(_)) && self.playback.accepts(now, segment) {
            // Nor is its end to be heard without its beginning, should the caller be back by then.
            self.playback.cut_at(segment);
        }
        if !wanted || mulaw.is_empty() || !self.playback.accepts(now, segment) {
            out.note(Note::AudioDropped { bytes: mulaw.len() });
            return;
        }
        self.connection.speaks();
        self.prompts_answered();
        self.reply_due = false;
        self.check_unheard = false;
        self.turn_open = true;
        self.turn_segment = Some(segment);
        self.spoke = true;
        self.quiet_since = now;
        self.send_to_caller(now, segment, mulaw, out);
        let farewell_next = self.settings.capabilities.hears_speech && self.owed_turns <= 1;
        if let Phase::Goodbye(goodbye) = &mut self.phase {
            goodbye.agent_speaks(now);
            if farewell_next {
                goodbye.says_its_farewell(now);
            }
            goodbye.sounds();
        }
    }

    fn send_to_caller(
        &mut self,
        now: Instant,
        segment: SegmentId,
        mut mulaw: &[u8],
        out: &mut Outbox,
    ) {
        let counted = self.settings.capabilities.wants_heard_ms();
        while !mulaw.is_empty() {
            let most = self.playback.until_mark(now, segment).min(MAX_PIECE);
            let (piece, rest) = mulaw.split_at(most.min(mulaw.len()));
            self.playback.sent(now, segment, piece.len());
            if let Some(after) = self.turn.audio(now, playback::duration(piece.len())) {
                out.note(Note::Answered { after });
            }
            let range = out.keep(piece);
            out.push(Action::Play(range));
            if counted && piece.len() == most {
                self.mark(out);
            }
            mulaw = rest;
        }
    }

    fn mark(&mut self, out: &mut Outbox) {
        if let Some(name) = self.playback.mark() {
            self.turn.marked(&name);
            out.push(Action::Mark(name));
        }
    }

    /// What the agent was saying is over, in whatever way.
    fn turn_over(&mut self) {
        self.turn_open = false;
        self.turn_segment = None;
        self.owed_turns = 0;
        self.saying.clear();
        self.turn.cut();
    }

    fn deadlines(&mut self, now: Instant, out: &mut Outbox) {
        match &self.phase {
            Phase::Over => return,
            Phase::HangingUp {
                cause,
                deadline,
                streamless,
            } => {
                if now >= *deadline {
                    let cause = *cause;
                    if *streamless && self.over.is_none() {
                        out.note(Note::GoesOn);
                    }
                    self.end(cause, 1000, out);
                }
                return;
            }
            Phase::Goodbye(goodbye) if now >= goodbye.next_deadline() => {
                self.goodbye_step(now, out);
                if self.is_over() {
                    return;
                }
            }
            Phase::Away(_) => {
                self.away_step(now, out);
                if self.is_over() {
                    return;
                }
            }
            Phase::Goodbye(_) | Phase::Talking => {}
        }
        if let Some((by, cause)) = self.over
            && now >= by
        {
            out.note(Note::Lingered);
            return self.end(cause, 1000, out);
        }
        if self.carrier_deadline().is_some_and(|at| now >= at) {
            if self.carrier_asked {
                return self.end(Cause::CarrierLost, 1001, out);
            }
            self.carrier_asked = true;
            out.push(Action::PingCarrier);
        }
        // An input may withdraw a goodbye, which had more time than a conversation.
        self.keys_step(now, out);
        if now >= self.ends_at() {
            return self.time_is_up(now, out);
        }
        self.connection_step(now, out);
        self.tools_step(now, out);
        self.hold_step(now, out);
        self.quiet_step(now, out);
    }
}
