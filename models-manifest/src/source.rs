//! Where bytes come from and go to, and who watches.

use std::io;
use std::ops::ControlFlow;

use crate::path::ModelPath;

/// Where a sealed model's files are read from, by ranges: a folder, an object store, a test.
///
/// Not trusted: what it gives is checked, each time. It may be asked for the same range twice and may answer differently;
/// the second answer is held to the first.
pub trait RangeSource {
    /// The size of the sealed file at `path`, in bytes.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] where there is no such file; any other where it cannot be told.
    fn length(&self, path: &ModelPath) -> io::Result<u64>;

    /// Fills `buffer` from byte `offset` on of the sealed file at `path`.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] where the file ends before; any other where it cannot be read.
    fn read_at(&self, path: &ModelPath, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl<S: RangeSource + ?Sized> RangeSource for &S {
    fn length(&self, path: &ModelPath) -> io::Result<u64> {
        (**self).length(path)
    }

    fn read_at(&self, path: &ModelPath, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        (**self).read_at(path, offset, buffer)
    }
}

/// Where one file is written to. Sealing writes a file's bytes in order but for the table, of which it writes a block
/// whenever one is full; opening writes in order.
pub trait RangeSink {
    /// Writes all of `bytes` from byte `offset` on.
    ///
    /// # Errors
    /// The sink's own.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
}

/// How far an operation is. All numbers are plaintext bytes.
#[derive(Clone, Copy, Debug)]
pub struct Advance<'a> {
    /// The file that is worked on.
    pub path: &'a ModelPath,
    /// Of that file.
    pub file_done: u64,
    /// That file's size.
    pub file_total: u64,
    /// Of all files.
    pub done: u64,
    /// All files' size.
    pub total: u64,
}

/// Watches an operation, after each chunk, and may end it.
pub trait Progress {
    /// Takes note; [`ControlFlow::Break`] ends the operation, which then leaves nothing behind.
    fn advance(&mut self, advance: Advance<'_>) -> ControlFlow<()>;
}

/// Nobody watches.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Progress for Silent {
    fn advance(&mut self, _: Advance<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Adds up what is done over all files, for a [`Progress`].
pub struct Meter<'p> {
    progress: &'p mut dyn Progress,
    done: u64,
    total: u64,
}

impl<'p> Meter<'p> {
    /// For an operation on `total` plaintext bytes.
    pub fn new(total: u64, progress: &'p mut dyn Progress) -> Self {
        Self { progress, done: 0, total }
    }

    /// Tells of `bytes` more, with which the file at `path` stands at `file_done` of `file_total`.
    pub(crate) fn advance(&mut self, path: &ModelPath, bytes: usize, file_done: u64, file_total: u64) -> Result<(), Cancelled> {
        self.done = self.done.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        match self.progress.advance(Advance { path, file_done, file_total, done: self.done, total: self.total }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Cancelled),
        }
    }
}

/// Whoever watched has ended the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cancelled")]
pub struct Cancelled;
