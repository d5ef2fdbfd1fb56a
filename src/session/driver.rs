//! The I/O half of a call: one task, both sockets, one timer. Boring on purpose.
//!
//! What arrives is handed to the [`Machine`], what it answers is done; nothing is decided here. No
//! channel, lock or second task stands between a caller's frame and the agent's socket. Messages
//! are fed as they come and flushed once nothing more can be read, so a backlog costs one system
//! call and an idle line no delay. A peer that reads slowly stalls only its own [leg](leg), whose
//! queues are bounded, each with its policy; who takes nothing for too long is given up.

use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, ready},
    time::{Duration, Instant, SystemTime},
};

use super::{
    cause::Cause,
    counting,
    errand::{Errand, Guide, Redirected},
    leg::{self, Leg, Tally, Telephone, Timed},
    machine::{
        Action, Answer, Carrier, Dial, Event, Garbage, Machine, Note, Outbox, STALLED, Settings,
    },
    news::News,
    order::{Order, Refusal, Verdict},
    record::{Record, Recorder},
    registry::{Arrival, Claim, Letter, View},
    telling::Teller,
};
use crate::{
    agent::{self, Briefing, Closed, Codec, Command, ToolResult, link},
    metrics::{
        Metrics,
        labels::{Side, Skipped},
    },
    printable::Printable,
    tools::{Catalogue, Facts, Outcome, Runner},
    twilio::{
        media,
        rest::{Rest, Updated},
    },
};
use futures_util::future::OptionFuture;
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::{Error as WsError, Message, error::ProtocolError};

/// Messages read in a row before what they led to is sent.
const READS: u32 = 16;
/// The REST API's whole time to end a call.
const REST_LIMIT: Duration = Duration::from_secs(3);
/// The same where nothing else would end it.
const STREAMLESS_LIMIT: Duration = Duration::from_secs(30);

/// Everything a call needs from outside.
pub struct Call {
    pub claim: Claim,
    /// At the other end of the media socket; a proxy, often.
    pub peer: SocketAddr,
    pub carrier: Telephone,
    pub codec: Box<dyn Codec>,
    pub tls: Arc<link::Tls>,
    pub connect_timeout: Duration,
    /// `None` for a test call, of which Twilio knows nothing: it ends with its stream.
    pub rest: Option<Rest>,
    pub settings: Settings,
    /// What is to be known of the caller before the first word, if somebody is being asked. It comes by
    /// itself, or empty, within its own time.
    pub briefing: Option<Boxed<Briefing>>,
    pub tools: Arc<Runner>,
    pub facts: Arc<Facts>,
    pub guide: Arc<dyn Guide>,
    pub metrics: Arc<Metrics>,
    /// Where the call's record goes.
    pub recorder: Option<Arc<Recorder>>,
}

/// Carries a call from its stream's start to its end. Returns when nothing of it is left.
pub async fn run(call: Call) {
    let peer = call.peer;
    let mut driver = Driver::new(call);
    driver.teller.created();
    let (cause, close_code) = loop {
        if let Some(end) = driver.perform() {
            break end;
        }
        let wake = driver.next().await;
        driver.feed(wake);
    };
    if let Some(carrier) = &mut driver.carrier {
        carrier.give_up();
    }
    driver.settle();
    driver.claim.over(cause);
    driver.refuse_orders();
    driver.close(close_code).await;
    let view = &driver.claim.view;
    driver.metrics.calls_ended.of(cause).inc();
    driver.metrics.call_duration.observe(view.started.elapsed());
    // To read too slowly is no crime.
    if cause == Cause::CarrierFailed && close_code != STALLED {
        driver.teller.broke(peer, close_code);
    }
    driver.teller.ended(cause);
    if let Some(recorder) = &driver.recorder {
        let record = std::mem::take(&mut driver.record);
        recorder.write(record.ended(view, cause));
    }
}

/// What connecting to the agent comes to, and what it is to know.
type Connected = (
    Result<Box<Leg<link::Socket>>, link::ConnectError>,
    Option<Briefing>,
);

pub type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

enum AgentLeg {
    Idle,
    Connecting(Boxed<Connected>),
    Open(Box<Leg<link::Socket>>),
}

