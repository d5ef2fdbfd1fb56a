//! This machine: the listeners' addresses, the control socket, the limit of open files, the file for call
//! records.
//!
//! A daemon that runs already is no obstacle but an answer: it holds the addresses rightly.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    time::Duration,
};

use rustix::fs::OFlags;
use tokio::time::timeout;
use url::Url;

use super::{
    report::Finding,
    web::{self, Ask, Silent},
};
use crate::{
    admin::{
        client::Client,
        protocol::{Request, Status, decode},
        server::group_exists,
    },
    agent::link::{ConnectError, Tls},
    config::{Config, certificate::Certificate, from_here},
    files as open_files, pinned,
};

const DEADLINE: Duration = Duration::from_secs(2);
/// Made by systemd, with `RuntimeDirectory=`, when the unit starts.
const RUNTIME_DIRECTORY: &str = "/run/hume-bridge";
/// The same, with `StateDirectory=`.
const STATE_DIRECTORY: &str = "/var/lib/hume-bridge";

/// The findings, and whether a daemon runs here.
pub async fn look(
    config: &Config,
    certificate: Option<&Certificate>,
    tls: &Tls,
) -> (Vec<Finding>, bool) {
    let (admin, daemon) = admin(config).await;
    // It is made out to the public name, and asked here by its address.
    let own = certificate
        .and_then(|certificate| certificate.certified.cert.first())
        .map(|own| Tls::with(pinned::client(own.clone())));
    let (scheme, public) = match &own {
        Some(own) => ("https", own),
        None => ("http", tls),
    };
    let address = config.listen.http;
    let (http, http_answers) =
        listener("listen.http", scheme, address, daemon.as_ref(), public).await;
    let (ops, ops_answers) = match config.listen.ops {
        Some(address) => listener("listen.ops", "http", address, daemon.as_ref(), tls).await,
        None => (Finding::ok("listen.ops", "switched off"), false),
    };
    let pid = daemon.as_ref().map(|daemon| daemon.pid);
    let mut findings = vec![http, ops];
    findings.extend(admin);
    findings.push(files(config.calls.max_concurrent, pid));
    findings.push(record(config.calls.record.as_deref()));
    let running = daemon.is_some() || http_answers || ops_answers;
    (findings, running)
}

/// Free, or held by a daemon of ours; the second is whether that answers.
async fn listener(
    check: &'static str,
    scheme: &str,
    address: SocketAddr,
    daemon: Option<&Status>,
    tls: &Tls,
) -> (Finding, bool) {
    let error = match TcpListener::bind(address) {
        Ok(_) if address.port() == 0 => {
            return (
                Finding::ok(check, format!("{address}: any free port")),
                false,
            );
        }
        Ok(_) => return (Finding::ok(check, format!("{address} is free")), false),
        Err(error) => error,
    };
    let finding = match error.kind() {
        io::ErrorKind::AddrInUse => {
            let url = Url::parse(&format!("{scheme}://{}/health", from_here(address)));
            let url = url.expect("a socket address makes a URL");
            let answer = web::ask(Ask::get(&url), tls, DEADLINE).await;
            let refused = answer.as_ref().err().copied();
            if answer.is_ok_and(|answer| answer.health().is_some()) {
                let what = format!("a hume-bridge answers on {address}");
                return (Finding::ok(check, what), true);
            }
            match daemon {
                // The files have been renewed since the daemon read them.
                Some(daemon)
                    if matches!(
                        refused,
                        Some(Silent::Unconnected(ConnectError::Certificate(_)))
                    ) =>
                {
                    let pid = daemon.pid;
                    let what = format!(
                        "{address} shows another certificate than the one in listen.tls_cert \
                         (process {pid})"
                    );
                    Finding::fail(check, what, "have the daemon read it: humebridgectl reload")
                }
                Some(daemon) => {
                    let pid = daemon.pid;
                    let what = format!(
                        "{address} is taken, and the hume-bridge that runs (process {pid}) does \
                         not answer there"
                    );
                    let mend = "start it again if the address is new in the config; else see who \
                                has it: ss -ltnp";
                    Finding::fail(check, what, mend)
                }
                None => Finding::fail(
                    check,
                    format!("{address} is taken by another program"),
                    format!(
                        "see which with ss -ltnp 'sport = :{}' and stop it, or set {check} to \
                         another port",
                        address.port()
                    ),
                ),
            }
        }
        io::ErrorKind::AddrNotAvailable => Finding::fail(
            check,
            format!("{address} is no address of this machine"),
            format!("set {check} to one that `ip address` lists, or to 0.0.0.0"),
        ),
        io::ErrorKind::PermissionDenied => Finding::fail(
            check,
            format!(
                "{address}: this user may not listen on port {}",
                address.port()
            ),
            "take a port from 1024 on, or give the unit AmbientCapabilities=CAP_NET_BIND_SERVICE",
        ),
        _ => Finding::fail(
            check,
            format!("cannot listen on {address}: {error}"),
            format!("set {check} to another address"),
        ),
    };
    (finding, false)
}

