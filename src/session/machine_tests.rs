//! Calls as lists of events: what the machine does is written down in words and compared.

mod away;
mod connection;
mod keypad;
mod quiet;
mod reaper;
mod speech;
mod tools;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    cause::Cause,
    machine::{Action, Answer, Carrier, Dial, Event, Garbage, Machine, Note, Outbox, Settings},
    order::{After, Order, Refusal, Verdict, Words},
};
use crate::{
    agent::{self, Capabilities, Closed, Role, Saying, SegmentId},
    config::{KeyAction, Keys},
    tools::{Builtin, Catalogue, Filler, Offer, Use},
};

/// An agent that can do everything, and one that can do nothing beyond talking.
const ABLE: Capabilities = Capabilities {
    name: "able",
    heard: true,
    say: Saying::Exactly,
    mid_context: true,
    pause: true,
    parallel_tools: false,
    hears_speech: false,
    turn_events: true,
};
const PLAIN: Capabilities = Capabilities {
    name: "plain",
    say: Saying::Not,
    mid_context: false,
    pause: false,
    ..ABLE
};

/// `filler`: what is said when it takes two seconds.
fn offer(name: &str, timeout_ms: u64, filler: Option<&str>) -> Offer {
    Offer {
        name: name.into(),
        description: String::new(),
        parameters: "{}".into(),
        fallback: None,
        timeout: Duration::from_millis(timeout_ms),
        filler: filler.map(|words| Filler {
            after: Duration::from_secs(2),
            words: Words(words.into()),
        }),
        what: Use::Builtin(Builtin::GetCallInfo),
    }
}

fn settings() -> Settings {
    Settings {
        ready_timeout: Duration::from_secs(10),
        ping_interval: Duration::from_secs(20),
        pong_timeout: Duration::from_secs(10),
        connect_budget: Duration::from_secs(3),
        reconnect_budget: Duration::from_secs(30),
        recycle_after: None,
        seed: 7,
        hold: None,
        max_duration_farewell: None,
        no_input: None,
        max_duration: Duration::from_secs(7200),
        words_interrupt: true,
        drain_goodbye: false,
        capabilities: ABLE,
        tools: Arc::new(Catalogue::new(vec![
            offer("hang_up", 0, None),
            offer("stock", 5000, None),
            offer("slow", 10_000, Some("One moment, please.")),
        ])),
        keys: Arc::new(Keys {
            actions: [
                ('0', KeyAction::Transfer("+15550001111".into())),
                ('9', KeyAction::HangUp),
                ('8', KeyAction::Say("We open at nine.".into())),
            ]
            .into(),
            ..Keys::default()
        }),
        ring: Duration::from_secs(30),
        warm: false,
        no_answer: Some(Words("The transfer failed: {reason}.".into())),
    }
}

/// One call on paper.
struct Paper {
    machine: Machine,
    start: Instant,
    now: Instant,
    out: Outbox,
    /// Everything done so far, in words.
    done: Vec<String>,
    notes: Vec<Note>,
    verdicts: Vec<Verdict>,
    /// Marks sent and not yet echoed.
    marks: Vec<String>,
    caller_bytes: usize,
    stamp: u64,
    /// Nothing at all comes from Twilio's side while time passes.
    carrier_silent: bool,
}

impl Paper {
    fn new() -> Self {
        Paper::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let start = Instant::now();
        let mut out = Outbox::default();
        let mut settings = settings();
        change(&mut settings);
        let machine = Machine::new(settings, start, &mut out);
        let mut paper = Paper {
            machine,
            start,
            now: start,
            out,
            done: Vec::new(),
            notes: Vec::new(),
            verdicts: Vec::new(),
            marks: Vec::new(),
            caller_bytes: 0,
            stamp: 100,
            carrier_silent: false,
        };
        paper.write_down();
        paper
    }

    /// A call whose agent is ready and has greeted with a second of audio.
    fn greeted() -> Self {
        let mut paper = Paper::new();
        paper.ready();
        paper.says(1, 1000);
        paper.agent(agent::Event::SegmentEnd {
            segment: SegmentId(1),
        });
        paper.agent(agent::Event::TurnDone);
        paper.wait(1000);
        paper.echo_all();
        paper.taken();
        paper
    }

