//! A call in virtual time: both far ends, the operator and the clock around the real machine.
//!
//! It does what the driver does, and in the same way: one connection to the agent at a time, of which
//! nothing comes any more once it is closed; what is said to a closed one vanishes; all that one
//! message means is handed to the machine before anything is done about it. The clock is the time of
//! the next happening, so a call of minutes takes microseconds.

mod errands;
mod whims;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{
    agent::{Agent, Said, Seam, Voice},
    draw::{Draw, Draws},
    evi::{self, Asked, Frame, Wire},
    judge::{Judge, Rule, Seen},
    phone::Phone,
    script::{self, Script},
    tally::{self, Tally},
    temper::Temper,
};
use crate::{
    agent::{self, Closed, Codec, Command, Persona, ToolResult, evi as real},
    config::Secret,
    session::{
        errand::{Errand, Redirected},
        machine::{Action, Answer, Carrier, Dial, Event, Machine, Outbox},
    },
};
use errands::{Fate, Run};

/// No call takes so many steps; one that does is going round in circles.
const MOST_STEPS: u32 = 1_000_000;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The connection to the agent.
enum Line {
    Idle,
    Connecting {
        at: Instant,
        outcome: Result<Option<Draw>, Closed>,
    },
    Open,
}

/// Who puts what the agent says into events.
enum Translation {
    Seam(Seam),
    Wire(Wire, Box<real::Codec>),
}

/// What comes next.
#[derive(Clone, Copy)]
enum Due {
    Frame,
    Mark,
    Agent,
    Connected,
    Rest,
    Stop,
    CarrierAlive,
    Ran,
    Redirected,
    Fate,
    Whim,
    Tick,
}

pub struct World<'a> {
    temper: Temper,
    draws: Draws<'a>,
    began: Instant,
    now: Instant,
    /// The machine sleeps until then, and finds everything at once.
    awake: Instant,
    machine: Machine,
    out: Outbox,
    pub judge: Judge,
    pub script: Script,
    phone: Phone,
    agent: Agent,
    voice: Voice,
    line: Line,
    /// Lent out while one message is put into events.
    translation: Option<Translation>,
    whim: Option<(Instant, Whim)>,
    rest: Option<(Instant, bool)>,
    stop: Option<Instant>,
    carrier_alive: Option<Instant>,
    runs: Vec<Run>,
    redirect: Option<(Instant, Redirected)>,
    errand: Option<Errand>,
    /// There is no stream, and what comes of that.
    elsewhere: bool,
    fate: VecDeque<(Instant, Fate)>,
    frame: Vec<u8>,
    over: bool,
    /// What the operator wants.
    paused: bool,
    /// What the telephone was last told to mark, for the sake of echoes out of place.
    last_mark: String,
    pub tally: Tally,
}

enum Whim {
    Drawn(Draw),
    /// Nothing more is drawn.
    CallerLeaves,
}

impl<'a> World<'a> {
    pub fn new(temper: Temper, draws: Draws<'a>, now: Instant, wanted: bool) -> Self {
        let mut out = Outbox::default();
        let machine = Machine::new(temper.settings.clone(), now, &mut out);
        let mut phone = Phone::new(now, temper.latency, temper.echo);
        phone.forgets = temper.forgets;
        if temper.no_frames {
            phone.next_frame = None;
        }
        let mut judge = Judge::new(temper.settings.clone(), temper.tongue, now);
        judge.slack = temper.busy;
        if temper.wire {
            judge.with_codec();
        }
        let translation = match temper.wire {
            true => Translation::Wire(
                Wire::default(),
                Box::new(real::Codec::new(real::Settings {
                    url: "ws://127.0.0.1/".into(),
                    api_key: Secret::new("key"),
                    config_id: None,
                    persona: Persona::default(),
                })),
            ),
            false => Translation::Seam(Seam::new(temper.manner)),
        };
        let mut world = World {
            translation: Some(translation),
            draws,
            began: now,
            now,
            awake: now,
            machine,
            judge,
            script: Script::new(now, wanted),
            phone,
            agent: Agent::new(temper.manner),
            voice: Voice::default(),
            line: Line::Idle,
            whim: None,
            rest: None,
            stop: None,
            carrier_alive: None,
            runs: Vec::new(),
            redirect: None,
            errand: None,
            elsewhere: false,
            fate: VecDeque::new(),
            frame: Vec::new(),
            over: false,
            paused: false,
            last_mark: String::new(),
            tally: Tally::default(),
            temper,
            out,
        };
        world.judged(&Seen::Tick, "call begins", 0);
        world
    }

