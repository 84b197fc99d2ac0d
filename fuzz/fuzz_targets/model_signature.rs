//! Bundles of OpenSSF Model Signing: as they came, and a statement that the required key signed.
//!
//! Input: a byte that chooses which, then JSON.

#![no_main]

use libfuzzer_sys::fuzz_target;
use models_manifest::signature::Bundle;
use portcullis_fuzz::maker::{maker, sign};

fuzz_target!(|data: &[u8]| {
    let Some((choice, bytes)) = data.split_first() else { return };
    if choice % 2 == 0 {
        // Nobody has signed these bytes but for the seed's own bundle, which is not by this run's key.
        let Ok(bundle) = Bundle::parse(bytes) else { return };
        return assert!(bundle.verify(&maker().1).is_err(), "a signature that nobody made");
    }
    let bundle = Bundle::parse(&sign(bytes)).expect("a bundle");
    let Ok(signed) = bundle.verify(&maker().1) else { return };
    for path in signed.files().keys() {
        let path = path.as_str();
        assert!(path.split('/').all(|segment| !matches!(segment, "" | "." | "..")), "{path} escapes");
    }
});
