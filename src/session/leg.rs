//! One side of a call: a WebSocket and what waits to leave by it.
//!
//! A message goes straight into the WebSocket for as long as the peer takes what it is sent. When it
//! does not, messages wait here, in queues that are bounded, each with its policy:
//!
//! - *control* (pings, clears, tool answers, orders) is never dropped and leaves before any audio
//!   that waits;
//! - *the caller's audio* to the agent: what has waited for [`STALE`] is dropped, the oldest first. An
//!   agent that is late is to hear the present, not the past;
//! - *the agent's audio* to the caller: it is kept whole and in order, since a caller cannot make sense
//!   of words with a hole in them; beyond [`MAX_QUEUED`] the newest message is not taken. A clear
//!   empties the queue: what has not left is what the caller does not want to hear any more;
//! - *marks* stay behind the audio that they follow, and are not dropped but by a clear.
//!
//! What is sent, dropped and cleared is counted to the last piece ([`Tally`]). A leg that has not been
//! empty for [`STALL_LIMIT`], or that has no room for what must not be lost, is told to be too slow.
//! Nothing here waits for anybody, so a slow peer slows only itself. What leaves is measured.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio_tungstenite::tungstenite::{
    Error as WsError, Message, Utf8Bytes,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;

use crate::metrics::labels::Tool;

/// A media socket: what an upgrade of the public listener came to.
pub type Telephone = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

/// A leg whose queue has not been empty for this long is too slow for a conversation.
const STALL_LIMIT: Duration = Duration::from_secs(10);
/// Caller audio that has waited for so long is the past. With what the kernel holds of it
/// ([`link`](crate::agent::link)), a slow agent is three to five seconds behind and no more.
const STALE: Duration = Duration::from_secs(2);
/// What was kept for an agent while there was none comes at once: it is not stale for having waited
/// behind its own beginning, as long as so many bytes a second leave.
const BURST_RATE: usize = 128 * 1024;
/// Audio and marks that wait, in bytes: a minute and a half of an agent's, and more of a caller's than
/// is ever handed over at once.
const MAX_QUEUED: usize = 1024 * 1024;
/// What must not be lost and waits for room.
const MAX_CONTROL: usize = 256;
/// An order to an agent that has taken nothing for so long would be a promise.
const STUCK: Duration = Duration::from_secs(1);
/// The closing handshake.
const CLOSE_LIMIT: Duration = Duration::from_millis(800);

/// A socket and what is known of its unsent bytes.
pub struct Leg<W> {
    pub socket: W,
    policy: Policy,
    /// Since when something has been waiting to leave.
    waiting: Option<Instant>,
    /// The socket takes nothing more before it has been flushed.
    blocked: bool,
    /// Something may have to be sent since the last complete flush.
    dirty: bool,
    /// There was no room for what must not be lost.
    hopeless: bool,
    /// What must not be lost and found the socket blocked, in order.
    control: VecDeque<Message>,
    /// Audio and marks that found the socket blocked, in order, and how many bytes that is.
    queue: VecDeque<Waiting>,
    queued: usize,
    tally: Tally,
    /// What the clock runs for until everything queued has left, and since when. Mostly empty.
    timed: Vec<(Timed, Instant)>,
    /// All that is timed has left.
    left: bool,
}

/// What becomes of audio that the peer does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    /// Stale audio goes, the oldest first.
    Present,
    /// Nothing goes; the newest is not taken when there is no more room.
    Whole,
}

/// Audio, or a mark behind it.
struct Waiting {
    message: Message,
    /// Where the policy is to drop what is late.
    stale_at: Instant,
    /// As its sender counts it; `None` for a mark.
    audio: Option<u64>,
}

/// Audio, in messages and as their sender counts it: in frames or in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    pub messages: u64,
    pub audio: u64,
}

impl Amount {
    fn add(&mut self, audio: u64) {
        self.messages += 1;
        self.audio += audio;
    }
}

/// What became of the audio since somebody last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Handed to the socket.
    pub sent: Amount,
    /// Because the peer takes too little, or is gone.
    pub dropped: Amount,
    /// By a clear.
    pub cleared: Amount,
}

/// What is measured from a message of the agent's to the wire.
#[derive(Clone, Copy)]
pub enum Timed {
    Clear,
    Answer(Tool),
}

