//! The last checkpoint of the broker's log that this guest has seen, kept in a folder of its own.
//!
//! A log proves that it has an entry; that it has had but one history only somebody can tell who remembers. So each receipt must
//! follow from what was kept: the entry is newer than the kept tree, and the kept tree is the beginning of the new one, by a
//! consistency proof that is made here from the log's own tiles. What is kept is replaced only by what follows from it.
//!
//! Trusted: the folder, which is the guest's. Its thief learns a size and a hash; its editor makes this guest forget, or refuse.
//! One exchange at a time holds the folder, so that two of them cannot overtake each other.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use protocol::ids::random_bytes;
use protocol::keys::PublicKey;
use protocol::limits;
use protocol::log::tiles::{TileKind, WIDTH};
use protocol::log::tree::{consistency_nodes, consistency_proof};
use protocol::log::verify::{Head, verify_consistency};
use protocol::log::{Hash, InclusionProof, Origin, ProofError, Tile, TileId, TilePath, TileSet, VerifiedReceipt};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The largest state file (bytes): a checkpoint in JSON.
const FILE: u64 = 2 * limits::LOG_CHECKPOINT as u64;

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    origin: String,
    size: u64,
    root: String,
    /// The signed note. Nothing here reads it again: it is the proof for others, should the log be rewritten.
    note: String,
}

/// Where tiles come from.
pub trait Tiles {
    /// The bytes at `path` below the log's prefix; `None` where there is nothing.
    ///
    /// # Errors
    /// Why they cannot be had, in words.
    fn fetch(&self, path: &TilePath) -> Result<Option<Vec<u8>>, String>;
}

/// The folder, held for one exchange.
pub struct Memory {
    path: PathBuf,
    kept: Option<Kept>,
    _lock: File,
}

impl Memory {
    /// Takes the memory of the log of installation `root` in `folder`, which is made if need be. Waits for whoever holds it.
    ///
    /// # Errors
    /// [`CheckpointsError::Io`], [`CheckpointsError::Form`].
    pub fn hold(folder: &Path, root: &PublicKey) -> Result<Self, CheckpointsError> {
        let io = |action| move |error| CheckpointsError::Io { action, path: folder.to_owned(), error };
        fs::create_dir_all(folder).map_err(io("make"))?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(folder.join("lock")).map_err(io("lock"))?;
        lock.lock().map_err(io("lock"))?;
        let path = folder.join(format!("log-{}.json", root.id()));
        let kept = read(&path)?;
        Ok(Self { path, kept, _lock: lock })
    }

    /// Checks that a receipt follows from what is kept, and keeps its checkpoint instead.
    ///
    /// # Errors
    /// [`CheckpointsError`]; what is kept stays as it was.
    pub fn advance(&mut self, receipt: &VerifiedReceipt, proof: &str, tiles: &dyn Tiles) -> Result<(), CheckpointsError> {
        let new = receipt.checkpoint();
        if let Some(kept) = &self.kept {
            follows(kept, new.origin(), &new.head(), receipt.index(), tiles)?;
        }
        let note = proof.parse::<InclusionProof>().map(|proof| proof.checkpoint).unwrap_or_default();
        let kept = Kept { origin: new.origin().to_string(), size: new.size(), root: new.root().to_string(), note };
        self.write(&kept)?;
        self.kept = Some(kept);
        Ok(())
    }

    fn write(&self, kept: &Kept) -> Result<(), CheckpointsError> {
        let io = |error| CheckpointsError::Io { action: "write", path: self.path.clone(), error };
        let json = serde_json::to_vec_pretty(kept).map_err(|error| io(error.into()))?;
        let suffix = random_bytes::<8>().map_err(|error| io(io::Error::other(error)))?;
        let temporary = self.path.with_extension(format!("{:016x}", u64::from_be_bytes(suffix)));
        let written = (|| {
            let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&temporary)?;
            file.write_all(&json)?;
            file.sync_all()?;
            fs::rename(&temporary, &self.path)
        })();
        written.map_err(|error| {
            // The temporary file is of no use; that it stays is no harm.
            let _ = fs::remove_file(&temporary);
            io(error)
        })
    }
}

