//! The audit log: an append-only Merkle tree (RFC 6962), signed checkpoints, proofs and receipts (C2SP tlog formats).
//!
//! A log that only its operator can read proves nothing, so everything here is a public format: tiles and entry
//! bundles (`c2sp.org/tlog-tiles`) for monitors, checkpoints (`c2sp.org/tlog-checkpoint`) for witnesses, and one text
//! (`c2sp.org/tlog-proof`) that a guest keeps as its receipt.
//!
//! Not promised: a log cannot prove that it has but one history. Whoever keeps the last checkpoint and asks for a
//! consistency proof to the next one can.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`tree`] | hashes, trees, and which hashes make up a proof |
//! | [`verify`] | the two verifications, and why a proof fails |
//! | [`tiles`] | tiles of 256 hashes, entry bundles, and their paths |
//! | [`edge`] | the growing edge of a log, as its one writer holds it in memory |
//! | [`note`] | signed notes: text with one or more signatures |
//! | [`checkpoint`] | size and root of the tree, as a signed note |
//! | [`proof`] | proofs as text, and receipts |

pub mod checkpoint;
pub mod edge;
pub mod note;
pub mod proof;
pub mod tiles;
pub mod tree;
pub mod verify;

#[cfg(test)]
mod tests;

pub use checkpoint::{Checkpoint, CheckpointError, VerifiedCheckpoint};
pub use edge::{CompletedTile, RebuildError, TileSet, TileTree};
pub use note::{NoteError, Origin, VerifierKey};
pub use proof::{ConsistencyProof, InclusionProof, LogError, Receipt, VerifiedReceipt};
pub use tiles::{Tile, TileId, TilePath};
pub use tree::{Frontier, Hash, HashSource, MemoryTree, Node, leaf_hash, node_hash};
pub use verify::{ProofError, verify_consistency, verify_inclusion};

/// Reads a decimal number as these formats write it: ASCII digits, no sign, no leading zero but in `0` itself.
fn decimal(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}
