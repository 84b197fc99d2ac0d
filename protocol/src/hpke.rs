//! The one wrapping suite: RFC 9180 base mode with X-Wing (MLKEM768-X25519, 0x647a), HKDF-SHA256, AES-256-GCM.
//!
//! The key schedule and the AEAD are the `hpke` crate's (over `hkdf` and `aes-gcm`). The KEM below is X-Wing
//! (draft-connolly-cfrg-xwing-kem) over `aws-lc-rs`: a release pays for one encapsulation and one decapsulation, and
//! those should cost no more than their floor. Tests cross it with the `hpke` crate's own X-Wing in both directions.
//!
//! Base mode does not authenticate the sender: whatever must come from somebody is signed besides.

use std::fmt;
use std::sync::Arc;

use ::hpke::aead::AesGcm256;
use ::hpke::hybrid_array::sizes::{U32, U1120, U1216};
use ::hpke::kdf::HkdfSha256;
use ::hpke::kem::SharedSecret;
use ::hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use aws_lc_rs::agreement::{EphemeralPrivateKey, PrivateKey, UnparsedPublicKey, X25519, agree, agree_ephemeral};
use aws_lc_rs::digest::{SHA3_256, digest};
use aws_lc_rs::kem::{Ciphertext, DecapsulationKey, EncapsulationKey, ML_KEM_768};
use aws_lc_rs::rand::SystemRandom;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use subtle::{Choice, ConstantTimeEq};
use zeroize::{Zeroize, Zeroizing};

use crate::encoding::{Fields, from_base64, to_base64};
use crate::ids::{Digest, NoRandomness, random_bytes};

/// The size of an X-Wing public key (bytes): ML-KEM-768's 1184, then X25519's 32.
pub const RECIPIENT_KEY: usize = 1216;
/// The size of an X-Wing encapsulation (bytes): ML-KEM-768's 1088, then X25519's 32.
pub const ENCAPSULATION: usize = 1120;
/// The size of ML-KEM-768's part of a public key, and of an encapsulation.
const ML_KEM_KEY: usize = 1184;
const ML_KEM_CIPHERTEXT: usize = 1088;

/// Who can open what is sealed to it: an X-Wing public key. In JSON: base64.
#[derive(Clone, PartialEq, Eq)]
pub struct RecipientKey(Box<[u8; RECIPIENT_KEY]>);

impl RecipientKey {
    /// From its 1216 bytes. Whether ML-KEM accepts them (FIPS 203, 7.2) shows when something is sealed to it.
    ///
    /// # Errors
    /// [`HpkeError::RecipientKey`] for any other length.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HpkeError> {
        bytes.try_into().map(|array| Self(Box::new(array))).map_err(|_| HpkeError::RecipientKey)
    }

    /// The 1216 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; RECIPIENT_KEY] {
        &self.0
    }

    /// What an envelope names its recipient by.
    #[must_use]
    pub fn id(&self) -> Digest {
        Fields::new("portcullis/recipient-id/v1").field(self.as_bytes()).sha256()
    }
}

impl fmt::Debug for RecipientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecipientKey({})", self.id())
    }
}

impl Serialize for RecipientKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&to_base64(self.as_bytes()))
    }
}

impl<'de> Deserialize<'de> for RecipientKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        from_base64(&text).and_then(|bytes| Self::from_bytes(&bytes).ok()).ok_or_else(|| de::Error::custom(HpkeError::RecipientKey))
    }
}

/// The private half: a 32-byte seed, and what it expands to. It has no `Debug`; cloning shares the one copy.
#[derive(Clone)]
pub struct RecipientSecret(Arc<Expanded>);

struct Expanded {
    seed: Zeroizing<[u8; 32]>,
    ml_kem: DecapsulationKey,
    x25519: PrivateKey,
    public: RecipientKey,
}

impl RecipientSecret {
    /// A fresh one.
    ///
    /// # Errors
    /// [`HpkeError::NoRandomness`] where the operating system gives no random bytes.
    pub fn generate() -> Result<Self, HpkeError> {
        Self::from_seed(&Zeroizing::new(random_bytes()?))
    }

    /// Expands a 32-byte seed: `SHAKE256(seed, 96)` gives ML-KEM's `d ‖ z` and the X25519 scalar.
    ///
    /// # Errors
    /// [`HpkeError::Seed`] where an implementation refuses what it expands to.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, HpkeError> {
        let (ml_kem_seed, scalar) = expand(seed);
        let (ml_kem, ml_kem_public) = ml_kem_from_seed(&ml_kem_seed)?;
        let x25519 = PrivateKey::from_private_key(&X25519, scalar.as_ref()).map_err(|_| HpkeError::Seed)?;
        let x25519_public = x25519.compute_public_key().map_err(|_| HpkeError::Seed)?;
        let public = RecipientKey::from_bytes(&[ml_kem_public.as_slice(), x25519_public.as_ref()].concat())?;
        Ok(Self(Arc::new(Expanded { seed: Zeroizing::new(*seed), ml_kem, x25519, public })))
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &RecipientKey {
        &self.0.public
    }