    fn write_down(&mut self) {
        for action in self.out.actions.drain(..) {
            self.done.push(match action {
                Action::ConnectAgent(Dial::First) => "connect".into(),
                Action::ConnectAgent(Dial::Resume) => "connect to resume".into(),
                Action::ConnectAgent(Dial::Anew) => "connect anew".into(),
                Action::PingAgent => "ping".into(),
                Action::PingCarrier => "ping carrier".into(),
                Action::ToAgent(range) => {
                    self.caller_bytes += range.len();
                    continue;
                }
                Action::AnswerTool {
                    call_id,
                    answer: Answer::HangingUp,
                } => format!("answer {call_id}"),
                Action::AnswerTool {
                    call_id,
                    answer: Answer::UnknownTool,
                } => format!("refuse {call_id}"),
                Action::AnswerTool { call_id, answer } => format!("answer {call_id}: {answer:?}"),
                Action::RunTool {
                    ticket,
                    tool,
                    call_id,
                    ..
                } => format!("run {call_id} ({tool}) as {ticket}"),
                Action::StopTool(ticket) => format!("stop {ticket}"),
                Action::KeepNote(words) => format!("note {}", words.0),
                Action::Prompt(words) => format!("prompt {}", words.0),
                Action::Redirect(errand) => format!("redirect: {errand:?}"),
                Action::CloseCarrier => "close carrier".into(),
                Action::AgentHeard(cut) => format!("heard {}:{}", cut.segment.0, cut.heard_ms),
                Action::CloseAgent => "close agent".into(),
                Action::Play(range) => format!("play {}", range.len() / 8),
                Action::Mark(name) => {
                    self.marks.push(name);
                    "mark".into()
                }
                Action::Clear => "clear".into(),
                Action::Say(words) => format!("say {}", words.0),
                Action::AddContext(words) => format!("context {}", words.0),
                Action::Remind => "remind".into(),
                Action::Pause => "pause".into(),
                Action::Resume => "resume".into(),
                Action::Verdict(verdict) => {
                    self.verdicts.push(verdict);
                    continue;
                }
                Action::HangUp { streamless: false } => "hang up".into(),
                Action::HangUp { streamless: true } => "hang up streamless".into(),
                Action::Decide(After::HangUp) => "after: hang up".into(),
                Action::Decide(After::Fallback) => "after: fallback".into(),
                Action::Decide(After::NoInputFarewell) => "after: no-input farewell".into(),
                Action::Decide(After::MaxDurationFarewell) => "after: last farewell".into(),
                Action::Decide(After::DrainGoodbye) => "after: drain goodbye".into(),
                Action::Decide(After::Errand(errand)) => format!("after: {errand:?}"),
                Action::End { cause, close_code } => format!("end {} {close_code}", cause.as_str()),
                Action::Note(note) => {
                    self.notes.push(note);
                    continue;
                }
            });
        }
        self.out.clear();
    }

    fn event(&mut self, event: Event<'_>) {
        self.machine.handle(self.now, event, &mut self.out);
        self.write_down();
    }

    fn agent(&mut self, event: agent::Event<'_>) {
        self.event(Event::Agent(event));
    }

    /// Gives an order; every order that is taken is answered once.
    #[track_caller]
    fn order(&mut self, order: Order) -> Verdict {
        self.verdicts.clear();
        self.event(Event::Order(order));
        assert_eq!(self.verdicts.len(), 1, "{:?}", self.verdicts);
        self.verdicts[0]
    }

    fn ready(&mut self) {
        self.event(Event::AgentOpened);
        self.agent(agent::Event::Ready {
            chat: "chat",
            resumed: false,
        });
    }

    fn says(&mut self, segment: u32, ms: usize) {
        let mulaw = vec![0x20; ms * 8];
        self.agent(agent::Event::Transcript {
            role: Role::Agent,
            text: "words",
            interim: false,
            replace: false,
        });
        self.agent(agent::Event::Audio {
            segment: SegmentId(segment),
            mulaw: &mulaw,
        });
    }

    fn caller_speaks(&mut self) {
        self.agent(agent::Event::Transcript {
            role: Role::Caller,
            text: "words",
            interim: false,
            replace: false,
        });
    }

    fn calls_tool(&mut self, call_id: &str, name: &str) {
        self.agent(agent::Event::ToolCall {
            call_id,
            name,
            arguments: "{}",
            expects_reply: true,
        });
    }

    /// A quiet frame.
    fn frame(&mut self) {
        self.stamp += 20;
        let timestamp_ms = Some(self.stamp);
        self.event(Event::Carrier(Carrier::Media {
            timestamp_ms,
            mulaw: &[0xfe; 160],
        }));
    }

    /// A loud frame.
    fn voice(&mut self) {
        self.stamp += 20;
        let timestamp_ms = Some(self.stamp);
        self.event(Event::Carrier(Carrier::Media {
            timestamp_ms,
            mulaw: &[0x05; 160],
        }));
    }

    fn echo_all(&mut self) {
        for name in std::mem::take(&mut self.marks) {
            self.event(Event::Carrier(Carrier::Mark { name: &name }));
        }
    }

    /// Time passes; ticks come exactly when the machine asked for them, and Twilio shows signs of
    /// life.
    fn wait(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        while self.now < end {
            self.tick_until(end.min(self.now + Duration::from_secs(10)));
            if !self.carrier_silent {
                self.event(Event::Carrier(Carrier::Other));
            }
        }
    }

