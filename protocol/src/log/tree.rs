//! The Merkle tree of RFC 6962 section 2: hashes, trees, and which hashes make up a proof.

use aws_lc_rs::digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use super::verify::ProofError;
use crate::encoding::{from_base64, to_base64};

/// The largest tree: 2^62 entries, so that a consistency proof, which takes one hash more than the tree has levels,
/// stays within the 63 hashes of [`crate::limits::PROOF_HASHES`].
pub const MAX_SIZE: u64 = 1 << 62;

/// A hash of the tree: SHA-256 of a leaf or of a node (32 bytes). In text: base64, as the tlog formats write it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// The root of the empty tree: SHA-256 of nothing.
    pub const EMPTY_ROOT: Self = Self([
        0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b,
        0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
    ]);

    /// From its 32 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_base64(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

/// The text is not a hash: expected 32 bytes of base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a hash: expected 32 bytes of base64")]
pub struct BadHash;

impl FromStr for Hash {
    type Err = BadHash;
    fn from_str(text: &str) -> Result<Self, BadHash> {
        from_base64(text).and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or(BadHash)
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The hash of a leaf: SHA-256 of `0x00 ‖ entry`.
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    hash_of(&[&[0x00], entry])
}

/// The hash of an inner node: SHA-256 of `0x01 ‖ left ‖ right`.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    hash_of(&[&[0x01], &left.0, &right.0])
}

fn hash_of(parts: &[&[u8]]) -> Hash {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut bytes = [0; 32];
    for (to, from) in bytes.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    Hash(bytes)
}

/// A complete subtree: the entries `index · 2^level` up to, but without, `(index + 1) · 2^level`. Level 0 is the leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// Its height, 0 to 62.
    pub level: u32,
    /// Its place among the subtrees of that height, from the left.
    pub index: u64,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "level {} index {}", self.level, self.index)
    }
}

/// Whoever knows the hashes of complete subtrees.
pub trait HashSource {
    /// The hash of `node`, where it is known.
    fn hash(&self, node: Node) -> Option<Hash>;
}

/// Where a tree of `length` leaves splits: the largest power of two strictly below `length`.
fn split(length: u64) -> Option<u64> {
    Some(1 << length.checked_sub(1)?.checked_ilog2()?)
}

/// The complete subtrees that `range` consists of, left to right. Its start is a multiple of the largest of them.
fn subtrees(range: &Range<u64>) -> impl Iterator<Item = Node> + use<> {
    let Range { mut start, end } = *range;
    std::iter::from_fn(move || {
        let level = end.checked_sub(start)?.checked_ilog2()?;
        let node = Node { level, index: start >> level };
        start += 1 << level;
        Some(node)
    })
}

/// The Merkle tree hash of `range`, folded from its complete subtrees.
fn range_hash(source: &impl HashSource, range: &Range<u64>) -> Result<Hash, ProofError> {
    let hashes: Vec<Hash> = subtrees(range).map(|node| source.hash(node).ok_or(ProofError::Missing { node })).collect::<Result<_, _>>()?;
    Ok(fold(&hashes))
}

/// Joins complete subtrees, largest first, into the one above them.
fn fold(subtrees: &[Hash]) -> Hash {
    let mut from_right = subtrees.iter().rev();
    let Some(last) = from_right.next() else { return Hash::EMPTY_ROOT };
    from_right.fold(*last, |right, left| node_hash(left, &right))
}

/// The root of the first `size` entries.
///
/// # Errors
/// [`ProofError::Missing`] where `source` does not know a hash, [`ProofError::TooLarge`].
pub fn root(source: &impl HashSource, size: u64) -> Result<Hash, ProofError> {
    within_bounds(size)?;
    range_hash(source, &(0..size))
}

