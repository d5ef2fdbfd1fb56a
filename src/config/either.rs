//! Values that are one of several things: a table with exactly one key, which says what is to be done.

use toml::de::DeValue;

use super::{
    DrainAnswer, Fallback, KeyAction, NoAnswer,
    check::{self, Checked, Complaint},
};

/// The one key of a table, and its value.
fn only<'v, 't>(
    value: &'v DeValue<'t>,
    complain: impl Fn(&str) -> Complaint,
) -> Checked<(&'v str, &'v DeValue<'t>)> {
    let Some(table) = value.as_table() else {
        return Err(complain(&format!("is {}, not a table", check::kind(value))));
    };
    let mut entries = table.iter();
    match (entries.next(), entries.next()) {
        (Some((key, value)), None) => Ok((key.get_ref(), value.get_ref())),
        (None, _) => Err(complain("is empty")),
        _ => Err(complain("says more than one thing to do")),
    }
}

/// The key in front of what is wrong with its value.
fn of<T>(key: &str, checked: Checked<T>) -> Checked<T> {
    checked.map_err(|mut complaint| {
        complaint.what = format!("{key} {}", complaint.what);
        complaint
    })
}

fn number(key: &str, value: &DeValue<'_>) -> Checked<String> {
    of(key, check::text(value).and_then(check::phone_number))
}

/// What is said is something.
fn sentence(
    key: &str,
    value: &DeValue<'_>,
    complain: impl Fn(&str) -> Complaint,
) -> Checked<String> {
    match of(key, check::text(value).and_then(check::spoken))? {
        text if text.trim().is_empty() => Err(complain(&format!("{key} has no words"))),
        text => Ok(text),
    }
}

fn yes(key: &str, value: &DeValue<'_>, complain: impl Fn(&str) -> Complaint) -> Checked<()> {
    match of(key, check::boolean(value))? {
        true => Ok(()),
        false => Err(complain(&format!("{key} = false says nothing to do"))),
    }
}

fn with_mend(mend: &'static str) -> impl Fn(&str) -> Complaint + Copy {
    move |what| Complaint {
        what: what.to_owned(),
        mend: mend.to_owned(),
    }
}

/// A word, or a sentence in a table.
pub(super) fn drain_answer(value: &DeValue<'_>) -> Checked<DrainAnswer> {
    const WORDS: [(&str, DrainAnswer); 2] = [
        ("unavailable", DrainAnswer::Unavailable),
        ("busy", DrainAnswer::Busy),
    ];
    if value.as_table().is_none() {
        return check::choice(check::text(value)?, &WORDS);
    }
    let complain = with_mend(r#"write "unavailable", "busy" or { say = "..." }"#);
    match only(value, complain) {
        Ok(("say", value)) => check::text(value)
            .and_then(check::spoken)
            .map(DrainAnswer::Say),
        _ => Err(complain("is not a table with the one key say")),
    }
}

pub(super) fn fallback(value: &DeValue<'_>) -> Checked<Fallback> {
    let complain =
        with_mend(r#"write one of { say = "..." }, { dial = "+..." } and { hangup = true }"#);
    match only(value, complain)? {
        (key @ "say", value) => sentence(key, value, complain).map(Fallback::Say),
        (key @ "dial", value) => number(key, value).map(Fallback::Dial),
        (key @ "hangup", value) => yes(key, value, complain).map(|()| Fallback::HangUp),
        _ => Err(complain("has a key that is none of say, dial and hangup")),
    }
}

pub(super) fn no_answer(value: &DeValue<'_>) -> Checked<NoAnswer> {
    let complain = with_mend(r#"write { agent = "..." }, with {reason} in it, or { say = "..." }"#);
    match only(value, complain)? {
        (key @ "agent", value) => {
            let text = sentence(key, value, complain)?;
            of(key, check::words(&text, &["reason"])).map(NoAnswer::Agent)
        }
        (key @ "say", value) => sentence(key, value, complain).map(NoAnswer::Say),
        _ => Err(complain("has a key that is neither agent nor say")),
    }
}

pub(super) fn key_action(value: &DeValue<'_>) -> Checked<KeyAction> {
    let complain =
        with_mend(r#"write one of { transfer = "+..." }, { say = "..." } and { hangup = true }"#);
    match only(value, complain)? {
        (key @ "transfer", value) => number(key, value).map(KeyAction::Transfer),
        (key @ "say", value) => sentence(key, value, complain).map(KeyAction::Say),
        (key @ "hangup", value) => yes(key, value, complain).map(|()| KeyAction::HangUp),
        _ => Err(complain(
            "has a key that is none of transfer, say and hangup",
        )),
    }
}