    fn tick_until(&mut self, until: Instant) {
        let mut ticks = 0;
        while let Some(deadline) = self.machine.next_deadline().filter(|at| *at <= until) {
            self.now = self.now.max(deadline);
            self.event(Event::Tick);
            ticks += 1;
            assert!(ticks < 1000, "a deadline that has passed must move");
        }
        self.now = until;
    }

    fn pong(&mut self) {
        self.event(Event::AgentAlive);
    }

    /// What has been done since the last look.
    fn taken(&mut self) -> Vec<String> {
        std::mem::take(&mut self.done)
    }

    #[track_caller]
    fn expect(&mut self, expected: &[&str]) {
        assert_eq!(
            self.taken(),
            expected,
            "{:?} into the call",
            self.now - self.start
        );
    }
}

#[test]
fn the_agent_is_connected_as_soon_as_the_stream_starts() {
    Paper::new().expect(&["connect"]);
}

#[test]
fn a_caller_who_speaks_before_the_agent_is_ready_is_heard_from_the_first_word() {
    let mut paper = Paper::new();
    for _ in 0..30 {
        paper.frame();
    }
    assert_eq!(paper.caller_bytes, 0);
    paper.ready();
    assert_eq!(paper.caller_bytes, 30 * 160);
    paper.frame();
    assert_eq!(paper.caller_bytes, 31 * 160);
}

#[test]
fn a_gap_in_the_callers_audio_is_filled_with_silence() {
    let mut paper = Paper::greeted();
    paper.frame();
    paper.stamp += 200;
    paper.frame();
    assert_eq!(paper.caller_bytes, (20 + 200 + 20) * 8);
    assert!(paper.notes.contains(&Note::SilenceFilled { bytes: 1600 }));
}

#[test]
fn audio_is_played_at_once_and_each_segment_is_marked() {
    let mut paper = Paper::new();
    paper.ready();
    paper.taken();
    paper.says(1, 100);
    paper.says(1, 333);
    paper.agent(agent::Event::SegmentEnd {
        segment: SegmentId(1),
    });
    paper.says(2, 517);
    paper.agent(agent::Event::SegmentEnd {
        segment: SegmentId(2),
    });
    paper.agent(agent::Event::TurnDone);
    paper.expect(&["play 100", "play 333", "mark", "play 517", "mark"]);
}

#[test]
fn an_interruption_before_any_audio_is_harmless() {
    let mut paper = Paper::new();
    paper.ready();
    paper.taken();
    paper.agent(agent::Event::Interrupt);
    paper.says(1, 500);
    paper.expect(&["play 500"]);
    assert!(paper.notes.contains(&Note::SpuriousInterruption));
}

#[test]
fn a_caller_who_interrupts_hears_nothing_of_the_old_reply_any_more() {
    let mut paper = Paper::greeted();
    paper.says(2, 7000);
    paper.wait(1500);
    paper.agent(agent::Event::Interrupt);
    paper.expect(&["play 7000", "clear", "heard 2:1500"]);
    // Late audio and the late mark of the interrupted reply.
    paper.says(2, 400);
    paper.agent(agent::Event::SegmentEnd {
        segment: SegmentId(2),
    });
    paper.echo_all();
    paper.expect(&[]);
    assert!(paper.notes.contains(&Note::AudioDropped { bytes: 3200 }));
    // The next reply is heard.
    paper.says(3, 100);
    paper.expect(&["play 100"]);
}

#[test]
fn an_interruption_after_generation_has_finished_still_clears_what_is_playing() {
    let mut paper = Paper::greeted();
    paper.says(2, 7000);
    paper.agent(agent::Event::SegmentEnd {
        segment: SegmentId(2),
    });
    paper.agent(agent::Event::TurnDone);
    paper.wait(2000);
    paper.taken();
    paper.agent(agent::Event::Interrupt);
    paper.expect(&["clear", "heard 2:2000"]);
}

#[test]
fn a_farewell_before_the_tool_call_is_heard_to_its_last_word() {
    let mut paper = Paper::greeted();
    paper.says(2, 2000);
    paper.calls_tool("call_1", "hang_up");
    paper.agent(agent::Event::SegmentEnd {
        segment: SegmentId(2),
    });
    paper.agent(agent::Event::TurnDone);
    paper.expect(&["play 2000", "answer call_1", "mark"]);
    paper.wait(1990);
    paper.expect(&[]);
    paper.wait(10);
    paper.echo_all();
    paper.expect(&[]);
    // Nothing more comes after the answer: after a thinking pause the call ends.
    paper.wait(600);
    paper.expect(&["close agent", "after: hang up", "hang up"]);
    paper.event(Event::HangUpAnswered { ended: true });
    paper.event(Event::Carrier(Carrier::Stop));
    paper.expect(&["end agent-hung-up 1000"]);
}

