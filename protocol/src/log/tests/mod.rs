//! Tests of the log as a whole: every small tree, other implementations, bytes from outside, and the published vectors.

mod edges;
mod every_small_tree;
mod other_implementations;
mod receipts;
mod untrusted_text;
mod vectors;

use super::tree::{Hash, MemoryTree, leaf_hash, root};
use super::verify::Head;

/// Entry `index` of every log in these tests: `entry INDEX`.
fn entry(index: u64) -> Vec<u8> {
    format!("entry {index}").into_bytes()
}

fn leaf(index: u64) -> Hash {
    leaf_hash(&entry(index))
}

fn tree_of(size: u64) -> MemoryTree {
    (0..size).map(leaf).collect()
}

fn head(tree: &MemoryTree, size: u64) -> Head {
    Head { size, root: root(tree, size).unwrap() }
}

/// `hash` with its lowest bit turned over.
fn altered(hash: &Hash) -> Hash {
    let mut bytes = *hash.as_bytes();
    bytes[31] ^= 1;
    Hash::from_bytes(bytes)
}
