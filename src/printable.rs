//! Words of a peer, made fit for a log line.

use std::fmt;

/// At most 64 characters of a peer's text, control characters and quotes escaped.
pub struct Printable<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut characters = self.0.chars();
        for character in characters.by_ref().take(64) {
            write!(f, "{}", character.escape_debug())?;
        }
        if characters.next().is_some() {
            f.write_str("...")
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_cannot_forge_a_log_line() {
        assert_eq!(Printable("a\nb\x1b[31m").to_string(), r"a\nb\u{1b}[31m");
    }

    #[test]
    fn a_peer_cannot_fill_the_log() {
        assert_eq!(
            Printable(&"x".repeat(1000)).to_string(),
            format!("{}...", "x".repeat(64))
        );
    }
}
