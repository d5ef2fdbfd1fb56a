//! Twilio's wires: webhooks and their signatures, TwiML, Media Streams, REST.
//!
//! All but [`rest`] is sans-I/O: bytes in, values out, no runtime and no log. What arrives here
//! comes from the public internet, so every parser is bounded, none panics, and no `Debug` or error
//! message repeats a telephone number, a token, a pressed key or audio.
//!
//! A request is believed only after [`signature`] has said so, and a media socket only after its
//! `start` has brought a [`token`] that this account's bridge minted.

use std::{fmt, str::FromStr};

pub mod media;
pub mod rest;
pub mod signature;
pub mod token;
pub mod twiml;
pub mod webhook;

/// Twilio's name for a call: `CA` and 32 hexadecimal digits.
///
/// Small enough to copy; case is kept as Twilio wrote it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallSid([u8; 34]);

impl CallSid {
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a CallSid is made of ASCII only")
    }
}

impl FromStr for CallSid {
    type Err = SidError;

    fn from_str(text: &str) -> Result<Self, SidError> {
        if !is_sid(text, "CA") {
            return Err(SidError::Call);
        }
        let bytes = text.as_bytes().try_into().map_err(|_| SidError::Call)?;
        Ok(CallSid(bytes))
    }
}

impl fmt::Display for CallSid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for CallSid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallSid({})", self.as_str())
    }
}

/// Twilio's name for one Media Stream, usually `MZ` and 32 hexadecimal digits.
///
/// It goes back to Twilio inside hand-written JSON ([`media::Writer`]), so it holds 1 to 64 visible
/// ASCII characters and neither quote nor backslash; more is not asked of it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamSid(Box<str>);

impl StreamSid {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for StreamSid {
    type Err = SidError;

    fn from_str(text: &str) -> Result<Self, SidError> {
        let plain = |b: u8| b.is_ascii_graphic() && b != b'"' && b != b'\\';
        if (1..=64).contains(&text.len()) && text.bytes().all(plain) {
            Ok(StreamSid(text.into()))
        } else {
            Err(SidError::Stream)
        }
    }
}

impl fmt::Display for StreamSid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for StreamSid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamSid({})", self.0)
    }
}

/// Text that is no SID. Says what one looks like, never what was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SidError {
    #[error("a CallSid is CA followed by 32 hexadecimal digits")]
    Call,
    #[error("a StreamSid is 1 to 64 visible ASCII characters without quotes and backslashes")]
    Stream,
}

/// `prefix` and 32 hexadecimal digits (Twilio's OpenAPI description, path patterns).
fn is_sid(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix)
        .is_some_and(|digits| digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// What may be shown of a caller's or callee's address: enough to recognise one's own test call,
/// not enough to ring anybody.
///
/// `+61412345678` becomes `+61******678`. Words that Twilio puts where a number was withheld stay
/// as they are; of a SIP address only the host remains; anything else becomes stars.
pub fn mask_number(address: &str) -> String {
    const WITHHELD: [&str; 5] = [
        "anonymous",
        "private",
        "restricted",
        "unavailable",
        "unknown",
    ];

    let digits = address.strip_prefix('+').unwrap_or(address);
    if !digits.is_empty() && digits.len() <= 32 && digits.bytes().all(|b| b.is_ascii_digit()) {
        let (head, tail) = match address.len() {
            10.. => (3, 3),
            5..10 => (0, 2),
            _ => (0, 0),
        };
        let stars = address.len() - head - tail;
        let end = address.len() - tail;
        return format!(
            "{}{}{}",
            &address[..head],
            "*".repeat(stars),
            &address[end..]
        );
    }
    if address.is_empty() {
        return String::new();
    }
    if let Some(word) = WITHHELD
        .iter()
        .find(|word| address.eq_ignore_ascii_case(word))
    {
        return (*word).to_owned();
    }
    match address.split_once(':') {
        Some((scheme @ ("sip" | "sips"), rest)) => match rest.rsplit_once('@') {
            // Parameters behind the host may hold numbers, and anything else may hold anything.
            Some((_, host)) => {
                let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
                let host: String = host.chars().take_while(plain).take(64).collect();
                format!("{scheme}:***@{host}")
            }
            None => format!("{scheme}:***"),
        },
        Some(("client", _)) => "client:***".to_owned(),
        _ => "***".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_sid_is_taken_as_twilio_writes_it_and_nothing_else_is() {
        let text = "CA0123456789abcdef0123456789ABCDEF";
        let sid: CallSid = text.parse().unwrap();
        assert_eq!(sid.as_str(), text);
        assert_eq!(sid.to_string(), text);
        assert_eq!(format!("{sid:?}"), format!("CallSid({text})"));

        for wrong in [
            "",
            "CA",
            "CA0123456789abcdef0123456789ABCDE",
            "CA0123456789abcdef0123456789ABCDEF0",
            "ca0123456789abcdef0123456789ABCDEF",
            "MZ0123456789abcdef0123456789ABCDEF",
            "CA0123456789abcdef0123456789ABCDEg",
            "CA0123456789abcdef0123456789ABCDé",
            " CA0123456789abcdef0123456789ABCDE",
        ] {
            assert_eq!(wrong.parse::<CallSid>(), Err(SidError::Call), "{wrong}");
        }
    }

    #[test]
    fn a_stream_sid_can_never_break_out_of_the_json_it_is_written_into() {
        let long = "Z".repeat(64);
        for right in ["MZ0123456789abcdef0123456789abcdef", "x", long.as_str()] {
            assert_eq!(right.parse::<StreamSid>().unwrap().as_str(), right);
        }
        let too_long = "Z".repeat(65);
        for wrong in [
            "",
            "a\"b",
            "a\\b",
            "a b",
            "a\n",
            "MZé",
            "\u{7f}",
            too_long.as_str(),
        ] {
            assert_eq!(
                wrong.parse::<StreamSid>(),
                Err(SidError::Stream),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn masked_numbers_can_be_recognised_but_not_rung() {
        for (shown, masked) in [
            ("+61412345678", "+61******678"),
            ("+15551234567", "+15******567"),
            ("61412345678", "614*****678"),
            ("+12345", "****45"),
            ("12345", "***45"),
            ("000", "***"),
            ("+", "***"),
            ("", ""),
            ("anonymous", "anonymous"),
            ("Restricted", "restricted"),
            (
                "sip:+61412345678@pbx.example.com;user=phone",
                "sip:***@pbx.example.com",
            ),
            ("sip:x@evil\r\nhost", "sip:***@evil"),
            ("sips:alice", "sips:***"),
            ("client:alice", "client:***"),
            ("tel:+61412345678", "***"),
            ("+6141234567é", "***"),
            ("Jane Citizen", "***"),
        ] {
            assert_eq!(mask_number(shown), masked, "{shown}");
        }
        assert_eq!(mask_number(&"1".repeat(100_000)), "***");
    }
}
