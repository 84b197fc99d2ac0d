//! ECDSA P-256 with SHA-256, the one signature algorithm of Intel's quotes, certificates, lists and documents.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ParsedPublicKey, UnparsedPublicKey};
use rustls_pki_types::alg_id;

use crate::x509::{Signed, public_key};

/// The key of an authority, which signs certificates and revocation lists and nothing else: signatures in DER.
pub(crate) struct IssuerKey(ParsedPublicKey);

impl IssuerKey {
    /// The P-256 key in a `SubjectPublicKeyInfo` (with its tag); `None` where it is another or no point of the curve.
    pub(super) fn of(spki: &[u8]) -> Option<Self> {
        ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point(spki)?).ok().map(Self)
    }

    /// Whether a certificate or list says that it is signed by ECDSA with SHA-256.
    pub(super) fn is_algorithm_of(signed: &Signed<'_>) -> bool {
        signed.algorithm == alg_id::ECDSA_SHA256.as_ref()
    }

    /// Whether a certificate or list verifies under this key.
    pub(super) fn signed(&self, signed: &Signed<'_>) -> bool {
        Self::is_algorithm_of(signed) && self.0.verify_sig(signed.message, signed.signature).is_ok()
    }
}

/// The key of an end entity, which signs quoting enclaves' reports or documents and no certificate: signatures of r ‖ s.
pub(super) struct SignerKey {
    key: ParsedPublicKey,
    point: Vec<u8>,
}

impl SignerKey {
    /// The P-256 key in a `SubjectPublicKeyInfo` (with its tag); `None` where it is another or no point of the curve.
    pub(super) fn of(spki: &[u8]) -> Option<Self> {
        let point = point(spki)?;
        Some(Self { key: ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).ok()?, point: point.to_vec() })
    }

    /// The point (SEC 1, section 2.3.3).
    pub(super) fn point(&self) -> &[u8] {
        &self.point
    }

    /// Whether r ‖ s verifies over `message` under this key.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.key.verify_sig(message, signature).is_ok()
    }
}

fn point(spki: &[u8]) -> Option<&[u8]> {
    public_key(spki, alg_id::ECDSA_P256).ok().flatten()
}

/// Whether r ‖ s verifies over `message` under the key x ‖ y.
pub(super) fn verifies(key: &[u8; 64], message: &[u8], signature: &[u8; 64]) -> bool {
    let mut point = [4; 65];
    if let Some(coordinates) = point.last_chunk_mut() {
        *coordinates = *key;
    }
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point).verify(message, signature).is_ok()
}
