//! Telephone stories: a whole call, told in TOML, carried by a real daemon between simulators.
//!
//! A story says what the caller does (`[caller]`), how the agent behaves (`[agent]`), how Twilio's
//! REST API behaves (`[rest]`), who can be called (`[callee."+61..."]`), how somebody's web server
//! answers (`[web]`), and what must have been observed in the end (`[expect]`). What is
//! expected is looked for at the far ends: in the recording of what the caller heard, in what the
//! agent received, in the REST requests; the daemon's own word counts only for the cause of the
//! end. Violations of a protocol by the bridge, sessions left behind and secrets in the log fail
//! every story, whatever it expects.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::Context as _;
use serde::Deserialize;

mod asked;
mod errands;
mod observed;
mod told;

pub use asked::ExpectedRequest;
pub use observed::{Expect, ExpectedMessage, Observed, ended_word};

use super::{
    bridge::{self, Bridge, Far, Setup},
    evi::{self, Evi, EviHandle},
    phone::{CallReport, CallSetup, Callees, Fault, Phone, Step, Switchboard},
    realtime::{self, Realtime},
    rest::{Rest, RestHandle, RestScript},
    speech,
    web::{self, Web, WebHandle},
};
use crate::config::AgentKind;

/// A story's file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Story {
    pub title: String,
    /// More of the daemon's config, as dotted keys and then tables. `{web}` stands for the URL of the
    /// story's web server, `{dir}` for a directory that the daemon can write to, `{agent}` for the section
    /// of the agent that the story is told with.
    #[serde(default)]
    pub config: String,
    /// More of the daemon's credentials, by name.
    #[serde(default)]
    pub credentials: BTreeMap<String, String>,
    #[serde(default)]
    pub caller: Caller,
    #[serde(default)]
    pub agent: evi::Script,
    /// Which agents the story can be told with: what one does by its nature another may not do at all.
    #[serde(default = "hume_only")]
    pub agents: Vec<AgentKind>,
    /// Whose habits a simulated Realtime server has.
    #[serde(default)]
    pub server: realtime::Dialect,
    /// The one that it is told with.
    #[serde(skip)]
    pub kind: AgentKind,
    #[serde(default)]
    pub rest: RestScript,
    #[serde(default)]
    pub callee: Callees,
    #[serde(default)]
    pub web: web::Script,
    pub expect: Expect,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Caller {
    pub steps: Vec<Step>,
    pub faults: Vec<Fault>,
    /// Whom they call, and as whom; numbers that belong to nobody unless the story says otherwise.
    pub from: Option<String>,
    pub to: Option<String>,
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
    "digits",
    "digits-close",
    "digits-hang-up",
    "digits-hang-up-before",
    "digits-rest-stalls",
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
    "filler",
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
    "key-hangup",
    "key-say",
    "key-transfer",
    "keys",
    "keys-interrupt",
    "late-transcript",
    "max-duration",
    "max-duration-without-agent",
    "never-ready",
    "never-start",
    "no-credits",
    "no-input",
    "no-token",
    "no-webhook",
    "note",
    "phone-garbage",
    "port-443",
    "realtime-beta",
    "realtime-fails-once",
    "realtime-no-quota",
    "realtime-plain",
    "realtime-session-limit",
    "realtime-writes",
    "realtime-xai",
    "recycle",
    "recycle-one-chat",
    "rest-not-found",
    "rest-not-in-progress",
    "rest-recovers",
    "rest-refuses",
    "rest-stalls",
    "resume-refused",
    "route-keys",
    "second-socket",
    "slow-reader",
    "sms",
    "speaks-before-ready",
    "spurious-interruption",
    "stolen-token",
    "superseded-tool",
    "talked-over",
    "tool-busy",
    "tool-replaced",
    "tool-retry",
    "tools",
    "trailing-slash",
    "transcription-lost",
    "transfer-agent-lost",
    "transfer-busy",
    "transfer-caller-leaves",
    "transfer-caller-leaves-callee",
    "transfer-declined",
    "transfer-rest-fails",
    "transfer-rest-not-found",
    "transfer-rest-over",
    "transfer-unreachable",
    "unknown-tool",
    "unsigned-on-purpose",
    "upgrade-signature",
    "wav-variety",
    "web-search",
    "webhook-signature",
};

/// Puts one table over another, value by value.
fn lay(upper: toml::Table, lower: &mut toml::Table) {
    for (key, value) in upper {
        match (value, lower.get_mut(&key)) {
            (toml::Value::Table(upper), Some(toml::Value::Table(lower))) => lay(upper, lower),
            (value, _) => {
                lower.insert(key, value);
            }
        }
    }
}

fn hume_only() -> Vec<AgentKind> {
    vec![AgentKind::Hume]
}

impl Story {
    /// The story as it is told with EVI.
    pub fn parse(text: &str) -> anyhow::Result<Story> {
        Story::with(text, AgentKind::Hume)
    }

    /// The story as it is told with this agent: what stands in the table of its name goes over the rest.
    pub fn with(text: &str, kind: AgentKind) -> anyhow::Result<Story> {
        let mut story: toml::Table = toml::from_str(text).context("not a story")?;
        for (_, other) in AgentKind::NAMES {
            let own = story.remove(other.as_str());
            if let Some(toml::Value::Table(own)) = own.filter(|_| other == kind) {
                lay(own, &mut story);
            }
        }
        let story: Story = story.try_into().context("not a story")?;
        let config = story.config.replace("{agent}", kind.as_str());
        Ok(Story {
            kind,
            config,
            ..story
        })
    }

    /// One of [`STORIES`].
    pub fn named(name: &str) -> anyhow::Result<Story> {
        Story::named_with(name, AgentKind::Hume)
    }

