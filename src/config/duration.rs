//! Durations as the file writes them: `"20ms"`, `"5s"`, `"28m"`, `"2h"`.
//!
//! A whole number and one unit, nothing else: `"1.5s"` and `"1h30m"` would be two ways to say one
//! thing. A number without a unit is never guessed at.

use std::time::Duration;

/// In milliseconds, as the others.
pub(super) const SECOND: u64 = 1000;
pub(super) const MINUTE: u64 = 60 * SECOND;
pub(super) const HOUR: u64 = 60 * MINUTE;

const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", SECOND), ("m", MINUTE), ("h", HOUR)];

/// Why a text is no duration.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotADuration {
    NoUnit,
    Malformed,
}

pub(super) fn parse(text: &str) -> Result<Duration, NotADuration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if digits > 0 && unit.is_empty() {
        return Err(NotADuration::NoUnit);
    }
    let number: u64 = number.parse().map_err(|_| NotADuration::Malformed)?;
    UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .and_then(|(_, milliseconds)| number.checked_mul(*milliseconds))
        .map(Duration::from_millis)
        .ok_or(NotADuration::Malformed)
}

/// As the file would write it, in the largest unit that loses nothing.
pub(super) fn write(duration: Duration) -> String {
    let milliseconds = duration.as_millis() as u64;
    let (unit, size) = UNITS
        .iter()
        .rev()
        .find(|(_, size)| milliseconds >= *size && milliseconds.is_multiple_of(*size))
        .unwrap_or(&UNITS[0]);
    format!("{}{unit}", milliseconds / size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        for text in ["20ms", "5s", "28m", "2h", "1500ms", "90m", "0ms"] {
            assert_eq!(write(parse(text).unwrap()), text);
        }
        assert_eq!(parse("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(write(Duration::from_secs(60)), "1m");
    }

    #[test]
    fn nothing_is_guessed() {
        assert_eq!(parse("20"), Err(NotADuration::NoUnit));
        let overflow = "99999999999999999999h";
        for text in [
            "",
            "s",
            "1.5s",
            "-5s",
            "5 s",
            "5S",
            "5min",
            "1h30m",
            " 5s",
            overflow,
            "9999999999999999h",
        ] {
            assert_eq!(parse(text), Err(NotADuration::Malformed), "{text}");
        }
    }
}
