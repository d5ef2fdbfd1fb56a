//! Telephone stories: a whole call, told in TOML, carried by a real daemon between simulators.
//!
//! A story says what the caller does (`[caller]`), how the agent behaves (`[agent]`), how Twilio's
//! REST API behaves (`[rest]`), and what must have been observed in the end (`[expect]`). What is
//! expected is looked for at the far ends: in the recording of what the caller heard, in what the
//! agent received, in the REST requests; the daemon's own word counts only for the cause of the
//! end. Violations of a protocol by the bridge, sessions left behind and secrets in the log fail
//! every story, whatever it expects.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::Context as _;
use serde::Deserialize;

use super::{
    bridge::{self, Bridge, Setup},
    ear,
    evi::{self, Evi, EviHandle},
    phone::{CallReport, CallSetup, Ended, Event, Fault, Party, Phone, Step, Switchboard},
    rest::{Rest, RestHandle, RestRequest, RestScript},
    speech,
};
use crate::audio::g711;

/// A story's file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Story {
    pub title: String,
    /// More of the daemon's config, as dotted keys.
    #[serde(default)]
    pub config: String,
    #[serde(default)]
    pub caller: Caller,
    #[serde(default)]
    pub agent: evi::Script,
    #[serde(default)]
    pub rest: RestScript,
    pub expect: Expect,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Caller {
    pub steps: Vec<Step>,
    pub faults: Vec<Fault>,
}

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
}

macro_rules! stories {
    ($($name:literal,)*) => {
        &[$(($name, include_str!(concat!("stories/", $name, ".toml")))),*]
    };
}

/// The stories that ship with the program: name and text.
pub const STORIES: &[(&str, &str)] = stories! {
    "demo",
    "bare-numbers",
    "barge-in-generating",
    "barge-in-playing",
    "builtin-hang-up",
    "builtin-hang-up-last",
    "caller-drops",
    "caller-leaves-during-goodbye",
    "close-without-end",
    "close-without-tool",
    "credits-run-out",
    "evi-dropped",
    "evi-frozen",
    "evi-garbage",
    "evi-gone",
    "evi-lost-speaking",
    "evi-lost-unanswered",
    "evi-mute",
    "evi-restarts",
    "expired",
    "fails-while-speaking",
    "fallback-dial",
    "fallback-hangup",
    "farewell-after-answer",
    "farewell-after-end",
    "farewell-before-tool",
    "farewell-in-two-parts",
    "farewell-then-silence",
    "farewell-twice",
    "farewell-without-end",
    "farewell-without-words",
    "gaps",
    "get-webhook",
    "goodbye-and-lost",
    "goodbye-withdrawn",
    "goodbye-withdrawn-by-words",
    "goodbye-withdrawn-in-silence",
    "greeting-by-twilio",
    "greeting-only",
    "handshake-401",
    "handshake-503",
    "handshake-503-once",
    "handshake-close",
    "handshake-silent",
    "harmless-error",
    "inactivity",
    "interrupted-by-words",
    "late-transcript",
    "max-duration",
    "max-duration-without-agent",
    "never-ready",
    "never-start",
    "no-credits",
    "no-input",
    "no-token",
    "no-webhook",
    "phone-garbage",
    "port-443",
    "recycle",
    "recycle-one-chat",
    "rest-not-found",
    "rest-not-in-progress",
    "rest-recovers",
    "rest-refuses",
    "rest-stalls",
    "resume-refused",
    "second-socket",
    "slow-reader",
    "speaks-before-ready",
    "spurious-interruption",
    "stolen-token",
    "superseded-tool",
    "talked-over",
    "trailing-slash",
    "transcription-lost",
    "unknown-tool",
    "unsigned-on-purpose",
    "upgrade-signature",
    "wav-variety",
    "web-search",
    "webhook-signature",
};

impl Story {
    pub fn parse(text: &str) -> anyhow::Result<Story> {
        toml::from_str(text).context("not a story")
    }

    /// One of [`STORIES`].
    pub fn named(name: &str) -> anyhow::Result<Story> {
        let (_, text) = STORIES
            .iter()
            .find(|(known, _)| *known == name)
            .context("no such story")?;
        Story::parse(text).with_context(|| name.to_owned())
    }
}

/// A daemon between its simulators.
pub struct World {
    pub bridge: Bridge,
    pub evi: EviHandle,
    pub rest: RestHandle,
    pub phone: Phone,
}

/// A clip of the simulated agent, by its name or its words: its audio and its words.
pub fn agent_clips(name: &str) -> Option<(&'static [u8], &'static str)> {
    let name = speech::named(name)?;
    Some((speech::clip(name)?, speech::transcript(name)?))
}

