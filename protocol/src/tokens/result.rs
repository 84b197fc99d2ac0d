//! Attestation results: what a verifier found about a guest, in the form that relying parties read elsewhere. It is the EAR profile as
//! deployed (`tag:github.com,2023:veraison/ear`), with the trustworthiness claims of AR4SI, as a token of its own type under its own key.
//!
//! Three rules keep it from saying more than was found: a status is computed from its vector and never set; a reader refuses a token of
//! another profile, or without a status, or whose status is better than its vector; and "none" is never a pass.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::json::Object;
use super::svid::numeric_date;
use super::verify::{Expected, unverified_claims, unverified_type, verify};
use super::{Jwk, TokenError, TokenSigner, sign};
use crate::ids::AnchorClass;
use crate::keys::PublicKey;
use crate::time::UnixTime;

/// The one profile that is written and read.
pub const PROFILE: &str = "tag:github.com,2023:veraison/ear";

/// What such a token's `typ` is.
pub const TYPE: &str = "eat+jwt";

/// What the guest as a whole is called among a result's parts, as others call it.
pub const CPU: &str = "cpu0";

/// Parts of one result: a CPU and some dozen GPUs.
const PARTS: usize = 64;

/// What a claim or a whole appraisal amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// As it should be.
    Affirming,
    /// Nothing can be said. Never a pass.
    None,
    /// Not as it should be, though not known to be bad.
    Warning,
    /// Bad.
    Contraindicated,
}

impl Tier {
    /// In words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Affirming => "affirming",
            Self::None => "none",
            Self::Warning => "warning",
            Self::Contraindicated => "contraindicated",
        }
    }

    /// How bad, from 0. "None" is worse than affirming here: who did not look has not affirmed.
    const fn badness(self) -> u8 {
        match self {
            Self::Affirming => 0,
            Self::None => 1,
            Self::Warning => 2,
            Self::Contraindicated => 3,
        }
    }

    /// The worse of two.
    #[must_use]
    pub const fn worse(self, other: Self) -> Self {
        if self.badness() >= other.badness() { self } else { other }
    }

    /// Whether it is better than `other`.
    #[must_use]
    pub const fn is_better_than(self, other: Self) -> bool {
        self.badness() < other.badness()
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The value of one trustworthiness claim (AR4SI, section 2.3): a signed byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TrustClaim(i8);

impl TrustClaim {
    /// As it should be, in the claim's own sense: recognised, approved, genuine, isolated.
    pub const AFFIRMING: Self = Self(2);
    /// Not as it should be; in `hardware` firmware that is not up to date.
    pub const WARNING: Self = Self(32);

    /// Of this value.
    #[must_use]
    pub const fn new(value: i8) -> Self {
        Self(value)
    }

    /// The value.
    #[must_use]
    pub const fn value(self) -> i8 {
        self.0
    }

    /// What it amounts to; `None` for 0, which claims nothing.
    #[must_use]
    pub const fn tier(self) -> Option<Tier> {
        match self.0 {
            0 => None,
            -1 | 1 => Some(Tier::None),
            -32..=-2 | 2..=31 => Some(Tier::Affirming),
            -96..=-33 | 32..=95 => Some(Tier::Warning),
            i8::MIN..=-97 | 96..=i8::MAX => Some(Tier::Contraindicated),
        }
    }
}

/// The trustworthiness vector. What nothing was found out about is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Vector {
    /// Who it is: a genuine instance that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_identity: Option<TrustClaim>,
    /// How it is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<TrustClaim>,
    /// What runs in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executables: Option<TrustClaim>,
    /// What its file system holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_system: Option<TrustClaim>,
    /// What it runs on, with its firmware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware: Option<TrustClaim>,
    /// Whether its memory is hidden from the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_opaque: Option<TrustClaim>,
    /// Whether its storage is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_opaque: Option<TrustClaim>,
    /// Whether the data that it works on is sound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sourced_data: Option<TrustClaim>,
}

impl Vector {
    /// Each claim by its name, where it is there.
    pub fn claims(&self) -> impl Iterator<Item = (&'static str, TrustClaim)> {
        let all = [
            ("instance-identity", self.instance_identity),
            ("configuration", self.configuration),
            ("executables", self.executables),
            ("file-system", self.file_system),
            ("hardware", self.hardware),
            ("runtime-opaque", self.runtime_opaque),
            ("storage-opaque", self.storage_opaque),
            ("sourced-data", self.sourced_data),
        ];
        all.into_iter().filter_map(|(name, claim)| claim.map(|claim| (name, claim)))
    }

