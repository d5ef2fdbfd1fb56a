//! What an agent's language model writes as the arguments of a tool.
//!
//! Nothing panics and nothing takes long. What is taken is the object that a JSON parser reads, and is
//! taken again as it is written then. What is refused is refused in few words, and those do not repeat
//! what was sent as a value.
//!
//! The first byte chooses the tool; the rest are the arguments.

use std::sync::OnceLock;

use hume_bridge::{
    config::{Config, Destination, PublicUrl},
    tools::{
        Catalogue,
        schema::{MAX_ARGUMENTS, MAX_COMPLAINT, Schema},
    },
};
use serde_json::{Value, json};

struct Tool {
    parameters: String,
    schema: Schema,
}

/// Takes any bytes. Panics when a promise is broken.
pub fn run(data: &[u8]) {
    let Some((choice, arguments)) = data.split_first() else {
        return;
    };
    // What comes over the wire has been text for long.
    let arguments = String::from_utf8_lossy(arguments);
    let tools = tools();
    let tool = &tools[usize::from(*choice) % tools.len()];
    match tool.schema.check(&arguments) {
        Ok(object) => taken(tool, &arguments, Value::Object(object)),
        Err(complaint) => refused(tool, &arguments, &complaint),
    }
}

fn taken(tool: &Tool, arguments: &str, object: Value) {
    assert!(arguments.len() <= MAX_ARGUMENTS);
    let expected = match arguments.trim() {
        "" | "null" => json!({}),
        text => serde_json::from_str(text).expect("what is taken is JSON"),
    };
    assert_eq!(object, expected);
    let again = object.to_string();
    if again.len() <= MAX_ARGUMENTS {
        let again = tool.schema.check(&again).expect("it was taken before");
        assert_eq!(Value::Object(again), object);
    }
}

fn refused(tool: &Tool, arguments: &str, complaint: &str) {
    assert!(!complaint.is_empty());
    assert!(complaint.chars().count() <= MAX_COMPLAINT, "{complaint}");
    let Ok(value) = serde_json::from_str::<Value>(arguments) else {
        return;
    };
    let (mut values, mut names) = (Vec::new(), String::new());
    strings(&value, &mut values, &mut names);
    for value in values {
        // Short ones, and those that the schema or a name has too, may stand there for another reason.
        let telling = value.len() >= 12
            && ![&*tool.parameters, &names]
                .iter()
                .any(|text| text.contains(value));
        assert!(
            !telling || !complaint.contains(value) || OURS.contains(value),
            "{complaint}"
        );
    }
}

/// All of the words that a complaint is made of, as far as they are long.
const OURS: &str = "The arguments do not fit. Additional properties are not allowed is a required property \
    is not valid under any of the schemas listed in the 'anyOf' 'oneOf' keyword does not match is not of type \
    is less than the minimum of is greater than the maximum of has non-unique elements is longer than characters \
    is shorter than characters were unexpected was unexpected The arguments have to be a JSON object.";

fn strings<'a>(value: &'a Value, values: &mut Vec<&'a str>, names: &mut String) {
    match value {
        Value::String(text) => values.push(text),
        Value::Array(items) => items.iter().for_each(|item| strings(item, values, names)),
        Value::Object(object) => {
            for (name, value) in object {
                names.push_str(name);
                strings(value, values, names);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The built-in ones, and such as operators write.
fn tools() -> &'static [Tool] {
    static TOOLS: OnceLock<Vec<Tool>> = OnceLock::new();
    TOOLS.get_or_init(|| {
        let url = PublicUrl::parse("https://bridge.example.com").expect("a good URL");
        let mut config = Config::new(url);
        config.transfer.warm = true;
        config.transfer.numbers = vec![Destination {
            number: "+61299990001".to_owned(),
            name: Some("sales".to_owned()),
        }];
        config.sms.to_caller = true;
        config.calls.record = Some("/var/lib/hume-bridge/calls".into());
        let catalogue = Catalogue::of(&config, None);
        let builtin = catalogue.offers().iter();
        let builtin = builtin.map(|offer| offer.parameters.clone());
        let written = written().map(|schema| schema.to_string());
        builtin.chain(written).map(tool).collect()
    })
}

fn tool(parameters: String) -> Tool {
    let schema = serde_json::from_str(&parameters).expect("it is JSON");
    Tool {
        schema: Schema::compile(&schema).expect("it is a schema"),
        parameters,
    }
}

fn written() -> [Value; 5] {
    [
        json!({ "type": "object", "properties": {} }),
        json!({
            "type": "object",
            "properties": {
                "date": { "type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$" },
                "time": { "type": "string", "format": "time" },
                "mail": { "type": "string", "format": "email" },
                "guests": { "type": "integer", "minimum": 1, "maximum": 12, "multipleOf": 1 },
                "wishes": { "type": "array", "items": { "type": "string" }, "uniqueItems": true, "maxItems": 3 }
            },
            "required": ["date"],
            "additionalProperties": false
        }),
        // It looks around, so it is matched by the engine that has to be kept in bounds.
        json!({
            "type": "object",
            "properties": { "word": { "type": "string", "pattern": "^(?!no)((a|aa)+b?)+$" } },
            "patternProperties": { "^x-": { "type": "number" } }
        }),
        json!({
            "type": "object",
            "properties": { "tree": { "$ref": "#/$defs/tree" } },
            "$defs": {
                "tree": {
                    "type": "object",
                    "properties": {
                        "leaf": { "type": ["string", "null"] },
                        "twigs": { "type": "array", "items": { "$ref": "#/$defs/tree" } }
                    }
                }
            }
        }),
        json!({
            "type": "object",
            "oneOf": [
                { "required": ["order"], "properties": { "order": { "const": "last" } } },
                { "required": ["number"], "properties": { "number": { "enum": [1, 2.5, "three", null] } } }
            ],
            "dependentRequired": { "number": ["street"] },
            "propertyNames": { "maxLength": 20 },
            "if": { "required": ["street"] },
            "then": { "properties": { "street": { "minLength": 2 } } }
        }),
    ]
}
