//! Opening by many threads: every chunk is checked, decrypted and written by whoever took it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{CheckedTable, ChunkBuffer, SealedModel};
use crate::error::OpenError;
use crate::geometry::{Chunk, Geometry};
use crate::path::ModelPath;
use crate::source::{Meter, OpenPlaces, RangeSource, SharedSink};
use crate::work::{self, Task, Workers};

/// What opening all files of a model came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Plaintext bytes that lay there from an earlier attempt and were what was sealed.
    pub kept: u64,
}

impl<S: RangeSource + Sync> SealedModel<S> {
    /// Writes the plaintext of all files to `places`, each chunk after it is checked, by as many threads as `workers` says. Where it fails, what
    /// was written is authentic and incomplete.
    ///
    /// # Errors
    /// As [`Self::file`] and [`super::SealedFile::copy_to`]; of several the one that comes first in the order of the manifest.
    pub fn copy_all(&self, places: &dyn OpenPlaces, workers: Workers, meter: &mut Meter<'_>) -> Result<Opened, OpenError> {
        let sizes = self.contents().files().iter().map(|file| file.geometry().chunk_size());
        let Some(largest) = sizes.max() else { return Ok(Opened { kept: 0 }) };
        let shared = Shared { model: self, places, kept: AtomicU64::new(0) };
        work::run(&shared, workers.count(largest), meter)?;
        Ok(Opened { kept: shared.kept.into_inner() })
    }
}

struct Shared<'m, S> {
    model: &'m SealedModel<S>,
    places: &'m dyn OpenPlaces,
    kept: AtomicU64,
}

/// A file that is being opened.
struct SharedFile {
    table: CheckedTable,
    opened: Box<dyn SharedSink>,
}

impl<S: RangeSource + Sync> Task for Shared<'_, S> {
    type Room = ChunkBuffer;
    type File = SharedFile;
    type Output = ();
    type Error = OpenError;

    fn files(&self) -> usize {
        self.model.contents().files().len()
    }

    fn file(&self, index: usize) -> Option<(&ModelPath, u64)> {
        self.model.contents().files().get(index).map(|file| (file.path(), file.geometry().size()))
    }

    fn begin(&self, index: usize) -> Result<(SharedFile, Geometry), OpenError> {
        let no_such_file = || OpenError::NoSuchFile { path: format!("number {index}") };
        let entry = self.model.contents().files().get(index).ok_or_else(no_such_file)?;
        let table = self.model.table(entry)?;
        let io = |error| OpenError::Io { action: "create the opened", path: entry.path().to_string(), error };
        let opened = self.places.opened(entry.path(), entry.geometry().size()).map_err(io)?;
        Ok((SharedFile { table, opened }, entry.geometry()))
    }

    fn expect(&self, file: &SharedFile, offset: u64, length: u64) {
        self.model.source().will_read(&file.table.path, offset, length);
    }

    fn chunk(&self, file: &SharedFile, chunk: Chunk, buffer: &mut ChunkBuffer) -> Result<(), OpenError> {
        let SharedFile { table, opened } = file;
        let io = |action| move |error| OpenError::Io { action, path: table.path.to_string(), error };
        if opened.earlier(chunk.offset, buffer.room(chunk.length)).map_err(io("read the opened"))?
            && table.is_sealed_to(self.model.source(), chunk, buffer)?
        {
            self.kept.fetch_add(u64::try_from(chunk.length).unwrap_or(u64::MAX), Ordering::Relaxed);
            return Ok(());
        }
        let plaintext = table.chunk(self.model.source(), chunk, buffer)?;
        opened.write_at(chunk.offset, plaintext).map_err(io("write the opened"))
    }

    fn end(&self, _: &SharedFile) -> Result<(), OpenError> {
        Ok(())
    }
}
