//! The books of calls that come and go: which frames were sent, which arrived.
//!
//! A call's line is opened before the call is placed and closed when it is over. Whose an agent's
//! connection is shows by the first stamp on it. Latency is recorded while a call has no fault and
//! both sides have heard each other.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Instant,
};

use crate::sim::{
    measure::{
        WHOLE_MESSAGE,
        ledger::{Histogram, Ledger},
        lock, stamp,
    },
    phone::Probe,
    speech::FRAME_SAMPLES,
};

#[derive(Default)]
pub struct Books {
    open: Mutex<Open>,
    pub up: Histogram,
    pub down: Histogram,
}

#[derive(Default)]
struct Open {
    lines: HashMap<usize, Arc<Line>>,
    /// By the number of the agent's connection.
    owners: HashMap<u32, Arc<Line>>,
    /// Connections to the agent of calls with a fault: a bridge in distress has an excuse.
    excused: HashSet<u32>,
}

/// One call.
#[derive(Default)]
pub struct Line {
    pub call: usize,
    up: Mutex<Ledger>,
    down: Mutex<Ledger>,
    heard_agent: AtomicBool,
    /// Something befalls one of its wires, sooner or later.
    faulted: AtomicBool,
    /// The agent is to hang up.
    leaves: AtomicBool,
    /// Connections to the agent.
    chats: AtomicU32,
}

impl Books {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn begin(&self, call: usize, faulted: bool) -> Arc<Line> {
        let line = Arc::new(Line {
            call,
            faulted: faulted.into(),
            ..Line::default()
        });
        self.open().lines.insert(call, line.clone());
        line
    }

    /// Forgets a call and its connections.
    pub fn close(&self, line: &Line) {
        let mut open = self.open();
        open.lines.remove(&line.call);
        let Open {
            owners, excused, ..
        } = &mut *open;
        owners.retain(|connection, owner| {
            let its = owner.call == line.call;
            if its && line.faulted() {
                excused.insert(*connection);
            }
            !its
        });
    }

    /// The agent read a frame. `faulted`: something befalls this connection.
    pub fn uplink(&self, connection: u32, text: &str, at: Instant, faulted: impl Fn(u32) -> bool) {
        let Some((call, number)) = stamp::read(text) else {
            return;
        };
        let line = {
            let mut open = self.open();
            let Some(line) = open.lines.get(&call).cloned() else {
                return;
            };
            open.owners.entry(connection).or_insert_with(|| {
                line.chats.fetch_add(1, Relaxed);
                line.faulted.fetch_or(faulted(connection), Relaxed);
                line.clone()
            });
            line
        };
        // The books are looked into again when something is recorded: so they are let go first.
        let sent = lock(&line.up).arrived(number, at);
        if let Some(sent) = sent {
            line.record(&self.up, sent, at);
        }
    }

    /// The agent's message is with the kernel.
    pub fn downlink(&self, connection: u32, number: u64, at: Instant) {
        let Some(line) = self.open().owners.get(&connection).cloned() else {
            return;
        };
        // The telephone may have been quicker than this.
        let arrived = lock(&line.down).sent(number, at);
        if let Some(arrived) = arrived {
            line.record(&self.down, at, arrived);
        }
    }

    /// Whether this connection's call was one with a fault.
    pub fn excused(&self, connection: u32) -> bool {
        self.open().excused.contains(&connection)
    }

    /// Whether the agent on this connection has enough.
    pub fn leaves(&self, connection: u32) -> bool {
        let open = self.open();
        let line = open.owners.get(&connection);
        line.is_some_and(|line| line.leaves.load(Relaxed))
    }
}

impl Line {
    fn record(&self, histogram: &Histogram, sent: Instant, arrived: Instant) {
        if self.is_up() && !self.faulted() {
            histogram.record(arrived.saturating_duration_since(sent));
        }
    }

    /// Both sides have heard each other.
    pub fn is_up(&self) -> bool {
        self.heard_agent.load(Relaxed) && lock(&self.up).is_open()
    }

    pub fn faulted(&self) -> bool {
        self.faulted.load(Relaxed)
    }

    pub fn chats(&self) -> u32 {
        self.chats.load(Relaxed)
    }

    /// Has the agent say goodbye and hang up.
    pub fn let_agent_leave(&self) {
        self.leaves.store(true, Relaxed);
    }

    /// Frames sent until now that have not arrived, up and down.
    pub fn missing(&self) -> (u64, u64) {
        let now = Instant::now();
        (lock(&self.up).missing(now), lock(&self.down).missing(now))
    }
}

/// A telephone's ear and mouth.
pub struct Ear {
    pub books: Arc<Books>,
    pub line: Arc<Line>,
    pub messages: u64,
}

impl Probe for Ear {
    fn frame(&mut self, number: u64, payload: &mut [u8; FRAME_SAMPLES]) {
        stamp::write(self.line.call, number, payload);
    }

    fn sent(&mut self, number: u64, at: Instant) {
        // The agent has nothing yet, so nothing can have been quicker.
        lock(&self.line.up).sent(number, at);
    }

    fn media(&mut self, mulaw: &[u8], at: Instant) {
        if mulaw.len() < WHOLE_MESSAGE {
            return;
        }
        self.line.heard_agent.store(true, Relaxed);
        let sent = lock(&self.line.down).arrived(self.messages, at);
        if let Some(sent) = sent {
            self.line.record(&self.books.down, sent, at);
        }
        self.messages += 1;
    }
}
