//! What is done, action by action.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use super::{
    CHECKED, Dial, Farewell, HOLD, HungUp, Judge, LAST_MARK, LAST_WORDS, Led, Line, Phone, Rule,
    Seen,
};
use crate::{
    agent::Saying,
    session::{
        cause::Cause,
        machine::{Action, Note, Outbox},
        order::{After, Refusal, Verdict},
        playback::{Cut, duration},
    },
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
        let sounds = matches!(action, Action::Play(_) | Action::Mark(_) | Action::Clear);
        if sounds && self.gone.is_some() {
            self.fail(
                Rule::Errands,
                "something is sent to a caller who is elsewhere",
            );
        }
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
                self.answer(now, seen, call_id, answer, led);
            }
            Action::RunTool {
                ticket,
                tool,
                call_id,
                arguments,
            } => self.run(now, seen, (*ticket, *tool), call_id, arguments, led),
            Action::StopTool(ticket) => self.stop(*ticket),
            Action::KeepNote(_) => {
                led.kept += 1;
                self.holds(Rule::Tools, led.kept == 1, "a note is kept twice");
            }
            Action::Prompt(words) => self.prompted(words),
            Action::Redirect(errand) => self.departs(now, errand, phone, led),
            Action::CloseCarrier => self.stream_closed(now, led),
            Action::AgentHeard(cut) => {
                self.caller_is_there(now);
                self.farewell_cut();
                self.heard(now, cut, phone);
            }
            Action::Say(words) => {
                led.said += 1;
                led.words.push(words.0.clone());
                led.reason |= matches!(seen, Seen::Order("say"));
                led.reason |= matches!(seen, Seen::Ready) && self.awaits_words();
                self.asks_agent(able.says() && !self.paused);
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
                let back = std::mem::take(&mut self.back_to_paused);
                let asked = back || matches!(seen, Seen::Order("resume"));
                self.asks_agent(asked && able.pause && self.paused);
                self.paused = false;
                (self.quiet, self.may_say_since) = (now, now);
            }
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
            Action::HangUp { streamless } => self.hang_up(now, *streamless, phone, led),
            Action::Decide(after) => self.decided = Some(after.clone()),
            Action::End { cause, .. } => self.ended(now, *cause, phone),
            Action::Note(note) => self.noted(now, seen, note, led),
            Action::Verdict(verdict) => {
                led.verdicts += 1;
                self.verdict(seen, *verdict, led);
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
        let ends = self.farewell.is_some_and(|farewell| !farewell.errand);
        let wanted = !ends && self.hung_up.is_none();
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
        (self.failing, self.expires, self.speaks) = (None, None, None);
        self.turn_open = false;
        self.tools.forget();
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
        // Marks that come back late, or never, tell less than was heard; no more than that.
        let counted = self.settings.capabilities.wants_heard_ms();
        let late = match counted {
            true => phone.echo + self.slack,
            false => Duration::ZERO,
        };
        let known = known && !(counted && phone.forgets.is_some());
        if told > most || (known && told + late + Duration::from_millis(2) < truth) {
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
        let cut = self.cut.max(self.missed);
        if cut.is_some_and(|cut| *segment <= cut) {
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
        self.told_answered();
        self.turn_open = true;
        self.failing = None;
        (self.agent_spoke, self.quiet) = (now, now);
        if let Some(farewell) = &mut self.farewell {
            farewell.waits = false;
            farewell.begun |= farewell.owed == 1;
        }
    }

    fn play_hold(&mut self, now: Instant, bytes: usize, phone: &mut Phone) {
        self.holding = true;
        let away = self.line != Line::Ready && self.farewell.is_none();
        let heard = phone.unplayed(now) <= phone.latency;
        self.holds(Rule::Hold, away && heard, "the hold sound over an agent");
        phone.hold(now, bytes);
    }

    fn noted(&mut self, now: Instant, seen: &Seen<'_>, note: &Note, led: &mut Led) {
        self.keeps_keys(note);
        match note {
            Note::Filler => {
                (led.reason, led.filled) = (true, led.filled + 1);
                self.filled(now);
            }
            Note::KeysTold { count } => self.keys_told(now, *count, led),
            Note::KeyActed => {
                self.key_acted(now, led);
                led.reason |= led.key_words.is_some();
            }
            Note::HangingUp(cause) => self.says_goodbye(now, seen, *cause, led),
            Note::GoodbyeWithdrawn => {
                let stands = |farewell: Farewell| farewell.firm || farewell.errand;
                let firm = self.farewell.is_none_or(stands);
                self.holds(Rule::Withdrawn, !firm, "a goodbye that stands is withdrawn");
                self.farewell = None;
                self.announced = false;
                (self.talks_since, self.may_say_since) = (now, now);
            }
            Note::AudioDropped { .. } => led.dropped = true,
            Note::AgentClosed(_) => led.lost = true,
            Note::CallerAudioDropped { bytes } => self.uplink.dropped(*bytes),
            Note::CallerAudioRepeated { bytes } => self.uplink.repeated(*bytes),
            Note::SaidAgain => led.reason = true,
            Note::NoInputCheck => {
                led.reason = true;
                let waits = self.tools.busy();
                self.holds(
                    Rule::Quiet,
                    !waits,
                    "somebody who waits for a tool is asked",
                );
                let speaks = self.hears_caller(now);
                self.holds(Rule::Quiet, !speaks, "somebody who speaks is asked");
                self.not_too_soon(now, |watch| watch);
                self.asked = true;
                self.quiet = now;
            }
            Note::Recycling { forced } => {
                led.recycled = true;
                self.planned = true;
                let pause = !self.turn_open && self.heard_all(now);
                self.holds(Rule::Recycles, *forced || pause, "in the middle of words");
                let speaks = self.hears_caller(now);
                self.holds(
                    Rule::Recycles,
                    *forced || !speaks,
                    "over the caller's words",
                );
                let late = match *forced {
                    true => super::RECYCLING,
                    false => Duration::ZERO,
                };
                let old = self.too_old().is_some_and(|at| now >= at + late);
                self.holds(Rule::Recycles, old, "a conversation that is not too old");
            }
            _ => {}
        }
    }

    /// From when on the conversation is to be taken up anew.
    pub(super) fn too_old(&self) -> Option<Instant> {
        let planned = self.settings.recycle_after.map(|after| self.opened + after);
        let expires = self.expires.map(|at| at - super::EXPIRING);
        planned.into_iter().chain(expires).min()
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
        if self.gone.is_some() {
            let firm = matches!(cause, Cause::Operator | Cause::Drain | Cause::MaxDuration);
            self.holds(
                Rule::Errands,
                firm,
                "an agent ends a call that is elsewhere",
            );
        }
        let back = matches!(seen, Seen::Returned) && self.hangs_up;
        let by_agent = cause == Cause::AgentHungUp && (back || matches!(seen, Seen::Tool { .. }));
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
        self.announced = true;
        self.farewell = Some(Farewell {
            asked: now,
            firm: !(by_agent || given && cause == Cause::NoInput),
            said: !open_turn,
            waits: by_agent || given,
            owed: match given {
                true => 1 + u32::from(open_turn),
                false => 0,
            },
            begun: false,
            errand: false,
        });
        self.agent_spoke = now;
    }

    fn hang_up(&mut self, now: Instant, streamless: bool, phone: &Phone, led: &Led) {
        let fits = streamless == self.gone.is_some_and(|gone| gone.streamless());
        self.holds(
            Rule::Ends,
            fits,
            "who has no stream is hung up on by it, or who has",
        );
        let first = self.hung_up.is_none();
        self.holds(Rule::OneEnd, first, "hung up twice");
        self.holds(Rule::After, self.announced, "hung up and nobody was told");
        // Nobody who is elsewhere hears it.
        let done = self.gone.take().is_some() || self.all_said(now);
        let lost = !led.was_live || led.lost;
        self.hung_up = Some(HungUp {
            at: now,
            streamless,
            unplayed: phone.unplayed(now),
            heard_by: self.sums + LAST_MARK,
            mid_turn: !done && !lost,
        });
    }

    fn verdict(&mut self, seen: &Seen<'_>, verdict: Verdict, led: &Led) {
        let able = self.settings.capabilities;
        let fits = match (seen, verdict) {
            (Seen::Order("say"), Verdict::Refused(Refusal::CannotSay)) => !able.says(),
            (Seen::Order("context"), Verdict::Refused(Refusal::CannotLearn)) => !able.mid_context,
            (Seen::Order(_), Verdict::Refused(Refusal::CannotPause)) => !able.pause,
            (Seen::Order("say"), Verdict::Refused(Refusal::Paused)) => self.paused,
            (Seen::Order(_), Verdict::Refused(Refusal::NotReady)) => self.line != Line::Ready,
            (Seen::Order(_) | Seen::Transfer(_), Verdict::Refused(Refusal::Ending)) => {
                let ends = self.farewell.is_some_and(|farewell| !farewell.errand);
                ends || self.hung_up.is_some()
            }
            (Seen::Order(_) | Seen::Transfer(_), Verdict::Refused(Refusal::Away)) => {
                let leaves = self.farewell.is_some_and(|farewell| farewell.errand);
                !led.was_talking && (leaves || self.gone.is_some())
            }
            (Seen::Order(_), Verdict::Refused(_)) => false,
            (Seen::Order(what), Verdict::Nearly) => *what == "say" && able.say == Saying::Nearly,
            (Seen::Order("say"), _) => able.say == Saying::Exactly,
            (Seen::Order(_), _) => true,
            (Seen::Transfer(_), verdict) => led.was_talking && verdict == Verdict::Done,
            (Seen::Transferred(_), Verdict::Done) => led.was_away,
            (Seen::Transferred(_), Verdict::Already) => true,
            _ => false,
        };
        self.holds(Rule::Verdicts, fits, "a verdict that does not fit");
    }

    fn ended(&mut self, now: Instant, cause: Cause, phone: &Phone) {
        self.end = Some(cause);
        self.tools.forget();
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
            streamless: false,
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
            (None, cause) if self.gone.is_some() => self.ends_elsewhere(now, cause),
            (None, Cause::AgentFailed(_)) => told == Some(After::Fallback),
            (None, Cause::Drain) => {
                self.settings.drain_goodbye && told == Some(After::DrainGoodbye)
            }
            (None, Cause::NoInput) => told == Some(After::NoInputFarewell),
            (None, Cause::MaxDuration) => told == Some(After::MaxDurationFarewell),
            _ => told == self.ever_returned.then_some(After::Fallback),
        };
        if !fits {
            self.fail(Rule::After, format!("{told:?} after {cause:?}"));
        }
    }
}
