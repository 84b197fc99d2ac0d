//! Sealed files to plaintext, chunk by chunk, in constant memory.
//!
//! A chunk is handed out only after four links hold: the manifest's signature and digest cover the root; the root covers the
//! hashes of the table's blocks; a block's hash covers the chunk's tag and hash; those cover the ciphertext.
//!
//! Opening a file reads its table once, block by block, and checks the root. Of the table it keeps the block hashes alone
//! (32 bytes for each 1024 chunks: 17.5 KiB for 140 GiB in 256 KiB chunks; 8 MiB at the very most). From then on nothing that the
//! source says about the table is believed for having been right before: each block is read anew when it is needed and must
//! have the hash that was kept, and each chunk is copied to our own memory first and only then hashed and decrypted there.
//! So a source that changes table or chunks between two reads gains a refusal, and random access needs no more than one
//! block and one chunk of reading.

use protocol::ids::Digest;
use protocol::keys::PublicKey;
use std::io::{self, ErrorKind};

use crate::cipher::{Backend, ChunkCipher};
use crate::error::OpenError;
use crate::geometry::{BLOCK_ENTRIES, Block, Chunk, Geometry, HASH};
use crate::keys::ModelKey;
use crate::manifest::{Contents, FileEntry, Manifest};
use crate::path::ModelPath;
use crate::source::{Meter, RangeSink, RangeSource};
use crate::tree::{Entry, Identity, Tree};

mod shared;

pub use shared::Opened;

/// A sealed model whose manifest is the released one and whose key is the manifest's. Nothing of its files is checked yet.
pub struct SealedModel<S> {
    source: S,
    manifest: Manifest,
    key: ModelKey,
    backend: Backend,
}

impl<S: RangeSource> SealedModel<S> {
    /// Checks the key against the manifest's commitment.
    ///
    /// # Errors
    /// [`OpenError::WrongKey`].
    pub fn unlock(source: S, manifest: Manifest, key: ModelKey, backend: Backend) -> Result<Self, OpenError> {
        let contents = manifest.contents();
        if !key.matches(contents.sealing(), contents.key_commitment())? {
            return Err(OpenError::WrongKey);
        }
        Ok(Self { source, manifest, key, backend })
    }

    /// The same from the manifest's file: [`Manifest::authenticate`], then [`Self::unlock`].
    ///
    /// # Errors
    /// As both.
    pub fn authenticate(
        source: S,
        manifest: &[u8],
        publishers: &[PublicKey],
        released: &Digest,
        key: ModelKey,
        backend: Backend,
    ) -> Result<Self, OpenError> {
        Self::unlock(source, Manifest::authenticate(manifest, publishers, released)?, key, backend)
    }

    /// The manifest.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What the manifest says.
    #[must_use]
    pub const fn contents(&self) -> &Contents {
        self.manifest.contents()
    }

    /// Where the files come from.
    #[must_use]
    pub const fn source(&self) -> &S {
        &self.source
    }

    /// Reads the table of the file at `path` and checks it against the signed root.
    ///
    /// # Errors
    /// [`OpenError::NoSuchFile`], [`OpenError::FileMissing`], [`OpenError::FileSize`], [`OpenError::TreeRoot`],
    /// [`OpenError::CutShort`], [`OpenError::Io`].
    pub fn file(&self, path: &str) -> Result<SealedFile<'_, S>, OpenError> {
        let no_such_file = || OpenError::NoSuchFile { path: path.to_owned() };
        let entry = self.contents().find(path).and_then(|index| self.contents().files().get(index)).ok_or_else(no_such_file)?;
        Ok(SealedFile { source: &self.source, table: self.table(entry)? })
    }

    pub(crate) fn table(&self, entry: &FileEntry) -> Result<CheckedTable, OpenError> {
        let sealing = self.contents().sealing();
        let cipher = self.backend.cipher(self.key.file_key(sealing, entry.path(), entry.salt())?)?;
        CheckedTable::read(&self.source, entry, entry.tree(sealing), cipher)
    }
}

