//! SPIFFE bundles and sets of keys, as other trust domains publish them; and public keys of guests.
//!
//! Input: a byte that chooses which, then the bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::forms;
use protocol::limits;
use protocol::spiffe::Bundle;
use protocol::tokens::{Jwk, KeySet, P256Spki};

fuzz_target!(|data: &[u8]| {
    let Some((choice, bytes)) = data.split_first() else { return };
    match choice % 4 {
        0 => bundle(bytes),
        1 => set(bytes),
        2 => {
            if let Some(key) = forms::json::<Jwk>(bytes) {
                assert_eq!(key.thumbprint().len(), 43);
            }
        }
        _ => {
            if let Ok(key) = P256Spki::parse(bytes) {
                assert_eq!(key.as_der(), bytes);
            }
        }
    }
});

/// What is read can be written, is the same again, and may follow itself.
fn bundle(bytes: &[u8]) {
    let trust_domain = "acme.example".parse().expect("a name");
    let Ok(bundle) = Bundle::parse(&trust_domain, bytes) else { return };
    assert!(!bundle.x509_authorities().is_empty() || !bundle.jwt_authorities().is_empty());
    assert!(bundle.jwt_authorities().iter().all(|key| key.kid().is_some_and(|kid| !kid.is_empty()) && key.as_ed25519().is_none()));
    assert_eq!(bundle.follows(&bundle), Ok(()));
    let written = bundle.to_json();
    if written.len() <= limits::SPIFFE_BUNDLE {
        assert_eq!(Bundle::parse(&trust_domain, written.as_bytes()), Ok(bundle));
    }
}

fn set(bytes: &[u8]) {
    let Ok(set) = KeySet::parse(bytes) else { return };
    let written = set.to_json();
    if written.len() <= limits::SPIFFE_BUNDLE {
        assert_eq!(KeySet::parse(written.as_bytes()), Ok(set));
    }
}
