//! The only module that touches the file system: a folder in, a folder out.
//!
//! Whatever is made is made in a temporary folder beside the destination and renamed at the end; a failure removes it. Folders
//! exist through their files, as in git: an empty one is not sealed. Times and modes are not kept.

use protocol::dsse::{Body, DocumentError};
use protocol::ids::{Name, Version};
use protocol::keys::{PublicKey, SigningKey};
use protocol::limits::MANIFEST_FILES;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::MANIFEST_NAME;
use crate::cipher::Backend;
use crate::error::{OpenError, SealError};
use crate::geometry::ChunkSize;
use crate::manifest::{Inspection, ManifestBody, ManifestError, check_paths};
use crate::path::ModelPath;
use crate::seal::{Sealed, Sealing};
use crate::source::{Meter, PlainSource, Progress, SealPlaces, SharedSink};
use crate::work::Workers;

mod cache;
mod files;
mod model;
mod opening;
mod partial;
mod source;
mod walk;

use cache::Cache;
pub use cache::cache_snapshot;
use files::PlainFile;
pub use model::{ModelRules, PickleFile, Pickles, RequiredSignature, Surveyed, seal_model, survey_folder};
pub use opening::{Attempt, OpenFolder, Opening, open_folder, open_model, unlock_folder};
use partial::Partial;
pub use partial::remove_abandoned;
pub use source::FolderSource;
use walk::{Found, Kind, walk};

/// What to seal, and as what.
#[derive(Clone, Debug)]
pub struct SealFolder<'a> {
    /// The folder of plaintext. All of it is sealed.
    pub source: &'a Path,
    /// The sealed folder: a new or empty one.
    pub destination: &'a Path,
    /// The model's name.
    pub name: Name,
    /// The model's version.
    pub version: Version,
    /// The chunk size of each file.
    pub chunk_size: ChunkSize,
    /// Which implementation encrypts.
    pub backend: Backend,
    /// How many threads encrypt.
    pub workers: Workers,
}

/// Seals a folder under a fresh model key and signs its manifest.
///
/// # Errors
/// [`SealError`], by its variants; the destination is then as it was.
pub fn seal_folder(order: &SealFolder<'_>, signer: &SigningKey, progress: &mut dyn Progress) -> Result<Sealed, SealError> {
    seal_folder_in(Sealing::begin(order.chunk_size, order.backend)?, order, signer, progress)
}

pub(crate) fn seal_folder_in(
    sealing: Sealing,
    order: &SealFolder<'_>,
    signer: &SigningKey,
    progress: &mut dyn Progress,
) -> Result<Sealed, SealError> {
    seal_files(sealing, order, &plaintext_files(order.source)?, signer, progress, &|sealed, _, _| Ok(sealed))
}

/// What is done with a sealing before its manifest is written and the folder gets its name.
type Conclude<'c> = dyn Fn(Sealed, &Path, &mut dyn Progress) -> Result<Sealed, SealError> + 'c;

fn seal_files(
    mut sealing: Sealing,
    order: &SealFolder<'_>,
    files: &[SourceFile],
    signer: &SigningKey,
    progress: &mut dyn Progress,
    conclude: &Conclude<'_>,
) -> Result<Sealed, SealError> {
    let partial = Partial::beside(order.destination, order.source)?;
    let sizes: Vec<(ModelPath, u64)> = files.iter().map(|file| (file.path.clone(), file.size)).collect();
    let mut meter = Meter::new(sizes.iter().fold(0, |sum, (_, size)| sum.saturating_add(*size)), progress);
    let entries = sealing.files(&sizes, &Beside { files, partial: &partial }, order.workers, &mut meter)?;
    let sealed = conclude(sealing.finish(order.name.clone(), order.version, entries, signer)?, partial.path(), progress)?;
    let io = |error| SealError::Io { action: "write", path: MANIFEST_NAME.to_owned(), error };
    fs::write(partial.path().join(MANIFEST_NAME), sealed.document.to_json()).map_err(io)?;
    partial.publish().map_err(|error| match error {
        partial::PublishError::Destination(error) => error.into(),
        partial::PublishError::Io(error) => SealError::Io { action: "rename to", path: shown(order.destination), error },
    })?;
    Ok(sealed)
}

/// One file to seal.
struct SourceFile {
    /// Its path in the model.
    path: ModelPath,
    /// Its bytes.
    size: u64,
    /// Where it lies: no link.
    at: PathBuf,
}

