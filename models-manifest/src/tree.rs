//! The hash tree over a sealed file: chunk hashes, blocks of the table, root.
//!
//! GCM's tags stop whoever lacks the key. Whoever has it (another guest that the model was released to) can make other
//! ciphertext with good tags, even with the same tags. The root, which the publisher signed, stops them as well.
//!
//! The tree has three levels, so that it can be checked in constant memory and read at random:
//! a *chunk hash* over each chunk's ciphertext; a *block hash* over each 1024 entries (tag, chunk hash) of the table; the
//! *root* over all block hashes. All are BLAKE3 in keyed mode, with public keys that separate the levels and bind
//! sealing, path, salt, size and chunk size; a node's place is fixed by its place in what its parent hashes.

use protocol::encoding::Fields;
use std::fmt;

use crate::FORMAT;
use crate::geometry::{BLOCK, ENTRY, Geometry, HASH, TAG};
use crate::keys::{Salt, SealingId, public_bytes};
use crate::path::ModelPath;

public_bytes!(
    /// The root of the hash tree over one sealed file, as the manifest has it.
    TreeRoot,
    32
);

/// What a sealed file is, before any of its content: everything that the manifest says of it but the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity([u8; HASH]);

impl Identity {
    /// Of the file at `path` in `sealing`.
    #[must_use]
    pub fn new(sealing: &SealingId, path: &ModelPath, salt: &Salt, geometry: Geometry) -> Self {
        let fields = Fields::new("portcullis/model-file/v1")
            .number(u64::from(FORMAT))
            .field(sealing.as_bytes())
            .field(path.as_str())
            .field(salt.as_bytes())
            .number(geometry.size())
            .number(u64::from(geometry.chunk_size().bytes()));
        Self(*fields.sha256().as_bytes())
    }

    /// The key of one level of the tree.
    fn level(&self, name: &str) -> [u8; HASH] {
        *Fields::new("portcullis/model-tree/v1").field(name).field(self.0).sha256().as_bytes()
    }
}

/// One entry of the table: a chunk's tag and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The GCM tag.
    pub tag: [u8; TAG],
    /// The chunk hash.
    pub hash: [u8; HASH],
}

impl Entry {
    /// Reads entry `index` of a block.
    #[must_use]
    pub fn read(block: &[u8], index: usize) -> Option<Self> {
        let entry = block.get(index.checked_mul(ENTRY)?..)?.first_chunk::<ENTRY>()?;
        let (tag, hash) = entry.split_first_chunk::<TAG>()?;
        Some(Self { tag: *tag, hash: hash.try_into().ok()? })
    }
}

/// The hash functions of one file's tree.
#[derive(Clone)]
pub struct Tree {
    identity: Identity,
    chunk: [u8; HASH],
    block: [u8; HASH],
    root: [u8; HASH],
}

impl Tree {
    /// Of the file that `identity` names.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Self { identity, chunk: identity.level("chunk"), block: identity.level("block"), root: identity.level("root") }
    }

    /// The file.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The hash of a chunk's ciphertext.
    #[must_use]
    pub fn chunk_hash(&self, ciphertext: &[u8]) -> [u8; HASH] {
        *blake3::keyed_hash(&self.chunk, ciphertext).as_bytes()
    }

    /// The hash of a block of the table.
    #[must_use]
    pub fn block_hash(&self, entries: &[u8]) -> [u8; HASH] {
        *blake3::keyed_hash(&self.block, entries).as_bytes()
    }

    /// Starts a root.
    #[must_use]
    pub fn root(&self) -> RootHasher {
        RootHasher(Box::new(blake3::Hasher::new_keyed(&self.root)))
    }
}

/// Takes block hashes in order, gives the root. Constant memory.
pub struct RootHasher(Box<blake3::Hasher>);

impl RootHasher {
    /// Takes the next block hash.
    pub fn push(&mut self, block_hash: &[u8; HASH]) {
        self.0.update(block_hash);
    }

    /// The root over all block hashes taken.
    #[must_use]
    pub fn finish(self) -> TreeRoot {
        TreeRoot::from_bytes(*self.0.finalize().as_bytes())
    }
}

