//! Reads TwiML as severely as Twilio's schema does.
//!
//! What Twilio could not execute is an [`Error`] and ends the document; what it would log as a warning, and
//! what no bridge should send, is a violation and is left out. A `<Connect>` holds one `<Stream>` and nothing
//! else; other nouns exist at Twilio, but this telephone has none of them.

use std::time::Duration;

use roxmltree::{Document, Node};
use url::Url;

/// TwiML answers larger than this are refused (error 11750).
pub const LARGEST: usize = 64 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    Say(String),
    Pause(Duration),
    Hangup,
    Reject {
        busy: bool,
    },
    Redirect(Request),
    Dial {
        numbers: Vec<String>,
        action: Option<Request>,
    },
    Connect {
        action: Option<Request>,
        stream: Stream,
    },
}

/// Where a document says that Twilio should go next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Absolute: resolved against the URL of the document.
    pub url: String,
    pub get: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Absolute, and exactly as written if it was written absolute: the signature is made over it.
    pub url: String,
    pub name: Option<String>,
    pub status_callback: Option<Request>,
    pub parameters: Vec<(String, String)>,
}

/// The document cannot be executed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    #[error("11750: TwiML of {0} bytes, more than 64 kB")]
    TooLarge(usize),
    #[error("12100: TwiML does not parse: {0}")]
    Unparsable(String),
}

/// A document's verbs in order, and everything in it that ought not to be there.
pub fn read(body: &[u8], document_url: &str) -> Result<(Vec<Verb>, Vec<String>), Error> {
    if body.len() > LARGEST {
        return Err(Error::TooLarge(body.len()));
    }
    let text = std::str::from_utf8(body).map_err(|error| Error::Unparsable(error.to_string()))?;
    let document = Document::parse(text).map_err(|error| Error::Unparsable(error.to_string()))?;
    let root = document.root_element();
    if root.tag_name().name() != "Response" || root.tag_name().namespace().is_some() {
        return Err(Error::Unparsable(format!(
            "the root is <{}>, not <Response>",
            root.tag_name().name()
        )));
    }
    let mut reader = Reader {
        base: document_url,
        violations: Vec::new(),
    };
    reader.attributes(root, &[]);
    let children = reader.elements(root);
    let verbs: Vec<Verb> = children
        .into_iter()
        .filter_map(|node| reader.verb(node))
        .collect();
    if verbs
        .iter()
        .skip(1)
        .any(|verb| matches!(verb, Verb::Reject { .. }))
    {
        reader.warn("12200: <Reject> is not the first verb: the call has been answered");
    }
    Ok((verbs, reader.violations))
}

struct Reader<'a> {
    base: &'a str,
    violations: Vec<String>,
}

