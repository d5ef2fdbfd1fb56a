//! Secrets in real files, with real modes.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use hume_bridge::config::{Config, Credentials, Problems, credentials};

use super::{MARK, URL, parse};

const SID: &str = "AC0123456789abcdef0123456789abcdef";

/// A directory with files in it, each of the given mode.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Files(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, mode: u32, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn find(&self) -> Result<Credentials, Problems> {
        credentials::find(None, &parse(URL).unwrap(), Some(self.0.path()))
    }

    fn refused(&self) -> String {
        hidden(self.find())
    }
}

/// What is said, which never is a secret.
fn hidden(found: Result<Credentials, Problems>) -> String {
    let problems = found.unwrap_err();
    let told = problems.to_string();
    assert!(!format!("{told}{problems:?}").contains(MARK), "{told}");
    told
}

fn from_json(json: &str) -> Result<Credentials, Problems> {
    from_json_beside(json, URL)
}

fn from_json_beside(json: &str, config: &str) -> Result<Credentials, Problems> {
    let dir = Files::new();
    let path = dir.put("c.json", 0o600, json);
    credentials::find(Some(&path), &parse(config).unwrap(), None)
}

fn json(sid: &str) -> String {
    format!(
        r#"{{"hume_api_key":"h-PLANTED","twilio_account_sid":"{sid}","twilio_auth_token":"t-PLANTED"}}"#
    )
}

#[test]
fn the_predecessors_file_works_as_it_is() {
    let old = format!(
        r#"{{"hume_api_key":"h-PLANTED","hume_secret_key":"x","twilio_au_account_sid":"{SID}",
            "twilio_au_auth_token":"t-PLANTED","twilio_au_phone_number":"+61255501234",
            "anthropic":{{"nested":[1,2]}},"port":3000}}"#
    );
    for text in [old.clone(), format!("\u{feff}{old}\r\n")] {
        let dir = Files::new();
        let path = dir.put("c.json", 0o600, text);
        let found = credentials::find(Some(&path), &parse(URL).unwrap(), None).unwrap();
        assert_eq!(found.hume_api_key.as_ref().unwrap().expose(), "h-PLANTED");
        assert_eq!(found.twilio_auth_token.expose(), "t-PLANTED");
        assert_eq!(found.twilio_account_sid, SID);
        assert_eq!(found.twilio_phone_number.as_deref(), Some("+61255501234"));
        let shown = format!("{found:?} {found:#?}");
        assert!(
            !shown.contains(MARK) && !shown.contains("255501234"),
            "{shown}"
        );
    }
}

#[test]
fn systemd_hands_over_one_secret_a_file() {
    let dir = Files::new();
    dir.put("hume-api-key", 0o440, "h-PLANTED\n");
    dir.put("twilio-auth-token", 0o400, "t-PLANTED\r\n");
    dir.put("twilio-account-sid", 0o400, SID);
    dir.put("something-else", 0o644, "");
    let found = dir.find().unwrap();
    assert_eq!(found.hume_api_key.as_ref().unwrap().expose(), "h-PLANTED");
    assert_eq!(found.twilio_auth_token.expose(), "t-PLANTED");
    assert_eq!(
        (found.twilio_account_sid.as_str(), found.twilio_phone_number),
        (SID, None)
    );

    // The SID is no secret and may stand in the config.
    fs::remove_file(dir.0.path().join("twilio-account-sid")).unwrap();
    let config = parse(&format!(
        "{URL}[twilio]\naccount_sid = '{SID}'\nphone_number = '+61255501234'"
    ));
    let found = credentials::find(None, &config.unwrap(), Some(dir.0.path())).unwrap();
    assert_eq!(found.twilio_account_sid, SID);
    assert_eq!(found.twilio_phone_number.as_deref(), Some("+61255501234"));
}

#[test]
fn systemd_may_hand_over_one_json_file() {
    let dir = Files::new();
    dir.put("credentials.json", 0o400, json(SID));
    assert_eq!(
        dir.find().unwrap().hume_api_key.as_ref().unwrap().expose(),
        "h-PLANTED"
    );
    // Both, and they do not agree.
    dir.put("hume-api-key", 0o400, "other-PLANTED");
    let told = dir.refused();
    assert!(
        told.contains("hume-api-key: is not the same as hume_api_key in "),
        "{told}"
    );
}

