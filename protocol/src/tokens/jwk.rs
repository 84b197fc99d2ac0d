//! Public keys as JSON (RFC 7517, 7518), alone and in sets.

use std::fmt;

use aws_lc_rs::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeStruct};

use super::json::{self, JsonError, Object};
use super::{Algorithm, from_base64url, to_base64url};
use crate::encoding::sha256;
use crate::keys::PublicKey;
use crate::limits;

/// A curve of ECDSA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    const ALL: [Self; 3] = [Self::P256, Self::P384, Self::P521];

    const fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        }
    }

    /// The size of a coordinate and of each half of a signature, in bytes.
    const fn size(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    const fn algorithm(self) -> Algorithm {
        match self {
            Self::P256 => Algorithm::Es256,
            Self::P384 => Algorithm::Es384,
            Self::P521 => Algorithm::Es512,
        }
    }

    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::P256 => &signature::ECDSA_P256_SHA256_FIXED,
            Self::P384 => &signature::ECDSA_P384_SHA384_FIXED,
            Self::P521 => &signature::ECDSA_P521_SHA512_FIXED,
        }
    }
}

/// What a key is made of.
#[derive(Clone, PartialEq, Eq)]
enum Material {
    /// A point in the uncompressed form: 4, x, y.
    Ec { curve: Curve, point: Vec<u8> },
    /// Modulus and exponent, big-endian without leading zeros.
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    /// Ed25519: stands in `cnf`, and never verifies a token.
    Ed25519(PublicKey),
}

/// A public key. There is no way to put a private part in, and one that is read is refused.
#[derive(Clone, PartialEq, Eq)]
pub struct Jwk {
    material: Material,
    kid: Option<String>,
    algorithm: Option<Algorithm>,
    usage: Option<String>,
}

impl fmt::Debug for Jwk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl Jwk {
    /// An ECDSA key by its uncompressed point, which must lie on the curve.
    pub(crate) fn ec(curve: Curve, point: Vec<u8>) -> Result<Self, JwkError> {
        let uncompressed = point.first() == Some(&4) && point.len() == curve.size().saturating_mul(2).saturating_add(1);
        if !uncompressed || UnparsedPublicKey::new(curve.verification(), &point).parse().is_err() {
            return Err(JwkError::Point { curve: curve.name() });
        }
        Ok(Self::of(Material::Ec { curve, point }))
    }

    /// An RSA key: 2048 to 8192 bits, an odd exponent from 65537 on (FIPS 186-5), neither with leading zeros.
    pub(crate) fn rsa(modulus: Vec<u8>, exponent: Vec<u8>) -> Result<Self, JwkError> {
        let bits = |bytes: &[u8]| {
            let unused = bytes.first().map_or(0, |first| u64::from(first.leading_zeros()));
            u64::try_from(bytes.len()).unwrap_or(u64::MAX).saturating_mul(8).saturating_sub(unused)
        };
        let odd = |bytes: &[u8]| bytes.last().is_some_and(|last| last % 2 == 1) && bytes.first() != Some(&0);
        if !(2048..=8192).contains(&bits(&modulus)) || !odd(&modulus) {
            return Err(JwkError::Modulus { bits: bits(&modulus) });
        }
        // 17 bits and odd: 65537 or more. 33 bits are the most that the verifier takes.
        if !(17..=33).contains(&bits(&exponent)) || !odd(&exponent) {
            return Err(JwkError::Exponent);
        }
        Ok(Self::of(Material::Rsa { modulus, exponent }))
    }

    /// An Ed25519 key: for `cnf`, which names the key that a token's holder has. It verifies no token.
    #[must_use]
    pub const fn ed25519(key: PublicKey) -> Self {
        Self::of(Material::Ed25519(key))
    }

    const fn of(material: Material) -> Self {
        Self { material, kid: None, algorithm: None, usage: None }
    }

    /// The same key, named `kid`.
    #[must_use]
    pub fn with_kid(self, kid: &str) -> Self {
        Self { kid: Some(kid.to_owned()), ..self }
    }

