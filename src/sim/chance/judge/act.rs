//! What is done, action by action.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use super::{
    BEGINS, CHECKED, Dial, FAREWELL, Farewell, HOLD, HungUp, Judge, LAST_MARK, LAST_WORDS, Led,
    Line, Phone, QUIET, REMEMBERED, Rule, Seen,
};
use crate::session::{
    cause::Cause,
    machine::{Action, Answer, Note, Outbox},
    order::{After, Refusal, Verdict},
    playback::{Cut, duration},
};

impl Judge {
    pub(super) fn act(
        &mut self,
        now: Instant,
        seen: &Seen<'_>,
        action: &Action,
        out: &Outbox,
        phone: &mut Phone,
        led: &mut Led,
    ) {
        let able = self.settings.capabilities;
        match action {
            Action::ConnectAgent(dial) => self.connect(*dial, led),
            Action::CloseAgent => self.close(now),
            Action::PingAgent => {
                let open = self.open();
                self.holds(Rule::Connection, open, "a ping to nobody");
            }
            Action::PingCarrier => {
                let due = now >= self.carrier_heard + super::CARRIER_SILENT;
                self.holds(Rule::Liveness, due, "the carrier is asked though it spoke");
            }
            Action::ToAgent(range) => {
                let ready = self.line == Line::Ready;
                self.holds(Rule::Uplink, ready, "audio for an agent that is not ready");
                if let Some(bytes) = self.range(range, out) {
                    let heard = self.uplink.heard(bytes);
                    self.check(Rule::Uplink, heard);
                }
            }
            Action::AnswerTool { call_id, answer } => {
                led.answers += 1;
                let asked = matches!(seen, Seen::Tool { id, hang_up, reply: true }
                    if id == call_id && *hang_up == (*answer == Answer::HangingUp));
                self.holds(Rule::Tools, asked, "an answer that nobody waits for");
                let open = self.open();
                self.holds(Rule::Tools, open, "an answer to nobody");
            }
            Action::AgentHeard(cut) => {
                self.caller_is_there(now);
                self.farewell_cut();
                self.heard(now, cut, phone);
            }
            Action::Say(_) => {
                led.said += 1;
                led.reason |= matches!(seen, Seen::Order("say"));
                self.asks_agent(able.exact_say && !self.paused);
            }
            Action::AddContext(_) => {
                let asked = matches!(seen, Seen::Order("context"));
                self.asks_agent(asked && able.mid_context);
            }
            Action::Pause => {
                led.told_pause = true;
                let again = matches!(seen, Seen::Ready) && self.paused;
                let first = matches!(seen, Seen::Order("pause")) && !self.paused;
                self.asks_agent(able.pause && (again || first));
                self.paused = true;
            }
            Action::Resume => {
                let asked = matches!(seen, Seen::Order("resume"));
                self.asks_agent(asked && able.pause && self.paused);
                self.paused = false;
                self.quiet = now;
            }
            Action::RunTool { .. }
            | Action::StopTool(_)
            | Action::KeepNote(_)
            | Action::Prompt(_)
            | Action::Redirect(_)
            | Action::CloseCarrier => self.fail(Rule::Able, "nothing of that kind is asked for"),
            Action::Remind => {
                let ready = self.line == Line::Ready;
                self.holds(
                    Rule::Connection,
                    ready,
                    "an agent that is not there is reminded",
                );
            }
            Action::Play(range) => self.play(now, seen, range, out, phone, led),
            Action::Mark(name) => {
                let new = self.marks.insert(name.clone());
                self.holds(Rule::Marks, new, "two marks of one name");
                phone.mark(now, name);
            }
            Action::Clear => {
                led.cleared = true;
                if let Some((_, segment)) = phone.clear(now) {
                    self.cut = self.cut.max(Some(segment));
                }
                self.sums = now;
                self.holding = false;
                self.turn_open = false;
                self.farewell_cut();
            }
            Action::HangUp => self.hang_up(now, phone, led),
            Action::Decide(after) => self.decided = Some(after.clone()),
            Action::End { cause, .. } => self.ended(now, *cause, phone),
            Action::Note(note) => self.noted(now, seen, note, led),
            Action::Verdict(verdict) => {
                led.verdicts += 1;
                self.verdict(seen, *verdict);
            }
        }
    }

