//! What a call logs.
//!
//! Every line of a call carries the same three fields, CALL_SID, STREAM_SID and AGENT, so that it
//! can be found by any of them; the lines that begin and end it, `session created` and `session
//! ended`, are always there, and between them each kind of line has its [`Budget`]. Nothing that a
//! caller or an agent said is told, and no number; of a peer's own words only names and codes.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use tracing::{Level, level_filters::LevelFilter};

use super::{
    budget::{Budget, Line},
    cause::Cause,
    machine::Note,
    news::Away,
    registry::View,
};
use crate::{agent::link::ConnectError, printable::Printable, twilio::rest::RestError};

/// Tells of one call.
pub struct Teller {
    view: Arc<View>,
    budget: Budget,
}

macro_rules! say {
    ($teller:ident, $level:ident, target: $target:literal, $($rest:tt)*) => {
        tracing::$level!(
            target: $target,
            CALL_SID = $teller.view.facts.call.as_str(),
            STREAM_SID = $teller.view.stream().as_str(),
            AGENT = $teller.view.facts.agent,
            $($rest)*
        )
    };
    ($teller:ident, $level:ident, $($rest:tt)*) => {
        tracing::$level!(
            CALL_SID = $teller.view.facts.call.as_str(),
            STREAM_SID = $teller.view.stream().as_str(),
            AGENT = $teller.view.facts.agent,
            $($rest)*
        )
    };
}

impl Teller {
    pub fn new(view: Arc<View>) -> Self {
        Teller {
            view,
            budget: Budget::default(),
        }
    }

    pub fn created(&self) {
        say!(self, info, "session created");
    }

    /// The media socket was given up because what came from it made no sense.
    pub fn broke(&self, peer: SocketAddr, close_code: u16) {
        say!(
            self,
            warn,
            target: "audit",
            %peer,
            close_code,
            limited = true,
            "media socket closed: it broke the protocol"
        );
    }

    pub fn ended(&self, cause: Cause) {
        let view = &self.view;
        say!(
            self,
            info,
            cause = cause.as_str(),
            seconds = view.started.elapsed().as_secs(),
            frames_in = view.frames_in.load(Relaxed),
            audio_out = view.audio_out.load(Relaxed),
            frames_dropped = view.frames_dropped.load(Relaxed),
            barge_ins = view.barge_ins.load(Relaxed),
            lines_withheld = self.budget.withheld(),
            "session ended"
        );
    }

