//! TwiML: what the bridge answers to a voice webhook.
//!
//! A handful of documents, written by hand because there are so few, with everything that is not a
//! literal escaped. Characters that XML 1.0 cannot hold are left out. The limits that Twilio
//! states are kept by refusing to write what exceeds them (Twilio docs, "TwiML Stream", errors 11750
//! and 32018): 500 characters for name and value of a `<Parameter>`, 64 kB for a document, 4000
//! characters for one that takes the way of the REST API.
//!
//! Nothing ever stands behind `<Connect>` or a transfer's `<Dial>`: the `action` URL is asked what
//! comes next, so a call never goes on by accident after the bridge has left it.

use std::{fmt::Write as _, time::Duration};

/// Twilio writes 64 kB; taken at its shorter reading.
const MAX_DOCUMENT: usize = 64_000;
/// Name and value of a `<Parameter>` together stay below this.
const MAX_PARAMETER: usize = 500;
/// What is spoken or dialled by the documents that cannot fail, in characters. No document gets
/// near its limit with that, however it is escaped.
const MAX_WORDS: usize = 4_000;
/// Of a document that is sent to a live call by the REST API, in characters.
pub const MAX_REST: usize = 4_000;
/// As many keys as the REST API lets a new call sound; of `<Play digits>` no limit is written down.
const MAX_KEYS: usize = 32;
/// E.164, whose shortest numbers in use have seven.
const NUMBER_DIGITS: std::ops::RangeInclusive<usize> = 7..=15;
/// How long `<Dial>` can be told to ring.
const RING: std::ops::RangeInclusive<u64> = 5..=600;
/// What a callee has to press a key after the announcement; it is made twice.
const PRESS_SECONDS: u32 = 8;

const OPEN: &str = r#"<?xml version="1.0" encoding="UTF-8"?><Response>"#;
const CLOSE: &str = "</Response>";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TwimlError {
    #[error(
        "the stream parameter {name:?} has {length} characters, name and value together must stay below 500"
    )]
    ParameterTooLong { name: String, length: usize },
    #[error("the TwiML has {length} bytes, Twilio takes 64 kB: shorten what is said")]
    DocumentTooLong { length: usize },
    #[error("the TwiML has {length} characters, Twilio's REST API takes 4000")]
    TooLongForRest { length: usize },
    #[error("the media stream's URL has a query or a fragment, which Twilio does not keep")]
    StreamUrl,
    #[error("keys to be sounded are 1 to 32 of 0-9, A-D, * and #, and w and W to wait")]
    Keys,
    #[error("a number to be called is + and 7 to 15 digits, the first of them not 0")]
    Number,
}

/// Connects the call's audio to a WebSocket of ours, both ways.
#[derive(Clone, Copy)]
pub struct ConnectStream<'a> {
    /// Spoken by Twilio before the stream begins.
    pub say: Option<&'a str>,
    /// Asked, by POST, what comes next when the stream is over.
    pub action: &'a str,
    /// `wss://`, without a query: secrets travel as parameters.
    pub stream_url: &'a str,
    /// Told, by POST, when the stream starts, stops or fails.
    pub status_callback: &'a str,
    /// Come back as `customParameters` in the stream's `start`.
    pub parameters: &'a [(&'a str, &'a str)],
}

impl ConnectStream<'_> {
    pub fn to_xml(&self) -> Result<String, TwimlError> {
        let xml = self.document(None)?;
        if xml.len() > MAX_DOCUMENT {
            return Err(TwimlError::DocumentTooLong { length: xml.len() });
        }
        Ok(xml)
    }

    /// The same once these keys have been sounded; short enough for the REST API.
    pub fn after_keys(&self, keys: &str) -> Result<String, TwimlError> {
        let known =
            |key: char| key.is_ascii_digit() || matches!(key, 'A'..='D' | '*' | '#' | 'w' | 'W');
        if !(1..=MAX_KEYS).contains(&keys.chars().count()) || !keys.chars().all(known) {
            return Err(TwimlError::Keys);
        }
        for_rest(self.document(Some(keys))?)
    }

    fn document(&self, keys: Option<&str>) -> Result<String, TwimlError> {
        if self.stream_url.contains(['?', '#']) {
            return Err(TwimlError::StreamUrl);
        }
        let mut xml = String::from(OPEN);
        if let Some(keys) = keys {
            xml.push_str("<Play");
            attribute(&mut xml, "digits", keys);
            xml.push_str("/>");
        }
        if let Some(words) = self.say {
            element(&mut xml, "Say", words);
        }
        xml.push_str("<Connect");
        attribute(&mut xml, "action", self.action);
        attribute(&mut xml, "method", "POST");
        xml.push_str("><Stream");
        attribute(&mut xml, "url", self.stream_url);
        attribute(&mut xml, "statusCallback", self.status_callback);
        attribute(&mut xml, "statusCallbackMethod", "POST");
        xml.push('>');
        for (name, value) in self.parameters {
            let length = name.chars().count() + value.chars().count();
            if length >= MAX_PARAMETER {
                let name = name.chars().take(40).collect();
                return Err(TwimlError::ParameterTooLong { name, length });
            }
            xml.push_str("<Parameter");
            attribute(&mut xml, "name", name);
            attribute(&mut xml, "value", value);
            xml.push_str("/>");
        }
        xml.push_str("</Stream></Connect>");
        xml.push_str(CLOSE);
        Ok(xml)
    }
}

