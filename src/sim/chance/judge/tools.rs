//! Tool calls: who asked, what works, who was answered.

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use super::{Farewell, Judge, Led, Rule, Seen};
use crate::{
    session::{
        errand::Errand,
        machine::{Answer, HANG_UP},
        order::Words,
    },
    tools::Outcome,
};

/// Tool calls that must be remembered.
const REMEMBERED: usize = 32;
/// Transfers and keys of the agent's in one call.
const MOST_TRANSFERS: usize = 5;
const MOST_KEYS: usize = 20;
/// Tools that a call has at work.
const MOST_OPEN: usize = 8;
/// A tool that does not keep to its time gets so much more.
const GRACE: Duration = Duration::from_secs(2);
/// What is still heard of the agent's last words counts as heard so long after the sums.
const UNHEARD: Duration = Duration::from_secs(1);

/// A tool call that waits for its tool.
pub(super) struct Open {
    id: String,
    ticket: u32,
    tool: usize,
    since: Instant,
    filled: bool,
}

/// Those of the connection at hand.
#[derive(Default)]
pub(super) struct Tools {
    asked: VecDeque<String>,
    open: Vec<Open>,
    /// Answered when the caller is back.
    waiting: Option<String>,
    /// What the tool has just said, and to which call.
    done: Option<(Open, Outcome)>,
    /// Tools at work, and all that ever were.
    at_work: BTreeSet<u32>,
    tickets: BTreeSet<u32>,
    /// How often the agent has put the caller through, and had keys sounded.
    transfers: usize,
    keys: usize,
}

impl Tools {
    pub fn busy(&self) -> bool {
        !self.open.is_empty()
    }

    /// This call of a tool is not its first.
    pub fn asked_before(&self, id: &str) -> bool {
        self.asked.iter().any(|asked| asked == id)
    }

    /// The agent that asked is gone.
    pub fn forget(&mut self) {
        self.asked.clear();
        self.open.clear();
        self.waiting = None;
    }

    fn take(&mut self, id: &str) -> Option<Open> {
        let at = self.open.iter().position(|open| open.id == id)?;
        Some(self.open.remove(at))
    }
}

impl Judge {
    /// A tool has ended. One that nobody waits for any more changes nothing.
    pub(super) fn tool_ran(&mut self, now: Instant, ticket: u32, outcome: &Outcome) {
        let mut open = self.tools.open.iter();
        let Some(at) = open.position(|open| open.ticket == ticket) else {
            return;
        };
        self.tools.at_work.remove(&ticket);
        let open = self.tools.open.remove(at);
        self.quiet = now;
        let errand = match outcome {
            Outcome::Transfer(transfer) => Errand::Transfer(transfer.clone()),
            Outcome::Digits(digits) => Errand::Digits(digits.clone()),
            _ => return self.tools.done = Some((open, outcome.clone())),
        };
        let digits = matches!(errand, Errand::Digits(_));
        let spent = match digits {
            true => self.tools.keys >= MOST_KEYS,
            false => self.tools.transfers >= MOST_TRANSFERS,
        };
        let talking = self.talking() && !spent;
        self.tools.keys += usize::from(talking && digits);
        self.tools.transfers += usize::from(talking && !digits);
        if talking {
            let said = digits || !self.turn_open || self.paused;
            self.parts(Farewell {
                asked: now,
                firm: false,
                said,
                waits: !digits,
                owed: 0,
                begun: false,
                errand: true,
            });
            self.errand = Some(errand);
        }
        if talking && digits {
            self.tools.waiting = Some(open.id);
        } else {
            self.tools.done = Some((open, outcome.clone()));
        }
    }

    /// The agent waits for an answer no longer.
    pub(super) fn settled(&mut self, now: Instant, id: &str) {
        if self.tools.take(id).is_some() {
            self.quiet = now;
        }
        if self.tools.waiting.as_deref() == Some(id) {
            self.tools.waiting = None;
        }
    }

