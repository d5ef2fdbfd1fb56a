//! An event, as far as it matters afterwards.

use std::time::Instant;

use crate::{
    agent::{self, Closed, Role, SegmentId},
    session::{
        errand::{Redirected, Transferred},
        machine::{Carrier, Event},
        order::Order,
    },
    tools::{Outcome, Transfer},
};

pub enum Seen<'a> {
    Media {
        timestamp_ms: Option<u64>,
        mulaw: &'a [u8],
    },
    CarrierOver,
    Carrier,
    Key(char),
    Opened,
    Alive,
    Ready,
    Audio {
        segment: SegmentId,
        mulaw: &'a [u8],
    },
    SegmentEnd,
    TurnDone,
    Interrupt,
    CallerSpeaks,
    CallerSpoke,
    /// The agent's conversation ends then.
    Expires(Instant),
    AgentWords,
    CallerWords {
        interim: bool,
    },
    /// What the caller has said, understood better.
    BetterWords,
    /// Words of the caller's that say nothing new.
    OtherWords,
    Tool {
        id: &'a str,
        name: &'a str,
        arguments: &'a str,
        reply: bool,
    },
    /// The agent waits for an answer no longer.
    Settled(&'a str),
    Ran {
        ticket: u32,
        outcome: Outcome,
    },
    Failing,
    /// A failure only of an agent that is not ready.
    Refusing,
    Agent,
    /// `hung_up`: it wanted no more.
    Closed {
        hung_up: bool,
    },
    Rest,
    Redirected(Redirected),
    /// On a new media socket.
    Returned,
    Order(&'static str),
    /// The order to put the caller through.
    Transfer(Transfer),
    Transferred(Transferred),
    Tick,
}

impl<'a> Seen<'a> {
    pub fn of(event: &Event<'a>) -> Seen<'a> {
        match event {
            Event::Carrier(carrier) => match carrier {
                Carrier::Media {
                    timestamp_ms,
                    mulaw,
                } => Seen::Media {
                    timestamp_ms: *timestamp_ms,
                    mulaw,
                },
                Carrier::Stop | Carrier::Closed | Carrier::Broken { .. } | Carrier::Stalled => {
                    Seen::CarrierOver
                }
                Carrier::Key { key } => Seen::Key(*key),
                _ => Seen::Carrier,
            },
            Event::AgentOpened => Seen::Opened,
            Event::AgentExpires(at) => Seen::Expires(*at),
            Event::AgentAlive => Seen::Alive,
            Event::Agent(event) => match event {
                agent::Event::Ready { .. } => Seen::Ready,
                agent::Event::Audio { segment, mulaw } => Seen::Audio {
                    segment: *segment,
                    mulaw,
                },
                agent::Event::SegmentEnd { .. } => Seen::SegmentEnd,
                agent::Event::TurnDone => Seen::TurnDone,
                agent::Event::Interrupt => Seen::Interrupt,
                agent::Event::CallerSpeaks => Seen::CallerSpeaks,
                agent::Event::CallerSpoke => Seen::CallerSpoke,
                agent::Event::Transcript {
                    role: Role::Agent, ..
                } => Seen::AgentWords,
                agent::Event::Transcript {
                    text,
                    interim,
                    replace,
                    ..
                } if !replace && !text.trim().is_empty() => Seen::CallerWords { interim: *interim },
                agent::Event::ToolCall {
                    call_id,
                    name,
                    arguments,
                    expects_reply,
                } => Seen::Tool {
                    id: call_id,
                    name,
                    arguments,
                    reply: *expects_reply,
                },
                agent::Event::ToolCancelled { call_id } => Seen::Settled(call_id),
                agent::Event::Error {
                    ends: Some(Closed::Rejected),
                    ..
                } => Seen::Refusing,
                agent::Event::Error {
                    ends: Some(Closed::Lost | Closed::Auth | Closed::Quota),
                    ..
                } => Seen::Failing,
                agent::Event::Transcript {
                    role: Role::Caller,
                    interim: false,
                    replace: true,
                    ..
                } => Seen::BetterWords,
                agent::Event::Transcript { .. } => Seen::OtherWords,
                _ => Seen::Agent,
            },
            Event::AgentClosed(why) => Seen::Closed {
                hung_up: *why == Closed::HungUp,
            },
            Event::HangUpAnswered { .. } => Seen::Rest,
            Event::RedirectAnswered(answer) => Seen::Redirected(*answer),
            Event::Returned => Seen::Returned,
            Event::ToolDone { ticket, outcome } => Seen::Ran {
                ticket: *ticket,
                outcome: outcome.clone(),
            },
            Event::Order(Order::Transfer(transfer)) => Seen::Transfer(transfer.clone()),
            Event::Order(Order::Transferred(what)) => Seen::Transferred(*what),
            Event::Order(order) => Seen::Order(match order {
                Order::HangUp { now: true } => "hang up now",
                Order::HangUp { now: false } => "hang up",
                Order::DrainExpired => "drain expired",
                Order::CallOver { caller_left: true } => "call over",
                Order::CallOver { caller_left: false } => "stream over",
                Order::Say(_) => "say",
                Order::AddContext(_) => "context",
                Order::Pause => "pause",
                Order::Resume => "resume",
                Order::Transfer(_) => "transfer",
                Order::Transferred(_) => "what became of it",
                Order::ErrandBegun => "errand begun",
            }),
            Event::Tick => Seen::Tick,
        }
    }
}

impl Seen<'_> {
    pub fn is_order(&self) -> bool {
        matches!(
            self,
            Seen::Order(_) | Seen::Transfer(_) | Seen::Transferred(_)
        )
    }

    /// What it brings.
    pub fn bytes(&self) -> usize {
        match self {
            Seen::Media { mulaw, .. } | Seen::Audio { mulaw, .. } => mulaw.len(),
            _ => 0,
        }
    }
}
