//! What is known of a call, and texts that name it: `{city}`, `{param.NAME}`, `{{` for a brace.
//!
//! What a caller's side says is cut and cleaned before anybody gets it: it ends up in a prompt.

use std::collections::{BTreeMap, BTreeSet};

use crate::{session::caller::Caller, twilio::CallSid};

/// Facts of the webhook by their placeholders: `city`, `param.NAME`.
pub type Known = BTreeMap<String, String>;

/// A value's length, in characters.
const LONGEST: usize = 256;

/// Where a caller's number is from: how the fields of Twilio's webhook end, and the placeholders that stand for
/// them.
const PLACES: [(&str, &str); 4] = [
    ("City", "city"),
    ("State", "state"),
    ("Zip", "zip"),
    ("Country", "country"),
];
/// Only of somebody who calls.
const NAME: (&str, &str) = ("CallerName", "caller_name");

/// So many facts travel with a call whatever the config asks for.
pub const ALWAYS_KNOWN: usize = PLACES.len() + 1;

const PARAM: &str = "param.";

/// A call, as texts may name it.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    pub call: &'a CallSid,
    pub from: &'a str,
    pub to: &'a str,
    pub route: &'a str,
    pub known: &'a Known,
}

impl Facts<'_> {
    /// Who calls; nothing where the number is withheld, for which carriers write several words.
    pub fn caller(&self) -> &str {
        match Caller::of(self.from) {
            Caller::Withheld => "",
            Caller::Known(_) => self.from,
        }
    }

    fn get(&self, placeholder: &str) -> &str {
        match placeholder {
            "from" => self.caller(),
            "to" => self.to,
            "route" => self.route,
            "call_sid" => self.call.as_str(),
            other => self.known.get(other).map_or("", String::as_str),
        }
    }
}

pub(super) fn known<'a>(
    fields: &BTreeSet<String>,
    caller: &str,
    field: impl Fn(&str) -> Option<&'a str>,
) -> Known {
    let places =
        PLACES.map(|(end, placeholder)| (format!("{caller}{end}"), placeholder.to_owned()));
    let name = (NAME.0.to_owned(), NAME.1.to_owned());
    let theirs = fields
        .iter()
        .map(|name| (name.clone(), format!("{PARAM}{name}")));
    let said = places.into_iter().chain([name]).chain(theirs);
    said.filter_map(|(name, placeholder)| {
        let value = clean(field(&name)?);
        (!value.is_empty()).then_some((placeholder, value))
    })
    .collect()
}

/// One line of at most [`LONGEST`] characters.
pub(super) fn clean(text: &str) -> String {
    let plain = text.chars().filter(|c| !c.is_control());
    plain.take(LONGEST).collect()
}

#[derive(Debug, PartialEq)]
enum Piece<'a> {
    Text(&'a str),
    Fact(&'a str),
}

/// The config has looked that every brace has its fellow; one that has not stands for itself.
fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, length) = if rest.starts_with("{{") || rest.starts_with("}}") {
            (Piece::Text(&rest[..1]), 2)
        } else if let Some((name, _)) = rest.strip_prefix('{').and_then(|r| r.split_once('}')) {
            (Piece::Fact(name), name.len() + 2)
        } else {
            let mut later = rest.char_indices().skip(1);
            let brace = later.find(|(_, c)| matches!(c, '{' | '}'));
            let next = brace.map_or(rest.len(), |(at, _)| at);
            (Piece::Text(&rest[..next]), next)
        };
        rest = &rest[length..];
        Some(piece)
    })
}

/// Whether a text is the same for every call.
pub(super) fn is_plain(text: &str) -> bool {
    !pieces(text).any(|piece| matches!(piece, Piece::Fact(_)))
}

/// A plain text as it is meant.
pub(super) fn plain(text: &str) -> String {
    let texts = pieces(text).map(|piece| match piece {
        Piece::Text(text) | Piece::Fact(text) => text,
    });
    texts.collect()
}

/// The text with what is known in it; `None` if nothing of what it names is.
pub(super) fn filled(text: &str, facts: &Facts<'_>) -> Option<String> {
    let mut known = false;
    let mut filled = String::new();
    for piece in pieces(text) {
        let text = match piece {
            Piece::Text(text) => text,
            Piece::Fact(name) => {
                let value = clean(facts.get(name));
                known |= !value.is_empty();
                filled.push_str(&value);
                continue;
            }
        };
        filled.push_str(text);
    }
    known.then_some(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_taken_apart_at_its_braces() {
        let all = |text| pieces(text).collect::<Vec<_>>();
        use Piece::{Fact, Text};
        assert_eq!(
            all("{city}, {{x}} {param.A-b}!"),
            [
                Fact("city"),
                Text(", "),
                Text("{"),
                Text("x"),
                Text("}"),
                Text(" "),
                Fact("param.A-b"),
                Text("!")
            ]
        );
        assert_eq!(plain("a {{b}} \u{e9}{{"), "a {b} \u{e9}{");
        for odd in ["{", "}", "a{b", "\u{e9}}\u{e9}", "{{", "{a{b"] {
            let whole: String = all(odd)
                .iter()
                .map(|piece| match piece {
                    Text(text) | Fact(text) => *text,
                })
                .collect();
            assert_eq!(whole, odd.replace("{{", "{"), "{odd}");
        }
        assert!(is_plain("{{city}}") && !is_plain("{{{city}}}") && is_plain(""));
    }

    #[test]
    fn what_is_known_stands_in_the_text_and_nothing_else_does() {
        let call = "CA0123456789abcdef0123456789abcdef".parse().unwrap();
        let known = Known::from([
            ("city".to_owned(), "Rome".to_owned()),
            ("param.A".to_owned(), "7".to_owned()),
        ]);
        let mut facts = Facts {
            call: &call,
            from: "+15551234567",
            to: "+15557654321",
            route: "shop",
            known: &known,
        };
        let filled = |text: &str, facts: &Facts<'_>| filled(text, facts);
        for (text, expected) in [
            ("{from}", Some("+15551234567")),
            ("{to} on {route}", Some("+15557654321 on shop")),
            ("{call_sid}", Some("CA0123456789abcdef0123456789abcdef")),
            ("{city}/{state}", Some("Rome/")),
            ("{{{param.A}}}", Some("{7}")),
            ("{state}", None),
            ("in {state}, {zip}", None),
        ] {
            assert_eq!(filled(text, &facts).as_deref(), expected, "{text}");
        }
        for withheld in ["", "anonymous", "+266696687"] {
            facts.from = withheld;
            assert_eq!(filled("{from}", &facts), None);
        }
    }

    #[test]
    fn what_a_caller_says_of_themselves_is_cut_and_clean() {
        let long = "\u{e9}".repeat(300);
        let form = |name: &str| match name {
            "FromCity" => Some("Ro\nme\u{85}\0"),
            "CallerName" => Some(long.as_str()),
            "FromZip" => Some(""),
            "SipHeader_X-A" => Some("b"),
            "CallToken" => Some("secret"),
            _ => None,
        };
        let wanted = BTreeSet::from(["SipHeader_X-A".to_owned(), "Nothing".to_owned()]);
        let known = known(&wanted, "From", form);
        let expected = Known::from([
            ("city".to_owned(), "Rome".to_owned()),
            ("caller_name".to_owned(), "\u{e9}".repeat(256)),
            ("param.SipHeader_X-A".to_owned(), "b".to_owned()),
        ]);
        assert_eq!(known, expected);
    }
}
