//! The operator's files: any TOML for a config, any JSON for credentials.
//!
//! Nothing panics. A file is taken whole or all that is wrong is told: each problem in one line,
//! with a line that the file has, in words that no value of the file could slip into. What was
//! taken means the same in another spelling, differs in nothing from itself, and no `Debug` shows a
//! number or a key.
//!
//! What begins with a brace (or a byte order mark) is credentials, the rest is a config. Where a
//! value holds the word `PLANTED`, it must not turn up again.

use std::{
    fs::{self, File, OpenOptions},
    io::{Seek as _, Write as _},
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
    path::PathBuf,
};

use hume_bridge::config::{
    AgentKind, Config, Credentials, Fallback, KeyAction, Overrides, Problems, PublicUrl, Secret,
    changes, credentials, parse,
};
use toml::Value;

const PLANTED: &str = "PLANTED";

/// Takes any bytes. Panics when a promise is broken.
pub fn run(data: &[u8]) {
    if data.starts_with(b"{") || data.starts_with(b"\xef\xbb\xbf") {
        return secrets(data);
    }
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    document(text);
    url(text.lines().next().unwrap_or_default());
}

fn document(text: &str) {
    const NAME: &str = "f.toml";
    let none = Overrides::default();
    let table = toml::from_str::<toml::Table>(text);
    let config = match parse(text, NAME, &none) {
        Ok(config) => config,
        Err(problems) => {
            told(&problems, text, NAME);
            let may_show = match table {
                Ok(table) => named(&Value::Table(table)),
                Err(_) => !text.lines().all(behind_a_key),
            };
            assert!(
                may_show || !problems.to_string().contains(PLANTED),
                "{problems}"
            );
            return;
        }
    };
    let table = table.expect("TOML");
    let spelled: String = table
        .iter()
        .map(|(key, value)| format!("{} = {}\n", quoted(key), spelled(value)))
        .collect();
    assert_eq!(
        parse(&spelled, NAME, &none),
        Ok(config.clone()),
        "{spelled}"
    );
    settled(&config);
    overridden(text, &config);
    unseen(&config);
}

fn told(problems: &Problems, text: &str, name: &str) {
    let lines = 1 + text.bytes().filter(|byte| *byte == b'\n').count();
    let mut before = 0;
    assert!(problems.iter().next().is_some());
    for problem in problems {
        assert_eq!(problem.file, name);
        if let Some(line) = problem.line {
            assert!((1..=lines).contains(&line), "{problem}");
        }
        // In the order of the file; what concerns all of it comes last.
        let line = problem.line.unwrap_or(usize::MAX);
        assert!(line >= before);
        before = line;
        assert!(!problem.what.is_empty());
        assert!(
            !problem.to_string().chars().any(char::is_control),
            "{problem:?}"
        );
    }
}

/// Whether a key has the word; names are told.
fn named(value: &Value) -> bool {
    match value {
        Value::Table(table) => table
            .iter()
            .any(|(key, value)| key.contains(PLANTED) || named(value)),
        Value::Array(list) => list.iter().any(named),
        _ => false,
    }
}

/// A line of broken TOML where the word, if it is there, stands where a value does.
fn behind_a_key(line: &str) -> bool {
    let plain = !line.contains(['{', '[', '"', '\'']);
    match (line.find(PLANTED), line.find('=')) {
        (None, _) => true,
        (Some(word), Some(sign)) => plain && sign < word,
        (Some(_), None) => false,
    }
}

/// The same value as others would write it: tables in a line, strings in their plainest form.
fn spelled(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => format!("{number:?}"),
        Value::Boolean(boolean) => boolean.to_string(),
        Value::Datetime(date) => date.to_string(),
        Value::Array(list) => {
            let list: Vec<_> = list.iter().map(spelled).collect();
            format!("[{}]", list.join(", "))
        }
        Value::Table(table) => {
            let entries: Vec<_> = table
                .iter()
                .map(|(key, value)| format!("{} = {}", quoted(key), spelled(value)))
                .collect();
            format!("{{ {} }}", entries.join(", "))
        }
    }
}

fn quoted(text: &str) -> String {
    let escape = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_control() => format!("\\U{:08X}", u32::from(c)),
        c => c.to_string(),
    };
    format!("\"{}\"", text.chars().map(escape).collect::<String>())
}

/// A reload of the same file changes nothing.
fn settled(config: &Config) {
    let mut new = config.clone();
    assert_eq!(
        changes::settle(config, &mut new),
        changes::Changes::default()
    );
    assert_eq!(new, *config);
    // Of another one, a part may have to wait; then there is nothing left to take.
    let mut new = parse("public_url = \"https://h\"", "", &Overrides::default()).unwrap();
    changes::settle(config, &mut new);
    let taken = new.clone();
    let again = changes::settle(&taken, &mut new);
    assert_eq!((again, new), (changes::Changes::default(), taken));
}

