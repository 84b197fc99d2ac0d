//! Why sealing or opening ended: a variant per check.

use protocol::dsse::DocumentError;
use protocol::ids::{Digest, NoRandomness};
use std::io;

use crate::cipher::CipherFailed;
use crate::content::safetensors::SafetensorsError;
use crate::folder::PickleFile;
use crate::manifest::ManifestError;
use crate::path::{ModelPath, PathError};
use crate::signature::SignatureError;
use crate::source::Cancelled;
use crate::tree::TreeRoot;

/// Why a folder cannot become the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DestinationError {
    /// The folder that it would stand in does not exist or cannot be written to.
    #[error("no folder can be made where the destination is to stand")]
    Parent,
    /// It exists and is no folder.
    #[error("the destination is not a folder")]
    NotAFolder,
    /// It exists and is not empty.
    #[error("the destination is not empty")]
    NotEmpty,
    /// It is a mount point: a folder beside it lies on another file system, and cannot be renamed to it.
    #[error("the destination is a mount point; name a folder inside it")]
    MountPoint,
    /// It lies in the source, or the source in it.
    #[error("source and destination lie in each other")]
    Overlap,
    /// Where an earlier attempt would have kept its work, there is something that is not this user's alone.
    #[error("what lies where an earlier attempt would have kept its work is not this user's alone")]
    KeptByOther,
    /// Another process opens to the same destination.
    #[error("another process is at work on this destination")]
    InUse,
}

impl DestinationError {
    /// A stable name.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Parent => "destination-parent",
            Self::NotAFolder => "destination-not-a-folder",
            Self::NotEmpty => "destination-not-empty",
            Self::MountPoint => "destination-mount-point",
            Self::Overlap => "destination-overlap",
            Self::KeptByOther => "destination-kept-by-other",
            Self::InUse => "destination-in-use",
        }
    }
}

/// Why a folder was not sealed. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The source is no folder.
    #[error("{path} is not a folder")]
    SourceNotAFolder {
        /// The source.
        path: String,
    },
    /// A symbolic link in the source. (In a snapshot of Hugging Face's cache they are followed; see [`Self::CacheLink`].)
    #[error("{path} is a symbolic link; a model consists of files")]
    Symlink {
        /// Its path.
        path: String,
    },
    /// A link in a snapshot of a cache that leads to no file of the cache's `blobs`.
    #[error("{path} is a link to {target}, which is no file in the blobs of this cache")]
    CacheLink {
        /// The link's path in the model.
        path: ModelPath,
        /// Where it leads.
        target: String,
    },
    /// A repository's folder in a cache that does not hold the revision.
    #[error("{folder} has no snapshot of {revision}")]
    NoSnapshot {
        /// The folder.
        folder: String,
        /// The revision.
        revision: String,
    },
    /// Files that run code when they are loaded.
    #[error("{}", pickles(files))]
    Pickles {
        /// All of them.
        files: Vec<PickleFile>,
    },
    /// A file named `.safetensors` that is none.
    #[error("{path} is no safetensors file: {error}")]
    Safetensors {
        /// The file.
        path: ModelPath,
        /// Why.
        error: SafetensorsError,
    },
    /// The model is not what the required signer signed.
    #[error(transparent)]
    Signature(SignatureError),
    /// The signature comes from elsewhere, and a file of the model has its name.
    #[error("the signature would be sealed as {path}, and the folder has such a file")]
    SignatureName {
        /// The name.
        path: ModelPath,
    },
    /// What was just sealed does not open again: the destination's storage changed it, or the publisher's key is not what it seems.
    #[error("what was sealed does not open again: {0}")]
    Reopen(Box<OpenError>),
    /// Neither file nor folder.
    #[error("{path} is neither a file nor a folder")]
    SpecialFile {
        /// Its path.
        path: String,
    },
    /// A file or folder whose path the format does not allow.
    #[error("{path:?}: {error}")]
    Path {
        /// Its path.
        path: String,
        /// Why.
        error: PathError,
    },
    /// The files together break a rule of the manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A file that is shorter, longer or newer at the end than at the start.
    #[error("{path} changed while it was sealed")]
    SourceChanged {
        /// Its path.
        path: ModelPath,
    },
    /// The destination cannot be one.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// The manifest cannot be signed.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The manifest would be larger than openers read.
    #[error("the manifest has {found} bytes, more than {limit}")]
    ManifestTooLarge {
        /// The limit in bytes.
        limit: usize,
        /// The size in bytes.
        found: usize,
    },
    /// No random bytes for keys and salts.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// The cipher does not work.
    #[error(transparent)]
    Cipher(#[from] CipherFailed),
    /// Whoever watched ended it.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// The operating system refused.
    #[error("cannot {action} {path}: {error}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: String,
        /// Its answer.
        error: io::Error,
    },
}

impl SealError {
    /// A stable name for each variant.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::SourceNotAFolder { .. } => "source-not-a-folder",
            Self::Symlink { .. } => "symlink",
            Self::CacheLink { .. } => "cache-link",
            Self::NoSnapshot { .. } => "no-snapshot",
            Self::Pickles { .. } => "pickles",
            Self::Safetensors { .. } => "safetensors",
            Self::Signature(error) => error.code(),
            Self::SignatureName { .. } => "signature-name",
            Self::Reopen(error) => error.code(),
            Self::SpecialFile { .. } => "special-file",
            Self::Path { .. } => "path",
            Self::Manifest(error) => error.code(),
            Self::SourceChanged { .. } => "source-changed",
            Self::Destination(error) => error.code(),
            Self::Document(_) => "document",
            Self::ManifestTooLarge { .. } => "manifest-too-large",
            Self::NoRandomness(_) => "no-randomness",
            Self::Cipher(_) => "cipher",
            Self::Cancelled(_) => "cancelled",
            Self::Io { .. } => "io",
        }
    }
}

