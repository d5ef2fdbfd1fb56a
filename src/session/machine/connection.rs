//! The agent's connection: made, watched, lost, made again.
//!
//! A connection that is lost, breaks or falls silent is made again after a short wait, with the
//! conversation taken up where it was if the agent can do that, and anew if it says that it cannot.
//! Meanwhile the caller's voice is held. A new agent hears what its predecessor had not answered, is
//! put in the state that the old one was in, and says again what the caller has heard only the
//! beginning of. All of it within a budget, beyond which the call has failed. What another attempt
//! would not mend (a key, a quota, a refusal) is not tried again.
//!
//! A conversation that grows too old for the agent is closed and taken up again before that, at a
//! pause of both; the same way as after a loss, so that it works whether or not the agent would
//! have two connections to one conversation.

use std::time::{Duration, Instant};

use super::{Action, AgentState, Dial, Machine, Note, Outbox, Phase};
use crate::{
    agent::{Closed, Saying},
    session::{
        cause::Cause,
        goodbye::Goodbye,
        order::{After, Words},
    },
};

/// An agent that reports a failure and then says nothing of use for so long has failed.
const ERROR_PATIENCE: Duration = Duration::from_secs(2);
/// How long a conversation that is due for recycling waits for a pause.
const RECYCLE_PATIENCE: Duration = Duration::from_secs(60);
/// So long before the agent's own limit its conversation is due for it: a pause has to be found, and the
/// clocks may differ.
const EXPIRY_MARGIN: Duration = Duration::from_secs(2 * 60);

/// What is known of the newest connection, and of what the next has to do.
#[derive(Debug)]
pub(super) struct Connection {
    dial: Dial,
    /// There has been an agent in this call.
    ever_ready: bool,
    /// It has taken part in the conversation.
    talked: bool,
    next_ping: Option<Instant>,
    unanswered_until: Option<Instant>,
    /// Its conversation is too old from then on; the second time, however inconvenient that is.
    recycle_at: Option<Instant>,
    recycle_due: bool,
    /// It has said when its conversation ends: that is its own limit, not an operator's.
    limited: bool,
    /// It has reported a failure: how long that may go on, and what it means.
    failing: Option<(Instant, Closed)>,
    /// What the caller has heard only the beginning of.
    unsaid: Option<Words>,
    /// The agent has refused to take up a conversation: it is not asked again.
    never_resumes: bool,
    /// Agents in a row that took in words and gave out nothing.
    mute: u32,
    /// So much caller audio its predecessor has had in vain.
    repeated: usize,
}

impl Connection {
    pub fn new(dial: Dial) -> Connection {
        Connection {
            dial,
            ever_ready: false,
            talked: false,
            next_ping: None,
            unanswered_until: None,
            recycle_at: None,
            recycle_due: false,
            limited: false,
            failing: None,
            unsaid: None,
            never_resumes: false,
            mute: 0,
            repeated: 0,
        }
    }

    /// A sign of life.
    pub fn alive(&mut self) {
        self.unanswered_until = None;
    }

    /// The conversation goes on.
    pub fn talks(&mut self) {
        self.talked = true;
        self.failing = None;
    }

    /// The agent speaks.
    pub fn speaks(&mut self) {
        self.talks();
        self.mute = 0;
        self.unsaid = None;
    }

    /// The agent was given words to say.
    pub fn given(&mut self, words: &Words) {
        self.unsaid = Some(words.clone());
    }

    /// It takes part in the conversation, which does not mean that it can speak.
    pub fn listens(&mut self) {
        self.talked = true;
    }

    /// The agent reports an error. Some come again and again while it is of no use any more, and not
    /// every agent closes when it has no more to give.
    pub fn errs(&mut self, now: Instant, ends: Option<Closed>, ready: bool) {
        let why = match ends {
            Some(why @ (Closed::Lost | Closed::Auth | Closed::Quota)) => why,
            // In a conversation that goes on it may be a single message that was refused: only a close
            // means all of it. One that is refused before it has begun will not begin.
            Some(why @ Closed::Rejected) if !ready => why,
            _ => return,
        };
        let until = self
            .failing
            .map_or(now + ERROR_PATIENCE, |(until, _)| until);
        self.failing = Some((until, why));
    }

    /// What is held on the heap, in bytes.
    pub fn footprint(&self) -> usize {
        self.unsaid.as_ref().map_or(0, |words| words.0.capacity())
    }

    /// What was to be said is out of date.
    pub fn unsay(&mut self) {
        self.unsaid = None;
    }

    /// There is no connection any more.
    fn over(&mut self) {
        *self = Connection {
            dial: self.dial,
            ever_ready: self.ever_ready,
            unsaid: self.unsaid.take(),
            never_resumes: self.never_resumes,
            mute: self.mute,
            repeated: self.repeated,
            ..Connection::new(self.dial)
        };
    }
}