    /// The seed, for a key file.
    #[must_use]
    pub fn seed(&self) -> &[u8; 32] {
        &self.0.seed
    }
}

/// X-Wing's expansion of a seed: 64 bytes for ML-KEM-768, 32 for X25519.
fn expand(seed: &[u8; 32]) -> (Zeroizing<[u8; 64]>, Zeroizing<[u8; 32]>) {
    use shake::digest::{ExtendableOutput, Update, XofReader};
    let mut shake = shake::Shake256::default();
    shake.update(seed);
    let mut reader = shake.finalize_xof();
    let (mut ml_kem, mut x25519) = (Zeroizing::new([0; 64]), Zeroizing::new([0; 32]));
    reader.read(ml_kem.as_mut());
    reader.read(x25519.as_mut());
    (ml_kem, x25519)
}

/// ML-KEM-768's key pair from `d ‖ z`. Only the portable implementation takes a seed; only `aws-lc-rs` is fast.
/// They meet at FIPS 203's expanded decapsulation key, which never leaves this function.
#[expect(deprecated, reason = "the portable crate discourages storing expanded keys, and this stores none")]
fn ml_kem_from_seed(seed: &[u8; 64]) -> Result<(DecapsulationKey, Vec<u8>), HpkeError> {
    use ml_kem::{ExpandedKeyEncoding, KeyExport};
    let portable = ml_kem::DecapsulationKey::<ml_kem::MlKem768>::from_seed((*seed).into());
    let mut expanded = portable.to_expanded_bytes();
    let fast = DecapsulationKey::new(&ML_KEM_768, &expanded).map_err(|_| HpkeError::Seed);
    expanded.as_mut_slice().zeroize();
    Ok((fast?, portable.encapsulation_key().to_bytes().to_vec()))
}

/// One sealed message: the encapsulated key (1120 bytes), and the ciphertext with its 16-byte tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// HPKE's `enc`.
    #[serde(with = "crate::encoding::base64")]
    pub enc: Vec<u8>,
    /// HPKE's `ct`.
    #[serde(with = "crate::encoding::base64")]
    pub ciphertext: Vec<u8>,
}

/// Seals one message to `recipient`. Opening needs the same `info` and `aad`.
///
/// # Errors
/// [`HpkeError::RecipientKey`] where the key is no valid X-Wing key; [`HpkeError::Seal`] where the implementation fails.
pub fn seal(recipient: &RecipientKey, info: &[u8], aad: &[u8], plaintext: &[u8]) -> Result<Sealed, HpkeError> {
    // XWing below draws its randomness inside aws-lc-rs and never asks this generator.
    let (enc, ciphertext) = ::hpke::single_shot_seal::<AesGcm256, HkdfSha256, XWing>(&OpModeS::Base, recipient, info, plaintext, aad)
        .map_err(|error| if error == ::hpke::HpkeError::EncapError { HpkeError::RecipientKey } else { HpkeError::Seal })?;
    Ok(Sealed { enc: enc.0.to_vec(), ciphertext })
}

