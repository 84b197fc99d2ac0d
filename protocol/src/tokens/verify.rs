//! What must hold before a claim of a token is read.
//!
//! 1. The token is not too large, and has three parts of base64 for URLs.
//! 2. The header is one JSON object without duplicates, of `alg`, `kid` and `typ` alone.
//! 3. `typ` is one of those that the caller expects: a token of another class is refused, whoever signed it.
//! 4. `kid` names exactly one of the caller's keys, that key is for signatures, and signs by `alg`: the key decides, not the header.
//! 5. The signature has its algorithm's form, and verifies.
//! 6. The claims are one JSON object without duplicates; times are whole numbers.
//! 7. The issuer is the expected one, where one is; the audience is among the token's, to the letter.
//! 8. It has not expired, holds already, and is not from the future: by at most [`SKEW`].

use std::time::Duration;

use serde_json::{Map, Value};

use super::json::{self, JsonError};
use super::{Algorithm, Jwk, Part, TokenError, from_base64url};
use crate::limits;
use crate::time::UnixTime;

/// By how much the clock of whoever issued a token may differ from ours.
pub const SKEW: Duration = Duration::from_secs(30);

/// What a caller expects of a token.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The types that it may have, to the letter.
    pub types: &'a [&'a str],
    /// Who we are: must be among its audiences.
    pub audience: &'a str,
    /// The keys that may have signed it. `kid`s that stand twice are never used.
    pub keys: &'a [Jwk],
    /// Who must have issued it; `None`: the keys say enough.
    pub issuer: Option<&'a str>,
    /// The time of checking.
    pub at: UnixTime,
}

/// A header, after all of it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// How the token is signed.
    pub algorithm: Algorithm,
    /// The key's name.
    pub kid: String,
    /// The token's type.
    pub typ: String,
}

/// A token that verified. Only [`verify`] makes one.
#[derive(Debug)]
pub struct Verified {
    header: Header,
    claims: Value,
    expires: UnixTime,
}

impl Verified {
    /// The header.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The claims: a JSON object.
    #[must_use]
    pub const fn claims(&self) -> &Value {
        &self.claims
    }

    /// The same, for keeps.
    #[must_use]
    pub fn into_claims(self) -> Value {
        self.claims
    }

    /// From when on it holds no longer.
    #[must_use]
    pub const fn expires(&self) -> UnixTime {
        self.expires
    }
}

/// Verifies a token: steps 1 to 8 above, in that order.
///
/// # Errors
/// [`TokenError`], a variant per check.
pub fn verify(token: &str, expected: &Expected<'_>) -> Result<Verified, TokenError> {
    let parts = Parts::split(token)?;
    let header = header(parts.header, expected.types)?;
    check_signature(&parts, &header, expected.keys)?;
    let claims = Claims(object(Part::Claims, parts.claims)?);
    claims.check_issuer(expected.issuer)?;
    claims.check_audience(expected.audience)?;
    let expires = claims.check_times(expected.at)?;
    Ok(Verified { header, claims: Value::Object(claims.0), expires })
}

/// What a token says its type is, before anything is verified: a hint for choosing what to expect of it, and no more.
///
/// # Errors
/// [`TokenError`], as [`verify`] finds it.
pub fn unverified_type(token: &str) -> Result<Option<String>, TokenError> {
    let members = object(Part::Header, Parts::split(token)?.header)?;
    Ok(members.get("typ").and_then(Value::as_str).map(str::to_owned))
}

/// What a token says its subject is, before anything is verified: a hint for finding the keys to verify it by, and no more.
///
/// # Errors
/// [`TokenError`], as [`verify`] finds it.
pub fn unverified_subject(token: &str) -> Result<String, TokenError> {
    let claims = Claims(object(Part::Claims, Parts::split(token)?.claims)?);
    claims.text("sub")?.map(str::to_owned).ok_or(TokenError::Claim { name: "sub", what: "is missing" })
}

/// What a token claims, before anything is verified.
pub(super) fn unverified_claims(token: &str) -> Result<Value, TokenError> {
    object(Part::Claims, Parts::split(token)?.claims).map(Value::Object)
}

/// A token in its parts, still encoded.
struct Parts<'a> {
    /// What is signed: header and claims with the dot between them.
    message: &'a str,
    header: &'a str,
    claims: &'a str,
    signature: &'a str,
}

impl<'a> Parts<'a> {
    fn split(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > limits::TOKEN {
            return Err(TokenError::TooLarge { limit: limits::TOKEN, found: token.len() });
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Form)?;
        let (header, claims) = message.split_once('.').ok_or(TokenError::Form)?;
        if claims.contains('.') { Err(TokenError::Form) } else { Ok(Self { message, header, claims, signature }) }
    }
}

fn object(part: Part, text: &str) -> Result<Map<String, Value>, TokenError> {
    let bytes = from_base64url(text).ok_or(TokenError::Base64 { part })?;
    json::object(&bytes).map_err(|error| match error {
        JsonError::Form(what) => TokenError::Json { part, what },
        JsonError::Duplicate(member) => TokenError::Duplicate { part, member },
    })
}

