//! The command line of `humebridgectl`.
//!
//! [`COMMANDS`] and [`OPTIONS`] are the one table of what there is: the parser, the help, the shells'
//! completions and the manual's test read it. Options may stand before or after the command. Every
//! word that is not understood is an error that says what was meant, perhaps; nothing is guessed.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use jiff::Timestamp;
use lexopt::{Arg, ValueExt};

use crate::admin::protocol::{
    DEFAULT_SOCKET, MAX_REASON, Request, Text, WITHHELD, can_be_called, is_number, is_party,
};

/// An option: `--name`, or `--name VALUE`.
#[derive(Debug, PartialEq, Eq)]
pub struct Flag {
    pub name: &'static str,
    /// What its value is called; a `PATH` or a `FILE` is completed as one.
    pub value: Option<&'static str>,
    pub about: &'static str,
}

/// What stands behind a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    Nothing,
    Call,
    /// All calls when there is none.
    MaybeCall,
    /// Or `--all`.
    Calls,
    CallAndText,
    CallAndNumber,
    File,
    Shell,
}

impl Takes {
    /// As the help shows it.
    pub fn words(self) -> &'static str {
        match self {
            Takes::Nothing => "",
            Takes::Call => "CALL",
            Takes::MaybeCall => "[CALL]",
            Takes::Calls => "CALL... | --all",
            Takes::CallAndText => "CALL TEXT",
            Takes::CallAndNumber => "CALL NUMBER",
            Takes::File => "FILE",
            Takes::Shell => "bash | zsh | fish",
        }
    }
}

/// A command.
#[derive(Debug)]
pub struct Spec {
    pub name: &'static str,
    pub takes: Takes,
    pub flags: &'static [Flag],
    pub about: &'static str,
}

const fn flag(name: &'static str, about: &'static str) -> Flag {
    Flag {
        name,
        value: None,
        about,
    }
}

const fn valued(name: &'static str, value: &'static str, about: &'static str) -> Flag {
    Flag {
        name,
        value: Some(value),
        about,
    }
}

const fn command(
    name: &'static str,
    takes: Takes,
    flags: &'static [Flag],
    about: &'static str,
) -> Spec {
    Spec {
        name,
        takes,
        flags,
        about,
    }
}

const FROM: Flag = valued("from", "NUMBER", "who calls, like +12025550123");
const TO: Flag = valued("to", "NUMBER", "who is called (twilio.phone_number)");

/// Every command there is.
pub const COMMANDS: &[Spec] = &[
    command(
        "status",
        Takes::Nothing,
        &[],
        "the daemon: draining or not, how many calls",
    ),
    command(
        "sessions",
        Takes::Nothing,
        &[flag("watch", "again and again, until interrupted")],
        "the live calls",
    ),
    command("show", Takes::Call, &[], "one live call"),
    command(
        "events",
        Takes::MaybeCall,
        &[],
        "what happens from now on, of all calls or of one",
    ),
    command(
        "hangup",
        Takes::Calls,
        &[
            flag("all", "every live call"),
            flag("now", "at once, in mid-word"),
            valued("reason", "TEXT", "for the log"),
        ],
        "end calls once the agent's current words are heard",
    ),
    command(
        "say",
        Takes::CallAndText,
        &[],
        "have the agent say this (-: from standard input)",
    ),
    command(
        "context",
        Takes::CallAndText,
        &[],
        "let the agent know this (-: from standard input)",
    ),
    command(
        "pause",
        Takes::Call,
        &[],
        "have the agent listen and not answer",
    ),
    command("resume", Takes::Call, &[], "have it answer again"),
    command(
        "transfer",
        Takes::CallAndNumber,
        &[valued(
            "announce",
            "TEXT",
            "told to the callee, who accepts with a key",
        )],
        "put the caller through (-: from standard input)",
    ),
    command(
        "drain",
        Takes::Nothing,
        &[flag("wait", "until no call is left")],
        "admit no more calls; live calls go on",
    ),
    command("undrain", Takes::Nothing, &[], "admit calls again"),
    command(
        "reload",
        Takes::Nothing,
        &[],
        "read the config and the credentials again",
    ),
    command(
        "check",
        Takes::File,
        &[],
        "what a reload would make of it (-: standard input)",
    ),
    command(
        "dial",
        Takes::Nothing,
        &[
            valued("wav", "FILE", "what the caller says: 16-bit PCM"),
            FROM,
            TO,
            valued("out", "FILE", "a WAV: left caller, right agent as heard"),
            valued("secs", "N", "hang up after so long (60)"),
        ],
        "a test call, without a telephone and without Twilio",
    ),
    command(
        "route-test",
        Takes::Nothing,
        &[
            FROM,
            TO,
            valued("at", "TIME", "when, like 2026-12-24T18:00:00Z (now)"),
        ],
        "which route a call would take, and why",
    ),
    command(
        "completions",
        Takes::Shell,
        &[],
        "completions for a shell, to be evaluated by it",
    ),
    command("help", Takes::Nothing, &[], "this"),
    command("version", Takes::Nothing, &[], "humebridgectl's version"),
];

