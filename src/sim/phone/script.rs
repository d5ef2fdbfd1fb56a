//! What the caller does, step by step, as a TOML story tells it.
//!
//! The script is pure: it is asked at every beat, given what can be heard on the line, what to do next. Its
//! clock starts with the first stream of the call.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// Between keys that are pressed one after another.
const BETWEEN_KEYS: Duration = Duration::from_millis(200);
/// How long a step may wait if the story does not say.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// One step. In TOML a table with exactly one of the verbs, e.g. `{ say = "caller-hours" }`,
/// `{ wait_for = "agent-quiet", timeout = "10s" }`, `{ raw = "hello", binary = true }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Says a clip; the next step begins when it has been said. Skipped when there is no stream to say it on.
    Say(String),
    Wait(Duration),
    WaitFor {
        what: Awaited,
        timeout: Duration,
    },
    /// Waits until the agent has been speaking for so long, without a pause, and still speaks.
    After {
        speaking: Duration,
        timeout: Duration,
    },
    /// Presses keys, all in one beat.
    Dtmf(String),
    /// Presses keys as a finger does, one after another.
    Keys(String),
    /// Puts the receiver down: `stop`, then a close.
    HangUp,
    /// The connection is lost: no `stop`, no close.
    Drop,
    /// Sends no frames for so long; the timestamps go on.
    Gap(Duration),
    /// Sends something that Twilio would not.
    Raw {
        text: String,
        binary: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Awaited {
    /// The agent can be heard, and it is nothing from before a `clear`.
    AgentSpeaking,
    /// Nothing has been heard for 0.6 s. True of an agent that has not begun: wait for it to speak first.
    AgentQuiet,
    /// A `clear` has come since the caller last began to say something (or since the stream started).
    Clear,
    /// The stream has ended; the call may go on.
    StreamOver,
    /// There is a stream (again).
    Streaming,
    /// The caller is connected to somebody else.
    Bridged,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStep {
    say: Option<String>,
    wait: Option<Span>,
    wait_for: Option<Awaited>,
    after: Option<Span>,
    timeout: Option<Span>,
    dtmf: Option<String>,
    keys: Option<String>,
    hang_up: Option<bool>,
    drop: Option<bool>,
    gap: Option<Span>,
    raw: Option<String>,
    binary: Option<bool>,
}

struct Span(Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        duration(&text).map(Self).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "{text:?} is no duration: write it as \"1.5s\", \"200ms\" or \"2m\""
            ))
        })
    }
}

/// `"200ms"`, `"1.5s"`, `"2m"`.
pub fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = if let Some(number) = text.strip_suffix("ms") {
        (number, 0.001)
    } else if let Some(number) = text.strip_suffix('s') {
        (number, 1.0)
    } else {
        (text.strip_suffix('m')?, 60.0)
    };
    if !number
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        return None;
    }
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * unit).ok()
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        RawStep::deserialize(deserializer)?
            .try_into()
            .map_err(serde::de::Error::custom)
    }
}

impl TryFrom<RawStep> for Step {
    type Error = String;

    fn try_from(raw: RawStep) -> Result<Self, String> {
        if raw.hang_up == Some(false) || raw.drop == Some(false) {
            return Err("hang_up and drop can only be true; leave the step out instead".into());
        }
        let timeout = raw.timeout.as_ref().map_or(TIMEOUT, |span| span.0);
        let mut steps = Vec::new();
        steps.extend(raw.say.map(Step::Say));
        steps.extend(raw.wait.map(|span| Step::Wait(span.0)));
        steps.extend(raw.wait_for.map(|what| Step::WaitFor { what, timeout }));
        steps.extend(raw.after.map(|span| Step::After {
            speaking: span.0,
            timeout,
        }));
        steps.extend(raw.dtmf.map(Step::Dtmf));
        steps.extend(raw.keys.map(Step::Keys));
        steps.extend(raw.hang_up.map(|_| Step::HangUp));
        steps.extend(raw.drop.map(|_| Step::Drop));
        steps.extend(raw.gap.map(|span| Step::Gap(span.0)));
        steps.extend(raw.raw.map(|text| Step::Raw {
            text,
            binary: raw.binary == Some(true),
        }));
        let step =
            match steps.len() {
                1 => steps.remove(0),
                0 => return Err(
                    "a step needs one of say, wait, wait_for, after, dtmf, keys, hang_up, drop, gap, raw"
                        .into(),
                ),
                _ => return Err("a step does one thing: make it several steps".into()),
            };
        if raw.timeout.is_some() && !matches!(step, Step::WaitFor { .. } | Step::After { .. }) {
            return Err("only wait_for and after have a timeout".into());
        }
        if raw.binary.is_some() && !matches!(step, Step::Raw { .. }) {
            return Err("only raw can be binary".into());
        }
        if let Step::Dtmf(keys) | Step::Keys(keys) = &step
            && (keys.is_empty() || !keys.chars().all(|key| "0123456789*#ABCD".contains(key)))
        {
            return Err(format!(
                "{keys:?} are no keys: those are 0 to 9, *, #, A to D"
            ));
        }
        Ok(step)
    }
}

