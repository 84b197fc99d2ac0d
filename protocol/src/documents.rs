//! What the signed documents say: DESIGN, "what the broker obeys and what it keeps".
//!
//! | document | signed by | says |
//! | --- | --- | --- |
//! | [`CertificateBody`] | the installation root | this key is the broker's, for this purpose, for this long |
//! | [`StatementBody`] | a publisher | this name and version stand for this secret, under this policy of this authority |
//! | [`PolicyBody`] | an authority | these are the rules of this name |
//! | [`RevocationsBody`] | an authority | these records, all of them, are revoked |
//! | [`TcbBaselinesBody`] | an authority | this is the least TCB that each processor line should run, since when |

use serde::{Deserialize, Serialize};

use crate::dsse::{Body, Document, DocumentError, SignedDocument};
use crate::hpke::RecipientKey;
use crate::ids::{AnchorClass, Digest, Name, Version};
use crate::keys::PublicKey;
use crate::limits;
use crate::time::UnixTime;

/// What is asked for and, but for an identity, what a record releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The key of a sealed model; its manifest's digest stands beside it.
    Model,
    /// An API credential.
    Credential,
    /// A signed identity, by the name of the policy that says which. It is never a record: nobody publishes one.
    Identity,
}

impl Kind {
    /// `model`, `credential` or `identity`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Credential => "credential",
            Self::Identity => "identity",
        }
    }
}

/// A publisher's statement about one secret. Together with its [`crate::envelope::Envelope`] it is a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatementBody {
    /// The installation that may hold it.
    pub installation: PublicKey,
    /// The record's name.
    pub name: Name,
    /// Its version.
    pub version: Version,
    /// What it releases.
    pub kind: Kind,
    /// The digest of the sealed model's signed manifest; present exactly for models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Digest>,
    /// The policy that decides about it.
    pub policy: Name,
    /// The authority whose signature that policy must bear.
    pub authority: PublicKey,
    /// The class of roots under which a guest may be judged for it.
    pub anchors: AnchorClass,
    /// Commits to all fields above and to the secret: [`crate::envelope::commit`].
    pub commitment: Digest,
}

impl Body for StatementBody {
    const PAYLOAD_TYPE: &'static str = "application/vnd.portcullis.statement+json";

    fn check(&self) -> Result<(), &'static str> {
        match (self.kind, self.manifest) {
            (Kind::Model, None) => Err("a model's statement needs a manifest digest"),
            (Kind::Credential, Some(_)) => Err("a credential's statement has no manifest digest"),
            (Kind::Identity, _) => Err("an identity is no record: a policy assigns it"),
            _ => Ok(()),
        }
    }
}

/// An authority's policy: the text as people wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyBody {
    /// The installation that may obey it.
    pub installation: PublicKey,
    /// The policy's name.
    pub name: Name,
    /// Its version; a broker takes only a higher one.
    pub version: Version,
    /// The policy text, TOML.
    pub toml: String,
}

impl Body for PolicyBody {
    const PAYLOAD_TYPE: &'static str = "application/vnd.portcullis.policy+json";
}

/// All revoked records of one authority, in one numbered list: a shorter list is a lower number or a new decision, never an omission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationsBody {
    /// The installation that must obey it.
    pub installation: PublicKey,
    /// Its number; a broker takes only a higher one.
    pub version: Version,
    /// Every revoked record.
    pub revoked: Vec<Revocation>,
}

impl Body for RevocationsBody {
    const PAYLOAD_TYPE: &'static str = "application/vnd.portcullis.revocations+json";

    fn check(&self) -> Result<(), &'static str> {
        if self.revoked.len() > limits::REVOCATIONS { Err("more revocations than a list may hold") } else { Ok(()) }
    }
}

impl RevocationsBody {
    /// The entry that revokes this version of what has this kind and name, if one does.
    #[must_use]
    pub fn find(&self, kind: Kind, name: &Name, version: Version) -> Option<&Revocation> {
        self.revoked.iter().find(|entry| entry.name == *name && entry.covers(kind, version))
    }
}

