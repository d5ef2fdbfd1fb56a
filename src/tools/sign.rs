//! How a service that we call knows that it was us: an HMAC over what it gets and when.
//!
//! `X-Hume-Bridge-Signature: v1=<hex>` is HMAC-SHA256 with a secret that both sides have, over
//! `<timestamp>.<body>`; `X-Hume-Bridge-Timestamp` is that timestamp, seconds since 1970, so that a request
//! cannot be sent again tomorrow.

use std::fmt::Write as _;

use ring::hmac;

use crate::config::Secret;

/// Where the time of signing stands.
pub const TIMESTAMP: &str = "x-hume-bridge-timestamp";
/// And the signature, behind `v1=`.
pub const SIGNATURE: &str = "x-hume-bridge-signature";

/// Lower case hexadecimal.
pub fn sign(secret: &Secret, unix: u64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(format!("{unix}.").as_bytes());
    context.update(body);
    let mut hex = String::with_capacity(64);
    for byte in context.sign().as_ref() {
        _ = write!(hex, "{byte:02x}");
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From Python: `hmac.new(b"key", b"1700000000.{}", "sha256").hexdigest()`.
    #[test]
    fn a_signature_is_what_others_make_of_the_same() {
        let secret = Secret::new("key");
        let expected = "9d713ed406bb7076d4123f0dc2c39d2df5c654ed4b0cd56b52c8b4c940bd63ae";
        assert_eq!(sign(&secret, 1_700_000_000, b"{}"), expected);
        assert_ne!(sign(&secret, 1_700_000_001, b"{}"), expected);
        assert_ne!(sign(&Secret::new("kex"), 1_700_000_000, b"{}"), expected);
    }
}
