//! `[keys]`, and a route's `keys`: what the keys on the caller's telephone do.

use std::collections::BTreeMap;

use super::{
    Keys,
    check::{self, Checked, Complaint, complain},
    either,
    reader::Section,
};

/// Reads a table of keys over `keys`, key by key.
pub(super) fn keys(mut s: Section<'_, '_>, keys: &mut Keys) {
    s.set(&mut keys.words, "words", |v| words(check::text(v)?));
    let has_actions = s.has("actions");
    let end = s.read("end", |v| end(check::text(v)?));
    keys.end = end.unwrap_or(keys.end);
    s.set(&mut keys.count, "count", |v| check::count(v, 0..=64));
    s.set(&mut keys.timeout, "timeout", |v| {
        check::duration(v, 100..=60_000)
    });
    let end = keys.end;
    let actions = s.entries("actions", |written, value| {
        let action = either::key_action(value)?;
        match key(written) {
            Some(key) if Some(key) == end => complain(
                "is the key that ends an input",
                "choose another for one of the two: end = \"\" for none",
            ),
            Some(key) => Ok((key, action)),
            None => complain(
                "is not a key",
                "write one of 0 to 9, *, # and A to D in quotes",
            ),
        }
    });
    if let Some(actions) = actions {
        let actions: BTreeMap<_, _> = actions.into_values().collect();
        keys.actions = actions;
    } else if !has_actions && end.is_some_and(|end| keys.actions.contains_key(&end)) {
        // Those that are as in [keys].
        let what = "is a key that has an action in [keys]".to_owned();
        let mend = "choose another, or write actions = {} here".to_owned();
        s.complain("end", Complaint { what, mend });
    }
    s.close();
}

fn key(written: &str) -> Option<char> {
    let mut all = written.chars();
    let key = all.next().filter(|_| all.as_str().is_empty())?;
    matches!(key, '0'..='9' | '*' | '#' | 'A'..='D').then_some(key)
}

fn end(text: &str) -> Checked<Option<char>> {
    if text.is_empty() {
        return Ok(None);
    }
    match key(text).filter(|key| !key.is_ascii_uppercase()) {
        Some(key) => Ok(Some(key)),
        None => complain(
            "is not a key",
            "write one of 0 to 9, * and # in quotes, or \"\" for none",
        ),
    }
}

fn words(text: &str) -> Checked<String> {
    let text = check::words(text, &["keys"])?;
    match text.is_empty() || text.contains("{keys}") {
        true => Ok(text),
        false => complain(
            "does not say which keys",
            "write {keys} where they are to stand, or \"\" to tell the agent nothing",
        ),
    }
}
