//! The one signature algorithm of AMD's certificates and revocation lists: RSASSA-PSS by a 4096-bit key, SHA-384, MGF1 with
//! SHA-384, salt of 48 bytes (AMD 57230, section 3).

use aws_lc_rs::signature::{RSA_PSS_2048_8192_SHA384, VerificationAlgorithm as _};
use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id};

use crate::x509::{Signed, public_key};

/// Bytes of a signature by an RSA key of 4096 bits.
const SIGNATURE: usize = 512;

/// RSASSA-PSS under one of the two encodings of its parameters that AMD uses.
#[derive(Debug)]
struct AmdPss {
    identifier: AlgorithmIdentifier,
}

/// Parameters with the trailer field spelled out, though it has its default value: certificates until 2024.
static EXPLICIT_TRAILER: AmdPss = AmdPss {
    identifier: AlgorithmIdentifier::from_slice(&[
        0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a, // OID id-RSASSA-PSS
        0x30, 0x39, // RSASSA-PSS-params
        0xa0, 0x0f, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, // [0] SHA-384
        0xa1, 0x1c, 0x30, 0x1a, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08, // [1] MGF1 with
        0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, //     SHA-384
        0xa2, 0x03, 0x02, 0x01, 0x30, // [2] salt of 48 bytes
        0xa3, 0x03, 0x02, 0x01, 0x01, // [3] trailer 1
    ]),
};

/// The same without the trailer field, as DER wants it: certificates since then, and revocation lists.
static DEFAULT_TRAILER: AmdPss = AmdPss { identifier: alg_id::RSA_PSS_SHA384 };

/// What a certificate of the chain may be signed by.
pub(super) static ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[&DEFAULT_TRAILER, &EXPLICIT_TRAILER];

impl SignatureVerificationAlgorithm for AmdPss {
    fn verify_signature(&self, public_key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        if signature.len() != SIGNATURE {
            return Err(InvalidSignature);
        }
        RSA_PSS_2048_8192_SHA384.verify_sig(public_key, message, signature).map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::RSA_ENCRYPTION
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.identifier
    }
}

/// Whether `signed` verifies under `key`, a `SubjectPublicKeyInfo` with its tag.
pub(super) fn is_signed_by(signed: &Signed<'_>, key: &[u8]) -> bool {
    let algorithm = ALGORITHMS.iter().find(|algorithm| algorithm.signature_alg_id().as_ref() == signed.algorithm);
    match (algorithm, public_key(key, alg_id::RSA_ENCRYPTION)) {
        (Some(algorithm), Ok(Some(key))) => algorithm.verify_signature(key, signed.message, signed.signature).is_ok(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::{KeyPair, KeySize};
    use aws_lc_rs::signature::{KeyPair as _, RSA_PSS_SHA384};

    #[test]
    fn a_key_has_4096_bits_and_no_other_size_will_do() {
        for (size, will_do) in [(KeySize::Rsa2048, false), (KeySize::Rsa3072, false), (KeySize::Rsa4096, true)] {
            let pair = KeyPair::generate(size).unwrap();
            let mut signature = vec![0; pair.public_modulus_len()];
            pair.sign(&RSA_PSS_SHA384, &SystemRandom::new(), b"message", &mut signature).unwrap();
            let signed = Signed { message: b"message", body: b"", algorithm: alg_id::RSA_PSS_SHA384.as_ref(), signature: &signature };
            let key: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
            assert_eq!(is_signed_by(&signed, key.as_ref()), will_do, "{size:?}");
            assert!(!is_signed_by(&Signed { message: b"another", ..signed }, key.as_ref()));
        }
    }
}
