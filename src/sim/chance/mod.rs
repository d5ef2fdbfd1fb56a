//! Whole calls as chance would have them, around the real [machine](crate::session::machine).
//!
//! A [telephone](phone) that plays, echoes and vanishes, an [agent](agent) that talks, interrupts,
//! calls tools and breaks, an operator who gives every order at every moment, and a clock that is
//! late: all of it in virtual time, driven by [bytes](draw) and so replayed exactly. In every fourth
//! call the real codec stands in between and the agent speaks [EVI's words](evi). A [judge](judge)
//! looks at every event and every action and knows what must hold.
//!
//! Unlike its neighbours, which are told nothing of the bridge, this one is written around a part of
//! it; it opens no socket, reads no clock and starts no task. `cargo test --test simulation` plays
//! thousands of calls, the fuzz target `session` plays those that a fuzzer thinks of.

mod agent;
mod draw;
mod evi;
mod judge;
mod phone;
mod script;
mod shrink;
mod sound;
mod tally;
mod temper;
mod world;

use std::time::Instant;

pub use draw::bytes_of;
pub use judge::{Broken, Rule};
pub use shrink::shrink;
pub use tally::Tally;

use draw::Draws;
use temper::Temper;
use world::World;

/// What came of a call.
pub struct Outcome {
    /// The first promise that was not kept.
    pub broken: Option<Broken>,
    pub tally: Tally,
    /// The most that the call held, in bytes.
    pub most_held: usize,
    /// What happened, in words; only if it was wanted.
    pub script: Vec<String>,
}

/// Plays the call that these bytes stand for. `start` is the time at which it begins, which changes
/// nothing but the times.
pub fn play(bytes: &[u8], start: Instant, wanted: bool) -> Outcome {
    let mut draws = Draws::new(bytes);
    let Some(temper) = Temper::draw(&mut draws) else {
        return Outcome {
            broken: None,
            tally: Tally::default(),
            most_held: 0,
            script: Vec::new(),
        };
    };
    let mut world = World::new(temper, draws, start, wanted);
    world.run();
    Outcome {
        broken: world.judge.broken,
        tally: world.tally,
        most_held: world.judge.most_held,
        script: world.script.lines(),
    }
}
