//! What a story expects, and what its far ends saw.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

use super::asked::ExpectedRequest;
use crate::{
    audio::g711,
    config::AgentKind,
    sim::{
        bridge, ear, evi,
        phone::{CallReport, Ended, Event, Party, Phone},
        rest::{Message, RestRequest},
        speech,
        web::WebRequest,
    },
};

/// What must have been observed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// How the call ended for the caller, in the telephone's words.
    pub ended: String,
    /// The daemon's cause in `session ended`; without it, no session may have begun.
    pub cause: Option<String>,
    /// Clips that the caller heard to the last word, in this order.
    pub heard: Vec<String>,
    /// Clips that the caller heard the beginning of, and not the end.
    pub cut: Vec<String>,
    /// Clips of which the caller heard nothing.
    pub unheard: Vec<String>,
    /// Clips that the agent heard to the last word.
    pub agent_heard: Vec<String>,
    /// How often the bridge cleared what was queued.
    pub clears: usize,
    /// Answers to tool calls, by tool, in order.
    pub answers: BTreeMap<String, Vec<String>>,
    /// Words of Twilio's own voice.
    pub said: Vec<String>,
    /// Requests to the REST API.
    pub rest_requests: usize,
    /// Chats that the agent accepted.
    pub chats: usize,
    /// What the agent's side of the socket was closed with, by the bridge.
    pub agent_closed: Option<u16>,
    /// What the media socket was closed with, by the bridge.
    pub closed: Option<u16>,
    /// What the media socket's upgrade was answered with in place of 101.
    pub upgrade_refused: Option<u16>,
    /// What became of a second media socket for the call.
    pub second_socket: Option<String>,
    /// Numbers that the caller was connected to.
    pub dialled: Vec<String>,
    /// Words that stand in the log.
    pub logged: Vec<String>,
    /// Media streams of the call.
    pub streams: Option<usize>,
    /// Numbers that the caller really spoke with.
    pub bridged_with: Vec<String>,
    /// Words of Twilio's voice to callees alone.
    pub callee_heard: Vec<String>,
    /// Keys sounded into the call, with their pauses.
    pub digits_played: Vec<String>,
    /// Messages that were sent: to whom, and words of each.
    pub messages: Vec<ExpectedMessage>,
    /// Words of each text that the agent was given as the caller's (`user_input`).
    pub prompts: Vec<String>,
    /// Words of each text that the agent was made to say (`assistant_input`).
    pub told_to_say: Option<Vec<String>>,
    /// Variables as the agent knew them in the end; there may be more.
    pub variables: BTreeMap<String, String>,
    /// Words of the contexts that the agent was given.
    pub contexts: Vec<String>,
    /// Tools as they were last declared to the agent, in any order.
    pub tools: Option<Vec<String>>,
    /// The voice that the agent was asked for.
    pub voice: Option<String>,
    /// Words of the answers to tool calls, by tool, in order.
    pub contents: BTreeMap<String, Vec<String>>,
    /// Requests to the story's web server: `"POST /orders"`, or a table with more of it.
    pub web: Vec<ExpectedRequest>,
    /// Clips of which a Realtime server was told how much was heard, in order.
    pub truncated: Vec<String>,
    /// Clips that a Realtime server was told nothing was heard of, in order.
    pub deleted: Vec<String>,
    /// Words of what a Realtime server was told of the conversation before it, in order.
    pub replayed: Vec<String>,
    /// Lines of the call record file `{dir}/records.jsonl`; of each, what is given here.
    pub records: Vec<toml::Table>,
}

/// A message, as a story expects it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedMessage {
    pub to: String,
    /// Words of it.
    pub body: String,
}

/// A call as seen from all its far ends.
pub struct Observed {
    pub call: CallReport,
    pub agent: evi::Record,
    pub requests: Vec<RestRequest>,
    pub violations: Vec<String>,
    pub log: Vec<String>,
    /// Messages that Twilio took.
    pub messages: Vec<Message>,
    /// What the story's web server was asked.
    pub web: Vec<WebRequest>,
    /// Lines of the call record file.
    pub records: Vec<serde_json::Value>,
    /// Which agent it was.
    pub kind: AgentKind,
    /// What the story holds that must not be logged.
    pub(super) secrets: Vec<String>,
    /// Those of the story, by name.
    pub(super) credentials: BTreeMap<String, String>,
    /// The telephone, for its clips.
    pub(super) phone: Phone,
}

