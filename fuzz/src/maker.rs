//! Whoever released a model: a key of P-256 that signs statements of OpenSSF Model Signing.

use std::sync::OnceLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use models_manifest::signature::ModelSigner;
use protocol::dsse::pae;
use protocol::encoding::to_base64;

const TYPE: &str = "application/vnd.in-toto+json";

/// A SubjectPublicKeyInfo of P-256 before its point.
const PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01,
    0x07, 0x03, 0x42, 0x00,
];

/// The key and its public half; fresh in every process.
///
/// # Panics
/// Where no key can be made.
pub fn maker() -> &'static (EcdsaKeyPair, ModelSigner) {
    static MAKER: OnceLock<(EcdsaKeyPair, ModelSigner)> = OnceLock::new();
    MAKER.get_or_init(|| {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("a key");
        let der = [&PREFIX, pair.public_key().as_ref()].concat();
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", to_base64(&der));
        (pair, pem.parse().expect("a signer"))
    })
}

/// A bundle over `payload`, signed as it is.
///
/// # Panics
/// Where signing fails.
#[must_use]
pub fn sign(payload: &[u8]) -> Vec<u8> {
    let signature = maker().0.sign(&SystemRandom::new(), &pae(TYPE, payload)).expect("a signature");
    format!(
        r#"{{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{{"publicKey":{{}},"tlogEntries":[]}},"dsseEnvelope":{{"payload":"{}","payloadType":"{TYPE}","signatures":[{{"sig":"{}","keyid":""}}]}}}}"#,
        to_base64(payload),
        to_base64(signature.as_ref())
    )
    .into_bytes()
}

/// A statement over one file, as the other implementation lays it out.
pub const STATEMENT: &str = r#"{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"tiny","digest":{"sha256":"66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"}}],"predicateType":"https://model_signing/signature/v1.0","predicate":{"serialization":{"method":"files","hash_type":"sha256","allow_symlinks":false,"ignore_paths":["model.sig"]},"resources":[{"name":"a","algorithm":"sha256","digest":"0000000000000000000000000000000000000000000000000000000000000000"}]}}"#;
