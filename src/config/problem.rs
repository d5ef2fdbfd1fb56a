//! What is wrong with a file, where, and how to mend it.
//!
//! A [`Problem`] is one line for a person: `FILE:LINE: key: what; mend`. It names keys and never
//! holds a value that could be a secret or a telephone number; whoever makes one sees to that.
//! Printing escapes control characters, so nothing in a file can draw on a terminal or forge a
//! log line. [`Problems`] is never empty: it is the error of everything that reads a file here.

use std::fmt::{self, Write};

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
