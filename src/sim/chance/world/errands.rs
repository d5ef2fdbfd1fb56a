//! Tools that work, and Twilio where no stream of ours is: what chance has them do.

use std::time::Instant;

use super::{Due, World, ms};
use crate::{
    session::{
        errand::{Errand, Failed, Redirected, Transferred},
        machine::{Carrier, Event},
        order::{Order, Words},
    },
    sim::chance::{draw::Draw, temper::OFFERS},
    tools::{Digits, Outcome, Transfer},
};

/// A tool at work.
pub struct Run {
    pub at: Instant,
    ticket: u32,
    outcome: Outcome,
    /// It does not notice that it was stopped.
    stubborn: bool,
}

/// What Twilio does with a caller who is elsewhere.
#[derive(Clone, Copy)]
pub enum Fate {
    Told(Transferred),
    /// It has asked what follows the stream.
    Begun,
    Returned,
    Left,
    /// Twilio tells that the old stream is over, as if anybody did not know.
    StreamOver,
}

/// Nobody that there is.
pub fn somebody(warm: bool) -> Transfer {
    Transfer {
        number: "+15550002222".into(),
        announce: warm.then(|| Words("Somebody for you.".into())),
    }
}

impl World<'_> {
    pub(super) fn errands_due(&self) -> [(Option<Instant>, Due); 3] {
        [
            (self.runs.iter().map(|run| run.at).min(), Due::Ran),
            (self.redirect.map(|(at, _)| at), Due::Redirected),
            (self.fate.front().map(|(at, _)| *at), Due::Fate),
        ]
    }

    pub(super) fn run_tool(&mut self, ticket: u32, tool: usize, name: &str) {
        let Some(mut draw) = self.draws.next() else {
            let (at, outcome) = (self.now + ms(500), Outcome::Done(Words("twelve".into())));
            return self.runs.push(Run {
                at,
                ticket,
                outcome,
                stubborn: false,
            });
        };
        let Some((_, timeout, _)) = OFFERS.iter().find(|(offer, ..)| *offer == name) else {
            return self
                .judge
                .fail(super::Rule::Tools, format!("there is no tool {tool}"));
        };
        let when = u64::from(draw.when);
        let most = ms(*timeout) + ms(2000);
        let at = match draw.when & 15 {
            15 => self.now + most,
            14 => self.now + most - ms(1),
            13 => self.now + most + ms(1),
            12 => self.now + most + ms(when * 100),
            _ => self.now + ms(when * when / 15),
        };
        let words = || Words("twelve".into());
        let outcome = match draw.what & 15 {
            0..=4 => Outcome::Done(words()),
            5 | 6 => Outcome::Failed {
                error: "status",
                content: words(),
            },
            7 | 8 => Outcome::Note(words()),
            9..=11 => Outcome::Transfer(somebody(draw.one_in(2))),
            12..=14 => Outcome::Digits(digits(&mut draw)),
            // Never.
            _ => return,
        };
        self.runs.push(Run {
            at,
            ticket,
            outcome,
            stubborn: draw.one_in(3),
        });
    }

    pub(super) fn stop_tool(&mut self, ticket: u32) {
        self.runs.retain(|run| run.ticket != ticket || run.stubborn);
    }

    pub(super) fn ran(&mut self) {
        let first = (0..self.runs.len()).min_by_key(|at| self.runs[*at].at);
        if let Some(first) = first {
            let Run {
                ticket, outcome, ..
            } = self.runs.remove(first);
            self.tell(Event::ToolDone { ticket, outcome });
        }
    }

    /// How Twilio's REST API will answer, and when.
    pub(super) fn order_elsewhere(&mut self, errand: Errand) {
        self.errand = Some(errand);
        self.redirect = None;
        let Some(mut draw) = self.draws.next() else {
            self.redirect = Some((self.now + ms(200), Redirected::Done));
            self.stop = Some(self.now + ms(400));
            return;
        };
        let at = self.now + ms(u64::from(draw.when) * u64::from(draw.when) / 15);
        match draw.what & 15 {
            0..=8 => {
                self.redirect = Some((at, Redirected::Done));
                self.stop = Some(at + ms(draw.ms(1500)));
            }
            9 => {
                // The stream is over before the answer is here.
                self.redirect = Some((at, Redirected::Done));
                self.stop = Some(self.now + (at - self.now) / 2);
            }
            10 | 11 => self.redirect = Some((at, Redirected::Done)),
            12 | 13 => self.redirect = Some((at, Redirected::Failed)),
            14 => self.redirect = Some((at, Redirected::Over)),
            // No answer at all.
            _ => {}
        }
    }

    pub(super) fn redirected(&mut self) {
        if let Some((_, answer)) = self.redirect.take() {
            self.tally.meet(match answer {
                Redirected::Done => "redirect: done",
                Redirected::Failed => "redirect: failed",
                Redirected::Over => "redirect: over",
            });
            self.tell(Event::RedirectAnswered(answer));
        }
    }

    /// The stream is over, and Twilio runs what it was given.
    pub(super) fn go_elsewhere(&mut self) {
        let now = self.now;
        self.elsewhere = true;
        (self.stop, self.carrier_alive) = (None, None);
        self.phone.leaves(now);
        self.last_mark = String::new();
        self.fate.clear();
        let Some(mut draw) = self.draws.next() else {
            self.fate.push_back((now + ms(3000), Fate::Returned));
            return;
        };
        let at = now + ms(u64::from(draw.when) * u64::from(draw.when) / 3);
        let digits = matches!(self.errand, Some(Errand::Digits(_)));
        if draw.when & 1 == 0 {
            self.fate.push_back((now, Fate::Begun));
        }
        let mut next = |after, fate| self.fate.push_back((at + ms(after), fate));
        let failed = draw.of(&[
            Failed::NoAnswer,
            Failed::Busy,
            Failed::Declined,
            Failed::Unreachable,
        ]);
        let late = draw.ms(3000);
        match draw.what & 15 {
            0..=10 if digits => next(0, Fate::Returned),
            11 => next(0, Fate::Left),
            // Nothing at all.
            12 => {}
            _ if digits => {
                next(0, Fate::StreamOver);
                next(late, Fate::Returned);
            }
            0..=4 => {
                next(0, Fate::Told(Transferred::Returning(failed)));
                next(late, Fate::Returned);
            }
            5 => next(0, Fate::Returned),
            6 | 7 => next(0, Fate::Told(Transferred::Connected)),
            8 | 9 => next(0, Fate::Told(Transferred::Ended(failed))),
            10 => next(0, Fate::Told(Transferred::Returning(failed))),
            _ => {
                next(0, Fate::StreamOver);
                next(100, Fate::Told(Transferred::Returning(failed)));
                next(100 + late, Fate::Returned);
            }
        }
    }

    pub(super) fn meet_fate(&mut self) {
        match self.fate.pop_front() {
            Some((_, Fate::Told(what))) => self.tell(Event::Order(Order::Transferred(what))),
            Some((_, Fate::Begun)) => self.tell(Event::Order(Order::ErrandBegun)),
            Some((_, Fate::Left)) => self.call_over(true),
            Some((_, Fate::StreamOver)) => self.call_over(false),
            Some((_, Fate::Returned)) => {
                self.elsewhere = false;
                self.phone.returns(self.now, self.temper.forgets);
                if self.temper.no_frames {
                    self.phone.next_frame = None;
                }
                self.tell(Event::Returned);
            }
            None => {}
        }
    }

    pub(super) fn call_over(&mut self, caller_left: bool) {
        self.tell(Event::Order(Order::CallOver { caller_left }));
    }

    /// From a telephone that is there.
    pub(super) fn press(&mut self, draw: &mut Draw) {
        for _ in 0..=draw.below(6) {
            let key = draw.of(&[
                '1', '2', '#', '0', '3', '8', '#', '9', '4', '*', '5', '6', '7', '#', 'A', 'x',
            ]);
            self.carrier(Carrier::Key { key });
        }
    }
}

fn digits(draw: &mut Draw) -> Digits {
    let keys = (0..=draw.below(12)).map(|_| draw.of(&['w', '1', '2', '#', '*', '0']));
    Digits(keys.collect())
}
