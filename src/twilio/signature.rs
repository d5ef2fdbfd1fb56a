//! X-Twilio-Signature: is this request Twilio's?
//!
//! Twilio signs the URL it requested, followed for a form by its sorted fields, with an HMAC whose
//! key is the account's auth token (Twilio docs, "Security"). Behind proxies nobody knows for
//! certain how that URL was spelled, so the check starts from the configured public URL, never from
//! `Host` or `X-Forwarded-*`, takes path and query byte for byte from the request line, and tries
//! the few spellings that Twilio is known to use: without a port, with the stated one, with the
//! scheme's own.
//!
//! All candidates are always computed and compared in constant time. A missing header, an unknown
//! algorithm or an empty secret is a no. Nothing here says why it was a no: the peer must not learn.

use ring::{digest, hmac};

use crate::config::{PublicUrl, Secret};

/// The two headers that concern the signature, as they came.
#[derive(Clone, Copy, Debug, Default)]
pub struct SignatureHeaders<'a> {
    /// `X-Twilio-Signature`
    pub signature: Option<&'a str>,
    /// `X-Twilio-Webhooks-Signature-Settings`: `key=...,algorithm=HMAC_SHA256`. Absent, or without
    /// an algorithm, means HMAC-SHA1 with the auth token.
    pub settings: Option<&'a str>,
}

/// Checks signatures for one account.
#[derive(Clone, Debug)]
pub struct Verifier {
    /// `None` when the secret is empty: anybody can sign with that, so nobody may.
    sha1: Option<hmac::Key>,
    sha256: Option<hmac::Key>,
}

impl Verifier {
    /// `auth_token` is the account's primary auth token, which signs even when REST uses an API key.
    pub fn new(auth_token: &Secret) -> Self {
        Verifier {
            sha1: key(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, auth_token),
            sha256: key(hmac::HMAC_SHA256, auth_token),
        }
    }

    /// With a shared key, SHA-256 signatures are checked with it instead of the auth token.
    pub fn with_shared_key(mut self, shared_key: Option<&Secret>) -> Self {
        if let Some(shared_key) = shared_key {
            self.sha256 = key(hmac::HMAC_SHA256, shared_key);
        }
        self
    }

    /// A webhook. `path_and_query` is what the request line had; `params` are the decoded form
    /// fields of a POST, all of them, untrimmed, and `None` for a GET.
    pub fn verify_request(
        &self,
        url: &PublicUrl,
        path_and_query: &str,
        params: Option<&[(String, String)]>,
        headers: SignatureHeaders<'_>,
    ) -> bool {
        let scheme = if url.secure { "https" } else { "http" };
        let path = public_path(url, path_and_query);
        let signed: Vec<String> = origins(url, scheme)
            .iter()
            .map(|origin| format!("{origin}{path}"))
            .collect();
        self.any_matches(&signed, &canonical(params.unwrap_or_default()), headers)
    }

    /// A webhook whose body is no form. Twilio then puts the body's SHA-256 into the query as
    /// `bodySHA256` and signs the URL alone. Without that parameter nothing vouches for the body,
    /// and a form belongs to [`Verifier::verify_request`]: both are refused.
    pub fn verify_body(
        &self,
        url: &PublicUrl,
        path_and_query: &str,
        content_type: Option<&str>,
        body: &[u8],
        headers: SignatureHeaders<'_>,
    ) -> bool {
        let query = path_and_query
            .split_once('?')
            .map_or("", |(_, query)| query);
        let claimed = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("bodySHA256="));
        let Some(claimed) = claimed.and_then(decode_hex_sha256) else {
            return false;
        };
        if content_type.is_some_and(is_form) {
            return false;
        }
        let actual = digest::digest(&digest::SHA256, body);
        let body_ok = equal_in_constant_time(actual.as_ref(), &claimed);
        let url_ok = self.verify_request(url, path_and_query, None, headers);
        body_ok & url_ok
    }

    /// The WebSocket upgrade of Media Streams: signed over the `wss://` URL of the TwiML, no fields,
    /// sometimes with a slash behind the path (Twilio docs, "Security", troubleshooting).
    pub fn verify_upgrade(
        &self,
        url: &PublicUrl,
        path_and_query: &str,
        headers: SignatureHeaders<'_>,
    ) -> bool {
        let scheme = if url.secure { "wss" } else { "ws" };
        let path = public_path(url, path_and_query);
        let (bare, query) = path.split_at(path.find('?').unwrap_or(path.len()));
        let mut signed = Vec::with_capacity(6);
        for origin in origins(url, scheme) {
            signed.push(format!("{origin}{path}"));
            if !bare.ends_with('/') {
                signed.push(format!("{origin}{bare}/{query}"));
            }
        }
        self.any_matches(&signed, "", headers)
    }

    fn any_matches(&self, urls: &[String], fields: &str, headers: SignatureHeaders<'_>) -> bool {
        let Some(key) = self.key_for(headers.settings) else {
            return false;
        };
        let Some(mac) = headers.signature.and_then(decode_mac) else {
            return false;
        };
        let mut matched = false;
        let mut message = String::new();
        for url in urls {
            message.clear();
            message.push_str(url);
            message.push_str(fields);
            // No early exit: which spelling matched is nobody's business.
            matched |= hmac::verify(key, message.as_bytes(), &mac).is_ok();
        }
        matched
    }

    fn key_for(&self, settings: Option<&str>) -> Option<&hmac::Key> {
        let algorithm = settings.unwrap_or_default().split(',').find_map(|part| {
            let (name, value) = part.split_once('=')?;
            let value = value.trim();
            (name.trim() == "algorithm" && !value.is_empty()).then_some(value)
        });
        match algorithm {
            None => self.sha1.as_ref(),
            Some(name) if name.eq_ignore_ascii_case("HMAC_SHA1") => self.sha1.as_ref(),
            Some(name) if name.eq_ignore_ascii_case("HMAC_SHA256") => self.sha256.as_ref(),
            Some(_) => None,
        }
    }
}

