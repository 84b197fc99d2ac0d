//! SPIFFE: who a workload is, by a name that others already understand.
//!
//! | module | what it fixes |
//! | --- | --- |
//! | this one | [`TrustDomain`] and [`SpiffeId`], as the SPIFFE-ID standard has them |
//! | [`template`] | how a policy's template and what was proven about a guest make one ID |
//! | [`bundle`] | the keys of a trust domain as it publishes them |
//! | [`published`] | all that an issuer publishes, signed by its broker |

pub mod bundle;
pub mod published;
pub mod template;

#[cfg(test)]
mod bundle_tests;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

pub use bundle::{Bundle, BundleError};
pub use template::{Template, TemplateError, Variables};

/// The scheme and what divides it from the trust domain.
const SCHEME: &str = "spiffe://";

/// The name of a trust domain: 1 to 255 bytes of `[a-z0-9._-]`. Upper case is read as lower case, since the standard compares
/// trust domains without regard to it; nothing else is changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// The longest name, in bytes.
    pub const MAX: usize = 255;

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The trust domain's own SPIFFE ID, without a path: what the Workload API names bundles by.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{SCHEME}{}", self.0)
    }

    /// Reads a trust domain's own SPIFFE ID.
    ///
    /// # Errors
    /// [`SpiffeError`].
    pub fn from_id(text: &str) -> Result<Self, SpiffeError> {
        without_scheme(text)?.parse()
    }
}

impl FromStr for TrustDomain {
    type Err = SpiffeError;
    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        let character = |byte: u8| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        if text.is_empty() || text.len() > Self::MAX || !text.bytes().all(character) {
            return Err(SpiffeError::TrustDomain);
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

/// The SPIFFE ID of a workload: `spiffe://TRUST-DOMAIN/PATH`, at most 2048 bytes, the path not empty, its segments of `[A-Za-z0-9._-]`,
/// none of them empty, `.` or `..`. There is no user, port, query, fragment or percent-encoding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    path: String,
}

impl SpiffeId {
    /// The longest ID, in bytes.
    pub const MAX: usize = 2048;

    /// Of a trust domain and a path, `/` in front.
    ///
    /// # Errors
    /// [`SpiffeError`].
    pub fn new(trust_domain: TrustDomain, path: &str) -> Result<Self, SpiffeError> {
        let length = SCHEME.len().saturating_add(trust_domain.0.len()).saturating_add(path.len());
        if length > Self::MAX {
            return Err(SpiffeError::TooLong { limit: Self::MAX, found: length });
        }
        let segments = path.strip_prefix('/').ok_or(SpiffeError::NoPath)?;
        if !segments.split('/').all(is_segment) {
            return Err(SpiffeError::Path);
        }
        Ok(Self { trust_domain, path: path.to_owned() })
    }

    /// The trust domain.
    #[must_use]
    pub const fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The path, `/` in front.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The whole ID: what stands in a certificate and in a token.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("{SCHEME}{}{}", self.trust_domain.0, self.path)
    }

    /// Whether the path, without the `/` in front, is covered by `pattern`: `*` covers every path, `a/*` covers `a/b` and `a/b/c`, `a`
    /// covers only `a`.
    #[must_use]
    pub fn is_covered_by(&self, pattern: &str) -> bool {
        let path = self.path.strip_prefix('/').unwrap_or(&self.path);
        match pattern.strip_suffix('*') {
            Some("") => true,
            Some(prefix) if prefix.ends_with('/') => path.len() > prefix.len() && path.starts_with(prefix),
            _ => path == pattern,
        }
    }
}

/// One segment of a path.
fn is_segment(segment: &str) -> bool {
    let character = |byte: u8| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(character)
}

/// What follows the scheme, which is read in either case.
fn without_scheme(text: &str) -> Result<&str, SpiffeError> {
    match text.split_at_checked(SCHEME.len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(SCHEME) => Ok(rest),
        _ => Err(SpiffeError::Scheme),
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeError;
    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        if text.len() > Self::MAX {
            return Err(SpiffeError::TooLong { limit: Self::MAX, found: text.len() });
        }
        let rest = without_scheme(text)?;
        let slash = rest.find('/').ok_or(SpiffeError::NoPath)?;
        let (domain, path) = rest.split_at_checked(slash).ok_or(SpiffeError::NoPath)?;
        Self::new(domain.parse()?, path)
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}{}", self.trust_domain.0, self.path)
    }
}

/// Text forms in JSON and TOML are those of `Display` and `FromStr`.
macro_rules! as_text {
    ($($name:ty),*) => {$(
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
    )*};
}
as_text!(TrustDomain, SpiffeId, Template);