enum Wake {
    Carrier(Option<Result<Message, WsError>>),
    CarrierStalled,
    Agent(Option<Result<Message, WsError>>),
    AgentStalled,
    Connected(Connected),
    HungUp(bool),
    Redirected(Redirected),
    Arrived(Box<Arrival>),
    ToolDone(u32, Outcome),
    Order(Letter),
    Tick,
}

struct Driver {
    claim: Claim,
    teller: Teller,
    machine: Machine,
    out: Outbox,
    /// `None` while the call is away.
    carrier: Option<Leg<Telephone>>,
    writer: media::Writer,
    agent: AgentLeg,
    codec: Box<dyn Codec>,
    tls: Arc<link::Tls>,
    connect_timeout: Duration,
    rest: Option<Rest>,
    hanging_up: Option<Boxed<bool>>,
    redirecting: Option<Boxed<Redirected>>,
    /// Where a new media socket comes in, while one is expected.
    door: Option<oneshot::Receiver<Box<Arrival>>>,
    arrived: Option<Box<Arrival>>,
    /// The tools that are running, each under its ticket. Dropped, they stop.
    running: Vec<(u32, Boxed<Outcome>)>,
    tools: Arc<Runner>,
    facts: Arc<Facts>,
    guide: Arc<dyn Guide>,
    briefing: Option<Boxed<Briefing>>,
    /// The closing handshake with an agent that is no longer needed.
    closing: Option<Boxed<()>>,
    /// The same with a media socket that another one takes the place of.
    closing_carrier: Option<Boxed<()>>,
    /// Who waits for the machine's verdict on the order at hand.
    asked: Option<oneshot::Sender<Verdict>>,
    timer: Pin<Box<tokio::time::Sleep>>,
    /// The frame just decoded; reused.
    frame: Vec<u8>,
    /// Whose turn it is to be read first.
    agent_first: bool,
    /// Messages read since something was last sent.
    reads: u32,
    /// When what is being dealt with was read.
    woken: Instant,
    metrics: Arc<Metrics>,
    offers: Arc<Catalogue>,
    recorder: Option<Arc<Recorder>>,
    record: Record,
}

impl Driver {
    fn new(call: Call) -> Self {
        let mut out = Outbox::default();
        let now = Instant::now();
        let offers = call.settings.tools.clone();
        let machine = Machine::new(call.settings, now, &mut out);
        Driver {
            machine,
            out,
            writer: media::Writer::new(call.claim.view.stream()),
            teller: Teller::new(call.claim.view.clone()),
            claim: call.claim,
            carrier: Some(Leg::to_caller(call.carrier)),
            agent: AgentLeg::Idle,
            codec: call.codec,
            tls: call.tls,
            connect_timeout: call.connect_timeout,
            rest: call.rest,
            hanging_up: None,
            redirecting: None,
            door: None,
            arrived: None,
            running: Vec::new(),
            tools: call.tools,
            facts: call.facts,
            guide: call.guide,
            briefing: call.briefing,
            closing: None,
            closing_carrier: None,
            asked: None,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            frame: Vec::new(),
            agent_first: false,
            reads: 0,
            woken: now,
            metrics: call.metrics,
            offers,
            recorder: call.recorder,
            record: Record::default(),
        }
    }

