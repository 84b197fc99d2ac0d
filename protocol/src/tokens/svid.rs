//! JWT-SVIDs: a SPIFFE ID for one audience, for minutes. They are bearer tokens: whoever has one can use it until it expires.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::verify::{Expected, Verified, unverified_subject, verify};
use super::{TokenError, TokenSigner, sign};
use crate::ids::AnchorClass;
use crate::spiffe::{Bundle, SpiffeError, SpiffeId, TrustDomain};
use crate::time::UnixTime;

/// What such a token's `typ` is when we write it.
pub const TYPE: &str = "JWT";

/// What it may be when we read it (JWT-SVID, section 2.3).
pub const TYPES: [&str; 2] = ["JWT", "JOSE"];

/// What a JWT-SVID of ours says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JwtSvidClaims {
    /// The issuer's URL, for OpenID Connect; absent where only SPIFFE is spoken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// Whose identity.
    pub sub: SpiffeId,
    /// For whom: one, where the holder must not be able to use it elsewhere.
    #[serde(deserialize_with = "one_or_more")]
    pub aud: Vec<String>,
    /// When it was issued.
    #[serde(with = "numeric_date")]
    pub iat: UnixTime,
    /// From when on it holds; absent: from its issue.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_numeric_date")]
    pub nbf: Option<UnixTime>,
    /// From when on it holds no longer.
    #[serde(with = "numeric_date")]
    pub exp: UnixTime,
    /// Its number, as it stands in the audit log.
    pub jti: String,
    /// The class of roots under which the guest was judged: a token of a test installation says so.
    #[serde(rename = "portcullis.anchors", default, skip_serializing_if = "Option::is_none")]
    pub anchors: Option<AnchorClass>,
}

impl JwtSvidClaims {
    /// Signs them.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn sign(&self, signer: &dyn TokenSigner) -> Result<String, TokenError> {
        sign(TYPE, self, signer)
    }
}

/// A JWT-SVID that verified. Only [`verify_svid`] and [`verify_svid_by`] make one.
#[derive(Debug)]
pub struct VerifiedSvid {
    id: SpiffeId,
    token: Verified,
}

impl VerifiedSvid {
    /// Whose identity.
    #[must_use]
    pub const fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The token behind it.
    #[must_use]
    pub const fn token(&self) -> &Verified {
        &self.token
    }
}

/// Verifies a JWT-SVID under the bundle of the trust domain that it is of, and for `audience`. A bundle speaks for its own trust
/// domain alone.
///
/// # Errors
/// [`SvidError`].
pub fn verify_svid(token: &str, bundle: &Bundle, audience: &str, at: UnixTime) -> Result<VerifiedSvid, SvidError> {
    let expected = Expected { types: &TYPES, audience, keys: bundle.jwt_authorities(), issuer: None, at };
    verify_svid_by(token, &expected, Some(bundle.trust_domain()))
}

/// Verifies a JWT-SVID under keys that the caller got in another form than a bundle, such as the set of an OpenID Connect issuer. Without a trust
/// domain the keys are believed for whatever the token says: the caller then has to know who else signs with them.
///
/// # Errors
/// [`SvidError`].
pub fn verify_svid_by(token: &str, expected: &Expected<'_>, trust_domain: Option<&TrustDomain>) -> Result<VerifiedSvid, SvidError> {
    let token = verify(token, &Expected { types: &TYPES, ..*expected })?;
    let id = subject(token.claims().get("sub").and_then(serde_json::Value::as_str))?;
    match trust_domain {
        Some(expected) if expected != id.trust_domain() => Err(SvidError::TrustDomain { expected: expected.clone(), found: id }),
        _ => Ok(VerifiedSvid { id, token }),
    }
}

/// Whose identity a JWT-SVID says that it is, before anything is verified: a hint for finding the bundle to verify it under.
///
/// # Errors
/// [`SvidError`].
pub fn unverified_id(token: &str) -> Result<SpiffeId, SvidError> {
    subject(Some(&unverified_subject(token)?))
}

fn subject(text: Option<&str>) -> Result<SpiffeId, SvidError> {
    let text = text.ok_or(TokenError::Claim { name: "sub", what: "is missing or not a text" })?;
    Ok(text.parse()?)
}

/// Why a token is no JWT-SVID of a trust domain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SvidError {
    /// Not a token that holds.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Its subject is no SPIFFE ID.
    #[error("the token's subject: {0}")]
    Subject(#[from] SpiffeError),
    /// Its subject is of another trust domain than the keys.
    #[error("the keys are of trust domain {expected}, the token is for {found}")]
    TrustDomain {
        /// The trust domain of the keys.
        expected: TrustDomain,
        /// The subject.
        found: SpiffeId,
    },
}

impl SvidError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Token(error) => error.code(),
            Self::Subject(_) => "svid-subject",
            Self::TrustDomain { .. } => "svid-trust-domain",
        }
    }
}

/// Reads one text or a list of them.
pub(super) fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        More(Vec<String>),
    }
    Ok(match Audience::deserialize(deserializer)? {
        Audience::One(audience) => vec![audience],
        Audience::More(audiences) => audiences,
    })
}

/// Seconds since 1970 as a number, which is how tokens have times (RFC 7519, `NumericDate`).
pub(super) mod numeric_date {
    use super::{Deserialize, Deserializer, Serializer, UnixTime};

    pub(crate) fn serialize<S: Serializer>(time: &UnixTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(time.seconds())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<UnixTime, D::Error> {
        u64::deserialize(deserializer).map(UnixTime::from_seconds)
    }
}

/// The same, where it may be absent.
mod optional_numeric_date {
    use super::{Deserialize, Deserializer, Serializer, UnixTime};

    pub(super) fn serialize<S: Serializer>(time: &Option<UnixTime>, serializer: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => serializer.serialize_u64(time.seconds()),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<UnixTime>, D::Error> {
        u64::deserialize(deserializer).map(|seconds| Some(UnixTime::from_seconds(seconds)))
    }
}
