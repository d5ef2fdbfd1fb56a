//! A webhook from anybody: its form, its signature, the token and the TwiML that come of it.
//!
//! Nothing panics. A form is what the URL standard reads, or refused. What Twilio has signed
//! verifies in any order and at every spelling of the URL that it is known to use, and nothing else
//! does: not a changed field, not another path, not another's key. A token opens the stream of one
//! call. No message and no mask repeats a number. Whatever a caller is called, our TwiML stays
//! well-formed and hands it on.
//!
//! The first three lines are path and query, the signature (or a token) and its settings (or a
//! content type); what follows is the body.

use std::collections::BTreeSet;

use form_urlencoded::parse as standard;
use hume_bridge::{
    config::{PublicUrl, Secret},
    twilio::{
        CallSid, mask_number,
        signature::{SignatureHeaders, Verifier, sign},
        token::{Minter, Parameters, TokenError},
        twiml::{self, ConnectStream},
        webhook::{CallRequest, Form, FormError, MAX_FIELDS},
    },
};
use ring::{digest, hmac};

/// Takes any bytes. Panics when a promise is broken.
pub fn run(data: &[u8]) {
    let mut lines = data.splitn(4, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (path, signature, settings) = (line(), line(), line());
    let body = line();
    // All of it is some form, too.
    form(data);
    let form = form(body);
    let [path, signature, settings] = [path, signature, settings].map(String::from_utf8_lossy);
    let path = path.split('#').next().unwrap_or_default();
    let path = match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("/{path}"),
    };
    let pairs = form.as_ref().map(Form::pairs).unwrap_or_default();
    let sites = sites();
    // One is enough for what is signed here: there are many inputs, and HMACs take their time.
    let site = &sites[data.len() % sites.len()];
    webhook(site, &path, pairs);
    upgrade(site, &path);
    other_body(site, &path, &settings, body);
    for site in &sites {
        stranger(site, &path, pairs, &signature, &settings);
    }
    if let Some(form) = form {
        call(&form, &signature);
    }
}

fn form(encoded: &[u8]) -> Option<Form> {
    let oracle: Vec<(String, String)> = standard(encoded).into_owned().collect();
    let form = match Form::parse(encoded) {
        Ok(form) => form,
        Err(FormError::TooManyFields) => {
            assert!(oracle.len() > MAX_FIELDS);
            return None;
        }
        Err(FormError::NotUtf8) => {
            let replaced = |text: &String| text.contains('\u{fffd}');
            assert!(
                oracle
                    .iter()
                    .any(|(name, value)| replaced(name) || replaced(value))
            );
            return None;
        }
    };
    assert_eq!(form.pairs(), oracle);
    assert_eq!(
        Form::parse(form.to_urlencoded().as_bytes()),
        Ok(form.clone())
    );
    assert_eq!(
        format!("{form:?}"),
        format!("Form({} fields)", oracle.len())
    );
    Some(form)
}

fn sites() -> [PublicUrl; 4] {
    [
        "https://bridge.example.com",
        "https://bridge.example.com:8443/bridge",
        "http://127.0.0.1:8080",
        "https://[::1]:443",
    ]
    .map(|url| PublicUrl::parse(url).expect("a good URL"))
}

fn key() -> Secret {
    Secret::new("12345")
}

fn signed(signature: &str) -> SignatureHeaders<'_> {
    SignatureHeaders {
        signature: Some(signature),
        settings: None,
    }
}

/// The host as Twilio may spell it, with the path that it asks for.
fn spellings(site: &PublicUrl, scheme: &str, path: &str) -> Vec<String> {
    let PublicUrl { host, prefix, .. } = site;
    let own = if site.secure { 443 } else { 80 };
    BTreeSet::from([None, Some(own), site.port])
        .into_iter()
        .map(|port| match port {
            Some(port) => format!("{scheme}://{host}:{port}{prefix}{path}"),
            None => format!("{scheme}://{host}{prefix}{path}"),
        })
        .collect()
}