/// Puts the caller through to a number.
#[derive(Clone, Copy)]
pub struct Transfer<'a> {
    /// `+...`
    pub number: &'a str,
    /// What the callee sees, one of the account's own; without it Twilio shows them the caller's number.
    pub caller_id: Option<&'a str>,
    /// How long it rings, in whole seconds from 5 to 600.
    pub ring: Duration,
    /// Asked, by POST, what comes next when the callee has gone or has not come.
    pub action: &'a str,
    /// Asked, by POST, what the callee hears before they are connected; without it they are at once.
    pub announce: Option<&'a str>,
    /// Told, by POST, when the callee answers and when they are gone.
    pub status_callback: &'a str,
}

impl Transfer<'_> {
    /// Short enough for the REST API.
    pub fn to_xml(&self) -> Result<String, TwimlError> {
        if !is_number(self.number) {
            return Err(TwimlError::Number);
        }
        let ring = self.ring.as_secs().clamp(*RING.start(), *RING.end());
        let mut xml = String::from(OPEN);
        xml.push_str("<Dial");
        attribute(&mut xml, "action", self.action);
        attribute(&mut xml, "method", "POST");
        attribute(&mut xml, "timeout", &ring.to_string());
        attribute(&mut xml, "answerOnBridge", "true");
        if let Some(caller_id) = self.caller_id {
            attribute(&mut xml, "callerId", caller_id);
        }
        xml.push_str("><Number");
        if let Some(announce) = self.announce {
            attribute(&mut xml, "url", announce);
            attribute(&mut xml, "method", "POST");
        }
        attribute(&mut xml, "statusCallback", self.status_callback);
        attribute(&mut xml, "statusCallbackMethod", "POST");
        attribute(&mut xml, "statusCallbackEvent", "answered completed");
        let _ = write!(xml, ">{}</Number></Dial>{CLOSE}", self.number);
        for_rest(xml)
    }
}

/// For the callee of a transfer: says it, twice if need be, and asks `action`, by POST, what the key that
/// they press means. Who presses none is hung up on.
pub fn announce(text: &str, action: &str) -> String {
    let mut xml = String::from(OPEN);
    for _ in 0..2 {
        let _ = write!(xml, r#"<Gather numDigits="1" timeout="{PRESS_SECONDS}""#);
        attribute(&mut xml, "action", action);
        attribute(&mut xml, "method", "POST");
        xml.push('>');
        element(&mut xml, "Say", first_words(text));
        xml.push_str("</Gather>");
    }
    xml.push_str("<Hangup/>");
    xml.push_str(CLOSE);
    xml
}

fn for_rest(xml: String) -> Result<String, TwimlError> {
    match xml.chars().count() {
        length if length > MAX_REST => Err(TwimlError::TooLongForRest { length }),
        _ => Ok(xml),
    }
}

/// Ends the call.
pub fn hang_up() -> String {
    format!("{OPEN}<Hangup/>{CLOSE}")
}

/// Says something, then ends the call. Words beyond 4,000 characters are not said: half an apology
/// is better than Twilio's own error message.
pub fn say_and_hang_up(text: &str) -> String {
    let mut xml = String::from(OPEN);
    element(&mut xml, "Say", first_words(text));
    xml.push_str("<Hangup/>");
    xml.push_str(CLOSE);
    xml
}

/// Connects the caller to a number; the call ends when that conversation does.
pub fn dial(number: &str, caller_id: Option<&str>) -> String {
    let mut xml = format!("{OPEN}<Dial");
    if let Some(caller_id) = caller_id {
        attribute(&mut xml, "callerId", caller_id);
    }
    xml.push('>');
    escape(&mut xml, first_words(number));
    xml.push_str("</Dial>");
    xml.push_str(CLOSE);
    xml
}

/// Twilio shows a callee the caller's own number; a caller without one needs another, or is not connected
/// (error 13214): the number that they have called.
pub fn caller_id<'a>(from: &str, to: &'a str) -> Option<&'a str> {
    (!is_number(from) && is_number(to)).then_some(to)
}

