//! What happened, as seen from the agent's end: the report's source.
//!
//! Everything is bounded: beyond its limit a kind of record is counted and no longer kept. Times
//! are virtual milliseconds since the simulator started.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio::sync::watch;

use super::wire::{AudioFormat, DeclaredTool};

/// Events kept for all connections together.
const MAX_EVENTS: usize = 200_000;
/// Frames other than audio kept of one connection.
const MAX_FRAMES: usize = 10_000;

/// Wall time made virtual.
#[derive(Clone, Copy, Debug)]
pub(in crate::sim) struct Clock {
    start: Instant,
    pace: f64,
}

impl Clock {
    pub fn new(pace: f64) -> Clock {
        Clock {
            start: Instant::now(),
            pace,
        }
    }

    /// Virtual ms since the start.
    pub fn now(&self) -> f64 {
        self.start.elapsed().as_secs_f64() * 1000.0 * self.pace
    }

    /// A virtual duration in wall time.
    pub fn wall(&self, duration: Duration) -> Duration {
        duration.div_f64(self.pace)
    }

    /// When the virtual time will be `ms`.
    pub fn instant(&self, ms: f64) -> Instant {
        // A year is as good as never, and no sum overflows.
        let seconds = (ms / 1000.0 / self.pace).clamp(0.0, 31_536_000.0);
        self.start + Duration::from_secs_f64(seconds)
    }
}

/// Something that happened on a connection.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// Virtual ms since the simulator started.
    pub at_ms: f64,
    /// Connections are numbered from 0 in the order of their acceptance, refused ones too.
    pub connection: u32,
    #[serde(flatten)]
    pub what: What,
}

/// Who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The script, or a fault in what the bridge sent.
    Agent,
    /// The bridge, with a close frame.
    Bridge,
    /// Nobody said goodbye.
    Lost,
    /// The simulator was stopped.
    Stopped,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// Not let in. `status` is missing for a connection closed or left unanswered.
    Refused {
        status: Option<u16>,
        why: String,
    },
    /// 101.
    Connected {
        config_id: Option<String>,
        resumed: bool,
    },
    /// Settings, from the query or a message.
    Settings {
        in_query: bool,
        audio: Option<AudioFormat>,
        /// By name, in their order.
        tools: Vec<String>,
        declared: Vec<DeclaredTool>,
        voice_id: Option<String>,
        context: Option<String>,
        builtin_tools: Vec<String>,
        variables: BTreeMap<String, String>,
        custom_session_id: Option<String>,
    },
    /// `chat_metadata` went out.
    Ready {
        chat_id: String,
        chat_group_id: String,
    },
    /// The caller began to speak; `audio_ms` counts audio received.
    SpeechBegan {
        utterance: u32,
        audio_ms: u64,
    },
    SpeechEnded {
        utterance: u32,
        begin_ms: u64,
        end_ms: u64,
    },
    /// A `user_message` went out.
    UserMessage {
        text: String,
        interim: bool,
        from_text: bool,
    },
    /// A segment has begun: its `assistant_message` went out.
    Saying {
        id: String,
        clip: String,
    },
    /// All audio of the segment went out.
    Said {
        id: String,
        clip: String,
        messages: u64,
        duration_ms: f64,
    },
    /// `assistant_end` went out.
    TurnEnded,
    /// `user_interruption` went out. `id`: the segment cut short or still playing.
    Interrupted {
        id: Option<String>,
        spurious: bool,
    },
    ToolCalled {
        id: String,
        name: String,
        parameters: String,
        response_required: bool,
    },
    /// `late`: the agent had stopped waiting; the answer changed nothing.
    ToolAnswered {
        id: String,
        ok: bool,
        content: String,
        latency_ms: f64,
        late: bool,
    },
    /// The server answered the call itself.
    ToolExpired {
        id: String,
    },
    /// The bridge asked for a pause.
    Paused,
    Resumed,
    /// The bridge had the agent told, or made to say, a text.
    UserInput {
        text: String,
    },
    AssistantInput {
        text: String,
    },
    /// A Realtime server was told what was said before this connection.
    Replayed {
        role: String,
        text: String,
    },
    /// It was told how much was heard of what it said.
    Truncated {
        id: String,
        clip: String,
        heard_ms: u64,
        of_ms: u64,
    },
    /// It was told that nothing was.
    Deleted {
        id: String,
        clip: String,
    },
    /// An `error` went out.
    Error {
        code: String,
        message: String,
    },
    /// Half-open from here.
    Frozen,
    Closed {
        by: By,
        code: Option<u16>,
        reason: String,
    },
    /// The bridge broke the protocol.
    Violation {
        what: String,
    },
}

