//! Signed tokens in the forms that others read: JWS in the compact form (RFC 7515), with claims (RFC 7519).
//!
//! | module | what it fixes |
//! | --- | --- |
//! | this one | algorithms, [`sign`], [`TokenError`] |
//! | [`jwk`] | public keys ([`Jwk`]) and sets of them ([`KeySet`]) |
//! | [`keys`] | private keys ([`EcKey`], [`RsaKey`]) |
//! | [`verify`](mod@verify) | what must hold before a claim is read ([`verify()`]) |
//! | [`svid`] | JWT-SVIDs |
//! | [`result`](mod@result) | attestation results (EAR) |
//!
//! Trusted: nothing in a token before its signature holds under a key that the caller named. A token never says which key, which
//! algorithm or which certificate may speak for it: its header has `alg`, `kid` and `typ`, and any other member is refused.

pub(crate) mod json;
pub mod jwk;
pub mod keys;
pub mod result;
pub mod svid;
pub mod verify;

#[cfg(test)]
mod tests;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use crate::limits;
use crate::time::UnixTime;

pub use jwk::{Jwk, JwkError, KeySet, KeySetError};
pub use keys::{EcKey, P256Spki, RsaKey};
pub use svid::{JwtSvidClaims, SvidError, VerifiedSvid};
pub use verify::{Expected, Header, SKEW, Verified, verify};

/// How a token is signed. There is no `none` here, no shared secret, and no EdDSA, which SPIFFE does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// ECDSA on P-521 with SHA-512.
    Es512,
    /// RSA, PKCS#1 1.5, with SHA-256.
    Rs256,
    /// RSA, PKCS#1 1.5, with SHA-384.
    Rs384,
    /// RSA, PKCS#1 1.5, with SHA-512.
    Rs512,
    /// RSA, PSS, with SHA-256.
    Ps256,
    /// RSA, PSS, with SHA-384.
    Ps384,
    /// RSA, PSS, with SHA-512.
    Ps512,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 9] =
        [Self::Es256, Self::Es384, Self::Es512, Self::Rs256, Self::Rs384, Self::Rs512, Self::Ps256, Self::Ps384, Self::Ps512];

    /// Its name in a header (RFC 7518, section 3.1).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
        }
    }

    /// The algorithm of this name, exactly.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }
}

impl std::fmt::Display for Algorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A private key that signs tokens, wherever it lies.
pub trait TokenSigner: Send + Sync {
    /// How it signs.
    fn algorithm(&self) -> Algorithm;

    /// What its public half is known by.
    fn kid(&self) -> &str;

    /// Signs `message`: for ECDSA the two numbers side by side at their full length, as RFC 7518 section 3.4 has it.
    ///
    /// # Errors
    /// [`TokenError::Signing`].
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, TokenError>;
}

/// A token's header, in the order in which we write it.
#[derive(Serialize)]
struct HeaderJson<'a> {
    alg: &'a str,
    kid: &'a str,
    typ: &'a str,
}

/// Signs `claims` as a token of type `typ`. The text is a bearer's secret where its audience asks for no proof of possession.
///
/// # Errors
/// [`TokenError::Signing`] where the key does not sign, [`TokenError::Unwritable`] where the claims are no JSON object,
/// [`TokenError::TooLarge`].
pub fn sign<C: Serialize>(typ: &str, claims: &C, signer: &dyn TokenSigner) -> Result<String, TokenError> {
    let header = HeaderJson { alg: signer.algorithm().as_str(), kid: signer.kid(), typ };
    let mut token = to_base64url(&json_object(&header)?);
    token.push('.');
    token.push_str(&to_base64url(&json_object(claims)?));
    let signature = signer.sign(token.as_bytes())?;
    token.push('.');
    token.push_str(&to_base64url(&signature));
    if token.len() > limits::TOKEN {
        return Err(TokenError::TooLarge { limit: limits::TOKEN, found: token.len() });
    }
    Ok(token)
}

/// What we sign we must be able to read: the same strict reader as for a token from elsewhere.
fn json_object(value: &impl Serialize) -> Result<Vec<u8>, TokenError> {
    let bytes = serde_json::to_vec(value).map_err(|error| TokenError::Unwritable(error.to_string()))?;
    match json::object(&bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(TokenError::Unwritable(format!("{error:?}"))),
    }
}

/// Base64 for URLs, without padding.
#[must_use]
pub fn to_base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads base64 for URLs: without padding, canonical, no white space.
#[must_use]
pub fn from_base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// The three parts of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What says how it is signed.
    Header,
    /// What it says.
    Claims,
    /// The signature.
    Signature,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Claims => "claims",
            Self::Signature => "signature",
        })
    }
}

