use std::{collections::BTreeMap, ffi::OsString};

use super::*;
use crate::daemon::logging::record::{MAX_VALUE, tests::records};

/// What journald makes of a datagram, by the letter of its protocol. Panics where journald would
/// throw it away.
fn fields(mut bytes: &[u8]) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    while !bytes.is_empty() {
        let end = bytes.iter().position(|b| *b == b'\n').expect("a newline");
        match bytes[..end].iter().position(|b| *b == b'=') {
            Some(at) => {
                fields.push((text(&bytes[..at]), text(&bytes[at + 1..end])));
                bytes = &bytes[end + 1..];
            }
            None => {
                let (length, rest) = bytes[end + 1..].split_at(8);
                let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
                fields.push((text(&bytes[..end]), text(&rest[..length])));
                assert_eq!(rest[length], b'\n');
                bytes = &rest[length + 1..];
            }
        }
    }
    for (name, _) in &fields {
        let valid = |c: u8| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'_';
        assert!(name.bytes().all(valid) && name.len() <= 64, "{name}");
        assert!(name.as_bytes()[0].is_ascii_uppercase(), "{name}");
    }
    fields
}

#[test]
fn a_call_is_found_by_its_fields() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    assert!(Journal::connect(&path).is_err(), "nobody is there");
    let journald = UnixDatagram::bind(&path).unwrap();
    let mut journal = Journal::connect(&path).unwrap();
    let records = records(|| {
        tracing::info!(CALL_SID = "CA1", cause = %"caller-hung-up", seconds = 61, "session ended");
        tracing::warn!(target: "audit", limited = true, peer = %"192.0.2.1:9", "refused");
    });
    let mut buffer = [0; 65_536];
    let mut received = |journald: &UnixDatagram| {
        let length = journald.recv(&mut buffer).unwrap();
        fields(&buffer[..length])
    };
    let expected = |expected: &[(&str, &str)]| -> Vec<(String, String)> {
        let expected = expected.iter();
        expected
            .map(|(n, v)| (n.to_string(), v.to_string()))
            .collect()
    };
    journal.write(&records[0]).unwrap();
    assert_eq!(
        received(&journald),
        expected(&[
            (
                "MESSAGE",
                "session ended CALL_SID=\"CA1\" cause=caller-hung-up seconds=61"
            ),
            ("PRIORITY", "6"),
            ("SYSLOG_FACILITY", "3"),
            ("SYSLOG_IDENTIFIER", "hume-bridge"),
            ("TARGET", "hume_bridge::daemon::logging::journal::tests"),
            ("CALL_SID", "CA1"),
            ("CAUSE", "caller-hung-up"),
            ("SECONDS", "61"),
        ])
    );
    // A journald that is restarted loses what is written meanwhile, and no more.
    drop(journald);
    assert!(journal.write(&records[1]).is_err());
    std::fs::remove_file(&path).unwrap();
    let journald = UnixDatagram::bind(&path).unwrap();
    journal.write(&records[1]).unwrap();
    assert_eq!(
        received(&journald),
        expected(&[
            ("MESSAGE", "audit: refused peer=192.0.2.1:9"),
            ("PRIORITY", "4"),
            ("SYSLOG_FACILITY", "4"),
            ("SYSLOG_IDENTIFIER", "hume-bridge"),
            ("TARGET", "audit"),
            ("PEER", "192.0.2.1:9"),
        ])
    );
}

#[test]
fn a_value_cannot_add_a_field() {
    let evil = "x\n_UID=0\nPRIORITY=0\nCALL_SID=CA2";
    for record in records(|| {
        tracing::info!(value = evil, "words");
        tracing::info!(value = %evil, "words");
        tracing::info!(value = ?evil, "words");
        tracing::info!("{evil}");
    }) {
        let fields = fields(&datagram(&record));
        let names: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(&names[..5], TAKEN);
        assert!(names.len() == 5 || names[5..] == ["VALUE"], "{names:?}");
    }
}

#[test]
fn names_are_made_valid_and_none_is_the_journals_own() {
    for (name, expected) in [
        ("cause", Some("CAUSE")),
        ("_uid", Some("UID")),
        ("http.status", Some("HTTP_STATUS")),
        ("2nd", Some("ND")),
        ("message", Some("F_MESSAGE")),
        ("_priority", Some("F_PRIORITY")),
        ("__", None),
        ("ä", None),
    ] {
        assert_eq!(valid(name).as_deref(), expected, "{name}");
    }
    assert_eq!(valid(&"a".repeat(100)).unwrap().len(), 64);
}

#[test]
fn the_longest_line_fits_into_a_datagram() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let journald = UnixDatagram::bind(&path).unwrap();
    let mut journal = Journal::connect(&path).unwrap();
    let long = "\n\u{1}".repeat(MAX_VALUE);
    let record = &records(|| {
        tracing::info!(a = %long, b = long, c = ?long, d = %long, e = long, "{long}");
    })[0];
    journal.write(record).unwrap();
    let mut buffer = vec![0; 1 << 20];
    let length = journald.recv(&mut buffer).unwrap();
    let fields = fields(&buffer[..length]);
    assert!(fields.len() == 10 && length < 64 * 1024, "{length}");
}

/// What stands in the journal stands on standard error too: what is not found there, by the stories
/// about secrets, is not in the journal either.
#[test]
fn the_journal_says_no_more_than_the_line() {
    for record in records(|| {
        tracing::debug!(CALL_SID = "CA1", why = ?Some("x"), bytes = 3, "agent message skipped");
        tracing::error!(target: "audit", error = %"it \"is\"\nlost", "hang-up refused");
    }) {
        let line = record.text();
        let fields: BTreeMap<_, _> = fields(&datagram(&record)).into_iter().collect();
        assert_eq!(fields["MESSAGE"], line);
        for (name, value) in &fields {
            let told = line.contains(value) || line.contains(&format!("{value:?}"));
            assert!(
                told || TAKEN.contains(&name.as_str()),
                "{name}={value}: {line}"
            );
        }
    }
}

#[test]
fn standard_error_is_the_journal_only_where_it_is_that_very_stream() {
    let told = |text: &str| is_stream(&OsString::from(text), 8, 12_345);
    assert!(told("8:12345"));
    for text in ["8:12346", "9:12345", "", "8", "8:", "8:12345:1", "x:y"] {
        assert!(!told(text), "{text}");
    }
}
