//! The file as a whole: the shipped example, all problems at once, unknown keys, secrets.

use std::{collections::BTreeSet, fs, path::Path};

use hume_bridge::config::{
    self, Config, LogLevel, Overrides, PublicUrl, Realtime, known_keys, realtime::Preset,
};

use super::{MARK, URL, good, parse, said, says};

const EXAMPLE: &str = include_str!("../../packaging/hume-bridge.toml");

#[test]
fn the_shipped_example_is_the_defaults() {
    let defaults = Config::new(PublicUrl::parse("https://bridge.example.com").unwrap());
    assert_eq!(parse(EXAMPLE).unwrap(), defaults);
    assert_eq!(parse(URL).unwrap(), defaults);
}

/// Nobody's key goes to another's server because a line was left standing.
#[test]
fn the_shipped_example_leaves_every_preset_its_own() {
    for (name, preset) in Preset::NAMES {
        let changed = EXAMPLE.replace("preset = \"openai\"", &format!("preset = \"{name}\""));
        assert_eq!(
            parse(&changed).unwrap().realtime,
            Realtime::of(preset),
            "{name}"
        );
    }
}

/// A line of the example as it is when it is put in: `# config_id = "..."` and `# [[route]]` stand for
/// something, `#timeout = "5s"` is a default, and all other comments are prose.
fn put_in(line: &str) -> Option<&str> {
    let live = line
        .strip_prefix("# ")
        .or(line.strip_prefix('#'))
        .unwrap_or(line);
    let is_key = live
        .split_once(" = ")
        .is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
    (is_key || live.starts_with('[') && live.ends_with(']')).then_some(live)
}

#[test]
fn the_shipped_example_has_every_known_key_and_no_other() {
    let mut section = String::new();
    let mut keys: Vec<String> = Vec::new();
    for line in EXAMPLE.lines().filter_map(put_in) {
        if line.starts_with('[') {
            section = format!("{}.", line.trim_matches(['[', ']']));
        } else if let Some((key, _)) = line.split_once(" = ") {
            let key = format!("{section}{key}");
            // There is a second tool, of the other kind.
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }
    assert_eq!(keys, known_keys(), "also in the order of the table");
}

fn example_put_in() -> Config {
    let live: String = EXAMPLE
        .lines()
        .map(|line| format!("{}\n", put_in(line).unwrap_or(line)))
        .collect();
    parse(&live).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn what_the_example_has_commented_out_is_right_when_it_is_put_in() {
    let config = example_put_in();
    assert!(config.twilio.account_sid.is_some() && config.twilio.phone_number.is_some());
    assert!(config.hume.config_id.is_some() && config.credentials_file.is_some());
    assert!(config.agent.tools.is_some() && config.lookup.is_some());
    assert!(config.transfer.caller_id.is_some() && config.sms.from.is_some());
    let [route, shop] = &config.routes[..] else {
        panic!("{:?}", config.routes);
    };
    assert!(route.hours.is_some() && route.closed.is_some() && route.keys.is_some());
    assert!(config.realtime.voice.is_some() && shop.instructions.is_some());
    assert_eq!(config.tools.len(), 2);
}

/// Of a tool and a route the example says in comments what the defaults are.
#[test]
fn the_examples_defaults_of_tools_and_routes_are_the_defaults() {
    let without: String = EXAMPLE
        .lines()
        .filter(|line| line.starts_with("# ") || !line.starts_with('#'))
        .map(|line| format!("{}\n", put_in(line).unwrap_or(line)))
        .collect();
    assert_eq!(parse(&without).unwrap(), example_put_in());
}

#[test]
fn what_the_documents_show_of_a_config_is_taken() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let mut seen = 0;
    for file in fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        for shown in sections_shown(&text) {
            seen += 1;
            let Err(problems) = parse(&format!("{URL}{shown}")) else {
                continue;
            };
            // Programs that an operator would write, and tools that are shown elsewhere.
            let elsewhere = |key: &str| key.ends_with(".command") || key.ends_with("tools");
            let wrong = problems.iter().find(|problem| !elsewhere(&problem.key));
            assert!(wrong.is_none(), "{path:?}: {problems}\n{shown}");
        }
    }
    assert!(seen > 3, "only {seen} pieces of a config were found");
}

