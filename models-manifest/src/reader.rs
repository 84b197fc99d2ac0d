//! Random access to a sealed model, for many threads at once: what a FUSE mount or a loader reads through.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::error::OpenError;
use crate::manifest::Contents;
use crate::open::{CheckedTable, ChunkBuffer, SealedModel};
use crate::source::RangeSource;

/// Idle buffers kept for the next reads, with the chunks that they hold (bytes): small reads in a row then decrypt each chunk once.
const IDLE_BUFFERS: usize = 32 * 1024 * 1024;

/// Reads any range of any file; every chunk it touches is checked before a byte of it is handed out. Each file's table is
/// read and checked at the file's first use.
pub struct Reader<S> {
    model: SealedModel<S>,
    tables: Vec<OnceLock<CheckedTable>>,
    idle: Mutex<Vec<ChunkBuffer>>,
}

impl<S: RangeSource> Reader<S> {
    /// Over an unlocked model. Reads nothing yet.
    #[must_use]
    pub fn new(model: SealedModel<S>) -> Self {
        let tables = model.contents().files().iter().map(|_| OnceLock::new()).collect();
        Self { model, tables, idle: Mutex::default() }
    }

    /// What the manifest says.
    #[must_use]
    pub const fn contents(&self) -> &Contents {
        self.model.contents()
    }

    /// The model.
    #[must_use]
    pub const fn model(&self) -> &SealedModel<S> {
        &self.model
    }

    /// Fills `buffer` with plaintext from byte `offset` on of the file at `path`; the number of bytes, which is less than
    /// asked for only at the file's end. Where it fails, `buffer` holds plaintext of checked chunks or what it held before.
    ///
    /// # Errors
    /// As [`SealedModel::file`] and [`crate::SealedFile::chunk`].
    pub fn read_at(&self, path: &str, offset: u64, buffer: &mut [u8]) -> Result<usize, OpenError> {
        let no_such_file = || OpenError::NoSuchFile { path: path.to_owned() };
        let index = self.contents().find(path).ok_or_else(no_such_file)?;
        self.read_file_at(index, offset, buffer)
    }

    /// The same for file `index` of [`Contents::files`].
    ///
    /// # Errors
    /// As [`Self::read_at`].
    pub fn read_file_at(&self, index: usize, offset: u64, buffer: &mut [u8]) -> Result<usize, OpenError> {
        let read = self.read_checked(index, offset, buffer);
        if let (Err(error), Some(entry)) = (&read, self.contents().files().get(index))
            && !matches!(error, OpenError::Io { .. } | OpenError::FileMissing { .. } | OpenError::Cipher(_))
        {
            self.model.source().forget(entry.path());
        }
        read
    }

    fn read_checked(&self, index: usize, offset: u64, buffer: &mut [u8]) -> Result<usize, OpenError> {
        let table = self.table(index)?;
        let (first, _) = table.geometry().locate(offset);
        let mut held = self.take(table, first);
        let read = self.fill(table, offset, buffer, &mut held);
        self.give_back(held);
        read
    }

    fn fill(&self, table: &CheckedTable, offset: u64, buffer: &mut [u8], held: &mut ChunkBuffer) -> Result<usize, OpenError> {
        let (first, mut skip) = table.geometry().locate(offset);
        let mut rest = buffer;
        let mut read: usize = 0;
        for chunk in (first..).map_while(|index| table.geometry().chunk(index)) {
            if rest.is_empty() {
                break;
            }
            let wanted = table.chunk(self.model.source(), chunk, held)?.get(skip..).unwrap_or_default();
            skip = 0;
            let length = wanted.len().min(rest.len());
            let Some((to, more)) = rest.split_at_mut_checked(length) else { break };
            to.copy_from_slice(wanted.get(..length).unwrap_or_default());
            read = read.saturating_add(length);
            rest = more;
        }
        Ok(read)
    }

    fn table(&self, index: usize) -> Result<&CheckedTable, OpenError> {
        let no_such_file = || OpenError::NoSuchFile { path: format!("number {index}") };
        let entry = self.contents().files().get(index).ok_or_else(no_such_file)?;
        let slot = self.tables.get(index).ok_or_else(no_such_file)?;
        match slot.get() {
            Some(table) => Ok(table),
            None => {
                // Two threads may both read it; each checks what it read, and one result stays.
                let table = self.model.table(entry)?;
                Ok(slot.get_or_init(|| table))
            }
        }
    }

    /// An idle buffer, at best one that holds the chunk.
    fn take(&self, table: &CheckedTable, chunk: u64) -> ChunkBuffer {
        let mut idle = self.idle();
        match idle.iter().position(|buffer| buffer.holds(table.identity(), chunk)) {
            Some(at) => idle.swap_remove(at),
            None => idle.pop().unwrap_or_default(),
        }
    }

    fn give_back(&self, buffer: ChunkBuffer) {
        let mut idle = self.idle();
        let kept: usize = idle.iter().map(ChunkBuffer::size).sum();
        if kept.saturating_add(buffer.size()) <= IDLE_BUFFERS {
            idle.push(buffer);
        }
    }

    /// A thread that panicked leaves whole buffers behind, each of which knows what it holds.
    fn idle(&self) -> MutexGuard<'_, Vec<ChunkBuffer>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