/// What every command takes.
pub const OPTIONS: &[Flag] = &[
    valued("socket", "PATH", "control socket"),
    flag("json", "the daemon's answer as JSON, one line each"),
    valued(
        "timeout",
        "TIME",
        "for the daemon to answer: 500ms, 5s, 1m (5s)",
    ),
    flag("help", "this"),
    flag("version", "humebridgectl's version"),
];

/// What there is, for people.
pub fn help() -> String {
    let mut text = String::from(
        "\
humebridgectl - steer a running hume-bridge

usage: humebridgectl [--socket PATH] [--json] [--timeout 5s] COMMAND

commands:
",
    );
    let mut line = |indent: usize, words: String, about: &str| {
        let left = format!("{:indent$}{words}", "");
        if left.chars().count() > 24 {
            text += &format!("{left}\n{:26}{about}\n", "");
        } else {
            text += &format!("{left:<26}{about}\n");
        }
    };
    for spec in COMMANDS {
        let words = format!("{} {}", spec.name, spec.takes.words());
        line(2, words.trim_end().to_owned(), spec.about);
        for flag in spec.flags {
            line(6, written(flag), flag.about);
        }
    }
    text += "
CALL is a CallSid or a prefix that only one live call has.

options:
";
    for flag in OPTIONS {
        text += &format!("  {:<24}{}\n", written(flag), flag.about);
    }
    text += &format!(
        "
Without --socket: {DEFAULT_SOCKET}

exit: 0 done, 1 refused, 2 usage, 3 no such call, 69 daemon not reachable,
      77 not permitted, 78 config invalid
"
    );
    text
}

fn written(flag: &Flag) -> String {
    match flag.value {
        Some(value) => format!("--{} {value}", flag.name),
        None => format!("--{}", flag.name),
    }
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// In this order, on one connection. Never empty.
    Ask(Vec<Request>),
    Dial(DialArgs),
    /// What a request still lacks is on standard input.
    FromStdin(Lacking),
    Events(Option<String>),
    WatchSessions,
    DrainAndWait,
    /// `-` is standard input.
    Check(PathBuf),
    Completions(Shell),
    Help,
    Version,
}

/// A request without the one thing that comes from standard input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lacking {
    /// What the agent is to say, or to know.
    Words {
        say: bool,
        call: String,
    },
    Number {
        call: String,
        announce: Option<Text>,
    },
    Announcement {
        call: String,
        number: Text,
    },
}

impl Lacking {
    /// The request, if what has come is fit for it.
    pub fn with(self, text: String) -> Result<Request, Usage> {
        match self {
            Lacking::Words { say, call } => words_for(say, call, text),
            Lacking::Number { call, announce } => {
                transfer_to(call, Text(text.trim().to_owned()), announce)
            }
            Lacking::Announcement { call, number } => transfer_to(call, number, Some(Text(text))),
        }
    }
}

/// How to place a test call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialArgs {
    /// What the caller says.
    pub wav: Option<PathBuf>,
    /// Where the recording goes.
    pub out: Option<PathBuf>,
    pub from: Option<String>,
    pub to: Option<String>,
    /// The call's longest duration.
    pub secs: u64,
}

impl Default for DialArgs {
    fn default() -> Self {
        DialArgs {
            wav: None,
            out: None,
            from: None,
            to: None,
            secs: 60,
        }
    }
}

