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
/// Of a call that is over by Twilio's word and whose stream is not: from closing that to Twilio's asking
/// what follows it.
const DOUBT_LIMIT: Duration = Duration::from_secs(10);
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
/// And when it has hung up meanwhile.
const LAST_KEYS_SOUNDED: &str =
    "The keys have been sent, and the call ends now. Say goodbye in one short sentence.";
/// What agents are told at once that could not be told yet.
const MAX_PROMPTS: usize = 4;

/// Where an errand has got to.
#[derive(Debug)]
pub(super) struct Away {
    errand: Errand,
    /// The media socket is still there.
    leaving: bool,
    /// Twilio has taken the errand over: that the stream ends changes nothing for the caller.
    taken: bool,
    /// Twilio has said that the call is over, and its stream said otherwise.
    doubted: bool,
    /// By then something must have happened.
    deadline: Instant,
    /// The transfer has come to nothing, and the caller is on their way back.
    failed: Option<Failed>,
}

impl Away {
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// There is no stream whose end would end the call.
    pub fn streamless(&self) -> bool {
        self.taken || !self.leaving
    }

    /// How long nothing may be heard of it once the stream is over.
    fn takes(&self, ring: Duration) -> Duration {
        let errand = match &self.errand {
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
        errand + RETURN_LIMIT
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
        self.errand().is_some()
    }

    fn errand(&self) -> Option<&Errand> {
        match &self.phase {
            Phase::Goodbye(goodbye) => goodbye.errand(),
            Phase::Away(away) => Some(&away.errand),
            _ => None,
        }
    }

    /// Keys are being sounded, or are about to be.
    pub(super) fn sounds_keys(&self) -> bool {
        matches!(self.errand(), Some(Errand::Digits(_)))
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
            taken: false,
            doubted: false,
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
            // The stream has said the same.
            Redirected::Over if !away.leaving => self.end(Cause::CallerHungUp, 1000, out),
            _ if !away.leaving => {}
            // Or is about to. A wrong account and a mistaken proxy answer so, too: the stream decides.
            Redirected::Over => {
                away.doubted = true;
                away.deadline = now + STOP_LIMIT;
            }
            Redirected::Done => {
                away.taken = true;
                away.deadline = now + STOP_LIMIT;
            }
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
        let doubted = matches!(&self.phase, Phase::Away(away) if away.leaving && away.doubted);
        if doubted && matches!(carrier, Carrier::Stop) {
            return self.end(Cause::CallerHungUp, 1000, out);
        }
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
        away.deadline = now
            + match away.doubted {
                true => DOUBT_LIMIT,
                false => away.takes(ring),
            };
        out.push(Action::CloseCarrier);
    }

    /// Twilio has asked what follows the stream, and runs the errand's TwiML: there is a call.
    pub(super) fn errand_begun(&mut self, now: Instant) -> bool {
        let ring = self.settings.ring;
        let Phase::Away(away) = &mut self.phase else {
            return false;
        };
        away.taken = true;
        if std::mem::take(&mut away.doubted) && !away.leaving {
            away.deadline = now + away.takes(ring);
        }
        true
    }

    pub(super) fn away_step(&mut self, now: Instant, out: &mut Outbox) {
        let Phase::Away(away) = &self.phase else {
            return;
        };
        if now < away.deadline {
            return;
        }
        match (&away.errand, away.failed) {
            _ if away.leaving => {
                // Of a call that goes on, Twilio asks what follows its stream.
                if away.doubted {
                    out.note(Note::OverDoubted);
                }
                self.gone(now, out);
            }
            _ if away.doubted => self.end(Cause::CallerHungUp, 1000, out),
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
                away.doubted = false;
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
        let last = std::mem::take(&mut self.hangs_up);
        if self.agent == AgentState::Gone && !last {
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
                let answer = match last {
                    true => Answer::LastKeysSent,
                    false => Answer::KeysSent,
                };
                self.answer_waiting_tool(answer, out);
            }
            (Errand::Digits(_), _) if self.agent == AgentState::Gone => {}
            // It asked for them, and has been lost or has given up waiting.
            (Errand::Digits(_), _) => {
                let words = match last {
                    true => LAST_KEYS_SOUNDED,
                    false => KEYS_SOUNDED,
                };
                self.prompt(now, Words(words.to_owned()), out);
            }
            (Errand::Transfer(_), failed) => {
                let reason = failed.unwrap_or(Failed::Unreachable).words();
                let words = self.settings.no_answer.as_ref();
                if let Some(words) = words.map(|words| words.0.replace("{reason}", reason)) {
                    self.prompt(now, Words(words), out);
                }
            }
        }
        if last {
            // What it may have said to nobody was no goodbye.
            let goodbye = Goodbye::of_agent(now, self.words_to_come(), self.paused);
            self.say_goodbye(now, goodbye, out);
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
