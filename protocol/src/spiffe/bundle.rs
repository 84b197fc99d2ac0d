//! The bundle of a trust domain: the keys under which its SVIDs verify, as it publishes them (SPIFFE Trust Domain and Bundle, section 4).
//!
//! A bundle does not say whose it is: whoever reads one knows from where it came. It speaks for that trust domain alone, bundles are
//! never merged, and an older one never replaces a newer.
//!
//! | read | so |
//! | --- | --- |
//! | a key with another `use`, or none | passed over, as the standard has it |
//! | `x509-svid` | exactly one certificate in `x5c`: a CA that may sign certificates, whose key is the one beside it |
//! | `jwt-svid` | has a `kid`, which no other has; a kind of key that signs no token of ours is passed over |
//! | no key at all | the trust domain is revoked: an error by name |

use std::time::Duration;

use der::asn1::Ia5StringRef;
use der::{Decode, Encode};
use serde::{Deserialize, Serialize};
use x509_cert::certificate::Certificate;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, SubjectAltName};
use x509_cert::time::Time;

use super::TrustDomain;
use crate::encoding::{from_base64, to_base64};
use crate::limits;
use crate::time::UnixTime;
use crate::tokens::json::{self, JsonError, Object};
use crate::tokens::jwk::Members;
use crate::tokens::{Jwk, JwkError, keys};

/// How often a bundle is asked for anew, where it does not say (SPIFFE Federation suggests five minutes).
const DEFAULT_REFRESH: Duration = Duration::from_secs(300);

/// What keys in a bundle are for.
const X509_SVID: &str = "x509-svid";
const JWT_SVID: &str = "jwt-svid";

/// A trust domain's bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    trust_domain: TrustDomain,
    sequence: u64,
    refresh_hint: Duration,
    x509: Vec<X509Authority>,
    x509_der: Vec<Vec<u8>>,
    jwt: Vec<Jwk>,
}

/// What of a CA's certificate is needed here.
#[derive(Clone, Debug, PartialEq, Eq)]
struct X509Authority {
    key: Jwk,
    not_before: UnixTime,
    not_after: UnixTime,
}