    fn connect(&mut self, dial: Dial, led: &mut Led) {
        led.dialled = true;
        let none = self.line == Line::None;
        self.holds(Rule::Connection, none, "a second connection");
        let fits = match dial {
            Dial::First => !self.ever_ready,
            Dial::Resume => self.ever_ready,
            Dial::Anew => true,
        };
        self.holds(
            Rule::Reconnects,
            fits,
            "not the conversation that there was",
        );
        let wanted = self.farewell.is_none() && self.hung_up.is_none();
        self.holds(Rule::Reconnects, wanted, "an agent for a call that ends");
        self.line = Line::Connecting;
        self.idle = None;
        self.connection += 1;
        self.uplink.connected();
    }

    fn close(&mut self, now: Instant) {
        let there = self.line != Line::None;
        self.holds(Rule::Connection, there, "closed twice");
        self.line = Line::None;
        self.away = self.away.or(Some(now));
        self.idle = Some(now);
        self.failing = None;
        self.turn_open = false;
        self.tools.clear();
    }

    fn heard(&mut self, now: Instant, cut: &Cut, phone: &Phone) {
        let open = self.open();
        self.holds(Rule::Connection, open, "told to nobody what was heard");
        let told = Duration::from_millis(cut.heard_ms);
        // Segments are numbered through all connections.
        let truth = phone.heard(now, (1, cut.segment));
        // It leaves our socket before it is in the caller's ear.
        let most = truth + phone.latency + Duration::from_millis(2);
        // Of one that came in pieces, only the last may be known.
        let known = !self.pieces.contains(&(1, cut.segment));
        if told > most || (known && told + Duration::from_millis(2) < truth) {
            let segment = cut.segment.0;
            self.fail(
                Rule::Heard,
                format!("{told:?} of segment {segment} instead of {truth:?}"),
            );
        }
        self.cut = self.cut.max(Some(cut.segment));
        self.turn_open = false;
    }

    /// A caller who interrupts a farewell has heard enough of it.
    fn farewell_cut(&mut self) {
        if let Some(farewell) = &mut self.farewell {
            (farewell.owed, farewell.waits) = (0, false);
        }
    }

    fn asks_agent(&mut self, able: bool) {
        self.holds(Rule::Able, able, "the agent is asked for too much");
        let ready = self.line == Line::Ready;
        self.holds(
            Rule::Connection,
            ready,
            "an agent that is not there is asked",
        );
    }

