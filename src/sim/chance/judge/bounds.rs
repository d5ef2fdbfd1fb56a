//! What must have happened by now, and when the machine wants to look again.

use std::time::{Duration, Instant};

use super::{
    BACK_OFF, CARRIER_GONE, CONNECTS, FAILING, FAREWELL, HANGING_UP, HANGING_UP_STREAMLESS, Judge,
    LAST_MARK, LAST_WORDS, LINGERS, LONGEST_SENTENCE, Line, MOST_HELD, Phone, RECYCLING, Rule,
};
use crate::session::machine::Machine;

impl Judge {
    pub(super) fn bounds(&mut self, now: Instant, phone: &Phone, machine: &Machine) {
        let held = machine.footprint();
        self.most_held = self.most_held.max(held);
        self.holds(Rule::Bounded, held <= MOST_HELD, "the call holds too much");
        let next = machine.next_deadline();
        if self.end.is_some() {
            let over = machine.is_over() && next.is_none();
            return self.holds(Rule::Deadline, over, "an end that is none");
        }
        match next {
            None => self.fail(Rule::Deadline, "no deadline"),
            // One more tick for what a larger thing kept from being looked at; not one after the other.
            Some(next) if next <= now => {
                self.overdue += 1;
                let spins = self.overdue > 2;
                self.holds(Rule::Deadline, !spins, "a deadline in the past");
            }
            Some(_) => self.overdue = 0,
        }
        let late = |since: Instant, bound: Duration| now > since + bound;
        let slack = self.slack;
        if let Some(hung_up) = self.hung_up {
            let most = match hung_up.streamless {
                true => HANGING_UP_STREAMLESS,
                false => HANGING_UP,
            };
            let stuck = late(hung_up.at, most + slack);
            return self.holds(Rule::Ends, !stuck, "the hang-up takes for ever");
        }
        let silent = late(self.carrier_heard, CARRIER_GONE + 2 * slack);
        let unheard = silent && self.gone.is_none();
        self.holds(Rule::Ends, !unheard, "the carrier is silent for ever");
        let lingers = self.call_over.is_some_and(|at| late(at, LINGERS + slack));
        self.holds(Rule::Ends, !lingers, "a socket outlives its call");
        let most = self.settings.max_duration + LAST_WORDS;
        let long = late(self.started, most + slack);
        self.holds(Rule::Ends, !long, "a call without an end");
        self.tool_bounds(now);
        if self.talking() {
            let long = late(self.started, self.settings.max_duration + slack);
            self.holds(Rule::Ends, !long, "a call goes on beyond its time");
            self.agent_bounds(now, phone);
        } else if let Some(farewell) = self.farewell {
            let by = (farewell.asked + FAREWELL).max(self.sums) + LAST_MARK + 2 * slack;
            self.holds(Rule::Ends, now <= by, "a goodbye without an end");
        }
        self.line_bounds(now);
    }

    /// The connection at hand is watched.
    fn line_bounds(&mut self, now: Instant) {
        let slack = self.slack;
        let late = |since: Instant, bound: Duration| now > since + bound;
        if let Line::Open { since } = self.line {
            let unready = late(since, self.settings.ready_timeout + slack);
            self.holds(Rule::Liveness, !unready, "an agent is never ready");
        }
        if self.open() {
            let patience = self.settings.ping_interval + self.settings.pong_timeout;
            let dead = late(self.alive, patience + 2 * slack);
            self.holds(
                Rule::Liveness,
                !dead,
                "an agent that is dead is not given up",
            );
            let failing = self
                .failing
                .is_some_and(|since| late(since, FAILING + slack));
            self.holds(
                Rule::Liveness,
                !failing,
                "an agent that fails is not given up",
            );
        }
    }

    /// While the call goes on: there is an agent, or one is looked for; and nobody waits in silence.
    fn agent_bounds(&mut self, now: Instant, phone: &Phone) {
        let slack = self.slack;
        let late = |since: Instant, bound: Duration| now > since + bound;
        if self.line == Line::None {
            let forgotten = self.idle.is_some_and(|idle| late(idle, BACK_OFF + slack));
            self.holds(Rule::Reconnects, !forgotten, "nobody looks for an agent");
        }
        if let Some(away) = self.away {
            let budget = match self.ever_ready {
                true if self.planned => {
                    self.settings.reconnect_budget + CONNECTS + self.settings.ready_timeout
                }
                true => self.settings.reconnect_budget,
                // An attempt that is under way has deadlines of its own.
                false => self.settings.connect_budget + CONNECTS + self.settings.ready_timeout,
            };
            let hopeless = late(away, budget + 2 * slack);
            self.holds(Rule::Reconnects, !hopeless, "it is looked for too long");
        }
        let waits = self.paused || self.tools.busy();
        if let (Line::Ready, false, Some(watch)) = (self.line, waits, &self.settings.no_input) {
            // Somebody who is speaking is let speak, within bounds.
            let patience = watch.timeout + LONGEST_SENTENCE + slack;
            let silent = late(self.quiet.max(self.sums), patience);
            self.holds(Rule::Quiet, !silent, "nobody says anything for ever");
        }
        let may = !self.settings.reconnect_budget.is_zero();
        if let (Line::Ready, Some(at), true) = (self.line, self.too_old(), may) {
            // Nobody looks at its age before, and during a goodbye.
            let since = at.max(self.talks_since);
            let old = late(since, RECYCLING + 2 * slack);
            self.holds(Rule::Recycles, !old, "a conversation grows too old");
        }
        if let (Some(hold), Some(away)) = (&self.settings.hold, self.away) {
            let since = phone.silent_since().map_or(away, |silent| silent.max(away));
            let silent = late(since, hold.after + slack);
            self.holds(Rule::Hold, !silent, "the caller waits in silence");
        }
    }
}
