//! What is wrong with a file, where, and how to mend it.
//!
//! A [`Problem`] is one line for a person: `FILE:LINE: key: what; mend`. It names keys and never
//! holds a value that could be a secret or a telephone number; whoever makes one sees to that.
//! Printing escapes control characters, so nothing in a file can draw on a terminal or forge a
//! log line. [`Problems`] is never empty: it is the error of everything that reads a file here.

use std::{
    fmt::{self, Write},
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

/// One thing to mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file as the operator named it, or where else the value came from. Empty when whoever
    /// asked knows.
    pub file: String,
    /// Counted from 1; `None` when it is about the file as a whole.
    pub line: Option<usize>,
    /// `section.key`; empty when the problem has no key, as with broken syntax.
    pub key: String,
    pub what: String,
    /// What to do about it.
    pub mend: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = Escape(f);
        if !self.file.is_empty() {
            f.write_str(&self.file)?;
            if let Some(line) = self.line {
                write!(f, ":{line}")?;
            }
            f.write_str(": ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)?;
        if !self.mend.is_empty() {
            write!(f, "; {}", self.mend)?;
        }
        Ok(())
    }
}

/// All that is wrong, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// `None` when there is nothing to report. Sorted by line; what has no line comes last.
    pub(super) fn collect(mut problems: Vec<Problem>) -> Option<Self> {
        problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
        (!problems.is_empty()).then_some(Problems(problems))
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Problems(vec![problem])
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// One line a problem, without a newline after the last.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_char('\n')?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Writes through, with control characters as `\n`, `\u{1b}`.
pub(super) struct Escape<W>(pub W);

impl<W: Write> Write for Escape<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            self.write_char(c)?;
        }
        Ok(())
    }

    fn write_char(&mut self, c: char) -> fmt::Result {
        // The bidirectional controls reorder what is around them on a terminal.
        if c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            write!(self.0, "{}", c.escape_default())
        } else {
            self.0.write_char(c)
        }
    }
}

/// The name of a key or a command as the operator wrote it, fit for a message: short, on one line.
pub(super) fn name(written: &str) -> String {
    const MOST: usize = 48;
    let mut out = String::new();
    let mut escape = Escape(&mut out);
    for c in written.chars().take(MOST) {
        let _ = escape.write_char(c);
    }
    if written.chars().nth(MOST).is_some() {
        out.push_str("...");
    }
    out
}

/// Whether a wrong word may be repeated to the operator: it looks like a slip in a name, not like
/// a key, a number or a sentence that has come to stand in the wrong place.
pub(super) fn harmless(word: &str) -> bool {
    (1..=16).contains(&word.len())
        && word
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b == b'-' || b == b'_')
}

/// A path as a shell takes it, whatever is in it, to be copied from a message.
pub(super) fn shell_word(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"/._-+=:@%,".contains(b);
    let dash = if bytes.first() == Some(&b'-') {
        "./"
    } else {
        ""
    };
    match path.to_str() {
        Some(text) if bytes.iter().all(plain) => format!("{dash}{text}"),
        Some(text) if !text.contains(|c: char| c.is_control()) => {
            format!("'{dash}{}'", text.replace('\'', r"'\''"))
        }
        _ => {
            let escaped: String = bytes
                .iter()
                .map(|b| match b {
                    b'\'' | b'\\' => format!("\\{}", *b as char),
                    b' '..=b'~' => (*b as char).to_string(),
                    _ => format!("\\{b:03o}"),
                })
                .collect();
            format!("$'{dash}{escaped}'")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn a_path_in_advice_can_be_pasted_into_a_shell() {
        let word = |bytes: &[u8]| shell_word(Path::new(OsStr::from_bytes(bytes)));
        assert_eq!(word(b"/etc/hume-bridge/c.json"), "/etc/hume-bridge/c.json");
        assert_eq!(word(b"-rf"), "./-rf");
        assert_eq!(word(b"/a b;$(reboot)"), "'/a b;$(reboot)'");
        assert_eq!(word(b"/it's"), r"'/it'\''s'");
        assert_eq!(word(b"/a\nb'\xff"), r"$'/a\012b\'\377'");
    }
}
