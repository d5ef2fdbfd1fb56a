//! Takes known keys out of a TOML document and reports whatever is left.
//!
//! A [`Section`] lends its values to checks by name, one key at a time; closing it reports the
//! keys that nobody asked for, with the name that was probably meant. Nothing stops at the first
//! problem. A line that is broken as TOML is reported once, as that: what the parser makes of the
//! rest of such a line is guesswork, and could be a secret that has lost its quotes.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue},
};

use super::{
    check::{Checked, Complaint, kind},
    file::{LISTS, known_keys},
    problem::{Problem, Problems, name},
    secret::{WHERE_SECRETS_GO, names_a_secret},
    suggest,
};

/// Gathers the problems of one file.
pub(super) struct Report<'t> {
    file: String,
    text: &'t str,
    /// Where each line begins: a file that is no config at all has a problem on every line.
    starts: Vec<usize>,
    /// Lines that are no TOML.
    broken: BTreeSet<usize>,
    problems: Vec<Problem>,
}

impl<'t> Report<'t> {
    pub fn new(file: &str, text: &'t str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        Report {
            file: file.to_owned(),
            text,
            starts: [0].into_iter().chain(ends).collect(),
            broken: BTreeSet::new(),
            problems: Vec::new(),
        }
    }

    /// Parses the text, reporting each line that is no TOML, and gives what could be read.
    pub fn parse(&mut self) -> DeTable<'t> {
        let (document, errors) = DeTable::parse_recoverable(self.text);
        let mut reported = BTreeSet::new();
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            // An error may begin on one line and show on another; neither can be trusted.
            let first = self.line(span.start);
            let last = self.line(span.end.saturating_sub(1)).max(first);
            self.broken.extend(first..=last);
            if reported.insert(first) {
                // The message alone: the error's own Display quotes the line.
                let begun = self.text.get(self.starts[first - 1]..).unwrap_or("");
                let line = begun.lines().next().unwrap_or("");
                let (what, mend) = syntax(error.message(), line);
                self.add(Some(first), "", what, mend);
            }
        }
        self.distrust_below_broken_headers();
        document.into_inner()
    }

    /// Under a section header that cannot be read, nobody knows whose the keys are.
    fn distrust_below_broken_headers(&mut self) {
        let mut below = false;
        for (n, line) in self.text.lines().enumerate() {
            if line.trim_start().starts_with('[') {
                below = self.broken.contains(&(n + 1));
            } else if below {
                self.broken.insert(n + 1);
            }
        }
    }

    pub fn is_broken(&self) -> bool {
        !self.broken.is_empty()
    }

    pub fn line(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset)
    }

    pub fn add(
        &mut self,
        line: Option<usize>,
        key: impl Into<String>,
        what: impl Into<String>,
        mend: impl Into<String>,
    ) {
        self.problems.push(Problem {
            file: self.file.clone(),
            line,
            key: key.into(),
            what: what.into(),
            mend: mend.into(),
        });
    }

    /// The same for something outside the file.
    pub fn add_elsewhere(&mut self, place: &str, key: &str, complaint: Complaint) {
        self.problems.push(Problem {
            file: place.to_owned(),
            line: None,
            key: key.to_owned(),
            what: complaint.what,
            mend: complaint.mend,
        });
    }

    /// About a key at this place, unless its line is broken anyway.
    fn at(&mut self, span: Range<usize>, key: &str, complaint: Complaint) {
        let line = self.line(span.start);
        if !self.broken.contains(&line) {
            self.add(Some(line), key, complaint.what, complaint.mend);
        }
    }

    pub fn into_problems(self) -> Option<Problems> {
        Problems::collect(self.problems)
    }
}

/// What the parser says of a line, and what to do.
fn syntax(message: &str, line: &str) -> (String, &'static str) {
    const PAIR: &str = "write it as key = value, with strings in quotes";
    if line.trim_end().ends_with('=') {
        return ("not TOML: key with no value".to_owned(), PAIR);
    }
    // What the grammar would have taken instead helps only where the mend is not known.
    let (plain, _) = message.split_once(", expected").unwrap_or((message, ""));
    let mend = if message.contains("duplicate key") {
        "keep one of them"
    } else if message.contains("multi-line") {
        "close the string with the three quotes it began with"
    } else if message.contains("quote") || message.contains("string") {
        "put the string in quotes, and close them on the same line"
    } else if message.contains("key with no value") || message.contains("missing value") {
        PAIR
    } else {
        let mend = "mend this line; a key is written as key = value, a section as [name]";
        return (format!("not TOML: {message}"), mend);
    };
    (format!("not TOML: {plain}"), mend)
}

