//! One call outside its streams: documents are fetched, verbs run in order, callbacks go out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::journal::{CallReport, Document, Ended, Event, Journal};
use super::script::{Line, Next, Script, Step};
use super::switchboard::CallStatus;
use super::twiml::{self, Request, Verb};
use super::webhook::{self, Params, Standard};
use super::{CallSetup, Fault, Order, Phone, Probe, http};

pub const BEAT: Duration = Duration::from_millis(20);
/// Twilio's voice in `<Say>`.
const CHARACTER: Duration = Duration::from_millis(60);
/// Twilio stops following documents at some point (error 11215).
const MOST_DOCUMENTS: usize = 20;

/// Virtual time since the call was placed.
#[derive(Clone, Copy)]
pub struct Clock {
    origin: Instant,
    pace: f64,
}

impl Clock {
    pub fn now(&self) -> Duration {
        self.origin.elapsed().mul_f64(self.pace)
    }
}

pub struct Call {
    pub phone: Arc<Phone>,
    pub call_sid: String,
    from: String,
    to: String,
    pub clock: Clock,
    pub journal: Arc<Journal>,
    pub orders: mpsc::Receiver<Order>,
    pub orders_open: bool,
    /// Set when the REST API has ended the call.
    pub completed: Arc<AtomicBool>,
    pub script: Script,
    /// The script's clock starts with the first stream.
    pub script_runs: bool,
    /// When the story was told, or the last order came after that.
    pub idle_since: Option<Duration>,
    pub heard: Vec<u8>,
    pub spoken: Vec<u8>,
    pub stream_sids: Vec<String>,
    pub frames_sent: u64,
    pub background: JoinSet<()>,
    pub probe: Option<Box<dyn Probe>>,
}

impl Call {
    pub fn new(
        phone: &Phone,
        setup: CallSetup,
        orders: mpsc::Receiver<Order>,
        probe: Option<Box<dyn Probe>>,
    ) -> Self {
        Self {
            phone: Arc::new(phone.clone()),
            completed: phone
                .switchboard
                .enter(&setup.call_sid, &setup.from, &setup.to),
            call_sid: setup.call_sid,
            from: setup.from,
            to: setup.to,
            clock: Clock {
                origin: Instant::now(),
                pace: phone.pace,
            },
            journal: Arc::new(Journal::new(probe.is_some())),
            orders,
            orders_open: true,
            script: Script::new(setup.script),
            script_runs: false,
            idle_since: None,
            heard: Vec::new(),
            spoken: Vec::new(),
            stream_sids: Vec::new(),
            frames_sent: 0,
            background: JoinSet::new(),
            probe,
        }
    }

    pub fn journal(&self) -> Arc<Journal> {
        self.journal.clone()
    }

    pub async fn run(mut self) -> CallReport {
        let ended = match self.conversation().await {
            Ok(ended) | Err(ended) => ended,
        };
        let ended_at = self.clock.now();
        let status = match ended {
            Ended::Rejected { .. } => CallStatus::Busy,
            Ended::ApplicationError { .. } if self.stream_sids.is_empty() => CallStatus::Failed,
            _ => CallStatus::Completed,
        };
        self.phone.switchboard.set(&self.call_sid, status);
        self.report_status(status, ended_at);
        // Each of them has the deadline of an HTTP exchange; this one is for the sum.
        let joined = timeout(http::TOTAL, async {
            while self.background.join_next().await.is_some() {}
        })
        .await;
        if joined.is_err() {
            self.violation("callbacks were still unanswered 15 s after the call");
        }
        self.journal
            .write(ended_at, Event::Ended { how: ended.clone() });
        let (mut entries, violations, entries_dropped) = self.journal.take();
        // Beats are dated as if no machine had ever stalled, so they may have been written late.
        entries.sort_by_key(|entry| (matches!(entry.event, Event::Ended { .. }), entry.at));
        CallReport {
            call_sid: self.call_sid,
            stream_sids: self.stream_sids,
            entries,
            entries_dropped,
            ended,
            ended_at,
            violations,
            heard: self.heard,
            spoken: self.spoken,
            frames_sent: self.frames_sent,
        }
    }

    pub fn log(&self, event: Event) {
        self.journal.write(self.clock.now(), event);
    }

    pub fn violation(&self, what: impl Into<String>) {
        self.log(Event::Violation { what: what.into() });
    }

    /// Runs documents until there is an end to it. Both sides of the result are ends: `?` leaves early.
    async fn conversation(&mut self) -> Result<Ended, Ended> {
        let url = format!(
            "{}{}",
            self.phone.public_url, self.phone.options.webhook_path
        );
        let mut verbs = if self.phone.has(Fault::NoWebhook) {
            vec![self.guessed_stream()]
        } else {
            let get = self.phone.has(Fault::GetWebhook);
            let params = self.standard(&self.call_sid).incoming();
            self.fetch(Document::Webhook, Request { url, get }, params)
                .await?
        };
        for _ in 0..MOST_DOCUMENTS {
            let Some((what, request, extra)) = self.execute(verbs).await? else {
                return Ok(Ended::NothingLeft);
            };
            let mut params = self.standard(&self.call_sid).during("in-progress");
            params.extend(extra);
            verbs = self.fetch(what, request, params).await?;
        }
        self.violation("11215: too many documents, one after the other");
        Err(Ended::ApplicationError {
            what: "too many documents".into(),
        })
    }