/// The control socket: a daemon that answers, or a place where one could make it.
async fn admin(config: &Config) -> (Vec<Finding>, Option<Status>) {
    const CHECK: &str = "admin";
    let Some(path) = &config.admin.socket else {
        return (vec![Finding::ok(CHECK, "switched off")], None);
    };
    let shown = path.display();
    let mut findings = Vec::new();
    let daemon = match timeout(DEADLINE, status(path)).await {
        Ok(Ok(daemon)) => daemon,
        // Bound, and its backlog is full, or the daemon hangs.
        Err(_) => {
            let what = format!("{shown}: somebody holds it and does not answer");
            let mend = "see what the daemon does: systemctl status hume-bridge";
            return (vec![Finding::fail(CHECK, what, mend)], None);
        }
        Ok(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
            let what = format!(
                "{shown}: this user may not go there; run this as root, or as a member of the \
                 group {}",
                config.admin.group
            );
            return (vec![Finding::skip(CHECK, what)], None);
        }
        Ok(Err(_)) => None,
    };
    if let Some((version, daemon)) = &daemon {
        findings.push(Finding::ok(
            CHECK,
            format!(
                "{shown}: hume-bridge {version} answers, process {}, {} live calls{}",
                daemon.pid,
                daemon.active_sessions,
                if daemon.draining { ", draining" } else { "" }
            ),
        ));
    } else {
        findings.push(place(path));
    }
    let group = &config.admin.group;
    if !group.is_empty() && !group_exists(group) {
        findings.push(Finding::fail(
            CHECK,
            format!("there is no group {group}: only root and the daemon could use the socket"),
            format!("groupadd --system {group}, or name another with admin.group"),
        ));
    }
    (findings, daemon.map(|(_, daemon)| daemon))
}

/// The daemon's version and state; `None` from somebody who is no daemon of this protocol.
async fn status(socket: &Path) -> io::Result<Option<(String, Status)>> {
    let mut client = Client::connect(socket).await?;
    let Ok(reply) = client.call(&Request::Status {}).await else {
        return Ok(None);
    };
    let status = reply.outcome.ok().and_then(|ok| decode(&ok).ok());
    Ok(status.map(|status| (reply.version, status)))
}

/// Nobody answers: could the socket be made?
fn place(path: &Path) -> Finding {
    const CHECK: &str = "admin";
    let shown = path.display();
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Finding::fail(
                CHECK,
                format!("{shown} exists and is not a socket"),
                "remove it or choose another path",
            );
        }
        _ => {}
    }
    let directory = match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    let metadata = match fs::metadata(directory) {
        Ok(metadata) if metadata.is_dir() => metadata,
        Ok(_) => {
            let what = format!("{} is not a directory", directory.display());
            return Finding::fail(CHECK, what, "choose another path for admin.socket");
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let what = format!("{} does not exist", directory.display());
            if directory == Path::new(RUNTIME_DIRECTORY) {
                let what = format!("{what}; systemd makes it when the unit starts");
                return Finding::skip(CHECK, what);
            }
            let mend = "make it, or choose another path, or switch the socket off with \"\"";
            return Finding::fail(CHECK, what, mend);
        }
        Err(error) => {
            let what = format!("{}: {error}", directory.display());
            return Finding::skip(CHECK, what);
        }
    };
    let me = Me::now();
    match me.may_write(&metadata) {
        Some(true) => Finding::ok(CHECK, format!("{shown} can be made")),
        // The daemon may run as the owner, and mostly does.
        Some(false) if metadata.mode() & 0o200 != 0 && Some(metadata.uid()) != me.uid => {
            let owner = metadata.uid();
            let what = format!("{shown} can be made by user {owner}, who owns the directory");
            Finding::ok(CHECK, what)
        }
        Some(false) => Finding::fail(
            CHECK,
            format!("{} may not be written to", directory.display()),
            "chmod u+w it, or choose another path for admin.socket",
        ),
        None => Finding::skip(CHECK, "the system does not say who runs this"),
    }
}

