//! Tool calls: begun, answered once, replaced, given up.
//!
//! The machine knows what its agent was offered. `hang_up` it does itself; everything else is
//! [run](Action::RunTool) by somebody else, who is given the offer's time and a little more, and then
//! no longer waited for. Each call that expects an answer gets one and only one: the tool's, or words about
//! why there is none. Of an agent that makes one call at a time a newer call replaces the older one.

use std::time::{Duration, Instant};

use super::{Action, Answer, HANG_UP, Machine, Note, Outbox, Phase};
use crate::{
    session::{errand::Errand, goodbye::Goodbye, order::Words},
    tools::Outcome,
};

/// Tool calls remembered so that a repeated one is not answered twice.
const REMEMBERED: usize = 32;
/// Tools that one call has running.
pub(super) const MAX_OPEN: usize = 8;
/// A runner that does not keep to the offer's time gets so much more.
const GRACE: Duration = Duration::from_secs(2);
/// Notes that an agent may leave.
const MAX_NOTES: usize = 50;
/// And times that it may put a caller through, or have keys sounded: one that never stops asking would
/// keep somebody's telephone ringing, and the caller from everybody.
const MAX_TRANSFERS: usize = 5;
const MAX_KEYS: usize = 20;

/// What is told of the name of a tool that was not offered.
const UNKNOWN: &str = "(unknown)";
/// And of one that the agent runs itself.
const ITS_OWN: &str = "(its own)";

/// A tool call under way.
#[derive(Debug)]
pub(super) struct Open {
    ticket: u32,
    call_id: String,
    /// Its place in the catalogue.
    tool: usize,
    deadline: Instant,
    /// The agent is to say something then.
    filler_at: Option<Instant>,
}

/// What is known of an agent's tool calls.
#[derive(Debug, Default)]
pub(super) struct Tools {
    open: Vec<Open>,
    tickets: u32,
    answered: std::collections::VecDeque<String>,
    notes: usize,
    transfers: usize,
    keys: usize,
}

impl Tools {
    /// Something is being done for the agent.
    pub fn busy(&self) -> bool {
        !self.open.is_empty()
    }

    pub fn footprint(&self) -> usize {
        let open = self.open.iter().map(|open| open.call_id.capacity());
        let answered = self.answered.iter().map(String::capacity);
        open.chain(answered).sum::<usize>()
            + self.open.capacity() * size_of::<Open>()
            + self.answered.capacity() * size_of::<String>()
    }

    fn remember(&mut self, call_id: &str) {
        if self.answered.len() == REMEMBERED {
            self.answered.pop_front();
        }
        self.answered.push_back(call_id.to_owned());
    }

    fn knows(&self, call_id: &str) -> bool {
        self.answered.iter().any(|id| id == call_id)
    }

    fn take(&mut self, ticket: u32) -> Option<Open> {
        let at = self.open.iter().position(|open| open.ticket == ticket)?;
        Some(self.open.remove(at))
    }
}

