//! hume-bridge: telephone calls from Twilio, answered by a speech-to-speech agent.
//!
//! ```text
//! Twilio --POST /voice/incoming--> http::voice --admit--> session::registry
//!        <-- TwiML: <Connect action><Stream url><Parameter token/> ... --
//! Twilio ==WS /media-stream=====> http::media --> session::driver <==WS==> agent::link ==> Hume EVI
//!                                                  |        ^
//!                  Event{carrier, agent, operator, tick} | Action{send, clear, mark, answer, end}
//!                                                  v        |
//!                                           session::machine
//! humebridgectl --one JSON line--> admin::server --> session::registry
//! signals --> daemon::lifecycle --> drain: admit no more --> hard: cut --> exit code
//! ```
//!
//! - [`audio`]: G.711, WAV, resampling. Pure; state is kept across chunks.
//! - [`twilio`]: Twilio's wires: signatures, webhooks, TwiML, Media Streams, REST.
//! - [`agent`]: the neutral seam to a speech-to-speech agent, and the agents behind it.
//! - [`session`]: one call: the state machine, its driver, the register of all calls.
//! - [`routing`]: which calls are answered how, and what is known of their callers.
//! - [`tools`]: what an agent can have done, and how it is done.
//! - [`http`]: the two listeners and what they serve.
//! - [`metrics`]: what the house counts, for Prometheus.
//! - [`admin`]: the control socket: its protocol, server and client.
//! - [`config`]: the TOML file, credentials, command lines; every default in one place.
//! - [`check`]: looks whether all is ready for calls, before the first one.
//! - [`daemon`]: puts it all together; start, drain, exit.
//! - `humebridgectl`: [`ctl`].
//! - [`sim`]: a telephone, an EVI, a Realtime server and a Twilio REST API, strict and faithful; demo,
//!   load and soak.

mod accepting;
pub mod admin;
pub mod agent;
pub mod audio;
pub mod check;
pub mod config;
pub mod ctl;
pub mod daemon;
mod files;
pub mod http;
pub mod metrics;
mod pinned;
mod printable;
pub mod routing;
pub mod session;
pub mod sim;
mod stream;
mod timestamp;
pub mod tools;
pub mod twilio;