/// Keys that are pressed one after another are several steps.
fn by_finger(step: Step) -> Vec<Step> {
    let Step::Keys(keys) = step else {
        return vec![step];
    };
    let pressed = keys.chars().map(|key| Step::Dtmf(key.into()));
    let mut steps: Vec<Step> = pressed
        .flat_map(|press| [press, Step::Wait(BETWEEN_KEYS)])
        .collect();
    steps.pop();
    steps
}

/// What the script can know of the line.
#[derive(Debug, Clone, Copy, Default)]
pub struct Line {
    pub now: Duration,
    /// The caller is saying something, or sits in a gap.
    pub busy: bool,
    /// Since when the agent has been speaking without a pause or a `clear`.
    pub speaking_since: Option<Duration>,
    /// From then on the agent is quiet, unless it is heard again.
    pub quiet_from: Duration,
    /// When the last `clear` came.
    pub cleared_at: Option<Duration>,
    pub stream_over: bool,
    pub bridged: bool,
}

/// What the script wants.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Do this step now; never one that waits.
    Do(Step),
    /// Nothing at this beat.
    Wait,
    /// The step waited for too long.
    TimedOut(Step),
    Done,
}

pub struct Script {
    steps: VecDeque<Step>,
    /// When the step in front became the step in front.
    since: Option<Duration>,
    /// When the caller last began to say something.
    said_at: Duration,
}

impl Script {
    pub fn new(steps: Vec<Step>) -> Self {
        Self {
            steps: steps.into_iter().flat_map(by_finger).collect(),
            since: None,
            said_at: Duration::ZERO,
        }
    }

    /// Goes on with more steps.
    pub fn append(&mut self, steps: Vec<Step>) {
        self.steps.extend(steps.into_iter().flat_map(by_finger));
    }

    /// To be asked again at once after a `Do`, and at the next beat after a `Wait`.
    pub fn next(&mut self, line: &Line) -> Next {
        loop {
            if line.busy {
                return Next::Wait;
            }
            let Some(step) = self.steps.front() else {
                return Next::Done;
            };
            let since = *self.since.get_or_insert(line.now);
            let (reached, limit) = match step {
                Step::Wait(span) => (line.now >= since + *span, None),
                Step::WaitFor { what, timeout } => (self.is(*what, line), Some(*timeout)),
                Step::After { speaking, timeout } => (
                    line.speaking_since
                        .is_some_and(|began| line.now >= began + *speaking),
                    Some(*timeout),
                ),
                _ => {
                    self.since = None;
                    if matches!(step, Step::Say(_)) {
                        self.said_at = line.now;
                    }
                    return Next::Do(self.steps.pop_front().expect("there is a front"));
                }
            };
            if reached {
                self.since = None;
                self.steps.pop_front();
            } else if limit.is_some_and(|limit| line.now >= since + limit) {
                return Next::TimedOut(self.steps.pop_front().expect("there is a front"));
            } else {
                return Next::Wait;
            }
        }
    }

