//! Every proof about every tree of up to 69 entries is accepted; every single alteration of it is refused.

use super::*;
use crate::log::tree::{consistency_proof, inclusion_proof};
use crate::log::verify::{verify_consistency, verify_inclusion};

const LARGEST: u64 = 69;

/// Each list that differs from `proof` by one hash: altered, left out, doubled, or exchanged with its neighbour; and one longer.
fn alterations(proof: &[Hash]) -> Vec<Vec<Hash>> {
    let mut lists = Vec::new();
    for at in 0..proof.len() {
        let mut list = proof.to_vec();
        list[at] = altered(&list[at]);
        lists.push(list);
        let mut list = proof.to_vec();
        list.remove(at);
        lists.push(list);
        let mut list = proof.to_vec();
        list.insert(at, proof[at]);
        lists.push(list);
        if at > 0 {
            let mut list = proof.to_vec();
            list.swap(at - 1, at);
            lists.push(list);
        }
    }
    for extra in [Hash::EMPTY_ROOT, leaf(0)] {
        lists.push([proof, &[extra]].concat());
        lists.push([&[extra], proof].concat());
    }
    lists
}

#[test]
fn inclusion_is_proven_for_every_entry_and_nothing_else() {
    let tree = tree_of(LARGEST);
    let (mut accepted, mut refused) = (0, 0);
    for size in 1..=LARGEST {
        let Head { root, .. } = head(&tree, size);
        for index in 0..size {
            let leaf = leaf(index);
            let proof = inclusion_proof(&tree, index, size).unwrap();
            assert_eq!(verify_inclusion(&leaf, index, size, &proof, &root), Ok(()), "{index} of {size}");
            accepted += 1;

            let mut refuse = |result: Result<(), _>| {
                assert!(result.is_err(), "{index} of {size}");
                refused += 1;
            };
            for list in alterations(&proof) {
                refuse(verify_inclusion(&leaf, index, size, &list, &root));
            }
            refuse(verify_inclusion(&altered(&leaf), index, size, &proof, &root));
            refuse(verify_inclusion(&leaf, index, size, &proof, &altered(&root)));
            for other in (0..size + 2).filter(|other| *other != index) {
                refuse(verify_inclusion(&leaf, other, size, &proof, &root));
            }
            for other in (1..=LARGEST).filter(|other| *other != size) {
                refuse(verify_inclusion(&leaf, index, other, &proof, &head(&tree, other).root));
            }
        }
    }
    assert_eq!(accepted, 2415);
    assert!(refused > 300_000, "{refused}");
}

#[test]
fn consistency_is_proven_for_every_pair_of_sizes_and_nothing_else() {
    let tree = tree_of(LARGEST);
    let (mut accepted, mut refused) = (0, 0);
    for size in 1..=LARGEST {
        let new = head(&tree, size);
        for old_size in 1..=size {
            let old = head(&tree, old_size);
            let proof = consistency_proof(&tree, old_size, size).unwrap();
            assert_eq!(verify_consistency(&old, &new, &proof), Ok(()), "{old_size} to {size}");
            accepted += 1;

            let mut refuse = |old: &Head, new: &Head, proof: &[Hash]| {
                assert!(verify_consistency(old, new, proof).is_err(), "{old:?} to {new:?}");
                refused += 1;
            };
            for list in alterations(&proof) {
                refuse(&old, &new, &list);
            }
            refuse(&Head { root: altered(&old.root), ..old }, &new, &proof);
            refuse(&old, &Head { root: altered(&new.root), ..new }, &proof);
            for other in (0..=LARGEST).filter(|other| *other != old_size) {
                refuse(&head(&tree, other), &new, &proof);
            }
            for other in (old_size..=LARGEST).filter(|other| *other != size) {
                refuse(&old, &head(&tree, other), &proof);
            }
        }
    }
    assert_eq!(accepted, 2415);
    assert!(refused > 250_000, "{refused}");
}