    /// The same key, for one algorithm alone.
    ///
    /// # Errors
    /// [`JwkError::Unsupported`] where a key of its kind does not sign so.
    pub fn with_algorithm(self, algorithm: Algorithm) -> Result<Self, JwkError> {
        let fits = Self { algorithm: None, ..self.clone() }.signs_by(algorithm);
        if fits { Ok(Self { algorithm: Some(algorithm), ..self }) } else { Err(JwkError::Unsupported { what: "alg of its kty and crv" }) }
    }

    /// The same key, said to be for this: `sig`, `jwt-svid`.
    #[must_use]
    pub fn with_usage(self, usage: &str) -> Self {
        Self { usage: Some(usage.to_owned()), ..self }
    }

    /// Its name.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The one algorithm that it is for, where it says so.
    #[must_use]
    pub const fn algorithm(&self) -> Option<Algorithm> {
        self.algorithm
    }

    /// What it is for (`use`), where it says so.
    #[must_use]
    pub fn usage(&self) -> Option<&str> {
        self.usage.as_deref()
    }

    /// The Ed25519 key that it is, if it is one.
    #[must_use]
    pub const fn as_ed25519(&self) -> Option<&PublicKey> {
        match &self.material {
            Material::Ed25519(key) => Some(key),
            _ => None,
        }
    }

    /// Whether a token under this key may say `algorithm`: the key's own where it has one, else what its kind can do.
    #[must_use]
    pub fn signs_by(&self, algorithm: Algorithm) -> bool {
        let able = match &self.material {
            Material::Ec { curve, .. } => curve.algorithm() == algorithm,
            Material::Rsa { .. } => rsa_parameters(algorithm).is_some(),
            Material::Ed25519(_) => false,
        };
        able && self.algorithm.is_none_or(|own| own == algorithm)
    }

    /// The length of its signatures, in bytes.
    pub(crate) const fn signature_length(&self) -> usize {
        match &self.material {
            Material::Ec { curve, .. } => curve.size().saturating_mul(2),
            Material::Rsa { modulus, .. } => modulus.len(),
            Material::Ed25519(_) => 64,
        }
    }

    /// Whether `signature` is this key's over `message`.
    pub(crate) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        match (&self.material, rsa_parameters(algorithm)) {
            (Material::Ec { curve, point }, _) if curve.algorithm() == algorithm => {
                UnparsedPublicKey::new(curve.verification(), point).verify(message, signature).is_ok()
            }
            (Material::Rsa { modulus, exponent }, Some(parameters)) => {
                RsaPublicKeyComponents { n: modulus, e: exponent }.verify(parameters, message, signature).is_ok()
            }
            _ => false,
        }
    }

    /// SHA-256 of the key's required members in their canonical form (RFC 7638), in base64 for URLs: what we name our own keys by.
    #[must_use]
    pub fn thumbprint(&self) -> String {
        let member = |bytes: &[u8]| to_base64url(bytes);
        // All values are base64 or names without anything to escape; members stand in alphabetical order.
        let canonical = match &self.material {
            Material::Ec { curve, .. } => {
                let (x, y) = self.coordinates();
                format!(r#"{{"crv":"{}","kty":"EC","x":"{}","y":"{}"}}"#, curve.name(), member(x), member(y))
            }
            Material::Rsa { modulus, exponent } => format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, member(exponent), member(modulus)),
            Material::Ed25519(key) => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, member(key.as_bytes())),
        };
        to_base64url(sha256(canonical.as_bytes()).as_bytes())
    }

    /// Whether both are the same key, whatever they say about themselves.
    #[must_use]
    pub fn is_same_key(&self, other: &Self) -> bool {
        self.material == other.material
    }

    /// x and y of a point; empty for other kinds.
    fn coordinates(&self) -> (&[u8], &[u8]) {
        match &self.material {
            Material::Ec { curve, point } => point.get(1..).and_then(|both| both.split_at_checked(curve.size())).unwrap_or_default(),
            _ => Default::default(),
        }
    }
}

fn rsa_parameters(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        Algorithm::Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::Ps256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::Ps384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::Ps512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
        Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512 => None,
    }
}