/// Steps 2 and 3.
fn header(text: &str, types: &[&str]) -> Result<Header, TokenError> {
    let members = object(Part::Header, text)?;
    if let Some(member) = members.keys().find(|name| !matches!(name.as_str(), "alg" | "kid" | "typ")) {
        return Err(TokenError::HeaderMember { member: member.clone() });
    }
    let text = |name: &str| members.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let expected = || types.iter().map(|typ| (*typ).to_owned()).collect();
    let typ = text("typ").ok_or_else(|| TokenError::NoType { expected: expected() })?;
    if !types.contains(&typ) {
        return Err(TokenError::Type { expected: expected(), found: typ.to_owned() });
    }
    let named = members.get("alg").and_then(Value::as_str).unwrap_or_default();
    let algorithm = Algorithm::find(named).ok_or_else(|| TokenError::UnknownAlgorithm { found: format!("{named:?}") })?;
    let kid = text("kid").ok_or(TokenError::NoKeyId)?;
    Ok(Header { algorithm, kid: kid.to_owned(), typ: typ.to_owned() })
}

/// Steps 4 and 5.
fn check_signature(parts: &Parts<'_>, header: &Header, keys: &[Jwk]) -> Result<(), TokenError> {
    let kid = || header.kid.clone();
    let mut named = keys.iter().filter(|key| key.kid() == Some(header.kid.as_str()));
    let key = named.next().ok_or_else(|| TokenError::UnknownKey { kid: kid() })?;
    if named.next().is_some() {
        return Err(TokenError::AmbiguousKey { kid: kid() });
    }
    if let Some(usage) = key.usage().filter(|usage| !matches!(*usage, "sig" | "jwt-svid")) {
        return Err(TokenError::KeyUse { kid: kid(), usage: usage.to_owned() });
    }
    if !key.signs_by(header.algorithm) {
        return Err(TokenError::KeyAlgorithm { kid: kid(), found: header.algorithm });
    }
    let signature = from_base64url(parts.signature).ok_or(TokenError::Base64 { part: Part::Signature })?;
    let expected = key.signature_length();
    if signature.len() != expected {
        return Err(TokenError::SignatureLength { algorithm: header.algorithm, expected, found: signature.len() });
    }
    if key.verifies(header.algorithm, parts.message.as_bytes(), &signature) { Ok(()) } else { Err(TokenError::Signature { kid: kid() }) }
}

/// Claims whose signature holds.
struct Claims(Map<String, Value>);

impl Claims {
    /// A text, where it is there.
    fn text(&self, name: &'static str) -> Result<Option<&str>, TokenError> {
        let not_text = TokenError::Claim { name, what: "is not a text" };
        self.0.get(name).map(|value| value.as_str().ok_or(not_text)).transpose()
    }

    /// Seconds since 1970, where they are there. Fractions are refused: no issuer needs them, and readers round them in two ways.
    fn time(&self, name: &'static str) -> Result<Option<UnixTime>, TokenError> {
        let not_time = TokenError::Claim { name, what: "is not a whole number of seconds since 1970" };
        self.0.get(name).map(|value| value.as_u64().map(UnixTime::from_seconds).ok_or(not_time)).transpose()
    }

    fn check_issuer(&self, expected: Option<&str>) -> Result<(), TokenError> {
        let found = self.text("iss")?;
        match expected {
            Some(expected) if found != Some(expected) => {
                Err(TokenError::Issuer { expected: expected.to_owned(), found: found.map(str::to_owned) })
            }
            _ => Ok(()),
        }
    }

    fn check_audience(&self, expected: &str) -> Result<(), TokenError> {
        let found = match self.0.get("aud") {
            None => return Err(TokenError::Claim { name: "aud", what: "is missing" }),
            Some(Value::String(one)) => vec![one.clone()],
            Some(Value::Array(list)) => {
                let texts: Option<Vec<_>> = list.iter().map(|value| value.as_str().map(str::to_owned)).collect();
                texts.ok_or(TokenError::Claim { name: "aud", what: "is not a list of texts" })?
            }
            Some(_) => return Err(TokenError::Claim { name: "aud", what: "is neither a text nor a list of texts" }),
        };
        if found.iter().any(|audience| audience == expected) {
            Ok(())
        } else {
            Err(TokenError::Audience { expected: expected.to_owned(), found })
        }
    }

    /// The time at which it expires, where it has not.
    fn check_times(&self, at: UnixTime) -> Result<UnixTime, TokenError> {
        let expires = self.time("exp")?.ok_or(TokenError::Claim { name: "exp", what: "is missing" })?;
        // At its very second it has expired: RFC 7519, 4.1.4.
        if at >= expires.plus(SKEW) {
            return Err(TokenError::Expired { expired: expires, at });
        }
        if let Some(not_before) = self.time("nbf")?.filter(|not_before| at.plus(SKEW) < *not_before) {
            return Err(TokenError::NotYet { not_before, at });
        }
        if let Some(issued) = self.time("iat")?.filter(|issued| at.plus(SKEW) < *issued) {
            return Err(TokenError::Future { issued, at });
        }
        Ok(expires)
    }
}
