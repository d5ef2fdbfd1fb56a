//! One side of a call: a WebSocket and what waits to leave by it.
//!
//! Audio is queued in the WebSocket itself, up to its write buffer, beyond which it is dropped; what
//! must not be lost (marks, clears, tool answers, pings) waits here for room, in order. A leg whose
//! queue does not get empty for [`STALL_LIMIT`] is told to be too slow. What leaves is measured.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio_tungstenite::tungstenite::{
    Error as WsError, Message, Utf8Bytes,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use crate::metrics::labels::Tool;

/// A leg whose queue has not been empty for this long is too slow for a conversation.
const STALL_LIMIT: Duration = Duration::from_secs(10);
/// Marks, clears, tool answers and pings that wait for room in a full queue.
const MAX_CONTROL: usize = 256;
/// The closing handshake.
const CLOSE_LIMIT: Duration = Duration::from_millis(800);

/// A socket and what is known of its unsent bytes.
pub struct Leg<W> {
    pub socket: W,
    /// Since when bytes have been waiting to leave.
    pub waiting: Option<Instant>,
    /// Something may have to be sent since the last complete flush.
    dirty: bool,
    /// What must not be lost and found the queue full, in order.
    pub control: VecDeque<Message>,
    /// What the clock runs for until everything queued has left, and since when. Mostly empty.
    timed: Vec<(Timed, Instant)>,
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
    pub fn new(socket: W) -> Self {
        Leg {
            socket,
            waiting: None,
            dirty: true,
            control: VecDeque::new(),
            timed: Vec::new(),
        }
    }

    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, WsError>>> {
        let read = Pin::new(&mut self.socket).poll_next(cx);
        // A ping or a close has queued its answer.
        self.dirty |= read.is_ready();
        read
    }

    /// Queues audio; `false` when the queue is full or the socket is gone.
    pub fn feed(&mut self, message: Message) -> bool {
        self.dirty = true;
        // Without poll_ready on purpose: the WebSocket queues up to its max_write_buffer_size.
        self.control.is_empty() && Pin::new(&mut self.socket).start_send(message).is_ok()
    }

    /// Queues what must not be lost.
    pub fn feed_control(&mut self, message: Message) {
        self.dirty = true;
        if self.control.len() < MAX_CONTROL {
            self.control.push_back(message);
        }
        self.send_control();
    }

    fn send_control(&mut self) {
        while let Some(message) = self.control.pop_front() {
            if let Err(WsError::WriteBufferFull(message)) =
                Pin::new(&mut self.socket).start_send(message)
            {
                return self.control.push_front(*message);
            }
        }
    }

    /// Sends what is queued. Ready only when that has taken too long.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.dirty {
            match Pin::new(&mut self.socket).poll_flush(cx) {
                Poll::Ready(_) => {
                    // An error here shows again when reading, which is where ends are told apart.
                    self.dirty = !self.control.is_empty();
                    self.waiting = None;
                    self.send_control();
                }
                Poll::Pending => {
                    let since = *self.waiting.get_or_insert_with(Instant::now);
                    return if since.elapsed() >= STALL_LIMIT {
                        Poll::Ready(())
                    } else {
                        Poll::Pending
                    };
                }
            }
        }
        Poll::Pending
    }

    /// Measures how long what was queued last takes to leave.
    pub fn time(&mut self, what: Timed, since: Instant) {
        if self.timed.len() < MAX_CONTROL {
            self.timed.push((what, since));
        }
    }

    /// Hands out what has left, and how long that took.
    pub fn sent(&mut self, measure: &mut impl FnMut(Timed, Duration)) {
        if !self.timed.is_empty() && !self.dirty {
            for (what, since) in self.timed.drain(..) {
                measure(what, since.elapsed());
            }
        }
    }

    pub fn stalls_at(&self) -> Option<Instant> {
        self.waiting.map(|since| since + STALL_LIMIT)
    }
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
