//! A small audit log with a signed checkpoint.

use protocol::encoding::to_base64;
use protocol::log::tree::{inclusion_proof, root};
use protocol::log::{Checkpoint, MemoryTree, Origin, Receipt, VerifierKey, leaf_hash};

use crate::Signer;

/// Entries in the log.
pub const ENTRIES: u64 = 11;

/// The log's name.
///
/// # Panics
/// Never: it is one.
#[must_use]
pub fn origin() -> Origin {
    "acme/log".parse().expect("a log's name")
}

/// Entry `index`.
#[must_use]
pub fn entry(index: u64) -> Vec<u8> {
    format!("entry {index}").into_bytes()
}

/// The tree over the first `size` entries.
#[must_use]
pub fn tree(size: u64) -> MemoryTree {
    (0..size).map(|index| leaf_hash(&entry(index))).collect()
}

/// The signed checkpoint of the first `size` entries.
///
/// # Panics
/// Where `size` is beyond the tree: the callers' are not.
#[must_use]
pub fn checkpoint(size: u64) -> String {
    let root = root(&tree(size), size).expect("a tree of that size");
    Checkpoint { origin: origin(), size, root }.sign(&Signer::Log.key())
}

/// The receipt of entry `index`.
///
/// # Panics
/// Where the log has no such entry: the callers' do.
#[must_use]
pub fn receipt(index: u64) -> Receipt {
    let hashes = inclusion_proof(&tree(ENTRIES), index, ENTRIES).expect("an entry of the log");
    Receipt::new(entry(index), index, hashes, &checkpoint(ENTRIES))
}

/// Any text as a note that the log has signed (`c2sp.org/signed-note`).
#[must_use]
pub fn note(text: &str) -> String {
    let key = Signer::Log.key();
    let verifier = VerifierKey { name: origin(), key: *key.public() };
    let id = u32::from_str_radix(&verifier.id().to_string(), 16).unwrap_or_default().to_be_bytes();
    let bytes = [id.as_slice(), key.sign(text.as_bytes()).as_bytes()].concat();
    format!("{text}\n\u{2014} {} {}\n", verifier.name, to_base64(&bytes))
}
