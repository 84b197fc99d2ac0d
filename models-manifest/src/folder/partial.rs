//! A folder in the making: beside its destination under another name, renamed when it is complete, removed when it is not.
//!
//! It consists of two: the outer one is its owner's alone as long as it exists, and locked by whoever fills it; the inner one is what becomes
//! the destination.

use protocol::ids::random_bytes;
use sha2::{Digest as _, Sha256};
use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::files::{NewFile, Origin};
use super::opening::Attempt;
use super::walk::{Found, Kind, walk};
use crate::error::DestinationError;
use crate::manifest::Contents;
use crate::path::ModelPath;

/// The inner folder's name.
const INNER: &str = "model";
/// How the outer folder's name begins.
const OUTER: &str = ".portcullis-partial-";

/// A temporary folder. Dropping it removes it with all that was written, but for a resumed [`Attempt`]; [`Self::publish`] makes it the destination.
pub(super) struct Partial {
    outer: PathBuf,
    inner: PathBuf,
    destination: PathBuf,
    /// Locked as long as this lives.
    _lock: File,
    attempt: Attempt,
}

/// Why a finished folder could not take its name.
pub(super) enum PublishError {
    /// The destination is no longer what it was.
    Destination(DestinationError),
    /// Any other reason.
    Io(io::Error),
}

/// Where a resumed attempt keeps its work.
pub(super) fn kept_place(destination: &Path) -> Result<PathBuf, DestinationError> {
    let destination = absolute(destination)?;
    let (Some(parent), Some(name)) = (destination.parent(), destination.file_name()) else { return Err(DestinationError::MountPoint) };
    // By its digest: with anything in front of it, the name might be too long.
    let digest = Sha256::digest(name.as_bytes());
    let short: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Ok(parent.join(format!("{OUTER}{short}")))
}

