//! Lists a folder without following anything.

use std::ffi::OsString;
use std::fs::{self, FileType};
use std::io;
use std::path::Path;

/// What stands at a path.
pub(super) enum Kind {
    /// A regular file.
    File {
        /// Its bytes.
        size: u64,
    },
    /// A folder; its content follows.
    Folder,
    /// A symbolic link, to whatever.
    Symlink,
    /// A device, pipe or socket.
    Special,
    /// More entries in one folder than the caller wanted to see.
    TooMany,
    /// Something that the operating system does not let be looked at.
    Unreadable(io::Error),
}

/// One entry of the tree.
pub(super) struct Found {
    /// Relative to the folder, with `/` between segments. What is no UTF-8 shows as U+FFFD, which no path of a model has.
    pub(super) path: String,
    /// What it is.
    pub(super) kind: Kind,
}

/// Shows every entry below `root` to `visit`, a folder before its content, in the order of names; ends with its first error.
/// Of each folder it shows at most `most` entries, and says so where there are more, so that nobody's folder fills the memory.
pub(super) fn walk<E>(root: &Path, most: usize, visit: &mut dyn FnMut(Found) -> Result<(), E>) -> Result<(), E> {
    walk_in(root, "", most, visit)
}

fn walk_in<E>(folder: &Path, prefix: &str, most: usize, visit: &mut dyn FnMut(Found) -> Result<(), E>) -> Result<(), E> {
    let (names, more) = match names(folder, most) {
        Ok(listed) => listed,
        Err(error) => return visit(Found { path: prefix.to_owned(), kind: Kind::Unreadable(error) }),
    };
    for name in names {
        let full = folder.join(&name);
        let name = name.to_string_lossy();
        let path = if prefix.is_empty() { name.into_owned() } else { format!("{prefix}/{name}") };
        match fs::symlink_metadata(&full) {
            Err(error) => visit(Found { path, kind: Kind::Unreadable(error) })?,
            Ok(metadata) => {
                let kind = kind(metadata.file_type(), metadata.len());
                let folder = matches!(kind, Kind::Folder);
                visit(Found { path: path.clone(), kind })?;
                if folder {
                    walk_in(&full, &path, most, visit)?;
                }
            }
        }
    }
    match more {
        More::None => Ok(()),
        More::Some => visit(Found { path: prefix.to_owned(), kind: Kind::TooMany }),
    }
}

/// Whether a listing was cut.
enum More {
    None,
    Some,
}

/// The first `most` names that the system gives, sorted.
fn names(folder: &Path, most: usize) -> io::Result<(Vec<OsString>, More)> {
    let mut entries = fs::read_dir(folder)?;
    let mut names = entries.by_ref().take(most).map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok((names, if entries.next().is_some() { More::Some } else { More::None }))
}

fn kind(kind: FileType, size: u64) -> Kind {
    if kind.is_file() {
        Kind::File { size }
    } else if kind.is_dir() {
        Kind::Folder
    } else if kind.is_symlink() {
        Kind::Symlink
    } else {
        Kind::Special
    }
}