impl Machine {
    pub(super) fn tool_call(
        &mut self,
        now: Instant,
        call_id: &str,
        name: &str,
        arguments: &str,
        expects_reply: bool,
        out: &mut Outbox,
    ) {
        if self.tools.knows(call_id) {
            return;
        }
        self.tools.remember(call_id);
        let offered = self.settings.tools.find(name);
        // An agent can make a name up, and put a number into it that it has heard.
        let known = match offered {
            None if name != HANG_UP && expects_reply => UNKNOWN,
            None if name != HANG_UP => ITS_OWN,
            _ => name,
        };
        out.note(Note::ToolCall {
            name: known.to_owned(),
            answered: expects_reply,
        });
        let offered = offered.map(|(index, offer)| (index, offer.timeout, offer.filler.clone()));
        match offered {
            // Of an agent's own it is told, and nobody has to be asked.
            _ if name == HANG_UP && (offered.is_some() || !expects_reply) => {
                let keys_first = self.sounds_keys();
                if expects_reply {
                    let answer = match keys_first {
                        true => Answer::HangingUpAfterKeys,
                        false => Answer::HangingUp,
                    };
                    self.answer_tool(call_id, name, answer, out);
                }
                if keys_first {
                    self.hangs_up = true;
                    return;
                }
                if let Phase::Away(_) = self.phase {
                    // It has nobody to talk to, and that is no reason to hang up on those who have.
                    return;
                }
                // A paused agent says no farewell.
                let spoke = self.spoke || self.paused;
                let goodbye = Goodbye::of_agent(now, self.words_to_come(), spoke);
                self.say_goodbye(now, goodbye, out);
            }
            // The agent runs it itself.
            _ if !expects_reply => {}
            None => self.answer_tool(call_id, known, Answer::UnknownTool, out),
            Some((index, timeout, filler)) => {
                if !self.settings.capabilities.parallel_tools {
                    self.replace_tools(out);
                }
                if self.tools.open.len() >= MAX_OPEN {
                    return self.answer_tool(call_id, name, Answer::TooMany, out);
                }
                let ticket = self.tools.tickets;
                self.tools.tickets = ticket.wrapping_add(1);
                self.tools.open.push(Open {
                    ticket,
                    call_id: call_id.to_owned(),
                    tool: index,
                    deadline: now + timeout + GRACE,
                    filler_at: filler.map(|filler| now + filler.after),
                });
                out.push(Action::RunTool {
                    ticket,
                    tool: index,
                    call_id: call_id.to_owned(),
                    arguments: Words(arguments.to_owned()),
                });
            }
        }
    }

    /// The name of a tool of the catalogue's.
    fn tool_name(&self, tool: usize) -> String {
        let offer = self.settings.tools.offers().get(tool);
        offer.map(|offer| offer.name.clone()).unwrap_or_default()
    }

    fn answer_tool(&mut self, call_id: &str, name: &str, answer: Answer, out: &mut Outbox) {
        // The agent has something to say about it.
        self.reply_due = true;
        out.note(Note::ToolAnswered {
            name: name.to_owned(),
            outcome: answer.outcome(),
        });
        out.push(Action::AnswerTool {
            call_id: call_id.to_owned(),
            answer,
        });
    }

    /// The runner's word on a tool call; of one that is no longer open it is late and says nothing.
    pub(super) fn tool_done(
        &mut self,
        now: Instant,
        ticket: u32,
        outcome: Outcome,
        out: &mut Outbox,
    ) {
        let Some(Open { call_id, tool, .. }) = self.tools.take(ticket) else {
            return;
        };
        let name = self.tool_name(tool);
        // Whoever has waited for a tool has said nothing with good reason.
        self.quiet_since = now;
        let talking = matches!(self.phase, Phase::Talking);
        let answer = match outcome {
            Outcome::Done(words) => Answer::Done(words),
            Outcome::Failed { error, content } => Answer::Failed { error, content },
            Outcome::Note(_) if self.tools.notes >= MAX_NOTES => Answer::NotesFull,
            Outcome::Note(words) => {
                self.tools.notes += 1;
                out.push(Action::KeepNote(words));
                Answer::Noted
            }
            Outcome::Transfer(_) | Outcome::Digits(_) if self.sounds_keys() && !self.hangs_up => {
                Answer::KeysFirst
            }
            Outcome::Transfer(_) | Outcome::Digits(_) if !talking => Answer::Ending,
            Outcome::Transfer(_) if self.tools.transfers >= MAX_TRANSFERS => Answer::TransfersSpent,
            Outcome::Digits(_) if self.tools.keys >= MAX_KEYS => Answer::KeysSpent,
            Outcome::Transfer(transfer) => {
                self.tools.transfers += 1;
                self.answer_tool(&call_id, &name, Answer::Transferring, out);
                let spoke = self.spoke || self.paused;
                let goodbye = Goodbye::of_agent(now, self.words_to_come(), spoke);
                return self.part(now, goodbye.before(Errand::Transfer(transfer)), out);
            }
            Outcome::Digits(digits) => {
                self.tools.keys += 1;
                // The agent waits for the answer, and says nothing more meanwhile.
                self.waiting_tool = Some((call_id, tool));
                let goodbye = Goodbye::of_tool(now).before(Errand::Digits(digits));
                return self.part(now, goodbye, out);
            }
        };
        self.answer_tool(&call_id, &name, answer, out);
    }

