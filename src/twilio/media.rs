//! The frames of a Media Stream: one JSON object a text frame, both ways.
//!
//! [`parse`] reads what Twilio sends. Fifty audio frames a second arrive per call, so that path is
//! one pass into borrowed, typed fields; everything else is rare and may be read twice. Unknown
//! events and unknown fields are ignored, numbers may come as strings (as Twilio sends them) or as
//! numbers, and anything malformed is an error that repeats nothing of the message.
//!
//! [`Writer`] builds what Twilio accepts, to the letter: a missing or an extra field makes Twilio
//! ignore the message (Twilio docs, error 31951). One allocation a message.
//!
//! Messages above [`MAX_MESSAGE`] are refused, so nothing here can grow with a peer's wishes.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};

use super::{CallSid, StreamSid};

/// The longest message read, in bytes. Twilio's audio messages have some 400.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// The most custom parameters in a `start`.
pub const MAX_PARAMETERS: usize = 64;

/// What Twilio says on a Media Stream.
#[derive(Clone, PartialEq, Eq)]
pub enum Inbound<'a> {
    /// The first message; says nothing yet.
    Connected,
    /// The second: which call this is.
    Start(Box<Start>),
    /// The caller's voice, usually 20 ms.
    Media {
        /// Since the stream began. The first one is not 0, and steps are not exactly 20.
        timestamp_ms: Option<u64>,
        /// Counts media messages from 1.
        chunk: Option<u64>,
        track_inbound: bool,
        /// Base64 of mu-law; see [`decode_payload`].
        payload: Cow<'a, str>,
    },
    /// A mark of ours: what was queued before it has been played, or was cleared.
    Mark { name: Cow<'a, str> },
    /// A key the caller pressed: `0`-`9`, `*`, `#`, `A`-`D`.
    Dtmf { digit: char },
    /// The stream is over; the socket closes next.
    Stop,
    /// Something that Twilio has added since.
    Unknown,
}

/// Audio, keys pressed and parameters (a token is among them) stay out of logs.
impl fmt::Debug for Inbound<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Inbound::Connected => f.write_str("Connected"),
            Inbound::Start(start) => f.debug_tuple("Start").field(start).finish(),
            Inbound::Media {
                timestamp_ms,
                chunk,
                track_inbound,
                payload,
            } => f
                .debug_struct("Media")
                .field("timestamp_ms", timestamp_ms)
                .field("chunk", chunk)
                .field("track_inbound", track_inbound)
                .field("payload_len", &payload.len())
                .finish(),
            Inbound::Mark { name } => f.debug_struct("Mark").field("name", name).finish(),
            Inbound::Dtmf { .. } => f.write_str("Dtmf(..)"),
            Inbound::Stop => f.write_str("Stop"),
            Inbound::Unknown => f.write_str("Unknown"),
        }
    }
}

/// What a stream says about itself when it starts. Nothing of it is proven until its token is.
#[derive(Clone, PartialEq, Eq)]
pub struct Start {
    pub account_sid: String,
    pub call_sid: CallSid,
    pub stream_sid: StreamSid,
    pub encoding: String,
    pub sample_rate: u32,
    pub channels: u32,
    /// The `<Parameter>`s of the TwiML.
    pub custom_parameters: BTreeMap<String, String>,
}

impl Start {
    /// Only the format that the bridge speaks: mu-law, 8 kHz, mono.
    pub fn check_format(&self) -> Result<(), FormatError> {
        if self.encoding == "audio/x-mulaw" && self.sample_rate == 8000 && self.channels == 1 {
            return Ok(());
        }
        Err(FormatError {
            encoding: self.encoding.chars().take(40).collect(),
            sample_rate: self.sample_rate,
            channels: self.channels,
        })
    }
}

impl fmt::Debug for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Start")
            .field("account_sid", &self.account_sid)
            .field("call_sid", &self.call_sid)
            .field("stream_sid", &self.stream_sid)
            .field("encoding", &self.encoding)
            .field("sample_rate", &self.sample_rate)
            .field("channels", &self.channels)
            .field("custom_parameters", &self.custom_parameters.len())
            .finish()
    }
}

