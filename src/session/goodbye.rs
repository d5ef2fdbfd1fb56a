//! When a call that is being ended politely has really been said goodbye to.
//!
//! An agent that hangs up speaks its farewell before the tool call, after the tool's answer, or
//! both; the end of its turn is announced, or not, or too early. So the farewell counts as *said*
//! when the turn is done and nothing more is to be expected, or the agent is gone, or it has been
//! quiet for long, or the cap is reached; and as *heard* when the last mark comes back, or when by
//! added-up duration plus a margin it must have been. Every wait is bounded.

use std::time::{Duration, Instant};

use super::{cause::Cause, order::After};

/// After the answer to `hang_up`, how long a farewell may take to begin even though the turn that
/// made the tool call is done: a language model thinks about a second.
const FAREWELL_BEGINS: Duration = Duration::from_millis(2500);
/// The same when the agent has said nothing at all since the caller's last words: to end a call
/// without a word would be rude, so the model gets more time.
const FIRST_WORD_BEGINS: Duration = Duration::from_secs(4);
/// An agent that sends nothing for this long has finished, whether it says so or not.
const QUIET: Duration = Duration::from_secs(4);
/// No farewell takes longer to generate.
const CAP: Duration = Duration::from_secs(30);
/// From the last sample's play-out, as added up, to giving up on its mark.
const MARK_MARGIN: Duration = Duration::from_secs(2);

/// A goodbye under way.
#[derive(Debug)]
pub struct Goodbye {
    cause: Cause,
    /// What the caller meets after it, if not the end of the call.
    after: Option<After>,
    asked: Instant,
    /// Firm goodbyes are not withdrawn when the caller speaks.
    firm: bool,
    turn_done: bool,
    /// A farewell may still begin until then, though the turn is done.
    may_begin_until: Instant,
    /// What is said from now on is the farewell, not the rest of something said before.
    next_is_farewell: bool,
    agent_gone: bool,
    last_activity: Instant,
    /// Set when everything has been said: the deadline for hearing it.
    heard_by: Option<Instant>,
}

impl Goodbye {
    /// The agent called `hang_up`. `turn_open`: it has not said that its turn is done; `spoke`: it
    /// has said something since the caller did.
    pub fn of_agent(now: Instant, turn_open: bool, spoke: bool) -> Self {
        Goodbye {
            cause: Cause::AgentHungUp,
            after: None,
            asked: now,
            firm: false,
            turn_done: !turn_open,
            may_begin_until: now
                + if spoke {
                    FAREWELL_BEGINS
                } else {
                    FIRST_WORD_BEGINS
                },
            next_is_farewell: !spoke,
            agent_gone: false,
            last_activity: now,
            heard_by: None,
        }
    }

    /// Somebody else ends the call: what is being said is heard, nothing new is begun.
    pub fn ordered(cause: Cause, now: Instant, turn_open: bool) -> Self {
        Goodbye {
            cause,
            after: None,
            asked: now,
            firm: true,
            turn_done: !turn_open,
            may_begin_until: now,
            next_is_farewell: false,
            agent_gone: false,
            last_activity: now,
            heard_by: None,
        }
    }

    /// The agent was given a farewell to say.
    pub fn farewell(cause: Cause, now: Instant, firm: bool) -> Self {
        Goodbye {
            firm,
            cause,
            ..Goodbye::of_agent(now, true, false)
        }
    }

    /// There is no agent any more, and what it has said is still being heard.
    pub fn without_agent(cause: Cause, now: Instant) -> Self {
        Goodbye {
            agent_gone: true,
            ..Goodbye::ordered(cause, now, false)
        }
    }

    /// When everything has been heard, the stream is closed and the caller meets this.
    pub fn followed_by(self, after: After) -> Self {
        Goodbye {
            after: Some(after),
            ..self
        }
    }

    pub fn after(&self) -> Option<After> {
        self.after
    }

    pub fn cause(&self) -> Cause {
        self.cause
    }

    pub fn may_be_withdrawn(&self) -> bool {
        !self.firm
    }

    /// A second wish to end the call: a firm one makes this one firm.
    pub fn confirm(&mut self, other: &Goodbye) {
        self.firm |= other.firm;
        if other.firm {
            self.may_begin_until = other.may_begin_until;
            // Somebody wants the call ended, with or without its agent.
            if let Cause::AgentFailed(_) = self.cause {
                self.cause = other.cause;
            }
        }
    }

    /// Is more of the agent's audio part of this goodbye?
    pub fn wants_audio(&self, now: Instant) -> bool {
        let finished = self.firm && self.turn_done;
        !finished && now < self.asked + CAP
    }

    /// The agent says something more.
    pub fn agent_speaks(&mut self, now: Instant) {
        self.last_activity = now;
        if self.wants_audio(now) {
            // Otherwise this may be the rest of what was said before the tool call, and the
            // farewell still to come.
            if self.next_is_farewell {
                self.may_begin_until = now;
            }
            self.turn_done = false;
            self.heard_by = None;
        }
    }

    pub fn turn_done(&mut self) {
        self.turn_done = true;
    }

    pub fn agent_gone(&mut self) {
        self.agent_gone = true;
    }

    /// Has the agent said all it will say?
    pub fn all_said(&self, now: Instant) -> bool {
        self.agent_gone
            || (self.turn_done && now >= self.may_begin_until)
            || now >= self.last_activity + QUIET
            || now >= self.asked + CAP
    }

    /// Everything is said and `queued` of it is still to be heard: must it have been heard by now?
    /// The first question sets the deadline.
    pub fn all_heard_by(&mut self, now: Instant, queued: Duration) -> bool {
        now >= *self.heard_by.get_or_insert(now + queued + MARK_MARGIN)
    }

    /// When the answers above change by themselves.
    pub fn next_deadline(&self) -> Instant {
        if let Some(heard_by) = self.heard_by {
            return heard_by;
        }
        let quiet = (self.last_activity + QUIET).min(self.asked + CAP);
        if self.turn_done {
            quiet.min(self.may_begin_until)
        } else {
            quiet
        }
    }
}