    /// Until the call is over, or a promise is broken.
    pub fn run(&mut self) {
        loop {
            self.perform();
            if self.over || self.judge.broken.is_some() {
                break;
            }
            self.tally.steps += 1;
            if self.tally.steps > MOST_STEPS {
                self.judge.fail(Rule::Ends, "the call goes on and on");
                break;
            }
            let (at, what) = self.next();
            self.now = self.now.max(at).max(self.awake);
            self.happen(what);
        }
        self.tally.lasted = self.now - self.began;
    }

    fn next(&mut self) -> (Instant, Due) {
        self.draw_whim();
        let tick = self.machine.next_deadline().map(|at| at + self.temper.busy);
        let (agent, connected) = match &self.line {
            Line::Idle => (None, None),
            Line::Connecting { at, .. } => (None, Some(*at)),
            Line::Open => (self.agent.next(), None),
        };
        let rest = self.rest.as_ref().map(|(at, _)| *at);
        let whim = self.whim.as_ref().map(|(at, _)| *at);
        let timer_first = tick.filter(|_| self.temper.timer_first);
        let [ran, redirected, fate] = self.errands_due();
        [
            (timer_first, Due::Tick),
            (self.phone.next_mark(), Due::Mark),
            (self.phone.next_frame, Due::Frame),
            (agent, Due::Agent),
            (connected, Due::Connected),
            (rest, Due::Rest),
            (self.stop, Due::Stop),
            (self.carrier_alive, Due::CarrierAlive),
            ran,
            redirected,
            fate,
            (whim, Due::Whim),
            (tick, Due::Tick),
        ]
        .into_iter()
        .filter_map(|(at, due)| at.map(|at| (at, due)))
        .min_by_key(|(at, _)| *at)
        // Without a deadline: the judge has seen it already.
        .unwrap_or((self.now, Due::Tick))
    }

    fn draw_whim(&mut self) {
        if self.whim.is_some() || self.phone_is_gone() {
            return;
        }
        let Some(draw) = self.draws.next() else {
            self.whim = Some((self.now + self.temper.patience, Whim::CallerLeaves));
            return;
        };
        let when = u64::from(draw.when);
        let soon = self.machine.next_deadline();
        let soon = soon.filter(|at| *at < self.now + ms(20_000));
        // The edge of a deadline is where mistakes are.
        let at = match (when & 15, soon) {
            (15, Some(at)) => at,
            (14, Some(at)) => at - ms(1),
            (13, Some(at)) => at + ms(1),
            _ => self.now + ms(when * when / 10),
        };
        self.whim = Some((at, Whim::Drawn(draw)));
    }

    fn phone_is_gone(&self) -> bool {
        !self.phone.answers
    }

    fn happen(&mut self, what: Due) {
        match what {
            Due::Tick => self.tell(Event::Tick),
            Due::Frame => self.frame(),
            Due::Mark => {
                if let Some(name) = self.phone.take_mark() {
                    self.carrier(Carrier::Mark { name: &name });
                    self.last_mark = name;
                }
            }
            Due::Agent => {
                if let Some(said) = self.agent.take() {
                    self.agent_says(said);
                }
            }
            Due::Connected => self.connected(),
            Due::Rest => {
                if let Some((_, ended)) = self.rest.take() {
                    if ended && !self.phone_is_gone() && !self.elsewhere {
                        self.stop = Some(self.now + ms(200));
                    }
                    self.tell(Event::HangUpAnswered { ended });
                }
            }
            Due::Stop => {
                self.stop = None;
                self.carrier(Carrier::Stop);
            }
            Due::CarrierAlive => {
                self.carrier_alive = None;
                self.carrier(Carrier::Other);
            }
            Due::Ran => self.ran(),
            Due::Redirected => self.redirected(),
            Due::Fate => self.meet_fate(),
            Due::Whim => match self.whim.take() {
                Some((_, Whim::Drawn(draw))) => self.whim(draw),
                Some((_, Whim::CallerLeaves)) if self.elsewhere => self.call_over(true),
                Some((_, Whim::CallerLeaves)) => self.carrier(Carrier::Stop),
                None => {}
            },
        }
    }

    fn frame(&mut self) {
        let bytes = self.temper.frame_bytes;
        let timestamp_ms = self.phone.clock_us / 1000;
        self.phone.next_frame = self.phone.next_frame.map(|at| at + self.temper.frame());
        // Twilio's clock is a little fast (live captures: 19.97 ms a frame).
        self.phone.clock_us += bytes as u64 * 12_481 / 100;
        self.frame.clear();
        let from = self.phone.sent;
        self.temper.tongue.fill(from, bytes, &mut self.frame);
        self.phone.sent += bytes as u64;
        let mulaw = std::mem::take(&mut self.frame);
        self.carrier(Carrier::Media {
            timestamp_ms: Some(timestamp_ms),
            mulaw: &mulaw,
        });
        self.frame = mulaw;
    }

