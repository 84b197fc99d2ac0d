//! ECDSA P-256 with SHA-256, the one signature algorithm of Intel's quotes, certificates, lists and documents.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ParsedPublicKey, UnparsedPublicKey};
use rustls_pki_types::alg_id;

use crate::x509::{Signed, public_key};

/// The key of a certificate, good for signatures of both forms.
pub(crate) struct Key {
    /// r ‖ s: quotes and JSON documents.
    fixed: ParsedPublicKey,
    /// DER: certificates and lists.
    asn1: ParsedPublicKey,
    /// As the certificate has it.
    point: Vec<u8>,
}

impl Key {
    /// The P-256 key in a `SubjectPublicKeyInfo` (with its tag); `None` where it is another or no point of the curve.
    pub(crate) fn of(spki: &[u8]) -> Option<Self> {
        let point = public_key(spki, alg_id::ECDSA_P256).ok().flatten()?;
        let fixed = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).ok()?;
        let asn1 = ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).ok()?;
        Some(Self { fixed, asn1, point: point.to_vec() })
    }

    /// The point (SEC 1, section 2.3.3).
    pub(super) fn point(&self) -> &[u8] {
        &self.point
    }

    /// Whether `signed` says that it is signed by ECDSA with SHA-256.
    pub(super) fn is_algorithm_of(signed: &Signed<'_>) -> bool {
        signed.algorithm == alg_id::ECDSA_SHA256.as_ref()
    }

    /// Whether a certificate or list verifies under this key.
    pub(super) fn signed(&self, signed: &Signed<'_>) -> bool {
        Self::is_algorithm_of(signed) && self.asn1.verify_sig(signed.message, signed.signature).is_ok()
    }

    /// Whether r ‖ s verifies over `message` under this key.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.fixed.verify_sig(message, signature).is_ok()
    }
}

/// Whether r ‖ s verifies over `message` under the key x ‖ y.
pub(super) fn verifies(key: &[u8; 64], message: &[u8], signature: &[u8; 64]) -> bool {
    let mut point = [4; 65];
    if let Some(coordinates) = point.last_chunk_mut() {
        *coordinates = *key;
    }
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point).verify(message, signature).is_ok()
}