impl Observed {
    /// What the story expects and the far ends did not see.
    pub fn missed(&self, expect: &Expect) -> Vec<String> {
        let mut missed: Vec<String> = self
            .violations
            .iter()
            .map(|what| format!("violation: {what}"))
            .collect();
        let mut want = |holds: bool, words: String| {
            if !holds {
                missed.push(words);
            }
        };
        let ended = ended_word(&self.call.ended);
        want(
            ended == expect.ended,
            format!("ended: expected {:?}, was {ended:?}", expect.ended),
        );
        let cause = self.cause();
        want(
            cause == expect.cause,
            format!("cause: expected {:?}, was {cause:?}", expect.cause),
        );

        let mut from = 0;
        for name in &expect.heard {
            match self.find(name, from) {
                // The next one begins behind it, and may be the same.
                Some(found) if found.is_whole() => {
                    from = found.at + speech::clip(name).map_or(0, |clip| clip.len() / 2);
                }
                found => want(
                    false,
                    format!("{name} was not heard whole and in order: {found:?}"),
                ),
            }
        }
        for name in &expect.cut {
            let found = self.find(name, 0);
            want(
                found.is_some_and(|found| !found.is_whole()),
                format!("{name} was not cut: {found:?}"),
            );
        }
        for name in &expect.unheard {
            let found = self.find(name, 0);
            want(found.is_none(), format!("{name} was heard: {found:?}"));
        }
        for name in &expect.agent_heard {
            let found = self.agent_find(name);
            want(
                found.is_some_and(|found| found.is_whole()),
                format!("the agent did not hear {name} whole: {found:?}"),
            );
        }
        let clears = self
            .call
            .count(|event| matches!(event, Event::ClearReceived { .. }));
        want(
            clears == expect.clears,
            format!("clears: expected {}, were {clears}", expect.clears),
        );
        for unexplained in self.unexplained(expect) {
            want(false, unexplained);
        }
        let answers = self.answers();
        want(
            answers == expect.answers,
            format!("answers: expected {:?}, were {answers:?}", expect.answers),
        );
        let said: Vec<&str> = self.said();
        want(
            said.len() == expect.said.len(),
            format!(
                "Twilio's own voice: expected {:?}, was {said:?}",
                expect.said
            ),
        );
        for words in &expect.said {
            want(
                said.iter().any(|said| said.contains(words.as_str())),
                format!("{words:?} was not said: {said:?}"),
            );
        }
        want(
            self.requests.len() == expect.rest_requests,
            format!(
                "REST requests: expected {}, were {:?}",
                expect.rest_requests, self.requests
            ),
        );
        let chats = self.count_agent(|what| matches!(what, evi::What::Ready { .. }));
        want(
            chats == expect.chats,
            format!("chats: expected {}, were {chats}", expect.chats),
        );
        if let Some(code) = expect.agent_closed {
            let closed = self.count_agent(|what| {
                matches!(what, evi::What::Closed { by: evi::By::Bridge, code: Some(seen), .. } if *seen == code)
            });
            want(
                closed > 0,
                format!("the bridge did not close the agent's socket with {code}"),
            );
        }
        let closed = self.first(|event| match event {
            Event::SocketClosed {
                by: Party::Bridge,
                code,
                ..
            } => *code,
            _ => None,
        });
        want(
            expect.closed.is_none() || closed == expect.closed,
            format!(
                "media socket closed: expected {:?}, was {closed:?}",
                expect.closed
            ),
        );
        let refused = self.first(|event| match event {
            Event::UpgradeRefused { status } => Some(*status),
            _ => None,
        });
        want(
            refused == expect.upgrade_refused,
            format!(
                "upgrade refused: expected {:?}, was {refused:?}",
                expect.upgrade_refused
            ),
        );
        let second = self.first(|event| match event {
            Event::SecondSocket { outcome } => Some(outcome.clone()),
            _ => None,
        });
        want(
            second == expect.second_socket,
            format!(
                "second socket: expected {:?}, was {second:?}",
                expect.second_socket
            ),
        );
        let dialled = self.all(|event| match event {
            Event::Dialled { numbers } => Some(numbers.clone()),
            _ => None,
        });
        let dialled = dialled.concat();
        want(
            dialled == expect.dialled,
            format!("dialled: expected {:?}, was {dialled:?}", expect.dialled),
        );
        for words in &expect.logged {
            want(
                self.log.iter().any(|line| line.contains(words.as_str())),
                format!("not logged: {words:?}"),
            );
        }
        for line in self.log.iter().filter(|line| line.contains("panicked")) {
            want(false, format!("the daemon panicked: {line}"));
        }
        for secret in [
            bridge::HUME_KEY,
            bridge::REALTIME_KEY,
            bridge::AUTH_TOKEN,
            "+15551234567",
            "15557654321",
            "+1555",
        ]
        .into_iter()
        .chain(self.secrets.iter().map(String::as_str))
        {
            want(
                !self.log.iter().any(|line| line.contains(secret)),
                format!("{secret} is in the log"),
            );
        }
        missed.extend(self.missed_errands(expect));
        missed.extend(self.missed_knowledge(expect));
        missed.extend(self.missed_hearing(expect));
        missed
    }

    /// What the first of the telephone's events of some kind says.
    fn first<T>(&self, of: impl FnMut(&Event) -> Option<T>) -> Option<T> {
        self.call
            .entries
            .iter()
            .map(|entry| &entry.event)
            .find_map(of)
    }

    /// What all the telephone's events of some kind say.
    pub(super) fn all<T>(&self, of: impl FnMut(&Event) -> Option<T>) -> Vec<T> {
        let events = self.call.entries.iter().map(|entry| &entry.event);
        events.filter_map(of).collect()
    }

