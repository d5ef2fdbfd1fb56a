//! Calls that are elsewhere, and what an agent has to be told about that.

use std::time::{Duration, Instant};

use super::{BEGINS, FAREWELL, Farewell, Judge, LAST_MARK, Led, Line, Phone, QUIET, Rule};
use crate::session::{
    cause::Cause,
    errand::{Errand, Failed, Redirected, Transferred},
    order::{After, Words},
};

/// From asking Twilio to closing the stream; and from its "it is done".
const ASKED: Duration = Duration::from_secs(4);
const STOPS: Duration = Duration::from_secs(2);
/// A stream that is closed for a call that is over, as somebody said, was the end, or is not by then.
const DOUBTED: Duration = Duration::from_secs(10);
/// Nobody is away for longer than the errand takes, and this.
const RETURNS: Duration = Duration::from_secs(20);
const ANNOUNCED: Duration = Duration::from_secs(30);
/// Of an announcement, which is made twice.
const LETTER: Duration = Duration::from_millis(150);
const KEYS_SOUNDED: &str = "The keys have been sent. Go on with the call.";
const LAST_KEYS_SOUNDED: &str =
    "The keys have been sent, and the call ends now. Say goodbye in one short sentence.";
const TONE: Duration = Duration::from_millis(500);
/// What agents are told that could not be told yet.
const MOST_TOLD: usize = 4;

/// The caller is elsewhere.
#[derive(Clone, Copy)]
pub(super) struct Gone {
    transfer: bool,
    takes: Duration,
    /// The old stream is there.
    leaving: bool,
    /// Twilio does what was asked.
    taken: bool,
    /// It is over, said Twilio, and its stream said otherwise.
    doubted: bool,
    /// It comes to an end by then.
    by: Instant,
    failed: Option<Failed>,
}

impl Gone {
    /// There is no stream whose end would end the call.
    pub fn streamless(self) -> bool {
        self.taken || !self.leaving
    }
}

/// Something that the agent has to know.
pub(super) struct Told {
    words: String,
    /// The connection on which it was told last.
    on: Option<u32>,
}

impl Judge {
    /// The conversation goes on.
    pub(super) fn talking(&self) -> bool {
        let stays = self.farewell.is_none() && self.gone.is_none();
        stays && self.hung_up.is_none() && self.end.is_none()
    }

    /// Keys are sounded, or are going to be.
    pub(super) fn keys_sound(&self) -> bool {
        let leaves = self.farewell.is_some_and(|farewell| farewell.errand)
            && matches!(self.errand, Some(Errand::Digits(_)));
        leaves || self.gone.is_some_and(|gone| !gone.transfer)
    }

    /// Somebody sends the caller elsewhere.
    pub(super) fn parts(&mut self, farewell: Farewell) {
        self.farewell = Some(farewell);
    }

    /// The agent has said all that it had to say, as far as anybody can know.
    pub(super) fn all_said(&self, now: Instant) -> bool {
        now >= self.agent_spoke + QUIET
            || self.farewell.is_none_or(|farewell| {
                let waited = !farewell.waits || now >= farewell.asked + BEGINS;
                let no_more = farewell.firm && farewell.said;
                let said = !self.turn_open || self.paused || no_more;
                (said && waited) || now >= farewell.asked + FAREWELL
            })
    }

    pub(super) fn departs(&mut self, now: Instant, errand: &Errand, phone: &Phone, led: &Led) {
        let sent = self.farewell.is_some_and(|farewell| farewell.errand);
        let there = self.errand.as_ref() == Some(errand);
        let told = self.decided == Some(After::Errand(errand.clone()));
        let first = self.gone.is_none() && self.hung_up.is_none();
        self.holds(
            Rule::Errands,
            sent && there && told && first,
            "a call leaves that nobody sent there",
        );
        let heard = phone.unplayed(now).is_zero() || now >= self.sums + LAST_MARK;
        self.holds(Rule::Errands, heard, "a caller leaves in mid-word");
        // Of an agent that waits for its tool's answer nothing is expected, nor of one that is lost, or was
        // lost meanwhile: its successor is for the way back.
        let transfer = matches!(errand, Errand::Transfer(_));
        let another = self
            .farewell
            .is_some_and(|farewell| self.opened > farewell.asked);
        let lost = !led.was_live || led.lost || another;
        let said = !transfer || lost || self.all_said(now);
        self.holds(Rule::Errands, said, "a caller leaves and the agent speaks");
        let takes = match errand {
            Errand::Digits(digits) => {
                let long = digits.0.matches('W').count();
                TONE * (digits.0.len() + long) as u32
            }
            Errand::Transfer(transfer) => {
                let announced = transfer.announce.as_ref().map(|words| {
                    let letters = words.0.chars().count() as u32;
                    ANNOUNCED + 2 * letters * LETTER
                });
                self.settings.ring + announced.unwrap_or_default()
            }
        };
        self.gone = Some(Gone {
            transfer,
            takes,
            leaving: true,
            taken: false,
            doubted: false,
            by: now + ASKED,
            failed: None,
        });
        self.farewell = None;
        // Whatever it had begun is over for the caller.
        self.turn_open = false;
    }

    pub(super) fn redirected(&mut self, now: Instant, answer: Redirected) {
        if let Some(gone) = self.gone.as_mut().filter(|gone| gone.leaving) {
            match answer {
                Redirected::Done => (gone.taken, gone.by) = (true, now + STOPS),
                Redirected::Over => (gone.doubted, gone.by) = (true, now + STOPS),
                Redirected::Failed => {}
            }
        }
    }