    /// The agent waits for an answer no longer.
    pub(super) fn tool_cancelled(&mut self, now: Instant, call_id: &str, out: &mut Outbox) {
        if let Some(at) = self
            .tools
            .open
            .iter()
            .position(|open| open.call_id == call_id)
        {
            let open = self.tools.open.remove(at);
            self.stop_tool(&open, out);
            self.quiet_since = now;
        }
        if self
            .waiting_tool
            .as_ref()
            .is_some_and(|(id, _)| id == call_id)
        {
            self.waiting_tool = None;
        }
    }

    /// Nobody waits for it any more, and it gets no answer.
    fn stop_tool(&mut self, open: &Open, out: &mut Outbox) {
        out.push(Action::StopTool(open.ticket));
        out.note(Note::ToolAnswered {
            name: self.tool_name(open.tool),
            outcome: "cancelled",
        });
    }

    /// A newer call takes the place of those under way.
    fn replace_tools(&mut self, out: &mut Outbox) {
        for open in std::mem::take(&mut self.tools.open) {
            out.note(Note::ToolReplaced);
            let name = self.tool_name(open.tool);
            self.answer_tool(&open.call_id, &name, Answer::Replaced, out);
            out.push(Action::StopTool(open.ticket));
        }
        self.answer_waiting_tool(Answer::Replaced, out);
    }

    /// Their agent is gone, or the call is over: nobody waits for them.
    pub(super) fn forget_tools(&mut self, out: &mut Outbox) {
        for open in std::mem::take(&mut self.tools.open) {
            self.stop_tool(&open, out);
        }
        // An answer that its predecessor may not have got is given to the next if it asks again.
        self.tools.answered.clear();
        self.waiting_tool = None;
    }

    /// The keys have been sounded, or will not be.
    pub(super) fn answer_waiting_tool(&mut self, answer: Answer, out: &mut Outbox) {
        if let Some((call_id, tool)) = self.waiting_tool.take() {
            let name = self.tool_name(tool);
            self.answer_tool(&call_id, &name, answer, out);
        }
    }

    pub(super) fn tools_due(&self) -> Option<Instant> {
        // Looked at with every frame, and mostly there is none.
        if !self.tools.busy() {
            return None;
        }
        let heard = self
            .playback
            .unheard_until()
            .max(self.caller_speaks_until());
        let open = self.tools.open.iter();
        // Nobody fills a silence that there is not.
        let fills = |at: Instant| heard.map_or(at, |heard| at.max(heard));
        open.map(|open| match open.filler_at {
            Some(at) if self.may_fill() => fills(at).min(open.deadline),
            _ => open.deadline,
        })
        .min()
    }

    fn may_fill(&self) -> bool {
        matches!(self.phase, Phase::Talking) && self.can_say()
    }

    pub(super) fn tools_step(&mut self, now: Instant, out: &mut Outbox) {
        if !self.tools.busy() {
            return;
        }
        while let Some(late) = self.tools.open.iter().find(|open| now >= open.deadline) {
            let ticket = late.ticket;
            let Some(late) = self.tools.take(ticket) else {
                break;
            };
            self.quiet_since = now;
            out.push(Action::StopTool(ticket));
            let name = self.tool_name(late.tool);
            self.answer_tool(&late.call_id, &name, Answer::TimedOut, out);
        }
        if !self.may_fill() || self.playback.unheard(now) || self.caller_speaks_on(now) {
            return;
        }
        let due = |open: &&mut Open| open.filler_at.is_some_and(|at| now >= at);
        let mut tool = None;
        // One sentence serves all that are waited for.
        for open in self.tools.open.iter_mut().filter(due) {
            open.filler_at = None;
            tool.get_or_insert(open.tool);
        }
        let offer = tool.and_then(|tool| self.settings.tools.offers().get(tool));
        if let Some(filler) = offer.and_then(|offer| offer.filler.clone()) {
            out.note(Note::Filler);
            self.have_said(filler.words, out);
            // Out of date with the tool's answer: no successor says it again.
            self.connection.unsay();
        }
    }
}