/// The stream is in a format that was never asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the stream is {encoding:?} at {sample_rate} Hz with {channels} channels, not audio/x-mulaw at \
     8000 Hz with one: remove audioFormat and sampleRate from the TwiML"
)]
pub struct FormatError {
    encoding: String,
    sample_rate: u32,
    channels: u32,
}

/// A message that is not one of Twilio's. Says where, never what: the text may hold a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("a media stream message has {0} bytes, more than {MAX_MESSAGE}")]
    TooLong(usize),
    #[error("a media stream message is not JSON from column {column} on")]
    Json { column: usize },
    #[error("a media stream message has no usable {what}")]
    Shape { what: &'static str },
    #[error("the stream's start has more than {MAX_PARAMETERS} custom parameters")]
    TooManyParameters,
    #[error("a media payload is not base64")]
    Payload,
}

/// Reads one text frame.
pub fn parse(text: &str) -> Result<Inbound<'_>, ParseError> {
    if text.len() > MAX_MESSAGE {
        return Err(ParseError::TooLong(text.len()));
    }
    // serde would read a struct from an array as well.
    if !text.trim_ascii_start().starts_with('{') {
        return Err(ParseError::Json { column: 1 });
    }
    // Audio, in one pass. A message of another event may well not fit this shape.
    if let Ok(AudioMessage {
        event,
        media: Some(media),
    }) = serde_json::from_str(text)
        && event == "media"
    {
        return Ok(Inbound::Media {
            timestamp_ms: media.timestamp.0,
            chunk: media.chunk.0,
            track_inbound: matches!(&*media.track, "inbound" | "inbound_track"),
            payload: media.payload,
        });
    }
    let head: Head<'_> = read(text, "event")?;
    match &*head.event {
        "connected" => Ok(Inbound::Connected),
        "start" => {
            let message: StartMessage = read(text, "start")?;
            message
                .into_start()
                .map(|start| Inbound::Start(Box::new(start)))
        }
        "mark" => {
            let message: MarkMessage<'_> = read(text, "mark")?;
            Ok(Inbound::Mark {
                name: message.mark.name,
            })
        }
        "dtmf" => {
            let message: DtmfMessage<'_> = read(text, "dtmf")?;
            let mut digits = message.dtmf.digit.chars();
            match (digits.next(), digits.next()) {
                (Some(digit @ ('0'..='9' | '*' | '#' | 'A'..='D')), None) => {
                    Ok(Inbound::Dtmf { digit })
                }
                _ => Err(ParseError::Shape { what: "dtmf digit" }),
            }
        }
        "stop" => Ok(Inbound::Stop),
        // Only here when it did not fit above.
        "media" => Err(ParseError::Shape { what: "media" }),
        _ => Ok(Inbound::Unknown),
    }
}

/// Decodes a payload and appends it. Padding may be missing; on an error `out` is as it was.
pub fn decode_payload(payload: &str, out: &mut Vec<u8>) -> Result<(), ParseError> {
    if payload.len() > MAX_MESSAGE {
        return Err(ParseError::TooLong(payload.len()));
    }
    let base64 = match payload.ends_with('=') {
        true => base64_simd::STANDARD,
        false => base64_simd::STANDARD_NO_PAD,
    };
    base64
        .decode_append(payload, out)
        .map_err(|_| ParseError::Payload)
}

/// `what` names the part that this reading is about, should it not fit.
fn read<'a, T: Deserialize<'a>>(text: &'a str, what: &'static str) -> Result<T, ParseError> {
    // The error's own words quote the message; only its place is kept.
    serde_json::from_str(text).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => ParseError::Shape { what },
        _ => ParseError::Json {
            column: error.column(),
        },
    })
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
}

#[derive(Deserialize)]
struct AudioMessage<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    media: Option<Audio<'a>>,
}

