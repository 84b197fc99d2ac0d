//! Plaintext to sealed files: one pass over each, in constant memory. [`Sealing::file`] takes one file from a stream, by one thread;
//! [`Sealing::files`] takes many by positions, by many.

use protocol::dsse::SignedDocument;
use protocol::ids::{Name, NoRandomness, Version, random_bytes};
use protocol::keys::SigningKey;
use protocol::limits;
use std::io::{ErrorKind, Read};
use zeroize::Zeroizing;

use crate::cipher::{Backend, ChunkCipher};
use crate::error::SealError;
use crate::geometry::{Chunk, ChunkSize, Geometry};
use crate::keys::{ModelKey, Salt, SealingId};
use crate::manifest::{Contents, FileEntry, ManifestError};
use crate::path::ModelPath;
use crate::source::{Meter, RangeSink, SealPlaces};
use crate::tree::{Entry, Identity, TableBuilder, Tree, TreeRoot};
use crate::work::{self, Workers};

mod shared;

use shared::Shared;

/// Where keys, ids and salts come from: the operating system; in this crate's tests, a counter, so that vectors stay the same.
pub(crate) trait Entropy: Send {
    fn draw(&mut self) -> Result<Zeroizing<[u8; 32]>, NoRandomness>;
}

/// The operating system.
struct System;

impl Entropy for System {
    fn draw(&mut self) -> Result<Zeroizing<[u8; 32]>, NoRandomness> {
        random_bytes().map(Zeroizing::new)
    }
}

/// One act of sealing: a fresh model key and id, under which files are sealed one after the other.
pub struct Sealing {
    id: SealingId,
    key: ModelKey,
    chunk_size: ChunkSize,
    backend: Backend,
    entropy: Box<dyn Entropy>,
}

/// What sealing made, beside the files.
pub struct Sealed {
    /// The secret to wrap for the broker. Whoever drops it has sealed for nobody.
    pub key: ModelKey,
    /// The signed manifest; its digest goes into the model's statement.
    pub document: SignedDocument,
    /// What the manifest says.
    pub contents: Contents,
}

impl Sealing {
    /// Draws a model key and an id.
    ///
    /// # Errors
    /// [`SealError::NoRandomness`] where the operating system has no random bytes.
    pub fn begin(chunk_size: ChunkSize, backend: Backend) -> Result<Self, SealError> {
        Self::begin_with(chunk_size, backend, Box::new(System))
    }

    pub(crate) fn begin_with(chunk_size: ChunkSize, backend: Backend, mut entropy: Box<dyn Entropy>) -> Result<Self, SealError> {
        let key = ModelKey::from_bytes(entropy.draw()?);
        let id = SealingId::from_bytes(first_half(&*entropy.draw()?));
        Ok(Self { id, key, chunk_size, backend, entropy })
    }

    /// Seals one file: `size` bytes from `source`, which must end there. Each call draws a new salt, and with it the file has a
    /// new key: an attempt that failed is repeated by calling again, and what it wrote is worthless.
    ///
    /// # Errors
    /// [`SealError::SourceChanged`] where the source is shorter or longer; [`SealError::Manifest`] where the file is too large;
    /// [`SealError::Io`] from source and sink; [`SealError::Cancelled`].
    pub fn file(
        &mut self,
        path: &ModelPath,
        size: u64,
        source: &mut dyn Read,
        sink: &mut dyn RangeSink,
        meter: &mut Meter<'_>,
    ) -> Result<FileEntry, SealError> {
        let salt = Salt::from_bytes(*self.entropy.draw()?);
        let sealing = self.started().file(path, size, salt)?;
        let mut table = TableWriter::new(&sealing);
        let mut buffer = Vec::new();
        let mut write = |offset: u64, bytes: &[u8]| {
            sink.write_at(offset, bytes).map_err(|error| SealError::Io { action: "write the sealed", path: path.to_string(), error })
        };
        for chunk in sealing.geometry.iter() {
            buffer.resize(chunk.length, 0);
            source.read_exact(&mut buffer).map_err(|error| read_error(path, error))?;
            let entry = sealing.chunk(chunk, &mut buffer)?;
            write(chunk.offset, &buffer)?;
            if let Some((offset, block)) = table.push(&entry) {
                write(offset, &block)?;
            }
            meter.advance(path, chunk.length, chunk.end(), size)?;
        }
        expect_end(path, source)?;
        let (offset, block, root) = table.finish();
        if !block.is_empty() {
            write(offset, &block)?;
        }
        Ok(FileEntry::new(path.clone(), sealing.geometry, salt, root))
    }