/// Why a token is refused, or cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// More than a token may have.
    #[error("the token has {found} bytes, more than {limit}")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
        /// The size in bytes.
        found: usize,
    },
    /// Not three parts.
    #[error("not a signed token: expected three parts divided by dots")]
    Form,
    /// A part is no base64.
    #[error("the token's {part} is not base64 for URLs without padding")]
    Base64 {
        /// Which.
        part: Part,
    },
    /// A part is no JSON object.
    #[error("the token's {part}: {what}")]
    Json {
        /// Which.
        part: Part,
        /// In words, without the content.
        what: String,
    },
    /// A member stands twice.
    #[error("the token's {part} has {member:?} twice")]
    Duplicate {
        /// Where.
        part: Part,
        /// Its name.
        member: String,
    },
    /// The header has a member that could change what is checked: `crit`, `jku`, `jwk`, `x5u`, `x5c`, `b64` or any other.
    #[error("the token's header has {member:?}: only alg, kid and typ are read, and nothing else is ignored")]
    HeaderMember {
        /// Its name.
        member: String,
    },
    /// `alg` is missing, or none of those that are read: `none`, `HS256`, `EdDSA`.
    #[error("the token is signed by {found}, which is not accepted")]
    UnknownAlgorithm {
        /// What the header says.
        found: String,
    },
    /// No `typ`.
    #[error("the token has no type; expected {}", .expected.join(" or "))]
    NoType {
        /// What is expected.
        expected: Vec<String>,
    },
    /// A token of another type.
    #[error("the token is of type {found:?}; expected {}", .expected.join(" or "))]
    Type {
        /// What is expected.
        expected: Vec<String>,
        /// Its own.
        found: String,
    },
    /// No `kid`.
    #[error("the token does not name its key")]
    NoKeyId,
    /// No key of that name.
    #[error("none of the keys is {kid:?}")]
    UnknownKey {
        /// What the header says.
        kid: String,
    },
    /// More than one key of that name.
    #[error("more than one key is {kid:?}")]
    AmbiguousKey {
        /// What the header says.
        kid: String,
    },
    /// The key is for something else.
    #[error("the key {kid:?} is for {usage:?}, not for signatures of tokens")]
    KeyUse {
        /// The key.
        kid: String,
        /// What it is for.
        usage: String,
    },
    /// The key does not sign so.
    #[error("the key {kid:?} does not sign by {found}")]
    KeyAlgorithm {
        /// The key.
        kid: String,
        /// What the header says.
        found: Algorithm,
    },
    /// The signature has not the length that the algorithm gives it; ECDSA signatures in DER are such.
    #[error("a signature by {algorithm} has {expected} bytes, not {found}")]
    SignatureLength {
        /// How it is signed.
        algorithm: Algorithm,
        /// The length that it must have, in bytes.
        expected: usize,
        /// Its own.
        found: usize,
    },
    /// The signature is not the key's over this token.
    #[error("the token's signature does not verify under the key {kid:?}")]
    Signature {
        /// The key.
        kid: String,
    },
    /// A claim is missing, or not of its type.
    #[error("the token's {name:?}: {what}")]
    Claim {
        /// Its name.
        name: &'static str,
        /// What is wrong.
        what: &'static str,
    },
    /// Another issuer.
    #[error("the token is issued by {}, not by {expected:?}", .found.as_deref().unwrap_or("nobody"))]
    Issuer {
        /// Who should have.
        expected: String,
        /// Who did, by its own word.
        found: Option<String>,
    },
    /// For others.
    #[error("the token is for {}, not for {expected:?}", .found.join(", "))]
    Audience {
        /// Who we are.
        expected: String,
        /// For whom it is.
        found: Vec<String>,
    },
    /// It holds no longer.
    #[error("the token expired at {expired}; it is {at}")]
    Expired {
        /// Its last moment.
        expired: UnixTime,
        /// The time of checking.
        at: UnixTime,
    },
    /// It holds from later on.
    #[error("the token holds from {not_before}; it is {at}")]
    NotYet {
        /// Its first second.
        not_before: UnixTime,
        /// The time of checking.
        at: UnixTime,
    },
    /// It says that it was issued later than now.
    #[error("the token says that it was issued at {issued}; it is {at}")]
    Future {
        /// When it says that it was issued.
        issued: UnixTime,
        /// The time of checking.
        at: UnixTime,
    },
    /// The claims cannot be written.
    #[error("the claims make no token: {0}")]
    Unwritable(String),
    /// The private key does not sign.
    #[error("the key does not sign")]
    Signing,
    /// A private key that is none of its kind.
    #[error("not a private key of kind {expected}")]
    PrivateKey {
        /// The kind.
        expected: &'static str,
    },
}

impl TokenError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "token-too-large",
            Self::Form => "token-form",
            Self::Base64 { .. } => "token-base64",
            Self::Json { .. } => "token-json",
            Self::Duplicate { .. } => "token-duplicate-member",
            Self::HeaderMember { .. } => "token-header-member",
            Self::UnknownAlgorithm { .. } => "token-unknown-algorithm",
            Self::NoType { .. } => "token-no-type",
            Self::Type { .. } => "token-type",
            Self::NoKeyId => "token-no-key-id",
            Self::UnknownKey { .. } => "token-unknown-key",
            Self::AmbiguousKey { .. } => "token-ambiguous-key",
            Self::KeyUse { .. } => "token-key-use",
            Self::KeyAlgorithm { .. } => "token-key-algorithm",
            Self::SignatureLength { .. } => "token-signature-length",
            Self::Signature { .. } => "token-signature",
            Self::Claim { .. } => "token-claim",
            Self::Issuer { .. } => "token-issuer",
            Self::Audience { .. } => "token-audience",
            Self::Expired { .. } => "token-expired",
            Self::NotYet { .. } => "token-not-yet",
            Self::Future { .. } => "token-from-the-future",
            Self::Unwritable(_) => "token-unwritable",
            Self::Signing => "token-signing",
            Self::PrivateKey { .. } => "token-private-key",
        }
    }
}
