//! Where log lines go.
//!
//! `stderr` is one line an event with its fields; under systemd the journal reads it and knows the
//! time itself. `syslog` is the local syslog's socket, facility daemon, severity by level.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use anyhow::Context as _;
use syslog::{Facility, Formatter3164, LoggerBackend};
use tracing::{Level, Metadata, level_filters::LevelFilter};
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{Log, LogLevel, LogTarget};

/// Once, before anything is logged.
pub fn init(log: &Log) -> anyhow::Result<()> {
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let lines = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(false)
        .with_target(false);
    match log.target {
        LogTarget::Auto | LogTarget::Stderr => {
            // Set by systemd when stderr is the journal, which keeps the time itself.
            if std::env::var_os("JOURNAL_STREAM").is_some() {
                lines.with_writer(io::stderr).without_time().init();
            } else {
                lines.with_writer(io::stderr).init();
            }
        }
        LogTarget::Syslog => {
            let writer = Syslog::connect().context("log.target: no local syslog answers")?;
            lines
                .with_writer(writer)
                .without_time()
                .with_level(false)
                .init();
        }
    }
    Ok(())
}

type Logger = syslog::Logger<LoggerBackend, Formatter3164>;

struct Syslog(Arc<Mutex<Logger>>);

impl Syslog {
    fn connect() -> Result<Self, syslog::Error> {
        let formatter = Formatter3164 {
            facility: Facility::LOG_DAEMON,
            hostname: None,
            process: "hume-bridge".to_owned(),
            pid: std::process::id(),
        };
        Ok(Syslog(Arc::new(Mutex::new(syslog::unix(formatter)?))))
    }
}

impl Syslog {
    fn line(&self, level: Level) -> Line {
        Line {
            logger: self.0.clone(),
            level,
            text: Vec::new(),
        }
    }
}

/// One event on its way; sent when it is dropped, whole.
struct Line {
    logger: Arc<Mutex<Logger>>,
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
        let text = text.trim_end();
        let mut logger = self
            .logger
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        // A syslog that is away loses lines; it must not take calls with it.
        _ = match self.level {
            Level::ERROR => logger.err(text),
            Level::WARN => logger.warning(text),
            Level::INFO => logger.info(text),
            _ => logger.debug(text),
        };
    }
}
