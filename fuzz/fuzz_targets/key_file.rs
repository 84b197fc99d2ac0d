//! Key files. Passphrases are left out: Argon2 is slow by design, and what it is given is checked before.

#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::keyfile::{KeyFile, KeyFileError, Unlock};
use zeroize::Zeroizing;

fuzz_target!(|data: &[u8]| {
    let Ok(file) = KeyFile::parse(data) else { return };
    let written = file.to_json();
    if written.len() <= protocol::keyfile::LIMIT {
        assert!(KeyFile::parse(written.as_bytes()).is_ok_and(|again| again == file));
    }
    let (plain, protected) =
        (file.open(file.kind(), &Unlock::Nothing), file.open(file.kind(), &Unlock::KeyFile(Zeroizing::new(vec![7; 32]))));
    assert!(plain.is_err() || protected.is_err(), "one file, two ways to open it");
    assert!(!file.wants_passphrase() || (plain.is_err() && protected.is_err()));
    let other = format!("{}-other", file.kind());
    assert!(matches!(file.open(&other, &Unlock::Nothing), Err(KeyFileError::Kind { .. })), "a key serves one purpose");
});
