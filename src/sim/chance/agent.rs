//! An agent on paper: what it says, and when.
//!
//! [`Said`] is in nobody's words: [`seam`](Seam) puts it as the codec of a well-behaved agent would,
//! [`evi`](super::evi) as frames for the real one. The agent is not polite: it leaves out the ends of
//! segments and turns, goes on with what was interrupted, repeats itself and falls silent.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use super::{draw::Draw, sound::Tongue, temper::OFFERS};
use crate::{
    agent::{Closed, Event, Ignored, Role, SegmentId},
    session::machine::HANG_UP,
};

/// One message of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    Ready,
    Words {
        utterance: u32,
    },
    Audio {
        utterance: u32,
        bytes: usize,
    },
    EndOfTurn,
    Interruption,
    Caller {
        interim: bool,
        replace: bool,
        blank: bool,
    },
    /// It hears the caller begin, and heard them out: of an agent with an ear of its own.
    CallerBegins,
    CallerEnds,
    /// Its conversation ends in so many seconds.
    Expires {
        seconds: u64,
    },
    Tool {
        number: u32,
        kind: Tool,
    },
    Settled {
        number: u32,
    },
    /// An error after which it goes on, and one after which it would not.
    Error,
    Failure(Closed),
    Nonsense,
    Binary,
    /// A pong, or whatever else shows life and says nothing.
    Alive,
    Closed(Closed),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    HangUp,
    Unknown,
    /// Run by the agent itself: nobody answers.
    Builtin,
    /// One of [`OFFERS`], if this agent was offered any.
    Offered(u8),
}

impl Tool {
    pub fn name(self) -> &'static str {
        match self {
            Tool::HangUp => HANG_UP,
            Tool::Unknown => "weather",
            Tool::Builtin => "web_search",
            Tool::Offered(which) => OFFERS[usize::from(which) % OFFERS.len()].0,
        }
    }
}

pub fn tool_id(number: u32) -> String {
    format!("tool-{number}")
}

/// How this agent is impolite, for the whole call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    pub no_segment_ends: bool,
    pub no_turn_ends: bool,
    pub no_greeting: bool,
    /// It tells when the caller speaks, and its transcripts come at their leisure.
    pub ear: bool,
    /// How long its messages take, at most.
    pub slow_ms: u64,
}

pub struct Agent {
    manner: Manner,
    script: VecDeque<(Instant, Said)>,
    /// There is somebody to speak to, and it has said that it is ready.
    connected: bool,
    ready: bool,
    /// Answers no ping and says nothing, but its socket is open.
    pub mute: bool,
    utterance: u32,
    tools: Vec<(u32, Tool)>,
}

impl Agent {
    pub fn new(manner: Manner) -> Self {
        Agent {
            manner,
            script: VecDeque::new(),
            connected: false,
            ready: false,
            mute: false,
            utterance: 0,
            tools: Vec::new(),
        }
    }

    /// A connection has opened: what the last one had still to say is gone. Without a draw, nothing
    /// goes wrong.
    pub fn connected(&mut self, now: Instant, draw: Option<&mut Draw>) {
        self.script.clear();
        self.mute = false;
        (self.connected, self.ready) = (true, false);
        self.tools.clear();
        let Some(draw) = draw else {
            return self.say(now + Duration::from_millis(200), Said::Ready);
        };
        // Now and then it takes its time, or opens and says nothing more.
        let most = match draw.below(16) {
            15 => return,
            14 => 12_000,
            _ => 600,
        };
        let at = now + Duration::from_millis(draw.ms(most));
        if self.manner.ear && draw.one_in(4) {
            let seconds = draw.of(&[30, 121, 150, 240, 3600]);
            self.say(at, Said::Expires { seconds });
        }
        self.say(at, Said::Ready);
        if !self.manner.no_greeting {
            self.turn(at, draw);
        }
    }

    /// The connection is over, and everything that was on its way.
    pub fn closed(&mut self) {
        (self.connected, self.ready) = (false, false);
        self.script.clear();
    }

    pub fn next(&self) -> Option<Instant> {
        self.script.front().map(|(at, _)| *at)
    }

    pub fn take(&mut self) -> Option<Said> {
        self.script.pop_front().map(|(_, said)| said)
    }

    /// In the order of time; of two at once, the one that was thought of first.
    pub fn say(&mut self, at: Instant, said: Said) {
        let first = matches!(
            said,
            Said::Ready | Said::Alive | Said::Closed(_) | Said::Failure(_) | Said::Expires { .. }
        );
        if self.mute || !self.connected || !(self.ready || first) {
            return;
        }
        self.ready |= said == Said::Ready;
        // What it had to say first stays first.
        let greets = self.script.iter().find(|(_, said)| *said == Said::Ready);
        let at = greets.map_or(at, |(ready, _)| at.max(*ready));
        let place = self.script.partition_point(|(before, _)| *before <= at);
        self.script.insert(place, (at, said));
    }

