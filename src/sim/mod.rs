//! Simulators.
pub mod bridge;
pub mod demo;
pub mod ear;
pub mod evi;
pub mod load;
pub mod phone;
pub mod rest;
pub mod scenario;
pub mod speech;