    /// The next thing that happens, whatever it is.
    async fn next(&mut self) -> Wake {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Wake> {
        if let Poll::Ready(Some(letter)) = self.claim.mailbox.poll_recv(cx) {
            return Poll::Ready(Wake::Order(letter));
        }
        // What a tool comes to at once is known before the agent's next word.
        for at in 0..self.running.len() {
            if let Poll::Ready(outcome) = self.running[at].1.as_mut().poll(cx) {
                let (ticket, _) = self.running.swap_remove(at);
                return Poll::Ready(Wake::ToolDone(ticket, outcome));
            }
        }
        // A peer that never lets the line fall idle must not keep what it led to from being sent.
        let sent_first = self.reads >= READS;
        if !sent_first && let Poll::Ready(wake) = self.poll_read(cx) {
            self.reads += 1;
            return Poll::Ready(wake);
        }
        self.reads = 0;
        if let Some(hanging_up) = &mut self.hanging_up
            && let Poll::Ready(ended) = hanging_up.as_mut().poll(cx)
        {
            self.hanging_up = None;
            return Poll::Ready(Wake::HungUp(ended));
        }
        if let Some(redirecting) = &mut self.redirecting
            && let Poll::Ready(answer) = redirecting.as_mut().poll(cx)
        {
            self.redirecting = None;
            return Poll::Ready(Wake::Redirected(answer));
        }
        if let Poll::Ready(wake) = self.poll_door(cx) {
            return Poll::Ready(wake);
        }
        if let Some(closing) = &mut self.closing_carrier
            && closing.as_mut().poll(cx).is_ready()
        {
            self.closing_carrier = None;
        }
        if let Some(closing) = &mut self.closing
            && closing.as_mut().poll(cx).is_ready()
        {
            self.closing = None;
            // Somebody may be dialled now.
            cx.waker().wake_by_ref();
        }
        // Nothing more can be read now: what has been fed leaves, in one go.
        if let Some(carrier) = &mut self.carrier
            && carrier.poll_flush(cx).is_ready()
        {
            return Poll::Ready(Wake::CarrierStalled);
        }
        if let AgentLeg::Open(leg) = &mut self.agent
            && leg.poll_flush(cx).is_ready()
        {
            return Poll::Ready(Wake::AgentStalled);
        }
        let view = &self.claim.view;
        let (agent_waits, agent_queued) = match &self.agent {
            AgentLeg::Open(leg) => (leg.waits(), leg.queued()),
            _ => (false, 0),
        };
        let carrier = self.carrier.as_ref();
        let (waits, queued) = carrier.map_or((false, 0), |leg| (leg.waits(), leg.queued()));
        view.carrier_waits.store(waits, Relaxed);
        view.carrier_queued.store(queued, Relaxed);
        view.agent_waits.store(agent_waits, Relaxed);
        view.agent_queued.store(agent_queued, Relaxed);
        self.settle();
        self.measure_sent();
        if sent_first && let Poll::Ready(wake) = self.poll_read(cx) {
            return Poll::Ready(wake);
        }
        self.set_timer();
        ready!(self.timer.as_mut().poll(cx));
        Poll::Ready(Wake::Tick)
    }

    /// Both sockets, each first in its turn.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Wake> {
        self.agent_first = !self.agent_first;
        for agent in [self.agent_first, !self.agent_first] {
            let polled = match (agent, &mut self.carrier) {
                (true, _) => self.poll_agent(cx),
                (false, Some(carrier)) => carrier.poll_read(cx).map(Wake::Carrier),
                (false, None) => Poll::Pending,
            };
            if polled.is_ready() {
                return polled;
            }
        }
        Poll::Pending
    }

    /// A media socket in the place of the one that is over, or that is over now.
    fn poll_door(&mut self, cx: &mut Context<'_>) -> Poll<Wake> {
        if let Some(door) = &mut self.door
            && let Poll::Ready(arrival) = Pin::new(door).poll(cx)
        {
            self.door = None;
            self.arrived = arrival.ok();
        }
        if self.arrived.is_some() && self.carrier.is_some() {
            return Poll::Ready(Wake::Carrier(None));
        }
        match self.arrived.take() {
            Some(arrival) => Poll::Ready(Wake::Arrived(arrival)),
            None => Poll::Pending,
        }
    }

    fn set_timer(&mut self) {
        let agent_stalls = match &self.agent {
            AgentLeg::Open(leg) => leg.stalls_at(),
            _ => None,
        };
        let deadlines = [
            self.machine.next_deadline(),
            self.carrier.as_ref().and_then(Leg::stalls_at),
            agent_stalls,
        ];
        if let Some(deadline) = deadlines.into_iter().flatten().min() {
            let deadline = tokio::time::Instant::from_std(deadline);
            // Moving a timer costs a lock; an early tick costs nothing.
            if deadline < self.timer.deadline() || self.timer.is_elapsed() {
                self.timer.as_mut().reset(deadline);
            }
        }
    }

    fn poll_agent(&mut self, cx: &mut Context<'_>) -> Poll<Wake> {
        match &mut self.agent {
            AgentLeg::Idle => Poll::Pending,
            // An agent may refuse to take up a conversation that it is still having.
            AgentLeg::Connecting(_) if self.closing.is_some() => Poll::Pending,
            AgentLeg::Connecting(connecting) => connecting.as_mut().poll(cx).map(Wake::Connected),
            AgentLeg::Open(leg) => leg.poll_read(cx).map(Wake::Agent),
        }
    }

