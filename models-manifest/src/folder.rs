//! The only module that touches the file system: a folder in, a folder out.
//!
//! Whatever is made is made in a temporary folder beside the destination and renamed at the end; a failure removes it. Folders
//! exist through their files, as in git: an empty one is not sealed. Times and modes are not kept.

use protocol::dsse::{Body, DocumentError};
use protocol::ids::{Digest, Name, Version};
use protocol::keys::{PublicKey, SigningKey};
use protocol::limits::MANIFEST_FILES;
use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::MANIFEST_NAME;
use crate::cipher::Backend;
use crate::error::{OpenError, SealError};
use crate::geometry::ChunkSize;
use crate::keys::ModelKey;
use crate::manifest::{Contents, FileEntry, Inspection, Manifest, ManifestBody, ManifestError, check_paths};
use crate::open::{ChunkBuffer, SealedModel};
use crate::path::ModelPath;
use crate::seal::{Sealed, Sealing};
use crate::source::{Meter, Progress, RangeSink, RangeSource};

mod partial;
mod walk;

use partial::Partial;
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
}

/// Seals a folder under a fresh model key and signs its manifest.
///
/// # Errors
/// [`SealError`], by its variants; the destination is then as it was.
pub fn seal_folder(order: &SealFolder<'_>, signer: &SigningKey, progress: &mut dyn Progress) -> Result<Sealed, SealError> {
    seal_folder_in(Sealing::begin(order.chunk_size, order.backend)?, order, signer, progress)
}

pub(crate) fn seal_folder_in(
    mut sealing: Sealing,
    order: &SealFolder<'_>,
    signer: &SigningKey,
    progress: &mut dyn Progress,
) -> Result<Sealed, SealError> {
    let files = plaintext_files(order.source)?;
    let partial = Partial::beside(order.destination, order.source)?;
    let mut meter = Meter::new(files.iter().fold(0, |sum, (_, size)| sum.saturating_add(*size)), progress);
    let mut entries = Vec::with_capacity(files.len());
    for (path, size) in &files {
        entries.push(seal_file(&mut sealing, order.source, path, *size, &partial, &mut meter)?);
    }
    let sealed = sealing.finish(order.name.clone(), order.version, entries, signer)?;
    let io = |error| SealError::Io { action: "write", path: MANIFEST_NAME.to_owned(), error };
    fs::write(partial.path().join(MANIFEST_NAME), sealed.document.to_json()).map_err(io)?;
    partial.publish().map_err(|error| match error {
        partial::PublishError::Destination(error) => error.into(),
        partial::PublishError::Io(error) => SealError::Io { action: "rename to", path: shown(order.destination), error },
    })?;
    Ok(sealed)
}

/// The files to seal with their sizes, in the manifest's order; every rule of the manifest on paths is checked here, before any work.
fn plaintext_files(source: &Path) -> Result<Vec<(ModelPath, u64)>, SealError> {
    if !fs::metadata(source).is_ok_and(|metadata| metadata.is_dir()) {
        return Err(SealError::SourceNotAFolder { path: shown(source) });
    }
    let mut files = Vec::new();
    walk(source, MANIFEST_FILES, &mut |found: Found| {
        let parse = |path: String| path.parse::<ModelPath>().map_err(|error| SealError::Path { path, error });
        match found.kind {
            Kind::Folder => parse(found.path).map(|_| ()),
            Kind::File { size } => parse(found.path).map(|path| files.push((path, size))),
            Kind::Symlink => Err(SealError::Symlink { path: found.path }),
            Kind::Special => Err(SealError::SpecialFile { path: found.path }),
            Kind::TooMany => Err(ManifestError::TooManyFiles { limit: MANIFEST_FILES, found: MANIFEST_FILES.saturating_add(1) }.into()),
            Kind::Unreadable(error) => Err(SealError::Io { action: "list", path: found.path, error }),
        }
    })?;
    files.sort();
    check_paths(files.iter().map(|(path, _)| path))?;
    Ok(files)
}

fn seal_file(
    sealing: &mut Sealing,
    source: &Path,
    path: &ModelPath,
    size: u64,
    partial: &Partial,
    meter: &mut Meter<'_>,
) -> Result<FileEntry, SealError> {
    let io = |action| move |error| SealError::Io { action, path: path.to_string(), error };
    let mut plaintext = open_regular(&source.join(path.to_path())).map_err(io("open"))?;
    let before = plaintext.metadata().map_err(io("open"))?;
    if before.len() != size {
        return Err(SealError::SourceChanged { path: path.clone() });
    }
    let mut sealed = FileSink(partial.file(path).map_err(io("create the sealed"))?);
    let entry = sealing.file(path, size, &mut plaintext, &mut sealed, meter)?;
    let after = plaintext.metadata().map_err(io("open"))?;
    if (after.len(), after.modified().ok()) != (before.len(), before.modified().ok()) {
        return Err(SealError::SourceChanged { path: path.clone() });
    }
    Ok(entry)
}

/// What to open, and whose word for it to take.
#[derive(Clone, Copy, Debug)]
pub struct OpenFolder<'a> {
    /// The sealed folder.
    pub sealed: &'a Path,
    /// Whose manifests are believed.
    pub publishers: &'a [PublicKey],
    /// The digest of the manifest that was released.
    pub released: &'a Digest,
    /// Which implementation decrypts.
    pub backend: Backend,
}