/// `+`, a country code (none begins with 0) and more digits.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or_default();
    NUMBER_DIGITS.contains(&digits.len())
        && !digits.starts_with('0')
        && digits.bytes().all(|d| d.is_ascii_digit())
}

/// Refuses the call with a busy tone; nothing is billed.
pub fn reject_busy() -> String {
    format!(r#"{OPEN}<Reject reason="busy"/>{CLOSE}"#)
}

/// Refuses the call with a recorded "not in service"; nothing is billed.
pub fn reject() -> String {
    format!(r#"{OPEN}<Reject reason="rejected"/>{CLOSE}"#)
}

/// No instruction: the polite answer to a status callback; for a callee, to be connected.
pub fn empty() -> String {
    format!("{OPEN}{CLOSE}")
}

fn first_words(text: &str) -> &str {
    text.char_indices()
        .nth(MAX_WORDS)
        .map_or(text, |(end, _)| &text[..end])
}

fn element(xml: &mut String, name: &str, text: &str) {
    let _ = write!(xml, "<{name}>");
    escape(xml, text);
    let _ = write!(xml, "</{name}>");
}

fn attribute(xml: &mut String, name: &str, value: &str) {
    let _ = write!(xml, " {name}=\"");
    escape(xml, value);
    xml.push('"');
}

/// For text and double-quoted attributes alike. White space other than the blank is written by
/// number, or a parser would normalise it away.
fn escape(xml: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => xml.push_str("&amp;"),
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            '"' => xml.push_str("&quot;"),
            '\t' => xml.push_str("&#9;"),
            '\n' => xml.push_str("&#10;"),
            '\r' => xml.push_str("&#13;"),
            // Not XML 1.0 characters, not even when escaped.
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => {}
            plain => xml.push(plain),
        }
    }
}

#[cfg(test)]
mod tests {
    use roxmltree::Document;

    use super::*;

    fn stream<'a>(say: Option<&'a str>, parameters: &'a [(&'a str, &'a str)]) -> ConnectStream<'a> {
        ConnectStream {
            say,
            action: "https://bridge.example.com/voice/after",
            stream_url: "wss://bridge.example.com/media-stream",
            status_callback: "https://bridge.example.com/voice/stream",
            parameters,
        }
    }

    #[test]
    fn a_call_is_greeted_and_connected() {
        let parameters = [("token", "v1.1000.abc"), ("from", "+15551234567")];
        let xml = stream(Some("One moment, please."), &parameters)
            .to_xml()
            .unwrap();
        assert_eq!(
            xml,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response>\
             <Say>One moment, please.</Say>\
             <Connect action=\"https://bridge.example.com/voice/after\" method=\"POST\">\
             <Stream url=\"wss://bridge.example.com/media-stream\" \
             statusCallback=\"https://bridge.example.com/voice/stream\" \
             statusCallbackMethod=\"POST\">\
             <Parameter name=\"token\" value=\"v1.1000.abc\"/>\
             <Parameter name=\"from\" value=\"+15551234567\"/>\
             </Stream></Connect></Response>"
        );
        let document = Document::parse(&xml).unwrap();
        let last = document.root_element().last_element_child().unwrap();
        assert!(
            last.has_tag_name("Connect"),
            "the action URL decides what follows"
        );
    }

    #[test]
    fn the_short_answers() {
        let xml = |inner: &str| {
            format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response>{inner}</Response>")
        };
        assert_eq!(hang_up(), xml("<Hangup/>"));
        assert_eq!(say_and_hang_up("Sorry."), xml("<Say>Sorry.</Say><Hangup/>"));
        assert_eq!(dial("+61412345678", None), xml("<Dial>+61412345678</Dial>"));
        assert_eq!(
            dial(
                "+61412345678",
                caller_id("sip:ann@example.com", "+15550001111")
            ),
            xml("<Dial callerId=\"+15550001111\">+61412345678</Dial>")
        );
        assert_eq!(caller_id("+15550002222", "+15550001111"), None);
        for none in [
            "",
            "+",
            "+0",
            "+1",
            "+015550002222",
            "+155500",
            "15550002222",
        ] {
            let ours = caller_id(none, "+15550001111");
            assert_eq!(ours, Some("+15550001111"), "{none}");
        }
        assert_eq!(caller_id("anonymous", "sip:desk@example.com"), None);
        assert_eq!(reject_busy(), xml("<Reject reason=\"busy\"/>"));
        assert_eq!(reject(), xml("<Reject reason=\"rejected\"/>"));
        assert_eq!(empty(), xml(""));
    }

