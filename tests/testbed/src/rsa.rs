//! The committed RSA-4096 test keys and deterministic RSASSA-PSS signatures under them (RFC 8017 sections 5.2.1 and 9.1.1).
//!
//! A salt that is derived from the message makes every certificate the same bytes in every process. That is sound for PSS, and it lets
//! hash, mask hash and salt length be chosen one by one, which signing libraries do not offer.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use crypto_bigint::modular::{FixedMontyForm, FixedMontyParams};
use crypto_bigint::{NonZero, Odd, U2048, U4096};
use sha2::{Digest, Sha256, Sha384, Sha512};

use crate::der;

/// Bytes of an RSA-4096 modulus and signature.
const MODULUS_LENGTH: usize = 512;

/// A hash function that RSASSA-PSS parameters can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// SHA-256, 32 bytes.
    Sha256,
    /// SHA-384, 48 bytes: what AMD uses.
    Sha384,
    /// SHA-512, 64 bytes.
    Sha512,
}

impl Hash {
    /// The digest of `bytes`.
    #[must_use]
    pub fn digest(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha384 => Sha384::digest(bytes).to_vec(),
            Self::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }

    /// `AlgorithmIdentifier` with explicit `NULL` parameters, as in AMD's certificates.
    fn identifier(self) -> Vec<u8> {
        let oid = match self {
            Self::Sha256 => "2.16.840.1.101.3.4.2.1",
            Self::Sha384 => "2.16.840.1.101.3.4.2.2",
            Self::Sha512 => "2.16.840.1.101.3.4.2.3",
        };
        der::sequence(&[&der::oid(oid), &der::NULL])
    }

    /// MGF1 (RFC 8017 section B.2.1): `length` bytes from `seed`.
    fn mask(self, seed: &[u8], length: usize) -> Vec<u8> {
        let blocks = (0u32..).map(|counter| self.digest(&[seed, &counter.to_be_bytes()].concat()));
        blocks.take(length.div_ceil(32)).flatten().take(length).collect()
    }
}

/// Whether `trailerField` stands in the parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trailer {
    /// Encoded with this value: 1 in AMD's CA certificates and in VCEKs until about 2024, although DER forbids encoding a default.
    Explicit(u8),
    /// Left out: newer VCEKs, VLEKs and revocation lists.
    Omitted,
}

/// RSASSA-PSS parameters (RFC 8017 section A.2.3). What is signed with them is signed exactly so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PssParameters {
    /// Hash of the message.
    pub hash: Hash,
    /// Hash inside MGF1.
    pub mask_hash: Hash,
    /// Salt length in bytes.
    pub salt_length: u16,
    /// The trailer field.
    pub trailer: Trailer,
}

impl PssParameters {
    /// SHA-384, MGF1 with SHA-384, 48 bytes of salt, trailer field 1 written out.
    pub const AMD: Self = Self { hash: Hash::Sha384, mask_hash: Hash::Sha384, salt_length: 48, trailer: Trailer::Explicit(1) };

    /// The same without the trailer field.
    pub const AMD_WITHOUT_TRAILER: Self = Self { trailer: Trailer::Omitted, ..Self::AMD };

    /// `AlgorithmIdentifier` of `id-RSASSA-PSS` with these parameters, DER.
    #[must_use]
    pub fn identifier(&self) -> Vec<u8> {
        let mask = der::sequence(&[&der::oid("1.2.840.113549.1.1.8"), &self.mask_hash.identifier()]);
        let mut parameters =
            vec![der::context(0, &self.hash.identifier()), der::context(1, &mask), der::context(2, &der::integer(self.salt_length.into()))];
        if let Trailer::Explicit(value) = self.trailer {
            parameters.push(der::context(3, &der::integer(value.into())));
        }
        der::sequence(&[&der::oid("1.2.840.113549.1.1.10"), &der::element(0x30, &parameters.concat())])
    }
}

/// A test key: RSA-4096, private.
pub struct RsaKey {
    modulus: Vec<u8>,
    exponent: Vec<u8>,
    first: Prime,
    second: Prime,
    coefficient: U2048,
}

/// One prime of a key and the private exponent reduced by it.
struct Prime {
    value: U2048,
    exponent: U2048,
}

impl RsaKey {
    /// Reads `RSAPrivateKey` (RFC 8017 section A.1.2).
    ///
    /// # Panics
    /// When `der` is not a two-prime RSA-4096 key: the keys are committed files.
    #[must_use]
    pub fn from_der(der: &[u8]) -> Self {
        let fields = integers(der);
        let [_version, modulus, exponent, _private, p, q, dp, dq, coefficient] = fields.as_slice() else {
            panic!("a two-prime RSAPrivateKey has nine integers, found {}", fields.len());
        };
        assert_eq!(modulus.len(), MODULUS_LENGTH, "test keys are RSA-4096");
        Self {
            modulus: modulus.clone(),
            exponent: exponent.clone(),
            first: Prime { value: number(p), exponent: number(dp) },
            second: Prime { value: number(q), exponent: number(dq) },
            coefficient: number(coefficient),
        }
    }

