//! One follower's stream: the register's news as lines of the wire, for one call or for all.
//!
//! What is not taken waits in the ring that all followers share; who falls behind by more than the
//! ring holds is told [`Next::TooSlow`] and gets no more. No sockets.

use std::{sync::Arc, time::SystemTime};

use tokio::sync::broadcast::{
    Receiver,
    error::{RecvError, TryRecvError},
};

use super::{
    event::{Event, What},
    shown::seen,
};
use crate::{
    session::{
        news::{Followed, News, Told},
        registry::Refused,
    },
    timestamp::rfc3339,
    twilio::CallSid,
};

/// What the stream goes on with.
pub enum Next {
    Event(Event),
    /// The call that was followed is over, or the register is.
    Over,
    TooSlow,
}

/// A stream of events.
pub struct Following {
    news: Receiver<Arc<Told>>,
    call: Option<CallSid>,
    first: Option<Event>,
    over: bool,
}

impl Following {
    /// `call` is live in what is followed.
    pub fn new(followed: Followed, call: Option<CallSid>) -> Following {
        let wanted = |sid: CallSid| call.is_none_or(|call| call == sid);
        let sessions = followed
            .calls
            .iter()
            .filter(|one| wanted(one.view.facts.call))
            .map(seen)
            .collect();
        let first = event(
            SystemTime::now(),
            What::Snapshot {
                draining: followed.draining,
                sessions,
            },
        );
        Following {
            news: followed.news,
            call,
            first: Some(first),
            over: false,
        }
    }

    /// May be dropped while it waits without losing anything.
    pub async fn next(&mut self) -> Next {
        loop {
            if let Some(first) = self.first.take() {
                return Next::Event(first);
            }
            if self.over {
                return Next::Over;
            }
            match self.news.recv().await {
                Ok(told) => {
                    if let Some(event) = self.take(&told) {
                        return Next::Event(event);
                    }
                }
                Err(RecvError::Lagged(_)) => return Next::TooSlow,
                Err(RecvError::Closed) => return Next::Over,
            }
        }
    }

    /// What is there already; [`Next::Over`] when that is nothing.
    pub fn rest(&mut self) -> Next {
        loop {
            if let Some(first) = self.first.take() {
                return Next::Event(first);
            }
            match self.news.try_recv() {
                Ok(told) => {
                    if let Some(event) = self.take(&told) {
                        return Next::Event(event);
                    }
                }
                Err(TryRecvError::Lagged(_)) => return Next::TooSlow,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return Next::Over,
            }
        }
    }

    fn take(&mut self, told: &Told) -> Option<Event> {
        if self.call.is_some() && self.call != told.call {
            return None;
        }
        self.over = self.call.is_some() && matches!(told.news, News::Ended { .. });
        Some(line(told))
    }
}

/// The last line when the daemon stops.
pub fn stopped() -> Event {
    event(SystemTime::now(), What::Stopped {})
}

fn event(at: SystemTime, what: What) -> Event {
    Event {
        at: rfc3339(at),
        what,
    }
}

fn line(told: &Told) -> Event {
    let call_sid = told
        .call
        .map_or_else(String::new, |call| call.as_str().to_owned());
    let what = match &told.news {
        News::Started(view) => What::CallStarted {
            call_sid,
            stream_sid: view.stream().as_str().to_owned(),
            agent: view.facts.agent.to_owned(),
            from: view.facts.from.clone(),
            to: view.facts.to.clone(),
            started_at: rfc3339(view.started_at),
            route: view.facts.route.clone(),
        },
        News::AgentConnected => What::AgentConnected { call_sid },
        News::AgentClosed => What::AgentClosed { call_sid },
        News::Paused => What::Paused { call_sid },
        News::Resumed => What::Resumed { call_sid },
        News::ToolCall { name } => What::ToolCall {
            call_sid,
            tool: name.clone(),
        },
        News::BargeIn => What::BargeIn { call_sid },
        News::HangingUp(cause) => What::HangingUp {
            call_sid,
            cause: cause.as_str().to_owned(),
        },
        News::GoodbyeWithdrawn => What::GoodbyeWithdrawn { call_sid },
        News::Away { why } => What::Away {
            call_sid,
            why: why.as_str().to_owned(),
        },
        News::Back => What::Back { call_sid },
        News::GoesOn => What::GoesOn { call_sid },
        News::Ended { cause, lasted } => What::CallEnded {
            call_sid,
            cause: cause.map(|cause| cause.as_str().to_owned()),
            duration_seconds: lasted.as_secs(),
        },
        News::Refused(why) => What::CallRefused {
            call_sid,
            reason: reason(*why).to_owned(),
        },
        News::Draining(draining) => What::Draining {
            draining: *draining,
        },
        News::Reloaded {
            changed,
            need_restart,
        } => What::Reloaded {
            changed: changed.clone(),
            need_restart: need_restart.clone(),
        },
    };
    event(told.at, what)
}

/// One word on the wire; the same as in the metrics.
fn reason(why: Refused) -> &'static str {
    match why {
        Refused::Draining => "draining",
        Refused::Full => "full",
        Refused::CallerFull => "caller-full",
        Refused::NumberFull => "number-full",
        Refused::RouteFull => "route-full",
        Refused::Closed => "closed",
        Refused::Denied => "denied",
        Refused::NotAllowed => "not-allowed",
    }
}
