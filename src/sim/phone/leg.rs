//! The beats of a stream: 50 a second, whatever the machine does.
//!
//! At each beat the next 20 ms of the queue are played, marks that fall due are echoed, the story is asked,
//! and the caller's 20 ms are sent. The beats follow a monotonic clock: after a stall they catch up, and what
//! they play and send is dated as if there had been none, so the recordings stay aligned to the sample.
//! Beats come before reading, so nothing can be played before it was received.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_tungstenite::tungstenite::Message;

use super::call::{BEAT, Call, Left};
use super::journal::{Echo, Ended, Event, Party};
use super::playout::Playout;
use super::script::{Line, Next, Step};
use super::upgrade::Socket;
use super::wire::Writer;
use super::{Fault, Order};
use crate::sim::speech::{self, FRAME_SAMPLES};

/// Twilio's first frame is dated about a tenth of a second after the start of the stream.
const FIRST_TIMESTAMP: u64 = 102;
/// Speech is over when nothing has been heard for so long.
const QUIET: Duration = Duration::from_millis(600);
/// A peer that does not take a frame for so long (by the wall clock) is gone.
pub const STALLED: Duration = Duration::from_secs(5);
/// After so many beats in a row the socket is read, however late the beats are.
const BEATS_BEFORE_READING: u32 = 25;

/// A line on which nobody speaks is not digital silence.
const QUIET_FRAME: [u8; FRAME_SAMPLES] = {
    let mut frame = [0xff; FRAME_SAMPLES];
    let mut index = 0;
    while index < FRAME_SAMPLES {
        if (index * 7 + index / 3) % 5 < 2 {
            frame[index] = 0x7f;
        }
        index += 1;
    }
    frame
};

/// Why the loop was left.
pub enum Over {
    /// The stream is over; the call goes on behind `<Connect>`.
    Stream,
    Call(Left),
}

/// Something being said.
struct Voice {
    name: String,
    audio: Arc<[u8]>,
    at: usize,
}

pub struct Leg<'c> {
    pub(super) call: &'c mut Call,
    pub(super) socket: Socket,
    pub(super) writer: Writer,
    pub(super) started: bool,
    pub(super) playout: Playout,
    voices: VecDeque<Voice>,
    gap_until: Duration,
    /// Virtual time of the first beat.
    base: Duration,
    beats: u64,
    /// Bytes played without a hole until now.
    playing: usize,
    pub(super) speaking_since: Option<Duration>,
    /// When the agent, should it be heard no more, has been quiet for long enough.
    quiet_from: Duration,
    pub(super) cleared_at: Option<Duration>,
    pub(super) overflowed: bool,
}

impl<'c> Leg<'c> {
    pub fn new(call: &'c mut Call, socket: Socket, writer: Writer, started: bool) -> Self {
        Self {
            base: call.clock.now() + Duration::from_millis(FIRST_TIMESTAMP),
            call,
            socket,
            writer,
            started,
            playout: Playout::default(),
            voices: VecDeque::new(),
            gap_until: Duration::ZERO,
            beats: 0,
            playing: 0,
            speaking_since: None,
            quiet_from: Duration::ZERO,
            cleared_at: None,
            overflowed: false,
        }
    }

    pub async fn run(mut self) -> Over {
        if self.recording() {
            // From here on both recordings grow by a frame a beat; before, there was silence.
            let samples = (self.base.as_micros() / 125) as usize;
            self.call
                .heard
                .resize(samples.max(self.call.heard.len()), 0xff);
            self.call
                .spoken
                .resize(samples.max(self.call.spoken.len()), 0xff);
        }
        let first = Instant::now() + self.call.phone.wall(Duration::from_millis(FIRST_TIMESTAMP));
        let mut beats = interval_at(first, self.call.phone.wall(BEAT));
        beats.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let over = match self.turn(&mut beats).await {
            Ok(never) => match never {},
            Err(over) => over,
        };
        self.call.frames_sent += self.writer.chunks();
        let (unplayed, pending_marks) = (self.playout.queued(), self.playout.pending_marks());
        if self.playing > 0 {
            self.call.log(Event::PlayingEnded {
                bytes: self.playing,
            });
        }
        self.call.log(Event::StreamOver {
            unplayed,
            pending_marks,
        });
        over
    }