    /// Seals many files at once, each as [`Self::file`] does, with the same result.
    ///
    /// # Errors
    /// As [`Self::file`], and those of `places`; of several the one that comes first in the order of `files`.
    pub fn files(
        &mut self,
        files: &[(ModelPath, u64)],
        places: &dyn SealPlaces,
        workers: Workers,
        meter: &mut Meter<'_>,
    ) -> Result<Vec<FileEntry>, SealError> {
        let draw = |_: &(ModelPath, u64)| Ok(Salt::from_bytes(*self.entropy.draw()?));
        let salts = files.iter().map(draw).collect::<Result<Vec<_>, SealError>>()?;
        let threads = workers.count(self.chunk_size);
        work::run(&Shared { sealing: self.started(), files, salts, places }, threads, meter)
    }

    /// What the files of this sealing have in common.
    const fn started(&self) -> Started<'_> {
        Started { id: &self.id, key: &self.key, chunk_size: self.chunk_size, backend: self.backend }
    }

    /// Ends the sealing: signs the manifest over `files`, in any order, each of which [`Self::file`] made.
    ///
    /// # Errors
    /// [`SealError::Manifest`] where the files together break its rules; [`SealError::ManifestTooLarge`]; [`SealError::Document`].
    pub fn finish(self, name: Name, version: Version, files: Vec<FileEntry>, signer: &SigningKey) -> Result<Sealed, SealError> {
        let commitment = self.key.commitment(&self.id)?;
        let contents = Contents::new(name, version, self.id, commitment, files)?;
        let document = contents.sign(signer)?;
        let found = document.to_json().len();
        if found > limits::MANIFEST {
            return Err(SealError::ManifestTooLarge { limit: limits::MANIFEST, found });
        }
        Ok(Sealed { key: self.key, document, contents })
    }
}

/// What the files of one sealing have in common.
struct Started<'s> {
    id: &'s SealingId,
    key: &'s ModelKey,
    chunk_size: ChunkSize,
    backend: Backend,
}

/// What sealing one file takes.
struct FileSealing {
    geometry: Geometry,
    salt: Salt,
    cipher: Box<dyn ChunkCipher>,
    tree: Tree,
}

impl Started<'_> {
    /// For the file at `path`. The salt is one that no other attempt at a file had.
    fn file(&self, path: &ModelPath, size: u64, salt: Salt) -> Result<FileSealing, SealError> {
        let too_large = |error| ManifestError::FileTooLarge { path: path.to_string(), error };
        let geometry = Geometry::new(size, self.chunk_size).map_err(too_large)?;
        let cipher = self.backend.cipher(self.key.file_key(self.id, path, &salt)?)?;
        let tree = Tree::new(Identity::new(self.id, path, &salt, geometry));
        Ok(FileSealing { geometry, salt, cipher, tree })
    }
}

impl FileSealing {
    /// Encrypts a chunk in place; its entry in the table.
    fn chunk(&self, chunk: Chunk, bytes: &mut [u8]) -> Result<Entry, SealError> {
        let tag = self.cipher.seal(chunk.position, bytes)?;
        Ok(Entry { tag, hash: self.tree.chunk_hash(bytes) })
    }
}

/// Gathers entries, in order, and says which blocks are full and where they go.
struct TableWriter {
    builder: TableBuilder,
    at: u64,
}

impl TableWriter {
    fn new(sealing: &FileSealing) -> Self {
        Self { builder: TableBuilder::new(sealing.tree.clone()), at: sealing.geometry.size() }
    }

    /// Takes the next entry; a block when it is full.
    fn push(&mut self, entry: &Entry) -> Option<(u64, Vec<u8>)> {
        let block = self.builder.push(entry)?;
        let at = self.at;
        self.at = at.saturating_add(u64::try_from(block.len()).unwrap_or(u64::MAX));
        Some((at, block))
    }

    /// The last block, empty if it was full before, and the root.
    fn finish(self) -> (u64, Vec<u8>, TreeRoot) {
        let (block, root) = self.builder.finish();
        (self.at, block, root)
    }
}

/// A failure to read plaintext.
fn read_error(path: &ModelPath, error: std::io::Error) -> SealError {
    match error.kind() {
        ErrorKind::UnexpectedEof => SealError::SourceChanged { path: path.clone() },
        _ => SealError::Io { action: "read", path: path.to_string(), error },
    }
}

/// The first 16 of 32 bytes.
fn first_half(bytes: &[u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    for (to, from) in half.iter_mut().zip(bytes) {
        *to = *from;
    }
    half
}

/// The source must have nothing more.
fn expect_end(path: &ModelPath, source: &mut dyn Read) -> Result<(), SealError> {
    loop {
        match source.read(&mut [0]) {
            Ok(0) => return Ok(()),
            Ok(_) => return Err(SealError::SourceChanged { path: path.clone() }),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(SealError::Io { action: "read", path: path.to_string(), error }),
        }
    }
}