    /// Says nothing any more and answers nothing, but does not go.
    pub fn fall_silent(&mut self) {
        self.mute = true;
        self.script.clear();
    }

    /// One to three utterances in pieces, faster than they play, and the end of the turn.
    pub fn turn(&mut self, now: Instant, draw: &mut Draw) {
        let mut at = now;
        for _ in 0..=draw.below(3) {
            self.utterance += 1;
            let utterance = self.utterance;
            let words = !draw.one_in(5);
            if words && !self.manner.ear {
                self.say(at, Said::Words { utterance });
            }
            for _ in 0..=draw.below(4) {
                at += Duration::from_millis(draw.ms(self.manner.slow_ms));
                let bytes = 8 * (1 + draw.ms(3000) as usize);
                self.say(at, Said::Audio { utterance, bytes });
            }
            if words && self.manner.ear {
                let late = Duration::from_millis(draw.ms(2000));
                self.say(at + late, Said::Words { utterance });
            }
        }
        at += Duration::from_millis(draw.ms(self.manner.slow_ms));
        if !(self.manner.no_turn_ends && draw.one_in(2)) {
            self.say(at, Said::EndOfTurn);
        }
    }

    /// Much sound in one go; now and then minutes of it, more than Twilio would keep.
    pub fn burst(&mut self, now: Instant, draw: &mut Draw) {
        self.utterance += 1;
        let seconds = if draw.one_in(16) { 70 } else { 6 };
        for _ in 0..=draw.below(12) {
            let bytes = 8000 * (1 + draw.below(seconds) as usize);
            let utterance = self.utterance;
            self.say(now, Said::Audio { utterance, bytes });
        }
        self.say(now, Said::EndOfTurn);
    }

    /// More of something it had begun, or finished, before.
    pub fn straggler(&mut self, now: Instant, draw: &mut Draw) {
        let utterance = self.utterance.saturating_sub(draw.below(4)).max(1);
        self.utterance = self.utterance.max(1);
        let bytes = 8 * (1 + draw.ms(2000) as usize);
        self.say(now, Said::Audio { utterance, bytes });
    }

    /// It notices that the caller speaks; at times it stops, at times more is on its way.
    pub fn interruption(&mut self, now: Instant, draw: &mut Draw) {
        if draw.one_in(2) {
            self.script.retain(|(_, said)| !said.is_speech());
        }
        match self.manner.ear {
            true => self.hear(now, draw),
            false => self.say(now, Said::Interruption),
        }
    }

    /// It hears the caller, or a noise; the end of either is not always told.
    pub fn hear(&mut self, now: Instant, draw: &mut Draw) {
        self.say(now, Said::CallerBegins);
        if draw.one_in(5) {
            return;
        }
        let end = now + Duration::from_millis(draw.ms(6000));
        self.say(end, Said::CallerEnds);
        let said = Said::Caller {
            interim: draw.one_in(3),
            replace: draw.one_in(3),
            blank: draw.one_in(9),
        };
        self.say(end + Duration::from_millis(draw.ms(4000)), said);
        if draw.one_in(2) {
            let at = end + Duration::from_millis(draw.ms(3000));
            self.turn(at, draw);
        }
    }

    pub fn tool(&mut self, now: Instant, kind: Tool, draw: &mut Draw) {
        let number = self.tools.len() as u32 + 1;
        self.tools.push((number, kind));
        self.say(now, Said::Tool { number, kind });
        // A farewell, at times.
        if draw.one_in(2) {
            let at = now + Duration::from_millis(draw.ms(4000));
            self.turn(at, draw);
        } else if draw.one_in(2) {
            self.say(now, Said::EndOfTurn);
        }
    }

    /// One of those it was offered; now and then more of them than anybody could want at once.
    pub fn offered(&mut self, now: Instant, draw: &mut Draw) {
        let many = if draw.one_in(12) { 10 } else { 1 };
        for _ in 0..many {
            let which = draw.below(OFFERS.len() as u32) as u8;
            match many {
                1 => self.tool(now, Tool::Offered(which), draw),
                _ => {
                    let number = self.tools.len() as u32 + 1;
                    let kind = Tool::Offered(which);
                    self.tools.push((number, kind));
                    self.say(now, Said::Tool { number, kind });
                }
            }
        }
    }

    /// The same call again; not one so old that nobody can be asked to remember it.
    pub fn same_tool(&mut self, now: Instant, draw: &mut Draw) {
        let recent = self.tools.len().min(8) as u32;
        if recent == 0 {
            return;
        }
        let back = draw.below(recent) as usize;
        let (number, kind) = self.tools[self.tools.len() - 1 - back];
        self.say(now, Said::Tool { number, kind });
    }