/// How many files a refusal spells out.
const SPELLED_OUT: usize = 20;

/// The files that run code, in one line.
fn pickles(files: &[PickleFile]) -> String {
    let mut text: Vec<String> = files.iter().take(SPELLED_OUT).map(ToString::to_string).collect();
    let more = files.len().saturating_sub(SPELLED_OUT);
    if more > 0 {
        text.push(format!("and {more} more"));
    }
    format!("loading these files runs code: {}", text.join(", "))
}

/// Why a sealed model, or one file of it, was not opened. What was handed out before is authentic and incomplete; opening a
/// folder leaves nothing behind.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The sealed model is no folder.
    #[error("{path} is not a folder")]
    SealedNotAFolder {
        /// The sealed model.
        path: String,
    },
    /// No manifest, no open.
    #[error("there is no manifest")]
    ManifestMissing,
    /// The manifest is no signed document, or not by a trusted publisher.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A publisher's manifest, and not the released one.
    #[error("the manifest is {found}; released is {expected}")]
    NotReleased {
        /// What was released.
        expected: Digest,
        /// What lies there.
        found: Digest,
    },
    /// The manifest breaks a rule.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The key is not the one that the manifest commits to.
    #[error("the key is not this model's")]
    WrongKey,
    /// A file that the manifest lists is not there.
    #[error("{path} is missing")]
    FileMissing {
        /// Its path.
        path: ModelPath,
    },
    /// A file has not the size that the manifest gives it.
    #[error("{path} has {found} bytes; sealed it has {expected}")]
    FileSize {
        /// Its path.
        path: ModelPath,
        /// The size of the sealed file by the manifest.
        expected: u64,
        /// The size found.
        found: u64,
    },
    /// A file or folder that the manifest does not list.
    #[error("{path:?} is not in the manifest")]
    Unlisted {
        /// Its path.
        path: String,
    },
    /// A symbolic link.
    #[error("{path} is a symbolic link")]
    Symlink {
        /// Its path.
        path: String,
    },
    /// Neither file nor folder.
    #[error("{path} is neither a file nor a folder")]
    SpecialFile {
        /// Its path.
        path: String,
    },
    /// The table of tags and hashes does not lead to the signed root.
    #[error("{path}: the table of tags and hashes is not the sealed one: root {found}, signed {expected}")]
    TreeRoot {
        /// The file.
        path: ModelPath,
        /// The signed root.
        expected: TreeRoot,
        /// The root of the table that lies there.
        found: TreeRoot,
    },
    /// A block of the table read anew is not what it was when the root was checked.
    #[error("{path}: block {block} of the table changed while it was read")]
    TableChanged {
        /// The file.
        path: ModelPath,
        /// The block, counted from 0.
        block: u64,
    },
    /// A chunk's ciphertext is not what its hash in the table says.
    #[error("{path}: chunk {chunk} is not the sealed one")]
    ChunkHash {
        /// The file.
        path: ModelPath,
        /// The chunk, counted from 0.
        chunk: u64,
    },
    /// The ciphertext is the signed one, and its tag does not verify: it was never sealed as the format says.
    #[error("{path}: the tag of chunk {chunk} does not verify")]
    ChunkTag {
        /// The file.
        path: ModelPath,
        /// The chunk, counted from 0.
        chunk: u64,
    },
    /// A file ended before the size that it was said to have.
    #[error("{path} ends early")]
    CutShort {
        /// The file.
        path: ModelPath,
    },
    /// The caller asks for a file that the manifest does not list.
    #[error("the model has no file {path:?}")]
    NoSuchFile {
        /// What was asked for.
        path: String,
    },
    /// The destination cannot be one.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// The cipher does not work.
    #[error(transparent)]
    Cipher(#[from] CipherFailed),
    /// Whoever watched ended it.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// The operating system or the store refused.
    #[error("cannot {action} {path}: {error}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: String,
        /// Its answer.
        error: io::Error,
    },
}

impl OpenError {
    /// A stable name for each variant; vectors name their expected refusal by it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::SealedNotAFolder { .. } => "sealed-not-a-folder",
            Self::ManifestMissing => "manifest-missing",
            Self::Document(error) => document_code(error),
            Self::NotReleased { .. } => "manifest-not-released",
            Self::Manifest(error) => error.code(),
            Self::WrongKey => "wrong-key",
            Self::FileMissing { .. } => "file-missing",
            Self::FileSize { .. } => "file-size",
            Self::Unlisted { .. } => "unlisted",
            Self::Symlink { .. } => "symlink",
            Self::SpecialFile { .. } => "special-file",
            Self::TreeRoot { .. } => "tree-root",
            Self::TableChanged { .. } => "table-changed",
            Self::ChunkHash { .. } => "chunk-hash",
            Self::ChunkTag { .. } => "chunk-tag",
            Self::CutShort { .. } => "cut-short",
            Self::NoSuchFile { .. } => "no-such-file",
            Self::Destination(error) => error.code(),
            Self::Cipher(_) => "cipher",
            Self::Cancelled(_) => "cancelled",
            Self::Io { .. } => "io",
        }
    }
}

/// The names of what can be wrong with the manifest as a signed document.
const fn document_code(error: &DocumentError) -> &'static str {
    match error {
        DocumentError::TooLarge { .. } => "manifest-too-large",
        DocumentError::Envelope(_) => "manifest-envelope",
        DocumentError::WrongType { .. } => "manifest-type",
        DocumentError::UnknownSigner { .. } => "manifest-signer",
        DocumentError::BadSignature { .. } => "manifest-signature",
        DocumentError::Body { .. } => "manifest-body",
    }
}