impl<W> Leg<W>
where
    W: Stream<Item = Result<Message, WsError>> + Sink<Message, Error = WsError> + Unpin,
{
    /// Towards an agent: of the caller's audio, the newest.
    pub fn to_agent(socket: W) -> Self {
        Leg::new(socket, Policy::Present)
    }

    /// Towards a caller: of the agent's audio, all.
    pub fn to_caller(socket: W) -> Self {
        Leg::new(socket, Policy::Whole)
    }

    fn new(socket: W, policy: Policy) -> Self {
        Leg {
            socket,
            policy,
            waiting: None,
            blocked: false,
            dirty: true,
            hopeless: false,
            control: VecDeque::new(),
            queue: VecDeque::new(),
            queued: 0,
            tally: Tally::default(),
            timed: Vec::new(),
            left: true,
        }
    }

    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, WsError>>> {
        let read = Pin::new(&mut self.socket).poll_next(cx);
        // A ping or a close has queued its answer.
        self.dirty |= read.is_ready();
        read
    }

    /// Sends audio, or has it wait; `audio` is how much it is, as the sender counts.
    pub fn feed(&mut self, message: Message, audio: u64) {
        self.dirty = true;
        let message = match self.takes() {
            true => match self.send(message) {
                Sent::Full(message) => message,
                sent => return self.count(&sent, audio),
            },
            false => message,
        };
        self.hold(message, audio, Instant::now());
    }

    /// Sends a mark, behind the audio that waits.
    pub fn feed_mark(&mut self, message: Message) {
        self.dirty = true;
        let message = match self.takes() {
            true => match self.send(message) {
                Sent::Full(message) => message,
                Sent::Taken | Sent::Gone => return,
            },
            false => message,
        };
        // As much again as the audio may take: a mark is small.
        if self.queued + message.len() > 2 * MAX_QUEUED {
            self.hopeless = true;
            return;
        }
        let stale_at = Instant::now();
        self.put(Waiting {
            message,
            stale_at,
            audio: None,
        });
    }

    /// Sends what must not be lost, before any audio that waits.
    pub fn feed_control(&mut self, message: Message) {
        self.dirty = true;
        let message = match !self.blocked && self.control.is_empty() {
            true => match self.send(message) {
                Sent::Full(message) => message,
                Sent::Taken | Sent::Gone => return,
            },
            false => message,
        };
        if self.control.len() >= MAX_CONTROL {
            self.hopeless = true;
            return;
        }
        self.control.push_back(message);
    }

    /// Sends a clear in place of all audio that waits and of its marks, which would tell of words that
    /// nobody has heard.
    pub fn feed_clear(&mut self, message: Message) {
        for waiting in std::mem::take(&mut self.queue) {
            if let Some(audio) = waiting.audio {
                self.tally.cleared.add(audio);
            }
        }
        self.queued = 0;
        self.feed_control(message);
    }

    /// Whether audio may go straight into the socket.
    fn takes(&self) -> bool {
        !self.blocked && self.queue.is_empty() && self.control.is_empty()
    }

    /// Has audio wait, within the leg's policy.
    fn hold(&mut self, message: Message, audio: u64, now: Instant) {
        match self.policy {
            Policy::Present => {
                self.forget_stale(now);
                while self.queued + message.len() > MAX_QUEUED && self.drop_oldest() {}
            }
            Policy::Whole if self.queued + message.len() > MAX_QUEUED => {
                return self.tally.dropped.add(audio);
            }
            Policy::Whole => {}
        }
        let before_it = Duration::from_millis((self.queued * 1000 / BURST_RATE) as u64);
        self.put(Waiting {
            message,
            stale_at: now + STALE + before_it,
            audio: Some(audio),
        });
    }

    fn put(&mut self, waiting: Waiting) {
        self.queued += waiting.message.len();
        self.queue.push_back(waiting);
    }

    fn take(&mut self) -> Option<Waiting> {
        let waiting = self.queue.pop_front()?;
        self.queued -= waiting.message.len();
        if self.queue.is_empty() {
            // The memory back: there are many calls.
            self.queue = VecDeque::new();
        }
        Some(waiting)
    }

    fn drop_oldest(&mut self) -> bool {
        let Some(oldest) = self.take() else {
            return false;
        };
        if let Some(audio) = oldest.audio {
            self.tally.dropped.add(audio);
        }
        true
    }

    fn forget_stale(&mut self, now: Instant) {
        while let Some(oldest) = self.queue.front()
            && now >= oldest.stale_at
        {
            self.drop_oldest();
        }
    }

    /// Hands a message to the socket, which keeps what the peer does not take at once and is blocked
    /// from then on.
    fn send(&mut self, message: Message) -> Sent {
        let sent = Pin::new(&mut self.socket).start_send(message);
        // Whether the peer took it shows only when room for the next is asked for. There is no task to
        // be woken here; the flush that follows has one.
        let mut nobody = Context::from_waker(Waker::noop());
        let room = Pin::new(&mut self.socket).poll_ready(&mut nobody);
        self.blocked = room.is_pending();
        match sent {
            Ok(()) => Sent::Taken,
            Err(WsError::WriteBufferFull(message)) => {
                self.blocked = true;
                Sent::Full(*message)
            }
            // It shows again when reading, which is where ends are told apart.
            Err(_) => Sent::Gone,
        }
    }

    /// Puts what waits into the socket, which has been flushed, as far as it takes it: what must not be
    /// lost, or, in the next round, audio. Whether it took anything.
    fn refill(&mut self, now: Instant) -> bool {
        let mut any = false;
        while !self.blocked
            && let Some(message) = self.control.pop_front()
        {
            match self.send(message) {
                Sent::Full(message) => self.control.push_front(message),
                Sent::Taken | Sent::Gone => any = true,
            }
        }
        if self.policy == Policy::Present {
            self.forget_stale(now);
        }
        // What has just been sent leaves first, so that it is known when it has left.
        let audio_now = !any;
        while audio_now
            && !self.blocked
            && let Some(waiting) = self.take()
        {
            let Waiting { message, audio, .. } = waiting;
            match self.send(message) {
                Sent::Full(message) => {
                    self.queued += message.len();
                    self.queue.push_front(Waiting { message, ..waiting });
                }
                sent => {
                    any = true;
                    if let Some(audio) = audio {
                        self.count(&sent, audio);
                    }
                }
            }
        }
        // An empty socket that has no room for what comes next will never have any.
        self.hopeless |= !any && !self.is_empty();
        any
    }

    fn count(&mut self, sent: &Sent, audio: u64) {
        match sent {
            Sent::Taken => self.tally.sent.add(audio),
            Sent::Gone => self.tally.dropped.add(audio),
            Sent::Full(_) => {}
        }
    }

    /// Sends what waits. Ready only when that has taken too long, or is hopeless.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.dirty && !self.hopeless {
            match Pin::new(&mut self.socket).poll_flush(cx) {
                Poll::Ready(_) => {
                    // An error here shows again when reading, which is where ends are told apart.
                    self.blocked = false;
                    self.left |= self.control.is_empty();
                    self.dirty = !self.is_empty() && self.refill(Instant::now());
                    if !self.dirty {
                        self.waiting = None;
                    }
                }
                Poll::Pending => {
                    self.blocked = true;
                    let since = *self.waiting.get_or_insert_with(Instant::now);
                    return if since.elapsed() >= STALL_LIMIT {
                        Poll::Ready(())
                    } else {
                        Poll::Pending
                    };
                }
            }
        }
        match self.hopeless {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    fn is_empty(&self) -> bool {
        self.control.is_empty() && self.queue.is_empty()
    }

    /// The peer has not taken everything yet.
    pub fn waits(&self) -> bool {
        self.waiting.is_some()
    }

    /// An order that is put in now is not known to leave soon, or ever.
    pub fn is_stuck(&self) -> bool {
        !self.control.is_empty() || self.waiting.is_some_and(|since| since.elapsed() >= STUCK)
    }

    /// Audio and marks that wait, in bytes of their messages.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// What became of the audio since this was last asked.
    pub fn tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// The end: audio that still waits will not be sent.
    pub fn give_up(&mut self) {
        while self.drop_oldest() {}
    }

    /// Measures how long what was queued last takes to leave.
    pub fn time(&mut self, what: Timed, since: Instant) {
        if self.timed.len() < MAX_CONTROL {
            self.timed.push((what, since));
            self.left = false;
        }
    }

    /// Hands out what has left, and how long that took.
    pub fn sent(&mut self, measure: &mut impl FnMut(Timed, Duration)) {
        if self.left {
            for (what, since) in self.timed.drain(..) {
                measure(what, since.elapsed());
            }
        }
    }

    pub fn stalls_at(&self) -> Option<Instant> {
        self.waiting.map(|since| since + STALL_LIMIT)
    }
}

/// What the socket made of a message.
enum Sent {
    Taken,
    /// There is no room for it at the moment.
    Full(Message),
    /// It is over, and the message with it.
    Gone,
}

/// The closing handshake, bounded.
pub async fn close<W>(mut socket: W, code: u16)
where
    W: Stream<Item = Result<Message, WsError>> + Sink<Message, Error = WsError> + Unpin,
{
    let handshake = async {
        let frame = CloseFrame {
            code: CloseCode::from(code),
            reason: Utf8Bytes::default(),
        };
        // Refused where the peer has closed first; its answer then leaves with the next read.
        _ = socket.send(Message::Close(Some(frame))).await;
        while let Some(Ok(_)) = socket.next().await {}
    };
    // A peer that does not answer has had its chance.
    _ = tokio::time::timeout(CLOSE_LIMIT, handshake).await;
}

#[cfg(test)]
#[path = "leg_tests.rs"]
mod tests;
