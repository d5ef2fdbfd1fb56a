//! A leg whose peer takes what the test lets it take.

use std::task::{Context, Poll};

use super::*;

/// A WebSocket whose peer takes so many messages and no more; as tokio-tungstenite does it, one message
/// more is kept and blocks it.
#[derive(Default)]
struct Peer {
    takes: usize,
    kept: Option<Message>,
    taken: Vec<String>,
    /// Not even one message is kept that is longer.
    longest: Option<usize>,
    gone: bool,
}

impl Peer {
    fn push(&mut self) -> bool {
        if self.takes > 0
            && let Some(message) = self.kept.take()
        {
            self.takes -= 1;
            self.taken.push(message.into_text().unwrap().to_string());
        }
        self.kept.is_none()
    }
}

impl Stream for Peer {
    type Item = Result<Message, WsError>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Pending
    }
}

impl Sink<Message> for Peer {
    type Error = WsError;

    fn poll_ready(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), WsError>> {
        match self.push() {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), WsError> {
        if self.gone {
            return Err(WsError::AlreadyClosed);
        }
        if self.longest.is_some_and(|longest| message.len() > longest) {
            return Err(WsError::WriteBufferFull(Box::new(message)));
        }
        assert!(self.kept.is_none(), "fed while blocked");
        self.kept = Some(message);
        self.push();
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), WsError>> {
        self.poll_ready(cx)
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), WsError>> {
        Poll::Ready(Ok(()))
    }
}

fn text(text: impl ToString) -> Message {
    Message::text(text.to_string())
}

/// The peer takes `n` messages more; whether the leg has had enough of it.
fn flush(leg: &mut Leg<Peer>, n: usize) -> bool {
    leg.socket.takes += n;
    let mut cx = Context::from_waker(Waker::noop());
    leg.poll_flush(&mut cx).is_ready()
}

fn amount(messages: u64) -> Amount {
    Amount {
        messages,
        audio: messages,
    }
}

/// A leg whose peer has just stopped taking anything: one message is in its socket.
fn blocked(mut leg: Leg<Peer>) -> Leg<Peer> {
    leg.feed(text("first"), 1);
    assert!(!flush(&mut leg, 0));
    assert!(leg.waits());
    leg
}

#[test]
fn a_peer_that_takes_everything_is_sent_everything_at_once() {
    let mut leg = Leg::to_agent(Peer {
        takes: 1000,
        ..Peer::default()
    });
    for n in 0..500 {
        leg.feed(text(n), 1);
        leg.feed_control(text("order"));
    }
    assert_eq!(leg.socket.taken.len(), 1000);
    assert!(!leg.waits() && leg.queued() == 0 && leg.queue.capacity() == 0);
    assert!(!flush(&mut leg, 0));
    assert!(!leg.waits());
    let tally = leg.tally();
    assert_eq!((tally.sent, tally.dropped), (amount(500), amount(0)));
    assert_eq!(leg.tally(), Tally::default(), "told once");
}

#[test]
fn a_late_agent_hears_the_present_and_what_it_missed_is_counted_to_the_frame() {
    let mut leg = blocked(Leg::to_agent(Peer::default()));
    let start = Instant::now();
    // Thirty seconds of frames while the agent takes nothing.
    for n in 0..1500 {
        leg.hold(text(n), 1, start + Duration::from_millis(20 * n));
        assert!(leg.queue.len() <= 101, "two seconds and no more");
    }
    leg.feed_control(text("ping"));
    let end = start + Duration::from_secs(30);
    // It takes ten messages, a moment later everything.
    leg.socket.takes = 10;
    let mut cx = Context::from_waker(Waker::noop());
    assert!(leg.socket.poll_flush_unpin(&mut cx).is_ready());
    leg.blocked = false;
    assert!(leg.refill(end));
    leg.socket.takes = 1000;
    assert!(leg.socket.poll_flush_unpin(&mut cx).is_ready());
    leg.blocked = false;
    assert!(leg.refill(end));
    let taken = std::mem::take(&mut leg.socket.taken);
    assert_eq!(
        &taken[..2],
        ["first", "ping"],
        "orders do not wait for audio"
    );
    let newest: Vec<_> = (1400..1500).map(|n| n.to_string()).collect();
    assert_eq!(&taken[2..], newest);
    let tally = leg.tally();
    assert_eq!(tally.sent, amount(1 + 100));
    assert_eq!(tally.dropped, amount(1500 - 100));
    assert_eq!((leg.queued(), tally.cleared), (0, Amount::default()));
}

#[test]
fn a_burst_for_an_agent_is_not_stale() {
    // What was held while the agent was connected comes at once, and leaves as the network takes it.
    let mut leg = blocked(Leg::to_agent(Peer::default()));
    let start = Instant::now();
    // Thirty seconds of frames, which take five to leave.
    let frame = "x".repeat(470);
    for n in 0..1500 {
        leg.hold(text(format!("{n}{frame}")), 1, start);
    }
    for half_seconds in 0..10 {
        leg.socket.takes = 150;
        let mut cx = Context::from_waker(Waker::noop());
        leg.blocked = leg.socket.poll_flush_unpin(&mut cx).is_pending();
        leg.refill(start + Duration::from_millis(500 * half_seconds));
    }
    assert!(!flush(&mut leg, 100));
    assert_eq!(leg.socket.taken.len(), 1501);
    assert_eq!(leg.tally().dropped, amount(0));
}

#[test]
fn more_than_is_ever_handed_over_at_once_is_not_kept() {
    let frame = text("x".repeat(1000));
    let mut leg = blocked(Leg::to_agent(Peer::default()));
    for n in 0..2000 {
        leg.hold(text(n), 1, Instant::now());
        leg.hold(frame.clone(), 1, Instant::now());
        assert!(leg.queued() <= MAX_QUEUED);
    }
    let dropped = leg.tally().dropped.messages;
    assert_eq!(dropped + leg.queue.len() as u64, 4000);
    assert!(dropped > 1000, "{dropped}");
    let newest = leg.queue.back().map(|waiting| waiting.message.clone());
    assert_eq!(newest, Some(frame));
}

#[test]
fn a_slow_caller_hears_whole_words_and_the_newest_are_not_taken() {
    let mut leg = blocked(Leg::to_caller(Peer::default()));
    let long_ago = Instant::now() - Duration::from_secs(60);
    let words = "x".repeat(MAX_QUEUED / 4);
    for n in 0..6 {
        leg.hold(text(format!("{n}{}", &words[1..])), 100, long_ago);
        leg.feed_mark(text(format!("mark {n}")));
    }
    assert!(!flush(&mut leg, 100));
    let taken = leg.socket.taken.iter();
    let taken: Vec<_> = taken
        .map(|message| &message[..message.len().min(6)])
        .map(|message| message.trim_end_matches('x'))
        .collect();
    // A mark is not dropped, or the goodbye that waits for it would wait in vain.
    let expected = [
        "first", "0", "mark 0", "1", "mark 1", "2", "mark 2", "mark 3", "mark 4", "mark 5",
    ];
    assert_eq!(taken, expected);
    let tally = leg.tally();
    let dropped = Amount {
        messages: 3,
        audio: 300,
    };
    assert_eq!((tally.dropped, tally.sent.audio), (dropped, 301));
}

#[test]
fn a_clear_takes_back_what_has_not_left() {
    let mut leg = blocked(Leg::to_caller(Peer::default()));
    leg.feed(text("stale"), 8000);
    leg.feed_mark(text("mark of it"));
    leg.feed_clear(text("clear"));
    leg.feed(text("answer"), 800);
    leg.feed_mark(text("mark"));
    assert!(!flush(&mut leg, 100));
    assert_eq!(leg.socket.taken, ["first", "clear", "answer", "mark"]);
    let tally = leg.tally();
    let cleared = Amount {
        messages: 1,
        audio: 8000,
    };
    assert_eq!((tally.cleared, tally.dropped), (cleared, amount(0)));
    assert_eq!(tally.sent.audio, 801);
}

#[test]
fn a_peer_that_takes_nothing_for_too_long_is_given_up() {
    let mut leg = blocked(Leg::to_caller(Peer::default()));
    let (stalls_at, since) = (leg.stalls_at(), leg.waiting);
    assert_eq!(stalls_at, since.map(|since| since + STALL_LIMIT));
    leg.waiting = since.map(|since| since - STALL_LIMIT);
    assert!(leg.is_stuck(), "no order is promised to it");
    assert!(flush(&mut leg, 0));
    // Had it taken everything at the last moment, all would be well.
    assert!(!flush(&mut leg, 1));
    assert!(!leg.waits() && !leg.is_stuck() && leg.stalls_at().is_none());
}

#[test]
fn a_peer_that_takes_a_little_now_and_then_is_too_slow_all_the_same() {
    let mut leg = blocked(Leg::to_caller(Peer::default()));
    let since = leg.waiting;
    for n in 0..10 {
        leg.feed(text(n), 1);
    }
    assert!(!flush(&mut leg, 3));
    assert_eq!(leg.waiting, since, "it has never been empty");
}

#[test]
fn what_must_not_be_lost_and_finds_no_room_gives_the_leg_up() {
    let mut leg = blocked(Leg::to_agent(Peer::default()));
    for n in 0..MAX_CONTROL {
        leg.feed_control(text(n));
    }
    assert!(!flush(&mut leg, 0));
    leg.feed_control(text("one more"));
    assert!(flush(&mut leg, 0));

    // One that the socket would never take.
    let mut leg = Leg::to_agent(Peer {
        takes: 10,
        longest: Some(10),
        ..Peer::default()
    });
    leg.feed_control(text("far too long"));
    assert!(flush(&mut leg, 10));
}

#[test]
fn what_a_lost_peer_is_sent_is_counted_as_dropped() {
    let mut leg = blocked(Leg::to_agent(Peer::default()));
    leg.feed(text(1), 1);
    leg.socket.gone = true;
    assert!(!flush(&mut leg, 10));
    leg.feed(text(2), 1);
    let tally = leg.tally();
    assert_eq!((tally.sent, tally.dropped), (amount(1), amount(2)));
    let mut leg = blocked(Leg::to_agent(Peer::default()));
    leg.feed(text(1), 1);
    leg.give_up();
    assert_eq!(
        leg.tally().dropped,
        amount(1),
        "so is what waits at its end"
    );
}

#[test]
fn a_measure_ends_when_the_message_has_left_and_not_when_the_audio_has() {
    let mut leg = blocked(Leg::to_agent(Peer::default()));
    for n in 0..10 {
        leg.feed(text(n), 1);
    }
    leg.feed_control(text("answer"));
    leg.time(Timed::Clear, Instant::now());
    let measured = |leg: &mut Leg<Peer>| {
        let mut times = 0;
        leg.sent(&mut |_, _| times += 1);
        times
    };
    assert_eq!(measured(&mut leg), 0);
    // The message in the socket, the answer, and some of the audio behind it.
    assert!(!flush(&mut leg, 4));
    assert!(leg.waits());
    assert_eq!((measured(&mut leg), measured(&mut leg)), (1, 0));
}