    /// Hands what happened to the machine.
    fn feed(&mut self, wake: Wake) {
        let now = Instant::now();
        self.woken = now;
        match wake {
            Wake::Carrier(message) => self.feed_carrier(now, message),
            Wake::CarrierStalled => {
                self.metrics.stalls.of(Side::Twilio).inc();
                self.tell(now, Event::Carrier(Carrier::Stalled));
            }
            Wake::Agent(message) => self.feed_agent(now, message),
            Wake::AgentStalled => {
                self.metrics.stalls.of(Side::Agent).inc();
                self.tell(now, Event::AgentClosed(Closed::Lost));
            }
            Wake::Connected((Ok(mut leg), briefing)) => {
                if let Some(briefing) = briefing {
                    self.codec.brief(briefing);
                }
                self.codec
                    .opened(&mut |frame| leg.feed_control(Message::text(frame)));
                self.agent = AgentLeg::Open(leg);
                self.tell(now, Event::AgentOpened);
            }
            Wake::Connected((Err(error), briefing)) => {
                if let Some(briefing) = briefing {
                    self.codec.brief(briefing);
                }
                self.agent = AgentLeg::Idle;
                self.teller.no_agent(&error);
                self.tell(now, Event::AgentClosed(error.class()));
            }
            Wake::HungUp(ended) => self.tell(now, Event::HangUpAnswered { ended }),
            Wake::Redirected(answer) => {
                if answer == Redirected::Done {
                    self.claim.errand_taken();
                }
                self.tell(now, Event::RedirectAnswered(answer));
            }
            Wake::Arrived(arrival) => {
                self.claim.view.set_stream(arrival.stream.clone());
                self.writer = media::Writer::new(arrival.stream);
                self.carrier = Some(Leg::to_caller(arrival.socket));
                self.tell(now, Event::Returned);
            }
            Wake::ToolDone(ticket, outcome) => {
                self.tell(now, Event::ToolDone { ticket, outcome });
            }
            Wake::Order(letter) => self.feed_order(now, letter),
            Wake::Tick => self.tell(now, Event::Tick),
        }
    }

    fn tell(&mut self, now: Instant, event: Event<'_>) {
        self.machine.handle(now, event, &mut self.out);
    }

    fn feed_order(&mut self, now: Instant, Letter { order, reply }: Letter) {
        // Somebody who was told that nothing came of it must not be contradicted later.
        if reply.as_ref().is_some_and(oneshot::Sender::is_closed) {
            return;
        }
        let for_agent = !matches!(
            order,
            Order::HangUp { .. }
                | Order::DrainExpired
                | Order::CallOver { .. }
                | Order::Transfer(_)
                | Order::Transferred(_)
        );
        let stuck = match &self.agent {
            AgentLeg::Open(leg) => leg.is_stuck(),
            _ => false,
        };
        if for_agent && stuck {
            answer(reply, Verdict::Refused(Refusal::Stuck));
        } else {
            self.asked = reply;
            self.tell(now, Event::Order(order));
        }
    }

    /// No order is taken any more; whoever waits for a verdict learns that the call is over.
    fn refuse_orders(&mut self) {
        self.asked = None;
        self.claim.mailbox.close();
        while self.claim.mailbox.try_recv().is_ok() {}
    }

