//! The daemon's end of the control socket.
//!
//! [`bind`] puts the socket where only its owner and one group can open it, and refuses to take it
//! from a daemon that is still there. [`serve`] answers each client's lines in order until the
//! client leaves, breaks the framing, idles, or stops reading. A client that follows events asks
//! nothing more: it may be silent for as long as it likes, since the kernel tells when it has gone,
//! and is let go when it leaves, reads too slowly or the daemon stops. What the answers are is
//! [`desk`](super::desk)'s affair; here are only sockets, bounds and deadlines.

use std::{
    fmt, fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    desk::{Desk, Reply},
    follow::{self, Following, Next},
    framing::Lines,
    protocol::{Code, Failure, MAX_REQUEST, event_line, reply_line},
};
use crate::{accepting::Accepting, metrics::labels::Door};

/// Read and write for the owner and the group, nothing for others.
const MODE: u32 = 0o660;

/// What is being answered when the daemon stops may still take so long.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What one client may cost.
#[derive(Clone, Debug)]
pub struct Limits {
    pub clients: usize,
    /// For the next whole line.
    pub idle: Duration,
    /// For one reply to be taken.
    pub write: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            clients: 64,
            idle: Duration::from_secs(60),
            write: Duration::from_secs(5),
        }
    }
}

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("admin.socket {0}: another hume-bridge answers there; stop it or choose another path")]
    InUse(PathBuf),
    #[error("admin.socket {0}: exists and is not a socket; remove it or choose another path")]
    NotASocket(PathBuf),
    #[error(
        "admin.socket {0}: its directory does not exist; make it, or choose another path, or \
         switch the socket off with \"\""
    )]
    NoDirectory(PathBuf),
    #[error("admin.socket {0}: cannot be made here")]
    Io(PathBuf, #[source] io::Error),
}

/// The bound socket. Dropping it removes the file, if the file is still this one.
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
    /// Device and inode.
    identity: Option<(u64, u64)>,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Listener").field(&self.path).finish()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // A successor may have put its own socket there already.
        if self.identity.is_some() && identity(&self.path) == self.identity {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path)
        .ok()
        .map(|meta| (meta.dev(), meta.ino()))
}

/// Binds `path`, mode 0660, group `group` (`""` leaves the group alone). A group that does not
/// exist or cannot be given is a warning: the owner and root still get in.
pub async fn bind(path: &Path, group: &str) -> Result<Listener, BindError> {
    let failed = |error| BindError::Io(path.to_owned(), error);
    let dead = identity(path);
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(BindError::NotASocket(path.to_owned()));
        }
        // Left by a daemon that was killed, unless somebody answers.
        Ok(_) => match timeout(Duration::from_secs(1), UnixStream::connect(path)).await {
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                // Another daemon may have found it dead, too, and been quicker.
                if identity(path) != dead {
                    return Err(BindError::InUse(path.to_owned()));
                }
                fs::remove_file(path).map_err(failed)?;
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(Err(error)) if error.kind() != io::ErrorKind::WouldBlock => {
                return Err(failed(error));
            }
            // Answered, or its backlog is full.
            _ => return Err(BindError::InUse(path.to_owned())),
        },
    }
    let socket = UnixListener::bind(path).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse(path.to_owned()),
        io::ErrorKind::NotFound => BindError::NoDirectory(path.to_owned()),
        _ => failed(error),
    })?;
    let listener = Listener {
        socket,
        path: path.to_owned(),
        identity: identity(path),
    };
    // The group before the mode: what the umask left open is closed to everybody else, and the
    // wider mode never meets the wrong group.
    if !group.is_empty()
        && let Err(error) = give_to_group(path, group)
    {
        tracing::warn!(
            %error, group, socket = %path.display(),
            "the control socket keeps its group: admin.group cannot be given to it"
        );
    }
    fs::set_permissions(path, fs::Permissions::from_mode(MODE)).map_err(failed)?;
    Ok(listener)
}

fn give_to_group(path: &Path, group: &str) -> io::Result<()> {
    let groups = fs::read_to_string("/etc/group")?;
    let gid = gid_of(&groups, group)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such group in /etc/group"))?;
    // Already so where systemd's Group= made it, and there chown is forbidden to us.
    if fs::metadata(path)?.gid() == gid {
        return Ok(());
    }
    chown(path, None, Some(gid))
}

/// Whether the control socket can be given to this group.
pub fn group_exists(group: &str) -> bool {
    fs::read_to_string("/etc/group").is_ok_and(|groups| gid_of(&groups, group).is_some())
}

/// `name:password:gid:members`, one a line.
fn gid_of(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}

/// Serves until the token is cancelled. Clients run in `tracker`.
pub async fn serve(
    listener: Listener,
    desk: Arc<Desk>,
    tracker: TaskTracker,
    token: CancellationToken,
) {
    serve_with(listener, desk, Limits::default(), tracker, token).await;
}

