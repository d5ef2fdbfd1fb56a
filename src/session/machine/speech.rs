//! Who is speaking: the caller, as far as anybody tells, and what that means for what the agent says.
//!
//! An agent tells an interruption, or only that the caller speaks, or nothing but their words when they have
//! ended; each is read for what it is worth. What the caller has not heard is taken back once.

use std::time::Instant;

use super::{Action, AgentState, LONGEST_SENTENCE, Machine, Note, Outbox, Phase};
use crate::session::playback::Cut;

impl Machine {
    /// Something is heard of the caller, whatever it is.
    pub(super) fn caller_is_there(&mut self, now: Instant) {
        self.quiet_since = now;
        self.quiet_asked = false;
        if std::mem::take(&mut self.check_unheard) {
            self.connection.unsay();
        }
    }

    /// The caller has said something.
    pub(super) fn caller_words(&mut self, now: Instant, interim: bool, out: &mut Outbox) {
        self.caller_is_there(now);
        // An agent that has finished generating may not tell an interruption, only the words: what
        // is still being heard would be talked over, and the next reply would queue behind it.
        // A paused one will not tell either.
        let told = self.turn_open && !self.paused;
        if self.settings.words_interrupt && !told && self.playback.unheard(now) {
            self.cut(now, out);
        }
        if !interim {
            self.caller_spoke(now, out);
        }
    }

    /// The caller has said something, to its end.
    pub(super) fn caller_spoke(&mut self, now: Instant, out: &mut Outbox) {
        self.caller_is_there(now);
        self.spoke = false;
        self.reply_due = true;
        self.uplink.understood(now);
        // Words whose transcript comes when the answer has begun tell nothing about its delay, and
        // a paused agent's answer does not come.
        if !self.turn_open && !self.paused {
            self.turn.asked(now);
        }
        self.withdraw_goodbye(out);
    }

    /// The conversation goes on. Of an agent with an ear of its own only its voice proves that it can
    /// still answer: it may hear, and end turn after turn, with nothing left to pay for a word.
    pub(super) fn agent_goes_on(&mut self) {
        match self.settings.capabilities.hears_speech {
            true => self.connection.listens(),
            false => self.connection.talks(),
        }
    }

    /// The agent hears the caller speak at the moment, and has not for longer than anybody speaks.
    pub(super) fn caller_speaks_on(&self, now: Instant) -> bool {
        self.caller_speaks_until().is_some_and(|until| now < until)
    }

    /// Until when that may be so, if the end is never told.
    pub(super) fn caller_speaks_until(&self) -> Option<Instant> {
        self.speaking.map(|since| since + LONGEST_SENTENCE)
    }

    /// What the caller has just said is answered in a turn of its own, before the words that the agent
    /// was given and has not begun to say.
    pub(super) fn expect_another_turn(&mut self) {
        if let Phase::Goodbye(goodbye) = &self.phase
            && goodbye.farewell_to_come()
            && !self.paused
        {
            self.owed_turns = self.owed_turns.saturating_add(1);
        }
    }

    /// The agent hears the caller begin, and cannot tell whether there is anything to interrupt.
    pub(super) fn caller_speaks(&mut self, now: Instant, out: &mut Outbox) {
        self.connection.listens();
        // The end of what was said before nobody listened any more.
        if let Phase::Away(_) = self.phase {
            return;
        }
        self.speaking = Some(now);
        self.caller_is_there(now);
        if self.playback.unheard(now) || (self.turn_open && self.turn_segment.is_some()) {
            self.interrupt(now, out);
        }
    }

    /// The agent says that the caller interrupts.
    pub(super) fn interrupt(&mut self, now: Instant, out: &mut Outbox) {
        if self.playback.unheard(now) {
            self.caller_is_there(now);
            self.cut(now, out);
        } else if let Some(segment) = self.turn_segment.filter(|_| self.turn_open) {
            self.caller_is_there(now);
            // Between two sentences: there is nothing to clear, but what is on its way of this
            // turn is stale.
            self.turn_over();
            out.push(Action::AgentHeard(self.playback.cut_at(segment)));
            self.withdraw_goodbye(out);
        } else {
            // EVI can report an interruption on the first silence, before it has said a word: there
            // is nothing to interrupt, and the greeting must not be lost.
            out.note(Note::SpuriousInterruption);
        }
    }

    /// Tells the agent what was heard of what has been cut; one that is only just coming knows nothing
    /// of it.
    pub(super) fn tell_heard(&self, cuts: impl IntoIterator<Item = Cut>, out: &mut Outbox) {
        if self.agent == AgentState::Ready {
            out.actions.extend(cuts.into_iter().map(Action::AgentHeard));
        }
    }

    /// Takes back what the caller has not heard.
    pub(super) fn cut(&mut self, now: Instant, out: &mut Outbox) {
        let unheard = self.playback.queued(now);
        // Nobody wants to hear the rest of that answer, so its question need not be repeated.
        if !self.reply_due {
            self.uplink.answered();
        }
        out.push(Action::Clear);
        let cuts = self.playback.clear(now);
        self.tell_heard(cuts, out);
        self.turn_over();
        out.note(Note::BargeIn { unheard });
        self.withdraw_goodbye(out);
        if let Phase::Goodbye(goodbye) = &mut self.phase {
            // An operator's order stands; the words it waited for have been cut.
            goodbye.turn_done();
            self.goodbye_step(now, out);
        }
    }
}