#[test]
fn the_first_place_that_is_named_is_the_one() {
    let dir = Files::new();
    let cli = dir.put("cli.json", 0o600, json(SID).replace("h-", "cli-"));
    let file = dir.put("file.json", 0o600, json(SID).replace("h-", "file-"));
    dir.put(
        "credentials.json",
        0o600,
        json(SID).replace("h-", "systemd-"),
    );
    let systemd = Some(dir.0.path());
    let plain = parse(URL).unwrap();
    let with = |f: &Path| parse(&format!("{URL}credentials.file = '{}'", f.display())).unwrap();
    let key = |found: Result<Credentials, Problems>| {
        found
            .unwrap()
            .hume_api_key
            .as_ref()
            .unwrap()
            .expose()
            .to_owned()
    };
    assert_eq!(
        key(credentials::find(Some(&cli), &with(&file), systemd)),
        "cli-PLANTED"
    );
    assert_eq!(
        key(credentials::find(None, &with(&file), systemd)),
        "file-PLANTED"
    );
    assert_eq!(
        key(credentials::find(None, &plain, systemd)),
        "systemd-PLANTED"
    );
    // A name that leads nowhere is a mistake, not a hint to look on.
    let gone = with(&dir.0.path().join("gone.json"));
    let told = hidden(credentials::find(None, &gone, systemd));
    assert!(
        told.contains("gone.json: cannot be read: ") && told.contains("mode 600"),
        "{told}"
    );
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(hidden(credentials::find(systemd, &plain, None)).contains("is a directory"));
}

#[test]
fn systemd_may_pass_a_whole_directory() {
    let dir = Files::new();
    dir.put("credentials_hume-api-key", 0o400, "h-PLANTED\n");
    dir.put("credentials_twilio-auth-token", 0o400, "t-PLANTED");
    dir.put("credentials_twilio-account-sid", 0o400, SID);
    dir.put("credentials_notes", 0o400, "mine");
    let config = parse(URL).unwrap();
    let found = credentials::find(None, &config, Some(dir.0.path())).unwrap();
    assert_eq!(found.twilio_account_sid, SID);
    assert_eq!(found.hume_api_key.as_ref().unwrap().expose(), "h-PLANTED");
    // Both ways at once are fine as long as they agree.
    dir.put("hume-api-key", 0o400, "h-OTHER");
    assert!(dir.refused().contains("hume-api-key: is not the same as "));
}

#[test]
fn everything_that_is_missing_is_named_at_once_with_where_it_was_looked_for() {
    let config = parse(URL).unwrap();
    for directory in [None, Some(Path::new(""))] {
        assert_eq!(
            hidden(credentials::find(None, &config, directory)),
            "credentials: hume_api_key, twilio_auth_token, twilio_account_sid: missing; looked at \
             --credentials (not given), file in [credentials] (not set) and $CREDENTIALS_DIRECTORY \
             (not set); write a JSON file of mode 600 with these keys and name it with --credentials; \
             the package's unit takes them from /etc/hume-bridge/credentials/, one a file"
        );
    }
    let dir = Files::new();
    let told = dir.refused();
    assert_eq!(
        told,
        format!(
            "{}: hume_api_key, twilio_auth_token, twilio_account_sid: missing; looked here, and at \
             [twilio] of the config; put hume-api-key, twilio-auth-token, twilio-account-sid where \
             the unit's LoadCredential= takes them from (the package's: \
             /etc/hume-bridge/credentials/) and systemctl restart hume-bridge: systemd passes \
             credentials at the start only, a reload sees none that are new (account_sid may stand in [twilio] of the config, too)",
            dir.0.path().display()
        )
    );
    let told = hidden(from_json(&format!(
        r#"{{"twilio_account_sid":"{SID}","hume_api_key":null}}"#
    )));
    assert!(
        told.ends_with("c.json: hume_api_key, twilio_auth_token: missing; looked here; add them"),
        "{told}"
    );
}