/// Why a text is no SPIFFE ID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeError {
    /// Another scheme, or none.
    #[error("a SPIFFE ID begins with spiffe://")]
    Scheme,
    /// Not the name of a trust domain.
    #[error("not a trust domain: expected 1 to 255 characters of a-z 0-9 . _ -")]
    TrustDomain,
    /// It is a trust domain's own ID.
    #[error("a workload's SPIFFE ID has a path")]
    NoPath,
    /// Not a path.
    #[error("not a path of a SPIFFE ID: expected segments of A-Z a-z 0-9 . _ - divided by single slashes, none of them empty, . or ..")]
    Path,
    /// Too long.
    #[error("a SPIFFE ID has at most {limit} bytes, not {found}")]
    TooLong {
        /// The limit in bytes.
        limit: usize,
        /// The size in bytes.
        found: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<SpiffeId, SpiffeError> {
        text.parse()
    }

    #[test]
    fn an_id_has_a_trust_domain_and_a_path() {
        let id = parse("spiffe://acme.example/inference/vllm").unwrap();
        assert_eq!((id.trust_domain().as_str(), id.path()), ("acme.example", "/inference/vllm"));
        assert_eq!((id.uri().as_str(), id.trust_domain().id().as_str()), ("spiffe://acme.example/inference/vllm", "spiffe://acme.example"));
        assert_eq!(TrustDomain::from_id("spiffe://acme.example"), Ok(id.trust_domain().clone()));
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"spiffe://acme.example/inference/vllm\"");
    }

    #[test]
    fn scheme_and_trust_domain_are_read_in_either_case_and_the_path_is_not() {
        assert_eq!(parse("SPIFFE://Acme.Example/A").unwrap().uri(), "spiffe://acme.example/A");
        assert_ne!(parse("spiffe://acme.example/A"), parse("spiffe://acme.example/a"));
    }

    #[test]
    fn whatever_is_no_id_is_refused_by_name() {
        let longest = format!("spiffe://a/{}", "b".repeat(SpiffeId::MAX - 11));
        assert!(parse(&longest).is_ok());
        assert_eq!(parse(&format!("{longest}b")), Err(SpiffeError::TooLong { limit: 2048, found: 2049 }));
        for bad in ["", "spiffe:/a/b", "https://a/b", "spiffe//a/b", " spiffe://a/b", "spiffé://a/b", "spiffe:", "a/b"] {
            assert_eq!(parse(bad), Err(SpiffeError::Scheme), "{bad}");
        }
        for bad in ["/b", "a:8443/b", "user@a/b", "a%2e/b", "a b/b", "ä/b", &format!("{}/b", "a".repeat(256)), "a?q/b", "[::1]/b"] {
            assert_eq!(parse(&format!("spiffe://{bad}")), Err(SpiffeError::TrustDomain), "{bad}");
        }
        assert!(parse(&format!("spiffe://{}/b", "a".repeat(255))).is_ok());
        for bad in ["spiffe://a", "spiffe://a?q"] {
            assert_eq!(parse(bad), Err(SpiffeError::NoPath), "{bad}");
        }
        for bad in ["/", "/b/", "//b", "/b//c", "/.", "/..", "/b/../c", "/b/./c", "/b?q", "/b#f", "/b%2fc", "/b c", "/ä", "/b:c", "/b\0"] {
            assert_eq!(parse(&format!("spiffe://a{bad}")), Err(SpiffeError::Path), "{bad}");
        }
        for good in ["/...", "/..b", "/b.", "/-", "/_/A1"] {
            assert!(parse(&format!("spiffe://a{good}")).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_trust_domains_own_id_has_no_path() {
        for bad in ["spiffe://a/", "spiffe://a/b", "spiffe://", "spiffe://a:1"] {
            assert_eq!(TrustDomain::from_id(bad), Err(SpiffeError::TrustDomain), "{bad}");
        }
        assert_eq!(TrustDomain::from_id("a"), Err(SpiffeError::Scheme));
    }

    #[test]
    fn a_pattern_covers_whole_segments_of_the_path() {
        let id = parse("spiffe://acme.example/inference/vllm").unwrap();
        for covering in ["*", "inference/*", "inference/vllm"] {
            assert!(id.is_covered_by(covering), "{covering}");
        }
        for other in ["", "inference", "inf*", "inference/v*", "inference/vllm/*", "/inference/vllm", "/*", "vllm"] {
            assert!(!id.is_covered_by(other), "{other}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_reads_back_as_itself(text in "(spiffe|SPIFFE)://[a-zA-Z0-9._-]{1,40}(/[A-Za-z0-9._-]{1,20}){1,4}") {
            if let Ok(id) = parse(&text) {
                prop_assert_eq!(parse(&id.uri()), Ok(id.clone()));
                prop_assert_eq!(serde_json::from_str::<SpiffeId>(&serde_json::to_string(&id).unwrap()).unwrap(), id);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,80}") {
            let _ = parse(&text);
            let _ = parse(&format!("spiffe://{text}"));
            let _ = TrustDomain::from_id(&text);
        }
    }
}
