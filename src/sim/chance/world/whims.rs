//! What chance has the far ends, the operator and the clock do.

use super::{Said, World, errands::somebody, ms};
use crate::sim::chance::{agent::Tool, draw::Draw};
use crate::{
    agent::Closed,
    session::{
        errand::{Failed, Transferred},
        machine::{Carrier, Event, Garbage},
        order::{Order, Words},
    },
};

impl World<'_> {
    /// One of them; a kind of trouble that this call has none of gives way to talk.
    pub(super) fn whim(&mut self, mut draw: Draw) {
        let trouble = self.temper.trouble;
        // A quarter of some kinds gives way to what is met less often.
        let rare = draw.what >> 6 == 3;
        let what = draw.what & 63;
        let allowed = match what {
            0..=3 if rare => trouble.tools,
            16..=18 if rare => !self.elsewhere,
            54..=61 if self.elsewhere => false,
            27..=35 => trouble.tools,
            36..=44 => trouble.agent,
            45..=53 => trouble.orders,
            54..=59 | 61 => trouble.carrier,
            62.. => trouble.time,
            _ => true,
        };
        let now = self.now;
        match what {
            _ if !allowed && what & 1 == 0 => self.agent.turn(now, &mut draw),
            _ if !allowed => self.caller_words(&mut draw),
            0..=3 if rare => self.agent.offered(now, &mut draw),
            16..=18 if rare => self.press(&mut draw),
            0..=15 => self.agent.turn(now, &mut draw),
            16..=21 => self.caller_words(&mut draw),
            22..=26 => self.agent.interruption(now, &mut draw),
            27..=29 => self.agent.tool(now, Tool::HangUp, &mut draw),
            30..=32 if draw.what >> 6 != 0 => self.agent.offered(now, &mut draw),
            30..=32 => self.agent.tool(now, Tool::Unknown, &mut draw),
            33 => self.agent.tool(now, Tool::Builtin, &mut draw),
            34 => self.agent.same_tool(now, &mut draw),
            35 => self.agent.settle(now, &mut draw),
            36 => {
                // After a refusal EVI's codec reads every close as one.
                let more = if self.temper.wire { 2 } else { 5 };
                let said = [
                    Said::Error,
                    Said::Failure(Closed::Lost),
                    Said::Failure(Closed::Rejected),
                    Said::Failure(Closed::Quota),
                    Said::Failure(Closed::Auth),
                ];
                let said = draw.of(&said[..more]);
                self.agent.say(now, said);
            }
            37 => {
                let said = draw.of(&[Said::Nonsense, Said::Binary, Said::Ready]);
                self.agent.say(now, said);
            }
            38 => self.agent.burst(now, &mut draw),
            39 => self.agent.straggler(now, &mut draw),
            40 => self.agent.say(now, Said::EndOfTurn),
            41..=43 => {
                let closed = draw.of(&[
                    Closed::Lost,
                    Closed::HungUp,
                    Closed::Lost,
                    Closed::Inactive,
                    Closed::Expired,
                    Closed::Rejected,
                    Closed::Quota,
                ]);
                self.agent.say(now, Said::Closed(closed));
            }
            44 => self.agent.fall_silent(),
            45..=48 if rare => {
                let warm = draw.one_in(2);
                self.order(Order::Transfer(somebody(warm)));
            }
            49 if rare => {
                let what = draw.of(&[
                    Transferred::Returning(Failed::NoAnswer),
                    Transferred::Connected,
                    Transferred::Ended(Failed::Busy),
                ]);
                self.order(Order::Transferred(what));
            }
            45 | 46 => self.order(Order::HangUp { now: false }),
            47 => self.order(Order::HangUp { now: true }),
            48 => self.order(match draw.below(3) {
                0 => Order::DrainExpired,
                1 => Order::CallOver { caller_left: true },
                _ => Order::CallOver { caller_left: false },
            }),
            49 | 50 => self.order(Order::Say(Words("Your car is here.".into()))),
            51 => self.order(Order::AddContext(Words("The car is red.".into()))),
            52 | 53 => {
                // Now and then one that changes nothing.
                self.paused ^= !draw.one_in(4);
                self.order(match self.paused {
                    true => Order::Pause,
                    false => Order::Resume,
                });
            }
            54 => {
                let gap = ms(draw.ms(5000));
                self.phone.next_frame = self.phone.next_frame.map(|at| at + gap);
                self.phone.clock_us += gap.as_micros() as u64;
            }
            55 => {
                let back = 1000 * draw.ms(20_000);
                self.phone.clock_us = self.phone.clock_us.saturating_sub(back);
            }
            56 => {
                let kind = draw.of(&[Garbage::Malformed, Garbage::Binary]);
                let many = draw.of(&[1, 1, 10, 99, 120]);
                for _ in 0..many {
                    self.carrier(Carrier::Garbage(kind));
                }
            }
            57 => match draw.below(2) {
                0 => self.press(&mut draw),
                _ => self.carrier(Carrier::Other),
            },
            58 => {
                let name = match draw.below(4) {
                    0 => self.last_mark.clone(),
                    1 => "0.0".into(),
                    2 => "4294967295.4294967295".into(),
                    _ => "mark".into(),
                };
                self.carrier(Carrier::Mark { name: &name });
            }
            59 => match draw.below(2) {
                0 => self.phone.vanish(),
                _ => self.phone.next_frame = None,
            },
            60 => self.carrier(Carrier::Stop),
            61 => {
                let over = match draw.below(3) {
                    0 => Carrier::Closed,
                    1 => Carrier::Broken { close_code: 1002 },
                    _ => Carrier::Stalled,
                };
                self.carrier(over);
            }
            62 => {
                let long = ms(draw.ms(20_000));
                self.awake = now + long;
                self.judge.slack = self.judge.slack.max(self.temper.busy + long);
                self.script
                    .line(now, || format!("the machine sleeps for {long:?}"));
            }
            _ => self.tell(Event::Tick),
        }
    }

    fn order(&mut self, order: Order) {
        self.tell(Event::Order(order));
    }

    fn caller_words(&mut self, draw: &mut Draw) {
        if self.temper.manner.ear {
            return self.agent.hear(self.now, draw);
        }
        let said = Said::Caller {
            interim: draw.one_in(3),
            replace: draw.one_in(5),
            blank: draw.one_in(9),
        };
        self.agent.say(self.now, said);
        if draw.one_in(2) {
            let at = self.now + ms(draw.ms(3000));
            self.agent.turn(at, draw);
        }
    }
}
