//! One call outside its streams: documents are fetched, verbs run in order, callbacks go out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::journal::{CallReport, Document, Ended, Event, Journal};
use super::script::{Line, Next, Script, Step};
use super::switchboard::{CallResource, CallStatus, Wish, Wishes};
use super::twiml::{self, Gather, Pressed, Request, Verb};
use super::webhook::{Params, Standard};
use super::{CallSetup, Fault, Order, Phone, Probe, http};

pub const BEAT: Duration = Duration::from_millis(20);
/// Twilio's voice in `<Say>`.
pub const CHARACTER: Duration = Duration::from_millis(60);
/// A key's tone and the pause after it.
const TONE: Duration = Duration::from_millis(200);
/// Twilio stops following documents at some point (error 11215); a stream between them, or somebody
/// who led the call elsewhere, is a beginning.
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

/// Why something was left in the middle.
pub enum Left {
    Ended(Ended),
    /// The REST API leads the call elsewhere.
    Redirected(Wish),
}

impl From<Ended> for Left {
    fn from(ended: Ended) -> Left {
        Left::Ended(ended)
    }
}

impl From<Wish> for Left {
    fn from(wish: Wish) -> Left {
        match wish {
            Wish::Complete => Left::Ended(Ended::RestCompleted),
            elsewhere => Left::Redirected(elsewhere),
        }
    }
}

