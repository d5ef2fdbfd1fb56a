//! A call written down, as far as somebody wants to read it.
//!
//! One line for what happens and one for each thing that is done about it, with the time since the
//! call began. Frames that led to nothing are counted, not listed.

use std::time::{Duration, Instant};

use crate::{
    agent::{Event as Agent, Role},
    session::machine::{Action, Carrier, Event, Note},
};

/// Nothing is written unless it is asked for: thousands of calls a second are not read.
pub struct Script {
    began: Instant,
    lines: Option<Vec<String>>,
    frames: u32,
}

impl Script {
    pub fn new(began: Instant, wanted: bool) -> Self {
        Script {
            began,
            lines: wanted.then(Vec::new),
            frames: 0,
        }
    }

    pub fn lines(mut self) -> Vec<String> {
        self.frames_passed();
        self.lines.unwrap_or_default()
    }

    pub fn line(&mut self, now: Instant, text: impl FnOnce() -> String) {
        if self.lines.is_none() {
            return;
        }
        self.frames_passed();
        let at = stamp(now.saturating_duration_since(self.began));
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{at} {}", text()));
        }
    }

    /// What happened and what was done.
    pub fn event(&mut self, now: Instant, event: String, actions: &[Action]) {
        let Some(lines) = &mut self.lines else { return };
        let worth_it = |action: &&Action| !matches!(action, Action::ToAgent(_));
        let done: Vec<String> = actions
            .iter()
            .filter(worth_it)
            .map(|action| match action {
                Action::Play(range) => format!("play {} bytes", range.len()),
                Action::Note(Note::AgentReady { .. }) => "agent ready".into(),
                other => format!("{other:?}"),
            })
            .collect();
        if done.is_empty() && (event.starts_with("media") || event == "agent alive") {
            self.frames += u32::from(event.starts_with("media"));
            return;
        }
        let at = stamp(now.saturating_duration_since(self.began));
        if self.frames > 0 {
            lines.push(format!("{at} ({} frames)", self.frames));
            self.frames = 0;
        }
        lines.push(format!("{at} {event}"));
        lines.extend(done.into_iter().map(|done| format!("{:11}-> {done}", "")));
    }

    fn frames_passed(&mut self) {
        if let Some(lines) = self.lines.as_mut().filter(|_| self.frames > 0) {
            lines.push(format!("{:10} ({} frames)", "", self.frames));
            self.frames = 0;
        }
    }

    pub fn wanted(&self) -> bool {
        self.lines.is_some()
    }
}

fn stamp(since: Duration) -> String {
    format!("{:>10.4}", since.as_secs_f64())
}

/// An event in words.
pub fn words(event: &Event<'_>) -> String {
    match event {
        Event::Carrier(carrier) => match carrier {
            Carrier::Media {
                timestamp_ms,
                mulaw,
            } => format!("media {} bytes at {timestamp_ms:?} ms", mulaw.len()),
            Carrier::Mark { name } => format!("mark {name:?}"),
            Carrier::Key { .. } => "key".into(),
            Carrier::Stop => "stop".into(),
            Carrier::Closed => "carrier closed".into(),
            Carrier::Garbage(kind) => format!("garbage {kind:?}"),
            Carrier::Other => "carrier alive".into(),
            Carrier::Broken { close_code } => format!("carrier broken {close_code}"),
            Carrier::Stalled => "carrier stalled".into(),
        },
        Event::AgentOpened => "agent opened".into(),
        Event::AgentAlive => "agent alive".into(),
        Event::AgentExpires(_) => "agent's conversation has an end".into(),
        Event::Agent(event) => agent(event),
        Event::AgentClosed(closed) => format!("agent closed: {closed}"),
        Event::HangUpAnswered { ended } => format!("hang-up answered, ended: {ended}"),
        Event::RedirectAnswered(answer) => format!("redirect answered: {answer:?}"),
        Event::Returned => "returned".into(),
        Event::ToolDone { ticket, outcome } => format!("tool {ticket} done: {outcome:?}"),
        Event::Order(order) => format!("order {order:?}"),
        Event::Tick => "tick".into(),
    }
}

fn agent(event: &Agent<'_>) -> String {
    match event {
        Agent::Ready { .. } => "agent says ready".into(),
        Agent::Audio { segment, mulaw } => {
            format!("agent audio {} bytes of segment {}", mulaw.len(), segment.0)
        }
        Agent::SegmentEnd { segment } => format!("agent ends segment {}", segment.0),
        Agent::TurnDone => "agent ends its turn".into(),
        Agent::Interrupt => "agent tells an interruption".into(),
        Agent::CallerSpeaks => "agent hears the caller begin".into(),
        Agent::CallerSpoke => "agent heard the caller out".into(),
        Agent::Expires { .. } => "agent says when its conversation ends".into(),
        Agent::Transcript {
            role,
            text,
            interim,
            replace,
        } => {
            let who = match role {
                Role::Caller => "caller",
                Role::Agent => "agent",
            };
            format!("{who}'s words {text:?} interim: {interim} replace: {replace}")
        }
        Agent::ToolCall {
            call_id,
            name,
            expects_reply,
            ..
        } => format!("agent calls {name} as {call_id}, waits: {expects_reply}"),
        Agent::ToolCancelled { call_id } => format!("agent waits no more for {call_id}"),
        Agent::Error { code, ends } => format!("agent reports {code}, would end: {ends:?}"),
        Agent::Ignored { why } => format!("agent message skipped: {why:?}"),
    }
}
