//! Stories told to the simulator over a real socket by a client that is not the bridge.

mod client;
mod dialects;
mod shapes;
mod talk;
