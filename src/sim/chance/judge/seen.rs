//! An event, as far as it matters afterwards.

use crate::{
    agent::{self, Closed, Role, SegmentId},
    session::{
        machine::{Carrier, Event, HANG_UP},
        order::Order,
    },
};

pub enum Seen<'a> {
    Media {
        timestamp_ms: Option<u64>,
        mulaw: &'a [u8],
    },
    CarrierOver,
    Carrier,
    Key,
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
    AgentWords,
    CallerWords {
        interim: bool,
    },
    /// Words of the caller's that say nothing new.
    OtherWords,
    Tool {
        id: &'a str,
        hang_up: bool,
        reply: bool,
    },
    Failing,
    Agent,
    Closed,
    Rest,
    Order(&'static str),
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
                Carrier::Key { .. } => Seen::Key,
                _ => Seen::Carrier,
            },
            Event::AgentOpened => Seen::Opened,
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
                    expects_reply,
                    ..
                } => Seen::Tool {
                    id: call_id,
                    hang_up: *name == HANG_UP,
                    reply: *expects_reply,
                },
                agent::Event::Error {
                    ends: Some(Closed::Lost),
                    ..
                } => Seen::Failing,
                agent::Event::Transcript { .. } => Seen::OtherWords,
                _ => Seen::Agent,
            },
            Event::AgentClosed(_) => Seen::Closed,
            Event::HangUpAnswered { .. } | Event::RedirectAnswered(_) => Seen::Rest,
            Event::Returned => Seen::Carrier,
            Event::ToolDone { .. } => Seen::Agent,
            Event::Order(order) => Seen::Order(match order {
                Order::HangUp { now: true } => "hang up now",
                Order::HangUp { now: false } => "hang up",
                Order::DrainExpired => "drain expired",
                Order::CallOver { .. } => "call over",
                Order::Say(_) => "say",
                Order::AddContext(_) => "context",
                Order::Pause => "pause",
                Order::Resume => "resume",
                Order::Transfer(_) => "transfer",
                Order::Transferred(_) => "transferred",
            }),
            Event::Tick => Seen::Tick,
        }
    }
}

impl Seen<'_> {
    /// What it brings.
    pub fn bytes(&self) -> usize {
        match self {
            Seen::Media { mulaw, .. } | Seen::Audio { mulaw, .. } => mulaw.len(),
            _ => 0,
        }
    }
}
