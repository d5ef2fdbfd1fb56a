//! The command line of `hume-bridge`.
//!
//! [`parse`] turns arguments into an [`Invocation`] and does nothing: no file is opened, nothing is
//! printed. A [`UsageError`] is one line for stderr; the exit code is the caller's. Secrets are not
//! taken here, because everyone on the machine can read a command line, and no message repeats an
//! argument that could be one.

use std::{ffi::OsString, fmt, ops::RangeInclusive, path::PathBuf, str::FromStr};

use lexopt::Arg;

use super::{
    AgentKind, LogLevel, Overrides, check,
    problem::{harmless, name},
    secret::{WHERE_SECRETS_GO, names_a_secret},
    suggest,
};

/// What the operator wants.
#[derive(Clone, Debug, PartialEq)]
pub enum Invocation {
    Run(RunArgs),
    Check(CheckArgs),
    Demo(DemoArgs),
    Load(LoadArgs),
    Soak(SoakArgs),
    /// The text to print on stdout, with its last newline.
    Help(&'static str),
    Version,
}

/// Take calls.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunArgs {
    /// [`super::DEFAULT_PATH`] when absent.
    pub config: Option<PathBuf>,
    pub credentials: Option<PathBuf>,
    pub overrides: Overrides,
}

/// Look whether calls could be taken.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CheckArgs {
    /// As the daemon is started.
    pub run: RunArgs,
    /// Ask nobody on the network.
    pub offline: bool,
    pub json: bool,
}

/// One simulated call, shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DemoArgs {
    /// The directory for `call.wav` and `call.json`.
    pub out: Option<PathBuf>,
    /// A WAV file with the caller's words.
    pub caller: Option<PathBuf>,
    /// The simulated agent.
    pub agent: AgentKind,
    /// Not in real time.
    pub fast: bool,
}

/// Many simulated calls, measured.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadArgs {
    /// At least one.
    pub calls: usize,
    /// At least one.
    pub secs: u64,
    pub json: bool,
}

/// Many simulated calls for a long time, some over bad wires.
#[derive(Clone, Debug, PartialEq)]
pub struct SoakArgs {
    /// At the same time; at least one.
    pub calls: usize,
    /// A tenth at least.
    pub minutes: f64,
    /// Which calls and wires meet what; drawn when absent.
    pub seed: Option<u64>,
    pub json: bool,
}

/// A command line that cannot be followed, and why, on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

#[derive(Clone, Copy, PartialEq)]
enum Command {
    Run,
    Check,
    Demo,
    Load,
    Soak,
}

impl Command {
    const NAMED: [(&'static str, Command); 4] = [
        ("check", Command::Check),
        ("demo", Command::Demo),
        ("load", Command::Load),
        ("soak", Command::Soak),
    ];
    const ALL: [Command; 5] = [
        Command::Run,
        Command::Check,
        Command::Demo,
        Command::Load,
        Command::Soak,
    ];

    fn called(self) -> &'static str {
        match self {
            Command::Run => "hume-bridge",
            Command::Check => "hume-bridge check",
            Command::Demo => "hume-bridge demo",
            Command::Load => "hume-bridge load",
            Command::Soak => "hume-bridge soak",
        }
    }

    fn options(self) -> &'static [&'static str] {
        match self {
            Command::Run => &[
                "config",
                "credentials",
                "port",
                "hume-config",
                "log-level",
                "help",
                "version",
            ],
            Command::Check => &[
                "config",
                "credentials",
                "port",
                "hume-config",
                "offline",
                "json",
                "help",
            ],
            Command::Demo => &["out", "caller", "agent", "fast", "help"],
            Command::Load => &["calls", "secs", "json", "help"],
            Command::Soak => &["calls", "minutes", "seed", "json", "help"],
        }
    }

    fn help(self) -> &'static str {
        match self {
            Command::Run => HELP,
            Command::Check => CHECK_HELP,
            Command::Demo => DEMO_HELP,
            Command::Load => LOAD_HELP,
            Command::Soak => SOAK_HELP,
        }
    }
}

const HELP: &str = "\
Answers telephone calls from Twilio with a speech-to-speech agent.

