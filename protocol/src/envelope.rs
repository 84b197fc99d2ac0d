//! The secret of a statement, sealed to its recipients on the owner's own machine.
//!
//! ```text
//! commitment = HMAC-SHA256(r, LP("portcullis/commitment/v1") ‖ LP(each other field of the statement) ‖ LP(secret))
//! envelope   = for each recipient: HPKE-seal(info = LP("portcullis/envelope/v1") ‖ LP(statement digest), r ‖ secret)
//! ```
//! `r` is 32 fresh random bytes. Whoever unwraps checks the commitment, so an envelope that is moved to another
//! statement, or a statement re-signed under another name around the same commitment, opens to nothing. Rotation
//! replaces envelopes and leaves statements alone.

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::documents::{Kind, StatementBody};
use crate::dsse::{Document, DocumentError, SignedDocument};
use crate::encoding::Fields;
use crate::hpke::{self, HpkeError, RecipientKey, RecipientSecret, Sealed};
use crate::ids::{AnchorClass, Digest, Name, NoRandomness, Version, random_bytes};
use crate::keys::{PublicKey, SigningKey};
use crate::limits;

/// The sealed secret of the statement that it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// The digest of the signed statement.
    pub statement: Digest,
    /// The secret, once for each recipient.
    pub recipients: Vec<Wrapped>,
}

/// The secret, sealed to one recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wrapped {
    /// [`RecipientKey::id`] of the recipient: a hint.
    pub recipient: Digest,
    /// `r ‖ secret`.
    pub sealed: Sealed,
}

/// A record as it travels: what the publisher says, and the sealed secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordFile {
    /// The signed [`StatementBody`].
    pub statement: SignedDocument,
    /// Its envelope.
    pub envelope: Envelope,
}

/// What a publisher decides about a record: the statement without its commitment.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The installation that may hold it.
    pub installation: PublicKey,
    /// The record's name.
    pub name: Name,
    /// Its version.
    pub version: Version,
    /// What it releases.
    pub kind: Kind,
    /// The manifest's digest, for models.
    pub manifest: Option<Digest>,
    /// The policy that decides about it.
    pub policy: Name,
    /// The authority whose signature that policy must bear.
    pub authority: PublicKey,
    /// The class of roots.
    pub anchors: AnchorClass,
}

/// Makes a record: commits to the draft and the secret, signs, and seals to every recipient.
///
/// # Errors
/// [`EnvelopeError`]: a secret outside 1 ..= [`limits::SECRET`] bytes, no or too many recipients, a draft that breaks the statement's rules.
pub fn write_record(draft: Draft, secret: &[u8], recipients: &[RecipientKey], publisher: &SigningKey) -> Result<RecordFile, EnvelopeError> {
    if secret.is_empty() || secret.len() > limits::SECRET {
        return Err(EnvelopeError::SecretSize { limit: limits::SECRET, found: secret.len() });
    }
    let opening = Zeroizing::new(random_bytes::<32>()?);
    let mut body = StatementBody {
        installation: draft.installation,
        name: draft.name,
        version: draft.version,
        kind: draft.kind,
        manifest: draft.manifest,
        policy: draft.policy,
        authority: draft.authority,
        anchors: draft.anchors,
        commitment: Digest::from([0; 32]),
    };
    body.commitment = commit(&body, &opening, secret);
    let statement = SignedDocument::sign(&body, publisher)?;
    let content = Zeroizing::new([opening.as_slice(), secret].concat());
    let envelope = seal_to(&content, statement.digest(), recipients)?;
    Ok(RecordFile { statement, envelope })
}

/// The commitment of a statement to its other fields and its secret.
#[must_use]
pub fn commit(statement: &StatementBody, opening: &[u8; 32], secret: &[u8]) -> Digest {
    Digest::from(
        Fields::new("portcullis/commitment/v1")
            .field(statement.installation.as_bytes())
            .field(&statement.name)
            .number(statement.version.number())
            .field(statement.kind.as_str())
            .optional(statement.manifest.as_ref().map(AsRef::as_ref))
            .field(&statement.policy)
            .field(statement.authority.as_bytes())
            .field(statement.anchors.as_str())
            .field(secret)
            .hmac_sha256(opening),
    )
}

