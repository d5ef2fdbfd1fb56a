//! Sizes as the file writes them: `"512B"`, `"16KiB"`, `"1MiB"`.
//!
//! A whole number and one unit, nothing else, as with durations. `"64k"` and `"64KB"` are never
//! guessed at: half of the world means 64000 by them.

const UNITS: [(&str, usize); 3] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20)];

pub(super) fn parse(text: &str) -> Option<usize> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: usize = number.parse().ok()?;
    let (_, bytes) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*bytes)
}

/// As the file would write it, in the largest unit that loses nothing.
pub(super) fn write(bytes: usize) -> String {
    let (unit, size) = UNITS
        .iter()
        .rev()
        .find(|(_, size)| bytes >= *size && bytes.is_multiple_of(*size))
        .unwrap_or(&UNITS[0]);
    format!("{}{unit}", bytes / size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        for text in ["0B", "512B", "16KiB", "1025B", "3MiB"] {
            assert_eq!(write(parse(text).unwrap()), text);
        }
        assert_eq!(parse("1024KiB"), parse("1MiB"));
    }

    #[test]
    fn nothing_is_guessed() {
        for text in [
            "", "B", "16", "16k", "16KB", "16kib", "1.5KiB", "-1B", "16 KiB",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse("99999999999999999999MiB"), None);
        assert_eq!(parse("18446744073709551615MiB"), None);
    }
}
