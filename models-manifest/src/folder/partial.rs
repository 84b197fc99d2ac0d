//! A folder in the making: beside its destination under another name, renamed when it is complete, removed when it is not.

use protocol::ids::random_bytes;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::DestinationError;
use crate::path::ModelPath;

/// A temporary folder. Dropping it removes it with all that was written; only [`Self::publish`] keeps it.
pub(super) struct Partial {
    path: PathBuf,
    destination: PathBuf,
}

/// Why a finished folder could not take its name.
pub(super) enum PublishError {
    /// The destination is no longer what it was.
    Destination(DestinationError),
    /// Any other reason.
    Io(io::Error),
}

impl Partial {
    /// Beside `destination`, which must not exist or be an empty folder, on its parent's file system, neither in `source` nor around it.
    pub(super) fn beside(destination: &Path, source: &Path) -> Result<Self, DestinationError> {
        let destination = absolute(destination)?;
        let parent = destination.parent().ok_or(DestinationError::MountPoint)?;
        let source = source.canonicalize().map_err(|_| DestinationError::Parent)?;
        if destination.starts_with(&source) || source.starts_with(&destination) {
            return Err(DestinationError::Overlap);
        }
        let existing = existing(&destination, parent)?;
        let random = random_bytes::<8>().map_or(0, u64::from_le_bytes);
        let path = parent.join(format!(".portcullis-partial-{random:016x}"));
        DirBuilder::new().create(&path).map_err(|_| DestinationError::Parent)?;
        let partial = Self { path, destination };
        if let Some(existing) = existing {
            // An empty folder that somebody prepared keeps its mode.
            fs::set_permissions(&partial.path, existing.permissions()).map_err(|_| DestinationError::Parent)?;
        }
        Ok(partial)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Creates the file at `path` and the folders that it lies in.
    pub(super) fn file(&self, path: &ModelPath) -> io::Result<File> {
        let full = self.path.join(path.to_path());
        if let Some(folder) = full.parent() {
            fs::create_dir_all(folder)?;
        }
        OpenOptions::new().write(true).create_new(true).open(full)
    }

    /// Gives the folder its name, in one step.
    pub(super) fn publish(self) -> Result<(), PublishError> {
        // Where this fails, dropping removes the temporary folder; where it succeeds, there is none under that name.
        fs::rename(&self.path, &self.destination).map_err(|error| match error.kind() {
            ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists => PublishError::Destination(DestinationError::NotEmpty),
            ErrorKind::NotADirectory => PublishError::Destination(DestinationError::NotAFolder),
            ErrorKind::ResourceBusy => PublishError::Destination(DestinationError::MountPoint),
            _ => PublishError::Io(error),
        })
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // What cannot be removed now cannot be told from here either; the name says what it is.
        let _ = fs::remove_dir_all(&self.path);
    }
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
