//! The signed list of a sealed model's files: what each is, and the root that its content is held to.

use protocol::dsse::{Body, DocumentError, SignedDocument};
use protocol::ids::{Digest, Name, Version};
use protocol::keys::{KeyId, PublicKey, SigningKey};
use protocol::limits;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

use crate::content::safetensors::Tensors;
use crate::error::OpenError;
use crate::geometry::{BadChunkSize, ChunkSize, FileTooLarge, Geometry};
use crate::keys::{KeyCommitment, Salt, SealingId};
use crate::path::{ModelPath, PathError};
use crate::tree::{Identity, Tree, TreeRoot};
use crate::{DESCRIBED_FORMAT, FORMAT};

mod description;

pub use description::ModelSignature;
pub(crate) use description::{Description, SignatureBody, TensorsBody, stated};

/// The manifest as its JSON has it: types and nothing more.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ManifestBody {
    pub(crate) format: u32,
    pub(crate) name: Name,
    pub(crate) version: Version,
    pub(crate) sealing: SealingId,
    pub(crate) key_commitment: KeyCommitment,
    pub(crate) files: Vec<FileBody>,
    #[serde(default, deserialize_with = "stated", skip_serializing_if = "Option::is_none")]
    pub(crate) model_signature: Option<SignatureBody>,
}

/// One file as the manifest's JSON has it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileBody {
    pub(crate) path: String,
    pub(crate) size: u64,
    pub(crate) chunk_size: u64,
    pub(crate) salt: Salt,
    pub(crate) root: TreeRoot,
    #[serde(default, deserialize_with = "stated", skip_serializing_if = "Option::is_none")]
    pub(crate) tensors: Option<TensorsBody>,
}

impl Body for ManifestBody {
    const PAYLOAD_TYPE: &'static str = "application/vnd.portcullis.manifest+json";
    const LIMIT: usize = limits::MANIFEST;
}

/// One file of a sealed model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    path: ModelPath,
    geometry: Geometry,
    salt: Salt,
    root: TreeRoot,
    tensors: Option<Tensors>,
}

impl FileEntry {
    /// Of a file that was just sealed.
    pub(crate) const fn new(path: ModelPath, geometry: Geometry, salt: Salt, root: TreeRoot) -> Self {
        Self { path, geometry, salt, root, tensors: None }
    }

    /// Its path in the model.
    #[must_use]
    pub const fn path(&self) -> &ModelPath {
        &self.path
    }

    /// Its size (plaintext bytes) and chunk size, and where everything stands in the sealed file.
    #[must_use]
    pub const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Its salt.
    #[must_use]
    pub const fn salt(&self) -> &Salt {
        &self.salt
    }

    /// The root of its hash tree.
    #[must_use]
    pub const fn root(&self) -> &TreeRoot {
        &self.root
    }

    /// What its header said of tensors when it was sealed; `None` of a file without, and where nobody looked.
    #[must_use]
    pub const fn tensors(&self) -> Option<&Tensors> {
        self.tensors.as_ref()
    }

    /// Its hash functions, as a file of `sealing`.
    #[must_use]
    pub fn tree(&self, sealing: &SealingId) -> Tree {
        Tree::new(Identity::new(sealing, &self.path, &self.salt, self.geometry))
    }

    fn to_body(&self) -> FileBody {
        FileBody {
            path: self.path.to_string(),
            size: self.geometry.size(),
            chunk_size: u64::from(self.geometry.chunk_size().bytes()),
            salt: self.salt,
            root: self.root,
            tensors: self.tensors.as_ref().map(TensorsBody::of),
        }
    }

