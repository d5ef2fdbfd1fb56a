//! The call records: one line of JSON in an operator's file for each call that is over.
//!
//! A [`Record`] is put together by the call's driver and handed to the [`Recorder`], which belongs to
//! the daemon and never lets a call wait: records stand in a queue of [`QUEUE`], and one thread writes
//! them, each with one write at the file's end. What finds the queue full, or cannot be written, is
//! dropped, counted, and told once until it is well again. Every reload opens the file anew, so that
//! one that was rotated away is let go. At the end of the process what is queued is written, within a
//! bound.
//!
//! Unlike a log, a record holds the telephone numbers, and the notes that an agent has left: the file
//! is made for its owner and group only (0640).

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    fs::{File, OpenOptions, Permissions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, atomic::Ordering::Relaxed},
    time::{Duration, Instant, SystemTime},
};

use rustix::fs::OFlags;
use serde::Serialize;
use tracing::{info, warn};

use super::{cause::Cause, errand, registry::View};
use crate::{
    metrics::{Metrics, labels::CallRecord},
    timestamp::rfc3339,
};

/// Records that wait to be written; a thousand calls that end at once lose some, a disk that has
/// stalled costs no more memory than this.
pub const QUEUE: usize = 256;
/// Of the file: for the daemon's user and its group.
const MODE: u32 = 0o640;

/// In a record, of each list; more is left out. A record has to end somewhere.
const MOST: usize = 64;

/// What is kept of a call that is over. The keys of its JSON are public: added, never renamed.
#[derive(Clone, Default, PartialEq, Serialize)]
pub struct Record {
    pub call_sid: String,
    /// From the start of the media stream to its end; RFC 3339, UTC.
    pub started_at: String,
    pub ended_at: String,
    pub duration_seconds: f64,
    /// As in the log's `session ended`.
    pub cause: &'static str,
    pub route: Option<String>,
    pub agent: &'static str,
    pub from: String,
    pub to: String,
    /// Placed by an operator.
    pub test: bool,
    /// The agent's names for the conversation, in their order.
    pub chats: Vec<String>,
    /// Answers that the agent has begun to give.
    pub turns: u64,
    pub barge_ins: u64,
    /// By the tool's name and what came of it, how often.
    pub tool_calls: BTreeMap<String, BTreeMap<&'static str, u64>>,
    pub transfers: Vec<Transfer>,
    pub notes: Vec<Note>,
}

/// An attempt to put the caller through.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Transfer {
    pub at: String,
    /// The number.
    pub to: String,
    /// `connected`, `no-answer`, `busy`, `declined` or `unreachable`; `None` when the call ended before
    /// that was known.
    pub outcome: Option<&'static str>,
}

/// What the agent has left behind.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    pub at: String,
    pub text: String,
}

/// Whose it is, and nothing that it holds.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("call_sid", &self.call_sid)
            .field("cause", &self.cause)
            .finish_non_exhaustive()
    }
}

impl Record {
    /// What the register's view knows of a call that ends now.
    pub fn of(view: &View, cause: Cause) -> Record {
        Record::default().ended(view, cause)
    }

    /// The same, of one that has been kept since the call began.
    pub fn ended(self, view: &View, cause: Cause) -> Record {
        let (facts, lasted) = (&view.facts, view.started.elapsed());
        Record {
            call_sid: facts.call.as_str().to_owned(),
            started_at: rfc3339(view.started_at),
            // A clock that was set meanwhile has not made the call longer.
            ended_at: rfc3339(view.started_at + lasted),
            duration_seconds: lasted.as_millis() as f64 / 1000.0,
            cause: cause.as_str(),
            route: facts.route.clone(),
            agent: facts.agent,
            from: facts.from.clone(),
            to: facts.to.clone(),
            test: view.test,
            barge_ins: view.barge_ins.load(Relaxed),
            ..self
        }
    }

    /// The agent is there; it may be the same conversation as before.
    pub fn chat(&mut self, chat: &str) {
        if self.chats.last().is_none_or(|last| last != chat) && self.chats.len() < MOST {
            self.chats.push(chat.to_owned());
        }
    }

    /// A tool was called. A config may have more tools than are told apart here.
    pub fn tool_call(&mut self, name: &str, outcome: &'static str) {
        const OTHERS: &str = "(others)";
        let known = self.tool_calls.contains_key(name) || self.tool_calls.len() < MOST;
        let name = if known { name } else { OTHERS };
        let outcomes = self.tool_calls.entry(name.to_owned()).or_default();
        *outcomes.entry(outcome).or_default() += 1;
    }