/// [`serve`] with other limits.
pub async fn serve_with(
    listener: Listener,
    desk: Arc<Desk>,
    limits: Limits,
    tracker: TaskTracker,
    token: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(limits.clients));
    let mut accepting = Accepting::new(Door::Admin, desk.metrics());
    loop {
        let accepted = tokio::select! {
            biased;
            () = token.cancelled() => return,
            accepted = listener.socket.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => {
                accepting.works();
                stream
            }
            Err(error) => match accepting.fails(&error) {
                None => continue,
                Some(pause) => tokio::select! {
                    () = token.cancelled() => return,
                    () = sleep(pause) => continue,
                },
            },
        };
        let Ok(place) = room.clone().try_acquire_owned() else {
            tracing::warn!(
                limited = true,
                clients = limits.clients,
                "the control socket is full"
            );
            // An operator in trouble is told at once; a full socket buffer is not waited for.
            let full = Failure::new(Code::Busy, "too many clients on the control socket");
            let _ = stream.try_write(&reply_line(&Err(full)));
            continue;
        };
        let (desk, limits, token) = (desk.clone(), limits.clone(), token.clone());
        tracker.spawn(async move {
            let _place = place;
            tokio::select! {
                biased;
                () = client(stream, &desk, &limits, &token) => {}
                () = async {
                    token.cancelled().await;
                    sleep(LAST_WORDS).await;
                } => {}
            }
        });
    }
}

async fn client(mut stream: UnixStream, desk: &Desk, limits: &Limits, token: &CancellationToken) {
    let uid = match stream.peer_cred() {
        Ok(peer) => peer.uid(),
        Err(error) => {
            return tracing::warn!(target: "audit", limited = true, %error, "a control client without credentials");
        }
    };
    let mut lines = Lines::new(MAX_REQUEST);
    loop {
        let next = tokio::select! {
            biased;
            next = timeout(limits.idle, next_line(&mut stream, &mut lines)) => next,
            () = token.cancelled() => return,
        };
        let Ok((line, last)) = next else {
            return;
        };
        let reply = match line {
            Ok(None) => return,
            Ok(Some(line)) if line.is_empty() => continue,
            Ok(Some(line)) => desk.answer(&line, uid).await,
            Err(failure) => desk.no_request(failure, uid),
        };
        let outcome = match reply {
            Reply::Line(outcome) => outcome,
            Reply::Stream(following) => return follow(stream, following, limits, uid, token).await,
        };
        if !write(&mut stream, &reply_line(&outcome), limits, uid).await || last {
            return;
        }
    }
}

/// Whether the client has taken it.
async fn write(stream: &mut UnixStream, line: &[u8], limits: &Limits, uid: u32) -> bool {
    match timeout(limits.write, stream.write_all(line)).await {
        Ok(Ok(())) => true,
        Ok(Err(_)) => false,
        Err(_) => {
            tracing::warn!(
                limited = true,
                uid,
                "a control client does not read its reply"
            );
            false
        }
    }
}

/// Tells what happens until the client leaves, the stream ends or the daemon stops. Only this task
/// ever waits for the client.
async fn follow(
    mut stream: UnixStream,
    mut following: Following,
    limits: &Limits,
    uid: u32,
    token: &CancellationToken,
) {
    let mut chunk = [0; 64];
    loop {
        let next = tokio::select! {
            biased;
            () = token.cancelled() => break,
            next = following.next() => next,
            read = stream.read(&mut chunk) => match read {
                Ok(0) | Err(_) => return,
                Ok(_) => {
                    let words = "nothing can be asked on a connection that follows events";
                    let busy = Failure::new(Code::BadRequest, words);
                    write(&mut stream, &reply_line(&Err(busy)), limits, uid).await;
                    return;
                }
            },
        };
        match next {
            Next::Event(event) => {
                if !write(&mut stream, &event_line(&event), limits, uid).await {
                    return;
                }
            }
            Next::Over => return,
            Next::TooSlow => return too_slow(&stream, uid),
        }
    }
    loop {
        match following.rest() {
            Next::Event(event) => {
                if !write(&mut stream, &event_line(&event), limits, uid).await {
                    return;
                }
            }
            Next::Over => break,
            Next::TooSlow => return too_slow(&stream, uid),
        }
    }
    write(&mut stream, &event_line(&follow::stopped()), limits, uid).await;
}

fn too_slow(stream: &UnixStream, uid: u32) {
    tracing::info!(uid, "a control client read events too slowly");
    let words = "events came faster than they were read; ask again for where things stand";
    let slow = Failure::new(Code::TooSlow, words);
    // Every earlier line has left us whole. If this one finds no room, the end of the stream has to
    // say it.
    _ = stream.try_write(&reply_line(&Err(slow)));
}

/// The next line, and whether the connection ends after it.
async fn next_line(
    stream: &mut UnixStream,
    lines: &mut Lines,
) -> (Result<Option<Vec<u8>>, Failure>, bool) {
    let mut chunk = [0; 4096];
    loop {
        match lines.next_line() {
            Err(error) => return (Err(Failure::new(Code::BadRequest, error.to_string())), true),
            Ok(Some(line)) => return (Ok(Some(line)), false),
            Ok(None) => {}
        }
        match stream.read(&mut chunk).await {
            Ok(0) => {
                // `printf '{...}' | socat` sends no newline; the braces say where the object ends.
                let lines = std::mem::replace(lines, Lines::new(MAX_REQUEST));
                return (Ok(lines.rest()), true);
            }
            Ok(n) => lines.push(&chunk[..n]),
            Err(_) => return (Ok(None), true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_by_its_whole_name() {
        let groups = "root:x:0:\nhume-bridge-old:x:7:\nhume-bridge:x:998:ann,bob\nbad:x:many:\n";
        assert_eq!(gid_of(groups, "hume-bridge"), Some(998));
        assert_eq!(gid_of(groups, "root"), Some(0));
        assert_eq!(gid_of(groups, "bad"), None);
        assert_eq!(gid_of(groups, "hume"), None);
    }
}
