//! `tool.parameters`: a JSON Schema, as a TOML table or as a string of JSON.
//!
//! It is compiled once here, so that what arguments are held against later is known to be a schema.
//! It refers to nothing but itself: neither the bridge nor an agent fetches anything for it.

use jsonschema::error::ValidationErrorKind;
use serde_json::{Map, Number, Value};
use toml::de::{DeInteger, DeValue};

use super::{
    check::{self, Checked, Complaint, complain},
    problem::harmless,
    schema_slips::{KEYWORDS, slip},
};

/// Of its JSON: it is sent to the agent on every connection.
const MOST_BYTES: usize = 16 * 1024;

/// For a tool without parameters.
pub(super) fn none() -> Value {
    serde_json::json!({ "type": "object", "properties": {} })
}

/// Whether an agent is asked to hand anything over by it.
pub(super) fn takes_arguments(schema: &Value) -> bool {
    let has = |key: &str| match schema.get(key) {
        Some(Value::Object(some)) => !some.is_empty(),
        Some(Value::Array(some)) => !some.is_empty(),
        other => other.is_some(),
    };
    let ways = [
        "properties",
        "patternProperties",
        "required",
        "dependentRequired",
        "minProperties",
        "allOf",
        "anyOf",
        "oneOf",
        "$ref",
    ];
    ways.into_iter().any(has)
}

pub(super) fn parameters(value: &DeValue<'_>) -> Checked<Value> {
    let schema = match value {
        DeValue::Table(_) => json(value)?,
        DeValue::String(text) => serde_json::from_str(text).map_err(|error| Complaint {
            what: format!(
                "is not JSON (line {}, column {} of it)",
                error.line(),
                error.column()
            ),
            mend: "mend it, or write it as a TOML table".into(),
        })?,
        _ => {
            let what = format!("is {}, not a JSON Schema", check::kind(value));
            return complain(what, FORM);
        }
    };
    const FORM: &str = r#"write { type = "object", properties = { NAME = { type = "string", description = "..." } }, required = ["NAME"] }"#;
    let Some(object) = schema.as_object() else {
        return complain("is not a JSON object", FORM);
    };
    match object.get("type") {
        Some(Value::String(kind)) if kind == "object" => {}
        Some(_) => return complain("is not a schema of an object", FORM),
        None => {
            let mend = match object.values().all(Value::is_object) && !object.is_empty() {
                // The properties alone, as one is tempted to write them.
                true => FORM,
                false => "add type = \"object\"",
            };
            return complain("has no type", mend);
        }
    }
    if refers_elsewhere(&schema) {
        return complain(
            "refers to another document with $ref",
            "write that into this schema, under $defs, and refer to \"#/$defs/NAME\"",
        );
    }
    if schema.to_string().len() > MOST_BYTES {
        let what = format!("is larger than {} KiB", MOST_BYTES / 1024);
        return complain(what, "describe less of it, or take one string");
    }
    if let Some(complaint) = slip(&schema) {
        return Err(complaint);
    }
    // As arguments are held against it later.
    let options = jsonschema::options()
        .offline()
        .should_validate_formats(true);
    // The error's own words may repeat what stands there, and that could be anything.
    match options.build(&schema) {
        Ok(_) => Ok(schema),
        Err(error) if matches!(error.kind(), ValidationErrorKind::Referencing(_)) => complain(
            "has a $ref that leads nowhere",
            "write what it refers to under $defs, and refer to \"#/$defs/NAME\"",
        ),
        Err(error) => complain(
            format!(
                "is not a JSON Schema{}",
                place(&error.instance_path().to_string())
            ),
            "mend what stands there; https://json-schema.org/understanding-json-schema has what may",
        ),
    }
}

/// Where in a schema, without names that could be something else.
pub(super) fn place(pointer: &str) -> String {
    if pointer.is_empty() {
        return String::new();
    }
    let part = |part: &str| match harmless(part.trim_start_matches('$')) || is_keyword(part) {
        true => format!("/{part}"),
        false => "/..".to_owned(),
    };
    let parts: String = pointer.split('/').skip(1).map(part).collect();
    format!(" at {parts}")
}

/// Keywords, and places in a list, which are numbers.
fn is_keyword(part: &str) -> bool {
    KEYWORDS.contains(&part) || part.len() < 4 && part.bytes().all(|b| b.is_ascii_digit())
}

/// Looks at every place where a schema may stand, and not into values that it only gives.
fn refers_elsewhere(schema: &Value) -> bool {
    match schema {
        Value::Object(object) => object.iter().any(|(key, value)| match (&**key, value) {
            ("$ref" | "$dynamicRef" | "$recursiveRef", Value::String(to)) => !to.starts_with('#'),
            ("$schema" | "$id" | "const" | "enum" | "default" | "examples", _) => false,
            _ => refers_elsewhere(value),
        }),
        Value::Array(list) => list.iter().any(refers_elsewhere),
        _ => false,
    }
}

/// The same value as JSON has it.
pub(super) fn json(value: &DeValue<'_>) -> Checked<Value> {
    Ok(match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(boolean) => Value::Bool(*boolean),
        DeValue::Integer(integer) => match whole(integer) {
            Some(number) => Value::Number(number),
            None => return complain(format!("has {integer}, which is out of range"), SMALLER),
        },
        DeValue::Float(float) => {
            let number = float.as_str().parse().ok().and_then(Number::from_f64);
            match number {
                Some(number) => Value::Number(number),
                None => return complain("has a number that JSON does not have", SMALLER),
            }
        }
        DeValue::Datetime(_) => {
            return complain("has a date, which JSON does not have", "put it in quotes");
        }
        DeValue::Array(list) => {
            let values = list.iter().map(|value| json(value.get_ref()));
            Value::Array(values.collect::<Checked<_>>()?)
        }
        DeValue::Table(table) => {
            let entries = table
                .iter()
                .map(|(key, value)| Ok((key.get_ref().to_string(), json(value.get_ref())?)));
            Value::Object(entries.collect::<Checked<Map<_, _>>>()?)
        }
    })
}

const SMALLER: &str = "write a number that is finite, and fits into 64 bits if it is whole";

pub(super) fn whole(integer: &DeInteger<'_>) -> Option<Number> {
    let (text, radix) = (integer.as_str(), integer.radix());
    let signed = i64::from_str_radix(text, radix).ok().map(Number::from);
    signed.or_else(|| u64::from_str_radix(text, radix).ok().map(Number::from))
}
