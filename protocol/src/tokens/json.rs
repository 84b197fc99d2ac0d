//! JSON objects as tokens have them: a member that stands twice is refused, since two readers could each believe another one.

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;

/// Why bytes are no such object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JsonError {
    /// Not JSON, or something behind it, or no object.
    Form(String),
    /// A member stands twice.
    Duplicate(String),
}

/// Reads exactly one object, without duplicate members at any depth.
pub(crate) fn object(bytes: &[u8]) -> Result<Map<String, Value>, JsonError> {
    let duplicate = RefCell::new(None);
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = Strict { duplicate: &duplicate }.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    match (read, duplicate.into_inner()) {
        (Ok(Value::Object(members)), _) => Ok(members),
        (Ok(_), _) => Err(JsonError::Form("not an object".to_owned())),
        (Err(_), Some(name)) => Err(JsonError::Duplicate(name)),
        (Err(error), None) => Err(JsonError::Form(error.to_string())),
    }
}

/// A value of which each is read from an object: serde's own readers would take a list of the members too.
#[derive(Debug)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(Members(PhantomData))
    }
}

/// Any value. What stands twice is noted beside serde's own error, which is text alone.
#[derive(Clone, Copy)]
struct Strict<'a> {
    duplicate: &'a RefCell<Option<String>>,
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number that is none"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if members.contains_key(&name) {
                *self.duplicate.borrow_mut() = Some(name);
                return Err(A::Error::custom("a member stands twice"));
            }
            let value = map.next_value_seed(self)?;
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_reads_as_serde_json_reads_it() {
        let text = r#"{"a":[1,-2,3.5,true,null,{"b":"é"}],"c":{}}"#;
        assert_eq!(Value::Object(object(text.as_bytes()).unwrap()), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn a_member_that_stands_twice_is_refused_at_any_depth() {
        let duplicate = |name: &str| Err(JsonError::Duplicate(name.to_owned()));
        assert_eq!(object(br#"{"a":1,"a":1}"#), duplicate("a"));
        assert_eq!(object(br#"{"a":[{"b":1,"b":2}]}"#), duplicate("b"));
        assert_eq!(object(br#"{"a":1,"\u0061":1}"#), duplicate("a"), "one name in two spellings");
        assert!(object(br#"{"a":{"a":1},"b":{"a":1}}"#).is_ok());
    }

    #[test]
    fn a_list_of_members_is_no_object() {
        #[derive(Debug, PartialEq, serde::Deserialize)]
        struct Pair {
            a: u8,
            b: Option<u8>,
        }
        let read = |text: &str| serde_json::from_str::<Object<Pair>>(text).map(|object| object.0).ok();
        assert_eq!(read(r#"{"a":1,"b":2}"#), Some(Pair { a: 1, b: Some(2) }));
        assert_eq!(read(r#"{"a":1}"#), Some(Pair { a: 1, b: None }));
        assert!(serde_json::from_str::<Pair>("[1,2]").is_ok(), "which is why");
        for bad in ["[1,2]", "[]", "null", "1", "{}"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_one_object_is_one() {
        for bad in ["", "{", "{}{}", "{} x", "{\"a\":}", "{\"a\":1e999}", "{\"a\":\"\\ud800\"}", &format!("{{\"a\":{}1", "[".repeat(200))] {
            assert!(matches!(object(bad.as_bytes()), Err(JsonError::Form(_))), "{bad}");
        }
        for bad in ["1", "[]", "null", "\"{}\""] {
            assert_eq!(object(bad.as_bytes()), Err(JsonError::Form("not an object".to_owned())), "{bad}");
        }
        assert!(object(b" {} \n").is_ok());
    }
}
