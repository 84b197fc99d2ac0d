//! What files hold, as far as sealing cares: weights that are data, and files that run code when they are loaded.
//!
//! Every reader here takes bytes from outside: the publisher downloaded them. They decide what is refused and what the manifest
//! says of tensors; nothing that opens a model depends on them.

use crate::error::SealError;

pub mod archive;
mod json;
pub mod pickle;
pub mod safetensors;

pub(crate) use json::Unique;

/// One file's plaintext, by ranges: of a folder before sealing, of the sealed file after it.
pub trait Plaintext {
    /// Its bytes.
    fn size(&self) -> u64;

    /// Fills `buffer` from byte `offset` on.
    ///
    /// # Errors
    /// Where the file ends before, or cannot be read.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), SealError>;

    /// The bytes from `offset` on, at most `most` of them.
    ///
    /// # Errors
    /// As [`Self::read_at`].
    fn read(&self, offset: u64, most: usize) -> Result<Vec<u8>, SealError> {
        let rest = usize::try_from(self.size().saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; rest.min(most)];
        self.read_at(offset, &mut bytes)?;
        Ok(bytes)
    }
}