    pub(super) fn run(
        &mut self,
        now: Instant,
        seen: &Seen<'_>,
        (ticket, tool): (u32, usize),
        call_id: &str,
        words: &Words,
        led: &mut Led,
    ) {
        led.runs += 1;
        let offers = self.settings.tools.clone();
        let asked = offers.offers().get(tool).is_some_and(|offer| {
            matches!(seen, Seen::Tool { id, name, arguments, reply: true }
                if *id == call_id && *name == offer.name && **arguments == words.0)
        });
        self.holds(Rule::Tools, asked, "a tool works that nobody called");
        let again = self.tools.asked.iter().any(|asked| asked == call_id);
        self.holds(Rule::Tools, !again, "a call is carried out twice");
        let new = self.tools.tickets.insert(ticket);
        self.holds(Rule::Tools, new, "two tools of one ticket");
        self.tools.at_work.insert(ticket);
        self.tools.open.push(Open {
            id: call_id.to_owned(),
            ticket,
            tool,
            since: now,
            filled: false,
        });
        let most = match self.settings.capabilities.parallel_tools {
            true => MOST_OPEN,
            false => 1,
        };
        let few = self.tools.at_work.len() <= most;
        self.holds(Rule::Tools, few, "too many tools at work");
    }

    pub(super) fn stop(&mut self, ticket: u32) {
        let worked = self.tools.at_work.remove(&ticket);
        self.holds(Rule::Tools, worked, "a tool is stopped that does not work");
    }

    pub(super) fn answer(
        &mut self,
        now: Instant,
        seen: &Seen<'_>,
        id: &str,
        answer: &Answer,
        led: &mut Led,
    ) {
        let listens = self.open();
        self.holds(Rule::Tools, listens, "an answer to nobody");
        let offered = |name: &str| self.settings.tools.find(name).is_some();
        let own = match seen {
            Seen::Tool {
                id: asked,
                name,
                reply: true,
                ..
            } if *asked == id => Some(*name),
            _ => None,
        };
        led.answers += usize::from(own.is_some());
        let parallel = self.settings.capabilities.parallel_tools;
        let fits = match answer {
            Answer::HangingUp | Answer::HangingUpAfterKeys => {
                let after_keys = *answer == Answer::HangingUpAfterKeys;
                let fits = self.keys_sound() == after_keys;
                fits && own.is_some_and(|name| name == HANG_UP && offered(name))
            }
            Answer::UnknownTool => own.is_some_and(|name| !offered(name)),
            Answer::TooMany => {
                let full = self.tools.open.len() == MOST_OPEN;
                full && own.is_some_and(|name| name != HANG_UP && offered(name))
            }
            Answer::Replaced => {
                let newer = matches!(seen, Seen::Tool { .. }) && own.is_none() && !parallel;
                let open = self.tools.take(id).is_some();
                let waiting = self.tools.waiting.take_if(|waiting| waiting == id);
                newer && (open || waiting.is_some())
            }
            Answer::TimedOut => {
                self.quiet = now;
                let open = self.tools.take(id);
                open.is_some_and(|open| now >= open.since + self.time_of(open.tool))
            }
            Answer::KeysSent | Answer::LastKeysSent => {
                let waiting = self.tools.waiting.take_if(|waiting| waiting == id);
                let last = *answer == Answer::LastKeysSent;
                let back = matches!(seen, Seen::Returned);
                back && waiting.is_some() && self.hangs_up == last
            }
            told => {
                let done = self.tools.done.take_if(|(open, _)| open.id == id);
                done.is_some_and(|(_, outcome)| match (outcome, told) {
                    (Outcome::Done(words), Answer::Done(said)) => words == *said,
                    (Outcome::Failed { content, .. }, Answer::Failed { content: said, .. }) => {
                        content == *said
                    }
                    (Outcome::Note(_), Answer::Noted) => led.kept == 1,
                    (Outcome::Note(_), Answer::NotesFull) => led.kept == 0,
                    (Outcome::Transfer(_), Answer::Transferring) => {
                        self.farewell.is_some_and(|farewell| farewell.errand)
                    }
                    (Outcome::Transfer(_) | Outcome::Digits(_), Answer::KeysFirst) => {
                        self.keys_sound() && !self.hangs_up
                    }
                    (Outcome::Transfer(_) | Outcome::Digits(_), Answer::Ending) => {
                        !self.talking() && (!self.keys_sound() || self.hangs_up)
                    }
                    (Outcome::Transfer(_), Answer::TransfersSpent) => {
                        self.talking() && self.tools.transfers == MOST_TRANSFERS
                    }
                    (Outcome::Digits(_), Answer::KeysSpent) => {
                        self.talking() && self.tools.keys == MOST_KEYS
                    }
                    _ => false,
                })
            }
        };
        if !fits {
            self.fail(Rule::Tools, format!("{answer:?} to {id}"));
        }
    }