/// The proof that entry `index` is in the tree of the first `size` entries: from the leaf's sibling up to the root's child.
///
/// # Errors
/// [`ProofError::Missing`] where `source` does not know a hash, [`ProofError::Index`], [`ProofError::TooLarge`].
pub fn inclusion_proof(source: &impl HashSource, index: u64, size: u64) -> Result<Vec<Hash>, ProofError> {
    inclusion_ranges(index, size)?.iter().map(|range| range_hash(source, range)).collect()
}

/// The proof that the tree of the first `old` entries is the beginning of the tree of the first `new`.
///
/// # Errors
/// [`ProofError::Missing`] where `source` does not know a hash, [`ProofError::OldTreeEmpty`], [`ProofError::Shrunk`],
/// [`ProofError::TooLarge`].
pub fn consistency_proof(source: &impl HashSource, old: u64, new: u64) -> Result<Vec<Hash>, ProofError> {
    consistency_ranges(old, new)?.iter().map(|range| range_hash(source, range)).collect()
}

/// The nodes that [`inclusion_proof`] asks its source for.
///
/// # Errors
/// [`ProofError::Index`], [`ProofError::TooLarge`].
pub fn inclusion_nodes(index: u64, size: u64) -> Result<Vec<Node>, ProofError> {
    Ok(inclusion_ranges(index, size)?.iter().flat_map(subtrees).collect())
}

/// The nodes that [`consistency_proof`] asks its source for.
///
/// # Errors
/// [`ProofError::OldTreeEmpty`], [`ProofError::Shrunk`], [`ProofError::TooLarge`].
pub fn consistency_nodes(old: u64, new: u64) -> Result<Vec<Node>, ProofError> {
    Ok(consistency_ranges(old, new)?.iter().flat_map(subtrees).collect())
}

/// RFC 6962 section 2.1.1, from the root down and then turned round.
fn inclusion_ranges(index: u64, size: u64) -> Result<Vec<Range<u64>>, ProofError> {
    within_bounds(size)?;
    if index >= size {
        return Err(ProofError::Index { index, size });
    }
    let (mut start, mut end) = (0, size);
    let mut ranges = Vec::new();
    while let Some(left) = split(end - start) {
        let middle = start + left;
        if index < middle {
            ranges.push(middle..end);
            end = middle;
        } else {
            ranges.push(start..middle);
            start = middle;
        }
    }
    ranges.reverse();
    Ok(ranges)
}

/// RFC 6962 section 2.1.2, from the root down and then turned round.
fn consistency_ranges(old: u64, new: u64) -> Result<Vec<Range<u64>>, ProofError> {
    within_bounds(new)?;
    if old == 0 {
        return Err(ProofError::OldTreeEmpty);
    }
    if old > new {
        return Err(ProofError::Shrunk { old, new });
    }
    let (mut start, mut end) = (0, new);
    let mut ranges = Vec::new();
    while old != end {
        let Some(left) = split(end - start) else { break };
        let middle = start + left;
        if old <= middle {
            ranges.push(middle..end);
            end = middle;
        } else {
            ranges.push(start..middle);
            start = middle;
        }
    }
    // The old tree is a subtree of the new one where no step went right: its root is then known and not sent.
    if start != 0 {
        ranges.push(start..end);
    }
    ranges.reverse();
    Ok(ranges)
}

/// Refuses sizes beyond [`MAX_SIZE`].
pub(super) fn within_bounds(size: u64) -> Result<(), ProofError> {
    if size > MAX_SIZE { Err(ProofError::TooLarge { size }) } else { Ok(()) }
}

/// The right edge of a tree: enough to append and to know the root, and no more (at most 62 hashes). What an auditor
/// keeps who reads a log from its first entry to its last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// The roots of the complete subtrees that the tree consists of, largest first.
    subtrees: Vec<Hash>,
}

