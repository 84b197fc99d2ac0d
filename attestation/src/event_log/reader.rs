//! Reads forward through a log, and knows where it is.

use super::error::EventLogError;

/// What is left of the log, or of one field of it.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// Where `rest` ends, in bytes from the start of the log.
    end: usize,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(log: &'a [u8]) -> Self {
        Self { rest: log, end: log.len() }
    }

    /// Where the next byte stands in the log.
    pub(super) const fn offset(&self) -> usize {
        self.end.saturating_sub(self.rest.len())
    }

    /// Everything not read yet.
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn take(&mut self, count: usize, field: &'static str) -> Result<&'a [u8], EventLogError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(|| self.truncated(count, field))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn chunk<const N: usize>(&mut self, field: &'static str) -> Result<&'a [u8; N], EventLogError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(|| self.truncated(N, field))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, EventLogError> {
        self.chunk(field).map(|bytes| u8::from_le_bytes(*bytes))
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, EventLogError> {
        self.chunk(field).map(|bytes| u16::from_le_bytes(*bytes))
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, EventLogError> {
        self.chunk(field).map(|bytes| u32::from_le_bytes(*bytes))
    }

    /// A field that begins with its length, as a reader of its own.
    pub(super) fn sized(&mut self, field: &'static str) -> Result<Self, EventLogError> {
        let length = self.u32(field)?;
        let rest = self.take(usize::try_from(length).unwrap_or(usize::MAX), field)?;
        Ok(Self { rest, end: self.offset() })
    }

    const fn truncated(&self, expected: usize, field: &'static str) -> EventLogError {
        EventLogError::Truncated { field, offset: self.offset(), expected, found: self.rest.len() }
    }
}
