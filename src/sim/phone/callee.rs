//! Who is called by a `<Dial>`, as a story tells it: `[callee."+61..."]`.
//!
//! A callee answers after a while, or does not. Whoever answers hears what is said to them, presses
//! keys when they are asked for some, is connected, talks for a while and hangs up.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::script::duration;
use super::switchboard::Wishes;

/// One who can be called. A number that no story names belongs to somebody who answers at once and
/// talks for two seconds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Callee {
    /// What comes of calling them.
    pub when_called: WhenCalled,
    /// How long it rings before they answer, are busy, or are found to be unreachable.
    #[serde(deserialize_with = "span")]
    pub answers_after: Duration,
    /// Keys for whoever asks for some, one after another.
    pub presses: String,
    /// Before each key.
    #[serde(deserialize_with = "span")]
    pub presses_after: Duration,
    /// Hangs up so long after answering, connected or not.
    #[serde(deserialize_with = "maybe_span")]
    pub hangs_up_after: Option<Duration>,
    /// How long they talk once they are connected; then they hang up.
    #[serde(deserialize_with = "span")]
    pub talks_for: Duration,
    /// What Twilio says of them if they answered and were not connected; `DialBridged` is the field
    /// that tells, and this one has been seen either way.
    pub unbridged: Unbridged,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenCalled {
    #[default]
    Answers,
    Busy,
    /// It rings until the time is over.
    NoAnswer,
    /// The call cannot be placed.
    Failed,
    /// The network finds nobody there.
    Unreachable,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unbridged {
    #[default]
    Completed,
    NoAnswer,
}

impl Default for Callee {
    fn default() -> Self {
        Self {
            when_called: WhenCalled::Answers,
            answers_after: Duration::ZERO,
            presses: String::new(),
            presses_after: Duration::from_millis(500),
            hangs_up_after: None,
            talks_for: Duration::from_secs(2),
            unbridged: Unbridged::Completed,
        }
    }
}

/// Everybody who can be called, by number.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Callees(pub BTreeMap<String, Callee>);

impl Callees {
    pub(super) fn of(&self, number: &str) -> Callee {
        self.0.get(number).cloned().unwrap_or_default()
    }
}

/// A callee's call.
pub(super) struct CalleeLeg {
    pub call_sid: String,
    pub number: String,
    /// The caller id they see.
    pub from: String,
    pub wishes: Arc<Wishes>,
    pub answered_at: Option<Duration>,
    pub bridged_at: Option<Duration>,
    /// When they hang up of their own accord.
    pub leaves_at: Option<Duration>,
    pub presses: VecDeque<char>,
    /// Callbacks about it so far.
    pub told: u32,
}

fn span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    duration(&text).ok_or_else(|| {
        serde::de::Error::custom(format!(
            "{text:?} is no duration: write it as \"1.5s\", \"200ms\" or \"2m\""
        ))
    })
}

fn maybe_span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    span(deserializer).map(Some)
}
