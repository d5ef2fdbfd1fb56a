//! The commands that stay: `events`, `sessions --watch` and `drain --wait`.
//!
//! Each ends by itself only with what it waits for, or with the daemon; until then the operator ends
//! it. On a terminal the table is drawn over itself; anything else gets text that can be kept.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use serde_json::Value;

use super::{exit::Exit, line::Line, print, render, say};
use crate::admin::{
    event::{Event, What},
    protocol::{Drain, Failure, ReplyError, Request, Session, Sessions, Status, decode},
};

/// How often the daemon is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// One line an event, until the call ends, the daemon stops or nobody reads any more.
pub async fn events(line: &mut Line<'_>, call: Option<String>) -> Result<Exit, Exit> {
    let of_one = call.is_some();
    let mut reply = line.ask(&Request::Events { call }).await?;
    loop {
        let value = reply.outcome.map_err(refused)?;
        let event: Event = decode(&value).map_err(garbled)?;
        let text = if line.args.json {
            format!("{value}\n")
        } else {
            render::event(&event)
        };
        print(&text).go_on()?;
        let last = matches!(event.what, What::Stopped {})
            || of_one && matches!(event.what, What::CallEnded { .. });
        if last {
            return Ok(Exit::Done);
        }
        reply = match line.event().await? {
            Some(reply) => reply,
            None => {
                say("the daemon closed the stream: it has gone, or this reader was too slow");
                return Err(Exit::Unreachable);
            }
        };
    }
}

/// The live calls: drawn anew each second on a terminal, else again whenever they are others.
pub async fn sessions(line: &mut Line<'_>) -> Result<Exit, Exit> {
    let draw = io::stdout().is_terminal() && !line.args.json;
    let mut before: Option<Vec<Session>> = None;
    loop {
        line.more_time();
        let value = line.ask(&Request::Sessions {}).await?.outcome;
        let value = value.map_err(refused)?;
        let sessions: Sessions = decode(&value).map_err(garbled)?;
        let now: Vec<_> = sessions.sessions.iter().map(what_matters).collect();
        if draw {
            let table = match render::sessions(&sessions) {
                table if table.is_empty() => "no live calls\n".to_owned(),
                table => table,
            };
            print(&drawn(&table)).go_on()?;
        } else if before.as_ref() != Some(&now) {
            let first = before.is_none();
            before = Some(now);
            print(&again(line.args.json, first, &value, &sessions)).go_on()?;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Over what stands on the terminal, from its corner: what is left of each old line is wiped, and
/// what is left below. Without flickering, as wiping everything first would.
fn drawn(table: &str) -> String {
    format!("\x1b[H{}\x1b[J", table.replace('\n', "\x1b[K\n"))
}

/// The calls once more, for a reader that keeps everything.
fn again(json: bool, first: bool, value: &Value, sessions: &Sessions) -> String {
    if json {
        return format!("{value}\n");
    }
    let table = render::sessions(sessions);
    if table.is_empty() {
        say("no live calls");
    }
    let between = if first || table.is_empty() { "" } else { "\n" };
    format!("{between}{table}")
}

/// Without what only grows.
fn what_matters(session: &Session) -> Session {
    Session {
        duration_seconds: 0,
        frames_in: 0,
        audio_out: 0,
        ..session.clone()
    }
}

/// Admits no more calls and waits until none is left. Interrupted, it leaves the daemon draining.
pub async fn drain(line: &mut Line<'_>) -> Result<Exit, Exit> {
    let value = line.ask(&Request::Drain {}).await?.outcome;
    let mut drain: Drain = decode(&value.map_err(refused)?).map_err(garbled)?;
    let mut told = None;
    loop {
        let left = (drain.active_sessions, drain.expected_sessions);
        if left == (0, 0) {
            break;
        }
        if told != Some(left) {
            told = Some(left);
            say(&format!(
                "waiting for {} live and {} expected calls",
                left.0, left.1
            ));
        }
        tokio::time::sleep(AGAIN).await;
        line.more_time();
        let value = line.ask(&Request::Status {}).await?.outcome;
        let status: Status = decode(&value.map_err(refused)?).map_err(garbled)?;
        if !status.draining {
            say("the drain was taken back; calls are admitted again");
            return Err(Exit::Refused);
        }
        drain.active_sessions = status.active_sessions;
        drain.expected_sessions = status.expected_sessions;
    }
    let text = if line.args.json {
        let json = serde_json::to_string(&drain).expect("numbers always serialise");
        format!("{json}\n")
    } else {
        render::drain(&drain)
    };
    Ok(print(&text).exit())
}

fn refused(failure: Failure) -> Exit {
    say(&render::words(&failure.message));
    Exit::of_code(failure.code)
}

fn garbled(error: ReplyError) -> Exit {
    say(&error.to_string());
    Exit::Refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_drawn_over_the_last_one() {
        assert_eq!(drawn("a\nb\n"), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
    }
}