impl Reader<'_> {
    fn warn(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    /// Every attribute must be known and none may be in a namespace.
    fn attributes(&mut self, node: Node, known: &[&str]) {
        for attribute in node.attributes() {
            if attribute.namespace().is_some() || !known.contains(&attribute.name()) {
                self.warn(format!(
                    "12200: attribute {:?} is unknown to <{}>",
                    attribute.name(),
                    node.tag_name().name()
                ));
            }
        }
    }

    /// The child elements of a node that must hold nothing else.
    fn elements<'n, 'i>(&mut self, node: Node<'n, 'i>) -> Vec<Node<'n, 'i>> {
        if node
            .children()
            .any(|child| child.is_text() && !child.text().unwrap_or("").trim().is_empty())
        {
            self.warn(format!(
                "12200: text directly in <{}>",
                node.tag_name().name()
            ));
        }
        node.children().filter(Node::is_element).collect()
    }

    /// The text of a node that must hold nothing else.
    fn text(&mut self, node: Node) -> String {
        if node.children().any(|child| child.is_element()) {
            self.warn(format!("12200: elements in <{}>", node.tag_name().name()));
        }
        let text: String = node
            .children()
            .filter_map(|child| child.text().filter(|_| child.is_text()))
            .collect();
        if text.trim().is_empty() {
            self.warn(format!("12200: <{}> is empty", node.tag_name().name()));
        }
        text.trim().to_owned()
    }

    fn empty(&mut self, node: Node) {
        if node.has_children() {
            self.warn(format!("12200: <{}> must be empty", node.tag_name().name()));
        }
    }

    fn method_is_get(&mut self, node: Node, attribute: &str) -> bool {
        match node.attribute(attribute) {
            None | Some("POST") => false,
            Some("GET") => true,
            Some(other) => {
                self.warn(format!(
                    "12200: {attribute}={other:?} is neither GET nor POST"
                ));
                false
            }
        }
    }

    fn request(&mut self, node: Node, written: &str, method: &str) -> Option<Request> {
        let get = self.method_is_get(node, method);
        match resolve(self.base, written) {
            Some(url) if url.starts_with("http") => Some(Request { url, get }),
            _ => {
                self.warn(format!(
                    "11100: {written:?} is no URL for <{}>",
                    node.tag_name().name()
                ));
                None
            }
        }
    }

    fn action(&mut self, node: Node) -> Option<Request> {
        let written = node.attribute("action")?;
        self.request(node, written, "method")
    }

    fn seconds(
        &mut self,
        node: Node,
        attribute: &str,
        default: u64,
        range: std::ops::RangeInclusive<u64>,
    ) -> u64 {
        let Some(written) = node.attribute(attribute) else {
            return default;
        };
        match written.parse() {
            Ok(seconds) if range.contains(&seconds) => seconds,
            _ => {
                self.warn(format!(
                    "12200: {attribute}={written:?} is not a whole number in {range:?}"
                ));
                default
            }
        }
    }

    fn verb(&mut self, node: Node) -> Option<Verb> {
        let name = node.tag_name().name();
        if node.tag_name().namespace().is_some() {
            self.warn(format!("12200: <{name}> is in a namespace"));
            return None;
        }
        match name {
            "Say" => {
                self.attributes(node, &["voice", "language", "loop"]);
                let text = self.text(node);
                if text.chars().count() > 4096 {
                    self.warn("13520: more than 4096 characters in <Say>");
                }
                Some(Verb::Say(text))
            }
            "Pause" => {
                self.attributes(node, &["length"]);
                self.empty(node);
                Some(Verb::Pause(Duration::from_secs(self.seconds(
                    node,
                    "length",
                    1,
                    0..=600,
                ))))
            }
            "Hangup" => {
                self.attributes(node, &[]);
                self.empty(node);
                Some(Verb::Hangup)
            }
            "Reject" => {
                self.attributes(node, &["reason"]);
                self.empty(node);
                let reason = node.attribute("reason").unwrap_or("rejected");
                if !["rejected", "busy"].contains(&reason) {
                    self.warn(format!("12200: <Reject reason={reason:?}>"));
                }
                Some(Verb::Reject {
                    busy: reason == "busy",
                })
            }
            "Redirect" => {
                self.attributes(node, &["method"]);
                let written = self.text(node);
                self.request(node, &written, "method").map(Verb::Redirect)
            }
            "Dial" => self.dial(node),
            "Connect" => self.connect(node),
            other => {
                self.warn(format!("12200: <{other}> is no verb of this telephone"));
                None
            }
        }
    }

    fn dial(&mut self, node: Node) -> Option<Verb> {
        const KNOWN: &[&str] = &[
            "action",
            "method",
            "timeout",
            "timeLimit",
            "callerId",
            "answerOnBridge",
            "hangupOnStar",
        ];
        self.attributes(node, KNOWN);
        self.seconds(node, "timeout", 30, 5..=600);
        self.seconds(node, "timeLimit", 14_400, 1..=86_400);
        for flag in ["answerOnBridge", "hangupOnStar"] {
            if node
                .attribute(flag)
                .is_some_and(|value| !["true", "false"].contains(&value))
            {
                self.warn(format!("12200: {flag} is neither true nor false"));
            }
        }
        let mut numbers = Vec::new();
        if node.children().any(|child| child.is_element()) {
            for child in self.elements(node) {
                if child.tag_name().name() == "Number" {
                    self.attributes(child, &["sendDigits"]);
                    numbers.push(self.text(child));
                } else {
                    self.warn(format!("12200: <{}> in <Dial>", child.tag_name().name()));
                }
            }
        } else {
            numbers.push(self.text(node));
        }
        for number in &numbers {
            let digits = number.strip_prefix('+').unwrap_or("");
            if digits.is_empty()
                || digits.len() > 15
                || !digits.bytes().all(|byte| byte.is_ascii_digit())
            {
                self.warn(format!("13224: {number:?} is no E.164 number"));
            }
        }
        Some(Verb::Dial {
            numbers,
            action: self.action(node),
        })
    }

    fn connect(&mut self, node: Node) -> Option<Verb> {
        self.attributes(node, &["action", "method"]);
        let action = self.action(node);
        let children = self.elements(node);
        let [stream] = children[..] else {
            self.warn(format!("12200: <Connect> holds {} nouns", children.len()));
            return None;
        };
        if stream.tag_name().name() != "Stream" {
            self.warn(format!(
                "12200: <{}> in <Connect>",
                stream.tag_name().name()
            ));
            return None;
        }
        Some(Verb::Connect {
            action,
            stream: self.stream(stream)?,
        })
    }

    fn stream(&mut self, node: Node) -> Option<Stream> {
        // audioFormat and sampleRate exist in the newest client libraries only; nobody knows what they do.
        self.attributes(
            node,
            &[
                "url",
                "name",
                "track",
                "statusCallback",
                "statusCallbackMethod",
            ],
        );
        if let Some(track) = node
            .attribute("track")
            .filter(|track| *track != "inbound_track")
        {
            self.warn(format!("31941: track {track:?} under <Connect>"));
        }
        let status_callback = node.attribute("statusCallback").and_then(|written| {
            if !written.starts_with("http") {
                self.warn(format!("12200: statusCallback {written:?} is not absolute"));
            }
            self.request(node, written, "statusCallbackMethod")
        });
        let mut parameters = Vec::new();
        for child in self.elements(node) {
            if child.tag_name().name() != "Parameter" {
                self.warn(format!("12200: <{}> in <Stream>", child.tag_name().name()));
                continue;
            }
            self.attributes(child, &["name", "value"]);
            self.empty(child);
            let (Some(name), Some(value)) = (child.attribute("name"), child.attribute("value"))
            else {
                self.warn("12200: <Parameter> without a name and a value");
                continue;
            };
            let length = name.chars().count() + value.chars().count();
            if name.is_empty() || length >= 500 {
                self.warn(format!("31942: parameter {name:?} has {length} characters"));
            }
            if parameters.iter().any(|(known, _)| known == name) {
                self.warn(format!("31942: parameter {name:?} comes twice"));
            }
            parameters.push((name.to_owned(), value.to_owned()));
        }
        let Some(url) = node
            .attribute("url")
            .and_then(|written| self.stream_url(written))
        else {
            self.warn(format!(
                "31923: stream url {:?} is malformed",
                node.attribute("url")
            ));
            return None;
        };
        Some(Stream {
            url,
            name: node.attribute("name").map(str::to_owned),
            status_callback,
            parameters,
        })
    }

    /// `wss`, or `ws` if the document itself came by plain http (a laptop); no query, no fragment.
    fn stream_url(&mut self, written: &str) -> Option<String> {
        let base = Url::parse(self.base).ok()?;
        let expected = if base.scheme() == "http" { "ws" } else { "wss" };
        let mut url = resolve(self.base, written)?;
        if Url::parse(written).is_err() {
            url = format!("{expected}{}", url.strip_prefix(base.scheme())?);
        }
        let parsed = Url::parse(&url).ok()?;
        if parsed.scheme() != expected {
            self.warn(format!("31922: stream url {written:?} is not {expected}"));
        }
        if parsed.query().is_some() || parsed.fragment().is_some() {
            self.warn(format!(
                "31920: stream url {written:?} has a query, which is dropped"
            ));
            url.truncate(url.find(['?', '#']).unwrap_or(url.len()));
        }
        if parsed.host_str() != base.host_str()
            || parsed.port_or_known_default() != base.port_or_known_default()
        {
            self.warn(format!(
                "stream url {written:?} leads to another host than {}",
                self.base
            ));
        }
        Some(url)
    }
}

