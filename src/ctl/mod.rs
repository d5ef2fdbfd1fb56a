//! `humebridgectl`: the operator's command.
//!
//! It asks the running daemon over the control socket and prints the answer: data on stdout, words
//! on stderr, and an exit code that scripts can branch on ([`exit`]). It reads no credentials and no
//! config but the one it is given to check; whoever may open the socket may use it. A command that
//! asks has one deadline for all of it; one that follows or waits ([`watch`]) has one for each answer. A
//! reader that has seen enough (`| head`) is not an error.

pub mod args;
mod completions;
pub mod dial;
pub mod exit;
mod line;
pub mod render;
mod watch;

use std::{
    io::{self, Read, Write},
    path::Path,
    process::ExitCode,
};

use serde_json::Value;

use crate::admin::protocol::{
    MAX_REQUEST, MAX_TEXT, Reply, ReplyError, Request, Text, Told, VERSION, decode,
};
use args::{Args, Command, Lacking};
use exit::Exit;
use line::Line;

/// The program, from its arguments to its exit code.
pub fn main() -> ExitCode {
    let exit = match args::parse(std::env::args_os().skip(1)) {
        Ok(args) => run(&args),
        Err(usage) => {
            say(&usage.to_string());
            Exit::Usage
        }
    };
    exit.into()
}

fn run(args: &Args) -> Exit {
    let requests = match &args.command {
        Command::Help => return print(&args::help()).exit(),
        Command::Version => return print(&format!("humebridgectl {VERSION}\n")).exit(),
        Command::Completions(shell) => return print(&completions::script(*shell)).exit(),
        Command::Ask(requests) => requests.clone(),
        Command::FromStdin(lacking) => match from_stdin(lacking.clone()) {
            Ok(request) => vec![request],
            Err(exit) => return exit,
        },
        Command::Check(file) => match config_in(file) {
            Ok(request) => vec![request],
            Err(exit) => return exit,
        },
        Command::Events(_) | Command::WatchSessions | Command::DrainAndWait | Command::Dial(_) => {
            Vec::new()
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("cannot start: {error}"));
            return Exit::Unreachable;
        }
    };
    if let Command::Dial(dial) = &args.command {
        return runtime.block_on(dial::run(args, dial));
    }
    let done = runtime.block_on(async {
        let mut line = Line::open(args).await?;
        match &args.command {
            Command::Events(call) => watch::events(&mut line, call.clone()).await,
            Command::WatchSessions => watch::sessions(&mut line).await,
            Command::DrainAndWait => watch::drain(&mut line).await,
            _ => ask(&mut line, &requests).await,
        }
    });
    done.unwrap_or_else(|exit| exit)
}

/// Asks one after the other; the first failure decides the exit code, the rest is still asked.
async fn ask(line: &mut Line<'_>, requests: &[Request]) -> Result<Exit, Exit> {
    let mut exit = Exit::Done;
    for request in requests {
        let reply = line.ask(request).await?;
        let one = show(line.args, request, &reply);
        if exit == Exit::Done {
            exit = one;
        }
    }
    Ok(exit)
}

fn show(args: &Args, request: &Request, reply: &Reply) -> Exit {
    let ok = match &reply.outcome {
        Ok(ok) => ok,
        Err(failure) => {
            say(&render::words(&failure.message));
            return Exit::of_code(failure.code);
        }
    };
    let printed = if args.json {
        print(&format!("{ok}\n"))
    } else {
        match for_people(request, ok, &reply.version) {
            Ok(text) => print(&text),
            Err(error) => {
                say(&error.to_string());
                return Exit::Refused;
            }
        }
    };
    match ok.get("unanswered").and_then(Value::as_array) {
        Some(unanswered) if !unanswered.is_empty() => {
            let calls = unanswered.iter().filter_map(Value::as_str);
            let calls: Vec<_> = calls.map(render::clean).collect();
            say(&format!("no answer from {}", calls.join(" ")));
            Exit::Refused
        }
        _ => printed.exit(),
    }
}