#[test]
fn a_file_that_others_may_touch_is_refused_with_the_command_that_mends_it() {
    for (mode, may) in [
        (0o644, "read"),
        (0o604, "read"),
        (0o602, "write"),
        (0o666, "read and write"),
    ] {
        let dir = Files::new();
        let path = dir.put("it's $HOME.json", mode, json(SID));
        let told = hidden(credentials::find(Some(&path), &parse(URL).unwrap(), None));
        let quoted = path.display().to_string().replace('\'', r"'\''");
        assert!(
            told.ends_with(&format!(
                ": every user of this machine may {may} it; chmod 600 '{quoted}'"
            )),
            "{told}"
        );
        assert_eq!(
            told.lines().count(),
            1,
            "what is in it is not called missing: {told}"
        );

        // Doing as told mends it.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        credentials::find(Some(&path), &parse(URL).unwrap(), None).unwrap();
    }
    let dir = Files::new();
    dir.put("hume-api-key", 0o444, "PLANTED");
    dir.put("twilio-auth-token", 0o400, "PLANTED");
    let told = dir.refused();
    assert!(told.contains("hume-api-key: every user of this machine may read it; chmod 600 /"));
    assert!(told.contains(": twilio_account_sid: missing; "), "{told}");
    assert_eq!(told.lines().count(), 2, "{told}");
}

#[test]
fn a_value_that_could_break_out_of_a_header_is_refused() {
    for (value, what) in [
        ("", "is empty"),
        ("\n", "is empty"),
        (
            "PLANTED\n\n",
            "has a space, a line break or another character that no key has, at 8",
        ),
        (" PLANTED", "has a space"),
        ("PLANTED\r\nx: y", "has a space, a line break"),
        ("PLANTED\0", "has a space, a line break"),
        ("PLANTEDé", "has a space, a line break"),
    ] {
        let dir = Files::new();
        dir.put("hume-api-key", 0o400, value);
        dir.put("twilio-auth-token", 0o400, "t");
        dir.put("twilio-account-sid", 0o400, SID);
        let told = dir.refused();
        assert!(
            told.contains(&format!("hume-api-key: {what}")),
            "{value:?}: {told}"
        );
        assert_eq!(told.lines().count(), 1, "{told}");
    }
    let dir = Files::new();
    dir.put("hume-api-key", 0o400, b"PLANTED\xff");
    dir.put("twilio-auth-token", 0o400, "PLANTED".repeat(10_000));
    dir.put("twilio-account-sid", 0o400, "SKPLANTED");
    dir.put("twilio-phone-number", 0o400, "0PLANTED");
    let told = dir.refused();
    for what in [
        "is not text",
        "is larger than 64 KiB",
        "is not an account SID",
        "is not a telephone number",
    ] {
        assert!(told.contains(what), "{told}");
    }
    assert_eq!(told.lines().count(), 4, "{told}");
    let told = hidden(from_json(&json(SID).replace("t-", "t-\\r\\n")));
    assert!(
        told.contains("c.json: twilio_auth_token: has a space, a line break"),
        "{told}"
    );
}

