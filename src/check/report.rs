//! What the checks have found, a line each, as they are printed.
//!
//! Text is for people: verdict, check, what was seen, and after a semicolon how to mend it. JSON is
//! one object a line with the same four. Whatever a far end or a file had a word in is escaped: a
//! terminal obeys nobody but its owner.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    Fail,
    /// Not looked at, or nothing could be told.
    Skip,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub check: &'static str,
    pub result: Verdict,
    pub what: String,
    /// What to do about it; "" when there is nothing to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mend: String,
}

impl Finding {
    pub fn ok(check: &'static str, what: impl Into<String>) -> Self {
        Self::new(check, Verdict::Ok, what, "")
    }

    pub fn fail(check: &'static str, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::new(check, Verdict::Fail, what, mend)
    }

    pub fn skip(check: &'static str, why: impl Into<String>) -> Self {
        Self::new(check, Verdict::Skip, why, "")
    }

    pub fn new(
        check: &'static str,
        result: Verdict,
        what: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Finding {
            check,
            result,
            what: what.into(),
            mend: mend.into(),
        }
    }

    fn line(&self, json: bool) -> String {
        if json {
            let object = serde_json::to_string(self).expect("strings always serialise");
            return object + "\n";
        }
        let verdict = match self.result {
            Verdict::Ok => "ok",
            Verdict::Fail => "FAIL",
            Verdict::Skip => "skip",
        };
        let mut line = format!("{verdict:<4} {:<12}", self.check);
        for part in [self.what.as_str(), "; ", self.mend.as_str()] {
            if self.mend.is_empty() && part == "; " {
                break;
            }
            for c in part.chars() {
                // The bidirectional controls reorder what is around them on a terminal.
                let odd = c.is_control()
                    || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
                let _ = match odd {
                    true => write!(line, "{}", c.escape_default()),
                    false => line.write_char(c),
                };
            }
        }
        line.push('\n');
        line
    }
}

/// Prints, and remembers whether all was well.
pub struct Report {
    json: bool,
    failed: bool,
}

impl Report {
    pub fn new(json: bool) -> Self {
        Report {
            json,
            failed: false,
        }
    }

    pub fn add(&mut self, findings: impl IntoIterator<Item = Finding>) {
        let mut out = io::stdout().lock();
        for finding in findings {
            self.failed |= finding.result == Verdict::Fail;
            // A reader that has gone away has seen enough; the exit code still tells.
            let _ = out.write_all(finding.line(self.json).as_bytes());
        }
        let _ = out.flush();
    }

    pub fn failed(&self) -> bool {
        self.failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_for_people_or_for_programs() {
        let ok = Finding::ok("agent", "listens");
        assert_eq!(ok.line(false), "ok   agent       listens\n");
        let object = "{\"check\":\"agent\",\"result\":\"ok\",\"what\":\"listens\"}\n";
        assert_eq!(ok.line(true), object);
        let fail = Finding::fail("listen.http", "taken", "free it");
        assert_eq!(fail.line(false), "FAIL listen.http taken; free it\n");
        assert!(fail.line(true).contains("\"result\":\"fail\""));
        assert!(fail.line(true).contains("\"mend\":\"free it\""));
        assert!(
            Finding::skip("media", "why")
                .line(false)
                .starts_with("skip media ")
        );
    }

    #[test]
    fn nobody_but_its_owner_draws_on_the_terminal() {
        let line = Finding::ok("config", "a\nFAIL\u{1b}[31m\u{202e}").line(false);
        assert_eq!(line, "ok   config      a\\nFAIL\\u{1b}[31m\\u{202e}\n");
    }
}
