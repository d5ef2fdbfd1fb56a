//! The lists of callers: `calls.allow` and `calls.deny`.
//!
//! An entry is the beginning of what Twilio calls the caller: `"+882"`, `"client:"`,
//! `"sip:alice@"`, or the word `"anonymous"` for everybody who withholds the number. Entries may be
//! whole telephone numbers, so no message repeats one and `Debug` shows none: they are named by
//! their place in the list.

use std::fmt;

use toml::de::DeValue;

use super::{
    check::{self, Checked, Complaint},
    suggest,
};

/// An entry of `calls.allow` or `calls.deny`.
#[derive(Clone, PartialEq, Eq)]
pub enum CallerPrefix {
    /// `"anonymous"`
    Withheld,
    /// `+` and digits, or an address with its scheme in lower case; what the caller begins with.
    Begins(String),
}

/// Without the number.
impl fmt::Debug for CallerPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CallerPrefix::Withheld => "Withheld",
            CallerPrefix::Begins(_) => "Begins(..)",
        })
    }
}

impl CallerPrefix {
    /// Whether every caller that `other` is about is one of ours.
    pub(super) fn covers(&self, other: &CallerPrefix) -> bool {
        match (self, other) {
            (CallerPrefix::Withheld, CallerPrefix::Withheld) => true,
            (CallerPrefix::Begins(ours), CallerPrefix::Begins(theirs)) => theirs.starts_with(ours),
            _ => false,
        }
    }
}

const FORM: &str = r#"write + and digits as in "+882", an address as in "client:" or "sip:alice@", or "anonymous" for withheld numbers"#;

/// What Twilio puts before a caller that is no telephone number.
const SCHEMES: [&str; 4] = ["client:", "sip:", "sips:", "whatsapp:"];

/// E.164 has no longer numbers.
const MOST_DIGITS: usize = 15;
/// More than any SIP address that is written by hand.
const MOST_BYTES: usize = 256;

/// A whole list.
pub(super) fn callers(value: &DeValue<'_>) -> Checked<Vec<CallerPrefix>> {
    check::entries(value, r#"["+882"]"#, |value| {
        check::text(value).and_then(entry)
    })
}

/// One entry.
pub(super) fn entry(text: &str) -> Checked<CallerPrefix> {
    let complain = |what: &str, mend: &str| {
        Err(Complaint {
            what: what.to_owned(),
            mend: mend.to_owned(),
        })
    };
    let lower = text.to_ascii_lowercase();
    if text.is_empty() {
        return complain("is empty, which would be everybody", "remove it");
    }
    if lower == "anonymous" {
        return Ok(CallerPrefix::Withheld);
    }
    if let Some(digits) = text.strip_prefix('+') {
        if digits.is_empty() {
            return complain(
                "is + alone, which would be every number",
                "write the digits that the numbers begin with, as in \"+882\"",
            );
        }
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return complain(
                "has something other than digits after the +",
                "write digits only, without spaces, dashes, brackets or *",
            );
        }
        if digits.starts_with('0') || digits.len() > MOST_DIGITS {
            return complain(
                "is not how a telephone number begins",
                "write + and the country code, which never begins with 0, then at most 15 digits \
                 in all",
            );
        }
        return Ok(CallerPrefix::Begins(text.to_owned()));
    }
    if SCHEMES.iter().any(|scheme| lower.starts_with(scheme)) {
        if text.len() > MOST_BYTES || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return complain("is not the beginning of an address", FORM);
        }
        return Ok(CallerPrefix::Begins(lower));
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return complain(
            "has no +",
            match text.starts_with("00") {
                true => "write + in place of 00: Twilio writes every number as + and country code",
                false => "write + and the country code: that is how Twilio writes every number",
            },
        );
    }
    const MEANT: [&str; 7] = [
        "anonymous",
        "withheld",
        "restricted",
        "private",
        "unknown",
        "unavailable",
        "blocked",
    ];
    if suggest::nearest(&lower, MEANT).is_some() {
        return complain("is no word for callers", "did you mean \"anonymous\"?");
    }
    complain("is not the beginning of a caller", FORM)
}

/// The first entry of `allow` that lets nobody in, because of an entry of `deny`; both counted
/// from 1.
pub(super) fn contradiction(
    allow: &[CallerPrefix],
    deny: &[CallerPrefix],
) -> Option<(usize, usize)> {
    allow.iter().enumerate().find_map(|(a, allowed)| {
        let d = deny.iter().position(|denied| denied.covers(allowed))?;
        Some((a + 1, d + 1))
    })
}
