//! AES-256-GCM over one chunk, in place, by two implementations that read each other's files.

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::geometry::{ChunkPosition, TAG};
use crate::keys::FileKey;

/// Which implementation encrypts. The bytes are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// `aws-lc-rs`: assembly, 10 GB/s on one core where the other reaches 2.4.
    #[default]
    AwsLc,
    /// `aes-gcm`: Rust alone.
    Portable,
}

impl Backend {
    /// The cipher of one file. The key is erased when this returns but for the implementation's own expanded form.
    ///
    /// # Errors
    /// [`CipherFailed`] where the implementation refuses the key; neither refuses 32 bytes.
    pub fn cipher(self, key: FileKey) -> Result<Box<dyn ChunkCipher>, CipherFailed> {
        match self {
            Self::AwsLc => {
                let unbound = UnboundKey::new(&AES_256_GCM, key.as_bytes()).map_err(|_| CipherFailed)?;
                Ok(Box::new(AwsLc(LessSafeKey::new(unbound))))
            }
            Self::Portable => Ok(Box::new(Portable(Box::new(Aes256Gcm::new(key.as_bytes().into()))))),
        }
    }
}

/// AES-256-GCM under the key of one file. A chunk's nonce is its index, so a key seals each index once: whoever
/// seals a file anew draws a new salt and with it has a new key ([`crate::seal`]).
pub trait ChunkCipher: Send + Sync {
    /// Encrypts `chunk` in place; its tag.
    ///
    /// # Errors
    /// [`CipherFailed`] where the implementation refuses; neither does below 64 GiB.
    fn seal(&self, position: ChunkPosition, chunk: &mut [u8]) -> Result<[u8; TAG], CipherFailed>;

    /// Checks `tag` and decrypts `chunk` in place. On an error the content of `chunk` means nothing and goes nowhere.
    ///
    /// # Errors
    /// [`BadTag`] where the tag is not that of this chunk at this position under this key.
    fn open(&self, position: ChunkPosition, chunk: &mut [u8], tag: &[u8; TAG]) -> Result<(), BadTag>;
}

/// By `aws-lc-rs`.
struct AwsLc(LessSafeKey);

impl ChunkCipher for AwsLc {
    fn seal(&self, position: ChunkPosition, chunk: &mut [u8]) -> Result<[u8; TAG], CipherFailed> {
        let nonce = Nonce::assume_unique_for_key(position.nonce());
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(position.additional_data()), chunk).map_err(|_| CipherFailed)?;
        tag.as_ref().try_into().map_err(|_| CipherFailed)
    }

    fn open(&self, position: ChunkPosition, chunk: &mut [u8], tag: &[u8; TAG]) -> Result<(), BadTag> {
        let nonce = Nonce::assume_unique_for_key(position.nonce());
        self.0.open_in_place_separate_tag(nonce, Aad::from(position.additional_data()), tag, chunk).map(|_| ()).map_err(|_| BadTag)
    }
}

/// By `aes-gcm`. Boxed: its round keys are large.
struct Portable(Box<Aes256Gcm>);

impl ChunkCipher for Portable {
    fn seal(&self, position: ChunkPosition, chunk: &mut [u8]) -> Result<[u8; TAG], CipherFailed> {
        let sealed = self.0.encrypt_inout_detached(&position.nonce().into(), &position.additional_data(), chunk.into());
        sealed.map(Into::into).map_err(|_| CipherFailed)
    }

    fn open(&self, position: ChunkPosition, chunk: &mut [u8], tag: &[u8; TAG]) -> Result<(), BadTag> {
        let opened = self.0.decrypt_inout_detached(&position.nonce().into(), &position.additional_data(), chunk.into(), &(*tag).into());
        opened.map_err(|_| BadTag)
    }
}

/// The cipher's implementation refused to work at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cipher refused to work")]
pub struct CipherFailed;

/// The tag is not that of the chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tag is not that of the chunk")]
pub struct BadTag;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Finality;
    use crate::keys::{ModelKey, Salt, SealingId};
    use zeroize::Zeroizing;

    fn cipher(backend: Backend, byte: u8) -> Box<dyn ChunkCipher> {
        let key = ModelKey::from_bytes(Zeroizing::new([byte; 32]));
        let path = "a".parse().unwrap();
        backend.cipher(key.file_key(&SealingId::from_bytes([1; 16]), &path, &Salt::from_bytes([2; 32])).unwrap()).unwrap()
    }

    const AT: ChunkPosition = ChunkPosition { index: 3, finality: Finality::More };

    #[test]
    fn both_backends_make_the_same_bytes_and_read_each_other() {
        for length in [0, 1, 15, 16, 17, 1000, 65_536] {
            let plaintext: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let (mut one, mut two) = (plaintext.clone(), plaintext.clone());
            let tag = cipher(Backend::AwsLc, 7).seal(AT, &mut one).unwrap();
            assert_eq!(cipher(Backend::Portable, 7).seal(AT, &mut two).unwrap(), tag);
            assert_eq!(one, two);
            cipher(Backend::Portable, 7).open(AT, &mut one, &tag).unwrap();
            cipher(Backend::AwsLc, 7).open(AT, &mut two, &tag).unwrap();
            assert_eq!((one, two), (plaintext.clone(), plaintext));
        }
    }

    #[test]
    fn a_tag_speaks_for_its_key_index_finality_and_bytes() {
        for backend in [Backend::AwsLc, Backend::Portable] {
            let mut sealed = *b"sixteen bytes...";
            let tag = cipher(backend, 7).seal(AT, &mut sealed).unwrap();
            let mut changed = sealed;
            changed[0] ^= 1;
            let mut wrong_tag = tag;
            wrong_tag[15] ^= 0x80;
            let refused = |key, at, mut chunk: [u8; 16], tag| cipher(backend, key).open(at, &mut chunk, &tag);
            assert_eq!(refused(8, AT, sealed, tag), Err(BadTag));
            assert_eq!(refused(7, ChunkPosition { index: 4, ..AT }, sealed, tag), Err(BadTag));
            assert_eq!(refused(7, ChunkPosition { finality: Finality::Final, ..AT }, sealed, tag), Err(BadTag));
            assert_eq!(refused(7, AT, changed, tag), Err(BadTag));
            assert_eq!(refused(7, AT, sealed, wrong_tag), Err(BadTag));
            assert_eq!(refused(7, AT, sealed, tag), Ok(()));
        }
    }
}