fn read(path: &Path) -> Result<Option<Kept>, CheckpointsError> {
    let io = |error| CheckpointsError::Io { action: "read", path: path.to_owned(), error };
    let form = |what: String| CheckpointsError::Form { path: path.to_owned(), what };
    let mut json = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(FILE + 1).read_to_end(&mut json).map_err(io)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    if json.len() as u64 > FILE {
        return Err(form(format!("more than {FILE} bytes")));
    }
    serde_json::from_slice(&json).map(Some).map_err(|error| form(error.to_string()))
}

fn follows(kept: &Kept, origin: &Origin, new: &Head, index: u64, tiles: &dyn Tiles) -> Result<(), CheckpointsError> {
    if kept.origin != origin.as_str() {
        return Err(CheckpointsError::OtherLog { expected: kept.origin.clone(), found: origin.clone() });
    }
    if new.size < kept.size {
        return Err(CheckpointsError::RolledBack { kept: kept.size, found: new.size });
    }
    let root: Hash = kept.root.parse().map_err(|_| CheckpointsError::Form { path: PathBuf::new(), what: "no root".to_owned() })?;
    let old = Head { size: kept.size, root };
    if kept.size > 0 {
        let proof = if kept.size == new.size { Vec::new() } else { proof(kept.size, new.size, tiles)? };
        verify_consistency(&old, new, &proof).map_err(CheckpointsError::Rewritten)?;
    }
    if index < kept.size { Err(CheckpointsError::OldEntry { kept: kept.size, found: index }) } else { Ok(()) }
}

/// The consistency proof between two sizes of the log, from its tiles. A wrong tile makes a proof that does not hold.
fn proof(old: u64, new: u64, tiles: &dyn Tiles) -> Result<Vec<Hash>, CheckpointsError> {
    let needed: BTreeSet<TileId> =
        consistency_nodes(old, new).map_err(CheckpointsError::Rewritten)?.into_iter().map(TileId::holding).collect();
    let mut set = TileSet::default();
    for id in needed {
        set.insert(id, Arc::new(tile(id, new, tiles)?));
    }
    consistency_proof(&set, old, new).map_err(CheckpointsError::Rewritten)
}

/// A tile as the log of `size` entries has it. A partial one may since have become full, and the partial one be gone.
fn tile(id: TileId, size: u64, tiles: &dyn Tiles) -> Result<Tile, CheckpointsError> {
    let refuse = |what: String| CheckpointsError::Tile { id, what };
    let kind = TileKind::Hashes { level: id.level };
    let path = TilePath::at(kind, id.index, size).ok_or_else(|| refuse("the log has no such tile".to_owned()))?;
    let mut bytes = tiles.fetch(&path).map_err(refuse)?;
    if bytes.is_none() && path.is_partial() {
        let beyond = id.index.saturating_add(1).checked_shl(8 * (id.level + 1)).unwrap_or(u64::MAX);
        bytes = match TilePath::at(kind, id.index, beyond) {
            Some(full) => tiles.fetch(&full).map_err(refuse)?,
            None => None,
        };
    }
    let mut bytes = bytes.ok_or_else(|| refuse(format!("there is nothing at {path}")))?;
    let expected = usize::from(path.width().min(WIDTH)) * 32;
    if bytes.len() < expected {
        return Err(refuse(format!("{} bytes at {path}, expected {expected}", bytes.len())));
    }
    bytes.truncate(expected);
    Tile::from_bytes(&bytes).map_err(|error| refuse(error.to_string()))
}

/// Why a receipt does not follow from what is kept, or nothing can be kept.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointsError {
    /// The folder cannot be used.
    #[error("cannot {action} {}: {error}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// What lies there is not what this program keeps.
    #[error("{} holds no checkpoint: {what}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The installation's log has another name than before.
    #[error("the broker's log is {found}; the one that was kept is {expected}")]
    OtherLog {
        /// The kept log's name.
        expected: String,
        /// The name in the receipt.
        found: Origin,
    },
    /// The log has fewer entries than it had.
    #[error("the broker's log has {found} entries; it had {kept} before: it was rolled back")]
    RolledBack {
        /// How many it had.
        kept: u64,
        /// How many it has.
        found: u64,
    },
    /// The log is not the one of before with more entries.
    #[error("the broker's log is not the one of before with more entries: {0}")]
    Rewritten(ProofError),
    /// The entry was in the log before the request was made.
    #[error("the receipt is for entry {found}; the log had {kept} entries before this request")]
    OldEntry {
        /// How many entries it had.
        kept: u64,
        /// The receipt's entry.
        found: u64,
    },
    /// A tile that the proof needs cannot be had.
    #[error("the log's tile at {id} cannot be had: {what}")]
    Tile {
        /// Which.
        id: TileId,
        /// Why.
        what: String,
    },
}