/// Who runs this, from proc(5).
#[derive(Default)]
struct Me {
    uid: Option<u32>,
    groups: Vec<u32>,
}

impl Me {
    fn now() -> Me {
        fs::read_to_string("/proc/self/status").map_or_else(|_| Me::default(), |text| Me::of(&text))
    }

    fn of(status: &str) -> Me {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let numbers = line.unwrap_or("").split_ascii_whitespace();
            numbers.filter_map(|number| number.parse().ok()).collect()
        };
        // Real, effective, saved, of the file system.
        let (uids, gids): (Vec<u32>, Vec<u32>) = (field("Uid:"), field("Gid:"));
        let mut groups: Vec<u32> = field("Groups:");
        groups.extend(gids.get(1));
        Me {
            uid: uids.get(1).copied(),
            groups,
        }
    }

    fn may_write(&self, metadata: &fs::Metadata) -> Option<bool> {
        let uid = self.uid?;
        Some(
            match (uid == metadata.uid(), self.groups.contains(&metadata.gid())) {
                _ if uid == 0 => true,
                (true, _) => metadata.mode() & 0o300 == 0o300,
                (false, true) => metadata.mode() & 0o030 == 0o030,
                (false, false) => metadata.mode() & 0o003 == 0o003,
            },
        )
    }
}

/// Two sockets a call, and room. What counts is the running daemon's limit: a shell has another.
fn files(max_concurrent: usize, daemon: Option<u32>) -> Finding {
    const CHECK: &str = "files";
    let needed = open_files::needed(max_concurrent);
    let path = match daemon {
        Some(pid) => format!("/proc/{pid}/limits"),
        None => "/proc/self/limits".to_owned(),
    };
    let Some(limit) = open_files::limit_of(&path) else {
        return Finding::skip(CHECK, format!("{path} does not say how many may be open"));
    };
    let calls = format!("{max_concurrent} calls need {needed}");
    match (limit >= needed, daemon) {
        (true, Some(_)) => Finding::ok(CHECK, format!("the daemon may open {limit}, {calls}")),
        (true, None) => Finding::ok(CHECK, format!("{limit} may be open, {calls}")),
        (false, Some(_)) => Finding::fail(
            CHECK,
            format!("the daemon may open {limit}, and {calls}"),
            format!("set LimitNOFILE={needed} in its unit, or lower calls.max_concurrent"),
        ),
        // The unit's limit is not to be seen from here.
        (false, None) => Finding::skip(
            CHECK,
            format!(
                "{limit} may be open in this shell, and {calls}; the unit's LimitNOFILE= counts \
                 under systemd, else ulimit -n {needed}"
            ),
        ),
    }
}

