//! What Twilio sends over HTTP: the standard voice parameters, signed, and the requests that carry them.
//!
//! The signature is computed here from Twilio's description and held against its published vectors; it shares
//! nothing with the bridge's own.

use std::fmt::Write as _;

use ring::{digest, hmac};

/// Name and value pairs of a form, in the order in which they are sent.
pub type Params = Vec<(String, String)>;

/// `X-Twilio-Signature`: the URL, then every distinct field, sorted, name and value run together.
pub fn signature(auth_token: &str, url: &str, params: &[(String, String)]) -> String {
    let mut fields: Vec<&(String, String)> = params.iter().collect();
    fields.sort();
    fields.dedup();
    let mut data = url.split('#').next().unwrap_or("").to_owned();
    for (name, value) in fields {
        data.push_str(name);
        data.push_str(value);
    }
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, auth_token.as_bytes());
    base64_simd::STANDARD.encode_to_string(hmac::sign(&key, data.as_bytes()))
}

/// The URL that voice signs: https loses its port, everything else stays as it is, to the byte.
pub fn signed_url(url: &str) -> String {
    let Some(rest) = url.strip_prefix("https://") else {
        return url.to_owned();
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = match authority.rsplit_once(':') {
        Some((host, port))
            if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            host
        }
        _ => authority,
    };
    format!("https://{host}{path}")
}

/// The same URL with the port that its scheme implies written out: a form that proxies make of it.
pub fn with_port_443(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    format!(
        "{scheme}://{}:443{path}",
        authority.split(':').next().unwrap_or(authority)
    )
}

/// Authority and request target of an absolute URL.
pub fn split(url: &str) -> (&str, String) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split('#').next().unwrap_or(rest);
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    let target = if target.starts_with('/') {
        target.to_owned()
    } else {
        format!("/{target}")
    };
    (authority, target)
}

/// Who calls whom, as all requests about one call tell it.
pub struct Standard<'a> {
    pub account_sid: &'a str,
    pub call_sid: &'a str,
    pub from: &'a str,
    pub to: &'a str,
    pub direction: &'a str,
}

impl Standard<'_> {
    /// The parameters of the first webhook of an inbound call: one city with an accent and one empty field,
    /// because both have broken signatures.
    pub fn incoming(&self) -> Params {
        let mut params = self.during("ringing");
        params.push((
            "CallToken".into(),
            "%7B%22parentCallInfoToken%22%3A%22eyJhbGciOiJFUzI1NiJ9%22%7D".into(),
        ));
        params.push(("StirVerstat".into(), "TN-Validation-Passed-A".into()));
        params
    }

    /// The parameters of any later request about the call.
    pub fn during(&self, status: &str) -> Params {
        let mut params: Params = [
            ("AccountSid", self.account_sid),
            ("ApiVersion", "2010-04-01"),
            ("CallSid", self.call_sid),
            ("CallStatus", status),
            ("Direction", self.direction),
            ("From", self.from),
            ("To", self.to),
            ("Caller", self.from),
            ("Called", self.to),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        for (party, city) in [
            ("From", "SAN JOSÉ"),
            ("Caller", "SAN JOSÉ"),
            ("To", ""),
            ("Called", ""),
        ] {
            for (field, value) in [
                ("City", city),
                ("State", "CA"),
                ("Zip", ""),
                ("Country", "US"),
            ] {
                params.push((format!("{party}{field}"), value.to_owned()));
            }
        }
        params
    }
}

/// What every callback about a call's progress has beside the standard parameters.
pub fn progress(number: u32) -> Params {
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    let fields = [
        (
            "Timestamp",
            jiff::fmt::rfc2822::to_string(&now).unwrap_or_default(),
        ),
        ("CallbackSource", "call-progress-events".to_owned()),
        ("SequenceNumber", number.to_string()),
    ];
    fields.map(|(name, value)| (name.to_owned(), value)).into()
}

/// A form request, ready for the wire. `signature` is sent as it is given.
pub fn form_request(url: &str, params: &[(String, String)], get: bool, signature: &str) -> Vec<u8> {
    let (authority, mut target) = split(url);
    let form = form(params);
    if get {
        target.push(if target.contains('?') { '&' } else { '?' });
        target.push_str(&form);
    }
    let mut request = format!(
        "{} {target} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: TwilioProxy/1.1\r\nAccept: */*\r\n\
         X-Twilio-Signature: {signature}\r\nI-Twilio-Idempotency-Token: {}\r\nConnection: close\r\n",
        if get { "GET" } else { "POST" },
        uuid(),
    );
    if get {
        request.push_str("\r\n");
    } else {
        // Writing to a String cannot fail.
        let _ = write!(
            request,
            "Content-Type: application/x-www-form-urlencoded; charset=UTF-8\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        );
    }
    request.into_bytes()
}

/// The URL that a GET of this form really asks for, which is the one that is signed.
pub fn get_url(url: &str, params: &[(String, String)]) -> String {
    format!(
        "{url}{}{}",
        if url.contains('?') { '&' } else { '?' },
        form(params)
    )
}

fn form(params: &[(String, String)]) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(params)
        .finish()
}

