//! Whom a call may reach besides its agent: transfers, messages, the lookup.

use std::time::Duration;

use hume_bridge::config::NoAnswer;

use super::{good, said, says};

#[test]
fn whom_a_call_may_be_put_through_to() {
    let config = good(
        "[transfer]\nnumbers = ['+15557654324', { number = '+15557654325', name = 'sales' }]\n\
         warm = true\nring = '5s'\nno_answer = { say = 'Nobody is there.' }\n\
         caller_id = '+15557654326'\n[sms]\nnumbers = ['+15557654324']\nfrom = '+15557654326'",
    );
    assert_eq!(config.transfer.numbers[1].name.as_deref(), Some("sales"));
    assert_eq!(
        config.transfer.no_answer,
        NoAnswer::Say("Nobody is there.".into())
    );
    let shown = format!("{config:?}");
    assert!(!shown.contains("5557654"), "{shown}");

    for (text, what) in [
        ("numbers = '+15557654324'", "is a string, not a list; "),
        (
            "numbers = ['+15557654324', '0255501234']",
            "entry 2 is not a telephone number",
        ),
        (
            "numbers = ['+15557654324', '+15557654324']",
            "entry 2 is entry 1 again; ",
        ),
        (
            "numbers = ['+15557654324', { number = '+15557654324', name = 'a' }]",
            "entry 2 has the number of another; ",
        ),
        (
            "numbers = [{ number = '+15557654324', name = 'a' }, { number = '+15557654325', name = 'A' }]",
            "entry 2 has the name of another; ",
        ),
        ("numbers = [{ name = 'a' }]", "entry 1 has no number; "),
        (
            "numbers = [{ number = '+15557654324', nmae = 'a' }]",
            "entry 1 has a key that is neither number nor name; ",
        ),
        (
            "numbers = [{ number = '+15557654324', name = '+1 5557654' }]",
            "entry 1 has a name that is not a name; ",
        ),
        (
            "numbers = [{ number = '+15557654324', name = '02 5557654 1' }]",
            "entry 1 has a name that looks like a telephone number; ",
        ),
        ("ring = '4s'", "4s is out of range; "),
        (
            "no_answer = 'x'",
            "is a string, not a table; write { agent = \"...\" }, with {reason} in it, or { say = \"...\" }",
        ),
        (
            "no_answer = { agent = 'It failed: {raeson}.' }",
            "agent has {raeson}, which stands for nothing; did you mean {reason}?",
        ),
        (
            "no_answer = { dial = '+15557654324' }",
            "has a key that is neither agent nor say; ",
        ),
        ("no_answer = { say = '' }", "say has no words; "),
        ("caller_id = '61'", "is not a telephone number"),
    ] {
        let (key, _) = text.split_once(' ').unwrap();
        let told = said(&format!("[transfer]\n{text}"));
        assert!(
            told.starts_with(&format!("t.toml:3: transfer.{key}: {what}")),
            "{told}"
        );
        assert!(!told.contains("5557654"), "{told}");
    }
    assert!(
        said("[sms]\nnumbers = ['+15557654324', '1']").contains("sms.numbers: entry 2 is not a")
    );
    let told = said("[sms]\nnumbers = ['+15557654324']\nfrom = '+15557654324'");
    assert!(
        told.contains("sms.from: is entry 1 of sms.numbers, too; remove it there"),
        "{told}"
    );
}

#[test]
fn a_lookup_is_asked_where_there_is_a_url() {
    assert_eq!(good("[lookup]\ntimeout = '50ms'").lookup, None);
    let lookup = good("[lookup]\nurl = 'https://x.example.com/a?b=c'\ncache = '0s'")
        .lookup
        .unwrap();
    assert_eq!(
        (lookup.timeout, lookup.cache),
        (Duration::from_millis(800), Duration::ZERO)
    );
    says(
        "[lookup]\nsign_with = 'a'",
        "t.toml:2: lookup.url: is missing; write url = \"https://HOST/PATH\"",
    );
    assert!(said("[lookup]\ntimeout = '6s'").contains("write from \"50ms\" to \"5s\""));
}