impl World {
    /// Starts everything; the telephone is on the hook.
    pub async fn start(story: &Story, program: &Path, pace: f64) -> anyhow::Result<World> {
        let options = evi::Options {
            api_key: bridge::HUME_KEY.to_owned(),
            clips: agent_clips,
            pace,
            ..evi::Options::default()
        };
        let evi = Evi::start(story.agent.clone(), options).await?;
        let switchboard = Switchboard::new();
        let rest = Rest::start(
            switchboard.clone(),
            bridge::ACCOUNT_SID,
            bridge::AUTH_TOKEN,
            story.rest.clone(),
        )
        .await?;
        let bridge = Bridge::start(Setup {
            program,
            evi_url: &evi.url(),
            rest_url: &rest.url(),
            config: &story.config,
            passed: None,
        })
        .await?;
        let phone = Phone {
            pace,
            switchboard,
            options: phone_options(story),
            ..Phone::new(
                bridge::PUBLIC_URL,
                bridge.http,
                bridge::ACCOUNT_SID,
                bridge::AUTH_TOKEN,
            )
        };
        Ok(World {
            bridge,
            evi,
            rest,
            phone,
        })
    }

    /// Places the story's call and carries it to its end.
    pub async fn call(&self, story: &Story) -> CallReport {
        self.phone
            .call(CallSetup::new(story.caller.steps.clone()))
            .await
    }

    /// Ends everything and hands over what was observed.
    pub async fn end(mut self, call: CallReport) -> anyhow::Result<Observed> {
        let left = self.left_behind().await;
        let exit = self.bridge.stop().await?;
        anyhow::ensure!(
            exit.success(),
            "the daemon ended with {exit}\n{}",
            self.bridge.log().join("\n")
        );
        let mut violations: Vec<String> = call
            .violations
            .iter()
            .map(|violation| violation.0.clone())
            .collect();
        violations.extend(
            self.rest
                .violations()
                .into_iter()
                .map(|violation| violation.0),
        );
        let requests = self.rest.requests();
        let agent = self.evi.stop().await;
        violations.extend(agent.violations().into_iter().map(str::to_owned));
        violations.extend(left);
        Ok(Observed {
            call,
            agent,
            requests,
            violations,
            log: self.bridge.log(),
            phone: self.phone,
        })
    }

    /// Sessions that are still there though their caller is gone. A second is what they may take.
    async fn left_behind(&self) -> Option<String> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        loop {
            let active = match active_sessions(&self.bridge).await {
                Ok(0) => return None,
                Ok(active) => active,
                Err(error) => return Some(format!("/health does not answer: {error:#}")),
            };
            if tokio::time::Instant::now() > deadline {
                return Some(format!("{active} sessions are left behind"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// What `/health` of the private listener says.
pub(super) async fn active_sessions(bridge: &Bridge) -> anyhow::Result<u64> {
    let body = super::get(bridge.ops, "/health").await?;
    let health: serde_json::Value = serde_json::from_str(&body)?;
    health["activeSessions"]
        .as_u64()
        .context("no activeSessions")
}

fn phone_options(story: &Story) -> super::phone::PhoneOptions {
    super::phone::PhoneOptions {
        faults: story.caller.faults.clone(),
        ..super::phone::PhoneOptions::default()
    }
}

/// A call as seen from all its far ends.
pub struct Observed {
    pub call: CallReport,
    pub agent: evi::Record,
    pub requests: Vec<RestRequest>,
    pub violations: Vec<String>,
    pub log: Vec<String>,
    /// The telephone, for its clips.
    phone: Phone,
}

/// Tells a story from beginning to end; returns what was seen and what was expected in vain.
pub async fn tell(
    story: &Story,
    program: &Path,
    pace: f64,
) -> anyhow::Result<(Observed, Vec<String>)> {
    let world = World::start(story, program, pace).await?;
    let call = world.call(story).await;
    let observed = world.end(call).await?;
    // Listening is work for a processor, and the same runtime may be carrying other calls.
    let expect = story.expect.clone();
    let listening = tokio::task::spawn_blocking(move || {
        let missed = observed.missed(&expect);
        (observed, missed)
    });
    Ok(listening.await?)
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
        let dialled = self.first(|event| match event {
            Event::Dialled { numbers } => Some(numbers.clone()),
            _ => None,
        });
        let dialled = dialled.unwrap_or_default();
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
            bridge::AUTH_TOKEN,
            "+15551234567",
            "15557654321",
            "+1555",
        ] {
            want(
                !self.log.iter().any(|line| line.contains(secret)),
                format!("{secret} is in the log"),
            );
        }
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