#[test]
fn a_farewell_after_the_answer_is_heard_to_its_last_word() {
    let mut paper = Paper::greeted();
    paper.caller_speaks();
    paper.calls_tool("call_1", "hang_up");
    paper.agent(agent::Event::TurnDone);
    paper.expect(&["answer call_1"]);
    paper.wait(800);
    paper.says(2, 3000);
    paper.agent(agent::Event::SegmentEnd {
        segment: SegmentId(2),
    });
    paper.agent(agent::Event::TurnDone);
    paper.wait(2990);
    paper.expect(&["play 3000", "mark"]);
    paper.wait(10);
    paper.echo_all();
    paper.expect(&["close agent", "after: hang up", "hang up"]);
}

#[test]
fn a_farewell_whose_end_is_never_announced_still_ends_the_call() {
    let mut paper = Paper::greeted();
    paper.calls_tool("call_1", "hang_up");
    paper.says(2, 1000);
    paper.taken();
    paper.wait(4000);
    paper.expect(&["mark"]);
    paper.echo_all();
    paper.expect(&["close agent", "after: hang up", "hang up"]);
}

#[test]
fn a_farewell_whose_mark_is_lost_still_ends_the_call() {
    let mut paper = Paper::greeted();
    paper.calls_tool("call_1", "hang_up");
    paper.says(2, 3000);
    paper.agent(agent::Event::SegmentEnd {
        segment: SegmentId(2),
    });
    paper.agent(agent::Event::TurnDone);
    paper.taken();
    paper.wait(4999);
    paper.expect(&[]);
    paper.wait(1);
    paper.expect(&["close agent", "after: hang up", "hang up"]);
}

#[test]
fn an_agent_that_never_stops_talking_is_stopped() {
    let mut paper = Paper::greeted();
    paper.calls_tool("call_1", "hang_up");
    let mut waited = 0;
    while !paper.taken().contains(&"hang up".to_owned()) {
        paper.says(2, 1000);
        paper.wait(1000);
        waited += 1;
        assert!(waited < 40, "the cap ends it");
        paper.echo_all();
    }
}

#[test]
fn the_caller_speaks_over_the_goodbye_and_the_call_goes_on() {
    let mut paper = Paper::greeted();
    paper.says(2, 3000);
    paper.calls_tool("call_1", "hang_up");
    paper.wait(1000);
    paper.agent(agent::Event::Interrupt);
    paper.caller_speaks();
    paper.expect(&["play 3000", "answer call_1", "clear", "heard 2:1000"]);
    assert!(paper.notes.contains(&Note::GoodbyeWithdrawn));
    paper.echo_all();
    for _ in 0..10 {
        paper.wait(5000);
        paper.pong();
    }
    assert!(!paper.taken().contains(&"hang up".to_owned()));
    // The next goodbye counts again, by another tool call.
    paper.calls_tool("call_2", "hang_up");
    paper.expect(&["answer call_2"]);
    paper.wait(5000);
    paper.expect(&["close agent", "after: hang up", "hang up"]);
}

#[test]
fn the_caller_speaks_while_the_finished_goodbye_plays() {
    let mut paper = Paper::greeted();
    paper.calls_tool("call_1", "hang_up");
    paper.says(2, 3000);
    paper.agent(agent::Event::SegmentEnd {
        segment: SegmentId(2),
    });
    paper.agent(agent::Event::TurnDone);
    paper.wait(1000);
    // EVI sends no interruption once it has finished generating, only the words.
    paper.caller_speaks();
    paper.taken();
    paper.wait(2000);
    paper.echo_all();
    paper.wait(3000);
    paper.expect(&[]);
}

#[test]
fn a_better_transcript_of_earlier_words_does_not_withdraw_the_goodbye() {
    let mut paper = Paper::greeted();
    paper.caller_speaks();
    paper.calls_tool("call_1", "hang_up");
    paper.agent(agent::Event::Transcript {
        role: Role::Caller,
        text: "words and more",
        interim: false,
        replace: true,
    });
    paper.wait(5000);
    paper.expect(&["answer call_1", "close agent", "after: hang up", "hang up"]);
}

#[test]
fn an_agent_that_closes_with_1000_has_hung_up_and_is_heard_to_the_end() {
    let mut paper = Paper::greeted();
    paper.says(2, 2500);
    paper.event(Event::AgentClosed(Closed::HungUp));
    paper.expect(&["play 2500", "mark", "close agent"]);
    paper.wait(2500);
    paper.echo_all();
    paper.expect(&["after: hang up", "hang up"]);
}

#[test]
fn a_hang_up_that_closes_after_its_tool_call_is_one_goodbye() {
    let mut paper = Paper::greeted();
    paper.says(2, 1000);
    paper.agent(agent::Event::ToolCall {
        call_id: "b",
        name: "hang_up",
        arguments: "{}",
        expects_reply: false,
    });
    paper.event(Event::AgentClosed(Closed::HungUp));
    paper.expect(&["play 1000", "mark", "close agent"]);
    paper.echo_all();
    paper.expect(&["after: hang up", "hang up"]);
}

