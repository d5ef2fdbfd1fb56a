//! Prometheus' text format 0.0.4, as far as it is written here.
//!
//! HELP and TYPE stand once, before a family's samples; the caller hands families over one by one.
//! (Prometheus documentation, "Exposition formats".)

use std::fmt::{Display, Write as _};

/// What `/metrics` is served as.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A document under way.
#[derive(Default)]
pub struct Text(String);

/// The family whose samples come next.
pub struct Samples<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Text {
    pub fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Samples<'_> {
        let text = &mut self.0;
        text.push_str("# HELP ");
        text.push_str(name);
        text.push(' ');
        escape(text, help, false);
        _ = writeln!(text, "\n# TYPE {name} {kind}");
        Samples { text, name }
    }

    pub fn finish(self) -> String {
        self.0
    }
}

impl Samples<'_> {
    /// `suffix` is `""`, or what a histogram's samples are told apart by.
    pub fn add(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        for (n, (key, label)) in labels.iter().enumerate() {
            self.text.push(if n == 0 { '{' } else { ',' });
            self.text.push_str(key);
            self.text.push_str("=\"");
            escape(self.text, label, true);
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        _ = writeln!(self.text, " {value}");
    }
}

/// A quote is special in a label and plain in a help line.
fn escape(text: &mut String, raw: &str, quotes: bool) {
    for c in raw.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if quotes => text.push_str("\\\""),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_announced_once_and_its_labels_are_escaped() {
        let mut text = Text::default();
        let mut samples = text.family("a_total", "counter", "One \"line\"\nand a \\.");
        samples.add("", &[], 7);
        samples.add("", &[("x", "C:\\DIR\nsays \"no\""), ("y", "é")], 0);
        text.family("b_seconds", "gauge", "Time.").add("", &[], 1.5);
        assert_eq!(
            text.finish(),
            "# HELP a_total One \"line\"\\nand a \\\\.\n\
             # TYPE a_total counter\n\
             a_total 7\n\
             a_total{x=\"C:\\\\DIR\\nsays \\\"no\\\"\",y=\"é\"} 0\n\
             # HELP b_seconds Time.\n\
             # TYPE b_seconds gauge\n\
             b_seconds 1.5\n"
        );
    }
}
