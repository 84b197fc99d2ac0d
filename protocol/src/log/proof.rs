//! Proofs as text, and receipts: what a guest, an auditor or a witness is given and checks by itself.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::checkpoint::{CheckpointError, VerifiedCheckpoint};
use super::decimal;
use super::note::Origin;
use super::tree::{Hash, leaf_hash};
use super::verify::{self, ProofError};
use crate::keys::PublicKey;
use crate::limits;

/// The first line of an inclusion proof.
const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// The proof that a log has an entry, as text (`c2sp.org/tlog-proof`). Not verified: that is [`Receipt::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InclusionProof {
    /// The entry's index in the log.
    pub index: u64,
    /// From the leaf's sibling up to the root's child; at most [`limits::PROOF_HASHES`].
    pub hashes: Vec<Hash>,
    /// The checkpoint of the tree that has it, a signed note.
    pub checkpoint: String,
}

impl fmt::Display for InclusionProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{HEADER}\nindex {}\n", self.index)?;
        write_hashes(f, &self.hashes)?;
        f.write_str(&self.checkpoint)
    }
}

impl FromStr for InclusionProof {
    type Err = LogError;
    fn from_str(text: &str) -> Result<Self, LogError> {
        let rest = bounded(text)?.strip_prefix(HEADER).and_then(|rest| rest.strip_prefix('\n')).ok_or(LogError::Header)?;
        if rest.starts_with("extra ") {
            return Err(LogError::ExtraData);
        }
        let (line, rest) = rest.split_once('\n').ok_or(LogError::Index)?;
        let index = line.strip_prefix("index ").and_then(decimal).ok_or(LogError::Index)?;
        let (hashes, checkpoint) = read_hashes(rest, 3)?;
        Ok(Self { index, hashes, checkpoint: checkpoint.to_owned() })
    }
}

/// The proof that a log has only grown, as text: the body of a witness's `add-checkpoint` (`c2sp.org/tlog-witness`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsistencyProof {
    /// The size of the older tree.
    pub old_size: u64,
    /// The hashes of RFC 6962 section 2.1.2; at most [`limits::PROOF_HASHES`].
    pub hashes: Vec<Hash>,
    /// The newer checkpoint, a signed note.
    pub checkpoint: String,
}

impl fmt::Display for ConsistencyProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old_size)?;
        write_hashes(f, &self.hashes)?;
        f.write_str(&self.checkpoint)
    }
}

impl FromStr for ConsistencyProof {
    type Err = LogError;
    fn from_str(text: &str) -> Result<Self, LogError> {
        let (line, rest) = bounded(text)?.split_once('\n').ok_or(LogError::OldSize)?;
        let old_size = line.strip_prefix("old ").and_then(decimal).ok_or(LogError::OldSize)?;
        let (hashes, checkpoint) = read_hashes(rest, 2)?;
        Ok(Self { old_size, hashes, checkpoint: checkpoint.to_owned() })
    }
}

impl ConsistencyProof {
    /// Checks that the log whose checkpoint `old` was kept has only grown since, and gives the newer checkpoint to keep
    /// in its place.
    ///
    /// # Errors
    /// The [`LogError`] that says what does not hold.
    pub fn verify(&self, old: &VerifiedCheckpoint, log_key: &PublicKey) -> Result<VerifiedCheckpoint, LogError> {
        if self.old_size != old.size() {
            return Err(LogError::OtherOldSize { expected: old.size(), found: self.old_size });
        }
        let new = VerifiedCheckpoint::verify(&self.checkpoint, old.origin(), std::slice::from_ref(log_key))?;
        verify_consistency(old, &new, &self.hashes)?;
        Ok(new)
    }
}

/// Checks that the tree of checkpoint `old` is the beginning of the tree of checkpoint `new`, both of one log.
///
/// # Errors
/// [`LogError::OtherLog`], [`LogError::Inconsistent`].
pub fn verify_consistency(old: &VerifiedCheckpoint, new: &VerifiedCheckpoint, proof: &[Hash]) -> Result<(), LogError> {
    if old.origin() != new.origin() {
        return Err(LogError::OtherLog { expected: old.origin().clone(), found: new.origin().clone() });
    }
    verify::verify_consistency(&old.head(), &new.head(), proof).map_err(LogError::Inconsistent)
}

fn bounded(text: &str) -> Result<&str, LogError> {
    if text.len() > limits::LOG_PROOF { Err(LogError::TooLong { found: text.len() }) } else { Ok(text) }
}

fn write_hashes(f: &mut fmt::Formatter<'_>, hashes: &[Hash]) -> fmt::Result {
    hashes.iter().try_for_each(|hash| writeln!(f, "{hash}"))?;
    f.write_str("\n")
}

/// Reads hashes up to the blank line; what follows it is the checkpoint. `first` is the number of the first line.
fn read_hashes(mut text: &str, first: usize) -> Result<(Vec<Hash>, &str), LogError> {
    let mut hashes = Vec::new();
    loop {
        let (line, rest) = text.split_once('\n').ok_or(LogError::NoCheckpoint)?;
        if line.is_empty() {
            return Ok((hashes, rest));
        }
        if hashes.len() == limits::PROOF_HASHES {
            return Err(LogError::TooManyHashes);
        }
        hashes.push(line.parse().map_err(|_| LogError::HashLine { number: first + hashes.len() })?);
        text = rest;
    }
}