/// The files to seal, in the manifest's order; every rule of the manifest on paths is checked here, before any work. Links are followed
/// in a snapshot of a cache alone, and there only to the cache's own files.
fn plaintext_files(source: &Path) -> Result<Vec<SourceFile>, SealError> {
    if !fs::metadata(source).is_ok_and(|metadata| metadata.is_dir()) {
        return Err(SealError::SourceNotAFolder { path: shown(source) });
    }
    let cache = Cache::around(source);
    let mut files = Vec::new();
    walk(source, MANIFEST_FILES, &mut |found: Found| {
        let parse = |path: String| path.parse::<ModelPath>().map_err(|error| SealError::Path { path, error });
        match found.kind {
            Kind::Folder => parse(found.path).map(|_| ()),
            Kind::File { size } => parse(found.path).map(|path| files.push(SourceFile { at: source.join(path.to_path()), path, size })),
            Kind::Symlink => match &cache {
                None => Err(SealError::Symlink { path: found.path }),
                Some(cache) => parse(found.path).and_then(|path| {
                    let (at, size) = cache.file(&path)?;
                    files.push(SourceFile { path, size, at });
                    Ok(())
                }),
            },
            Kind::Special => Err(SealError::SpecialFile { path: found.path }),
            Kind::TooMany => Err(ManifestError::TooManyFiles { limit: MANIFEST_FILES, found: MANIFEST_FILES.saturating_add(1) }.into()),
            Kind::Unreadable(error) => Err(SealError::Io { action: "list", path: found.path, error }),
        }
    })?;
    files.sort_by(|one, two| one.path.cmp(&two.path));
    check_paths(files.iter().map(|file| &file.path))?;
    Ok(files)
}

/// Seals files to a folder in the making.
struct Beside<'a> {
    /// In the order of their paths.
    files: &'a [SourceFile],
    partial: &'a Partial,
}

impl SealPlaces for Beside<'_> {
    fn plaintext(&self, path: &ModelPath, size: u64) -> Result<Box<dyn PlainSource>, SealError> {
        let io = |error| SealError::Io { action: "open", path: path.to_string(), error };
        let file = self.files.binary_search_by(|file| file.path.cmp(path)).ok().and_then(|index| self.files.get(index));
        let at = file.map(|file| file.at.as_path()).ok_or_else(|| io(ErrorKind::NotFound.into()))?;
        let plaintext = PlainFile::open(at).map_err(io)?;
        if plaintext.size != size {
            return Err(SealError::SourceChanged { path: path.clone() });
        }
        Ok(Box::new(plaintext))
    }

    fn sealed(&self, path: &ModelPath, size: u64) -> Result<Box<dyn SharedSink>, SealError> {
        let io = |error| SealError::Io { action: "create the sealed", path: path.to_string(), error };
        Ok(Box::new(self.partial.file(path, size).map_err(io)?))
    }
}

/// What the manifest of a sealed folder says, without key; verified only as far as its `signer` says.
///
/// # Errors
/// [`OpenError::SealedNotAFolder`], [`OpenError::ManifestMissing`], and as [`Inspection::read`].
pub fn inspect_folder(sealed: &Path, publishers: &[PublicKey]) -> Result<Inspection, OpenError> {
    Inspection::read(&read_manifest(sealed)?, publishers)
}

/// The manifest's file of a sealed folder, no larger than its limit.
///
/// # Errors
/// [`OpenError::SealedNotAFolder`], [`OpenError::ManifestMissing`], [`OpenError::Symlink`], [`OpenError::Document`], [`OpenError::Io`].
pub fn read_manifest(sealed: &Path) -> Result<Vec<u8>, OpenError> {
    if !fs::metadata(sealed).is_ok_and(|metadata| metadata.is_dir()) {
        return Err(OpenError::SealedNotAFolder { path: shown(sealed) });
    }
    let path = sealed.join(MANIFEST_NAME);
    let io = |error: io::Error| match error.kind() {
        ErrorKind::NotFound => OpenError::ManifestMissing,
        _ => OpenError::Io { action: "read", path: MANIFEST_NAME.to_owned(), error },
    };
    if fs::symlink_metadata(&path).map_err(io)?.is_symlink() {
        return Err(OpenError::Symlink { path: MANIFEST_NAME.to_owned() });
    }
    let limit = ManifestBody::LIMIT;
    let mut json = Vec::new();
    let more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    open_regular(&path).map_err(io)?.take(more).read_to_end(&mut json).map_err(io)?;
    if json.len() > limit {
        return Err(DocumentError::TooLarge { limit, found: json.len() }.into());
    }
    Ok(json)
}

/// Opens a regular file for reading: does not follow a link in the last segment, does not wait for a pipe.
fn open_regular(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file")) }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
