//! Certificates of VCEKs by what the keys are derived from. They stand apart because each guest needs one of them.
//!
//! Whoever knows one chip can name millions of such certificates, each of them genuine: a name is a chip and a TCB version, and
//! the vendor's service makes a certificate of each. So one that was fetched counts for little before a report under it verified. It stays
//! in memory, among few; from then on it is kept. Where there are too many, the one that was longest of no use goes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use attestation::{SnpEvidence, VcekName};
use protocol::limits;

use super::Piece;

/// Certificates that are kept at most: one a machine and TCB version, some 2 KiB each.
const KEPT: usize = 65_536;
/// Certificates at most that were fetched for reports that nobody has verified yet. More than guests may cause to be fetched in an hour
/// ([`crate::feed::IN_ALL`]), so that a guest that comes back finds its own.
const FETCHED: usize = 1024;

/// Certificates of VCEKs.
pub struct Leaves {
    tables: RwLock<Tables>,
    /// Counts uses: the larger the number of a certificate, the later was its last.
    uses: AtomicU64,
}

struct Tables {
    kept: Table,
    fetched: Table,
}

struct Table {
    bound: usize,
    leaves: HashMap<VcekName, Leaf>,
}

struct Leaf {
    piece: Arc<Piece>,
    used: AtomicU64,
}

impl Default for Leaves {
    fn default() -> Self {
        Self::bounded(KEPT, FETCHED)
    }
}

impl Leaves {
    fn bounded(kept: usize, fetched: usize) -> Self {
        let table = |bound| Table { bound, leaves: HashMap::new() };
        Self { tables: RwLock::new(Tables { kept: table(kept), fetched: table(fetched) }), uses: AtomicU64::new(0) }
    }

    fn use_number(&self) -> u64 {
        self.uses.fetch_add(1, Ordering::Relaxed)
    }

    /// The certificate of a name.
    pub(super) fn find(&self, name: &VcekName) -> Option<Arc<Piece>> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        let leaf = tables.kept.leaves.get(name).or_else(|| tables.fetched.leaves.get(name))?;
        leaf.used.store(self.use_number(), Ordering::Relaxed);
        Some(Arc::clone(&leaf.piece))
    }

    /// Whether the certificate of a name is kept, and not merely fetched.
    pub(super) fn keeps(&self, name: &VcekName) -> bool {
        self.tables.read().unwrap_or_else(PoisonError::into_inner).kept.leaves.contains_key(name)
    }

    /// Keeps a certificate. Gives the one that goes for it, where there are too many.
    pub(super) fn keep(&self, name: VcekName, piece: Piece) -> Option<Arc<Piece>> {
        let leaf = Leaf { piece: Arc::new(piece), used: AtomicU64::new(self.use_number()) };
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        tables.fetched.leaves.remove(&name);
        tables.kept.insert(name, leaf)
    }

    /// Holds a certificate that was fetched for a report that nobody has verified yet.
    pub(super) fn hold(&self, name: VcekName, piece: Piece) {
        let leaf = Leaf { piece: Arc::new(piece), used: AtomicU64::new(self.use_number()) };
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(piece) = tables.fetched.insert(name, leaf) {
            tracing::debug!(key = %piece.key, "fetched, used by no verified guest, and forgotten: too many others were fetched");
        }
    }

    pub(super) fn remove(&self, name: &VcekName) {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        tables.kept.leaves.remove(name);
        tables.fetched.leaves.remove(name);
    }

    /// All of them, in no order.
    pub(super) fn all(&self) -> Vec<Arc<Piece>> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        tables.kept.leaves.values().chain(tables.fetched.leaves.values()).map(|leaf| Arc::clone(&leaf.piece)).collect()
    }

    /// Puts the certificate of the key that an SNP report says signed it beside the certificates that came with it, where it is
    /// held and did not come. The verifier chooses among them.
    pub fn complete(&self, evidence: &mut SnpEvidence) {
        let held = VcekName::of_report(&evidence.report).and_then(|name| self.find(&name));
        let Some(piece) = held else { return };
        if evidence.certificates.len() < limits::CERTIFICATES && !evidence.certificates.contains(&piece.raw.bytes) {
            evidence.certificates.push(piece.raw.bytes.clone());
        }
    }
}

impl Table {
    /// Gives the one that goes, where there are too many: the one that was longest not used.
    fn insert(&mut self, name: VcekName, leaf: Leaf) -> Option<Arc<Piece>> {
        let full = self.leaves.len() >= self.bound && !self.leaves.contains_key(&name);
        let oldest = || self.leaves.iter().min_by_key(|(_, leaf)| leaf.used.load(Ordering::Relaxed)).map(|(name, _)| *name);
        let goes = full.then(oldest).flatten().and_then(|oldest| self.leaves.remove(&oldest));
        self.leaves.insert(name, leaf);
        goes.map(|leaf| leaf.piece)
    }
}

#[cfg(test)]
mod tests {
    use attestation::ProductLine;
    use protocol::time::UnixTime;

    use super::*;
    use crate::collateral::{PieceKey, RawPiece};

    fn name(chip: u8) -> VcekName {
        VcekName::new(ProductLine::Genoa, [chip; 64], [0; 8]).unwrap()
    }

    fn piece(chip: u8) -> Piece {
        let (raw, at) = (RawPiece { bytes: vec![chip], issuer_chain: Vec::new() }, UnixTime::from_seconds(7));
        Piece { key: PieceKey::Vcek(name(chip)), raw, fetched_at: at, issued: at, until: at, evaluation: None }
    }

    fn held(leaves: &Leaves) -> Vec<u8> {
        let mut chips: Vec<u8> = leaves.all().iter().map(|piece| piece.raw.bytes[0]).collect();
        chips.sort_unstable();
        chips
    }

    #[test]
    fn what_was_merely_fetched_takes_the_place_of_nothing_that_is_kept() {
        let leaves = Leaves::bounded(2, 3);
        assert!(leaves.keep(name(1), piece(1)).is_none() && leaves.keep(name(2), piece(2)).is_none());
        for chip in 10..100 {
            leaves.hold(name(chip), piece(chip));
        }
        assert_eq!(held(&leaves), [1, 2, 97, 98, 99]);
        // Who comes back for it keeps it there.
        assert!(leaves.find(&name(97)).is_some());
        leaves.hold(name(100), piece(100));
        assert_eq!(held(&leaves), [1, 2, 97, 99, 100]);
        assert!(leaves.keeps(&name(1)) && !leaves.keeps(&name(97)));
    }

    #[test]
    fn where_too_many_are_kept_the_one_that_was_longest_not_used_goes() {
        let leaves = Leaves::bounded(2, 3);
        leaves.hold(name(3), piece(3));
        assert!(leaves.keep(name(1), piece(1)).is_none() && leaves.keep(name(2), piece(2)).is_none());
        assert!(leaves.keep(name(2), piece(2)).is_none(), "the same once more takes no other place");
        assert!(leaves.find(&name(1)).is_some());
        assert_eq!(leaves.keep(name(3), piece(3)).map(|piece| piece.key), Some(PieceKey::Vcek(name(2))));
        assert_eq!(held(&leaves), [1, 3], "and what is kept is not held as well");
        leaves.remove(&name(3));
        assert_eq!((held(&leaves), leaves.keep(name(4), piece(4)).is_none()), (vec![1], true));
    }
}
