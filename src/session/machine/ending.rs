//! How a call ends: politely where it can, and always.
//!
//! A goodbye lets what is being said be heard; a farewell of ours is said by the agent if there is one
//! that listens, and by Twilio after the stream if not. Then the end is ordered at Twilio, or, where
//! the caller is to meet something else, the stream is closed and Twilio asks.

use std::time::{Duration, Instant};

use super::{Action, AgentState, LONGEST_SENTENCE, Machine, Note, Outbox, Phase};
use crate::session::{
    cause::Cause,
    goodbye::Goodbye,
    order::{After, Words},
};

/// From ordering the end of the call at Twilio's REST API to closing the socket regardless.
const HANG_UP_LIMIT: Duration = Duration::from_secs(4);
/// The same where there is no socket by which the call would end: Twilio is asked again and again.
const STREAMLESS_LIMIT: Duration = Duration::from_secs(32);
/// From Twilio's "it is over" to the socket's own end.
const STOP_LIMIT: Duration = Duration::from_millis(500);
/// What a polite end may take beyond the longest duration of a call.
const LAST_WORDS: Duration = Duration::from_secs(60);
/// Who has been asked whether they are there has at most so long to answer.
const CHECK_PATIENCE: Duration = Duration::from_secs(15);

impl Machine {
    pub(super) fn say_goodbye(&mut self, now: Instant, goodbye: Goodbye, out: &mut Outbox) {
        match &mut self.phase {
            Phase::Talking => {
                out.note(Note::HangingUp(goodbye.cause()));
                self.phase = Phase::Goodbye(goodbye);
            }
            // An operator's order makes an agent's goodbye final; nothing else changes it.
            Phase::Goodbye(current) => {
                let stays = current.errand().is_none();
                current.confirm(&goodbye);
                if !stays && current.errand().is_none() {
                    out.note(Note::HangingUp(goodbye.cause()));
                }
            }
            Phase::Away(_) => return self.hang_up(now, goodbye.cause(), out),
            Phase::HangingUp { .. } | Phase::Over => return,
        }
        self.hold_stop(now, out);
        if self.agent != AgentState::Ready {
            // Nobody is looked for who would have nothing to say.
            self.close_agent(out);
            if let Phase::Goodbye(goodbye) = &mut self.phase {
                goodbye.agent_gone();
            }
        }
        self.goodbye_step(now, out);
    }

    pub(super) fn withdraw_goodbye(&mut self, out: &mut Outbox) {
        if let Phase::Goodbye(goodbye) = &self.phase
            && goodbye.may_be_withdrawn()
            && self.agent != AgentState::Gone
        {
            self.phase = Phase::Talking;
            self.connection.unsay();
            out.note(Note::GoodbyeWithdrawn);
        }
    }

    /// Moves a goodbye on: is everything said, is everything heard?
    pub(super) fn goodbye_step(&mut self, now: Instant, out: &mut Outbox) {
        let speaks = self.caller_speaks_on(now) && self.agent == AgentState::Ready;
        let Phase::Goodbye(goodbye) = &mut self.phase else {
            return;
        };
        if !goodbye.all_said(now) {
            return;
        }
        // Whoever is speaking is heard out: it may be a second thought.
        if goodbye.may_be_withdrawn() && speaks {
            return;
        }
        if let Some(name) = self.playback.mark() {
            self.turn.marked(&name);
            out.push(Action::Mark(name));
        }
        let (cause, errand) = (goodbye.cause(), goodbye.errand().cloned());
        if self.playback.drained() || goodbye.all_heard_by(now, self.playback.queued(now)) {
            match goodbye.after() {
                _ if errand.is_some() => {}
                Some(after) => {
                    out.push(Action::Decide(after.clone()));
                    self.end(cause, 1000, out);
                }
                None => self.hang_up(now, cause, out),
            }
            if let Some(errand) = errand {
                self.depart(now, errand, out);
            }
        }
    }

    pub(super) fn hang_up(&mut self, now: Instant, cause: Cause, out: &mut Outbox) {
        match self.phase {
            Phase::Talking => out.note(Note::HangingUp(cause)),
            Phase::Goodbye(_) | Phase::Away(_) if self.on_an_errand() => {
                out.note(Note::HangingUp(cause));
            }
            Phase::Goodbye(_) | Phase::Away(_) => {}
            Phase::HangingUp { .. } | Phase::Over => return,
        }
        let streamless = matches!(&self.phase, Phase::Away(away) if away.streamless());
        self.forget_tools(out);
        self.close_agent(out);
        out.push(Action::Decide(After::HangUp));
        out.push(Action::HangUp { streamless });
        self.phase = Phase::HangingUp {
            cause,
            deadline: now
                + match streamless {
                    true => STREAMLESS_LIMIT,
                    false => HANG_UP_LIMIT,
                },
            streamless,
        };
    }

