//! The shapes of JSON that a Realtime server takes, as data, and the check of a value against one.
//!
//! A field that is not in the table, one that is missing and one of another kind are each answered with the
//! error that OpenAI's server has for it, which names the field by its path: `session.tools[0].name`.

use serde_json::Value;

/// What a value may be.
#[derive(Debug)]
pub(super) enum Shape {
    Text,
    Base64,
    Bool,
    /// A JSON integer, not `12.0` and not `"12"`.
    Int(i64, i64),
    Number(f64, f64),
    Word(&'static [&'static str]),
    Null,
    /// A JSON Schema, say: an object of which nothing is known.
    Free,
    /// An object of strings.
    Texts,
    Object(&'static [Field]),
    List(&'static Shape),
    /// An object whose field of this name says what else it is.
    Tagged(&'static str, &'static [(&'static str, Shape)]),
    /// The first that is of the value's JSON kind.
    Either(&'static [Shape]),
}

/// A field of an object.
#[derive(Debug)]
pub(super) struct Field {
    name: &'static str,
    needed: bool,
    shape: Shape,
}

/// A field that must be there.
pub(super) const fn must(name: &'static str, shape: Shape) -> Field {
    Field {
        name,
        needed: true,
        shape,
    }
}

/// A field that may be.
pub(super) const fn may(name: &'static str, shape: Shape) -> Field {
    Field {
        name,
        needed: false,
        shape,
    }
}

/// Why a value was refused, as the `error` event says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub code: &'static str,
    pub param: String,
    pub message: String,
}

impl Fault {
    pub fn new(code: &'static str, param: &str, message: impl Into<String>) -> Fault {
        Fault {
            code,
            param: param.to_owned(),
            message: message.into(),
        }
    }

    fn kind(path: &str, wanted: &str, value: &Value) -> Fault {
        let is = match value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(n) if n.is_f64() => "a decimal",
            Value::Number(_) => "an integer",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        };
        let message =
            format!("Invalid type for '{path}': expected {wanted}, but got {is} instead.");
        Fault::new("invalid_type", path, message)
    }

    fn words<'a>(path: &str, value: &str, words: impl Iterator<Item = &'a str>) -> Fault {
        let words: Vec<String> = words.map(|word| format!("'{word}'")).collect();
        let message = format!(
            "Invalid value: '{value}'. Supported values are: {}.",
            words.join(", ")
        );
        Fault::new("invalid_value", path, message)
    }

    fn missing(path: &str) -> Fault {
        let message = format!("Missing required parameter: '{path}'.");
        Fault::new("missing_required_parameter", path, message)
    }
}

impl Shape {
    /// Holds a value against the shape. `path` is the value's own.
    pub fn check(&self, value: &Value, path: &str) -> Result<(), Fault> {
        match (self, value) {
            (Shape::Text, Value::String(_))
            | (Shape::Bool, Value::Bool(_))
            | (Shape::Null, Value::Null)
            | (Shape::Free, Value::Object(_)) => Ok(()),
            (Shape::Base64, Value::String(text)) => {
                let checked = base64_simd::STANDARD.check(text.as_bytes());
                checked.map_err(|_| {
                    let message = format!("Invalid '{path}': expected base64-encoded bytes.");
                    Fault::new("invalid_value", path, message)
                })
            }
            (Shape::Int(least, most), Value::Number(number)) => {
                let integer = number.as_i64();
                let integer = integer.ok_or_else(|| Fault::kind(path, "an integer", value))?;
                within(path, integer as f64, *least as f64, *most as f64, "integer")
            }
            (Shape::Number(least, most), Value::Number(number)) => {
                let number = number.as_f64().unwrap_or(f64::MAX);
                within(path, number, *least, *most, "decimal")
            }
            (Shape::Word(words), Value::String(word)) => {
                if words.contains(&word.as_str()) {
                    Ok(())
                } else {
                    Err(Fault::words(path, word, words.iter().copied()))
                }
            }
            (Shape::Texts, Value::Object(map)) => map
                .iter()
                .try_for_each(|(key, value)| Shape::Text.check(value, &format!("{path}.{key}"))),
            (Shape::Object(fields), Value::Object(_)) => object(fields, value, path),
            (Shape::List(shape), Value::Array(list)) => {
                let mut items = list.iter().enumerate();
                items.try_for_each(|(n, item)| shape.check(item, &format!("{path}[{n}]")))
            }
            (Shape::Tagged(tag, kinds), Value::Object(map)) => {
                let path_of_tag = below(path, tag);
                let word = map.get(*tag).ok_or_else(|| Fault::missing(&path_of_tag))?;
                let text = word.as_str();
                let word = text.ok_or_else(|| Fault::kind(&path_of_tag, "a string", word))?;
                match kinds.iter().find(|(name, _)| *name == word) {
                    Some((_, shape)) => shape.check(value, path),
                    None => Err(Fault::words(
                        &path_of_tag,
                        word,
                        kinds.iter().map(|(name, _)| *name),
                    )),
                }
            }
            (Shape::Either(shapes), value) => {
                match shapes.iter().find(|shape| shape.is_kind_of(value)) {
                    Some(shape) => shape.check(value, path),
                    None => {
                        let kinds: Vec<&str> = shapes.iter().map(Shape::kind).collect();
                        Err(Fault::kind(
                            path,
                            &format!("one of {}", kinds.join(" or ")),
                            value,
                        ))
                    }
                }
            }
            (shape, value) => Err(Fault::kind(path, shape.kind(), value)),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Shape::Text | Shape::Base64 | Shape::Word(_) => "a string",
            Shape::Bool => "a boolean",
            Shape::Int(..) => "an integer",
            Shape::Number(..) => "a number",
            Shape::Null => "null",
            Shape::Free | Shape::Texts | Shape::Object(_) | Shape::Tagged(..) => "an object",
            Shape::List(_) => "an array",
            Shape::Either(_) => "one of several",
        }
    }

    fn is_kind_of(&self, value: &Value) -> bool {
        match self {
            Shape::Int(..) | Shape::Number(..) => value.is_number(),
            Shape::Text | Shape::Base64 | Shape::Word(_) => value.is_string(),
            Shape::Bool => value.is_boolean(),
            Shape::Null => value.is_null(),
            Shape::Free | Shape::Texts | Shape::Object(_) | Shape::Tagged(..) => value.is_object(),
            Shape::List(_) => value.is_array(),
            Shape::Either(shapes) => shapes.iter().any(|shape| shape.is_kind_of(value)),
        }
    }
}

fn within(path: &str, number: f64, least: f64, most: f64, kind: &str) -> Result<(), Fault> {
    let (code, bound) = match (kind, number < least, number > most) {
        (_, false, false) => return Ok(()),
        ("integer", true, _) => ("integer_below_min_value", least),
        ("integer", ..) => ("integer_above_max_value", most),
        (_, true, _) => ("decimal_below_min_value", least),
        _ => ("decimal_above_max_value", most),
    };
    let message = format!("Invalid '{path}': {number} is beyond the bound of {bound}.");
    Err(Fault::new(code, path, message))
}

fn object(fields: &[Field], value: &Value, path: &str) -> Result<(), Fault> {
    let map = value.as_object().into_iter().flatten();
    for (key, value) in map {
        let path = below(path, key);
        match fields.iter().find(|field| field.name == key) {
            Some(field) => field.shape.check(value, &path)?,
            None => {
                let message = format!("Unknown parameter: '{path}'.");
                return Err(Fault::new("unknown_parameter", &path, message));
            }
        }
    }
    let missing = |field: &&Field| field.needed && value.get(field.name).is_none();
    match fields.iter().find(missing) {
        Some(field) => Err(Fault::missing(&below(path, field.name))),
        None => Ok(()),
    }
}

fn below(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}