    fn is(&self, what: Awaited, line: &Line) -> bool {
        match what {
            Awaited::AgentSpeaking => line.speaking_since.is_some(),
            Awaited::AgentQuiet => line.speaking_since.is_none() && line.now >= line.quiet_from,
            Awaited::Clear => line.cleared_at.is_some_and(|at| at >= self.said_at),
            Awaited::StreamOver => line.stream_over,
            Awaited::Streaming => !line.stream_over,
            Awaited::Bridged => line.bridged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn steps(toml: &str) -> Result<Vec<Step>, String> {
        #[derive(Deserialize)]
        struct Story {
            step: Vec<Step>,
        }
        toml::from_str::<Story>(&format!("step = [{toml}]"))
            .map(|story| story.step)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_story_reads_from_toml() {
        let read = steps(
            r##"{ say = "caller-hours" }, { wait = "1.5s" }, { wait_for = "agent-quiet", timeout = "2m" },
            { after = "2s" }, { dtmf = "5#" }, { keys = "12" },
            { wait_for = "bridged" }, { gap = "200ms" }, { raw = "x", binary = true }, { drop = true },
            { hang_up = true }"##,
        );
        let expected = vec![
            Step::Say("caller-hours".into()),
            Step::Wait(ms(1500)),
            Step::WaitFor {
                what: Awaited::AgentQuiet,
                timeout: ms(120_000),
            },
            Step::After {
                speaking: ms(2000),
                timeout: TIMEOUT,
            },
            Step::Dtmf("5#".into()),
            Step::Keys("12".into()),
            Step::WaitFor {
                what: Awaited::Bridged,
                timeout: TIMEOUT,
            },
            Step::Gap(ms(200)),
            Step::Raw {
                text: "x".into(),
                binary: true,
            },
            Step::Drop,
            Step::HangUp,
        ];
        assert_eq!(read, Ok(expected));
    }

    #[test]
    fn a_story_that_means_nothing_is_refused_with_a_reason() {
        for (toml, reason) in [
            (r#"{ say = "a", wait = "1s" }"#, "several steps"),
            ("{ }", "needs one of"),
            (r#"{ shout = "a" }"#, "unknown field"),
            (r#"{ wait = "soon" }"#, "no duration"),
            (r#"{ wait = "-1s" }"#, "no duration"),
            (r#"{ wait_for = "silence" }"#, "agent-quiet"),
            (r#"{ say = "a", timeout = "1s" }"#, "only wait_for"),
            (r#"{ dtmf = "x" }"#, "keys"),
            (r#"{ keys = "1w" }"#, "keys"),
            (r#"{ hang_up = false }"#, "only be true"),
        ] {
            let error = steps(toml).unwrap_err();
            assert!(error.contains(reason), "{toml}: {error}");
        }
    }

    #[test]
    fn says_and_waits_and_hangs_up() {
        let mut script = Script::new(vec![
            Step::Say("a".into()),
            Step::Wait(ms(100)),
            Step::HangUp,
        ]);
        let line = |now, busy| Line {
            now: ms(now),
            busy,
            ..Line::default()
        };
        assert_eq!(
            script.next(&line(0, false)),
            Next::Do(Step::Say("a".into()))
        );
        assert_eq!(script.next(&line(0, true)), Next::Wait);
        assert_eq!(
            script.next(&line(500, false)),
            Next::Wait,
            "the wait begins after the words"
        );
        assert_eq!(script.next(&line(599, false)), Next::Wait);
        assert_eq!(script.next(&line(600, false)), Next::Do(Step::HangUp));
        assert_eq!(script.next(&line(600, false)), Next::Done);
    }

    #[test]
    fn a_clear_counts_from_the_beginning_of_the_words_that_caused_it() {
        let wait = Step::WaitFor {
            what: Awaited::Clear,
            timeout: ms(1000),
        };
        let mut script = Script::new(vec![
            Step::Say("a".into()),
            wait.clone(),
            Step::Say("b".into()),
            wait.clone(),
        ]);
        let line = |now, cleared| Line {
            now: ms(now),
            cleared_at: Some(ms(cleared)),
            ..Line::default()
        };
        assert_eq!(
            script.next(&line(1000, 10)),
            Next::Do(Step::Say("a".into()))
        );
        assert_eq!(script.next(&line(2000, 10)), Next::Wait);
        assert_eq!(
            script.next(&line(2200, 1100)),
            Next::Do(Step::Say("b".into()))
        );
        assert_eq!(script.next(&line(3200, 1100)), Next::Wait);
        assert_eq!(script.next(&line(4200, 1100)), Next::TimedOut(wait));
    }

    #[test]
    fn keys_are_pressed_one_after_another() {
        let mut script = Script::new(vec![Step::Keys("12".into()), Step::HangUp]);
        let line = |now| Line {
            now: ms(now),
            ..Line::default()
        };
        assert_eq!(script.next(&line(0)), Next::Do(Step::Dtmf("1".into())));
        assert_eq!(script.next(&line(20)), Next::Wait);
        assert_eq!(script.next(&line(199)), Next::Wait);
        assert_eq!(script.next(&line(220)), Next::Do(Step::Dtmf("2".into())));
        assert_eq!(script.next(&line(220)), Next::Do(Step::HangUp));
    }

    #[test]
    fn what_was_cleared_is_neither_speech_nor_at_once_a_pause() {
        let await_it = |what| Step::WaitFor {
            what,
            timeout: TIMEOUT,
        };
        let line = Line {
            now: ms(1000),
            quiet_from: ms(1500),
            ..Line::default()
        };
        for what in [Awaited::AgentSpeaking, Awaited::AgentQuiet] {
            let mut script = Script::new(vec![await_it(what)]);
            assert_eq!(script.next(&line), Next::Wait, "{what:?}");
        }
        let mut script = Script::new(vec![await_it(Awaited::AgentQuiet)]);
        let later = Line {
            now: ms(1500),
            ..line
        };
        assert_eq!(script.next(&later), Next::Done);
    }

    #[test]
    fn after_counts_unbroken_speech() {
        let mut script = Script::new(vec![
            Step::After {
                speaking: ms(2000),
                timeout: TIMEOUT,
            },
            Step::HangUp,
        ]);
        let line = |now, since| Line {
            now: ms(now),
            speaking_since: since,
            ..Line::default()
        };
        assert_eq!(script.next(&line(0, None)), Next::Wait);
        assert_eq!(script.next(&line(5000, Some(ms(3001)))), Next::Wait);
        assert_eq!(
            script.next(&line(5001, Some(ms(3001)))),
            Next::Do(Step::HangUp)
        );
    }
}
