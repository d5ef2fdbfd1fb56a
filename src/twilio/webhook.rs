//! Twilio's webhooks: the form that comes with a call, and what is needed of it.
//!
//! [`Form`] keeps every field, known or not, in order and untrimmed, because the signature covers
//! them all and Twilio adds fields without notice (Twilio docs, "Webhooks security"). It refuses
//! what could not be signed faithfully: text that is not UTF-8 once decoded, and more fields than
//! any webhook has. How long a body may be is for the HTTP side to bound before it comes here.
//!
//! [`CallRequest`] is the part of a voice webhook that the bridge acts on. Verify the signature over
//! the form first; nothing here does.

use std::fmt;

use super::{CallSid, is_sid, mask_number};

/// A voice webhook has some 30 fields; SIP headers may add as many again.
pub const MAX_FIELDS: usize = 512;

/// Longest `From` and `To`: a SIP URI with parameters is well below.
const MAX_ADDRESS: usize = 512;

/// The decoded fields of a form body or a query string.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Form(Vec<(String, String)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    #[error("the form has more than {MAX_FIELDS} fields")]
    TooManyFields,
    #[error("a field of the form is not UTF-8")]
    NotUtf8,
}

impl Form {
    /// `application/x-www-form-urlencoded`, a POST's body or a GET's query without the `?`.
    pub fn parse(encoded: &[u8]) -> Result<Form, FormError> {
        let mut pairs = Vec::new();
        for field in encoded
            .split(|byte| *byte == b'&')
            .filter(|field| !field.is_empty())
        {
            if pairs.len() == MAX_FIELDS {
                return Err(FormError::TooManyFields);
            }
            let mut halves = field.splitn(2, |byte| *byte == b'=');
            let name = decode(halves.next().unwrap_or_default())?;
            let value = decode(halves.next().unwrap_or_default())?;
            pairs.push((name, value));
        }
        Ok(Form(pairs))
    }

    /// The first value of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// All fields, as the signature wants them.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// Back to a body: for whoever plays Twilio.
    pub fn to_urlencoded(&self) -> String {
        form_urlencoded::Serializer::new(String::new())
            .extend_pairs(&self.0)
            .finish()
    }
}

impl From<Vec<(String, String)>> for Form {
    fn from(pairs: Vec<(String, String)>) -> Self {
        Form(pairs)
    }
}

/// Fields hold numbers and names of people: only how many there are is shown.
impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Form({} fields)", self.0.len())
    }
}

/// As the URL standard has it, but for one thing: `form_urlencoded` replaces broken UTF-8 silently,
/// and a replaced character is one that nobody signed.
fn decode(encoded: &[u8]) -> Result<String, FormError> {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let [first, tail @ ..] = rest {
        rest = tail;
        bytes.push(match first {
            b'+' => b' ',
            b'%' => match tail {
                [high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    rest = tail;
                    hex(*high) << 4 | hex(*low)
                }
                _ => b'%',
            },
            plain => *plain,
        });
    }
    String::from_utf8(bytes).map_err(|_| FormError::NotUtf8)
}

/// The value of a hexadecimal digit.
fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// Who started the call, seen from Twilio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Inbound,
    OutboundApi,
    OutboundDial,
    /// Absent, or one of the values that exist for trunks.
    Other,
}

impl Direction {
    pub fn of(form: &Form) -> Direction {
        match form.get("Direction") {
            Some("inbound") => Direction::Inbound,
            Some("outbound-api") => Direction::OutboundApi,
            Some("outbound-dial") => Direction::OutboundDial,
            _ => Direction::Other,
        }
    }

    /// The operator placed the call, and somebody has answered.
    pub fn is_outbound(self) -> bool {
        matches!(self, Direction::OutboundApi | Direction::OutboundDial)
    }

    /// How the fields begin that are about whoever talks to the agent, and those about the operator's number.
    pub fn ends(self) -> (&'static str, &'static str) {
        match self.is_outbound() {
            true => ("To", "From"),
            false => ("From", "To"),
        }
    }
}

