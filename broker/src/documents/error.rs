//! Why a document does not join the set, and why a stored set cannot be read.

use policies::PolicyError;
use protocol::dsse::DocumentError;
use protocol::envelope::EnvelopeError;
use protocol::ids::{AnchorClass, Digest, Name, Version};
use protocol::keys::PublicKey;

/// Why a document does not join the set.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// Not signed by a signer of the configuration, or not a document of this type.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// For another installation.
    #[error("the document is for installation {found}, not for {expected}")]
    Installation {
        /// This installation.
        expected: PublicKey,
        /// What the document names.
        found: PublicKey,
    },
    /// The signer does not speak for this name.
    #[error("{signer} does not speak for the name {found}")]
    Name {
        /// Who signed.
        signer: PublicKey,
        /// The document's name.
        found: Name,
    },
    /// The record is for another class of roots.
    #[error("the record is for anchor class {found}; this installation's is {expected}")]
    AnchorClass {
        /// This installation's.
        expected: AnchorClass,
        /// The record's.
        found: AnchorClass,
    },
    /// The envelope is another statement's.
    #[error("the envelope belongs to statement {found}, not to {expected}")]
    Envelope {
        /// The statement's digest.
        expected: Digest,
        /// What the envelope names.
        found: Digest,
    },
    /// The envelope does not hold, for this broker's sealing key, what the statement commits to.
    #[error("this broker cannot open the envelope: {0}")]
    DoesNotOpen(EnvelopeError),
    /// The text is no policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The version does not grow.
    #[error("version {found} is not higher than {newest}")]
    Version {
        /// The newest that is there.
        newest: Version,
        /// The document's.
        found: Version,
    },
    /// This very document is there already.
    #[error("this very document is in force already")]
    Unchanged,
}

/// Why the stored set cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// A slot holds what no broker ever put there.
    #[error("slot {slot} of the store holds what no broker put there")]
    Damaged {
        /// The slot.
        slot: String,
    },
}
