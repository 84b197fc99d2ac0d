//! The two verifications of RFC 9162 section 2.1, and why a proof fails.

use super::tree::{Hash, Node, node_hash, within_bounds};
use crate::limits;

/// Why a proof cannot be made or does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The entry lies outside the tree.
    #[error("entry {index} is outside a tree of {size} entries")]
    Index {
        /// The entry's index.
        index: u64,
        /// The tree's size.
        size: u64,
    },
    /// Larger than [`super::tree::MAX_SIZE`].
    #[error("a tree of {size} entries is larger than 2^62")]
    TooLarge {
        /// The tree's size.
        size: u64,
    },
    /// Making a proof: the hash of a subtree is not at hand.
    #[error("the hash of the subtree at {node} is not at hand")]
    Missing {
        /// Which subtree.
        node: Node,
    },
    /// More hashes than any proof can have.
    #[error("{found} hashes, more than the {max} that a proof can have", max = limits::PROOF_HASHES)]
    TooManyHashes {
        /// How many.
        found: usize,
    },
    /// The proof goes on after it has reached the root.
    #[error("the proof has more hashes than the way to the root")]
    ExtraHash,
    /// The proof ends before it reaches the root.
    #[error("the proof has fewer hashes than the way to the root")]
    TooFewHashes,
    /// Inclusion: the proof leads to another root.
    #[error("the proof leads to root {found}, expected {expected}")]
    Root {
        /// The root to be reached.
        expected: Hash,
        /// The root that the proof leads to.
        found: Hash,
    },
    /// Consistency: an empty tree is the beginning of every tree, and proves nothing.
    #[error("the older tree is empty: there is nothing to prove")]
    OldTreeEmpty,
    /// Consistency: the newer tree has fewer entries.
    #[error("the newer tree has {new} entries, fewer than the {old} of the older one")]
    Shrunk {
        /// The older tree's size.
        old: u64,
        /// The newer tree's size.
        new: u64,
    },
    /// Consistency: one size, two roots. The log has shown two histories.
    #[error("two trees of {size} entries have different roots {old} and {new}")]
    Forked {
        /// The size of both.
        size: u64,
        /// The root of the older one.
        old: Hash,
        /// The root of the newer one.
        new: Hash,
    },
    /// Consistency: the proof does not lead to the older root.
    #[error("the proof leads to older root {found}, expected {expected}")]
    OldRoot {
        /// The root to be reached.
        expected: Hash,
        /// The root that the proof leads to.
        found: Hash,
    },
    /// Consistency: the proof does not lead to the newer root.
    #[error("the proof leads to newer root {found}, expected {expected}")]
    NewRoot {
        /// The root to be reached.
        expected: Hash,
        /// The root that the proof leads to.
        found: Hash,
    },
}

/// On which side of the path the next hash of a proof stands.
enum Sibling {
    Left,
    Right,
}

/// The way from a node to the root: the node's index at the current level, and the last index of that level.
struct Path {
    node: u64,
    last: u64,
}

impl Path {
    /// Takes one hash of the proof and climbs past it.
    const fn climb(&mut self) -> Result<Sibling, ProofError> {
        if self.last == 0 {
            return Err(ProofError::ExtraHash);
        }
        let sibling = if self.node % 2 == 1 || self.node == self.last { Sibling::Left } else { Sibling::Right };
        if matches!(sibling, Sibling::Left) {
            // On the right edge of an incomplete level a node rises unpaired until it has a sibling on its left.
            self.rise(self.node.trailing_zeros());
        }
        self.rise(1);
        Ok(sibling)
    }

    /// Goes up by `levels`, at most 63.
    const fn rise(&mut self, levels: u32) {
        self.node >>= levels;
        self.last >>= levels;
    }

    /// Refuses a proof that ends below the root.
    const fn at_root(&self) -> Result<(), ProofError> {
        if self.last == 0 { Ok(()) } else { Err(ProofError::TooFewHashes) }
    }
}