/// One revoked record, or policy that gives an identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// Of which kind; absent: whatever has the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// Its name.
    pub name: Name,
    /// Its version; absent: every version, also later ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// Why, for people.
    pub reason: String,
}

impl Revocation {
    /// Whether this revokes that version of that kind of what has the name.
    #[must_use]
    pub fn covers(&self, kind: Kind, version: Version) -> bool {
        self.kind.is_none_or(|revoked| revoked == kind) && self.version.is_none_or(|revoked| revoked == version)
    }
}

/// An authority's TCB calendar for AMD SEV-SNP: from when on which TCB is the least that a processor line should run. AMD publishes
/// the numbers in security bulletins, which nobody can read by program; an authority copies them here, once for all its policies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TcbBaselinesBody {
    /// The installation that may obey it.
    pub installation: PublicKey,
    /// The calendar's name: what policies refer to.
    pub name: Name,
    /// Its version; a broker takes only a higher one.
    pub version: Version,
    /// By line, and in each line by date.
    pub baselines: Vec<TcbBaseline>,
}

/// From a date on, the least TCB of one processor line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TcbBaseline {
    /// The line.
    pub product: BaselineProduct,
    /// When the TCB was published: periods of grace count from here.
    pub published: UnixTime,
    /// FMC: there for Turin alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fmc: Option<u8>,
    /// Boot loader.
    pub bootloader: u8,
    /// TEE (PSP operating system).
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Microcode.
    pub microcode: u8,
}

impl TcbBaseline {
    /// Every part, an absent one as zero.
    fn parts(&self) -> [u8; 5] {
        [self.fmc.unwrap_or(0), self.bootloader, self.tee, self.snp, self.microcode]
    }

    /// Whether this raises `earlier`, and lowers no part of it.
    fn raises(&self, earlier: &Self) -> bool {
        let (new, old) = (self.parts(), earlier.parts());
        new != old && new.iter().zip(old).all(|(new, old)| *new >= old)
    }
}

/// A processor line that has baselines. Bergamo and Siena are of the Genoa line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BaselineProduct {
    /// EPYC 7003.
    Milan,
    /// EPYC 9004, 8004.
    Genoa,
    /// EPYC 9005.
    Turin,
}

impl BaselineProduct {
    /// `milan`, `genoa` or `turin`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Milan => "milan",
            Self::Genoa => "genoa",
            Self::Turin => "turin",
        }
    }
}

impl Body for TcbBaselinesBody {
    const PAYLOAD_TYPE: &'static str = "application/vnd.portcullis.tcb-baselines+json";

    fn check(&self) -> Result<(), &'static str> {
        if self.baselines.is_empty() {
            return Err("a TCB calendar without baselines says nothing");
        }
        if self.baselines.len() > limits::TCB_BASELINES {
            return Err("more baselines than a TCB calendar may hold");
        }
        if self.baselines.iter().any(|baseline| baseline.fmc.is_some() != (baseline.product == BaselineProduct::Turin)) {
            return Err("Turin's baselines have the part fmc, and no other line's");
        }
        for (earlier, later) in self.baselines.iter().zip(self.baselines.iter().skip(1)) {
            if (earlier.product, earlier.published) >= (later.product, later.published) {
                return Err("baselines stand by line (milan, genoa, turin), and in each line by date, none twice");
            }
            if earlier.product == later.product && !later.raises(earlier) {
                return Err("each baseline of a line raises the one before, and lowers no part of it");
            }
        }
        Ok(())
    }
}

/// What a certified key is for. A key certified for one purpose never serves another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "purpose", content = "key", rename_all = "kebab-case", deny_unknown_fields)]
pub enum CertifiedKey {
    /// Signs the broker's answers.
    Identity(PublicKey),
    /// Signs the audit log's checkpoints.
    Log(PublicKey),
    /// Opens envelopes.
    Sealing(RecipientKey),
}

impl CertifiedKey {
    /// `identity`, `log` or `sealing`.
    #[must_use]
    pub const fn purpose(&self) -> &'static str {
        match self {
            Self::Identity(_) => "identity",
            Self::Log(_) => "log",
            Self::Sealing(_) => "sealing",
        }
    }
}