    fn range<'a>(&mut self, range: &Range<usize>, out: &'a Outbox) -> Option<&'a [u8]> {
        let in_order = range.start == self.covered;
        self.holds(Rule::Ranges, in_order, "a hole or an overlap in the outbox");
        self.covered = range.end;
        let bytes = out.audio.get(range.clone());
        self.holds(Rule::Ranges, bytes.is_some(), "beyond the outbox");
        bytes
    }

    fn play(
        &mut self,
        now: Instant,
        seen: &Seen<'_>,
        range: &Range<usize>,
        out: &Outbox,
        phone: &mut Phone,
        led: &mut Led,
    ) {
        let Some(bytes) = self.range(range, out) else {
            return;
        };
        let hung_up = self.hung_up.is_some();
        self.holds(Rule::Stale, !hung_up, "sound after the hang-up");
        if bytes.iter().all(|byte| *byte == HOLD) {
            return self.play_hold(now, bytes.len(), phone);
        }
        let Seen::Audio { segment, mulaw } = seen else {
            return self.fail(Rule::Stale, "sound that nobody made");
        };
        let same = mulaw.get(led.played..led.played + bytes.len()) == Some(bytes);
        self.holds(Rule::Lost, same, "not what the agent said");
        if self.cut.is_some_and(|cut| *segment <= cut) {
            self.fail(Rule::Stale, format!("segment {} was cut", segment.0));
        }
        led.played += bytes.len();
        let origin = (1, *segment);
        if std::mem::replace(&mut self.last, origin) != origin && !self.played.insert(origin) {
            self.pieces.insert(origin);
        }
        phone.play(now, origin, bytes.len());
        self.sums = self.sums.max(now) + duration(bytes.len());
        self.uplink.answers();
        self.turn_open = true;
        self.failing = None;
        (self.agent_spoke, self.quiet) = (now, now);
        if let Some(farewell) = &mut self.farewell {
            farewell.waits = false;
        }
    }

    fn play_hold(&mut self, now: Instant, bytes: usize, phone: &mut Phone) {
        self.holding = true;
        let away = self.line != Line::Ready && self.farewell.is_none();
        let heard = phone.unplayed(now) <= phone.latency;
        self.holds(Rule::Hold, away && heard, "the hold sound over an agent");
        phone.hold(now, bytes);
    }

    pub(super) fn tool(&mut self, id: &str, reply: bool, was_live: bool, answers: usize) {
        let known = self.tools.iter().any(|before| before == id);
        let due = was_live && reply && !known;
        if answers != usize::from(due) {
            self.fail(Rule::Tools, format!("{answers} answers to {id}"));
        }
        // A connection that was given up meanwhile has none.
        if was_live && !known && self.open() {
            self.tools.push_back(id.to_owned());
            if self.tools.len() > REMEMBERED {
                self.tools.pop_front();
            }
        }
    }

    fn noted(&mut self, now: Instant, seen: &Seen<'_>, note: &Note, led: &mut Led) {
        match note {
            Note::HangingUp(cause) => self.says_goodbye(now, seen, *cause, led),
            Note::GoodbyeWithdrawn => {
                let firm = self.farewell.is_none_or(|farewell| farewell.firm);
                self.holds(Rule::Withdrawn, !firm, "a goodbye that stands is withdrawn");
                self.farewell = None;
                self.talks_since = now;
            }
            Note::AudioDropped { .. } => led.dropped = true,
            Note::AgentClosed(_) => led.lost = true,
            Note::CallerAudioDropped { bytes } => self.uplink.dropped(*bytes),
            Note::CallerAudioRepeated { bytes } => self.uplink.repeated(*bytes),
            Note::SaidAgain => led.reason = true,
            Note::NoInputCheck => {
                led.reason = true;
                self.not_too_soon(now, |watch| watch);
                self.asked = true;
                self.quiet = now;
            }
            Note::Recycling { forced } => {
                led.recycled = true;
                self.planned = true;
                let pause = !self.turn_open && self.heard_all(now);
                self.holds(Rule::Recycles, *forced || pause, "in the middle of words");
                let old = self.settings.recycle_after.is_some_and(|after| {
                    let late = if *forced {
                        super::RECYCLING
                    } else {
                        Duration::ZERO
                    };
                    now >= self.opened + after + late
                });
                self.holds(Rule::Recycles, old, "a conversation that is not too old");
            }
            _ => {}
        }
    }

    fn heard_all(&self, now: Instant) -> bool {
        now >= self.sums
    }

    /// Nobody who was heard is asked whether they are there.
    fn not_too_soon(&mut self, now: Instant, patience: fn(Duration) -> Duration) {
        let timeout = self.settings.no_input.as_ref().map(|watch| watch.timeout);
        let since = self.quiet.max(self.sums);
        let due = timeout.is_some_and(|timeout| now >= since + patience(timeout));
        self.holds(Rule::Quiet, due, "the caller was heard just now");
    }

    fn says_goodbye(&mut self, now: Instant, seen: &Seen<'_>, cause: Cause, led: &mut Led) {
        let by_agent = matches!(seen, Seen::Tool { .. }) && cause == Cause::AgentHungUp;
        // Words of the operator's own, which the agent was given to say.
        let given = led.said > 0 && matches!(cause, Cause::NoInput | Cause::MaxDuration);
        led.reason |= given;
        if cause == Cause::NoInput {
            let patience: fn(Duration) -> Duration = match self.asked {
                true => |timeout| timeout.min(CHECKED),
                false => |timeout| timeout,
            };
            self.not_too_soon(now, patience);
        }
        let open_turn = self.turn_open && !self.paused;
        self.farewell = Some(Farewell {
            asked: now,
            firm: !(by_agent || given && cause == Cause::NoInput),
            said: !open_turn,
            waits: by_agent || given,
            owed: match given {
                true => 1 + u32::from(open_turn),
                false => 0,
            },
        });
        self.agent_spoke = now;
    }

    fn hang_up(&mut self, now: Instant, phone: &Phone, led: &Led) {
        let first = self.hung_up.is_none();
        self.holds(Rule::OneEnd, first, "hung up twice");
        let done = now >= self.agent_spoke + QUIET
            || self.farewell.is_none_or(|farewell| {
                let waited = !farewell.waits || now >= farewell.asked + BEGINS;
                let no_more = farewell.firm && farewell.said;
                let said = !self.turn_open || self.paused || no_more;
                (said && waited) || now >= farewell.asked + FAREWELL
            });
        let lost = !led.was_live || led.lost;
        self.hung_up = Some(HungUp {
            at: now,
            unplayed: phone.unplayed(now),
            heard_by: self.sums + LAST_MARK,
            mid_turn: !done && !lost,
        });
    }

    fn verdict(&mut self, seen: &Seen<'_>, verdict: Verdict) {
        let able = self.settings.capabilities;
        let fits = match (seen, verdict) {
            (Seen::Order("say"), Verdict::Refused(Refusal::CannotSay)) => !able.exact_say,
            (Seen::Order("context"), Verdict::Refused(Refusal::CannotLearn)) => !able.mid_context,
            (Seen::Order(_), Verdict::Refused(Refusal::CannotPause)) => !able.pause,
            (Seen::Order("say"), Verdict::Refused(Refusal::Paused)) => self.paused,
            (Seen::Order(_), Verdict::Refused(Refusal::NotReady)) => self.line != Line::Ready,
            (Seen::Order(_), Verdict::Refused(Refusal::Ending)) => {
                self.farewell.is_some() || self.hung_up.is_some()
            }
            (Seen::Order(_), Verdict::Refused(_)) => false,
            (Seen::Order(_), _) => true,
            _ => false,
        };
        self.holds(Rule::Verdicts, fits, "a verdict that does not fit");
    }

    fn ended(&mut self, now: Instant, cause: Cause, phone: &Phone) {
        self.end = Some(cause);
        let overdue = self.started + self.settings.max_duration + LAST_WORDS;
        let polite = match cause {
            Cause::AgentHungUp
            | Cause::AgentInactive
            | Cause::AgentExpired
            | Cause::AgentFailed(_)
            | Cause::NoInput => true,
            Cause::Operator => !self.impolite,
            Cause::MaxDuration => {
                self.hung_up.map_or(now, |hung_up| hung_up.at) < overdue && !self.impolite
            }
            _ => false,
        };
        // Without a hang-up the stream is closed, and the caller meets what follows it.
        let at_end = HungUp {
            at: now,
            unplayed: phone.unplayed(now),
            heard_by: self.sums + LAST_MARK,
            mid_turn: false,
        };
        let hung_up = self.hung_up.unwrap_or(at_end);
        if polite && !hung_up.unplayed.is_zero() && hung_up.at < hung_up.heard_by {
            let unplayed = hung_up.unplayed;
            self.fail(Rule::Goodbye, format!("{unplayed:?} of it are cut off"));
        }
        if polite && hung_up.mid_turn {
            self.fail(Rule::Goodbye, "the agent is cut off");
        }
        let told = self.decided.clone();
        let fits = match (self.hung_up, cause) {
            (Some(_), _) => told == Some(After::HangUp),
            (None, Cause::AgentFailed(_)) => told == Some(After::Fallback),
            (None, Cause::Drain) => {
                self.settings.drain_goodbye && told == Some(After::DrainGoodbye)
            }
            (None, Cause::NoInput) => told == Some(After::NoInputFarewell),
            (None, Cause::MaxDuration) => told == Some(After::MaxDurationFarewell),
            _ => told.is_none(),
        };
        if !fits {
            self.fail(Rule::After, format!("{told:?} after {cause:?}"));
        }
    }
}
