//! Command lines and what they mean; and the table against the manual.

use super::*;
use crate::admin::protocol::MAX_TEXT;

fn words(line: &str) -> Result<Args, String> {
    parse(line.split_whitespace()).map_err(|usage| usage.to_string())
}

fn requests(line: &str) -> Vec<Request> {
    match words(line).unwrap().command {
        Command::Ask(requests) => requests,
        other => panic!("{other:?}"),
    }
}

#[test]
fn options_may_stand_anywhere() {
    let args = words("--socket /tmp/s sessions --json --timeout 250ms").unwrap();
    assert_eq!(
        args,
        Args {
            socket: "/tmp/s".into(),
            json: true,
            timeout: Duration::from_millis(250),
            command: Command::Ask(vec![Request::Sessions {}]),
        }
    );
    let args = words("status").unwrap();
    assert_eq!(args.socket, PathBuf::from("/run/hume-bridge/control.sock"));
    assert_eq!((args.json, args.timeout), (false, Duration::from_secs(5)));
}

#[test]
fn each_call_named_is_a_request() {
    let hangup = |call: Option<&str>, all, now| Request::Hangup {
        call: call.map(Into::into),
        all,
        now,
        reason: Some("late".into()),
    };
    assert_eq!(
        requests("hangup CA1 --reason late CA2"),
        [
            hangup(Some("CA1"), false, false),
            hangup(Some("CA2"), false, false)
        ]
    );
    assert_eq!(
        requests("hangup --all --now --reason=late"),
        [hangup(None, true, true)]
    );
    assert_eq!(requests("show CA1"), [Request::Show { call: "CA1".into() }]);
    assert_eq!(requests("drain"), [Request::Drain {}]);
    assert_eq!(requests("undrain"), [Request::Undrain {}]);
}

#[test]
fn help_and_version_are_found_however_they_are_asked_for() {
    for line in ["help", "--help", "-h", "hangup --help", "help nonsense"] {
        assert_eq!(words(line).unwrap().command, Command::Help, "{line}");
    }
    for line in ["version", "--version", "-V"] {
        assert_eq!(words(line).unwrap().command, Command::Version, "{line}");
    }
    let help = help();
    for spec in COMMANDS {
        assert!(
            help.contains(&format!("\n  {}", spec.name)),
            "{}",
            spec.name
        );
    }
    for flag in every_flag() {
        assert!(help.contains(&format!("--{}", flag.name)), "{}", flag.name);
    }
    assert!(help.contains(DEFAULT_SOCKET));
    let long = help.lines().find(|line| line.chars().count() > 80);
    assert_eq!(long, None);
}

#[test]
fn what_is_not_understood_is_explained() {
    let cases = [
        ("", "a command is missing"),
        ("sesions", "did you mean `sessions`?"),
        ("hagnup", "did you mean `hangup`?"),
        ("fly", "no command \"fly\"; `humebridgectl help`"),
        ("transfre CA1 +61", "did you mean `transfer`?"),
        ("transfer CA1", "a CALL and one NUMBER"),
        ("transfer CA1 +1", "with its country"),
        ("transfer CA1 +012025550123", "with its country"),
        ("transfer CA1 +12025550123 +2", "a CALL and one NUMBER"),
        (
            "transfer CA1 0299990000",
            "with its country, like +12025550123",
        ),
        (
            "transfer CA1 - --announce -",
            "cannot both come from standard input",
        ),
        (
            "transfer CA1 +12025550123 --announce=",
            "--announce is empty",
        ),
        (
            "say CA1 hello --announce x",
            "--announce belongs to `transfer`",
        ),
        ("status --all", "--all belongs to `hangup`"),
        ("status CA1", "takes no argument"),
        ("show", "takes one CALL"),
        ("show CA1 CA2", "takes one CALL"),
        ("hangup", "or --all"),
        ("hangup CA1 --all", "not both"),
        ("status --jsno", "did you mean --json?"),
        (
            "status --now --wait",
            "--now belongs to `hangup`, not to `status`",
        ),
        ("undrain --wait", "--wait belongs to `drain`"),
        ("sessions --wait", "--wait belongs to `drain`"),
        (
            "status --nothing-like-it",
            "`humebridgectl help` lists them",
        ),
        ("sessions --watch=1", "--watch"),
        ("events CA1 CA2", "one CALL, or none"),
        ("pause", "takes one CALL"),
        ("resume CA1 CA2", "takes one CALL"),
        ("say CA1", "one TEXT, in quotes"),
        ("say CA1 two words", "one TEXT, in quotes"),
        ("context", "a CALL and one TEXT"),
        ("check", "takes one FILE"),
        ("check a b", "takes one FILE"),
        ("completions", "bash, zsh or fish"),
        ("completions tcsh", "bash, zsh or fish"),
        ("status --timeout", "--timeout"),
        ("status --timeout 5", "500ms, 5s or 1m"),
        ("status --timeout 0s", "500ms, 5s or 1m"),
        ("status --timeout 99999999999999999999s", "500ms, 5s or 1m"),
        ("status --timeout 9999999999999999999m", "500ms, 5s or 1m"),
        ("status --timeout 18446744073709551615s", "500ms, 5s or 1m"),
        ("status --timeout é", "500ms, 5s or 1m"),
    ];
    for (line, expected) in cases {
        let error = words(line).expect_err(line);
        assert!(error.contains(expected), "{line}: {error}");
    }
    let reason = "x".repeat(MAX_REASON + 1);
    assert!(words(&format!("hangup --all --reason {reason}")).is_err());
    assert!(parse(["show", ""]).is_err());
    assert!(parse(["say", "", "x"]).is_err());
    assert!(parse(["check", ""]).is_err());
    for (text, expected) in [
        ("", "the TEXT is empty"),
        (" \n", "the TEXT is empty"),
        ("a\u{1b}[2J", "the TEXT has control characters"),
        (&"x".repeat(MAX_TEXT + 1), "longer than 2000 characters"),
    ] {
        let error = parse(["say", "CA1", text]).unwrap_err().to_string();
        assert!(error.contains(expected), "{text:?}: {error}");
    }
}