/// The file for call records: something can be added to it, or it can be made. Neither is done.
fn record(path: Option<&Path>) -> Finding {
    const CHECK: &str = "record";
    let Some(path) = path else {
        return Finding::ok(CHECK, "switched off");
    };
    let shown = path.display();
    // Whoever runs this: the daemon may be another user, and mostly is the file's owner.
    let elsewhere = |what: &str, metadata: &fs::Metadata| {
        let owner = metadata.uid();
        let what = format!("{shown}: {what} to by user {owner}, not by the one who runs this");
        Finding::skip(CHECK, what)
    };
    let me = Me::now();
    let (what, may, metadata) = match fs::metadata(path) {
        Ok(metadata) => {
            // A pipe is not waited for.
            let at_once = OFlags::NONBLOCK.bits().cast_signed();
            let mut how = fs::OpenOptions::new();
            let opened = how.append(true).custom_flags(at_once).open(path);
            match opened {
                Ok(_) => return Finding::ok(CHECK, format!("{shown} can be appended to")),
                Err(error) => (format!("{shown}: {error}"), false, metadata),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let directory = path.parent().unwrap_or(Path::new("/"));
            match fs::metadata(directory) {
                Ok(metadata) => {
                    let may = me.may_write(&metadata) == Some(true);
                    let what = format!("{} may not be written to", directory.display());
                    (what, may, metadata)
                }
                Err(_) if directory == Path::new(STATE_DIRECTORY) => {
                    let what = format!(
                        "{STATE_DIRECTORY} does not exist; systemd makes it when the unit starts"
                    );
                    return Finding::skip(CHECK, what);
                }
                Err(error) => {
                    let what = format!("{}: {error}", directory.display());
                    return Finding::fail(
                        CHECK,
                        what,
                        "make it, or choose another path for calls.record",
                    );
                }
            }
        }
        Err(error) => {
            let what = format!("{shown}: {error}; run this as root");
            return Finding::skip(CHECK, what);
        }
    };
    match may {
        true => Finding::ok(CHECK, format!("{shown} can be made")),
        false if metadata.mode() & 0o200 != 0 && Some(metadata.uid()) != me.uid => {
            elsewhere("may be written", &metadata)
        }
        false => Finding::fail(
            CHECK,
            what,
            "let the user of hume-bridge write there, or choose another path for calls.record",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_for_records_is_there_or_can_be_made() {
        use super::super::report::Verdict;
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("calls.jsonl");
        let new = record(Some(&file));
        assert_eq!(new.result, Verdict::Ok, "{new:?}");
        assert!(new.what.ends_with("calls.jsonl can be made") && !file.exists());
        fs::write(&file, "x").unwrap();
        let there = record(Some(&file));
        assert!(
            there.what.ends_with("calls.jsonl can be appended to"),
            "{there:?}"
        );
        assert_eq!(fs::read(&file).unwrap(), b"x");
        let astray = record(Some(&directory.path().join("no/calls.jsonl")));
        assert_eq!(astray.result, Verdict::Fail, "{astray:?}");
        let whole = record(Some(directory.path()));
        assert_eq!(whole.result, Verdict::Fail, "{whole:?}");
        assert_eq!(record(None).what, "switched off");
    }

    #[test]
    fn files_are_counted_for_the_daemon_that_runs() {
        let (me, far_too_many) = (std::process::id(), usize::MAX / 4);
        assert!(files(1, Some(me)).what.starts_with("the daemon may open"));
        let short = files(far_too_many, Some(me));
        assert_eq!(short.result, super::super::report::Verdict::Fail);
        assert!(short.mend.contains("LimitNOFILE="), "{short:?}");
        let shell = files(far_too_many, None);
        assert_eq!(
            shell.result,
            super::super::report::Verdict::Skip,
            "{shell:?}"
        );
    }

    #[test]
    fn an_effective_user_and_its_groups_are_read() {
        let me =
            Me::of("Name:\tx\nUid:\t1000\t1001\t1000\t1000\nGid:\t5\t6\t5\t5\nGroups:\t7 8 \n");
        assert_eq!((me.uid, me.groups), (Some(1001), vec![7, 8, 6]));
        assert_eq!(Me::of("").uid, None);
    }

    #[test]
    fn a_listener_on_every_address_is_asked_on_loopback() {
        let of = |address: &str| from_here(address.parse().unwrap()).to_string();
        assert_eq!(of("0.0.0.0:3000"), "127.0.0.1:3000");
        assert_eq!(of("[::]:3000"), "[::1]:3000");
        assert_eq!(of("192.0.2.1:3000"), "192.0.2.1:3000");
    }
}
