//! `route.hours`: when a route is open.
//!
//! `"mon-fri 09:00-17:30"`: a day, days from one to another, several with commas, or `daily`; then the
//! time from and to, by the clock on the wall of `route.timezone`. A span that ends before it begins
//! goes on into the next day.

use toml::de::DeValue;

use super::{
    Span,
    check::{self, Checked, complain},
    problem::harmless,
    suggest,
};

const FORM: &str = r#"write days and times, as in "mon-fri 09:00-17:30", "sat,sun 10:00-12:00" or "daily 22:00-06:00""#;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Minutes of a day.
const MIDNIGHT: u16 = 24 * 60;

/// The whole list, in the order of the week; what overlaps or touches is one span.
pub(super) fn spans(value: &DeValue<'_>) -> Checked<Vec<Span>> {
    let Some(list) = value.as_array() else {
        let what = format!("is {}, not a list", check::kind(value));
        return complain(
            what,
            r#"write the hours in brackets, as in ["mon-fri 09:00-17:30"]"#,
        );
    };
    if list.is_empty() {
        return complain(
            "is empty: the route would never be open",
            "write when it is, or remove the key: then it always is",
        );
    }
    let mut spans = Vec::new();
    for (n, value) in list.iter().enumerate() {
        let entry = check::text(value.get_ref()).and_then(|text| entry(text, &mut spans));
        entry.map_err(|mut complaint| {
            complaint.what = format!("entry {} {}", n + 1, complaint.what);
            complaint
        })?;
    }
    spans.sort_by_key(|span: &Span| (span.day, span.from));
    spans.dedup_by(|next, last| {
        let one = next.day == last.day && next.from <= last.to;
        if one {
            last.to = last.to.max(next.to);
        }
        one
    });
    Ok(spans)
}

fn entry(text: &str, spans: &mut Vec<Span>) -> Checked<()> {
    let Some((days, times)) = text.split_once(' ') else {
        return complain("is not days and times with a space between", FORM);
    };
    let Some((from, to)) = times.split_once('-') else {
        return complain("has no time from and to", FORM);
    };
    let (Some(from), Some(to)) = (time(from), time(to)) else {
        return complain(
            "has a time that is none",
            "write hours and minutes from 00:00 to 24:00, as in 09:00-17:30",
        );
    };
    if from == to || from == MIDNIGHT {
        return complain(
            "has no time between from and to",
            "write 00:00-24:00 for a whole day",
        );
    }
    for day in self::days(days)? {
        if from < to {
            spans.push(Span { day, from, to });
            continue;
        }
        let to_midnight = MIDNIGHT;
        spans.push(Span {
            day,
            from,
            to: to_midnight,
        });
        if to > 0 {
            let day = (day + 1) % 7;
            spans.push(Span { day, from: 0, to });
        }
    }
    Ok(())
}

fn days(text: &str) -> Checked<Vec<u8>> {
    if text == "daily" {
        return Ok((0..7).collect());
    }
    let mut days = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        let mut day = first;
        loop {
            days.push(day);
            if day == last {
                break;
            }
            day = (day + 1) % 7;
        }
    }
    Ok(days)
}

fn day(word: &str) -> Checked<u8> {
    if let Some(day) = DAYS.iter().position(|day| *day == word) {
        return Ok(day as u8);
    }
    // "Monday", "Mon" and "tues" are what people write.
    let lower = word.to_ascii_lowercase();
    let begun = DAYS.iter().copied().find(|day| lower.starts_with(day));
    let near = begun.or_else(|| suggest::nearest(&lower, DAYS.into_iter().chain(["daily"])));
    let mend = match near {
        Some(near) => format!("did you mean {near}?"),
        None => format!("write {} or daily", DAYS.join(", ")),
    };
    match harmless(word) {
        true => complain(format!("has the day \"{word}\", which there is not"), mend),
        false => complain("has a day that there is not", mend),
    }
}