#[test]
fn distances_are_levenshteins() {
    for (a, b, expected) in [
        ("", "abc", 3),
        ("kitten", "sitting", 3),
        ("drain", "undrain", 2),
    ] {
        assert_eq!(
            (distance(a, b), distance(b, a)),
            (expected, expected),
            "{a} {b}"
        );
    }
}

#[test]
fn words_for_an_agent_may_come_from_standard_input() {
    let say = |text: &str| Request::Say {
        call: "CA1".into(),
        text: text.into(),
    };
    let parsed = parse(["say", "CA1", "one moment, please"]).unwrap().command;
    assert_eq!(parsed, Command::Ask(vec![say("one moment, please")]));
    let parsed = parse(["say", "CA1", "--", "-5 degrees"]).unwrap().command;
    assert_eq!(parsed, Command::Ask(vec![say("-5 degrees")]));
    let stdin = Command::FromStdin(Lacking::Words {
        say: false,
        call: "CA1".into(),
    });
    assert_eq!(words("context CA1 -").unwrap().command, stdin);
    let parsed = parse(["say", "CA1", "the secret word"]).unwrap();
    assert!(!format!("{parsed:?}").contains("secret"), "{parsed:?}");
}

#[test]
fn a_caller_is_put_through_to_a_number() {
    let transfer = |announce: Option<&str>| Request::Transfer {
        call: "CA1".into(),
        number: "+12025550123".into(),
        announce: announce.map(Into::into),
    };
    assert_eq!(requests("transfer CA1 +12025550123"), [transfer(None)]);
    let announced = "--announce Ann transfer CA1 +12025550123";
    assert_eq!(requests(announced), [transfer(Some("Ann"))]);

    let lacking = |line| match words(line).unwrap().command {
        Command::FromStdin(lacking) => lacking,
        other => panic!("{other:?}"),
    };
    let number = lacking("transfer CA1 - --announce Ann");
    let with = number.clone().with("+12025550123\n".into());
    assert_eq!(with, Ok(transfer(Some("Ann"))));
    let announcement = lacking("transfer CA1 +12025550123 --announce -");
    assert_eq!(
        announcement.clone().with("Ann".into()),
        Ok(transfer(Some("Ann")))
    );
    for refused in [
        number.with("911\n".into()),
        announcement.clone().with(" \n".into()),
        announcement.with("x".repeat(MAX_TEXT + 1)),
    ] {
        assert!(refused.is_err());
    }
    // Nor is a number told by what prints a command line's meaning, or what is wrong with it.
    let parsed = parse(["transfer", "CA1", "+12025550123"]).unwrap();
    assert!(!format!("{parsed:?}").contains("2025550123"), "{parsed:?}");
    let refused = words("transfer CA1 2025550199").unwrap_err();
    assert!(!refused.contains("2025550199"), "{refused}");
}