/// Absolute URLs stay as they are, to the byte; others are resolved.
fn resolve(base: &str, written: &str) -> Option<String> {
    if Url::parse(written).is_ok() {
        return Some(written.to_owned());
    }
    Url::parse(base).ok()?.join(written).ok().map(String::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: &str = "https://bridge.example.com/voice/incoming";

    fn connect(inner: &str) -> (Vec<Verb>, Vec<String>) {
        read(format!("<Response>{inner}</Response>").as_bytes(), HOME).unwrap()
    }

    fn complaint(inner: &str) -> String {
        let (_, violations) = connect(inner);
        assert_eq!(violations.len(), 1, "{inner}: {violations:?}");
        violations.into_iter().next().unwrap()
    }

    #[test]
    fn reads_what_a_bridge_answers() {
        let (verbs, violations) = read(
            br#"<?xml version="1.0" encoding="UTF-8"?><Response><Connect action="/voice/after" method="POST">
              <Stream name="evi" statusCallback="https://bridge.example.com/voice/stream" track="inbound_track"
              url="wss://bridge.example.com/media-stream"><Parameter name="token" value="a&amp;b" /></Stream>
              </Connect><Say language="en-GB">Sorry &lt;3</Say><Hangup/></Response>"#,
            HOME,
        )
        .unwrap();
        assert_eq!(violations, Vec::<String>::new());
        let expected = Stream {
            url: "wss://bridge.example.com/media-stream".into(),
            name: Some("evi".into()),
            status_callback: Some(Request {
                url: "https://bridge.example.com/voice/stream".into(),
                get: false,
            }),
            parameters: vec![("token".into(), "a&b".into())],
        };
        let action = Some(Request {
            url: "https://bridge.example.com/voice/after".into(),
            get: false,
        });
        assert_eq!(
            verbs,
            [
                Verb::Connect {
                    action,
                    stream: expected
                },
                Verb::Say("Sorry <3".into()),
                Verb::Hangup
            ]
        );
    }

    #[test]
    fn a_relative_stream_takes_the_scheme_that_fits() {
        let (verbs, violations) = read(
            b"<Response><Connect><Stream url='/m'/></Connect></Response>",
            "http://127.0.0.1:8080/v",
        )
        .unwrap();
        assert_eq!(violations, Vec::<String>::new());
        assert!(
            matches!(&verbs[..], [Verb::Connect { stream, .. }] if stream.url == "ws://127.0.0.1:8080/m")
        );
    }

    #[test]
    fn complains_of_all_that_twilio_would() {
        let stream = |attributes: &str, inner: &str| {
            complaint(&format!(
                "<Connect><Stream {attributes}>{inner}</Stream></Connect>"
            ))
        };
        let good = "url='wss://bridge.example.com/m'";
        assert!(stream("url='ws://bridge.example.com:443/m'", "").starts_with("31922"));
        assert!(stream("url='wss://bridge.example.com/m?token=1'", "").starts_with("31920"));
        assert!(stream("url='wss://elsewhere.example.com/m'", "").contains("another host"));
        assert!(stream(&format!("{good} track='both_tracks'"), "").starts_with("31941"));
        assert!(stream(&format!("{good} Name='x'"), "").starts_with("12200"));
        assert!(stream(&format!("{good} statusCallback='/voice/stream'"), "").contains("absolute"));
        assert!(stream(good, "<Parameter name='x'/>").starts_with("12200"));
        let long = format!("<Parameter name='x' value='{}'/>", "é".repeat(499));
        assert!(stream(good, &long).starts_with("31942"));
        assert!(stream(good, "words").contains("text directly"));
        assert!(complaint("<Connect><Conversation/></Connect>").starts_with("12200"));
        assert!(complaint("<Start><Stream url='wss://x/'/></Start>").contains("no verb"));
        assert!(complaint("<say>no</say>").contains("no verb"));
        assert!(complaint("<Say/>").contains("empty"));
        assert!(complaint("<Say>Hello</Say><Reject/>").contains("first verb"));
        assert!(complaint("<Reject reason='mood'/>").contains("mood"));
        assert!(complaint("<Dial>0800 reverse</Dial>").starts_with("13224"));
        assert!(complaint("<Dial timeout='3'>+15551234567</Dial>").contains("timeout"));
        assert!(complaint("<Hangup>now</Hangup>").contains("must be empty"));
    }

    #[test]
    fn a_document_that_cannot_be_executed_is_an_error() {
        let of = |body: &[u8]| read(body, HOME).unwrap_err().to_string();
        assert!(of(b"<Response><Say>Tom & Jerry</Say></Response>").starts_with("12100"));
        assert!(of(b"{}").starts_with("12100"));
        assert!(of(b"").starts_with("12100"));
        assert!(of(b"<response/>").starts_with("12100"));
        assert!(of(&vec![b' '; LARGEST + 1]).starts_with("11750"));
    }
}
