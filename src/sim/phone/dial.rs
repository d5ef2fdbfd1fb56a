//! `<Dial>` being carried out: the callee's call, from its first ring to its end.
//!
//! One task carries both calls. The callee's leg runs its own documents while the caller waits; the
//! caller, the callee and the REST API can each end it at any moment, and whatever ends it, the
//! callee's status callback is told and the action is asked, once.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::call::{BEAT, CHARACTER, Call, Left, key_time};
use super::callee::{CalleeLeg, Unbridged, WhenCalled};
use super::journal::{Document, Ended, Event};
use super::switchboard::{CallResource, CallStatus, Wish};
use super::twiml::{self, Dial, Gather, Pressed, Progress, Request, Verb};
use super::webhook::{self, Params, Standard};

/// What stands for a number that is withheld; where only digits may, spelt on a telephone's keys.
const WITHHELD: [&str; 6] = [
    "ANONYMOUS",
    "RESTRICTED",
    "BLOCKED",
    "UNKNOWN",
    "UKNNOWN",
    "UNAVAILABLE",
];
/// Documents that one callee is led through.
const MOST_DOCUMENTS: usize = 20;

/// How a callee's leg ended; an error is the caller's affair.
enum Over {
    Busy,
    NoAnswer,
    Failed,
    /// They answered, and it ended before they were connected.
    Unbridged,
    /// They talked.
    Talked,
}

/// Where a callee's documents have led to.
enum Heard {
    /// There is nothing more to hear: they are connected.
    All,
    Gone,
    Next(Document, Request, Params),
}

impl Call {
    /// Calls somebody and connects them; what the action is asked with when that is over.
    pub(super) async fn dial(&mut self, dial: &Dial) -> Result<Params, Left> {
        self.log(Event::Dialled {
            numbers: vec![dial.number.clone()],
        });
        if self.phone.options.rehearsal {
            return Err(Left::Ended(Ended::PutThrough));
        }
        let from = dial.caller_id.clone().unwrap_or_else(|| self.from.clone());
        let call_sid = webhook::sid("CA");
        let wishes = self.phone.switchboard.enter(CallResource {
            call_sid: call_sid.clone(),
            parent: Some(self.call_sid.clone()),
            from: from.clone(),
            to: dial.number.clone(),
            status: CallStatus::Ringing,
            direction: "outbound-dial",
        });
        let callee = self.phone.options.callees.of(&dial.number);
        let mut leg = CalleeLeg {
            call_sid,
            number: dial.number.clone(),
            from,
            wishes,
            answered_at: None,
            bridged_at: None,
            leaves_at: None,
            presses: callee.presses.chars().collect(),
            told: 0,
        };
        let over = self.carry(dial, &mut leg).await;
        self.bridged = false;
        let status = match &over {
            Ok(Over::Busy) => CallStatus::Busy,
            Ok(Over::NoAnswer) => CallStatus::NoAnswer,
            Ok(Over::Failed) => CallStatus::Failed,
            Ok(Over::Unbridged) if callee.unbridged == Unbridged::NoAnswer => CallStatus::NoAnswer,
            Ok(Over::Unbridged | Over::Talked) => CallStatus::Completed,
            Err(_) if leg.answered_at.is_some() => CallStatus::Completed,
            Err(_) => CallStatus::Canceled,
        };
        if leg.bridged_at.is_some() {
            self.log(Event::BridgeEnded {
                number: leg.number.clone(),
                by_caller: over.is_err(),
            });
        }
        self.phone.switchboard.set(&leg.call_sid, status);
        self.progress(dial, &mut leg, Progress::Completed, status.as_str());
        let result = self.result(&leg, status);
        match over {
            Ok(_) => Ok(result),
            Err(left) => {
                // The action is asked all the same, and its answer is nobody's: the call is over, or
                // elsewhere.
                if let (Left::Ended(_), Some(action)) = (&left, &dial.action) {
                    let mut params = self.standard(&self.call_sid).during("completed");
                    params.extend(result);
                    self.callback("dial-action", action.clone(), params);
                }
                Err(left)
            }
        }
    }

    /// What the action is told.
    fn result(&self, leg: &CalleeLeg, status: CallStatus) -> Params {
        let mut result = vec![
            ("DialCallStatus".to_owned(), status.as_str().to_owned()),
            ("DialCallSid".to_owned(), leg.call_sid.clone()),
            (
                "DialBridged".to_owned(),
                leg.bridged_at.is_some().to_string(),
            ),
        ];
        if let Some(at) = leg.answered_at {
            let lasted = self.clock.now().saturating_sub(at).as_secs();
            result.push(("DialCallDuration".to_owned(), lasted.to_string()));
        }
        result
    }

