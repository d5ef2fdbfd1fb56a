//! The local syslog, as syslog(3) speaks to it.
//!
//! One datagram a record: `<PRI>TIME hume-bridge[PID]: text` (RFC 3164). Facility daemon, and auth for
//! audit lines, so that they can be kept in a file that few may read.

use std::{
    io,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process,
};

use ::syslog::{Facility, Formatter3164, LoggerBackend};
use tracing::Level;

use super::{IDENTIFIER, queue::Sink, record::Record};

/// Where local syslogs listen (Linux, and some containers).
pub const SOCKETS: [&str; 2] = ["/dev/log", "/var/run/syslog"];

/// Facilities, RFC 5424 section 6.2.1.
pub const DAEMON: u8 = 3;
pub const AUTH: u8 = 4;

/// With what stands before it, what every syslogd takes in one datagram.
const MAX_TEXT: usize = 8 * 1024 - 256;

/// Severities, RFC 5424 section 6.2.1; the journal's priorities are the same.
pub fn severity(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

type Logger = ::syslog::Logger<LoggerBackend, Formatter3164>;

/// The local syslog's socket, once for each facility.
pub struct Syslog {
    daemon: Logger,
    auth: Logger,
    paths: Vec<PathBuf>,
}

impl Syslog {
    /// An error if nobody listens at any of the paths.
    pub fn connect<P: AsRef<Path>>(paths: &[P]) -> io::Result<Self> {
        let paths: Vec<PathBuf> = paths.iter().map(|path| path.as_ref().to_owned()).collect();
        Ok(Syslog {
            daemon: logger(&paths, Facility::LOG_DAEMON)?,
            auth: logger(&paths, Facility::LOG_AUTH)?,
            paths,
        })
    }

    fn send(&mut self, record: &Record) -> Result<(), ::syslog::Error> {
        let logger = match record.is_audit() {
            true => &mut self.auth,
            false => &mut self.daemon,
        };
        let mut text = record.text().to_owned();
        text.truncate(text.floor_char_boundary(MAX_TEXT));
        match record.level {
            Level::ERROR => logger.err(text),
            Level::WARN => logger.warning(text),
            Level::INFO => logger.info(text),
            _ => logger.debug(text),
        }
    }
}

impl Sink for Syslog {
    fn write(&mut self, record: &Record) -> io::Result<()> {
        if self.send(record).is_ok() {
            return Ok(());
        }
        // Restarted, perhaps: what listens there now is another socket.
        *self = Syslog::connect(&self.paths)?;
        self.send(record).map_err(io::Error::other)
    }
}

fn logger(paths: &[PathBuf], facility: Facility) -> io::Result<Logger> {
    let socket = UnixDatagram::unbound()?;
    let mut result = Err(io::Error::from(io::ErrorKind::NotFound));
    for path in paths {
        result = socket.connect(path);
        if result.is_ok() {
            break;
        }
    }
    result?;
    let formatter = Formatter3164 {
        facility,
        hostname: None,
        process: IDENTIFIER.to_owned(),
        pid: process::id(),
    };
    Ok(Logger::new(LoggerBackend::Unix(socket), formatter))
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
        // Between them the time, as the crate writes it.
        let is = |line: String, priority: &str, rest: &str| {
            let rest = format!(" hume-bridge[{pid}]: {rest}");
            assert!(
                line.starts_with(priority) && line.ends_with(&rest),
                "{line}"
            );
            assert_eq!(
                line.len(),
                priority.len() + "Nov 22 20:30:00".len() + rest.len()
            );
        };
        syslog.write(&records[0]).unwrap();
        is(
            received(&syslogd),
            "<30>",
            "session created CALL_SID=\"CA1\"",
        );
        // A syslogd that is restarted is found again.
        drop(syslogd);
        assert!(syslog.write(&records[1]).is_err());
        std::fs::remove_file(&path).unwrap();
        let syslogd = UnixDatagram::bind(&path).unwrap();
        syslog.write(&records[1]).unwrap();
        let words = "audit: hang-up uid=0 words=\"a\\nb\"";
        is(received(&syslogd), "<36>", words);
        syslog.write(&records[2]).unwrap();
        assert!(received(&syslogd).len() < 8 * 1024);
    }
}
