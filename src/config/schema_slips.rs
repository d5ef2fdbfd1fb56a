//! Slips in a JSON Schema that is one all the same.
//!
//! A schema may have any key in it, so a misspelt `minimum` is a rule that never holds, and nobody is
//! told. What is found here could not have been meant: a key that is a keyword but for a letter or two, a format
//! that there is not, a name in `required` that no property has, bounds between which nothing lies. What
//! merely looks odd is an operator's own affair.

use serde_json::{Map, Value};

use super::{check::Complaint, problem::harmless, schema::place, suggest};

/// What stands in a schema and means something, to whomever.
pub(super) const KEYWORDS: [&str; 60] = [
    "$anchor",
    "$comment",
    "$defs",
    "$dynamicAnchor",
    "$dynamicRef",
    "$id",
    "$recursiveAnchor",
    "$recursiveRef",
    "$ref",
    "$schema",
    "$vocabulary",
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "const",
    "contains",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    "default",
    "definitions",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "deprecated",
    "description",
    "else",
    "enum",
    "examples",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "if",
    "items",
    "maxContains",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minContains",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "not",
    "oneOf",
    "pattern",
    "patternProperties",
    "prefixItems",
    "properties",
    "propertyNames",
    "readOnly",
    "required",
    "then",
    "title",
    "type",
    "uniqueItems",
    "writeOnly",
];

/// No keywords of the standard, and no slips: older drafts, OpenAPI and people write them.
const OTHERS: [&str; 6] = ["comment", "example", "id", "note", "notes", "nullable"];

/// Those that arguments are held against.
const FORMATS: [&str; 17] = [
    "date",
    "date-time",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "iri",
    "iri-reference",
    "json-pointer",
    "regex",
    "relative-json-pointer",
    "time",
    "uri",
    "uri-reference",
    "uri-template",
    "uuid",
];

/// OpenAPI's, which say how a value is kept and not what it looks like; schemas are copied from there.
const NOTES: [&str; 7] = [
    "binary", "byte", "double", "float", "int32", "int64", "password",
];

/// Lower and upper bound, and whether they may be the same.
const BOUNDS: [(&str, &str, bool); 8] = [
    ("minimum", "maximum", true),
    ("minimum", "exclusiveMaximum", false),
    ("exclusiveMinimum", "maximum", false),
    ("exclusiveMinimum", "exclusiveMaximum", false),
    ("minLength", "maxLength", true),
    ("minItems", "maxItems", true),
    ("minProperties", "maxProperties", true),
    ("minContains", "maxContains", true),
];

/// The first slip, if there is one.
pub(super) fn slip(schema: &Value) -> Option<Complaint> {
    look(schema, "", true)
}

/// `at` is a JSON pointer. `whole`: the properties that stand here are all that the value has; a part of
/// an `allOf` may speak of those of another part.
fn look(schema: &Value, at: &str, whole: bool) -> Option<Complaint> {
    let object = schema.as_object()?;
    let own = keyword(object, at)
        .or_else(|| format(object, at))
        .or_else(|| bounds(object, at))
        .or_else(|| required(object, at, whole));
    own.or_else(|| object.iter().find_map(|(key, value)| below(key, value, at)))
}

/// The schemas that stand under a keyword.
fn below(key: &str, value: &Value, at: &str) -> Option<Complaint> {
    let whole = !matches!(
        key,
        "$defs"
            | "allOf"
            | "anyOf"
            | "definitions"
            | "dependentSchemas"
            | "else"
            | "if"
            | "not"
            | "oneOf"
            | "then"
    );
    let here = format!("{at}/{key}");
    match key {
        "$defs" | "definitions" | "dependentSchemas" | "patternProperties" | "properties" => {
            let mut entries = value.as_object()?.iter();
            entries.find_map(|(name, schema)| {
                let name = name.replace('~', "~0").replace('/', "~1");
                look(schema, &format!("{here}/{name}"), whole)
            })
        }
        "additionalItems"
        | "additionalProperties"
        | "allOf"
        | "anyOf"
        | "contains"
        | "contentSchema"
        | "else"
        | "if"
        | "items"
        | "not"
        | "oneOf"
        | "prefixItems"
        | "propertyNames"
        | "then" => match value {
            Value::Array(list) => {
                let mut entries = list.iter().enumerate();
                entries.find_map(|(n, schema)| look(schema, &format!("{here}/{n}"), whole))
            }
            schema => look(schema, &here, whole),
        },
        _ => None,
    }
}

fn keyword(object: &Map<String, Value>, at: &str) -> Option<Complaint> {
    let known = |key: &str| KEYWORDS.contains(&key) || OTHERS.contains(&key);
    object.keys().find_map(|key| {
        // Of so few letters anything is near something.
        let told = key.len() > 3 || key == "ref";
        let plain = key
            .bytes()
            .all(|b| b.is_ascii_alphabetic() || b"$_-".contains(&b));
        if known(key) || key.starts_with("x-") || !told || !plain {
            return None;
        }
        let near = suggest::nearest(key, KEYWORDS)?;
        Some(Complaint {
            // So near a keyword it is a slip in one, and can be repeated.
            what: format!("has {key}, which means nothing{}", place(at)),
            mend: format!("did you mean {near}?"),
        })
    })
}

fn format(object: &Map<String, Value>, at: &str) -> Option<Complaint> {
    let format = object.get("format")?.as_str()?;
    if FORMATS.contains(&format) || NOTES.contains(&format) {
        return None;
    }
    let mend = match suggest::nearest(format, FORMATS) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => {
            let all = FORMATS.join(", ");
            format!("remove it, and say in the description what is wanted; there are {all}")
        }
    };
    Some(Complaint {
        what: format!("has a format that there is not{}", place(at)),
        mend,
    })
}

fn bounds(object: &Map<String, Value>, at: &str) -> Option<Complaint> {
    let bound = |key: &str| object.get(key).and_then(Value::as_f64);
    let (low, high, _) = BOUNDS.iter().find(|(low, high, may_be_same)| {
        let both = bound(low).zip(bound(high));
        both.is_some_and(|(low, high)| low > high || low == high && !may_be_same)
    })?;
    Some(Complaint {
        what: format!(
            "has {low} and {high} between which nothing lies{}",
            place(at)
        ),
        mend: "mend one of them".into(),
    })
}

fn required(object: &Map<String, Value>, at: &str, whole: bool) -> Option<Complaint> {
    let elsewhere = [
        "$dynamicRef",
        "$ref",
        "allOf",
        "anyOf",
        "dependentSchemas",
        "if",
        "oneOf",
        "patternProperties",
    ];
    if !whole || elsewhere.iter().any(|key| object.contains_key(*key)) {
        return None;
    }
    // Said on purpose: there may be more than those that have names.
    if !matches!(
        object.get("additionalProperties"),
        None | Some(Value::Bool(false))
    ) {
        return None;
    }
    let properties = object.get("properties")?.as_object()?;
    let mut names = object.get("required")?.as_array()?.iter().enumerate();
    let (n, name) = names.find_map(|(n, name)| {
        let name = name.as_str()?;
        (!properties.contains_key(name)).then_some((n + 1, name))
    })?;
    let near = suggest::nearest(name, properties.keys().map(String::as_str));
    Some(Complaint {
        what: match harmless(name) {
            true => format!(
                "requires \"{name}\", which is not among the properties{}",
                place(at)
            ),
            false => format!(
                "requires what is not among the properties (entry {n}){}",
                place(at)
            ),
        },
        mend: match near.filter(|near| harmless(near)) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => "describe it there, or remove it from required".into(),
        },
    })
}
