//! How long a connection to an agent may take, is watched and lasts: the same keys for every agent.

use std::time::Duration;

use super::{
    check,
    duration::{MINUTE, SECOND},
    reader::Section,
};

/// How a connection to an agent is made, watched and renewed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Connection {
    /// A WebSocket ping this often.
    pub ping_interval: Duration,
    /// The connection is given up when a ping is not answered for this long.
    pub pong_timeout: Duration,
    /// TCP, TLS and WebSocket handshakes together.
    pub connect_timeout: Duration,
    /// From the handshake to an agent that listens.
    pub ready_timeout: Duration,
    /// For how long a first connection that fails is tried again.
    pub connect_budget: Duration,
    /// How long a call waits for an agent that it has lost.
    pub reconnect_budget: Duration,
    /// A conversation this old is taken up on a new connection; zero for never.
    pub recycle_after: Duration,
}

impl Default for Connection {
    fn default() -> Self {
        Connection {
            ping_interval: Duration::from_secs(20),
            pong_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(10),
            ready_timeout: Duration::from_secs(10),
            connect_budget: Duration::from_secs(3),
            reconnect_budget: Duration::from_secs(30),
            // EVI ends a chat after half an hour.
            recycle_after: Duration::from_secs(28 * 60),
        }
    }
}

/// `oldest`, in milliseconds: an agent that ends its conversations itself has to be left before that.
pub(super) fn connection(s: &mut Section<'_, '_>, connection: &mut Connection, oldest: u64) {
    s.set(&mut connection.ping_interval, "ping_interval", |v| {
        check::duration(v, 10..=10 * MINUTE)
    });
    s.set(&mut connection.pong_timeout, "pong_timeout", |v| {
        check::duration(v, 10..=10 * MINUTE)
    });
    s.set(&mut connection.connect_timeout, "connect_timeout", |v| {
        check::duration(v, 10..=2 * MINUTE)
    });
    s.set(&mut connection.ready_timeout, "ready_timeout", |v| {
        check::duration(v, 10..=2 * MINUTE)
    });
    s.set(&mut connection.connect_budget, "connect_budget", |v| {
        check::duration(v, 0..=MINUTE)
    });
    s.set(&mut connection.reconnect_budget, "reconnect_budget", |v| {
        check::duration(v, 0..=10 * MINUTE)
    });
    s.set(&mut connection.recycle_after, "recycle_after", |v| {
        check::duration_or_never(v, SECOND..=oldest)
    });
}
