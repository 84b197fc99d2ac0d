//! The sealed-model format: manifest, chunks, seal, open, random access.
//!
//! A folder in, a folder out, with the same names, plus a signed manifest. The storage between them is not trusted:
//! it may read, change, swap, cut, extend, add and remove what it likes, and change it again between two reads.
//! What an opener hands out is what the publisher sealed, or it is a named [`OpenError`]. Not hidden from the storage:
//! names, sizes, and which ranges are read when. SPEC.md beside this crate says the format byte by byte.
//!
//! | module | what it fixes |
//! | --- | --- |
//! | [`path`] | which paths a model may have |
//! | [`geometry`] | where chunks, tags and hashes stand in a sealed file |
//! | [`keys`] | model key, file keys, and the commitment to the model key |
//! | [`cipher`] | AES-256-GCM over one chunk, by two implementations |
//! | [`tree`] | the hash tree over a sealed file |
//! | [`manifest`] | the signed list of files |
//! | [`seal`] | plaintext to sealed files, in one pass |
//! | [`open`] | sealed files to plaintext, chunk by chunk |
//! | [`reader`] | random access for many threads |
//! | [`source`] | where bytes come from and go to, and who watches |
//! | [`folder`] | the only module that touches the file system |
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::as_conversions))]

pub mod cipher;
pub mod error;
pub mod folder;
pub mod geometry;
pub mod keys;
pub mod manifest;
pub mod open;
pub mod path;
pub mod reader;
pub mod seal;
pub mod source;
pub mod tree;

#[cfg(test)]
mod tests;

pub use cipher::Backend;
pub use error::{OpenError, SealError};
pub use folder::{FolderSource, OpenFolder, SealFolder, inspect_folder, open_folder, seal_folder, unlock_folder};
pub use geometry::ChunkSize;
pub use keys::ModelKey;
pub use manifest::{Contents, FileEntry, Inspection, Manifest, Signer};
pub use open::{ChunkBuffer, SealedFile, SealedModel};
pub use path::ModelPath;
pub use reader::Reader;
pub use seal::{Sealed, Sealing};
pub use source::{Advance, Meter, Progress, RangeSink, RangeSource, Silent};

/// The version of the format that this crate reads and writes. Another one is another format: there is no negotiation.
pub const FORMAT: u32 = 1;

/// The manifest's file name, at the top of a sealed folder.
pub const MANIFEST_NAME: &str = "portcullis-manifest.json";
