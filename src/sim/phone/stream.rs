//! One Media Stream: the upgrade, 50 beats a second, and what the bridge sends.
//!
//! At each beat the next 20 ms of the queue are played, marks that fall due are echoed, the story is asked,
//! and the caller's 20 ms are sent. The beats follow a monotonic clock: after a stall they catch up, and what
//! they play and send is dated as if there had been none, so the recordings stay aligned to the sample.
//! Beats come before reading, so nothing can be played before it was received.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::call::{BEAT, Call, sign};
use super::journal::{Echo, Ended, Event, Party};
use super::playout::Playout;
use super::script::{Line, Next, Step};
use super::twiml::Stream;
use super::webhook::{self, Params};
use super::wire::{self, Inbound, Writer};
use super::{Fault, Order, Phone, http};
use crate::sim::speech::{self, FRAME_SAMPLES};

/// Twilio's first frame is dated about a tenth of a second after the start of the stream.
const FIRST_TIMESTAMP: u64 = 102;
/// Speech is over when nothing has been heard for so long.
const QUIET: Duration = Duration::from_millis(600);
/// A peer that does not take a frame for so long (by the wall clock) is gone.
const STALLED: Duration = Duration::from_secs(5);
/// How long the closing handshake may take, by the wall clock.
const CLOSING: Duration = Duration::from_secs(5);
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

type Socket = WebSocketStream<TcpStream>;

/// Why the loop was left.
enum Over {
    /// The stream is over; the call goes on behind `<Connect>`.
    Stream,
    Call(Ended),
}

enum NoSocket {
    Refused(u16),
    Broken(String),
}

/// Opens the WebSocket with Twilio's own headers.
async fn open(phone: &Phone, url: &str) -> Result<Socket, NoSocket> {
    let broken = |error: http::Error| NoSocket::Broken(format!("31920: {error}"));
    let slash = if phone.has(Fault::TrailingSlash) {
        "/"
    } else {
        ""
    };
    let signature = sign(
        phone,
        &format!("{url}{slash}"),
        &[],
        phone.has(Fault::UpgradeSignature),
    );
    let key = base64_simd::STANDARD.encode_to_string(webhook::random::<16>());
    let mut tcp = http::connect(phone.dial, phone.has(Fault::SlowReader))
        .await
        .map_err(broken)?;
    let request = webhook::upgrade_request(url, &key, &signature);
    let (head, rest) = http::upgrade(&mut tcp, &request).await.map_err(broken)?;
    if head.status != 101 {
        return Err(NoSocket::Refused(head.status));
    }
    let is = |name: &str, value: &str| {
        head.header(name)
            .is_some_and(|found| found.eq_ignore_ascii_case(value))
    };
    if !is("upgrade", "websocket") || !is("connection", "upgrade") {
        return Err(NoSocket::Broken(
            "31920: a 101 that does not upgrade to websocket".into(),
        ));
    }
    if head.header("sec-websocket-accept") != Some(&webhook::accept_of(&key)) {
        return Err(NoSocket::Broken(
            "31920: the wrong sec-websocket-accept".into(),
        ));
    }
    for header in ["sec-websocket-extensions", "sec-websocket-protocol"] {
        if head.header(header).is_some() {
            return Err(NoSocket::Broken(format!(
                "31920: {header} was answered and never offered"
            )));
        }
    }
    // Small buffers: hundreds of telephones share a process.
    let config = WebSocketConfig::default()
        .read_buffer_size(4096)
        .write_buffer_size(2048)
        .max_write_buffer_size(1024 * 1024)
        .max_message_size(Some(16 * 1024 * 1024))
        .max_frame_size(Some(16 * 1024 * 1024));
    Ok(WebSocketStream::from_partially_read(tcp, rest, Role::Client, Some(config)).await)
}