impl Frontier {
    /// Appends a leaf and gives its index.
    ///
    /// # Errors
    /// [`ProofError::TooLarge`] beyond [`MAX_SIZE`].
    pub fn append(&mut self, leaf: Hash) -> Result<u64, ProofError> {
        let index = self.size;
        within_bounds(index + 1)?;
        let mut right = leaf;
        for _ in 0..index.trailing_ones() {
            if let Some(left) = self.subtrees.pop() {
                right = node_hash(&left, &right);
            }
        }
        self.subtrees.push(right);
        self.size = index + 1;
        Ok(index)
    }

    /// How many entries it has.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Its root; [`Hash::EMPTY_ROOT`] where it has no entry.
    #[must_use]
    pub fn root(&self) -> Hash {
        fold(&self.subtrees)
    }
}

/// The hash of every complete subtree, in memory (64 bytes for each entry): answers for any proof about any of its sizes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryTree {
    size: u64,
    /// In the order in which subtrees become complete: each leaf, then each parent that it completes.
    hashes: Vec<Hash>,
}

impl MemoryTree {
    /// Appends a leaf.
    pub fn push(&mut self, leaf: Hash) {
        let index = self.size;
        self.hashes.push(leaf);
        let mut right = leaf;
        for level in 0..index.trailing_ones() {
            // The leaf's ancestor at this level has an odd index: its sibling is there and complete.
            let sibling = Node { level, index: (index >> level) - 1 };
            if let Some(left) = self.hash(sibling) {
                right = node_hash(&left, &right);
                self.hashes.push(right);
            }
        }
        self.size += 1;
    }

    /// How many entries it has.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// An empty one with room for `leaves`.
    #[must_use]
    pub fn with_capacity(leaves: usize) -> Self {
        Self { size: 0, hashes: Vec::with_capacity(leaves.saturating_mul(2)) }
    }
}

impl HashSource for MemoryTree {
    fn hash(&self, node: Node) -> Option<Hash> {
        let width = 1u64.checked_shl(node.level)?;
        let last_leaf = node.index.checked_add(1)?.checked_mul(width)? - 1;
        // Before leaf n stand n leaves and the n - popcount(n) parents that they complete; then its ancestors follow it.
        let before = last_leaf.checked_mul(2)?.checked_sub(u64::from(last_leaf.count_ones()))?;
        let position = usize::try_from(before.checked_add(u64::from(node.level))?).ok()?;
        self.hashes.get(position).copied()
    }
}