    /// The daemon leaves. Only a call that is still connected can be told so, and only by what
    /// follows the stream: so the stream is closed, and Twilio asks.
    pub(super) fn drain_expired(&mut self, now: Instant, out: &mut Outbox) {
        // Whoever is rung, or sounds keys, needs us only afterwards, and finds another instance then.
        if matches!(self.phase, Phase::Away(_)) {
            return self.end(Cause::Drain, 1000, out);
        }
        if let Phase::HangingUp { deadline, .. } = &mut self.phase {
            // There is no time left in which Twilio could be asked again and again.
            *deadline = (now + HANG_UP_LIMIT).min(*deadline);
        }
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

    pub(super) fn hang_up_answered(&mut self, now: Instant, ended: bool, out: &mut Outbox) {
        let Phase::HangingUp {
            cause,
            deadline,
            streamless,
        } = &mut self.phase
        else {
            return;
        };
        if ended {
            // Twilio now sends its stop; it is not waited for long.
            *deadline = now + STOP_LIMIT;
        } else {
            let cause = *cause;
            out.note(match *streamless {
                true => Note::GoesOn,
                false => Note::RestFailed,
            });
            self.end(cause, 1000, out);
        }
    }

    pub(super) fn end(&mut self, cause: Cause, close_code: u16, out: &mut Outbox) {
        self.forget_tools(out);
        self.close_agent(out);
        self.phase = Phase::Over;
        self.uplink.forget();
        out.push(Action::End { cause, close_code });
    }

    /// When the call is ended at the latest: politely, or however.
    pub(super) fn ends_at(&self) -> Instant {
        match self.phase {
            Phase::Talking => self.ends_by,
            _ => self.ends_by + LAST_WORDS,
        }
    }

    pub(super) fn time_is_up(&mut self, now: Instant, out: &mut Outbox) {
        match self.phase {
            Phase::Talking => {}
            // They may be talking with somebody by now.
            Phase::Away(_) => return self.end(Cause::MaxDuration, 1000, out),
            _ => return self.hang_up(now, Cause::MaxDuration, out),
        }
        let words = self.settings.max_duration_farewell.clone();
        self.farewell(
            now,
            Cause::MaxDuration,
            true,
            words,
            After::MaxDurationFarewell,
            out,
        );
    }

    /// Ends the call with words of the operator's: the agent's to say, or Twilio's if it does not.
    fn farewell(
        &mut self,
        now: Instant,
        cause: Cause,
        firm: bool,
        words: Option<Words>,
        after: After,
        out: &mut Outbox,
    ) {
        let ordered = Goodbye::ordered(cause, now, self.words_to_come());
        let goodbye = match words {
            None => ordered,
            Some(words) if self.can_say() => {
                self.have_said(words.clone(), out);
                Goodbye::farewell(cause, now, firm, words, after)
            }
            Some(_) => ordered.followed_by(after),
        };
        self.say_goodbye(now, goodbye, out);
    }

    /// There is an agent that speaks our words.
    pub(super) fn can_say(&self) -> bool {
        let there = !matches!(self.phase, Phase::Away(_));
        there && self.agent == AgentState::Ready && !self.is_mute()
    }

    /// The agent says nothing that it is given, and will not when it is there.
    pub(super) fn is_mute(&self) -> bool {
        self.paused || !self.settings.capabilities.says()
    }

    pub(super) fn have_said(&mut self, words: Words, out: &mut Outbox) {
        // The turn that is open or due now ends first; the words have one of their own. An agent that
        // says them in the same turn is waited for in vain, for no longer than any quiet agent.
        // A tool leaves a turn open that the words do not wait for, where the agent tells speech from turns.
        let able = self.settings.capabilities;
        let aside = able.hears_speech && self.tools.busy();
        if self.owed_turns == 0 && (self.turn_open || self.reply_due) && !aside {
            self.owed_turns = 1;
        }
        self.owed_turns = self.owed_turns.saturating_add(1);
        self.connection.given(&words);
        out.push(Action::Say(words));
    }

    /// Until when nothing need be heard of the caller.
    pub(super) fn quiet_until(&self) -> Option<Instant> {
        let watch = self.settings.no_input.as_ref()?;
        let talking = matches!(self.phase, Phase::Talking);
        let busy = self.paused || self.tools.busy();
        if !talking || self.agent != AgentState::Ready || busy {
            return None;
        }
        let since = self.playback.plays_until().max(Some(self.quiet_since))?;
        let until = since
            + match self.quiet_asked {
                false => watch.timeout,
                true => watch.timeout.min(CHECK_PATIENCE),
            };
        // Nobody is interrupted who is speaking; a line that is never silent is not a caller.
        let speech = self.uplink.pauses_at().max(self.caller_speaks_until());
        let pause = speech.filter(|pause| *pause > until);
        Some(pause.map_or(until, |pause| pause.min(until + LONGEST_SENTENCE)))
    }

    pub(super) fn quiet_step(&mut self, now: Instant, out: &mut Outbox) {
        if self.quiet_until().is_none_or(|until| now < until) {
            return;
        }
        let Some(watch) = &self.settings.no_input else {
            return;
        };
        let asked = std::mem::replace(&mut self.quiet_asked, true);
        if let Some(words) = watch.check.clone().filter(|_| !asked && self.can_say()) {
            self.quiet_since = now;
            self.check_unheard = true;
            out.note(Note::NoInputCheck);
            return self.have_said(words, out);
        }
        if self.check_unheard {
            // Then it is the agent of whom nothing is heard, and the caller may have been speaking.
            return self.agent_mute(now, out);
        }
        let words = watch.farewell.clone();
        self.farewell(
            now,
            Cause::NoInput,
            false,
            words,
            After::NoInputFarewell,
            out,
        );
    }
}
