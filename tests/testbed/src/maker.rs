//! Whoever released a model: a P-256 key that signs a folder's files as OpenSSF Model Signing lays it out (in-toto statement in a
//! DSSE envelope in a Sigstore bundle, signed by a key).

use p256::ecdsa::SigningKey;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::model::ModelFile;
use crate::tdx::pem::{base64, base64_lines};
use crate::tdx::{public_key_info, sign_der};

/// The key's name in a folder: what tools look for.
pub const SIGNATURE: &str = "model.sig";

/// Type of the payload that is signed.
const PAYLOAD: &str = "application/vnd.in-toto+json";

/// A maker of models, the same for the same name.
pub struct Maker(SigningKey);

impl Maker {
    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self(crate::tdx::derived(&[b"maker", name.as_bytes()]))
    }

    /// Its public key, PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        format!("-----BEGIN PUBLIC KEY-----\n{}-----END PUBLIC KEY-----\n", base64_lines(&public_key_info(&self.0)))
    }

    /// A bundle over exactly these files.
    #[must_use]
    pub fn sign(&self, files: &[ModelFile]) -> String {
        let mut files: Vec<&ModelFile> = files.iter().collect();
        files.sort_by(|one, other| one.path.cmp(&other.path));
        let root = files.iter().fold(Sha256::new(), |hash, file| hash.chain_update(file.sha256)).finalize();
        let resources: Vec<_> =
            files.iter().map(|file| json!({ "name": file.path, "algorithm": "sha256", "digest": hex(&file.sha256) })).collect();
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{ "name": "model", "digest": { "sha256": hex(&root) } }],
            "predicateType": "https://model_signing/signature/v1.0",
            "predicate": {
                "serialization": { "method": "files", "hash_type": "sha256", "allow_symlinks": false, "ignore_paths": [SIGNATURE] },
                "resources": resources,
            },
        })
        .to_string();
        // PAE of DSSE: lengths in decimal, parts divided by spaces.
        let signed = format!("DSSEv1 {} {PAYLOAD} {} {statement}", PAYLOAD.len(), statement.len());
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": { "publicKey": { "hint": "" }, "tlogEntries": [] },
            "dsseEnvelope": {
                "payload": base64(statement.as_bytes()),
                "payloadType": PAYLOAD,
                "signatures": [{ "sig": base64(&sign_der(&self.0, signed.as_bytes())), "keyid": "" }],
            },
        })
        .to_string()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
