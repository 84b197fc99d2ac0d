//! Receipts and proofs of growth: accepted as they are, refused by name for each thing that can be wrong.

use super::*;
use crate::keys::{PublicKey, SigningKey};
use crate::limits;
use crate::log::checkpoint::{Checkpoint, CheckpointError, VerifiedCheckpoint};
use crate::log::note::{NoteError, Origin};
use crate::log::proof::{ConsistencyProof, InclusionProof, LogError, Receipt, verify_consistency};
use crate::log::tree::{consistency_proof, inclusion_proof};
use crate::log::verify::ProofError;

fn origin() -> Origin {
    "log.example/audit".parse().unwrap()
}

fn key() -> SigningKey {
    SigningKey::from_seed(&[1; 32]).unwrap()
}

fn note(size: u64) -> String {
    Checkpoint { origin: origin(), size, root: head(&tree_of(size), size).root }.sign(&key())
}

fn kept(size: u64) -> VerifiedCheckpoint {
    VerifiedCheckpoint::verify(&note(size), &origin(), &[*key().public()]).unwrap()
}

fn receipt(index: u64, size: u64) -> Receipt {
    Receipt::new(entry(index), index, inclusion_proof(&tree_of(size), index, size).unwrap(), &note(size))
}

fn growth(old_size: u64, size: u64) -> ConsistencyProof {
    ConsistencyProof { old_size, hashes: consistency_proof(&tree_of(size), old_size, size).unwrap(), checkpoint: note(size) }
}

/// Why `receipt` is refused once its proof's text is put through `alter`.
fn refusal(receipt: &Receipt, alter: impl Fn(&str) -> String) -> LogError {
    let altered = Receipt { entry: receipt.entry.clone(), proof: alter(&receipt.proof) };
    assert_ne!(*receipt, altered);
    altered.verify(&origin(), key().public()).unwrap_err()
}

#[test]
fn a_receipt_proves_its_entry() {
    for (index, size) in [(0, 1), (0, 2), (5, 7), (6, 7), (68, 69)] {
        let verified = receipt(index, size).verify(&origin(), key().public()).unwrap();
        assert_eq!((verified.index(), verified.size(), verified.entry()), (index, size, entry(index).as_slice()));
        assert_eq!((verified.root(), verified.checkpoint()), (&head(&tree_of(size), size).root, &kept(size)));
    }
}

#[test]
fn a_receipt_of_another_log_entry_or_key_is_refused() {
    let receipt = receipt(5, 7);
    let other: Origin = "log.example/other".parse().unwrap();
    let unsigned = LogError::Checkpoint(CheckpointError::Note(NoteError::NoKnownSignature));
    assert_eq!(receipt.verify(&other, key().public()), Err(unsigned.clone()));
    assert_eq!(receipt.verify(&origin(), &PublicKey::from_bytes([9; 32])), Err(unsigned));

    let forged = Receipt { entry: entry(4), ..receipt.clone() };
    assert!(matches!(forged.verify(&origin(), key().public()), Err(LogError::NotIncluded(ProofError::Root { .. }))));
    let long = Receipt { entry: vec![0; limits::LOG_ENTRY + 1], ..receipt };
    assert_eq!(long.verify(&origin(), key().public()), Err(LogError::EntryTooLong { found: 65_536 }));
}

#[test]
fn an_entry_of_the_largest_size_has_a_receipt() {
    let largest = vec![7; limits::LOG_ENTRY];
    let note = Checkpoint { origin: origin(), size: 1, root: leaf_hash(&largest) }.sign(&key());
    let receipt = Receipt::new(largest, 0, Vec::new(), &note);
    assert_eq!(receipt.verify(&origin(), key().public()).map(|verified| verified.size()), Ok(1));
}

