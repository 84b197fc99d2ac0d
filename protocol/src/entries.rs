//! What stands in the audit log: one JSON object an entry, canonical by construction (fields in the order below, no
//! optional white space). Every entry names its log and the digest of all documents that the broker obeyed at that moment,
//! so that neither an entry nor a set of documents can be moved to another log or another time.
//!
//! No secret stands here, and no chip id: what identifies a machine lies in the decision's details, which the entry
//! commits to by a salted digest and which the operator may delete without hurting the log.

use serde::{Deserialize, Serialize};

use crate::documents::Kind;
use crate::encoding::Fields;
use crate::ids::{AnchorClass, DecisionId, Digest, Name, Nonce, Version};
use crate::keys::PublicKey;
use crate::limits;
use crate::messages::Purpose;
use crate::spiffe::{SpiffeId, TrustDomain};
use crate::time::UnixTime;

/// One entry of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The log's origin: the installation's name and the word `log`.
    pub origin: String,
    /// The installation's root.
    pub installation: PublicKey,
    /// The class of roots under which it judges evidence.
    pub anchors: AnchorClass,
    /// The broker's time.
    pub at: UnixTime,
    /// The digest of the whole active document set behind this entry.
    pub documents: Digest,
    /// What happened.
    pub event: Event,
}

impl Entry {
    /// The bytes that are hashed into the log.
    ///
    /// # Errors
    /// [`EntryError`] where they would not fit.
    pub fn to_bytes(&self) -> Result<Vec<u8>, EntryError> {
        let bytes = serde_json::to_vec(self).map_err(|error| EntryError::Form(error.to_string()))?;
        if bytes.len() > limits::LOG_ENTRY { Err(EntryError::TooLarge { limit: limits::LOG_ENTRY, found: bytes.len() }) } else { Ok(bytes) }
    }

    /// Reads an entry.
    ///
    /// # Errors
    /// [`EntryError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, EntryError> {
        if bytes.len() > limits::LOG_ENTRY {
            return Err(EntryError::TooLarge { limit: limits::LOG_ENTRY, found: bytes.len() });
        }
        serde_json::from_slice(bytes).map_err(|error| EntryError::Form(error.to_string()))
    }
}

/// What can happen in an installation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// The log begins.
    Initialised {},
    /// A broker process started.
    Started {
        /// Its version.
        version: String,
    },
    /// A record was published.
    RecordPut {
        /// Its name.
        name: Name,
        /// Its version.
        version: Version,
        /// The statement's digest.
        statement: Digest,
        /// Who signed it.
        publisher: PublicKey,
    },
    /// A policy was put.
    PolicyPut {
        /// Its name.
        name: Name,
        /// Its version.
        version: Version,
        /// The document's digest.
        document: Digest,
        /// Who signed it.
        authority: PublicKey,
    },
    /// A list of revocations was put.
    RevocationsPut {
        /// Its number.
        version: Version,
        /// The document's digest.
        document: Digest,
        /// Who signed it.
        authority: PublicKey,
        /// How many records it revokes.
        revoked: u64,
    },
    /// A bundle of vendor collateral was imported. What of it verified is in use; the vendors' signatures decide that, not the carrier's.
    CollateralImported {
        /// The bundle's digest.
        document: Digest,
        /// Who signed it.
        authority: PublicKey,
        /// How many pieces it has.
        pieces: u64,
    },
    /// A TCB calendar was put.
    TcbBaselinesPut {
        /// Its name.
        name: Name,
        /// Its version.
        version: Version,
        /// The document's digest.
        document: Digest,
        /// Who signed it.
        authority: PublicKey,
    },
    /// A decision about a verified guest.
    Decision {
        /// Its number.
        decision: DecisionId,
        /// The request's digest.
        request: Digest,
        /// The digest of the nonce that was spent: [`nonce_digest`].
        nonce: Digest,
        /// The id of the guest's HPKE key.
        guest: Digest,
        /// Whether to release or only to decide.
        purpose: Purpose,
        /// One verdict an item.
        items: Vec<Decided>,
        /// Salted digest of the details.
        details: Digest,
    },
    /// A key that signs identities was made, or its time is over.
    IssuerKey {
        /// What it signs.
        #[serde(rename = "use")]
        usage: IssuerUse,
        /// What its tokens and the published sets name it by; of a CA the SHA-256 of its key, in hex.
        kid: String,
        /// What happened to it.
        action: KeyAction,
        /// From when on it signs.
        not_before: UnixTime,
    },
    /// The bundle of another trust domain was taken.
    IdentityFederated {
        /// Whose.
        trust_domain: TrustDomain,
        /// Its number.
        sequence: u64,
        /// SHA-256 of the bundle as it was read.
        digest: Digest,
    },
    /// Requests refused before anything was verified, since the last such entry.
    Rejections {
        /// How many, by code.
        counts: Vec<RejectionCount>,
    },
}