/// One table of the document, being read.
pub(super) struct Section<'r, 't> {
    report: &'r mut Report<'t>,
    /// What its keys are known by: `""` for the top of the file, `listen`, `route`.
    path: String,
    /// The same for people: of several, `route[2]`.
    place: String,
    /// Of its header.
    span: Range<usize>,
    entries: DeTable<'t>,
}

impl<'r, 't> Section<'r, 't> {
    pub fn top(report: &'r mut Report<'t>, document: DeTable<'t>) -> Self {
        Section {
            report,
            path: String::new(),
            place: String::new(),
            span: 0..0,
            entries: document,
        }
    }

    /// `[name]`, empty when the file does not have it.
    pub fn section(&mut self, name: &str) -> Section<'_, 't> {
        let path = join(&self.path, name);
        self.table(name, path)
    }

    /// A table that has the keys of another section: `route[2].keys` those of `[keys]`.
    pub fn section_like(&mut self, name: &str, known: &str) -> Section<'_, 't> {
        self.table(name, known.to_owned())
    }

    fn table(&mut self, name: &str, path: String) -> Section<'_, 't> {
        let place = self.full(name);
        let (span, entries) = match self.entries.remove_entry(name) {
            None => (0..0, DeTable::new()),
            Some((key, value)) => match value.into_inner() {
                DeValue::Table(table) => (key.span(), table),
                other => {
                    let what = format!("is {}, not a section", kind(&other));
                    let mend = match self.path.is_empty() {
                        true => format!("write [{place}] on a line of its own, its keys below"),
                        false => format!("write {name} = {{ ... }}"),
                    };
                    self.report.at(key.span(), &place, Complaint { what, mend });
                    (key.span(), DeTable::new())
                }
            },
        };
        Section {
            report: self.report,
            path,
            place,
            span,
            entries,
        }
    }

