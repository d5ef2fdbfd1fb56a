//! What happened on a call, when, and what ought not to have.
//!
//! All times are virtual: since the call was placed, at the pace of the telephone. Every entry is kept, so a
//! reader that comes late misses nothing; a journal past its ceiling counts what it no longer keeps.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;

use crate::sim::speech::{self, SAMPLES_PER_SECOND};

const CEILING: usize = 200_000;
const VIOLATIONS_CEILING: usize = 1000;

/// A deviation from the protocol by the far end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation(pub String);

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Party {
    Phone,
    Bridge,
}

/// Why a mark came back; the wire does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Echo {
    Played,
    Flushed,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    CallerHungUp,
    /// The caller's side was lost without a `stop`.
    Dropped,
    /// Over the REST API.
    RestCompleted,
    /// `<Hangup>`.
    Hangup,
    Rejected {
        busy: bool,
    },
    /// The stream was over (or never was) and no verb was left to run.
    NothingLeft,
    /// A document could not be had or not be executed: the caller hears an error message.
    ApplicationError {
        what: String,
    },
    /// The story waited in vain.
    StepTimedOut {
        step: String,
    },
    /// The caller would have been connected to somebody; a rehearsal ends there.
    PutThrough,
    /// The story was told and nobody hung up for [`PhoneOptions::linger`](super::PhoneOptions::linger).
    Lingered,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A document was fetched: the first webhook, a `<Redirect>`, an action.
    Fetched {
        what: Document,
        url: String,
        status: u16,
        body: String,
    },
    /// Twilio's own voice, in `<Say>`; it lasts 60 ms a character.
    Said {
        text: String,
    },
    Paused {
        seconds: u64,
    },
    Dialled {
        numbers: Vec<String>,
    },
    /// Somebody's telephone rings; `call_sid` is their call's.
    CalleeRings {
        number: String,
        call_sid: String,
    },
    CalleeAnswered {
        number: String,
    },
    /// Twilio's own voice, to the callee alone.
    CalleeHeard {
        text: String,
    },
    /// Caller and callee hear one another.
    Bridged {
        number: String,
    },
    BridgeEnded {
        number: String,
        by_caller: bool,
    },
    /// Keys were asked for, and these came.
    Gathered {
        by_callee: bool,
        keys: String,
    },
    /// Keys sounded into the call, with their pauses.
    DigitsPlayed {
        digits: String,
    },
    /// The REST API has led the call elsewhere: to this document, or to one that is fetched next.
    Redirected {
        twiml: Option<String>,
    },
    UpgradeRefused {
        status: u16,
    },
    StreamStarted {
        stream_sid: String,
        parameters: Vec<(String, String)>,
    },
    AudioReceived {
        bytes: usize,
        queued: usize,
    },
    PlayingBegan,
    /// The queue ran dry or was cleared, after so many bytes without a hole.
    PlayingEnded {
        bytes: usize,
    },
    MarkReceived {
        name: String,
        queued: usize,
    },
    MarkEchoed {
        name: String,
        how: Echo,
    },
    ClearReceived {
        flushed: usize,
        marks: usize,
    },
    ClipBegan {
        name: String,
    },
    ClipEnded {
        name: String,
    },
    Dtmf {
        digit: char,
    },
    StopSent,
    SocketClosed {
        by: Party,
        code: Option<u16>,
        reason: String,
    },
    /// So much was queued and is never heard.
    StreamOver {
        unplayed: usize,
        pending_marks: usize,
    },
    /// The far end's answer to a callback.
    CallbackAnswered {
        what: String,
        status: Option<u16>,
    },
    /// What became of a second socket for the same call.
    SecondSocket {
        outcome: String,
    },
    StoryTold,
    Violation {
        what: String,
    },
    Ended {
        how: Ended,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Document {
    Webhook,
    Redirect,
    ConnectAction,
    DialAction,
    GatherAction,
    /// What a callee hears before they are connected.
    Number,
    /// Where the REST API has led the call.
    Update,
}

/// An event and its virtual time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    #[serde(rename = "at_ms", serialize_with = "milliseconds")]
    pub at: Duration,
    #[serde(flatten)]
    pub event: Event,
}

fn milliseconds<S: serde::Serializer>(at: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(at.as_millis() as u64)
}

#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    violations: Vec<Violation>,
    dropped: u64,
}

/// Written by the call, read by whoever steers it.
pub(super) struct Journal {
    state: Mutex<State>,
    written: watch::Sender<usize>,
    /// Only what a load generator needs: no entry for each message.
    lean: bool,
}

impl Journal {
    pub fn new(lean: bool) -> Self {
        Self {
            state: Mutex::default(),
            written: watch::Sender::new(0),
            lean,
        }
    }