impl Machine {
    pub(super) fn agent_opened(&mut self, now: Instant) {
        if self.agent != AgentState::Connecting {
            return;
        }
        self.agent = AgentState::Opened {
            deadline: now + self.settings.ready_timeout,
        };
        self.connection.next_ping = Some(now + self.settings.ping_interval);
        self.connection.recycle_at = self.settings.recycle_after.map(|after| now + after);
    }

    pub(super) fn agent_ready_now(
        &mut self,
        now: Instant,
        chat: &str,
        resumed: bool,
        out: &mut Outbox,
    ) {
        if !matches!(self.agent, AgentState::Opened { .. }) {
            return;
        }
        self.agent = AgentState::Ready;
        // What it reported before has been mended.
        self.connection.failing = None;
        let lost = self.outage.since();
        let again = std::mem::replace(&mut self.connection.ever_ready, true);
        out.note(Note::AgentReady {
            chat: chat.to_owned(),
            again,
            resumed,
            away: self.outage.over(now),
        });
        self.hold_stop(now, out);
        (self.quiet_since, self.quiet_asked, self.check_unheard) = (now, false, false);
        if again && !resumed && self.connection.dial == Dial::Resume {
            out.push(Action::Remind);
        }
        if self.paused {
            out.push(Action::Pause);
        }
        self.uplink.release(|frame| {
            let range = out.keep(frame);
            out.push(Action::ToAgent(range));
        });
        self.give_prompts(out);
        let bytes = std::mem::take(&mut self.connection.repeated);
        if bytes > 0 {
            out.note(Note::CallerAudioRepeated { bytes });
        }
        // Who has spoken meanwhile has something better to be answered.
        if lost.is_some_and(|lost| self.uplink.voice_since(lost)) {
            self.connection.unsaid = None;
        }
        // Kept until it is said: this agent may be lost as well.
        if let Some(words) = self.connection.unsaid.clone().filter(|_| self.can_say()) {
            self.owed_turns = 1;
            out.push(Action::Say(words));
            out.note(Note::SaidAgain);
        }
        if let Some(words) = self.awaited.take()
            && self.can_say()
            && matches!(self.phase, Phase::Talking)
        {
            self.have_said(words, out);
        }
    }

    /// The agent has said when its conversation ends. What has no time left for a pause to be waited for
    /// is left to its end.
    pub(super) fn agent_expires(&mut self, now: Instant, at: Instant) {
        if !matches!(self.agent, AgentState::Opened { .. } | AgentState::Ready) {
            return;
        }
        self.connection.limited = true;
        if let Some(early) = at.checked_sub(EXPIRY_MARGIN)
            && early > now
        {
            let planned = self.connection.recycle_at.unwrap_or(early);
            self.connection.recycle_at = Some(planned.min(early));
        }
    }

    /// The agent's connection is over, or could not be made.
    pub(super) fn agent_closed(&mut self, now: Instant, closed: Closed, out: &mut Outbox) {
        if let AgentState::Gone | AgentState::Waiting { .. } = self.agent {
            return;
        }
        let was_ready = self.agent == AgentState::Ready;
        let talked = self.connection.talked;
        let too_old = self.connection.recycle_due || self.connection.limited;
        let dialled = self.connection.dial;
        self.drop_connection(out);
        out.note(Note::AgentClosed(closed));
        if self.on_an_errand() {
            self.hangs_up |= closed == Closed::HungUp && was_ready && self.sounds_keys();
            if self.hangs_up {
                // It has said all that it had to say.
                self.agent = AgentState::Gone;
                self.uplink.forget();
            } else {
                // It may be needed again, whatever it thinks.
                self.connection.never_resumes |=
                    closed == Closed::Rejected && dialled == Dial::Resume && !talked;
                self.look_for_agent(now, closed, out);
            }
            if let Phase::Goodbye(goodbye) = &mut self.phase {
                goodbye.agent_gone();
            }
            return self.goodbye_step(now, out);
        }
        if let Phase::Goodbye(goodbye) = &mut self.phase {
            goodbye.agent_gone();
            self.agent = AgentState::Gone;
            self.uplink.forget();
            return self.goodbye_step(now, out);
        }
        match closed {
            // A conversation that never began was not hung up; it failed.
            Closed::HungUp if was_ready => self.agent_ends(now, Cause::AgentHungUp, out),
            Closed::Inactive if was_ready => self.agent_ends(now, Cause::AgentInactive, out),
            // A limit set by whoever runs the agent; or the one that nobody can set.
            Closed::Expired if was_ready && !too_old => {
                self.agent_ends(now, Cause::AgentExpired, out);
            }
            Closed::Auth | Closed::Quota => self.agent_failed(now, closed, out),
            // Perhaps it is only the old conversation that is not to be had.
            Closed::Rejected if dialled == Dial::Resume && !talked => {
                self.connection.never_resumes = true;
                self.look_for_agent(now, closed, out);
            }
            Closed::Rejected => self.agent_failed(now, closed, out),
            Closed::Lost | Closed::HungUp | Closed::Inactive | Closed::Expired => {
                self.look_for_agent(now, closed, out);
            }
        }
    }