/// Opens an envelope and checks the statement's commitment: the secret, or a reason.
///
/// # Errors
/// [`EnvelopeError::OtherStatement`], [`EnvelopeError::NotARecipient`], [`EnvelopeError::Hpke`], [`EnvelopeError::Commitment`], in that order.
pub fn unwrap(
    envelope: &Envelope,
    statement: &Document<StatementBody>,
    key: &RecipientSecret,
) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
    let content = open_content(envelope, statement, key)?;
    let (_, secret) = content.split_at_checked(32).ok_or(EnvelopeError::Commitment)?;
    Ok(Zeroizing::new(secret.to_vec()))
}

/// Seals the same secret to other recipients: rotation of the broker's sealing key.
///
/// # Errors
/// As [`unwrap`], and for no or too many recipients.
pub fn rewrap(
    envelope: &Envelope,
    statement: &Document<StatementBody>,
    key: &RecipientSecret,
    recipients: &[RecipientKey],
) -> Result<Envelope, EnvelopeError> {
    seal_to(&open_content(envelope, statement, key)?, *statement.digest(), recipients)
}

fn open_content(
    envelope: &Envelope,
    statement: &Document<StatementBody>,
    key: &RecipientSecret,
) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
    if envelope.statement != *statement.digest() {
        return Err(EnvelopeError::OtherStatement { expected: *statement.digest(), found: envelope.statement });
    }
    let recipient = key.public().id();
    let wrapped =
        envelope.recipients.iter().find(|wrapped| wrapped.recipient == recipient).ok_or(EnvelopeError::NotARecipient { key: recipient })?;
    let content = hpke::open(key, info(&envelope.statement).as_bytes(), &[], &wrapped.sealed)?;
    let (opening, secret) = content.split_first_chunk::<32>().ok_or(EnvelopeError::Commitment)?;
    let commitment = commit(statement.body(), opening, secret);
    if commitment.as_bytes().ct_eq(statement.body().commitment.as_bytes()).into() { Ok(content) } else { Err(EnvelopeError::Commitment) }
}

fn seal_to(content: &[u8], statement: Digest, recipients: &[RecipientKey]) -> Result<Envelope, EnvelopeError> {
    if recipients.is_empty() || recipients.len() > limits::RECIPIENTS {
        return Err(EnvelopeError::Recipients { limit: limits::RECIPIENTS, found: recipients.len() });
    }
    let info = info(&statement);
    let wrap = |key: &RecipientKey| Ok(Wrapped { recipient: key.id(), sealed: hpke::seal(key, info.as_bytes(), &[], content)? });
    let recipients = recipients.iter().map(wrap).collect::<Result<_, HpkeError>>()?;
    Ok(Envelope { statement, recipients })
}

fn info(statement: &Digest) -> Fields {
    Fields::new("portcullis/envelope/v1").field(statement)
}

