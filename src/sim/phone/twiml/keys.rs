//! `<Play digits>` and `<Gather>`: keys that are sounded, and keys that are waited for.

use std::time::Duration;

use roxmltree::Node;

use super::{Gather, Reader, Request, Verb};

const GATHER: &[&str] = &[
    "input",
    "action",
    "method",
    "timeout",
    "numDigits",
    "finishOnKey",
    "actionOnEmptyResult",
];

impl Reader<'_> {
    pub(super) fn play(&mut self, node: Node) -> Option<Verb> {
        self.attributes(node, &["digits", "loop"]);
        let Some(digits) = node.attribute("digits") else {
            self.warn("<Play> without digits: this telephone plays no files");
            return None;
        };
        self.empty(node);
        if digits.is_empty() || !digits.chars().all(|key| "0123456789*#ABCDwW".contains(key)) {
            self.warn(format!(
                "12200: {} characters of digits, not all of them keys",
                digits.chars().count()
            ));
            return None;
        }
        Some(Verb::PlayDigits(digits.to_owned()))
    }

    pub(super) fn gather(&mut self, node: Node) -> Option<Gather> {
        self.attributes(node, GATHER);
        if node.attribute("input").is_some_and(|input| input != "dtmf") {
            self.warn("<Gather> of speech: this telephone takes keys only");
        }
        let action = match self.action(node) {
            None if node.attribute("action").is_some() => return None,
            // Without one, the document itself is asked again.
            None if self.given => {
                self.warn("11100: <Gather> without an action in a document without an address");
                return None;
            }
            None => Some(Request {
                url: self.base.to_owned(),
                get: self.method_is_get(node, "method"),
            }),
            action => action,
        };
        let count = node.attribute("numDigits").and_then(|written| {
            let count = written.parse().ok().filter(|count| *count > 0);
            if count.is_none() {
                self.warn(format!("13314: numDigits={written:?} is no number of keys"));
            }
            count
        });
        let end = match node.attribute("finishOnKey") {
            None => Some('#'),
            Some("") => None,
            Some(key) if key.len() == 1 && "0123456789*#".contains(key) => key.chars().next(),
            Some(key) => {
                self.warn(format!("13310: finishOnKey={key:?} is no key"));
                Some('#')
            }
        };
        let timeout = self.seconds(node, "timeout", 5, 1..=600);
        let on_empty = self.flag(node, "actionOnEmptyResult");
        let meanwhile = self
            .elements(node)
            .into_iter()
            .filter_map(|child| match child.tag_name().name() {
                "Say" | "Pause" => self.verb(child),
                other => {
                    self.warn(format!("13320: <{other}> in <Gather>"));
                    None
                }
            })
            .collect();
        Some(Gather {
            action,
            count,
            timeout: Duration::from_secs(timeout),
            end,
            on_empty,
            meanwhile,
        })
    }
}

/// What has been pressed into a `<Gather>`.
#[derive(Debug, Default)]
pub struct Pressed {
    pub keys: String,
}

impl Pressed {
    /// One more key; whether it was the last. The key that ends it is not part of it.
    pub fn press(&mut self, key: char, gather: &Gather) -> bool {
        if gather.end == Some(key) {
            return true;
        }
        self.keys.push(key);
        gather.count == Some(self.keys.len())
    }
}