    fn carrier(&mut self, carrier: Carrier<'_>) {
        self.tell(Event::Carrier(carrier));
    }

    fn connected(&mut self) {
        let Line::Connecting { outcome, .. } = std::mem::replace(&mut self.line, Line::Idle) else {
            return;
        };
        match outcome {
            Ok(mut draw) => self.agent.connected(self.now, draw.as_mut()),
            Err(closed) => return self.tell(Event::AgentClosed(closed)),
        }
        match &mut self.translation {
            Some(Translation::Wire(_, codec)) => {
                let mut first = Vec::new();
                codec.opened(&mut |frame| first.push(evi::read(&frame)));
                if first != [Ok(Asked::Settings { first: true })] {
                    self.judge
                        .fail(Rule::Wire, format!("opened with {first:?}"));
                }
            }
            Some(Translation::Seam(seam)) => seam.connected(),
            None => {}
        }
        self.line = Line::Open;
        self.tell(Event::AgentOpened);
    }

    /// One message of the agent: a sign of life, and what it means.
    fn agent_says(&mut self, said: Said) {
        let Some(mut translation) = self.translation.take() else {
            return;
        };
        if let Said::Audio { bytes, .. } = said {
            self.voice.speak(bytes);
        }
        let sound = std::mem::take(&mut self.voice.sound);
        let mut closed = None;
        match &mut translation {
            Translation::Seam(seam) => {
                self.tell(Event::AgentAlive);
                match said {
                    Said::Binary => self.tell(Event::Agent(binary())),
                    Said::Closed(why) => closed = Some(why),
                    Said::Expires { seconds } => {
                        let at = self.now + Duration::from_secs(seconds);
                        self.tally.meet("expires");
                        self.tell(Event::AgentExpires(at));
                    }
                    _ => seam.translate(said, &sound, &mut |event| self.tell(Event::Agent(event))),
                }
            }
            Translation::Wire(wire, codec) => {
                for frame in wire.frames(said, &sound) {
                    self.tell(Event::AgentAlive);
                    match frame {
                        Frame::Text(text) => {
                            let mut answers = 0;
                            codec.message(
                                &text,
                                &mut |event| self.tell(Event::Agent(event)),
                                &mut |_| answers += 1,
                            );
                            if answers > 0 {
                                self.judge
                                    .fail(Rule::Wire, "EVI's codec answers for itself");
                            }
                        }
                        Frame::Binary => self.tell(Event::Agent(binary())),
                        Frame::Pong => {}
                        Frame::Close(code) => closed = Some(codec.closed(code, "")),
                    }
                }
            }
        }
        self.voice.sound = sound;
        // Only now is anything done about it.
        self.translation = Some(translation);
        if let Some(closed) = closed {
            self.tell(Event::AgentClosed(closed));
        }
    }

    fn tell(&mut self, event: Event<'_>) {
        if self.judge.broken.is_some() {
            return;
        }
        let seen = Seen::of(&event);
        let from = self.out.actions.len();
        let words = match self.script.wanted() {
            true => script::words(&event),
            false => String::new(),
        };
        self.machine.handle(self.now, event, &mut self.out);
        self.judged(&seen, &words, from);
    }

    fn judged(&mut self, seen: &Seen<'_>, words: &str, from: usize) {
        if self.script.wanted() {
            let new = &self.out.actions[from..];
            self.script.event(self.now, words.to_owned(), new);
        }
        self.judge.look(
            self.now,
            seen,
            (&self.out, from),
            &mut self.phone,
            &self.machine,
        );
    }

