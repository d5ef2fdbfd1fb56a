//! Where log lines go.
//!
//! `stderr` is one line an event with its fields; under systemd the journal reads it and knows the
//! time itself. `syslog` is the local syslog's socket, facility daemon, severity by level.

use std::{
    io::{self, Write},
    os::unix::net::UnixDatagram,
    sync::{Arc, Mutex},
};

use anyhow::Context as _;
use syslog::{Facility, Formatter3164, LoggerBackend};
use tracing::{Level, Metadata, level_filters::LevelFilter};
use tracing_subscriber::{
    fmt::MakeWriter, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

use crate::config::{Log, LogLevel, LogTarget};

/// Sets the level while the daemon runs.
pub type SetLevel = Box<dyn Fn(LogLevel) + Send + Sync>;

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    }
}

/// Once, before anything is logged.
pub fn init(log: &Log) -> anyhow::Result<SetLevel> {
    let (filter, handle) = reload::Layer::new(filter(log.level));
    let start = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_target(false);
    match log.target {
        LogTarget::Auto | LogTarget::Stderr => {
            // Set by systemd when stderr is the journal, which keeps the time itself.
            if std::env::var_os("JOURNAL_STREAM").is_some() {
                start
                    .with(lines.with_writer(io::stderr).without_time())
                    .init();
            } else {
                start.with(lines.with_writer(io::stderr)).init();
            }
        }
        LogTarget::Syslog => {
            let writer = Syslog::connect().context("log.target: no local syslog answers")?;
            start
                .with(lines.with_writer(writer).without_time().with_level(false))
                .init();
        }
    }
    // It fails only when the subscriber is gone, and with it everything that could be logged.
    Ok(Box::new(move |level| {
        _ = handle.reload(self::filter(level))
    }))
}

type Logger = syslog::Logger<LoggerBackend, Formatter3164>;

/// The sockets of local syslogs (Linux, and some containers).
const SOCKETS: [&str; 2] = ["/dev/log", "/var/run/syslog"];

/// The local syslog. Never waited for: a line that it cannot take at once is lost, and after a
/// restart of its own it is found again.
#[derive(Clone)]
struct Syslog(Arc<Mutex<Option<Logger>>>);

impl Syslog {
    fn connect() -> io::Result<Self> {
        Ok(Syslog(Arc::new(Mutex::new(Some(logger()?)))))
    }

    fn line(&self, level: Level) -> Line {
        Line {
            syslog: self.clone(),
            level,
            text: Vec::new(),
        }
    }

    fn send(&self, level: Level, text: &str) {
        let mut logger = self
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        for _ in 0..2 {
            if logger.is_none() {
                *logger = self::logger().ok();
            }
            let Some(connected) = logger.as_mut() else {
                return;
            };
            let sent = match level {
                Level::ERROR => connected.err(text),
                Level::WARN => connected.warning(text),
                Level::INFO => connected.info(text),
                _ => connected.debug(text),
            };
            match sent {
                Ok(()) => return,
                Err(error) if is_busy(&error) => return,
                Err(_) => *logger = None,
            }
        }
    }
}

fn logger() -> io::Result<Logger> {
    let formatter = Formatter3164 {
        facility: Facility::LOG_DAEMON,
        hostname: None,
        process: "hume-bridge".to_owned(),
        pid: std::process::id(),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    let mut result = Err(io::Error::from(io::ErrorKind::NotFound));
    for path in SOCKETS {
        result = socket.connect(path);
        if result.is_ok() {
            break;
        }
    }
    result?;
    Ok(Logger::new(LoggerBackend::Unix(socket), formatter))
}

fn is_busy(error: &syslog::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return io.kind() == io::ErrorKind::WouldBlock;
        }
        source = error.source();
    }
    false
}

/// One event on its way; sent when it is dropped, whole.
struct Line {
    syslog: Syslog,
    level: Level,
    text: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Syslog {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        self.line(Level::INFO)
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line {
        self.line(*meta.level())
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.text);
        self.syslog.send(self.level, text.trim_end());
    }
}