/// Opens one message.
///
/// # Errors
/// [`HpkeError::Open`] for a wrong key, `info`, `aad`, or any changed byte.
pub fn open(secret: &RecipientSecret, info: &[u8], aad: &[u8], sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, HpkeError> {
    let enc = Encapsulated::from_bytes(&sealed.enc).map_err(|_| HpkeError::Open)?;
    ::hpke::single_shot_open::<AesGcm256, HkdfSha256, XWing>(&OpModeR::Base, secret, &enc, info, &sealed.ciphertext, aad)
        .map(Zeroizing::new)
        .map_err(|_| HpkeError::Open)
}

/// X-Wing over `aws-lc-rs`, as a KEM of the `hpke` crate.
struct XWing;

#[derive(Clone)]
struct Encapsulated(Box<[u8; ENCAPSULATION]>);

impl Kem for XWing {
    type PublicKey = RecipientKey;
    type PrivateKey = RecipientSecret;
    type EncappedKey = Encapsulated;
    type NSecret = U32;
    const KEM_ID: u16 = 0x647a;

    fn sk_to_pk(secret: &RecipientSecret) -> RecipientKey {
        secret.public().clone()
    }

    /// Two drafts define this differently; nothing here calls it.
    fn derive_keypair(_: &[u8]) -> (RecipientSecret, RecipientKey) {
        unreachable!("keys are made by RecipientSecret::generate")
    }

    fn decap(
        secret: &RecipientSecret,
        sender: Option<&RecipientKey>,
        encapsulated: &Encapsulated,
    ) -> Result<SharedSecret<Self>, ::hpke::HpkeError> {
        let failed = ::hpke::HpkeError::DecapError;
        let (Some((ct_m, ct_x)), None) = (encapsulated.0.split_at_checked(ML_KEM_CIPHERTEXT), sender) else { return Err(failed) };
        let (_, pk_x) = secret.public().0.split_at_checked(ML_KEM_KEY).ok_or(failed)?;
        let ss_m = secret.0.ml_kem.decapsulate(Ciphertext::from(ct_m)).map_err(|_| failed)?;
        agree(&secret.0.x25519, UnparsedPublicKey::new(&X25519, ct_x), failed, |ss_x| Ok(combine(ss_m.as_ref(), ss_x, ct_x, pk_x)))
    }

    fn encap_with_rng(
        recipient: &RecipientKey,
        sender: Option<(&RecipientSecret, &RecipientKey)>,
        _: &mut impl ::hpke::rand_core::CryptoRng,
    ) -> Result<(SharedSecret<Self>, Encapsulated), ::hpke::HpkeError> {
        let failed = ::hpke::HpkeError::EncapError;
        let (Some((pk_m, pk_x)), None) = (recipient.0.split_at_checked(ML_KEM_KEY), sender) else { return Err(failed) };
        let (ct_m, ss_m) = EncapsulationKey::new(&ML_KEM_768, pk_m).map_err(|_| failed)?.encapsulate().map_err(|_| failed)?;
        let ephemeral = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new()).map_err(|_| failed)?;
        let ct_x = ephemeral.compute_public_key().map_err(|_| failed)?;
        let peer = UnparsedPublicKey::new(&X25519, pk_x);
        let shared = agree_ephemeral(ephemeral, peer, failed, |ss_x| Ok(combine(ss_m.as_ref(), ss_x, ct_x.as_ref(), pk_x)))?;
        let encapsulated = Encapsulated::from_bytes(&[ct_m.as_ref(), ct_x.as_ref()].concat()).map_err(|_| failed)?;
        Ok((shared, encapsulated))
    }
}

