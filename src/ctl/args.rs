//! The command line of `humebridgectl`.
//!
//! Options may stand before or after the command. Every word that is not understood is an error
//! that says what was meant, perhaps; nothing is guessed.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use lexopt::{Arg, ValueExt};

use super::dial::DialArgs;
use crate::admin::protocol::{DEFAULT_SOCKET, MAX_REASON, Request, is_number};

pub const HELP: &str = "\
humebridgectl - steer a running hume-bridge

usage: humebridgectl [--socket PATH] [--json] [--timeout 5s] COMMAND

commands:
  status                  the daemon: draining or not, how many calls
  sessions                the live calls
  show CALL               one live call
  hangup CALL... | --all  end calls once the agent's current words are heard
      --now                 at once
      --reason TEXT         for the log
  drain                   admit no more calls; live calls go on
  undrain                 admit calls again
  reload                  read the config and the credentials again
  dial                    place a test call, without a telephone and without Twilio
      --wav FILE            what the caller says, once the agent is silent: 16-bit PCM
      --from N, --to N      numbers, like +12025550123
      --out FILE            write a WAV: left the caller, right the agent as heard
      --secs N              hang up after so long (60)
  help, version

CALL is a CallSid or a prefix that only one live call has.

options:
  --socket PATH    control socket (/run/hume-bridge/control.sock)
  --json           the daemon's answer as JSON, one line each
  --timeout TIME   for the whole command: 500ms, 5s, 1m (5s); with dial, for each
                   question to the daemon

exit: 0 done, 1 refused, 2 usage, 3 no such call, 69 daemon not reachable,
      77 not permitted, 78 config invalid
";

const COMMANDS: [&str; 10] = [
    "status", "sessions", "show", "hangup", "drain", "undrain", "reload", "dial", "help", "version",
];

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// In this order, on one connection. Never empty.
    Ask(Vec<Request>),
    Dial(DialArgs),
    Help,
    Version,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Args {
    pub socket: PathBuf,
    pub json: bool,
    pub timeout: Duration,
    pub command: Command,
}

/// What is wrong with the command line, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Usage(String);

impl From<lexopt::Error> for Usage {
    fn from(error: lexopt::Error) -> Self {
        Usage(error.to_string())
    }
}

fn usage<T>(words: impl Into<String>) -> Result<T, Usage> {
    Err(Usage(words.into()))
}

/// Reads the words after the program's name.
pub fn parse<I>(words: I) -> Result<Args, Usage>
where
    I: IntoIterator,
    I::Item: Into<OsString>,
{
    let mut parser = lexopt::Parser::from_args(words);
    let mut socket = PathBuf::from(DEFAULT_SOCKET);
    let (mut json, mut timeout) = (false, Duration::from_secs(5));
    let (mut command, mut calls) = (None::<String>, Vec::new());
    let (mut all, mut now, mut reason) = (false, false, None::<String>);
    let (mut dial, mut dial_option) = (DialArgs::default(), None);
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => command = Some("help".into()),
            Arg::Short('V') | Arg::Long("version") => command = Some("version".into()),
            Arg::Long("socket") => socket = parser.value()?.into(),
            Arg::Long("json") => json = true,
            Arg::Long("timeout") => timeout = duration(&parser.value()?.string()?)?,
            Arg::Long("all") => all = true,
            Arg::Long("now") => now = true,
            Arg::Long("reason") => reason = Some(parser.value()?.string()?),
            Arg::Long(name @ ("wav" | "out" | "from" | "to" | "secs")) => {
                let name = name.to_owned();
                let value = parser.value()?;
                match name.as_str() {
                    "wav" => dial.wav = Some(value.into()),
                    "out" => dial.out = Some(value.into()),
                    "from" => dial.from = Some(number(&name, &value.string()?)?),
                    "to" => dial.to = Some(number(&name, &value.string()?)?),
                    _ => dial.secs = secs(&value.string()?)?,
                }
                dial_option = Some(name);
            }
            Arg::Value(word) if command.is_none() => {
                let word = word.string()?;
                if !COMMANDS.contains(&word.as_str()) {
                    return usage(unknown(&word));
                }
                command = Some(word);
            }
            Arg::Value(word) => calls.push(word.string()?),
            other => return Err(other.unexpected().into()),
        }
        // Nothing after a cry for help can be wrong.
        if let Some("help" | "version") = command.as_deref() {
            break;
        }
    }
    let Some(name) = command else {
        return usage("a command is missing; `humebridgectl help` lists them");
    };
    if name != "hangup" && (all || now || reason.is_some()) {
        return usage(format!(
            "--all, --now and --reason belong to `hangup`, not to `{name}`"
        ));
    }
    if let Some(option) = dial_option
        && name != "dial"
    {
        return usage(format!("--{option} belongs to `dial`, not to `{name}`"));
    }
    if !matches!(name.as_str(), "show" | "hangup")
        && let Some(call) = calls.first()
    {
        return usage(format!("`{name}` takes no argument, not even {call:?}"));
    }
    if calls.iter().any(String::is_empty) {
        return usage("a CALL is empty");
    }
    if reason
        .as_ref()
        .is_some_and(|reason| reason.chars().count() > MAX_REASON)
    {
        return usage(format!("--reason is longer than {MAX_REASON} characters"));
    }
    let command = match name.as_str() {
        "help" => Command::Help,
        "version" => Command::Version,
        "status" => Command::Ask(vec![Request::Status {}]),
        "sessions" => Command::Ask(vec![Request::Sessions {}]),
        "drain" => Command::Ask(vec![Request::Drain {}]),
        "undrain" => Command::Ask(vec![Request::Undrain {}]),
        "reload" => Command::Ask(vec![Request::Reload {}]),
        "dial" => Command::Dial(dial),
        "show" => match <[String; 1]>::try_from(calls) {
            Ok([call]) => Command::Ask(vec![Request::Show { call }]),
            Err(_) => return usage("`show` takes one CALL"),
        },
        "hangup" => match (all, calls.is_empty()) {
            (true, true) => Command::Ask(vec![Request::Hangup {
                call: None,
                all,
                now,
                reason,
            }]),
            (false, false) => {
                let hangup = |call| Request::Hangup {
                    call: Some(call),
                    all,
                    now,
                    reason: reason.clone(),
                };
                Command::Ask(calls.into_iter().map(hangup).collect())
            }
            (true, false) => return usage("`hangup` takes calls or --all, not both"),
            (false, true) => return usage("`hangup` takes a CALL, or --all"),
        },
        _ => unreachable!("every name in COMMANDS has its arm"),
    };
    Ok(Args {
        socket,
        json,
        timeout,
        command,
    })
}

