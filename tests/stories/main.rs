//! Telephone stories on the real program, between strict simulators.

mod told;
