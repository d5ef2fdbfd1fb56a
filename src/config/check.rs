//! What a single value must be.
//!
//! Each check takes a value and gives either what the program will use or a [`Complaint`]: what is
//! wrong and how to mend it. Checks know neither files nor lines. They never repeat a string that
//! could be a secret or a telephone number pasted into the wrong place; numbers, durations and
//! plain words may be repeated.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use toml::de::DeValue;
use url::{Host, Url};

use super::{
    PemFile, PublicUrl,
    duration::{self, NotADuration},
    problem::harmless,
    secret::names_a_secret,
    size, suggest,
};

/// The half of a problem that a value can know.
#[derive(Debug)]
pub(super) struct Complaint {
    pub what: String,
    pub mend: String,
}

pub(super) type Checked<T> = Result<T, Complaint>;

pub(super) fn complain<T>(what: impl Into<String>, mend: impl Into<String>) -> Checked<T> {
    Err(Complaint {
        what: what.into(),
        mend: mend.into(),
    })
}

fn wrong_type<T>(value: &DeValue<'_>, wanted: &str, mend: impl Into<String>) -> Checked<T> {
    complain(format!("is {}, not {wanted}", kind(value)), mend)
}

/// A value's type with its article.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

pub(super) fn text<'v>(value: &'v DeValue<'_>) -> Checked<&'v str> {
    match value {
        DeValue::String(text) => Ok(text),
        DeValue::Table(_) | DeValue::Array(_) => {
            wrong_type(value, "a string", "write one string in quotes")
        }
        _ => wrong_type(value, "a string", "put it in quotes"),
    }
}

pub(super) fn boolean(value: &DeValue<'_>) -> Checked<bool> {
    match value {
        DeValue::Boolean(boolean) => Ok(*boolean),
        DeValue::String(text) if matches!(&**text, "true" | "false") => wrong_type(
            value,
            "true or false",
            format!("write {text} without quotes"),
        ),
        _ => wrong_type(value, "true or false", "write true or false without quotes"),
    }
}

pub(super) fn count(value: &DeValue<'_>, range: RangeInclusive<usize>) -> Checked<usize> {
    let mend = format!(
        "write a whole number from {} to {}",
        range.start(),
        range.end()
    );
    let DeValue::Integer(integer) = value else {
        return wrong_type(value, "a whole number", format!("{mend}, without quotes"));
    };
    match usize::from_str_radix(integer.as_str(), integer.radix()) {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => complain(format!("{integer} is out of range"), mend),
    }
}

/// The bounds are milliseconds.
pub(super) fn duration(value: &DeValue<'_>, range: RangeInclusive<u64>) -> Checked<Duration> {
    const FORM: &str = r#"write a whole number and a unit, as in "20ms", "5s", "5m" or "2h""#;
    let text = match value {
        DeValue::Integer(_) | DeValue::Float(_) => {
            return complain("is a number without a unit", FORM);
        }
        _ => text(value)?,
    };
    match duration::parse(text) {
        Ok(duration) if range.contains(&(duration.as_millis() as u64)) => Ok(duration),
        Ok(duration) => complain(
            format!("{} is out of range", duration::write(duration)),
            format!(
                "write from \"{}\" to \"{}\"",
                duration::write(Duration::from_millis(*range.start())),
                duration::write(Duration::from_millis(*range.end()))
            ),
        ),
        Err(NotADuration::NoUnit) => complain("has no unit", FORM),
        Err(NotADuration::Malformed) => complain("is not a duration", FORM),
    }
}

/// The bounds are bytes.
pub(super) fn size(value: &DeValue<'_>, range: RangeInclusive<usize>) -> Checked<usize> {
    const FORM: &str = r#"write a whole number and a unit, as in "512B" or "64KiB""#;
    let text = match value {
        DeValue::Integer(_) | DeValue::Float(_) => {
            return complain("is a number without a unit", FORM);
        }
        _ => text(value)?,
    };
    match size::parse(text) {
        Some(bytes) if range.contains(&bytes) => Ok(bytes),
        Some(bytes) => complain(
            format!("{} is out of range", size::write(bytes)),
            format!(
                "write from \"{}\" to \"{}\"",
                size::write(*range.start()),
                size::write(*range.end())
            ),
        ),
        None => complain("is not a size", FORM),
    }
}

