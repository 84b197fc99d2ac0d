//! Checkpoints (`c2sp.org/tlog-checkpoint`): a log's name, size and root, as a signed note.

use super::decimal;
use super::note::{self, NoteError, Origin, VerifierKey};
use super::tree::{Hash, MAX_SIZE};
use super::verify::Head;
use crate::keys::{PublicKey, SigningKey};

/// What a checkpoint says: three lines of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name, and its key's.
    pub origin: Origin,
    /// How many entries it has.
    pub size: u64,
    /// The root of their tree.
    pub root: Hash,
}

impl Checkpoint {
    /// Signs it. A log signs no two checkpoints of which the older is not the beginning of the newer: whoever calls this
    /// has made the new size and root durable before.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> String {
        note::sign(&self.text(), &self.origin, key)
    }

    /// The signed text, with its final newline.
    fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, self.root)
    }

    fn parse(text: &str, expected: &Origin) -> Result<Self, CheckpointError> {
        let mut lines = text.split_terminator('\n');
        let mut line = || lines.next().ok_or(CheckpointError::MissingLine);
        let (origin, size, root) = (line()?, line()?, line()?);
        if lines.next().is_some() {
            return Err(CheckpointError::ExtensionLine);
        }
        if origin != expected.as_str() {
            return Err(CheckpointError::Origin { expected: expected.clone(), found: origin.to_owned() });
        }
        let size = decimal(size).filter(|size| *size <= MAX_SIZE).ok_or(CheckpointError::Size)?;
        let root = root.parse().map_err(|_| CheckpointError::Root)?;
        if size == 0 && root != Hash::EMPTY_ROOT {
            return Err(CheckpointError::EmptyRoot { found: root });
        }
        Ok(Self { origin: expected.clone(), size, root })
    }
}

/// A checkpoint that a key of its log has signed. Only [`Self::verify`] makes one.
#[derive(Debug, PartialEq, Eq)]
pub struct VerifiedCheckpoint(Checkpoint);

impl VerifiedCheckpoint {
    /// Reads a note that at least one of the log's `keys` has signed as the checkpoint of the log named `origin`.
    /// Signatures of others, such as witnesses, are passed over.
    ///
    /// # Errors
    /// The [`CheckpointError`] that says what is wrong.
    pub fn verify(note: &str, origin: &Origin, keys: &[PublicKey]) -> Result<Self, CheckpointError> {
        let keys: Vec<VerifierKey> = keys.iter().map(|key| VerifierKey { name: origin.clone(), key: *key }).collect();
        Checkpoint::parse(note::open(note, &keys)?, origin).map(Self)
    }

    /// The log's name.
    #[must_use]
    pub const fn origin(&self) -> &Origin {
        &self.0.origin
    }

    /// How many entries the log has.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.0.size
    }

    /// The root of their tree.
    #[must_use]
    pub const fn root(&self) -> &Hash {
        &self.0.root
    }

    /// Size and root.
    #[must_use]
    pub const fn head(&self) -> Head {
        Head { size: self.0.size, root: self.0.root }
    }
}

/// Why a note is not this log's checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The note is malformed or not signed as it must be.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Fewer than three lines.
    #[error("the checkpoint has fewer than three lines")]
    MissingLine,
    /// More than three lines: what others cannot audit is not taken.
    #[error("the checkpoint has an extension line")]
    ExtensionLine,
    /// Another log's.
    #[error("the checkpoint is of log {found:?}, expected {expected}")]
    Origin {
        /// The log's name.
        expected: Origin,
        /// The name that the checkpoint bears.
        found: String,
    },
    /// The second line is no size.
    #[error("the checkpoint's second line is not a size: expected a decimal number up to 2^62 without leading zeros")]
    Size,
    /// The third line is no root.
    #[error("the checkpoint's third line is not a root: expected 32 bytes of base64")]
    Root,
    /// No entries, but another root than the empty tree's.
    #[error("the checkpoint says no entries, but root {found}")]
    EmptyRoot {
        /// The root that it says.
        found: Hash,
    },
}

#[cfg(test)]
mod tests {
    use super::super::tree::leaf_hash;
    use super::*;

    fn origin() -> Origin {
        "log.example/audit".parse().unwrap()
    }

    fn signed(text: &str) -> Result<VerifiedCheckpoint, CheckpointError> {
        let key = SigningKey::from_seed(&[1; 32]).unwrap();
        VerifiedCheckpoint::verify(&note::sign(text, &origin(), &key), &origin(), &[*key.public()])
    }

    #[test]
    fn a_signed_checkpoint_verifies() {
        let key = SigningKey::from_seed(&[1; 32]).unwrap();
        let checkpoint = Checkpoint { origin: origin(), size: 7, root: leaf_hash(b"x") };
        let note = checkpoint.sign(&key);
        let verified = VerifiedCheckpoint::verify(&note, &origin(), &[*key.public()]).unwrap();
        assert_eq!((verified.origin(), verified.size(), verified.root()), (&origin(), 7, &leaf_hash(b"x")));
        assert_eq!(verified.head(), Head { size: 7, root: leaf_hash(b"x") });

        let other = SigningKey::from_seed(&[2; 32]).unwrap();
        let both = [*other.public(), *key.public()];
        assert_eq!(VerifiedCheckpoint::verify(&note, &origin(), &both), Ok(verified));
        let refusal = VerifiedCheckpoint::verify(&note, &origin(), &[*other.public()]);
        assert_eq!(refusal, Err(CheckpointError::Note(NoteError::NoKnownSignature)));
        let altered = note.replacen("\n7\n", "\n8\n", 1);
        assert!(matches!(
            VerifiedCheckpoint::verify(&altered, &origin(), &both),
            Err(CheckpointError::Note(NoteError::BadSignature { .. }))
        ));
    }

    #[test]
    fn a_signed_text_that_is_no_checkpoint_is_refused_by_name() {
        let root = leaf_hash(b"x");
        let good = format!("log.example/audit\n7\n{root}\n");
        assert!(signed(&good).is_ok());
        assert_eq!(signed("log.example/audit\n7\n"), Err(CheckpointError::MissingLine));
        assert_eq!(signed(&format!("{good}extension\n")), Err(CheckpointError::ExtensionLine));
        assert_eq!(signed(&format!("{good}\n")), Err(CheckpointError::ExtensionLine));
        let found = "log.example/other".to_owned();
        assert_eq!(signed(&good.replace("audit", "other")), Err(CheckpointError::Origin { expected: origin(), found }));
        for size in ["", "07", "+7", "-7", "7 ", "0x7", "18446744073709551616", "4611686018427387905"] {
            assert_eq!(signed(&good.replace("\n7\n", &format!("\n{size}\n"))), Err(CheckpointError::Size), "{size:?}");
        }
        assert_eq!(signed(&good.replace("\n7\n", "\n4611686018427387904\n")).map(|checkpoint| checkpoint.size()), Ok(MAX_SIZE));
        for root in ["", "AAAA", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU", "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU="] {
            assert_eq!(signed(&format!("log.example/audit\n7\n{root}\n")), Err(CheckpointError::Root), "{root:?}");
        }
    }

    #[test]
    fn no_entries_have_one_root() {
        let text = |root: Hash| format!("log.example/audit\n0\n{root}\n");
        assert_eq!(signed(&text(Hash::EMPTY_ROOT)).map(|checkpoint| checkpoint.size()), Ok(0));
        assert_eq!(signed(&text(leaf_hash(b"x"))), Err(CheckpointError::EmptyRoot { found: leaf_hash(b"x") }));
    }
}
