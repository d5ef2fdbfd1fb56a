//! Where log lines go.
//!
//! Whoever logs hands a [`record`] to a bounded [`queue`] and goes on; one thread writes to
//! standard error ([`stream`]), the [`journal`] or the local [`syslog`], and audit lines to the
//! latter besides where the config says so. Nobody else in the house waits for a log, and no state
//! of the log ends the house. What strangers can cause without limit is bounded by [`repeats`].
//!
//! What a line says is up to those who log. Here it is made sure that it stays one line, that it
//! has a bound, and that no value of it can look like another field.

mod journal;
mod queue;
mod record;
mod repeats;
mod stream;
mod syslog;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    panic::{self, PanicHookInfo},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Context as _;
use tracing::{
    Event, Metadata, Subscriber,
    level_filters::LevelFilter,
    span::{self, Attributes, Id},
    subscriber::Interest,
};

use self::{
    journal::Journal,
    queue::{Queue, Sink, Sinks},
    record::{AUDIT, Record, is_limited},
    stream::Stream,
    syslog::Syslog,
};
use crate::{
    config::{self, LogAudit, LogLevel, LogTarget},
    metrics::Metrics,
};

/// Who we are in the journal and in syslog.
const IDENTIFIER: &str = "hume-bridge";
/// For what is queued when the process ends.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// Sets the level while the daemon runs.
pub type SetLevel = Box<dyn Fn(LogLevel) + Send + Sync>;

/// The log of this process. Whatever way the process ends, what is queued is written when this is
/// dropped, unless that takes too long.
pub struct Log {
    queue: Arc<Queue>,
    level: Arc<AtomicU8>,
    stderr: bool,
}

impl Log {
    /// Opens the log and takes panics into it; once in a process, before anything is logged.
    pub fn open(config: &config::Log, metrics: Arc<Metrics>) -> anyhow::Result<Log> {
        let (log, stderr) = sink(config.target)?;
        // The syslog gets audit lines once.
        let twice = config.audit == LogAudit::Syslog && config.target != LogTarget::Syslog;
        let audit = if twice {
            Some(local_syslog("log.audit", "log")?)
        } else {
            None
        };
        let (queue, _) =
            Queue::start(Sinks { log, audit }, metrics).context("cannot start the log's thread")?;
        let level = Arc::new(AtomicU8::new(config.level as u8));
        let lines = Lines {
            queue: queue.clone(),
            level: level.clone(),
        };
        tracing::subscriber::set_global_default(lines).context("the log is open already")?;
        panic::set_hook(Box::new(panicked));
        Ok(Log {
            queue,
            level,
            stderr,
        })
    }

    pub fn set_level(&self) -> SetLevel {
        let level = self.level.clone();
        Box::new(move |new| {
            level.store(new as u8, Relaxed);
            tracing_core::callsite::rebuild_interest_cache();
        })
    }

    /// Whether what is logged reaches whoever reads standard error.
    pub fn is_stderr(&self) -> bool {
        self.stderr
    }

    /// Writes what is queued, within bounds, and nothing after that.
    pub fn close(&self) {
        self.queue.close(FLUSH_LIMIT);
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.close();
    }
}

/// The target's sink, and whether it comes out where standard error does.
fn sink(target: LogTarget) -> anyhow::Result<(Box<dyn Sink>, bool)> {
    let stderr = |timeless| Stream::stderr(timeless).context("log.target: no standard error");
    Ok(match target {
        LogTarget::Auto if journal::is_stderr() => {
            match Journal::connect(Path::new(journal::SOCKET)) {
                Ok(journal) => (Box::new(journal), true),
                // In a container, say, that was given the stream and not the socket. What comes
                // through the stream gets its time there.
                Err(_) => (Box::new(stderr(true)?), true),
            }
        }
        LogTarget::Auto | LogTarget::Stderr => (Box::new(stderr(journal::is_stderr())?), true),
        LogTarget::Journal => {
            let journal = Journal::connect(Path::new(journal::SOCKET)).with_context(|| {
                let path = journal::SOCKET;
                format!("log.target: no journal answers at {path}; write \"auto\" or \"stderr\"")
            })?;
            (Box::new(journal), journal::is_stderr())
        }
        LogTarget::Syslog => (local_syslog("log.target", "auto")?, false),
    })
}