/// One file of a [`SealedModel`] whose table leads to the signed root.
pub struct SealedFile<'m, S> {
    source: &'m S,
    table: CheckedTable,
}

impl<S: RangeSource> SealedFile<'_, S> {
    /// Its path.
    #[must_use]
    pub const fn path(&self) -> &ModelPath {
        &self.table.path
    }

    /// Its size and chunk size.
    #[must_use]
    pub const fn geometry(&self) -> Geometry {
        self.table.geometry
    }

    /// The plaintext of `chunk`, which is one of this file's [`Geometry`], in `buffer`.
    ///
    /// # Errors
    /// [`OpenError::TableChanged`], [`OpenError::ChunkHash`], [`OpenError::ChunkTag`], [`OpenError::CutShort`], [`OpenError::Io`].
    pub fn chunk<'b>(&self, chunk: Chunk, buffer: &'b mut ChunkBuffer) -> Result<&'b [u8], OpenError> {
        self.table.chunk(self.source, chunk, buffer)
    }

    /// Writes the whole plaintext to `sink`, each chunk after it is checked. Where it fails, what was written is authentic and incomplete.
    ///
    /// # Errors
    /// As [`Self::chunk`], the sink's own as [`OpenError::Io`], [`OpenError::Cancelled`].
    pub fn copy_to(&self, sink: &mut dyn RangeSink, buffer: &mut ChunkBuffer, meter: &mut Meter<'_>) -> Result<(), OpenError> {
        for chunk in self.geometry().iter() {
            let plaintext = self.chunk(chunk, buffer)?;
            let io = |error| OpenError::Io { action: "write the opened", path: self.path().to_string(), error };
            sink.write_at(chunk.offset, plaintext).map_err(io)?;
            meter.advance(self.path(), chunk.length, chunk.end(), self.geometry().size())?;
        }
        Ok(())
    }
}

/// Room for one chunk and one block of a table, used again and again, for any files. It remembers which they are.
#[derive(Default)]
pub struct ChunkBuffer {
    chunk: Vec<u8>,
    chunk_is: Option<(Identity, u64)>,
    block: Vec<u8>,
    block_is: Option<(Identity, u64)>,
}

impl ChunkBuffer {
    /// Empty; it grows to the size of the chunks that it is used for.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether it holds the plaintext of chunk `index` of the file that `identity` names.
    pub(crate) fn holds(&self, identity: &Identity, index: u64) -> bool {
        self.chunk_is == Some((*identity, index))
    }

    /// Room for a chunk of so many bytes; what it held is gone.
    fn room(&mut self, length: usize) -> &mut [u8] {
        self.chunk_is = None;
        self.chunk.resize(length, 0);
        &mut self.chunk
    }

    /// Bytes that it takes.
    pub(crate) fn size(&self) -> usize {
        self.chunk.capacity().saturating_add(self.block.capacity())
    }
}

/// What is kept of a file's table after it led to the signed root, and the file's cipher.
pub(crate) struct CheckedTable {
    path: ModelPath,
    geometry: Geometry,
    tree: Tree,
    cipher: Box<dyn ChunkCipher>,
    blocks: Vec<[u8; HASH]>,
}

impl CheckedTable {
    fn read(source: &impl RangeSource, entry: &FileEntry, tree: Tree, cipher: Box<dyn ChunkCipher>) -> Result<Self, OpenError> {
        let (path, geometry) = (entry.path(), entry.geometry());
        let found = source.length(path).map_err(|error| read_error(path, error))?;
        let expected = geometry.sealed_size();
        if found != expected {
            return Err(OpenError::FileSize { path: path.clone(), expected, found });
        }
        let mut root = tree.root();
        let mut blocks = Vec::new();
        let mut bytes = Vec::new();
        for block in (0..geometry.blocks()).map_while(|index| geometry.block(index)) {
            read_block(source, path, block, &mut bytes)?;
            let hash = tree.block_hash(&bytes);
            root.push(&hash);
            blocks.push(hash);
        }
        let found = root.finish();
        if found != *entry.root() {
            return Err(OpenError::TreeRoot { path: path.clone(), expected: *entry.root(), found });
        }
        Ok(Self { path: path.clone(), geometry, tree, cipher, blocks })
    }