/// The upgrade of Media Streams: these headers and no others.
pub fn upgrade_request(url: &str, key: &str, signature: &str) -> Vec<u8> {
    let (authority, target) = split(url);
    format!(
        "GET {target} HTTP/1.1\r\nhost: {authority}\r\nuser-agent: Twilio.TmeWs/1.0\r\nconnection: Upgrade\r\n\
         upgrade: websocket\r\nsec-websocket-key: {key}\r\nsec-websocket-version: 13\r\n\
         x-twilio-signature: {signature}\r\naccept-encoding: gzip\r\n\r\n"
    )
    .into_bytes()
}

/// What a server must answer to `key` (RFC 6455, 4.2.2).
pub fn accept_of(key: &str) -> String {
    let data = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, data.as_bytes());
    base64_simd::STANDARD.encode_to_string(digest)
}

/// `N` random bytes.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes)
        .expect("the operating system gives random bytes");
    bytes
}

/// A SID as Twilio makes them: two letters and 32 hexadecimal digits.
pub fn sid(prefix: &str) -> String {
    random::<16>()
        .iter()
        .fold(prefix.to_owned(), |mut sid, byte| {
            let _ = write!(sid, "{byte:02x}"); // writing to a String cannot fail
            sid
        })
}

fn uuid() -> String {
    let hex = sid("");
    format!(
        "{}-{}-4{}-a{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[13..16],
        &hex[17..20],
        &hex[20..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign(url: &str, params: &[(&str, &str)]) -> String {
        let params: Params = params
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        signature("12345", url, &params)
    }

    #[test]
    fn signs_as_twilio_publishes_and_its_libraries_compute() {
        let docs = [
            ("CallSid", "CA1234567890ABCDE"),
            ("Caller", "+14158675310"),
            ("Digits", "1234"),
            ("From", "+14158675310"),
            ("To", "+18005551212"),
        ];
        assert_eq!(
            sign("https://example.com/myapp.php?foo=1&bar=2", &docs),
            "L/OH5YylLD5NRKLltdqwSvS0BnU="
        );
        assert_eq!(
            sign("https://mycompany.com/myapp.php?foo=1&bar=2", &docs),
            "GvWf1cFY/Q7PnoempGyD5oXAezc="
        );
        let twice = [
            ("Sid", "CA123"),
            ("SidAccount", "AC123"),
            ("Digits", "5678"),
            ("Digits", "1234"),
            ("Digits", "1234"),
        ];
        assert_eq!(
            sign("https://mycompany.com/myapp.php?foo=1&bar=2", &twice),
            "IK+Dwps556ElfBT0I3Rgjkr1wJU="
        );
        let case = [("b", "1"), ("B", "2"), ("a", "3"), ("A", "4")];
        assert_eq!(
            sign("https://bridge.example.com/x", &case),
            "ihj8e6p6bSc65KaYPafNVf8vqOk="
        );
        assert_eq!(
            sign("https://bridge.example.com/x", &[("A", ""), ("B", "x")]),
            "6L7jgHvXprFRWtCb6J6Yi1SRRfE="
        );
    }

    #[test]
    fn signs_the_upgrade_over_the_url_of_the_twiml() {
        assert_eq!(
            sign("wss://bridge.example.com/twilio/media", &[]),
            "hGVJmeOLwZmJhPeWsyRDIvgH8Zc="
        );
        assert_eq!(
            sign("wss://bridge.example.com/twilio/media/", &[]),
            "K34XpNWz3mSbbFwtWeDWONZkGSc="
        );
        assert_eq!(
            sign(&with_port_443("wss://bridge.example.com/twilio/media"), &[]),
            "KP439dnhRyBwGAmv7jBbMqOXXjI="
        );
        assert_eq!(
            sign("ws://127.0.0.1:8080/twilio/media", &[]),
            "q0OXAsbycmtEqPk4bsurNjauncQ="
        );
    }

    #[test]
    fn a_get_is_signed_over_its_query() {
        let params: Params = vec![
            (
                "CallSid".into(),
                "CA0123456789abcdef0123456789abcdef".into(),
            ),
            ("CallStatus".into(), "completed".into()),
        ];
        let url = get_url("https://bridge.example.com/twilio/status", &params);
        assert_eq!(sign(&url, &[]), "AlY9Q4+WEovozP3XxDEeAINFgw4=");
    }

    #[test]
    fn https_is_signed_without_its_port() {
        assert_eq!(signed_url("https://h:8443/x?y=:1"), "https://h/x?y=:1");
        assert_eq!(signed_url("https://h/x"), "https://h/x");
        assert_eq!(
            signed_url("http://127.0.0.1:8080/x"),
            "http://127.0.0.1:8080/x"
        );
    }

    #[test]
    fn answers_the_key_of_rfc_6455() {
        assert_eq!(
            accept_of("dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn sids_and_uuids_have_their_shape() {
        assert_eq!(sid("MZ").len(), 34);
        assert_eq!(uuid().len(), 36);
        assert_ne!(sid("MZ"), sid("MZ"));
    }
}
