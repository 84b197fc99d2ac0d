//! The soft platform's P-256 keys, derived from names, and the two encodings of their signatures.

use p256::ecdsa::{Signature, SigningKey, signature::Signer};
use sha2::{Digest, Sha256};

use crate::der;

/// The private key that belongs to these labels.
pub(crate) fn derived(labels: &[&[u8]]) -> SigningKey {
    // A hash at or above the group's order is one in 2^32: the counter passes it by.
    (0u8..=u8::MAX)
        .find_map(|counter| {
            let mut seed = Sha256::new_with_prefix(b"portcullis testbed tdx");
            for label in labels {
                seed.update((label.len() as u64).to_be_bytes());
                seed.update(label);
            }
            seed.update([counter]);
            SigningKey::from_slice(&seed.finalize()).ok()
        })
        .expect("256 hashes are not all above the group's order")
}

/// The public point as x and y, big-endian, 32 bytes each: how quotes carry it.
#[must_use]
pub fn coordinates(key: &SigningKey) -> [u8; 64] {
    let point = key.verifying_key().to_sec1_point(false);
    point.as_bytes()[1..].try_into().expect("an uncompressed P-256 point is a tag and 64 bytes")
}

/// `SubjectPublicKeyInfo`, DER (RFC 5480): `id-ecPublicKey` on `prime256v1`.
#[must_use]
pub fn public_key_info(key: &SigningKey) -> Vec<u8> {
    let curve = der::sequence(&[&der::oid("1.2.840.10045.2.1"), &der::oid("1.2.840.10045.3.1.7")]);
    der::sequence(&[&curve, &der::bit_string(&[&[4], coordinates(key).as_slice()].concat())])
}

/// Name of a key in certificates: the first 20 bytes of the SHA-256 of its point (RFC 7093, method 1).
#[must_use]
pub fn key_identifier(key: &SigningKey) -> [u8; 20] {
    let digest = Sha256::new_with_prefix([4u8]).chain_update(coordinates(key)).finalize();
    digest[..20].try_into().expect("20 of 32 bytes")
}

/// ECDSA with SHA-256 as r and s, big-endian, 32 bytes each: how quotes and TCB documents carry it. Deterministic (RFC 6979).
#[must_use]
pub fn sign(key: &SigningKey, message: &[u8]) -> [u8; 64] {
    let signature: Signature = key.sign(message);
    signature.to_bytes().into()
}

/// The same as `Ecdsa-Sig-Value` (RFC 3279): how certificates and lists carry it.
#[must_use]
pub fn sign_der(key: &SigningKey, message: &[u8]) -> Vec<u8> {
    let signature = sign(key, message);
    der::sequence(&[&der::unsigned(&signature[..32]), &der::unsigned(&signature[32..])])
}

/// `AlgorithmIdentifier` of `ecdsa-with-SHA256`: no parameters (RFC 5758).
#[must_use]
pub fn ecdsa_with_sha256() -> Vec<u8> {
    der::sequence(&[&der::oid("1.2.840.10045.4.3.2")])
}