Usage: hume-bridge [OPTIONS]         take calls, in the foreground
       hume-bridge check [OPTIONS]   look whether all is ready for calls
       hume-bridge demo [OPTIONS]    show one simulated call
       hume-bridge load [OPTIONS]    measure many simulated calls
       hume-bridge soak [OPTIONS]    hold simulated calls for long, some badly

Options:
  --config FILE       the config [/etc/hume-bridge/hume-bridge.toml]
  --credentials FILE  secrets as JSON, mode 600
                      [file in [credentials], then $CREDENTIALS_DIRECTORY]
  --port N            port of listen.http, over the config's
  --hume-config ID    hume.config_id, over the config's
  --log-level LEVEL   error, warn, info or debug, over the config's
  -h, --help          print this, or a command's help after its name
  -V, --version       print the version

hume-bridge(8), hume-bridge.toml(5), humebridgectl(1)
";

const CHECK_HELP: &str = "\
Looks whether calls can be taken, and says how to mend what is wrong: config,
credentials, this machine, Twilio's account and number, the public address,
the agent. hume-bridge may be running meanwhile, or not yet.

Usage: hume-bridge check [OPTIONS]

Options:
  --config FILE       the config [/etc/hume-bridge/hume-bridge.toml]
  --credentials FILE  secrets as JSON, mode 600
                      [file in [credentials], then $CREDENTIALS_DIRECTORY]
  --port N            port of listen.http, over the config's
  --hume-config ID    hume.config_id, over the config's
  --offline           ask nobody on the network
  --json              print JSON, one object a line
  -h, --help          print this

Exit status: 0 all is well, 1 something fails, 78 the config or the
credentials are wrong
";

const DEMO_HELP: &str = "\
Plays one call through a real bridge on this machine, with no account, no
network and no config, and prints what happened.

Usage: hume-bridge demo [OPTIONS]

Options:
  --out DIR     write call.wav and call.json there
  --caller WAV  what the caller says first: 16-bit PCM, up to a minute
  --agent NAME  the simulated agent: hume or realtime [hume]
  --fast        four times as fast as real time
  -h, --help    print this
";

const LOAD_HELP: &str = "\
Starts a bridge on this machine, places simulated calls and prints how it did.

Usage: hume-bridge load --calls N --secs S [--json]

Options:
  --calls N   calls at the same time
  --secs S    for how many seconds
  --json      print JSON
  -h, --help  print this
";

const SOAK_HELP: &str = "\
Starts a bridge on this machine and holds simulated calls that come and go,
some of them over wires that break, stall or garble. Prints what was lost, what
was left behind, and whether memory grew.

Usage: hume-bridge soak --calls N --minutes M [--seed S] [--json]

Options:
  --calls N    calls at the same time
  --minutes M  for how long; 0.5 is half a minute
  --seed S     which calls and wires meet what; the same seed, the same again
  --json       print JSON
  -h, --help   print this

Exit status: 0 nothing was lost or left behind, 1 something was
";