    fn from_body(body: &FileBody) -> Result<Self, ManifestError> {
        let named = || body.path.clone();
        let path: ModelPath = body.path.parse().map_err(|error| ManifestError::Path { path: named(), error })?;
        let chunk_size = ChunkSize::try_from(body.chunk_size).map_err(|error| ManifestError::ChunkSize { path: named(), error })?;
        let geometry = Geometry::new(body.size, chunk_size).map_err(|error| ManifestError::FileTooLarge { path: named(), error })?;
        let tensors = body.tensors.as_ref().map(|tensors| tensors.read(&path)).transpose()?;
        Ok(Self { path, geometry, salt: body.salt, root: body.root, tensors })
    }
}

/// What a manifest says, well formed. Who says it is another question: [`Manifest`] has answered it, [`Inspection`] may not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    name: Name,
    version: Version,
    sealing: SealingId,
    key_commitment: KeyCommitment,
    files: Vec<FileEntry>,
    signature: Option<ModelSignature>,
}

impl Contents {
    /// Puts `files` in order and checks the rules of a list of files.
    pub(crate) fn new(
        name: Name,
        version: Version,
        sealing: SealingId,
        key_commitment: KeyCommitment,
        mut files: Vec<FileEntry>,
    ) -> Result<Self, ManifestError> {
        files.sort_by(|one, two| one.path.cmp(&two.path));
        check_paths(files.iter().map(FileEntry::path))?;
        Ok(Self { name, version, sealing, key_commitment, files, signature: None })
    }

    /// The same with what was found in the files when they were sealed.
    pub(crate) fn described(mut self, description: Description) -> Self {
        for (file, tensors) in self.files.iter_mut().zip(description.tensors) {
            file.tensors = tensors;
        }
        self.signature = description.signature;
        self
    }

    /// The lowest format that has a place for all that this says.
    fn format(&self) -> u32 {
        let described = self.signature.is_some() || self.files.iter().any(|file| file.tensors.is_some());
        if described { DESCRIBED_FORMAT } else { FORMAT }
    }

    fn from_body(body: &ManifestBody) -> Result<Self, ManifestError> {
        if !matches!(body.format, FORMAT | DESCRIBED_FORMAT) {
            return Err(ManifestError::Format { expected: DESCRIBED_FORMAT, found: body.format });
        }
        let files = body.files.iter().map(FileEntry::from_body).collect::<Result<Vec<_>, _>>()?;
        check_paths(files.iter().map(FileEntry::path))?;
        let signature = body.model_signature.as_ref().map(|signature| signature.read(&files)).transpose()?;
        let contents = Self {
            name: body.name.clone(),
            version: body.version,
            sealing: body.sealing,
            key_commitment: body.key_commitment,
            files,
            signature,
        };
        if contents.format() != body.format {
            return Err(ManifestError::Members { format: body.format });
        }
        Ok(contents)
    }

    /// Signs this as the manifest.
    pub(crate) fn sign(&self, signer: &SigningKey) -> Result<SignedDocument, DocumentError> {
        let body = ManifestBody {
            format: self.format(),
            name: self.name.clone(),
            version: self.version,
            sealing: self.sealing,
            key_commitment: self.key_commitment,
            files: self.files.iter().map(FileEntry::to_body).collect(),
            model_signature: self.signature.as_ref().map(SignatureBody::of),
        };
        SignedDocument::sign(&body, signer)
    }

    /// The model's name.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// The model's version.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Which act of sealing this is.
    #[must_use]
    pub const fn sealing(&self) -> &SealingId {
        &self.sealing
    }

    /// The commitment to the model key.
    #[must_use]
    pub const fn key_commitment(&self) -> &KeyCommitment {
        &self.key_commitment
    }

    /// The files, sorted by path, 1 or more.
    #[must_use]
    pub fn files(&self) -> &[FileEntry] {
        &self.files
    }

    /// The model's own signature, where the publisher verified one before sealing.
    #[must_use]
    pub const fn signature(&self) -> Option<&ModelSignature> {
        self.signature.as_ref()
    }

    /// Where in [`Self::files`] the file at `path` is.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<usize> {
        self.files.binary_search_by(|file| file.path.as_str().cmp(path)).ok()
    }

    /// All files' plaintext bytes.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.geometry.size()))
    }
}