/// What stands in a block of its own and begins with a section of the config.
fn sections_shown(text: &str) -> Vec<String> {
    let (mut blocks, mut block, mut fenced) = (Vec::new(), String::new(), false);
    for line in text.lines().chain(["end"]) {
        let fence = line.starts_with("```");
        let indented = line.strip_prefix("    ").or(line.is_empty().then_some(""));
        match indented.or((fenced && !fence).then_some(line)) {
            Some(inside) => block += &format!("{inside}\n"),
            None => blocks.push(std::mem::take(&mut block)),
        }
        fenced ^= fence;
    }
    let known: BTreeSet<_> = known_keys()
        .iter()
        .filter_map(|key| Some(key.split_once('.')?.0))
        .collect();
    blocks.retain(|block| {
        let first = block.trim_start().lines().next().unwrap_or("");
        let header = first.starts_with('[') && first.ends_with(']');
        header && known.contains(first.trim_matches(['[', ']']))
    });
    blocks
}

#[test]
fn ten_mistakes_are_ten_lines_in_the_order_of_the_file() {
    let text = r#"public_url = "http://bridge.example.com"
[listen]
http = "3000"
opps = "127.0.0.1:3001"
[hume]
api_key = "PLANTED"
ping_interval = 20
url = wss://api.hume.ai/v0/evi/chat
[calls]
max_concurrent = 0
fallback = { say = "sorry", hangup = true }
phone_number = "+61255501234"
[agent]
default = "realtiem"
[log]
level = "inof"
"#;
    let problems = parse(text).unwrap_err();
    let expected = r#"t.toml:1: public_url: is http:// to a host that is not this machine; write https://; http:// is for loopback addresses only
t.toml:3: listen.http: has no IP address; write "0.0.0.0:3000"
t.toml:4: listen.opps: there is no such key; did you mean ops?
t.toml:6: hume.api_key: secrets never stand in this file; remove it and put it into a credentials file of mode 600 (--credentials, or file in [credentials]) or hand it over with systemd's LoadCredential=
t.toml:7: hume.ping_interval: is a number without a unit; write a whole number and a unit, as in "20ms", "5s", "5m" or "2h"
t.toml:8: not TOML: string values must be quoted; put the string in quotes, and close them on the same line
t.toml:10: calls.max_concurrent: 0 is out of range; write a whole number from 1 to 100000
t.toml:11: calls.fallback: says more than one thing to do; write one of { say = "..." }, { dial = "+..." } and { hangup = true }
t.toml:12: calls.phone_number: there is no such key; this key belongs in [twilio]
t.toml:14: agent.default: there is no "realtiem"; did you mean "realtime"?
t.toml:16: log.level: there is no "inof"; did you mean "info"?"#;
    assert_eq!(problems.to_string(), expected);
    assert_eq!(problems.iter().count(), 11);
}

#[test]
fn public_url_is_asked_for_unless_a_broken_line_hides_it() {
    let missing = "t.toml: public_url: is missing; write public_url = \"https://HOST\" at the \
                   top, with the host that Twilio reaches";
    assert_eq!(parse("").unwrap_err().to_string(), missing);
    assert!(
        parse("[log]\nlevel = 3")
            .unwrap_err()
            .to_string()
            .ends_with(missing)
    );
    let broken = parse("public_url https://bridge.example.com\n")
        .unwrap_err()
        .to_string();
    assert!(
        broken.starts_with("t.toml:1: not TOML: ") && !broken.contains("missing"),
        "{broken}"
    );
    let twice = parse(&format!("{URL}{URL}")).unwrap_err().to_string();
    assert_eq!(twice, "t.toml:2: not TOML: duplicate key; keep one of them");
}

