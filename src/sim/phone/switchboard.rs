//! Which calls there are, so that the fake REST API can end them.
//!
//! An entry outlives its call: "already over" and "never was" are different answers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallStatus {
    Ringing,
    InProgress,
    Completed,
    Busy,
    Canceled,
    Failed,
}

impl CallStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ringing => "ringing",
            Self::InProgress => "in-progress",
            Self::Completed => "completed",
            Self::Busy => "busy",
            Self::Canceled => "canceled",
            Self::Failed => "failed",
        }
    }

    pub fn is_live(self) -> bool {
        matches!(self, Self::Ringing | Self::InProgress)
    }
}

/// A call as the REST API shows it.
#[derive(Debug, Clone)]
pub struct CallResource {
    pub call_sid: String,
    pub from: String,
    pub to: String,
    pub status: CallStatus,
}

struct Line {
    resource: CallResource,
    complete: Arc<AtomicBool>,
}

#[derive(Default)]
pub struct Switchboard {
    lines: Mutex<HashMap<String, Line>>,
}

impl Switchboard {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn call(&self, call_sid: &str) -> Option<CallResource> {
        self.lines().get(call_sid).map(|line| line.resource.clone())
    }

    /// Ends a live call; it sends `stop` at its next beat. `None`: no such call. Otherwise the call as it now
    /// is, and whether this ended it.
    pub fn complete(&self, call_sid: &str) -> Option<(CallResource, bool)> {
        let mut lines = self.lines();
        let line = lines.get_mut(call_sid)?;
        let live = line.resource.status.is_live();
        if live {
            line.resource.status = CallStatus::Completed;
            line.complete.store(true, Ordering::Release);
        }
        Some((line.resource.clone(), live))
    }

    /// A new call; the flag tells it to end.
    pub(super) fn enter(&self, call_sid: &str, from: &str, to: &str) -> Arc<AtomicBool> {
        let complete = Arc::new(AtomicBool::new(false));
        let resource = CallResource {
            call_sid: call_sid.to_owned(),
            from: from.to_owned(),
            to: to.to_owned(),
            status: CallStatus::Ringing,
        };
        self.lines().insert(
            call_sid.to_owned(),
            Line {
                resource,
                complete: complete.clone(),
            },
        );
        complete
    }

    /// Moves a call on; one that is over stays over.
    pub(super) fn set(&self, call_sid: &str, status: CallStatus) {
        if let Some(line) = self.lines().get_mut(call_sid)
            && line.resource.status.is_live()
        {
            line.resource.status = status;
        }
    }

    fn lines(&self) -> std::sync::MutexGuard<'_, HashMap<String, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_ends_once_and_is_remembered() {
        let board = Switchboard::new();
        let flag = board.enter("CA1", "+1", "+2");
        board.set("CA1", CallStatus::InProgress);
        assert!(board.complete("CA1").unwrap().1);
        assert!(flag.load(Ordering::Acquire));
        board.set("CA1", CallStatus::InProgress);
        let (resource, ended_now) = board.complete("CA1").unwrap();
        assert_eq!((resource.status, ended_now), (CallStatus::Completed, false));
        assert!(board.complete("CA2").is_none());
    }
}
