//! One call, and all of them.
//!
//! [`machine`] decides, [`driver`] does over two [legs](leg), [`registry`] knows who is there, [`news`]
//! tells who follows, [`record`] keeps what is left of a call. The machine's parts have rooms of their
//! own: [`playback`] (what the caller has heard), [`uplink`] (the caller's voice before the agent
//! listens), [`goodbye`] (when everything has been said), [`outage`] (how long to look for an agent),
//! [`hold`] (what is heard meanwhile) and [`turn`] (how long an answer took). [`caller`] is who may call
//! at all, [`terms`] what a caller was promised. What is counted and logged of a call is [`counting`]'s
//! and [`telling`]'s.

mod budget;
pub mod caller;
pub mod cause;
pub mod counting;
pub mod driver;
pub mod errand;
pub mod goodbye;
pub mod hold;
pub mod keys;
pub mod leg;
pub mod machine;
#[cfg(test)]
mod machine_tests;
pub mod news;
pub mod order;
mod outage;
pub mod playback;
pub mod record;
pub mod registry;
mod telling;
pub mod terms;
pub mod turn;
pub mod uplink;