    /// The caller is on the way to somebody.
    pub fn transfer(&mut self, to: &str, at: SystemTime) {
        if self.transfers.len() < MOST {
            self.transfers.push(Transfer {
                at: rfc3339(at),
                to: to.to_owned(),
                outcome: None,
            });
        }
    }

    /// What has become of the last transfer.
    pub fn transferred(&mut self, outcome: errand::Transferred) {
        use errand::{Failed, Transferred};
        let word = match outcome {
            Transferred::Connected => "connected",
            Transferred::Returning(failed) | Transferred::Ended(failed) => match failed {
                Failed::NoAnswer => "no-answer",
                Failed::Busy => "busy",
                Failed::Declined => "declined",
                Failed::Unreachable => "unreachable",
            },
        };
        if let Some(last) = self.transfers.last_mut() {
            last.outcome.get_or_insert(word);
        }
    }

    /// The agent leaves a note.
    pub fn note(&mut self, text: &str, at: SystemTime) {
        if self.notes.len() < MOST {
            self.notes.push(Note {
                at: rfc3339(at),
                text: text.to_owned(),
            });
        }
    }

    fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("strings and finite numbers are JSON");
        line.push(b'\n');
        line
    }
}

/// Takes the records of all calls. Without a file it takes none.
pub struct Recorder {
    state: Mutex<State>,
    /// For the writer: there is something to do.
    work: Condvar,
    /// For whoever waits for the end: everything is written.
    done: Condvar,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct State {
    path: Option<PathBuf>,
    /// The file is to be opened, again or another.
    reopen: bool,
    records: VecDeque<Record>,
    /// Some found no room, and that has been told.
    full: bool,
    /// The thread is there from the first file on.
    writing: bool,
    closed: bool,
    written: bool,
}

/// What the writer is to do next.
enum Task {
    Open(Option<PathBuf>),
    Write(Box<Record>),
}

impl Recorder {
    /// Without a file.
    pub fn new(metrics: Arc<Metrics>) -> Arc<Recorder> {
        Arc::new(Recorder {
            state: Mutex::default(),
            work: Condvar::new(),
            done: Condvar::new(),
            metrics,
        })
    }