    /// The worst of its claims; [`Tier::None`] where it claims nothing.
    #[must_use]
    pub fn worst(&self) -> Tier {
        self.claims().filter_map(|(_, claim)| claim.tier()).reduce(Tier::worse).unwrap_or(Tier::None)
    }
}

/// What was found about one part of a guest. Its status is never better than its vector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Appraisal {
    #[serde(rename = "ear.status")]
    status: Tier,
    #[serde(rename = "ear.trustworthiness-vector")]
    vector: Vector,
    #[serde(rename = "ear.appraisal-policy-id", skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
}

impl Appraisal {
    /// Of this vector, under the policy of this name. The status is the vector's worst tier.
    #[must_use]
    pub fn new(vector: Vector, policy: Option<String>) -> Self {
        Self { status: vector.worst(), vector, policy }
    }

    /// What it amounts to.
    #[must_use]
    pub const fn status(&self) -> Tier {
        self.status
    }

    /// What was found.
    #[must_use]
    pub const fn vector(&self) -> &Vector {
        &self.vector
    }

    /// The policy's name.
    #[must_use]
    pub fn policy(&self) -> Option<&str> {
        self.policy.as_deref()
    }
}

/// Who judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifierId {
    /// Who made the verifier.
    pub developer: String,
    /// Which it is, with its version.
    pub build: String,
}

impl VerifierId {
    /// This project's verifier in this version.
    #[must_use]
    pub fn this() -> Self {
        Self { developer: "portcullis".to_owned(), build: concat!("portcullis ", env!("CARGO_PKG_VERSION")).to_owned() }
    }
}

/// The key that a result is bound to (RFC 7800): whoever presents the result proves possession of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Confirmation {
    jwk: Jwk,
}

/// What a result of ours says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EarClaims {
    /// The issuer: the broker's trust domain or URL.
    pub iss: String,
    /// Whom it is about: a SPIFFE ID, where one was assigned.
    pub sub: Option<String>,
    /// For whom.
    pub aud: String,
    /// When the guest was judged.
    pub iat: UnixTime,
    /// From when on it holds no longer.
    pub exp: UnixTime,
    /// Its number, as it stands in the audit log.
    pub jti: String,
    /// What the relying party gave to be echoed, or the broker's nonce: 8 to 88 characters.
    pub nonce: Option<String>,
    /// Who judged.
    pub verifier: VerifierId,
    /// By part: [`CPU`] at least.
    pub submods: BTreeMap<String, Appraisal>,
    /// The attested key of the guest.
    pub key: PublicKey,
    /// The class of roots under which it was judged.
    pub anchors: AnchorClass,
}

/// The claims as they are written.
#[derive(Serialize)]
struct Written<'a> {
    eat_profile: &'a str,
    iss: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a str>,
    aud: &'a str,
    #[serde(with = "numeric_date")]
    iat: UnixTime,
    #[serde(with = "numeric_date")]
    exp: UnixTime,
    jti: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    eat_nonce: Option<&'a str>,
    #[serde(rename = "ear.verifier-id")]
    verifier: &'a VerifierId,
    submods: &'a BTreeMap<String, Appraisal>,
    cnf: Confirmation,
    #[serde(rename = "portcullis.anchors")]
    anchors: AnchorClass,
}

impl EarClaims {
    /// Signs them.
    ///
    /// # Errors
    /// [`TokenError`]; [`TokenError::Unwritable`] where nothing was judged, or the nonce has not 8 to 88 characters.
    pub fn sign(&self, signer: &dyn TokenSigner) -> Result<String, TokenError> {
        if self.submods.is_empty() || self.submods.len() > PARTS {
            return Err(TokenError::Unwritable("a result is about 1 to 64 parts".to_owned()));
        }
        if self.nonce.as_ref().is_some_and(|nonce| !is_nonce(nonce)) {
            return Err(TokenError::Unwritable("a nonce has 8 to 88 characters".to_owned()));
        }
        let claims = Written {
            eat_profile: PROFILE,
            iss: &self.iss,
            sub: self.sub.as_deref(),
            aud: &self.aud,
            iat: self.iat,
            exp: self.exp,
            jti: &self.jti,
            eat_nonce: self.nonce.as_deref(),
            verifier: &self.verifier,
            submods: &self.submods,
            cnf: Confirmation { jwk: Jwk::ed25519(self.key) },
            anchors: self.anchors,
        };
        sign(TYPE, &claims, signer)
    }
}

