//! When a call that is being ended politely has really been said goodbye to.
//!
//! An agent that hangs up speaks its farewell before the tool call, after the tool's answer, or
//! both; the end of its turn is announced, or not, or too early. So the farewell counts as *said*
//! when the turn is done and nothing more is to be expected, or the agent is gone, or it has been
//! quiet for long, or the cap is reached; and as *heard* when the last mark comes back, or when by
//! added-up duration plus a margin it must have been. Every wait is bounded.

use std::time::{Duration, Instant};

use super::{
    cause::Cause,
    errand::Errand,
    order::{After, Words},
};

/// After the answer to `hang_up`, how long a farewell may take to begin even though the turn that
/// made the tool call is done: a language model thinks about a second.
const FAREWELL_BEGINS: Duration = Duration::from_millis(2500);
/// The same when the agent has said nothing at all since the caller's last words: to end a call
/// without a word would be rude, so the model gets more time.
const FIRST_WORD_BEGINS: Duration = Duration::from_secs(4);
/// What an agent has said before a tool call is on its way for so long.
const STRAGGLERS: Duration = Duration::from_millis(500);
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
    /// What follows the stream instead of a plain end.
    after: Option<After>,
    /// The words that the agent was given and has not said yet; once they are heard, nothing need
    /// follow any more.
    farewell: Option<Words>,
    farewell_begun: bool,
    /// The call does not end: it goes on this.
    errand: Option<Errand>,
}

/// Words with one blank between them.
fn collapsed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Goodbye {
    /// The agent called `hang_up`. `turn_open`: it has not said that its turn is done; `spoke`: it
    /// has said something since the caller did.
    pub fn of_agent(now: Instant, turn_open: bool, spoke: bool) -> Self {
        Goodbye {
            cause: Cause::AgentHungUp,
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
            after: None,
            farewell: None,
            farewell_begun: false,
            errand: None,
        }
    }

    /// The agent waits for the answer to a tool call, and has perhaps just said so.
    pub fn of_tool(now: Instant) -> Self {
        Goodbye {
            may_begin_until: now + STRAGGLERS,
            ..Goodbye::of_agent(now, false, true)
        }
    }

    /// The call does not end then: it goes on this errand.
    pub fn before(mut self, errand: Errand) -> Self {
        self.errand = Some(errand);
        self
    }

    /// Where the call goes.
    pub fn errand(&self) -> Option<&Errand> {
        self.errand.as_ref()
    }

    /// Somebody else ends the call: what is being said is heard, nothing new is begun.
    pub fn ordered(cause: Cause, now: Instant, turn_open: bool) -> Self {
        Goodbye {
            cause,
            asked: now,
            firm: true,
            turn_done: !turn_open,
            may_begin_until: now,
            next_is_farewell: false,
            agent_gone: false,
            last_activity: now,
            heard_by: None,
            after: None,
            farewell: None,
            farewell_begun: false,
            errand: None,
        }
    }

    /// The agent was given a farewell to say; `after` says it if the agent does not.
    pub fn farewell(cause: Cause, now: Instant, firm: bool, words: Words, after: After) -> Self {
        Goodbye {
            firm,
            cause,
            after: Some(after),
            // Only these words are; what comes before them is the rest of something else.
            next_is_farewell: false,
            farewell: Some(Words(collapsed(&words.0))),
            ..Goodbye::of_agent(now, true, false)
        }
    }

    /// The end, but for what the caller meets then.
    pub fn followed_by(mut self, after: After) -> Self {
        self.after = Some(after);
        self
    }

    /// There is no agent any more, and what it has said is still being heard.
    pub fn without_agent(cause: Cause, now: Instant) -> Self {
        Goodbye {
            agent_gone: true,
            ..Goodbye::ordered(cause, now, false)
        }
    }

    /// What the caller meets after the stream, if not the end.
    pub fn after(&self) -> Option<&After> {
        self.after.as_ref()
    }

    /// The agent says this: is it the farewell that it was given?
    pub fn says(&mut self, now: Instant, text: &str) {
        let said = collapsed(text);
        let Some(rest) = self.farewell.as_mut().filter(|_| !said.is_empty()) else {
            return;
        };
        let Some(more) = rest.0.strip_prefix(&*said) else {
            return;
        };
        let more = more.trim_start().to_owned();
        rest.0 = more;
        if now < self.asked + CAP {
            self.farewell_begun = true;
            self.may_begin_until = now;
            self.turn_done = false;
            self.heard_by = None;
        }
    }

    /// The words that the agent was given are still to come.
    pub fn farewell_to_come(&self) -> bool {
        self.farewell.is_some() && !self.farewell_begun
    }

    /// The agent speaks in the turn that is for them. Its transcript may come behind the sound, and in
    /// other words.
    pub fn says_its_farewell(&mut self, now: Instant) {
        if self.farewell.is_some() && now < self.asked + CAP {
            self.farewell_begun = true;
            self.may_begin_until = now;
        }
    }

    /// Audio of the agent's goes to the caller: if it is the farewell, nobody else need say it.
    pub fn sounds(&mut self) {
        if self.farewell_begun {
            self.after = None;
        }
    }

    /// The agent is saying the words that it was given.
    pub fn farewell_begun(&self) -> bool {
        self.farewell_begun
    }

    pub fn cause(&self) -> Cause {
        self.cause
    }

    pub fn may_be_withdrawn(&self) -> bool {
        !self.firm && self.errand.is_none()
    }

    /// A second wish to end the call: a firm one makes this one firm.
    pub fn confirm(&mut self, other: &Goodbye) {
        self.firm |= other.firm;
        if other.firm {
            self.may_begin_until = other.may_begin_until;
            // Somebody wants the call ended, with or without its agent.
            let errand = self.errand.take().is_some();
            if errand {
                self.turn_done = other.turn_done;
            }
            if errand || matches!(self.cause, Cause::AgentFailed(_)) {
                self.cause = other.cause;
                self.after = other.after.clone();
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
