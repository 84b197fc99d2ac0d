//! Inclusion and consistency proofs as text, and receipts.
//!
//! Input: a byte that chooses which, then the text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::{Signer, forms, log};
use protocol::log::{ConsistencyProof, InclusionProof, Receipt, VerifiedCheckpoint};

fuzz_target!(|data: &[u8]| {
    let Some((choice, bytes)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match choice % 3 {
        0 => inclusion(text, log::entry(u64::from(*choice) / 3 % log::ENTRIES)),
        1 => consistency(text, u64::from(*choice) / 3 % (log::ENTRIES + 1)),
        _ => drop(forms::json::<Receipt>(bytes).map(|receipt| verify(&receipt))),
    }
});

fn verify(receipt: &Receipt) {
    let Ok(verified) = receipt.verify(&log::origin(), Signer::Log.key().public()) else { return };
    assert!(verified.index() < verified.size() && verified.size() <= log::ENTRIES);
    assert_eq!(verified.entry(), log::entry(verified.index()), "an entry that the log does not have there");
}

fn inclusion(text: &str, entry: Vec<u8>) {
    forms::one_spelling::<InclusionProof>(text);
    verify(&Receipt { entry, proof: text.to_owned() });
}

fn consistency(text: &str, old: u64) {
    let Some(proof) = forms::one_spelling::<ConsistencyProof>(text) else { return };
    let key = Signer::Log.key();
    let old = VerifiedCheckpoint::verify(&log::checkpoint(old), &log::origin(), &[*key.public()]).expect("the log's own");
    let Ok(new) = proof.verify(&old, key.public()) else { return };
    assert!(old.size() <= new.size());
    let own = VerifiedCheckpoint::verify(&log::checkpoint(new.size()), &log::origin(), &[*key.public()]).expect("the log's own");
    assert_eq!(new, own, "a checkpoint that the log never signed");
}