    /// Does what the driver would do.
    fn perform(&mut self) {
        let mut out = std::mem::take(&mut self.out);
        for action in out.actions.drain(..) {
            match action {
                Action::ConnectAgent(dial) => {
                    if dial != Dial::First
                        && let Some(Translation::Wire(_, codec)) = &mut self.translation
                    {
                        codec.reconnect(dial == Dial::Resume);
                    }
                    let (at, outcome) = self.dial();
                    self.line = Line::Connecting { at, outcome };
                }
                Action::PingAgent => self.agent.say(self.now + ms(100), Said::Alive),
                Action::PingCarrier if self.phone.answers => {
                    self.carrier_alive = Some(self.now + ms(100));
                }
                Action::ToAgent(range) => self.command(Command::AudioIn(&out.audio[range])),
                Action::AnswerTool { call_id, answer } => {
                    self.tally.meet(tally::answer(&answer));
                    self.command(Command::ToolResult {
                        call_id: &call_id,
                        result: match &answer {
                            Answer::HangingUp | Answer::HangingUpAfterKeys => {
                                ToolResult::Ok("goodbye")
                            }
                            Answer::Done(words) => ToolResult::Ok(&words.0),
                            _ => ToolResult::Failed {
                                error: "unknown tool",
                                content: "not available",
                            },
                        },
                    });
                }
                Action::RunTool { ticket, tool, .. } => {
                    let offers = self.temper.settings.tools.clone();
                    let name = offers.offers().get(tool).map_or("", |offer| &offer.name);
                    self.run_tool(ticket, tool, name);
                }
                Action::StopTool(ticket) => self.stop_tool(ticket),
                Action::KeepNote(_) => self.tally.meet("note kept"),
                Action::Prompt(words) => {
                    self.tally.meet("prompt");
                    self.command(Command::Prompt { text: &words.0 });
                }
                Action::Redirect(errand) => self.order_elsewhere(errand),
                Action::CloseCarrier => self.go_elsewhere(),
                Action::AgentHeard(cut) => self.command(Command::Heard {
                    segment: cut.segment,
                    heard_ms: cut.heard_ms,
                }),
                Action::Say(words) => self.command(Command::Say { text: &words.0 }),
                Action::AddContext(words) => self.command(Command::AddContext { text: &words.0 }),
                Action::Remind => self.command(Command::Remind),
                Action::Pause => self.command(Command::Pause),
                Action::Resume => self.command(Command::Resume),
                Action::CloseAgent => {
                    self.line = Line::Idle;
                    self.agent.closed();
                }
                Action::HangUp { .. } => self.rest = self.order_end(),
                Action::End { cause, .. } => {
                    self.tally.meet(cause.as_str());
                    self.over = true;
                }
                Action::Note(note) => self.tally.meet(tally::note(&note)),
                Action::Clear => self.tally.meet("clear"),
                Action::Verdict(verdict) => self.tally.meet(tally::verdict(verdict)),
                Action::Decide(after) => self.tally.meet(tally::after(after)),
                Action::PingCarrier | Action::Play(_) | Action::Mark(_) => {}
            }
        }
        out.clear();
        self.out = out;
        self.judge.performed();
    }

    /// How dialling the agent will go.
    fn dial(&mut self) -> (Instant, Result<Option<Draw>, Closed>) {
        let Some(mut draw) = self.draws.next() else {
            // The agent has no trouble of its own any more.
            return (self.now + ms(100), Ok(None));
        };
        let at = self.now + ms(u64::from(draw.when) * u64::from(draw.when) / 20);
        if self.temper.trouble.agent && draw.what & 7 == 7 {
            let class = draw.of(&[Closed::Lost, Closed::Rejected, Closed::Auth, Closed::Quota]);
            // A limit ends even the slowest try.
            let slow = draw.one_in(4);
            let at = if slow { self.now + ms(10_000) } else { at };
            return (at, Err(class));
        }
        (at, Ok(Some(draw)))
    }

    /// How Twilio's REST API will answer; `None`: never, as far as this call can wait.
    fn order_end(&mut self) -> Option<(Instant, bool)> {
        let Some(mut draw) = self.draws.next() else {
            return Some((self.now + ms(300), true));
        };
        let at = self.now + ms(u64::from(draw.when) * u64::from(draw.when) / 15);
        (draw.what & 7 != 7).then(|| (at, !draw.one_in(4)))
    }

    /// Tells the agent, if it is there; checks how the codec puts it.
    fn command(&mut self, command: Command<'_>) {
        let (Line::Open, Some(Translation::Wire(_, codec))) = (&self.line, &mut self.translation)
        else {
            return;
        };
        let wanted = match &command {
            Command::AudioIn([]) | Command::Heard { .. } => None,
            Command::AudioIn(mulaw) => Some(Asked::Audio(mulaw.to_vec())),
            Command::ToolResult { call_id, .. } => Some(Asked::ToolAnswer {
                call_id: (*call_id).to_owned(),
            }),
            Command::Say { .. } => Some(Asked::Say),
            Command::Prompt { .. } => Some(Asked::Prompt),
            Command::AddContext { .. } => Some(Asked::Settings { first: false }),
            Command::Remind => Some(Asked::Settings { first: false }),
            Command::Pause => Some(Asked::Pause),
            Command::Resume => Some(Asked::Resume),
        };
        let mut frames = Vec::new();
        codec.command(command, &mut |frame| frames.push(evi::read(&frame)));
        let mut frames = frames.into_iter();
        let (first, more) = (frames.next(), frames.next());
        let kept = match (&first, &wanted) {
            (Some(Ok(said)), Some(wanted)) => said == wanted,
            (None, None) => true,
            _ => false,
        };
        if !kept || more.is_some() {
            self.judge
                .fail(Rule::Wire, format!("{first:?} for {wanted:?}"));
        }
    }
}

fn binary() -> agent::Event<'static> {
    agent::Event::Ignored {
        why: agent::Ignored::Binary,
    }
}