/// The same, or "0s" for never.
pub(super) fn duration_or_never(
    value: &DeValue<'_>,
    range: RangeInclusive<u64>,
) -> Checked<Duration> {
    match value.as_str().map(duration::parse) {
        Some(Ok(Duration::ZERO)) => Ok(Duration::ZERO),
        _ => duration(value, range).map_err(|mut complaint| {
            complaint.mend.push_str(", or \"0s\" for never");
            complaint
        }),
    }
}

/// One of a few words.
pub(super) fn choice<T: Clone>(word: &str, choices: &[(&'static str, T)]) -> Checked<T> {
    if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == word) {
        return Ok(choice.clone());
    }
    let names: Vec<_> = choices
        .iter()
        .map(|(name, _)| format!("\"{name}\""))
        .collect();
    let mend = match suggest::nearest(word, choices.iter().map(|(name, _)| *name)) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("write {}", names.join(" or ")),
    };
    match harmless(word) {
        true => complain(format!("there is no \"{word}\""), mend),
        false => complain("is none of the words that may stand here", mend),
    }
}

/// An address to listen on. `host` stands in the advice when only a port is given.
pub(super) fn listen(value: &DeValue<'_>, host: Ipv4Addr) -> Checked<SocketAddr> {
    let advise = |ip: IpAddr, port: u16| format!("write \"{}\"", SocketAddr::new(ip, port));
    if let DeValue::Integer(port) = value {
        let mend = match port.as_str().parse() {
            Ok(port) => advise(host.into(), port),
            Err(_) => format!("write \"{host}:PORT\""),
        };
        return wrong_type(value, "an address with a port", mend);
    }
    let text = text(value)?;
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return complain("has no port", advise(ip, 3000));
    }
    let (name, port) = text.rsplit_once(':').unwrap_or(("", text));
    let Ok(port) = port.parse::<u16>() else {
        return complain(
            "is not an address with a port",
            format!("write \"{host}:3000\", an IP address, a colon and a port from 0 to 65535"),
        );
    };
    match name {
        "" | "*" => complain("has no IP address", advise(host.into(), port)),
        "localhost" => complain(
            "has a name, not an IP address",
            advise(Ipv4Addr::LOCALHOST.into(), port),
        ),
        _ => match name.parse::<IpAddr>() {
            Ok(ip) => complain("has an IPv6 address without brackets", advise(ip, port)),
            Err(_) => complain("has a name, not an IP address", advise(host.into(), port)),
        },
    }
}

/// A URL with a host and perhaps a path, and nothing in it that could be a secret. Plain text
/// is for loopback only.
fn far_end(text: &str, secure: &str, plain: &str) -> Checked<Url> {
    let url = service(text, secure, plain)?;
    if url.query().is_some() {
        return complain(
            "has a query",
            "remove everything from the ?; keys go into the credentials",
        );
    }
    Ok(url)
}

/// The same, perhaps with a query.
fn service(text: &str, secure: &str, plain: &str) -> Checked<Url> {
    let start = format!("write it as {secure}://HOST/PATH");
    if text.is_empty() {
        return complain("is empty", start);
    }
    // The parser forgives these, and then what is used is not what was written.
    if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
        return complain(
            "has a space, a backslash or a control character in it",
            start,
        );
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return complain("has no scheme", start);
    };
    let Ok(url) = Url::parse(text) else {
        return complain("is not a URL", start);
    };
    // "https:///x" is https://x to the parser.
    if rest.starts_with('/') || !url.has_host() {
        return complain("has no host", start);
    }
    if !url.username().is_empty() || url.password().is_some() || authority(rest).contains('@') {
        return complain(
            "has a user or a password in it",
            "remove everything between // and @; secrets go into the credentials",
        );
    }
    if url.fragment().is_some() {
        return complain("has a fragment", "remove everything from the #");
    }
    if url.port() == Some(0) {
        return complain("has port 0", "write the port that is listened on");
    }
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    let scheme = scheme.to_ascii_lowercase();
    if scheme == secure || (scheme == plain && loopback) {
        Ok(url)
    } else if scheme == plain {
        complain(
            format!("is {plain}:// to a host that is not this machine"),
            format!("write {secure}://; {plain}:// is for loopback addresses only"),
        )
    } else {
        complain(
            format!("does not begin with {secure}://"),
            format!("write {secure}://"),
        )
    }
}

