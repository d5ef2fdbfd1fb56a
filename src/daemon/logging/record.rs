//! One line of the log, before anybody decides how it is written.
//!
//! A [`Record`] is taken from an event by the task that logs, owns what it needs and has a bound:
//! a value of [`MAX_VALUE`] bytes, values of [`MAX_VALUES`] together, so that every sink can take
//! every record whole. How it reads as text is said here, for all sinks: one line, and no value can
//! end it, colour it, or look like a field that it is not.

use std::{
    fmt::{self, Write as _},
    time::SystemTime,
};

use tracing::{
    Event, Level, Metadata,
    field::{Field, Visit},
};

/// The target of lines about who was let in and who gave orders.
pub const AUDIT: &str = "audit";
/// A field of this name says that strangers can cause the line as often as they like; see
/// [`repeats`](super::repeats). It is not written.
pub const LIMITED: &str = "limited";

/// Bytes of one value, and of all values of a record; what is beyond is cut.
pub const MAX_VALUE: usize = 8 * 1024;
const MAX_VALUES: usize = 16 * 1024;
/// Bytes of the text. What has to be escaped can be six times as long as it was.
const MAX_TEXT: usize = 32 * 1024;
/// Stands for what was cut.
const CUT: &str = "...";

/// What a record is about, apart from its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub at: SystemTime,
    pub level: Level,
    pub target: &'static str,
    pub message: String,
    pub fields: Vec<(&'static str, Value)>,
}

/// A field's value, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of a string; always in quotes.
    Text(String),
    /// Of anything else; in quotes where it would not be one word.
    Other(String),
}

impl Value {
    pub fn as_str(&self) -> &str {
        match self {
            Value::Text(text) | Value::Other(text) => text,
        }
    }
}

impl Record {
    /// A line of the log's own.
    pub fn ours(level: Level, message: &str, fields: Vec<(&'static str, Value)>) -> Self {
        Record {
            at: SystemTime::now(),
            level,
            target: module_path!(),
            message: message.to_owned(),
            fields,
        }
    }

    pub fn of(event: &Event<'_>) -> Self {
        let metadata = event.metadata();
        let mut reader = Reader {
            room: MAX_VALUES,
            record: Record {
                at: SystemTime::now(),
                level: *metadata.level(),
                target: metadata.target(),
                message: String::new(),
                fields: Vec::with_capacity(metadata.fields().len()),
            },
        };
        event.record(&mut reader);
        reader.record
    }

    pub fn is_audit(&self) -> bool {
        self.target == AUDIT
    }

    /// What the record takes while it waits, in bytes and roughly.
    pub fn cost(&self) -> usize {
        let fields = self.fields.iter();
        let values: usize = fields.map(|(_, value)| value.as_str().len()).sum();
        size_of::<Record>() + self.message.len() + values + 64 * self.fields.len()
    }

    /// `message NAME="some words" OTHER=1`, with `audit: ` before it where it is that; no newline.
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(160);
        if self.is_audit() {
            text.push_str("audit: ");
        }
        for c in self.message.chars() {
            match c {
                '"' | '\'' | '\\' => text.push(c),
                c => text.extend(c.escape_debug()),
            }
        }
        for (name, value) in &self.fields {
            // Writing to a String does not fail.
            _ = match value {
                Value::Other(word) if is_word(word) => write!(text, " {name}={word}"),
                value => write!(text, " {name}={:?}", value.as_str()),
            };
        }
        cut(&mut text, MAX_TEXT);
        text
    }
}

/// Whether a reader cannot mistake it for anything but one value.
fn is_word(value: &str) -> bool {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '=' | '\\');
    !value.is_empty() && value.chars().all(plain)
}

fn cut(text: &mut String, limit: usize) {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit));
        text.push_str(CUT);
    }
}

/// Whether an event of this kind is one that strangers can cause without limit.
pub fn is_limited(metadata: &Metadata<'_>) -> bool {
    metadata.fields().field(LIMITED).is_some()
}

/// Reads an event's values, as far as there is room.
struct Reader {
    room: usize,
    record: Record,
}