/// `args` without the program's name.
pub fn parse<I>(args: I) -> Result<Invocation, UsageError>
where
    I: IntoIterator,
    I::Item: Into<OsString>,
{
    let mut parser = lexopt::Parser::from_args(args);
    let mut command = Command::Run;
    // The options so far, to say what is wrong when a command follows that they do not go with.
    let mut before: Vec<String> = Vec::new();
    let (mut run, mut demo) = (RunArgs::default(), DemoArgs::default());
    let mut offline = false;
    let (mut calls, mut secs, mut json) = (None, None, false);
    let (mut minutes, mut seed) = (None, None);

    loop {
        let argument = match parser.next() {
            Ok(Some(argument)) => argument,
            Ok(None) => break,
            Err(error) => return Err(misused(error)),
        };
        let option = match argument {
            Arg::Short('h') => "help".to_owned(),
            Arg::Short('V') => "version".to_owned(),
            Arg::Short(letter) => {
                let given = name(&letter.to_string());
                return Err(see_help(format!("there is no option -{given}"), command));
            }
            Arg::Long(option) => option.to_owned(),
            Arg::Value(value) => {
                let word = value.to_str().unwrap_or("");
                let named = Command::NAMED.iter().find(|(name, _)| *name == word);
                let odd = named.and_then(|(_, named)| {
                    before
                        .iter()
                        .find(|option| !named.options().contains(&option.as_str()))
                });
                match (named, odd) {
                    (Some((_, named)), None) if command == Command::Run => command = *named,
                    (Some(_), Some(option)) => {
                        return Err(UsageError(format!(
                            "--{option} does not go with {word}; see hume-bridge {word} --help"
                        )));
                    }
                    (_, _) => return Err(unexpected(word, command)),
                }
                before.clear();
                continue;
            }
        };
        match (command, &*option) {
            (_, "help") => return Ok(Invocation::Help(command.help())),
            (_, "version") => return Ok(Invocation::Version),
            (Command::Run | Command::Check, "config") => {
                run.config = Some(path(&mut parser, &option)?)
            }
            (Command::Run | Command::Check, "credentials") => {
                run.credentials = Some(path(&mut parser, &option)?);
            }
            (Command::Check, "offline") => offline = true,
            (Command::Run | Command::Check, "port") => {
                run.overrides.port = Some(number(&mut parser, &option, 0..=u16::MAX)?);
            }
            (Command::Run | Command::Check, "hume-config") => {
                run.overrides.hume_config = Some(text(&mut parser, &option)?);
            }
            (Command::Run, "log-level") => {
                run.overrides.log_level = Some(word(&mut parser, &option, &LogLevel::NAMES)?);
            }
            (Command::Demo, "out") => demo.out = Some(path(&mut parser, &option)?),
            (Command::Demo, "caller") => demo.caller = Some(path(&mut parser, &option)?),
            (Command::Demo, "agent") => demo.agent = word(&mut parser, &option, &AgentKind::NAMES)?,
            (Command::Demo, "fast") => demo.fast = true,
            (Command::Load | Command::Soak, "calls") => {
                calls = Some(number(&mut parser, &option, 1..=100_000)?);
            }
            (Command::Load, "secs") => secs = Some(number(&mut parser, &option, 1..=86_400)?),
            (Command::Soak, "minutes") => minutes = Some(span(&mut parser, &option)?),
            (Command::Soak, "seed") => {
                seed = Some(number(&mut parser, &option, 0..=u64::from(u32::MAX))?);
            }
            (Command::Check | Command::Load | Command::Soak, "json") => json = true,
            _ => return Err(unknown(&option, command)),
        }
        if command == Command::Run {
            before.push(option);
        }
    }

    Ok(match command {
        Command::Run => Invocation::Run(run),
        Command::Check => Invocation::Check(CheckArgs { run, offline, json }),
        Command::Demo => Invocation::Demo(demo),
        Command::Load => match (calls, secs) {
            (Some(calls), Some(secs)) => Invocation::Load(LoadArgs { calls, secs, json }),
            (calls, secs) => {
                let missing = [("--calls N", calls.is_none()), ("--secs S", secs.is_none())];
                return Err(needs("load", &missing, command));
            }
        },
        Command::Soak => match (calls, minutes) {
            (Some(calls), Some(minutes)) => Invocation::Soak(SoakArgs {
                calls,
                minutes,
                seed,
                json,
            }),
            (calls, minutes) => {
                let missing = [
                    ("--calls N", calls.is_none()),
                    ("--minutes M", minutes.is_none()),
                ];
                return Err(needs("soak", &missing, command));
            }
        },
    })
}

/// Options without which a command cannot be, and whether they are missing.
fn needs(name: &str, options: &[(&str, bool)], command: Command) -> UsageError {
    let missing: Vec<_> = options
        .iter()
        .filter(|(_, missing)| *missing)
        .map(|(option, _)| *option)
        .collect();
    see_help(format!("{name} needs {}", missing.join(" and ")), command)
}

fn see_help(what: String, command: Command) -> UsageError {
    UsageError(format!("{what}; see {} --help", command.called()))
}