    fn feed_carrier(&mut self, now: Instant, message: Option<Result<Message, WsError>>) {
        let event = match &message {
            Some(Ok(Message::Text(text))) => match media::parse(text) {
                Ok(media::Inbound::Media {
                    timestamp_ms,
                    track_inbound,
                    payload,
                    ..
                }) => {
                    if !track_inbound {
                        return self.tell(now, Event::Carrier(Carrier::Other));
                    }
                    self.frame.clear();
                    match media::decode_payload(&payload, &mut self.frame) {
                        Ok(()) => {
                            self.claim.view.frames_in.fetch_add(1, Relaxed);
                            self.metrics.caller_frames.inc();
                            self.metrics.caller_bytes.add(self.frame.len() as u64);
                            let carrier = Carrier::Media {
                                timestamp_ms,
                                mulaw: &self.frame,
                            };
                            self.machine
                                .handle(now, Event::Carrier(carrier), &mut self.out);
                            return;
                        }
                        Err(_) => self.skipped(Skipped::TwilioMalformed),
                    }
                }
                Ok(media::Inbound::Mark { name }) => {
                    let event = Event::Carrier(Carrier::Mark { name: &name });
                    return self.machine.handle(now, event, &mut self.out);
                }
                Ok(media::Inbound::Dtmf { digit }) => Carrier::Key { key: digit },
                Ok(media::Inbound::Stop) => Carrier::Stop,
                Ok(media::Inbound::Unknown) => self.skipped(Skipped::TwilioUnknown),
                Ok(_) => Carrier::Other,
                Err(_) => self.skipped(Skipped::TwilioMalformed),
            },
            Some(Ok(Message::Binary(_))) => self.skipped(Skipped::TwilioBinary),
            Some(Ok(Message::Close(_))) | None => Carrier::Closed,
            Some(Ok(_)) => Carrier::Other,
            Some(Err(error)) => broken(error),
        };
        self.tell(now, Event::Carrier(event));
    }