/// What an entry names a spent nonce by: SHA-256 of `LP("portcullis/nonce/v1") ‖ LP(nonce)`.
#[must_use]
pub fn nonce_digest(nonce: &Nonce) -> Digest {
    Fields::new("portcullis/nonce/v1").field(nonce).sha256()
}

/// The verdict on one item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decided {
    /// What kind of record.
    pub kind: Kind,
    /// Its name.
    pub name: Name,
    /// The version that was found; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// The digest of the statement, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<Digest>,
    /// The digest of the policy document that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Digest>,
    /// What was decided.
    pub verdict: Verdict,
    /// The codes of the first eight failing checks; empty for a permit. The details have all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// What was drawn for an identity before anything was signed; present exactly for a permitted release of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued: Option<Issued>,
}

/// The identity that a decision gives, by the numbers under which it can be found again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issued {
    /// Whose identity.
    pub spiffe_id: SpiffeId,
    /// The serial number of its certificate, in lower-case hex; absent where none was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x509_serial: Option<String>,
    /// SHA-256 of the certified key (SubjectPublicKeyInfo).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x509_key: Option<Digest>,
    /// The numbers of its tokens, in the order of the answer: one an audience, then the attestation result's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jti: Vec<String>,
}

/// What a key of the issuer signs. A key for one never signs the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IssuerUse {
    /// Certificates of X.509-SVIDs.
    X509,
    /// JWT-SVIDs.
    JwtEs256,
    /// JWT-SVIDs for clouds.
    JwtRs256,
    /// Attestation results.
    Result,
}

impl IssuerUse {
    /// `x509`, `jwt-es256`, `jwt-rs256` or `result`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::X509 => "x509",
            Self::JwtEs256 => "jwt-es256",
            Self::JwtRs256 => "jwt-rs256",
            Self::Result => "result",
        }
    }
}

/// What happens to a key of the issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyAction {
    /// It was made, and is published.
    Created,
    /// It was erased, and is published no longer.
    Retired,
}

impl KeyAction {
    /// `created` or `retired`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Retired => "retired",
        }
    }
}

/// What was decided about an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Permitted; for a release request, released.
    Permitted,
    /// Refused.
    Refused,
}

/// How many requests were refused for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RejectionCount {
    /// The reason's code.
    pub code: String,
    /// How many.
    pub count: u64,
}

/// Why bytes are no entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// More than a log entry may hold.
    #[error("the entry has {found} bytes, more than {limit}")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
        /// The size in bytes.
        found: usize,
    },
    /// Not an entry.
    #[error("not a log entry: {0}")]
    Form(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_back_and_refuses_what_it_does_not_know() {
        let entry = Entry {
            origin: "acme/log".into(),
            installation: PublicKey::from_bytes([1; 32]),
            anchors: AnchorClass::Test,
            at: UnixTime::from_seconds(1),
            documents: Digest::from([2; 32]),
            event: Event::Initialised {},
        };
        let bytes = entry.to_bytes().unwrap();
        assert_eq!(Entry::parse(&bytes).unwrap(), entry);
        let unknown = String::from_utf8(bytes).unwrap().replacen('{', "{\"more\":1,", 1);
        assert!(matches!(Entry::parse(unknown.as_bytes()), Err(EntryError::Form(_))));
        assert!(matches!(Entry::parse(&vec![b' '; limits::LOG_ENTRY + 1]), Err(EntryError::TooLarge { .. })));
        let long = Entry { event: Event::Started { version: "v".repeat(limits::LOG_ENTRY) }, ..entry };
        assert!(matches!(long.to_bytes(), Err(EntryError::TooLarge { .. })));
    }
}