    fn recording(&self) -> bool {
        self.call.phone.options.record && self.call.probe.is_none()
    }

    async fn turn(&mut self, beats: &mut Interval) -> Result<std::convert::Infallible, Over> {
        let reads = !self.call.phone.has(Fault::SlowReader);
        let mut in_a_row = 0;
        loop {
            tokio::select! {
                biased;
                _ = beats.tick(), if in_a_row < BEATS_BEFORE_READING => {
                    in_a_row += 1;
                    self.beat().await?;
                }
                message = self.socket.next(), if reads => {
                    in_a_row = 0;
                    self.receive(message).await?;
                }
                order = self.call.orders.recv(), if self.call.orders_open => match order {
                    None => self.call.orders_open = false,
                    Some(order) => self.obey(order).await?,
                },
                // Nothing to read, and beats are due: on with them.
                () = std::future::ready(()), if in_a_row >= BEATS_BEFORE_READING => in_a_row = 0,
            }
        }
    }

    /// Virtual time of the current beat.
    fn beat_at(&self) -> Duration {
        self.base + BEAT * self.beats as u32
    }

    async fn beat(&mut self) -> Result<(), Over> {
        if let Some(wish) = self.call.wishes.take() {
            return Err(self.leave(wish).await);
        }
        let now = self.beat_at();
        self.play(now).await?;
        self.ask_story(now).await?;
        if self.started {
            self.speak(now).await?;
        }
        self.beats += 1;
        self.flush().await
    }

    async fn play(&mut self, now: Duration) -> Result<(), Over> {
        let mut frame = [0xff; FRAME_SAMPLES];
        let count = self.playout.play(&mut frame);
        if self.recording() {
            self.call.heard.extend_from_slice(&frame);
        }
        if count > 0 && self.playing == 0 {
            self.call.journal.write(now, Event::PlayingBegan);
        }
        self.playing += count;
        if count < FRAME_SAMPLES && self.playing > 0 {
            let end = now + speech::duration(&frame[..count]);
            self.call.journal.write(
                end,
                Event::PlayingEnded {
                    bytes: self.playing,
                },
            );
            self.playing = 0;
        }
        if count > 0 && speech::rms_dbfs(&frame) > speech::ACTIVE_DBFS {
            self.speaking_since.get_or_insert(now);
            self.quiet_from = now + QUIET;
        } else if now >= self.quiet_from {
            self.speaking_since = None;
        }
        self.echo_due(now).await
    }

    pub(super) async fn echo_due(&mut self, now: Duration) -> Result<(), Over> {
        while let Some(name) = self.playout.due() {
            self.echo(now, name, Echo::Played).await?;
        }
        Ok(())
    }

    pub(super) async fn echo(
        &mut self,
        now: Duration,
        name: String,
        how: Echo,
    ) -> Result<(), Over> {
        let text = self.writer.mark(&name);
        self.call
            .journal
            .write(now, Event::MarkEchoed { name, how });
        self.feed(Message::text(text)).await
    }

    async fn ask_story(&mut self, now: Duration) -> Result<(), Over> {
        loop {
            let line = Line {
                now,
                busy: !self.voices.is_empty() || now < self.gap_until,
                speaking_since: self.speaking_since,
                quiet_from: self.quiet_from,
                cleared_at: self.cleared_at,
                stream_over: false,
                bridged: false,
            };
            match self.call.script.next(&line) {
                Next::Do(step) => self.act(step, now).await?,
                Next::Wait => return Ok(()),
                Next::TimedOut(step) => {
                    let step = format!("{step:?}");
                    return Err(self.leave(Ended::StepTimedOut { step }).await);
                }
                Next::Done => {
                    if self.call.idle_since.is_none() {
                        self.call.journal.write(now, Event::StoryTold);
                    }
                    let since = *self.call.idle_since.get_or_insert(now);
                    if now >= since + self.call.phone.options.linger {
                        return Err(self.leave(Ended::Lingered).await);
                    }
                    return Ok(());
                }
            }
        }
    }