#[test]
fn in_band_errors_and_ceilings_have_their_own_ends() {
    for (closed, last) in [
        (Closed::Inactive, "hang up"),
        (Closed::Expired, "hang up"),
        (Closed::Quota, "end agent-quota 1000"),
        (Closed::Auth, "end agent-auth 1000"),
        (Closed::Rejected, "end agent-rejected 1000"),
    ] {
        let mut paper = Paper::greeted();
        paper.event(Event::AgentClosed(closed));
        assert_eq!(
            paper.taken().last().map(String::as_str),
            Some(last),
            "{closed}"
        );
    }
}

#[test]
fn an_agent_that_never_gets_ready_is_given_up() {
    let mut paper = Paper::new();
    paper.event(Event::AgentOpened);
    paper.taken();
    paper.wait(10_000);
    paper.expect(&["close agent", "after: fallback", "end agent-lost 1000"]);
}

#[test]
fn every_tool_call_is_answered_exactly_once() {
    let mut paper = Paper::greeted();
    paper.calls_tool("a", "weather");
    paper.calls_tool("a", "weather");
    paper.calls_tool("b", "hang_up");
    paper.calls_tool("b", "hang_up");
    paper.calls_tool("c", "hang_up");
    paper.calls_tool("d", "");
    paper.agent(agent::Event::ToolCall {
        call_id: "e",
        name: "web_search",
        arguments: "{}",
        expects_reply: false,
    });
    paper.expect(&["refuse a", "answer b", "answer c", "refuse d"]);
}

#[test]
fn the_caller_hangs_up() {
    let mut paper = Paper::greeted();
    paper.says(2, 5000);
    paper.taken();
    paper.event(Event::Carrier(Carrier::Stop));
    paper.expect(&["close agent", "end caller-hung-up 1000"]);
    assert!(paper.machine.is_over());
    assert_eq!(paper.machine.next_deadline(), None);
    // Nothing after the end does anything.
    paper.says(3, 100);
    paper.event(Event::Carrier(Carrier::Closed));
    paper.event(Event::AgentClosed(Closed::Lost));
    paper.expect(&[]);
}

#[test]
fn the_callers_socket_is_lost() {
    let mut paper = Paper::greeted();
    paper.event(Event::Carrier(Carrier::Closed));
    paper.expect(&["close agent", "end carrier-lost 1000"]);
}

#[test]
fn twilio_refuses_to_end_the_call_so_the_stream_is_closed() {
    let mut paper = Paper::greeted();
    paper.event(Event::Order(Order::HangUp { now: true }));
    paper.expect(&["close agent", "after: hang up", "hang up"]);
    paper.event(Event::HangUpAnswered { ended: false });
    paper.expect(&["end operator 1000"]);
}

#[test]
fn twilio_never_answers_so_the_stream_is_closed() {
    let mut paper = Paper::greeted();
    paper.event(Event::Order(Order::HangUp { now: true }));
    paper.taken();
    paper.wait(4000);
    paper.expect(&["end operator 1000"]);
}

#[test]
fn an_operator_lets_the_current_words_finish_and_no_more() {
    let mut paper = Paper::greeted();
    paper.says(2, 1000);
    paper.event(Event::Order(Order::HangUp { now: false }));
    paper.says(2, 1000);
    paper.agent(agent::Event::SegmentEnd {
        segment: SegmentId(2),
    });
    paper.agent(agent::Event::TurnDone);
    paper.says(3, 9000);
    paper.expect(&["play 1000", "play 1000", "mark"]);
    paper.wait(2000);
    paper.echo_all();
    paper.expect(&["close agent", "after: hang up", "hang up"]);
}

#[test]
fn an_operators_order_is_not_withdrawn_by_the_caller() {
    let mut paper = Paper::greeted();
    paper.says(2, 5000);
    paper.event(Event::Order(Order::HangUp { now: false }));
    paper.wait(1000);
    paper.taken();
    paper.agent(agent::Event::Interrupt);
    paper.expect(&[
        "clear",
        "heard 2:1000",
        "close agent",
        "after: hang up",
        "hang up",
    ]);
}

#[test]
fn an_operator_hangs_up_a_silent_call_at_once() {
    let mut paper = Paper::greeted();
    paper.event(Event::Order(Order::HangUp { now: false }));
    paper.expect(&["close agent", "after: hang up", "hang up"]);
    assert!(paper.notes.contains(&Note::HangingUp(Cause::Operator)));
}

#[test]
fn the_end_of_the_drain_ends_the_call() {
    let mut paper = Paper::greeted();
    paper.event(Event::Order(Order::DrainExpired));
    paper.event(Event::HangUpAnswered { ended: true });
    paper.wait(500);
    paper.expect(&["close agent", "after: hang up", "hang up", "end drain 1000"]);
}

