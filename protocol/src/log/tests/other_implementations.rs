//! The same trees and notes in independent implementations: each reads what the other wrote.

use ct_merkle::{ConsistencyProof, InclusionProof, RootHash, mem_backed_tree::MemoryBackedTree};
use sha2::Sha256;
use signed_note::{Note, Signer, StandardSigner, StandardVerifier, Verifier, VerifierList};

use super::*;
use crate::encoding::to_base64;
use crate::keys::SigningKey;
use crate::log::checkpoint::{Checkpoint, VerifiedCheckpoint};
use crate::log::note::VerifierKey;
use crate::log::tree::{consistency_proof, inclusion_proof};
use crate::log::verify::{verify_consistency, verify_inclusion};

type OtherTree = MemoryBackedTree<Sha256, Vec<u8>>;

fn hash(output: &[u8]) -> Hash {
    Hash::from_bytes(output.try_into().unwrap())
}

fn hashes(proof: &[u8]) -> Vec<Hash> {
    proof.chunks(32).map(hash).collect()
}

fn bytes(proof: &[Hash]) -> Vec<u8> {
    proof.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

fn other_root(head: &Head) -> RootHash<Sha256> {
    RootHash::new((*head.root.as_bytes()).into(), head.size)
}

#[test]
fn ct_merkle_has_the_same_roots_and_inclusion_proofs() {
    let tree = tree_of(300);
    let mut other = OtherTree::new();
    for size in 1..=300 {
        other.push(entry(size - 1));
        let head = head(&tree, size);
        assert_eq!(hash(other.root().as_bytes()), head.root, "{size}");
        for index in (0..size).step_by(if size > 70 { 13 } else { 1 }) {
            let ours = inclusion_proof(&tree, index, size).unwrap();
            let theirs = other.prove_inclusion(index.try_into().unwrap());
            assert_eq!(verify_inclusion(&leaf(index), index, size, &hashes(theirs.as_bytes()), &head.root), Ok(()));
            let ours = InclusionProof::try_from_bytes(bytes(&ours)).unwrap();
            assert!(other_root(&head).verify_inclusion(&entry(index), index, &ours).is_ok(), "{index} of {size}");
            assert_eq!(ours.as_bytes(), theirs.as_bytes());
        }
    }
}

#[test]
fn ct_merkle_has_the_same_consistency_proofs() {
    let tree = tree_of(300);
    let mut other = OtherTree::new();
    for size in 1..=300 {
        other.push(entry(size - 1));
        let new = head(&tree, size);
        for old_size in (1..size).step_by(if size > 70 { 13 } else { 1 }) {
            let old = head(&tree, old_size);
            let ours = consistency_proof(&tree, old_size, size).unwrap();
            let theirs = other.prove_consistency((size - old_size).try_into().unwrap());
            assert_eq!(verify_consistency(&old, &new, &hashes(theirs.as_bytes())), Ok(()));
            let ours = ConsistencyProof::try_from_bytes(bytes(&ours)).unwrap();
            assert!(other_root(&new).verify_consistency(&other_root(&old), &ours).is_ok(), "{old_size} to {size}");
            assert_eq!(ours.as_bytes(), theirs.as_bytes());
        }
    }
}

fn checkpoint() -> (Checkpoint, SigningKey, VerifierKey) {
    let key = SigningKey::from_seed(&[1; 32]).unwrap();
    let origin: crate::log::Origin = "log.example/audit".parse().unwrap();
    let verifier = VerifierKey { name: origin.clone(), key: *key.public() };
    (Checkpoint { origin, size: 69, root: head(&tree_of(69), 69).root }, key, verifier)
}

/// Their signer from our seed.
fn signer(key: &SigningKey, verifier: &VerifierKey) -> StandardSigner {
    let private = [&[1], key.seed().unwrap().as_slice()].concat();
    StandardSigner::new(&format!("PRIVATE+KEY+{}+{}+{}", verifier.name, verifier.id(), to_base64(&private))).unwrap()
}

#[test]
fn signed_note_verifies_our_checkpoints() {
    let (checkpoint, key, verifier) = checkpoint();
    let theirs = StandardVerifier::new(&verifier.to_string()).unwrap();
    assert_eq!(format!("{:08x}", theirs.key_id()), verifier.id().to_string());
    let note = Note::from_bytes(checkpoint.sign(&key).as_bytes()).unwrap();
    let (known, unknown) = note.verify(&VerifierList::new(vec![Box::new(theirs)])).unwrap();
    assert_eq!((known.len(), unknown.len()), (1, 0));
}

#[test]
fn we_verify_what_signed_note_signs() {
    let (checkpoint, key, verifier) = checkpoint();
    let ours = checkpoint.sign(&key);
    let text = format!("{}\n69\n{}\n", checkpoint.origin, checkpoint.root);
    let mut note = Note::new(text.as_bytes(), &[]).unwrap();
    let theirs = signer(&key, &verifier);
    note.add_sigs(&[&theirs as &dyn Signer]).unwrap();
    assert_eq!(String::from_utf8(note.to_bytes()).unwrap(), ours);

    // A second signer, whose key we do not know.
    let witness = SigningKey::from_seed(&[2; 32]).unwrap();
    let witness_key = VerifierKey { name: "witness.example".parse().unwrap(), key: *witness.public() };
    note.add_sigs(&[&signer(&witness, &witness_key) as &dyn Signer]).unwrap();
    let note = String::from_utf8(note.to_bytes()).unwrap();
    let verified = VerifiedCheckpoint::verify(&note, &checkpoint.origin, &[*key.public()]).unwrap();
    assert_eq!((verified.size(), verified.root()), (69, &checkpoint.root));
}