#[test]
fn an_altered_receipt_is_refused_by_name() {
    let receipt = receipt(5, 7);
    let (lines, hash) = (receipt.proof.lines().map(str::to_owned).collect::<Vec<_>>(), leaf(1).to_string());
    assert_eq!((lines[1].as_str(), lines[5].as_str()), ("index 5", ""));

    assert_eq!(refusal(&receipt, |text| text.replace("@v1", "@v2")), LogError::Header);
    assert_eq!(refusal(&receipt, |text| format!("\n{text}")), LogError::Header);
    assert_eq!(refusal(&receipt, |text| text.replace("@v1\n", "@v1\nextra AAAA\n")), LogError::ExtraData);
    for index in ["", "index", "index ", "index 05", "index +5", "index 5 ", "Index 5", "index 18446744073709551616"] {
        assert_eq!(refusal(&receipt, |text| text.replace("index 5", index)), LogError::Index, "{index:?}");
    }
    let outside = LogError::NotIncluded(ProofError::Index { index: 7, size: 7 });
    assert_eq!(refusal(&receipt, |text| text.replace("index 5", "index 7")), outside);
    assert!(matches!(refusal(&receipt, |text| text.replace("index 5", "index 4")), LogError::NotIncluded(ProofError::Root { .. })));

    assert_eq!(refusal(&receipt, |text| text.replace(&lines[3], "AAAA")), LogError::HashLine { number: 4 });
    assert_eq!(refusal(&receipt, |text| text.replace(&lines[3], &format!("{} ", lines[3]))), LogError::HashLine { number: 4 });
    assert!(matches!(refusal(&receipt, |text| text.replace(&lines[3], &hash)), LogError::NotIncluded(ProofError::Root { .. })));
    let shorter = |text: &str| text.replace(&format!("{}\n", lines[4]), "");
    assert_eq!(refusal(&receipt, shorter), LogError::NotIncluded(ProofError::TooFewHashes));
    let longer = |text: &str| text.replace(&lines[4], &format!("{}\n{hash}", lines[4]));
    assert_eq!(refusal(&receipt, longer), LogError::NotIncluded(ProofError::ExtraHash));
    let many = |count: usize| move |text: &str| text.replace("index 5\n", &format!("index 5\n{}", format!("{}\n", leaf(1)).repeat(count)));
    assert_eq!(refusal(&receipt, many(61)), LogError::TooManyHashes);
    assert_eq!(refusal(&receipt, many(60)), LogError::NotIncluded(ProofError::ExtraHash));

    assert_eq!(refusal(&receipt, |text| text.split_once("\n\n").unwrap().0.to_owned()), LogError::NoCheckpoint);
    assert_eq!(
        refusal(&receipt, |text| format!("{text}{}", "\n".repeat(limits::LOG_PROOF))),
        LogError::TooLong { found: receipt.proof.len() + limits::LOG_PROOF }
    );
    let no_final_newline = LogError::Checkpoint(CheckpointError::Note(NoteError::NoFinalNewline));
    assert_eq!(refusal(&receipt, |text| format!("{text}\n")), no_final_newline);
    let bad = |text: &str| text.replace("\n7\n", "\n8\n");
    assert!(matches!(refusal(&receipt, bad), LogError::Checkpoint(CheckpointError::Note(NoteError::BadSignature { .. }))));
}

