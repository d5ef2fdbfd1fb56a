//! Between those who log and the one thread that writes.
//!
//! Logging never waits: a record is put into a bounded queue under a lock that is held for as long
//! as that takes, or it is dropped and counted, and once there is room a line tells how many were.
//! The thread that writes does nothing else, so a journal, a terminal or a disk that has stalled
//! stalls only it. A sink that fails ends nothing: it is tried again with the next line, and now and
//! then without one, and says once when it is well again. At the end of the process what is queued is written, within a bound.

use std::{
    collections::VecDeque,
    hash::Hash,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tracing::{Level, callsite::Identifier};

use super::{
    record::{Record, Value},
    repeats::{Like, Repeats},
};
use crate::metrics::Metrics;

/// What waits at most, in records and in bytes of them. More is dropped, the newest first.
const MAX_RECORDS: usize = 8192;
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// A sink that has failed is tried again after so long, if no line has come before.
const RETRY: Duration = Duration::from_secs(10);

/// Where lines go. Called by the writing thread only, and may block it.
pub trait Sink: Send {
    /// All of it, or an error.
    fn write(&mut self, record: &Record) -> io::Result<()>;
}

/// The log's sink, and one that gets the audit lines besides.
pub struct Sinks {
    pub log: Box<dyn Sink>,
    pub audit: Option<Box<dyn Sink>>,
}

/// The queue, as those who log see it. `K` tells kinds of lines apart.
pub struct Queue<K = Identifier> {
    state: Mutex<State<K>>,
    /// For the writer: there is something to do.
    work: Condvar,
    /// For whoever waits for the end: everything is written.
    done: Condvar,
    metrics: Arc<Metrics>,
    retry: Duration,
}

/// What the writer is to do next.
enum Task {
    Write(Record),
    /// No line has come for a while: see whether a sink that has failed is well again.
    Retry,
}

struct State<K> {
    records: VecDeque<Record>,
    bytes: usize,
    /// For want of room, since that was last told.
    lost: u64,
    repeats: Repeats<K>,
    closed: bool,
    written: bool,
}

/// The thread that writes. Dropping it leaves the thread to itself: [`Queue::close`] first.
pub type Writer = JoinHandle<()>;

impl<K: Hash + Eq + Send + 'static> Queue<K> {
    /// A queue and the thread that empties it into the sinks.
    pub fn start(sinks: Sinks, metrics: Arc<Metrics>) -> io::Result<(Arc<Self>, Writer)> {
        Queue::start_with(sinks, metrics, RETRY)
    }

    fn start_with(
        sinks: Sinks,
        metrics: Arc<Metrics>,
        retry: Duration,
    ) -> io::Result<(Arc<Self>, Writer)> {
        let queue = Arc::new(Queue {
            state: Mutex::new(State {
                records: VecDeque::new(),
                bytes: 0,
                lost: 0,
                repeats: Repeats::default(),
                closed: false,
                written: false,
            }),
            work: Condvar::new(),
            done: Condvar::new(),
            metrics,
            retry,
        });
        let emptied = queue.clone();
        let writer = std::thread::Builder::new()
            .name("hume-bridge-log".to_owned())
            .spawn(move || emptied.write(sinks))?;
        Ok((queue, writer))
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        // Nothing is done under the lock that leaves the state half changed.
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Whether one more line of this kind, of which there may be very many, is shown.
    pub fn permits(&self, kind: K) -> bool {
        let mut state = self.lock();
        let hiding = state.repeats.due().is_some();
        let permits = state.repeats.permits(kind, Instant::now());
        if !permits && !hiding {
            // The writer may sleep, and has to be awake when there is a count to tell.
            self.work.notify_one();
        }
        permits
    }

    /// Queues a record, or drops it; `kind` where [`Queue::permits`] was asked.
    pub fn push(&self, record: Record, kind: Option<&K>) {
        let mut state = self.lock();
        if let Some(kind) = kind {
            state.repeats.shown(kind, || Like {
                level: record.level,
                target: record.target,
                message: record.message.clone(),
            });
        }
        let cost = record.cost();
        if state.closed || state.records.len() >= MAX_RECORDS || state.bytes + cost > MAX_BYTES {
            state.lost += 1;
            drop(state);
            return self.metrics.log_lines_lost.inc();
        }
        state.tell_lost();
        state.put(record);
        self.metrics.log_queue.set(state.records.len() as u64);
        self.work.notify_one();
    }

    /// Writes what is queued, for no longer than `limit`, and takes nothing more. Whether all was
    /// written.
    pub fn close(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut state = self.lock();
        state.closed = true;
        self.work.notify_one();
        while !state.written {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = match self.done.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        true
    }

    /// What to do next; waits for it, while a sink is `failing` not for long. `None` when there will be
    /// nothing more.
    fn next(&self, failing: bool) -> Option<Task> {
        let retry = failing.then(|| Instant::now() + self.retry);
        let mut state = self.lock();
        loop {
            let over = if state.closed {
                state.repeats.all_over()
            } else {
                state.repeats.over(Instant::now())
            };
            for (like, hidden) in over {
                state.put(summary(like, hidden));
            }
            if let Some(record) = state.take() {
                self.metrics.log_queue.set(state.records.len() as u64);
                return Some(Task::Write(record));
            }
            state.tell_lost();
            if let Some(record) = state.take() {
                self.metrics.log_queue.set(state.records.len() as u64);
                return Some(Task::Write(record));
            }
            if state.closed {
                return None;
            }
            if retry.is_some_and(|retry| retry <= Instant::now()) {
                return Some(Task::Retry);
            }
            let due = state.repeats.due();
            state = match due.into_iter().chain(retry).min() {
                None => self
                    .work
                    .wait(state)
                    .unwrap_or_else(|poisoned| poisoned.into_inner()),
                Some(due) => {
                    let left = due.saturating_duration_since(Instant::now());
                    match self.work.wait_timeout(state, left) {
                        Ok((state, _)) => state,
                        Err(poisoned) => poisoned.into_inner().0,
                    }
                }
            };
        }
    }

    /// The writing thread.
    fn write(&self, sinks: Sinks) {
        let mut log = Outlet::new(sinks.log);
        let mut audit = sinks.audit.map(Outlet::new);
        loop {
            let failing = log.is_failing() || audit.as_ref().is_some_and(Outlet::is_failing);
            let record = match self.next(failing) {
                Some(Task::Write(record)) => record,
                last => {
                    // Each says what it has lost, if it can: at the end for the last time.
                    _ = log.recover();
                    _ = audit.as_mut().map(Outlet::recover);
                    match last {
                        Some(_) => continue,
                        None => break,
                    }
                }
            };
            let mut whole = log.write(&record);
            if record.is_audit()
                && let Some(audit) = &mut audit
            {
                whole &= audit.write(&record);
            }
            if !whole {
                self.metrics.log_lines_lost.inc();
            }
        }
        self.lock().written = true;
        self.done.notify_all();
    }
}

impl<K> State<K> {
    fn put(&mut self, record: Record) {
        self.bytes += record.cost();
        self.records.push_back(record);
    }

    fn take(&mut self) -> Option<Record> {
        let record = self.records.pop_front()?;
        self.bytes -= record.cost();
        if self.records.is_empty() {
            // Small again after a burst.
            self.records.shrink_to(64);
        }
        Some(record)
    }

    /// In its place between what was queued before and what comes after.
    fn tell_lost(&mut self) {
        if self.lost > 0 {
            let lines = Value::Other(self.lost.to_string());
            self.lost = 0;
            let message = "log lines were dropped: more came than could be written";
            self.put(Record::ours(Level::WARN, message, vec![("lines", lines)]));
        }
    }
}

fn summary(like: Like, hidden: u64) -> Record {
    let message = format!("more of these, not shown: {}", like.message);
    let lines = Value::Other(hidden.to_string());
    Record {
        target: like.target,
        ..Record::ours(like.level, &message, vec![("lines", lines)])
    }
}

/// A sink and whether it works.
struct Outlet {
    sink: Box<dyn Sink>,
    /// Lines that it did not take, and why it did not take the first.
    failing: Option<(u64, String)>,
}

impl Outlet {
    fn new(sink: Box<dyn Sink>) -> Self {
        Outlet {
            sink,
            failing: None,
        }
    }

    fn is_failing(&self) -> bool {
        self.failing.is_some()
    }

    /// Tells what was lost, if anything was; so it shows whether the sink works again.
    fn recover(&mut self) -> io::Result<()> {
        if let Some((lines, error)) = &self.failing {
            self.sink.write(&Record::ours(
                Level::WARN,
                "log lines were lost: they could not be written",
                vec![
                    ("lines", Value::Other(lines.to_string())),
                    ("error", Value::Text(error.clone())),
                ],
            ))?;
            self.failing = None;
        }
        Ok(())
    }

    /// Whether the line was written.
    fn write(&mut self, record: &Record) -> bool {
        // That it works again is told before the line that shows it.
        let result = self.recover().and_then(|()| self.sink.write(record));
        if let Err(error) = &result {
            let failing = self.failing.get_or_insert((0, error.to_string()));
            failing.0 += 1;
        }
        result.is_ok()
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