#[test]
fn two_values_for_one_thing_are_not_chosen_between() {
    let two = |key: &str, value: &str| json(SID).replace('}', &format!(r#","{key}":"{value}"}}"#));
    let told = hidden(from_json(&two("twilio_au_auth_token", "u-PLANTED")));
    assert!(
        told.ends_with(
            "c.json: twilio_auth_token: is not the same as twilio_au_auth_token; keep the right \
             one, remove the other"
        ),
        "{told}"
    );
    from_json(&two("twilio_au_auth_token", "t-PLANTED")).unwrap();
    let told = hidden(from_json(&two("hume_api_key", "i-PLANTED")));
    assert!(
        told.contains("hume_api_key: stands there twice, with different values"),
        "{told}"
    );

    let other = SID.replace("AC0", "AC1");
    let config =
        format!("{URL}twilio.account_sid = '{other}'\ntwilio.phone_number = '+61255501234'");
    let number = two("twilio_phone_number", "+61255509999");
    let told = hidden(from_json_beside(&number, &config));
    assert!(
        told.contains("twilio_account_sid: is not the same as twilio.account_sid in the config")
            && told.contains("twilio_phone_number: is not the same as twilio.phone_number in"),
        "{told}"
    );
    assert!(!told.contains(SID) && !told.contains("2555"), "{told}");
}

#[test]
fn broken_json_is_placed_and_never_quoted() {
    for (text, what) in [
        ("", "c.json:1: is not whole JSON"),
        (
            r#""PLANTED""#,
            "c.json:1: is not a JSON object (column 9); write { ",
        ),
        ("[\"PLANTED\"]", "is not a JSON object"),
        (
            "{\n \"hume_api_key\": \"PLANTED\",\n PLANTED }",
            "c.json:3: is not JSON (column 2); ",
        ),
        (
            "{\"hume_api_key\": \"PLANTED",
            "is not whole JSON: it ends too early",
        ),
        ("{\"a\": \"PLANTED\"} PLANTED", "is not JSON"),
    ] {
        let told = hidden(from_json(text));
        assert!(told.contains(what), "{text}: {told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
    let told = hidden(from_json(&json(SID).replace(r#""h-PLANTED""#, "77")));
    assert!(told.ends_with("c.json: hume_api_key: is not a string; put the value in quotes"));
}

const NAMED: &str = "[lookup]\nurl = 'https://x.example.com'\nsign_with = 'crm-signing'\n[[tool]]\n\
                     name = 'a'\ndescription = 'A.'\nkind = 'http'\nurl = 'https://x.example.com'\n\
                     headers = { Authorization = '{credential:crm-key}{credential:crm-key}' }\n";

fn named() -> Config {
    parse(&format!(
        "{URL}[twilio]\naccount_sid = 'AC0123456789abcdef0123456789abcdef'\n{NAMED}"
    ))
    .unwrap()
}

#[test]
fn every_credential_that_is_named_has_to_be_there() {
    let dir = Files::new();
    let put = |name: &str, text: &str| dir.put(name, 0o600, text);
    put("hume-api-key", "h");
    put("twilio-auth-token", "t");
    let find = || credentials::find(None, &named(), Some(dir.0.path()));
    let told = find().unwrap_err().to_string();
    assert_eq!(
        told,
        format!(
            "{}: crm_key, crm_signing: missing; looked here; put crm-key, crm-signing where the \
             unit's LoadCredential= takes them from (the package's: /etc/hume-bridge/credentials/) and \
             systemctl restart hume-bridge: systemd passes credentials at the start only, a reload sees \
             none that are new",
            dir.0.path().display()
        )
    );
    let told = credentials::find(None, &named(), None)
        .unwrap_err()
        .to_string();
    assert!(
        told.starts_with(
            "credentials: hume_api_key, twilio_auth_token, crm_key, crm_signing: missing; "
        ),
        "{told}"
    );

    // One a file, also by the name that systemd gives it.
    put("crm-key", "k-PLANTED\n");
    put("credentials_crm-signing", "s-PLANTED");
    let found = find().unwrap();
    assert_eq!(found.named["crm-key"].expose(), "k-PLANTED");
    assert_eq!(found.named["crm-signing"].expose(), "s-PLANTED");
    assert_eq!(
        found.found(),
        [
            "hume_api_key",
            "twilio_account_sid",
            "twilio_auth_token",
            "crm_key",
            "crm_signing"
        ]
    );
    assert!(!format!("{found:?}{found:#?}").contains(MARK));
    // Another value is a change, and one that nobody names is not looked at.
    put("crm-key", "l-PLANTED");
    assert!(find().unwrap() != found);
    put("crm-key", "k-PLANTED");
    put("other-key", "x y");
    assert!(find().unwrap() == found);

    put("crm-key", "k PLANTED");
    let told = find().unwrap_err().to_string();
    assert!(
        told.contains("/crm-key: has a space") && !told.contains(MARK),
        "{told}"
    );
    assert_eq!(told.lines().count(), 1, "{told}");
    fs::remove_file(dir.0.path().join("crm-key")).unwrap();

    // In JSON with _ or with -.
    let json = |name: &str| {
        format!(
            r#"{{"hume_api_key":"h","twilio_auth_token":"t","{name}":"k-PLANTED","crm_signing":"s"}}"#
        )
    };
    for name in ["crm_key", "crm-key"] {
        let file = put("all.json", &json(name));
        let found = credentials::find(Some(&file), &named(), None).unwrap();
        assert_eq!(found.named["crm-key"].expose(), "k-PLANTED");
    }
    let two = json("crm_key").replace('}', r#","crm-key":"other"}"#);
    let file = put("all.json", &two);
    let told = credentials::find(Some(&file), &named(), None)
        .unwrap_err()
        .to_string();
    assert!(
        told.ends_with(
            "all.json: crm_key: is not the same as crm-key; keep the right one, remove the other"
        ),
        "{told}"
    );
}

#[test]
fn an_agent_that_nobody_talks_to_needs_no_key() {
    const BOTH: &str = "[[route]]\nto = '+15557654322'\nagent = 'realtime'\n";
    const ONLY: &str = "agent.default = 'realtime'\n";
    const KEYLESS: &str = "agent.default = 'realtime'\nrealtime.auth = 'none'\n";
    let twilio = format!(r#""twilio_account_sid":"{SID}","twilio_auth_token":"t-PLANTED""#);
    let find = |keys: &str, config: &str| {
        from_json_beside(&format!("{{{keys}{twilio}}}"), &format!("{URL}{config}"))
    };
    let found = |keys: &str, config: &str| {
        let found = find(keys, config).unwrap_or_else(|problems| panic!("{problems}"));
        let is = |key: &Option<hume_bridge::config::Secret>| key.is_some();
        (is(&found.hume_api_key), is(&found.realtime_api_key))
    };
    let (hume, realtime) = (r#""hume_api_key":"h","#, r#""realtime_api_key":"r","#);
    let all = format!("{hume}{realtime}");
    for (keys, config, expected) in [
        (hume, "", (true, false)),
        (realtime, ONLY, (false, true)),
        ("", KEYLESS, (false, false)),
        (&all, BOTH, (true, true)),
        // What is not needed is no harm, be it left open.
        (&all, "", (true, true)),
        (&all, KEYLESS, (true, true)),
        (
            r#""hume_api_key":"","realtime_api_key":"r","#,
            ONLY,
            (false, true),
        ),
        (
            r#""hume_api_key":"h","realtime_api_key":"","#,
            "",
            (true, false),
        ),
    ] {
        assert_eq!(found(keys, config), expected, "{keys} {config}");
    }
    for (keys, config, missing) in [
        (realtime, "", "hume_api_key: missing; "),
        (hume, ONLY, "realtime_api_key: missing; "),
        ("", BOTH, "hume_api_key, realtime_api_key: missing; "),
        (
            r#""realtime_api_key":"","#,
            ONLY,
            "realtime_api_key: is empty; ",
        ),
    ] {
        let told = hidden(find(keys, config));
        assert!(told.contains(missing), "{told}");
    }
    let names = find(&all, BOTH).unwrap().found();
    assert_eq!(
        names,
        [
            "hume_api_key",
            "realtime_api_key",
            "twilio_account_sid",
            "twilio_auth_token"
        ]
    );

    // One a file, and a header's credential where the server is in use.
    let dir = Files::new();
    let headers = "[realtime]\nheaders = { X-Team = '{credential:team-key}' }\n";
    let from = |config: &str| {
        let config = parse(&format!("{URL}{config}")).unwrap();
        credentials::find(None, &config, Some(dir.0.path()))
    };
    for (name, value) in [
        ("twilio-account-sid", SID),
        ("twilio-auth-token", "t-PLANTED"),
        ("hume-api-key", "h-PLANTED"),
    ] {
        dir.put(name, 0o400, value);
    }
    from(headers).unwrap();
    let told = hidden(from(&format!("{ONLY}{headers}")));
    assert!(
        told.contains(
            ": realtime_api_key, team_key: missing; looked here; put realtime-api-key, team-key "
        ),
        "{told}"
    );
    dir.put("realtime-api-key", 0o400, "r-PLANTED\n");
    dir.put("credentials_team-key", 0o400, "k-PLANTED");
    let found = from(&format!("{ONLY}{headers}")).unwrap();
    assert_eq!(
        found.realtime_api_key.as_ref().unwrap().expose(),
        "r-PLANTED"
    );
    assert_eq!(found.named["team-key"].expose(), "k-PLANTED");
    assert!(!format!("{found:?}").contains(MARK));
}
