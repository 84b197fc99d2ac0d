//! Manifests of sealed models: as they came, and as a body that the publisher signed.
//!
//! Input: a byte that chooses which, then JSON.

#![no_main]

use libfuzzer_sys::fuzz_target;
use models_manifest::{Contents, Inspection, Manifest, ModelPath, Signer as SignedBy};
use portcullis_fuzz::{Signer, documents, forms};
use protocol::limits;

const TYPE: &str = "application/vnd.portcullis.manifest+json";

fuzz_target!(|data: &[u8]| {
    let Some((choice, bytes)) = data.split_first() else { return };
    let publishers = [*Signer::Publisher.key().public()];
    let json = if choice % 2 == 0 { bytes.to_vec() } else { documents::signed(TYPE, bytes, Signer::Publisher).to_json() };
    let Ok(inspection) = Inspection::read(&json, &publishers) else {
        return assert!(Manifest::authenticate(&json, &publishers, &protocol::ids::Digest::from([0; 32])).is_err());
    };
    obeys_the_rules(&inspection.contents);
    let authentic = Manifest::authenticate(&json, &publishers, &inspection.digest);
    assert_eq!(authentic.is_ok(), inspection.signer == SignedBy::Publisher(publishers[0]));
    if let Ok(manifest) = authentic {
        assert_eq!(*manifest.contents(), inspection.contents);
        let mut other = *inspection.digest.as_bytes();
        other[0] ^= 1;
        assert!(Manifest::authenticate(&json, &publishers, &other.into()).is_err(), "only the released one");
    }
});

fn obeys_the_rules(contents: &Contents) {
    let files = contents.files();
    assert!(!files.is_empty() && files.len() <= limits::MANIFEST_FILES);
    assert!(files.windows(2).all(|pair| pair[0].path() < pair[1].path()), "in order, each once");
    for (index, file) in files.iter().enumerate() {
        let path = file.path().as_str();
        forms::one_spelling::<ModelPath>(path).expect("a path of a model");
        assert!(path.len() <= limits::MODEL_PATH && !path.contains(['\\', '\0']) && path != models_manifest::MANIFEST_NAME);
        assert!(path.split('/').all(|segment| !matches!(segment, "" | "." | "..")), "{path} escapes");
        assert_eq!(contents.find(path), Some(index));
        let geometry = file.geometry();
        assert!(geometry.size() <= limits::MODEL_FILE && geometry.sealed_size() == geometry.size() + 48 * geometry.chunks());
    }
}
