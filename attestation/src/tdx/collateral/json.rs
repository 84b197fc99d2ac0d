//! Signed JSON, read so that the bytes that were signed are the bytes that are read, and so that no two readers can read two things.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use protocol::encoding::from_hex;
use protocol::limits;
use protocol::time::UnixTime;
use serde::Deserialize;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::tdx::rejection::TdxRejection;

/// A signed document, not yet believed: an object of exactly two keys.
pub(super) struct Signed<'a> {
    /// The signed value, exactly as received: from its first to its last byte.
    pub(super) value: &'a str,
    /// r ‖ s.
    pub(super) signature: [u8; 64],
}

/// Takes a document apart: UTF-8, one object, in it `name` and `signature` and nothing else, and no key twice in any object.
pub(super) fn split<'a>(body: &'a [u8], name: &'static str, document: &'static str) -> Result<Signed<'a>, TdxRejection> {
    if body.len() > limits::COLLATERAL_BODY {
        return Err(TdxRejection::DocumentTooLong { document, limit: limits::COLLATERAL_BODY, found: body.len() });
    }
    let malformed = |what: &str| TdxRejection::DocumentMalformed { document, what: what.to_owned() };
    let text = core::str::from_utf8(body).map_err(|_| malformed("no UTF-8"))?;
    no_key_twice(text, document)?;
    let outer: BTreeMap<String, &'a RawValue> = serde_json::from_str(text).map_err(|error| malformed(&error.to_string()))?;
    let (Some(value), Some(signature), 2) = (outer.get(name), outer.get("signature"), outer.len()) else {
        return Err(malformed("its keys are not exactly its name and signature"));
    };
    let signature = serde_json::from_str::<&str>(signature.get()).ok().and_then(|text| from_hex(&text.to_ascii_lowercase()));
    let signature = signature.ok_or_else(|| malformed("its signature is not 64 bytes in hex"))?;
    Ok(Signed { value: value.get(), signature })
}

/// Reads the signed value.
pub(super) fn read<T: DeserializeOwned>(value: &str, document: &'static str) -> Result<T, TdxRejection> {
    serde_json::from_str(value).map_err(|error| TdxRejection::DocumentMalformed { document, what: error.to_string() })
}

/// Refuses a document in which any object has a key twice, however it is spelled.
fn no_key_twice(text: &str, document: &'static str) -> Result<(), TdxRejection> {
    let mut twice = None;
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = Unique(&mut twice).deserialize(&mut reader).and_then(|()| reader.end());
    match (twice, read) {
        (Some(key), _) => Err(TdxRejection::DocumentDuplicateKey { document, key }),
        (None, Err(error)) => Err(TdxRejection::DocumentMalformed { document, what: error.to_string() }),
        (None, Ok(())) => Ok(()),
    }
}

/// Walks through any value and takes note of the first key that stands twice.
struct Unique<'a>(&'a mut Option<String>);

impl<'de> DeserializeSeed<'de> for Unique<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Unique(&mut *self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut seen = BTreeSet::new();
        while let Some(Key(key)) = entries.next_key()? {
            if seen.contains(&key) {
                *self.0 = Some(key.into_owned());
                return Err(de::Error::custom("a key twice"));
            }
            seen.insert(key);
            entries.next_value_seed(Unique(&mut *self.0))?;
        }
        Ok(())
    }
}

/// A key, as it reads once its escapes are gone.
struct Key<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Bytes in hex of either case, of exactly their length.
pub(super) struct Hex<const N: usize>(pub(super) [u8; N]);

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        from_hex(&text.to_ascii_lowercase()).map(Self).ok_or_else(|| de::Error::custom(format_args!("expected {N} bytes in hex")))
    }
}

/// A level of a document: a TCB, and what is said of it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawLevel<T> {
    pub(super) tcb: T,
    pub(super) tcb_date: UnixTime,
    pub(super) tcb_status: String,
    #[serde(default, rename = "advisoryIDs")]
    pub(super) advisories: Vec<String>,
}

/// A TCB that is one ISVSVN: of a TDX module or of a quoting enclave.
#[derive(Deserialize)]
pub(super) struct RawIsvTcb {
    pub(super) isvsvn: u16,
}