    /// With the file at `path`.
    pub fn open(path: &Path, metrics: Arc<Metrics>) -> Arc<Recorder> {
        let recorder = Recorder::new(metrics);
        recorder.reopen(Some(path));
        recorder
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing is done under the lock that leaves the state half changed.
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// From now on this file, opened anew even if it is the same, or none. What cannot be opened is
    /// told in the log, and tried again with each record.
    pub fn reopen(self: &Arc<Self>, path: Option<&Path>) {
        let mut state = self.lock();
        state.path = path.map(Path::to_owned);
        state.reopen = true;
        if state.writing {
            return self.work.notify_one();
        }
        if state.path.is_none() || state.closed {
            return;
        }
        let writer = self.clone();
        let thread = std::thread::Builder::new().name("hume-bridge-rec".to_owned());
        match thread.spawn(move || writer.work()) {
            Ok(_) => state.writing = true,
            Err(error) => warn!(%error, "call records cannot be written: no thread for them"),
        }
    }

    /// Hands a record over. Never waits.
    pub fn write(&self, record: Record) {
        let mut state = self.lock();
        if state.path.is_none() {
            return;
        }
        if state.closed || !state.writing || state.records.len() >= QUEUE {
            let told = std::mem::replace(&mut state.full, true);
            drop(state);
            self.metrics.call_records.of(CallRecord::Dropped).inc();
            if !told {
                warn!(
                    limited = true,
                    "call records are dropped: they are not written as fast as calls end"
                );
            }
            return;
        }
        state.full = false;
        state.records.push_back(record);
        self.work.notify_one();
    }

    /// Writes what is queued, for no longer than `limit`, and takes nothing more. Whether all was
    /// written.
    pub fn close(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut state = self.lock();
        state.closed = true;
        self.work.notify_one();
        while state.writing && !state.written {
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

    /// What to do next; waits for it. `None` when there will be nothing more.
    fn next(&self) -> Option<Task> {
        let mut state = self.lock();
        loop {
            if std::mem::take(&mut state.reopen) {
                return Some(Task::Open(state.path.clone()));
            }
            if let Some(record) = state.records.pop_front() {
                return Some(Task::Write(Box::new(record)));
            }
            if state.closed {
                return None;
            }
            state = self
                .work
                .wait(state)
                .unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    /// The writing thread. It may wait for a disk, and nobody waits for it.
    fn work(&self) {
        let mut book = Book::default();
        while let Some(task) = self.next() {
            match task {
                Task::Open(path) => book.open(path),
                Task::Write(record) => {
                    let outcome = match book.write(&record.line()) {
                        true => CallRecord::Written,
                        false => CallRecord::Failed,
                    };
                    self.metrics.call_records.of(outcome).inc();
                }
            }
        }
        self.lock().written = true;
        self.done.notify_all();
    }
}

/// The file, and whether it takes what it is given.
#[derive(Default)]
struct Book {
    path: Option<PathBuf>,
    file: Option<File>,
    /// The last line has no end: the next one needs a line of its own.
    torn: bool,
    /// It is known to be unwell, and so many records were lost to that.
    failing: Option<u64>,
}

impl Book {
    fn open(&mut self, path: Option<PathBuf>) {
        if path != self.path {
            // Whatever was wrong with another file is not with this one.
            self.failing = None;
        }
        (self.path, self.file, self.torn) = (path, None, false);
        if self.path.is_some() {
            let opened = self.file().map(drop);
            self.tell(opened, 0);
        }
    }

    fn file(&mut self) -> io::Result<&mut File> {
        let path = match (&self.file, &self.path) {
            (Some(_), _) => None,
            (None, Some(path)) => Some(path),
            (None, None) => return Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        if let Some(path) = path {
            let file = open(path)?;
            self.torn |= is_torn(&file, path);
            self.file = Some(file);
        }
        Ok(self.file.as_mut().expect("it has been opened"))
    }

    /// Whether the line stands in the file.
    fn write(&mut self, line: &[u8]) -> bool {
        let written = self.try_write(line);
        let well = written.is_ok();
        self.tell(written, 1);
        well
    }

    fn try_write(&mut self, line: &[u8]) -> io::Result<()> {
        self.file()?;
        let torn = std::mem::take(&mut self.torn);
        let whole = match torn {
            true => [b"\n", line].concat(),
            false => line.to_vec(),
        };
        let file = self.file()?;
        let written = loop {
            match file.write(&whole) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        match written {
            Ok(length) if length == whole.len() => Ok(()),
            Ok(length) => {
                // Half a record is none: what is left of it is ended with the next.
                self.torn = torn || length > 0;
                self.file = None;
                Err(io::Error::new(
                    io::ErrorKind::StorageFull,
                    "only a part could be written",
                ))
            }
            Err(error) => {
                // A file that has gone bad (a network's, say) may be good again when it is opened.
                self.torn = torn;
                self.file = None;
                Err(error)
            }
        }
    }

    /// One line when it begins to fail, and one when it is well again.
    fn tell(&mut self, outcome: io::Result<()>, records: u64) {
        match (outcome, self.failing) {
            (Ok(()), None) => {}
            (Ok(()), Some(lost)) => {
                self.failing = None;
                info!(limited = true, lost, "call records are written again");
            }
            (Err(_), Some(lost)) => self.failing = Some(lost + records),
            (Err(error), None) => {
                self.failing = Some(records);
                let file = self.path.as_deref().unwrap_or(Path::new(""));
                warn!(
                    limited = true,
                    %error,
                    file = %file.display(),
                    "call records cannot be written"
                );
            }
        }
    }
}

/// To write at its end; made if it is not there, with [`MODE`] whatever the umask.
fn open(path: &Path) -> io::Result<File> {
    let mut how = OpenOptions::new();
    // A pipe that nobody reads would hold the thread; opened so, it is an error.
    let at_once = OFlags::NONBLOCK.bits().cast_signed();
    how.append(true).mode(MODE).custom_flags(at_once);
    // Where a link leads nowhere it is neither there nor can be made.
    for _ in 0..8 {
        match how.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        match how.clone().create_new(true).open(path) {
            // Somebody was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Ok(file) => {
                file.set_permissions(Permissions::from_mode(MODE))?;
                return Ok(file);
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from(io::ErrorKind::NotFound))
}

/// Whether a process that died, or a full disk, has left half a line at the end.
fn is_torn(file: &File, path: &Path) -> bool {
    let regular = file.metadata().is_ok_and(|data| data.is_file());
    let last = || {
        let mut file = File::open(path)?;
        let mut byte = [b'\n'];
        if file.seek(SeekFrom::End(0))? > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut byte)?;
        }
        io::Result::Ok(byte[0])
    };
    // One that may not be read is believed to be whole.
    regular && last().is_ok_and(|byte| byte != b'\n')
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
