//! What kind of call this is: drawn once, at its beginning.
//!
//! A call in which everything can go wrong at every moment ends before anything subtle can. So each
//! call leaves some kinds of trouble out (as TigerBeetle's simulator does), and some have none at all.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{agent::Manner, draw::Draws, sound::Tongue};
use crate::{
    agent::{Capabilities, Saying, evi},
    config::{KeyAction, Keys},
    session::{
        hold::{Sound, Waiting},
        machine::{HANG_UP, NoInput, Settings},
        order::Words,
        playback::duration,
    },
    tools::{Builtin, Catalogue, Filler, Offer, Use},
};

/// Records that say what kind of call it is.
pub const HEAD: usize = 3;
/// What the hold sound sounds like: nobody else does.
pub const HOLD: u8 = 0x81;

const PLAIN: Capabilities = Capabilities {
    name: "plain",
    heard: true,
    say: Saying::Not,
    mid_context: false,
    pause: false,
    parallel_tools: true,
    hears_speech: false,
    turn_events: true,
};

/// It has everything, and makes several tool calls at a time.
const MANY: Capabilities = Capabilities {
    name: "many",
    parallel_tools: true,
    ..evi::CAPABILITIES
};

/// It hears the caller speak and not whether that interrupts, has to be told what was heard, and promises
/// no words: as a Realtime server does.
const EAR: Capabilities = Capabilities {
    name: "ear",
    say: Saying::Nearly,
    parallel_tools: true,
    hears_speech: true,
    ..evi::CAPABILITIES
};

/// The tools that an agent is offered: what they are called, how long they may take, and after how long
/// the agent has something to say about it. The first two are the quickest to be given up.
pub const OFFERS: [(&str, u64, Option<u64>); 4] = [
    ("stock", 500, None),
    ("order", 3000, Some(700)),
    ("weather_report", 10_000, Some(2000)),
    ("archive", 30_000, Some(5000)),
];

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub struct Temper {
    /// The real codec stands between the agent and the machine.
    pub wire: bool,
    pub settings: Settings,
    pub manner: Manner,
    pub frame_bytes: usize,
    /// When the caller's voice is heard.
    pub tongue: Tongue,
    /// From our socket to the caller's ear.
    pub latency: Duration,
    /// The way back of a mark.
    pub echo: Duration,
    pub forgets: Option<u32>,
    /// Ticks come so late.
    pub busy: Duration,
    /// Of two things at one time, the timer is first.
    pub timer_first: bool,
    /// The carrier gets no beat: it answers pings and that is all.
    pub no_frames: bool,
    /// When nothing more is drawn, the caller stays on the line for so long.
    pub patience: Duration,
    /// The kinds of trouble that may come.
    pub trouble: Trouble,
}

#[derive(Clone, Copy, Debug)]
pub struct Trouble {
    pub agent: bool,
    pub orders: bool,
    pub carrier: bool,
    pub tools: bool,
    pub time: bool,
}

