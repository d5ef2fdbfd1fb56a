//! Orders: what the machine makes of an operator's word.
//!
//! Each order is answered with one [`Verdict`] behind the actions it led to: whoever gave it is told
//! what was decided, not what was hoped for. What the agent could not do, or would do too late to
//! be heard, is refused. A paused agent listens and says nothing; what it had sent before is in the
//! caller's ear already and is heard to its end, and nothing waits for words that it will not say.

use std::time::Instant;

use super::{Action, AgentState, Machine, Note, OVER_LIMIT, Outbox, Phase};
use crate::{
    agent::Saying,
    session::{
        cause::Cause,
        errand::Errand,
        goodbye::Goodbye,
        order::{After, MAX_CONTEXT, Order, Refusal, Verdict, Words},
    },
};

impl Machine {
    pub(super) fn obey(&mut self, now: Instant, order: Order, out: &mut Outbox) {
        let nearly = self.settings.capabilities.say == Saying::Nearly;
        let says = matches!(order, Order::Say(_));
        let verdict = match order {
            Order::HangUp { now: true } => {
                self.hang_up(now, Cause::Operator, out);
                Ok(true)
            }
            Order::HangUp { now: false } => {
                let goodbye = Goodbye::ordered(Cause::Operator, now, self.words_to_come());
                self.say_goodbye(now, goodbye, out);
                Ok(true)
            }
            Order::DrainExpired => {
                self.drain_expired(now, out);
                Ok(true)
            }
            Order::CallOver { caller_left } => {
                self.call_over(now, caller_left, out);
                Ok(true)
            }
            Order::Say(words) => self.say(words, out),
            Order::AddContext(words) => self.add_context(words, out),
            Order::Pause => self.pause(out),
            Order::Resume => self.resume(now, out),
            Order::Transfer(transfer) => self.transfer(now, Errand::Transfer(transfer), out),
            Order::Transferred(what) => self.transferred(now, what, out),
            Order::ErrandBegun => Ok(self.errand_begun(now)),
        };
        out.push(Action::Verdict(match verdict {
            Ok(true) if says && nearly => Verdict::Nearly,
            Ok(true) => Verdict::Done,
            Ok(false) => Verdict::Already,
            Err(refusal) => Verdict::Refused(refusal),
        }));
    }

    /// Twilio tells by a webhook what the media socket mostly tells some moments later, and sometimes
    /// never: a socket without a call is given that time, and then closed.
    fn call_over(&mut self, now: Instant, caller_left: bool, out: &mut Outbox) {
        if let Phase::Away(_) = self.phase {
            // Its stream is meant to be over, and no socket will tell that the caller has left.
            if caller_left {
                out.push(Action::Decide(After::HangUp));
                self.end(Cause::CallerHungUp, 1000, out);
            }
            return;
        }
        let cause = match caller_left {
            true => Cause::CallerHungUp,
            false => Cause::CarrierLost,
        };
        let by = now + OVER_LIMIT;
        match &mut self.phase {
            // Of a call whose stream was over before, the end of that says nothing.
            Phase::HangingUp {
                streamless: true, ..
            } if !caller_left => return,
            Phase::HangingUp { deadline, .. } => *deadline = by.min(*deadline),
            _ => {}
        }
        match &mut self.over {
            Some((_, known)) if caller_left => *known = cause,
            Some(_) => {}
            None => self.over = Some((by, cause)),
        }
    }

    /// More is to be heard of the agent without anybody asking: the rest of its turn, or what it
    /// was given to say.
    pub(super) fn words_to_come(&self) -> bool {
        (self.turn_open || self.owed_turns > 0) && !self.paused
    }

    /// There is an agent that listens, and a conversation that goes on.
    fn agent_listens(&self) -> Result<(), Refusal> {
        match (&self.phase, self.agent) {
            (Phase::Talking, AgentState::Ready) => Ok(()),
            (Phase::Talking, _) => Err(Refusal::NotReady),
            _ if self.on_an_errand() => Err(Refusal::Away),
            _ => Err(Refusal::Ending),
        }
    }

    fn say(&mut self, words: Words, out: &mut Outbox) -> Result<bool, Refusal> {
        self.agent_listens()?;
        if !self.settings.capabilities.says() {
            return Err(Refusal::CannotSay);
        }
        if self.paused {
            return Err(Refusal::Paused);
        }
        self.have_said(words, out);
        Ok(true)
    }

    fn add_context(&mut self, words: Words, out: &mut Outbox) -> Result<bool, Refusal> {
        self.agent_listens()?;
        if !self.settings.capabilities.mid_context {
            return Err(Refusal::CannotLearn);
        }
        let context = self.context + words.0.chars().count();
        if context > MAX_CONTEXT {
            return Err(Refusal::KnowsEnough);
        }
        self.context = context;
        out.push(Action::AddContext(words));
        Ok(true)
    }

    fn pause(&mut self, out: &mut Outbox) -> Result<bool, Refusal> {
        self.agent_listens()?;
        if !self.settings.capabilities.pause {
            return Err(Refusal::CannotPause);
        }
        if self.paused {
            return Ok(false);
        }
        self.paused = true;
        // An answer that is not to be given takes no time, and is not given by a successor either.
        self.turn.cut();
        self.saying.clear();
        self.connection.unsay();
        out.push(Action::Pause);
        out.note(Note::Paused);
        Ok(true)
    }

    fn resume(&mut self, now: Instant, out: &mut Outbox) -> Result<bool, Refusal> {
        self.agent_listens()?;
        if !self.settings.capabilities.pause {
            return Err(Refusal::CannotPause);
        }
        if !self.paused {
            return Ok(false);
        }
        self.paused = false;
        self.caller_is_there(now);
        out.push(Action::Resume);
        out.note(Note::Resumed);
        Ok(true)
    }
}
