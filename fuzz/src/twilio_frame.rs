//! The frames of a Media Stream, from a Twilio that sends what it likes, and those we answer with.
//!
//! Nothing panics; what is understood is what a plain reading of the same JSON finds there; what is
//! refused is refused in few words that repeat nothing of it; no `Debug` shows a key pressed, a
//! parameter or audio. What we write is what the telephone, who reads Twilio's protocol for itself,
//! takes to the letter, and what it writes is what we understand.

use hume_bridge::{
    sim::phone::wire,
    twilio::{
        StreamSid,
        media::{Inbound, MAX_PARAMETERS, ParseError, Start, Writer, decode_payload, parse},
    },
};
use serde_json::Value;

/// Takes any bytes. Panics when a promise is broken.
pub fn run(data: &[u8]) {
    audio(data);
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    frame(text);
    payload(text);
    words(text);
}

fn frame(text: &str) {
    let inbound = match parse(text) {
        Ok(inbound) => inbound,
        Err(error) => return refused(error, text),
    };
    let shown = format!("{inbound:?}");
    // Hiding what is secret does not change what is shown.
    assert_eq!(format!("{:?}", hidden(&inbound)), shown);
    if let Inbound::Start(start) = &inbound {
        if let Err(wrong) = start.check_format() {
            harmless(&wrong.to_string());
        }
        assert!(start.custom_parameters.len() <= MAX_PARAMETERS);
    }
    // A second reading. It gives up on numbers that no f64 holds and the like, which stand in
    // fields that nobody asked for.
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        same(&inbound, &value);
    }
}

fn refused(error: ParseError, text: &str) {
    let told = error.to_string();
    harmless(&told);
    assert!(told.len() < 200, "{told}");
    if let ParseError::Json { column } = error {
        assert!(column <= text.len() + 1, "column {column}");
    }
}

/// Whatever must not be seen, replaced.
fn hidden<'a>(inbound: &Inbound<'a>) -> Inbound<'a> {
    let mut hidden = inbound.clone();
    match &mut hidden {
        Inbound::Media { payload, .. } => *payload = "A".repeat(payload.len()).into(),
        Inbound::Dtmf { digit } => *digit = if *digit == '7' { '8' } else { '7' },
        Inbound::Start(start) => {
            let parameters = std::mem::take(&mut start.custom_parameters);
            let numbered = (0..parameters.len()).map(|n| (n.to_string(), "hidden".to_owned()));
            start.custom_parameters = numbered.collect();
        }
        _ => {}
    }
    hidden
}

fn same(inbound: &Inbound<'_>, value: &Value) {
    assert!(value.is_object(), "{value}");
    let event = value["event"].as_str().expect("an event has a name");
    match inbound {
        Inbound::Connected => assert_eq!(event, "connected"),
        Inbound::Stop => assert_eq!(event, "stop"),
        Inbound::Unknown => assert!(
            !["connected", "start", "media", "mark", "dtmf", "stop"].contains(&event),
            "{event}"
        ),
        Inbound::Mark { name } => {
            assert_eq!(event, "mark");
            assert_eq!(value["mark"]["name"], **name);
        }
        Inbound::Dtmf { digit } => {
            assert_eq!(event, "dtmf");
            assert_eq!(value["dtmf"]["digit"], digit.to_string());
            assert!("0123456789*#ABCD".contains(*digit));
        }
        Inbound::Media {
            timestamp_ms,
            chunk,
            track_inbound,
            payload,
        } => {
            assert_eq!(event, "media");
            let media = &value["media"];
            assert_eq!(media["payload"], **payload);
            assert_eq!(*timestamp_ms, number(&media["timestamp"]));
            assert_eq!(*chunk, number(&media["chunk"]));
            let track = media["track"].as_str().unwrap_or("inbound");
            assert_eq!(
                *track_inbound,
                track == "inbound" || track == "inbound_track"
            );
        }
        Inbound::Start(start) => {
            assert_eq!(event, "start");
            started(start, value);
        }
    }
}

fn started(start: &Start, value: &Value) {
    let body = &value["start"];
    assert_eq!(body["accountSid"], *start.account_sid);
    assert_eq!(body["callSid"], start.call_sid.as_str());
    let inner = body["streamSid"].as_str().filter(|sid| !sid.is_empty());
    let sid = inner.or(value["streamSid"].as_str());
    assert_eq!(sid, Some(start.stream_sid.as_str()));
    let format = &body["mediaFormat"];
    assert_eq!(format["encoding"], *start.encoding);
    assert_eq!(
        number(&format["sampleRate"]),
        Some(start.sample_rate.into())
    );
    if !format["channels"].is_null() {
        assert_eq!(number(&format["channels"]), Some(start.channels.into()));
    }
    let parameters = body["customParameters"].as_object();
    assert_eq!(
        parameters.map_or(0, |all| all.len()),
        start.custom_parameters.len()
    );
    for (name, value) in parameters.into_iter().flatten() {
        assert_eq!(
            value.as_str(),
            start.custom_parameters.get(name).map(|v| &**v)
        );
    }
}