    pub fn named_with(name: &str, kind: AgentKind) -> anyhow::Result<Story> {
        let (_, text) = STORIES
            .iter()
            .find(|(known, _)| *known == name)
            .context("no such story")?;
        Story::with(text, kind).with_context(|| name.to_owned())
    }
}

/// A daemon between its simulators.
pub struct World {
    pub bridge: Bridge,
    pub agent: EviHandle,
    pub rest: RestHandle,
    pub phone: Phone,
    pub beside: Beside,
}

/// What a story has beside those who take part in every call.
#[derive(Default)]
pub struct Beside {
    kind: AgentKind,
    web: Option<WebHandle>,
    /// What must not be logged.
    secrets: Vec<String>,
    credentials: BTreeMap<String, String>,
}

/// A clip of the simulated agent, by its name or its words: its audio and its words.
pub fn agent_clips(name: &str) -> Option<(&'static [u8], &'static str)> {
    let name = speech::named(name)?;
    Some((speech::clip(name)?, speech::transcript(name)?))
}

impl World {
    /// Starts everything; the telephone is on the hook.
    pub async fn start(story: &Story, program: &Path, pace: f64) -> anyhow::Result<World> {
        let agent = agent(story, pace).await?;
        let url = agent.url();
        let switchboard = Switchboard::new();
        let rest = Rest::start(
            switchboard.clone(),
            bridge::ACCOUNT_SID,
            bridge::AUTH_TOKEN,
            story.rest.clone(),
        )
        .await?;
        let web = Web::start(story.web.clone()).await?;
        let setup = Setup {
            program,
            agent: match story.kind {
                AgentKind::Hume => Far::Hume(&url),
                AgentKind::Realtime => Far::Realtime(&url),
            },
            rest_url: &rest.url(),
            config: &story.config.replace("{web}", &web.url()),
            passed: None,
        };
        let bridge = Bridge::start_with(setup, &story.credentials).await?;
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
            agent,
            rest,
            phone,
            beside: Beside {
                kind: story.kind,
                web: Some(web),
                secrets: secrets(story),
                credentials: story.credentials.clone(),
            },
        })
    }

    /// Somebody's web server, to which `{web}` in the story's config leads.
    pub fn web(&self) -> &WebHandle {
        let web = self.beside.web.as_ref();
        web.expect("a world that a story begins has one")
    }

    /// Places the story's call and carries it to its end.
    pub async fn call(&self, story: &Story) -> CallReport {
        let mut setup = CallSetup::new(story.caller.steps.clone());
        if let Some(from) = &story.caller.from {
            setup.from.clone_from(from);
        }
        if let Some(to) = &story.caller.to {
            setup.to.clone_from(to);
        }
        self.phone.call(setup).await
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
        let agent = self.agent.stop().await;
        violations.extend(agent.violations().into_iter().map(str::to_owned));
        violations.extend(left);
        let records = self.bridge.directory().join(RECORDS);
        let records = match std::fs::read_to_string(records) {
            Ok(text) => text
                .lines()
                .map(serde_json::from_str)
                .collect::<Result<_, _>>()
                .context("a call record that is no JSON")?,
            Err(_) => Vec::new(),
        };
        Ok(Observed {
            call,
            agent,
            requests,
            violations,
            log: self.bridge.log(),
            messages: self.rest.messages(),
            web: self
                .beside
                .web
                .map(|web| web.requests())
                .unwrap_or_default(),
            records,
            kind: self.beside.kind,
            secrets: self.beside.secrets,
            credentials: self.beside.credentials,
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

/// Where a story's daemon keeps call records, if it does.
const RECORDS: &str = "records.jsonl";
/// A shorter row of keys stands in some id by chance.
const TELLING_KEYS: usize = 6;

/// What the story holds that must not be logged.
fn secrets(story: &Story) -> Vec<String> {
    let mut secrets: Vec<String> = story.credentials.values().cloned().collect();
    secrets.extend(story.callee.0.keys().cloned());
    secrets.extend(
        [&story.caller.from, &story.caller.to]
            .into_iter()
            .flatten()
            .cloned(),
    );
    secrets.extend(story.expect.dialled.iter().cloned());
    secrets.extend(
        story
            .expect
            .messages
            .iter()
            .map(|message| message.to.clone()),
    );
    let keys = story.caller.steps.iter().filter_map(|step| match step {
        Step::Keys(keys) | Step::Dtmf(keys) => Some(keys.clone()),
        _ => None,
    });
    let keys = keys.chain(story.expect.digits_played.iter().cloned());
    secrets.extend(keys.filter(|keys| keys.len() >= TELLING_KEYS));
    secrets
}

/// A simulated agent that does what the script says.
async fn agent(story: &Story, pace: f64) -> anyhow::Result<EviHandle> {
    let script = story.agent.clone();
    Ok(match story.kind {
        AgentKind::Hume => {
            let options = evi::Options {
                api_key: bridge::HUME_KEY.to_owned(),
                clips: agent_clips,
                pace,
                ..evi::Options::default()
            };
            Evi::start(script, options).await?
        }
        AgentKind::Realtime => {
            let options = realtime::Options {
                agent: evi::Options {
                    api_key: bridge::REALTIME_KEY.to_owned(),
                    clips: agent_clips,
                    pace,
                    ..evi::Options::default()
                },
                dialect: story.server,
            };
            Realtime::start(script, options).await?
        }
    })
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
        callees: story.callee.clone(),
        caller_ids: story
            .rest
            .account
            .numbers
            .iter()
            .map(|number| number.phone_number.clone())
            .collect(),
        ..super::phone::PhoneOptions::default()
    }
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