/// lexopt's own messages repeat the value.
fn misused(error: lexopt::Error) -> UsageError {
    UsageError(match error {
        lexopt::Error::MissingValue {
            option: Some(option),
        } => {
            format!("{} needs a value", name(&option))
        }
        lexopt::Error::UnexpectedValue { option, .. } => {
            format!("{} takes no value", name(&option))
        }
        _ => "the command line cannot be read; see hume-bridge --help".to_owned(),
    })
}

fn unknown(option: &str, command: Command) -> UsageError {
    if names_a_secret(option) {
        return UsageError(format!(
            "--{}: secrets are not taken on the command line, where everyone can read them; \
             {WHERE_SECRETS_GO}",
            name(option)
        ));
    }
    let owner = Command::ALL
        .into_iter()
        .find(|other| other.options().contains(&option));
    match owner {
        Some(Command::Run) => {
            let what = format!("--{option} does not go with {}", command.called());
            return see_help(what, command);
        }
        Some(owner) if command == Command::Run => {
            return UsageError(format!(
                "--{option} belongs to {}; write it after that",
                owner.called()
            ));
        }
        _ => {}
    }
    let what = format!("there is no option --{}", name(option));
    match suggest::nearest(option, command.options().iter().copied()) {
        Some(near) => UsageError(format!("{what}; did you mean --{near}?")),
        None => see_help(what, command),
    }
}

fn unexpected(word: &str, command: Command) -> UsageError {
    if command != Command::Run {
        return see_help("there is an argument too many".to_owned(), command);
    }
    let what = match harmless(word) {
        true => format!("there is no command {word}"),
        false => "there is an argument that is no command".to_owned(),
    };
    if matches!(word, "help" | "version") {
        return UsageError(format!("{what}; did you mean --{word}?"));
    }
    match suggest::nearest(word, Command::NAMED.iter().map(|(name, _)| *name)) {
        Some(near) => UsageError(format!("{what}; did you mean {near}?")),
        None => see_help(what, command),
    }
}

fn text(parser: &mut lexopt::Parser, option: &str) -> Result<String, UsageError> {
    let value = parser.value().map_err(misused)?;
    value
        .into_string()
        .map_err(|_| UsageError(format!("--{option} is not UTF-8")))
}

fn path(parser: &mut lexopt::Parser, option: &str) -> Result<PathBuf, UsageError> {
    let value = parser.value().map_err(misused)?;
    if value.is_empty() {
        return Err(UsageError(format!("--{option} is empty")));
    }
    Ok(PathBuf::from(value))
}

fn number<N>(
    parser: &mut lexopt::Parser,
    option: &str,
    range: RangeInclusive<N>,
) -> Result<N, UsageError>
where
    N: FromStr + PartialOrd + fmt::Display,
{
    match text(parser, option)?.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(UsageError(format!(
            "--{option} needs a whole number from {} to {}",
            range.start(),
            range.end()
        ))),
    }
}

/// Minutes, in tenths if need be.
fn span(parser: &mut lexopt::Parser, option: &str) -> Result<f64, UsageError> {
    match text(parser, option)?.parse() {
        // A week; NaN is in no range.
        Ok(minutes) if (0.1..=10_080.0).contains(&minutes) => Ok(minutes),
        _ => Err(UsageError(format!(
            "--{option} needs a number of minutes from 0.1 to 10080"
        ))),
    }
}

fn word<T: Copy>(
    parser: &mut lexopt::Parser,
    option: &str,
    words: &[(&'static str, T)],
) -> Result<T, UsageError> {
    check::choice(&text(parser, option)?, words).map_err(|complaint| {
        UsageError(format!(
            "--{option}: {}; {}",
            complaint.what, complaint.mend
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_stands_in_its_help() {
        for command in Command::ALL {
            for option in command.options() {
                let line = format!("--{option}");
                assert!(
                    command.help().contains(&line),
                    "{} {line}",
                    command.called()
                );
            }
            for line in command.help().lines() {
                assert!(line.len() <= 80, "{line}");
                if let Some((_, option)) = line.split_once("  --") {
                    let option = option.split(' ').next().unwrap();
                    assert!(command.options().contains(&option), "{line}");
                }
            }
        }
    }
}