#[derive(Deserialize)]
struct Audio<'a> {
    // Not an Option: serde would copy the text of one.
    #[serde(borrow, default = "inbound")]
    track: Cow<'a, str>,
    #[serde(default)]
    chunk: Number,
    #[serde(default)]
    timestamp: Number,
    #[serde(borrow)]
    payload: Cow<'a, str>,
}

fn inbound<'a>() -> Cow<'a, str> {
    Cow::Borrowed("inbound")
}

#[derive(Deserialize)]
struct MarkMessage<'a> {
    #[serde(borrow)]
    mark: Mark<'a>,
}

#[derive(Deserialize)]
struct Mark<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

#[derive(Deserialize)]
struct DtmfMessage<'a> {
    #[serde(borrow)]
    dtmf: Dtmf<'a>,
}

#[derive(Deserialize)]
struct Dtmf<'a> {
    #[serde(borrow)]
    digit: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StartMessage {
    /// The same again inside `start`, where it counts.
    #[serde(default)]
    stream_sid: String,
    start: StartBody,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StartBody {
    account_sid: String,
    call_sid: String,
    #[serde(default)]
    stream_sid: String,
    media_format: MediaFormat,
    #[serde(default)]
    custom_parameters: Parameters,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MediaFormat {
    encoding: String,
    sample_rate: Number,
    #[serde(default = "mono")]
    channels: Number,
}

fn mono() -> Number {
    Number(Some(1))
}

impl StartMessage {
    fn into_start(self) -> Result<Start, ParseError> {
        let shape = |what| ParseError::Shape { what };
        let StartMessage {
            stream_sid: outer,
            start,
        } = self;
        let stream_sid = match start.stream_sid.is_empty() {
            true => outer,
            false => start.stream_sid,
        };
        let number = |number: Number| number.0.and_then(|value| u32::try_from(value).ok());
        Ok(Start {
            account_sid: start.account_sid,
            call_sid: start.call_sid.parse().map_err(|_| shape("callSid"))?,
            stream_sid: stream_sid.parse().map_err(|_| shape("streamSid"))?,
            encoding: start.media_format.encoding,
            sample_rate: number(start.media_format.sample_rate).ok_or(shape("sampleRate"))?,
            channels: number(start.media_format.channels).ok_or(shape("channels"))?,
            custom_parameters: start
                .custom_parameters
                .0
                .ok_or(ParseError::TooManyParameters)?,
        })
    }
}

/// A whole number, or the text of one. What is neither of use counts as absent: these are clocks
/// and counters, and a call is worth more than they are.
#[derive(Clone, Copy, Default)]
struct Number(Option<u64>);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberVisitor;

        impl Visitor<'_> for NumberVisitor {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or a string")
            }

            fn visit_str<E>(self, text: &str) -> Result<Number, E> {
                Ok(Number(text.parse().ok()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Number, E> {
                Ok(Number(Some(number)))
            }

            fn visit_i64<E>(self, _negative: i64) -> Result<Number, E> {
                Ok(Number(None))
            }

            fn visit_f64<E>(self, _fraction_or_huge: f64) -> Result<Number, E> {
                Ok(Number(None))
            }

            fn visit_unit<E>(self) -> Result<Number, E> {
                Ok(Number(None))
            }
        }

        deserializer.deserialize_any(NumberVisitor)
    }
}

/// `customParameters`; `None` when there are too many of them.
struct Parameters(Option<BTreeMap<String, String>>);

impl Default for Parameters {
    fn default() -> Self {
        Parameters(Some(BTreeMap::new()))
    }
}

impl<'de> Deserialize<'de> for Parameters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ParametersVisitor;

        impl<'de> Visitor<'de> for ParametersVisitor {
            type Value = Parameters;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_unit<E>(self) -> Result<Parameters, E> {
                Ok(Parameters::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parameters, A::Error> {
                let mut parameters = BTreeMap::new();
                let mut count = 0;
                while let Some((name, value)) = map.next_entry::<String, String>()? {
                    count += 1;
                    if count <= MAX_PARAMETERS && parameters.insert(name, value).is_some() {
                        // The token is among them: which of two is meant must not be a guess.
                        return Err(A::Error::custom("a custom parameter comes twice"));
                    }
                }
                Ok(Parameters((count <= MAX_PARAMETERS).then_some(parameters)))
            }
        }

        deserializer.deserialize_any(ParametersVisitor)
    }
}

/// Writes to one stream.
#[derive(Clone, Debug)]
pub struct Writer {
    stream_sid: StreamSid,
}

impl Writer {
    pub fn new(stream_sid: StreamSid) -> Self {
        Writer { stream_sid }
    }

    /// Audio for the caller: raw mu-law, 8 kHz, mono, as much as there is. Twilio queues it.
    pub fn media(&self, mulaw: &[u8]) -> String {
        const HEAD: &str = r#"{"event":"media","streamSid":""#;
        const MIDDLE: &str = r#"","media":{"payload":""#;
        const TAIL: &str = r#""}}"#;
        let sid = self.stream_sid.as_str();
        let payload = base64_simd::STANDARD.encoded_length(mulaw.len());
        let mut text =
            String::with_capacity(HEAD.len() + sid.len() + MIDDLE.len() + payload + TAIL.len());
        text.push_str(HEAD);
        text.push_str(sid);
        text.push_str(MIDDLE);
        base64_simd::STANDARD.encode_append(mulaw, &mut text);
        text.push_str(TAIL);
        text
    }

    /// Comes back as [`Inbound::Mark`] when all audio before it has been played or cleared.
    pub fn mark(&self, name: &str) -> String {
        const HEAD: &str = r#"{"event":"mark","streamSid":""#;
        const MIDDLE: &str = r#"","mark":{"name":""#;
        const TAIL: &str = r#""}}"#;
        let sid = self.stream_sid.as_str();
        let escaped: usize = name
            .chars()
            .map(|letter| escape(letter).map_or(letter.len_utf8(), str::len))
            .sum();
        let mut text =
            String::with_capacity(HEAD.len() + sid.len() + MIDDLE.len() + escaped + TAIL.len());
        text.push_str(HEAD);
        text.push_str(sid);
        text.push_str(MIDDLE);
        for letter in name.chars() {
            match escape(letter) {
                Some(escaped) => text.push_str(escaped),
                None => text.push(letter),
            }
        }
        text.push_str(TAIL);
        text
    }

    /// Throws away all audio that the caller has not heard yet.
    pub fn clear(&self) -> String {
        [
            r#"{"event":"clear","streamSid":""#,
            self.stream_sid.as_str(),
            r#""}"#,
        ]
        .concat()
    }
}

/// What must not stand in a JSON string as it is. Mark names are ours; a control character in one
/// is a mistake that shall not cost the message, so it becomes a replacement character.
fn escape(letter: char) -> Option<&'static str> {
    match letter {
        '"' => Some("\\\""),
        '\\' => Some("\\\\"),
        '\0'..='\u{1f}' => Some("\\ufffd"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECTED: &str = r#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#;
    const START: &str = r#"{"event":"start","sequenceNumber":"1","start":{"accountSid":"AC0123456789abcdef0123456789abcdef","streamSid":"MZ0123456789abcdef0123456789abcdef","callSid":"CA0123456789abcdef0123456789abcdef","tracks":["inbound"],"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1},"customParameters":{"token":"v1.1000.abc","from":"+15551234567"}},"streamSid":"MZ0123456789abcdef0123456789abcdef"}"#;
    const MEDIA: &str = r#"{"event":"media","sequenceNumber":"2","media":{"track":"inbound","chunk":"1","timestamp":"155","payload":"fn+A/w=="},"streamSid":"MZ0123456789abcdef0123456789abcdef"}"#;
    const DTMF: &str = r#"{"event":"dtmf","streamSid":"MZ0123456789abcdef0123456789abcdef","sequenceNumber":"5","dtmf":{"track":"inbound_track","digit":"1"}}"#;
    const MARK: &str = r#"{"event":"mark","sequenceNumber":"4","streamSid":"MZ0123456789abcdef0123456789abcdef","mark":{"name":"g1-s2"}}"#;
    const STOP: &str = r#"{"event":"stop","sequenceNumber":"378","streamSid":"MZ0123456789abcdef0123456789abcdef","stop":{"accountSid":"AC0123456789abcdef0123456789abcdef","callSid":"CA0123456789abcdef0123456789abcdef"}}"#;
    const ALL: [&str; 6] = [CONNECTED, START, MEDIA, DTMF, MARK, STOP];

    fn start(text: &str) -> Start {
        match parse(text) {
            Ok(Inbound::Start(start)) => *start,
            other => panic!("not a start: {other:?}"),
        }
    }

    fn audio<'a>(payload: &'a str, timestamp_ms: Option<u64>, chunk: Option<u64>) -> Inbound<'a> {
        Inbound::Media {
            timestamp_ms,
            chunk,
            track_inbound: true,
            payload: payload.into(),
        }
    }

    fn shape(what: &'static str) -> Result<Inbound<'static>, ParseError> {
        Err(ParseError::Shape { what })
    }

    #[test]
    fn a_whole_call_is_read() {
        assert_eq!(parse(CONNECTED), Ok(Inbound::Connected));
        let start = start(START);
        assert_eq!(start.account_sid, "AC0123456789abcdef0123456789abcdef");
        assert_eq!(
            start.call_sid.as_str(),
            "CA0123456789abcdef0123456789abcdef"
        );
        assert_eq!(
            start.stream_sid.as_str(),
            "MZ0123456789abcdef0123456789abcdef"
        );
        assert_eq!(start.custom_parameters["token"], "v1.1000.abc");
        assert_eq!(start.check_format(), Ok(()));
        assert_eq!(parse(MEDIA), Ok(audio("fn+A/w==", Some(155), Some(1))));
        assert_eq!(
            parse(MARK),
            Ok(Inbound::Mark {
                name: "g1-s2".into()
            })
        );
        assert_eq!(parse(DTMF), Ok(Inbound::Dtmf { digit: '1' }));
        assert_eq!(parse(STOP), Ok(Inbound::Stop));
    }

    #[test]
    fn audio_is_borrowed_from_the_frame_and_decodes() {
        let Ok(Inbound::Media {
            payload: Cow::Borrowed(payload),
            ..
        }) = parse(MEDIA)
        else {
            panic!("the payload was copied");
        };
        let mut mulaw = vec![1];
        decode_payload(payload, &mut mulaw).unwrap();
        assert_eq!(mulaw, [1, 0x7e, 0x7f, 0x80, 0xff]);

        // Some encoders escape the slash. That one copy is the price of JSON.
        let escaped = MEDIA
            .replace("A/w", "A\\/w")
            .replace(":\"media\"", ":\"\\u006dedia\"");
        assert_eq!(parse(&escaped), Ok(audio("fn+A/w==", Some(155), Some(1))));
    }

    #[test]
    fn a_log_line_with_a_frame_in_it_holds_no_audio_no_key_and_no_token() {
        let shown: String = ALL
            .iter()
            .map(|text| format!("{:?}", parse(text).unwrap()))
            .collect();
        assert!(shown.contains("custom_parameters: 2") && shown.contains("payload_len: 8"));
        for hidden in ["fn+A", "v1.1000", "+1555", "'1'"] {
            assert!(!shown.contains(hidden), "{shown}");
        }
    }

    #[test]
    fn numbers_may_be_text_and_text_may_be_numbers() {
        let numbers = MEDIA.replace("\"155\"", "155").replace("\"1\"", "1");
        assert_eq!(parse(&numbers), Ok(audio("fn+A/w==", Some(155), Some(1))));
        let text = START
            .replace("8000", "\"8000\"")
            .replace("\"channels\":1", "\"channels\":\"1\"");
        assert_eq!(start(&text).check_format(), Ok(()));
        // Clocks that are of no use do not cost the caller a syllable.
        for useless in [
            "-1",
            "1.5",
            "1e300",
            "18446744073709551616",
            "\"\"",
            "\"soon\"",
            "null",
        ] {
            let text = MEDIA.replace("\"155\"", useless);
            assert_eq!(
                parse(&text),
                Ok(audio("fn+A/w==", None, Some(1))),
                "{useless}"
            );
        }
        let bare = r#"{"event":"media","media":{"payload":"AA=="}}"#;
        assert_eq!(parse(bare), Ok(audio("AA==", None, None)));
        let huge = MEDIA.replace("\"155\"", "18446744073709551615");
        assert_eq!(parse(&huge), Ok(audio("fn+A/w==", Some(u64::MAX), Some(1))));
    }

    #[test]
    fn our_own_voice_on_the_outbound_track_is_told_apart() {
        for (track, expected) in [
            ("inbound", true),
            ("inbound_track", true),
            ("outbound", false),
            ("x", false),
        ] {
            let text = MEDIA.replace("\"inbound\"", &format!("\"{track}\""));
            let Ok(Inbound::Media { track_inbound, .. }) = parse(&text) else {
                panic!("{track}")
            };
            assert_eq!(track_inbound, expected, "{track}");
        }
    }

    #[test]
    fn what_twilio_adds_tomorrow_is_ignored() {
        for text in [
            r#"{"event":"weather","media":{"payload":5},"start":[],"mark":null}"#,
            r#"{"event":""}"#,
            r#"{"event":"Media"}"#,
            r#"{"x":1,"event":"error","error":{"code":31951}}"#,
        ] {
            assert_eq!(parse(text), Ok(Inbound::Unknown), "{text}");
        }
        let extra = MEDIA.replace("{\"track\"", "{\"new\":[{\"a\":null}],\"track\"");
        assert_eq!(parse(&extra), Ok(audio("fn+A/w==", Some(155), Some(1))));
        assert_eq!(parse(r#"{"event":"stop","stop":7}"#), Ok(Inbound::Stop));
        assert_eq!(
            parse(r#" {"event":"connected","media":7} "#),
            Ok(Inbound::Connected)
        );
    }

    #[test]
    fn a_start_without_its_extras_is_still_a_start() {
        let bare = START
            .replace(
                r#","customParameters":{"token":"v1.1000.abc","from":"+15551234567"}"#,
                "",
            )
            .replace(
                r#""streamSid":"MZ0123456789abcdef0123456789abcdef","callSid""#,
                "\"callSid\"",
            );
        let bare = start(&bare);
        assert_eq!(
            bare.stream_sid.as_str(),
            "MZ0123456789abcdef0123456789abcdef"
        );
        assert!(bare.custom_parameters.is_empty());
    }

    #[test]
    fn a_start_that_lies_about_itself_is_refused() {
        for (from, to, what) in [
            ("CA0123456789abcdef", "CA", "callSid"),
            ("\"callSid\"", "\"sid\"", "start"),
            ("\"streamSid\":\"MZ", "\"streamSid\":\"\\\"", "streamSid"),
            ("8000", "-8000", "sampleRate"),
            ("8000", "1e99", "sampleRate"),
            ("8000", "4294967296", "sampleRate"),
            ("8000", "[]", "start"),
            ("\"channels\":1", "\"channels\":null", "channels"),
            ("\"+15551234567\"", "15551234567", "start"),
            ("\"from\"", "\"token\"", "start"),
        ] {
            assert_eq!(
                parse(&START.replace(from, to)),
                shape(what),
                "{from} -> {to}"
            );
        }
        assert_eq!(parse(r#"{"event":"start"}"#), shape("start"));
        assert_eq!(parse(r#"{"event":"start","start":null}"#), shape("start"));
    }

    #[test]
    fn a_flood_of_parameters_is_refused() {
        let with = |count: usize| {
            let list: Vec<String> = (0..count).map(|n| format!("\"p{n}\":\"v\"")).collect();
            START.replace(
                "\"token\":\"v1.1000.abc\",\"from\":\"+15551234567\"",
                &list.join(","),
            )
        };
        assert_eq!(start(&with(64)).custom_parameters.len(), 64);
        assert_eq!(parse(&with(65)), Err(ParseError::TooManyParameters));
        assert_eq!(parse(&with(3_000)), Err(ParseError::TooManyParameters));
        let same = "\"a\":\"b\",".repeat(65);
        let same = START.replace("\"token\"", &format!("{same}\"token\""));
        assert_eq!(parse(&same), shape("start"));
    }

    #[test]
    fn another_format_is_named_without_trusting_its_name() {
        for (from, to) in [
            ("audio/x-mulaw", "audio/x-alaw"),
            ("8000", "16000"),
            ("\"channels\":1", "\"channels\":2"),
        ] {
            assert!(
                start(&START.replace(from, to)).check_format().is_err(),
                "{to}"
            );
        }
        let hostile = "x\\n\\u001b[31m".repeat(100);
        let error = start(&START.replace("audio/x-mulaw", &hostile))
            .check_format()
            .unwrap_err();
        let words = error.to_string();
        assert!(
            words.len() < 400 && !words.chars().any(char::is_control),
            "{words}"
        );
    }

    #[test]
    fn keys_are_the_sixteen_that_a_telephone_has() {
        for digit in "0123456789*#ABCD".chars() {
            let text = DTMF.replace("\"1\"", &format!("\"{digit}\""));
            assert_eq!(parse(&text), Ok(Inbound::Dtmf { digit }));
        }
        for wrong in ["\"\"", "\"12\"", "\"E\"", "\"\\n\"", "\"\u{661}\""] {
            assert_eq!(
                parse(&DTMF.replace("\"1\"", wrong)),
                shape("dtmf digit"),
                "{wrong}"
            );
        }
        for wrong in ["1", "null", "[]"] {
            assert_eq!(
                parse(&DTMF.replace("\"1\"", wrong)),
                shape("dtmf"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_message_cut_at_any_byte_is_an_error() {
        for text in ALL {
            for end in 0..text.len() {
                assert!(parse(&text[..end]).is_err(), "{}", &text[..end]);
            }
        }
    }

    #[test]
    fn wrong_types_everywhere_are_errors_and_never_panics() {
        let junk = [
            "null",
            "true",
            "0",
            "-1",
            "1e308",
            "\"\"",
            "[]",
            "{}",
            "[{}]",
            "{\"a\":{}}",
        ];
        for event in [
            "connected",
            "start",
            "media",
            "mark",
            "dtmf",
            "stop",
            "other",
        ] {
            for junk in junk {
                let text = format!(r#"{{"event":"{event}","{event}":{junk}}}"#);
                let carries = matches!(event, "start" | "media" | "mark" | "dtmf");
                assert_eq!(parse(&text).is_err(), carries, "{text}");
            }
        }
        for junk in junk {
            if !junk.starts_with('{') {
                assert!(parse(junk).is_err());
            }
            if junk != "\"\"" {
                assert_eq!(parse(&format!("{{\"event\":{junk}}}")), shape("event"));
                let text = MEDIA.replace("\"fn+A/w==\"", junk);
                assert_eq!(parse(&text), shape("media"), "{text}");
            }
        }
        assert_eq!(parse("{}"), shape("event"));
        assert_eq!(
            parse(r#"["media",{"payload":"AA=="}]"#),
            Err(ParseError::Json { column: 1 })
        );
        assert_eq!(parse(&MEDIA.replace("\"155\"", "{}")), shape("media"));
        assert_eq!(parse(r#"{"event":"stop","event":"stop"}"#), shape("event"));
        assert!(parse("{\"event\":\"stop\"} {}").is_err());
        assert!(parse("{\"event\":\"\\ud800\"}").is_err());
    }

    #[test]
    fn an_error_repeats_nothing_of_the_message() {
        let text = START
            .replace("\"v1.1000.abc\"", "[\"v1.1000.abc\"]")
            .replace("8000", "\"v1.\"");
        let words = parse(&text).unwrap_err().to_string();
        assert_eq!(words, "a media stream message has no usable start");
    }

    #[test]
    fn depth_and_length_are_bounded() {
        let deep = format!(r#"{{"event":"media","media":{}"#, "[".repeat(60_000));
        assert!(parse(&deep).is_err());
        let deep = format!(
            r#"{{"x":{}{},"event":"stop"}}"#,
            "[".repeat(30_000),
            "]".repeat(30_000)
        );
        assert!(matches!(
            parse(&deep),
            Ok(Inbound::Stop) | Err(ParseError::Json { .. })
        ));
        let long = format!("{{\"event\":\"stop\"}}{}", " ".repeat(MAX_MESSAGE));
        assert_eq!(parse(&long), Err(ParseError::TooLong(long.len())));
    }

    #[test]
    fn payloads_decode_with_or_without_padding_and_leave_nothing_behind_when_they_do_not() {
        let mut out = vec![9];
        for (payload, bytes) in [
            ("", &b""[..]),
            ("QQ==", b"A"),
            ("QQ", b"A"),
            ("QUI=", b"AB"),
            ("QUI", b"AB"),
            ("QUJD", b"ABC"),
        ] {
            out.truncate(1);
            decode_payload(payload, &mut out).unwrap();
            assert_eq!(out[1..], *bytes, "{payload}");
        }
        out.truncate(1);
        for wrong in [
            "Q", "=", "====", "Q===", "QQ=", "QQ==QQ==", "QUJ\n", "QU D", "QUJ-", "\u{e9}Q",
        ] {
            assert_eq!(
                decode_payload(wrong, &mut out),
                Err(ParseError::Payload),
                "{wrong}"
            );
            assert_eq!(out, [9]);
        }
        let long = "A".repeat(MAX_MESSAGE + 4);
        assert_eq!(
            decode_payload(&long, &mut out),
            Err(ParseError::TooLong(long.len()))
        );
    }

    #[test]
    fn what_we_send_is_to_the_letter_and_allocated_once() {
        let writer = Writer::new("MZ0123456789abcdef0123456789abcdef".parse().unwrap());
        let media = writer.media(&[0x7e, 0x7f, 0x80, 0xff]);
        assert_eq!(
            media,
            r#"{"event":"media","streamSid":"MZ0123456789abcdef0123456789abcdef","media":{"payload":"fn+A/w=="}}"#
        );
        let mark = writer.mark("g1-s2");
        assert_eq!(
            mark,
            r#"{"event":"mark","streamSid":"MZ0123456789abcdef0123456789abcdef","mark":{"name":"g1-s2"}}"#
        );
        let clear = writer.clear();
        assert_eq!(
            clear,
            r#"{"event":"clear","streamSid":"MZ0123456789abcdef0123456789abcdef"}"#
        );
        for text in [media, mark, clear] {
            assert_eq!(text.capacity(), text.len());
        }
        for length in 0..500 {
            let text = writer.media(&vec![0x55; length]);
            assert_eq!(text.capacity(), text.len());
            let Ok(Inbound::Media { payload, .. }) = parse(&text) else {
                panic!("{text}")
            };
            let mut back = Vec::new();
            decode_payload(&payload, &mut back).unwrap();
            assert_eq!(back, vec![0x55; length]);
        }
    }

    #[test]
    fn a_mark_with_a_silly_name_is_still_json() {
        let writer = Writer::new("MZ1".parse().unwrap());
        for (name, back) in [
            ("", ""),
            ("\"},{\\", "\"},{\\"),
            ("caf\u{e9} \u{1f600}", "caf\u{e9} \u{1f600}"),
            ("a\nb\0", "a\u{fffd}b\u{fffd}"),
        ] {
            let text = writer.mark(name);
            assert_eq!(text.capacity(), text.len());
            assert_eq!(parse(&text), Ok(Inbound::Mark { name: back.into() }));
        }
    }
}