/// The part of a URL between `//` and the path.
fn authority(rest: &str) -> &str {
    &rest[..rest.find('/').unwrap_or(rest.len())]
}

pub(super) fn public_url(text: &str) -> Checked<PublicUrl> {
    let url = far_end(text, "https", "http")?;
    let path = url.path().trim_end_matches('/');
    for endpoint in [
        "/voice/incoming",
        "/voice/after",
        "/voice/status",
        "/voice/stream",
        "/media-stream",
    ] {
        if let Some(prefix) = path.strip_suffix(endpoint) {
            let keep = if prefix.is_empty() {
                ""
            } else {
                " but keep what stands before it"
            };
            return complain(
                format!("ends with the endpoint {endpoint}"),
                format!("remove {endpoint}{keep}; the bridge adds it by itself"),
            );
        }
    }
    // Not url.port(): that leaves out a port which is the scheme's default, and Twilio signs the
    // URL as it was given.
    let (_, rest) = text.split_once("://").expect("checked above");
    let stated = authority(rest)
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse().ok());
    Ok(PublicUrl {
        secure: url.scheme() == "https",
        host: url.host_str().expect("checked above").to_ascii_lowercase(),
        port: stated,
        prefix: path.to_owned(),
    })
}

/// An HTTP API, without trailing slash.
pub(super) fn api_url(text: &str) -> Checked<String> {
    far_end(text, "https", "http")?;
    Ok(text.trim_end_matches('/').to_owned())
}

/// A service of the operator's own: what is asked of it, and nothing that depends on a call.
pub(super) fn service_url(text: &str) -> Checked<String> {
    if text.contains(['{', '}']) {
        return complain(
            "has { or } in it",
            "remove them: nothing is put into a URL; what is known of the call, and a tool's \
             arguments, are in the request's body",
        );
    }
    let url = service(text, "https", "http")?;
    if url.query_pairs().any(|(name, _)| is_key(&name)) {
        return complain(
            "has a secret in its query",
            "remove it; a header may have it, as in headers = { Authorization = \"Bearer \
             {credential:NAME}\" }",
        );
    }
    Ok(text.to_owned())
}

/// Whether a parameter of this name, in a query, lets somebody in. The last four are what signed links
/// and functions of the large clouds do it by.
pub(super) fn is_key(name: &str) -> bool {
    names_a_secret(name)
        || ["code", "sig", "signature", "auth"].contains(&&*name.to_ascii_lowercase())
}

/// A WebSocket far end of which a query is a part, as long as no secret is in that.
pub(super) fn websocket_url_with_query(text: &str) -> Checked<Url> {
    let url = service(text, "wss", "ws")?;
    match url.query_pairs().any(|(name, _)| is_key(&name)) {
        true => complain(
            "has a secret in its query, or what looks like one",
            "remove it; the key goes into the credentials as realtime_api_key, and auth says how it \
             is shown",
        ),
        false => Ok(url),
    }
}

/// A WebSocket far end. No query, so no key can be in it.
pub(super) fn websocket_url(text: &str) -> Checked<String> {
    far_end(text, "wss", "ws")?;
    Ok(text.to_owned())
}