/// An entry of the log with the proof that the log has it: what a guest is given with every release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// The entry's bytes.
    #[serde(with = "crate::encoding::base64")]
    pub entry: Vec<u8>,
    /// An [`InclusionProof`] as text; it can be checked by any tool that reads the format.
    pub proof: String,
}

impl Receipt {
    /// Of entry `index`, with its path to the root of the tree that `checkpoint`, a signed note, names.
    #[must_use]
    pub fn new(entry: Vec<u8>, index: u64, hashes: Vec<Hash>, checkpoint: &str) -> Self {
        let proof = InclusionProof { index, hashes, checkpoint: checkpoint.to_owned() };
        Self { entry, proof: proof.to_string() }
    }

    /// Checks that the log named `origin`, whose key is `log_key`, has this entry.
    ///
    /// # Errors
    /// The [`LogError`] that says what does not hold.
    pub fn verify(&self, origin: &Origin, log_key: &PublicKey) -> Result<VerifiedReceipt, LogError> {
        if self.entry.len() > limits::LOG_ENTRY {
            return Err(LogError::EntryTooLong { found: self.entry.len() });
        }
        let proof: InclusionProof = self.proof.parse()?;
        let checkpoint = VerifiedCheckpoint::verify(&proof.checkpoint, origin, std::slice::from_ref(log_key))?;
        let (leaf, size) = (leaf_hash(&self.entry), checkpoint.size());
        verify::verify_inclusion(&leaf, proof.index, size, &proof.hashes, checkpoint.root()).map_err(LogError::NotIncluded)?;
        Ok(VerifiedReceipt { index: proof.index, checkpoint, entry: self.entry.clone() })
    }
}

/// An entry that the log has, as its signed checkpoint proves. Only [`Receipt::verify`] makes one.
#[derive(Debug, PartialEq, Eq)]
pub struct VerifiedReceipt {
    index: u64,
    checkpoint: VerifiedCheckpoint,
    entry: Vec<u8>,
}

impl VerifiedReceipt {
    /// The entry's index.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// How many entries the log had when it signed.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.checkpoint.size()
    }

    /// The root that it signed.
    #[must_use]
    pub const fn root(&self) -> &Hash {
        self.checkpoint.root()
    }

    /// The entry.
    #[must_use]
    pub fn entry(&self) -> &[u8] {
        &self.entry
    }

    /// The checkpoint, to be kept until the next one is proven to follow from it.
    #[must_use]
    pub const fn checkpoint(&self) -> &VerifiedCheckpoint {
        &self.checkpoint
    }
}

/// Why a receipt or a proof is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// More bytes than [`limits::LOG_PROOF`].
    #[error("a proof of {found} bytes, more than {max}", max = limits::LOG_PROOF)]
    TooLong {
        /// How many.
        found: usize,
    },
    /// An entry of more bytes than [`limits::LOG_ENTRY`].
    #[error("an entry of {found} bytes, more than {max}", max = limits::LOG_ENTRY)]
    EntryTooLong {
        /// How many.
        found: usize,
    },
    /// Another format or version.
    #[error("not a proof of inclusion: expected {HEADER} on the first line")]
    Header,
    /// The format's line of unauthenticated data, of which this log has none.
    #[error("the proof has extra data, which nothing authenticates")]
    ExtraData,
    /// No `index` line.
    #[error("the proof's second line is not an index")]
    Index,
    /// No `old` line.
    #[error("the proof's first line is not the older tree's size")]
    OldSize,
    /// A line that is no hash.
    #[error("line {number} of the proof is not a hash: expected 32 bytes of base64")]
    HashLine {
        /// Which line, from 1.
        number: usize,
    },
    /// More hashes than [`limits::PROOF_HASHES`].
    #[error("the proof has more than {max} hashes", max = limits::PROOF_HASHES)]
    TooManyHashes,
    /// The text ends before a checkpoint begins.
    #[error("the proof ends before its checkpoint")]
    NoCheckpoint,
    /// The checkpoint is not this log's.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The entry is not where the proof says.
    #[error("the log's tree does not have this entry: {0}")]
    NotIncluded(#[source] ProofError),
    /// The proof is of growth from another size than that of the kept checkpoint.
    #[error("a proof of growth from {found} entries, expected from {expected}")]
    OtherOldSize {
        /// The kept checkpoint's size.
        expected: u64,
        /// The size that the proof names.
        found: u64,
    },
    /// The two checkpoints are not of one log.
    #[error("a checkpoint of log {found}, expected {expected}")]
    OtherLog {
        /// The older checkpoint's log.
        expected: Origin,
        /// The newer checkpoint's log.
        found: Origin,
    },
    /// The newer tree does not begin with the older one: the log was rewritten.
    #[error("the log has not only grown: {0}")]
    Inconsistent(#[source] ProofError),
}
