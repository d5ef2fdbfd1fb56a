//! What the house counts, and how Prometheus reads it.
//!
//! One [`Metrics`] for the process, shared by all who have something to count; every family is in
//! the table below with its name, its kind and its meaning, and nowhere else (docs/metrics.md is
//! held against it by a test). Counting costs a relaxed atomic add and can neither fail nor wait.
//! Labels have few values, all of them words of ours ([`labels`]): no numbers, no SIDs, no names that
//! a peer made up.
//!
//! There are libraries for this. `prometheus-client` writes OpenMetrics, another format, and finds
//! the counter of a label in a map behind a lock; what is needed here is four small files.

pub mod kinds;
pub mod labels;
pub mod process;
pub mod text;

use std::time::{SystemTime, UNIX_EPOCH};

use crate::session::cause::Cause;
use kinds::{Counter, Counters, Gauge, Histogram, Histograms, Kind};
use labels::{
    AdminOp, AgentLoss, CallRecord, CallRefused, CallerLoss, Door, Endpoint, Label as _, LookedUp,
    Reconnect, Recycle, RestOperation, RestOutcome, Side, Skipped, SocketRefused, TlsFailure, Tool,
    ToolCall,
};
use process::Process;
use text::Text;

const CALL: &[f64] = &[
    5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0,
];
const CONNECT: &[f64] = &[0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0];
/// Ours alone: what the bridge adds to an interruption.
const CLEAR: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0,
];
/// Below a second a conversation flows; above two, callers say "hello?".
const TURN: &[f64] = &[
    0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0,
];
const TOOL: &[f64] = &[
    0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0,
];
const REST: &[f64] = &[0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 3.0, 5.0];