    /// `SubjectPublicKeyInfo`, DER.
    #[must_use]
    pub fn public_key_info(&self) -> Vec<u8> {
        let algorithm = der::sequence(&[&der::oid("1.2.840.113549.1.1.1"), &der::NULL]);
        der::sequence(&[&algorithm, &der::bit_string(&self.public_key())])
    }

    /// `RSAPublicKey`, DER.
    fn public_key(&self) -> Vec<u8> {
        der::sequence(&[&der::unsigned(&self.modulus), &der::unsigned(&self.exponent)])
    }

    /// 20 bytes that name the public key: SHA-256 of it, cut (RFC 7093 section 2, method 1).
    #[must_use]
    pub fn key_identifier(&self) -> Vec<u8> {
        Sha256::digest(self.public_key())[..20].to_vec()
    }

    /// The RSASSA-PSS signature of `message`, 512 bytes. Signatures are remembered, since tests ask for the same ones again and again.
    #[must_use]
    pub fn sign(&self, message: &[u8], parameters: &PssParameters) -> Vec<u8> {
        static REMEMBERED: OnceLock<Mutex<HashMap<[u8; 32], Vec<u8>>>> = OnceLock::new();
        let remembered = REMEMBERED.get_or_init(Mutex::default);
        let mut name = Sha256::new_with_prefix(&self.modulus);
        name.update(parameters.identifier());
        name.update(message);
        let name: [u8; 32] = name.finalize().into();
        if let Some(signature) = remembered.lock().unwrap_or_else(PoisonError::into_inner).get(&name) {
            return signature.clone();
        }
        let signature = self.private_operation(&encode(message, parameters));
        remembered.lock().unwrap_or_else(PoisonError::into_inner).insert(name, signature.clone());
        signature
    }

    /// RSASP1 by the Chinese remainder theorem (RFC 8017 section 5.2.1).
    fn private_operation(&self, encoded: &[u8]) -> Vec<u8> {
        let message = U4096::from_be_slice(encoded);
        let first = self.first.power(&message);
        let second = self.second.power(&message);
        let modulus = self.first.parameters();
        let difference = FixedMontyForm::new(&first, &modulus) - FixedMontyForm::new(&self.first.reduce(&second.resize()), &modulus);
        let factor = (difference * FixedMontyForm::new(&self.coefficient, &modulus)).retrieve();
        let signature: U4096 = factor.concatenating_mul(&self.second.value).wrapping_add(&second.resize());
        signature.to_be_bytes().as_slice().to_vec()
    }
}

impl Prime {
    fn parameters(&self) -> FixedMontyParams<{ U2048::LIMBS }> {
        FixedMontyParams::new_vartime(Odd::new(self.value).expect("a prime of RSA is odd"))
    }

    fn reduce(&self, value: &U4096) -> U2048 {
        let modulus = NonZero::new(self.value.resize::<{ U4096::LIMBS }>()).expect("a prime is not zero");
        value.rem_vartime(&modulus).resize()
    }

    fn power(&self, message: &U4096) -> U2048 {
        FixedMontyForm::new(&self.reduce(message), &self.parameters()).pow_vartime(&self.exponent).retrieve()
    }
}

/// EMSA-PSS-ENCODE for a 4096-bit modulus, with a salt drawn from the message's own hash.
fn encode(message: &[u8], parameters: &PssParameters) -> Vec<u8> {
    let digest = parameters.hash.digest(message);
    let salt = parameters.hash.mask(&[b"salt".as_slice(), &digest].concat(), parameters.salt_length.into());
    let hash = parameters.hash.digest(&[[0; 8].as_slice(), &digest, &salt].concat());
    let mut block = vec![0; MODULUS_LENGTH - hash.len() - 1];
    let salt_start = block.len() - salt.len();
    block[salt_start - 1] = 1;
    block[salt_start..].copy_from_slice(&salt);
    for (byte, mask) in block.iter_mut().zip(parameters.mask_hash.mask(&hash, MODULUS_LENGTH - hash.len() - 1)) {
        *byte ^= mask;
    }
    block[0] &= 0x7f;
    [block, hash, vec![0xbc]].concat()
}

/// The big-endian contents of the `INTEGER`s in a `SEQUENCE`, leading zeros removed.
fn integers(der: &[u8]) -> Vec<Vec<u8>> {
    let (_, mut rest, _) = element(der);
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (tag, content, after) = element(rest);
        assert_eq!(tag, 0x02, "an RSAPrivateKey holds integers only");
        found.push(content[content.iter().position(|byte| *byte != 0).unwrap_or(content.len())..].to_vec());
        rest = after;
    }
    found
}

/// Tag, content and what follows of the first element.
fn element(der: &[u8]) -> (u8, &[u8], &[u8]) {
    let (length, start) = match der[1] {
        short @ 0..=0x7f => (usize::from(short), 2),
        long => {
            let count = usize::from(long & 0x7f);
            (der[2..2 + count].iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), 2 + count)
        }
    };
    (der[0], &der[start..start + length], &der[start + length..])
}

/// A number of at most 2048 bits from big-endian bytes.
fn number(bytes: &[u8]) -> U2048 {
    let mut padded = [0; MODULUS_LENGTH / 2];
    padded[MODULUS_LENGTH / 2 - bytes.len()..].copy_from_slice(bytes);
    U2048::from_be_slice(&padded)
}
