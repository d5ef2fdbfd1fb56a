//! What of a call is counted: from the machine's and the far ends' words to the counters' own.
//!
//! The caller's audio, the one thing that happens fifty times a second, is counted where it comes in,
//! in [`driver`](super::driver); everything else is translated here.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use super::{
    leg::Tally,
    machine::{Answer, HANG_UP, Note},
    registry::View,
    uplink::FRAME,
};
use crate::{
    agent::Ignored,
    metrics::{
        Metrics,
        labels::{
            AgentLoss, CallerLoss, Reconnect, Recycle, RestOperation, RestOutcome, Skipped, Tool,
            ToolCall,
        },
    },
    twilio::rest::{Completed, RestError, Updated, message::MessageSid},
};

/// Counts what the machine notes, for the house and for the call's own view.
pub fn note(metrics: &Metrics, view: &View, note: &Note) {
    match note {
        Note::AgentReady {
            again: false, away, ..
        } => metrics.agent_ready.observe(*away),
        Note::AgentReady {
            again: true,
            resumed,
            away,
            ..
        } => {
            metrics.agent_away.observe(*away);
            let how = match resumed {
                true => Reconnect::Resumed,
                false => Reconnect::Anew,
            };
            metrics.agent_reconnects.of(how).inc();
        }
        Note::Retrying { .. } => metrics.agent_reconnects.of(Reconnect::Tried).inc(),
        Note::Recycling { forced } => {
            let when = match forced {
                true => Recycle::Forced,
                false => Recycle::AtAPause,
            };
            metrics.agent_recycles.of(when).inc();
        }
        Note::CallerAudioRepeated { bytes } => metrics.caller_repeated.add(*bytes as u64),
        Note::Holding => metrics.holds.inc(),
        Note::NoInputCheck => metrics.no_input_checks.inc(),
        Note::AgentIgnored(why) => metrics.skipped.of(skipped(*why)).inc(),
        // What is run is counted where it is run, in [`tools`](crate::tools).
        Note::ToolCall {
            name,
            answered: false,
        } => {
            let what = match name == HANG_UP {
                true => ToolCall::HangUp,
                false => ToolCall::Agents,
            };
            metrics.tool_calls.of(what).inc();
        }
        Note::ToolAnswered {
            outcome: "unknown", ..
        } => metrics.tool_calls.of(ToolCall::Unknown).inc(),
        Note::ToolAnswered { name, .. } if name == HANG_UP => {
            metrics.tool_calls.of(ToolCall::HangUp).inc();
        }
        Note::BargeIn { .. } => metrics.barge_ins.inc(),
        Note::SpuriousInterruption => metrics.spurious_interruptions.inc(),
        Note::Answered { after } => metrics.turn_answered.observe(*after),
        Note::AnswerHeard { after } => metrics.turn_heard.observe(*after),
        Note::AudioDropped { bytes } => {
            let dropped = &metrics.agent_bytes_dropped;
            dropped.of(AgentLoss::Late).add(*bytes as u64);
        }
        Note::CallerAudioDropped { bytes } => {
            let frames = bytes.div_ceil(FRAME) as u64;
            view.frames_dropped.fetch_add(frames, Relaxed);
            let dropped = &metrics.caller_frames_dropped;
            dropped.of(CallerLoss::AgentNotReady).add(frames);
        }
        Note::Lingered => metrics.sockets_lingered.inc(),
        Note::SilenceFilled { bytes } => metrics.caller_silence.add(*bytes as u64),
        Note::AgentError { .. }
        | Note::ToolReplaced
        | Note::Filler
        | Note::KeysTold { .. }
        | Note::KeyActed
        | Note::Away(_)
        | Note::ToolCall { .. }
        | Note::ToolAnswered { .. }
        | Note::Transferred(_)
        | Note::Back { .. }
        | Note::AgentClosed(_)
        | Note::HangingUp(_)
        | Note::SaidAgain
        | Note::GoodbyeWithdrawn
        | Note::Paused
        | Note::Resumed
        | Note::RestFailed
        | Note::GoesOn
        | Note::OverDoubted => {}
    }
}