    async fn carry(&mut self, dial: &Dial, leg: &mut CalleeLeg) -> Result<Over, Left> {
        let callee = self.phone.options.callees.of(&dial.number);
        self.progress(dial, leg, Progress::Initiated, "initiated");
        let allowed = dial.caller_id.as_ref().is_none_or(|id| {
            [&self.from, &self.to].contains(&id) || self.phone.options.caller_ids.contains(id)
        });
        // A caller without a number has nothing of their own to be shown.
        let theirs = twiml::is_e164(&self.from) && !is_spelt(&self.from);
        if dial.caller_id.is_none() && !theirs {
            self.violation("13214: no callerId, and the caller has no number");
            return Ok(Over::Failed);
        }
        if !allowed {
            self.violation("13214: the callerId is neither the account's number nor the caller's");
            return Ok(Over::Failed);
        }
        if !twiml::is_e164(&dial.number) || callee.when_called == WhenCalled::Failed {
            return Ok(Over::Failed);
        }
        self.log(Event::CalleeRings {
            number: leg.number.clone(),
            call_sid: leg.call_sid.clone(),
        });
        self.progress(dial, leg, Progress::Ringing, "ringing");
        let rings = match callee.when_called {
            WhenCalled::NoAnswer => dial.timeout,
            _ => callee.answers_after.min(dial.timeout),
        };
        if !self.beside(leg, rings).await? {
            return Ok(Over::Failed);
        }
        match callee.when_called {
            WhenCalled::Busy => return Ok(Over::Busy),
            WhenCalled::Unreachable => return Ok(Over::Failed),
            WhenCalled::NoAnswer => return Ok(Over::NoAnswer),
            _ if callee.answers_after >= dial.timeout => return Ok(Over::NoAnswer),
            _ => {}
        }
        let now = self.clock.now();
        leg.answered_at = Some(now);
        leg.leaves_at = callee.hangs_up_after.map(|after| now + after);
        self.phone
            .switchboard
            .set(&leg.call_sid, CallStatus::InProgress);
        self.log(Event::CalleeAnswered {
            number: leg.number.clone(),
        });
        self.progress(dial, leg, Progress::Answered, "in-progress");
        if let Some(url) = &dial.url
            && !self.announce(leg, url.clone()).await?
        {
            return Ok(Over::Unbridged);
        }
        let now = self.clock.now();
        leg.bridged_at = Some(now);
        let talked = now + callee.talks_for.min(dial.time_limit);
        leg.leaves_at = Some(leg.leaves_at.map_or(talked, |at| at.min(talked)));
        self.phone
            .switchboard
            .set(&self.call_sid, CallStatus::InProgress);
        self.bridged = true;
        self.log(Event::Bridged {
            number: leg.number.clone(),
        });
        while self.beside(leg, Duration::from_secs(3600)).await? {}
        Ok(Over::Talked)
    }

    /// Runs the documents that a callee hears before they are connected; false if they are gone.
    async fn announce(&mut self, leg: &mut CalleeLeg, url: Request) -> Result<bool, Left> {
        let mut next = (Document::Number, url, Params::new());
        for _ in 0..MOST_DOCUMENTS {
            let (what, request, extra) = next;
            let mut params = self.about(leg, "in-progress");
            params.extend(extra);
            let verbs = match self.fetch(what, request, params).await {
                Ok(verbs) => verbs,
                // They hear Twilio's error message, and that was it; the caller's call goes on.
                Err(Left::Ended(Ended::ApplicationError { .. })) => return Ok(false),
                Err(left) => return Err(left),
            };
            next = match self.hear(leg, verbs).await? {
                Heard::All => return Ok(true),
                Heard::Gone => return Ok(false),
                Heard::Next(what, request, extra) => (what, request, extra),
            };
        }
        self.violation("11215: too many documents for a callee, one after the other");
        Ok(false)
    }

    async fn hear(&mut self, leg: &mut CalleeLeg, verbs: Vec<Verb>) -> Result<Heard, Left> {
        for verb in verbs {
            let there = match verb {
                Verb::Say(text) => self.say_to(leg, text).await?,
                Verb::Pause(lasts) => self.beside(leg, lasts).await?,
                Verb::PlayDigits(digits) => self.beside(leg, key_time(&digits)).await?,
                Verb::Hangup => false,
                Verb::Redirect(request) => {
                    return Ok(Heard::Next(Document::Redirect, request, Params::new()));
                }
                Verb::Gather(gather) => match self.ask(leg, &gather).await? {
                    None => false,
                    Some(keys) if !keys.is_empty() || gather.on_empty => {
                        let Some(action) = gather.action else {
                            continue;
                        };
                        let digits = vec![("Digits".to_owned(), keys)];
                        return Ok(Heard::Next(Document::GatherAction, action, digits));
                    }
                    Some(_) => true,
                },
                Verb::Dial(_) | Verb::Connect { .. } | Verb::Reject { .. } => {
                    self.violation(
                        "13201: a callee's document can neither dial, connect nor reject",
                    );
                    false
                }
            };
            if !there {
                return Ok(Heard::Gone);
            }
        }
        Ok(Heard::All)
    }