/// The installation root's word that a key is its broker's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateBody {
    /// The installation: the root's own public key.
    pub installation: PublicKey,
    /// The name that people know the installation by; also the origin of its log.
    pub name: Name,
    /// The class of roots under which it judges evidence.
    pub anchors: AnchorClass,
    /// The key and its purpose.
    pub certified: CertifiedKey,
    /// The first second at which it holds.
    pub not_before: UnixTime,
    /// The last second at which it holds.
    pub not_after: UnixTime,
}

impl Body for CertificateBody {
    const PAYLOAD_TYPE: &'static str = "application/vnd.portcullis.certificate+json";

    fn check(&self) -> Result<(), &'static str> {
        if self.not_before > self.not_after { Err("not_before lies after not_after") } else { Ok(()) }
    }
}

/// A certificate that the pinned root signed and that holds at the time of checking. Only [`Certificate::verify`] makes one.
#[derive(Debug)]
pub struct Certificate(Document<CertificateBody>);

impl Certificate {
    /// Verifies a certificate under the pinned `root`: signature, installation, window.
    ///
    /// # Errors
    /// [`CertificateError`], a variant per check, in that order.
    pub fn verify(signed: &SignedDocument, root: &PublicKey, at: UnixTime) -> Result<Self, CertificateError> {
        let document = signed.authenticate::<CertificateBody>(&[*root])?;
        let body = document.body();
        if body.installation != *root {
            return Err(CertificateError::Installation { expected: *root, found: body.installation });
        }
        if at < body.not_before || at > body.not_after {
            return Err(CertificateError::Window { not_before: body.not_before, not_after: body.not_after, at });
        }
        Ok(Self(document))
    }

    /// What it certifies.
    #[must_use]
    pub const fn body(&self) -> &CertificateBody {
        self.0.body()
    }

    /// The certificate's digest.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        self.0.digest()
    }

    /// The key, where it is certified to sign answers.
    ///
    /// # Errors
    /// [`CertificateError::Purpose`].
    pub fn identity(&self) -> Result<&PublicKey, CertificateError> {
        match &self.body().certified {
            CertifiedKey::Identity(key) => Ok(key),
            other => Err(CertificateError::Purpose { expected: "identity", found: other.purpose() }),
        }
    }

    /// The key, where it is certified to sign checkpoints.
    ///
    /// # Errors
    /// [`CertificateError::Purpose`].
    pub fn log(&self) -> Result<&PublicKey, CertificateError> {
        match &self.body().certified {
            CertifiedKey::Log(key) => Ok(key),
            other => Err(CertificateError::Purpose { expected: "log", found: other.purpose() }),
        }
    }

    /// The key, where it is certified to open envelopes.
    ///
    /// # Errors
    /// [`CertificateError::Purpose`].
    pub fn sealing(&self) -> Result<&RecipientKey, CertificateError> {
        match &self.body().certified {
            CertifiedKey::Sealing(key) => Ok(key),
            other => Err(CertificateError::Purpose { expected: "sealing", found: other.purpose() }),
        }
    }
}