    pub(crate) const fn geometry(&self) -> Geometry {
        self.geometry
    }

    pub(crate) const fn identity(&self) -> &Identity {
        self.tree.identity()
    }

    pub(crate) fn chunk<'b>(&self, source: &impl RangeSource, chunk: Chunk, buffer: &'b mut ChunkBuffer) -> Result<&'b [u8], OpenError> {
        let index = chunk.position.index;
        if buffer.holds(self.identity(), index) {
            return Ok(&buffer.chunk);
        }
        let entry = self.entry(source, index, buffer)?;
        source.read_at(&self.path, chunk.offset, buffer.room(chunk.length)).map_err(|error| read_error(&self.path, error))?;
        if self.tree.chunk_hash(&buffer.chunk) != entry.hash {
            return Err(OpenError::ChunkHash { path: self.path.clone(), chunk: index });
        }
        let bad_tag = |_| OpenError::ChunkTag { path: self.path.clone(), chunk: index };
        self.cipher.open(chunk.position, &mut buffer.chunk, &entry.tag).map_err(bad_tag)?;
        buffer.chunk_is = Some((*self.identity(), index));
        Ok(&buffer.chunk)
    }

    /// Whether `buffer` holds, as plaintext that somebody left, exactly what `chunk` was sealed from: then encrypting it gives the ciphertext and
    /// the tag of the entry, and nothing else does. What it is encrypted to here goes nowhere. `buffer` holds no chunk afterwards.
    fn is_sealed_to(&self, source: &impl RangeSource, chunk: Chunk, buffer: &mut ChunkBuffer) -> Result<bool, OpenError> {
        let entry = self.entry(source, chunk.position.index, buffer)?;
        let tag = self.cipher.seal(chunk.position, &mut buffer.chunk)?;
        Ok(tag == entry.tag && self.tree.chunk_hash(&buffer.chunk) == entry.hash)
    }

    /// The table's entry of chunk `index`, from a block that has the hash that was kept.
    fn entry(&self, source: &impl RangeSource, index: u64, buffer: &mut ChunkBuffer) -> Result<Entry, OpenError> {
        let (block, place) = (index.div_euclid(BLOCK_ENTRIES), index.rem_euclid(BLOCK_ENTRIES));
        let changed = || OpenError::TableChanged { path: self.path.clone(), block };
        if buffer.block_is != Some((*self.identity(), block)) {
            buffer.block_is = None;
            let range = self.geometry.block(block).ok_or_else(changed)?;
            read_block(source, &self.path, range, &mut buffer.block)?;
            let kept = usize::try_from(block).ok().and_then(|block| self.blocks.get(block)).ok_or_else(changed)?;
            if self.tree.block_hash(&buffer.block) != *kept {
                return Err(changed());
            }
            buffer.block_is = Some((*self.identity(), block));
        }
        usize::try_from(place).ok().and_then(|place| Entry::read(&buffer.block, place)).ok_or_else(changed)
    }
}

fn read_block(source: &impl RangeSource, path: &ModelPath, block: Block, bytes: &mut Vec<u8>) -> Result<(), OpenError> {
    bytes.resize(block.length, 0);
    source.read_at(path, block.offset, bytes).map_err(|error| read_error(path, error))
}

fn read_error(path: &ModelPath, error: io::Error) -> OpenError {
    match error.kind() {
        ErrorKind::NotFound => OpenError::FileMissing { path: path.clone() },
        ErrorKind::UnexpectedEof => OpenError::CutShort { path: path.clone() },
        _ => OpenError::Io { action: "read the sealed", path: path.to_string(), error },
    }
}