    async fn say_to(&mut self, leg: &mut CalleeLeg, text: String) -> Result<bool, Left> {
        let lasts = CHARACTER * text.chars().count() as u32;
        self.log(Event::CalleeHeard { text });
        self.beside(leg, lasts).await
    }

    /// Asks a callee for keys; `None` if they are gone.
    async fn ask(&mut self, leg: &mut CalleeLeg, gather: &Gather) -> Result<Option<String>, Left> {
        // They hear it out before they press anything.
        for verb in &gather.meanwhile {
            let there = match verb {
                Verb::Say(text) => self.say_to(leg, text.clone()).await?,
                Verb::Pause(lasts) => self.beside(leg, *lasts).await?,
                _ => true,
            };
            if !there {
                return Ok(None);
            }
        }
        let before = self.phone.options.callees.of(&leg.number).presses_after;
        let mut pressed = Pressed::default();
        loop {
            let key = leg
                .presses
                .front()
                .copied()
                .filter(|_| before < gather.timeout);
            let waits = if key.is_some() {
                before
            } else {
                gather.timeout
            };
            if !self.beside(leg, waits).await? {
                return Ok(None);
            }
            let Some(key) = key else { break };
            leg.presses.pop_front();
            if pressed.press(key, gather) {
                break;
            }
        }
        self.log(Event::Gathered {
            by_callee: true,
            keys: pressed.keys.clone(),
        });
        Ok(Some(pressed.keys))
    }

    /// Lets virtual time pass on both legs; false if the callee's has ended meanwhile.
    async fn beside(&mut self, leg: &mut CalleeLeg, span: Duration) -> Result<bool, Left> {
        let now = self.clock.now();
        let left = leg.leaves_at.map(|at| at.saturating_sub(now));
        let (span, stays) = match left {
            Some(left) if left <= span => (left, false),
            _ => (span, true),
        };
        let beat = self.phone.wall(BEAT);
        let wishes = leg.wishes.clone();
        let told = async move {
            let mut beats = interval(beat);
            beats.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                beats.tick().await;
                if let Some(wish) = wishes.take() {
                    return wish;
                }
            }
        };
        tokio::select! {
            passed = self.pass(span) => passed.map(|()| stays),
            wish = told => {
                if wish != Wish::Complete {
                    self.violation("a callee is redirected, which this telephone cannot do: it hangs up");
                }
                Ok(false)
            }
        }
    }

    /// The parameters of a request about the callee's call.
    fn about(&self, leg: &CalleeLeg, status: &str) -> Params {
        let standard = Standard {
            account_sid: &self.phone.account_sid,
            call_sid: &leg.call_sid,
            from: &leg.from,
            to: &leg.number,
            direction: "outbound-dial",
        };
        let mut params = standard.during(status);
        params.push(("ParentCallSid".to_owned(), self.call_sid.clone()));
        params
    }

    /// Tells the callee's status callback, if it wants to know.
    fn progress(&mut self, dial: &Dial, leg: &mut CalleeLeg, what: Progress, status: &str) {
        let Some(request) = dial.status_callback.clone() else {
            return;
        };
        let number = leg.told;
        leg.told += 1;
        if !dial.events.contains(&what) {
            return;
        }
        let mut params = self.about(leg, status);
        params.extend(webhook::progress(number));
        if what == Progress::Completed {
            let lasted = leg
                .answered_at
                .map_or(Duration::ZERO, |at| self.clock.now().saturating_sub(at));
            params.push(("CallDuration".to_owned(), lasted.as_secs().to_string()));
        }
        self.callback(&format!("callee-{status}"), request, params);
    }
}

fn is_spelt(number: &str) -> bool {
    const KEYS: [&str; 8] = ["ABC", "DEF", "GHI", "JKL", "MNO", "PQRS", "TUV", "WXYZ"];
    let key = |letter: char| KEYS.iter().position(|key| key.contains(letter));
    WITHHELD.iter().any(|word| {
        let keys = word
            .chars()
            .map(|letter| key(letter).map_or(0, |at| at + 2));
        let spelt: String = keys.map(|key| key.to_string()).collect();
        number.strip_prefix('+') == Some(&spelt)
    })
}