/// The rules of a list of paths: 1 to [`limits::MANIFEST_FILES`], strictly ascending by their bytes, no two alike but for
/// the case of ASCII letters, and none a directory of another, whatever the case.
pub(crate) fn check_paths<'a>(paths: impl ExactSizeIterator<Item = &'a ModelPath> + Clone) -> Result<(), ManifestError> {
    match paths.len() {
        0 => return Err(ManifestError::NoFiles),
        found if found > limits::MANIFEST_FILES => return Err(ManifestError::TooManyFiles { limit: limits::MANIFEST_FILES, found }),
        _ => {}
    }
    for (before, path) in paths.clone().zip(paths.clone().skip(1)) {
        match before.cmp(path) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => return Err(ManifestError::Duplicate { path: path.clone(), other: before.clone() }),
            std::cmp::Ordering::Greater => return Err(ManifestError::Unsorted { path: path.clone(), before: before.clone() }),
        }
    }
    let mut folded: HashMap<String, &ModelPath> = HashMap::with_capacity(paths.len());
    for path in paths.clone() {
        if let Some(other) = folded.insert(path.folded(), path) {
            return Err(ManifestError::Duplicate { path: path.clone(), other: other.clone() });
        }
    }
    for path in paths {
        let lower = path.folded();
        let lengths = path.directories().map(str::len);
        if let Some(file) = lengths.filter_map(|length| lower.get(..length)).find_map(|directory| folded.get(directory)) {
            return Err(ManifestError::FileIsDirectory { path: path.clone(), file: (*file).clone() });
        }
    }
    Ok(())
}

/// A manifest that a trusted publisher signed and that is the one that was released. Only [`Self::authenticate`] makes one.
#[derive(Debug)]
pub struct Manifest {
    contents: Contents,
    digest: Digest,
    publisher: PublicKey,
}

impl Manifest {
    /// From the manifest's file. In this order: its size, its form, its signature under one of `publishers`, its digest
    /// against the `released` one, its rules.
    ///
    /// # Errors
    /// [`OpenError::Document`], [`OpenError::NotReleased`], [`OpenError::Manifest`].
    pub fn authenticate(json: &[u8], publishers: &[PublicKey], released: &Digest) -> Result<Self, OpenError> {
        let document = SignedDocument::parse::<ManifestBody>(json)?.authenticate::<ManifestBody>(publishers)?;
        if document.digest() != released {
            return Err(OpenError::NotReleased { expected: *released, found: *document.digest() });
        }
        Ok(Self { contents: Contents::from_body(document.body())?, digest: *document.digest(), publisher: *document.signer() })
    }

    /// What it says.
    #[must_use]
    pub const fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Its digest, which the model's statement names.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Who signed it.
    #[must_use]
    pub const fn publisher(&self) -> &PublicKey {
        &self.publisher
    }
}

/// Who signed a manifest that is only looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signer {
    /// One of the publishers that were given; the signature verifies.
    Publisher(PublicKey),
    /// The signature names a key that was not given: nothing is verified.
    Unknown(KeyId),
}

/// What a manifest says, to be shown to people. It opens nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// What it says.
    pub contents: Contents,
    /// The digest of the signed document.
    pub digest: Digest,
    /// Who says it, as far as the given publishers tell.
    pub signer: Signer,
}

impl Inspection {
    /// Reads a manifest's file; checks the signature if it names one of `publishers`.
    ///
    /// # Errors
    /// [`OpenError::Document`] where it is no signed document or a given publisher's signature does not verify;
    /// [`OpenError::Manifest`] where it breaks the rules of a manifest.
    pub fn read(json: &[u8], publishers: &[PublicKey]) -> Result<Self, OpenError> {
        let signed = SignedDocument::parse::<ManifestBody>(json)?;
        let digest = signed.digest();
        let (contents, signer) = match signed.authenticate::<ManifestBody>(publishers) {
            Ok(document) => (Contents::from_body(document.body()), Signer::Publisher(*document.signer())),
            Err(DocumentError::UnknownSigner { found }) => (Contents::from_body(&unverified(&signed)?), Signer::Unknown(found)),
            Err(error) => return Err(error.into()),
        };
        Ok(Self { contents: contents?, digest, signer })
    }
}

