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
//! | [`content`] | what files hold: tensors, and code that runs when it is loaded |
//! | [`signature`] | the model's own signature, made by whoever released it |
//! | [`compare`] | two sealed versions, side by side |
//! | [`source`] | where bytes come from and go to, and who watches |
//! | [`work`] | many threads, with the result of one |
//! | [`folder`] | the only module that touches the file system |
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::as_conversions))]

pub mod cipher;
pub mod compare;
pub mod content;
pub mod error;
pub mod folder;
pub mod geometry;
pub mod keys;
pub mod manifest;
pub mod open;
pub mod path;
pub mod reader;
pub mod seal;
pub mod signature;
pub mod source;
pub mod tree;
pub mod work;

#[cfg(test)]
mod tests;

pub use cipher::Backend;
pub use error::{OpenError, SealError};
pub use folder::{
    Attempt, FolderSource, ModelRules, OpenFolder, Opening, PickleFile, Pickles, RequiredSignature, SealFolder, Surveyed, cache_snapshot,
    inspect_folder, open_folder, open_model, seal_folder, seal_model, survey_folder, unlock_folder,
};
pub use geometry::ChunkSize;
pub use keys::ModelKey;
pub use manifest::{Contents, FileEntry, Inspection, Manifest, ModelSignature, Signer};
pub use open::{ChunkBuffer, Opened, SealedFile, SealedModel};
pub use path::ModelPath;
pub use reader::Reader;
pub use seal::{Sealed, Sealing};
pub use source::{Advance, Meter, OpenPlaces, PlainSource, Progress, RangeSink, RangeSource, SealPlaces, SharedSink, Silent};
pub use work::Workers;

/// The version of the format of sealed files, and of a manifest that says no more than what opens them. There is no negotiation.
pub const FORMAT: u32 = 1;

/// The version of a manifest that also says what was found in the files when they were sealed. The files themselves are of [`FORMAT`].
pub const DESCRIBED_FORMAT: u32 = 2;

/// The manifest's file name, at the top of a sealed folder.
pub const MANIFEST_NAME: &str = "portcullis-manifest.json";
