//! Whole calls: the bytes decide what happens in them, and a judge looks on.
//!
//! Whatever telephone, agent, operator and clock do: the promises of `sim::chance` hold after every
//! event, and nothing panics. See tests/simulation.rs for how to read one that breaks a promise.
//!
//! The input is records of four bytes: three that say what kind of call it is, then one for each
//! thing that happens: what, when, and two bytes of particulars. When they are used up the caller
//! hangs up.

use std::time::Instant;

use hume_bridge::sim::chance;

/// Takes any bytes. Panics when a promise is broken.
pub fn run(data: &[u8]) {
    let outcome = chance::play(data, Instant::now(), false);
    if let Some(broken) = outcome.broken {
        let hex: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
        panic!("{broken}\nHUME_BRIDGE_CALL={hex}");
    }
}