/// X-Wing's combiner: `SHA3-256(ss_M ‖ ss_X ‖ ct_X ‖ pk_X ‖ label)`.
fn combine(ss_m: &[u8], ss_x: &[u8], ct_x: &[u8], pk_x: &[u8]) -> SharedSecret<XWing> {
    let input = Zeroizing::new([ss_m, ss_x, ct_x, pk_x, br"\.//^\"].concat());
    let mut shared = SharedSecret::<XWing>::default();
    for (to, from) in shared.0.iter_mut().zip(digest(&SHA3_256, &input).as_ref()) {
        *to = *from;
    }
    shared
}

/// How the `hpke` crate reads and writes fixed-size values. `write_exact` gets a buffer of exactly this size.
macro_rules! fixed_size {
    ($type:ty, $size:ty, |$value:ident| $bytes:expr, |$input:ident| $from:expr) => {
        impl Serializable for $type {
            type OutputSize = $size;
            fn write_exact(&self, buffer: &mut [u8]) {
                let $value = self;
                for (to, from) in buffer.iter_mut().zip($bytes.iter()) {
                    *to = *from;
                }
            }
        }
        impl Deserializable for $type {
            fn from_bytes($input: &[u8]) -> Result<Self, ::hpke::HpkeError> {
                $from.ok_or(::hpke::HpkeError::ValidationError)
            }
        }
    };
}
fixed_size!(RecipientKey, U1216, |key| key.0, |bytes| RecipientKey::from_bytes(bytes).ok());
fixed_size!(RecipientSecret, U32, |secret| secret.0.seed, |bytes| bytes
    .try_into()
    .ok()
    .and_then(|seed| RecipientSecret::from_seed(seed).ok()));
fixed_size!(Encapsulated, U1120, |enc| enc.0, |bytes| bytes.try_into().ok().map(|array| Encapsulated(Box::new(array))));

impl ConstantTimeEq for RecipientSecret {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.seed().ct_eq(other.seed())
    }
}

/// Why a message cannot be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HpkeError {
    /// Not an X-Wing public key.
    #[error("not an HPKE recipient key: expected 1216 bytes of a valid X-Wing public key")]
    RecipientKey,
    /// Not a usable seed.
    #[error("not a usable HPKE seed")]
    Seed,
    /// The implementation failed to seal.
    #[error("sealing failed")]
    Seal,
    /// Wrong key, wrong context, or changed bytes.
    #[error("the sealed message does not open: wrong recipient, wrong context, or changed bytes")]
    Open,
    /// No random bytes for a new key.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::hpke::kem::XWing as Portable;

    const INFO: &[u8] = b"info";
    const AAD: &[u8] = b"aad";

    fn secret() -> RecipientSecret {
        RecipientSecret::from_seed(&[7; 32]).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_in_the_same_context_only() {
        let sealed = seal(secret().public(), INFO, AAD, b"secret").unwrap();
        assert_eq!(**open(&secret(), INFO, AAD, &sealed).unwrap(), *b"secret");
        assert_eq!(open(&secret(), b"other", AAD, &sealed).unwrap_err(), HpkeError::Open);
        assert_eq!(open(&secret(), INFO, b"other", &sealed).unwrap_err(), HpkeError::Open);
        let other = RecipientSecret::from_seed(&[8; 32]).unwrap();
        assert_eq!(open(&other, INFO, AAD, &sealed).unwrap_err(), HpkeError::Open);
    }

    #[test]
    fn any_changed_byte_is_refused() {
        let sealed = seal(secret().public(), INFO, AAD, b"secret").unwrap();
        for at in [0, ML_KEM_CIPHERTEXT - 1, ML_KEM_CIPHERTEXT, ENCAPSULATION - 1] {
            let mut changed = sealed.clone();
            changed.enc[at] ^= 1;
            assert_eq!(open(&secret(), INFO, AAD, &changed).unwrap_err(), HpkeError::Open, "enc byte {at}");
        }
        for at in 0..sealed.ciphertext.len() {
            let mut changed = sealed.clone();
            changed.ciphertext[at] ^= 1;
            assert_eq!(open(&secret(), INFO, AAD, &changed).unwrap_err(), HpkeError::Open, "ciphertext byte {at}");
        }
        let mut short = sealed.clone();
        short.enc.pop();
        assert_eq!(open(&secret(), INFO, AAD, &short).unwrap_err(), HpkeError::Open);
        let all_zero_point = Sealed { enc: [&sealed.enc[..ML_KEM_CIPHERTEXT], &[0; 32]].concat(), ..sealed };
        assert_eq!(open(&secret(), INFO, AAD, &all_zero_point).unwrap_err(), HpkeError::Open);
    }

    #[test]
    fn an_ill_formed_recipient_key_is_refused() {
        assert_eq!(RecipientKey::from_bytes(&[0; 1215]).unwrap_err(), HpkeError::RecipientKey);
        let not_reduced = RecipientKey::from_bytes(&[0xff; 1216]).unwrap();
        assert_eq!(seal(&not_reduced, INFO, AAD, b"secret").unwrap_err(), HpkeError::RecipientKey);
        // A point of low order: X25519 with it gives zero, whoever computes it.
        for point in [[0; 32], std::array::from_fn(|at| u8::from(at == 0))] {
            let low_order = [&secret().public().as_bytes()[..ML_KEM_KEY], &point].concat();
            let low_order = RecipientKey::from_bytes(&low_order).unwrap();
            assert_eq!(seal(&low_order, INFO, AAD, b"secret").unwrap_err(), HpkeError::RecipientKey);
        }
    }

    #[test]
    fn the_portable_implementation_opens_what_ours_seals() {
        let sealed = seal(secret().public(), INFO, AAD, b"secret").unwrap();
        let portable = <Portable as Kem>::PrivateKey::from_bytes(&[7; 32]).unwrap();
        assert_eq!(*Portable::sk_to_pk(&portable).to_bytes(), *secret().public().as_bytes());
        let enc = <Portable as Kem>::EncappedKey::from_bytes(&sealed.enc).unwrap();
        let opened =
            ::hpke::single_shot_open::<AesGcm256, HkdfSha256, Portable>(&OpModeR::Base, &portable, &enc, INFO, &sealed.ciphertext, AAD)
                .unwrap();
        assert_eq!(opened, b"secret");
    }

    #[test]
    fn ours_opens_what_the_portable_implementation_seals() {
        let key = <Portable as Kem>::PublicKey::from_bytes(secret().public().as_bytes()).unwrap();
        let (enc, ciphertext) =
            ::hpke::single_shot_seal::<AesGcm256, HkdfSha256, Portable>(&OpModeS::Base, &key, INFO, b"secret", AAD).unwrap();
        let sealed = Sealed { enc: enc.to_bytes().to_vec(), ciphertext };
        assert_eq!(**open(&secret(), INFO, AAD, &sealed).unwrap(), *b"secret");
    }
}
