//! Holds the arguments that an agent's language model has written against the tool's JSON Schema.
//!
//! A language model makes arguments up: nothing runs before they fit. What is refused comes with words
//! that the model can learn from: which argument, and which rule. They may name what it sent, so they
//! are for the agent alone and reach no log.

use jsonschema::{PatternOptions, Validator};
use serde_json::{Map, Value};

use super::exact;

/// The longest arguments that are looked at, in bytes.
pub const MAX_ARGUMENTS: usize = 64 * 1024;
/// The longest complaint, in characters.
pub const MAX_COMPLAINT: usize = 500;
/// A complaint about everything at once helps less than one about the first few.
const MAX_FAULTS: usize = 3;
/// Steps of a pattern that looks around, which the linear engine cannot do: arguments that need more
/// do not fit.
const BACKTRACKING: usize = 10_000;

const TOO_LONG: &str =
    "too many digits for a number; send it as a string, if the tool takes one here";

/// A tool's parameters, ready to be held against.
pub struct Schema(Validator);

impl Schema {
    /// `Err` says what is wrong with the schema itself. It may refer to itself only.
    pub fn compile(schema: &Value) -> Result<Schema, String> {
        let options = || {
            jsonschema::options()
                .offline()
                .should_validate_formats(true)
        };
        // Linear in what a peer sends, wherever the patterns allow it.
        let validator = options()
            .with_pattern_options(PatternOptions::regex())
            .build(schema)
            .or_else(|_| {
                let patterns = PatternOptions::fancy_regex().backtrack_limit(BACKTRACKING);
                options().with_pattern_options(patterns).build(schema)
            });
        validator.map(Schema).map_err(|error| error.to_string())
    }

    /// The arguments as an object, or what is wrong with them, for the agent.
    ///
    /// Without any text there are no arguments: some models leave out what would be empty.
    pub fn check(&self, arguments: &str) -> Result<Map<String, Value>, String> {
        if arguments.len() > MAX_ARGUMENTS {
            return Err(format!(
                "The arguments are too long: at most {} KiB.",
                MAX_ARGUMENTS / 1024
            ));
        }
        let value = match arguments.trim() {
            "" | "null" => Value::Object(Map::new()),
            text => serde_json::from_str(text).map_err(|error| {
                format!(
                    "The arguments are not JSON: see line {}, column {}.",
                    error.line(),
                    error.column()
                )
            })?,
        };
        let Value::Object(object) = &value else {
            return Err("The arguments have to be a JSON object.".to_owned());
        };
        if self.0.is_valid(&value) {
            return match exact::changed(arguments) {
                None => Ok(object.clone()),
                Some(place) => Err(short(format!(
                    "The arguments do not fit. {place}{TOO_LONG}"
                ))),
            };
        }
        let faults = self.0.iter_errors(&value).take(MAX_FAULTS).map(|error| {
            let place = error.instance_path().to_string();
            let what = error.masked_with("it").to_string();
            match place.trim_start_matches('/') {
                "" => what,
                place => format!("{}: {what}", place.replace('/', ".")),
            }
        });
        let faults = faults.collect::<Vec<_>>().join("; ");
        Err(short(format!("The arguments do not fit. {faults}")))
    }
}

