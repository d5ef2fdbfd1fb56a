//! How agents' messages are read: borrowed where they can be, and never stricter than needed.
//!
//! A message is parsed in steps: first what all messages share, then the one type that it names. A
//! `Value` or an internally tagged enum would copy every base64 body once more. Unknown fields are
//! ignored. [`Text`] insists; the other types take a value of another kind for nothing, for fields whose
//! meaning depends on a type that may be unknown, and for servers that only resemble the documented one.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Ignored;

/// Reads one message, or a part of it.
pub(super) fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Ignored> {
    // serde would take an array for a struct, field by field.
    if !text.trim_ascii_start().starts_with('{') {
        return Err(Ignored::Malformed);
    }
    serde_json::from_str(text).map_err(|_| Ignored::Malformed)
}

/// A string, borrowed where it has no escapes. (`Option<Cow<str>>` would always be copied.)
pub(super) struct Text<'a>(pub Cow<'a, str>);

/// A string if it is one.
#[derive(Default)]
pub(super) struct Loose<'a>(pub Option<Cow<'a, str>>);

impl Loose<'_> {
    pub fn get(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

/// A number if it is one.
#[derive(Clone, Copy, Default)]
pub(super) struct Number(pub Option<f64>);

/// An object if it is one.
pub(super) struct Part<T>(pub Option<T>);

impl<T> Default for Part<T> {
    fn default() -> Self {
        Part(None)
    }
}

/// The first of a list, if it is one: nobody who means well sends more.
pub(super) struct Few<T>(pub Vec<T>);

impl<T> Default for Few<T> {
    fn default() -> Self {
        Few(Vec::new())
    }
}

/// How many that is.
const FEW: usize = 64;

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: de::Error>(self, v: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(v)))
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(v.to_owned())))
            }
        }
        deserializer.deserialize_str(V)
    }
}

/// The methods of a visitor that takes these kinds of values for nothing.
macro_rules! nothing {
    ($($kind:ident)*) => { $(nothing!(@ $kind);)* };
    (@ scalar) => {
        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("anything")
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
    };
    (@ number) => {
        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
    };
    (@ string) => {
        fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
    };
    (@ list) => {
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok(Self::Value::default())
        }
    };
    (@ object) => {
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(Self::Value::default())
        }
    };
}

impl<'de: 'a, 'a> Deserialize<'de> for Loose<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Loose<'de>;
            nothing!(scalar number list object);
            fn visit_borrowed_str<E: de::Error>(self, v: &'de str) -> Result<Loose<'de>, E> {
                Ok(Loose(Some(Cow::Borrowed(v))))
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Loose<'de>, E> {
                Ok(Loose(Some(Cow::Owned(v.to_owned()))))
            }
        }
        deserializer.deserialize_any(V)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Number;
            nothing!(scalar string list object);
            fn visit_u64<E>(self, v: u64) -> Result<Number, E> {
                Ok(Number(Some(v as f64)))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Number, E> {
                Ok(Number(Some(v as f64)))
            }
            fn visit_f64<E>(self, v: f64) -> Result<Number, E> {
                Ok(Number(Some(v)))
            }
        }
        deserializer.deserialize_any(V)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Part<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for V<T> {
            type Value = Part<T>;
            nothing!(scalar number string list);
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Part<T>, A::Error> {
                let object = de::value::MapAccessDeserializer::new(map);
                T::deserialize(object).map(|part| Part(Some(part)))
            }
        }
        deserializer.deserialize_any(V(PhantomData))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for V<T> {
            type Value = Few<T>;
            nothing!(scalar number string object);
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Few<T>, A::Error> {
                let mut few = Vec::new();
                while few.len() < FEW {
                    match seq.next_element::<Part<T>>()? {
                        Some(Part(element)) => few.extend(element),
                        None => return Ok(Few(few)),
                    }
                }
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Few(few))
            }
        }
        deserializer.deserialize_any(V(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Message<'a> {
        #[serde(borrow, default)]
        text: Loose<'a>,
        #[serde(default)]
        number: Number,
        #[serde(borrow, default)]
        part: Part<Inner<'a>>,
        #[serde(borrow, default)]
        list: Few<Inner<'a>>,
    }

    #[derive(Deserialize)]
    struct Inner<'a> {
        #[serde(borrow, default)]
        id: Loose<'a>,
    }

    #[test]
    fn a_value_of_another_kind_is_nothing() {
        let others = [
            "null",
            "true",
            "7",
            "-7",
            "7.5",
            r#""x""#,
            r#""\n""#,
            "[]",
            "[[1],{}]",
            "{}",
            r#"{"id":[]}"#,
        ];
        for value in others {
            let text = format!(
                r#"{{"text":{value},"number":{value},"part":{value},"list":{value},"other":{value}}}"#
            );
            let message: Message<'_> = parse(&text).expect(value);
            assert_eq!(
                message.text.get().is_some(),
                value.starts_with('"'),
                "{value}"
            );
            assert_eq!(message.number.0.is_some(), value.contains('7'), "{value}");
            assert_eq!(message.part.0.is_some(), value.starts_with('{'), "{value}");
            assert!(message.part.0.is_none_or(|part| part.id.get().is_none()));
            assert_eq!(message.list.0.len(), usize::from(value == "[[1],{}]"));
        }
        assert!(parse::<Message<'_>>("[]").is_err() && parse::<Message<'_>>("{").is_err());
    }

    #[test]
    fn a_list_without_end_costs_no_more_than_a_few() {
        let text = format!(
            r#"{{"list":[{}{{"id":"last"}}]}}"#,
            r#"{"id":"a"},"#.repeat(10_000)
        );
        let message: Message<'_> = parse(&text).unwrap();
        assert_eq!(message.list.0.len(), FEW);
        assert!(matches!(&message.list.0[0].id.0, Some(Cow::Borrowed("a"))));
    }
}