#[test]
fn the_end_of_the_drain_can_be_spoken() {
    let mut paper = Paper::with(|settings| settings.drain_goodbye = true);
    paper.ready();
    paper.says(2, 1000);
    paper.taken();
    // The words are Twilio's to say, once the stream is over: nothing is asked of REST.
    paper.event(Event::Order(Order::DrainExpired));
    paper.expect(&["after: drain goodbye", "close agent", "end drain 1000"]);

    // A call that has been hung up already is not called back.
    let mut paper = Paper::with(|settings| settings.drain_goodbye = true);
    paper.ready();
    paper.event(Event::Order(Order::HangUp { now: true }));
    paper.taken();
    paper.event(Event::Order(Order::DrainExpired));
    paper.expect(&[]);
}

#[test]
fn a_little_nonsense_is_counted_and_a_lot_is_hopeless() {
    for (garbage, code) in [(Garbage::Malformed, 1007), (Garbage::Binary, 1003)] {
        let mut paper = Paper::greeted();
        for _ in 0..100 {
            paper.event(Event::Carrier(Carrier::Garbage(garbage)));
        }
        paper.expect(&[]);
        paper.event(Event::Carrier(Carrier::Garbage(garbage)));
        paper.expect(&["close agent", &format!("end carrier-failed {code}")]);
    }
}

#[test]
fn a_farewell_that_follows_the_rest_of_the_turn_is_heard_too() {
    let mut paper = Paper::greeted();
    paper.says(2, 400);
    paper.calls_tool("call_1", "hang_up");
    // What was still being generated when the tool was called, and the end of that turn.
    paper.says(2, 600);
    paper.agent(agent::Event::SegmentEnd {
        segment: SegmentId(2),
    });
    paper.agent(agent::Event::TurnDone);
    paper.wait(1000);
    paper.echo_all();
    paper.wait(700);
    paper.says(3, 1500);
    paper.agent(agent::Event::SegmentEnd {
        segment: SegmentId(3),
    });
    paper.agent(agent::Event::TurnDone);
    paper.wait(1500);
    paper.expect(&[
        "play 400",
        "answer call_1",
        "play 600",
        "mark",
        "play 1500",
        "mark",
    ]);
    paper.echo_all();
    paper.expect(&["close agent", "after: hang up", "hang up"]);
}

#[test]
fn the_callers_words_stop_a_reply_that_is_generated_but_not_yet_heard() {
    let mut paper = Paper::greeted();
    paper.says(2, 1900);
    paper.agent(agent::Event::SegmentEnd {
        segment: SegmentId(2),
    });
    paper.agent(agent::Event::TurnDone);
    paper.wait(1000);
    paper.taken();
    paper.caller_speaks();
    paper.expect(&["clear", "heard 2:1000"]);
}

#[test]
fn a_transcript_without_words_stops_nothing() {
    let mut paper = Paper::greeted();
    paper.says(2, 1900);
    paper.agent(agent::Event::TurnDone);
    paper.calls_tool("call_1", "hang_up");
    paper.taken();
    paper.agent(agent::Event::Transcript {
        role: Role::Caller,
        text: " ",
        interim: false,
        replace: false,
    });
    paper.expect(&[]);
    assert!(paper.machine.is_ending());
}

#[test]
fn an_interruption_between_two_sentences_drops_the_second() {
    let mut paper = Paper::greeted();
    paper.says(2, 1000);
    paper.agent(agent::Event::SegmentEnd {
        segment: SegmentId(2),
    });
    paper.wait(1000);
    paper.echo_all();
    paper.taken();
    // The second sentence is announced, nothing of it has come: there is nothing to clear, and the
    // agent's side is told that what comes now is stale.
    paper.agent(agent::Event::Interrupt);
    paper.expect(&["heard 2:1000"]);
}

#[test]
fn a_telephone_side_that_is_silent_is_asked_and_then_given_up() {
    let mut paper = Paper::greeted();
    paper.carrier_silent = true;
    paper.wait(14_000);
    paper.expect(&[]);
    paper.wait(1_000);
    paper.expect(&["ping carrier"]);
    paper.event(Event::Carrier(Carrier::Other));
    paper.wait(10_000);
    paper.pong();
    paper.wait(5_000);
    assert_eq!(
        paper.taken().last().map(String::as_str),
        Some("ping carrier")
    );
    paper.wait(10_000);
    assert_eq!(
        paper.taken().last().map(String::as_str),
        Some("end carrier-lost 1001")
    );
}

#[test]
fn a_message_of_the_agents_of_monstrous_length_is_sent_in_pieces() {
    let mut paper = Paper::greeted();
    paper.says(2, 25_000);
    paper.expect(&["play 10000", "play 10000", "play 5000"]);
}