/// As Twilio writes numbers, or as its imitators do.
fn number(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => text.parse().ok(),
        value => value.as_u64(),
    }
}

/// Either all of it, in one spelling, or nothing.
fn payload(text: &str) {
    let mut out = vec![9];
    match decode_payload(text, &mut out) {
        Ok(()) => {
            assert!(out.len() - 1 <= text.len() / 4 * 3 + 2);
            let again = base64_simd::STANDARD.encode_to_string(&out[1..]);
            let bare = |text: &str| text.trim_end_matches('=').to_owned();
            assert_eq!(bare(&again), bare(text));
        }
        Err(error) => {
            assert_eq!(out, [9]);
            harmless(&error.to_string());
        }
    }
    assert_eq!(out[0], 9);
}

fn sid() -> StreamSid {
    "MZ0123456789abcdef0123456789abcdef".parse().unwrap()
}

/// Any bytes are audio.
fn audio(data: &[u8]) {
    let sid = sid();
    let text = Writer::new(sid.clone()).media(data);
    assert_eq!(text.capacity(), text.len());
    match wire::read(&text, sid.as_str()) {
        Ok(read) => assert_eq!(read, wire::Inbound::Media(data.to_owned())),
        // It would not want silence of no length, nor the head of a sound file as a noise.
        Err(_) => assert!(
            data.is_empty() || data.starts_with(b"RIFF") || data.starts_with(b".snd"),
            "{text}"
        ),
    }
    let mut frame = [0xff; 160];
    frame
        .iter_mut()
        .zip(data)
        .for_each(|(to, from)| *to = *from);
    for bare_numbers in [false, true] {
        let mut twilio = wire::Writer::new(sid.to_string(), bare_numbers);
        let text = twilio.media(data.len() as u64, &frame);
        let Ok(Inbound::Media {
            timestamp_ms,
            chunk,
            track_inbound: true,
            payload,
        }) = parse(&text)
        else {
            panic!("{text}");
        };
        assert_eq!((timestamp_ms, chunk), (Some(data.len() as u64), Some(1)));
        let mut back = Vec::new();
        decode_payload(&payload, &mut back).unwrap();
        assert_eq!(back, frame);
    }
}

/// Any text is a mark's name, a parameter or, with some luck, a stream's SID.
fn words(text: &str) {
    let visible: String = text.chars().take(64).collect();
    let sid = match visible.parse::<StreamSid>() {
        Ok(sid) => {
            assert_eq!(sid.as_str(), visible);
            sid
        }
        Err(error) => {
            harmless(&error.to_string());
            sid()
        }
    };
    let writer = Writer::new(sid.clone());
    let mark = writer.mark(text);
    assert_eq!(mark.capacity(), mark.len());
    match wire::read(&mark, sid.as_str()) {
        Ok(read) => {
            let name = text.replace(|c| c < ' ', "\u{fffd}");
            assert_eq!(read, wire::Inbound::Mark(name));
        }
        Err(_) => assert!(text.is_empty(), "{mark}"),
    }
    assert_eq!(
        wire::read(&writer.clear(), sid.as_str()),
        Ok(wire::Inbound::Clear)
    );

    let mut twilio = wire::Writer::new(sid.to_string(), false);
    let mark = twilio.mark(text);
    assert_eq!(parse(&mark), Ok(Inbound::Mark { name: text.into() }));
    const CALL: &str = "CA0123456789abcdef0123456789abcdef";
    let parameters = [("token".to_owned(), text.to_owned())];
    let start = twilio.start("AC1", CALL, &parameters);
    let Ok(Inbound::Start(start)) = parse(&start) else {
        panic!("{start}");
    };
    assert_eq!(start.check_format(), Ok(()));
    assert_eq!(start.custom_parameters, parameters.into());
    assert_eq!((start.stream_sid, start.call_sid.as_str()), (sid, CALL));
    for digit in text
        .chars()
        .filter(|c| "0123456789*#ABCD".contains(*c))
        .take(4)
    {
        assert_eq!(parse(&twilio.dtmf(digit)), Ok(Inbound::Dtmf { digit }));
    }
    assert_eq!(parse(&twilio.stop("AC1", CALL)), Ok(Inbound::Stop));
}

fn harmless(text: &str) {
    assert!(!text.chars().any(char::is_control), "{text:?}");
}