    /// What the machine notes, as far as it is for a log.
    pub fn note(&mut self, note: &Note) {
        match note {
            Note::AgentReady {
                chat,
                again,
                resumed,
                away,
            } => {
                if self.may(Line::AgentReady, Level::INFO) {
                    let ready_ms = away.as_millis() as u64;
                    let resumed = again.then_some(*resumed);
                    say!(self, info, chat = %Printable(chat), ready_ms, resumed, "connected to agent");
                }
            }
            Note::Retrying { wait } => {
                if self.may(Line::Retrying, Level::INFO) {
                    let wait_ms = wait.as_millis() as u64;
                    say!(self, info, wait_ms, "calling the agent again");
                }
            }
            Note::Recycling { forced } => {
                if self.may(Line::Recycling, Level::INFO) {
                    say!(
                        self,
                        info,
                        forced,
                        "conversation taken up on a new connection, before it is too old"
                    );
                }
            }
            Note::CallerAudioRepeated { bytes } => {
                if self.may(Line::Retrying, Level::DEBUG) {
                    let ms = bytes / 8;
                    say!(self, debug, ms, "agent hears again what was not answered");
                }
            }
            Note::SaidAgain => {
                if self.may(Line::Retrying, Level::DEBUG) {
                    say!(self, debug, "agent says again what it had begun");
                }
            }
            Note::Holding => {
                if self.may(Line::Retrying, Level::INFO) {
                    say!(self, info, "caller hears the hold sound");
                }
            }
            Note::NoInputCheck => {
                if self.may(Line::NoInput, Level::INFO) {
                    say!(self, info, "nothing heard of the caller, asking");
                }
            }
            Note::AgentError { code } => {
                if self.may(Line::AgentError, Level::WARN) {
                    say!(self, warn, code = %Printable(code), "agent reports an error");
                }
            }
            Note::AgentIgnored(why) => {
                if self.may(Line::AgentIgnored, Level::DEBUG) {
                    say!(self, debug, ?why, "agent message skipped");
                }
            }
            Note::AgentClosed(closed) => {
                if self.may(Line::AgentClosed, Level::INFO) {
                    say!(self, info, why = %closed, "agent closed");
                }
            }
            Note::ToolCall { name, answered } => {
                if self.may(Line::ToolCall, Level::INFO) {
                    say!(self, info, tool = %Printable(name), answered, "tool call");
                }
            }
            Note::ToolReplaced => {
                if self.may(Line::ToolCall, Level::DEBUG) {
                    say!(self, debug, "tool call replaced by a newer one");
                }
            }
            Note::Filler => {
                if self.may(Line::ToolCall, Level::DEBUG) {
                    say!(self, debug, "a tool takes long, the agent says so");
                }
            }
            Note::KeysTold { count } => {
                if self.may(Line::Keys, Level::INFO) {
                    say!(
                        self,
                        info,
                        count,
                        "agent is told the keys that the caller pressed"
                    );
                }
            }
            Note::KeyActed => {
                if self.may(Line::Keys, Level::INFO) {
                    say!(self, info, "caller pressed a key with an action");
                }
            }
            Note::Transferred(_) | Note::ToolAnswered { .. } => {}
            Note::Away(errand) => {
                if self.may(Line::Away, Level::INFO) {
                    let why = Away::from(errand).as_str();
                    say!(self, info, why, "call leaves the agent");
                }
            }
            Note::Back { failed } => {
                if self.may(Line::Away, Level::INFO) {
                    let failed = failed.map(|failed| failed.words());
                    say!(self, info, failed, "call is back with the agent");
                }
            }
            Note::BargeIn { unheard } => {
                if self.may(Line::BargeIn, Level::DEBUG) {
                    let unheard_ms = unheard.as_millis() as u64;
                    say!(self, debug, unheard_ms, "caller interrupts");
                }
            }
            Note::SpuriousInterruption => {
                if self.may(Line::SpuriousInterruption, Level::DEBUG) {
                    say!(self, debug, "interruption without unheard audio");
                }
            }
            Note::HangingUp(cause) => {
                if self.may(Line::HangingUp, Level::INFO) {
                    say!(self, info, cause = cause.as_str(), "hanging up");
                }
            }
            Note::GoodbyeWithdrawn => {
                if self.may(Line::GoodbyeWithdrawn, Level::INFO) {
                    say!(self, info, "goodbye withdrawn, the caller speaks");
                }
            }
            Note::Paused => {
                if self.may(Line::Paused, Level::INFO) {
                    say!(self, info, "agent paused");
                }
            }
            Note::Resumed => {
                if self.may(Line::Paused, Level::INFO) {
                    say!(self, info, "agent resumed");
                }
            }
            Note::AudioDropped { bytes } => {
                if self.may(Line::AudioDropped, Level::DEBUG) {
                    say!(self, debug, bytes, "late agent audio dropped");
                }
            }
            Note::SilenceFilled { bytes } => {
                if self.may(Line::SilenceFilled, Level::DEBUG) {
                    say!(self, debug, bytes, "gap in the caller's audio filled");
                }
            }
            Note::RestFailed => {
                if self.may(Line::RestFailed, Level::WARN) {
                    say!(self, warn, "closing the stream instead of the call");
                }
            }
            Note::GoesOn => {
                if self.may(Line::RestFailed, Level::ERROR) {
                    say!(
                        self,
                        error,
                        "the call goes on at Twilio: it was to be ended while it was away, which \
                         only Twilio's REST API can do; end it in Twilio's console"
                    );
                }
            }
            Note::OverDoubted => {
                if self.may(Line::RestFailed, Level::WARN) {
                    say!(
                        self,
                        warn,
                        "Twilio's REST API says that the call is over, and its stream goes on: \
                         closing the stream; check that [twilio] account_sid owns the call"
                    );
                }
            }
            Note::Lingered => {
                if self.may(Line::Lingered, Level::WARN) {
                    say!(
                        self,
                        warn,
                        "media socket closed: Twilio said that its call is over"
                    );
                }
            }
            // Counted only.
            Note::Answered { .. } | Note::AnswerHeard { .. } | Note::CallerAudioDropped { .. } => {}
        }
    }

    pub fn no_agent(&mut self, error: &ConnectError) {
        if self.may(Line::NoAgent, Level::WARN) {
            say!(self, warn, %error, "no connection to the agent");
        }
    }

    /// Agent audio for which the caller's socket had no room.
    pub fn audio_not_sent(&mut self, bytes: u64) {
        if self.may(Line::AudioNotSent, Level::DEBUG) {
            say!(
                self,
                debug,
                bytes,
                "agent audio dropped: Twilio reads too slowly"
            );
        }
    }

    /// Once a call.
    pub fn rest_failed(view: Arc<View>, error: &RestError) {
        let teller = Teller::new(view);
        say!(teller, warn, %error, "Twilio's REST API did not do what it was asked for");
    }

    /// A line below the log's level costs none of the budget.
    fn may(&mut self, line: Line, level: Level) -> bool {
        level <= LevelFilter::current() && self.budget.allows(line)
    }
}
