//! The way to the media socket: the TwiML that connects a call's audio to us, first and again.
//!
//! What is known of the call travels as parameters and comes back in the stream's `start`, under a
//! token that covers all of them ([`token`](crate::twilio::token)): the instance that gets the stream may
//! be another than the one that wrote the TwiML.

use std::{collections::BTreeMap, time::Duration};

use super::{Front, paths, unix_now};
use crate::twilio::{
    CallSid,
    token::Parameters,
    twiml::{ConnectStream, TwimlError},
};
use crate::{config, routing};

/// The parameters that are not facts of the webhook.
pub(super) const TOKEN: &str = "token";
pub(super) const FROM: &str = "from";
pub(super) const TO: &str = "to";
pub(super) const ROUTE: &str = "route";

/// Facts of the webhook that travel: those that always do, and those that the config may name besides.
const MOST_FACTS: usize = routing::ALWAYS_KNOWN + config::MOST_PARAMETERS;
/// Twilio wants less than 500 characters for name and value together (Twilio docs, "TwiML Stream").
const LONGEST: usize = 499;

/// Everything that a `<Connect><Stream>` needs.
pub struct Way {
    pub action: String,
    pub stream_url: String,
    pub status_callback: String,
    /// The token first.
    pub parameters: Vec<(String, String)>,
}

/// The way back to us for this call, open for `lifetime`.
pub fn connect(
    front: &Front,
    call: &CallSid,
    from: &str,
    to: &str,
    route: Option<&str>,
    known: &BTreeMap<String, String>,
    lifetime: Duration,
) -> Way {
    let parameters = parameters(from, to, route, known);
    let expires = unix_now() + lifetime.as_secs();
    let token = front.minter.mint(call, &parameters, expires);
    let public = &front.config.public_url;
    Way {
        action: public.http(paths::AFTER),
        stream_url: public.ws(paths::MEDIA),
        status_callback: public.http(paths::STREAM),
        parameters: [(TOKEN.to_owned(), token)]
            .into_iter()
            .chain(parameters)
            .collect(),
    }
}

impl Way {
    /// The whole document; `say` is spoken by Twilio before the stream begins.
    pub fn to_xml(&self, say: Option<&str>) -> Result<String, TwimlError> {
        let parameters: Vec<(&str, &str)> = self
            .parameters
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        ConnectStream {
            say,
            action: &self.action,
            stream_url: &self.stream_url,
            status_callback: &self.status_callback,
            parameters: &parameters,
        }
        .to_xml()
    }
}

fn parameters(
    from: &str,
    to: &str,
    route: Option<&str>,
    known: &BTreeMap<String, String>,
) -> Parameters {
    let ours = [(FROM, Some(from)), (TO, Some(to)), (ROUTE, route)];
    let ours = ours
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
    let facts = known.iter().filter(|(name, value)| {
        let free = ![TOKEN, FROM, TO, ROUTE].contains(&name.as_str());
        free && name.chars().count() < LONGEST && !value.is_empty()
    });
    let facts = facts.take(MOST_FACTS).map(|(name, value)| {
        let room = LONGEST - name.chars().count();
        (name.clone(), value.chars().take(room).collect())
    });
    // A document carries neither control characters nor blanks at an end as they are, and the token covers
    // what arrives.
    let plain = |value: String| {
        let plain: String = value.chars().filter(|c| !is_lost(*c)).collect();
        plain.trim().to_owned()
    };
    let all = facts.chain(ours);
    all.map(|(name, value)| (name, plain(value))).collect()
}

fn is_lost(character: char) -> bool {
    character.is_control() || matches!(character, '\u{fffe}' | '\u{ffff}')
}

/// What a stream's parameters say beside the token, the two addresses and the route.
pub(super) fn facts_of(mut parameters: Parameters) -> BTreeMap<String, String> {
    parameters.retain(|name, value| {
        ![TOKEN, FROM, TO, ROUTE].contains(&name.as_str()) && !value.is_empty()
    });
    parameters
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn what_is_known_travels_and_comes_back() {
        let known = map(&[("city", "Rome"), ("zip", ""), ("param.Shop", "7")]);
        let sent = parameters("+1", "+2", Some("shop"), &known);
        let expected = [
            ("from", "+1"),
            ("to", "+2"),
            ("route", "shop"),
            ("city", "Rome"),
            ("param.Shop", "7"),
        ];
        assert_eq!(sent, map(&expected));
        let back = facts_of(sent);
        assert_eq!(back, map(&[("city", "Rome"), ("param.Shop", "7")]));
        assert_eq!(parameters("", "+2", None, &map(&[])).len(), 2);
    }

    #[test]
    fn no_fact_passes_for_one_of_our_own_words() {
        let known = map(&[("from", "x"), ("token", "y"), ("route", "z")]);
        let sent = parameters("+1", "+2", None, &known);
        assert_eq!(sent, map(&[("from", "+1"), ("to", "+2")]));
    }

    #[test]
    fn facts_that_twilio_would_not_carry_are_cut_or_stay_behind() {
        let long = "\u{e9}".repeat(600);
        let mut known = map(&[("city", &long), (&long, "x")]);
        let sent = parameters("+1", "+2", None, &known);
        assert_eq!(sent["city"].chars().count(), LONGEST - "city".len());
        assert!(!sent.contains_key(&long));
        known.extend((0..50).map(|n| (format!("param.{n}"), n.to_string())));
        let sent = parameters("+1", "+2", None, &known);
        assert_eq!(sent.len(), 2 + MOST_FACTS);
    }
}