    /// Runs the verbs of a document; returns where the document leads, if it does not end here.
    async fn execute(
        &mut self,
        verbs: Vec<Verb>,
    ) -> Result<Option<(Document, Request, Params)>, Ended> {
        for verb in verbs {
            if let Verb::Reject { busy } = verb {
                return Err(Ended::Rejected { busy });
            }
            self.phone
                .switchboard
                .set(&self.call_sid, CallStatus::InProgress);
            match verb {
                Verb::Say(text) => {
                    let lasts = CHARACTER * text.chars().count() as u32;
                    self.log(Event::Said { text });
                    self.pass(lasts).await?;
                }
                Verb::Pause(lasts) => {
                    self.log(Event::Paused {
                        seconds: lasts.as_secs(),
                    });
                    self.pass(lasts).await?;
                }
                Verb::Hangup | Verb::Reject { .. } => return Err(Ended::Hangup),
                Verb::Redirect(request) => {
                    return Ok(Some((Document::Redirect, request, Params::new())));
                }
                Verb::Dial { numbers, action } => {
                    self.log(Event::Dialled { numbers });
                    let lasts = self.phone.options.dial_lasts;
                    self.pass(lasts).await?;
                    if let Some(request) = action {
                        let extra = [
                            (
                                "DialCallStatus",
                                self.phone.options.dial_outcome.as_str().to_owned(),
                            ),
                            ("DialCallSid", webhook::sid("CA")),
                            ("DialCallDuration", lasts.as_secs().to_string()),
                        ];
                        let extra = extra.map(|(name, value)| (name.to_owned(), value)).into();
                        return Ok(Some((Document::DialAction, request, extra)));
                    }
                }
                Verb::Connect { action, mut stream } => {
                    if self.phone.has(Fault::NoToken) {
                        stream.parameters.clear();
                    } else if self.phone.has(Fault::StolenToken) {
                        stream.parameters = self.stolen_parameters().await?;
                    }
                    self.stream(&stream).await?;
                    if let Some(request) = action {
                        return Ok(Some((Document::ConnectAction, request, Params::new())));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Lets virtual time pass on a line without a stream.
    async fn pass(&mut self, span: Duration) -> Result<(), Ended> {
        let wall = self.phone.wall(span);
        tokio::select! {
            ended = self.interruption() => Err(ended),
            () = sleep(wall) => Ok(()),
        }
    }

    /// Resolves only if the caller or the REST API ends the call.
    pub(super) async fn interruption(&mut self) -> Ended {
        let mut beat = interval(self.phone.wall(BEAT));
        beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                order = self.orders.recv(), if self.orders_open => match order {
                    None => self.orders_open = false,
                    Some(Order::Then(steps)) => self.script.append(steps),
                    Some(Order::Now(step)) => {
                        if let Some(ended) = without_stream(&step) {
                            return ended;
                        }
                    }
                    Some(Order::SayAudio(..)) => {}
                },
                _ = beat.tick() => {
                    if self.completed.load(Ordering::Acquire) {
                        return Ended::RestCompleted;
                    }
                    while self.script_runs {
                        let line = Line { now: self.clock.now(), stream_over: true, ..Line::default() };
                        match self.script.next(&line) {
                            Next::Do(step) => {
                                if let Some(ended) = without_stream(&step) {
                                    return ended;
                                }
                            }
                            Next::TimedOut(step) => return Ended::StepTimedOut { step: format!("{step:?}") },
                            Next::Wait | Next::Done => break,
                        }
                    }
                }
            }
        }
    }

    pub(super) fn standard<'a>(&'a self, call_sid: &'a str) -> Standard<'a> {
        Standard {
            account_sid: &self.phone.account_sid,
            call_sid,
            from: &self.from,
            to: &self.to,
        }
    }

    /// What somebody would try who knows the address of the stream and nothing else.
    fn guessed_stream(&self) -> Verb {
        let url = format!(
            "{}{}",
            self.phone.public_url, self.phone.options.stream_path
        )
        .replacen("http", "ws", 1);
        let stream = twiml::Stream {
            url,
            name: None,
            status_callback: None,
            parameters: Vec::new(),
        };
        Verb::Connect {
            action: None,
            stream,
        }
    }
}

/// What a step comes to while there is nobody to listen.
fn without_stream(step: &Step) -> Option<Ended> {
    match step {
        Step::HangUp => Some(Ended::CallerHungUp),
        Step::Drop => Some(Ended::Dropped),
        _ => None,
    }
}
