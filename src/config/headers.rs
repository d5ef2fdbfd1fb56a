//! What requests to an operator's own services carry: headers, and secrets in them by name.
//!
//! A value may hold `{credential:NAME}`, any number of them; the secret itself stands in the
//! credentials under that name and never in the config. A header that looks as if it held a secret
//! is refused, and no message repeats a value.

use std::collections::{BTreeMap, BTreeSet};

use toml::de::DeValue;

use super::{
    HeaderValue, Secret,
    check::{self, Checked, complain},
    credentials,
    reader::Section,
    secret::{WHERE_SECRETS_GO, has_a_scheme, names_a_secret},
};

const OPEN: &str = "{credential:";

/// One piece of a header's value.
enum Piece<'v> {
    Text(&'v str),
    /// By name.
    Credential(&'v str),
}

impl HeaderValue {
    /// In their order. What cannot be read is text: the config has none such.
    fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        let mut rest = self.0.as_str();
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            if let Some(inner) = rest.strip_prefix(OPEN)
                && let Some((name, behind)) = inner.split_once('}')
            {
                rest = behind;
                return Some(Piece::Credential(name));
            }
            let end = rest
                .match_indices(OPEN)
                .map(|(at, _)| at)
                .find(|at| *at > 0);
            let (text, behind) = rest.split_at(end.unwrap_or(rest.len()));
            rest = behind;
            Some(Piece::Text(text))
        })
    }

    /// The names of the credentials in it.
    pub fn credentials(&self) -> impl Iterator<Item = &str> {
        self.pieces().filter_map(|piece| match piece {
            Piece::Credential(name) => Some(name),
            Piece::Text(_) => None,
        })
    }

    /// As it is sent; an error is the name of a credential that is not there.
    pub fn filled(&self, named: &BTreeMap<String, Secret>) -> Result<Secret, &str> {
        let mut value = String::new();
        for piece in self.pieces() {
            value.push_str(match piece {
                Piece::Text(text) => text,
                Piece::Credential(name) => named.get(name).ok_or(name)?.expose(),
            });
        }
        Ok(Secret::new(value))
    }
}

/// Reads `headers`, where it stands.
pub(super) fn headers(section: &mut Section<'_, '_>) -> BTreeMap<String, HeaderValue> {
    headers_but(section, |_| Ok(()))
}

/// The same, with more to be said about names; `fits` gets them in small letters.
pub(super) fn headers_but(
    section: &mut Section<'_, '_>,
    fits: impl Fn(&str) -> Checked<()>,
) -> BTreeMap<String, HeaderValue> {
    let mut seen = BTreeSet::new();
    let headers = section.entries("headers", |written, value| {
        name(written)?;
        let lower = written.to_ascii_lowercase();
        fits(&lower)?;
        if !seen.insert(lower) {
            return complain("stands there twice", "remove one of them");
        }
        let text = check::text(value)?;
        header(written, text).map(HeaderValue)
    });
    headers.unwrap_or_default()
}

/// What HTTP itself decides, and what is another for each request.
const OURS: [&str; 15] = [
    "host",
    "content-length",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "proxy-connection",
    "proxy-authorization",
    "keep-alive",
    "upgrade",
    "te",
    "trailer",
    "expect",
    "http2-settings",
    "accept-encoding",
    "idempotency-key",
];

pub(super) fn name(written: &str) -> Checked<()> {
    let lower = written.to_ascii_lowercase();
    // RFC 9110, section 5.6.2.
    let fits = (1..=64).contains(&lower.len())
        && lower
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
    if !fits {
        return complain(
            "is not the name of a header",
            "write letters, digits and dashes, as in X-Department",
        );
    }
    if lower.starts_with("x-hume-bridge-") {
        return complain(
            "is one of the bridge's own headers",
            "remove it; sign_with has requests signed",
        );
    }
    match OURS.contains(&&*lower) {
        true => complain(
            "is a header that the bridge decides",
            "remove it; lengths, the connection and the key of a repetition are the bridge's affair",
        ),
        false => Ok(()),
    }
}

fn header(name: &str, text: &str) -> Checked<String> {
    const MOST: usize = 4096;
    if text.is_empty() || text.len() > MOST {
        return complain(
            "is empty or has more than 4096 characters",
            "write its value, or remove the header",
        );
    }
    if !text.bytes().all(|b| matches!(b, b' '..=b'~')) || text.trim() != text {
        return complain(
            "has a line break, a space at an end or a character that is not ASCII",
            "write what can stand in a header, on one line",
        );
    }
    let value = HeaderValue(text.to_owned());
    let mut literal = true;
    for piece in value.pieces() {
        match piece {
            Piece::Text(text) if text.contains(['{', '}']) => {
                return complain(
                    "has { or } in it, and only {credential:NAME} stands for something",
                    "write \"{credential:NAME}\", with the name of a credential",
                );
            }
            Piece::Text(_) => {}
            Piece::Credential(name) => {
                credential(name)?;
                literal = false;
            }
        }
    }
    if literal && is_secret(name, text) {
        return complain(
            "looks like a secret, and secrets never stand in this file",
            format!("write {OPEN}NAME}} in its place, and {WHERE_SECRETS_GO} under that NAME"),
        );
    }
    Ok(value.0)
}

/// Whether a header of this name and value lets somebody in.
fn is_secret(name: &str, value: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let named = names_a_secret(&name)
        || name.contains("auth")
        || name.contains("cookie")
        || name.ends_with("key");
    named || has_a_scheme(value)
}

/// The name of a credential that is the operator's, not the bridge's.
pub(super) fn credential(name: &str) -> Checked<String> {
    const MEND: &str = "write small letters, digits and dashes, as in \"crm-key\"; the value stands \
                        in the credentials under that name";
    let fits = (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !fits {
        return complain("does not name a credential", MEND);
    }
    match credentials::is_own(name) {
        true => complain(
            "names a credential of the bridge itself, which nobody else gets",
            "give the service one of its own",
        ),
        false => Ok(name.to_owned()),
    }
}

/// Reads `sign_with`, where it stands.
pub(super) fn sign_with(section: &mut Section<'_, '_>) -> Option<String> {
    section.read("sign_with", |v: &DeValue<'_>| credential(check::text(v)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_come_into_their_places() {
        let named = BTreeMap::from([
            ("a".to_owned(), Secret::new("1")),
            ("b-c".to_owned(), Secret::new("{credential:a}")),
        ]);
        let value = HeaderValue("Basic {credential:a}:{credential:b-c}=".into());
        assert_eq!(value.credentials().collect::<Vec<_>>(), ["a", "b-c"]);
        let filled = value.filled(&named).unwrap();
        assert_eq!(filled.expose(), "Basic 1:{credential:a}=");
        assert_eq!(
            HeaderValue("x".into()).filled(&named).unwrap().expose(),
            "x"
        );
        assert!(
            HeaderValue("{credential:d}".into())
                .filled(&named)
                .is_err_and(|name| name == "d")
        );
        assert!(!format!("{filled:?}").contains('1'));
    }
}
