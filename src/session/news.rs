//! What happens to the calls, told to those who follow.
//!
//! The register publishes each change under its lock, in the same step that makes the change: a
//! follower who begins with what the register shows then misses nothing and hears nothing twice.
//! All followers share one ring of [`RING`] pieces of news; who falls behind by more has lost the
//! thread, and is told so by the ring. Nobody waits for a follower, and with none nothing is even
//! put together.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use tokio::sync::broadcast;

use super::{
    cause::Cause,
    errand::Errand,
    registry::{Refused, View},
};
use crate::twilio::CallSid;

/// Pieces of news kept for those who are slow to take them.
pub const RING: usize = 1024;

/// One change.
pub struct Told {
    pub at: SystemTime,
    /// `None` for what concerns the house.
    pub call: Option<CallSid>,
    pub news: News,
}

/// What changed. Never what was said.
pub enum News {
    Started(Arc<View>),
    AgentConnected,
    AgentClosed,
    Paused,
    Resumed,
    ToolCall {
        /// Fit to be printed.
        name: String,
    },
    BargeIn,
    HangingUp(Cause),
    GoodbyeWithdrawn,
    /// It was to be ended while it had no stream, and Twilio was not reached: it goes on without us.
    GoesOn,
    /// It has left its agent, which waits.
    Away {
        why: Away,
    },
    Back,
    Ended {
        /// Missing when the call's task died without saying one.
        cause: Option<Cause>,
        lasted: Duration,
    },
    Refused(Refused),
    Draining(bool),
    Reloaded {
        changed: Vec<String>,
        need_restart: Vec<String>,
    },
}

/// What a call is away for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Away {
    Digits = 1,
    Transfer,
}

impl Away {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Away::Digits => "digits",
            Away::Transfer => "transfer",
        }
    }

    /// From the number that a view keeps of it, 0 for none.
    pub(super) fn of(number: u8) -> Option<Away> {
        [Away::Digits, Away::Transfer]
            .into_iter()
            .find(|away| *away as u8 == number)
    }
}

impl From<&Errand> for Away {
    fn from(errand: &Errand) -> Away {
        match errand {
            Errand::Digits(_) => Away::Digits,
            Errand::Transfer(_) => Away::Transfer,
        }
    }
}

/// A live call at the moment when somebody began to follow.
pub struct Seen {
    pub view: Arc<View>,
    pub agent_connected: bool,
    pub paused: bool,
    pub ending: bool,
    pub barge_ins: u64,
    pub away: Option<Away>,
}

impl Seen {
    pub(super) fn of(view: &Arc<View>) -> Self {
        Seen {
            agent_connected: view.agent_connected(),
            paused: view.paused.load(Relaxed),
            ending: view.ending.load(Relaxed),
            barge_ins: view.barge_ins.load(Relaxed),
            away: view.away(),
            view: view.clone(),
        }
    }
}

/// Everything as it is, and from there on every change.
pub struct Followed {
    /// Oldest first.
    pub calls: Vec<Seen>,
    pub draining: bool,
    pub news: broadcast::Receiver<Arc<Told>>,
}

impl News {
    /// Writes the change into the call's view; `false` when it was so already.
    pub(super) fn enter(&self, view: &View) -> bool {
        match self {
            News::AgentConnected => !view.agent_connected.swap(true, Relaxed),
            News::AgentClosed => view.agent_connected.swap(false, Relaxed),
            News::Paused => !view.paused.swap(true, Relaxed),
            News::Resumed => view.paused.swap(false, Relaxed),
            News::HangingUp(_) => !view.ending.swap(true, Relaxed),
            News::GoodbyeWithdrawn => view.ending.swap(false, Relaxed),
            News::Away { why } => view.away.swap(*why as u8, Relaxed) != *why as u8,
            News::Back => view.away.swap(0, Relaxed) != 0,
            News::BargeIn => {
                view.barge_ins.fetch_add(1, Relaxed);
                true
            }
            _ => true,
        }
    }
}

#[cfg(test)]
#[path = "news_tests.rs"]
mod tests;