impl Call {
    /// Carries one stream to its end. `Err`: the call ended with it.
    pub async fn stream(&mut self, noun: &Stream) -> Result<(), Ended> {
        let stream_sid = webhook::sid("MZ");
        let mut socket = match Box::pin(open(&self.phone, &noun.url)).await {
            Ok(socket) => socket,
            Err(no) => {
                let error = match no {
                    NoSocket::Refused(status) => {
                        self.log(Event::UpgradeRefused { status });
                        format!("31920: the upgrade was answered with {status}")
                    }
                    NoSocket::Broken(what) => {
                        self.violation(what.clone());
                        what
                    }
                };
                self.stream_callback(noun, &stream_sid, "stream-error", Some(error));
                return Ok(());
            }
        };
        let mut writer = Writer::new(stream_sid.clone(), self.phone.has(Fault::BareNumbers));
        let mut opening = vec![Writer::connected()];
        let started = !self.phone.has(Fault::NeverStart);
        if started {
            opening.push(writer.start(&self.phone.account_sid, &self.call_sid, &noun.parameters));
        }
        for text in opening {
            // A failure shows up again, and is told, when the loop reads.
            let _ = socket.feed(Message::text(text)).await;
        }
        let _ = timeout(STALLED, socket.flush()).await;
        self.stream_sids.push(stream_sid.clone());
        self.script_runs = true;
        let parameters = noun.parameters.clone();
        self.log(Event::StreamStarted {
            stream_sid: stream_sid.clone(),
            parameters,
        });
        self.stream_callback(noun, &stream_sid, "stream-started", None);
        if self.phone.has(Fault::SecondSocket) {
            self.second_socket(noun);
        }

        let over = Leg::new(self, socket, writer, started).run().await;
        self.stream_callback(noun, &stream_sid, "stream-stopped", None);
        match over {
            Over::Stream => Ok(()),
            Over::Call(ended) => Err(ended),
        }
    }

    fn stream_callback(
        &mut self,
        noun: &Stream,
        stream_sid: &str,
        event: &str,
        error: Option<String>,
    ) {
        let Some(request) = noun.status_callback.clone() else {
            return;
        };
        let fields = [
            ("AccountSid", self.phone.account_sid.clone()),
            ("CallSid", self.call_sid.clone()),
            ("StreamSid", stream_sid.to_owned()),
            (
                "StreamName",
                noun.name.clone().unwrap_or_else(|| stream_sid.to_owned()),
            ),
            ("StreamEvent", event.to_owned()),
            ("Timestamp", format!("{:.9}", jiff::Timestamp::now())),
        ];
        let mut params: Params = fields.map(|(name, value)| (name.to_owned(), value)).into();
        params.extend(error.map(|error| ("StreamError".to_owned(), error)));
        self.callback(event, request, params);
    }

    /// Opens a second socket for the call and tells what the bridge makes of it.
    fn second_socket(&mut self, noun: &Stream) {
        let (phone, journal, clock) = (self.phone.clone(), self.journal.clone(), self.clock);
        let (call_sid, noun) = (self.call_sid.clone(), noun.clone());
        self.background.spawn(async move {
            let outcome = match open(&phone, &noun.url).await {
                Err(NoSocket::Refused(status)) => format!("refused with {status}"),
                Err(NoSocket::Broken(what)) => what,
                Ok(mut socket) => {
                    let mut writer = Writer::new(webhook::sid("MZ"), false);
                    let start = writer.start(&phone.account_sid, &call_sid, &noun.parameters);
                    let _ = socket.feed(Message::text(Writer::connected())).await;
                    let _ = socket.send(Message::text(start)).await;
                    match timeout(CLOSING, socket.next()).await {
                        Err(_) => "open and silent after 5 s".to_owned(),
                        Ok(Some(Ok(Message::Close(frame)))) => {
                            format!("closed with {:?}", frame.map(|frame| u16::from(frame.code)))
                        }
                        Ok(Some(Ok(_))) => "spoken to".to_owned(),
                        Ok(Some(Err(_)) | None) => "cut".to_owned(),
                    }
                }
            };
            journal.write(clock.now(), Event::SecondSocket { outcome });
        });
    }
}