/// Why a record cannot be made, or its secret not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The secret is empty or too large.
    #[error("the secret has {found} bytes, expected 1 to {limit}")]
    SecretSize {
        /// The limit in bytes.
        limit: usize,
        /// The size in bytes.
        found: usize,
    },
    /// No recipient, or too many.
    #[error("{found} recipients, expected 1 to {limit}")]
    Recipients {
        /// The limit.
        limit: usize,
        /// How many there are.
        found: usize,
    },
    /// The envelope belongs to another statement.
    #[error("the envelope belongs to statement {found}, not to {expected}")]
    OtherStatement {
        /// The statement at hand.
        expected: Digest,
        /// The one that the envelope names.
        found: Digest,
    },
    /// The envelope is not sealed to this key.
    #[error("the envelope is not sealed to key {key}")]
    NotARecipient {
        /// The key that would open it.
        key: Digest,
    },
    /// What the envelope holds is not what the statement commits to.
    #[error("the envelope does not hold what the statement commits to")]
    Commitment,
    /// It does not open, or cannot be sealed.
    #[error(transparent)]
    Hpke(#[from] HpkeError),
    /// The statement cannot be signed.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// No random bytes.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publisher() -> SigningKey {
        SigningKey::from_seed(&[1; 32]).unwrap()
    }

    fn broker() -> RecipientSecret {
        RecipientSecret::from_seed(&[2; 32]).unwrap()
    }

    fn draft(name: &str) -> Draft {
        Draft {
            installation: PublicKey::from_bytes([3; 32]),
            name: name.parse().unwrap(),
            version: Version::FIRST,
            kind: Kind::Model,
            manifest: Some(Digest::from([4; 32])),
            policy: "inference".parse().unwrap(),
            authority: PublicKey::from_bytes([5; 32]),
            anchors: AnchorClass::Test,
        }
    }

    fn record(name: &str) -> RecordFile {
        write_record(draft(name), b"model key", &[broker().public().clone()], &publisher()).unwrap()
    }

    fn authenticate(signed: &SignedDocument) -> Document<StatementBody> {
        signed.authenticate(&[*publisher().public()]).unwrap()
    }

    #[test]
    fn the_broker_gets_the_secret_of_the_statement() {
        let record = record("a");
        assert_eq!(**unwrap(&record.envelope, &authenticate(&record.statement), &broker()).unwrap(), *b"model key");
    }

    #[test]
    fn an_envelope_moved_to_another_statement_is_refused() {
        let (one, two) = (record("a"), record("b"));
        let statement = authenticate(&two.statement);
        let expected = EnvelopeError::OtherStatement { expected: two.statement.digest(), found: one.statement.digest() };
        assert_eq!(unwrap(&one.envelope, &statement, &broker()).unwrap_err(), expected);
        let relabelled = Envelope { statement: two.statement.digest(), ..one.envelope };
        assert_eq!(unwrap(&relabelled, &statement, &broker()).unwrap_err(), EnvelopeError::Hpke(HpkeError::Open));
    }

    #[test]
    fn a_statement_resigned_under_another_name_opens_to_nothing() {
        let one = record("a");
        let renamed = StatementBody { name: "b".parse().unwrap(), ..authenticate(&one.statement).body().clone() };
        let resigned = SignedDocument::sign(&renamed, &publisher()).unwrap();
        // The thief holds the sealing key's public half only: the best envelope that can be made names the new statement.
        let content = open_content(&one.envelope, &authenticate(&one.statement), &broker()).unwrap();
        let envelope = seal_to(&content, resigned.digest(), &[broker().public().clone()]).unwrap();
        assert_eq!(unwrap(&envelope, &authenticate(&resigned), &broker()).unwrap_err(), EnvelopeError::Commitment);
    }

    #[test]
    fn another_key_is_no_recipient() {
        let record = record("a");
        let other = RecipientSecret::from_seed(&[9; 32]).unwrap();
        let refused = unwrap(&record.envelope, &authenticate(&record.statement), &other).unwrap_err();
        assert_eq!(refused, EnvelopeError::NotARecipient { key: other.public().id() });
    }

    #[test]
    fn rotation_replaces_the_envelope_and_leaves_the_statement_alone() {
        let record = record("a");
        let statement = authenticate(&record.statement);
        let next = RecipientSecret::from_seed(&[7; 32]).unwrap();
        let rotated = rewrap(&record.envelope, &statement, &broker(), &[next.public().clone()]).unwrap();
        assert_eq!(**unwrap(&rotated, &statement, &next).unwrap(), *b"model key");
        assert!(matches!(unwrap(&rotated, &statement, &broker()), Err(EnvelopeError::NotARecipient { .. })));
    }

    #[test]
    fn a_record_has_a_secret_and_a_recipient() {
        let key = [broker().public().clone()];
        assert_eq!(
            write_record(draft("a"), b"", &key, &publisher()).unwrap_err(),
            EnvelopeError::SecretSize { limit: limits::SECRET, found: 0 }
        );
        let large = vec![0; limits::SECRET + 1];
        assert!(matches!(write_record(draft("a"), &large, &key, &publisher()), Err(EnvelopeError::SecretSize { .. })));
        assert_eq!(
            write_record(draft("a"), b"s", &[], &publisher()).unwrap_err(),
            EnvelopeError::Recipients { limit: limits::RECIPIENTS, found: 0 }
        );
        let recipients = |number| vec![key[0].clone(); number];
        assert!(write_record(draft("a"), b"s", &recipients(limits::RECIPIENTS), &publisher()).is_ok());
        assert_eq!(
            write_record(draft("a"), b"s", &recipients(limits::RECIPIENTS + 1), &publisher()).unwrap_err(),
            EnvelopeError::Recipients { limit: limits::RECIPIENTS, found: 17 }
        );
        let no_manifest = Draft { manifest: None, ..draft("a") };
        assert!(matches!(write_record(no_manifest, b"s", &key, &publisher()), Err(EnvelopeError::Document(DocumentError::Body { .. }))));
    }
}