    /// It runs what was asked for: there is a call.
    pub(super) fn errand_begun(&mut self, now: Instant) {
        if let Some(gone) = &mut self.gone {
            gone.taken = true;
            if std::mem::take(&mut gone.doubted) && !gone.leaving {
                gone.by = now + gone.takes + RETURNS;
            }
        }
    }

    /// The driver lets the old stream go.
    pub(super) fn stream_closed(&mut self, now: Instant, led: &mut Led) {
        led.left = true;
        let Some(gone) = self.gone.as_mut().filter(|gone| gone.leaving) else {
            return self.fail(Rule::Errands, "a stream is closed that is needed");
        };
        gone.leaving = false;
        gone.by = match gone.failed {
            Some(_) => now + RETURNS,
            None if gone.doubted => now + DOUBTED,
            None => now + gone.takes + RETURNS,
        };
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.gone.is_some_and(|gone| gone.leaving)
    }

    /// Twilio tells what has become of a transfer.
    pub(super) fn transferred(&mut self, now: Instant, what: Transferred) {
        if let Some(gone) = self.gone.as_mut().filter(|gone| gone.transfer)
            && let Transferred::Returning(failed) = what
        {
            gone.failed = Some(failed);
            gone.doubted = false;
            if !gone.leaving {
                gone.by = now + RETURNS;
            }
        }
    }

    /// Somebody who is put through, or let go, by Twilio's word.
    pub(super) fn needs_no_agent(&self, what: Transferred) -> Option<Cause> {
        self.gone.filter(|gone| gone.transfer)?;
        match what {
            Transferred::Connected => Some(Cause::Transferred),
            Transferred::Ended(_) => Some(Cause::TransferFailed),
            Transferred::Returning(_) => None,
        }
    }

    pub(super) fn returned(&mut self, now: Instant, phone: &Phone) {
        let Some(gone) = self.gone.take() else { return };
        self.ever_returned = true;
        self.carrier_heard = now;
        (self.talks_since, self.may_say_since) = (now, now);
        self.caller_is_there(now);
        self.speaks = None;
        self.uplink.returned(phone.sent);
        // The time without an agent begins now.
        if self.away.is_some() {
            self.away = Some(now);
            self.planned = true;
        }
        self.idle = self.idle.map(|_| now);
        // What the agent has said meanwhile, nobody has heard.
        self.turn_open = false;
        for told in &mut self.told {
            told.on = None;
        }
        let there = !self.hangs_up || self.line == Line::Ready;
        if !gone.transfer && !self.keys_waited_for() && there {
            let words = match self.hangs_up {
                true => LAST_KEYS_SOUNDED,
                false => KEYS_SOUNDED,
            };
            self.tell(words.to_owned());
        }
        if gone.transfer && self.paused {
            self.back_to_paused = self.line == Line::Ready;
            self.paused = self.back_to_paused;
        }
        if gone.transfer {
            let reason = gone.failed.unwrap_or(Failed::Unreachable).words();
            let words = self.settings.no_answer.clone();
            if let Some(Words(words)) = words {
                self.tell(words.replace("{reason}", reason));
            }
        }
    }

    /// The agent has to know this.
    pub(super) fn tell(&mut self, words: String) {
        if self.told.len() == MOST_TOLD {
            self.told.pop_front();
        }
        self.told.push_back(Told { words, on: None });
    }

    pub(super) fn prompted(&mut self, words: &Words) {
        let connection = Some(self.connection);
        let next = self.told.iter_mut().find(|told| told.on != connection);
        match next.filter(|told| told.words == words.0) {
            Some(told) => told.on = connection,
            None => self.fail(Rule::Told, "told what it knows, or what nobody wanted told"),
        }
        let ready = self.line == Line::Ready && self.gone.is_none();
        self.holds(Rule::Told, ready, "told and there is nobody to talk to");
    }

    /// The agent speaks, and knows what it was told.
    pub(super) fn told_answered(&mut self) {
        let connection = Some(self.connection);
        self.told.retain(|told| told.on != connection);
    }

    pub(super) fn errands_whole(&mut self, now: Instant) {
        let connection = Some(self.connection);
        let knows = self.told.iter().all(|told| told.on == connection);
        let ends = self.hung_up.is_some() || self.end.is_some();
        let there = self.line == Line::Ready && self.gone.is_none() && !ends;
        self.holds(Rule::Told, knows || !there, "an agent is not told");
        let silent = std::mem::take(&mut self.back_to_paused) && there;
        self.holds(
            Rule::Errands,
            !silent,
            "a caller comes back to nobody who answers",
        );
        let late = |gone: &Gone| now > gone.by + 2 * self.slack;
        let lost = self.end.is_none() && self.gone.as_ref().is_some_and(late);
        self.holds(Rule::Errands, !lost, "a caller is lost between two places");
    }

    /// May a call that is elsewhere end so? `told`: what the caller would meet.
    pub(super) fn ends_elsewhere(&self, now: Instant, cause: Cause) -> bool {
        let Some(gone) = self.gone else { return false };
        let over = !gone.leaving && now >= gone.by;
        let known = self.call_over.is_some();
        let decided = self.decided.clone();
        match cause {
            Cause::Transferred => {
                let taken = decided == Some(After::HangUp);
                gone.transfer && (taken || (over && gone.failed.is_none()))
            }
            Cause::TransferFailed => gone.transfer && decided == Some(After::HangUp),
            Cause::CarrierLost => (over && (!gone.transfer || gone.failed.is_some())) || known,
            Cause::CallerHungUp => true,
            // Twilio goes on with it, and asks whoever is there then.
            Cause::Drain | Cause::MaxDuration => matches!(decided, Some(After::Errand(_))),
            _ => false,
        }
    }
}
