//! The signature on what tools and lookups ask of an operator's own services.
//!
//! HMAC-SHA256 under the configured secret, over the time of sending in Unix seconds, a full stop and
//! the body. The time is part of it so that a request that somebody has recorded is of no use later:
//! a service refuses those that are older than a few minutes.

use ring::hmac;

use crate::config::Secret;

/// The header with the Unix time of sending.
pub const TIMESTAMP: &str = "x-hume-bridge-timestamp";
/// The header with what [`sign`] says, after `v1=`.
pub const SIGNATURE: &str = "x-hume-bridge-signature";

/// In hexadecimal, lower case.
pub fn sign(secret: &Secret, unix: u64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(unix.to_string().as_bytes());
    context.update(b".");
    context.update(body);
    hex(context.sign().as_ref())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with Python's hmac: `hmac.new(b"12345", b"1700000000.{}", "sha256").hexdigest()`.
    #[test]
    fn a_signature_that_another_language_agrees_with() {
        assert_eq!(
            sign(&Secret::new("12345"), 1_700_000_000, b"{}"),
            "8223da2832cbf490bac24beb43207d9e54e37bd7b5ba3635f29776fdbfe4feac"
        );
    }

    #[test]
    fn time_and_body_cannot_change_places() {
        let secret = Secret::new("12345");
        assert_ne!(sign(&secret, 17, b"0.{}"), sign(&secret, 170, b".{}"));
        assert_ne!(sign(&secret, 1, b"{}"), sign(&secret, 2, b"{}"));
        assert_ne!(
            sign(&secret, 1, b"{}"),
            sign(&Secret::new("54321"), 1, b"{}")
        );
    }
}