impl Reader {
    fn take(&mut self, field: &Field, value: fmt::Arguments<'_>, as_value: fn(String) -> Value) {
        if field.name() == LIMITED {
            return;
        }
        let mut written = Bounded {
            text: String::new(),
            room: self.room.min(MAX_VALUE),
        };
        // An error is the end of the room, or that of a Display that does not know how to go on.
        if written.write_fmt(value).is_err() {
            written.text.push_str(CUT);
        }
        self.room -= written.text.len().min(self.room);
        if field.name() == "message" {
            self.record.message = written.text;
        } else {
            self.record
                .fields
                .push((field.name(), as_value(written.text)));
        }
    }
}

impl Visit for Reader {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, format_args!("{value}"), Value::Text);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, format_args!("{value:?}"), Value::Other);
    }
}

/// Takes what there is room for; more is an error, which ends the writing.
struct Bounded {
    text: String,
    room: usize,
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let fits = more.floor_char_boundary(self.room.min(more.len()));
        self.text.push_str(&more[..fits]);
        self.room -= fits;
        if fits == more.len() {
            Ok(())
        } else {
            Err(fmt::Error)
        }
    }
}

#[cfg(test)]
pub mod tests {
    use std::sync::Mutex;

    use super::*;

    /// The records that `log` logs.
    pub fn records(log: impl FnOnce()) -> Vec<Record> {
        use tracing::{Subscriber, span};

        struct Keep(Mutex<Vec<Record>>);

        impl Subscriber for &'static Keep {
            fn enabled(&self, _: &Metadata<'_>) -> bool {
                true
            }
            fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
                span::Id::from_u64(1)
            }
            fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
            fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
            fn event(&self, event: &Event<'_>) {
                self.0.lock().unwrap().push(Record::of(event));
            }
            fn enter(&self, _: &span::Id) {}
            fn exit(&self, _: &span::Id) {}
        }

        let keep: &'static Keep = Box::leak(Box::new(Keep(Mutex::default())));
        tracing::subscriber::with_default(keep, log);
        std::mem::take(&mut keep.0.lock().unwrap())
    }

    fn text(log: impl FnOnce()) -> String {
        records(log)[0].text()
    }

    #[test]
    fn a_line_reads_as_its_event_was_written() {
        let line = text(|| {
            tracing::info!(CALL_SID = "CA1", seconds = 4, ok = true, cause = %"lost", "it is \"over\"");
        });
        assert_eq!(
            line,
            r#"it is "over" CALL_SID="CA1" seconds=4 ok=true cause=lost"#
        );
        let line = text(|| tracing::warn!(target: "audit", limited = true, uid = 7, "refused"));
        assert_eq!(line, "audit: refused uid=7");
    }

    #[test]
    fn a_value_cannot_be_a_line_or_a_field_of_its_own() {
        let evil = "x\ny CALL_SID=\"CA2\" \u{1b}[31m\u{202e}";
        for line in [
            text(|| tracing::info!(value = evil, "words")),
            text(|| tracing::info!(value = %evil, "words")),
        ] {
            assert_eq!(
                line,
                r#"words value="x\ny CALL_SID=\"CA2\" \u{1b}[31m\u{202e}""#
            );
        }
        assert_eq!(text(|| tracing::info!("{evil}")).lines().count(), 1);
        assert_eq!(
            text(|| tracing::info!(a = %"", b = %"c=d", "x")),
            r#"x a="" b="c=d""#
        );
    }

    #[test]
    fn a_line_has_a_bound() {
        let long = "\u{1}".repeat(MAX_VALUE + 1);
        let record = &records(|| {
            tracing::info!(a = %long, b = long, c = ?long, d = long, e = 1, "{long}");
        })[0];
        let values: usize = record.fields.iter().map(|(_, v)| v.as_str().len()).sum();
        let bound = MAX_VALUES + CUT.len() * record.fields.len();
        assert!(values + record.message.len() <= bound + CUT.len());
        assert!(record.text().len() <= MAX_TEXT + CUT.len());
        assert!(record.text().ends_with(CUT));
        let umlauts = "ä".repeat(MAX_VALUE);
        let record = &records(|| tracing::info!(umlauts, "x"))[0];
        assert_eq!(record.fields[0].1.as_str().len(), MAX_VALUE + CUT.len());
    }
}
