//! What each key may be, and what is said when it is not.

use std::time::Duration;

use hume_bridge::config::{Fallback, HoldSound, LogAudit, LogLevel, LogTarget, PublicUrl};

use hume_bridge::audio::wav;

use super::{MARK, good, said, says};

#[test]
fn the_public_url_is_taken_apart() {
    let url = |text: &str| PublicUrl::parse(text).unwrap_or_else(|p| panic!("{text}: {p}"));
    let plain = url("https://Bridge.Example.com/");
    assert_eq!(
        plain.http("/voice/incoming"),
        "https://bridge.example.com/voice/incoming"
    );
    assert_eq!(
        plain.ws("/media-stream"),
        "wss://bridge.example.com/media-stream"
    );
    assert_eq!(plain, url("https://bridge.example.com"));
    // Twilio signs the URL as it was given, and the default port may have been given.
    assert_eq!(
        url("https://bridge.example.com:443/a/b//").http("/x"),
        "https://bridge.example.com:443/a/b/x"
    );
    for (local, ws) in [
        ("http://127.0.0.1:3000", "ws://127.0.0.1:3000/"),
        ("http://localhost:3000/", "ws://localhost:3000/"),
        ("http://[::1]:3000", "ws://[::1]:3000/"),
        ("http://[::1]", "ws://[::1]/"),
    ] {
        assert_eq!(url(local).ws("/"), ws);
    }
}

#[test]
fn a_public_url_that_will_not_do_is_told_why() {
    for (text, what) in [
        ("", "is empty; "),
        ("bridge.example.com", "has no scheme; "),
        ("https:/bridge.example.com", "has no scheme; "),
        ("https:///bridge.example.com", "has no host; "),
        ("https://", "is not a URL; "),
        (
            "https://a b",
            "has a space, a backslash or a control character in it; ",
        ),
        (
            "https://a\\b",
            "has a space, a backslash or a control character in it; ",
        ),
        (
            "https://bridge.example.com\n",
            "has a space, a backslash or a control character in it; ",
        ),
        (
            "http://192.0.2.7",
            "is http:// to a host that is not this machine; ",
        ),
        (
            "http://localhost.example.com",
            "is http:// to a host that is not this machine; ",
        ),
        ("wss://bridge.example.com", "does not begin with https://; "),
        (
            "https://user:PLANTED@bridge.example.com",
            "has a user or a password in it; ",
        ),
        (
            "https://@bridge.example.com",
            "has a user or a password in it; ",
        ),
        ("https://bridge.example.com?PLANTED", "has a query; "),
        ("https://bridge.example.com/?", "has a query; "),
        ("https://bridge.example.com/#PLANTED", "has a fragment; "),
        ("https://bridge.example.com:0", "has port 0; "),
        ("https://bridge.example.com:99999", "is not a URL; "),
        (
            "https://bridge.example.com/voice/incoming",
            "ends with the endpoint /voice/incoming; ",
        ),
    ] {
        let problem = PublicUrl::parse(text).expect_err(text);
        assert!(
            format!("{problem}").starts_with(&format!("public_url: {what}")),
            "{text}: {problem}"
        );
        assert!(!format!("{problem}{problem:?}").contains(MARK));
    }
}

#[test]
fn far_ends_are_encrypted_unless_they_are_here() {
    assert_eq!(
        good("hume.url = 'ws://127.0.0.1:9/evi'").hume.url,
        "ws://127.0.0.1:9/evi"
    );
    assert_eq!(
        good("hume.url = 'wss://evi.example.com/chat'").hume.url,
        "wss://evi.example.com/chat"
    );
    let api = good("twilio.api_url = 'http://localhost:9/'")
        .twilio
        .api_url;
    assert_eq!(api, "http://localhost:9");

    says(
        "hume.url = 'ws://evi.example.com'",
        "t.toml:2: hume.url: is ws:// to a host that is not this machine; write wss://; ws:// is \
         for loopback addresses only",
    );
    says(
        "hume.url = 'wss://api.hume.ai/v0/evi/chat?api_key=PLANTED'",
        "t.toml:2: hume.url: has a query; remove everything from the ?; keys go into the credentials",
    );
    says(
        "hume.url = 'https://api.hume.ai'",
        "t.toml:2: hume.url: does not begin with wss://; write wss://",
    );
    assert!(said("twilio.api_url = 'http://api.twilio.com'").contains("write https://"));
    assert!(said("twilio.api_url = 'https://AC1:PLANTED@api.twilio.com'").contains("password"));
}

