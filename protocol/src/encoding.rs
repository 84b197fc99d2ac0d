//! Byte strings that are hashed or signed, and how bytes stand in JSON.

use ::base64::Engine;
use ::base64::engine::general_purpose::STANDARD;
use aws_lc_rs::{digest, hmac};

use serde::Serialize;
use std::io;
use zeroize::Zeroizing;

use crate::ids::Digest;

/// A domain-separated, length-prefixed byte string: the label, then each field, each behind its length
/// as a big-endian `u32`. Whatever this project hashes or authenticates is built here, so that no two
/// different lists of fields give the same bytes.
///
/// A field longer than `u32::MAX` bytes cannot be expressed; inputs are bounded far below it ([`crate::limits`]).
#[derive(Clone)]
pub struct Fields(Vec<u8>);

impl Fields {
    /// Starts with `label`, itself length-prefixed.
    #[must_use]
    pub fn new(label: &str) -> Self {
        Self(Vec::with_capacity(256)).field(label.as_bytes())
    }

    /// Appends one field of bytes.
    #[must_use]
    pub fn field(mut self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    /// Appends a number as a field of 8 big-endian bytes.
    #[must_use]
    pub fn number(self, value: u64) -> Self {
        self.field(value.to_be_bytes())
    }

    /// Appends a field that may be absent: one byte says which, so that absent is never empty.
    #[must_use]
    pub fn optional(self, bytes: Option<&[u8]>) -> Self {
        match bytes {
            None => self.field([0]),
            Some(bytes) => self.field([1]).field(bytes),
        }
    }

    /// The bytes themselves.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// SHA-256 of the bytes.
    #[must_use]
    pub fn sha256(&self) -> Digest {
        sha256(&self.0)
    }

    /// SHA-512 of the bytes.
    #[must_use]
    pub fn sha512(&self) -> [u8; 64] {
        copied(digest::digest(&digest::SHA512, &self.0).as_ref())
    }

    /// HMAC-SHA256 of the bytes under `key`.
    #[must_use]
    pub fn hmac_sha256(&self, key: &[u8; 32]) -> [u8; 32] {
        hmac_sha256(key, &self.0)
    }
}

impl Drop for Fields {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

/// SHA-256 of `bytes`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Digest {
    Digest::from(copied(digest::digest(&digest::SHA256, bytes).as_ref()))
}

/// HMAC-SHA256 of `bytes` under `key`.
#[must_use]
pub fn hmac_sha256(key: &[u8; 32], bytes: &[u8]) -> [u8; 32] {
    copied(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), bytes).as_ref())
}

/// An array of a hash's output, whose size the algorithm fixes.
fn copied<const N: usize>(output: &[u8]) -> [u8; N] {
    debug_assert_eq!(output.len(), N);
    let mut bytes = [0; N];
    for (to, from) in bytes.iter_mut().zip(output) {
        *to = *from;
    }
    bytes
}

/// Standard base64 with padding.
#[must_use]
pub fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Reads standard base64: padded, canonical, no white space.
#[must_use]
pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// A buffer for text that holds a secret: where it has to grow, what it leaves behind is erased.
#[derive(Default)]
struct ErasedBuffer(Zeroizing<Vec<u8>>);

impl io::Write for ErasedBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.0.len().saturating_add(bytes.len());
        if length > self.0.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(length.max(1024).saturating_mul(2)));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How JSON is spaced.
#[derive(Clone, Copy)]
pub(crate) enum Spacing {
    /// Not at all.
    Compact,
    /// For people.
    Pretty,
}

/// JSON of a value with a secret in it, without a copy of it anywhere else.
pub(crate) fn secret_json(value: &impl Serialize, spacing: Spacing) -> serde_json::Result<Zeroizing<Vec<u8>>> {
    let mut buffer = ErasedBuffer::default();
    match spacing {
        Spacing::Compact => serde_json::to_writer(&mut buffer, value)?,
        Spacing::Pretty => serde_json::to_writer_pretty(&mut buffer, value)?,
    }
    Ok(buffer.0)
}

