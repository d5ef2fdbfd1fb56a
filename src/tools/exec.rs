//! Tools that are programs of the operator's.
//!
//! The program is started without a shell, with the question on its standard input, an environment of
//! its own, `/` as its directory, and in a process group of its own. Its answer is what it has written
//! when it ends with status 0. The whole group is killed when the program has ended, when it says too
//! much, and when the future is dropped, at the deadline or at the end of the call: nothing that it
//! started outlives it, unless it has left the group on purpose. What it says on standard error is not
//! read: a program that has something to tell an operator writes to the log itself.

use std::{
    io,
    os::{fd::OwnedFd, unix::process::ExitStatusExt as _},
    path::Path,
    pin::pin,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, Interest, unix::AsyncFd},
    process::{Child, ChildStdin, Command},
    time::timeout,
};

use super::{request, run::Failure};

/// What a program finds in its environment, and nothing else.
const ENVIRONMENT: [(&str, &str); 2] = [
    ("PATH", "/usr/local/bin:/usr/bin:/bin"),
    ("LANG", "C.UTF-8"),
];
/// For the last of its words, once it has ended. They are in the pipe by then; only somebody who has
/// left the group can keep that open.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// A program that runs. Dropped, its group is killed.
struct Running {
    child: Child,
    /// Until the group has been killed. Its leader has not been reaped before that, even if it has ended: so
    /// the number cannot have become somebody else's.
    group: Option<Pid>,
    ended: AsyncFd<OwnedFd>,
}

/// Starts the program and waits for its end; the caller keeps the time.
pub async fn run(
    command: &[String],
    question: Vec<u8>,
    max_output: usize,
) -> Result<String, Failure> {
    let mut running = Running::start(command)
        .map_err(|error| Failure::because("not-started", in_words(command, &error)))?;
    let stdin = running.child.stdin.take().expect("it is piped");
    let mut stdout = running.child.stdout.take().expect("it is piped");
    let mut said = Vec::new();
    let over = {
        let mut told = pin!(tell(stdin, &question));
        let mut heard = pin!(hear(&mut stdout, max_output, &mut said));
        let (mut telling, mut hearing) = (true, true);
        let ended = loop {
            tokio::select! {
                () = &mut told, if telling => telling = false,
                enough = &mut heard, if hearing => {
                    if let Err(failure) = enough {
                        // Before the pipe closes: a program that notices goes on to what comes next.
                        running.kill();
                        return Err(failure);
                    }
                    hearing = false;
                }
                ended = running.ended.readable() => break ended.map(drop),
            }
        };
        ended.map_err(lost)?;
        running.kill();
        if hearing && let Ok(enough) = timeout(LAST_WORDS, heard).await {
            enough?;
        }
        running.child.wait().await
    };
    let status = over.map_err(lost)?;
    if status.success() {
        return request::answer(&said).ok_or(Failure::word("not-text"));
    }
    Err(Failure {
        said: request::error(&said),
        ..ended_with(status)
    })
}

impl Running {
    fn start(command: &[String]) -> io::Result<Running> {
        let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(ENVIRONMENT)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let group = group.ok_or(io::ErrorKind::NotFound)?;
        match watch(group) {
            Ok(ended) => Ok(Running {
                child,
                group: Some(group),
                ended,
            }),
            Err(error) => {
                let _ = kill_process_group(group, Signal::KILL);
                let _ = child.start_kill();
                Err(error)
            }
        }
    }

    fn kill(&mut self) {
        if let Some(group) = self.group.take() {
            // An empty group is what is wanted.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Running {
    /// The child, dropped after this, is reaped by the runtime.
    fn drop(&mut self) {
        self.kill();
    }
}

/// Readable when the program has ended: it tells so without reaping, unlike the child's own wait.
#[expect(
    deprecated,
    reason = "its successor has the caller vouch for the descriptor, which an OwnedFd does by its type"
)]
fn watch(program: Pid) -> io::Result<AsyncFd<OwnedFd>> {
    let ended = pidfd_open(program, PidfdFlags::empty())?;
    AsyncFd::with_interest(ended, Interest::READABLE)
}

/// A program need not read what it is told.
async fn tell(mut stdin: ChildStdin, question: &[u8]) {
    let _ = stdin.write_all(question).await;
}

/// To the end of it, or until it is too much.
async fn hear(
    mut stdout: impl AsyncRead + Unpin,
    most: usize,
    said: &mut Vec<u8>,
) -> Result<(), Failure> {
    let mut piece = [0; 4096];
    loop {
        match stdout.read(&mut piece).await {
            Ok(0) | Err(_) => return Ok(()),
            Ok(n) if said.len() + n > most => return Err(Failure::word("too-large")),
            Ok(n) => said.extend_from_slice(&piece[..n]),
        }
    }
}

/// Why it did not start.
fn in_words(command: &[String], error: &io::Error) -> String {
    let is_there = || command.first().is_some_and(|path| Path::new(path).exists());
    match (error.raw_os_error(), error.kind()) {
        (Some(code), _) if code == Errno::NOEXEC.raw_os_error() => {
            "it is no program; has it a #! line?".to_owned()
        }
        // The kernel says the same of both, and who looks for the first finds the program in its place.
        (_, io::ErrorKind::NotFound) if is_there() => {
            "the interpreter in its first line is not found; has it Windows line ends?".to_owned()
        }
        (_, io::ErrorKind::NotFound) => "there is no such program".to_owned(),
        (_, kind) => kind.to_string(),
    }
}

/// The machine does not say how it ended.
fn lost(error: io::Error) -> Failure {
    Failure::because("lost", error.kind().to_string())
}

fn ended_with(status: ExitStatus) -> Failure {
    match (status.code(), status.signal()) {
        (Some(code), _) => Failure::because("exit", format!("status {code}")),
        (None, Some(signal)) => Failure::because("killed", format!("signal {signal}")),
        (None, None) => Failure::word("killed"),
    }
}

#[cfg(test)]
#[path = "exec_tests.rs"]
mod tests;