#[test]
fn a_listener_needs_an_address_and_is_told_which() {
    let listen = good("[listen]\nhttp = '[::]:80'\nops = ''").listen;
    assert_eq!(
        (listen.http.to_string(), listen.ops),
        ("[::]:80".to_owned(), None)
    );

    for (value, mend) in [
        ("'3000'", "has no IP address; write \"0.0.0.0:3000\""),
        (
            "3000",
            "is a number, not an address with a port; write \"0.0.0.0:3000\"",
        ),
        ("':8080'", "has no IP address; write \"0.0.0.0:8080\""),
        ("'*:8080'", "has no IP address; write \"0.0.0.0:8080\""),
        ("'0.0.0.0'", "has no port; write \"0.0.0.0:3000\""),
        ("'::1'", "has no port; write \"[::1]:3000\""),
        ("'[::1]'", "has no port; write \"[::1]:3000\""),
        (
            "'localhost:3000'",
            "has a name, not an IP address; write \"127.0.0.1:3000\"",
        ),
        (
            "'bridge.example.com:3000'",
            "has a name, not an IP address; write \"0.0.0.0:3000\"",
        ),
        (
            "'0.0.0.0:99999'",
            "is not an address with a port; write \"0.0.0.0:3000\", an IP address, a colon and a \
             port from 0 to 65535",
        ),
    ] {
        says(
            &format!("[listen]\nhttp = {value}"),
            &format!("t.toml:3: listen.http: {mend}"),
        );
    }
    says(
        "[listen]\nops = 9000",
        "t.toml:3: listen.ops: is a number, not an address with a port; write \"127.0.0.1:9000\"",
    );
    assert!(said("listen.http = ''").contains("is not an address"));
    says(
        "[listen]\nops = '127.0.0.1:3000'",
        "t.toml:3: listen.ops: port 3000 is that of listen.http, too; give each a port of its own",
    );
    good("[listen]\nhttp = '127.0.0.1:0'\nops = '127.0.0.1:0'");
}

#[test]
fn durations_have_a_unit_and_make_sense() {
    assert_eq!(
        good("hume.ping_interval = '20ms'")
            .hume
            .connection
            .ping_interval,
        Duration::from_millis(20)
    );
    assert_eq!(
        good("calls.max_duration = '28m'").calls.max_duration,
        Duration::from_secs(1680)
    );
    let form = "write a whole number and a unit, as in \"20ms\", \"5s\", \"5m\" or \"2h\"";
    for (value, what) in [
        ("20", "is a number without a unit"),
        ("1.5", "is a number without a unit"),
        ("'20'", "has no unit"),
        ("'20 s'", "is not a duration"),
        ("'1h30m'", "is not a duration"),
        ("''", "is not a duration"),
    ] {
        let line = format!("t.toml:2: hume.pong_timeout: {what}; {form}");
        says(&format!("hume.pong_timeout = {value}"), &line);
    }
    says(
        "calls.max_duration = '0s'",
        "t.toml:2: calls.max_duration: 0ms is out of range; write from \"1s\" to \"24h\"",
    );
    says(
        "hume.connect_timeout = '48h'",
        "t.toml:2: hume.connect_timeout: 48h is out of range; write from \"10ms\" to \"2m\"",
    );
    assert!(
        good("hume.recycle_after = '0s'")
            .hume
            .connection
            .recycle_after
            .is_zero()
    );
    says(
        "hume.recycle_after = '29m'",
        "t.toml:2: hume.recycle_after: 29m is out of range; write from \"1s\" to \"28m\", or \"0s\" \
         for never",
    );
    for key in [
        "ping_interval",
        "pong_timeout",
        "connect_timeout",
        "ready_timeout",
    ] {
        assert!(said(&format!("hume.{key} = '0s'")).contains("out of range"));
    }
}

#[test]
fn types_are_said_by_name() {
    says(
        "log.level = 3",
        "t.toml:2: log.level: is a number, not a string; put it in quotes",
    );
    says(
        "twilio.validate_signatures = 'false'",
        "t.toml:2: twilio.validate_signatures: is a string, not true or false; write false without quotes",
    );
    says(
        "calls.max_concurrent = '500'",
        "t.toml:2: calls.max_concurrent: is a string, not a whole number; write a whole number \
         from 1 to 100000, without quotes",
    );
    assert!(said("calls.max_concurrent = -1").contains("-1 is out of range"));
    assert!(said("calls.max_concurrent = 99999999999999999999999").contains("is out of range"));
    says(
        "listen = '0.0.0.0:3000'",
        "t.toml:2: listen: is a string, not a section; write [listen] on a line of its own, its \
         keys below",
    );
    says(
        "[[listen]]\nhttp = '0.0.0.0:3000'",
        "t.toml:2: listen: is a list, not a section; write [listen] on a line of its own, its \
         keys below",
    );
}

