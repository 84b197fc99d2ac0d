//! Reads forward through bytes: nothing is taken that is not there.

use super::rejection::TdxRejection;

/// A bounded, little-endian reader.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What was not taken yet.
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `N` bytes.
    pub(super) fn take<const N: usize>(&mut self, field: &'static str) -> Result<&'a [u8; N], TdxRejection> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(TdxRejection::QuoteTruncated { field })?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next `length` bytes.
    pub(super) fn slice(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], TdxRejection> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(TdxRejection::QuoteTruncated { field })?;
        self.rest = rest;
        Ok(taken)
    }

    /// As many bytes as the 32-bit length before them says.
    pub(super) fn counted(&mut self, field: &'static str) -> Result<&'a [u8], TdxRejection> {
        let length = usize::try_from(self.u32(field)?).map_err(|_| TdxRejection::QuoteTruncated { field })?;
        self.slice(length, field)
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, TdxRejection> {
        self.take(field).map(|[byte]| *byte)
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, TdxRejection> {
        self.take(field).map(|bytes| u16::from_le_bytes(*bytes))
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, TdxRejection> {
        self.take(field).map(|bytes| u32::from_le_bytes(*bytes))
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, TdxRejection> {
        self.take(field).map(|bytes| u64::from_le_bytes(*bytes))
    }

    /// That nothing follows in `place`.
    pub(super) const fn end(self, place: &'static str) -> Result<(), TdxRejection> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(TdxRejection::CertificationLength { place, left }),
        }
    }
}
