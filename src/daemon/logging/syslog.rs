//! The local syslog, as syslog(3) speaks to it.
//!
//! One datagram a record: `<PRI>hume-bridge[PID]: text`. The time is left to syslogd, which knows it
//! and the zone that its files are in. Facility daemon, and auth for audit lines, so that they can
//! be kept in a file that few may read.

use std::{
    io,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process,
};

use tracing::Level;

use super::{IDENTIFIER, queue::Sink, record::Record};

/// Where local syslogs listen (Linux, and some containers).
pub const SOCKETS: [&str; 2] = ["/dev/log", "/var/run/syslog"];

/// Facilities, RFC 5424 section 6.2.1.
pub const DAEMON: u8 = 3;
pub const AUTH: u8 = 4;

/// What every syslogd takes in one datagram.
const MAX_LINE: usize = 8 * 1024;

/// Severities, RFC 5424 section 6.2.1; the journal's priorities are the same.
pub fn severity(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// The local syslog's socket.
pub struct Syslog {
    socket: UnixDatagram,
    paths: Vec<PathBuf>,
}

impl Syslog {
    /// An error if nobody listens at any of the paths.
    pub fn connect<P: AsRef<Path>>(paths: &[P]) -> io::Result<Self> {
        let paths: Vec<PathBuf> = paths.iter().map(|path| path.as_ref().to_owned()).collect();
        let socket = connect(&paths)?;
        Ok(Syslog { socket, paths })
    }
}

impl Sink for Syslog {
    fn write(&mut self, record: &Record) -> io::Result<()> {
        let line = line(record, process::id());
        match self.socket.send(line.as_bytes()) {
            Ok(_) => Ok(()),
            // Restarted, perhaps: what listens there now is another socket.
            Err(_) => {
                self.socket = connect(&self.paths)?;
                self.socket.send(line.as_bytes()).map(|_| ())
            }
        }
    }
}

fn connect(paths: &[PathBuf]) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    let mut result = Err(io::Error::from(io::ErrorKind::NotFound));
    for path in paths {
        result = socket.connect(path);
        if result.is_ok() {
            break;
        }
    }
    result.map(|()| socket)
}

fn line(record: &Record, pid: u32) -> String {
    let facility = if record.is_audit() { AUTH } else { DAEMON };
    let priority = facility * 8 + severity(record.level);
    let mut line = format!("<{priority}>{IDENTIFIER}[{pid}]: {}", record.text());
    line.truncate(line.floor_char_boundary(MAX_LINE));
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::logging::record::tests::records;

    #[test]
    fn a_syslogd_gets_facility_severity_and_one_line() {
        let directory = tempfile::tempdir().unwrap();
        let (nowhere, path) = (directory.path().join("no"), directory.path().join("log"));
        let paths = [&nowhere, &path];
        assert!(Syslog::connect(&paths).is_err());
        let syslogd = UnixDatagram::bind(&path).unwrap();
        let mut syslog = Syslog::connect(&paths).unwrap();
        let records = records(|| {
            tracing::info!(CALL_SID = "CA1", "session created");
            tracing::warn!(target: "audit", uid = 0, words = "a\nb", "hang-up");
            tracing::error!("{}", "x".repeat(10_000));
        });
        let mut buffer = [0; 65_536];
        let mut received = |syslogd: &UnixDatagram| {
            let length = syslogd.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        };
        let pid = process::id();
        syslog.write(&records[0]).unwrap();
        assert_eq!(
            received(&syslogd),
            format!("<30>hume-bridge[{pid}]: session created CALL_SID=\"CA1\"")
        );
        // A syslogd that is restarted is found again.
        drop(syslogd);
        assert!(syslog.write(&records[1]).is_err());
        std::fs::remove_file(&path).unwrap();
        let syslogd = UnixDatagram::bind(&path).unwrap();
        syslog.write(&records[1]).unwrap();
        assert_eq!(
            received(&syslogd),
            format!("<36>hume-bridge[{pid}]: audit: hang-up uid=0 words=\"a\\nb\"")
        );
        syslog.write(&records[2]).unwrap();
        assert_eq!(received(&syslogd).len(), MAX_LINE);
    }
}