    /// A message from the telephone that is of no use: what the machine is told of it.
    fn skipped(&self, what: Skipped) -> Carrier<'static> {
        self.metrics.skipped.of(what).inc();
        match what {
            Skipped::TwilioMalformed => Carrier::Garbage(Garbage::Malformed),
            Skipped::TwilioBinary => Carrier::Garbage(Garbage::Binary),
            _ => Carrier::Other,
        }
    }

    fn feed_agent(&mut self, now: Instant, message: Option<Result<Message, WsError>>) {
        let Driver {
            machine,
            out,
            codec,
            agent,
            ..
        } = self;
        let closed = match message {
            Some(Ok(message)) => {
                machine.handle(now, Event::AgentAlive, out);
                match message {
                    Message::Text(text) => {
                        let mut replies = Vec::new();
                        codec.message(
                            &text,
                            &mut |event| match event {
                                agent::Event::Expires { at } => {
                                    let left = at.duration_since(SystemTime::now());
                                    let at = now + left.unwrap_or_default();
                                    machine.handle(now, Event::AgentExpires(at), out);
                                }
                                event => machine.handle(now, Event::Agent(event), out),
                            },
                            &mut |frame| replies.push(frame),
                        );
                        if let AgentLeg::Open(leg) = agent {
                            for frame in replies {
                                leg.feed_control(Message::text(frame));
                            }
                        }
                        return;
                    }
                    Message::Binary(_) => {
                        let event = agent::Event::Ignored {
                            why: agent::Ignored::Binary,
                        };
                        return machine.handle(now, Event::Agent(event), out);
                    }
                    Message::Close(Some(frame)) => {
                        codec.closed(Some(frame.code.into()), &frame.reason)
                    }
                    Message::Close(None) => codec.closed(None, ""),
                    _ => return,
                }
            }
            Some(Err(_)) | None => codec.closed(None, ""),
        };
        machine.handle(now, Event::AgentClosed(closed), out);
    }

    /// Does what the machine asked for. `Some` when the call is over.
    fn perform(&mut self) -> Option<(Cause, u16)> {
        let mut out = std::mem::take(&mut self.out);
        let mut end = None;
        for action in out.actions.drain(..) {
            match action {
                Action::ConnectAgent(dial) => {
                    match dial {
                        Dial::First => {}
                        Dial::Resume => self.codec.reconnect(true),
                        Dial::Anew => self.codec.reconnect(false),
                    }
                    let (request, tls, limit) =
                        (self.codec.request(), self.tls.clone(), self.connect_timeout);
                    let metrics = self.metrics.clone();
                    let briefing = self.briefing.take();
                    self.agent = AgentLeg::Connecting(Box::pin(async move {
                        // First, for some agents greet as soon as they are connected to.
                        let briefing = OptionFuture::from(briefing).await;
                        let dialled = Instant::now();
                        let socket = link::connect(&request, &tls, limit).await;
                        let leg = socket.map(|socket| {
                            metrics.agent_connect.observe(dialled.elapsed());
                            Box::new(Leg::to_agent(socket))
                        });
                        (leg, briefing)
                    }));
                }
                Action::PingAgent => {
                    if let AgentLeg::Open(leg) = &mut self.agent {
                        leg.feed_control(Message::Ping(Default::default()));
                    }
                }
                Action::PingCarrier => {
                    if let Some(carrier) = &mut self.carrier {
                        carrier.feed_control(Message::Ping(Default::default()));
                    }
                }
                Action::ToAgent(range) => self.command(Command::AudioIn(&out.audio[range])),
                Action::AnswerTool { call_id, answer } => {
                    if answer == Answer::Replaced {
                        self.tools.replaced(&self.claim.view.facts.call, &call_id);
                    }
                    self.command(Command::ToolResult {
                        call_id: &call_id,
                        result: answer_text(&answer),
                    });
                    if let AgentLeg::Open(leg) = &mut self.agent
                        && let Some(tool) = counting::tool(&answer)
                    {
                        leg.time(Timed::Answer(tool), self.woken);
                    }
                }
                Action::RunTool {
                    ticket,
                    tool,
                    call_id,
                    arguments,
                } => {
                    if let Some(offer) = self.offers.offers().get(tool) {
                        let facts = self.facts.clone();
                        let run = self.tools.run(offer, &call_id, &arguments.0, facts);
                        self.running.push((ticket, run));
                    }
                }
                Action::StopTool(ticket) => self.running.retain(|(other, _)| *other != ticket),
                Action::KeepNote(words) => self.record.note(&words.0, SystemTime::now()),
                Action::AgentHeard(cut) => self.command(Command::Heard {
                    segment: cut.segment,
                    heard_ms: cut.heard_ms,
                }),
                Action::Say(words) => self.command(Command::Say { text: &words.0 }),
                Action::Prompt(words) => self.command(Command::Prompt { text: &words.0 }),
                Action::Remind => self.command(Command::Remind),
                Action::AddContext(words) => self.command(Command::AddContext { text: &words.0 }),
                Action::Pause => self.command(Command::Pause),
                Action::Resume => self.command(Command::Resume),
                Action::Verdict(verdict) => answer(self.asked.take(), verdict),
                Action::CloseAgent => self.close_agent(),
                Action::Play(range) => {
                    let bytes = range.len() as u64;
                    let message = self.writer.media(&out.audio[range]);
                    if let Some(carrier) = &mut self.carrier {
                        carrier.feed(Message::text(message), bytes);
                    }
                }
                Action::Mark(name) => {
                    let message = self.writer.mark(&name);
                    if let Some(carrier) = &mut self.carrier {
                        carrier.feed_mark(Message::text(message));
                    }
                }
                Action::Clear => {
                    let message = self.writer.clear();
                    if let Some(carrier) = &mut self.carrier {
                        carrier.feed_clear(Message::text(message));
                        carrier.time(Timed::Clear, self.woken);
                    }
                }
                Action::HangUp { streamless } => {
                    let (view, metrics) = (self.claim.view.clone(), self.metrics.clone());
                    let within = match streamless {
                        true => STREAMLESS_LIMIT,
                        false => REST_LIMIT,
                    };
                    self.hanging_up = Some(match self.rest.clone() {
                        Some(rest) => Box::pin(end_by_rest(rest, view, metrics, within)),
                        // Twilio knows nothing of a test call: closing the stream ends it, and its
                        // telephone comes to its end by itself where there is none.
                        None => Box::pin(std::future::ready(streamless)),
                    });
                }
                Action::Redirect(errand) => self.redirect(&errand),
                Action::CloseCarrier => self.close_carrier(),
                Action::Decide(after) => self.claim.decide(after),
                Action::End { cause, close_code } => end = Some((cause, close_code)),
                Action::Note(note) => self.note(&note),
            }
        }
        out.clear();
        self.out = out;
        end
    }

    fn command(&mut self, command: Command<'_>) {
        let AgentLeg::Open(leg) = &mut self.agent else {
            return;
        };
        let audio = matches!(command, Command::AudioIn(_));
        self.codec.command(command, &mut |frame| {
            let message = Message::text(frame);
            match audio {
                true => leg.feed(message, 1),
                false => leg.feed_control(message),
            }
        });
    }

    /// Counts what became of the audio that the legs were fed.
    fn settle(&mut self) {
        let carrier = self.carrier.as_mut().map(Leg::tally).unwrap_or_default();
        if carrier != Tally::default() {
            let (view, metrics) = (&self.claim.view, &self.metrics);
            view.audio_out.fetch_add(carrier.sent.messages, Relaxed);
            counting::agent_audio(metrics, &carrier);
            if carrier.dropped.audio > 0 {
                self.teller.audio_not_sent(carrier.dropped.audio);
            }
        }
        if let AgentLeg::Open(leg) = &mut self.agent {
            counting::caller_audio(&self.metrics, &self.claim.view, &leg.tally());
        }
    }

    /// What was waited for may be on the wire now.
    fn measure_sent(&mut self) {
        let metrics = &self.metrics;
        let mut measure = |what, took| match what {
            Timed::Clear => metrics.clear.observe(took),
            Timed::Answer(tool) => metrics.tool_duration.of(tool).observe(took),
        };
        if let Some(carrier) = &mut self.carrier {
            carrier.sent(&mut measure);
        }
        if let AgentLeg::Open(leg) = &mut self.agent {
            leg.sent(&mut measure);
        }
    }
}