/// Why a certificate is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not signed by the pinned root, or not a certificate.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// It names another installation than the root that signed it.
    #[error("the certificate is for installation {found}, not for {expected}")]
    Installation {
        /// The pinned root.
        expected: PublicKey,
        /// What the certificate names.
        found: PublicKey,
    },
    /// It does not hold at this time.
    #[error("the certificate holds from {not_before} to {not_after}, not at {at}")]
    Window {
        /// Its first second.
        not_before: UnixTime,
        /// Its last second.
        not_after: UnixTime,
        /// The time of checking.
        at: UnixTime,
    },
    /// It is for another purpose.
    #[error("the certificate is for a key with purpose {found}, not {expected}")]
    Purpose {
        /// The purpose that was needed.
        expected: &'static str,
        /// Its own.
        found: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SigningKey;

    fn root() -> SigningKey {
        SigningKey::from_seed(&[1; 32]).unwrap()
    }

    fn body() -> CertificateBody {
        CertificateBody {
            installation: *root().public(),
            name: "acme".parse().unwrap(),
            anchors: AnchorClass::Test,
            certified: CertifiedKey::Identity(PublicKey::from_bytes([2; 32])),
            not_before: UnixTime::from_seconds(100),
            not_after: UnixTime::from_seconds(200),
        }
    }

    fn verify(body: &CertificateBody, at: u64) -> Result<Certificate, CertificateError> {
        Certificate::verify(&SignedDocument::sign(body, &root()).unwrap(), root().public(), UnixTime::from_seconds(at))
    }

    #[test]
    fn a_certificate_holds_from_its_first_to_its_last_second() {
        assert!(verify(&body(), 100).is_ok() && verify(&body(), 200).is_ok());
        assert!(matches!(verify(&body(), 99), Err(CertificateError::Window { .. })));
        assert!(matches!(verify(&body(), 201), Err(CertificateError::Window { .. })));
    }

    #[test]
    fn a_certificate_serves_its_own_purpose_only() {
        let certificate = verify(&body(), 150).unwrap();
        assert!(certificate.identity().is_ok());
        assert_eq!(certificate.log(), Err(CertificateError::Purpose { expected: "log", found: "identity" }));
        assert_eq!(certificate.sealing().unwrap_err(), CertificateError::Purpose { expected: "sealing", found: "identity" });
    }

    #[test]
    fn a_certificate_of_another_root_or_installation_is_refused() {
        let other = SigningKey::from_seed(&[9; 32]).unwrap();
        let foreign = SignedDocument::sign(&body(), &other).unwrap();
        let refused = Certificate::verify(&foreign, root().public(), UnixTime::from_seconds(150)).unwrap_err();
        assert_eq!(refused, CertificateError::Document(DocumentError::UnknownSigner { found: other.public().id() }));
        let elsewhere = CertificateBody { installation: *other.public(), ..body() };
        let expected = CertificateError::Installation { expected: *root().public(), found: *other.public() };
        assert_eq!(verify(&elsewhere, 150).unwrap_err(), expected);
    }

    #[test]
    fn a_certified_key_has_no_field_besides() {
        let key = CertifiedKey::Log(PublicKey::from_bytes([2; 32]));
        let json = serde_json::to_string(&key).unwrap();
        assert_eq!(serde_json::from_str::<CertifiedKey>(&json).unwrap(), key);
        let more = json.replacen('{', "{\"not_after\":1,", 1);
        assert!(serde_json::from_str::<CertifiedKey>(&more).unwrap_err().to_string().contains("not_after"));
    }

    #[test]
    fn each_body_keeps_its_own_rules() {
        assert!(CertificateBody { not_before: UnixTime::from_seconds(200), ..body() }.check().is_ok());
        assert!(CertificateBody { not_before: UnixTime::from_seconds(201), ..body() }.check().is_err());

        let statement = |kind, manifest| StatementBody {
            installation: *root().public(),
            name: "a".parse().unwrap(),
            version: Version::FIRST,
            kind,
            manifest,
            policy: "p".parse().unwrap(),
            authority: *root().public(),
            anchors: AnchorClass::Test,
            commitment: Digest::from([0; 32]),
        };
        let manifest = Some(Digest::from([1; 32]));
        assert!(statement(Kind::Model, manifest).check().is_ok() && statement(Kind::Credential, None).check().is_ok());
        assert!(statement(Kind::Model, None).check().is_err() && statement(Kind::Credential, manifest).check().is_err());
        for manifest in [None, manifest] {
            assert_eq!(statement(Kind::Identity, manifest).check(), Err("an identity is no record: a policy assigns it"));
        }

        let revoked = Revocation { kind: None, name: "a".parse().unwrap(), version: None, reason: String::new() };
        let list =
            |length| RevocationsBody { installation: *root().public(), version: Version::FIRST, revoked: vec![revoked.clone(); length] };
        assert!(list(limits::REVOCATIONS).check().is_ok());
        assert!(list(limits::REVOCATIONS + 1).check().is_err());
    }

    fn genoa(day: u64, snp: u8, microcode: u8) -> TcbBaseline {
        let published = UnixTime::from_seconds(day * 86400);
        TcbBaseline { product: BaselineProduct::Genoa, published, fmc: None, bootloader: 10, tee: 0, snp, microcode }
    }

    fn calendar(baselines: Vec<TcbBaseline>) -> TcbBaselinesBody {
        TcbBaselinesBody { installation: *root().public(), name: "amd".parse().unwrap(), version: Version::FIRST, baselines }
    }

    #[test]
    fn baselines_stand_by_line_and_date_and_only_rise() {
        let turin = TcbBaseline { product: BaselineProduct::Turin, fmc: Some(1), ..genoa(1, 4, 81) };
        let milan = TcbBaseline { product: BaselineProduct::Milan, ..genoa(900, 22, 213) };
        let passes = |baselines: &[TcbBaseline]| calendar(baselines.to_vec()).check().is_ok();
        assert!(passes(&[milan, genoa(1, 22, 80), genoa(2, 22, 81), genoa(3, 23, 81), turin]));
        assert!(!passes(&[]), "empty");
        assert!(!passes(&[genoa(2, 22, 80), genoa(1, 22, 81)]), "out of order");
        assert!(!passes(&[genoa(1, 22, 80), genoa(1, 22, 81)]), "one date twice");
        assert!(!passes(&[genoa(1, 22, 80), milan]), "lines out of order");
        assert!(!passes(&[genoa(1, 22, 80), genoa(2, 22, 80)]), "nothing rises");
        assert!(!passes(&[genoa(1, 22, 80), genoa(2, 23, 79)]), "one part falls");
        assert!(!passes(&[TcbBaseline { fmc: None, ..turin }]), "Turin without an FMC");
        assert!(!passes(&[TcbBaseline { fmc: Some(0), ..genoa(1, 22, 80) }]), "Genoa with one");
    }

    #[test]
    fn a_calendar_is_bounded_and_reads_back_as_it_was_signed() {
        let rising = |count: usize| (0..count).map(|at| genoa(at as u64, (at / 256) as u8, (at % 256) as u8)).collect::<Vec<_>>();
        // Each rises in one part and falls in the other at every 256th: only the bound is looked at here.
        assert_eq!(calendar(rising(limits::TCB_BASELINES + 1)).check(), Err("more baselines than a TCB calendar may hold"));
        let body = calendar(vec![genoa(1, 22, 80)]);
        let signed = SignedDocument::sign(&body, &root()).unwrap();
        assert_eq!(signed.authenticate::<TcbBaselinesBody>(&[*root().public()]).unwrap().body(), &body);
        assert!(SignedDocument::sign(&calendar(vec![]), &root()).is_err());
        let json = r#"{"product":"rome","published":"2026-01-01T00:00:00Z","bootloader":1,"tee":0,"snp":1,"microcode":1}"#;
        assert!(serde_json::from_str::<TcbBaseline>(json).is_err());
        assert!(serde_json::from_str::<TcbBaseline>(&json.replace("rome", "milan")).is_ok());
    }

    #[test]
    fn a_revocation_without_a_version_or_a_kind_covers_all_of_them() {
        let revocations = RevocationsBody {
            installation: *root().public(),
            version: Version::FIRST,
            revoked: vec![
                Revocation { kind: None, name: "a".parse().unwrap(), version: None, reason: String::new() },
                Revocation { kind: Some(Kind::Model), name: "b".parse().unwrap(), version: Some(Version::FIRST), reason: String::new() },
            ],
        };
        let two = Version::try_from(2).unwrap();
        let finds = |kind, name: &str, version| revocations.find(kind, &name.parse().unwrap(), version).is_some();
        assert!(finds(Kind::Model, "a", two));
        assert!(finds(Kind::Model, "b", Version::FIRST));
        assert!(!finds(Kind::Model, "b", two));
        assert!(!finds(Kind::Model, "c", two));
        // Without a kind, whatever has the name; with one, nothing else.
        assert!(finds(Kind::Credential, "a", two) && finds(Kind::Identity, "a", two));
        assert!(!finds(Kind::Credential, "b", Version::FIRST) && !finds(Kind::Identity, "b", Version::FIRST));
    }
}
