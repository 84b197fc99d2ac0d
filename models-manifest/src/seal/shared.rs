//! Sealing by many threads: chunks are encrypted as they come, and their entries go into the table in order.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, PoisonError};

use super::{FileSealing, Started, TableWriter, read_error};
use crate::error::SealError;
use crate::geometry::{Chunk, Geometry};
use crate::keys::Salt;
use crate::manifest::FileEntry;
use crate::path::ModelPath;
use crate::source::{PlainSource, SealPlaces, SharedSink};
use crate::tree::{Entry, TreeRoot};
use crate::work::Task;

/// Files to seal, each with its salt.
pub(super) struct Shared<'s> {
    pub(super) sealing: Started<'s>,
    pub(super) files: &'s [(ModelPath, u64)],
    pub(super) salts: Vec<Salt>,
    pub(super) places: &'s dyn SealPlaces,
}

/// A file that is being sealed.
pub(super) struct SharedFile<'s> {
    path: &'s ModelPath,
    sealing: FileSealing,
    plaintext: Box<dyn PlainSource>,
    sealed: Box<dyn SharedSink>,
    table: Mutex<Table>,
}

/// The table as far as its entries are known. Work is handed out in order, so no more of them wait than threads have in hand.
struct Table {
    /// Taken once, when the file ends.
    writer: Option<TableWriter>,
    next: u64,
    waiting: BTreeMap<u64, Entry>,
}

impl Table {
    /// Takes the entry of chunk `index`; the blocks that this fills.
    fn put(&mut self, index: u64, entry: Entry) -> Vec<(u64, Vec<u8>)> {
        self.waiting.insert(index, entry);
        let mut full = Vec::new();
        while let (Some(entry), Some(writer)) = (self.waiting.remove(&self.next), &mut self.writer) {
            full.extend(writer.push(&entry));
            self.next = self.next.saturating_add(1);
        }
        full
    }
}

impl SharedFile<'_> {
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), SealError> {
        self.sealed.write_at(offset, bytes).map_err(|error| self.io("write the sealed", error))
    }

    fn io(&self, action: &'static str, error: io::Error) -> SealError {
        SealError::Io { action, path: self.path.to_string(), error }
    }

    /// Writes what is left of the table; the root. None before every entry is there, and the second time.
    fn close_table(&self) -> Result<Option<TreeRoot>, SealError> {
        let writer = self.table.lock().unwrap_or_else(PoisonError::into_inner).writer.take();
        let Some((offset, block, root)) = writer.map(TableWriter::finish) else { return Ok(None) };
        if !block.is_empty() {
            self.write(offset, &block)?;
        }
        Ok(Some(root))
    }
}

impl<'s> Task for Shared<'s> {
    type Room = Vec<u8>;
    type File = SharedFile<'s>;
    type Output = FileEntry;
    type Error = SealError;

    fn files(&self) -> usize {
        self.files.len()
    }

    fn file(&self, index: usize) -> Option<(&ModelPath, u64)> {
        self.files.get(index).map(|(path, size)| (path, *size))
    }

    fn begin(&self, index: usize) -> Result<(Self::File, Geometry), SealError> {
        let (Some((path, size)), Some(salt)) = (self.files.get(index), self.salts.get(index)) else {
            return Err(SealError::Io { action: "find", path: index.to_string(), error: io::ErrorKind::NotFound.into() });
        };
        let sealing = self.sealing.file(path, *size, *salt)?;
        let geometry = sealing.geometry;
        let plaintext = self.places.plaintext(path, *size)?;
        let sealed = self.places.sealed(path, geometry.sealed_size())?;
        let table = Table { writer: Some(TableWriter::new(&sealing)), next: 0, waiting: BTreeMap::new() };
        Ok((SharedFile { path, sealing, plaintext, sealed, table: Mutex::new(table) }, geometry))
    }

    fn expect(&self, file: &Self::File, offset: u64, length: u64) {
        file.plaintext.will_read(offset, length);
    }

    fn chunk(&self, file: &Self::File, chunk: Chunk, buffer: &mut Vec<u8>) -> Result<(), SealError> {
        buffer.resize(chunk.length, 0);
        file.plaintext.read_at(chunk.offset, buffer).map_err(|error| read_error(file.path, error))?;
        let entry = file.sealing.chunk(chunk, buffer)?;
        file.write(chunk.offset, buffer)?;
        let full = file.table.lock().unwrap_or_else(PoisonError::into_inner).put(chunk.position.index, entry);
        full.iter().try_for_each(|(offset, block)| file.write(*offset, block))
    }

    fn end(&self, file: &Self::File) -> Result<FileEntry, SealError> {
        let changed = || SealError::SourceChanged { path: file.path.clone() };
        if !file.plaintext.is_unchanged().map_err(|error| file.io("open", error))? {
            return Err(changed());
        }
        let root = file.close_table()?.ok_or_else(changed)?;
        Ok(FileEntry::new(file.path.clone(), file.sealing.geometry, file.sealing.salt, root))
    }
}