/// What one connection sent.
#[derive(Clone, Debug, Default)]
pub struct Uplink {
    /// Text frames as received, in order: all but audio, and as much of the audio as the options keep.
    pub frames: Vec<String>,
    /// `audio_input` messages received, kept or not.
    pub audio_frames: u64,
    /// The caller as the agent heard them, at the declared rate: not what came to deaf ears.
    pub audio: Vec<i16>,
    audio_kept: usize,
}

/// Everything on record.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub events: Vec<Event>,
    /// By number of connection.
    pub uplinks: BTreeMap<u32, Uplink>,
}

impl Record {
    /// Every frame kept, one a line: what the official models are to validate.
    pub fn jsonl(&self) -> String {
        let mut out = String::new();
        for frame in self.uplinks.values().flat_map(|u| &u.frames) {
            // A frame that is no JSON may hold line breaks; it is on record as a violation anyway.
            out.extend(frame.chars().filter(|c| *c != '\n' && *c != '\r'));
            out.push('\n');
        }
        out
    }

    /// What the bridge did wrong, in order.
    pub fn violations(&self) -> Vec<&str> {
        self.events
            .iter()
            .filter_map(|e| match &e.what {
                What::Violation { what } => Some(what.as_str()),
                _ => None,
            })
            .collect()
    }
}

/// The record being written.
pub(in crate::sim) struct Log {
    pub clock: Clock,
    audio_frames_kept: usize,
    caller_samples_kept: usize,
    record: Mutex<Record>,
    changed: watch::Sender<()>,
}

impl Log {
    pub fn new(clock: Clock, audio_frames_kept: usize, caller_samples_kept: usize) -> Log {
        Log {
            clock,
            audio_frames_kept,
            caller_samples_kept,
            record: Mutex::default(),
            changed: watch::Sender::new(()),
        }
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn event(&self, connection: u32, what: What) {
        let at_ms = self.clock.now();
        let mut record = self.record();
        if record.events.len() < MAX_EVENTS {
            record.events.push(Event {
                at_ms,
                connection,
                what,
            });
        }
        drop(record);
        self.changed.send_replace(());
    }

    pub fn violation(&self, connection: u32, what: impl Into<String>) {
        self.event(connection, What::Violation { what: what.into() });
    }

    /// Counts, and keeps within bounds, a text frame.
    pub fn frame(&self, connection: u32, text: &str, is_audio: bool) {
        let mut record = self.record();
        let uplink = record.uplinks.entry(connection).or_default();
        let keep = if is_audio {
            uplink.audio_frames += 1;
            uplink.audio_kept < self.audio_frames_kept
        } else {
            uplink.frames.len() - uplink.audio_kept < MAX_FRAMES
        };
        if keep {
            uplink.audio_kept += usize::from(is_audio);
            uplink.frames.push(text.to_owned());
        }
        drop(record);
        self.changed.send_replace(());
    }

    /// Frames that were counted elsewhere and not kept.
    pub fn counted(&self, connection: u32, frames: u64) {
        self.record()
            .uplinks
            .entry(connection)
            .or_default()
            .audio_frames += frames;
    }

    pub fn caller(&self, connection: u32, pcm: &[i16]) {
        let mut record = self.record();
        let audio = &mut record.uplinks.entry(connection).or_default().audio;
        let room = self.caller_samples_kept.saturating_sub(audio.len());
        audio.extend_from_slice(&pcm[..pcm.len().min(room)]);
    }

    pub fn snapshot(&self) -> Record {
        self.record().clone()
    }

    /// Returns as soon as `done` holds of the record.
    pub async fn until(&self, mut done: impl FnMut(&Record) -> bool) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if done(&self.record()) {
                return;
            }
            // The sender lives in self.
            let _ = changed.changed().await;
        }
    }
}
