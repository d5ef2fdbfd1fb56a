//! `[transfer]`, `[sms]` and `[lookup]`: whom a call may reach besides its agent.
//!
//! Numbers are named by their place in a list, never repeated.

use std::{collections::BTreeSet, time::Duration};

use toml::de::DeValue;

use super::{
    Destination, Lookup, Sms, Transfer,
    check::{self, Checked, Complaint, complain},
    duration::{HOUR, MINUTE, SECOND},
    either, headers,
    reader::Section,
};

pub(super) fn transfer(mut s: Section<'_, '_>, transfer: &mut Transfer) {
    s.set(&mut transfer.numbers, "numbers", destinations);
    s.set(&mut transfer.warm, "warm", check::boolean);
    s.set(&mut transfer.ring, "ring", |v| {
        check::duration(v, 5 * SECOND..=10 * MINUTE)
    });
    s.set(&mut transfer.no_answer, "no_answer", either::no_answer);
    s.set(&mut transfer.caller_id, "caller_id", |v| {
        check::phone_number(check::text(v)?).map(Some)
    });
    s.close();
}

pub(super) fn sms(mut s: Section<'_, '_>, sms: &mut Sms) {
    s.set(&mut sms.numbers, "numbers", |value| {
        check::entries(value, A_NUMBER, |value| {
            check::text(value).and_then(check::phone_number)
        })
    });
    s.set(&mut sms.to_caller, "to_caller", check::boolean);
    s.set(&mut sms.from, "from", |v| {
        check::phone_number(check::text(v)?).map(Some)
    });
    let from = sms.from.as_ref();
    if let Some(at) = sms.numbers.iter().position(|to| Some(to) == from) {
        let what = format!("is entry {} of sms.numbers, too", at + 1);
        let mend = "remove it there: nobody can send a message to themselves".to_owned();
        s.complain("from", Complaint { what, mend });
    }
    s.close();
}

/// `None` without a URL: nobody is asked then.
pub(super) fn lookup(mut s: Section<'_, '_>) -> Option<Lookup> {
    let url_of = |v: &DeValue<'_>| check::service_url(check::text(v)?);
    let url = match s.has("headers") || s.has("sign_with") {
        true => s.need("url", "write url = \"https://HOST/PATH\"", url_of),
        false => s.read("url", url_of),
    };
    let headers = headers::headers(&mut s);
    let sign_with = headers::sign_with(&mut s);
    let mut timeout = Duration::from_millis(800);
    s.set(&mut timeout, "timeout", |v| {
        check::duration(v, 50..=5 * SECOND)
    });
    let mut cache = Duration::from_secs(5 * 60);
    s.set(&mut cache, "cache", |v| check::duration(v, 0..=24 * HOUR));
    s.close();
    Some(Lookup {
        url: url?,
        headers,
        sign_with,
        timeout,
        cache,
    })
}

/// As a list is written that has numbers in it.
const A_NUMBER: &str = r#"["+61255501234"]"#;

fn destinations(value: &DeValue<'_>) -> Checked<Vec<Destination>> {
    let all = check::entries(value, A_NUMBER, destination)?;
    let (mut numbers, mut names) = (BTreeSet::new(), BTreeSet::new());
    for (n, one) in all.iter().enumerate() {
        let name = one.name.as_ref().map(|name| name.to_ascii_lowercase());
        if name.is_some_and(|name| !names.insert(name)) {
            let what = format!("entry {} has the name of another", n + 1);
            return complain(what, "give each a name of its own");
        }
        if !numbers.insert(&one.number) {
            let what = format!("entry {} has the number of another", n + 1);
            return complain(what, "remove one of them");
        }
    }
    Ok(all)
}

fn destination(value: &DeValue<'_>) -> Checked<Destination> {
    const FORM: &str = r#"write "+..." or { number = "+...", name = "sales" }"#;
    let DeValue::Table(table) = value else {
        let number = check::text(value).and_then(check::phone_number)?;
        return Ok(Destination { number, name: None });
    };
    let (mut number, mut name) = (None, None);
    for (key, value) in table.iter() {
        let text = check::text(value.get_ref());
        match &**key.get_ref() {
            "number" => number = Some(text.and_then(check::phone_number)?),
            "name" => {
                name = Some(text.and_then(check::label).map_err(|mut complaint| {
                    complaint.what = format!("has a name that {}", complaint.what);
                    complaint
                })?);
            }
            _ => return complain("has a key that is neither number nor name", FORM),
        }
    }
    match number {
        Some(number) => Ok(Destination { number, name }),
        None => complain("has no number", FORM),
    }
}
