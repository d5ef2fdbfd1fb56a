//! What a call may be told, what it answers, and what it decides for its caller: words between the
//! register, the machine and the webhooks.

use std::fmt;

use super::errand::{Errand, Transferred};
use crate::tools::Transfer;

/// What operators let an agent know stays true to the end of the call, and is told again to every agent that
/// comes after this one: so many characters in all.
pub const MAX_CONTEXT: usize = 16_000;

/// What an operator, or the daemon itself, tells a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// End the call; unless `now`, the agent's current words are heard first.
    HangUp { now: bool },
    /// The daemon's patience with draining is over.
    DrainExpired,
    /// Twilio says that the call is over, or (unless `caller_left`) its stream; its media socket is to
    /// say so itself, soon.
    CallOver { caller_left: bool },
    /// Have the agent say this to the caller.
    Say(Words),
    /// Let the agent know this for the rest of the call.
    AddContext(Words),
    /// Have the agent listen and not answer.
    Pause,
    /// Have it answer again.
    Resume,
    /// Put the caller through, once the agent has said what it is saying.
    Transfer(Transfer),
    /// What has become of a transfer.
    Transferred(Transferred),
    /// Twilio runs the TwiML of the errand that the call is away on: it has asked for it.
    ErrandBegun,
}

/// What somebody says or is told. It belongs to a conversation, so it is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Words(pub String);

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Words({} characters)", self.0.chars().count())
    }
}

/// What came of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Done,
    /// The agent was given words to say and promises only something like them.
    Nearly,
    /// It was so already; nothing had to be done.
    Already,
    Refused(Refusal),
}

/// Why a call does not do what it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the call's agent is not ready yet; try again in a moment")]
    NotReady,
    #[error("the call is ending")]
    Ending,
    #[error("this call's agent cannot be given words to say")]
    CannotSay,
    #[error("this call's agent cannot be told anything in mid-call")]
    CannotLearn,
    #[error("the agent can be told {MAX_CONTEXT} characters in a call, and this would be more")]
    KnowsEnough,
    #[error("this call's agent cannot be paused")]
    CannotPause,
    #[error("the agent is paused and would say nothing; resume it first")]
    Paused,
    #[error(
        "the call is being transferred, or its keys are being sounded; try again when it is back"
    )]
    Away,
    #[error("the agent's connection takes nothing at the moment; try again")]
    Stuck,
}

/// What happens to the caller after the media stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum After {
    HangUp,
    /// The configured fallback: a sentence or another number.
    Fallback,
    /// `calls.drain_goodbye`, then the end.
    DrainGoodbye,
    /// `calls.no_input_farewell` or `calls.max_duration_farewell`, for want of an agent to say it, and
    /// then the end.
    NoInputFarewell,
    MaxDurationFarewell,
    /// They are away for this.
    Errand(Errand),
}