#[test]
fn the_wait_for_an_answer_ends_when_it_is_heard_and_late_words_do_not_begin_one() {
    let mut paper = Paper::greeted();
    paper.notes.clear();
    paper.caller_speaks();
    paper.wait(700);
    paper.says(2, 1000);
    // The same utterance's end, told when the answer has begun, is no new question.
    paper.caller_speaks();
    paper.says(2, 500);
    paper.agent(agent::Event::SegmentEnd {
        segment: SegmentId(2),
    });
    paper.agent(agent::Event::TurnDone);
    paper.wait(1650);
    paper.echo_all();
    let ms = Duration::from_millis;
    assert_eq!(
        paper.notes,
        [
            Note::Answered { after: ms(700) },
            Note::AnswerHeard { after: ms(850) },
        ]
    );
}

#[test]
fn an_answer_that_is_interrupted_was_not_heard() {
    let mut paper = Paper::greeted();
    paper.caller_speaks();
    paper.says(2, 1000);
    paper.notes.clear();
    paper.agent(agent::Event::Interrupt);
    paper.caller_speaks();
    paper.wait(300);
    paper.says(3, 1000);
    paper.echo_all();
    let heard = |note: &Note| matches!(note, Note::AnswerHeard { .. });
    assert!(!paper.notes.iter().any(heard), "{:?}", paper.notes);
    let after = Duration::from_millis(300);
    assert!(paper.notes.contains(&Note::Answered { after }));
}

fn say(text: &str) -> Order {
    Order::Say(Words(text.to_owned()))
}

fn context(text: &str) -> Order {
    Order::AddContext(Words(text.to_owned()))
}

#[test]
fn an_operator_has_the_agent_say_and_know_something() {
    let mut paper = Paper::greeted();
    assert_eq!(paper.order(say("One moment.")), Verdict::Done);
    assert_eq!(paper.order(context("The caller is Ann.")), Verdict::Done);
    paper.expect(&["say One moment.", "context The caller is Ann."]);
}

#[test]
fn an_agent_is_told_so_much_and_what_it_was_told_stays() {
    let mut paper = Paper::greeted();
    let long = "\u{65e5}".repeat(2000);
    for _ in 0..8 {
        assert_eq!(paper.order(context(&long)), Verdict::Done);
    }
    paper.taken();
    let refused = Verdict::Refused(Refusal::KnowsEnough);
    assert_eq!(paper.order(context("x")), refused);
    paper.expect(&[]);
}

#[test]
fn an_order_to_an_agent_that_is_not_there_is_refused() {
    let not_ready = Verdict::Refused(Refusal::NotReady);
    let orders = || [say("a"), context("b"), Order::Pause, Order::Resume];
    let mut paper = Paper::new();
    for order in orders() {
        assert_eq!(paper.order(order), not_ready);
    }
    paper.event(Event::AgentOpened);
    for order in orders() {
        assert_eq!(paper.order(order), not_ready);
    }
    paper.expect(&["connect"]);

    let ending = Verdict::Refused(Refusal::Ending);
    let mut paper = Paper::greeted();
    paper.says(2, 2000);
    paper.calls_tool("call_1", "hang_up");
    paper.taken();
    for order in orders() {
        assert_eq!(paper.order(order), ending);
    }
    assert_eq!(paper.order(Order::HangUp { now: true }), Verdict::Done);
    paper.taken();
    for order in orders() {
        assert_eq!(paper.order(order), ending);
    }
    // To end what is ending is no mistake.
    assert_eq!(paper.order(Order::HangUp { now: false }), Verdict::Done);
    paper.expect(&[]);
    // A call that is over answers nobody.
    paper.event(Event::Carrier(Carrier::Stop));
    paper.verdicts.clear();
    paper.event(Event::Order(say("anyone?")));
    assert_eq!(paper.verdicts, []);
}

#[test]
fn an_agent_is_not_asked_for_what_it_cannot_do() {
    let mut paper = Paper::with(|settings| settings.capabilities = PLAIN);
    paper.ready();
    paper.taken();
    for (order, why) in [
        (say("a"), Refusal::CannotSay),
        (context("b"), Refusal::CannotLearn),
        (Order::Pause, Refusal::CannotPause),
        (Order::Resume, Refusal::CannotPause),
    ] {
        assert_eq!(paper.order(order), Verdict::Refused(why));
    }
    paper.expect(&[]);
}

#[test]
fn a_pause_is_given_once_and_taken_back_once() {
    let mut paper = Paper::greeted();
    paper.notes.clear();
    assert_eq!(paper.order(Order::Resume), Verdict::Already);
    assert_eq!(paper.order(Order::Pause), Verdict::Done);
    assert_eq!(paper.order(Order::Pause), Verdict::Already);
    paper.expect(&["pause"]);
    // It would not say it, but it listens.
    let refused = Verdict::Refused(Refusal::Paused);
    assert_eq!(paper.order(say("One moment.")), refused);
    assert_eq!(paper.order(context("Ann")), Verdict::Done);
    paper.expect(&["context Ann"]);
    assert_eq!(paper.order(Order::Resume), Verdict::Done);
    assert_eq!(paper.order(Order::Resume), Verdict::Already);
    paper.expect(&["resume"]);
    assert_eq!(paper.notes, [Note::Paused, Note::Resumed]);
}