    /// The agent takes in and gives out nothing. Another one may be better; a third is not tried.
    pub(super) fn agent_mute(&mut self, now: Instant, out: &mut Outbox) {
        self.connection.mute += 1;
        if self.connection.mute < 2 {
            return self.agent_closed(now, Closed::Lost, out);
        }
        self.drop_connection(out);
        out.note(Note::AgentClosed(Closed::Lost));
        self.agent_failed(now, Closed::Lost, out);
    }

    /// Nothing of the old connection is valid any more.
    fn drop_connection(&mut self, out: &mut Outbox) {
        // What was sent of a sentence is going to be heard, whether or not the rest ever comes.
        self.mark(out);
        out.push(Action::CloseAgent);
        let able = self.settings.capabilities;
        let again = !self.saying.is_empty() && self.turn_open && able.say == Saying::Exactly;
        if again {
            let words: Vec<_> = std::mem::take(&mut self.saying).into();
            self.connection.unsaid = Some(Words(words.join(" ")));
        }
        // The answer goes on, in the same words or, where the agent is asked to, in others: its question
        // need not be heard again.
        if (again || able.hears_speech && self.turn_open) && !self.reply_due {
            self.uplink.answered();
        }
        self.connection.over();
        self.speaking = None;
        self.forget_tools(out);
        self.prompts_given = 0;
        self.turn_over();
        self.connection.repeated += self.uplink.take_back();
    }

    /// The agent will be tried again, if there is time.
    fn look_for_agent(&mut self, now: Instant, closed: Closed, out: &mut Outbox) {
        self.outage.begin(now);
        let wait = self.outage.wait();
        let until = now + wait;
        if self.gives_up_at().is_some_and(|limit| until >= limit) {
            return self.agent_failed(now, closed, out);
        }
        self.connection.dial = self.next_dial();
        self.agent = AgentState::Waiting { until };
        out.note(Note::Retrying { wait });
    }

    /// When waiting for an agent has no sense any more.
    fn gives_up_at(&self) -> Option<Instant> {
        self.outage.gives_up_at(match self.connection.ever_ready {
            true => self.settings.reconnect_budget,
            false => self.settings.connect_budget,
        })
    }

    fn next_dial(&self) -> Dial {
        match self.connection.ever_ready && !self.connection.never_resumes {
            true => Dial::Resume,
            false => Dial::Anew,
        }
    }

    /// The caller is back, and the agent was given up meanwhile.
    pub(super) fn dial_again(&mut self, now: Instant, out: &mut Outbox) {
        self.outage.plan(now);
        self.connection.dial = self.next_dial();
        self.dial(out);
    }

    fn dial(&mut self, out: &mut Outbox) {
        self.agent = AgentState::Connecting;
        out.push(Action::ConnectAgent(self.connection.dial));
    }

    /// The agent has ended the conversation: what it has said is heard, then the call ends.
    fn agent_ends(&mut self, now: Instant, cause: Cause, out: &mut Outbox) {
        self.agent = AgentState::Gone;
        self.uplink.forget();
        let mut goodbye = Goodbye::without_agent(cause, now);
        if let Cause::AgentFailed(_) = cause {
            goodbye = goodbye.followed_by(After::Fallback);
        }
        self.say_goodbye(now, goodbye, out);
    }

    /// There will be no agent any more: what it has said is heard, then the caller meets the fallback.
    fn agent_failed(&mut self, now: Instant, why: Closed, out: &mut Outbox) {
        if self.on_an_errand() {
            // Nobody needs it now; when the caller is back it is looked for again.
            self.agent = AgentState::Gone;
            self.uplink.forget();
            return;
        }
        let cause = Cause::AgentFailed(why);
        if self.playback.unheard(now) {
            return self.agent_ends(now, cause, out);
        }
        self.agent = AgentState::Gone;
        out.push(Action::Decide(After::Fallback));
        self.end(cause, 1000, out);
    }

    /// The conversation will be too old soon.
    fn recycle(&mut self, now: Instant, forced: bool, out: &mut Outbox) {
        out.note(Note::Recycling { forced });
        if !forced {
            // What was not understood by now was no speech.
            self.uplink.settled();
        }
        self.drop_connection(out);
        self.outage.plan(now);
        self.connection.dial = self.next_dial();
        self.dial(out);
    }