pub(super) fn account_sid(text: &str) -> Checked<String> {
    let is = |prefix: &str| {
        text.strip_prefix(prefix)
            .is_some_and(|hex| hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    if is("AC") {
        return Ok(text.to_owned());
    }
    let mend = "copy the Account SID from the Twilio console: AC and 32 hexadecimal digits";
    match is("SK") {
        true => complain("is the SID of an API key, not of an account", mend),
        false => complain("is not an account SID", mend),
    }
}

pub(super) fn phone_number(text: &str) -> Checked<String> {
    let digits = text.strip_prefix('+').unwrap_or("");
    let fits = (7..=15).contains(&digits.len())
        && digits.bytes().all(|b| b.is_ascii_digit())
        && !digits.starts_with('0');
    if fits {
        return Ok(text.to_owned());
    }
    complain(
        "is not a telephone number as Twilio writes it",
        "write + and the country code, then digits only, as in \"+61255501234\"",
    )
}

/// A key or token. It will stand in an HTTP header, where a line break would begin another.
pub(super) fn secret(text: &str) -> Checked<()> {
    if text.is_empty() {
        return complain("is empty", "write the value into it");
    }
    match text.chars().position(|c| !c.is_ascii_graphic()) {
        None => Ok(()),
        Some(at) => complain(
            format!(
                "has a space, a line break or another character that no key has, at {}",
                at + 1
            ),
            "write the value alone, on one line",
        ),
    }
}

/// What people and logs know something of the operator's by: a route, somebody to be transferred to.
pub(super) fn label(text: &str) -> Checked<String> {
    const MOST: usize = 64;
    let fits = (1..=MOST).contains(&text.len())
        && text.trim() == text
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b' ' | b'-' | b'_' | b'.'));
    if !fits {
        return complain(
            "is not a name",
            format!("write 1 to {MOST} letters, digits, spaces, -, _ and ."),
        );
    }
    // It goes where telephone numbers do not: into logs, and to the agent.
    let digits = text.split(|c: char| c.is_ascii_alphabetic());
    if digits
        .into_iter()
        .any(|run| run.bytes().filter(u8::is_ascii_digit).count() >= 6)
    {
        return complain(
            "looks like a telephone number",
            "write a word: names stand in logs, and numbers do not",
        );
    }
    Ok(text.to_owned())
}

/// Words for an agent or a caller in which some names in braces stand for what is known only then.
pub(super) fn words(text: &str, names: &[&str]) -> Checked<String> {
    let text = spoken(text)?;
    let mut rest = text.as_str();
    while let Some((_, after)) = rest.split_once('{') {
        let Some((name, behind)) = after.split_once('}') else {
            break;
        };
        if !names.contains(&name) && harmless(name) {
            let mend = match suggest::nearest(name, names.iter().copied()) {
                Some(near) => format!("did you mean {{{near}}}?"),
                None => format!(
                    "remove it; what is known here is {{{}}}",
                    names.join("}, {")
                ),
            };
            return complain(format!("has {{{name}}}, which stands for nothing"), mend);
        }
        rest = behind;
    }
    Ok(text)
}

/// An identifier that is only handed on.
pub(super) fn opaque_id(text: &str) -> Checked<String> {
    const MOST: usize = 128;
    if text.is_empty() {
        return complain("is empty", "write the id, or leave it out for the default");
    }
    if text.len() > MOST || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return complain(
            "is not an id",
            format!("copy the id alone: at most {MOST} letters, digits and signs, no spaces"),
        );
    }
    Ok(text.to_owned())
}

/// Words that Twilio speaks. They have to fit a `<Say>` and be legal in XML.
pub(super) fn spoken(text: &str) -> Checked<String> {
    const MOST: usize = 3000;
    let length = text.chars().count();
    if length > MOST {
        return complain(
            format!("has {length} characters"),
            format!("shorten it to {MOST}; Twilio speaks no more in one piece"),
        );
    }
    // What XML 1.0 cannot carry, not even escaped.
    let stray = |c: char| match c {
        '\n' | '\t' | '\r' => false,
        c => c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'),
    };
    if text.chars().any(stray) {
        return complain("has a control character in it", "write plain text");
    }
    Ok(text.to_owned())
}

/// A file by its full name: the daemon's working directory is nobody's concern.
pub(super) fn absolute(text: &str) -> Checked<PathBuf> {
    if text.is_empty() {
        return complain(
            "is empty",
            "write the file's full path, or leave the key out",
        );
    }
    if text.contains('\0') || !Path::new(text).is_absolute() {
        return complain(
            "is not a full path",
            "write the path from the root: \"/...\"",
        );
    }
    Ok(PathBuf::from(text))
}

