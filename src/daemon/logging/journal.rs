//! The systemd journal, spoken to in its own protocol.
//!
//! One datagram a record, fields by name (systemd's "Native Journal Protocol"): `MESSAGE` is the
//! line as it would stand on standard error, and every field of it is a field of the journal's too,
//! in capitals, so that `journalctl CALL_SID=CA...` finds a call. Values are data: one that holds a
//! newline is written with its length, so nothing that a peer said can become a field.
//!
//! There is a crate for this, `tracing-journald`. It sends from the task that logs, which waits
//! while journald does not read, and its `MESSAGE` leaves the fields out.

use std::{
    env,
    ffi::OsStr,
    fs::File,
    io,
    os::{fd::AsFd as _, unix::fs::MetadataExt as _, unix::net::UnixDatagram},
    path::{Path, PathBuf},
};

use super::{
    IDENTIFIER,
    queue::Sink,
    record::Record,
    syslog::{AUTH, DAEMON, severity},
};

/// Where journald listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// Names that are the journal's or ours.
const TAKEN: [&str; 5] = [
    "MESSAGE",
    "PRIORITY",
    "SYSLOG_FACILITY",
    "SYSLOG_IDENTIFIER",
    "TARGET",
];
/// The longest name that journald takes.
const MAX_NAME: usize = 64;

/// The journal's socket.
pub struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journal {
    /// An error if nobody listens there.
    pub fn connect(path: &Path) -> io::Result<Self> {
        UnixDatagram::unbound()?.connect(path)?;
        Ok(Journal {
            socket: UnixDatagram::unbound()?,
            path: path.to_owned(),
        })
    }
}

impl Sink for Journal {
    fn write(&mut self, record: &Record) -> io::Result<()> {
        // By its path each time: a journald that has been restarted has another socket there.
        let datagram = datagram(record);
        self.socket.send_to(&datagram, &self.path).map(|_| ())
    }
}

/// Whether standard error is the journal: systemd says in `JOURNAL_STREAM` which device and inode it
/// gave us (systemd.exec(5)), and a shell or a supervisor in between may have put another there.
pub fn is_stderr() -> bool {
    let Some(told) = env::var_os("JOURNAL_STREAM") else {
        return false;
    };
    let stderr = io::stderr().as_fd().try_clone_to_owned();
    let metadata = stderr.and_then(|stderr| File::from(stderr).metadata());
    metadata.is_ok_and(|metadata| is_stream(&told, metadata.dev(), metadata.ino()))
}

fn is_stream(told: &OsStr, device: u64, inode: u64) -> bool {
    let numbers = told.to_str().and_then(|told| told.split_once(':'));
    numbers.is_some_and(|(dev, ino)| dev.parse() == Ok(device) && ino.parse() == Ok(inode))
}

fn datagram(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    put(&mut bytes, "MESSAGE", &record.text());
    put(&mut bytes, "PRIORITY", &severity(record.level).to_string());
    let facility = if record.is_audit() { AUTH } else { DAEMON };
    put(&mut bytes, "SYSLOG_FACILITY", &facility.to_string());
    put(&mut bytes, "SYSLOG_IDENTIFIER", IDENTIFIER);
    put(&mut bytes, "TARGET", record.target);
    for (name, value) in &record.fields {
        if let Some(name) = valid(name) {
            put(&mut bytes, &name, value.as_str());
        }
    }
    bytes
}

fn put(bytes: &mut Vec<u8>, name: &str, value: &str) {
    bytes.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        bytes.push(b'\n');
        bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        bytes.push(b'=');
    }
    bytes.extend_from_slice(value.as_bytes());
    bytes.push(b'\n');
}

/// A field's name as journald takes it: `A-Z`, `0-9` and `_`, beginning with a letter.
fn valid(name: &str) -> Option<String> {
    let upper = name.chars().map(|c| match c.to_ascii_uppercase() {
        c if c.is_ascii_alphanumeric() => c,
        _ => '_',
    });
    let mut name: String = upper.skip_while(|c| !c.is_ascii_alphabetic()).collect();
    if TAKEN.contains(&name.as_str()) {
        name.insert_str(0, "F_");
    }
    name.truncate(MAX_NAME);
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
