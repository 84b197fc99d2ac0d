//! The mount point: what is found there, and what is left behind.
//!
//! A mount server that was killed leaves a mount in which nothing can be opened: `ENOTCONN` ("transport endpoint is not connected").
//! Who still has files of it open or mapped keeps what the page cache has of them; the mount itself is detached here, so that the
//! next server can mount again at the same place. `docs/pods.md` says what readers see.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{major, minor};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use rustix::thread::{CapabilitySet, capabilities};

/// The device through which the kernel asks.
const DEVICE: &str = "/dev/fuse";
/// Its numbers (Linux, `Documentation/admin-guide/devices.txt`): runtimes put other devices in the place of what is not to be had.
const FUSE: (u32, u32) = (10, 229);
/// Dead mounts above each other that are detached at most: a server that is killed and started again cleans up each time.
const DEAD_MOUNTS: usize = 16;

/// Why nothing can be mounted there.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The kernel has no FUSE, or the container no device.
    #[error("cannot open {DEVICE}: {error}")]
    NoDevice {
        /// The system's error.
        error: io::Error,
    },
    /// Mounting needs `CAP_SYS_ADMIN` in the mount namespace's user namespace.
    #[error("this process may not mount: it has no CAP_SYS_ADMIN")]
    NotPermitted,
    /// There is something in the folder, or another file system mounted on it.
    #[error("{} is not empty", path.display())]
    NotEmpty {
        /// The mount point.
        path: PathBuf,
    },
    /// The mount point is no folder.
    #[error("{} is not a folder", path.display())]
    NotAFolder {
        /// The mount point.
        path: PathBuf,
    },
    /// It is not there and cannot be made, or cannot be looked at.
    #[error("cannot use {} as a mount point: {error}", path.display())]
    Unusable {
        /// The mount point.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The kernel refused to mount.
    #[error("cannot mount at {}: {error}", path.display())]
    Mount {
        /// The mount point.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
}

impl PlaceError {
    /// A stable name.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoDevice { .. } => "mount-no-device",
            Self::NotPermitted => "mount-not-permitted",
            Self::NotEmpty { .. } => "mount-not-empty",
            Self::NotAFolder { .. } => "mount-not-a-folder",
            Self::Unusable { .. } => "mount-unusable",
            Self::Mount { .. } => "mount-refused",
        }
    }

    /// What may help.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NoDevice { .. } => "give the container /dev/fuse, or use unseal, which needs no device",
            Self::NotPermitted => "use exec, which mounts in a user namespace of its own, or unseal, which needs no privilege",
            Self::NotEmpty { .. } => "name an empty folder, or one that does not exist yet; another mount may be there",
            Self::NotAFolder { .. } => "name an empty folder, or one that does not exist yet",
            Self::Unusable { .. } => "the folder that it lies in must exist and be writable, or the image must bring the mount point",
            Self::Mount { .. } => "seccomp or a security module may forbid mount(2); unseal needs neither",
        }
    }
}

/// What was done to make a place ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readied {
    /// Dead mounts that were detached.
    pub detached: usize,
}

/// Checks what can be known before anything is mounted at `path`, and changes nothing but dead mounts, which go.
///
/// # Errors
/// [`PlaceError`].
pub fn ready(path: &Path) -> Result<Readied, PlaceError> {
    let device = fs::OpenOptions::new().read(true).write(true).open(DEVICE).and_then(|device| device.metadata());
    match device {
        Ok(device) if device.file_type().is_char_device() && (major(device.rdev()), minor(device.rdev())) == FUSE => {}
        Ok(_) => return Err(PlaceError::NoDevice { error: Errno::NODEV.into() }),
        Err(error) => return Err(PlaceError::NoDevice { error }),
    }
    if !capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN)) {
        return Err(PlaceError::NotPermitted);
    }
    let detached = detach_dead(path)?;
    let unusable = |error| PlaceError::Unusable { path: path.to_owned(), error };
    match fs::read_dir(path) {
        Ok(mut entries) => match entries.next() {
            None => Ok(Readied { detached }),
            Some(_) => Err(PlaceError::NotEmpty { path: path.to_owned() }),
        },
        Err(error) if error.kind() == ErrorKind::NotADirectory => Err(PlaceError::NotAFolder { path: path.to_owned() }),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            fs::metadata(parent).map_err(unusable)?;
            Ok(Readied { detached })
        }
        Err(error) => Err(unusable(error)),
    }
}

/// Detaches mounts at `path` whose server is gone. They are known by `statfs`, which always asks the server; attributes the kernel
/// may still know, and so `stat` may still answer.
fn detach_dead(path: &Path) -> Result<usize, PlaceError> {
    for detached in 0..DEAD_MOUNTS {
        match rustix::fs::statfs(path) {
            Err(Errno::NOTCONN) => unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
                .map_err(|error| PlaceError::Unusable { path: path.to_owned(), error: error.into() })?,
            _ => return Ok(detached),
        }
    }
    Err(PlaceError::Unusable { path: path.to_owned(), error: Errno::NOTCONN.into() })
}

/// A mount point in use. Dropping it removes the folder, if it was made for this.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    made: bool,
}

impl Place {
    /// Checks as [`ready`], and makes the folder if there is none.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub fn take(path: &Path) -> Result<Self, PlaceError> {
        ready(path)?;
        let unusable = |error| PlaceError::Unusable { path: path.to_owned(), error };
        let made = match DirBuilder::new().create(path) {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
            Err(error) => return Err(unusable(error)),
        };
        // Later the working directory may be another, and what the path leads through may have links.
        Ok(Self { path: path.canonicalize().map_err(unusable)?, made })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the mount away; from who has files of it open, only its name.
    pub fn unmount(&self) {
        if unmount(&self.path, UnmountFlags::NOFOLLOW) == Err(Errno::BUSY) {
            // Somebody else may have detached it meanwhile.
            let _ = unmount(&self.path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.made {
            // A folder that has become something else stays.
            let _ = fs::remove_dir(&self.path);
        }
    }
}