    #[test]
    fn whatever_is_said_or_passed_along_comes_out_as_it_went_in() {
        let nasty = "\"Tom\" & <Jerry>'s ]]> caf\u{e9} \u{1f600}\t\r\n <!-- </Say> &amp; \u{85}";
        let parameters = [("na\"me<&\n", nasty)];
        let xml = stream(Some(nasty), &parameters).to_xml().unwrap();
        let document = Document::parse(&xml).unwrap();
        let find = |name| {
            document
                .descendants()
                .find(|node| node.has_tag_name(name))
                .unwrap()
        };
        assert_eq!(find("Say").text(), Some(nasty));
        assert_eq!(find("Parameter").attribute("name"), Some("na\"me<&\n"));
        assert_eq!(find("Parameter").attribute("value"), Some(nasty));
        assert_eq!(
            document
                .descendants()
                .filter(|node| node.is_element())
                .count(),
            5
        );

        let forbidden = "a\0b\u{1}c\u{b}d\u{1f}e\u{fffe}f\u{ffff}g";
        let xml = say_and_hang_up(forbidden);
        let document = Document::parse(&xml).unwrap();
        assert_eq!(
            document
                .root_element()
                .first_element_child()
                .unwrap()
                .text(),
            Some("abcdefg")
        );
    }

    #[test]
    fn a_parameter_that_twilio_would_drop_is_an_error() {
        // The limit is in characters, and "token" has five.
        let fits = "\u{e9}".repeat(494);
        assert!(stream(None, &[("token", &fits)]).to_xml().is_ok());
        let long = "\u{e9}".repeat(495);
        let error = stream(None, &[("token", &long)]).to_xml().unwrap_err();
        assert_eq!(
            error,
            TwimlError::ParameterTooLong {
                name: "token".into(),
                length: 500
            }
        );
    }

    #[test]
    fn a_document_that_twilio_would_refuse_is_an_error() {
        let novel = "&".repeat(13_000);
        let error = stream(Some(&novel), &[]).to_xml().unwrap_err();
        assert!(
            matches!(error, TwimlError::DocumentTooLong { length: 65_000.. }),
            "{error}"
        );
    }

    #[test]
    fn an_endless_apology_is_cut_short_and_still_twiml() {
        for letter in ["&", "\u{1f600}", "\"", "x"] {
            let xml = say_and_hang_up(&letter.repeat(100_000));
            assert!(xml.len() < MAX_DOCUMENT);
            let document = Document::parse(&xml).unwrap();
            let said = document
                .root_element()
                .first_element_child()
                .unwrap()
                .text()
                .unwrap();
            assert_eq!(said.chars().count(), MAX_WORDS);
        }
    }

    #[test]
    fn keys_are_sounded_and_the_stream_begins_again() {
        let xml = stream(None, &[("token", "t")])
            .after_keys("ww12#*AWD")
            .unwrap();
        let document = Document::parse(&xml).unwrap();
        let verbs: Vec<_> = document.root_element().children().collect();
        assert_eq!(verbs[0].tag_name().name(), "Play");
        assert_eq!(verbs[0].attribute("digits"), Some("ww12#*AWD"));
        assert_eq!(verbs[0].attributes().len(), 1);
        assert_eq!(verbs[1].tag_name().name(), "Connect");
        assert_eq!(verbs.len(), 2);
        let plain = stream(None, &[("token", "t")]).to_xml().unwrap();
        assert_eq!(xml.replace("<Play digits=\"ww12#*AWD\"/>", ""), plain);

        let long = "1".repeat(33);
        for wrong in ["", "1 2", "1,2", "E", "a", "+1", "\u{661}", long.as_str()] {
            let error = stream(None, &[]).after_keys(wrong).unwrap_err();
            assert_eq!(error, TwimlError::Keys, "{wrong}");
        }
        assert!(stream(None, &[]).after_keys(&long[1..]).is_ok());
    }

    fn transfer<'a>(announce: Option<&'a str>, caller_id: Option<&'a str>) -> Transfer<'a> {
        Transfer {
            number: "+61400000007",
            caller_id,
            ring: Duration::from_secs(25),
            action: "https://bridge.example.com/voice/transferred",
            announce,
            status_callback: "https://bridge.example.com/voice/status",
        }
    }

