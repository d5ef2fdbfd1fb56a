//! The control socket: how an operator's shell steers the daemon.
//!
//! One JSON object a line in each direction over a Unix socket; `events` alone is answered with
//! lines without end. [`protocol`] and [`event`] hold the types that both ends share, [`framing`] the
//! lines, [`server`] (with its desk) the daemon's end and [`client`] the other.
//! Whoever may open the socket may give orders: the file's group is the authorisation, and the
//! peer's uid goes on every audit line.

pub mod client;
pub mod desk;
pub mod event;
mod follow;
pub mod framing;
pub mod protocol;
pub mod routed;
pub mod server;
mod shown;