#[test]
fn numbers_and_ids_are_checked_and_never_repeated() {
    let sid = "AC0123456789abcdef0123456789abcdef";
    assert_eq!(
        good(&format!("twilio.account_sid = '{sid}'"))
            .twilio
            .account_sid
            .unwrap(),
        sid
    );
    assert!(said("twilio.account_sid = 'PLANTED'").contains("is not an account SID"));
    let key = sid.replace("AC", "SK");
    let told = said(&format!("twilio.account_sid = '{key}'"));
    assert!(told.contains("is the SID of an API key") && !told.contains(&key));

    assert!(
        good("twilio.phone_number = '+61255501234'")
            .twilio
            .phone_number
            .is_some()
    );
    for number in [
        "'0255501234'",
        "'+61 2 5550 1234'",
        "'+0255501234'",
        "61255501234",
        "'+12345'",
    ] {
        let told = said(&format!("twilio.phone_number = {number}"));
        assert!(
            told.starts_with("t.toml:2: twilio.phone_number: is "),
            "{told}"
        );
        assert!(
            !told.contains("5550 1234") && !told.contains("0255501234"),
            "{told}"
        );
    }

    assert_eq!(
        good("hume.config_id = 'x-1'").hume.config_id.unwrap(),
        "x-1"
    );
    for id in ["''", "'a PLANTED'", "'é'"] {
        assert!(said(&format!("hume.config_id = {id}")).contains("hume.config_id: is "));
    }
    assert!(said(&format!("hume.config_id = '{}'", "x".repeat(129))).contains("at most 128"));
}

#[test]
fn the_fallback_is_exactly_one_thing() {
    let fallback = |v: &str| good(&format!("calls.fallback = {v}")).calls.fallback;
    assert_eq!(
        fallback("{ say = 'Sorry.' }"),
        Fallback::Say("Sorry.".into())
    );
    assert_eq!(
        fallback("{ dial = '+61255501234' }"),
        Fallback::Dial("+61255501234".into())
    );
    assert_eq!(fallback("{ hangup = true }"), Fallback::HangUp);
    assert_eq!(
        good("[calls.fallback]\nhangup = true").calls.fallback,
        Fallback::HangUp
    );
    for (value, what) in [
        ("{}", "is empty"),
        ("'Sorry.'", "is a string, not a table"),
        (
            "{ say = 'a', dial = '+61255501234' }",
            "says more than one thing to do",
        ),
        ("{ hangup = false }", "hangup = false says nothing to do"),
        ("{ say = ' ' }", "say has no words"),
        (
            "{ sya = 'a' }",
            "has a key that is none of say, dial and hangup",
        ),
        (
            "{ dial = '0255501234' }",
            "dial is not a telephone number as Twilio writes it",
        ),
        ("{ say = 5 }", "say is a number, not a string"),
    ] {
        let told = said(&format!("[calls]\nfallback = {value}"));
        assert!(
            told.starts_with(&format!("t.toml:3: calls.fallback: {what}; ")),
            "{told}"
        );
    }
}