impl Bundle {
    /// Of these keys: CA certificates in DER, and keys of JWT-SVIDs with their names.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn new(
        trust_domain: TrustDomain,
        sequence: u64,
        refresh_hint: Duration,
        x509_authorities: Vec<Vec<u8>>,
        jwt_authorities: Vec<Jwk>,
    ) -> Result<Self, BundleError> {
        let count = x509_authorities.len().saturating_add(jwt_authorities.len());
        if count > limits::KEY_SET_KEYS {
            return Err(BundleError::TooMany { limit: limits::KEY_SET_KEYS, found: count });
        }
        if count == 0 {
            return Err(BundleError::Empty { trust_domain });
        }
        let x509 = x509_authorities.iter().map(|der| X509Authority::read(der, &trust_domain)).collect::<Result<Vec<_>, _>>()?;
        let mut names = std::collections::HashSet::new();
        for key in &jwt_authorities {
            let kid = key.kid().ok_or(BundleError::NoKeyId)?;
            if !names.insert(kid) {
                return Err(BundleError::SameName { kid: kid.to_owned() });
            }
        }
        let jwt = jwt_authorities.into_iter().map(|key| key.with_usage(JWT_SVID)).collect();
        Ok(Self { trust_domain, sequence, refresh_hint, x509, x509_der: x509_authorities, jwt })
    }

    /// Reads the bundle of `trust_domain`, from wherever the caller knows it to be of that trust domain.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn parse(trust_domain: &TrustDomain, json: &[u8]) -> Result<Self, BundleError> {
        if json.len() > limits::SPIFFE_BUNDLE {
            return Err(BundleError::TooLarge { limit: limits::SPIFFE_BUNDLE, found: json.len() });
        }
        let object = serde_json::Value::Object(json::object(json)?);
        let read: Read = serde_json::from_value(object).map_err(|error| BundleError::Form { what: error.to_string() })?;
        if read.keys.len() > limits::KEY_SET_KEYS {
            return Err(BundleError::TooMany { limit: limits::KEY_SET_KEYS, found: read.keys.len() });
        }
        let (mut x509, mut jwt, revoked) = (Vec::new(), Vec::new(), read.keys.is_empty());
        for (index, Object(member)) in read.keys.into_iter().enumerate() {
            match member.usage.as_deref() {
                Some(X509_SVID) => x509.push(certificate(member, index, trust_domain)?),
                Some(JWT_SVID) => match member.key() {
                    // SPIFFE has no EdDSA: such a key signs nothing.
                    Ok(found) if found.as_ed25519().is_some() => {}
                    Ok(found) => jwt.push(found),
                    Err(JwkError::Unsupported { .. }) => {}
                    Err(error) => return Err(BundleError::Key { index, error }),
                },
                _ => {}
            }
        }
        // No keys at all says that the domain is revoked; keys of kinds that nobody here knows say nothing.
        if !revoked && x509.is_empty() && jwt.is_empty() {
            return Err(BundleError::NoneUsable { trust_domain: trust_domain.clone() });
        }
        let refresh_hint = read.refresh_hint.map_or(DEFAULT_REFRESH, Duration::from_secs);
        Self::new(trust_domain.clone(), read.sequence, refresh_hint, x509, jwt)
    }

    /// JSON, as it is published.
    #[must_use]
    pub fn to_json(&self) -> String {
        let x509 = self.x509.iter().zip(&self.x509_der).map(|(authority, der)| WrittenKey {
            usage: Some(X509_SVID),
            key: &authority.key,
            x5c: Some([to_base64(der)]),
        });
        // Their keys say `use` themselves.
        let jwt = self.jwt.iter().map(|key| WrittenKey { usage: None, key, x5c: None });
        let written = Written { keys: x509.chain(jwt).collect(), sequence: self.sequence, refresh_hint: self.refresh_hint.as_secs() };
        serde_json::to_string(&written).unwrap_or_default()
    }

    /// Whose it is.
    #[must_use]
    pub const fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Its number, which grows with every change; 0 where it has none.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// How often it should be asked for anew.
    #[must_use]
    pub const fn refresh_hint(&self) -> Duration {
        self.refresh_hint
    }

    /// Certificates of the CAs under which X.509-SVIDs verify, in DER.
    #[must_use]
    pub fn x509_authorities(&self) -> &[Vec<u8>] {
        &self.x509_der
    }

    /// Keys under which JWT-SVIDs verify.
    #[must_use]
    pub fn jwt_authorities(&self) -> &[Jwk] {
        &self.jwt
    }

    /// Whether this may replace `older`: of the same trust domain, with no lower number, and not another content under the same one.
    ///
    /// # Errors
    /// [`BundleError::OtherTrustDomain`], [`BundleError::RolledBack`], [`BundleError::SameNumber`].
    pub fn follows(&self, older: &Self) -> Result<(), BundleError> {
        if self.trust_domain != older.trust_domain {
            return Err(BundleError::OtherTrustDomain { expected: older.trust_domain.clone(), found: self.trust_domain.to_string() });
        }
        if self.sequence < older.sequence {
            return Err(BundleError::RolledBack { expected: older.sequence, found: self.sequence });
        }
        // A publisher without numbers has 0 always, and says nothing by it.
        let same_keys = (&self.x509_der, &self.jwt) == (&older.x509_der, &older.jwt);
        if self.sequence == older.sequence && self.sequence != 0 && !same_keys {
            return Err(BundleError::SameNumber { found: self.sequence });
        }
        Ok(())
    }

    /// That one of its CAs holds at this time, where it has any: keys of JWT-SVIDs have no window, CAs do.
    ///
    /// # Errors
    /// [`BundleError::NotYet`], [`BundleError::Expired`].
    pub fn check_live(&self, at: UnixTime) -> Result<(), BundleError> {
        if self.x509.is_empty() || self.x509.iter().any(|authority| authority.not_before <= at && at <= authority.not_after) {
            return Ok(());
        }
        let next = self.x509.iter().map(|authority| authority.not_before).filter(|not_before| at < *not_before).min();
        let last = self.x509.iter().map(|authority| authority.not_after).max();
        match (next, last) {
            (Some(not_before), _) => Err(BundleError::NotYet { not_before, at }),
            (None, Some(not_after)) => Err(BundleError::Expired { not_after, at }),
            (None, None) => Ok(()),
        }
    }
}