    /// Every `[[name]]`, in the order of the file, counted from 1.
    pub fn list(&mut self, name: &str, mut each: impl FnMut(usize, Section<'_, 't>)) {
        let Some((key, value)) = self.entries.remove_entry(name) else {
            return;
        };
        let mend = format!("write [[{name}]] on a line of its own before the keys of each");
        let complain = |report: &mut Report<'t>, span, place: &str, what: String| {
            let mend = mend.clone();
            report.at(span, place, Complaint { what, mend });
        };
        // What stands in single brackets is meant as one of them: it is read on.
        let entries: Vec<_> = match value {
            value if value.get_ref().as_table().is_some() => {
                let what = "is one section, and there may be several".to_owned();
                complain(self.report, key.span(), name, what);
                vec![value]
            }
            value => match value.into_inner() {
                DeValue::Array(list) => list.into_iter().collect(),
                other => {
                    let what = format!("is {}, not a list of sections", kind(&other));
                    complain(self.report, key.span(), name, what);
                    Vec::new()
                }
            },
        };
        for (n, value) in entries.into_iter().enumerate() {
            let place = format!("{name}[{}]", n + 1);
            let span = value.span();
            match value.into_inner() {
                DeValue::Table(entries) => each(
                    n + 1,
                    Section {
                        report: self.report,
                        path: name.to_owned(),
                        place,
                        span,
                        entries,
                    },
                ),
                other => {
                    let what = format!("is {}, not a section", kind(&other));
                    complain(self.report, span, &place, what);
                }
            }
        }
    }

    /// The key's value as `check` has it; `None` when it is not there or has been complained of.
    pub fn read<T>(
        &mut self,
        key: &str,
        check: impl FnOnce(&DeValue<'t>) -> Checked<T>,
    ) -> Option<T> {
        let value = self.entries.get(key)?;
        // A secret in an inline table is the worse mistake of the two.
        if secrets_within(self.report, &join(&self.place, key), value.get_ref()) {
            self.entries.remove(key);
            return None;
        }
        self.read_as_it_is(key, check)
    }

    /// The same for a value in which names are the operator's own, and may be those of secrets.
    pub fn read_as_it_is<T>(
        &mut self,
        key: &str,
        check: impl FnOnce(&DeValue<'t>) -> Checked<T>,
    ) -> Option<T> {
        let place = self.full(key);
        let (key, value) = self.entries.remove_entry(key)?;
        match check(value.get_ref()) {
            Ok(value) => Some(value),
            Err(complaint) => {
                self.report.at(key.span(), &place, complaint);
                None
            }
        }
    }

    /// What a key must be that has to be there: without it, `mend` is how to write it.
    pub fn need<T>(
        &mut self,
        key: &str,
        mend: &str,
        check: impl FnOnce(&DeValue<'t>) -> Checked<T>,
    ) -> Option<T> {
        if !self.has(key) {
            // In a broken file it may well stand there, unseen.
            if self.report.is_broken() {
                return None;
            }
            let (what, mend) = ("is missing".to_owned(), mend.to_owned());
            self.complain(key, Complaint { what, mend });
            return None;
        }
        self.read(key, check)
    }

    /// Every entry of a table whose names are the operator's own; `check` looks for secrets itself.
    /// `None` when the table is not there or anything in it has been complained of.
    pub fn entries<T>(
        &mut self,
        key: &str,
        mut check: impl FnMut(&str, &DeValue<'t>) -> Checked<T>,
    ) -> Option<BTreeMap<String, T>> {
        let place = self.full(key);
        let (key, value) = self.entries.remove_entry(key)?;
        let DeValue::Table(table) = value.into_inner() else {
            let what = "is not a table".to_owned();
            let mend = format!("write {key} = {{ NAME = \"...\" }}");
            self.report.at(key.span(), &place, Complaint { what, mend });
            return None;
        };
        let (mut good, mut all) = (BTreeMap::new(), true);
        for (key, value) in table {
            match check(key.get_ref(), value.get_ref()) {
                Ok(value) => {
                    good.insert(key.into_inner().into_owned(), value);
                }
                Err(complaint) => {
                    all = false;
                    let place = join(&place, &name(key.get_ref()));
                    self.report.at(key.span(), &place, complaint);
                }
            }
        }
        all.then_some(good)
    }

    /// Takes the key out, and says why it cannot stand here if it does.
    pub fn refuse(&mut self, key: &str, complaint: Complaint) {
        let _: Option<()> = self.read(key, |_| Err(complaint));
    }

    /// About a key that is not there any more, or never was: at the section's header.
    pub fn complain(&mut self, key: &str, complaint: Complaint) {
        let place = join(&self.place, key);
        self.report.at(self.span.clone(), &place, complaint);
    }

    /// The key's value if it is there, over the default.
    pub fn set<T>(
        &mut self,
        into: &mut T,
        key: &str,
        check: impl FnOnce(&DeValue<'t>) -> Checked<T>,
    ) {
        if let Some(value) = self.read(key, check) {
            *into = value;
        }
    }

    pub fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Whether anything has been wrong at a place that begins so.
    pub fn complained_of(&self, place: &str) -> bool {
        let mut problems = self.report.problems.iter();
        problems.any(|problem| problem.key.starts_with(place))
    }

    /// The line of `key` in a section below this one, for a problem that is found later.
    pub fn line_of(&self, section: &str, key: &str) -> Option<usize> {
        let section = self.entries.get(section)?.get_ref().as_table()?;
        let (key, _) = section.get_key_value(key)?;
        Some(self.report.line(key.span().start))
    }

    /// Reports what nobody asked for.
    pub fn close(self) {
        let Section {
            report,
            path,
            place,
            entries,
            ..
        } = self;
        let keys: Vec<_> = entries.into_iter().collect();
        for (key, value) in keys {
            unknown(report, &path, &place, &key, &value);
        }
    }

    /// What people know a key by. It has to be one of those that the manual and the example have.
    fn full(&self, key: &str) -> String {
        let known = join(&self.path, key);
        debug_assert!(
            known_keys()
                .iter()
                .any(|one| *one == known || one.starts_with(&format!("{known}."))),
            "{known} is not in the table of known keys"
        );
        join(&self.place, key)
    }
}

fn join(path: &str, key: &str) -> String {
    match (path, key) {
        ("", _) => key.to_owned(),
        (_, "") => path.to_owned(),
        _ => format!("{path}.{key}"),
    }
}

type Key<'t> = Spanned<std::borrow::Cow<'t, str>>;

fn unknown(
    report: &mut Report<'_>,
    path: &str,
    place: &str,
    key: &Key<'_>,
    value: &Spanned<DeValue<'_>>,
) {
    let written = key.get_ref();
    let full = join(place, &name(written));
    if names_a_secret(written) {
        return secret(report, place, key);
    }
    let complaint = match value.get_ref() {
        DeValue::Table(_) if path.is_empty() => unknown_section(written),
        DeValue::Array(list) if path.is_empty() && is_list_of_sections(list) => {
            unknown_section(written)
        }
        _ => unknown_key(path, written),
    };
    report.at(key.span(), &full, complaint);
    secrets_within(report, &full, value.get_ref());
}

fn is_list_of_sections(list: &DeArray<'_>) -> bool {
    let mut values = list.iter();
    values.len() > 0 && values.all(|value| value.get_ref().as_table().is_some())
}

fn secret(report: &mut Report<'_>, place: &str, key: &Key<'_>) {
    let what = "secrets never stand in this file".to_owned();
    let mend = format!("remove it and {WHERE_SECRETS_GO}");
    let full = join(place, &name(key.get_ref()));
    report.at(key.span(), &full, Complaint { what, mend });
}

/// Looks for secrets in a table, known or not: each is worth a line of its own.
fn secrets_within(report: &mut Report<'_>, path: &str, value: &DeValue<'_>) -> bool {
    let mut found = false;
    match value {
        DeValue::Table(table) => {
            for (key, value) in table.iter() {
                if names_a_secret(key.get_ref()) {
                    secret(report, path, key);
                    found = true;
                } else {
                    let path = join(path, &name(key.get_ref()));
                    found |= secrets_within(report, &path, value.get_ref());
                }
            }
        }
        DeValue::Array(list) => {
            for value in list.iter() {
                found |= secrets_within(report, path, value.get_ref());
            }
        }
        _ => {}
    }
    found
}

/// The section and the name of each known key.
fn known() -> impl Iterator<Item = (&'static str, &'static str)> {
    known_keys()
        .iter()
        .map(|key| key.rsplit_once('.').unwrap_or(("", key)))
}

/// As the section is written in the file.
fn header(section: &str) -> String {
    match LISTS.contains(&section) {
        true => format!("[[{section}]]"),
        false => format!("[{section}]"),
    }
}

fn unknown_section(written: &str) -> Complaint {
    let mut sections: Vec<_> = known().map(|(section, _)| section).collect();
    sections.retain(|section| !section.is_empty() && !section.contains('.'));
    sections.dedup();
    let mend = match suggest::nearest(written, sections.iter().copied()) {
        Some(near) => format!("did you mean {}?", header(near)),
        None => {
            let headers: Vec<_> = sections.iter().map(|section| header(section)).collect();
            format!("remove it; the sections are {}", headers.join(", "))
        }
    };
    Complaint {
        what: "there is no such section".into(),
        mend,
    }
}

fn unknown_key(path: &str, written: &str) -> Complaint {
    let here: Vec<_> = known()
        .filter(|(section, _)| *section == path)
        .map(|(_, k)| k)
        .collect();
    let homes: Vec<_> = known()
        .filter(|(_, key)| *key == written)
        .map(|(home, _)| home)
        .collect();
    let place = |home: &str| match home {
        "" => "at the top of the file, before any section".to_owned(),
        home => format!("in {}", header(home)),
    };
    let mend = if let [home, more @ ..] = &homes[..] {
        let others: String = more
            .iter()
            .map(|home| format!(" or {}", place(home)))
            .collect();
        format!("this key belongs {}{others}", place(home))
    } else if let Some(near) = suggest::nearest(written, here.iter().copied()) {
        format!("did you mean {near}?")
    } else if let Some(near) = suggest::nearest(written, known().map(|(_, key)| key)) {
        let home = known()
            .find(|(_, key)| *key == near)
            .map_or("", |(home, _)| home);
        format!("did you mean {near} {}?", place(home))
    } else if path.is_empty() {
        "remove it".to_owned()
    } else {
        format!("remove it; the keys here are {}", here.join(", "))
    };
    Complaint {
        what: "there is no such key".into(),
        mend,
    }
}