/// Something being said.
struct Voice {
    name: String,
    audio: Arc<[u8]>,
    at: usize,
}

struct Leg<'c> {
    call: &'c mut Call,
    socket: Socket,
    writer: Writer,
    started: bool,
    playout: Playout,
    voices: VecDeque<Voice>,
    gap_until: Duration,
    /// Virtual time of the first beat.
    base: Duration,
    beats: u64,
    /// Bytes played without a hole until now.
    playing: usize,
    speaking_since: Option<Duration>,
    heard_at: Duration,
    cleared_at: Option<Duration>,
    overflowed: bool,
}

impl<'c> Leg<'c> {
    fn new(call: &'c mut Call, socket: Socket, writer: Writer, started: bool) -> Self {
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
            heard_at: Duration::ZERO,
            cleared_at: None,
            overflowed: false,
        }
    }

    async fn run(mut self) -> Over {
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
        if self.call.completed.load(Ordering::Acquire) {
            return Err(self.leave(Ended::RestCompleted).await);
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
            self.heard_at = now;
        } else if now >= self.heard_at + QUIET {
            self.speaking_since = None;
        }
        self.echo_due(now).await
    }

    async fn echo_due(&mut self, now: Duration) -> Result<(), Over> {
        while let Some(name) = self.playout.due() {
            self.echo(now, name, Echo::Played).await?;
        }
        Ok(())
    }

    async fn echo(&mut self, now: Duration, name: String, how: Echo) -> Result<(), Over> {
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
                cleared_at: self.cleared_at,
                stream_over: false,
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
            Step::Say(name) => match self.call.phone.clip(&name) {
                Some(audio) => self.voices.push_back(Voice { name, audio, at: 0 }),
                None => self.call.violation(format!(
                    "the story says {name:?}, and there is no such clip"
                )),
            },
            Step::Dtmf(keys) => {
                for digit in keys.chars() {
                    let text = self.writer.dtmf(digit);
                    self.call.journal.write(now, Event::Dtmf { digit });
                    self.feed(Message::text(text)).await?;
                }
            }
            Step::HangUp => return Err(self.leave(Ended::CallerHungUp).await),
            Step::Drop => {
                // A reset, not an orderly end: nothing tells the bridge that this was meant.
                let _ = self.socket.get_ref().set_zero_linger();
                self.closed(Party::Phone, None, "connection lost");
                return Err(Over::Call(Ended::Dropped));
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

    async fn feed(&mut self, message: Message) -> Result<(), Over> {
        let fed = timeout(STALLED, self.socket.feed(message)).await;
        self.written(fed).await
    }

    async fn flush(&mut self) -> Result<(), Over> {
        let flushed = timeout(STALLED, self.socket.flush()).await;
        self.written(flushed).await
    }

    async fn written(
        &mut self,
        result: Result<Result<(), WsError>, tokio::time::error::Elapsed>,
    ) -> Result<(), Over> {
        match result {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => {
                // The bridge may have closed in good order before; its last words are still to be read.
                let last = timeout(CLOSING, async {
                    loop {
                        match self.socket.next().await {
                            Some(Ok(Message::Close(frame))) => return Some(frame),
                            Some(Ok(_)) => {}
                            Some(Err(_)) | None => return None,
                        }
                    }
                });
                let last = last.await.ok().flatten();
                Err(self.closed_by_bridge(last, "writing failed").await)
            }
            Err(_) => {
                self.call
                    .violation("31930: the bridge took no frame for 5 s");
                self.closed(Party::Phone, None, "the bridge does not read");
                Err(Over::Stream)
            }
        }
    }

    async fn receive(&mut self, message: Option<Result<Message, WsError>>) -> Result<(), Over> {
        match message {
            Some(Ok(Message::Text(text))) => {
                let received = std::time::Instant::now();
                if !self.started {
                    self.call.violation(format!(
                        "31951: sent before start: {}",
                        wire::excerpt(&text)
                    ));
                    return Ok(());
                }
                match wire::read(&text, self.writer.stream_sid()) {
                    Ok(inbound) => self.take(inbound, received).await?,
                    Err(what) => self.call.violation(what),
                }
                self.flush().await
            }
            Some(Ok(Message::Binary(bytes))) => {
                self.call
                    .violation(format!("31950: a binary message of {} bytes", bytes.len()));
                Ok(())
            }
            // Answered by tungstenite at the next flush.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(()),
            Some(Ok(Message::Close(frame))) => Err(self.closed_by_bridge(Some(frame), "").await),
            Some(Err(error)) => Err(self.closed_by_bridge(None, &error.to_string()).await),
            None => Err(self.closed_by_bridge(None, "the connection ended").await),
        }
    }

    async fn take(&mut self, inbound: Inbound, received: std::time::Instant) -> Result<(), Over> {
        let now = self.call.clock.now();
        match inbound {
            Inbound::Media(audio) => {
                if let Some(probe) = &mut self.call.probe {
                    probe.media(&audio, received);
                }
                let lost = self.playout.push(&audio);
                let queued = self.playout.queued();
                self.call.journal.write(
                    now,
                    Event::AudioReceived {
                        bytes: audio.len(),
                        queued,
                    },
                );
                if lost > 0 && !self.overflowed {
                    self.overflowed = true; // once a stream, as Twilio
                    self.call
                        .violation("31931: more than ten minutes of audio are queued");
                }
            }
            Inbound::Mark(name) => {
                let queued = self.playout.queued();
                self.call.journal.write(
                    now,
                    Event::MarkReceived {
                        name: name.clone(),
                        queued,
                    },
                );
                if !self.playout.mark(name) {
                    self.call
                        .violation("more marks are pending than anybody needs");
                }
                self.echo_due(now).await?;
            }
            Inbound::Clear => {
                let flushed = self.playout.clear();
                self.cleared_at = Some(now);
                let marks = flushed.marks.len();
                self.call.journal.write(
                    now,
                    Event::ClearReceived {
                        flushed: flushed.bytes,
                        marks,
                    },
                );
                for name in flushed.marks {
                    self.echo(now, name, Echo::Flushed).await?;
                }
            }
        }
        Ok(())
    }

    /// The phone's own end of the stream: `stop`, a close, and the bridge's answer to it.
    async fn leave(&mut self, ended: Ended) -> Over {
        if self.started {
            let stop = self
                .writer
                .stop(&self.call.phone.account_sid, &self.call.call_sid);
            self.call.log(Event::StopSent);
            let _ = timeout(STALLED, self.socket.send(Message::text(stop))).await;
        }
        let frame = CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        };
        let answered = timeout(CLOSING, async {
            let _ = self.socket.close(Some(frame)).await;
            // Whatever is still in flight cannot know of the end.
            while let Some(Ok(_)) = self.socket.next().await {}
        });
        let reason = if answered.await.is_ok() {
            ""
        } else {
            "the bridge did not close its side within 5 s"
        };
        self.closed(Party::Phone, Some(1000), reason);
        Over::Call(ended)
    }

    /// `None` in place of a close frame: the connection broke.
    async fn closed_by_bridge(&mut self, frame: Option<Option<CloseFrame>>, how: &str) -> Over {
        match frame {
            Some(frame) => {
                // The answer to the close, and the end of TCP.
                let _ = timeout(CLOSING, async {
                    while let Some(Ok(_)) = self.socket.next().await {}
                })
                .await;
                let code = frame.as_ref().map(|frame| u16::from(frame.code));
                let reason = frame
                    .map(|frame| frame.reason.to_string())
                    .unwrap_or_default();
                self.closed(Party::Bridge, code, &reason);
            }
            None => {
                self.call
                    .violation(format!("31903: the socket broke without a close: {how}"));
                self.closed(Party::Bridge, None, how);
            }
        }
        Over::Stream
    }

    fn closed(&self, by: Party, code: Option<u16>, reason: &str) {
        self.call.log(Event::SocketClosed {
            by,
            code,
            reason: reason.to_owned(),
        });
    }
}
