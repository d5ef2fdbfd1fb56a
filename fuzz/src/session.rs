//! Whole calls: the bytes decide what happens in them, and a judge looks on.
//!
//! Whatever telephone, agent, operator and clock do: the promises of `sim::chance` hold after every
//! event, and nothing panics. See tests/simulation.rs for how to read one that breaks a promise.

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