impl CheckpointsError {
    /// A stable name.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "log-state",
            Self::Form { .. } => "log-state-form",
            Self::OtherLog { .. } => "log-renamed",
            Self::RolledBack { .. } => "log-rolled-back",
            Self::Rewritten(_) => "log-rewritten",
            Self::OldEntry { .. } => "log-old-entry",
            Self::Tile { .. } => "log-tile",
        }
    }

    /// What may help.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Io { .. } => "the state folder must be writable, and one of the guest's own",
            Self::Form { .. } => "find out who wrote there; removing the file makes this guest forget the log that it knew",
            Self::OtherLog { .. } | Self::RolledBack { .. } | Self::Rewritten(_) | Self::OldEntry { .. } => {
                "the broker's store may have been restored or replaced: ask its operator and an auditor before you remove the kept state"
            }
            Self::Tile { .. } => "the broker must serve /log/tile/ to its guests",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::keys::SigningKey;
    use protocol::log::checkpoint::Checkpoint;
    use protocol::log::tree::{inclusion_proof, root};
    use protocol::log::{MemoryTree, Receipt, TileTree, leaf_hash};
    use std::cell::RefCell;

    fn key() -> SigningKey {
        SigningKey::from_seed(&[1; 32]).unwrap()
    }

    /// A log in memory: entries are numbers, from `salt` on different ones.
    struct Log {
        tree: MemoryTree,
        edge: TileTree,
        stored: RefCell<std::collections::BTreeMap<String, Vec<u8>>>,
        salt: u64,
    }

    impl Log {
        fn of(size: u64, salt: u64) -> Self {
            let mut log = Self { tree: MemoryTree::default(), edge: TileTree::default(), stored: RefCell::default(), salt };
            for index in 0..size {
                let leaf = leaf_hash(&log.entry(index));
                log.tree.push(leaf);
                for done in log.edge.append(leaf).unwrap() {
                    let path = TilePath::at(TileKind::Hashes { level: done.id.level }, done.id.index, index + 1).unwrap();
                    log.stored.borrow_mut().insert(path.to_string(), done.tile.to_bytes());
                }
            }
            log
        }

        fn entry(&self, index: u64) -> Vec<u8> {
            format!("entry {index} {}", if index >= self.salt { "b" } else { "a" }).into_bytes()
        }

        fn receipt(&self, index: u64, size: u64) -> (VerifiedReceipt, String) {
            let origin: Origin = "acme/log".parse().unwrap();
            let note = Checkpoint { origin: origin.clone(), size, root: root(&self.tree, size).unwrap() }.sign(&key());
            let receipt = Receipt::new(self.entry(index), index, inclusion_proof(&self.tree, index, size).unwrap(), &note);
            (receipt.verify(&origin, key().public()).unwrap(), receipt.proof)
        }
    }

    impl Tiles for Log {
        fn fetch(&self, path: &TilePath) -> Result<Option<Vec<u8>>, String> {
            Ok(self.edge.tile_bytes(path).or_else(|| self.stored.borrow().get(&path.to_string()).cloned()))
        }
    }

    struct NoTiles;
    impl Tiles for NoTiles {
        fn fetch(&self, _: &TilePath) -> Result<Option<Vec<u8>>, String> {
            Ok(None)
        }
    }

    const NEVER: u64 = u64::MAX;

    fn hold(folder: &tempfile::TempDir) -> Memory {
        Memory::hold(folder.path(), &PublicKey::from_bytes([7; 32])).unwrap()
    }

    /// Keeps the receipt of entry `index` in a tree of `size`.
    fn advance(folder: &tempfile::TempDir, log: &Log, index: u64, size: u64) -> Result<(), CheckpointsError> {
        let (receipt, proof) = log.receipt(index, size);
        hold(folder).advance(&receipt, &proof, log)
    }

    #[test]
    fn a_log_that_grows_is_followed_across_tiles() {
        for (sizes, total) in [(vec![1, 2, 3, 7, 300], 300), (vec![255, 256, 257, 600, 1000], 1000), (vec![65_537, 66_000], 66_000)] {
            let folder = tempfile::tempdir().unwrap();
            let log = Log::of(total, NEVER);
            for size in sizes {
                advance(&folder, &log, size - 1, size).unwrap();
            }
        }
    }

    #[test]
    fn a_partial_tile_that_became_full_serves_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::of(2000, NEVER);
        advance(&folder, &log, 299, 300).unwrap();
        // The log of 2000 entries serves the tile of entries 256 to 511 whole, and no longer the part that 400 entries had.
        assert_eq!(log.fetch(&TilePath::at(TileKind::Hashes { level: 0 }, 1, 400).unwrap()), Ok(None));
        advance(&folder, &log, 399, 400).unwrap();
    }

    #[test]
    fn a_log_that_has_fewer_entries_was_rolled_back() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::of(20, NEVER);
        advance(&folder, &log, 9, 10).unwrap();
        assert!(matches!(advance(&folder, &log, 8, 9), Err(CheckpointsError::RolledBack { kept: 10, found: 9 })));
        assert!(advance(&folder, &log, 10, 11).is_ok(), "what was refused was not kept");
    }

    #[test]
    fn a_log_with_another_history_was_rewritten() {
        for size in [11, 300] {
            let folder = tempfile::tempdir().unwrap();
            advance(&folder, &Log::of(10, NEVER), 9, 10).unwrap();
            let forked = Log::of(size, 5);
            assert!(matches!(advance(&folder, &forked, size - 1, size), Err(CheckpointsError::Rewritten(_))));
            assert!(advance(&folder, &Log::of(size, 10), size - 1, size).is_ok(), "the near miss: other entries behind the kept ones");
        }
        let folder = tempfile::tempdir().unwrap();
        advance(&folder, &Log::of(10, NEVER), 9, 10).unwrap();
        assert!(matches!(advance(&folder, &Log::of(10, 5), 9, 10), Err(CheckpointsError::Rewritten(ProofError::Forked { size: 10, .. }))));
    }

    #[test]
    fn an_entry_of_before_the_request_is_no_receipt_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::of(20, NEVER);
        advance(&folder, &log, 9, 10).unwrap();
        assert!(matches!(advance(&folder, &log, 9, 12), Err(CheckpointsError::OldEntry { kept: 10, found: 9 })));
        assert!(matches!(advance(&folder, &log, 9, 10), Err(CheckpointsError::OldEntry { .. })));
        assert!(advance(&folder, &log, 10, 12).is_ok());
    }

    #[test]
    fn without_its_tiles_a_log_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::of(20, NEVER);
        advance(&folder, &log, 9, 10).unwrap();
        let (receipt, proof) = log.receipt(19, 20);
        assert!(matches!(hold(&folder).advance(&receipt, &proof, &NoTiles), Err(CheckpointsError::Tile { .. })));
    }

    #[test]
    fn a_state_that_cannot_be_read_is_a_refusal_and_not_a_fresh_start() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::of(20, NEVER);
        advance(&folder, &log, 9, 10).unwrap();
        let path = hold(&folder).path.clone();
        let good = fs::read_to_string(&path).unwrap();
        for bad in ["", "{}", &good.replace("\"size\"", "\"more\": 1, \"size\""), &good[..good.len() - 2], &" ".repeat(300_000)] {
            fs::write(&path, bad).unwrap();
            let refused = Memory::hold(folder.path(), &PublicKey::from_bytes([7; 32]));
            assert!(matches!(refused, Err(CheckpointsError::Form { .. })));
        }
        fs::write(&path, good.replace("acme/log", "other/log")).unwrap();
        assert!(matches!(advance(&folder, &log, 10, 11), Err(CheckpointsError::OtherLog { .. })));
        fs::write(&path, &good).unwrap();
        assert!(advance(&folder, &log, 10, 11).is_ok());
    }

    #[test]
    fn another_installations_log_has_a_memory_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        advance(&folder, &Log::of(10, NEVER), 9, 10).unwrap();
        let (receipt, proof) = Log::of(3, 0).receipt(2, 3);
        let mut other = Memory::hold(folder.path(), &PublicKey::from_bytes([8; 32])).unwrap();
        assert!(other.advance(&receipt, &proof, &NoTiles).is_ok());
    }
}
