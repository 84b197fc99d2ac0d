//! The layout of Hugging Face's cache: one folder a repository, in which a revision's files are links to blobs.
//!
//! ```text
//! models--ORG--NAME/refs/main                      the text of a revision
//! models--ORG--NAME/snapshots/REVISION/FOLDER/FILE -> ../../../blobs/HASH
//! models--ORG--NAME/blobs/HASH
//! ```
//! Only in such a folder are links followed when it is sealed, and only to regular files of its own `blobs`.

use std::fs;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use super::{open_regular, shown};
use crate::error::SealError;
use crate::path::ModelPath;

/// How folders of repositories are named.
const KINDS: [&str; 3] = ["models--", "datasets--", "spaces--"];

/// The most bytes of a reference that are read: a revision's name.
const REFERENCE: u64 = 256;

/// A snapshot in the folder of its repository.
pub(super) struct Cache {
    snapshot: PathBuf,
    blobs: PathBuf,
}

impl Cache {
    /// Around `source`, if it is a whole snapshot: `models--…/snapshots/REVISION` with `blobs` beside `snapshots`.
    pub(super) fn around(source: &Path) -> Option<Self> {
        let snapshot = source.canonicalize().ok()?;
        let snapshots = snapshot.parent().filter(|folder| folder.file_name().is_some_and(|name| name == "snapshots"))?;
        let repository = snapshots.parent().filter(|folder| is_repository(folder))?;
        let blobs = repository.join("blobs");
        // A link in place of the folder itself would lead anywhere.
        fs::symlink_metadata(&blobs).is_ok_and(|metadata| metadata.is_dir()).then_some(Self { blobs, snapshot })
    }

    /// Where the file that the link at `path` stands for lies, and its size.
    pub(super) fn file(&self, path: &ModelPath) -> Result<(PathBuf, u64), SealError> {
        let link = self.snapshot.join(path.to_path());
        let target = fs::read_link(&link).map_err(|error| SealError::Io { action: "read the link", path: path.to_string(), error })?;
        let outside = || SealError::CacheLink { path: path.clone(), target: shown(&target) };
        // By the letters alone: every folder on the way is no link, as the snapshot's path is canonical and links to folders are no files.
        let resolved = without_dots(&link.parent().unwrap_or(&self.snapshot).join(&target)).ok_or_else(outside)?;
        if resolved.parent() != Some(self.blobs.as_path()) {
            return Err(outside());
        }
        let metadata = fs::symlink_metadata(&resolved).map_err(|_| outside())?;
        if metadata.is_file() { Ok((resolved, metadata.len())) } else { Err(outside()) }
    }
}

/// Whether a folder is named as that of a repository.
fn is_repository(folder: &Path) -> bool {
    folder.file_name().and_then(|name| name.to_str()).is_some_and(|name| KINDS.iter().any(|kind| name.starts_with(kind)))
}

/// An absolute path with each `..` taken together with the folder before it; `None` where one has none.
fn without_dots(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if plain.parent().is_none() => return None,
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    Some(plain)
}

/// The snapshot that a repository's folder in a cache holds for `revision`: a commit, or a name under `refs` such as `main`.
/// `Ok(None)` where `folder` is not named as one of a cache.
///
/// # Errors
/// [`SealError::NoSnapshot`].
pub fn cache_snapshot(folder: &Path, revision: &str) -> Result<Option<PathBuf>, SealError> {
    let Ok(repository) = folder.canonicalize() else { return Ok(None) };
    if !is_repository(&repository) || !repository.join("snapshots").is_dir() {
        return Ok(None);
    }
    let missing = || SealError::NoSnapshot { folder: shown(folder), revision: revision.to_owned() };
    let is_plain = |name: &str| !name.is_empty() && !name.split('/').any(|part| matches!(part, "" | "." | ".."));
    if !is_plain(revision) {
        return Err(missing());
    }
    let mut commit = String::new();
    match open_regular(&repository.join("refs").join(revision)) {
        Ok(reference) => {
            reference.take(REFERENCE).read_to_string(&mut commit).map_err(|_| missing())?;
        }
        Err(_) => revision.clone_into(&mut commit),
    }
    let commit = commit.trim_ascii();
    let snapshot = repository.join("snapshots").join(commit);
    let is_folder = fs::symlink_metadata(&snapshot).is_ok_and(|metadata| metadata.is_dir());
    if is_plain(commit) && !commit.contains('/') && is_folder { Ok(Some(snapshot)) } else { Err(missing()) }
}
