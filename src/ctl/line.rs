//! The line to the daemon: a connection, what stands in its way, and how long an answer may take.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::{Duration, Instant},
};

use super::{args::Args, exit::Exit, render, say};
use crate::admin::{
    client::{Client, ClientError},
    protocol::{Reply, ReplyError, Request, VERSION},
};

/// A connection to the daemon for one command.
pub struct Line<'a> {
    pub args: &'a Args,
    client: Client,
    until: Instant,
    /// The two versions have been compared.
    compared: bool,
}

impl<'a> Line<'a> {
    /// Connects; what is in the way has been said.
    pub async fn open(args: &'a Args) -> Result<Line<'a>, Exit> {
        let until = Instant::now() + args.timeout;
        let connected = in_time(args, until, Client::connect(&args.socket)).await?;
        let client = connected.map_err(|error| {
            say(&cannot_connect(&args.socket, &error));
            Exit::of_connect(&error)
        })?;
        Ok(Line {
            args,
            client,
            until,
            compared: false,
        })
    }

    /// The deadline begins anew: for a command that asks again and again.
    pub fn more_time(&mut self) {
        self.until = Instant::now() + self.args.timeout;
    }

    /// Asks, within the deadline.
    pub async fn ask(&mut self, request: &Request) -> Result<Reply, Exit> {
        let answered = in_time(self.args, self.until, self.client.call(request)).await?;
        self.heard(answered)
    }

    /// The next event, whenever it comes. `None` when the daemon has closed.
    pub async fn event(&mut self) -> Result<Option<Reply>, Exit> {
        match self.client.next().await {
            Err(ClientError::Closed) => Ok(None),
            other => self.heard(other).map(Some),
        }
    }

    fn heard(&mut self, reply: Result<Reply, ClientError>) -> Result<Reply, Exit> {
        let reply = reply.map_err(|error| {
            say(&cannot_ask(&error));
            Exit::of_call(&error)
        })?;
        if reply.version != VERSION && !self.compared {
            say(&format!(
                "note: this is humebridgectl {VERSION}, the running daemon is hume-bridge {}; \
                 restart it to finish an upgrade",
                render::clean(&reply.version)
            ));
        }
        self.compared = true;
        Ok(reply)
    }
}

async fn in_time<T>(args: &Args, until: Instant, work: impl Future<Output = T>) -> Result<T, Exit> {
    let left = until.saturating_duration_since(Instant::now());
    // An answer that is there already counts, however late it is looked for.
    let left = left.max(Duration::from_millis(1));
    tokio::time::timeout(left, work).await.map_err(|_| {
        say(&format!(
            "no answer on {} within {:?}; `systemctl status hume-bridge` says more",
            args.socket.display(),
            args.timeout
        ));
        Exit::Unreachable
    })
}

/// In words.
pub fn cannot_connect(socket: &Path, error: &io::Error) -> String {
    let path = socket.display();
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!("no control socket at {path}; is hume-bridge running? (--socket says where)")
        }
        io::ErrorKind::ConnectionRefused => {
            format!("nobody answers on {path}; hume-bridge is not running")
        }
        io::ErrorKind::PermissionDenied => match group_of(socket) {
            Some(group) => format!(
                "not permitted to use {path}; it is for root and the group {group}: `sudo usermod \
                 -aG {group} YOU` makes you a member, from the next login on"
            ),
            None => format!(
                "not permitted to use {path}; it is for root and its group, and its directory is \
                 not open to you (`sudo ls -l {path}` shows which group)"
            ),
        },
        _ => format!("cannot connect to {path}: {error}"),
    }
}

/// The name of the file's group, or its number.
fn group_of(socket: &Path) -> Option<String> {
    let gid = fs::metadata(socket).ok()?.gid();
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    Some(group_name(&groups, gid).map_or_else(|| gid.to_string(), render::clean))
}

/// `name:password:gid:members`, one a line.
fn group_name(groups: &str, gid: u32) -> Option<&str> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then_some(name)
    })
}

/// In words.
pub fn cannot_ask(error: &ClientError) -> String {
    match error {
        ClientError::Reply(ReplyError::Protocol { .. }) => {
            format!("{error}; use the humebridgectl that came with the daemon, or restart it")
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_a_name_or_none() {
        let groups = "root:x:0:\nhume-bridge:x:998:ann,bob\nbad:x:many:\nshort\n";
        assert_eq!(group_name(groups, 998), Some("hume-bridge"));
        assert_eq!(group_name(groups, 0), Some("root"));
        assert_eq!(group_name(groups, 99), None);
    }
}
