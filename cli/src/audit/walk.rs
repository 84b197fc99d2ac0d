//! The whole log, from its first entry to its last: root, tiles, entries, history.

use protocol::entries::{Event, Verdict};
use protocol::log::checkpoint::VerifiedCheckpoint;
use protocol::log::edge::TileTree;
use protocol::log::tiles::{TileId, TileKind, TilePath, WIDTH};
use protocol::log::tree::{Hash, leaf_hash};
use protocol::log::verify::ProofError;
use protocol::time::UnixTime;
use serde::Serialize;

use super::log::{Log, LogReadError, Source};

/// What the entries say, in numbers.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Audit {
    /// The time of the first entry.
    pub(super) first: Option<UnixTime>,
    /// The time of the last entry.
    pub(super) last: Option<UnixTime>,
    /// Decisions about verified guests.
    pub(super) decisions: usize,
    /// Items that were permitted.
    pub(super) permitted: usize,
    /// Items that were refused.
    pub(super) refused: usize,
    /// Requests that were rejected before anything was verified.
    pub(super) rejected: u64,
    /// Records, policies, lists of revocations and TCB calendars that were put.
    pub(super) documents: usize,
    /// Starts of a broker process.
    pub(super) starts: usize,
}

impl Audit {
    fn note(&mut self, at: UnixTime, event: &Event) {
        self.first.get_or_insert(at);
        self.last = Some(at);
        match event {
            Event::Initialised {} | Event::CollateralImported { .. } | Event::IssuerKey { .. } | Event::IdentityFederated { .. } => {}
            Event::Started { .. } => self.starts += 1,
            Event::RecordPut { .. } | Event::PolicyPut { .. } | Event::RevocationsPut { .. } | Event::TcbBaselinesPut { .. } => {
                self.documents += 1;
            }
            Event::Decision { items, .. } => {
                self.decisions += 1;
                let permitted = items.iter().filter(|item| item.verdict == Verdict::Permitted).count();
                self.permitted += permitted;
                self.refused += items.len() - permitted;
            }
            Event::Rejections { counts } => {
                self.rejected = counts.iter().fold(self.rejected, |sum, count| sum.saturating_add(count.count));
            }
        }
    }
}

/// What is wrong with a log.
#[derive(Debug, thiserror::Error)]
pub(super) enum AuditError {
    /// It cannot be read, or an entry is not its own.
    #[error(transparent)]
    Read(#[from] LogReadError),
    /// A tile is not what the entries give.
    #[error("the tile at {id} is not what the entries give")]
    Tile { id: TileId },
    /// The entries do not give the signed root.
    #[error("the entries give root {found}, but the checkpoint of {size} entries says {expected}")]
    Root { size: u64, expected: Hash, found: Hash },
    /// Fewer entries than there were.
    #[error("the log has {new} entries; it had {old} when the kept checkpoint was signed")]
    Shrunk { old: u64, new: u64 },
    /// Other entries than there were.
    #[error("the first {size} entries give root {found}, but the kept checkpoint says {expected}")]
    Rewritten { size: u64, expected: Hash, found: Hash },
    /// The tree refuses.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

/// Reads everything below `checkpoint` and compares it: with the checkpoint, with the published tiles, with the checkpoint that was kept.
pub(super) fn walk<S: Source>(
    log: &Log<S>,
    checkpoint: &VerifiedCheckpoint,
    kept: Option<&VerifiedCheckpoint>,
) -> Result<Audit, AuditError> {
    let size = checkpoint.size();
    if let Some(kept) = kept.filter(|kept| kept.size() > size) {
        return Err(AuditError::Shrunk { old: kept.size(), new: size });
    }
    let (mut tree, mut audit) = (TileTree::default(), Audit::default());
    for bundle in 0..size.div_ceil(u64::from(WIDTH)) {
        for bytes in log.bundle(bundle, size)? {
            let entry = log.parse(tree.size(), &bytes)?;
            audit.note(entry.at, &entry.event);
            for completed in tree.append(leaf_hash(&bytes))? {
                if log.tile(completed.id, size)?.hashes() != completed.tile.hashes() {
                    return Err(AuditError::Tile { id: completed.id });
                }
            }
            if let Some(kept) = kept.filter(|kept| kept.size() == tree.size()) {
                let found = tree.root()?;
                if found != *kept.root() {
                    return Err(AuditError::Rewritten { size: kept.size(), expected: *kept.root(), found });
                }
            }
        }
    }
    check_partial_tiles(log, &tree)?;
    let found = tree.root()?;
    if found == *checkpoint.root() { Ok(audit) } else { Err(AuditError::Root { size, expected: *checkpoint.root(), found }) }
}

/// The tile that still grows at each level.
fn check_partial_tiles<S: Source>(log: &Log<S>, tree: &TileTree) -> Result<(), AuditError> {
    let size = tree.size();
    for level in 0..8 {
        // 2^(8 x level) entries for each hash, 256 hashes for each tile.
        let index = size.checked_shr(8 * (level + 1)).unwrap_or(0);
        let Some(path) = TilePath::at(TileKind::Hashes { level }, index, size).filter(TilePath::is_partial) else { continue };
        let id = TileId { level, index };
        if tree.tile_bytes(&path) != Some(log.tile(id, size)?.to_bytes()) {
            return Err(AuditError::Tile { id });
        }
    }
    Ok(())
}
