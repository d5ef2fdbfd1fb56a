//! A call that is away: keys are sounded into it, or its caller is being put through.
//!
//! First the agent is heard to the end of what it says; then Twilio is asked to run the errand's TwiML,
//! by its REST API, or, where that fails, by closing the stream. From then on there is no media socket, and
//! the agent's connection is kept and watched as ever; what it says meanwhile nobody hears. A new media
//! socket brings the caller back. Whatever becomes of the errand, the wait for it ends.

use std::time::{Duration, Instant};

use super::{Action, AgentState, Answer, Carrier, Machine, Note, Outbox, Phase};
use crate::session::{
    cause::Cause,
    errand::{Errand, Failed, Redirected, Transferred},
    goodbye::Goodbye,
    order::{After, Refusal, Words},
};

/// From asking Twilio's REST API to closing the stream regardless.
const REDIRECT_LIMIT: Duration = Duration::from_secs(4);
/// From Twilio's "it is done" to the stream's own end.
const STOP_LIMIT: Duration = Duration::from_secs(2);
/// Beyond what the errand itself takes, how long the stream's return may take.
const RETURN_LIMIT: Duration = Duration::from_secs(20);
/// A callee's decision, beyond the announcement itself: that is said twice, so many milliseconds a letter.
const DECISION_LIMIT: Duration = Duration::from_secs(30);
const LETTER: Duration = Duration::from_millis(150);
/// A key's tone and the pause behind it, or a `w`; a `W` is twice that. Rather too long than too short.
const TONE: Duration = Duration::from_millis(500);
/// For the agent, when nobody waits any more to be told that the keys were sounded.
const KEYS_SOUNDED: &str = "The keys have been sent. Go on with the call.";
/// What agents are told at once that could not be told yet.
const MAX_PROMPTS: usize = 4;

/// Where an errand has got to.
#[derive(Debug)]
pub(super) struct Away {
    errand: Errand,
    /// The media socket is still there.
    leaving: bool,
    /// By then something must have happened.
    deadline: Instant,
    /// The transfer has come to nothing, and the caller is on their way back.
    failed: Option<Failed>,
}

impl Away {
    pub fn deadline(&self) -> Instant {
        self.deadline
    }
}

impl Machine {
    /// Goes on an errand as soon as the agent has been heard.
    pub(super) fn part(&mut self, now: Instant, goodbye: Goodbye, out: &mut Outbox) {
        if !matches!(self.phase, Phase::Talking) {
            return;
        }
        self.hold_stop(now, out);
        self.phase = Phase::Goodbye(goodbye);
        self.goodbye_step(now, out);
    }

    /// The call is away, or about to leave.
    pub(super) fn on_an_errand(&self) -> bool {
        match &self.phase {
            Phase::Goodbye(goodbye) => goodbye.errand().is_some(),
            phase => matches!(phase, Phase::Away(_)),
        }
    }

    /// Somebody wants the caller put through.
    pub(super) fn transfer(
        &mut self,
        now: Instant,
        errand: Errand,
        out: &mut Outbox,
    ) -> Result<bool, Refusal> {
        match self.phase {
            Phase::Talking => {}
            Phase::Away(_) => return Err(Refusal::Away),
            Phase::Goodbye(ref goodbye) if goodbye.errand().is_some() => return Err(Refusal::Away),
            _ => return Err(Refusal::Ending),
        }
        let ordered = Goodbye::ordered(Cause::Transferred, now, self.words_to_come());
        self.part(now, ordered.before(errand), out);
        Ok(true)
    }

    /// Everything has been heard.
    pub(super) fn depart(&mut self, now: Instant, errand: Errand, out: &mut Outbox) {
        out.note(Note::Away(errand.clone()));
        out.push(Action::Decide(After::Errand(errand.clone())));
        out.push(Action::Redirect(errand.clone()));
        self.phase = Phase::Away(Away {
            errand,
            leaving: true,
            deadline: now + REDIRECT_LIMIT,
            failed: None,
        });
        // No mark of the old stream will come back.
        let cuts = self.playback.clear(now);
        self.tell_heard(cuts, out);
        self.turn_over();
    }

    /// Twilio's REST API has answered.
    pub(super) fn redirect_answered(&mut self, now: Instant, answer: Redirected, out: &mut Outbox) {
        let Phase::Away(away) = &mut self.phase else {
            return;
        };
        match answer {
            // Whatever else has been heard meanwhile.
            Redirected::Over => self.end(Cause::CallerHungUp, 1000, out),
            _ if !away.leaving => {}
            Redirected::Done => away.deadline = now + STOP_LIMIT,
            Redirected::Failed => {
                out.note(Note::RestFailed);
                self.gone(now, out);
            }
        }
    }

    /// The media socket while the call is away; all that counts is its end.
    pub(super) fn away_carrier(&mut self, now: Instant, carrier: &Carrier<'_>, out: &mut Outbox) {
        let over = matches!(
            carrier,
            Carrier::Stop | Carrier::Closed | Carrier::Broken { .. } | Carrier::Stalled
        );
        if over {
            self.gone(now, out);
        }
    }