/// The certificate of an entry, whose key must be the one beside it.
fn certificate(mut member: Members, index: usize, trust_domain: &TrustDomain) -> Result<Vec<u8>, BundleError> {
    let chain = member.x5c.take().unwrap_or_default();
    let [text] = chain.as_slice() else {
        return Err(BundleError::Certificates { index, found: chain.len() });
    };
    if text.len() > limits::CERTIFICATE.div_ceil(3).saturating_mul(4) {
        return Err(BundleError::Certificate { what: "is too large" });
    }
    let der = from_base64(text).ok_or(BundleError::Certificate { what: "is not base64" })?;
    let authority = X509Authority::read(&der, trust_domain)?;
    let beside = member.key().map_err(|error| BundleError::Key { index, error })?;
    if beside.is_same_key(&authority.key) { Ok(der) } else { Err(BundleError::OtherKey { index }) }
}

impl X509Authority {
    /// Reads a CA's certificate: CA, may sign certificates, and of this trust domain where it has a SPIFFE ID.
    fn read(der: &[u8], trust_domain: &TrustDomain) -> Result<Self, BundleError> {
        let wrong = |what| BundleError::Certificate { what };
        if der.len() > limits::CERTIFICATE {
            return Err(wrong("is too large"));
        }
        let certificate = Certificate::from_der(der).map_err(|_| wrong("is not X.509 in DER"))?;
        let body = certificate.tbs_certificate();
        let constraints = body.get_extension::<BasicConstraints>().map_err(|_| wrong("has malformed extensions"))?;
        if !constraints.is_some_and(|(_, constraints)| constraints.ca) {
            return Err(wrong("is no CA's"));
        }
        let usage = body.get_extension::<KeyUsage>().map_err(|_| wrong("has malformed extensions"))?;
        if !usage.is_some_and(|(_, usage)| usage.key_cert_sign()) {
            return Err(wrong("may not sign certificates"));
        }
        let names = body.get_extension::<SubjectAltName>().map_err(|_| wrong("has malformed extensions"))?;
        let names = names.map_or_else(Vec::new, |(_, names)| names.0);
        for name in &names {
            if let GeneralName::UniformResourceIdentifier(uri) = name {
                check_name(Ia5StringRef::from(uri).as_str(), trust_domain)?;
            }
        }
        let time = |time: &Time| UnixTime::from_seconds(time.to_unix_duration().as_secs());
        let validity = body.validity();
        Ok(Self { key: public_key(&certificate)?, not_before: time(&validity.not_before), not_after: time(&validity.not_after) })
    }
}

/// A CA's own SPIFFE ID is its trust domain's, without a path.
fn check_name(uri: &str, expected: &TrustDomain) -> Result<(), BundleError> {
    match TrustDomain::from_id(uri) {
        Ok(found) if found == *expected => Ok(()),
        _ => Err(BundleError::OtherTrustDomain { expected: expected.clone(), found: uri.to_owned() }),
    }
}

fn public_key(certificate: &Certificate) -> Result<Jwk, BundleError> {
    let wrong = BundleError::Certificate { what: "has a key of a kind that is not read here" };
    let info = certificate.tbs_certificate().subject_public_key_info();
    let bits = info.subject_public_key.as_bytes().ok_or_else(|| wrong.clone())?;
    let parameters = info.algorithm.parameters.as_ref().map(Encode::to_der).transpose().map_err(|_| wrong.clone())?;
    keys::public_key(&info.algorithm.oid, parameters.as_deref(), bits).map_err(|_| wrong)
}

/// A bundle as it is read. Members besides say nothing that is known.
#[derive(Deserialize)]
struct Read {
    keys: Vec<Object<Members>>,
    #[serde(rename = "spiffe_sequence", default)]
    sequence: u64,
    #[serde(rename = "spiffe_refresh_hint")]
    refresh_hint: Option<u64>,
}

/// A bundle as it is written.
#[derive(Serialize)]
struct Written<'a> {
    keys: Vec<WrittenKey<'a>>,
    #[serde(rename = "spiffe_sequence")]
    sequence: u64,
    #[serde(rename = "spiffe_refresh_hint")]
    refresh_hint: u64,
}

#[derive(Serialize)]
struct WrittenKey<'a> {
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    usage: Option<&'a str>,
    #[serde(flatten)]
    key: &'a Jwk,
    #[serde(skip_serializing_if = "Option::is_none")]
    x5c: Option<[String; 1]>,
}

impl From<JsonError> for BundleError {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::Form(what) => Self::Form { what },
            JsonError::Duplicate(member) => Self::Duplicate { member },
        }
    }
}

