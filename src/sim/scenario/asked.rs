//! What a story's web server should have been asked, and how.
//!
//! Signatures are verified as an operator's own service would do it: over the bytes that came, with the
//! credential of the story. What is told of a request that was another names its headers and never shows
//! them: secrets stand there.

use std::{collections::BTreeMap, time::SystemTime};

use ring::hmac;
use serde::Deserialize;

use crate::sim::web::WebRequest;

/// How old a signature may be, in seconds; a service would refuse an older one.
const FRESH: u64 = 300;

/// One request; as its line alone, or with more of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum ExpectedRequest {
    /// `"POST /orders"`
    Line(String),
    Whole(Whole),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Whole {
    /// `"POST /orders"`
    pub request: String,
    /// These headers, and exactly so; there may be more.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Signed with the credential of this name. Without it there is no signature.
    pub signed_with: Option<String>,
    /// The same as the request before it, `Idempotency-Key` and body; otherwise its key is a new one.
    #[serde(default)]
    pub again: bool,
}

impl ExpectedRequest {
    fn line(&self) -> &str {
        match self {
            ExpectedRequest::Line(line) => line,
            ExpectedRequest::Whole(whole) => &whole.request,
        }
    }
}

/// What is wrong with the requests, if something is.
pub(super) fn missed(
    expected: &[ExpectedRequest],
    asked: &[WebRequest],
    credentials: &BTreeMap<String, String>,
) -> Vec<String> {
    let lines = asked
        .iter()
        .map(|one| format!("{} {}", one.method, one.path));
    let (lines, wanted): (Vec<_>, Vec<_>) = (
        lines.collect(),
        expected.iter().map(ExpectedRequest::line).collect(),
    );
    if lines != wanted {
        return vec![format!("web: expected {wanted:?}, was {lines:?}")];
    }
    let mut missed = Vec::new();
    for (n, (expected, request)) in expected.iter().zip(asked).enumerate() {
        let ExpectedRequest::Whole(whole) = expected else {
            continue;
        };
        let before = n.checked_sub(1).and_then(|before| asked.get(before));
        let wrong = whole.wrong(request, before, credentials);
        missed.extend(wrong.map(|wrong| format!("web: request {}: {wrong}", n + 1)));
    }
    missed
}

impl Whole {
    fn wrong(
        &self,
        request: &WebRequest,
        before: Option<&WebRequest>,
        credentials: &BTreeMap<String, String>,
    ) -> Option<String> {
        for (name, value) in &self.headers {
            match request.header(&name.to_ascii_lowercase()) {
                None => return Some(format!("it has no header {name}")),
                Some(sent) if sent != value => return Some(format!("its {name} is another")),
                Some(_) => {}
            }
        }
        let key = |request: &WebRequest| request.header("idempotency-key").map(str::to_owned);
        let own = key(request);
        let repeats = before.is_some_and(|before| key(before) == own);
        if own.is_none() || repeats != self.again {
            return Some(format!(
                "again: expected {}, and its Idempotency-Key says otherwise",
                self.again
            ));
        }
        if self.again && before.is_some_and(|before| before.body != request.body) {
            return Some("its body is not that of the request before it".to_owned());
        }
        match &self.signed_with {
            Some(name) => match credentials.get(name) {
                Some(secret) => unsigned(request, secret),
                None => Some(format!("the story has no credential {name}")),
            },
            None => request
                .header("x-hume-bridge-signature")
                .map(|_| "it is signed".to_owned()),
        }
    }
}

/// Why a service would not take its signature.
fn unsigned(request: &WebRequest, secret: &str) -> Option<String> {
    let header = |name: &str| request.header(name).unwrap_or_default();
    let timestamp = header("x-hume-bridge-timestamp");
    let now = SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap_or_default()
        .as_secs();
    let fresh = timestamp
        .parse::<u64>()
        .is_ok_and(|sent| now.abs_diff(sent) <= FRESH);
    if !fresh {
        return Some("it has no timestamp of now".to_owned());
    }
    let signature = header("x-hume-bridge-signature").strip_prefix("v1=");
    let signature = signature.and_then(bytes).unwrap_or_default();
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signed = [timestamp.as_bytes(), b".", &request.body].concat();
    let held = hmac::verify(&key, &signed, &signature);
    held.is_err()
        .then(|| "its signature does not hold".to_owned())
}

/// What hexadecimal digits stand for.
fn bytes(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Secret, sim::web::Fate, tools::sign};

    const SECRET: &str = "the-key-of-the-booking-desk";

    fn request(key: &str, body: &str) -> WebRequest {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let signature = sign::sign(&Secret::new(SECRET), now, body.as_bytes());
        let headers = [
            ("idempotency-key", key.to_owned()),
            ("x-hume-bridge-timestamp", now.to_string()),
            ("x-hume-bridge-signature", format!("v1={signature}")),
        ];
        WebRequest {
            method: "POST".to_owned(),
            path: "/x".to_owned(),
            headers: headers.map(|(name, value)| (name.to_owned(), value)).into(),
            body: body.into(),
            fate: Fate::Answered(200),
        }
    }

    fn says(expected: &str, asked: &[WebRequest]) -> String {
        let table: toml::Table = toml::from_str(&format!("web = [{expected}]")).unwrap();
        let expected: Vec<ExpectedRequest> = table["web"].clone().try_into().unwrap();
        let credentials = [("k".to_owned(), SECRET.to_owned())].into();
        missed(&expected, asked, &credentials).join("\n")
    }

    #[test]
    fn a_signature_holds_for_what_was_signed_and_for_nothing_else() {
        const SIGNED: &str = "{ request = 'POST /x', signed_with = 'k' }";
        let good = request("1", "{}");
        assert_eq!(says(SIGNED, std::slice::from_ref(&good)), "");
        assert_eq!(says("'POST /x'", std::slice::from_ref(&good)), "");
        assert!(says("{ request = 'POST /x' }", std::slice::from_ref(&good)).contains("is signed"));
        let other = WebRequest {
            body: b"{ }".into(),
            ..good.clone()
        };
        assert!(says(SIGNED, &[other]).contains("does not hold"));
        let mut none = good.clone();
        none.headers.pop();
        assert!(says(SIGNED, &[none]).contains("does not hold"));
        let mut old = good;
        old.headers[1].1 = "1700000000".to_owned();
        assert!(says(SIGNED, &[old]).contains("no timestamp of now"));
    }

    #[test]
    fn headers_and_keys_are_looked_at() {
        const TWO: &str = "'POST /x', { request = 'POST /x', signed_with = 'k', again = true }";
        assert_eq!(says(TWO, &[request("1", "{}"), request("1", "{}")]), "");
        assert!(says(TWO, &[request("1", "{}"), request("2", "{}")]).contains("again"));
        assert!(says(TWO, &[request("1", "{}"), request("1", "[]")]).contains("its body"));
        assert!(says(TWO, &[request("1", "{}")]).contains("expected"));
        let header =
            "{ request = 'POST /x', signed_with = 'k', headers = { Idempotency-Key = '2' } }";
        let told = says(header, &[request("SECRET", "{}")]);
        assert!(told.contains("Idempotency-Key is another") && !told.contains("SECRET"));
    }
}