/// `500ms`, `5s`, `1m`.
fn duration(text: &str) -> Result<Duration, Usage> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: Option<u64> = text[..digits].parse().ok();
    let duration = match (number, &text[digits..]) {
        (Some(n), "ms") => Some(Duration::from_millis(n)),
        (Some(n), "s") => Some(Duration::from_secs(n)),
        (Some(n), "m") => n.checked_mul(60).map(Duration::from_secs),
        _ => None,
    };
    match duration {
        Some(duration) if !duration.is_zero() => Ok(duration),
        _ => usage(format!("--timeout {text:?}: write it like 500ms, 5s or 1m")),
    }
}

/// Not repeated where it is wrong: it may be somebody's all the same.
fn number(option: &str, text: &str) -> Result<String, Usage> {
    match is_number(text) {
        true => Ok(text.to_owned()),
        false => usage(format!(
            "--{option}: write a number with its country, like +12025550123"
        )),
    }
}

fn secs(text: &str) -> Result<u64, Usage> {
    match text.parse() {
        Ok(secs @ 1..=3600) => Ok(secs),
        _ => usage(format!(
            "--secs {text:?}: write a whole number from 1 to 3600"
        )),
    }
}

fn unknown(word: &str) -> String {
    let near = COMMANDS
        .iter()
        .map(|command| (distance(word, command), command))
        .min();
    match near {
        Some((0..=2, command)) => format!("no command {word:?}; did you mean `{command}`?"),
        _ => format!("no command {word:?}; `humebridgectl help` lists them"),
    }
}

/// Levenshtein's: insertions, deletions and replacements between the two.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(DialArgs::default().secs, 60);
    }

    #[test]
    fn help_and_version_are_found_however_they_are_asked_for() {
        for line in ["help", "--help", "-h", "hangup --help", "help nonsense"] {
            assert_eq!(words(line).unwrap().command, Command::Help, "{line}");
        }
        for line in ["version", "--version", "-V"] {
            assert_eq!(words(line).unwrap().command, Command::Version, "{line}");
        }
        for command in COMMANDS {
            assert!(HELP.contains(command), "{command}");
        }
        assert!(HELP.contains(DEFAULT_SOCKET));
    }

    #[test]
    fn what_is_not_understood_is_explained() {
        let cases = [
            ("", "a command is missing"),
            ("sesions", "did you mean `sessions`?"),
            ("hagnup", "did you mean `hangup`?"),
            ("sing", "no command \"sing\"; `humebridgectl help`"),
            ("dail", "did you mean `dial`?"),
            ("dial +12025550123", "takes no argument"),
            (
                "dial --to 2025550123",
                "--to: write a number with its country",
            ),
            ("dial --secs 0", "from 1 to 3600"),
            ("dial --all", "belong to `hangup`"),
            ("status --secs 5", "--secs belongs to `dial`"),
            ("transfer CA1 +61", "no command \"transfer\""),
            ("status --all", "belong to `hangup`"),
            ("status CA1", "takes no argument"),
            ("show", "takes one CALL"),
            ("show CA1 CA2", "takes one CALL"),
            ("hangup", "or --all"),
            ("hangup CA1 --all", "not both"),
            ("status --jsno", "--jsno"),
            ("status --timeout", "--timeout"),
            ("status --timeout 5", "500ms, 5s or 1m"),
            ("status --timeout 0s", "500ms, 5s or 1m"),
            ("status --timeout 99999999999999999999s", "500ms, 5s or 1m"),
            ("status --timeout 9999999999999999999m", "500ms, 5s or 1m"),
            ("status --timeout é", "500ms, 5s or 1m"),
        ];
        for (line, expected) in cases {
            let error = words(line).expect_err(line);
            assert!(error.contains(expected), "{line}: {error}");
        }
        let reason = "x".repeat(MAX_REASON + 1);
        assert!(words(&format!("hangup --all --reason {reason}")).is_err());
        assert!(parse(["show", ""]).is_err());
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
}