fn webhook(site: &PublicUrl, path: &str, pairs: &[(String, String)]) {
    let verifier = Verifier::new(&key());
    let scheme = if site.secure { "https" } else { "http" };
    let asked = format!("{}{path}", site.prefix);
    let urls = spellings(site, scheme, path);
    for (n, url) in urls.iter().enumerate() {
        let signature = sign(&key(), url, pairs);
        let verify = |path: &str, pairs: &[(String, String)]| {
            verifier.verify_request(site, path, Some(pairs), signed(&signature))
        };
        assert!(verify(&asked, pairs));
        // The rest holds for one as for the others.
        if n != path.len() % urls.len() {
            continue;
        }
        // A proxy may take the prefix off, where one can tell.
        let ambiguous = path
            .strip_prefix(site.prefix.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
        assert!(site.prefix.is_empty() || ambiguous || verify(path, pairs));
        assert!(!verify(&format!("{asked}x"), pairs));

        let mut turned = pairs.to_vec();
        turned.reverse();
        assert!(verify(&asked, &turned));
        // The same field twice is one field.
        turned.extend_from_slice(pairs);
        assert!(verify(&asked, &turned));
        if let Some((_, value)) = turned.first_mut() {
            // Longer than all there was: not even by running into its neighbour it is the same.
            let all: usize = pairs
                .iter()
                .map(|(name, value)| name.len() + value.len())
                .sum();
            value.push_str(&"!".repeat(all + 1));
            assert!(!verify(&asked, &turned));
        }
        for other in ["12346", ""] {
            let other = Verifier::new(&Secret::new(other));
            assert!(!other.verify_request(site, &asked, Some(pairs), signed(&signature)));
        }
        let sha256 = SignatureHeaders {
            signature: Some(&signature),
            settings: Some("algorithm=HMAC_SHA256"),
        };
        assert!(!verifier.verify_request(site, &asked, Some(pairs), sha256));
    }
}

fn upgrade(site: &PublicUrl, path: &str) {
    let verifier = Verifier::new(&key());
    let scheme = if site.secure { "wss" } else { "ws" };
    let asked = format!("{}{path}", site.prefix);
    let (bare, query) = path.split_at(path.find('?').unwrap_or(path.len()));
    let slash = format!("{bare}/{query}");
    for path in [path, &slash] {
        if path == slash && bare.ends_with('/') {
            continue;
        }
        for url in spellings(site, scheme, path) {
            let signature = sign(&key(), &url, &[]);
            assert!(verifier.verify_upgrade(site, &asked, signed(&signature)));
        }
        let signature = sign(&key(), &site.ws(path), &[]);
        assert!(!verifier.verify_upgrade(site, &format!("{asked}?x"), signed(&signature)));
    }
}

/// A body that is no form is vouched for by its hash in the URL.
fn other_body(site: &PublicUrl, path: &str, content_type: &str, body: &[u8]) {
    if path.contains("bodySHA256=") {
        return;
    }
    let verifier = Verifier::new(&key());
    let digest = digest::digest(&digest::SHA256, body);
    let hex: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    let joint = if path.contains('?') { '&' } else { '?' };
    let path = format!("{path}{joint}bodySHA256={hex}");
    let asked = format!("{}{path}", site.prefix);
    let signature = sign(&key(), &site.http(&path), &[]);
    let verify =
        |kind, body: &[u8]| verifier.verify_body(site, &asked, kind, body, signed(&signature));
    assert!(verify(None, body));
    assert!(verify(Some("application/json"), body));
    // Only what is no form; whichever this is, it is no panic.
    verify(Some(content_type), body);
    assert!(!verify(
        Some("Application/x-www-form-urlencoded; charset=utf-8"),
        body
    ));
    assert!(!verify(None, &[body, b" "].concat()));
}

/// Whoever does not know the key gets in only with what somebody who knows it has signed.
fn stranger(
    site: &PublicUrl,
    path: &str,
    pairs: &[(String, String)],
    signature: &str,
    settings: &str,
) {
    let verifier = Verifier::new(&key());
    let asked = format!("{}{path}", site.prefix);
    for settings in [None, Some(settings)] {
        let headers = SignatureHeaders {
            signature: Some(signature),
            settings,
        };
        if verifier.verify_request(site, &asked, Some(pairs), headers) {
            let scheme = if site.secure { "https" } else { "http" };
            let right = spellings(site, scheme, path);
            assert!(right.iter().any(|url| signs(url, pairs, signature)));
        }
        if verifier.verify_upgrade(site, &asked, headers) {
            let scheme = if site.secure { "wss" } else { "ws" };
            let (bare, query) = path.split_at(path.find('?').unwrap_or(path.len()));
            let slash = format!("{bare}/{query}");
            let right = [path, &slash].map(|path| spellings(site, scheme, path));
            assert!(right.iter().flatten().any(|url| signs(url, &[], signature)));
        }
        let unsigned = SignatureHeaders {
            signature: None,
            settings,
        };
        assert!(!verifier.verify_request(site, &asked, Some(pairs), unsigned));
    }
}

/// Whether this is Twilio's signature by either of its algorithms.
fn signs(url: &str, pairs: &[(String, String)], signature: &str) -> bool {
    let mut sorted = pairs.to_vec();
    sorted.sort();
    sorted.dedup();
    let fields = sorted.iter().flat_map(|(name, value)| [&**name, &**value]);
    let message: String = [url].into_iter().chain(fields).collect();
    [hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, hmac::HMAC_SHA256]
        .map(|algorithm| hmac::Key::new(algorithm, key().expose().as_bytes()))
        .iter()
        .map(|key| hmac::sign(key, message.as_bytes()))
        .any(|mac| base64_simd::STANDARD.encode_to_string(mac) == signature)
}

fn call(form: &Form, token: &str) {
    let request = match CallRequest::from_form(form) {
        Ok(request) => request,
        Err(error) => return harmless(&error.to_string()),
    };
    let CallRequest { from, to, .. } = &request;
    assert_eq!(form.get("CallSid"), Some(request.call_sid.as_str()));
    assert_eq!(form.get("AccountSid"), Some(&*request.account_sid));
    // Of a call that was placed by the operator, the other way round.
    let (caller, ours) = match form.get("Direction") {
        Some("outbound-api" | "outbound-dial") => ("To", "From"),
        _ => ("From", "To"),
    };
    assert_eq!(
        (form.get(caller), form.get(ours)),
        (Some(&**from), Some(&**to))
    );
    harmless(&format!("{request:?}{from}{to}"));
    masked(from);
    masked(to);
    tokens(&request.call_sid, from, to, token);
    answer(from, to);
}

/// Too few digits are left to ring anybody.
fn masked(address: &str) {
    let mask = mask_number(address);
    harmless(&mask);
    let digits = |text: &str| text.bytes().filter(u8::is_ascii_digit).count();
    if address
        .strip_prefix('+')
        .unwrap_or(address)
        .bytes()
        .all(|b| b.is_ascii_digit())
    {
        assert!(digits(&mask) <= 6 && (digits(address) == 0 || digits(&mask) < digits(address)));
    } else {
        // Nothing of a person; a host is none.
        let person = mask.split('@').next().unwrap_or_default();
        assert_eq!(digits(person), 0, "{mask}");
    }
}

fn tokens(call: &CallSid, from: &str, to: &str, token: &str) {
    const NOON: u64 = 1_800_000_000;
    let minter = Minter::new(&key());
    let between = |from: &str, to: &str| {
        Parameters::from([("from", from), ("to", to)].map(|(name, who)| (name.into(), who.into())))
    };
    let minted = minter.mint(call, &between(from, to), NOON);
    let check =
        |token: &str, from: &str, to: &str, now| minter.check(token, call, &between(from, to), now);
    assert_eq!(check(&minted, from, to, NOON - 1), Ok(NOON));
    assert_eq!(check(&minted, from, to, NOON), Err(TokenError::Expired));
    for (from, to) in [(&*format!("{from}0"), to), (from, &*format!("{to}0"))] {
        assert_eq!(check(&minted, from, to, 0), Err(TokenError::Forged));
    }
    // What one of the two has less, the other has not more.
    if let Some((at, last)) = from.char_indices().last() {
        let moved = check(&minted, &from[..at], &format!("{last}{to}"), 0);
        assert_eq!(moved, Err(TokenError::Forged));
    }
    match check(token, from, to, 0) {
        Ok(expires) => assert_eq!(token, minter.mint(call, &between(from, to), expires)),
        Err(error) => harmless(&error.to_string()),
    }
    let nobody = Minter::new(&Secret::new(""));
    let forged = nobody.mint(call, &between(from, to), NOON);
    for token in [forged, minted] {
        assert!(nobody.check(&token, call, &between(from, to), 0).is_err());
    }
}

/// What comes from the caller comes back in the stream's `start`, or the call is not connected.
fn answer(from: &str, to: &str) {
    let document = ConnectStream {
        say: Some(to),
        action: "https://bridge.example.com/voice/after",
        stream_url: "wss://bridge.example.com/media-stream",
        status_callback: "https://bridge.example.com/voice/stream",
        parameters: &[("from", from), ("to", to)],
    }
    .to_xml();
    match document {
        Ok(xml) => {
            let document = roxmltree::Document::parse(&xml).expect("XML");
            let parameters = document
                .descendants()
                .filter(|node| node.has_tag_name("Parameter"))
                .map(|node| (node.attribute("name"), node.attribute("value")));
            assert!(parameters.eq([
                (Some("from"), Some(&*legal(from))),
                (Some("to"), Some(&*legal(to)))
            ]));
        }
        Err(error) => {
            harmless(&error.to_string());
            assert!(
                from.chars().count().max(to.chars().count()) > 490,
                "{error}"
            );
        }
    }
    for xml in [
        twiml::say_and_hang_up(from),
        twiml::dial(to, twiml::caller_id(from, to)),
    ] {
        let document = roxmltree::Document::parse(&xml).expect("XML");
        let root = document.root_element();
        assert!(root.has_tag_name("Response"));
        assert!(root.descendants().all(|node| {
            node.is_text()
                || ["Response", "Say", "Hangup", "Dial"]
                    .iter()
                    .any(|tag| node.has_tag_name(*tag))
        }));
    }
}

/// Without what XML 1.0 cannot hold; an address has no control characters.
fn legal(address: &str) -> String {
    address.replace(['\u{fffe}', '\u{ffff}'], "")
}

fn harmless(text: &str) {
    assert!(!text.chars().any(char::is_control), "{text:?}");
}