impl FromIterator<Hash> for MemoryTree {
    fn from_iter<I: IntoIterator<Item = Hash>>(leaves: I) -> Self {
        let mut tree = Self::default();
        leaves.into_iter().for_each(|leaf| tree.push(leaf));
        tree
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|index| leaf_hash(&index.to_be_bytes())).collect()
    }

    /// RFC 6962 section 2.1, word for word.
    fn by_definition(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Hash::EMPTY_ROOT,
            [leaf] => *leaf,
            _ => {
                let k = 1 << (leaves.len() - 1).ilog2();
                node_hash(&by_definition(&leaves[..k]), &by_definition(&leaves[k..]))
            }
        }
    }

    #[test]
    fn the_empty_root_is_the_hash_of_nothing() {
        assert_eq!(hash_of(&[]), Hash::EMPTY_ROOT);
        assert_eq!(Frontier::default().root(), Hash::EMPTY_ROOT);
        assert_eq!(root(&MemoryTree::default(), 0), Ok(Hash::EMPTY_ROOT));
    }

    #[test]
    fn every_tree_has_the_root_of_the_definition() {
        let leaves = leaves(130);
        let mut frontier = Frontier::default();
        let mut tree = MemoryTree::default();
        for (size, leaf) in (1..).zip(&leaves) {
            assert_eq!(frontier.append(*leaf), Ok(size - 1));
            tree.push(*leaf);
            let expected = by_definition(&leaves[..usize::try_from(size).unwrap()]);
            assert_eq!((frontier.root(), frontier.size()), (expected, size));
            assert_eq!((root(&tree, size), tree.size()), (Ok(expected), size));
        }
    }

    #[test]
    fn a_memory_tree_knows_complete_subtrees_and_no_others() {
        let leaves = leaves(70);
        let tree: MemoryTree = leaves.iter().copied().collect();
        for level in 0..64 {
            for index in 0..80u64 {
                let end = index.checked_add(1).and_then(|end| end.checked_mul(1u64 << level)).filter(|end| *end <= 70);
                let expected =
                    end.map(|end| by_definition(&leaves[usize::try_from(index << level).unwrap()..usize::try_from(end).unwrap()]));
                assert_eq!(tree.hash(Node { level, index }), expected, "{level} {index}");
            }
        }
        assert_eq!(tree.hash(Node { level: u32::MAX, index: 0 }), None);
        assert_eq!(tree.hash(Node { level: 63, index: u64::MAX }), None);
    }

    #[test]
    fn a_proof_is_refused_by_name_where_it_cannot_be_made() {
        let tree: MemoryTree = leaves(5).into_iter().collect();
        assert_eq!(inclusion_proof(&tree, 5, 5), Err(ProofError::Index { index: 5, size: 5 }));
        assert_eq!(inclusion_proof(&tree, 0, 0), Err(ProofError::Index { index: 0, size: 0 }));
        assert_eq!(inclusion_proof(&tree, 4, 6), Err(ProofError::Missing { node: Node { level: 0, index: 5 } }));
        assert_eq!(inclusion_proof(&tree, 0, MAX_SIZE + 1), Err(ProofError::TooLarge { size: MAX_SIZE + 1 }));
        assert_eq!(inclusion_proof(&tree, 4, 5).map(|proof| proof.len()), Ok(1));
        assert_eq!(consistency_proof(&tree, 0, 5), Err(ProofError::OldTreeEmpty));
        assert_eq!(consistency_proof(&tree, 5, 4), Err(ProofError::Shrunk { old: 5, new: 4 }));
        assert_eq!(consistency_proof(&tree, 1, u64::MAX), Err(ProofError::TooLarge { size: u64::MAX }));
        assert_eq!(consistency_proof(&tree, 5, 5), Ok(Vec::new()));
    }

    #[test]
    fn the_longest_proofs_stay_within_the_limit() {
        struct Anything;
        impl HashSource for Anything {
            fn hash(&self, _: Node) -> Option<Hash> {
                Some(Hash([1; 32]))
            }
        }
        assert_eq!(inclusion_proof(&Anything, 0, MAX_SIZE).map(|proof| proof.len()), Ok(62));
        let longest = (1..=16).map(|back| consistency_proof(&Anything, MAX_SIZE - back, MAX_SIZE).unwrap().len()).max();
        assert_eq!(longest, Some(crate::limits::PROOF_HASHES));
    }

    #[test]
    fn a_full_tree_takes_no_more() {
        let mut tree = Frontier { size: MAX_SIZE, subtrees: vec![Hash::EMPTY_ROOT] };
        assert_eq!(tree.append(Hash::EMPTY_ROOT), Err(ProofError::TooLarge { size: MAX_SIZE + 1 }));
        let mut tree = Frontier { size: MAX_SIZE - 1, subtrees: vec![Hash::EMPTY_ROOT; 62] };
        assert_eq!(tree.append(Hash::EMPTY_ROOT), Ok(MAX_SIZE - 1));
        assert_eq!(tree.subtrees.len(), 1);
    }

    #[test]
    fn a_hash_in_text_is_exact() {
        let text = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        assert_eq!(Hash::EMPTY_ROOT.to_string(), text);
        assert_eq!(text.parse(), Ok(Hash::EMPTY_ROOT));
        assert_eq!("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV=".parse::<Hash>(), Err(BadHash));
        assert_eq!("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hS".parse::<Hash>(), Err(BadHash));
        assert_eq!(serde_json::from_str::<Hash>(&format!("\"{text}\"")).unwrap(), Hash::EMPTY_ROOT);
    }
}