impl Driver {
    /// Takes the call elsewhere; a media socket may come back from there, at any time from now on.
    fn redirect(&mut self, errand: &Errand) {
        self.door = Some(self.claim.open_door());
        let view = self.claim.view.clone();
        self.redirecting = Some(match self.rest.clone() {
            Some(rest) => {
                let twiml = self.guide.twiml(&self.claim.facts(), errand);
                Box::pin(redirect_by_rest(rest, twiml, view, self.metrics.clone()))
            }
            // Twilio knows nothing of a test call: its telephone asks what follows the stream.
            None => Box::pin(std::future::ready(Redirected::Failed)),
        });
    }

    fn close_carrier(&mut self) {
        if let Some(carrier) = &mut self.carrier {
            carrier.give_up();
        }
        self.settle();
        if let Some(carrier) = self.carrier.take() {
            let closing = leg::close(carrier.socket, 1000);
            self.closing_carrier = Some(Box::pin(closing));
        }
    }

    fn close_agent(&mut self) {
        self.claim.tell(News::AgentClosed);
        if let AgentLeg::Open(mut leg) = std::mem::replace(&mut self.agent, AgentLeg::Idle) {
            leg.give_up();
            counting::caller_audio(&self.metrics, &self.claim.view, &leg.tally());
            self.closing = Some(Box::pin(leg::close(leg.socket, 1000)));
        }
    }

    /// Closes both sides and waits, within bounds, until they have taken notice. An order to end the
    /// call at Twilio that is still under way is carried out.
    async fn close(&mut self, close_code: u16) {
        let (closing, hanging_up) = (self.closing.take(), self.hanging_up.take());
        let older = self.closing_carrier.take();
        self.running.clear();
        let carrier = async {
            if let Some(older) = older {
                older.await;
            }
            if let Some(carrier) = &mut self.carrier {
                leg::close(&mut carrier.socket, close_code).await;
            }
        };
        let agent = async {
            if let Some(closing) = closing {
                closing.await;
            }
        };
        let rest = async {
            if let Some(hanging_up) = hanging_up {
                // The call's own patience with it is over.
                _ = tokio::time::timeout(REST_LIMIT, hanging_up).await;
            }
        };
        tokio::join!(carrier, agent, rest);
    }

    fn note(&mut self, note: &Note) {
        let view = &self.claim.view;
        counting::note(&self.metrics, view, note);
        match note {
            Note::AgentReady { chat, .. } => {
                self.record.chat(chat);
                self.claim.tell(News::AgentConnected);
            }
            Note::Answered { .. } => self.record.turns += 1,
            Note::ToolAnswered { name, outcome } => self.record.tool_call(name, outcome),
            Note::Away(errand) => {
                if let Errand::Transfer(transfer) = errand {
                    self.record.transfer(&transfer.number, SystemTime::now());
                }
                self.claim.tell(News::Away { why: errand.into() });
            }
            Note::Transferred(what) => self.record.transferred(*what),
            Note::Back { .. } => self.claim.tell(News::Back),
            Note::GoesOn => self.claim.tell(News::GoesOn),
            Note::AgentClosed(_) => self.claim.tell(News::AgentClosed),
            Note::ToolCall { name, .. } => self.claim.tell(News::ToolCall {
                name: Printable(name).to_string(),
            }),
            Note::BargeIn { .. } => self.claim.tell(News::BargeIn),
            Note::HangingUp(cause) => self.claim.tell(News::HangingUp(*cause)),
            Note::GoodbyeWithdrawn => self.claim.tell(News::GoodbyeWithdrawn),
            Note::Paused => self.claim.tell(News::Paused),
            Note::Resumed => self.claim.tell(News::Resumed),
            _ => {}
        }
        self.teller.note(note);
    }
}

