//! Standard error: one line a record, with its time, for a terminal, a file or a supervisor's pipe.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd as _,
    thread::sleep,
    time::{Duration, Instant},
};

use super::{queue::Sink, record::Record};

/// Somebody who shares our standard error may have made it non-blocking; for so long it is waited
/// for all the same, looking so often.
const BUSY_LIMIT: Duration = Duration::from_secs(1);
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// A stream of lines.
pub struct Stream<W> {
    to: W,
    /// Whoever reads knows the time itself.
    timeless: bool,
    /// A line was begun and not ended: the next one begins with its end.
    torn: bool,
}

impl Stream<File> {
    /// A descriptor of our own: Rust's has a lock, and a write that has stalled would hold it.
    pub fn stderr(timeless: bool) -> io::Result<Self> {
        let stderr = io::stderr().as_fd().try_clone_to_owned()?;
        Ok(Stream::new(File::from(stderr), timeless))
    }
}

impl<W: Write> Stream<W> {
    pub fn new(to: W, timeless: bool) -> Self {
        Stream {
            to,
            timeless,
            torn: false,
        }
    }
}

impl<W: Write + Send> Sink for Stream<W> {
    fn write(&mut self, record: &Record) -> io::Result<()> {
        let (level, text) = (record.level, record.text());
        let line = if self.timeless {
            format!("{level:>5} {text}\n")
        } else {
            // A clock outside the years that RFC 3339 can write is shown as its beginning.
            let at = jiff::Timestamp::try_from(record.at).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
            format!("{at:.6} {level:>5} {text}\n")
        };
        let line = if self.torn { format!("\n{line}") } else { line };
        let mut rest = line.as_bytes();
        let result = write_all(&mut self.to, &mut rest);
        if rest.len() < line.len() {
            self.torn = !rest.is_empty();
        }
        result
    }
}

/// Like `Write::write_all`, but tells in `rest` how far it came.
fn write_all(to: &mut impl Write, rest: &mut &[u8]) -> io::Result<()> {
    let mut busy_since = None;
    while !rest.is_empty() {
        match to.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                *rest = &rest[written..];
                busy_since = None;
            }
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock
                    if busy_since.get_or_insert_with(Instant::now).elapsed() < BUSY_LIMIT =>
                {
                    sleep(BUSY_PAUSE);
                }
                _ => return Err(error),
            },
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use tracing::Level;

    use super::*;
    use crate::daemon::logging::record::Value;

    fn record(message: &str) -> Record {
        Record {
            at: UNIX_EPOCH + Duration::from_micros(1_766_431_619_000_001),
            ..Record::ours(
                Level::INFO,
                message,
                vec![("calls", Value::Other("2".into()))],
            )
        }
    }

    #[test]
    fn a_line_has_its_time_where_the_reader_has_none() {
        let mut stream = Stream::new(Vec::new(), false);
        stream.write(&record("draining")).unwrap();
        stream.timeless = true;
        stream.write(&record("draining")).unwrap();
        let text = String::from_utf8(stream.to).unwrap();
        assert_eq!(
            text,
            "2025-12-22T19:26:59.000001Z  INFO draining calls=2\n INFO draining calls=2\n"
        );
    }

    /// A disk with so much room left.
    struct Disk {
        room: usize,
        text: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let fits = bytes.len().min(self.room);
            if fits == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= fits;
            self.text.extend_from_slice(&bytes[..fits]);
            Ok(fits)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_was_torn_does_not_spoil_the_next() {
        let disk = Disk {
            room: 10,
            text: Vec::new(),
        };
        let mut stream = Stream::new(disk, true);
        for _ in 0..2 {
            let error = stream.write(&record("one")).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        }
        stream.to.room = 1000;
        stream.write(&record("two")).unwrap();
        stream.write(&record("three")).unwrap();
        let text = String::from_utf8(stream.to.text).unwrap();
        assert_eq!(text, " INFO one \n INFO two calls=2\n INFO three calls=2\n");
    }
}
