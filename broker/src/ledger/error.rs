//! Why a step did not become durable, why a document was not put in force, how a store fails to match its log.

use protocol::entries::EntryError;
use protocol::ids::{Digest, NoRandomness};
use protocol::log::{CheckpointError, LogError, ProofError, RebuildError};

use crate::documents::{LoadError, PutError};
use crate::store::StoreError;

/// Why a step did not become durable. Nothing of it counts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The nonce is spent.
    #[error("the challenge was used before")]
    Replayed,
    /// Other documents are in force by now.
    #[error("the documents changed while deciding")]
    DocumentsChanged,
    /// Too many steps wait.
    #[error("too many requests wait for the audit log")]
    Busy,
    /// The writer is gone.
    #[error("the audit log's writer has stopped")]
    Stopped,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The entry does not fit.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The tree cannot grow or prove.
    #[error(transparent)]
    Tree(#[from] ProofError),
    /// No random bytes.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

/// Why a document was not put in force.
#[derive(Debug, thiserror::Error)]
pub enum PutFailed {
    /// It may not join the set.
    #[error(transparent)]
    Refused(#[from] PutError),
    /// It could not be recorded.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// How the store fails to match its log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// There is no log.
    #[error("the store has no log; run `portcullis-broker init`")]
    Empty,
    /// The head's checkpoint is not this log's, or not signed by its key.
    #[error("the head's checkpoint does not verify: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The head is not what its checkpoint says.
    #[error("the head has {found} entries, its checkpoint {expected}")]
    Head {
        /// By the checkpoint.
        expected: u64,
        /// By the head.
        found: u64,
    },
    /// The stored tree has another root.
    #[error("the stored log does not match its checkpoint: {0}")]
    Tree(#[from] RebuildError),
    /// The last entry is missing.
    #[error("the last entry of the log is missing")]
    LastEntry,
    /// The last entry is not the one in the tree.
    #[error("the last entry of the log is not the one that its tree holds: it was changed behind the broker's back")]
    LastEntryChanged,
    /// The last entry belongs to another log, installation or class of roots.
    #[error("the last entry belongs to log {found}, not to {expected}")]
    OtherLog {
        /// This log: origin, installation, class of roots.
        expected: String,
        /// What the entry names.
        found: String,
    },
    /// What was kept beside the store is no checkpoint of this log.
    #[error("the checkpoint that was kept beside the store does not verify: {0}")]
    Kept(CheckpointError),
    /// The log does not continue the checkpoint that was kept beside it.
    #[error(
        "the log does not continue the checkpoint that was kept beside the store: an older store was put back, or the log was rewritten ({0})"
    )]
    RolledBack(LogError),
    /// The last entry cannot be read.
    #[error("the last entry of the log cannot be read: {0}")]
    Entry(#[from] EntryError),
    /// The stored documents are not those that the log's last entry commits to.
    #[error(
        "the stored documents have digest {found}, the log's last entry commits to {expected}: a document was changed, added or deleted behind the broker's back"
    )]
    Documents {
        /// By the last entry.
        expected: Digest,
        /// By the store.
        found: Digest,
    },
    /// The stored documents cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