/// Checks that the entry with hash `leaf` is entry `index` of the tree of `size` entries with `root`.
///
/// The root must come from a checkpoint that names this size: one root alone can fit the paths of several sizes.
///
/// # Errors
/// The [`ProofError`] that says what does not hold.
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> Result<(), ProofError> {
    within_bounds(size)?;
    if index >= size {
        return Err(ProofError::Index { index, size });
    }
    few_enough(proof)?;
    let mut path = Path { node: index, last: size - 1 };
    let mut found = *leaf;
    for hash in proof {
        found = match path.climb()? {
            Sibling::Left => node_hash(hash, &found),
            Sibling::Right => node_hash(&found, hash),
        };
    }
    path.at_root()?;
    if found == *root { Ok(()) } else { Err(ProofError::Root { expected: *root, found }) }
}

/// A tree's size and root, as a checkpoint names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// How many entries.
    pub size: u64,
    /// The root of their tree.
    pub root: Hash,
}

/// Checks that the tree `old` is the beginning of the tree `new`.
///
/// # Errors
/// The [`ProofError`] that says what does not hold.
pub fn verify_consistency(old: &Head, new: &Head, proof: &[Hash]) -> Result<(), ProofError> {
    within_bounds(new.size)?;
    if old.size == 0 {
        return Err(ProofError::OldTreeEmpty);
    }
    if old.size > new.size {
        return Err(ProofError::Shrunk { old: old.size, new: new.size });
    }
    few_enough(proof)?;
    if old.size == new.size {
        return same_tree(old, new, proof);
    }
    let mut path = Path { node: old.size - 1, last: new.size - 1 };
    path.rise(path.node.trailing_ones());
    let mut hashes = proof.iter();
    // Where the old tree is a complete subtree of the new one, its root is where the way begins, and is not sent.
    let first = if old.size.is_power_of_two() { &old.root } else { hashes.next().ok_or(ProofError::TooFewHashes)? };
    let (mut old_root, mut new_root) = (*first, *first);
    for hash in hashes {
        match path.climb()? {
            Sibling::Left => {
                old_root = node_hash(hash, &old_root);
                new_root = node_hash(hash, &new_root);
            }
            Sibling::Right => new_root = node_hash(&new_root, hash),
        }
    }
    path.at_root()?;
    if old_root != old.root {
        return Err(ProofError::OldRoot { expected: old.root, found: old_root });
    }
    if new_root == new.root { Ok(()) } else { Err(ProofError::NewRoot { expected: new.root, found: new_root }) }
}

fn same_tree(old: &Head, new: &Head, proof: &[Hash]) -> Result<(), ProofError> {
    if !proof.is_empty() {
        return Err(ProofError::ExtraHash);
    }
    if old.root == new.root { Ok(()) } else { Err(ProofError::Forked { size: new.size, old: old.root, new: new.root }) }
}