    /// The stream is over; or it is now.
    fn gone(&mut self, now: Instant, out: &mut Outbox) {
        let ring = self.settings.ring;
        let Phase::Away(away) = &mut self.phase else {
            return;
        };
        if !std::mem::replace(&mut away.leaving, false) {
            return;
        }
        let takes = match &away.errand {
            Errand::Digits(digits) => {
                let long = digits.0.chars().filter(|key| *key == 'W').count();
                TONE * (digits.0.len() + long) as u32
            }
            Errand::Transfer(transfer) => match &transfer.announce {
                Some(words) => {
                    let said = LETTER * 2 * words.0.chars().count().min(10_000) as u32;
                    ring + said + DECISION_LIMIT
                }
                None => ring,
            },
        };
        away.deadline = now + takes + RETURN_LIMIT;
        out.push(Action::CloseCarrier);
    }

    pub(super) fn away_step(&mut self, now: Instant, out: &mut Outbox) {
        let Phase::Away(away) = &self.phase else {
            return;
        };
        if now < away.deadline {
            return;
        }
        match (&away.errand, away.failed) {
            _ if away.leaving => self.gone(now, out),
            // Nobody has said that it came to nothing: they are talking.
            (Errand::Transfer(_), None) => self.end(Cause::Transferred, 1000, out),
            _ => self.end(Cause::CarrierLost, 1000, out),
        }
    }

    /// Twilio says what has become of a transfer.
    pub(super) fn transferred(
        &mut self,
        now: Instant,
        what: Transferred,
        out: &mut Outbox,
    ) -> Result<bool, Refusal> {
        let Phase::Away(away) = &mut self.phase else {
            return Ok(false);
        };
        if !matches!(away.errand, Errand::Transfer(_)) {
            return Ok(false);
        }
        out.note(Note::Transferred(what));
        match what {
            Transferred::Connected | Transferred::Ended(_) => {
                out.push(Action::Decide(After::HangUp));
                let cause = match what {
                    Transferred::Ended(_) => Cause::TransferFailed,
                    _ => Cause::Transferred,
                };
                self.end(cause, 1000, out);
            }
            Transferred::Returning(failed) => {
                away.failed = Some(failed);
                // The old stream was over long ago, whether or not it said so.
                self.gone(now, out);
                if let Phase::Away(away) = &mut self.phase {
                    away.deadline = now + RETURN_LIMIT;
                }
            }
        }
        Ok(true)
    }

    /// The caller is back, on a new media socket.
    pub(super) fn returned(&mut self, now: Instant, out: &mut Outbox) {
        let Phase::Away(_) = self.phase else {
            return;
        };
        let Phase::Away(away) = std::mem::replace(&mut self.phase, Phase::Talking) else {
            return;
        };
        self.carrier_heard = now;
        self.carrier_asked = false;
        self.uplink.begin_again();
        // Nothing that was said meanwhile was heard by anybody.
        self.turn_over();
        self.connection.unsay();
        self.prompts_given = 0;
        self.speaking = None;
        self.caller_is_there(now);
        out.note(Note::Back {
            failed: away.failed,
        });
        out.push(Action::Decide(After::Fallback));
        if self.agent == AgentState::Gone {
            // It left while there was nobody to talk to.
            self.dial_again(now, out);
        }
        if self.paused && matches!(away.errand, Errand::Transfer(_)) {
            // Whoever put the caller through has let them go; they are not sent back into silence.
            self.paused = false;
            if self.agent == AgentState::Ready {
                out.push(Action::Resume);
            }
            out.note(Note::Resumed);
        }
        self.give_prompts(out);
        match (&away.errand, away.failed) {
            (Errand::Digits(_), _) if self.waiting_tool.is_some() => {
                self.answer_waiting_tool(Answer::KeysSent, out);
            }
            // It asked for them, and has been lost or has given up waiting.
            (Errand::Digits(_), _) => self.prompt(now, Words(KEYS_SOUNDED.to_owned()), out),
            (Errand::Transfer(_), failed) => {
                let reason = failed.unwrap_or(Failed::Unreachable).words();
                let words = self.settings.no_answer.as_ref();
                if let Some(words) = words.map(|words| words.0.replace("{reason}", reason)) {
                    self.prompt(now, Words(words), out);
                }
            }
        }
    }

    /// Has the agent answer to this, as soon as it can.
    pub(super) fn prompt(&mut self, now: Instant, words: Words, out: &mut Outbox) {
        self.caller_is_there(now);
        if self.prompts.len() == MAX_PROMPTS {
            self.prompts.pop_front();
            self.prompts_given = self.prompts_given.saturating_sub(1);
        }
        self.prompts.push_back(words);
        self.give_prompts(out);
    }

    pub(super) fn give_prompts(&mut self, out: &mut Outbox) {
        // Nor is it given anything to say to nobody.
        if self.agent != AgentState::Ready || matches!(self.phase, Phase::Away(_)) {
            return;
        }
        for words in self.prompts.iter().skip(self.prompts_given) {
            self.reply_due = true;
            out.push(Action::Prompt(words.clone()));
        }
        self.prompts_given = self.prompts.len();
    }

    /// The agent answers to what it was given.
    pub(super) fn prompts_answered(&mut self) {
        self.prompts.drain(..self.prompts_given);
        self.prompts_given = 0;
    }
}