/// Gathers entries into blocks while a file is sealed, and the blocks' hashes into the root.
pub(crate) struct TableBuilder {
    tree: Tree,
    root: RootHasher,
    block: Vec<u8>,
}

impl TableBuilder {
    pub(crate) fn new(tree: Tree) -> Self {
        let root = tree.root();
        Self { tree, root, block: Vec::with_capacity(BLOCK) }
    }

    /// Takes the next entry; a block's bytes when it is full.
    pub(crate) fn push(&mut self, entry: &Entry) -> Option<Vec<u8>> {
        self.block.extend_from_slice(&entry.tag);
        self.block.extend_from_slice(&entry.hash);
        (self.block.len() == BLOCK).then(|| self.close())
    }

    /// The last block, empty if it was full before, and the root.
    pub(crate) fn finish(mut self) -> (Vec<u8>, TreeRoot) {
        let last = if self.block.is_empty() { Vec::new() } else { self.close() };
        (last, self.root.finish())
    }

    fn close(&mut self) -> Vec<u8> {
        self.root.push(&self.tree.block_hash(&self.block));
        std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::ChunkSize;

    fn tree(sealing: u8, path: &str, salt: u8, size: u64, chunk: u64) -> Tree {
        let geometry = Geometry::new(size, ChunkSize::try_from(chunk).unwrap()).unwrap();
        Tree::new(Identity::new(&SealingId::from_bytes([sealing; 16]), &path.parse().unwrap(), &Salt::from_bytes([salt; 32]), geometry))
    }

    fn root(tree: &Tree, entries: &[Entry]) -> (usize, TreeRoot) {
        let mut table = TableBuilder::new(tree.clone());
        let full = entries.iter().filter_map(|entry| table.push(entry)).count();
        let (last, root) = table.finish();
        (full + usize::from(!last.is_empty()), root)
    }

    fn entries(count: usize) -> Vec<Entry> {
        (0..count).map(|at| Entry { tag: [at as u8; 16], hash: [(at / 256) as u8; 32] }).collect()
    }

    #[test]
    fn everything_that_the_manifest_says_of_a_file_is_in_its_hashes() {
        let base = tree(1, "a", 1, 100, 65_536);
        assert_eq!(base.chunk_hash(b"x"), tree(1, "a", 1, 100, 65_536).chunk_hash(b"x"));
        for other in [
            tree(2, "a", 1, 100, 65_536),
            tree(1, "b", 1, 100, 65_536),
            tree(1, "a", 2, 100, 65_536),
            tree(1, "a", 1, 101, 65_536),
            tree(1, "a", 1, 100, 131_072),
        ] {
            assert_ne!(base.chunk_hash(b"x"), other.chunk_hash(b"x"));
        }
        assert_ne!(base.chunk_hash(b"x"), base.block_hash(b"x"));
    }

    #[test]
    fn any_change_order_or_count_of_entries_changes_the_root() {
        let tree = tree(1, "a", 1, 100, 65_536);
        let base = entries(2050);
        let (blocks, expected) = root(&tree, &base);
        assert_eq!(blocks, 3);
        let mut swapped = base.clone();
        swapped.swap(0, 1);
        let mut blocks_swapped = base.clone();
        blocks_swapped.rotate_left(1024);
        let mut changed = base.clone();
        changed[2049].tag[0] ^= 1;
        for other in [&base[..2049], &base[1..], &swapped, &blocks_swapped, &changed] {
            assert_ne!(root(&tree, other).1, expected);
        }
        assert_eq!(root(&tree, &base[..1024]).0, 1);
    }

    #[test]
    fn an_entry_reads_back() {
        let entry = Entry { tag: [1; 16], hash: [2; 32] };
        let mut table = TableBuilder::new(tree(1, "a", 1, 0, 65_536));
        assert!(table.push(&Entry { tag: [9; 16], hash: [9; 32] }).is_none());
        assert!(table.push(&entry).is_none());
        let (block, _) = table.finish();
        assert_eq!(Entry::read(&block, 1), Some(entry));
        assert_eq!(Entry::read(&block, 2), None);
        assert_eq!(Entry::read(&block, usize::MAX), None);
    }
}