    /// The cause in `session ended`.
    pub fn cause(&self) -> Option<String> {
        let line = self
            .log
            .iter()
            .find(|line| line.contains("session ended"))?;
        let (_, rest) = line.split_once("cause=")?;
        Some(rest.split_whitespace().next()?.trim_matches('"').to_owned())
    }

    /// Where the caller heard a clip.
    pub fn find(&self, name: &str, from: usize) -> Option<ear::Found> {
        let clip = self.phone.clip(name)?;
        let mut found = ear::find(self.call.heard.get(from..)?, &clip)?;
        found.at += from;
        Some(found)
    }

    fn agent_find(&self, name: &str) -> Option<ear::Found> {
        let clip = self.phone.clip(name)?;
        let heard = self.agent.uplinks.values().map(|uplink| {
            let mut mulaw = Vec::new();
            g711::encode_into(&uplink.audio, &mut mulaw);
            mulaw
        });
        heard
            .filter_map(|heard| ear::find(&heard, &clip))
            .max_by(|a, b| a.whole.total_cmp(&b.whole))
    }

    fn count_agent(&self, mut of: impl FnMut(&evi::What) -> bool) -> usize {
        self.agent
            .events
            .iter()
            .filter(|event| of(&event.what))
            .count()
    }

    /// Speech that the caller heard and that is no part of what was expected: the rest of an
    /// interrupted reply, say.
    fn unexplained(&self, expect: &Expect) -> Vec<String> {
        const PER_MS: usize = 8;
        const TOLERANCE: usize = 100 * PER_MS;
        const PAUSE: usize = 400 * PER_MS;
        let mut explained: Vec<std::ops::Range<usize>> = Vec::new();
        let mut from = 0;
        for name in &expect.heard {
            if let (Some(found), Some(clip)) = (self.find(name, from), speech::clip(name)) {
                explained.push(found.at..found.at + clip.len());
                from = found.at + clip.len() / 2;
            }
        }
        for name in &expect.cut {
            let Some(found) = self.find(name, 0) else {
                continue;
            };
            // The cut is where the telephone stopped playing, or was told to: what comes at once
            // behind a clear is no part of it.
            let end = self.call.entries.iter().find_map(|entry| {
                let at = entry.at.as_millis() as usize * PER_MS;
                let ends = matches!(
                    entry.event,
                    Event::PlayingEnded { .. } | Event::ClearReceived { .. }
                );
                (ends && at > found.at).then_some(at)
            });
            explained.push(found.at..end.unwrap_or(found.at));
        }
        // Words that follow one another closely are one span of speech.
        explained.sort_by_key(|known| known.start);
        let mut spans: Vec<std::ops::Range<usize>> = Vec::new();
        for known in explained {
            match spans.last_mut() {
                Some(last) if known.start <= last.end + PAUSE => {
                    last.end = last.end.max(known.end);
                }
                _ => spans.push(known),
            }
        }
        let position = |at: Duration| at.as_millis() as usize * PER_MS;
        ear::speech(&self.call.heard)
            .into_iter()
            .filter(|span| {
                !spans.iter().any(|known| {
                    known.start <= position(span.start) + TOLERANCE
                        && position(span.end) <= known.end + TOLERANCE
                })
            })
            .map(|span| format!("speech that nobody expected, {span:?}"))
            .collect()
    }

    /// `tool -> ["ok" | "error", ...]`, as the agent received them.
    fn answers(&self) -> BTreeMap<String, Vec<String>> {
        let mut names = BTreeMap::new();
        let mut answers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for event in &self.agent.events {
            match &event.what {
                evi::What::ToolCalled { id, name, .. } => {
                    names.insert(id.clone(), name.clone());
                }
                evi::What::ToolAnswered { id, ok, .. } => {
                    let name = names.get(id).cloned().unwrap_or_default();
                    answers
                        .entry(name)
                        .or_default()
                        .push(if *ok { "ok" } else { "error" }.to_owned());
                }
                _ => {}
            }
        }
        answers
    }

    fn said(&self) -> Vec<&str> {
        let said = self
            .call
            .entries
            .iter()
            .filter_map(|entry| match &entry.event {
                Event::Said { text } => Some(text.as_str()),
                _ => None,
            });
        said.collect()
    }
}

/// The telephone's word for an end.
pub fn ended_word(ended: &Ended) -> &'static str {
    match ended {
        Ended::CallerHungUp => "caller-hung-up",
        Ended::Dropped => "dropped",
        Ended::RestCompleted => "rest",
        Ended::Hangup => "hangup",
        Ended::Rejected { busy: true } => "busy",
        Ended::Rejected { busy: false } => "rejected",
        Ended::NothingLeft => "nothing-left",
        Ended::ApplicationError { .. } => "application-error",
        Ended::StepTimedOut { .. } => "step-timed-out",
        Ended::PutThrough => "put-through",
        Ended::Lingered => "lingered",
    }
}