    #[test]
    fn a_caller_is_put_through() {
        assert_eq!(
            transfer(None, None).to_xml().unwrap(),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response>\
             <Dial action=\"https://bridge.example.com/voice/transferred\" method=\"POST\" \
             timeout=\"25\" answerOnBridge=\"true\">\
             <Number statusCallback=\"https://bridge.example.com/voice/status\" \
             statusCallbackMethod=\"POST\" statusCallbackEvent=\"answered completed\">\
             +61400000007</Number></Dial></Response>"
        );
        let url = "https://bridge.example.com/voice/announce?call=CA1&x=2";
        let xml = transfer(Some(url), Some("+15557654321")).to_xml().unwrap();
        let document = Document::parse(&xml).unwrap();
        let dial = document.root_element().first_element_child().unwrap();
        assert_eq!(dial.attribute("callerId"), Some("+15557654321"));
        let number = dial.first_element_child().unwrap();
        assert_eq!(number.attribute("url"), Some(url));
        assert_eq!(number.attribute("method"), Some("POST"));
        assert_eq!(number.text(), Some("+61400000007"));
    }

    #[test]
    fn a_transfer_rings_as_long_as_twilio_lets_it() {
        for (asked, written) in [(0, "5"), (5, "5"), (600, "600"), (9_999, "600")] {
            let ring = Duration::from_secs(asked);
            let xml = Transfer {
                ring,
                ..transfer(None, None)
            }
            .to_xml()
            .unwrap();
            assert!(xml.contains(&format!(" timeout=\"{written}\" ")), "{xml}");
        }
    }

    #[test]
    fn only_a_number_is_called_and_the_error_does_not_tell_it() {
        for wrong in [
            "",
            "+",
            "61400000007",
            "+6140000000x",
            "+6140 000 007",
            "sip:desk@example.com",
            "+1234567890123456",
            "+61400000007</Number><Number>+1",
        ] {
            let transfer = Transfer {
                number: wrong,
                ..transfer(None, None)
            };
            let error = transfer.to_xml().unwrap_err();
            assert_eq!(error, TwimlError::Number, "{wrong}");
        }
        assert!(!TwimlError::Number.to_string().contains("614"));
    }

    #[test]
    fn what_the_rest_api_would_refuse_is_an_error() {
        let long = "\u{e9}".repeat(400);
        let parameters = [("a", long.as_str()); 10];
        let error = stream(None, &parameters).after_keys("1").unwrap_err();
        assert!(
            matches!(error, TwimlError::TooLongForRest { length: 4_001.. }),
            "{error}"
        );
        assert!(
            stream(None, &parameters).to_xml().is_ok(),
            "a webhook's answer may be longer"
        );
        // Characters are counted, not bytes.
        assert!(stream(None, &parameters[..8]).after_keys("1").is_ok());
    }

    #[test]
    fn a_callee_is_asked_twice_whether_they_take_the_call() {
        let nasty = "Tom & <Jerry> \"now\"\n]]> ";
        let url = "https://bridge.example.com/voice/accept?call=CA1&x=2";
        let xml = announce(nasty, url);
        let document = Document::parse(&xml).unwrap();
        let verbs: Vec<_> = document.root_element().children().collect();
        let names: Vec<_> = verbs.iter().map(|verb| verb.tag_name().name()).collect();
        assert_eq!(names, ["Gather", "Gather", "Hangup"]);
        for gather in &verbs[..2] {
            assert_eq!(gather.attribute("numDigits"), Some("1"));
            assert_eq!(gather.attribute("timeout"), Some("8"));
            assert_eq!(gather.attribute("action"), Some(url));
            assert_eq!(gather.attribute("method"), Some("POST"));
            let said: Vec<_> = gather.children().collect();
            assert_eq!(said.len(), 1);
            assert_eq!(
                (said[0].tag_name().name(), said[0].text()),
                ("Say", Some(nasty))
            );
        }
        let endless = announce(&"&".repeat(100_000), url);
        assert!(endless.len() < MAX_DOCUMENT);
        Document::parse(&endless).unwrap();
    }

    #[test]
    fn a_secret_in_the_streams_query_would_vanish_so_it_is_an_error() {
        for url in [
            "wss://bridge.example.com/media-stream?token=x",
            "wss://bridge.example.com/m#x",
        ] {
            let connect = ConnectStream {
                stream_url: url,
                ..stream(None, &[])
            };
            assert_eq!(connect.to_xml(), Err(TwimlError::StreamUrl));
        }
    }
}
