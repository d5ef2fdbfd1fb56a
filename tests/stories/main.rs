//! Telephone stories on the real program, between strict simulators.

mod told;

/// The daemon.
const PROGRAM: &str = env!("CARGO_BIN_EXE_hume-bridge");