/// RFC 9711, section 4.1: 8 to 88 bytes of text.
fn is_nonce(text: &str) -> bool {
    (8..=88).contains(&text.len())
}

/// An attestation result that verified. Only [`Ear::verify`] makes one.
#[derive(Debug)]
pub struct Ear {
    issuer: Option<String>,
    subject: Option<String>,
    issued: UnixTime,
    expires: UnixTime,
    number: Option<String>,
    nonce: Option<String>,
    verifier: VerifierId,
    submods: BTreeMap<String, Appraisal>,
    key: Option<Jwk>,
    anchors: Option<AnchorClass>,
}

/// Whom a result says that it is about and for, before anything is verified. It is for whoever a result was issued to: what that guest knows of
/// itself and asked for is to stand in it. A relying party takes [`Ear::verify`].
#[derive(Debug, Deserialize)]
pub struct Binding {
    sub: Option<String>,
    aud: Option<String>,
    jti: Option<String>,
    cnf: Option<Object<Confirmation>>,
}

impl Binding {
    /// Reads it.
    ///
    /// # Errors
    /// [`EarError::Token`]: [`TokenError::Type`] where it is a token of another type, and whatever else makes it none; [`EarError::Form`].
    pub fn unverified(token: &str) -> Result<Self, EarError> {
        let found = unverified_type(token)?.unwrap_or_default();
        if found != TYPE {
            return Err(TokenError::Type { expected: vec![TYPE.to_owned()], found }.into());
        }
        serde_json::from_value(unverified_claims(token)?).map_err(|error| EarError::Form(error.to_string()))
    }

    /// Whom it is about.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.sub.as_deref()
    }

    /// The one for whom it is.
    #[must_use]
    pub fn audience(&self) -> Option<&str> {
        self.aud.as_deref()
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> Option<&str> {
        self.jti.as_deref()
    }

    /// The key that it is bound to, where that is an Ed25519 key.
    #[must_use]
    pub fn key(&self) -> Option<&PublicKey> {
        self.cnf.as_ref().and_then(|confirmation| confirmation.0.jwk.as_ed25519())
    }
}

/// The claims as they are read. Unknown ones are ignored, as EAT has it; what decides is required.
#[derive(Deserialize)]
struct Read {
    iss: Option<String>,
    sub: Option<String>,
    #[serde(with = "numeric_date")]
    iat: UnixTime,
    jti: Option<String>,
    eat_nonce: Option<String>,
    #[serde(rename = "ear.verifier-id")]
    verifier: Object<VerifierId>,
    submods: BTreeMap<String, Object<ReadAppraisal>>,
    cnf: Option<Object<Confirmation>>,
    #[serde(rename = "portcullis.anchors")]
    anchors: Option<AnchorClass>,
}

#[derive(Deserialize)]
struct ReadAppraisal {
    #[serde(rename = "ear.status")]
    status: Option<ReadTier>,
    #[serde(rename = "ear.trustworthiness-vector")]
    vector: Option<Object<Vector>>,
    #[serde(rename = "ear.appraisal-policy-id")]
    policy: Option<String>,
}

/// A tier in words or by its number, which are both deployed.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum ReadTier {
    Named(Tier),
    Numbered(i8),
}

impl ReadTier {
    const fn tier(self) -> Option<Tier> {
        match self {
            Self::Named(tier) => Some(tier),
            Self::Numbered(0) => Some(Tier::None),
            Self::Numbered(2) => Some(Tier::Affirming),
            Self::Numbered(32) => Some(Tier::Warning),
            Self::Numbered(96) => Some(Tier::Contraindicated),
            Self::Numbered(_) => None,
        }
    }
}

impl Ear {
    /// Verifies a result: the token ([`verify()`](super::verify())), then its profile, then each part. `expected.types` should be [`TYPE`] alone.
    ///
    /// # Errors
    /// [`EarError`], a variant per check.
    pub fn verify(token: &str, expected: &Expected<'_>) -> Result<Self, EarError> {
        let verified = verify(token, expected)?;
        let expires = verified.expires();
        let claims = verified.into_claims();
        let profile = claims.get("eat_profile").and_then(serde_json::Value::as_str);
        if profile != Some(PROFILE) {
            return Err(EarError::Profile { found: profile.map(str::to_owned) });
        }
        let read: Read = serde_json::from_value(claims).map_err(|error| EarError::Form(error.to_string()))?;
        if read.submods.is_empty() || read.submods.len() > PARTS {
            return Err(EarError::Parts { found: read.submods.len() });
        }
        if read.eat_nonce.as_ref().is_some_and(|nonce| !is_nonce(nonce)) {
            return Err(EarError::Nonce);
        }
        let submods = read.submods.into_iter().map(|(part, Object(read))| read.appraisal(&part).map(|appraisal| (part, appraisal)));
        Ok(Self {
            submods: submods.collect::<Result<_, _>>()?,
            issuer: read.iss,
            subject: read.sub,
            issued: read.iat,
            expires,
            number: read.jti,
            nonce: read.eat_nonce,
            verifier: read.verifier.0,
            key: read.cnf.map(|confirmation| confirmation.0.jwk),
            anchors: read.anchors,
        })
    }

