//! Ed25519 keys: of the installation root, of publishers and authorities, of the broker's identity and log, of guests.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;
use zeroize::Zeroizing;

use crate::encoding::{Fields, from_base64, to_base64};
use crate::ids::{Digest, NoRandomness, random_bytes};

/// An Ed25519 public key (32 bytes, RFC 8032). In text: `ed25519:` and base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// From its 32 bytes. Whether they are a point of the curve shows at the first [`Self::verify`].
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What a signature names its key by.
    #[must_use]
    pub fn id(&self) -> KeyId {
        KeyId(Fields::new("portcullis/key-id/v1").field(self.0).sha256())
    }

    /// Checks `signature` over `message`.
    ///
    /// # Errors
    /// [`BadSignature`] where it is not this key's.
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), BadSignature> {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, &signature.0).map_err(|_| BadSignature)
    }
}

/// The prefix of a public key's text form.
const PREFIX: &str = "ed25519:";

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", to_base64(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = BadKey;
    fn from_str(text: &str) -> Result<Self, BadKey> {
        let bytes = text.strip_prefix(PREFIX).and_then(from_base64).ok_or(BadKey::Public)?;
        bytes.try_into().map(Self).map_err(|_| BadKey::Public)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The digest by which a signature names its key. A hint for finding the key, never a reason to trust it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(Digest);

impl KeyId {
    /// The digest.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An Ed25519 signature (64 bytes).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signature([u8; 64]);

impl Signature {
    /// From its 64 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The 64 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&to_base64(&self.0))
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let bytes = from_base64(&text).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| de::Error::custom("not a signature: expected 64 bytes of base64"))
    }
}

/// An Ed25519 private key. It has no `Debug` and no `Clone`; its seed leaves it only through [`Self::seed`].
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl SigningKey {
    /// A fresh key.
    ///
    /// # Errors
    /// [`BadKey::NoRandomness`] where the operating system gives no random bytes.
    pub fn generate() -> Result<Self, BadKey> {
        let seed = Zeroizing::new(random_bytes::<32>()?);
        Self::from_seed(&seed)
    }

    /// From the 32-byte seed of RFC 8032.
    ///
    /// # Errors
    /// [`BadKey::Seed`] where the implementation refuses it.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, BadKey> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| BadKey::Seed)?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| BadKey::Seed)?;
        Ok(Self { pair, public: PublicKey(public) })
    }

    /// The seed, for a key file ([`crate::keyfile`]).
    ///
    /// # Errors
    /// [`BadKey::Seed`] where the implementation does not give it.
    pub fn seed(&self) -> Result<Zeroizing<[u8; 32]>, BadKey> {
        let seed = self.pair.seed().map_err(|_| BadKey::Seed)?;
        let bytes: aws_lc_rs::encoding::Curve25519SeedBin<'_> =
            aws_lc_rs::encoding::AsBigEndian::as_be_bytes(&seed).map_err(|_| BadKey::Seed)?;
        bytes.as_ref().try_into().map(Zeroizing::new).map_err(|_| BadKey::Seed)
    }

    /// Its public half.
    #[must_use]
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs `message`.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        let mut bytes = [0; 64];
        for (to, from) in bytes.iter_mut().zip(self.pair.sign(message).as_ref()) {
            *to = *from;
        }
        Signature(bytes)
    }
}

/// The signature is not this key's over this message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct BadSignature;

/// Why a key cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// Not a public key's text form.
    #[error("not a public key: expected ed25519: and 32 bytes of base64")]
    Public,
    /// Not a usable seed.
    #[error("not a usable private key")]
    Seed,
    /// No random bytes for a new key.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_speaks_for_its_own_message_and_key_only() {
        let key = SigningKey::from_seed(&[7; 32]).unwrap();
        let signature = key.sign(b"message");
        assert_eq!(key.public().verify(b"message", &signature), Ok(()));
        assert_eq!(key.public().verify(b"Message", &signature), Err(BadSignature));
        let other = SigningKey::from_seed(&[8; 32]).unwrap();
        assert_eq!(other.public().verify(b"message", &signature), Err(BadSignature));
    }

    #[test]
    fn text_forms_are_exact() {
        let key = SigningKey::from_seed(&[7; 32]).unwrap();
        let text = key.public().to_string();
        assert_eq!(text.parse(), Ok(*key.public()));
        assert_eq!(text.trim_start_matches(PREFIX).parse::<PublicKey>(), Err(BadKey::Public));
        assert_eq!(format!("{text}=").parse::<PublicKey>(), Err(BadKey::Public));
        assert_eq!(*key.seed().unwrap(), [7; 32]);
    }
}