fn local_syslog(key: &str, other: &str) -> anyhow::Result<Box<dyn Sink>> {
    let syslog = Syslog::connect(&syslog::SOCKETS).with_context(|| {
        let paths = syslog::SOCKETS.join(" or ");
        format!("{key}: no syslog answers at {paths}; start one, or write \"{other}\"")
    })?;
    Ok(Box::new(syslog))
}

/// A panic costs what it costs, and is seen. Its words are told only where they are fixed: those
/// that are put together can hold what a caller said.
fn panicked(panic: &PanicHookInfo<'_>) {
    let at = panic.location().map(ToString::to_string);
    let words = panic.payload().downcast_ref::<&'static str>().copied();
    // Only where RUST_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    let backtrace =
        (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(at, words, backtrace, "panicked");
}

/// Takes events to the queue. Knows no spans: there are none in the house.
struct Lines {
    queue: Arc<Queue>,
    level: Arc<AtomicU8>,
}

impl Lines {
    fn filter(&self) -> LevelFilter {
        match self.level.load(Relaxed) {
            0 => LevelFilter::ERROR,
            1 => LevelFilter::WARN,
            2 => LevelFilter::INFO,
            _ => LevelFilter::DEBUG,
        }
    }
}

/// What libraries would say of their own is left out: nobody has promised what is in it.
fn is_ours(target: &str) -> bool {
    target == AUDIT || target.split("::").next() == Some("hume_bridge")
}

impl Subscriber for Lines {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Who was let in and who gave orders is told whatever else is.
        let filter = match metadata.target() {
            AUDIT => self.filter().max(LevelFilter::INFO),
            _ => self.filter(),
        };
        !metadata.is_span() && *metadata.level() <= filter && is_ours(metadata.target())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.filter().max(LevelFilter::INFO))
    }

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let kind = is_limited(metadata).then(|| metadata.callsite());
        if kind.clone().is_none_or(|kind| self.queue.permits(kind)) {
            self.queue.push(Record::of(event), kind.as_ref());
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[cfg(test)]
mod tests {
    use std::{panic::catch_unwind, thread};

    use super::{record::tests::records, *};

    #[test]
    fn a_panic_is_logged_without_the_words_that_are_not_ours() {
        let (me, before) = (thread::current().id(), panic::take_hook());
        // Other tests may panic meanwhile, and keep their hook.
        panic::set_hook(Box::new(move |panic| {
            if thread::current().id() == me {
                panicked(panic);
            } else {
                before(panic);
            }
        }));
        let spoken = "my secret".to_owned();
        let records = records(|| {
            _ = catch_unwind(|| panic!("this cannot be"));
            _ = catch_unwind(|| panic!("cannot read {spoken}"));
        });
        _ = panic::take_hook();
        let lines: Vec<_> = records.iter().map(Record::text).collect();
        assert_eq!(lines.len(), 2);
        let at = |line: &str| line.starts_with("panicked at=\"src/daemon/logging/mod.rs:");
        assert!(lines.iter().all(|line| at(line)), "{lines:?}");
        assert!(lines[0].contains(r#"words="this cannot be""#), "{lines:?}");
        assert!(!lines[1].contains("words=") && !lines[1].contains("secret"));
    }

    #[test]
    fn audit_lines_are_enabled_at_every_level_and_libraries_at_none() {
        let (queue, _) = Queue::start(
            Sinks {
                log: Box::new(Stream::new(std::io::sink(), true)),
                audit: None,
            },
            Arc::default(),
        )
        .unwrap();
        let lines = |level: LogLevel| Lines {
            queue: queue.clone(),
            level: Arc::new(AtomicU8::new(level as u8)),
        };
        for (level, info, debug) in [
            (LogLevel::Error, false, false),
            (LogLevel::Warn, false, false),
            (LogLevel::Info, true, false),
            (LogLevel::Debug, true, true),
        ] {
            let (mut seen, lines) = (Vec::new(), lines(level));
            tracing::subscriber::with_default(lines, || {
                seen.extend([
                    tracing::enabled!(tracing::Level::INFO),
                    tracing::enabled!(tracing::Level::DEBUG),
                    tracing::enabled!(target: "audit", tracing::Level::INFO),
                    tracing::enabled!(target: "audit", tracing::Level::DEBUG),
                    tracing::enabled!(tracing::Level::ERROR),
                    tracing::enabled!(target: "hyper_util::client", tracing::Level::ERROR),
                    tracing::enabled!(target: "hume_bridge_too", tracing::Level::ERROR),
                ]);
            });
            assert_eq!(
                seen,
                [info, debug, true, debug, true, false, false],
                "{level:?}"
            );
        }
    }
}