    /// It waits no longer for one of its last.
    pub fn settle(&mut self, now: Instant, draw: &mut Draw) {
        let last = self.tools.iter().rev();
        let back = if draw.one_in(4) { 1 } else { 0 };
        if let Some((number, _)) = last.clone().nth(back).or(last.clone().next()) {
            let number = *number;
            self.say(now, Said::Settled { number });
        }
    }
}

impl Said {
    fn is_speech(self) -> bool {
        matches!(
            self,
            Said::Words { .. } | Said::Audio { .. } | Said::EndOfTurn
        )
    }
}

/// The codec of an agent that keeps the seam's promises: see [`Event`].
#[derive(Default)]
pub struct Seam {
    known: HashMap<u32, SegmentId>,
    newest: u32,
    /// The utterance under way, if it had audio.
    sounding: Option<SegmentId>,
    current: Option<u32>,
    no_segment_ends: bool,
    ear: bool,
    connections: u32,
}

impl Seam {
    pub fn new(manner: Manner) -> Self {
        Seam {
            no_segment_ends: manner.no_segment_ends,
            ear: manner.ear,
            ..Seam::default()
        }
    }

    /// Another connection: utterances are others, and their numbering goes on.
    pub fn connected(&mut self) {
        self.known.clear();
        self.sounding = None;
        self.current = None;
        self.connections += 1;
    }

    /// Hands over what a message means. `sound` is what an [`Said::Audio`] sounds like.
    pub fn translate(&mut self, said: Said, sound: &[u8], event: &mut dyn FnMut(Event<'_>)) {
        match said {
            Said::Ready => event(Event::Ready {
                chat: "chat",
                resumed: self.connections > 1,
            }),
            // Behind the sound it is not the beginning of anything.
            Said::Words { .. } if self.ear => {
                event(words(Role::Agent, "Hello.", false, false));
            }
            Said::Words { utterance } => {
                self.place(utterance, event);
                event(words(Role::Agent, "Hello.", false, false));
            }
            Said::Audio { utterance, .. } => {
                let segment = self.place(utterance, event);
                if self.current == Some(utterance) {
                    self.sounding = Some(segment);
                }
                event(Event::Audio {
                    segment,
                    mulaw: sound,
                });
            }
            Said::EndOfTurn => {
                self.current = None;
                self.end(event);
                event(Event::TurnDone);
            }
            Said::Interruption => event(Event::Interrupt),
            Said::CallerBegins => event(Event::CallerSpeaks),
            Said::CallerEnds => event(Event::CallerSpoke),
            Said::Caller {
                interim,
                replace,
                blank,
            } => {
                let text = if blank { " " } else { "Yes, please." };
                event(words(Role::Caller, text, interim, replace));
            }
            Said::Tool { number, kind } => event(Event::ToolCall {
                call_id: &tool_id(number),
                name: kind.name(),
                arguments: "{}",
                expects_reply: kind != Tool::Builtin,
            }),
            Said::Settled { number } => event(Event::ToolCancelled {
                call_id: &tool_id(number),
            }),
            Said::Error => event(Event::Error {
                code: "E0712",
                ends: None,
            }),
            Said::Failure(ends) => event(Event::Error {
                code: "I0100",
                ends: Some(ends),
            }),
            Said::Nonsense => event(Event::Ignored {
                why: Ignored::Malformed,
            }),
            // The world's to tell.
            Said::Binary | Said::Alive | Said::Closed(_) | Said::Expires { .. } => {}
        }
    }

    fn place(&mut self, utterance: u32, event: &mut dyn FnMut(Event<'_>)) -> SegmentId {
        if let Some(segment) = self.known.get(&utterance) {
            return *segment;
        }
        self.end(event);
        self.newest += 1;
        let segment = SegmentId(self.newest);
        self.known.insert(utterance, segment);
        self.current = Some(utterance);
        segment
    }

    fn end(&mut self, event: &mut dyn FnMut(Event<'_>)) {
        if let Some(segment) = self.sounding.take()
            && !self.no_segment_ends
        {
            event(Event::SegmentEnd { segment });
        }
    }
}

fn words(role: Role, text: &str, interim: bool, replace: bool) -> Event<'_> {
    Event::Transcript {
        role,
        text,
        interim,
        replace,
    }
}

/// The agent's voice, so that each sample of it can be told from every other.
#[derive(Default)]
pub struct Voice {
    position: u64,
    pub sound: Vec<u8>,
}

impl Voice {
    /// Speaks so much, into [`Voice::sound`].
    pub fn speak(&mut self, bytes: usize) {
        self.sound.clear();
        Tongue::default().fill(self.position, bytes, &mut self.sound);
        self.position += bytes as u64;
    }
}
