//! Telephone stories on the real program, between strict simulators.

mod admission;
mod agents;
mod apart;
mod check;
mod demo;
mod dial;
mod drain;
mod edges;
mod ends;
mod errands;
mod faults;
mod instances;
mod leaks;
mod log;
mod metrics;
mod operator;
mod outages;
mod overload;
mod records;
mod refusals;
mod routes;
mod secrets;
mod service;
mod socket;
mod stage;
mod steering;
mod tls;
mod told;
mod tools;
mod transfer;

/// The daemon.
const PROGRAM: &str = env!("CARGO_BIN_EXE_hume-bridge");
