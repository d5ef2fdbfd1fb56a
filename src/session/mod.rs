//! One call, and all of them.
//!
//! [`machine`] decides, [`driver`] does, [`registry`] knows who is there. The machine's parts have
//! rooms of their own: [`playback`] (what the caller has heard), [`uplink`] (the caller's voice
//! before the agent listens) and [`goodbye`] (when everything has been said).

pub mod cause;
pub mod driver;
pub mod goodbye;
pub mod machine;
#[cfg(test)]
mod machine_tests;
pub mod order;
pub mod playback;
pub mod registry;
pub mod uplink;