impl Serialize for Jwk {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_struct("Jwk", 7)?;
        match &self.material {
            Material::Ec { curve, .. } => {
                let (x, y) = self.coordinates();
                members.serialize_field("kty", "EC")?;
                members.serialize_field("crv", curve.name())?;
                members.serialize_field("x", &to_base64url(x))?;
                members.serialize_field("y", &to_base64url(y))?;
            }
            Material::Rsa { modulus, exponent } => {
                members.serialize_field("kty", "RSA")?;
                members.serialize_field("n", &to_base64url(modulus))?;
                members.serialize_field("e", &to_base64url(exponent))?;
            }
            Material::Ed25519(key) => {
                members.serialize_field("kty", "OKP")?;
                members.serialize_field("crv", "Ed25519")?;
                members.serialize_field("x", &to_base64url(key.as_bytes()))?;
            }
        }
        for (name, value) in [("kid", self.kid()), ("alg", self.algorithm.map(Algorithm::as_str)), ("use", self.usage())] {
            match value {
                Some(value) => members.serialize_field(name, value)?,
                None => members.skip_field(name)?,
            }
        }
        members.end()
    }
}

/// The members that are read. Others say nothing that we need (RFC 7517, section 4), but the private ones.
#[derive(Deserialize)]
pub(crate) struct Members {
    pub(crate) kty: String,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    pub(crate) kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    pub(crate) usage: Option<String>,
    pub(crate) x5c: Option<Vec<String>>,
    d: Option<de::IgnoredAny>,
    p: Option<de::IgnoredAny>,
    q: Option<de::IgnoredAny>,
    k: Option<de::IgnoredAny>,
}

impl Members {
    /// The key that they make.
    pub(crate) fn key(self) -> Result<Jwk, JwkError> {
        if self.d.is_some() || self.p.is_some() || self.q.is_some() || self.k.is_some() {
            return Err(JwkError::Private);
        }
        let bytes = |text: Option<&String>, name| text.and_then(|text| from_base64url(text)).ok_or(JwkError::Member { name });
        let key = match (self.kty.as_str(), self.crv.as_deref()) {
            ("EC", Some(name)) => {
                let curve = Curve::ALL.into_iter().find(|curve| curve.name() == name);
                let curve = curve.ok_or(JwkError::Unsupported { what: "crv" })?;
                let mut point = vec![4];
                for (coordinate, name) in [(&self.x, "x"), (&self.y, "y")] {
                    let coordinate = bytes(coordinate.as_ref(), name)?;
                    if coordinate.len() != curve.size() {
                        return Err(JwkError::Member { name });
                    }
                    point.extend(coordinate);
                }
                Jwk::ec(curve, point)?
            }
            ("EC", None) | ("OKP", None) => return Err(JwkError::Member { name: "crv" }),
            ("OKP", Some("Ed25519")) => {
                let x = bytes(self.x.as_ref(), "x")?.try_into().map_err(|_| JwkError::Member { name: "x" })?;
                Jwk::ed25519(PublicKey::from_bytes(x))
            }
            ("RSA", _) => Jwk::rsa(bytes(self.n.as_ref(), "n")?, bytes(self.e.as_ref(), "e")?)?,
            ("OKP", Some(_)) => return Err(JwkError::Unsupported { what: "crv" }),
            _ => return Err(JwkError::Unsupported { what: "kty" }),
        };
        let key = match self.alg.as_deref().map(Algorithm::find) {
            None => key,
            Some(Some(algorithm)) => key.with_algorithm(algorithm)?,
            Some(None) => return Err(JwkError::Unsupported { what: "alg" }),
        };
        if self.kid.as_ref().is_some_and(String::is_empty) {
            return Err(JwkError::Member { name: "kid" });
        }
        Ok(Jwk { kid: self.kid, usage: self.usage, ..key })
    }
}

impl<'de> Deserialize<'de> for Jwk {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Object::<Members>::deserialize(deserializer)?.0.key().map_err(de::Error::custom)
    }
}

/// Why a JSON object is no public key of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwkError {
    /// Of a kind that is not read here. In a set it is passed over (RFC 7517, section 5).
    #[error("a key with another {what} than those that are read here")]
    Unsupported {
        /// Which member.
        what: &'static str,
    },
    /// It has a private part, which whoever published it should not have.
    #[error("the key has a private part: whoever published it must replace it")]
    Private,
    /// A member is missing, or not base64 for URLs of its size.
    #[error("the key's {name:?} is missing or not what it should be")]
    Member {
        /// Which.
        name: &'static str,
    },
    /// Not a SubjectPublicKeyInfo of a P-256 key.
    #[error("not the SubjectPublicKeyInfo of a key on P-256, 91 bytes with the point uncompressed")]
    NotP256,
    /// Not a point of its curve.
    #[error("the key is no point of {curve}")]
    Point {
        /// The curve.
        curve: &'static str,
    },
    /// Not an RSA modulus of 2048 to 8192 bits.
    #[error("an RSA key has an odd modulus of 2048 to 8192 bits, not {bits} bits")]
    Modulus {
        /// Its size in bits.
        bits: u64,
    },
    /// Not an RSA exponent.
    #[error("an RSA key has an odd exponent from 65537 on")]
    Exponent,
}

