//! The command line.

use std::collections::BTreeSet;

use hume_bridge::config::{
    AgentKind, LogLevel, Overrides,
    args::{self, CheckArgs, DemoArgs, Invocation, LoadArgs, RunArgs, SoakArgs},
};

use super::MARK;

fn line(args: &str) -> Result<Invocation, String> {
    let words = args.split(' ').filter(|word| !word.is_empty());
    args::parse(words).map_err(|error| {
        let told = error.to_string();
        assert!(!format!("{told}{error:?}").contains(MARK), "{told}");
        assert_eq!(told.lines().count(), 1);
        told
    })
}

#[test]
fn a_command_line_says_what_to_do() {
    assert_eq!(line(""), Ok(Invocation::Run(RunArgs::default())));
    assert_eq!(
        line("--config a.toml --credentials=c.json --port 0 --hume-config x --log-level=debug"),
        Ok(Invocation::Run(RunArgs {
            config: Some("a.toml".into()),
            credentials: Some("c.json".into()),
            overrides: Overrides {
                port: Some(0),
                hume_config: Some("x".into()),
                log_level: Some(LogLevel::Debug),
            },
        }))
    );
    assert_eq!(
        line("demo --out d --caller c.wav --agent realtime --fast"),
        Ok(Invocation::Demo(DemoArgs {
            out: Some("d".into()),
            caller: Some("c.wav".into()),
            agent: AgentKind::Realtime,
            fast: true,
        }))
    );
    assert_eq!(
        line("load --calls 50 --secs 10 --json"),
        Ok(Invocation::Load(LoadArgs {
            calls: 50,
            secs: 10,
            json: true
        }))
    );
    for (minutes, seed, args) in [
        (20.0, None, "soak --calls 20 --minutes 20"),
        (0.5, Some(7), "soak --seed 7 --minutes=0.5 --calls 20"),
    ] {
        let (calls, json) = (20, false);
        let soak = Invocation::Soak(SoakArgs {
            calls,
            minutes,
            seed,
            json,
        });
        assert_eq!(line(args), Ok(soak), "{args}");
    }
    let check = Invocation::Check(CheckArgs {
        run: RunArgs {
            config: Some("a.toml".into()),
            credentials: Some("c.json".into()),
            overrides: Overrides {
                port: Some(1),
                ..Overrides::default()
            },
        },
        offline: true,
        json: true,
    });
    // What a daemon is started with may stand where it stands there.
    for args in [
        "check --config a.toml --credentials c.json --port 1 --offline --json",
        "--config a.toml --credentials c.json --port 1 check --offline --json",
    ] {
        assert_eq!(line(args), Ok(check.clone()), "{args}");
    }
    assert_eq!(line("--version"), Ok(Invocation::Version));
    assert_eq!(line("-V"), Ok(Invocation::Version));
}

#[test]
fn help_is_there_for_each_command() {
    let help = |args: &str| match line(args) {
        Ok(Invocation::Help(text)) => text,
        other => panic!("{args}: {other:?}"),
    };
    assert!(help("--help").contains("--hume-config ID"));
    assert_eq!(help("-h"), help("--port 1 --help"));
    assert!(help("demo --help").contains("call.wav"));
    assert!(help("load --calls 1 -h").contains("--secs S"));
    assert!(help("check -h").contains("--offline"));
    assert!(help("soak --help").contains("--seed S"));
    let all = ["-h", "check -h", "demo -h", "load -h", "soak -h"].map(help);
    let all: BTreeSet<_> = all.into();
    assert_eq!(all.len(), 5);
    assert!(all.iter().all(|text| text.ends_with('\n')));
}

#[test]
fn a_slip_on_the_command_line_is_told_what_was_meant() {
    for (args, told) in [
        (
            "--confg x",
            "there is no option --confg; did you mean --config?",
        ),
        (
            "--hume_config x",
            "there is no option --hume_config; did you mean --hume-config?",
        ),
        (
            "--frobnicate",
            "there is no option --frobnicate; see hume-bridge --help",
        ),
        ("-x", "there is no option -x; see hume-bridge --help"),
        ("dmeo", "there is no command dmeo; did you mean demo?"),
        ("help", "there is no command help; did you mean --help?"),
        ("xyzzy", "there is no command xyzzy; see hume-bridge --help"),
        (
            "PLANTED",
            "there is an argument that is no command; see hume-bridge --help",
        ),
        (
            "demo PLANTED",
            "there is an argument too many; see hume-bridge demo --help",
        ),
        (
            "--config x demo",
            "--config does not go with demo; see hume-bridge demo --help",
        ),
        (
            "demo --config x",
            "--config does not go with hume-bridge demo; see hume-bridge demo --help",
        ),
        (
            "--log-level info check",
            "--log-level does not go with check; see hume-bridge check --help",
        ),
        (
            "--offline",
            "--offline belongs to hume-bridge check; write it after that",
        ),
        ("chekc", "there is no command chekc; did you mean check?"),
        (
            "--fast demo",
            "--fast belongs to hume-bridge demo; write it after that",
        ),
        (
            "demo --fsat",
            "there is no option --fsat; did you mean --fast?",
        ),
        ("demo --fast=PLANTED", "--fast takes no value"),
        (
            "demo --agent realtiem",
            "--agent: there is no \"realtiem\"; did you mean \"realtime\"?",
        ),
        (
            "demo --agent PLANTED",
            "--agent: is none of the words that may stand here; write \"hume\" or \"realtime\"",
        ),
        (
            "load",
            "load needs --calls N and --secs S; see hume-bridge load --help",
        ),
        (
            "load --calls 5",
            "load needs --secs S; see hume-bridge load --help",
        ),
        (
            "load --calls 0 --secs 1",
            "--calls needs a whole number from 1 to 100000",
        ),
        (
            "soak --seed 1",
            "soak needs --calls N and --minutes M; see hume-bridge soak --help",
        ),
        (
            "soak --minutes 0.01",
            "--minutes needs a number of minutes from 0.1 to 10080",
        ),
        (
            "soak --minutes PLANTED",
            "--minutes needs a number of minutes from 0.1 to 10080",
        ),
        (
            "soak --minutes nan",
            "--minutes needs a number of minutes from 0.1 to 10080",
        ),
        (
            "soak --secs 5",
            "there is no option --secs; see hume-bridge soak --help",
        ),
        ("saok", "there is no command saok; did you mean soak?"),
        (
            "--port PLANTED",
            "--port needs a whole number from 0 to 65535",
        ),
        (
            "--port 65536",
            "--port needs a whole number from 0 to 65535",
        ),
        ("--port", "--port needs a value"),
        ("--config=", "--config is empty"),
        (
            "--log-level inof",
            "--log-level: there is no \"inof\"; did you mean \"info\"?",
        ),
    ] {
        assert_eq!(line(args), Err(told.to_owned()), "{args}");
    }
}

#[test]
fn secrets_are_not_taken_on_the_command_line() {
    for option in [
        "--api-key",
        "--auth-token",
        "--hume-api-key",
        "--twilio_auth_token",
        "--token",
    ] {
        for args in [
            format!("{option} PLANTED"),
            format!("{option}=PLANTED"),
            format!("demo {option}=PLANTED"),
            format!("--config x {option} PLANTED"),
        ] {
            let told = line(&args).unwrap_err();
            assert!(told.contains(&format!(
                "{option}: secrets are not taken on the command line"
            )));
            assert!(
                told.contains("--credentials") && told.contains("LoadCredential="),
                "{told}"
            );
        }
    }
}