#[test]
fn what_twilio_speaks_fits_its_verb() {
    assert_eq!(
        good("calls.greeting = 'G\u{e4}rten & <Say>'")
            .calls
            .greeting,
        "Gärten & <Say>"
    );
    good(&format!("calls.greeting = '{}'", "ä".repeat(3000)));
    let long = said(&format!("calls.greeting = '{}'", "ä".repeat(3001)));
    assert!(
        long.contains("has 3001 characters; shorten it to 3000"),
        "{long}"
    );
    assert!(said(r#"calls.greeting = "a\u0000b""#).contains("control character"));
    assert!(said(r#"calls.greeting = "a\uffffb""#).contains("control character"));
    good(r#"calls.greeting = "hello \U0001F44B""#);
}

#[test]
fn the_operators_socket_and_log_are_checked() {
    let config =
        good("[admin]\nsocket = ''\ngroup = ''\n[log]\ntarget = 'syslog'\nlevel = 'debug'");
    assert_eq!(
        (config.admin.socket, config.admin.group),
        (None, String::new())
    );
    assert_eq!(
        (config.log.target, config.log.level),
        (LogTarget::Syslog, LogLevel::Debug)
    );
    assert!(said("admin.socket = 'control.sock'").contains("is not a full path"));
    let long = said(&format!("admin.socket = '/{}'", "x".repeat(107)));
    assert!(
        long.contains("has 108 bytes, too many for a socket"),
        "{long}"
    );
    assert!(said("admin.group = 'a b'").contains("is not the name of a group"));
    assert!(said("credentials.file = 'c.json'").contains("is not a full path"));
    let journal = good("log.target = 'journal'\nlog.audit = 'syslog'").log;
    assert_eq!(
        (journal.target, journal.audit),
        (LogTarget::Journal, LogAudit::Syslog)
    );
    assert!(said("log.target = 'journald'").contains("did you mean \"journal\"?"));
    assert!(said("log.audit = 'stderr'").contains("write \"log\" or \"syslog\""));
    says(
        "log.target = 'PLANTED'",
        "t.toml:2: log.target: is none of the words that may stand here; write \"auto\" or \
         \"stderr\" or \"journal\" or \"syslog\"",
    );
}

#[test]
fn callers_are_listed_by_how_they_begin() {
    let config = good(
        "[calls]\nallow = [\"+61\", \"client:\", \"SIP:Alice@\", \"Anonymous\"]\n\
         deny = [\"+61190\", \"+882\"]\n",
    );
    assert_eq!((config.calls.allow.len(), config.calls.deny.len()), (4, 2));
    let shown = format!("{config:?}");
    assert!(
        !shown.contains("61190") && !shown.to_lowercase().contains("alice"),
        "{shown}"
    );
    // A hole in what is allowed.
    good("[calls]\nallow = [\"+61\"]\ndeny = [\"+612\"]\n");
    good("[calls]\nallow = [\"+61\"]\ndeny = [\"anonymous\"]\n");
}

#[test]
fn an_entry_that_is_no_caller_is_told_by_its_place_and_not_repeated() {
    let deny = |entries: &str, what: &str| {
        let said = said(&format!("[calls]\ndeny = [{entries}]"));
        let start = "t.toml:3: calls.deny: entry ";
        let rest = said.strip_prefix(start).unwrap_or_else(|| panic!("{said}"));
        assert!(rest.starts_with(what), "{rest}");
        assert!(!said.contains("55501234"), "{said}");
    };
    for (entries, what) in [
        ("\"\"", "1 is empty, which would be everybody; "),
        ("\"+\"", "1 is + alone, which would be every number; "),
        (
            "\"+882\", \"61255501234\"",
            "2 has no +; write + and the country code",
        ),
        ("\"0061255501234\"", "1 has no +; write + in place of 00"),
        ("\"+061\"", "1 is not how a telephone number begins; "),
        (
            "\"+6125550123412345\"",
            "1 is not how a telephone number begins; ",
        ),
        (
            "\"+61 2 5550 1234\"",
            "1 has something other than digits after the +; ",
        ),
        (
            "\"+882*\"",
            "1 has something other than digits after the +; ",
        ),
        (
            "\"withheld\"",
            "1 is no word for callers; did you mean \"anonymous\"?",
        ),
        (
            "\"anonymos\"",
            "1 is no word for callers; did you mean \"anonymous\"?",
        ),
        (
            "\"alice\"",
            "1 is not the beginning of a caller; write + and digits",
        ),
        ("\"sip:a b\"", "1 is not the beginning of an address; "),
        ("61", "1 is a number, not a string; put it in quotes"),
        (
            "\"+61\", \"+62\", \"+61\"",
            "3 is entry 1 again; remove one of them",
        ),
    ] {
        deny(entries, what);
    }
    says(
        "[calls]\nallow = \"+61\"",
        "t.toml:3: calls.allow: is a string, not a list; write the entries in brackets, as in [\"+882\"]",
    );
}

#[test]
fn an_entry_that_lets_nobody_in_is_told() {
    says(
        "[calls]\nallow = [\"+61\", \"+8821\"]\ndeny = [\"+7\", \"+882\"]",
        "t.toml:3: calls.allow: entry 2 lets nobody in: entry 2 of calls.deny denies them all, and \
         deny always holds; remove one of the two",
    );
    let withheld = "[calls]\nallow = [\"anonymous\"]\ndeny = [\"anonymous\"]";
    assert!(said(withheld).contains("entry 1 lets nobody in"));
}

#[test]
fn a_certificate_and_its_key_come_together() {
    let listen = |lines: &str| said(&format!("[listen]\n{lines}"));
    let both = good("[listen]\ntls_cert = \"/c.pem\"\ntls_key = \"credential:key\"").listen;
    assert!(both.tls_cert.is_some() && both.tls_key.is_some());
    let none = good("[listen]\ntls_cert = \"\"\ntls_key = \"\"").listen;
    assert!(none.tls_cert.is_none() && none.tls_key.is_none());
    for (lines, said) in [
        (
            "tls_cert = \"/c.pem\"",
            "tls_cert: is set without listen.tls_key; ",
        ),
        (
            "tls_key = \"/k.pem\"",
            "tls_key: is set without listen.tls_cert; ",
        ),
        (
            "tls_cert = \"\"\ntls_key = \"/k.pem\"",
            "tls_key: is set without listen.tls_cert; ",
        ),
        (
            "tls_cert = \"/c.pem\"\ntls_key = \"\"",
            "tls_key: is \"\", and listen.tls_cert is not; ",
        ),
        (
            "tls_cert = \"c.pem\"\ntls_key = \"/k.pem\"",
            "tls_cert: is not a full path; ",
        ),
        (
            "tls_cert = \"/c.pem\"\ntls_key = \"credential:a/b\"",
            "tls_key: does not name a cred",
        ),
        (
            "tls_cert = \"/c.pem\"\ntls_key = \"-----BEGIN PRIVATE KEY-----PLANTED\"",
            "tls_key: is a certificate or a key itself, not a file's name; ",
        ),
    ] {
        let told = listen(lines);
        assert!(told.contains(said), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
}

#[test]
fn a_hold_sound_is_tones_or_nothing_or_a_recording_that_can_be_played() {
    let hold = |value: &str| {
        good(&format!("calls.hold_sound = '{value}'"))
            .calls
            .hold_sound
    };
    assert_eq!(hold("tones"), HoldSound::Tones);
    assert_eq!(hold(""), HoldSound::Nothing);

    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let two_seconds = wav::write(44_100, 1, &[1000; 2 * 44_100]);
    let HoldSound::Recording(recording) = hold(&write("good.wav", &two_seconds)) else {
        panic!("a recording");
    };
    assert!((15_900..16_100).contains(&recording.mulaw.len()));

    let form = "name a WAV file, PCM of 16 bits, of one second to one minute";
    let short = wav::write(8000, 1, &[0; 800]);
    for (value, what) in [
        (write("short.wav", &short), "lasts 0.1 s"),
        (write("no.wav", b"ID3 and so on"), "cannot be played: "),
        (directory.path().display().to_string(), "is not a file"),
        ("/nowhere/at/all.wav".to_owned(), "cannot be read: "),
    ] {
        let said = said(&format!("calls.hold_sound = '{value}'"));
        let line = format!("t.toml:2: calls.hold_sound: {what}");
        assert!(said.starts_with(&line) && said.contains(form), "{said}");
    }
    says(
        "calls.hold_sound = 'tone'",
        "t.toml:2: calls.hold_sound: is not a sound; write \"tones\", the full path of a WAV file, or \
         \"\" for nothing",
    );
}

#[test]
fn call_records_go_to_a_file_that_can_be_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let pipe = path("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
    std::fs::write(path("there"), "").unwrap();
    for good_one in [
        path("there"),
        path("new"),
        "/dev/full".to_owned(),
        // Made by systemd at the unit's first start.
        "/var/lib/hume-bridge/calls.jsonl".to_owned(),
    ] {
        let config = good(&format!("calls.record = '{good_one}'"));
        assert_eq!(config.calls.record.unwrap().to_str(), Some(&*good_one));
    }
    assert_eq!(good("calls.record = ''").calls.record, None);
    for (value, what) in [
        ("calls".to_owned(), "is not a full path; "),
        (pipe, "is there, and is not a file; name a file, as in "),
        (path(""), "is there, and is not a file; "),
        (
            path("no/calls"),
            "is in a directory that does not exist; make it, or ",
        ),
        (
            path("there/calls"),
            "is in a directory that does not exist; ",
        ),
    ] {
        let told = said(&format!("calls.record = '{value}'"));
        let line = format!("t.toml:2: calls.record: {what}");
        assert!(told.starts_with(&line), "{told}");
    }
}