    /// The overall tier: the worst of all parts, and contraindicated where one of `required` is missing.
    #[must_use]
    pub fn worst(&self, required: &[&str]) -> Tier {
        let present: BTreeSet<&str> = self.submods.keys().map(String::as_str).collect();
        if required.iter().any(|part| !present.contains(part)) {
            return Tier::Contraindicated;
        }
        self.submods.values().map(Appraisal::status).reduce(Tier::worse).unwrap_or(Tier::Contraindicated)
    }

    /// By part.
    #[must_use]
    pub const fn submods(&self) -> &BTreeMap<String, Appraisal> {
        &self.submods
    }

    /// Who issued it, by its own word.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// Whom it is about.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// When the guest was judged.
    #[must_use]
    pub const fn issued(&self) -> UnixTime {
        self.issued
    }

    /// From when on it holds no longer.
    #[must_use]
    pub const fn expires(&self) -> UnixTime {
        self.expires
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> Option<&str> {
        self.number.as_deref()
    }

    /// What it echoes.
    #[must_use]
    pub fn nonce(&self) -> Option<&str> {
        self.nonce.as_deref()
    }

    /// Who judged.
    #[must_use]
    pub const fn verifier(&self) -> &VerifierId {
        &self.verifier
    }

    /// The key whose possession its presenter must prove, where it names one.
    #[must_use]
    pub const fn key(&self) -> Option<&Jwk> {
        self.key.as_ref()
    }

    /// The class of roots under which the guest was judged, where it says so.
    #[must_use]
    pub const fn anchors(&self) -> Option<AnchorClass> {
        self.anchors
    }
}

impl ReadAppraisal {
    fn appraisal(self, part: &str) -> Result<Appraisal, EarError> {
        let status = self.status.ok_or_else(|| EarError::NoStatus { part: part.to_owned() })?;
        let status = status.tier().ok_or_else(|| EarError::Form(format!("the status of {part:?} is no tier")))?;
        let vector = self.vector.map(|object| object.0).unwrap_or_default();
        let worst = vector.worst();
        // A vector that claims nothing is worth "none": who affirms has something to show for it.
        if status.is_better_than(worst) {
            return Err(EarError::BetterThanVector { part: part.to_owned(), status, vector: worst });
        }
        Ok(Appraisal { status, vector, policy: self.policy })
    }
}

/// Why a token is no attestation result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EarError {
    /// Not a token that holds.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Of another profile, whose claims have other names.
    #[error("the result is of profile {}; expected {PROFILE}", .found.as_deref().unwrap_or("none"))]
    Profile {
        /// Its own.
        found: Option<String>,
    },
    /// A claim is missing or not of its type.
    #[error("not an attestation result: {0}")]
    Form(String),
    /// About nothing, or too much.
    #[error("the result is about {found} parts; expected 1 to 64")]
    Parts {
        /// How many.
        found: usize,
    },
    /// A nonce that is none.
    #[error("the result's nonce has not 8 to 88 characters")]
    Nonce,
    /// A part without a status: a reader that overlooks it would let it pass.
    #[error("the result has no status for {part:?}")]
    NoStatus {
        /// Which.
        part: String,
    },
    /// A status that its own vector contradicts.
    #[error("the result calls {part:?} {status}, which is better than its vector: {vector}")]
    BetterThanVector {
        /// Which.
        part: String,
        /// Its status.
        status: Tier,
        /// The worst tier of its vector.
        vector: Tier,
    },
}

impl EarError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Token(error) => error.code(),
            Self::Profile { .. } => "ear-profile",
            Self::Form(_) => "ear-form",
            Self::Parts { .. } => "ear-parts",
            Self::Nonce => "ear-nonce",
            Self::NoStatus { .. } => "ear-no-status",
            Self::BetterThanVector { .. } => "ear-better-than-vector",
        }
    }
}