/// What a voice webhook says about its call.
#[derive(Clone, PartialEq, Eq)]
pub struct CallRequest {
    pub call_sid: CallSid,
    /// `AC` and 32 hexadecimal digits.
    pub account_sid: String,
    /// Whoever talks to the agent: who calls, or who answers a call that the operator has placed. E.164, a
    /// SIP or client address, or a word such as `anonymous`; may be empty.
    pub from: String,
    /// The operator's number or address.
    pub to: String,
    pub direction: Direction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallRequestError {
    #[error("the webhook has no {0}; is this URL set as a voice webhook?")]
    Missing(&'static str),
    #[error("the webhook's {0} is not what Twilio sends")]
    Invalid(&'static str),
}

impl CallRequest {
    pub fn from_form(form: &Form) -> Result<CallRequest, CallRequestError> {
        let field = |name| form.get(name).ok_or(CallRequestError::Missing(name));
        let call_sid = field("CallSid")?
            .parse()
            .map_err(|_| CallRequestError::Invalid("CallSid"))?;
        let account_sid = field("AccountSid")?;
        if !is_sid(account_sid, "AC") {
            return Err(CallRequestError::Invalid("AccountSid"));
        }
        let address = |name| match field(name)? {
            text if text.len() > MAX_ADDRESS || text.chars().any(char::is_control) => {
                Err(CallRequestError::Invalid(name))
            }
            text => Ok(text.to_owned()),
        };
        // A withheld number is a word here; should it ever be nothing, the call still deserves an
        // answer.
        let direction = Direction::of(form);
        let (caller, ours) = direction.ends();
        let from = address(caller)?;
        let to = address(ours)?;
        if to.is_empty() {
            return Err(CallRequestError::Invalid(ours));
        }
        Ok(CallRequest {
            call_sid,
            account_sid: account_sid.to_owned(),
            from,
            to,
            direction,
        })
    }
}

/// Numbers are masked; the SIDs are what support is asked about.
impl fmt::Debug for CallRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallRequest")
            .field("call_sid", &self.call_sid)
            .field("account_sid", &self.account_sid)
            .field("from", &mask_number(&self.from))
            .field("to", &mask_number(&self.to))
            .field("direction", &self.direction)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INCOMING: &str = "AccountSid=AC0123456789abcdef0123456789abcdef&ApiVersion=2010-04-01\
        &CallSid=CA0123456789abcdef0123456789abcdef&CallStatus=ringing&Called=%2B15557654321\
        &Caller=%2B15551234567&Direction=inbound&From=%2B15551234567&FromCity=SAN+JOS%C3%89\
        &FromZip=&To=%2B15557654321";

    fn with(name: &str, value: Option<&str>) -> Form {
        let mut pairs = Form::parse(INCOMING.as_bytes()).unwrap().0;
        pairs.retain(|(key, _)| key != name);
        pairs.extend(value.map(|value| (name.to_owned(), value.to_owned())));
        Form(pairs)
    }

    #[test]
    fn an_incoming_call_is_understood() {
        let form = Form::parse(INCOMING.as_bytes()).unwrap();
        assert_eq!(form.get("FromCity"), Some("SAN JOS\u{c9}"));
        assert_eq!(form.get("FromZip"), Some(""));
        assert_eq!(form.get("fromzip"), None);
        assert_eq!(form.pairs().len(), 11);
        assert_eq!(form.to_urlencoded(), INCOMING);

        let call = CallRequest::from_form(&form).unwrap();
        assert_eq!(call.call_sid.as_str(), "CA0123456789abcdef0123456789abcdef");
        assert_eq!(call.account_sid, "AC0123456789abcdef0123456789abcdef");
        assert_eq!(
            (call.from.as_str(), call.to.as_str()),
            ("+15551234567", "+15557654321")
        );
        assert_eq!(call.direction, Direction::Inbound);
    }

    #[test]
    fn a_log_line_with_a_call_in_it_shows_nobodys_number() {
        let form = Form::parse(INCOMING.as_bytes()).unwrap();
        let call = CallRequest::from_form(&form).unwrap();
        let shown = format!("{form:?} {call:?}");
        assert!(
            shown.contains("Form(11 fields)") && shown.contains("+15******567"),
            "{shown}"
        );
        assert!(
            !shown.contains("5551234") && !shown.contains("5557654"),
            "{shown}"
        );
    }

    #[test]
    fn a_withheld_or_unusual_caller_is_still_a_caller() {
        for from in [
            "anonymous",
            "",
            "sip:alice@example.com;transport=tls",
            "client:bob",
        ] {
            assert_eq!(
                CallRequest::from_form(&with("From", Some(from)))
                    .unwrap()
                    .from,
                from
            );
        }
        for (sent, direction) in [
            (Some("outbound-api"), Direction::OutboundApi),
            (Some("outbound-dial"), Direction::OutboundDial),
            (Some("trunking-terminating"), Direction::Other),
            (None, Direction::Other),
        ] {
            let call = CallRequest::from_form(&with("Direction", sent)).unwrap();
            assert_eq!(call.direction, direction);
        }
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        use CallRequestError::{Invalid, Missing};
        for name in ["CallSid", "AccountSid", "From", "To"] {
            assert_eq!(
                CallRequest::from_form(&with(name, None)),
                Err(Missing(name))
            );
        }
        let long = "9".repeat(513);
        for (name, wrong) in [
            ("CallSid", ""),
            ("CallSid", "CA123"),
            ("AccountSid", "CA0123456789abcdef0123456789abcdef"),
            ("From", "+1555\r\nX: y"),
            ("To", ""),
            ("To", &long),
        ] {
            assert_eq!(
                CallRequest::from_form(&with(name, Some(wrong))),
                Err(Invalid(name))
            );
        }
        assert_eq!(
            CallRequest::from_form(&Form::default()),
            Err(Missing("CallSid"))
        );
    }

    #[test]
    fn forms_decode_as_the_url_standard_says() {
        for text in [
            "",
            "&",
            "&&a=b&&",
            "=",
            "a",
            "a=",
            "=b",
            "a=b=c",
            "a+b=c+d",
            "a%20b=%2b",
            "%",
            "%4",
            "%zz=%1",
            "a=%25",
            "%E2%82%AC=\u{20ac}",
            "a=%00",
            "a=%EF%BF%BD",
            "a=1;b=2",
        ] {
            let oracle: Vec<_> = form_urlencoded::parse(text.as_bytes())
                .into_owned()
                .collect();
            assert_eq!(Form::parse(text.as_bytes()).unwrap().0, oracle, "{text}");
        }
    }

    #[test]
    fn text_that_nobody_could_have_signed_is_refused() {
        for wrong in [
            &b"a=%FF"[..],
            b"a=\xff",
            b"%C3=1",
            b"a=%C3%28",
            b"a=%ED%A0%80",
        ] {
            assert_eq!(Form::parse(wrong), Err(FormError::NotUtf8));
        }
    }

    #[test]
    fn a_flood_of_fields_is_refused() {
        assert_eq!(
            Form::parse("a=1&".repeat(512).as_bytes())
                .unwrap()
                .pairs()
                .len(),
            512
        );
        assert_eq!(
            Form::parse("a=1&".repeat(513).as_bytes()),
            Err(FormError::TooManyFields)
        );
        assert_eq!(
            Form::parse("a&".repeat(1_000_000).as_bytes()),
            Err(FormError::TooManyFields)
        );
    }
}
