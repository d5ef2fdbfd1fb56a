//! The control socket's lines, from a client and from a daemon that send what they like.
//!
//! Nothing panics; what is understood has one spelling that is understood alike; what is refused is
//! refused in few words; and nothing that was sent reaches a terminal or a log as a control
//! character.

use hume_bridge::{
    admin::{
        event::Event,
        framing::Lines,
        protocol::{Reply, Request, decode, event_line, excerpt, reply_line},
    },
    ctl::render,
};

/// Takes any bytes. Panics when a promise is broken.
pub fn run(data: &[u8]) {
    framing(data);
    request(data);
    reply(data);
    if let Ok(text) = std::str::from_utf8(data) {
        harmless(&excerpt(text));
        // A quoted character may take ten, and three dots tell that there was more.
        assert!(excerpt(text).len() <= 120 * 10 + 3);
        harmless(&render::clean(text));
        harmless_lines(&render::words(text));
    }
}

/// How the bytes were cut does not matter. The first two say how.
fn framing(data: &[u8]) {
    let [cap, step, data @ ..] = data else {
        return;
    };
    let (cap, step) = (usize::from(*cap), usize::from(*step).max(1));
    let whole = lines(cap, std::iter::once(data));
    assert_eq!(lines(cap, data.chunks(step)), whole);
    // Pieces that grow.
    let mut left = data;
    let mut size = 1;
    let growing = std::iter::from_fn(|| {
        let (piece, rest) = left.split_at(size.min(left.len()));
        (left, size) = (rest, size + step);
        (!piece.is_empty()).then_some(piece)
    });
    assert_eq!(lines(cap, growing), whole);
    for line in &whole.0 {
        assert!(line.len() <= cap && !line.contains(&b'\n'));
    }
}

/// The lines, and what is left without an end; `None` after a line that was too long.
fn lines<'a>(
    cap: usize,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Vec<Vec<u8>>, Option<Option<Vec<u8>>>) {
    let mut framing = Lines::new(cap);
    let mut found = Vec::new();
    for piece in pieces {
        framing.push(piece);
        loop {
            match framing.next_line() {
                Ok(Some(line)) => found.push(line),
                Ok(None) => break,
                Err(_) => return (found, None),
            }
        }
    }
    (found, Some(framing.rest()))
}

fn request(data: &[u8]) {
    match Request::from_line(data) {
        Ok(request) => {
            let line = one_line(&request.to_line());
            assert_eq!(Request::from_line(&line), Ok(request));
        }
        Err(refused) => {
            harmless(&refused.message);
            assert!(refused.message.len() < 2000, "{}", refused.message.len());
            // The refusal itself is a reply.
            let line = one_line(&reply_line(&Err(refused.clone())));
            let reply = Reply::from_line(&line).expect("our own refusal");
            assert_eq!(reply.outcome, Err(refused));
        }
    }
}

fn reply(data: &[u8]) {
    let reply = match Reply::from_line(data) {
        Ok(reply) => reply,
        Err(error) => return harmless(&error.to_string()),
    };
    harmless(&render::clean(&reply.version));
    let value = match reply.outcome {
        Ok(value) => value,
        Err(failure) => return harmless_lines(&render::words(&failure.message)),
    };
    if let Ok(event) = decode::<Event>(&value) {
        harmless_lines(&render::event(&event));
        let line = one_line(&event_line(&event));
        let again = Reply::from_line(&line).expect("our own event");
        assert!(again.is_event);
        assert_eq!(
            decode::<Event>(&again.outcome.unwrap()).as_ref(),
            Ok(&event)
        );
    }
    let shown = [
        decode(&value).map(|status| render::status(&status, "1")),
        decode(&value).map(|sessions| render::sessions(&sessions)),
        decode(&value).map(|session| render::session(&session)),
        decode(&value).map(|hung_up| render::hung_up(&hung_up)),
        decode(&value).map(|drain| render::drain(&drain)),
        decode(&value).map(|reloaded| render::reloaded(&reloaded)),
        decode(&value).map(|would| render::checked(&would)),
        decode(&value).map(|told| render::told(&told)),
        decode(&value).map(|paused| render::paused(&paused)),
        decode(&value).map(|transferring| render::transferring(&transferring)),
    ];
    for text in shown {
        match text {
            Ok(text) => harmless_lines(&text),
            Err(error) => harmless(&error.to_string()),
        }
    }
}

/// One line with its end; returns it without.
fn one_line(line: &[u8]) -> Vec<u8> {
    let (end, line) = line.split_last().expect("a line");
    assert!(*end == b'\n' && !line.contains(&b'\n'));
    line.to_owned()
}

fn harmless(text: &str) {
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

fn harmless_lines(text: &str) {
    text.split('\n').for_each(harmless);
}