    async fn obey(&mut self, order: Order) -> Result<(), Over> {
        self.call.idle_since = None;
        match order {
            Order::Then(steps) => self.call.script.append(steps),
            Order::SayAudio(..) if !self.started => {}
            Order::SayAudio(name, audio) => self.voices.push_back(Voice { name, audio, at: 0 }),
            Order::Now(step) => {
                self.act(step, self.beat_at()).await?;
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn act(&mut self, step: Step, now: Duration) -> Result<(), Over> {
        match step {
            // Words that are never sent would never end.
            Step::Say(_) if !self.started => {}
            Step::Say(name) => match self.call.phone.clip(&name) {
                Some(audio) => self.voices.push_back(Voice { name, audio, at: 0 }),
                None => self.call.violation(format!(
                    "the story says {name:?}, and there is no such clip"
                )),
            },
            Step::Dtmf(keys) | Step::Keys(keys) => {
                for digit in keys.chars() {
                    let text = self.writer.dtmf(digit);
                    self.call.journal.write(now, Event::Dtmf { digit });
                    self.feed(Message::text(text)).await?;
                }
            }
            Step::HangUp => return Err(self.leave(Ended::CallerHungUp).await),
            Step::Drop => {
                // A reset, not an orderly end: nothing tells the bridge that this was meant.
                let _ = self.socket.get_ref().tcp().set_zero_linger();
                self.closed(Party::Phone, None, "connection lost");
                return Err(Over::Call(Ended::Dropped.into()));
            }
            Step::Gap(span) => self.gap_until = now + span,
            Step::Raw {
                text,
                binary: false,
            } => self.feed(Message::text(text)).await?,
            Step::Raw { text, binary: true } => self.feed(Message::binary(text)).await?,
            Step::Wait(_) | Step::WaitFor { .. } | Step::After { .. } => {}
        }
        Ok(())
    }

    /// Sends the caller's 20 ms.
    async fn speak(&mut self, now: Duration) -> Result<(), Over> {
        let mut frame = QUIET_FRAME;
        if now < self.gap_until {
            return self.record_spoken(&[0xff; FRAME_SAMPLES]);
        }
        if let Some(voice) = self.voices.front_mut() {
            if voice.at == 0 {
                self.call.journal.write(
                    now,
                    Event::ClipBegan {
                        name: voice.name.clone(),
                    },
                );
            }
            let rest = &voice.audio[voice.at..];
            let count = rest.len().min(FRAME_SAMPLES);
            frame[..count].copy_from_slice(&rest[..count]);
            voice.at += count;
            if voice.at == voice.audio.len() {
                let end = now + speech::duration(&frame[..count]);
                self.call.journal.write(
                    end,
                    Event::ClipEnded {
                        name: std::mem::take(&mut voice.name),
                    },
                );
                self.voices.pop_front();
            }
        }
        let number = self.writer.chunks();
        if let Some(probe) = &mut self.call.probe {
            probe.frame(number, &mut frame);
        }
        // Frames are 20 ms apart, but their timestamps are rarely multiples of 20.
        let wobble = [0, 1, 0, 2, 1][(self.beats % 5) as usize];
        let text = self
            .writer
            .media(FIRST_TIMESTAMP + 20 * self.beats + wobble, &frame);
        if let Some(probe) = &mut self.call.probe {
            probe.sent(number, std::time::Instant::now());
        }
        self.feed(Message::text(text)).await?;
        self.record_spoken(&frame)
    }

    fn record_spoken(&mut self, frame: &[u8]) -> Result<(), Over> {
        if self.recording() {
            self.call.spoken.extend_from_slice(frame);
        }
        Ok(())
    }
}
