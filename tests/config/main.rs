//! What an operator writes, and what hume-bridge says to it.

mod args;
mod credentials;
mod file;
mod outward;
mod realtime;
mod routes;
mod tools;
mod values;

use hume_bridge::config::{self, Config, Overrides, Problems};

const URL: &str = "public_url = \"https://bridge.example.com\"\n";
/// Planted wherever a value stands that must not come out again.
const MARK: &str = "PLANTED";

fn parse(text: &str) -> Result<Config, Problems> {
    config::parse(text, "t.toml", &Overrides::default())
}

/// With a good `public_url` as line 1.
fn good(rest: &str) -> Config {
    parse(&format!("{URL}{rest}")).unwrap_or_else(|problems| panic!("{rest}\n{problems}"))
}

/// What is said to `rest`, which begins on line 2.
fn said(rest: &str) -> String {
    let problems = parse(&format!("{URL}{rest}")).expect_err(rest);
    assert!(
        !format!("{problems}{problems:?}").contains(MARK),
        "{problems}"
    );
    problems.to_string()
}

#[track_caller]
fn says(rest: &str, line: &str) {
    assert_eq!(said(rest), line);
}