/// A set of public keys: what an issuer publishes. No two have one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySet(Vec<Jwk>);

/// The form of a set, for writing.
#[derive(Serialize)]
struct KeySetJson<'a> {
    keys: &'a [Jwk],
}

impl KeySet {
    /// Of these keys.
    ///
    /// # Errors
    /// [`KeySetError::SameName`], [`KeySetError::TooMany`].
    pub fn new(keys: Vec<Jwk>) -> Result<Self, KeySetError> {
        if keys.len() > limits::KEY_SET_KEYS {
            return Err(KeySetError::TooMany { limit: limits::KEY_SET_KEYS, found: keys.len() });
        }
        let mut names = std::collections::HashSet::new();
        if let Some(kid) = keys.iter().filter_map(Jwk::kid).find(|kid| !names.insert(*kid)) {
            return Err(KeySetError::SameName { kid: kid.to_owned() });
        }
        Ok(Self(keys))
    }

    /// Reads a set. Keys of kinds that are not read here are passed over; a key of a known kind that is malformed refuses the set.
    ///
    /// # Errors
    /// [`KeySetError`].
    pub fn parse(json: &[u8]) -> Result<Self, KeySetError> {
        let mut keys = Vec::new();
        for (index, member) in entries(json)?.into_iter().enumerate() {
            match member.key() {
                Ok(key) => keys.push(key),
                Err(JwkError::Unsupported { .. }) => {}
                Err(error) => return Err(KeySetError::Key { index, error }),
            }
        }
        Self::new(keys)
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> &[Jwk] {
        &self.0
    }

    /// JSON, as it is published.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(&KeySetJson { keys: &self.0 }).unwrap_or_default()
    }
}

/// The entries of a set, before they are keys.
fn entries(json: &[u8]) -> Result<Vec<Members>, KeySetError> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<Object<Members>>,
    }
    if json.len() > limits::SPIFFE_BUNDLE {
        return Err(KeySetError::TooLarge { limit: limits::SPIFFE_BUNDLE, found: json.len() });
    }
    let object = json::object(json)?;
    let set: Set =
        serde_json::from_value(serde_json::Value::Object(object)).map_err(|error| KeySetError::Form { what: error.to_string() })?;
    if set.keys.len() > limits::KEY_SET_KEYS {
        return Err(KeySetError::TooMany { limit: limits::KEY_SET_KEYS, found: set.keys.len() });
    }
    Ok(set.keys.into_iter().map(|entry| entry.0).collect())
}

impl From<JsonError> for KeySetError {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::Form(what) => Self::Form { what },
            JsonError::Duplicate(member) => Self::Duplicate { member },
        }
    }
}

/// Why bytes are no set of keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// More than a set may have.
    #[error("the set of keys has {found} bytes, more than {limit}")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
        /// The size in bytes.
        found: usize,
    },
    /// Not a set of keys.
    #[error("not a set of keys: {what}")]
    Form {
        /// In words.
        what: String,
    },
    /// A member stands twice.
    #[error("the set of keys has {member:?} twice in one object")]
    Duplicate {
        /// Its name.
        member: String,
    },
    /// More keys than a set may have.
    #[error("the set has {found} keys, more than {limit}")]
    TooMany {
        /// The limit.
        limit: usize,
        /// How many.
        found: usize,
    },
    /// Two keys of one name.
    #[error("two keys of the set are {kid:?}")]
    SameName {
        /// The name.
        kid: String,
    },
    /// A key is malformed.
    #[error("key {index} of the set: {error}")]
    Key {
        /// Which, from zero.
        index: usize,
        /// Why.
        #[source]
        error: JwkError,
    },
}
