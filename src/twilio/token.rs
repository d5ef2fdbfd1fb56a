//! The media token: what a webhook gives to the stream that follows it.
//!
//! The media socket is open to the internet and its upgrade says nothing about a call, so the
//! webhook mints a token, sends it along as a `<Parameter>`, and the socket is nobody's until its
//! `start` brings it back. A token is `v2.<expiry>.<mac>`: an HMAC-SHA256 over the CallSid, the expiry
//! and every other parameter of the stream by name and value, each with its length in front so that no
//! two streams spell the same input. What comes beside a good token (who calls, on which route, from
//! where) is therefore our own word, at this instance or at another.
//!
//! The key is derived from the auth token under a fixed label: every instance behind a load
//! balancer honours every other's webhook, and nothing needs to be stored or shared. That a token
//! opens one session only is for the register of sessions to see to: it knows the CallSid.

use std::collections::BTreeMap;

use ring::hmac;

use super::CallSid;
use crate::config::Secret;

const VERSION: &str = "v2";
const LABEL: &[u8] = b"hume-bridge media token, key 1";
/// `v2.` + 20 digits + `.` + 43 characters of base64url.
const MAX_LEN: usize = 3 + 20 + 1 + 43;

/// What else travels with a stream, by name. An empty value is no value: who carries parameters may
/// leave such a one out.
pub type Parameters = BTreeMap<String, String>;

/// Mints and checks media tokens.
#[derive(Clone, Debug)]
pub struct Minter {
    /// `None` when the auth token is empty: then every token is forged.
    key: Option<hmac::Key>,
}

/// Why a token does not open the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the media token is not one of this bridge's version")]
    Malformed,
    #[error("the media token has expired; check that the clocks of all instances agree")]
    Expired,
    #[error("the media token does not belong to this call, or to this twilio_auth_token")]
    Forged,
}

impl Minter {
    pub fn new(auth_token: &Secret) -> Self {
        let auth_token = auth_token.expose().as_bytes();
        let key = (!auth_token.is_empty()).then(|| {
            let derive = hmac::Key::new(hmac::HMAC_SHA256, auth_token);
            hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&derive, LABEL).as_ref())
        });
        Minter { key }
    }

    /// A token for this call and these parameters that is good until just before `expires_unix`
    /// (seconds).
    pub fn mint(&self, call: &CallSid, parameters: &Parameters, expires_unix: u64) -> String {
        let message = message(call, parameters, expires_unix);
        let mut token = format!("{VERSION}.{expires_unix}.");
        if let Some(key) = &self.key {
            base64_simd::URL_SAFE_NO_PAD.encode_append(hmac::sign(key, &message), &mut token);
        }
        token
    }

    /// Returns the token's expiry, by which its holder can tell it from a later one of the same call.
    /// The MAC is judged before the expiry: a stranger learns nothing from the difference.
    ///
    /// A good token is good again until it expires: that it opens one stream only is for the register
    /// of calls to see to, and each instance has its own.
    pub fn check(
        &self,
        token: &str,
        call: &CallSid,
        parameters: &Parameters,
        now_unix: u64,
    ) -> Result<u64, TokenError> {
        let (expires_unix, mac) = take_apart(token).ok_or(TokenError::Malformed)?;
        let key = self.key.as_ref().ok_or(TokenError::Forged)?;
        hmac::verify(key, &message(call, parameters, expires_unix), &mac)
            .map_err(|_| TokenError::Forged)?;
        if now_unix < expires_unix {
            Ok(expires_unix)
        } else {
            Err(TokenError::Expired)
        }
    }
}

fn take_apart(token: &str) -> Option<(u64, Vec<u8>)> {
    if token.len() > MAX_LEN {
        return None;
    }
    let rest = token.strip_prefix(VERSION)?.strip_prefix('.')?;
    let (expiry, mac) = rest.split_once('.')?;
    let expires_unix: u64 = expiry.parse().ok()?;
    // One spelling only: no sign, no leading zeros.
    if expires_unix.to_string() != expiry {
        return None;
    }
    let mac = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(mac).ok()?;
    (mac.len() == 32).then_some((expires_unix, mac))
}

