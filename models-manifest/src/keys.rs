//! The model key, what is derived from it, and the commitment that is checked before the first chunk.

use hkdf::Hkdf;
use protocol::encoding::Fields;
use sha2::Sha256;
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::cipher::CipherFailed;
use crate::path::ModelPath;

/// Makes a public fixed-size byte string of the format; in text it is lower-case hex.
macro_rules! public_bytes {
    ($(#[$doc:meta])* $name:ident, $size:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(#[serde(with = "protocol::encoding::hex")] [u8; $size]);

        impl $name {
            /// From its bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $size]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $size] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}
pub(crate) use public_bytes;

public_bytes!(
    /// Which act of sealing a file belongs to (16 random bytes). It is in every key and every hash.
    SealingId,
    16
);
public_bytes!(
    /// Fresh for each attempt at sealing a file (32 random bytes), so that no nonce is used twice under one key.
    Salt,
    32
);
public_bytes!(
    /// What the manifest says of the model key: derived from it, and of no use to find it.
    KeyCommitment,
    32
);

/// The secret of one sealing, 32 bytes: what a record releases. No `Debug`, no `Clone`; erased when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct ModelKey([u8; 32]);

impl ModelKey {
    /// From its 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(*bytes)
    }

    /// From a released secret.
    ///
    /// # Errors
    /// [`BadModelKey`] where it has not 32 bytes.
    pub fn from_secret(secret: Zeroizing<Vec<u8>>) -> Result<Self, BadModelKey> {
        <[u8; 32]>::try_from(secret.as_slice()).map(Self).map_err(|_| BadModelKey { found: secret.len() })
    }

    /// The bytes, to be wrapped for the broker.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// HKDF-SHA256 without salt: 32 bytes for `info`.
    fn derive(&self, info: &Fields) -> Result<Zeroizing<[u8; 32]>, CipherFailed> {
        let mut derived = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(None, &self.0).expand(info.as_bytes(), derived.as_mut_slice()).map_err(|_| CipherFailed)?;
        Ok(derived)
    }

    /// The commitment to this key in `sealing`.
    ///
    /// # Errors
    /// [`CipherFailed`] where the implementation refuses; none does for 32 bytes.
    pub fn commitment(&self, sealing: &SealingId) -> Result<KeyCommitment, CipherFailed> {
        let info = Fields::new("portcullis/model-key-commitment/v1").field(sealing.as_bytes());
        Ok(KeyCommitment(*self.derive(&info)?))
    }

    /// Whether `commitment` is to this key, in constant time.
    ///
    /// # Errors
    /// [`CipherFailed`] as in [`Self::commitment`].
    pub fn matches(&self, sealing: &SealingId, commitment: &KeyCommitment) -> Result<bool, CipherFailed> {
        Ok(self.commitment(sealing)?.0.ct_eq(&commitment.0).into())
    }

    /// The key of one file.
    ///
    /// # Errors
    /// [`CipherFailed`] as in [`Self::commitment`].
    pub fn file_key(&self, sealing: &SealingId, path: &ModelPath, salt: &Salt) -> Result<FileKey, CipherFailed> {
        let info = Fields::new("portcullis/model-file-key/v1").field(sealing.as_bytes()).field(path.as_str()).field(salt.as_bytes());
        self.derive(&info).map(FileKey)
    }
}

/// Not a model key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a model key of {found} bytes: expected 32")]
pub struct BadModelKey {
    /// The number of bytes.
    pub found: usize,
}

/// The key of one sealed file, 32 bytes. No `Debug`, no `Clone`; erased when dropped.
pub struct FileKey(Zeroizing<[u8; 32]>);

impl FileKey {
    /// The bytes, for a cipher.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> ModelKey {
        ModelKey::from_bytes(Zeroizing::new([byte; 32]))
    }

    #[test]
    fn a_commitment_is_to_one_key_in_one_sealing() {
        let (one, two) = (SealingId([1; 16]), SealingId([2; 16]));
        let commitment = key(7).commitment(&one).unwrap();
        assert!(key(7).matches(&one, &commitment).unwrap());
        assert!(!key(8).matches(&one, &commitment).unwrap());
        assert!(!key(7).matches(&two, &commitment).unwrap());
    }

    #[test]
    fn sealing_path_and_salt_each_change_the_file_key() {
        let path = |text: &str| text.parse::<ModelPath>().unwrap();
        let derive = |sealing, text, salt| *key(7).file_key(&SealingId([sealing; 16]), &path(text), &Salt([salt; 32])).unwrap().0;
        let base = derive(1, "a", 1);
        assert_eq!(base, derive(1, "a", 1));
        for other in [derive(2, "a", 1), derive(1, "b", 1), derive(1, "a", 2)] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn a_released_secret_of_another_size_is_no_model_key() {
        for size in [0, 31, 33] {
            assert_eq!(ModelKey::from_secret(Zeroizing::new(vec![1; size])).err(), Some(BadModelKey { found: size }));
        }
        assert_eq!(ModelKey::from_secret(Zeroizing::new(vec![1; 32])).unwrap().as_bytes(), &[1; 32]);
    }
}
