//! The answer to `route-test`: which route a call would take, why, and what it would find there.
//!
//! The numbers asked about are not repeated, and none of the config's is told.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Which route a call would take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routed {
    /// `default` where none fits.
    pub route: String,
    /// Every route that was looked at, in the order of the file; the last is the call's.
    pub why: Vec<Tried>,
    pub plan: Plan,
}

/// A route that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    pub route: String,
    pub fits: bool,
    /// For people.
    pub why: String,
}

/// What a call of the route would find.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    pub agent: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voice: Option<String>,
    /// `""` for none.
    pub greeting: String,
    pub fallback: Meets,
    /// The route is closed at that time, and this is what its callers meet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<Meets>,
    /// By name.
    pub tools: Vec<String>,
    pub variables: Vec<String>,
    /// What the caller's keys do by themselves.
    #[serde(default)]
    pub keys: BTreeMap<char, Does>,
    /// Of the route; 0 for no limit of its own.
    pub max_concurrent: usize,
    /// Of one caller's calls on the route, 0 for no limit; without it `calls.max_per_caller` holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_per_caller: Option<usize>,
    pub max_duration_seconds: u64,
    /// 0 for never.
    pub no_input_timeout_seconds: u64,
}

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Does {
    Transfer,
    Say,
    Hangup,
    /// Of a daemon newer than this.
    #[serde(other)]
    Other,
}

impl Does {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Does::Transfer => "puts through",
            Does::Say => "says something",
            Does::Hangup => "hangs up",
            Does::Other => "does what this humebridgectl does not know",
        }
    }
}

/// What a caller meets without an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Meets {
    Say,
    Dial,
    Hangup,
    /// Of a daemon newer than this.
    #[serde(other)]
    Other,
}

impl Meets {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Meets::Say => "a sentence",
            Meets::Dial => "another number",
            Meets::Hangup => "the end",
            Meets::Other => "something that this humebridgectl does not know",
        }
    }
}
