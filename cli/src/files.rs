//! Files in and out: bounded reads, and writes that leave a whole file or none.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::failure::Failure;

/// Why a file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// The operating system refused to read it.
    #[error("cannot read {path}: {error}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is larger than anything of its kind.
    #[error("{path} is larger than {limit} bytes, the most that {what} may have", path = path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// The limit in bytes.
        limit: usize,
    },
    /// It should be text.
    #[error("{path} is not UTF-8 text", path = path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// It is there already.
    #[error("{path} exists already", path = path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused to write it.
    #[error("cannot write {path}: {error}", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Exists { .. } => Self::usage(error).hint("choose another name, or move the existing file away"),
            FileError::Write { .. } => Self::failed(error),
            FileError::Read { .. } | FileError::TooLarge { .. } | FileError::NotText { .. } => Self::usage(error),
        }
    }
}

/// Whether a path stands for standard input, or output: `-`.
pub(crate) fn is_standard_stream(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Reads a file of at most `limit` bytes; `-` is standard input. The buffer is erased when it goes, so secrets may stand in it.
pub(crate) fn read(path: &Path, what: &'static str, limit: usize) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let failed = |error| FileError::Read { path: path.to_owned(), error };
    if is_standard_stream(path) {
        read_from(io::stdin().lock(), path, what, limit)
    } else {
        read_from(File::open(path).map_err(failed)?, path, what, limit)
    }
}

fn read_from(source: impl Read, path: &Path, what: &'static str, limit: usize) -> Result<Zeroizing<Vec<u8>>, FileError> {
    // A buffer that grows leaves copies behind; one piece at a time through a fixed one, into room that is erased when outgrown.
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096.min(limit + 1)));
    let mut piece = Zeroizing::new([0; 4096]);
    let mut source = source.take(limit as u64 + 1);
    loop {
        let read = match source.read(piece.as_mut()) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(FileError::Read { path: path.to_owned(), error }),
        };
        if bytes.capacity() - bytes.len() < read {
            let mut larger = Zeroizing::new(Vec::with_capacity(bytes.capacity() * 2 + read));
            larger.extend_from_slice(&bytes);
            bytes = larger;
        }
        bytes.extend_from_slice(&piece[..read]);
    }
    if bytes.len() > limit { Err(FileError::TooLarge { path: path.to_owned(), what, limit }) } else { Ok(bytes) }
}

/// Reads a text file.
pub(crate) fn read_text(path: &Path, what: &'static str, limit: usize) -> Result<Zeroizing<String>, FileError> {
    let bytes = read(path, what, limit)?;
    std::str::from_utf8(&bytes).map(|text| Zeroizing::new(text.to_owned())).map_err(|_| FileError::NotText { path: path.to_owned() })
}

/// Who may read a new file.
#[derive(Clone, Copy)]
pub(crate) enum Access {
    /// The owner alone: secrets.
    Owner,
    /// Whoever the umask lets.
    Public,
}

impl Access {
    /// The mode that a new file is asked for with; the umask takes from it.
    fn permissions(self) -> fs::Permissions {
        fs::Permissions::from_mode(match self {
            Self::Owner => 0o600,
            Self::Public => 0o666,
        })
    }
}

/// Writes a new file, whole or not at all, and never over an existing one.
pub(crate) fn write_new(path: &Path, access: Access, bytes: &[u8]) -> Result<(), FileError> {
    expect_absent(path)?;
    let failed = |error| FileError::Write { path: path.to_owned(), error };
    let mut file = beside(path, access).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => Err(FileError::Exists { path: path.to_owned() }),
        Err(refused) => Err(failed(refused.error)),
    }
}

/// A file of no name yet in the folder of `path`.
fn beside(path: &Path, access: Access) -> io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new().prefix(".portcullis-").permissions(access.permissions()).tempfile_in(folder_of(path))
}

/// Writes a file, whole or not at all, over an older one if there is one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let failed = |error| FileError::Write { path: path.to_owned(), error };
    let mut file = beside(path, Access::Public).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    file.persist(path).map(|_| ()).map_err(|refused| failed(refused.error))
}

/// That nothing has this name yet, not even a dangling link.
pub(crate) fn expect_absent(path: &Path) -> Result<(), FileError> {
    if path.symlink_metadata().is_ok() { Err(FileError::Exists { path: path.to_owned() }) } else { Ok(()) }
}

/// The folder that a file stands in.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A path with something behind its name: `model` and `.key` give `model.key`.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_at_the_limit_is_read_and_one_above_it_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for size in [0, 1, 4096, 4097, 10_000] {
            fs::write(&path, vec![7; size]).unwrap();
            assert_eq!(read(&path, "a test", size).unwrap().as_slice(), vec![7; size]);
            if size > 0 {
                assert!(matches!(read(&path, "a test", size - 1), Err(FileError::TooLarge { limit, .. }) if limit == size - 1));
            }
        }
    }

    #[test]
    fn a_new_file_is_never_written_over_an_old_one_and_secrets_are_the_owners() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_new(&path, Access::Owner, b"one").unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(write_new(&path, Access::Public, b"two"), Err(FileError::Exists { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"one");
        replace(&path, b"three").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        // What everybody may read is what the umask lets: as of a file that anything else makes.
        let (public, other) = (folder.path().join("public"), folder.path().join("other"));
        write_new(&public, Access::Public, b"four").unwrap();
        File::create(&other).unwrap();
        for path in [&public, &path] {
            assert_eq!(path.metadata().unwrap().permissions().mode(), other.metadata().unwrap().permissions().mode());
        }
    }
}
