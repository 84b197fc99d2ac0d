//! Files read and written by positions.

use rustix::fs::{Advice, SeekFrom, fadvise, seek};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::num::NonZero;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use super::open_regular;
use crate::source::{PlainSource, SharedSink};

/// Plaintext to seal.
pub(super) struct PlainFile {
    file: File,
    pub(super) size: u64,
    /// When it was modified: seconds and nanoseconds.
    modified: (i64, i64),
}

impl PlainFile {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = open_regular(path)?;
        let metadata = file.metadata()?;
        Ok(Self { file, size: metadata.len(), modified: (metadata.mtime(), metadata.mtime_nsec()) })
    }
}

impl PlainSource for PlainFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn is_unchanged(&self) -> io::Result<bool> {
        let after = self.file.metadata()?;
        Ok((after.len(), (after.mtime(), after.mtime_nsec())) == (self.size, self.modified))
    }

    fn will_read(&self, offset: u64, length: u64) {
        will_read(&self.file, offset, length);
    }
}

/// A file in the making.
pub(super) struct NewFile {
    pub(super) file: File,
    pub(super) origin: Origin,
}

/// Whether anything can lie in a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// It was made just now.
    New,
    /// It was there.
    Earlier,
}

impl SharedSink for NewFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn earlier(&self, offset: u64, buffer: &mut [u8]) -> io::Result<bool> {
        if self.origin == Origin::New || !has_data(&self.file, offset, buffer.len())? {
            return Ok(false);
        }
        self.file.read_exact_at(buffer, offset)?;
        Ok(true)
    }
}

/// Whether anything was written to this range; where nothing was there is a hole.
fn has_data(file: &File, offset: u64, length: usize) -> io::Result<bool> {
    match seek(file, SeekFrom::Data(offset)) {
        Ok(data) => Ok(data < offset.saturating_add(u64::try_from(length).unwrap_or(u64::MAX))),
        // Nothing from there on.
        Err(Errno::NXIO) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Lets the system fetch a range ahead. That it does not is no failure.
pub(super) fn will_read(file: &File, offset: u64, length: u64) {
    let _ = fadvise(file, offset, NonZero::new(length), Advice::WillNeed);
}