/// Counts what became of agent audio at the telephone's leg, which counts it in bytes.
pub fn agent_audio(metrics: &Metrics, tally: &Tally) {
    metrics.agent_messages.add(tally.sent.messages);
    metrics.agent_bytes.add(tally.sent.audio);
    let dropped = &metrics.agent_bytes_dropped;
    dropped.of(AgentLoss::CarrierSlow).add(tally.dropped.audio);
    // The caller spoke before it had left: it would have come too late.
    dropped.of(AgentLoss::Late).add(tally.cleared.audio);
}

/// Counts what the agent's leg did not send of the caller's audio, which it counts in frames.
pub fn caller_audio(metrics: &Metrics, view: &View, tally: &Tally) {
    let frames = tally.dropped.audio;
    if frames > 0 {
        view.frames_dropped.fetch_add(frames, Relaxed);
        let dropped = &metrics.caller_frames_dropped;
        dropped.of(CallerLoss::AgentSlow).add(frames);
    }
}

/// What Twilio's REST API was asked for, by what it answers.
pub trait Asked {
    const OPERATION: RestOperation;
    /// For [`RestError::Auth`], `Refused`, `Busy` and `Unreachable`.
    const FAILED: [RestOutcome; 4];
    fn outcome(&self) -> RestOutcome;
}

impl Asked for Completed {
    const OPERATION: RestOperation = RestOperation::Complete;
    const FAILED: [RestOutcome; 4] = [
        RestOutcome::CompleteAuth,
        RestOutcome::CompleteRefused,
        RestOutcome::CompleteBusy,
        RestOutcome::CompleteUnreachable,
    ];

    fn outcome(&self) -> RestOutcome {
        match self {
            Completed::Ended => RestOutcome::CompleteEnded,
            Completed::AlreadyOver => RestOutcome::CompleteAlreadyOver,
        }
    }
}

impl Asked for Updated {
    const OPERATION: RestOperation = RestOperation::Redirect;
    const FAILED: [RestOutcome; 4] = [
        RestOutcome::RedirectAuth,
        RestOutcome::RedirectRefused,
        RestOutcome::RedirectBusy,
        RestOutcome::RedirectUnreachable,
    ];

    fn outcome(&self) -> RestOutcome {
        match self {
            Updated::Redirected => RestOutcome::RedirectRedirected,
            Updated::AlreadyOver => RestOutcome::RedirectAlreadyOver,
        }
    }
}

impl Asked for Option<MessageSid> {
    const OPERATION: RestOperation = RestOperation::Message;
    const FAILED: [RestOutcome; 4] = [
        RestOutcome::MessageAuth,
        RestOutcome::MessageRefused,
        RestOutcome::MessageBusy,
        RestOutcome::MessageUnreachable,
    ];

    fn outcome(&self) -> RestOutcome {
        RestOutcome::MessageSent
    }
}

/// Counts what came of asking Twilio's REST API for something.
pub fn rest<T: Asked>(metrics: &Metrics, took: Duration, outcome: &Result<T, RestError>) {
    let [auth, refused, busy, unreachable] = T::FAILED;
    let word = match outcome {
        Ok(answer) => answer.outcome(),
        Err(RestError::Auth { .. }) => auth,
        Err(RestError::Refused { .. }) => refused,
        Err(RestError::Busy { .. }) => busy,
        Err(RestError::Unreachable { .. }) => unreachable,
        // A daemon does not start with these.
        Err(RestError::ApiUrl(_) | RestError::AccountSid | RestError::Client(_)) => unreachable,
    };
    metrics.rest_operations.of(word).inc();
    metrics.rest_duration.of(T::OPERATION).observe(took);
}

/// The tool whose answer this is, where the call itself is who has it; the others are timed where they
/// are run.
pub fn tool(answer: &Answer) -> Option<Tool> {
    match answer {
        Answer::HangingUp | Answer::HangingUpAfterKeys => Some(Tool::HangUp),
        Answer::UnknownTool => Some(Tool::Other),
        _ => None,
    }
}

fn skipped(why: Ignored) -> Skipped {
    match why {
        Ignored::UnknownType => Skipped::AgentUnknown,
        Ignored::Malformed => Skipped::AgentMalformed,
        Ignored::Binary => Skipped::AgentBinary,
        Ignored::BadAudio(_) | Ignored::BadRate => Skipped::AgentBadAudio,
        Ignored::Stale => Skipped::AgentStale,
    }
}