#[test]
fn commands_that_stay() {
    let command = |line| words(line).unwrap().command;
    assert_eq!(command("events"), Command::Events(None));
    assert_eq!(command("events CA1"), Command::Events(Some("CA1".into())));
    assert_eq!(command("--watch sessions"), Command::WatchSessions);
    assert_eq!(command("drain --wait"), Command::DrainAndWait);
    assert_eq!(command("check -"), Command::Check("-".into()));
    assert_eq!(command("completions zsh"), Command::Completions(Shell::Zsh));
}

#[test]
fn a_route_is_asked_about() {
    let route = |to: Option<&str>, from: &str, at: Option<&str>| Request::RouteTest {
        to: to.map(Into::into),
        from: from.into(),
        at: at.map(Into::into),
    };
    let at = "2026-12-24T18:00:00+11:00";
    assert_eq!(
        requests(&format!("route-test --from +1 --to +2 --at {at}")),
        [route(Some("+2"), "+1", Some(at))]
    );
    assert_eq!(
        requests("route-test --from anonymous"),
        [route(None, "anonymous", None)]
    );
    assert_eq!(
        requests("route-test --from sip:ann@example.com --to client:bob"),
        [route(Some("client:bob"), "sip:ann@example.com", None)]
    );
    for (line, says) in [
        ("route-test", "--from"),
        ("route-test --from 0412345678", "+12025550123, or anonymous"),
        ("route-test --from +1 --to anonymous", "--to"),
        ("route-test --from +1 --at noon", "--at"),
        ("route-test --from +1 --wav x", "belongs to `dial`"),
        ("status --from +1", "`dial` and `route-test`"),
    ] {
        let error = words(line).unwrap_err();
        assert!(error.contains(says), "{line}: {error}");
        assert!(!error.contains("0412345678"), "{error}");
    }
}

#[test]
fn options_have_one_meaning_each() {
    // Two commands may have the same one.
    let mut flags: Vec<&Flag> = Vec::new();
    for flag in every_flag() {
        if !flags.contains(&flag) {
            flags.push(flag);
        }
    }
    let mut names: Vec<_> = flags.iter().map(|flag| flag.name).collect();
    names.sort();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all, "one name for two options: {names:?}");
}

/// The macros' arguments: `.It Cm hangup Ar call ... Op Fl -now` has `hangup`, and `-now`.
fn manual(of: &str) -> Vec<String> {
    let text = include_str!("../../man/humebridgectl.1");
    let mut found = Vec::new();
    for line in text.lines().filter(|line| line.starts_with('.')) {
        let words: Vec<_> = line.split_whitespace().collect();
        for pair in words.windows(2) {
            if pair[0].trim_start_matches('.') == of {
                found.push(pair[1].to_owned());
            }
        }
    }
    found
}

#[test]
fn the_manual_has_what_the_table_has_and_no_more() {
    let documented = manual("Cm");
    for spec in COMMANDS {
        let item = format!("\n.It Cm {}", spec.name);
        let text = include_str!("../../man/humebridgectl.1");
        let together = format!("\n.It Cm help , {}", spec.name);
        assert!(
            text.contains(&item) || text.contains(&together),
            "humebridgectl.1 has no item for {}",
            spec.name
        );
    }
    let shells = Shell::ALL.map(|(name, _)| name);
    for name in documented {
        assert!(
            named(&name).is_some() || shells.contains(&name.as_str()),
            "humebridgectl.1 has a command {name}"
        );
    }
    let documented = manual("Fl");
    for flag in every_flag() {
        let word = format!("-{}", flag.name);
        assert!(documented.contains(&word), "humebridgectl.1 has no -{word}");
    }
    for word in documented {
        // Of other programs in the examples there are none.
        let known = every_flag().any(|flag| word == format!("-{}", flag.name));
        assert!(known, "humebridgectl.1 has an option -{word}");
    }
}

#[test]
fn a_test_call_is_described() {
    let args = words("dial --wav a.wav --out=b.wav --from +12025550101 --secs 9").unwrap();
    let expected = DialArgs {
        wav: Some("a.wav".into()),
        out: Some("b.wav".into()),
        from: Some("+12025550101".into()),
        to: None,
        secs: 9,
    };
    assert_eq!(args.command, Command::Dial(expected));
    assert_eq!(
        words("dial").unwrap().command,
        Command::Dial(DialArgs::default())
    );
    for (line, expected) in [
        ("dail", "did you mean `dial`?"),
        ("dial +12025550123", "takes no argument"),
        (
            "dial --to 2025550123",
            "--to: write a number with its country",
        ),
        ("dial --secs 0", "from 1 to 3600"),
        ("dial --all", "belongs to `hangup`"),
        ("status --secs 5", "--secs belongs to `dial`"),
    ] {
        let error = words(line).expect_err(line);
        assert!(error.contains(expected), "{line}: {error}");
    }
}