/// Where systemd's StateDirectory= is. Before the unit's first start it is not there.
const STATE_DIRECTORY: &str = "/var/lib/hume-bridge";

/// A file to which lines are added. What only another user may look at is not judged.
pub(super) fn record(text: &str) -> Checked<PathBuf> {
    const MEND: &str = "name a file, as in \"/var/lib/hume-bridge/calls.jsonl\"";
    let path = absolute(text)?;
    match path.metadata() {
        // A device such as /dev/null takes what it is given.
        Ok(file) if file.is_file() || file.file_type().is_char_device() => return Ok(path),
        Ok(_) => return complain("is there, and is not a file", MEND),
        Err(_) => {}
    }
    let missing = |error: &io::Error| {
        matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
        )
    };
    let directory = path.parent().unwrap_or(Path::new("/"));
    match directory.metadata() {
        Ok(directory) if directory.is_dir() => Ok(path),
        Err(error) if missing(&error) && directory == Path::new(STATE_DIRECTORY) => Ok(path),
        Err(error) if !missing(&error) => Ok(path),
        _ => complain(
            "is in a directory that does not exist",
            format!("make it, or {MEND}"),
        ),
    }
}

/// A PEM file by its full name, or a credential that systemd passes; `""` is none.
pub(super) fn pem_file(text: &str) -> Checked<Option<PemFile>> {
    if text.is_empty() {
        return Ok(None);
    }
    let Some(name) = text.strip_prefix("credential:") else {
        return match absolute(text) {
            Ok(path) => Ok(Some(PemFile::Path(path))),
            Err(_) if text.contains("-----BEGIN") => complain(
                "is a certificate or a key itself, not a file's name",
                "write it to a file of its own and name that here",
            ),
            Err(_) => complain(
                "is not a full path",
                "write the path from the root, \"/...\", or \"credential:NAME\" for a file that \
                 systemd passes with LoadCredential=NAME:...",
            ),
        };
    };
    let fits = (1..=255).contains(&name.len())
        && ![".", ".."].contains(&name)
        && !name.contains(|c: char| c == '/' || c.is_control());
    match fits {
        true => Ok(Some(PemFile::Credential(name.to_owned()))),
        false => complain(
            "does not name a credential",
            "write \"credential:NAME\" with the NAME from LoadCredential=NAME:...",
        ),
    }
}

pub(super) fn socket_path(text: &str) -> Checked<PathBuf> {
    // What fits a Unix socket's address, with its final NUL.
    const MOST: usize = 107;
    if text.len() > MOST {
        return complain(
            format!("has {} bytes, too many for a socket", text.len()),
            format!("write a path of at most {MOST} bytes"),
        );
    }
    absolute(text)
}

pub(super) fn group(text: &str) -> Checked<String> {
    let fits = text.len() <= 32
        && !text.starts_with('-')
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    if fits {
        return Ok(text.to_owned());
    }
    complain(
        "is not the name of a group",
        "write a group from /etc/group, or \"\" for none",
    )
}

/// Every entry of a list, each once. `as_in`: how such a list is written.
pub(super) fn entries<T: PartialEq>(
    value: &DeValue<'_>,
    as_in: &str,
    check: impl Fn(&DeValue<'_>) -> Checked<T>,
) -> Checked<Vec<T>> {
    let Some(list) = value.as_array() else {
        return Err(Complaint {
            what: format!("is {}, not a list", kind(value)),
            mend: format!("write the entries in brackets, as in {as_in}"),
        });
    };
    let mut entries: Vec<T> = Vec::new();
    for (n, value) in list.iter().enumerate() {
        let n = n + 1;
        let entry = check(value.get_ref()).map_err(|complaint| Complaint {
            what: format!("entry {n} {}", complaint.what),
            mend: complaint.mend,
        })?;
        if let Some(first) = entries.iter().position(|known| *known == entry) {
            return Err(Complaint {
                what: format!("entry {n} is entry {} again", first + 1),
                mend: "remove one of them".to_owned(),
            });
        }
        entries.push(entry);
    }
    Ok(entries)
}