pub struct Call {
    pub phone: Arc<Phone>,
    pub call_sid: String,
    pub(super) from: String,
    pub(super) to: String,
    /// By the operator.
    placed: bool,
    pub clock: Clock,
    pub journal: Arc<Journal>,
    pub orders: mpsc::Receiver<Order>,
    pub orders_open: bool,
    /// What the REST API has the call do.
    pub wishes: Arc<Wishes>,
    /// Caller and somebody else hear one another.
    pub(super) bridged: bool,
    /// Keys are being waited for.
    gathering: bool,
    /// And these have been pressed since.
    pressed: VecDeque<char>,
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
            wishes: phone.switchboard.enter(CallResource {
                call_sid: setup.call_sid.clone(),
                parent: None,
                from: setup.from.clone(),
                to: setup.to.clone(),
                status: match setup.placed {
                    true => CallStatus::InProgress,
                    false => CallStatus::Ringing,
                },
                direction: direction(setup.placed),
            }),
            bridged: false,
            gathering: false,
            pressed: VecDeque::new(),
            call_sid: setup.call_sid,
            from: setup.from,
            to: setup.to,
            placed: setup.placed,
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
        let get = self.phone.has(Fault::GetWebhook);
        let standard = self.standard(&self.call_sid);
        let params = match self.placed {
            true => standard.during("in-progress"),
            false => standard.incoming(),
        };
        let mut first = self
            .phone
            .has(Fault::NoWebhook)
            .then(|| vec![self.guessed_stream()]);
        let mut next = (Document::Webhook, Request { url, get }, params);
        let (mut documents, mut streams) = (0, 0);
        loop {
            if self.stream_sids.len() > streams {
                (documents, streams) = (0, self.stream_sids.len());
            }
            documents += 1;
            if documents > MOST_DOCUMENTS {
                break;
            }
            let done = match first.take() {
                Some(verbs) => self.execute(verbs).await,
                None => self.document(next).await,
            };
            next = match done {
                Ok(Some((what, request, extra))) => {
                    let mut params = self.standard(&self.call_sid).during("in-progress");
                    params.extend(extra);
                    (what, request, params)
                }
                Ok(None) => return Ok(Ended::NothingLeft),
                Err(Left::Ended(ended)) => return Err(ended),
                Err(Left::Redirected(wish)) => {
                    documents = 0;
                    let params = self.standard(&self.call_sid).during("in-progress");
                    let nowhere = Request {
                        url: String::new(),
                        get: false,
                    };
                    match wish {
                        Wish::Go { url, get } => {
                            self.log(Event::Redirected { twiml: None });
                            (Document::Update, Request { url, get }, params)
                        }
                        Wish::Run(twiml) => {
                            let read = twiml::read_given(twiml.as_bytes(), &self.phone.public_url);
                            self.log(Event::Redirected { twiml: Some(twiml) });
                            first = match self.executable(read) {
                                Ok(verbs) => Some(verbs),
                                Err(Left::Ended(ended)) => return Err(ended),
                                Err(Left::Redirected(_)) => None,
                            };
                            (Document::Update, nowhere, params)
                        }
                        Wish::Complete => return Err(Ended::RestCompleted),
                    }
                }
            };
        }
        self.violation("11215: too many documents, one after the other");
        Err(Ended::ApplicationError {
            what: "too many documents".into(),
        })
    }

    /// Fetches a document and runs it.
    async fn document(
        &mut self,
        (what, request, params): (Document, Request, Params),
    ) -> Result<Option<(Document, Request, Params)>, Left> {
        let verbs = self.fetch(what, request, params).await?;
        self.execute(verbs).await
    }

    /// Runs the verbs of a document; returns where the document leads, if it does not end here.
    async fn execute(
        &mut self,
        verbs: Vec<Verb>,
    ) -> Result<Option<(Document, Request, Params)>, Left> {
        for verb in verbs {
            if let Verb::Reject { busy } = verb {
                let ringing = |call: CallResource| call.status == CallStatus::Ringing;
                if !self
                    .phone
                    .switchboard
                    .call(&self.call_sid)
                    .is_some_and(ringing)
                {
                    self.violation("12200: <Reject> of a call that has been answered: it ends");
                    return Err(Ended::Hangup.into());
                }
                return Err(Ended::Rejected { busy }.into());
            }
            if !matches!(&verb, Verb::Dial(dial) if dial.answer_on_bridge) {
                self.phone
                    .switchboard
                    .set(&self.call_sid, CallStatus::InProgress);
            }
            match verb {
                Verb::Say(text) => self.say(text).await?,
                Verb::Pause(lasts) => self.pause(lasts).await?,
                Verb::PlayDigits(digits) => {
                    let lasts = key_time(&digits);
                    self.log(Event::DigitsPlayed { digits });
                    self.pass(lasts).await?;
                }
                Verb::Gather(gather) => {
                    self.gathering = true;
                    let keys = self.gather(&gather).await;
                    self.gathering = false;
                    self.pressed.clear();
                    let keys = keys?;
                    self.log(Event::Gathered {
                        by_callee: false,
                        keys: keys.clone(),
                    });
                    if let Some(action) = gather
                        .action
                        .filter(|_| !keys.is_empty() || gather.on_empty)
                    {
                        let digits = vec![("Digits".to_owned(), keys)];
                        return Ok(Some((Document::GatherAction, action, digits)));
                    }
                }
                Verb::Hangup | Verb::Reject { .. } => return Err(Ended::Hangup.into()),
                Verb::Redirect(request) => {
                    return Ok(Some((Document::Redirect, request, Params::new())));
                }
                Verb::Dial(dial) => {
                    let result = self.dial(&dial).await?;
                    if let Some(request) = dial.action {
                        return Ok(Some((Document::DialAction, request, result)));
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

    async fn say(&mut self, text: String) -> Result<(), Left> {
        let lasts = CHARACTER * text.chars().count() as u32;
        self.log(Event::Said { text });
        self.pass(lasts).await
    }

    async fn pause(&mut self, lasts: Duration) -> Result<(), Left> {
        self.log(Event::Paused {
            seconds: lasts.as_secs(),
        });
        self.pass(lasts).await
    }

    /// Waits for the caller's keys. The first one silences what is being said.
    async fn gather(&mut self, gather: &Gather) -> Result<String, Left> {
        for verb in &gather.meanwhile {
            if !self.pressed.is_empty() {
                break;
            }
            match verb {
                Verb::Say(text) => self.say(text.clone()).await?,
                Verb::Pause(lasts) => self.pause(*lasts).await?,
                _ => {}
            }
        }
        let mut pressed = Pressed::default();
        loop {
            self.pass(gather.timeout).await?;
            let Some(key) = self.pressed.pop_front() else {
                return Ok(pressed.keys);
            };
            if pressed.press(key, gather) {
                return Ok(pressed.keys);
            }
        }
    }

    /// Lets virtual time pass on a line without a stream; less of it when a key comes that is waited
    /// for.
    pub(super) async fn pass(&mut self, span: Duration) -> Result<(), Left> {
        let wall = self.phone.wall(span);
        tokio::select! {
            left = self.watch() => left.map_or(Ok(()), Err),
            () = sleep(wall) => Ok(()),
        }
    }

    /// Resolves only if the caller or the REST API ends the call, or leads it elsewhere.
    pub(super) async fn interruption(&mut self) -> Left {
        loop {
            if let Some(left) = self.watch().await {
                return left;
            }
        }
    }

    /// The same; `None`: a key has come that is waited for.
    async fn watch(&mut self) -> Option<Left> {
        let mut beat = interval(self.phone.wall(BEAT));
        beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            if self.gathering && !self.pressed.is_empty() {
                return None;
            }
            tokio::select! {
                biased;
                order = self.orders.recv(), if self.orders_open => match order {
                    None => self.orders_open = false,
                    Some(Order::Then(steps)) => self.script.append(steps),
                    Some(Order::Now(step)) => {
                        if let Some(ended) = self.without_stream(&step) {
                            return Some(ended.into());
                        }
                    }
                    Some(Order::SayAudio(..)) => {}
                },
                _ = beat.tick() => {
                    if let Some(wish) = self.wishes.take() {
                        return Some(wish.into());
                    }
                    while self.script_runs {
                        let line = Line {
                            now: self.clock.now(),
                            stream_over: true,
                            bridged: self.bridged,
                            ..Line::default()
                        };
                        match self.script.next(&line) {
                            Next::Do(step) => {
                                if let Some(ended) = self.without_stream(&step) {
                                    return Some(ended.into());
                                }
                            }
                            Next::TimedOut(step) => {
                                return Some(Ended::StepTimedOut { step: format!("{step:?}") }.into());
                            }
                            Next::Wait | Next::Done => break,
                        }
                    }
                }
            }
        }
    }

    /// What a step comes to while there is no stream.
    fn without_stream(&mut self, step: &Step) -> Option<Ended> {
        match step {
            Step::HangUp => return Some(Ended::CallerHungUp),
            Step::Drop => return Some(Ended::Dropped),
            Step::Dtmf(keys) | Step::Keys(keys) => {
                for digit in keys.chars() {
                    self.log(Event::Dtmf { digit });
                    if self.gathering {
                        self.pressed.push_back(digit);
                    }
                }
            }
            _ => {}
        }
        None
    }

    pub(super) fn standard<'a>(&'a self, call_sid: &'a str) -> Standard<'a> {
        Standard {
            account_sid: &self.phone.account_sid,
            call_sid,
            from: &self.from,
            to: &self.to,
            direction: direction(self.placed),
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

fn direction(placed: bool) -> &'static str {
    match placed {
        true => "outbound-api",
        false => "inbound",
    }
}

/// How long keys sound, with their pauses.
pub fn key_time(digits: &str) -> Duration {
    let times = digits.chars().map(|key| match key {
        'w' => Duration::from_millis(500),
        'W' => Duration::from_secs(1),
        _ => TONE,
    });
    times.sum()
}