/// Opens a sealed folder to `destination`, a new or empty folder. The file system that it lies on is the caller's to judge.
///
/// # Errors
/// [`OpenError`], by its variants; the destination is then as it was.
pub fn open_folder(order: OpenFolder<'_>, key: ModelKey, destination: &Path, progress: &mut dyn Progress) -> Result<Contents, OpenError> {
    let model = unlock_folder(order, key)?;
    let partial = Partial::beside(destination, order.sealed)?;
    let mut meter = Meter::new(model.contents().total(), progress);
    let mut buffer = ChunkBuffer::new();
    for file in model.contents().files() {
        let sealed = model.file(file.path().as_str())?;
        let io = |error| OpenError::Io { action: "create the opened", path: file.path().to_string(), error };
        let mut opened = FileSink(partial.file(file.path()).map_err(io)?);
        sealed.copy_to(&mut opened, &mut buffer, &mut meter)?;
    }
    partial.publish().map_err(|error| match error {
        partial::PublishError::Destination(error) => error.into(),
        partial::PublishError::Io(error) => OpenError::Io { action: "rename to", path: shown(destination), error },
    })?;
    Ok(model.contents().clone())
}

/// Everything that can be known of a sealed folder before its first chunk: manifest, key, and that the folder holds the listed
/// files, in their sizes, and nothing else. For random access, give the result to [`crate::Reader::new`].
///
/// # Errors
/// In this order: as [`Manifest::authenticate`]; [`OpenError::WrongKey`]; [`OpenError::Symlink`], [`OpenError::SpecialFile`],
/// [`OpenError::Unlisted`], [`OpenError::FileSize`], [`OpenError::FileMissing`].
pub fn unlock_folder(order: OpenFolder<'_>, key: ModelKey) -> Result<SealedModel<FolderSource>, OpenError> {
    let json = read_manifest(order.sealed)?;
    let manifest = Manifest::authenticate(&json, order.publishers, order.released)?;
    let model = SealedModel::unlock(FolderSource::new(order.sealed), manifest, key, order.backend)?;
    model.source().check_listing(model.contents())?;
    Ok(model)
}

/// What the manifest of a sealed folder says, without key; verified only as far as its `signer` says.
///
/// # Errors
/// [`OpenError::SealedNotAFolder`], [`OpenError::ManifestMissing`], and as [`Inspection::read`].
pub fn inspect_folder(sealed: &Path, publishers: &[PublicKey]) -> Result<Inspection, OpenError> {
    Inspection::read(&read_manifest(sealed)?, publishers)
}

/// The manifest's file, no larger than its limit.
fn read_manifest(sealed: &Path) -> Result<Vec<u8>, OpenError> {
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

/// A file written to by positions.
struct FileSink(File);

impl RangeSink for FileSink {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }
}

/// Files that a [`FolderSource`] keeps open.
const OPEN_FILES: usize = 32;

/// A sealed folder as a [`RangeSource`].
pub struct FolderSource {
    root: PathBuf,
    open: Mutex<Vec<(ModelPath, Arc<File>)>>,
}

impl FolderSource {
    /// Over the sealed folder at `root`. Reads nothing yet.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), open: Mutex::default() }
    }

    /// That the folder holds the files of `contents`, in their sealed sizes, the manifest, and nothing else.
    ///
    /// # Errors
    /// [`OpenError::Symlink`], [`OpenError::SpecialFile`], [`OpenError::Unlisted`], [`OpenError::FileSize`], [`OpenError::FileMissing`].
    pub fn check_listing(&self, contents: &Contents) -> Result<(), OpenError> {
        let folders: HashSet<&str> = contents.files().iter().flat_map(|file| file.path().directories()).collect();
        let mut seen = HashSet::new();
        let most = contents.files().len().saturating_add(folders.len()).saturating_add(1);
        walk(&self.root, most, &mut |found: Found| match found.kind {
            Kind::Symlink => Err(OpenError::Symlink { path: found.path }),
            Kind::Special => Err(OpenError::SpecialFile { path: found.path }),
            Kind::Unreadable(error) => Err(OpenError::Io { action: "list", path: found.path, error }),
            Kind::Folder if folders.contains(found.path.as_str()) => Ok(()),
            Kind::File { .. } if found.path == MANIFEST_NAME => Ok(()),
            Kind::File { size } => {
                let index = contents.find(&found.path);
                let Some((index, file)) = index.and_then(|index| Some((index, contents.files().get(index)?))) else {
                    return Err(OpenError::Unlisted { path: found.path });
                };
                let expected = file.geometry().sealed_size();
                if size != expected {
                    return Err(OpenError::FileSize { path: file.path().clone(), expected, found: size });
                }
                seen.insert(index);
                Ok(())
            }
            Kind::Folder | Kind::TooMany => Err(OpenError::Unlisted { path: found.path }),
        })?;
        let mut missing = contents.files().iter().enumerate().filter(|(index, _)| !seen.contains(index));
        missing.next().map_or(Ok(()), |(_, file)| Err(OpenError::FileMissing { path: file.path().clone() }))
    }

    fn file(&self, path: &ModelPath) -> io::Result<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, file)) = open.iter().find(|(name, _)| name == path) {
            return Ok(file.clone());
        }
        let file = Arc::new(open_regular(&self.root.join(path.to_path()))?);
        if open.len() >= OPEN_FILES {
            open.remove(0);
        }
        open.push((path.clone(), file.clone()));
        Ok(file)
    }
}

impl RangeSource for FolderSource {
    fn length(&self, path: &ModelPath) -> io::Result<u64> {
        Ok(self.file(path)?.metadata()?.len())
    }

    fn read_at(&self, path: &ModelPath, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file(path)?.read_exact_at(buffer, offset)
    }
}