/// Whose completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    /// With their names.
    pub const ALL: [(&'static str, Shell); 3] = [
        ("bash", Shell::Bash),
        ("zsh", Shell::Zsh),
        ("fish", Shell::Fish),
    ];
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

/// The options that were given.
struct Given(Vec<(&'static Flag, OsString)>);

impl Given {
    fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// The last word counts.
    fn value(&self, name: &str) -> Option<&OsString> {
        let mut latest_first = self.0.iter().rev();
        latest_first
            .find(|(flag, _)| flag.name == name)
            .map(|(_, value)| value)
    }

    fn text(&self, name: &str) -> Result<Option<String>, Usage> {
        let value = self.value(name).cloned();
        Ok(value.map(ValueExt::string).transpose()?)
    }
}

/// Reads the words after the program's name.
pub fn parse<I>(words: I) -> Result<Args, Usage>
where
    I: IntoIterator,
    I::Item: Into<OsString>,
{
    let mut parser = lexopt::Parser::from_args(words);
    let mut given = Given(Vec::new());
    let (mut spec, mut arguments) = (None::<&Spec>, Vec::new());
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Short('h') => spec = named("help"),
            Arg::Short('V') => spec = named("version"),
            Arg::Long(name @ ("help" | "version")) => spec = named(name),
            Arg::Long(name) => {
                let Some(flag) = every_flag().find(|flag| flag.name == name) else {
                    return usage(unknown_option(name));
                };
                let value = match flag.value {
                    Some(_) => parser.value()?,
                    None => OsString::new(),
                };
                given.0.push((flag, value));
            }
            Arg::Value(word) if spec.is_none() => {
                let word = word.string()?;
                spec = named(&word);
                if spec.is_none() {
                    return usage(unknown(&word));
                }
            }
            Arg::Value(word) => arguments.push(word),
            other => return Err(other.unexpected().into()),
        }
        // Nothing after a cry for help can be wrong.
        if spec.is_some_and(|spec| matches!(spec.name, "help" | "version")) {
            break;
        }
    }
    let Some(spec) = spec else {
        return usage("a command is missing; `humebridgectl help` lists them");
    };
    for (flag, _) in &given.0 {
        if !spec.flags.contains(flag) && !OPTIONS.contains(flag) {
            return usage(format!(
                "--{} belongs to {}, not to `{}`",
                flag.name,
                owners(flag),
                spec.name
            ));
        }
    }
    let timeout = match given.text("timeout")? {
        Some(text) => duration(&text)?,
        None => Duration::from_secs(5),
    };
    Ok(Args {
        socket: given
            .value("socket")
            .map_or_else(|| DEFAULT_SOCKET.into(), PathBuf::from),
        json: given.has("json"),
        timeout,
        command: meaning(spec, &given, arguments)?,
    })
}

fn meaning(spec: &Spec, given: &Given, arguments: Vec<OsString>) -> Result<Command, Usage> {
    let name = spec.name;
    if spec.takes == Takes::Nothing
        && let Some(word) = arguments.first()
    {
        return usage(format!("`{name}` takes no argument, not even {word:?}"));
    }
    if spec.takes == Takes::File {
        return match <[OsString; 1]>::try_from(arguments) {
            Ok([file]) if !file.is_empty() => Ok(Command::Check(file.into())),
            _ => usage(format!("`{name}` takes one FILE, or - for standard input")),
        };
    }
    let mut words = Vec::new();
    for argument in arguments {
        words.push(argument.string()?);
    }
    let calls = match spec.takes {
        Takes::CallAndText | Takes::CallAndNumber => &words[..words.len().min(1)],
        Takes::Shell => &[],
        _ => &words[..],
    };
    if calls.iter().any(String::is_empty) {
        return usage("a CALL is empty");
    }
    let ask = |request| Ok(Command::Ask(vec![request]));
    match name {
        "help" => Ok(Command::Help),
        "version" => Ok(Command::Version),
        "status" => ask(Request::Status {}),
        "sessions" if given.has("watch") => Ok(Command::WatchSessions),
        "sessions" => ask(Request::Sessions {}),
        "drain" if given.has("wait") => Ok(Command::DrainAndWait),
        "drain" => ask(Request::Drain {}),
        "undrain" => ask(Request::Undrain {}),
        "reload" => ask(Request::Reload {}),
        "show" => ask(Request::Show {
            call: the_call(name, words)?,
        }),
        "pause" => ask(Request::Pause {
            call: the_call(name, words)?,
        }),
        "resume" => ask(Request::Resume {
            call: the_call(name, words)?,
        }),
        "events" => match words.len() {
            0 | 1 => Ok(Command::Events(words.pop())),
            _ => usage("`events` takes one CALL, or none for all"),
        },
        "hangup" => hang_up(given, words),
        "dial" => dial(given),
        "route-test" => ask(route_test(given)?),
        "say" | "context" => tell(name == "say", words),
        "transfer" => transfer(given, words),
        "completions" => {
            let shell = Shell::ALL
                .into_iter()
                .find(|(shell, _)| words.iter().eq([shell]));
            match shell {
                Some((_, shell)) => Ok(Command::Completions(shell)),
                None => usage("`completions` takes one shell: bash, zsh or fish"),
            }
        }
        _ => unreachable!("every command has its arm"),
    }
}

fn the_call(name: &str, words: Vec<String>) -> Result<String, Usage> {
    match <[String; 1]>::try_from(words) {
        Ok([call]) => Ok(call),
        Err(_) => usage(format!("`{name}` takes one CALL")),
    }
}

fn hang_up(given: &Given, calls: Vec<String>) -> Result<Command, Usage> {
    let (all, now, reason) = (given.has("all"), given.has("now"), given.text("reason")?);
    if reason
        .as_ref()
        .is_some_and(|reason| reason.chars().count() > MAX_REASON)
    {
        return usage(format!("--reason is longer than {MAX_REASON} characters"));
    }
    let hangup = |call| Request::Hangup {
        call,
        all,
        now,
        reason: reason.clone(),
    };
    match (all, calls.is_empty()) {
        (true, true) => Ok(Command::Ask(vec![hangup(None)])),
        (false, false) => Ok(Command::Ask(
            calls.into_iter().map(|call| hangup(Some(call))).collect(),
        )),
        (true, false) => usage("`hangup` takes calls or --all, not both"),
        (false, true) => usage("`hangup` takes a CALL, or --all"),
    }
}

fn dial(given: &Given) -> Result<Command, Usage> {
    let path = |name| given.value(name).map(PathBuf::from);
    Ok(Command::Dial(DialArgs {
        wav: path("wav"),
        out: path("out"),
        from: number(given, "from")?,
        to: number(given, "to")?,
        secs: match given.text("secs")? {
            Some(text) => secs(&text)?,
            None => DialArgs::default().secs,
        },
    }))
}

/// Not repeated where it is wrong: it may be somebody's all the same.
fn number(given: &Given, option: &str) -> Result<Option<String>, Usage> {
    match given.text(option)? {
        Some(text) if !is_number(&text) => usage(format!(
            "--{option}: write a number with its country, like +12025550123"
        )),
        number => Ok(number),
    }
}

fn route_test(given: &Given) -> Result<Request, Usage> {
    let party = |option: &str, also: &str| match given.text(option)? {
        Some(text) if !is_party(&text) && (also.is_empty() || text != also) => usage(format!(
            "--{option}: write a number with its country, like +12025550123{}",
            match also {
                "" => String::new(),
                also => format!(", or {also}"),
            }
        )),
        party => Ok(party),
    };
    let Some(from) = party("from", WITHHELD)? else {
        return usage(format!(
            "`route-test` needs --from: who calls; {WITHHELD} for a withheld number"
        ));
    };
    let at = given.text("at")?;
    if let Some(at) = at.as_deref().filter(|at| at.parse::<Timestamp>().is_err()) {
        return usage(format!(
            "--at {at:?}: write a time like 2026-12-24T18:00:00Z"
        ));
    }
    let to = party("to", "")?;
    Ok(Request::RouteTest {
        to: to.map(Text),
        from: Text(from),
        at,
    })
}

fn secs(text: &str) -> Result<u64, Usage> {
    match text.parse() {
        Ok(secs @ 1..=3600) => Ok(secs),
        _ => usage(format!(
            "--secs {text:?}: write a whole number from 1 to 3600"
        )),
    }
}

fn tell(say: bool, words: Vec<String>) -> Result<Command, Usage> {
    let name = if say { "say" } else { "context" };
    let Ok([call, text]) = <[String; 2]>::try_from(words) else {
        return usage(format!(
            "`{name}` takes a CALL and one TEXT, in quotes; - reads it from standard input"
        ));
    };
    if text == "-" {
        return Ok(Command::FromStdin(Lacking::Words { say, call }));
    }
    Ok(Command::Ask(vec![words_for(say, call, text)?]))
}

fn transfer(given: &Given, words: Vec<String>) -> Result<Command, Usage> {
    let Ok([call, number]) = <[String; 2]>::try_from(words) else {
        return usage("`transfer` takes a CALL and one NUMBER; - reads it from standard input");
    };
    let announce = given.text("announce")?;
    let dash = |text: &str| text == "-";
    let lacking = match (dash(&number), announce.as_deref().is_some_and(dash)) {
        (true, true) => {
            return usage("NUMBER and --announce cannot both come from standard input");
        }
        (true, false) => {
            let announce = announce.map(Text);
            announce.as_ref().map_or(Ok(()), fit_to_announce)?;
            Lacking::Number { call, announce }
        }
        (false, true) => {
            let number = Text(number);
            fit_to_call(&number)?;
            Lacking::Announcement { call, number }
        }
        (false, false) => {
            let request = transfer_to(call, Text(number), announce.map(Text))?;
            return Ok(Command::Ask(vec![request]));
        }
    };
    Ok(Command::FromStdin(lacking))
}

fn transfer_to(call: String, number: Text, announce: Option<Text>) -> Result<Request, Usage> {
    fit_to_call(&number)?;
    announce.as_ref().map_or(Ok(()), fit_to_announce)?;
    Ok(Request::Transfer {
        call,
        number,
        announce,
    })
}

fn fit_to_call(number: &Text) -> Result<(), Usage> {
    match can_be_called(&number.0) {
        true => Ok(()),
        false => usage("NUMBER: write a number with its country, like +12025550123"),
    }
}

fn fit_to_announce(text: &Text) -> Result<(), Usage> {
    text.check()
        .or_else(|what| usage(what.replace("`text`", "--announce")))
}

/// The request, if the words are fit for an agent.
fn words_for(say: bool, call: String, text: String) -> Result<Request, Usage> {
    let text = Text(text);
    if let Err(what) = text.check() {
        return usage(what.replace("`text`", "the TEXT"));
    }
    Ok(if say {
        Request::Say { call, text }
    } else {
        Request::Context { call, text }
    })
}

fn named(name: &str) -> Option<&'static Spec> {
    COMMANDS.iter().find(|spec| spec.name == name)
}

