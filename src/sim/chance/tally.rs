//! What was met in a call, so that somebody can see that much was tried.

use std::{collections::BTreeMap, time::Duration};

use crate::session::{
    errand::Errand,
    machine::{Answer, Note},
    order::{After, Verdict},
};

/// How often what was done and noted, in words.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub steps: u32,
    pub lasted: Duration,
    /// Words for what was done and noted.
    pub met: BTreeMap<&'static str, u32>,
}

impl Tally {
    pub fn meet(&mut self, what: &'static str) {
        *self.met.entry(what).or_default() += 1;
    }
}

pub fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Done => "done",
        Verdict::Nearly => "nearly",
        Verdict::Already => "already",
        Verdict::Refused(_) => "refused",
    }
}

pub fn after(after: After) -> &'static str {
    match after {
        After::HangUp => "after: hang up",
        After::Fallback => "after: fallback",
        After::DrainGoodbye => "after: drain goodbye",
        After::NoInputFarewell => "after: no-input farewell",
        After::MaxDurationFarewell => "after: max-duration farewell",
        After::Errand(Errand::Digits(_)) => "after: digits",
        After::Errand(Errand::Transfer(_)) => "after: transfer",
    }
}

pub fn note(note: &Note) -> &'static str {
    match note {
        Note::AgentReady { again: true, .. } => "agent ready again",
        Note::AgentReady { .. } => "agent ready",
        Note::Retrying { .. } => "retrying",
        Note::ToolReplaced => "tool replaced",
        Note::Filler => "filler",
        Note::KeysTold { .. } => "keys told",
        Note::KeyActed => "key acted",
        Note::Away(Errand::Transfer(_)) => "away: transfer",
        Note::Away(Errand::Digits(_)) => "away: digits",
        Note::Transferred(_) => "transferred",
        Note::ToolAnswered { outcome, .. } => outcome,
        Note::Back { .. } => "back",
        Note::Recycling { forced: false } => "recycling",
        Note::Recycling { forced: true } => "recycling, forced",
        Note::CallerAudioRepeated { .. } => "caller audio repeated",
        Note::SaidAgain => "said again",
        Note::Holding => "holding",
        Note::NoInputCheck => "no-input check",
        Note::AgentError { .. } => "agent error",
        Note::AgentIgnored(_) => "agent ignored",
        Note::AgentClosed(_) => "agent closed",
        Note::ToolCall { .. } => "tool call",
        Note::BargeIn { .. } => "barge-in",
        Note::SpuriousInterruption => "spurious interruption",
        Note::Answered { .. } => "answered",
        Note::AnswerHeard { .. } => "answer heard",
        Note::HangingUp(_) => "hanging up",
        Note::GoodbyeWithdrawn => "goodbye withdrawn",
        Note::Paused => "paused",
        Note::Resumed => "resumed",
        Note::AudioDropped { .. } => "audio dropped",
        Note::CallerAudioDropped { .. } => "caller audio dropped",
        Note::SilenceFilled { .. } => "silence filled",
        Note::RestFailed => "rest failed",
        Note::GoesOn => "goes on",
        Note::OverDoubted => "over doubted",
        Note::Lingered => "lingered",
    }
}

pub fn answer(answer: &Answer) -> &'static str {
    match answer {
        Answer::HangingUp => "answer: hanging up",
        Answer::UnknownTool => "answer: unknown tool",
        Answer::Transferring => "answer: transferring",
        Answer::KeysSent => "answer: keys sent",
        Answer::LastKeysSent => "answer: last keys sent",
        Answer::HangingUpAfterKeys => "answer: hanging up after keys",
        Answer::KeysFirst => "answer: keys first",
        Answer::TransfersSpent => "answer: transfers spent",
        Answer::KeysSpent => "answer: keys spent",
        Answer::Noted => "answer: noted",
        Answer::Replaced => "answer: replaced",
        Answer::TooMany => "answer: too many",
        Answer::TimedOut => "answer: timed out",
        Answer::NotesFull => "answer: notes full",
        Answer::Ending => "answer: ending",
        Answer::Done(_) => "answer: done",
        Answer::Failed { .. } => "answer: failed",
    }
}
