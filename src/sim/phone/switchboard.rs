//! Which calls there are, so that the fake REST API can end them and lead them elsewhere.
//!
//! An entry outlives its call: "already over" and "never was" are different answers. A call that is
//! told something learns of it at its next beat; of two redirections in one beat the newer holds,
//! and an end is never taken back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallStatus {
    /// Placed over the REST API; nobody has been called yet.
    Queued,
    Ringing,
    InProgress,
    Completed,
    Busy,
    NoAnswer,
    Canceled,
    Failed,
}

impl CallStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Ringing => "ringing",
            Self::InProgress => "in-progress",
            Self::Completed => "completed",
            Self::Busy => "busy",
            Self::NoAnswer => "no-answer",
            Self::Canceled => "canceled",
            Self::Failed => "failed",
        }
    }

    pub fn is_live(self) -> bool {
        matches!(self, Self::Queued | Self::Ringing | Self::InProgress)
    }
}

/// A call as the REST API shows it.
#[derive(Debug, Clone)]
pub struct CallResource {
    pub call_sid: String,
    /// The call on whose `<Dial>` this one was placed.
    pub parent: Option<String>,
    pub from: String,
    pub to: String,
    pub status: CallStatus,
    /// `inbound`, `outbound-dial`, `outbound-api`.
    pub direction: &'static str,
}

/// What the REST API has a live call do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    Complete,
    /// Run this document.
    Run(String),
    /// Fetch a document there and run it.
    Go {
        url: String,
        get: bool,
    },
}

/// The end at which a call learns what it is to do.
#[derive(Default)]
pub struct Wishes {
    /// There is one; so a beat without costs no lock.
    any: AtomicBool,
    wish: Mutex<Option<Wish>>,
}

impl Wishes {
    fn put(&self, wish: Wish) {
        let mut slot = self.wish.lock().unwrap_or_else(PoisonError::into_inner);
        if *slot != Some(Wish::Complete) {
            *slot = Some(wish);
        }
        self.any.store(true, Ordering::Release);
    }

    pub(super) fn take(&self) -> Option<Wish> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let mut slot = self.wish.lock().unwrap_or_else(PoisonError::into_inner);
        self.any.store(false, Ordering::Release);
        slot.take()
    }
}

struct Line {
    resource: CallResource,
    wishes: Arc<Wishes>,
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
            line.resource.status = match line.resource.status {
                CallStatus::Queued => CallStatus::Canceled,
                _ => CallStatus::Completed,
            };
            line.wishes.put(Wish::Complete);
        }
        Some((line.resource.clone(), live))
    }

    /// Leads a call that has been answered elsewhere. `None`: no such call. Otherwise the call, and
    /// whether it is in progress, without which nothing happens.
    pub fn redirect(&self, call_sid: &str, wish: Wish) -> Option<(CallResource, bool)> {
        let lines = self.lines();
        let line = lines.get(call_sid)?;
        let answered = line.resource.status == CallStatus::InProgress;
        if answered {
            line.wishes.put(wish);
        }
        Some((line.resource.clone(), answered))
    }

    /// A new call, which is told here what it is to do.
    pub fn enter(&self, resource: CallResource) -> Arc<Wishes> {
        let wishes = Arc::<Wishes>::default();
        let line = Line {
            resource,
            wishes: wishes.clone(),
        };
        self.lines().insert(line.resource.call_sid.clone(), line);
        wishes
    }

    /// Moves a call on; one that is over stays over.
    pub(super) fn set(&self, call_sid: &str, status: CallStatus) {
        if let Some(line) = self.lines().get_mut(call_sid)
            && line.resource.status.is_live()
        {
            line.resource.status = status;
        }
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<String, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inbound(call_sid: &str) -> CallResource {
        CallResource {
            call_sid: call_sid.into(),
            parent: None,
            from: "+1".into(),
            to: "+2".into(),
            status: CallStatus::Ringing,
            direction: "inbound",
        }
    }

    #[test]
    fn a_call_ends_once_and_is_remembered() {
        let board = Switchboard::new();
        let wishes = board.enter(inbound("CA1"));
        board.set("CA1", CallStatus::InProgress);
        assert!(board.complete("CA1").unwrap().1);
        assert_eq!(wishes.take(), Some(Wish::Complete));
        assert_eq!(wishes.take(), None);
        board.set("CA1", CallStatus::InProgress);
        let (resource, ended_now) = board.complete("CA1").unwrap();
        assert_eq!((resource.status, ended_now), (CallStatus::Completed, false));
        assert!(board.complete("CA2").is_none());
    }

    #[test]
    fn a_call_is_led_elsewhere_once_it_is_answered_and_until_it_is_over() {
        let board = Switchboard::new();
        let wishes = board.enter(inbound("CA1"));
        let run = |text: &str| Wish::Run(text.into());
        assert!(!board.redirect("CA1", run("ringing")).unwrap().1);
        board.set("CA1", CallStatus::InProgress);
        assert!(board.redirect("CA1", run("one")).unwrap().1);
        assert!(board.redirect("CA1", run("two")).unwrap().1);
        assert_eq!(wishes.take(), Some(run("two")), "the newer holds");
        assert!(board.redirect("CA1", run("three")).unwrap().1);
        board.complete("CA1").unwrap();
        assert!(!board.redirect("CA1", run("late")).unwrap().1);
        assert_eq!(wishes.take(), Some(Wish::Complete));
        assert!(board.redirect("CA2", run("nobody")).is_none());
    }
}