/// The body of a document whose signature cannot be checked.
fn unverified(signed: &SignedDocument) -> Result<ManifestBody, DocumentError> {
    serde_json::from_slice(&signed.payload)
        .map_err(|error| DocumentError::Body { expected: ManifestBody::PAYLOAD_TYPE, what: error.to_string() })
}

/// Why a list of files is no manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Another format.
    #[error("the manifest has format {found}; this reads format 1 to {expected}")]
    Format {
        /// The highest format of this crate.
        expected: u32,
        /// The format of the manifest.
        found: u32,
    },
    /// Members of format 2 in a manifest of format 1, or none in one of format 2: each manifest has one spelling.
    #[error("the manifest says format {format}, and its members are another format's")]
    Members {
        /// What it says.
        format: u32,
    },
    /// A file's tensors are none: an unknown dtype, a number of zero, or numbers that add up to none.
    #[error("{path}: the manifest says of its tensors what cannot be")]
    Tensors {
        /// The file.
        path: ModelPath,
    },
    /// The model's signature is said to be a file that is not listed.
    #[error("the model's signature is said to be {path:?}, which is no file of the model")]
    SignatureFile {
        /// The text.
        path: String,
    },
    /// A model without files.
    #[error("the model has no files")]
    NoFiles,
    /// More files than [`limits::MANIFEST_FILES`].
    #[error("the model has {found} files, more than {limit}")]
    TooManyFiles {
        /// The limit.
        limit: usize,
        /// The number of files.
        found: usize,
    },
    /// Not a path of a model.
    #[error("{path:?}: {error}")]
    Path {
        /// The text.
        path: String,
        /// Why.
        error: PathError,
    },
    /// The paths are not in ascending order.
    #[error("{path} stands behind {before}, which it sorts before")]
    Unsorted {
        /// The path out of order.
        path: ModelPath,
        /// The one before it.
        before: ModelPath,
    },
    /// Two paths that are the same, or would be on a system that ignores case.
    #[error("{path} and {other} are the same file, or are so where case does not count")]
    Duplicate {
        /// One.
        path: ModelPath,
        /// The other.
        other: ModelPath,
    },
    /// A path that goes through another file.
    #[error("{path} lies in {file}, which is a file")]
    FileIsDirectory {
        /// The path.
        path: ModelPath,
        /// The file on its way.
        file: ModelPath,
    },
    /// A chunk size outside the format.
    #[error("{path}: {error}")]
    ChunkSize {
        /// The file.
        path: String,
        /// Why.
        error: BadChunkSize,
    },
    /// A size outside the format.
    #[error("{path}: {error}")]
    FileTooLarge {
        /// The file.
        path: String,
        /// Why.
        error: FileTooLarge,
    },
}

impl ManifestError {
    /// A stable name.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Format { .. } => "manifest-format",
            Self::Members { .. } => "manifest-members",
            Self::Tensors { .. } => "manifest-tensors",
            Self::SignatureFile { .. } => "manifest-signature-file",
            Self::NoFiles => "manifest-no-files",
            Self::TooManyFiles { .. } => "manifest-too-many-files",
            Self::Path { .. } => "manifest-path",
            Self::Unsorted { .. } => "manifest-unsorted",
            Self::Duplicate { .. } => "manifest-duplicate",
            Self::FileIsDirectory { .. } => "manifest-file-is-directory",
            Self::ChunkSize { .. } => "manifest-chunk-size",
            Self::FileTooLarge { .. } => "manifest-file-too-large",
        }
    }
}