fn short(complaint: String) -> String {
    complaint.chars().take(MAX_COMPLAINT).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn booking() -> Schema {
        let schema = json!({
            "type": "object",
            "properties": {
                "date": { "type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$" },
                "guests": { "type": "integer", "minimum": 1 },
                "rooms": { "type": "array", "items": { "type": "string" } }
            },
            "required": ["date"],
            "additionalProperties": false
        });
        Schema::compile(&schema).unwrap()
    }

    fn complaint(arguments: &str) -> String {
        booking().check(arguments).unwrap_err()
    }

    #[test]
    fn what_fits_comes_back_as_an_object() {
        let arguments = booking()
            .check(r#" {"date":"2026-11-23","guests":2} "#)
            .unwrap();
        assert_eq!(arguments["guests"], 2);
    }

    #[test]
    fn no_arguments_are_an_empty_object() {
        let anything = Schema::compile(&json!({ "type": "object" })).unwrap();
        for arguments in ["", "  ", "null", "{}"] {
            assert_eq!(anything.check(arguments).unwrap().len(), 0, "{arguments:?}");
        }
        let complaint = complaint("");
        assert!(complaint.contains("\"date\" is a required"), "{complaint}");
    }

    #[test]
    fn a_complaint_names_the_argument_and_the_rule_and_not_the_value() {
        let told = complaint(r#"{"date":"SECRET","guests":0,"rooms":["a",17171717]}"#);
        for part in ["date: it", "guests: it", "rooms.1: it"] {
            assert!(told.contains(part), "{told}");
        }
        assert!(
            !told.contains("SECRET") && !told.contains("17171717"),
            "{told}"
        );
        let told = complaint(r#"{"date":"2026-11-23","nights":1}"#);
        assert!(told.contains("nights"), "{told}");
    }

    #[test]
    fn a_format_is_held_against_what_comes() {
        let schema = |format: &str| {
            Schema::compile(
                &json!({ "properties": { "x": { "type": "string", "format": format } } }),
            )
        };
        for (format, good, bad) in [
            ("date", "2026-12-31", "next Friday"),
            ("time", "19:30:00Z", "half past seven"),
            ("email", "desk@example.com", "at the desk"),
            ("uuid", "0123e456-e89b-12d3-a456-426614174000", "0123"),
        ] {
            let schema = schema(format).unwrap();
            assert!(
                schema.check(&json!({ "x": good }).to_string()).is_ok(),
                "{format}"
            );
            let told = schema.check(&json!({ "x": bad }).to_string()).unwrap_err();
            assert!(
                told.contains("x: it is not a") && told.contains(format),
                "{told}"
            );
            assert!(!told.contains(bad), "{told}");
        }
        // Not one of JSON Schema's: a word for whoever reads it.
        assert!(schema("int32").unwrap().check(r#"{"x":"y"}"#).is_ok());
    }

    #[test]
    fn a_number_that_would_be_changed_is_refused_and_no_other() {
        let anything = Schema::compile(&json!({ "type": "object" })).unwrap();
        for (arguments, place) in [
            (r#"{"n":123456789012345678901}"#, " n: too many"),
            (
                r#"{"a":{"b":1},"c":[1,-18446744073709551617]}"#,
                " c: too many",
            ),
            (
                r#"{"a":{"b":[{"c\"":-12345678901234567890}]}}"#,
                " a.b.c\": too many",
            ),
        ] {
            let told = anything.check(arguments).unwrap_err();
            assert!(told.contains(place), "{told}");
        }
        for arguments in [
            r#"{"n":18446744073709551615,"m":-9223372036854775808,"x":"123456789012345678901"}"#,
            r#"{"123456789012345678901":0.1,"n":[-0,0.0,1e20,1E+2,0.12345678901234567890,2.50]}"#,
        ] {
            assert!(anything.check(arguments).is_ok(), "{arguments}");
        }
        // What the schema itself says of it comes first.
        let text = json!({ "properties": { "n": { "type": "string" } } });
        let told = Schema::compile(&text)
            .unwrap()
            .check(r#"{"n":123456789012345678901}"#);
        assert!(told.unwrap_err().contains("n: it is not of type"));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for arguments in ["[]", "\"date\"", "17", "true"] {
            assert!(complaint(arguments).contains("JSON object"), "{arguments}");
        }
        for arguments in ["{", "{\"date\"}", "{} {}", "nonsense", "{\"guests\":1e999}"] {
            assert!(complaint(arguments).contains("not JSON"), "{arguments}");
        }
        let deep = format!("{{\"date\":{}{}}}", "[".repeat(9000), "]".repeat(9000));
        assert!(complaint(&deep).contains("not JSON"));
        let long = format!("{{\"date\":\"{}\"}}", "x".repeat(MAX_ARGUMENTS));
        assert!(complaint(&long).contains("too long"));
    }

    #[test]
    fn a_complaint_is_short_whatever_was_sent() {
        let name = "n".repeat(10_000);
        let told = complaint(&format!("{{\"{name}\":1}}"));
        assert!(told.chars().count() <= MAX_COMPLAINT, "{}", told.len());
    }

    #[test]
    fn a_schema_fetches_nothing() {
        for elsewhere in ["https://example.com/schema.json", "file:///etc/passwd"] {
            let schema = json!({ "properties": { "x": { "$ref": elsewhere } } });
            assert!(Schema::compile(&schema).is_err(), "{elsewhere}");
        }
        assert!(Schema::compile(&json!({ "type": "objekt" })).is_err());
    }

    #[test]
    fn a_schema_that_is_about_itself_does_not_run_in_circles() {
        for schema in [
            json!({ "$ref": "#" }),
            json!({ "properties": { "x": { "$ref": "#/properties/x" } } }),
            json!({ "allOf": [{ "$ref": "#/$defs/a" }], "$defs": {
                "a": { "anyOf": [{ "$ref": "#/$defs/b" }] }, "b": { "$ref": "#/$defs/a" } } }),
        ] {
            if let Ok(schema) = Schema::compile(&schema) {
                let _ = schema.check(r#"{"x":1}"#);
            }
        }
    }

    #[test]
    fn a_pattern_that_looks_around_is_bounded() {
        let schema = json!({
            "properties": { "x": { "type": "string", "pattern": "^(?!no)(a|aa)+$" } }
        });
        let schema = Schema::compile(&schema).unwrap();
        assert!(schema.check(r#"{"x":"aaa"}"#).is_ok());
        assert!(schema.check(r#"{"x":"no"}"#).is_err());
        let evil = format!("{{\"x\":\"{}b\"}}", "a".repeat(40));
        assert!(schema.check(&evil).is_err());
    }
}
