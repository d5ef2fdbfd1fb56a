//! Simulators.
pub mod demo;
pub mod evi;
pub mod load;
pub mod phone;
pub mod rest;
pub mod scenario;
pub mod speech;
