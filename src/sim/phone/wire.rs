//! The messages of Media Streams, from Twilio's side: its own written with exactly Twilio's types, the peer's
//! read with nothing missing, nothing extra and nothing mis-spelt.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::{Deserialize, Deserializer};

use crate::sim::speech::FRAME_SAMPLES;

/// A message from the peer that Twilio would act upon.
#[derive(Debug, PartialEq, Eq)]
pub enum Inbound {
    /// Decoded mu-law.
    Media(Vec<u8>),
    Mark(String),
    Clear,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow, rename = "streamSid")]
    stream_sid: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    media: Option<RawMedia<'a>>,
    #[serde(default, deserialize_with = "present")]
    mark: Option<RawMark>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMedia<'a> {
    #[serde(borrow)]
    payload: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMark {
    name: String,
}

/// A key that is there must have its value: `null` is none.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Reads one text message; the error is what Twilio's debugger would say.
pub fn read(text: &str, stream_sid: &str) -> Result<Inbound, String> {
    let raw: Raw =
        serde_json::from_str(text).map_err(|error| format!("31951: {error}: {}", excerpt(text)))?;
    if raw.stream_sid != stream_sid {
        return Err(format!(
            "31951: streamSid {:?} is not this stream's",
            raw.stream_sid
        ));
    }
    match (&*raw.event, raw.media, raw.mark) {
        ("media", Some(media), None) => {
            let audio = base64_simd::STANDARD
                .decode_to_vec(media.payload.as_bytes())
                .map_err(|_| {
                    format!("31951: payload is not base64: {}", excerpt(&media.payload))
                })?;
            if audio.is_empty() {
                return Err("31951: payload is empty".to_owned());
            }
            if audio.starts_with(b"RIFF") || audio.starts_with(b".snd") {
                return Err(
                    "payload begins with the header of a sound file, not with mu-law".to_owned(),
                );
            }
            Ok(Inbound::Media(audio))
        }
        ("mark", None, Some(mark)) if mark.name.is_empty() => {
            Err("31951: a mark without a name".to_owned())
        }
        ("mark", None, Some(mark)) => Ok(Inbound::Mark(mark.name)),
        ("clear", None, None) => Ok(Inbound::Clear),
        _ => Err(format!(
            "31951: missing, extra or unknown: {}",
            excerpt(text)
        )),
    }
}

/// Enough of a peer's text to recognise it, with nothing in it that could disturb a terminal.
pub fn excerpt(text: &str) -> String {
    let mut end = text.len().min(120);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!(
        "{:?}{}",
        &text[..end],
        if end < text.len() { "..." } else { "" }
    )
}

/// Writes Twilio's side of one stream and counts its messages.
pub struct Writer {
    stream_sid: String,
    sequence: u64,
    chunk: u64,
    /// Around numbers: Twilio sends them as strings.
    quote: &'static str,
}

impl Writer {
    pub fn new(stream_sid: String, bare_numbers: bool) -> Self {
        Self {
            stream_sid,
            sequence: 0,
            chunk: 0,
            quote: if bare_numbers { "" } else { "\"" },
        }
    }

    pub fn stream_sid(&self) -> &str {
        &self.stream_sid
    }

    /// How many media messages there were.
    pub fn chunks(&self) -> u64 {
        self.chunk
    }

    pub fn connected() -> String {
        r#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#.to_owned()
    }

