//! Why a call ended: one word for logs, metrics and the record.

use crate::agent::Closed;

/// Why a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    CallerHungUp,
    /// The media socket was lost without a word.
    CarrierLost,
    /// The media socket's peer makes no sense or takes nothing.
    CarrierFailed,
    AgentHungUp,
    AgentInactive,
    AgentExpired,
    AgentFailed(Closed),
    Operator,
    MaxDuration,
    /// Nothing was heard of the caller.
    NoInput,
    /// The caller pressed the key for it.
    Key,
    /// The caller was put through to somebody.
    Transferred,
    /// Nobody could be reached, and the caller was told so.
    TransferFailed,
    Drain,
}

impl Cause {
    /// One for each word.
    pub const ALL: [Cause; 17] = [
        Cause::CallerHungUp,
        Cause::CarrierLost,
        Cause::CarrierFailed,
        Cause::AgentHungUp,
        Cause::AgentInactive,
        Cause::AgentExpired,
        Cause::AgentFailed(Closed::Auth),
        Cause::AgentFailed(Closed::Quota),
        Cause::AgentFailed(Closed::Rejected),
        Cause::AgentFailed(Closed::Lost),
        Cause::Operator,
        Cause::MaxDuration,
        Cause::NoInput,
        Cause::Key,
        Cause::Transferred,
        Cause::TransferFailed,
        Cause::Drain,
    ];

    /// The word in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::CallerHungUp => "caller-hung-up",
            Cause::CarrierLost => "carrier-lost",
            Cause::CarrierFailed => "carrier-failed",
            Cause::AgentHungUp => "agent-hung-up",
            Cause::AgentInactive => "agent-inactive",
            Cause::AgentExpired => "agent-expired",
            Cause::AgentFailed(Closed::Auth) => "agent-auth",
            Cause::AgentFailed(Closed::Quota) => "agent-quota",
            Cause::AgentFailed(Closed::Rejected) => "agent-rejected",
            Cause::AgentFailed(_) => "agent-lost",
            Cause::Operator => "operator",
            Cause::MaxDuration => "max-duration",
            Cause::NoInput => "no-input",
            Cause::Key => "key",
            Cause::Transferred => "transferred",
            Cause::TransferFailed => "transfer-failed",
            Cause::Drain => "drain",
        }
    }
}
