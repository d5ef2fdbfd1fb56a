//! What is written down of tool calls: in the metrics, in the log, and against the call's own limits.
//!
//! Every call of a tool has an [`Entry`] from its beginning to its end, and is counted once, whichever
//! way it ends: one that is dropped before its time was replaced by a newer one or cancelled. The log
//! names tool, kind, outcome and time, never arguments or results, and so many lines a call; an agent
//! that calls tools without end fills a counter and not the disk.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    Builtin, Facts, Offer, Use,
    run::{self, Failure},
};
use crate::{
    config::ToolKind,
    metrics::{
        Metrics,
        labels::{Tool, ToolCall, ToolEnd},
    },
    printable::Printable,
    twilio::CallSid,
};

/// Lines a call.
const MAX_LINES: usize = 40;
/// Messages a call: they cost money, and reach people who cannot hang up on them.
const MAX_MESSAGES: usize = 5;
/// Calls that are remembered; beyond them the one whose tools have been quiet for longest is forgotten.
const MAX_CALLS: usize = 4096;

impl Use {
    /// As the metrics call it.
    pub fn label(&self) -> Tool {
        match self {
            Use::Builtin(Builtin::HangUp) => Tool::HangUp,
            Use::Builtin(Builtin::TransferCall) => Tool::TransferCall,
            Use::Builtin(Builtin::SendDigits) => Tool::SendDigits,
            Use::Builtin(Builtin::SendSms) => Tool::SendSms,
            Use::Builtin(Builtin::GetCallInfo) => Tool::GetCallInfo,
            Use::Builtin(Builtin::LeaveNote) => Tool::LeaveNote,
            Use::Config(tool) => match tool.kind {
                ToolKind::Http(_) => Tool::Http,
                ToolKind::Exec { .. } => Tool::Exec,
            },
        }
    }
}

pub struct Ledger {
    metrics: Arc<Metrics>,
    calls: Mutex<HashMap<CallSid, Page>>,
}

/// Of one call.
struct Page {
    touched: Instant,
    lines: usize,
    messages: usize,
    /// Ids of calls of tools that an agent no longer waits for, and that are still to be dropped.
    replaced: Vec<String>,
    open: usize,
}

/// One call of a tool, until its end.
pub struct Entry {
    ledger: Arc<Ledger>,
    call: CallSid,
    agent: &'static str,
    call_id: String,
    name: String,
    tool: Tool,
    began: Instant,
    closed: bool,
}

impl Ledger {
    pub fn new(metrics: Arc<Metrics>) -> Ledger {
        Ledger {
            metrics,
            calls: Mutex::default(),
        }
    }

    /// Writes the beginning down.
    pub fn open(self: &Arc<Self>, facts: &Facts, call_id: &str, offer: &Offer) -> Entry {
        self.on_page(&facts.call, |page| page.open += 1);
        Entry {
            ledger: self.clone(),
            call: facts.call,
            agent: facts.agent,
            call_id: call_id.to_owned(),
            name: offer.name.clone(),
            tool: offer.what.label(),
            began: Instant::now(),
            closed: false,
        }
    }

    pub fn replaced(&self, call: &CallSid, call_id: &str) {
        self.on_page(call, |page| {
            // Never more than can be dropped.
            if page.replaced.len() < page.open {
                page.replaced.push(call_id.to_owned());
            }
        });
    }

    /// Whether the call may send one more message; that counts as one.
    pub fn may_send(&self, call: &CallSid) -> bool {
        self.on_page(call, |page| {
            page.messages += 1;
            page.messages <= MAX_MESSAGES
        })
    }

    fn on_page<T>(&self, call: &CallSid, write: impl FnOnce(&mut Page) -> T) -> T {
        let mut calls = self.calls();
        if calls.len() >= MAX_CALLS && !calls.contains_key(call) {
            let quietest = calls.iter().min_by_key(|(_, page)| page.touched);
            if let Some(quietest) = quietest.map(|(call, _)| *call) {
                calls.remove(&quietest);
            }
        }
        let page = calls.entry(*call).or_insert_with(|| Page {
            touched: Instant::now(),
            lines: 0,
            messages: 0,
            replaced: Vec::new(),
            open: 0,
        });
        page.touched = Instant::now();
        write(page)
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<CallSid, Page>> {
        // Nothing that is done under the lock can be left half done.
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// With the failure, if it failed.
    pub fn close(mut self, failure: Option<&Failure>) {
        self.write(run::end(failure.map(|failure| failure.error)), failure);
    }

    fn write(&mut self, end: ToolEnd, failure: Option<&Failure>) {
        self.closed = true;
        self.ledger
            .metrics
            .tool_calls
            .of(ToolCall::Ran(self.tool, end))
            .inc();
        let took = self.began.elapsed();
        // How long nobody waited says nothing about the tool.
        if !matches!(end, ToolEnd::Replaced | ToolEnd::Cancelled) {
            self.ledger
                .metrics
                .tool_duration
                .of(self.tool)
                .observe(took);
        }
        let tell = self.ledger.on_page(&self.call, |page| {
            page.open = page.open.saturating_sub(1);
            page.replaced.retain(|id| *id != self.call_id);
            page.lines += 1;
            page.lines <= MAX_LINES
        });
        if tell {
            self.tell(end, failure, took);
        }
    }

    fn tell(&self, end: ToolEnd, failure: Option<&Failure>, took: Duration) {
        let why = failure.and_then(|failure| failure.why.as_deref());
        let why = why.map(|why| Printable(why).to_string());
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    CALL_SID = self.call.as_str(),
                    AGENT = self.agent,
                    tool = %Printable(&self.name),
                    kind = self.tool.as_str(),
                    outcome = end.as_str(),
                    error = failure.map(|failure| failure.error),
                    why,
                    ms,
                    "tool done"
                )
            };
        }
        match end {
            // The operator's to mend.
            ToolEnd::Failed | ToolEnd::Timeout | ToolEnd::Busy => line!(warn),
            ToolEnd::Ok | ToolEnd::Refused | ToolEnd::Replaced | ToolEnd::Cancelled => line!(info),
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.closed {
            return;
        }
        let replaced = self
            .ledger
            .on_page(&self.call, |page| page.replaced.contains(&self.call_id));
        let end = match replaced {
            true => ToolEnd::Replaced,
            false => ToolEnd::Cancelled,
        };
        self.write(end, None);
    }
}