#[test]
fn broken_toml_is_placed_and_the_rest_is_read_on() {
    let text = "[log]\nlevel = 3\n[calls\nmax_concurrent = 0\ndrain_limit =\n[hume]\n\
                ping_interval =\npong_timeout = \"0s\"\nconfig_id = \"x\" y\nurl \"wss://h\"\n";
    let told = said(text);
    let expected = "\
t.toml:3: log.level: is a number, not a string; put it in quotes
t.toml:4: not TOML: unclosed table, expected `]`; mend this line; a key is written as key = value, a section as [name]
t.toml:8: not TOML: key with no value; write it as key = value, with strings in quotes
t.toml:9: hume.pong_timeout: 0ms is out of range; write from \"10ms\" to \"10m\"
t.toml:10: not TOML: unexpected key or value, expected newline, `#`; mend this line; a key is written as key = value, a section as [name]
t.toml:11: not TOML: key with no value; write it as key = value, with strings in quotes";
    assert_eq!(told, expected);
    says(
        "calls.greeting = \"\"\"hello\n",
        "t.toml:3: not TOML: invalid multi-line basic string; close the string with the three \
         quotes it began with",
    );
}

/// Each of these once took minutes: every line was looked for from the beginning of the file.
#[test]
fn a_file_that_is_no_config_at_all_is_told_line_by_line() {
    for (line, told) in [
        (
            "Nov 22 10:00:00 host sshd[1]: accepted",
            "not TOML: key with no value",
        ),
        ("[x]", "not TOML: duplicate key"),
    ] {
        let text = format!("{line}\n").repeat(250 * 1024 / (line.len() + 1));
        let problems = parse(&text).unwrap_err();
        let lines = text.lines().count();
        assert!(problems.iter().count() >= lines, "{line}");
        let last = problems.iter().rfind(|problem| problem.line.is_some());
        let last = last.expect("a problem of the last line");
        assert_eq!(last.line, Some(lines), "{last}");
        assert!(last.to_string().contains(told), "{last}");
    }
}

#[test]
fn a_key_that_is_not_known_is_told_what_was_meant() {
    for (text, line) in [
        (
            "[listen]\nhtpt = 1",
            "t.toml:3: listen.htpt: there is no such key; did you mean http?",
        ),
        (
            "ops = ''",
            "t.toml:2: ops: there is no such key; this key belongs in [listen]",
        ),
        (
            "[listen]\npublic_url = ''",
            "t.toml:3: listen.public_url: there is no such key; this key belongs at the top of \
             the file, before any section",
        ),
        (
            "url = 1",
            "t.toml:2: url: there is no such key; this key belongs in [hume] or in [realtime] or in \
             [lookup] or in [[tool]]",
        ),
        (
            "acount_sid = ''",
            "t.toml:2: acount_sid: there is no such key; did you mean account_sid in [twilio]?",
        ),
        (
            "[listne]\nx = 1",
            "t.toml:2: listne: there is no such section; did you mean [listen]?",
        ),
        (
            "[vonage]\nmodel = 'x'",
            "t.toml:2: vonage: there is no such section; remove it; the sections are [listen], \
             [admin], [twilio], [agent], [hume], [realtime], [calls], [keys], [transfer], [sms], [lookup], \
             [[route]], [[tool]], [credentials], [log]",
        ),
        (
            "[admin]\nxyzzy = ''",
            "t.toml:3: admin.xyzzy: there is no such key; remove it; the keys here are socket, group",
        ),
        (
            "\"a\\u001b[31m\" = 1",
            "t.toml:2: a\\u{1b}[31m: there is no such key; remove it",
        ),
    ] {
        says(text, line);
    }
}

#[test]
fn keys_of_later_versions_are_not_taken_in_silence() {
    for later in [
        "[realtime]\nprompt_id = 'x'",
        "[agent]\nprompt = 'x'",
        "[[trunk]]\nto = '+61255501234'",
    ] {
        assert!(said(later).contains("there is no such "), "{later}");
    }
}