/// Removes what attempts of this user that were killed have left in `folder`: their temporary folders, of which none is locked by whoever
/// fills it. Another user's stay, and links are not followed. How many there were.
///
/// # Errors
/// The system's.
pub fn remove_abandoned(folder: &Path) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let is_ours = entry.file_name().as_bytes().starts_with(OUTER.as_bytes()) && entry.file_type()?.is_dir();
        // Held until it is gone: nobody takes it over meanwhile.
        if is_ours && let Ok(_lock) = claim(&entry.path(), Attempt::Resumed) {
            fs::remove_dir_all(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

impl Partial {
    /// Beside `destination`, which must not exist or be an empty folder, on its parent's file system, neither in `source` nor around it.
    pub(super) fn beside(destination: &Path, source: &Path) -> Result<Self, DestinationError> {
        Self::to_open(destination, Some(source), Attempt::Once)
    }

    /// The same where there may be no source folder, and what an earlier attempt kept.
    pub(super) fn to_open(destination: &Path, source: Option<&Path>, attempt: Attempt) -> Result<Self, DestinationError> {
        let destination = absolute(destination)?;
        let parent = destination.parent().ok_or(DestinationError::MountPoint)?;
        if let Some(source) = source {
            let source = source.canonicalize().map_err(|_| DestinationError::Parent)?;
            if destination.starts_with(&source) || source.starts_with(&destination) {
                return Err(DestinationError::Overlap);
            }
        }
        let existing = existing(&destination, parent)?;
        let outer = match attempt {
            Attempt::Once => {
                let random = random_bytes::<8>().map_or(0, u64::from_le_bytes);
                parent.join(format!("{OUTER}{random:016x}"))
            }
            Attempt::Resumed => kept_place(&destination)?,
        };
        let lock = claim(&outer, attempt)?;
        let partial = Self { inner: outer.join(INNER), outer, destination, _lock: lock, attempt };
        partial.make_inner(existing.as_ref()).map_err(|_| DestinationError::Parent)?;
        Ok(partial)
    }

    fn make_inner(&self, existing: Option<&Metadata>) -> io::Result<()> {
        match fs::create_dir(&self.inner) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => made?,
        }
        // An empty folder that somebody prepared keeps its mode.
        existing.map_or(Ok(()), |existing| fs::set_permissions(&self.inner, existing.permissions()))
    }

    pub(super) fn path(&self) -> &Path {
        &self.inner
    }

    /// Removes what an earlier attempt left, unless all of it could belong to `contents`.
    pub(super) fn keep_only(&self, contents: &Contents) -> io::Result<()> {
        if self.attempt == Attempt::Once {
            return Ok(());
        }
        let folders: HashSet<&str> = contents.files().iter().flat_map(|file| file.path().directories()).collect();
        let most = contents.files().len().saturating_add(folders.len());
        let fits = walk(&self.inner, most, &mut |found: Found| match found.kind {
            Kind::File { .. } if contents.find(&found.path).is_some() => Ok(()),
            Kind::Folder if folders.contains(found.path.as_str()) => Ok(()),
            _ => Err(()),
        });
        if fits.is_ok() {
            return Ok(());
        }
        let mode = fs::metadata(&self.inner)?.permissions();
        fs::remove_dir_all(&self.inner)?;
        fs::create_dir(&self.inner)?;
        fs::set_permissions(&self.inner, mode)
    }

    /// Creates the file at `path`, of so many bytes, none of them written, and the folders that it lies in. What an earlier attempt left of it is taken over.
    pub(super) fn file(&self, path: &ModelPath, size: u64) -> io::Result<NewFile> {
        let full = self.inner.join(path.to_path());
        let create = || OpenOptions::new().write(true).create_new(true).open(&full);
        let (file, origin) = match create() {
            Ok(file) => (file, Origin::New),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                full.parent().map_or(Ok(()), fs::create_dir_all)?;
                (create()?, Origin::New)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists && self.attempt == Attempt::Resumed => {
                (OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(&full)?, Origin::Earlier)
            }
            Err(error) => return Err(error),
        };
        if size > 0 || origin == Origin::Earlier {
            file.set_len(size)?;
        }
        Ok(NewFile { file, origin })
    }

    /// Gives the folder its name, in one step.
    pub(super) fn publish(mut self) -> Result<(), PublishError> {
        fs::rename(&self.inner, &self.destination).map_err(|error| match error.kind() {
            ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists => PublishError::Destination(DestinationError::NotEmpty),
            ErrorKind::NotADirectory => PublishError::Destination(DestinationError::NotAFolder),
            ErrorKind::ResourceBusy => PublishError::Destination(DestinationError::MountPoint),
            _ => PublishError::Io(error),
        })?;
        // Nothing is left to be kept; dropping removes the outer folder.
        self.attempt = Attempt::Once;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.attempt == Attempt::Once {
            // What cannot be removed now cannot be told from here either; the name says what it is.
            let _ = fs::remove_dir_all(&self.outer);
        }
    }
}

/// Makes the outer folder, or takes over that of an earlier attempt, and locks it.
fn claim(outer: &Path, attempt: Attempt) -> Result<File, DestinationError> {
    match DirBuilder::new().mode(0o700).create(outer) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && attempt == Attempt::Resumed => {}
        made => made.map_err(|_| DestinationError::Parent)?,
    }
    let flags = libc::O_NOFOLLOW | libc::O_DIRECTORY;
    let folder = OpenOptions::new().read(true).custom_flags(flags).open(outer).map_err(|_| DestinationError::KeptByOther)?;
    let found = folder.metadata().map_err(|_| DestinationError::Parent)?;
    // Where others can write, the name may be theirs: what they put there is neither to be read nor to be removed in their stead.
    if found.uid() != rustix::process::geteuid().as_raw() || found.mode() & 0o077 != 0 {
        return Err(DestinationError::KeptByOther);
    }
    folder.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => DestinationError::InUse,
        TryLockError::Error(_) => DestinationError::Parent,
    })?;
    // Whoever held the lock before may have finished meanwhile and removed it.
    let still = fs::symlink_metadata(outer).is_ok_and(|now| (now.dev(), now.ino()) == (found.dev(), found.ino()));
    if still { Ok(folder) } else { Err(DestinationError::InUse) }
}

/// The destination with every link in it resolved.
fn absolute(destination: &Path) -> Result<PathBuf, DestinationError> {
    if let Ok(existing) = destination.canonicalize() {
        return Ok(existing);
    }
    let name = destination.file_name().ok_or(DestinationError::Parent)?;
    let parent = destination.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(parent.canonicalize().map_err(|_| DestinationError::Parent)?.join(name))
}

/// The destination, where it exists and may be replaced.
fn existing(destination: &Path, parent: &Path) -> Result<Option<Metadata>, DestinationError> {
    let metadata = match fs::symlink_metadata(destination) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(_) => return Err(DestinationError::Parent),
    };
    if !metadata.is_dir() {
        return Err(DestinationError::NotAFolder);
    }
    if fs::read_dir(destination).map_err(|_| DestinationError::NotAFolder)?.next().is_some() {
        return Err(DestinationError::NotEmpty);
    }
    let parent = fs::metadata(parent).map_err(|_| DestinationError::Parent)?;
    if parent.dev() != metadata.dev() { Err(DestinationError::MountPoint) } else { Ok(Some(metadata)) }
}