    pub fn write(&self, at: Duration, event: Event) {
        let ended = matches!(event, Event::Ended { .. });
        if self.lean
            && !matches!(
                event,
                Event::Violation { .. }
                    | Event::Ended { .. }
                    | Event::SocketClosed { .. }
                    | Event::StreamOver { .. }
                    | Event::Fetched { .. }
            )
        {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Event::Violation { what } = &event
            && state.violations.len() < VIOLATIONS_CEILING
        {
            state.violations.push(Violation(what.clone()));
        }
        if state.entries.len() < CEILING || ended {
            state.entries.push(Entry { at, event });
        } else {
            state.dropped += 1;
        }
        let length = state.entries.len();
        drop(state);
        self.written.send_replace(length);
    }

    fn entry(&self, index: usize) -> Option<Entry> {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entries
            .get(index)
            .cloned()
    }

    pub fn take(&self) -> (Vec<Entry>, Vec<Violation>, u64) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (
            state.entries.clone(),
            state.violations.clone(),
            state.dropped,
        )
    }
}

/// The entries of a call from its beginning, as they come; ends behind [`Event::Ended`].
pub struct Entries {
    journal: Arc<Journal>,
    written: watch::Receiver<usize>,
    next: usize,
    over: bool,
}

impl Entries {
    pub(super) fn of(journal: Arc<Journal>) -> Self {
        let written = journal.written.subscribe();
        Self {
            journal,
            written,
            next: 0,
            over: false,
        }
    }

    /// The next entry; `None` when the call has ended and all has been read.
    pub async fn next(&mut self) -> Option<Entry> {
        loop {
            if self.over {
                return None;
            }
            if let Some(entry) = self.journal.entry(self.next) {
                self.next += 1;
                self.over = matches!(entry.event, Event::Ended { .. });
                return Some(entry);
            }
            // The sender is in the journal that we hold, so this cannot fail.
            self.written.changed().await.ok()?;
        }
    }
}

/// A whole call.
#[derive(Debug, Clone)]
pub struct CallReport {
    pub call_sid: String,
    /// In the order in which they were started.
    pub stream_sids: Vec<String>,
    pub entries: Vec<Entry>,
    /// Entries that were not kept because there were too many.
    pub entries_dropped: u64,
    pub ended: Ended,
    pub ended_at: Duration,
    pub violations: Vec<Violation>,
    /// What the caller heard, in mu-law from the moment the call was placed; silence where nothing was played.
    pub heard: Vec<u8>,
    /// What the caller said, sample by sample beside `heard`.
    pub spoken: Vec<u8>,
    /// Media messages sent.
    pub frames_sent: u64,
}

/// One thing that the caller said and how long the answer took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Turn {
    pub clip: String,
    #[serde(rename = "said_at_ms", serialize_with = "milliseconds")]
    pub said_at: Duration,
    #[serde(rename = "said_until_ms", serialize_with = "milliseconds")]
    pub said_until: Duration,
    /// When speech was next heard after the words ended and the line had been quiet or cleared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered_after: Option<Duration>,
}

impl CallReport {
    pub fn count(&self, mut of: impl FnMut(&Event) -> bool) -> usize {
        self.entries.iter().filter(|entry| of(&entry.event)).count()
    }

    /// When the first such thing happened.
    pub fn first(&self, mut of: impl FnMut(&Event) -> bool) -> Option<Duration> {
        self.entries
            .iter()
            .find(|entry| of(&entry.event))
            .map(|entry| entry.at)
    }

    /// Everything that the caller said, with the time until the agent's next words were heard. Words that were
    /// already being heard when the caller ended are no answer; so an agent that talks on has none.
    pub fn turns(&self) -> Vec<Turn> {
        let spans = speech::active_spans(&self.heard);
        let mut turns: Vec<Turn> = Vec::new();
        let mut began = None;
        for entry in &self.entries {
            match &entry.event {
                Event::ClipBegan { .. } => began = Some(entry.at),
                Event::ClipEnded { name } => {
                    let sample = (entry.at.as_secs_f64() * SAMPLES_PER_SECOND as f64) as usize;
                    let answer = spans
                        .iter()
                        .map(|span| span.start)
                        .find(|&start| start >= sample);
                    turns.push(Turn {
                        clip: name.clone(),
                        said_at: began.take().unwrap_or(entry.at),
                        said_until: entry.at,
                        answered_after: answer
                            .map(|start| Duration::from_micros((start - sample) as u64 * 125)),
                    });
                }
                _ => {}
            }
        }
        // An answer that came only after the caller had spoken again was not an answer to the first.
        for index in 1..turns.len() {
            let next = turns[index].said_at;
            let turn = &mut turns[index - 1];
            if turn
                .answered_after
                .is_some_and(|after| turn.said_until + after > next)
            {
                turn.answered_after = None;
            }
        }
        turns
    }
}