#[test]
fn a_secret_in_the_file_is_told_where_to_go() {
    for text in [
        "auth_token = 'PLANTED'",
        "[hume]\napi_key = 'PLANTED'",
        "[hume]\nhume_api_key = 'PLANTED'",
        "[twilio]\nauthToken = 'PLANTED'",
        "[twilio]\nAuth-Token = 'PLANTED'",
        "[credentials]\ntwilio_auth_token = 'PLANTED'",
        "[hume]\nkey = 'PLANTED'",
        "[hume]\nsecret = ['PLANTED']",
        "calls.fallback = { say = 'a', password = 'PLANTED' }",
    ] {
        let told = said(text);
        assert!(
            told.contains("secrets never stand in this file; remove it and put it into"),
            "{told}"
        );
        assert!(told.contains("LoadCredential="), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
    // Also inside what is not known anyway.
    let told = said("[realtime]\nmodel = 'x'\nrealtime_api_key = 'PLANTED'");
    assert!(
        told.contains("t.toml:4: realtime.realtime_api_key: secrets never"),
        "{told}"
    );
    let told = said("[[tools]]\nheaders = { x = [{ token = 'PLANTED' }] }");
    assert!(
        told.contains("tools.headers.x.token: secrets never")
            && told.contains("t.toml:2: tools: there is no such section; did you mean [[tool]]?"),
        "{told}"
    );
}

#[test]
fn no_slip_of_the_fingers_makes_a_value_come_out() {
    let text = format!(
        "{URL}[hume]\napi_key = \"{MARK}{MARK}\"\nconfig_id = \"{MARK} {MARK}\"\n\
         url = 'wss://h/?k={MARK}{MARK}'\n[twilio]\nauth_token = '{MARK}{MARK}'\n\
         phone_number = \"{MARK}{MARK}\"\n[log]\nlevel = '{MARK}{MARK}'\n\
         [calls]\nfallback = {{ dial = \"{MARK}{MARK}\" }}\n\
         [[tool]]\nheaders = {{ Authorization = 'Bearer {MARK}{MARK}' }}\n\
         command = [\"/x\", \"--token={MARK}{MARK}\"]\n\
         [[route]]\nto = '{MARK}{MARK}'\nvariables = {{ a = '{{{MARK}{MARK}}}' }}\n"
    );
    for at in 0..text.len() {
        for slip in [
            "", "\"", "'", "\n", "=", "[", "]", "{", "#", ".", "\\", "\0",
        ] {
            let broken = format!("{}{slip}{}", &text[..at], &text[at + 1..]);
            let Err(problems) = parse(&broken) else {
                panic!("{broken}")
            };
            let told = format!("{problems}\n{problems:?}");
            assert!(!told.contains(MARK), "{broken}\n{told}");
        }
    }
}

#[test]
fn the_file_is_read_and_the_command_line_goes_over_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hume-bridge.toml");
    fs::write(&path, format!("{URL}[listen]\nhttp = '127.0.0.1:1'")).unwrap();
    let overrides = Overrides {
        port: Some(8080),
        hume_config: Some("c-1".into()),
        log_level: Some(LogLevel::Debug),
    };
    let config = config::load(&path, &overrides).unwrap();
    assert_eq!(config.listen.http.to_string(), "127.0.0.1:8080");
    assert_eq!(config.hume.config_id.as_deref(), Some("c-1"));
    assert_eq!(config.log.level, LogLevel::Debug);

    let overrides = Overrides {
        port: Some(3001),
        hume_config: Some("a PLANTED".into()),
        log_level: None,
    };
    let told = config::load(&path, &overrides).unwrap_err().to_string();
    assert_eq!(
        told,
        "command line: --hume-config: is not an id; copy the id alone: at most 128 letters, digits \
         and signs, no spaces\n\
         command line: --port: port 3001 is that of listen.ops, too; give each a port of its own"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let load = |path: &Path| {
        config::load(path, &Overrides::default())
            .unwrap_err()
            .to_string()
    };
    let path = dir.path().join("no\n.toml");
    let told = load(&path);
    assert!(
        told.contains("no\\n.toml: cannot be read: ") && told.contains("--config"),
        "{told}"
    );
    assert_eq!(told.lines().count(), 1);
    assert!(load(dir.path()).contains("name the file in it with --config"));
    fs::write(&path, b"# ok\n# \xff\n").unwrap();
    assert!(load(&path).contains(".toml:2: is not UTF-8; save it as UTF-8"));
    fs::write(&path, "#".repeat(300_000)).unwrap();
    assert!(load(&path).contains("is larger than 256 KiB"));
}

#[test]
fn printing_the_config_shows_no_number() {
    let config =
        good("twilio.phone_number = '+61255501234'\ncalls.fallback = { dial = '+61255501234' }");
    let shown = format!("{config:?}{config:#?}");
    assert!(!shown.contains("255501234"), "{shown}");
}