/// Signs as Twilio does, HMAC-SHA1: for whoever plays Twilio.
pub fn sign(key: &Secret, url: &str, params: &[(String, String)]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key.expose().as_bytes());
    let message = format!("{url}{}", canonical(params));
    base64_simd::STANDARD.encode_to_string(hmac::sign(&key, message.as_bytes()))
}

fn key(algorithm: hmac::Algorithm, secret: &Secret) -> Option<hmac::Key> {
    let secret = secret.expose().as_bytes();
    (!secret.is_empty()).then(|| hmac::Key::new(algorithm, secret))
}

/// Distinct names in byte order, under each its distinct values in byte order, no separators.
fn canonical(params: &[(String, String)]) -> String {
    let mut pairs: Vec<(&str, &str)> = params
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    pairs.sort_unstable();
    pairs.dedup();
    pairs
        .into_iter()
        .flat_map(|(name, value)| [name, value])
        .collect()
}

/// `scheme://host`, without a port, with the stated one, with the scheme's own.
fn origins(url: &PublicUrl, scheme: &str) -> Vec<String> {
    let own = if url.secure { 443 } else { 80 };
    let host = &url.host;
    let mut origins = vec![
        format!("{scheme}://{host}"),
        format!("{scheme}://{host}:{own}"),
    ];
    if let Some(port) = url.port.filter(|port| *port != own) {
        origins.push(format!("{scheme}://{host}:{port}"));
    }
    origins
}

/// The path as Twilio asked for it: a proxy may or may not have taken the public prefix off.
fn public_path(url: &PublicUrl, path_and_query: &str) -> String {
    // A fragment carries Twilio's connection overrides and is never part of what is signed.
    let path = path_and_query.split('#').next().unwrap_or_default();
    let has_prefix = path
        .strip_prefix(url.prefix.as_str())
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
    if has_prefix {
        path.to_owned()
    } else {
        format!("{}{path}", url.prefix)
    }
}

/// Whether a content type says `application/x-www-form-urlencoded`, with or without parameters.
pub(crate) fn is_form(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default();
    media_type
        .trim()
        .eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

fn decode_mac(text: &str) -> Option<Vec<u8>> {
    // 44 characters hold the longest that can be right.
    if text.len() > 44 {
        None
    } else {
        base64_simd::STANDARD.decode_to_vec(text).ok()
    }
}

fn decode_hex_sha256(text: &str) -> Option<[u8; 32]> {
    let digits: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let nibble = |digit: u8| char::from(digit).to_digit(16);
    let mut out = [0; 32];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::try_from(nibble(pair[0])? * 16 + nibble(pair[1])?).ok()?;
    }
    Some(out)
}