    fn time_of(&self, tool: usize) -> Duration {
        let offers = self.settings.tools.offers();
        offers
            .get(tool)
            .map_or(Duration::ZERO, |offer| offer.timeout)
    }

    /// The agent is given something to say while it waits.
    pub(super) fn filled(&mut self, now: Instant) {
        let offers = self.settings.tools.clone();
        let due = |open: &&mut Open| {
            let offer = offers.offers().get(open.tool);
            let filler = offer.and_then(|offer| offer.filler.as_ref());
            !open.filled && filler.is_some_and(|filler| now >= open.since + filler.after)
        };
        // One sentence serves all that are waited for.
        let waits = self.tools.open.iter_mut().filter(due);
        let waits = waits.map(|open| open.filled = true).count();
        let waits = waits > 0;
        self.holds(Rule::Tools, waits, "words for a wait that there is not");
        let silent = now >= self.sums && self.talking();
        self.holds(Rule::Tools, silent, "words for a silence that there is not");
    }

    /// One call of the agent's has been looked at.
    pub(super) fn tool(&mut self, id: &str, name: &str, reply: bool, was_live: bool, led: &Led) {
        let known = self.tools.asked.iter().any(|before| before == id);
        let due = was_live && reply && !known;
        if led.answers + led.runs != usize::from(due) {
            let (answers, runs) = (led.answers, led.runs);
            self.fail(
                Rule::Tools,
                format!("{answers} answers to {id}, carried out {runs} times"),
            );
        }
        let ours = name != HANG_UP && self.settings.tools.find(name).is_some();
        if led.runs > 0 && !ours {
            self.fail(Rule::Tools, "a tool works that was not offered");
        }
        // A connection that was given up meanwhile has none.
        if was_live && !known && self.open() {
            self.tools.asked.push_back(id.to_owned());
            if self.tools.asked.len() > REMEMBERED {
                self.tools.asked.pop_front();
            }
        }
    }

    pub(super) fn keys_waited_for(&self) -> bool {
        self.tools.waiting.is_some()
    }

    /// The caller is back: so is the answer that waited for that.
    pub(super) fn keys_answered(&mut self) {
        let answered = self.tools.waiting.is_none() || !self.open();
        self.holds(Rule::Tools, answered, "back, and the agent is not told");
    }

    /// Whatever happened: who waits has somebody who works for it, and nobody else does.
    pub(super) fn tools_whole(&mut self) {
        let unanswered = self.tools.done.take().is_some() && self.open();
        self.holds(Rule::Tools, !unanswered, "a tool's word reaches nobody");
        let open: BTreeSet<u32> = self.tools.open.iter().map(|open| open.ticket).collect();
        if open != self.tools.at_work {
            let at_work = &self.tools.at_work;
            let what = format!("waited for are {open:?}, at work are {at_work:?}");
            self.fail(Rule::Tools, what);
        }
    }

    pub(super) fn tool_bounds(&mut self, now: Instant) {
        let slack = self.slack;
        let late = |open: &Open| now > open.since + self.time_of(open.tool) + GRACE + slack;
        let late = self.tools.open.iter().any(late);
        self.holds(Rule::Tools, !late, "a tool call is not answered in time");
        let able = self.settings.capabilities.says() && !self.paused;
        if !(able && self.talking() && self.line == super::Line::Ready) {
            return;
        }
        // Nobody speaks over the caller.
        if self.hears_caller(now) {
            self.may_say_since = now;
        }
        let since = self.may_say_since.max(self.sums + UNHEARD);
        let offers = self.settings.tools.offers();
        let silent = |open: &Open| {
            let offer = offers.get(open.tool);
            let filler = offer.and_then(|offer| offer.filler.as_ref());
            !open.filled
                && filler.is_some_and(|filler| now > since.max(open.since + filler.after) + slack)
        };
        // Of several, one after the other.
        let silent = self.tools.open.iter().filter(|open| silent(open)).count();
        self.holds(Rule::Tools, silent <= 1, "nobody says that it takes long");
    }
}