    fn open(&mut self, event: &str) -> String {
        self.sequence += 1;
        let mut text = String::with_capacity(400);
        let quote = self.quote;
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            r#"{{"event":"{event}","sequenceNumber":{quote}{}{quote},"#,
            self.sequence
        );
        text
    }

    fn close(&self, mut text: String) -> String {
        let _ = write!(text, r#","streamSid":"{}"}}"#, self.stream_sid);
        text
    }

    pub fn start(
        &mut self,
        account_sid: &str,
        call_sid: &str,
        parameters: &[(String, String)],
    ) -> String {
        let custom: serde_json::Map<_, _> = parameters
            .iter()
            .map(|(name, value)| (name.clone(), value.clone().into()))
            .collect();
        let start = serde_json::json!({
            "accountSid": account_sid,
            "streamSid": self.stream_sid,
            "callSid": call_sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": custom,
        });
        let mut text = self.open("start");
        let _ = write!(text, r#""start":{start}"#);
        self.close(text)
    }

    pub fn media(&mut self, timestamp_ms: u64, payload: &[u8; FRAME_SAMPLES]) -> String {
        self.chunk += 1;
        let mut text = self.open("media");
        let quote = self.quote;
        let _ = write!(
            text,
            r#""media":{{"track":"inbound","chunk":{quote}{}{quote},"timestamp":{quote}{timestamp_ms}{quote},"payload":""#,
            self.chunk
        );
        base64_simd::STANDARD.encode_append(payload, &mut text);
        text.push_str("\"}");
        self.close(text)
    }

    pub fn dtmf(&mut self, digit: char) -> String {
        let mut text = self.open("dtmf");
        let _ = write!(
            text,
            r#""dtmf":{{"track":"inbound_track","digit":"{digit}"}}"#
        );
        self.close(text)
    }

    pub fn mark(&mut self, name: &str) -> String {
        let mut text = self.open("mark");
        let _ = write!(
            text,
            r#""mark":{{"name":{}}}"#,
            serde_json::Value::from(name)
        );
        self.close(text)
    }

    pub fn stop(&mut self, account_sid: &str, call_sid: &str) -> String {
        let mut text = self.open("stop");
        let _ = write!(
            text,
            r#""stop":{{"accountSid":"{account_sid}","callSid":"{call_sid}"}}"#
        );
        self.close(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_three_messages() {
        let sid = "MZ1";
        assert_eq!(
            read(
                r#"{"event":"media","streamSid":"MZ1","media":{"payload":"\/\/9\/"}}"#,
                sid
            ),
            Ok(Inbound::Media(vec![0xff, 0xff, 0x7f]))
        );
        assert_eq!(
            read(
                r#"{"event":"mark","streamSid":"MZ1","mark":{"name":"é"}}"#,
                sid
            ),
            Ok(Inbound::Mark("é".into()))
        );
        assert_eq!(
            read(r#"{"event":"clear","streamSid":"MZ1"}"#, sid),
            Ok(Inbound::Clear)
        );
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            r#"{"event":"clear","streamSid":"MZ2"}"#,
            r#"{"event":"clear","stream_sid":"MZ1"}"#,
            r#"{"event":"clear","streamSid":"MZ1","media":null}"#,
            r#"{"event":"clear","streamSid":"MZ1","streamSid":"MZ1"}"#,
            r#"{"event":"clear"}"#,
            r#"{"event":"hangup","streamSid":"MZ1"}"#,
            r#"{"event":"mark","streamSid":"MZ1"}"#,
            r#"{"event":"mark","streamSid":"MZ1","mark":{"name":""}}"#,
            r#"{"event":"mark","streamSid":"MZ1","mark":{"name":7}}"#,
            r#"{"event":"media","streamSid":"MZ1","media":{"payload":"//8="},"mark":{"name":"m"}}"#,
            r#"{"event":"media","streamSid":"MZ1","media":{"payload":"//8=","track":"outbound"}}"#,
            r#"{"event":"media","streamSid":"MZ1","media":{"payload":"//8"}}"#,
            r#"{"event":"media","streamSid":"MZ1","media":{"payload":"!!!!"}}"#,
            r#"{"event":"media","streamSid":"MZ1","media":{"payload":""}}"#,
            r#"{"event":"media","streamSid":"MZ1","media":{"payload":"UklGRgAAAAA="}}"#,
            "hello",
            "",
            "[]",
        ] {
            assert!(read(text, "MZ1").is_err(), "{text}");
        }
    }

    #[test]
    fn writes_strings_and_numbers_as_twilio_does() {
        let mut writer = Writer::new("MZ1".into(), false);
        let start = writer.start("AC1", "CA1", &[("token".into(), "a\"b".into())]);
        let parsed: serde_json::Value = serde_json::from_str(&start).unwrap();
        assert_eq!(parsed["sequenceNumber"], "1");
        assert_eq!(parsed["start"]["mediaFormat"]["sampleRate"], 8000);
        assert_eq!(parsed["start"]["customParameters"]["token"], "a\"b");
        // 160 bytes are 53 groups of three and one byte.
        let payload = format!("{}/w==", "/".repeat(212));
        let media = r#"{"event":"media","sequenceNumber":"2","media":{"track":"inbound","chunk":"1","timestamp":"102","payload":"P"},"streamSid":"MZ1"}"#;
        assert_eq!(
            writer.media(102, &[0xff; 160]),
            media.replace('P', &payload)
        );
        assert!(
            writer
                .dtmf('#')
                .contains(r##""dtmf":{"track":"inbound_track","digit":"#"}"##)
        );
        assert!(writer.mark("a\"b").contains(r#""mark":{"name":"a\"b"}"#));
        assert_eq!(
            writer.stop("AC1", "CA1"),
            r#"{"event":"stop","sequenceNumber":"5","stop":{"accountSid":"AC1","callSid":"CA1"},"streamSid":"MZ1"}"#
        );
        assert!(
            Writer::new("MZ1".into(), true)
                .dtmf('1')
                .contains(r#""sequenceNumber":1,"#)
        );
    }

    #[test]
    fn an_excerpt_ends_at_a_character() {
        assert!(excerpt(&"é".repeat(200)).ends_with("\"..."));
        assert_eq!(excerpt("a\u{1b}"), r#""a\u{1b}""#);
    }
}
