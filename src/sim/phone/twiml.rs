//! Reads TwiML as severely as Twilio's schema does.
//!
//! What Twilio could not execute is an [`Error`] and ends the document; what it would log as a warning, and
//! what no bridge should send, is a violation and is left out. A `<Connect>` holds one `<Stream>` and nothing
//! else, a `<Dial>` calls one number, `<Play>` sounds keys and no files, and a `<Gather>` takes keys and no
//! speech: the rest exists at Twilio, but this telephone has none of it.

mod keys;
mod people;
#[cfg(test)]
mod tests;

use std::time::Duration;

use roxmltree::{Document, Node};
use url::Url;

pub use keys::Pressed;
pub use people::is_e164;

/// TwiML answers larger than this are refused (error 11750).
pub const LARGEST: usize = 64 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    Say(String),
    Pause(Duration),
    /// Keys sounded into the call; `w` and `W` are half a second and a second of waiting.
    PlayDigits(String),
    Gather(Gather),
    Hangup,
    Reject {
        busy: bool,
    },
    Redirect(Request),
    Dial(Dial),
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

/// Somebody to be called and connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dial {
    pub number: String,
    pub action: Option<Request>,
    /// How long it rings.
    pub timeout: Duration,
    /// How long they may talk.
    pub time_limit: Duration,
    pub caller_id: Option<String>,
    /// The caller's own call is not answered before.
    pub answer_on_bridge: bool,
    /// What the callee hears before they are connected.
    pub url: Option<Request>,
    pub status_callback: Option<Request>,
    pub events: Vec<Progress>,
}

/// What a callee's status callback may be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    Initiated,
    Ringing,
    Answered,
    Completed,
}

/// Keys to be waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gather {
    /// Where the keys are brought.
    pub action: Option<Request>,
    pub count: Option<usize>,
    /// For the first key, and for each after it.
    pub timeout: Duration,
    pub end: Option<char>,
    /// The action is asked without any keys, too.
    pub on_empty: bool,
    /// What is heard meanwhile: `Say` and `Pause`.
    pub meanwhile: Vec<Verb>,
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
    read_at(body, document_url, false)
}

/// The same for a document that was handed over in a request and has no address: nothing in it can be
/// relative. `home` is where the bridge is.
pub fn read_given(body: &[u8], home: &str) -> Result<(Vec<Verb>, Vec<String>), Error> {
    read_at(body, home, true)
}

fn read_at(body: &[u8], base: &str, given: bool) -> Result<(Vec<Verb>, Vec<String>), Error> {
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
        base,
        given,
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
    /// `base` is not the document's address, only its author's.
    given: bool,
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
        match self.resolve(written) {
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
            "Play" => self.play(node),
            "Gather" => self.gather(node).map(Verb::Gather),
            "Dial" => self.dial(node).map(Verb::Dial),
            "Connect" => self.connect(node),
            other => {
                self.warn(format!("12200: <{other}> is no verb of this telephone"));
                None
            }
        }
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
        let mut url = self.resolve(written)?;
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

    /// Absolute URLs stay as they are, to the byte; others are resolved.
    fn resolve(&self, written: &str) -> Option<String> {
        if Url::parse(written).is_ok() {
            return Some(written.to_owned());
        }
        if self.given {
            return None;
        }
        let base = Url::parse(self.base).ok()?;
        base.join(written).ok().map(String::from)
    }
}