const fn few_enough(proof: &[Hash]) -> Result<(), ProofError> {
    if proof.len() > limits::PROOF_HASHES { Err(ProofError::TooManyHashes { found: proof.len() }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::super::tree::{MAX_SIZE, MemoryTree, consistency_proof, inclusion_proof, leaf_hash, root};
    use super::*;

    fn tree(size: u64) -> MemoryTree {
        (0..size).map(|index| leaf_hash(&index.to_be_bytes())).collect()
    }

    fn head(tree: &MemoryTree, size: u64) -> Head {
        Head { size, root: root(tree, size).unwrap() }
    }

    #[test]
    fn an_inclusion_proof_is_refused_for_the_reason_that_it_has() {
        let tree = tree(7);
        let Head { size, root } = head(&tree, 7);
        let leaf = leaf_hash(&5u64.to_be_bytes());
        let proof = inclusion_proof(&tree, 5, 7).unwrap();
        assert_eq!(verify_inclusion(&leaf, 5, size, &proof, &root), Ok(()));

        assert_eq!(verify_inclusion(&leaf, 7, size, &proof, &root), Err(ProofError::Index { index: 7, size: 7 }));
        assert_eq!(verify_inclusion(&leaf, 0, 0, &[], &root), Err(ProofError::Index { index: 0, size: 0 }));
        let huge = MAX_SIZE + 1;
        assert_eq!(verify_inclusion(&leaf, 5, huge, &proof, &root), Err(ProofError::TooLarge { size: huge }));
        assert_eq!(verify_inclusion(&leaf, 5, size, &[root; 64], &root), Err(ProofError::TooManyHashes { found: 64 }));
        assert_eq!(verify_inclusion(&leaf, 5, size, &[root; 63], &root), Err(ProofError::ExtraHash));
        assert_eq!(verify_inclusion(&leaf, 5, size, &proof[..2], &root), Err(ProofError::TooFewHashes));
        let found = match verify_inclusion(&leaf, 4, size, &proof, &root) {
            Err(ProofError::Root { expected, found }) if expected == root => found,
            other => panic!("{other:?}"),
        };
        assert_eq!(verify_inclusion(&leaf, 4, size, &proof, &found), Ok(()));
    }

    #[test]
    fn a_consistency_proof_is_refused_for_the_reason_that_it_has() {
        let tree = tree(7);
        let (old, new) = (head(&tree, 3), head(&tree, 7));
        let proof = consistency_proof(&tree, 3, 7).unwrap();
        assert_eq!(verify_consistency(&old, &new, &proof), Ok(()));

        let empty = Head { size: 0, root: Hash::EMPTY_ROOT };
        assert_eq!(verify_consistency(&empty, &new, &[]), Err(ProofError::OldTreeEmpty));
        assert_eq!(verify_consistency(&new, &old, &proof), Err(ProofError::Shrunk { old: 7, new: 3 }));
        let huge = Head { size: MAX_SIZE + 1, root: new.root };
        assert_eq!(verify_consistency(&old, &huge, &proof), Err(ProofError::TooLarge { size: MAX_SIZE + 1 }));
        assert_eq!(verify_consistency(&old, &new, &[old.root; 64]), Err(ProofError::TooManyHashes { found: 64 }));
        assert_eq!(verify_consistency(&old, &new, &[]), Err(ProofError::TooFewHashes));
        assert_eq!(verify_consistency(&old, &new, &proof[..3]), Err(ProofError::TooFewHashes));
        let longer = [proof.as_slice(), &[old.root]].concat();
        assert_eq!(verify_consistency(&old, &new, &longer), Err(ProofError::ExtraHash));

        let other = Head { size: 3, root: new.root };
        assert_eq!(verify_consistency(&other, &new, &proof), Err(ProofError::OldRoot { expected: new.root, found: old.root }));
        let other = Head { size: 7, root: old.root };
        assert_eq!(verify_consistency(&old, &other, &proof), Err(ProofError::NewRoot { expected: old.root, found: new.root }));
    }

    #[test]
    fn one_size_with_two_roots_is_a_fork() {
        let tree = tree(4);
        let head = head(&tree, 4);
        let other = Head { size: 4, root: Hash::EMPTY_ROOT };
        assert_eq!(verify_consistency(&head, &head, &[]), Ok(()));
        assert_eq!(verify_consistency(&head, &head, &[head.root]), Err(ProofError::ExtraHash));
        assert_eq!(verify_consistency(&head, &other, &[]), Err(ProofError::Forked { size: 4, old: head.root, new: Hash::EMPTY_ROOT }));
    }

    #[test]
    fn an_old_tree_that_is_a_power_of_two_begins_at_its_own_root() {
        let tree = tree(7);
        let (old, new) = (head(&tree, 4), head(&tree, 7));
        let proof = consistency_proof(&tree, 4, 7).unwrap();
        assert_eq!(proof.len(), 1);
        assert_eq!(verify_consistency(&old, &new, &proof), Ok(()));
        assert_eq!(verify_consistency(&old, &new, &[]), Err(ProofError::TooFewHashes));
        assert_eq!(verify_consistency(&old, &new, &[old.root, proof[0]]), Err(ProofError::ExtraHash));
    }
}
