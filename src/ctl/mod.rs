//! `humebridgectl`: the operator's command.
//!
//! It asks the running daemon over the control socket and prints the answer: data on stdout, words
//! on stderr, and an exit code that scripts can branch on ([`exit`]). It reads no config and no
//! credentials; whoever may open the socket may use it. The whole command has one deadline. A reader
//! that has seen enough (`| head`) is not an error.

pub mod args;
pub mod dial;
pub mod exit;
pub mod render;

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use serde_json::Value;

use crate::admin::{
    client::{Client, ClientError},
    protocol::{Reply, ReplyError, Request, VERSION, decode},
};
use args::{Args, Command};
use exit::Exit;

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
        Command::Help => return print(args::HELP),
        Command::Version => return print(&format!("humebridgectl {VERSION}\n")),
        Command::Ask(requests) => requests.as_slice(),
        Command::Dial(_) => &[],
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
    let asked = async { tokio::time::timeout(args.timeout, ask(args, requests)).await };
    runtime.block_on(asked).unwrap_or_else(|_| {
        say(&format!(
            "no answer on {} within {:?}; `systemctl status hume-bridge` says more",
            args.socket.display(),
            args.timeout
        ));
        Exit::Unreachable
    })
}

/// Asks one after the other; the first failure decides the exit code, the rest is still asked.
async fn ask(args: &Args, requests: &[Request]) -> Exit {
    let mut client = match Client::connect(&args.socket).await {
        Ok(client) => client,
        Err(error) => {
            say(&cannot_connect(&args.socket, &error));
            return Exit::of_connect(&error);
        }
    };
    let (mut exit, mut warned) = (Exit::Done, false);
    for request in requests {
        let reply = match client.call(request).await {
            Ok(reply) => reply,
            Err(error) => {
                say(&cannot_ask(&error));
                return Exit::of_call(&error);
            }
        };
        if reply.version != VERSION && !warned {
            warned = true;
            say(&other_version(&reply.version));
        }
        let one = show(args, request, &reply);
        if exit == Exit::Done {
            exit = one;
        }
    }
    exit
}

fn show(args: &Args, request: &Request, reply: &Reply) -> Exit {
    let ok = match &reply.outcome {
        Ok(ok) => ok,
        Err(failure) => {
            say(&failure.message);
            return Exit::of_code(failure.code);
        }
    };
    if args.json {
        return print(&format!("{ok}\n"));
    }
    match for_people(request, ok, &reply.version) {
        Ok(text) => print(&text),
        Err(error) => {
            say(&error.to_string());
            Exit::Refused
        }
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
        // Asked by `dial` alone, which reads them itself.
        Request::Dial { .. } | Request::Sign { .. } => format!("{ok}\n"),
    })
}

fn other_version(theirs: &str) -> String {
    format!(
        "note: this is humebridgectl {VERSION}, the running daemon is hume-bridge {}; restart it to \
         finish an upgrade",
        render::clean(theirs)
    )
}

fn cannot_connect(socket: &Path, error: &io::Error) -> String {
    let socket = socket.display();
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!("no control socket at {socket}; is hume-bridge running? (--socket says where)")
        }
        io::ErrorKind::ConnectionRefused => {
            format!("nobody answers on {socket}; hume-bridge is not running")
        }
        io::ErrorKind::PermissionDenied => {
            format!(
                "not permitted to use {socket}; it is for root and its group (ls -l shows which)"
            )
        }
        _ => format!("cannot connect to {socket}: {error}"),
    }
}

fn cannot_ask(error: &ClientError) -> String {
    match error {
        ClientError::Reply(ReplyError::Protocol { .. }) => {
            format!("{error}; use the humebridgectl that came with the daemon, or restart it")
        }
        _ => error.to_string(),
    }
}

/// Data. A reader that went away has had what it wanted.
fn print(text: &str) -> Exit {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            say(&format!("cannot write: {error}"));
            Exit::Refused
        }
        _ => Exit::Done,
    }
}

/// Words. With nobody to read them there is nothing left to try.
fn say(words: &str) {
    let _ = writeln!(io::stderr(), "humebridgectl: {words}");
}