fn for_people(request: &Request, ok: &Value, version: &str) -> Result<String, ReplyError> {
    Ok(match request {
        Request::Status {} => render::status(&decode(ok)?, &render::clean(version)),
        Request::Sessions {} => {
            let sessions = decode(ok)?;
            let text = render::sessions(&sessions);
            if text.is_empty() {
                say("no live calls");
            }
            text
        }
        Request::Show { .. } => render::session(&decode(ok)?),
        Request::Hangup { .. } => {
            let text = render::hung_up(&decode(ok)?);
            if text.is_empty() {
                say("no live calls");
            }
            text
        }
        Request::Drain {} | Request::Undrain {} => render::drain(&decode(ok)?),
        Request::Reload {} => render::reloaded(&decode(ok)?),
        Request::Check { .. } => render::checked(&decode(ok)?),
        Request::Say { .. } | Request::Context { .. } => {
            let told: Told = decode(ok)?;
            if told.exact == Some(false) {
                say("this call's agent may put it in other words");
            }
            render::told(&told)
        }
        Request::Pause { .. } | Request::Resume { .. } => render::paused(&decode(ok)?),
        Request::Transfer { .. } => render::transferring(&decode(ok)?),
        Request::RouteTest { .. } => render::routed(&decode(ok)?),
        Request::Events { .. } => render::event(&decode(ok)?),
        // Asked by `dial` alone, which reads them itself.
        Request::Dial { .. } | Request::Sign { .. } => format!("{ok}\n"),
    })
}

/// With what does not stand on the command line, where every user of the machine can read it.
fn from_stdin(lacking: Lacking) -> Result<Request, Exit> {
    // As many bytes as the characters may have, and a line end.
    let text = read(io::stdin().lock(), 4 * MAX_TEXT + 2).map_err(|error| {
        say(&format!("cannot read standard input: {error}"));
        Exit::Usage
    })?;
    lacking.with(text).map_err(|usage| {
        say(&usage.to_string());
        Exit::Usage
    })
}

/// A config to be checked, as a request that fits into a line.
fn config_in(file: &Path) -> Result<Request, Exit> {
    let (name, text) = if file == Path::new("-") {
        let text = read(io::stdin().lock(), MAX_REQUEST);
        ("standard input".to_owned(), text)
    } else {
        let text = std::fs::File::open(file).and_then(|file| read(file, MAX_REQUEST));
        (file.display().to_string(), text)
    };
    let text = text.map_err(|error| {
        say(&format!(
            "{}: cannot be read: {error}",
            render::clean(&name)
        ));
        Exit::Config
    })?;
    let request = Request::Check {
        name: name.clone(),
        text: Text(text),
    };
    if request.to_line().len() > MAX_REQUEST {
        say(&format!(
            "{}: is too large for the control socket, whose lines have at most {} KiB; let the \
             daemon's own program check it: hume-bridge check --offline --config FILE",
            render::clean(&name),
            MAX_REQUEST / 1024
        ));
        return Err(Exit::Refused);
    }
    Ok(request)
}

/// All of it, and no more than a little over `limit` bytes.
fn read(from: impl Read, limit: usize) -> io::Result<String> {
    let mut bytes = Vec::new();
    from.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    // Cut in mid-character it is too long anyway, and that is what has to be said.
    if bytes.len() > limit {
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not UTF-8"))
}

/// What became of data on stdout.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Printed {
    Taken,
    /// A reader that went away has had what it wanted.
    NobodyReads,
    Failed,
}

impl Printed {
    fn exit(self) -> Exit {
        match self {
            Printed::Taken | Printed::NobodyReads => Exit::Done,
            Printed::Failed => Exit::Refused,
        }
    }

    /// For those who would go on printing.
    fn go_on(self) -> Result<(), Exit> {
        match self {
            Printed::Taken => Ok(()),
            _ => Err(self.exit()),
        }
    }
}

/// Data.
fn print(text: &str) -> Printed {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Ok(()) => Printed::Taken,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Printed::NobodyReads,
        Err(error) => {
            say(&format!("cannot write: {error}"));
            Printed::Failed
        }
    }
}

/// Words. With nobody to read them there is nothing left to try.
fn say(words: &str) {
    let _ = writeln!(io::stderr(), "humebridgectl: {words}");
}
