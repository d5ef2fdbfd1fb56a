//! What all connections share beside the script: which conversation takes up which.
//!
//! The protocol knows no resumption. A new session continues an older conversation if it is told what
//! was said there, or, told nothing, if one before it was lost: so a script's replies are used once in
//! a call that survives its connection, as they are with EVI.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Dialect;
use crate::sim::evi::chat;

/// Conversations that are remembered for being taken up.
const MAX_PAST: usize = 1_000;
/// So many characters decide whether two texts are the same: what was cut is told as far as it was heard.
const TELLING: usize = 8;

pub(super) struct World {
    pub shared: Arc<chat::World>,
    pub dialect: Dialect,
    past: Mutex<Vec<Past>>,
}

/// A conversation whose connection is over.
pub(super) struct Past {
    pub group: String,
    /// What was said in it, by both.
    pub texts: Vec<String>,
    /// It ended against the client's will, or with a question open.
    pub lost: bool,
}

impl World {
    pub fn new(shared: Arc<chat::World>, dialect: Dialect) -> World {
        World {
            shared,
            dialect,
            past: Mutex::default(),
        }
    }

    fn past(&self) -> MutexGuard<'_, Vec<Past>> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection is over.
    pub fn remember(&self, past: Past) {
        let mut all = self.past();
        if all.len() < MAX_PAST {
            all.push(past);
        }
    }

    /// The conversation that a session goes on with which was told this.
    pub fn take_up(&self, told: &[String]) -> Option<Past> {
        let mut all = self.past();
        let same = |a: &str, b: &str| {
            let length = TELLING.min(a.chars().count()).min(b.chars().count());
            length > 0 && a.chars().take(length).eq(b.chars().take(length))
        };
        let fits = |past: &Past| {
            if told.is_empty() {
                past.lost
            } else {
                let mut pairs = told
                    .iter()
                    .flat_map(|told| past.texts.iter().map(move |text| (told, text)));
                pairs.any(|(told, text)| same(told, text))
            }
        };
        let at = all.iter().rposition(fits)?;
        Some(all.remove(at))
    }
}
