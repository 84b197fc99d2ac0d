//! Names, numbers and digests, each a type of its own, so that none can stand where another belongs.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

/// Makes a fixed-size byte string that reads and writes itself as lower-case hex.
macro_rules! hex_bytes {
    ($(#[$doc:meta])* $name:ident, $size:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $size]);

        impl $name {
            /// The bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $size] {
                &self.0
            }
        }

        impl From<[u8; $size]> for $name {
            fn from(bytes: [u8; $size]) -> Self {
                Self(bytes)
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                crate::encoding::from_hex(text).map(Self).ok_or(BadId::Hex { what: stringify!($name), bytes: $size })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

hex_bytes!(
    /// A SHA-256 digest (32 bytes). In text: 64 lower-case hex digits.
    Digest,
    32
);
hex_bytes!(
    /// The broker's nonce (32 bytes), part of a [`crate::challenge::Challenge`].
    Nonce,
    32
);
hex_bytes!(
    /// The guest's fresh number for one request (16 bytes).
    RequestId,
    16
);
hex_bytes!(
    /// The broker's number for one decision (16 bytes); what `portcullis explain` takes.
    DecisionId,
    16
);

macro_rules! random {
    ($($name:ident),*) => {$(
        impl $name {
            /// A fresh random one from the operating system.
            ///
            /// # Errors
            /// [`NoRandomness`] where the operating system has none to give.
            pub fn random() -> Result<Self, NoRandomness> {
                random_bytes().map(Self)
            }
        }
    )*};
}
random!(Nonce, RequestId, DecisionId);

/// `N` random bytes from the operating system.
///
/// # Errors
/// [`NoRandomness`] where it has none to give.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// The operating system gave no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct NoRandomness;

/// Why a text is no id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadId {
    /// Not the right number of hex digits.
    #[error("not a {what}: expected {bytes} bytes of lower-case hex")]
    Hex {
        /// The type that was expected.
        what: &'static str,
        /// Its size in bytes.
        bytes: usize,
    },
    /// Not a name; [`Name`] says what one is.
    #[error("not a name: expected 1 to {max} characters of a-z 0-9 . _ - in segments divided by single slashes, none of them . or ..", max = Name::MAX)]
    Name,
    /// A version number outside 1 ..= 2^53 - 1.
    #[error("not a version: expected a whole number from 1 to 9007199254740991")]
    Version,
    /// Not a [`Role`].
    #[error("not a role: expected whole-vm or workload:NAME")]
    Role,
}

/// A name of a record, a policy, a workload: segments of `[a-z0-9._-]` divided by single `/`, 1 to 128 characters
/// in all, no segment `.` or `..`. It can stand in a URL path, a file path and a SPIFFE ID as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// The longest name, in characters.
    pub const MAX: usize = 128;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this name lies under `prefix`: `*` covers every name, `a/*` covers `a/b` and `a/b/c`, `a` covers only `a`.
    #[must_use]
    pub fn is_covered_by(&self, pattern: &str) -> bool {
        match pattern.strip_suffix('*') {
            Some("") => true,
            Some(prefix) if prefix.ends_with('/') => self.0.len() > prefix.len() && self.0.starts_with(prefix),
            _ => self.0 == pattern,
        }
    }
}

impl FromStr for Name {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        let character = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        let segment = |part: &str| !part.is_empty() && part != "." && part != ".." && part.bytes().all(character);
        if text.len() <= Self::MAX && text.split('/').all(segment) { Ok(Self(text.to_owned())) } else { Err(BadId::Name) }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<[u8]> for Name {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A version of a record or of a signed document: 1 or more, and it only grows. Below 2^53, so that every JSON reader keeps it exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u64);

impl Version {
    /// The first version.
    pub const FIRST: Self = Self(1);

    /// The number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl TryFrom<u64> for Version {
    type Error = BadId;
    fn try_from(number: u64) -> Result<Self, BadId> {
        if (1..1 << 53).contains(&number) { Ok(Self(number)) } else { Err(BadId::Version) }
    }
}

impl FromStr for Version {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        text.parse::<u64>().map_err(|_| BadId::Version)?.try_into()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer)?.try_into().map_err(de::Error::custom)
    }
}

/// Under whose roots an installation judges evidence. Fixed when it is initialised, written into every claim,
/// record, log entry and token, and never mixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnchorClass {
    /// The processor vendors' own roots, compiled in. The only class for anything of value.
    Vendor,
    /// Roots named at initialisation, such as a soft platform's: for demonstrations and tests.
    Test,
}

impl AnchorClass {
    /// `vendor` or `test`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vendor => "vendor",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for AnchorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The kind of confidential VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Platform {
    /// AMD SEV-SNP.
    #[serde(rename = "sev-snp")]
    SevSnp,
    /// Intel TDX.
    #[serde(rename = "tdx")]
    Tdx,
}

impl Platform {
    /// `sev-snp` or `tdx`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SevSnp => "sev-snp",
            Self::Tdx => "tdx",
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// For whom in the VM the evidence speaks. The evidence agent writes it into the transcript; a policy must name one.
/// In text: `whole-vm` or `workload:NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The VM as a whole: whoever can reach its attestation device.
    WholeVm,
    /// One workload, as the measured evidence agent named the caller of that workload's socket.
    Workload(Name),
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WholeVm => f.write_str("whole-vm"),
            Self::Workload(name) => write!(f, "workload:{name}"),
        }
    }
}

impl FromStr for Role {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        if text == "whole-vm" {
            return Ok(Self::WholeVm);
        }
        let name = text.strip_prefix("workload:").ok_or(BadId::Role)?;
        name.parse().map(Self::Workload).map_err(|_| BadId::Role)
    }
}

impl Serialize for Role {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Role {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_escape_a_path() {
        for bad in ["", "/a", "a/", "a//b", ".", "..", "a/../b", "A", "a b", "a%2f", "ä", &"a".repeat(129)] {
            assert_eq!(bad.parse::<Name>(), Err(BadId::Name), "{bad:?}");
        }
        for good in ["a", "acme/llama-3.1-8b", "..a", &"a".repeat(128)] {
            assert!(good.parse::<Name>().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_pattern_covers_whole_segments() {
        let name: Name = "acme/llama".parse().unwrap();
        assert!(name.is_covered_by("*") && name.is_covered_by("acme/*") && name.is_covered_by("acme/llama"));
        assert!(!name.is_covered_by("acme") && !name.is_covered_by("acme/l*") && !name.is_covered_by("acm*") && !name.is_covered_by(""));
    }

    #[test]
    fn versions_stay_exact_in_json() {
        assert_eq!(Version::try_from(0), Err(BadId::Version));
        assert_eq!(Version::try_from(1 << 53), Err(BadId::Version));
        assert!(Version::try_from((1 << 53) - 1).is_ok());
    }

    #[test]
    fn a_role_names_the_whole_vm_or_one_workload() {
        assert_eq!("whole-vm".parse(), Ok(Role::WholeVm));
        assert_eq!("workload:vllm".parse::<Role>().unwrap().to_string(), "workload:vllm");
        assert_eq!("workload:".parse::<Role>(), Err(BadId::Role));
        assert_eq!("vllm".parse::<Role>(), Err(BadId::Role));
    }
}
