//! A sealed folder as storage: what it has to hold, and ranges of its files.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::files::will_read;
use super::open_regular;
use super::walk::{Found, Kind, walk};
use crate::MANIFEST_NAME;
use crate::error::OpenError;
use crate::manifest::Contents;
use crate::path::ModelPath;
use crate::source::RangeSource;
use std::fs::File;
use std::os::unix::fs::FileExt;

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

    fn will_read(&self, path: &ModelPath, offset: u64, length: u64) {
        if let Ok(file) = self.file(path) {
            will_read(&file, offset, length);
        }
    }
}
