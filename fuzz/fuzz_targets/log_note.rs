//! Signed notes, checkpoints, log names and verifier keys.
//!
//! Input: a byte that chooses which, then the text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::{Signer, forms, log};
use protocol::log::{Checkpoint, Origin, VerifiedCheckpoint, VerifierKey};

fuzz_target!(|data: &[u8]| {
    let Some((choice, bytes)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let key = Signer::Log.key();
    let verify = |note: &str| VerifiedCheckpoint::verify(note, &log::origin(), &[*key.public()]);
    match choice % 4 {
        0 => {
            if let Ok(checkpoint) = verify(text) {
                assert_eq!(Ok(checkpoint.root()), verify(&log::checkpoint(checkpoint.size())).as_ref().map(VerifiedCheckpoint::root));
            }
        }
        1 => {
            // The signature is good: what is read is what the text says, in its one spelling.
            let note = log::note(text);
            if let Ok(checkpoint) = verify(&note) {
                let written = Checkpoint { origin: log::origin(), size: checkpoint.size(), root: *checkpoint.root() };
                assert_eq!(written.sign(&key), note);
            }
        }
        2 => drop(forms::one_spelling::<Origin>(text)),
        _ => drop(forms::one_spelling::<VerifierKey>(text)),
    }
});