/// The command line's word is the last.
fn overridden(text: &str, config: &Config) {
    let overrides = Overrides {
        port: Some(4),
        hume_config: Some("id".to_owned()),
        log_level: None,
    };
    match parse(text, "f.toml", &overrides) {
        Ok(changed) => {
            let mut expected = config.clone();
            expected.listen.http.set_port(4);
            expected.hume.config_id = Some("id".to_owned());
            assert_eq!(changed, expected);
        }
        // The only things that may be wrong with it.
        Err(problems) => {
            let port = config.listen.ops.map(|ops| ops.port()) == Some(4);
            let hume = !config.uses(AgentKind::Hume);
            for problem in &problems {
                match &*problem.key {
                    "--port" => assert!(port),
                    "--hume-config" => assert!(hume),
                    other => panic!("{other}: {problem}"),
                }
            }
        }
    }
}

/// What must not be seen does not change what is shown.
fn unseen(config: &Config) {
    let mut other = config.clone();
    if let Some(number) = &mut other.twilio.phone_number {
        *number = "+1".to_owned();
    }
    let mut fallbacks = vec![&mut other.calls.fallback];
    let mut keys = vec![&mut other.keys];
    for route in &mut other.routes {
        route.to = Some("+1".to_owned());
        fallbacks.extend(route.fallback.iter_mut().chain(&mut route.closed));
        keys.extend(&mut route.keys);
    }
    for fallback in fallbacks {
        if let Fallback::Dial(number) = fallback {
            *number = "+1".to_owned();
        }
    }
    for action in keys.into_iter().flat_map(|keys| keys.actions.values_mut()) {
        if let KeyAction::Transfer(number) = action {
            *number = "+1".to_owned();
        }
    }
    let transfer = &mut other.transfer;
    let destinations = transfer.numbers.iter_mut().map(|to| &mut to.number);
    let numbers = destinations.chain(&mut other.sms.numbers);
    for number in numbers
        .chain(&mut transfer.caller_id)
        .chain(&mut other.sms.from)
    {
        *number = "+1".to_owned();
    }
    assert_eq!(format!("{other:?}"), format!("{config:?}"));
}

/// What was understood of a URL is all that there was to it.
fn url(text: &str) {
    match PublicUrl::parse(text) {
        Ok(url) => {
            assert_eq!(PublicUrl::parse(&url.http("")), Ok(url.clone()));
            assert_eq!(PublicUrl::parse(&url.http("/")), Ok(url.clone()));
            let scheme = if url.secure { "https" } else { "http" };
            assert!(
                url.http("/x")
                    .starts_with(&format!("{scheme}://{}", url.host))
            );
            assert!(!url.prefix.ends_with('/') && url.http("/x").ends_with("/x"));
        }
        Err(problem) => {
            let told = problem.to_string();
            assert!(
                !told.contains(PLANTED) && !told.chars().any(char::is_control),
                "{told}"
            );
        }
    }
}

fn secrets(data: &[u8]) {
    thread_local! {
        static FILE: (File, PathBuf) = nameless();
    }
    FILE.with(|(file, path)| {
        let mut writing = file;
        file.set_len(0).unwrap();
        writing.rewind().unwrap();
        writing.write_all(data).unwrap();
        let text = String::from_utf8_lossy(data);
        for config in [
            "public_url = \"https://h\"",
            "public_url = \"https://h\"\ntwilio.account_sid = \"AC0123456789abcdef0123456789abcdef\"",
        ] {
            let config = parse(config, "", &Overrides::default()).unwrap();
            match credentials::find(Some(path), &config, None) {
                Ok(found) => found_in(&found, data),
                Err(problems) => {
                    told(&problems, &text, path.to_str().unwrap());
                    // Only names that are known are told, and no value.
                    assert!(!problems.to_string().contains(PLANTED), "{problems}");
                }
            }
        }
    });
}

/// A file that only this process has, and nobody after it.
fn nameless() -> (File, PathBuf) {
    let thread = std::thread::current().id();
    let name = format!("hume-bridge-fuzz-{}-{thread:?}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .unwrap();
    fs::remove_file(&path).unwrap();
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    (file, path.into())
}

fn found_in(found: &Credentials, data: &[u8]) {
    let data = data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data);
    let json: serde_json::Value = serde_json::from_slice(data).expect("JSON");
    let there = |names: [&str; 2], value: &str| {
        assert!(names.iter().any(|name| json[*name] == value), "{names:?}");
    };
    there(
        ["hume_api_key"; 2],
        found.hume_api_key.as_ref().unwrap().expose(),
    );
    if let Some(key) = &found.realtime_api_key {
        there(["realtime_api_key"; 2], key.expose());
    }
    there(
        ["twilio_auth_token", "twilio_au_auth_token"],
        found.twilio_auth_token.expose(),
    );
    if let Some(number) = &found.twilio_phone_number {
        there(["twilio_phone_number", "twilio_au_phone_number"], number);
    }
    if let Some(key) = &found.twilio_shared_key {
        there(["twilio_shared_key"; 2], key.expose());
    }
    let mut other = found.clone();
    other.hume_api_key = Some(Secret::new(""));
    other.twilio_auth_token = Secret::new("");
    for number in other.twilio_phone_number.iter_mut() {
        number.clear();
    }
    for key in other.realtime_api_key.iter_mut() {
        *key = Secret::new("");
    }
    for key in other.twilio_shared_key.iter_mut() {
        *key = Secret::new("");
    }
    assert_eq!(format!("{other:?}"), format!("{found:?}"));
    assert!(found.found().len() >= 3);
}