#[test]
fn a_receipt_stands_in_json_strictly() {
    let receipt = receipt(5, 7);
    let json = serde_json::to_string(&receipt).unwrap();
    assert!(json.starts_with("{\"entry\":\"ZW50cnkgNQ==\",\"proof\":\"c2sp.org/tlog-proof@v1\\nindex 5\\n"), "{json}");
    assert_eq!(serde_json::from_str::<Receipt>(&json).unwrap(), receipt);
    assert!(serde_json::from_str::<Receipt>(&json.replace("{\"entry\"", "{\"more\":1,\"entry\"")).is_err());
    assert!(serde_json::from_str::<Receipt>(&json.replace("NQ==", "NQ")).is_err());
    assert!(serde_json::from_str::<Receipt>(r#"{"entry":""}"#).is_err());
}

#[test]
fn growth_is_proven_to_whoever_kept_a_checkpoint() {
    for (old, new) in [(1, 1), (1, 7), (3, 7), (4, 7), (7, 7), (5, 69), (68, 69)] {
        let proof = growth(old, new);
        assert_eq!(proof.to_string().parse(), Ok(proof.clone()));
        assert_eq!(proof.verify(&kept(old), key().public()), Ok(kept(new)), "{old} to {new}");
    }
}

#[test]
fn a_log_that_has_not_only_grown_is_refused_by_name() {
    let refusal = |proof: &ConsistencyProof, old: u64| proof.verify(&kept(old), key().public()).unwrap_err();
    assert_eq!(refusal(&growth(3, 7), 4), LogError::OtherOldSize { expected: 4, found: 3 });
    let shrunk = ConsistencyProof { old_size: 7, ..growth(3, 4) };
    assert_eq!(refusal(&shrunk, 7), LogError::Inconsistent(ProofError::Shrunk { old: 7, new: 4 }));
    let empty = ConsistencyProof { old_size: 0, hashes: Vec::new(), checkpoint: note(4) };
    assert_eq!(refusal(&empty, 0), LogError::Inconsistent(ProofError::OldTreeEmpty));

    // A log with another entry 0, honestly proven to itself.
    let rewritten: MemoryTree = (1..8).map(leaf).collect();
    let Head { size, root } = head(&rewritten, 7);
    let checkpoint = Checkpoint { origin: origin(), size, root }.sign(&key());
    let proof = ConsistencyProof { old_size: 3, hashes: consistency_proof(&rewritten, 3, 7).unwrap(), checkpoint: checkpoint.clone() };
    assert!(matches!(refusal(&proof, 3), LogError::Inconsistent(ProofError::OldRoot { .. })));
    let fork = ConsistencyProof { old_size: 7, hashes: Vec::new(), checkpoint };
    assert_eq!(refusal(&fork, 7), LogError::Inconsistent(ProofError::Forked { size: 7, old: *kept(7).root(), new: root }));

    let unsigned = growth(3, 7).verify(&kept(3), &PublicKey::from_bytes([9; 32]));
    assert_eq!(unsigned, Err(LogError::Checkpoint(CheckpointError::Note(NoteError::NoKnownSignature))));
}

#[test]
fn checkpoints_of_two_logs_are_not_compared() {
    let other: Origin = "log.example/other".parse().unwrap();
    let note = Checkpoint { origin: other.clone(), size: 7, root: *kept(7).root() }.sign(&key());
    let other_log = VerifiedCheckpoint::verify(&note, &other, &[*key().public()]).unwrap();
    assert_eq!(verify_consistency(&kept(7), &kept(7), &[]), Ok(()));
    assert_eq!(verify_consistency(&kept(7), &other_log, &[]), Err(LogError::OtherLog { expected: origin(), found: other }));
}

#[test]
fn proofs_are_texts_of_one_spelling() {
    let text = receipt(5, 7).proof;
    assert_eq!(text.parse::<InclusionProof>().unwrap().to_string(), text);
    let text = growth(3, 7).to_string();
    assert_eq!(text.parse::<ConsistencyProof>().unwrap().to_string(), text);
    for bad in ["", "old", "old 3", "old 03\n\n", "old -1\n\n", "index 3\n\n"] {
        assert_eq!(bad.parse::<ConsistencyProof>(), Err(LogError::OldSize), "{bad:?}");
    }
    assert_eq!("old 3\nAAAA\n\n".parse::<ConsistencyProof>(), Err(LogError::HashLine { number: 2 }));
    assert_eq!("old 3\n".parse::<ConsistencyProof>(), Err(LogError::NoCheckpoint));
}
