//! Where bytes come from and go to, and who watches.

use std::io;
use std::ops::ControlFlow;

use crate::error::SealError;
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

    /// That this range of the sealed file at `path` will be read soon, chunk by chunk. A source may fetch it ahead; it need not.
    fn will_read(&self, _path: &ModelPath, _offset: u64, _length: u64) {}

    /// That what was read of the sealed file at `path` is not what was sealed. A source that keeps what it was given keeps none of it, so
    /// that who reads again is given what lies there then.
    fn forget(&self, _path: &ModelPath) {}
}

impl<S: RangeSource + ?Sized> RangeSource for &S {
    fn length(&self, path: &ModelPath) -> io::Result<u64> {
        (**self).length(path)
    }

    fn read_at(&self, path: &ModelPath, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        (**self).read_at(path, offset, buffer)
    }

    fn will_read(&self, path: &ModelPath, offset: u64, length: u64) {
        (**self).will_read(path, offset, length);
    }

    fn forget(&self, path: &ModelPath) {
        (**self).forget(path);
    }
}

/// Where one file is written to by one thread. Sealing writes a file's bytes in order but for the table, of which it writes a block
/// whenever one is full; opening writes in order.
pub trait RangeSink {
    /// Writes all of `bytes` from byte `offset` on.
    ///
    /// # Errors
    /// The sink's own.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
}

/// Where the plaintext of one file comes from, by positions, for many threads at once.
pub trait PlainSource: Send + Sync {
    /// Fills `buffer` from byte `offset` on.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] where the file ends before; any other where it cannot be read.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Whether it is still the file that it was when it was opened, and ends where it did; asked when all of it was read.
    ///
    /// # Errors
    /// Where that cannot be told.
    fn is_unchanged(&self) -> io::Result<bool>;

    /// That this range will be read soon.
    fn will_read(&self, _offset: u64, _length: u64) {}
}

/// Where one file is written to by positions, by many threads at once.
pub trait SharedSink: Send + Sync {
    /// Writes all of `bytes` from byte `offset` on.
    ///
    /// # Errors
    /// The sink's own.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Fills `buffer` with what an earlier attempt may have left there, and says whether it may have left anything. Nothing is believed of it:
    /// it is checked against the sealed file before it counts as opened.
    ///
    /// # Errors
    /// Where what is there cannot be read.
    fn earlier(&self, _offset: u64, _buffer: &mut [u8]) -> io::Result<bool> {
        Ok(false)
    }
}

/// The files of a model that is sealed: where each comes from and goes to.
pub trait SealPlaces: Sync {
    /// The plaintext of the file at `path`, which has to have `size` bytes.
    ///
    /// # Errors
    /// [`SealError`]; [`SealError::SourceChanged`] where it has another size.
    fn plaintext(&self, path: &ModelPath, size: u64) -> Result<Box<dyn PlainSource>, SealError>;

    /// Where its sealed file goes, of so many bytes.
    ///
    /// # Errors
    /// [`SealError`].
    fn sealed(&self, path: &ModelPath, size: u64) -> Result<Box<dyn SharedSink>, SealError>;
}

/// Where the files of a model go that is opened.
pub trait OpenPlaces: Sync {
    /// Where the plaintext of the file at `path` goes, of so many bytes.
    ///
    /// # Errors
    /// Its own.
    fn opened(&self, path: &ModelPath, size: u64) -> io::Result<Box<dyn SharedSink>>;
}

/// How far an operation is. All numbers are plaintext bytes. Where many threads work, those of one file need not be its first.
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

/// Watches an operation and may end it. It hears from the thread that began the operation, after each chunk of this one; where others work
/// beside it, the numbers include what they did.
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
        self.reach(path, self.done.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX)), file_done, file_total)
    }

    /// Plaintext bytes done so far.
    pub(crate) const fn done(&self) -> u64 {
        self.done
    }

    /// Tells that `done` bytes of all are done, and `file_done` of `file_total` of the file at `path`.
    pub(crate) fn reach(&mut self, path: &ModelPath, done: u64, file_done: u64, file_total: u64) -> Result<(), Cancelled> {
        self.done = done;
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
