//! `variables`: what an agent's prompt may name, and which of the call's facts stand in it.
//!
//! A text may hold facts in braces: `{from}`, `{param.Account}`; `{{` and `}}` are braces. What a
//! fact is worth is known only when there is a call.

use std::collections::{BTreeMap, BTreeSet};

use toml::de::DeValue;
use url::form_urlencoded::byte_serialize;

use super::{
    Config, Variable,
    check::{self, Checked, Complaint, complain},
    problem::{harmless, name},
    reader::Section,
    schema,
    secret::{WHERE_SECRETS_GO, names_a_secret},
    suggest,
};

/// What is known of a call, by the name that it has between braces; besides these, `param.NAME`.
const FACTS: [&str; 9] = [
    "from",
    "to",
    "city",
    "state",
    "zip",
    "country",
    "caller_name",
    "call_sid",
    "route",
];

/// A form field of Twilio's webhook, as in `{param.Account}`.
const PARAMETER: &str = "param.";

/// More than a prompt can name; they are sent to the agent for every call.
const MOST: usize = 50;

/// Fields of the webhook that all variables together may name: each travels with every call.
pub const MOST_PARAMETERS: usize = 20;

/// The fields that all variables of a config name.
pub(super) fn parameters(config: &Config) -> BTreeSet<String> {
    let of_routes = config.routes.iter().map(|route| &route.variables);
    let all = of_routes.chain([&config.agent.variables]);
    let texts = all
        .flat_map(|all| all.values())
        .filter_map(|one| match one {
            Variable::Text(text) => Some(text),
            _ => None,
        });
    let mut all = BTreeSet::new();
    for text in texts {
        let text = text.replace("{{", "");
        let facts = text.split('{').skip(1);
        let named = facts.filter_map(|fact| fact.split_once('}')?.0.strip_prefix(PARAMETER));
        all.extend(named.map(str::to_owned));
    }
    all
}

/// Reads `variables`, where it stands.
pub(super) fn variables(section: &mut Section<'_, '_>) -> Option<BTreeMap<String, Variable>> {
    let variables = section.entries("variables", |written, value| {
        let fits = (1..=64).contains(&written.len())
            && written
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && !written.starts_with(|c: char| c.is_ascii_digit());
        if !fits {
            return complain(
                "is not the name of a variable",
                "write letters, digits and _, as a prompt names it between {{ and }}",
            );
        }
        variable(written, value)
    });
    if variables.as_ref().is_some_and(|some| some.len() > MOST) {
        let (what, mend) = (format!("are more than {MOST}"), "remove some".to_owned());
        section.complain("variables", Complaint { what, mend });
    }
    variables
}

fn variable(written: &str, value: &DeValue<'_>) -> Checked<Variable> {
    let number = |number: Option<f64>| match number {
        Some(number) if number.fract() == 0.0 && number.abs() >= Variable::EXACT => complain(
            "has more digits than an agent can be told exactly",
            "put it in quotes",
        ),
        Some(number) if number.is_finite() => Ok(Variable::Number(number)),
        _ => complain(
            "is no number that an agent can be told",
            "write a smaller one",
        ),
    };
    match value {
        DeValue::String(text) => {
            let (text, facts) = template(text)?;
            if facts == 0 && names_a_secret(written) && !text.is_empty() {
                return complain(
                    "secrets never stand in this file",
                    format!("remove it and {WHERE_SECRETS_GO}; an agent is told none"),
                );
            }
            Ok(Variable::Text(text))
        }
        DeValue::Integer(integer) => number(schema::whole(integer).and_then(|n| n.as_f64())),
        DeValue::Float(float) => number(float.as_str().parse().ok()),
        DeValue::Boolean(flag) => Ok(Variable::Flag(*flag)),
        other => complain(
            format!(
                "is {}, not a text, a number, true or false",
                check::kind(other)
            ),
            "write one value, a text in quotes",
        ),
    }
}

/// An address cannot be as long as one likes: whoever serves it, or a proxy before them, refuses a long
/// one, and with it every call.
const MOST_FIXED: usize = 4 << 10;

/// Whether those that are the same for every call fit into the address that the agent is asked at. Those
/// that facts of the call stand in are sent apart.
pub(super) fn fit<'v>(all: impl Iterator<Item = (&'v String, &'v Variable)>) -> Checked<()> {
    let encoded = |text: &str| byte_serialize(text.as_bytes()).map(str::len).sum::<usize>();
    let length = all.map(|(name, value)| {
        let value = match value {
            Variable::Text(text) => match template(text) {
                Ok((text, 0)) => encoded(&text.replace("{{", "{").replace("}}", "}")),
                _ => return 0,
            },
            other => encoded(&other.to_text()),
        };
        // And the two signs around it.
        name.len() + value + 2
    });
    match length.sum::<usize>() {
        0..=MOST_FIXED => Ok(()),
        length => complain(
            format!(
                "have {length} bytes in all as they are sent, without those that facts of the call \
                 stand in, and {MOST_FIXED} is the most"
            ),
            "shorten them, or write what is long into the agent's prompt",
        ),
    }
}

/// The text, and how many facts stand in it.
fn template(text: &str) -> Checked<(String, usize)> {
    const MOST: usize = 1000;
    if text.chars().count() > MOST || text.chars().any(|c| c.is_control() && c != '\n') {
        return complain(
            format!("has more than {MOST} characters, or a control character"),
            "write plain text, shorter",
        );
    }
    let (mut rest, mut facts) = (text, 0);
    while let Some(at) = rest.find(['{', '}']) {
        let brace = &rest[at..];
        if let Some(behind) = brace.strip_prefix("{{").or(brace.strip_prefix("}}")) {
            rest = behind;
            continue;
        }
        let Some(inner) = brace.strip_prefix('{') else {
            return complain(
                "has a } that closes nothing",
                "write }} for a brace in the text",
            );
        };
        let Some((fact, behind)) = inner.split_once('}') else {
            return complain(
                "has a { that nothing closes",
                "write {{ for a brace in the text, or {from} for the caller's number",
            );
        };
        known(fact)?;
        facts += 1;
        rest = behind;
    }
    Ok((text.to_owned(), facts))
}

fn known(fact: &str) -> Checked<()> {
    if FACTS.contains(&fact) {
        return Ok(());
    }
    if let Some(field) = fact.strip_prefix(PARAMETER) {
        let fits = (1..=64).contains(&field.len())
            && field
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
        return match fits {
            true => Ok(()),
            false => complain(
                "has a {param.} without the name of a field",
                "write the form field of Twilio's webhook as it is, as in {param.Account}",
            ),
        };
    }
    let mend = match suggest::nearest(fact, FACTS) {
        Some(near) => format!("did you mean {{{near}}}?"),
        None => format!(
            "the call's facts are {{{}}} and {{param.NAME}}; write {{{{ for a brace",
            FACTS.join("}, {")
        ),
    };
    let what = match harmless(fact) {
        true => format!("has {{{}}}, which is no fact of a call", name(fact)),
        false => "has braces around what is no fact of a call".to_owned(),
    };
    Err(Complaint { what, mend })
}