/// `HH:MM` in minutes; `24:00` is the end of a day.
fn time(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |text: &str| -> Option<u16> {
        let fits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        fits.then(|| text.parse().ok()).flatten()
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let time = hours * 60 + minutes;
    (minutes < 60 && time <= MIDNIGHT).then_some(time)
}

/// A time zone by its name in the IANA's database.
pub(super) fn zone(text: &str) -> Checked<jiff::tz::TimeZone> {
    const EXAMPLE: &str = "write a name of the IANA's database, as in \"Australia/Sydney\"";
    // What a machine is set to, or nothing, and no place.
    const NOWHERE: [&str; 4] = ["localtime", "posixrules", "factory", "etc/unknown"];
    let database = jiff::tz::db();
    if !NOWHERE.contains(&&*text.to_ascii_lowercase())
        && let Ok(zone) = database.get(text)
    {
        return Ok(zone);
    }
    // Places alone: of abbreviations there are several with one name, and "Etc/GMT+10" is ten hours behind.
    let names: Vec<String> = database
        .available()
        .map(|name| name.to_string())
        .filter(|name| name.contains('/') && !name.starts_with("Etc/"))
        .collect();
    let lower: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
    let wrong = text.replace(' ', "_");
    // "Sydney" alone is no slip of the fingers, and still clear.
    let city = lower
        .iter()
        .position(|name| name.rsplit('/').next() == Some(&*wrong.to_ascii_lowercase()));
    let near = city.or_else(|| {
        let near = suggest::nearest(&wrong, lower.iter().map(String::as_str))?;
        lower.iter().position(|name| name == near)
    });
    let mend = match near {
        Some(at) => format!("did you mean \"{}\"?", names[at]),
        None => EXAMPLE.to_owned(),
    };
    complain("is no time zone", mend)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(list: &str) -> Vec<(u8, u16, u16)> {
        let value = DeValue::parse(list).unwrap();
        let spans = spans(value.get_ref()).unwrap_or_else(|c| panic!("{list}: {}", c.what));
        let tuple = |span: Span| (span.day, span.from, span.to);
        spans.into_iter().map(tuple).collect()
    }

    fn said(list: &str) -> String {
        let complaint = spans(DeValue::parse(list).unwrap().get_ref()).unwrap_err();
        format!("{}; {}", complaint.what, complaint.mend)
    }

    #[test]
    fn days_and_times_are_minutes_of_weekdays() {
        let week = of(r#"["mon-fri 09:00-17:30", "sat 10:00-12:00"]"#);
        assert_eq!(week.len(), 6);
        assert_eq!(week[0], (0, 540, 1050));
        assert_eq!(week[5], (5, 600, 720));
        assert_eq!(of(r#"["daily 00:00-24:00"]"#).len(), 7);
        assert_eq!(
            of(r#"["sat,mon 01:00-02:00"]"#),
            [(0, 60, 120), (5, 60, 120)]
        );
        let over_the_weekend = of(r#"["fri-mon 01:00-02:00"]"#);
        let days: Vec<_> = over_the_weekend.iter().map(|(day, ..)| *day).collect();
        assert_eq!(days, [0, 4, 5, 6]);
    }

    #[test]
    fn a_night_is_two_spans_and_sunday_night_ends_on_monday() {
        assert_eq!(of(r#"["sun 22:00-06:00"]"#), [(0, 0, 360), (6, 1320, 1440)]);
        assert_eq!(of(r#"["mon 22:00-00:00"]"#), [(0, 1320, 1440)]);
        // Every night, and every morning till six: midnight does not cut anything off.
        assert_eq!(of(r#"["daily 22:00-06:00"]"#).len(), 14);
    }

    #[test]
    fn what_overlaps_or_touches_is_one() {
        assert_eq!(
            of(r#"["mon 09:00-12:00", "mon 11:00-13:00", "mon 13:00-14:00", "mon 10:00-10:30"]"#),
            [(0, 540, 840)]
        );
    }

    #[test]
    fn what_is_no_hours_is_told_why() {
        for (list, what) in [
            ("[]", "is empty"),
            (r#"["mon-fri"]"#, "entry 1 is not days and times"),
            (r#"["daily 9-17"]"#, "entry 1 has a time that is none"),
            (
                r#"["daily 09:60-10:00"]"#,
                "entry 1 has a time that is none",
            ),
            (
                r#"["daily 09:00-24:01"]"#,
                "entry 1 has a time that is none",
            ),
            (r#"["daily 09:00-09:00"]"#, "entry 1 has no time between"),
            (r#"["daily 24:00-06:00"]"#, "entry 1 has no time between"),
            (r#"["daily 09:00"]"#, "entry 1 has no time from and to"),
            (
                r#"["daily  09:00-10:00"]"#,
                "entry 1 has a time that is none",
            ),
            (r#"["daily 09:00-10:00", 3]"#, "entry 2 is a number"),
            (
                r#"["Monday 09:00-10:00"]"#,
                "entry 1 has a day that there is not; did you mean mon?",
            ),
            (
                r#"["tu 09:00-10:00"]"#,
                "entry 1 has the day \"tu\", which there is not; did you mean tue?",
            ),
            ("\"mon\"", "is a string, not a list"),
        ] {
            assert!(said(list).starts_with(what), "{list}: {}", said(list));
        }
    }

    #[test]
    fn a_zone_is_one_of_the_database() {
        assert!(zone("Australia/Sydney").is_ok() && zone("UTC").is_ok());
        let mend = |text: &str| zone(text).unwrap_err().mend;
        assert_eq!(
            mend("Australia/Sidney"),
            "did you mean \"Australia/Sydney\"?"
        );
        assert_eq!(mend("sydney"), "did you mean \"Australia/Sydney\"?");
        // Of what has several meanings none is guessed at, and least of all the opposite of what it says.
        for unclear in [
            "AEST+10",
            "GMT+10",
            "GMT+1",
            "AEST",
            "PST",
            "IST",
            "BST",
            "localtime",
            "Factory",
        ] {
            let told = mend(unclear);
            assert!(
                told.starts_with("write a name") || told.contains('/'),
                "{unclear}: {told}"
            );
            assert!(!told.contains("Etc/"), "{unclear}: {told}");
        }
        assert!(zone("UTC").is_ok() && zone("Etc/GMT+10").is_ok());
    }
}