fn message(call: &CallSid, parameters: &Parameters, expires_unix: u64) -> Vec<u8> {
    let expires = expires_unix.to_be_bytes();
    let head = [VERSION.as_bytes(), call.as_str().as_bytes(), &expires];
    let there = parameters.iter().filter(|(_, value)| !value.is_empty());
    let pairs = there.flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]);
    let mut message = Vec::with_capacity(256);
    for field in head.into_iter().chain(pairs) {
        message.extend_from_slice(&(field.len() as u64).to_be_bytes());
        message.extend_from_slice(field);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: &str = "+15551234567";
    const TO: &str = "+15557654321";

    fn with(pairs: &[(&str, &str)]) -> Parameters {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    fn between(from: &str, to: &str) -> Parameters {
        with(&[("from", from), ("to", to), ("route", "shop")])
    }

    fn ours() -> Parameters {
        between(FROM, TO)
    }

    fn minter() -> Minter {
        Minter::new(&Secret::new("12345"))
    }

    fn call(last: char) -> CallSid {
        format!("CA0123456789abcdef0123456789abcde{last}")
            .parse()
            .unwrap()
    }

    #[test]
    fn the_stream_that_follows_a_webhook_gets_in_even_at_another_instance() {
        let token = minter().mint(&call('1'), &ours(), 1_000);
        assert!(token.starts_with("v2.1000."), "{token}");
        assert_eq!(token.len(), "v2.1000.".len() + 43);
        let elsewhere = Minter::new(&Secret::new("12345"));
        assert_eq!(elsewhere.check(&token, &call('1'), &ours(), 999), Ok(1_000));
        let longest = minter().mint(&call('1'), &ours(), u64::MAX);
        assert_eq!(
            minter().check(&longest, &call('1'), &ours(), 999),
            Ok(u64::MAX)
        );
    }

    #[test]
    fn a_token_is_good_until_its_expiry_and_not_at_it() {
        let token = minter().mint(&call('1'), &ours(), 1_000);
        for late in [1_000, 1_001, u64::MAX] {
            let answer = minter().check(&token, &call('1'), &ours(), late);
            assert_eq!(answer, Err(TokenError::Expired));
        }
    }

    #[test]
    fn a_token_opens_no_other_call() {
        let token = minter().mint(&call('1'), &ours(), 1_000);
        let forged = Err(TokenError::Forged);
        let check = |call: CallSid, parameters: &Parameters| {
            assert_eq!(minter().check(&token, &call, parameters, 0), forged);
        };
        check(call('2'), &ours());
        check(call('1'), &between(TO, FROM));
        check(call('1'), &between(FROM, "+1555765432"));
        // The seam between the two numbers cannot be moved.
        check(call('1'), &between("+15551234567+", "15557654321"));
        let elsewhere = Minter::new(&Secret::new("x"));
        assert_eq!(elsewhere.check(&token, &call('1'), &ours(), 0), forged);
        let prolonged = token.replace("v2.1000.", "v2.9000.");
        assert_eq!(minter().check(&prolonged, &call('1'), &ours(), 0), forged);
        // Expired and forged is forged: the expiry of a stranger's token means nothing.
        assert_eq!(
            minter().check(&prolonged, &call('1'), &ours(), 10_000),
            forged
        );
    }

    #[test]
    fn a_token_covers_every_parameter_of_its_stream() {
        let ours = with(&[("from", FROM), ("city", "Rome"), ("route", "shop")]);
        let token = minter().mint(&call('1'), &ours, 1_000);
        let check = |pairs: &[(&str, &str)]| minter().check(&token, &call('1'), &with(pairs), 0);
        let good = Ok(1_000);
        assert_eq!(
            check(&[("route", "shop"), ("from", FROM), ("city", "Rome")]),
            good
        );
        // Twilio may drop what is empty, or not.
        assert_eq!(
            check(&[
                ("from", FROM),
                ("city", "Rome"),
                ("route", "shop"),
                ("zip", "")
            ]),
            good
        );
        for forged in [
            &[("from", FROM), ("city", "Rome"), ("route", "office")][..],
            &[("from", FROM), ("city", "Rome")],
            &[("from", FROM), ("city", ""), ("route", "shop")],
            &[("from", FROM), ("town", "Rome"), ("route", "shop")],
            &[("from", FROM), ("city", "Romeroute"), ("shop", "")],
            &[
                ("from", FROM),
                ("city", "Rome"),
                ("route", "shop"),
                ("zip", "1"),
            ],
            &[("city", FROM), ("from", "Rome"), ("route", "shop")],
            &[],
        ] {
            assert_eq!(check(forged), Err(TokenError::Forged), "{forged:?}");
        }
    }

    #[test]
    fn without_a_secret_there_are_no_tokens() {
        let nobody = Minter::new(&Secret::new(""));
        let token = nobody.mint(&call('1'), &ours(), 1_000);
        assert_eq!(
            nobody.check(&token, &call('1'), &ours(), 0),
            Err(TokenError::Malformed)
        );
        let token = minter().mint(&call('1'), &ours(), 1_000);
        assert_eq!(
            nobody.check(&token, &call('1'), &ours(), 0),
            Err(TokenError::Forged)
        );
    }

    #[test]
    fn what_is_no_token_is_malformed() {
        let good = minter().mint(&call('1'), &ours(), 1_000);
        let mac = good.rsplit_once('.').unwrap().1;
        for end in 0..good.len() {
            let answer = minter().check(&good[..end], &call('1'), &ours(), 0);
            assert_eq!(answer, Err(TokenError::Malformed), "cut at {end}");
        }
        for wrong in [
            String::new(),
            "v2".into(),
            "v2..".into(),
            format!("v1.1000.{mac}"),
            format!("v2.+1000.{mac}"),
            format!("v2.01000.{mac}"),
            format!("v2.-1.{mac}"),
            format!("v2.99999999999999999999999.{mac}"),
            format!("v2.1000.{mac}="),
            format!("v2.1000.{mac}.x"),
            format!("v2.1000. {mac}"),
            format!("v2.1000.{}\u{e9}", &mac[..41]),
            "v2.".repeat(100_000),
        ] {
            let answer = minter().check(&wrong, &call('1'), &ours(), 0);
            assert_eq!(answer, Err(TokenError::Malformed), "{wrong}");
        }
    }
}
