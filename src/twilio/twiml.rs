//! TwiML: what the bridge answers to a voice webhook.
//!
//! A handful of documents, written by hand because there are so few, with everything that is not a
//! literal escaped. Characters that XML 1.0 cannot hold are left out. The two limits that Twilio
//! states are kept by refusing to write what exceeds them (Twilio docs, "TwiML Stream" and error
//! 11750): 500 characters for name and value of a `<Parameter>`, 64 kB for a document.
//!
//! Nothing ever stands behind `<Connect>`: its `action` URL is asked what comes next, so a call
//! never goes on by accident after the bridge has left it.

use std::fmt::Write as _;

/// Twilio writes 64 kB; taken at its shorter reading.
const MAX_DOCUMENT: usize = 64_000;
/// Name and value of a `<Parameter>` together stay below this.
const MAX_PARAMETER: usize = 500;
/// What is spoken or dialled by the documents that cannot fail, in characters. No document gets
/// near its limit with that, however it is escaped.
const MAX_WORDS: usize = 4_000;

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
    #[error("the media stream's URL has a query or a fragment, which Twilio does not keep")]
    StreamUrl,
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
        if self.stream_url.contains(['?', '#']) {
            return Err(TwimlError::StreamUrl);
        }
        let mut xml = String::from(OPEN);
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
        if xml.len() > MAX_DOCUMENT {
            return Err(TwimlError::DocumentTooLong { length: xml.len() });
        }
        Ok(xml)
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
pub fn dial(number: &str) -> String {
    let mut xml = String::from(OPEN);
    element(&mut xml, "Dial", first_words(number));
    xml.push_str(CLOSE);
    xml
}

/// Refuses the call with a busy tone; nothing is billed.
pub fn reject_busy() -> String {
    format!(r#"{OPEN}<Reject reason="busy"/>{CLOSE}"#)
}

/// Refuses the call with a recorded "not in service"; nothing is billed.
pub fn reject() -> String {
    format!(r#"{OPEN}<Reject reason="rejected"/>{CLOSE}"#)
}

/// No instruction: the polite answer to a status callback.
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
        assert_eq!(dial("+61412345678"), xml("<Dial>+61412345678</Dial>"));
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