impl Temper {
    /// Takes the first [`HEAD`] records.
    pub fn draw(draws: &mut Draws<'_>) -> Option<Temper> {
        let [mut one, mut two, mut three] = [draws.next()?, draws.next()?, draws.next()?];
        let words = || Words("Are you still there?".into());
        let bit = |byte: u8, bit: u8| byte >> bit & 1 == 1;
        let choose = |byte: u8, bit: u8, of: [u64; 4]| of[usize::from(byte >> bit & 3)];
        let wire = one.what & 3 == 3;
        // Loud for three seconds or twelve, quiet for as long.
        let tongue = Tongue {
            turn: three.of(&[0, 0, 1500, 6000]),
            never_loud: three.one_in(4),
        };
        // EVI can do all of it.
        let plain = !wire && one.what >> 2 & 3 == 3;
        let ear = !wire && one.what >> 2 & 3 == 2;
        let settings = Settings {
            ready_timeout: ms(choose(one.when, 0, [10_000, 10_000, 3000, 500])),
            ping_interval: ms(choose(one.when, 2, [20_000, 20_000, 5000, 700])),
            pong_timeout: ms(choose(one.when, 4, [10_000, 10_000, 5000, 300])),
            max_duration: ms(choose(one.when, 6, [7_200_000, 300_000, 60_000, 10_000])),
            connect_budget: ms(choose(three.what, 0, [3000, 3000, 0, 10_000])),
            reconnect_budget: ms(choose(three.what, 2, [30_000, 30_000, 5000, 0])),
            recycle_after: match choose(three.what, 4, [0, 1_680_000, 20_000, 2000]) {
                0 => None,
                after => Some(ms(after)),
            },
            seed: u64::from(three.when),
            hold: bit(three.what, 6).then(|| Waiting {
                after: ms(choose(three.when, 6, [3000, 3000, 1000, 10_000])),
                sound: Sound::new(Arc::from([HOLD; 12_345])).expect("it is not empty"),
            }),
            max_duration_farewell: bit(three.when, 0).then(words),
            no_input: bit(three.what, 7).then(|| NoInput {
                timeout: ms(choose(three.when, 1, [20_000, 20_000, 5000, 60_000])),
                check: bit(three.when, 3).then(words),
                farewell: bit(three.when, 4).then(words),
            }),
            words_interrupt: !bit(one.what, 4),
            drain_goodbye: bit(one.what, 5),
            tools: Arc::new(tools(three.below(8))),
            keys: Arc::new(keys(three.below(4))),
            ring: ms(three.of(&[30_000, 10_000, 5000, 60_000])),
            warm: three.one_in(3),
            no_answer: (!three.one_in(4))
                .then(|| Words("The caller was not put through: {reason}.".into())),
            capabilities: match (wire, plain, bit(one.what, 2)) {
                _ if ear => EAR,
                (false, true, _) => PLAIN,
                (false, false, true) => MANY,
                _ => evi::CAPABILITIES,
            },
        };
        let manner = Manner {
            no_segment_ends: bit(one.what, 6),
            no_turn_ends: bit(one.what, 7),
            no_greeting: one.one_in(4),
            ear,
            slow_ms: one.of(&[300, 300, 20, 3000]),
        };
        let frame = choose(two.what, 0, [20, 40, 100, 200]);
        let echo = choose(two.what, 2, [0, 60, 250, 900]);
        let busy = choose(two.what, 6, [0, 0, 5, 1500]);
        Some(Temper {
            wire,
            settings,
            manner,
            frame_bytes: frame as usize * 8,
            tongue,
            latency: ms(choose(two.what, 4, [0, 0, 40, 400])),
            echo: ms(echo),
            forgets: two.one_in(8).then(|| 1 + two.below(4)),
            busy: ms(busy),
            timer_first: two.one_in(2),
            no_frames: two.one_in(24),
            patience: ms(choose(two.when, 5, [1000, 1000, 20_000, 90_000])),
            trouble: Trouble {
                agent: bit(two.when, 0),
                orders: bit(two.when, 1),
                carrier: bit(two.when, 2),
                tools: bit(two.when, 3),
                time: bit(two.when, 4),
            },
        })
    }

    pub fn frame(&self) -> Duration {
        duration(self.frame_bytes)
    }
}

/// Mostly there are tools, and mostly the agent may hang up.
fn tools(kind: u32) -> Catalogue {
    let offer = |(name, timeout, filler): (&str, u64, Option<u64>)| Offer {
        name: name.to_owned(),
        description: String::new(),
        parameters: "{}".to_owned(),
        fallback: None,
        timeout: ms(timeout),
        filler: filler.map(|after| Filler {
            after: ms(after),
            words: Words("One moment, please.".into()),
        }),
        what: Use::Builtin(Builtin::GetCallInfo),
    };
    let mut offers = vec![offer((HANG_UP, 0, None))];
    offers.extend(OFFERS.map(offer));
    match kind {
        0 => offers.truncate(1),
        1 => _ = offers.remove(0),
        _ => {}
    }
    Catalogue::new(offers)
}

fn keys(kind: u32) -> Keys {
    let actions = || {
        BTreeMap::from([
            ('0', KeyAction::Transfer("+15550001111".into())),
            ('8', KeyAction::Say("We open at nine.".into())),
            ('9', KeyAction::HangUp),
        ])
    };
    match kind {
        0 => Keys {
            actions: actions(),
            ..Keys::default()
        },
        1 => Keys {
            end: None,
            count: 4,
            timeout: ms(1500),
            ..Keys::default()
        },
        2 => Keys {
            words: String::new(),
            timeout: ms(500),
            actions: actions(),
            ..Keys::default()
        },
        _ => Keys {
            words: String::new(),
            ..Keys::default()
        },
    }
}