/// Why a bundle is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// More than a bundle may have.
    #[error("the bundle has {found} bytes, more than {limit}")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
        /// The size in bytes.
        found: usize,
    },
    /// Not a bundle.
    #[error("not a SPIFFE bundle: {what}")]
    Form {
        /// In words.
        what: String,
    },
    /// A member stands twice.
    #[error("the bundle has {member:?} twice in one object")]
    Duplicate {
        /// Its name.
        member: String,
    },
    /// More keys than a bundle may have.
    #[error("the bundle has {found} keys, more than {limit}")]
    TooMany {
        /// The limit.
        limit: usize,
        /// How many.
        found: usize,
    },
    /// No key: the trust domain is revoked.
    #[error("the bundle of {trust_domain} has no keys: the trust domain is revoked")]
    Empty {
        /// Whose it is.
        trust_domain: TrustDomain,
    },
    /// Keys, and none of a kind that is known here.
    #[error("the bundle of {trust_domain} has keys, and none of a kind that is known here")]
    NoneUsable {
        /// Whose it is.
        trust_domain: TrustDomain,
    },
    /// A key is malformed.
    #[error("key {index} of the bundle: {error}")]
    Key {
        /// Which, from zero.
        index: usize,
        /// Why.
        #[source]
        error: JwkError,
    },
    /// A key of X.509-SVIDs has not exactly one certificate.
    #[error("key {index} of the bundle has {found} certificates; expected one")]
    Certificates {
        /// Which, from zero.
        index: usize,
        /// How many.
        found: usize,
    },
    /// A certificate of a CA that is none.
    #[error("a certificate of the bundle {what}")]
    Certificate {
        /// What is wrong.
        what: &'static str,
    },
    /// A certificate of another key than the one that stands beside it.
    #[error("key {index} of the bundle is not the one in its certificate")]
    OtherKey {
        /// Which, from zero.
        index: usize,
    },
    /// A key of JWT-SVIDs has no name.
    #[error("a key of the bundle for JWT-SVIDs has no kid")]
    NoKeyId,
    /// Two keys of one name.
    #[error("two keys of the bundle are {kid:?}")]
    SameName {
        /// The name.
        kid: String,
    },
    /// Of another trust domain.
    #[error("the bundle is of {found}, not of trust domain {expected}")]
    OtherTrustDomain {
        /// Whose it should be.
        expected: TrustDomain,
        /// What it names.
        found: String,
    },
    /// Older than what is known.
    #[error("the bundle's number is {found}, and {expected} was seen before")]
    RolledBack {
        /// The number that was seen.
        expected: u64,
        /// Its own.
        found: u64,
    },
    /// Other keys under the same number.
    #[error("the bundle has other keys than before under the same number {found}")]
    SameNumber {
        /// The number.
        found: u64,
    },
    /// No CA in it holds yet.
    #[error("the first CA of the bundle that has not expired holds from {not_before}; it is {at}")]
    NotYet {
        /// When the first of them begins.
        not_before: UnixTime,
        /// The time of checking.
        at: UnixTime,
    },
    /// Every CA in it has expired.
    #[error("the last CA of the bundle expired at {not_after}; it is {at}")]
    Expired {
        /// When the last of them expired.
        not_after: UnixTime,
        /// The time of checking.
        at: UnixTime,
    },
}

impl BundleError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "bundle-too-large",
            Self::Form { .. } => "bundle-form",
            Self::Duplicate { .. } => "bundle-duplicate-member",
            Self::TooMany { .. } => "bundle-too-many-keys",
            Self::Empty { .. } => "bundle-empty",
            Self::NoneUsable { .. } => "bundle-none-usable",
            Self::Key { .. } => "bundle-key",
            Self::Certificates { .. } => "bundle-certificates",
            Self::Certificate { .. } => "bundle-certificate",
            Self::OtherKey { .. } => "bundle-other-key",
            Self::NoKeyId => "bundle-no-key-id",
            Self::SameName { .. } => "bundle-same-name",
            Self::OtherTrustDomain { .. } => "bundle-other-trust-domain",
            Self::RolledBack { .. } => "bundle-rolled-back",
            Self::SameNumber { .. } => "bundle-same-number",
            Self::NotYet { .. } => "bundle-not-yet",
            Self::Expired { .. } => "bundle-expired",
        }
    }
}