#[test]
fn what_a_paused_agent_had_sent_is_heard_unless_the_caller_speaks() {
    let mut paper = Paper::greeted();
    paper.says(2, 3000);
    assert_eq!(paper.order(Order::Pause), Verdict::Done);
    paper.expect(&["play 3000", "pause"]);
    paper.wait(1000);
    paper.expect(&[]);
    // Its turn was not over, but it tells no interruption now: the words have to do.
    paper.caller_speaks();
    paper.expect(&["clear", "heard 2:1000"]);
    // What was on its way is stale, and the answer to come is none to measure.
    paper.says(2, 200);
    paper.expect(&[]);
    paper.notes.clear();
    paper.wait(5_000);
    assert_eq!(paper.order(Order::Resume), Verdict::Done);
    paper.says(3, 500);
    let answered = |note: &Note| matches!(note, Note::Answered { .. });
    assert!(!paper.notes.iter().any(answered), "{:?}", paper.notes);
}

#[test]
fn nothing_waits_for_the_words_of_a_paused_agent() {
    // In mid-turn: its turn's end will not come.
    let mut paper = Paper::greeted();
    paper.says(2, 3000);
    paper.order(Order::Pause);
    paper.taken();
    assert_eq!(paper.order(Order::HangUp { now: false }), Verdict::Done);
    paper.expect(&["mark"]);
    paper.wait(3000);
    paper.expect(&[]);
    paper.echo_all();
    paper.expect(&["close agent", "after: hang up", "hang up"]);

    // With nothing queued, at once.
    let mut paper = Paper::greeted();
    paper.order(Order::Pause);
    paper.order(Order::HangUp { now: false });
    paper.expect(&["pause", "close agent", "after: hang up", "hang up"]);

    // Its own hang-up, called just before it was paused, gets no farewell either; the caller may
    // still object.
    let mut paper = Paper::greeted();
    paper.says(2, 500);
    paper.order(Order::Pause);
    paper.calls_tool("call_1", "hang_up");
    paper.wait(2490);
    paper.taken();
    paper.wait(10);
    paper.expect(&["mark"]);
    paper.echo_all();
    paper.expect(&["close agent", "after: hang up", "hang up"]);
}

#[test]
fn words_that_were_ordered_are_heard_before_an_ordered_end() {
    let mut paper = Paper::greeted();
    paper.order(say("Goodbye."));
    paper.order(Order::HangUp { now: false });
    paper.expect(&["say Goodbye."]);
    paper.wait(600);
    paper.says(2, 900);
    paper.agent(agent::Event::SegmentEnd {
        segment: SegmentId(2),
    });
    paper.agent(agent::Event::TurnDone);
    paper.expect(&["play 900", "mark"]);
    paper.wait(900);
    paper.echo_all();
    paper.expect(&["close agent", "after: hang up", "hang up"]);

    // In mid-turn they come behind the rest of it.
    let mut paper = Paper::greeted();
    paper.says(2, 500);
    paper.order(say("Goodbye."));
    paper.order(Order::HangUp { now: false });
    paper.agent(agent::Event::TurnDone);
    paper.wait(500);
    paper.echo_all();
    paper.expect(&["play 500", "say Goodbye.", "mark"]);
    paper.says(3, 900);
    paper.agent(agent::Event::TurnDone);
    paper.wait(900);
    paper.expect(&["play 900", "mark"]);
    paper.echo_all();
    paper.expect(&["close agent", "after: hang up", "hang up"]);

    // An agent that does not say them is not waited for long.
    let mut paper = Paper::greeted();
    paper.order(say("Goodbye."));
    paper.order(Order::HangUp { now: false });
    paper.wait(3900);
    paper.expect(&["say Goodbye."]);
    paper.wait(200);
    paper.expect(&["close agent", "after: hang up", "hang up"]);

    // Words said and heard are owed no longer.
    let mut paper = Paper::greeted();
    paper.order(say("Still there?"));
    paper.says(2, 500);
    paper.agent(agent::Event::TurnDone);
    paper.wait(500);
    paper.echo_all();
    paper.taken();
    paper.order(Order::HangUp { now: false });
    paper.expect(&["close agent", "after: hang up", "hang up"]);
}

#[test]
fn words_are_never_printed() {
    let order = format!("{:?}", [say("the secret word"), context("the secret word")]);
    assert_eq!(
        order,
        "[Say(Words(15 characters)), AddContext(Words(15 characters))]"
    );
}
