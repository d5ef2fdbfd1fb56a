//! What a Realtime server was told of what the caller heard: it hears nothing of it by itself.
//!
//! Every number that it was given is held against the recording of what was really heard, whatever the
//! story expects.

use std::time::Duration;

use super::{
    errands::differ,
    observed::{Expect, Observed},
};
use crate::{
    config::AgentKind,
    sim::{evi::What, phone::Event, speech},
};

/// Samples of mu-law in a millisecond.
const PER_MS: u64 = 8;
/// By so much the bridge may be wrong about what the caller heard: the telephone's own way, which it
/// cannot see, and a machine that is busy with other stories.
const TOLERANCE_MS: u64 = 600;

impl Observed {
    pub(super) fn missed_hearing(&self, expect: &Expect) -> Vec<String> {
        if self.kind != AgentKind::Realtime {
            return Vec::new();
        }
        let mut missed = Vec::new();
        let mut truncated = Vec::new();
        let (mut deleted, mut replayed) = (Vec::new(), Vec::new());
        for event in &self.agent.events {
            match &event.what {
                What::Truncated { clip, heard_ms, .. } => {
                    truncated.push(clip.clone());
                    missed.extend(self.misheard(clip, *heard_ms));
                }
                What::Deleted { clip, .. } if !clip.is_empty() => {
                    deleted.push(clip.clone());
                    missed.extend(self.misheard(clip, 0));
                }
                What::Replayed { text, .. } => replayed.push(text.clone()),
                _ => {}
            }
        }
        if truncated != expect.truncated {
            missed.push(format!(
                "truncated: expected {:?}, were {truncated:?}",
                expect.truncated
            ));
        }
        if deleted != expect.deleted {
            missed.push(format!(
                "deleted: expected {:?}, were {deleted:?}",
                expect.deleted
            ));
        }
        missed.extend(differ("told of before", &expect.replayed, &replayed));
        missed
    }

    /// What is wrong with the word that so much of a clip was heard.
    fn misheard(&self, clip: &str, heard_ms: u64) -> Option<String> {
        let Some(found) = self.find(clip, 0) else {
            return (heard_ms > 0).then(|| {
                format!(
                    "the agent was told that {heard_ms} ms of {clip} were heard, of which nothing was"
                )
            });
        };
        let length = speech::clip(clip).map_or(0, |clip| clip.len() as u64) / PER_MS;
        let began = Duration::from_millis(found.at as u64 / PER_MS);
        let mut cleared = self.call.entries.iter().filter_map(|entry| {
            let cleared = matches!(entry.event, Event::ClearReceived { .. });
            cleared.then_some(entry.at).filter(|at| *at > began)
        });
        let heard = match cleared.next() {
            Some(at) => length.min((at - began).as_millis() as u64),
            None => length,
        };
        (heard.abs_diff(heard_ms) > TOLERANCE_MS).then(|| {
            format!(
                "the agent was told that {heard_ms} ms of {clip} were heard, and it was {heard}"
            )
        })
    }
}