/// Where JSON with a secret in it is wrong. The reader's own words may quote what they found there.
pub(crate) fn place_of(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Data => "an unexpected value or field",
        _ => "no JSON",
    };
    format!("{what} at line {} column {}", error.line(), error.column())
}

/// Serde adaptor for byte vectors as base64 strings: `#[serde(with = "protocol::encoding::base64")]`.
pub mod base64 {
    use serde::{Deserialize, Deserializer, Serializer, de};

    /// Writes base64.
    ///
    /// # Errors
    /// The serializer's own.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::to_base64(bytes))
    }

    /// Reads base64.
    ///
    /// # Errors
    /// Where the text is no base64.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        super::from_base64(&text).ok_or_else(|| de::Error::custom("not base64"))
    }
}

/// Reads 1 to `LIMIT` bytes of base64: `#[serde(deserialize_with = "bounded_base64::<LIMIT, _>")]`. The length is judged before anything is decoded.
pub(crate) fn bounded_base64<'de, const LIMIT: usize, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    use serde::{Deserialize, de::Error};
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    // Four characters for each three bytes that were begun.
    if text.is_empty() || text.len() > LIMIT.div_ceil(3).saturating_mul(4) {
        return Err(D::Error::custom(format_args!("not 1 to {LIMIT} bytes of base64")));
    }
    let bytes = from_base64(&text).ok_or_else(|| D::Error::custom("not base64"))?;
    if bytes.len() > LIMIT { Err(D::Error::custom(format_args!("not 1 to {LIMIT} bytes of base64"))) } else { Ok(bytes) }
}

/// Serde adaptor for arrays as lower-case hex strings: `#[serde(with = "protocol::encoding::hex")]`.
pub mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de};

    /// Writes lower-case hex.
    ///
    /// # Errors
    /// The serializer's own.
    pub fn serialize<S: Serializer, const N: usize>(bytes: &[u8; N], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&::hex::encode(bytes))
    }

    /// Reads exactly `N` bytes of hex, lower case.
    ///
    /// # Errors
    /// Where the text is anything else.
    pub fn deserialize<'de, D: Deserializer<'de>, const N: usize>(deserializer: D) -> Result<[u8; N], D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        super::from_hex(&text).ok_or_else(|| de::Error::custom(format_args!("not {N} bytes of lower-case hex")))
    }
}

/// Reads exactly `N` bytes of lower-case hex.
#[must_use]
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let mut bytes = [0; N];
    ::hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_length_prefixed() {
        let bytes = Fields::new("l").field(b"ab").number(1).optional(None);
        assert_eq!(::hex::encode(bytes.as_bytes()), "000000016c0000000261620000000800000000000000010000000100");
    }

    #[test]
    fn moving_a_border_between_fields_changes_the_digest() {
        assert_ne!(Fields::new("l").field("ab").field("c").sha256(), Fields::new("l").field("a").field("bc").sha256());
        assert_ne!(Fields::new("l").optional(None).sha256(), Fields::new("l").optional(Some(b"")).sha256());
    }

    #[test]
    fn json_of_a_secret_is_the_same_json() {
        let value = vec!["secret".repeat(1000); 9];
        assert_eq!(*secret_json(&value, Spacing::Compact).unwrap(), serde_json::to_vec(&value).unwrap());
        assert_eq!(*secret_json(&value, Spacing::Pretty).unwrap(), serde_json::to_vec_pretty(&value).unwrap());
    }

    #[test]
    fn the_place_of_a_mistake_quotes_nothing() {
        let quoting = serde_json::from_str::<u8>("\n\"secret\"").unwrap_err();
        assert!(quoting.to_string().contains("secret"));
        assert_eq!(place_of(&quoting), "an unexpected value or field at line 2 column 8");
        assert_eq!(place_of(&serde_json::from_str::<u8>("secret").unwrap_err()), "no JSON at line 1 column 1");
    }

    #[test]
    fn hex_is_lower_case_and_exact() {
        assert_eq!(from_hex::<2>("00ff"), Some([0, 255]));
        assert_eq!(from_hex::<2>("00FF"), None);
        assert_eq!(from_hex::<2>("00"), None);
    }
}
