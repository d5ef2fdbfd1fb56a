//! `<Dial>`: somebody is called and connected.

use std::time::Duration;

use roxmltree::Node;

use super::{Dial, Progress, Reader};

const DIAL: &[&str] = &[
    "action",
    "method",
    "timeout",
    "timeLimit",
    "callerId",
    "answerOnBridge",
    "hangupOnStar",
];
const NUMBER: &[&str] = &[
    "sendDigits",
    "url",
    "method",
    "statusCallback",
    "statusCallbackEvent",
    "statusCallbackMethod",
];

impl Reader<'_> {
    pub(super) fn dial(&mut self, node: Node) -> Option<Dial> {
        self.attributes(node, DIAL);
        let timeout = self.seconds(node, "timeout", 30, 5..=600);
        let time_limit = self.seconds(node, "timeLimit", 14_400, 1..=86_400);
        let answer_on_bridge = self.flag(node, "answerOnBridge");
        self.flag(node, "hangupOnStar");
        let mut dial = Dial {
            number: String::new(),
            action: self.action(node),
            timeout: Duration::from_secs(timeout),
            time_limit: Duration::from_secs(time_limit),
            caller_id: node.attribute("callerId").map(str::to_owned),
            answer_on_bridge,
            url: None,
            status_callback: None,
            events: Vec::new(),
        };
        if !node.children().any(|child| child.is_element()) {
            dial.number = self.text(node);
        } else {
            let nouns = self.elements(node);
            let [noun] = nouns[..] else {
                self.warn(format!(
                    "<Dial> holds {} nouns, and this telephone calls one number at a time",
                    nouns.len()
                ));
                return None;
            };
            if noun.tag_name().name() != "Number" {
                self.warn(format!("13215: <{}> in <Dial>", noun.tag_name().name()));
                return None;
            }
            self.number(noun, &mut dial);
        }
        if !is_e164(&dial.number) {
            self.warn(format!("13224: {:?} is no E.164 number", dial.number));
        }
        Some(dial)
    }

    fn number(&mut self, node: Node, dial: &mut Dial) {
        self.attributes(node, NUMBER);
        dial.number = self.text(node);
        dial.url = node
            .attribute("url")
            .and_then(|written| self.request(node, written, "method"));
        dial.status_callback = node
            .attribute("statusCallback")
            .and_then(|written| self.request(node, written, "statusCallbackMethod"));
        let Some(words) = node.attribute("statusCallbackEvent") else {
            dial.events = vec![Progress::Completed];
            return;
        };
        if dial.status_callback.is_none() {
            self.warn("12200: statusCallbackEvent without a statusCallback");
        }
        for word in words.split_whitespace() {
            dial.events.push(match word {
                "initiated" => Progress::Initiated,
                "ringing" => Progress::Ringing,
                "answered" => Progress::Answered,
                "completed" => Progress::Completed,
                other => {
                    self.warn(format!("12200: statusCallbackEvent {other:?}"));
                    continue;
                }
            });
        }
    }

    pub(super) fn flag(&mut self, node: Node, attribute: &str) -> bool {
        match node.attribute(attribute) {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => {
                self.warn(format!("12200: {attribute} is neither true nor false"));
                false
            }
        }
    }
}

/// A plus and up to 15 digits, of which the first is no 0.
pub fn is_e164(number: &str) -> bool {
    let digits = number.strip_prefix('+').unwrap_or("");
    (1..=15).contains(&digits.len())
        && !digits.starts_with('0')
        && digits.bytes().all(|byte| byte.is_ascii_digit())
}