    /// Nobody speaks, nobody is about to.
    fn at_a_pause(&self, now: Instant) -> bool {
        let answer_due = self.reply_due && !self.paused;
        !self.turn_open
            && self.owed_turns == 0
            && !self.tools.busy()
            && self.prompts.is_empty()
            && !answer_due
            && !self.caller_speaks_on(now)
            && !self.playback.unheard(now)
            && self.uplink.rests(now)
    }

    /// Until when the connection can be left alone.
    pub(super) fn connection_deadlines(&self) -> [Option<Instant>; 5] {
        let connection = &self.connection;
        let state = match self.agent {
            AgentState::Waiting { until: at } | AgentState::Opened { deadline: at } => Some(at),
            _ => None,
        };
        [
            state,
            self.patience_until(),
            connection.next_ping,
            connection
                .unanswered_until
                .into_iter()
                .chain(connection.failing.map(|(until, _)| until))
                .min(),
            connection.recycle_at.filter(|_| self.may_recycle()),
        ]
    }

    /// Once there was an agent, no attempt at another may outlast the budget; a first attempt has
    /// its own deadlines.
    fn patience_until(&self) -> Option<Instant> {
        let looking = !matches!(self.agent, AgentState::Gone | AgentState::Ready);
        self.gives_up_at()
            .filter(|_| looking && self.connection.ever_ready)
    }

    fn may_recycle(&self) -> bool {
        self.agent == AgentState::Ready && matches!(self.phase, Phase::Talking)
    }

    pub(super) fn connection_step(&mut self, now: Instant, out: &mut Outbox) {
        let due = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        if due(self.patience_until()) {
            if !matches!(self.agent, AgentState::Waiting { .. }) {
                self.drop_connection(out);
            }
            return self.agent_failed(now, Closed::Lost, out);
        }
        match self.agent {
            AgentState::Waiting { until } if now >= until => return self.dial(out),
            AgentState::Opened { deadline } if now >= deadline => {
                return self.agent_closed(now, Closed::Lost, out);
            }
            _ => {}
        }
        if due(self.connection.unanswered_until) {
            return self.agent_closed(now, Closed::Lost, out);
        }
        if let Some((until, why)) = self.connection.failing
            && now >= until
        {
            return self.agent_closed(now, why, out);
        }
        if due(self.connection.next_ping) {
            self.connection.next_ping = Some(now + self.settings.ping_interval);
            let pong = now + self.settings.pong_timeout;
            self.connection.unanswered_until.get_or_insert(pong);
            out.push(Action::PingAgent);
        }
        if due(self.connection.recycle_at) && self.may_recycle() {
            if self.connection.recycle_due {
                return self.recycle(now, true, out);
            }
            self.connection.recycle_due = true;
            self.connection.recycle_at = Some(now + RECYCLE_PATIENCE);
        }
        if self.connection.recycle_due && self.may_recycle() && self.at_a_pause(now) {
            self.recycle(now, false, out);
        }
    }

    /// The agent is not needed any more.
    pub(super) fn close_agent(&mut self, out: &mut Outbox) {
        match self.agent {
            AgentState::Gone => return,
            AgentState::Waiting { .. } => {}
            _ => out.push(Action::CloseAgent),
        }
        self.agent = AgentState::Gone;
        self.connection.over();
        self.uplink.forget();
    }
}

/// What is heard while there is no agent.
impl Machine {
    pub(super) fn hold_due(&self) -> Option<Instant> {
        let waiting = self.settings.hold.as_ref()?;
        let absent = !matches!(self.agent, AgentState::Ready | AgentState::Gone);
        if !absent || !matches!(self.phase, Phase::Talking) {
            return None;
        }
        let silent_since = self.outage.since().max(self.playback.plays_until())?;
        Some(self.hold.due(waiting, silent_since))
    }

    pub(super) fn hold_step(&mut self, now: Instant, out: &mut Outbox) {
        if self.hold_due().is_none_or(|due| now < due) {
            return;
        }
        let Some(waiting) = &self.settings.hold else {
            return;
        };
        if !self.hold.sounds() {
            out.note(Note::Holding);
        }
        let piece = self.hold.piece(now, waiting);
        let range = out.keep(&piece);
        out.push(Action::Play(range));
    }

    /// There is something better to hear.
    pub(super) fn hold_stop(&mut self, now: Instant, out: &mut Outbox) {
        if self.hold.stop() {
            out.push(Action::Clear);
            // Nothing of an agent's was left to be heard when the sound began.
            self.playback.clear(now);
        }
    }
}