macro_rules! families {
    ($($field:ident: $kind:ty = $new:expr, $name:literal, $help:literal;)*) => {
        /// The counters of one process.
        pub struct Metrics {
            started: SystemTime,
            $(#[doc = $help] pub $field: $kind,)*
        }

        impl Default for Metrics {
            fn default() -> Self {
                Metrics {
                    started: SystemTime::now(),
                    $($field: $new,)*
                }
            }
        }

        impl Metrics {
            fn write(&self, text: &mut Text) {
                $(self.$field.write(&mut text.family($name, <$kind as Kind>::TYPE, $help));)*
            }
        }
    };
}

families! {
    calls_admitted: Counter = Counter::default(), "hume_bridge_calls_admitted_total",
        "Calls that got a place from their webhook; a webhook that Twilio repeats counts once.";
    calls_refused: Counters<CallRefused> = Counters::default(), "hume_bridge_calls_refused_total",
        "Calls that got no place, by reason.";
    calls_ended: Counters<Cause> = Counters::default(), "hume_bridge_calls_ended_total",
        "Calls whose media stream had begun and is over, by the cause that the log names.";
    call_duration: Histogram = Histogram::new(CALL), "hume_bridge_call_duration_seconds",
        "From the start of the media stream to its end.";
    call_records: Counters<CallRecord> = Counters::default(), "hume_bridge_call_records_total",
        "Records of calls that are over (calls.record), by what became of them.";

    caller_frames: Counter = Counter::default(), "hume_bridge_caller_frames_total",
        "Audio frames received from callers, usually of 20 ms.";
    caller_bytes: Counter = Counter::default(), "hume_bridge_caller_audio_bytes_total",
        "Mu-law audio received from callers; 8000 bytes a second.";
    caller_frames_dropped: Counters<CallerLoss> = Counters::default(),
        "hume_bridge_caller_frames_dropped_total",
        "Caller audio that the agent did not get, in frames of 20 ms, by reason.";
    caller_silence: Counter = Counter::default(), "hume_bridge_caller_silence_filled_bytes_total",
        "Silence put in where the caller's audio has gaps; 8000 bytes a second.";
    agent_messages: Counter = Counter::default(), "hume_bridge_agent_audio_messages_total",
        "Messages of agent audio sent to callers.";
    agent_bytes: Counter = Counter::default(), "hume_bridge_agent_audio_bytes_total",
        "Mu-law agent audio sent to callers; 8000 bytes a second.";
    agent_bytes_dropped: Counters<AgentLoss> = Counters::default(),
        "hume_bridge_agent_audio_dropped_bytes_total",
        "Agent audio that was not sent to callers, by reason; 8000 bytes a second.";

    agent_connect: Histogram = Histogram::new(CONNECT), "hume_bridge_agent_connect_seconds",
        "From dialling the agent to its open socket, where that succeeded.";
    agent_ready: Histogram = Histogram::new(CONNECT), "hume_bridge_agent_ready_seconds",
        "From the start of the media stream to the agent's being ready for audio.";

    agent_reconnects: Counters<Reconnect> = Counters::default(),
        "hume_bridge_agent_reconnects_total",
        "Agents called again after a loss or for a failed first attempt, and what came of it.";
    agent_recycles: Counters<Recycle> = Counters::default(), "hume_bridge_agent_recycles_total",
        "Conversations taken up on a new connection before the agent's limit ended them.";
    agent_away: Histogram = Histogram::new(CONNECT), "hume_bridge_agent_away_seconds",
        "From the loss of an agent in mid-call, or its recycling, to the next one's being ready.";
    caller_repeated: Counter = Counter::default(), "hume_bridge_caller_audio_repeated_bytes_total",
        "Caller audio that a new agent was given again because the one before had not answered it; 8000 bytes a second.";
    holds: Counter = Counter::default(), "hume_bridge_holds_total",
        "Times that a caller had to wait for the agent for so long as to hear the hold sound.";
    no_input_checks: Counter = Counter::default(), "hume_bridge_no_input_checks_total",
        "Callers who were asked whether they are still there.";

    barge_ins: Counter = Counter::default(), "hume_bridge_barge_ins_total",
        "Interruptions that took back agent audio not yet heard.";
    spurious_interruptions: Counter = Counter::default(),
        "hume_bridge_spurious_interruptions_total",
        "Interruptions told by the agent when there was nothing to interrupt.";
    clear: Histogram = Histogram::new(CLEAR), "hume_bridge_interruption_clear_seconds",
        "From reading the agent's message that means an interruption to the clear on the wire.";
    turn_answered: Histogram = Histogram::new(TURN), "hume_bridge_turn_first_audio_seconds",
        "From the end of the caller's words, as the agent tells it, to the first audio of the answer.";
    turn_heard: Histogram = Histogram::new(TURN), "hume_bridge_turn_heard_seconds",
        "From the end of the caller's words, as the agent tells it, to the caller's hearing the answer begin.";

    tool_calls: Counters<ToolCall> = Counters::default(), "hume_bridge_tool_calls_total",
        "The agent's tool calls, by tool and outcome.";
    tool_duration: Histograms<Tool> = Histograms::new(TOOL),
        "hume_bridge_tool_call_duration_seconds",
        "From reading a tool call to its answer: of what the call does itself on the wire, of what is run the tool's.";
    rest_operations: Counters<RestOutcome> = Counters::default(),
        "hume_bridge_rest_operations_total",
        "What Twilio's REST API was asked for, repeated requests included, by operation and outcome.";
    rest_duration: Histograms<RestOperation> = Histograms::new(REST),
        "hume_bridge_rest_operation_duration_seconds",
        "From asking Twilio's REST API for something to its last answer.";

    lookups: Counters<LookedUp> = Counters::default(), "hume_bridge_lookups_total",
        "Questions to the lookup service about who calls, by outcome.";
    lookup_duration: Histogram = Histogram::new(TOOL), "hume_bridge_lookup_duration_seconds",
        "From asking the lookup service to its answer or the end of patience.";

    signature_failures: Counters<Endpoint> = Counters::default(),
        "hume_bridge_signature_failures_total",
        "Requests that Twilio did not sign, by what they asked for.";
    requests_limited: Counters<Endpoint> = Counters::default(),
        "hume_bridge_requests_limited_total",
        "Requests answered 429 because their address had sent too many that Twilio did not sign, by what they asked for.";
    tls_failures: Counters<TlsFailure> = Counters::default(),
        "hume_bridge_tls_handshake_failures_total",
        "TLS handshakes on the public listener that came to nothing, by reason.";
    accept_failures: Counters<Door> = Counters::default(), "hume_bridge_accept_failures_total",
        "Connections that could not be accepted for want of files or memory, tries included, by listener.";
    sockets_refused: Counters<SocketRefused> = Counters::default(),
        "hume_bridge_media_sockets_refused_total",
        "Media sockets that got no call, by reason.";
    sockets_lingered: Counter = Counter::default(), "hume_bridge_media_sockets_lingered_total",
        "Media sockets that outlasted their call, by Twilio's word, and were closed.";
    skipped: Counters<Skipped> = Counters::default(), "hume_bridge_messages_skipped_total",
        "Messages on calls that could not be used, by side and reason.";
    stalls: Counters<Side> = Counters::default(), "hume_bridge_stalls_total",
        "Sockets given up because their peer did not take what waited for it within ten seconds.";
    admin_requests: Counters<AdminOp> = Counters::default(), "hume_bridge_admin_requests_total",
        "Requests on the control socket, by op.";
    log_queue: Gauge = Gauge::default(), "hume_bridge_log_queue_lines",
        "Log lines that wait to be written.";
    log_lines_lost: Counter = Counter::default(), "hume_bridge_log_lines_lost_total",
        "Log lines that were dropped or could not be written.";
}

/// What is not counted but looked up.
pub struct Now {
    pub calls_active: usize,
    /// Admitted, and their media socket still to come.
    pub calls_expected: usize,
    /// Live calls with something queued that this side has not taken yet: Twilio, the agent.
    pub queues_waiting: [usize; 2],
    /// And how many bytes of audio messages that is.
    pub queued_bytes: [usize; 2],
    pub draining: bool,
    /// Unix time; only of a listener that speaks TLS.
    pub certificate_expires: Option<i64>,
    pub process: Process,
}

impl Metrics {
    /// The whole document.
    pub fn render(&self, now: &Now) -> String {
        let mut text = Text::default();
        let mut gauge = |name, help, value: f64| {
            text.family(name, "gauge", help).add("", &[], value);
        };
        gauge(
            "hume_bridge_calls_active",
            "Calls whose media stream is open.",
            now.calls_active as f64,
        );
        gauge(
            "hume_bridge_calls_expected",
            "Calls that are admitted and whose media stream is on its way.",
            now.calls_expected as f64,
        );
        gauge(
            "hume_bridge_draining",
            "1 while no call is admitted because the daemon drains.",
            f64::from(u8::from(now.draining)),
        );
        let mut by_side = |name, help, values: [usize; 2]| {
            let mut family = text.family(name, "gauge", help);
            for (side, value) in Side::rows().iter().zip(values) {
                family.add("", &[(Side::KEYS[0], side[0])], value as f64);
            }
        };
        by_side(
            "hume_bridge_queues_waiting",
            "Live calls with something queued that this side's socket has not taken yet.",
            now.queues_waiting,
        );
        by_side(
            "hume_bridge_queued_bytes",
            "Audio messages that wait for this side's sockets, on all live calls.",
            now.queued_bytes,
        );
        let mut gauge = |name, help, value: f64| {
            text.family(name, "gauge", help).add("", &[], value);
        };
        if let Some(expires) = now.certificate_expires {
            gauge(
                "hume_bridge_tls_certificate_expires_seconds",
                "When the public listener's certificate expires, since the Unix epoch.",
                expires as f64,
            );
        }
        self.write(&mut text);
        text.family(
            "hume_bridge_build_info",
            "gauge",
            "Always 1; what runs here.",
        )
        .add("", &[("version", env!("CARGO_PKG_VERSION"))], 1);
        self.write_process(&now.process, &mut text);
        text.finish()
    }

    /// Names and meanings of Prometheus' own client libraries.
    fn write_process(&self, process: &Process, text: &mut Text) {
        let mut family = |name, kind, help, value: Option<f64>| {
            if let Some(value) = value {
                text.family(name, kind, help).add("", &[], value);
            }
        };
        family(
            "hume_bridge_tasks",
            "gauge",
            "Tasks of the runtime that are alive.",
            process.tasks.map(|tasks| tasks as f64),
        );
        family(
            "process_cpu_seconds_total",
            "counter",
            "User and system processor time spent.",
            process.cpu_seconds,
        );
        family(
            "process_open_fds",
            "gauge",
            "Open file descriptors.",
            process.open_fds.map(|fds| fds as f64),
        );
        family(
            "process_max_fds",
            "gauge",
            "Most file descriptors that may be open.",
            process.max_fds.map(|fds| fds as f64),
        );
        family(
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory.",
            process.rss_bytes.map(|bytes| bytes as f64),
        );
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        family(
            "process_start_time_seconds",
            "gauge",
            "When the daemon started, since the Unix epoch.",
            Some(started.as_millis() as f64 / 1000.0),
        );
    }
}