/// Who no longer waits has been told something already.
fn answer(asked: Option<oneshot::Sender<Verdict>>, verdict: Verdict) {
    if let Some(asked) = asked {
        _ = asked.send(verdict);
    }
}

async fn end_by_rest(rest: Rest, view: Arc<View>, metrics: Arc<Metrics>, within: Duration) -> bool {
    let asked = Instant::now();
    let outcome = rest.complete_call(&view.facts.call, within).await;
    counting::rest(&metrics, asked.elapsed(), &outcome);
    match outcome {
        Ok(_) => true,
        Err(error) => {
            Teller::rest_failed(view, &error);
            false
        }
    }
}

async fn redirect_by_rest(
    rest: Rest,
    twiml: String,
    view: Arc<View>,
    metrics: Arc<Metrics>,
) -> Redirected {
    let asked = Instant::now();
    let outcome = rest.update_call(&view.facts.call, &twiml, REST_LIMIT).await;
    counting::rest(&metrics, asked.elapsed(), &outcome);
    match outcome {
        Ok(Updated::Redirected) => Redirected::Done,
        Ok(Updated::AlreadyOver) => Redirected::Over,
        Err(error) => {
            Teller::rest_failed(view, &error);
            Redirected::Failed
        }
    }
}

/// What the agent's language model gets to read.
fn answer_text(answer: &Answer) -> ToolResult<'_> {
    let failed = |error, content| ToolResult::Failed { error, content };
    match answer {
        Answer::HangingUp => ToolResult::Ending(
            "The call ends as soon as you have finished speaking. \
             If you have not said goodbye yet, do so now in one short sentence.",
        ),
        Answer::Transferring => ToolResult::Ending(
            "The caller is put through as soon as you have finished speaking. \
             If you have not told them yet, do so now in one short sentence.",
        ),
        Answer::KeysSent => ToolResult::Ok("The keys have been sent."),
        Answer::LastKeysSent => ToolResult::Ending(
            "The keys have been sent, and the call ends as soon as you have finished speaking. \
             If you have not said goodbye yet, do so now in one short sentence.",
        ),
        Answer::HangingUpAfterKeys => ToolResult::Ok(
            "Keys are being sent, and nobody hears you until they have been. The call ends after that.",
        ),
        Answer::Noted => ToolResult::Ok("The note is kept."),
        Answer::Done(words) => ToolResult::Ok(&words.0),
        Answer::UnknownTool => failed("unknown tool", "This tool is not available on this call."),
        Answer::Replaced => failed("replaced", "A newer call of a tool has taken its place."),
        Answer::TooMany => failed(
            "too many",
            "Too many tools are running already. Wait for their results.",
        ),
        Answer::TimedOut => failed("timeout", "The tool took too long and was stopped."),
        Answer::NotesFull => failed("too many notes", "No more notes can be kept of this call."),
        Answer::TransfersSpent => failed(
            "too many transfers",
            "The caller has been put through too often in this call. Do not try again.",
        ),
        Answer::KeysSpent => failed(
            "too many keys",
            "Keys have been sent too often in this call. Do not try again.",
        ),
        Answer::KeysFirst => failed(
            "keys are being sent",
            "Keys are being sent. Try again when they have been.",
        ),
        Answer::Ending => failed(
            "the call is ending",
            "This is not possible any more: the call is ending or being transferred.",
        ),
        Answer::Failed { error, content } => failed(error, &content.0),
    }
}

/// What a failed read of the carrier's socket means.
fn broken(error: &WsError) -> Carrier<'static> {
    match error {
        WsError::Capacity(_) => Carrier::Broken { close_code: 1009 },
        WsError::Utf8(_) => Carrier::Broken { close_code: 1007 },
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Carrier::Closed,
        WsError::Protocol(_) => Carrier::Broken { close_code: 1002 },
        _ => Carrier::Closed,
    }
}
