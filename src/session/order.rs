//! What a call may be told, and what it decides for its caller: two words between the register,
//! the machine and the webhooks.

/// What an operator, or the daemon itself, tells a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// End the call; unless `now`, the agent's current words are heard first.
    HangUp { now: bool },
    /// The daemon's patience with draining is over.
    DrainExpired,
}

/// What happens to the caller after the media stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    HangUp,
    /// The configured fallback: a sentence or another number.
    Fallback,
    /// `calls.drain_goodbye`, then the end.
    DrainGoodbye,
}