fn every_flag() -> impl Iterator<Item = &'static Flag> {
    let of_commands = COMMANDS.iter().flat_map(|spec| spec.flags);
    OPTIONS.iter().chain(of_commands)
}

/// The commands that have this option.
fn owners(flag: &Flag) -> String {
    let owners = COMMANDS.iter().filter(|spec| spec.flags.contains(flag));
    let names: Vec<_> = owners.map(|spec| format!("`{}`", spec.name)).collect();
    names.join(" and ")
}

/// Nobody waits longer, and a clock can still tell when it is over.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

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
        Some(duration) if !duration.is_zero() && duration <= LONGEST => Ok(duration),
        _ => usage(format!("--timeout {text:?}: write it like 500ms, 5s or 1m")),
    }
}

/// Not repeated where it is wrong: it may be somebody's all the same.
fn unknown(word: &str) -> String {
    match nearest(word, COMMANDS.iter().map(|spec| spec.name)) {
        Some(command) => format!("no command {word:?}; did you mean `{command}`?"),
        None => format!("no command {word:?}; `humebridgectl help` lists them"),
    }
}

fn unknown_option(name: &str) -> String {
    match nearest(name, every_flag().map(|flag| flag.name)) {
        Some(flag) => format!("no option \"--{name}\"; did you mean --{flag}?"),
        None => format!("no option \"--{name}\"; `humebridgectl help` lists them"),
    }
}

/// A word that may have been meant.
fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.map(|known| (distance(word, known), known)).min();
    // Of a short word two letters are most.
    near.filter(|(distance, known)| *distance <= 2 && 2 * distance <= known.len())
        .map(|(_, known)| known)
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
#[path = "args_tests.rs"]
mod tests;