/// ring's own slice comparison is deprecated for outside use, its HMAC check is not: two values are
/// the same when their MACs under one key are.
fn equal_in_constant_time(left: &[u8], right: &[u8]) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"comparison only");
    hmac::verify(&key, left, hmac::sign(&key, right).as_ref()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "12345";

    fn verifier() -> Verifier {
        Verifier::new(&Secret::new(TOKEN))
    }

    fn site(secure: bool, host: &str, port: Option<u16>, prefix: &str) -> PublicUrl {
        PublicUrl {
            secure,
            host: host.into(),
            port,
            prefix: prefix.into(),
        }
    }

    fn bridge() -> PublicUrl {
        site(true, "bridge.example.com", None, "")
    }

    fn signed(signature: &str) -> SignatureHeaders<'_> {
        SignatureHeaders {
            signature: Some(signature),
            settings: None,
        }
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect()
    }

    fn docs_example(caller: &str) -> Vec<(String, String)> {
        pairs(&[
            ("CallSid", "CA1234567890ABCDE"),
            ("Caller", caller),
            ("Digits", "1234"),
            ("From", caller),
            ("To", "+18005551212"),
        ])
    }

    fn incoming_call() -> Vec<(String, String)> {
        pairs(&[
            ("AccountSid", "AC0123456789abcdef0123456789abcdef"),
            ("ApiVersion", "2010-04-01"),
            ("CallSid", "CA0123456789abcdef0123456789abcdef"),
            ("CallStatus", "ringing"),
            ("Called", "+15557654321"),
            ("Caller", "+15551234567"),
            ("Direction", "inbound"),
            ("From", "+15551234567"),
            ("FromCity", "SAN JOS\u{c9}"),
            ("FromZip", ""),
            ("To", "+15557654321"),
        ])
    }

    const PHP: &str = "/myapp.php?foo=1&bar=2";

    /// V1, V1c: the published example, the same for another host, and the SDKs' own unit test.
    #[test]
    fn the_documented_examples_verify() {
        for (host, caller, signature) in [
            (
                "example.com",
                "+14158675310",
                "L/OH5YylLD5NRKLltdqwSvS0BnU=",
            ),
            (
                "mycompany.com",
                "+14158675310",
                "GvWf1cFY/Q7PnoempGyD5oXAezc=",
            ),
            (
                "mycompany.com",
                "+14158675309",
                "RSOYDt4T1cUTdK1PDd93/VVr8B8=",
            ),
        ] {
            let params = docs_example(caller);
            let url = site(true, host, None, "");
            assert!(verifier().verify_request(&url, PHP, Some(&params), signed(signature)));
            assert_eq!(
                sign(
                    &Secret::new(TOKEN),
                    &format!("https://{host}{PHP}"),
                    &params
                ),
                signature
            );
        }
    }

    /// V1b
    #[test]
    fn a_shared_key_signature_is_sha256_and_unknown_algorithms_are_refused() {
        let params = docs_example("+14158675310");
        let url = site(true, "example.com", None, "");
        let check = |verifier: &Verifier, settings: Option<&str>, signature: &str| {
            let headers = SignatureHeaders {
                signature: Some(signature),
                settings,
            };
            verifier.verify_request(&url, PHP, Some(&params), headers)
        };
        let sha1 = "L/OH5YylLD5NRKLltdqwSvS0BnU=";
        let sha256 = "qMztBq0IANMH/q0K9sCfKQJLylezvRdRzRS647SAVow=";
        let settings = Some("key=webhooks_sharedkey_1,algorithm=HMAC_SHA256");

        assert!(check(&verifier(), settings, sha256));
        assert!(check(
            &verifier(),
            Some(" algorithm = HMAC_SHA256 , key=x"),
            sha256
        ));
        assert!(check(&verifier(), Some("key=x"), sha1));
        assert!(check(&verifier(), Some("algorithm="), sha1));
        assert!(!check(&verifier(), None, sha256));
        assert!(!check(&verifier(), settings, sha1));
        assert!(!check(&verifier(), Some("algorithm=HMAC_SHA512"), sha1));
        assert!(!check(&verifier(), Some("algorithm=none"), sha256));

        // With a shared key of its own, SHA-256 no longer hangs on the auth token; SHA-1 still does.
        let own = Verifier::new(&Secret::new("other")).with_shared_key(Some(&Secret::new(TOKEN)));
        assert!(check(&own, settings, sha256));
        assert!(!check(&own, None, sha1));
        let own = verifier().with_shared_key(Some(&Secret::new("other")));
        assert!(!check(&own, settings, sha256));
        assert!(check(&own, None, sha1));
        assert!(check(&verifier().with_shared_key(None), settings, sha256));
    }

    /// V2
    #[test]
    fn an_incoming_call_verifies_however_twilio_spells_the_port() {
        let params = incoming_call();
        let check = |url: &PublicUrl, signature: &str| {
            verifier().verify_request(url, "/twilio/voice", Some(&params), signed(signature))
        };
        let plain = "MXTTEtAbVb5EBfKsmZhja4jypdI=";
        let on_443 = "J/FmdTu0mNx9HqTkuI/8srPbmF8=";
        let on_8443 = "BcesQMcMuIHEiTx8755yg9CdmzY=";

        assert!(check(&bridge(), plain));
        assert!(check(&bridge(), on_443));
        assert!(!check(&bridge(), on_8443));

        let stated = site(true, "bridge.example.com", Some(8443), "");
        assert!(check(&stated, plain));
        assert!(check(&stated, on_443));
        assert!(check(&stated, on_8443));

        let stated = site(true, "bridge.example.com", Some(443), "");
        assert!(check(&stated, plain));
        assert!(check(&stated, on_443));
    }

    #[test]
    fn one_changed_byte_anywhere_is_a_forgery() {
        let good = "MXTTEtAbVb5EBfKsmZhja4jypdI=";
        let path = "/twilio/voice";
        for index in 0..incoming_call().len() {
            let mut params = incoming_call();
            params[index].1.push(' ');
            assert!(!verifier().verify_request(&bridge(), path, Some(&params), signed(good)));
            let mut params = incoming_call();
            params.remove(index);
            assert!(!verifier().verify_request(&bridge(), path, Some(&params), signed(good)));
        }
        let params = incoming_call();
        let refused = |url: &PublicUrl, path: &str, signature: &str| {
            !verifier().verify_request(url, path, Some(&params), signed(signature))
        };
        assert!(refused(&bridge(), "/twilio/voice/", good));
        assert!(refused(&bridge(), "/twilio/voice?", good));
        assert!(refused(&bridge(), "/twilio/%76oice", good));
        assert!(refused(
            &site(false, "bridge.example.com", None, ""),
            path,
            good
        ));
        assert!(refused(
            &site(true, "bridge.example.org", None, ""),
            path,
            good
        ));
        let long = "A".repeat(100_000);
        for signature in [
            "",
            "=",
            "MXTT",
            "MXTTEtAbVb5EBfKsmZhja4jypdJ=",
            "\u{e9}",
            &long,
        ] {
            assert!(refused(&bridge(), path, signature));
        }
        let unsigned = SignatureHeaders::default();
        assert!(!verifier().verify_request(&bridge(), path, Some(&params), unsigned));
    }

    #[test]
    fn an_empty_secret_lets_nobody_in() {
        let empty = Secret::new("");
        let forged = sign(&empty, "https://bridge.example.com/x", &[]);
        let nobody = Verifier::new(&empty).with_shared_key(Some(&empty));
        assert!(!nobody.verify_request(&bridge(), "/x", None, signed(&forged)));
        let settings = Some("algorithm=HMAC_SHA256");
        let headers = SignatureHeaders {
            signature: Some(&forged),
            settings,
        };
        assert!(!nobody.verify_request(&bridge(), "/x", None, headers));
    }

    /// V3
    #[test]
    fn repeated_fields_are_sorted_and_collapse() {
        let params = pairs(&[
            ("Sid", "CA123"),
            ("SidAccount", "AC123"),
            ("Digits", "5678"),
            ("Digits", "1234"),
            ("Digits", "1234"),
        ]);
        let url = site(true, "mycompany.com", None, "");
        let signature = "IK+Dwps556ElfBT0I3Rgjkr1wJU=";
        assert!(verifier().verify_request(&url, PHP, Some(&params), signed(signature)));
    }

    /// V4
    #[test]
    fn a_json_body_is_vouched_for_by_its_hash_in_the_query() {
        let url = site(true, "example.com", None, "");
        let body = br#"{"CallSid":"CA1234567890ABCDE","Caller":"+12349013030"}"#;
        let hash = "5ccde7145dfb8f56479710896586cb9d5911809d83afbe34627818790db0aec9";
        let path = format!("/myapp?bodySHA256={hash}");
        let headers = signed("hPXmLwIy3Fgqv1i9KPmH/HhQ6zo=");
        let check = |path: &str, content_type: Option<&str>, body: &[u8]| {
            verifier().verify_body(&url, path, content_type, body, headers)
        };
        assert!(check(&path, Some("application/json"), body));
        assert!(check(&path, None, body));
        assert!(!check(&path, Some("application/json"), b"{}"));
        assert!(!check(
            &path,
            Some("application/x-www-form-urlencoded; charset=UTF-8"),
            body
        ));
        assert!(!check("/myapp", Some("application/json"), body));
        assert!(!check("/myapp?bodySHA256=", Some("application/json"), body));
        assert!(!check(
            &path.replace('5', "6"),
            Some("application/json"),
            body
        ));
        // A body that matches its hash is worth nothing when nobody signed the hash.
        let other = digest::digest(&digest::SHA256, b"{}");
        let other: String = other
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert!(!check(
            &format!("/myapp?bodySHA256={other}"),
            Some("application/json"),
            b"{}"
        ));
    }

    /// V5
    #[test]
    fn a_get_is_signed_by_its_url_alone() {
        let path = "/twilio/status?CallSid=CA0123456789abcdef0123456789abcdef&CallStatus=completed";
        let headers = signed("AlY9Q4+WEovozP3XxDEeAINFgw4=");
        assert!(verifier().verify_request(&bridge(), path, None, headers));
        assert!(verifier().verify_request(&bridge(), path, Some(&[]), headers));
        let twice = pairs(&[("CallStatus", "completed")]);
        assert!(!verifier().verify_request(&bridge(), path, Some(&twice), headers));
    }

    /// V6a to V6e
    #[test]
    fn the_media_upgrade_is_signed_as_wss_with_or_without_a_slash() {
        let plain = "hGVJmeOLwZmJhPeWsyRDIvgH8Zc=";
        let slash = "K34XpNWz3mSbbFwtWeDWONZkGSc=";
        let on_443 = "KP439dnhRyBwGAmv7jBbMqOXXjI=";
        let as_https = "lZEvGu0Z5D37/G+S9TnXfxg6Af0=";
        let on_loopback = "q0OXAsbycmtEqPk4bsurNjauncQ=";
        let check = |url: &PublicUrl, signature: &str| {
            verifier().verify_upgrade(url, "/twilio/media", signed(signature))
        };
        let stated = site(true, "bridge.example.com", Some(8443), "");
        for url in [&bridge(), &stated] {
            assert!(check(url, plain));
            assert!(check(url, slash));
            assert!(check(url, on_443));
            assert!(!check(url, as_https));
            assert!(!check(url, on_loopback));
        }
        assert!(check(
            &site(false, "127.0.0.1", Some(8080), ""),
            on_loopback
        ));
        assert!(!verifier().verify_upgrade(&bridge(), "/twilio/medi", signed(plain)));

        // The https form is a webhook's, and a webhook is not a wss one.
        assert!(verifier().verify_request(&bridge(), "/twilio/media", None, signed(as_https)));
        assert!(!verifier().verify_request(&bridge(), "/twilio/media", None, signed(plain)));
    }

    /// V7
    #[test]
    fn fields_are_sorted_by_byte_capitals_first_and_empty_values_leave_their_name() {
        for (params, signature) in [
            (
                pairs(&[("b", "1"), ("B", "2"), ("a", "3"), ("A", "4")]),
                "ihj8e6p6bSc65KaYPafNVf8vqOk=",
            ),
            (
                pairs(&[("A", ""), ("B", "x")]),
                "6L7jgHvXprFRWtCb6J6Yi1SRRfE=",
            ),
        ] {
            assert!(verifier().verify_request(&bridge(), "/x", Some(&params), signed(signature)));
        }
    }

    /// V8
    #[test]
    fn the_query_is_taken_byte_for_byte() {
        let headers = signed("7wazveYlVXv54Jy1O/7IOqlCIo4=");
        assert!(verifier().verify_request(&bridge(), "/x?a=it%27s&b=it's", None, headers));
        assert!(!verifier().verify_request(&bridge(), "/x?a=it's&b=it's", None, headers));
        assert!(!verifier().verify_request(&bridge(), "/x?b=it's&a=it%27s", None, headers));
    }

    #[test]
    fn a_public_prefix_counts_once_whether_or_not_the_proxy_took_it_off() {
        let url = site(true, "bridge.example.com", None, "/twilio");
        let params = incoming_call();
        let headers = signed("MXTTEtAbVb5EBfKsmZhja4jypdI=");
        for path in ["/twilio/voice", "/voice", "/voice#rc=2"] {
            assert!(
                verifier().verify_request(&url, path, Some(&params), headers),
                "{path}"
            );
        }
        // `/twiliovoice` only looks prefixed.
        assert_eq!(public_path(&url, "/twiliovoice"), "/twilio/twiliovoice");
        assert_eq!(public_path(&url, "/twilio?x=1"), "/twilio?x=1");
    }
}
