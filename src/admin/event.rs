//! What `events` tells, line by line; protocol 1.
//!
//! ```text
//! {"protocol":1,"version":"0.1.0","event":{"at":"...","type":"snapshot","draining":false,"sessions":[...]}}
//! {"protocol":1,"version":"0.1.0","event":{"at":"...","type":"barge-in","callSid":"CA12..."}}
//! ```
//!
//! The first line holds everything as it was when the stream began; every later line is one change,
//! in the order in which they happened: nothing is missed and nothing told twice. No line holds what
//! was said, and telephone numbers stand only where `sessions` has them too. Pure, like the rest of
//! the wire.

use serde::{Deserialize, Serialize};

use super::protocol::Session;

/// One line of the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// RFC 3339, UTC.
    pub at: String,
    #[serde(flatten)]
    pub what: What,
}

/// What the line is about. The cause of an end is the word that `session ended` has in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
pub enum What {
    /// Always the first.
    Snapshot {
        draining: bool,
        /// Oldest first.
        sessions: Vec<Session>,
    },
    CallStarted {
        call_sid: String,
        stream_sid: String,
        agent: String,
        from: String,
        to: String,
        started_at: String,
        /// The route that it took, by name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        route: Option<String>,
    },
    AgentConnected {
        call_sid: String,
    },
    /// The agent's connection is over, whoever ended it.
    AgentClosed {
        call_sid: String,
    },
    Paused {
        call_sid: String,
    },
    Resumed {
        call_sid: String,
    },
    ToolCall {
        call_sid: String,
        /// The tool's name.
        tool: String,
    },
    /// The caller spoke over the agent, and what was queued has been taken back.
    BargeIn {
        call_sid: String,
    },
    HangingUp {
        call_sid: String,
        cause: String,
    },
    /// The caller spoke over the agent's goodbye: the call goes on.
    GoodbyeWithdrawn {
        call_sid: String,
    },
    /// It was to be ended while it was away, and Twilio was not reached: it goes on there, without us.
    GoesOn {
        call_sid: String,
    },
    /// The call has left its agent, which waits: for `digits` to be sounded, or for a `transfer`.
    Away {
        call_sid: String,
        why: String,
    },
    /// It is with its agent again.
    Back {
        call_sid: String,
    },
    CallEnded {
        call_sid: String,
        /// Missing when the call died of a defect.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<String>,
        duration_seconds: u64,
    },
    /// A call was not admitted.
    CallRefused {
        call_sid: String,
        reason: String,
    },
    Draining {
        draining: bool,
    },
    Reloaded {
        changed: Vec<String>,
        need_restart: Vec<String>,
    },
    /// Always the last when the daemon stops.
    Stopped {},
    /// An event of a daemon newer than this.
    #[serde(other)]
    Other,
}

impl What {
    /// The call that it is about.
    pub fn call(&self) -> Option<&str> {
        match self {
            What::CallStarted { call_sid, .. }
            | What::AgentConnected { call_sid }
            | What::AgentClosed { call_sid }
            | What::Paused { call_sid }
            | What::Resumed { call_sid }
            | What::ToolCall { call_sid, .. }
            | What::BargeIn { call_sid }
            | What::HangingUp { call_sid, .. }
            | What::GoodbyeWithdrawn { call_sid }
            | What::Away { call_sid, .. }
            | What::Back { call_sid }
            | What::GoesOn { call_sid }
            | What::CallEnded { call_sid, .. }
            | What::CallRefused { call_sid, .. } => Some(call_sid),
            What::Snapshot { .. }
            | What::Draining { .. }
            | What::Reloaded { .. }
            | What::Stopped {}
            | What::Other => None,
        }
    }
}
