//! Where plaintext may go: memory of the guest, which its host cannot read, unless somebody says by name that a disk will do.
//!
//! A guest's memory is encrypted; what it writes to a disk, a shared folder or the network is not, whatever the mount is called.
//! So a destination is judged by the kernel's own word for the file system (`statfs`): tmpfs and ramfs pass, everything else is
//! refused. tmpfs is memory only while nothing swaps it out, so active swap refuses it too, unless it is mounted `noswap`. Keys and
//! what is being decrypted lie in this process's own memory, so there it takes more: a cgroup that swaps nothing.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{major, minor, statfs};

use crate::capacity;

/// `TMPFS_MAGIC` (`include/uapi/linux/magic.h`).
const TMPFS: i64 = 0x0102_1994;
/// `RAMFS_MAGIC`.
const RAMFS: i64 = 0x8584_58f6;
/// The names of the others that people meet (`include/uapi/linux/magic.h` and the file systems' own headers).
const NAMES: [(i64, &str); 9] = [
    (0x6573_5546, "FUSE or virtiofs"),
    (0x0102_1997, "9p"),
    (0x6969, "NFS"),
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0x794c_7630, "overlayfs"),
    (0xff53_4d42, "SMB"),
    (0x9584_58f6, "hugetlbfs"),
];

/// Why plaintext may not go there.
#[derive(Debug, thiserror::Error)]
pub enum DestinationError {
    /// Another file system than memory.
    #[error("{} lies on {file_system}, which the host may read", path.display())]
    NotMemory {
        /// The folder.
        path: PathBuf,
        /// The file system, by name or magic number.
        file_system: String,
    },
    /// The kernel may write tmpfs to disk.
    #[error("{} is tmpfs, and swap is active on {device}", path.display())]
    Swap {
        /// The folder.
        path: PathBuf,
        /// The first swap device or file.
        device: String,
    },
    /// The kernel may write this process's memory to disk.
    #[error("swap is active on {device}, and keys and what is decrypted pass through memory that may be swapped")]
    ServerSwap {
        /// The first swap device or file.
        device: String,
    },
    /// It cannot be told.
    #[error("cannot tell where {} lies: {error}", path.display())]
    Unknown {
        /// The folder or file that was looked at.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
}

impl DestinationError {
    /// A stable name.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotMemory { .. } => "destination-not-memory",
            Self::Swap { .. } => "destination-swap",
            Self::ServerSwap { .. } => "destination-server-swap",
            Self::Unknown { .. } => "destination-unknown",
        }
    }

    /// What may help.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NotMemory { .. } => "mount a tmpfs there, or, where the disk is encrypted by the guest itself, say --to-disk",
            Self::ServerSwap { .. } => {
                "swapoff -a; or forbid this process's cgroup to swap (memory.swap.max = 0; systemd: MemorySwapMax=0); or say plaintext = \"disk\""
            }
            Self::Swap { .. } => "swapoff -a, or mount the tmpfs with noswap (Linux 6.4), or say --to-disk",
            Self::Unknown { .. } => "the folder that it shall lie in must exist",
        }
    }
}

/// What a folder lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// tmpfs or ramfs.
    Memory,
    /// Anything else.
    Other,
}

/// What `folder` lies on.
///
/// # Errors
/// The system's.
pub fn kind(folder: &Path) -> Result<Kind, rustix::io::Errno> {
    Ok(if matches!(statfs(folder)?.f_type, TMPFS | RAMFS) { Kind::Memory } else { Kind::Other })
}

/// Checks that what this process holds in its own memory stays there: that nothing is swapped, or nothing of its cgroup.
///
/// # Errors
/// [`DestinationError::ServerSwap`], [`DestinationError::Unknown`].
pub fn never_swapped() -> Result<(), DestinationError> {
    let path = Path::new("/proc/swaps");
    let swaps = match fs::read_to_string(path) {
        // A kernel without swap.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        read => read.map_err(|error| DestinationError::Unknown { path: path.to_owned(), error })?,
    };
    match active_swap(&swaps) {
        Some(device) if !capacity::swaps_nothing() => Err(DestinationError::ServerSwap { device }),
        _ => Ok(()),
    }
}

/// Checks that what is written to `path`, which need not exist yet, stays in memory, and what this process holds on the way there, too.
///
/// # Errors
/// [`DestinationError`].
pub fn in_memory(path: &Path) -> Result<(), DestinationError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    judge(parent)?;
    // What is there already may be a mount of its own.
    if path.exists() {
        judge(path)?;
    }
    never_swapped()
}

fn judge(folder: &Path) -> Result<(), DestinationError> {
    let unknown = |error| DestinationError::Unknown { path: folder.to_owned(), error };
    let kind = statfs(folder).map_err(|error| unknown(error.into()))?.f_type;
    match kind {
        RAMFS => Ok(()),
        TMPFS => {
            let device = fs::metadata(folder).map_err(unknown)?.dev();
            let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(unknown)?;
            if is_noswap(&mounts, device) {
                return Ok(());
            }
            let swaps = fs::read_to_string("/proc/swaps").map_err(unknown)?;
            match active_swap(&swaps) {
                Some(device) => Err(DestinationError::Swap { path: folder.to_owned(), device }),
                None => Ok(()),
            }
        }
        other => Err(DestinationError::NotMemory { path: folder.to_owned(), file_system: name(other) }),
    }
}

fn name(kind: i64) -> String {
    NAMES
        .iter()
        .find(|(magic, _)| *magic == kind)
        .map_or_else(|| format!("a file system of type {kind:#x}"), |(_, name)| (*name).to_owned())
}

/// The first device in `/proc/swaps`: one line a device behind a line of titles.
fn active_swap(swaps: &str) -> Option<String> {
    swaps.lines().skip(1).find_map(|line| line.split_whitespace().next()).map(str::to_owned)
}

/// Whether the mount of `device` has the option `noswap` (`proc_pid_mountinfo(5)`: the third field is the device, what stands
/// behind ` - ` is type, source and the options of the file system).
fn is_noswap(mounts: &str, device: u64) -> bool {
    let device = format!("{}:{}", major(device), minor(device));
    let options = |line: &str| line.split_once(" - ").and_then(|(_, rest)| rest.split(' ').nth(2).map(str::to_owned));
    mounts
        .lines()
        .filter(|line| line.split(' ').nth(2) == Some(device.as_str()))
        .filter_map(options)
        .any(|options| options.split(',').any(|option| option == "noswap"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_passes_and_a_disk_is_refused_by_name() {
        let shm = Path::new("/dev/shm");
        if statfs(shm).is_ok_and(|found| found.f_type == TMPFS) && active_swap(&fs::read_to_string("/proc/swaps").unwrap()).is_none() {
            assert!(in_memory(&shm.join("not-there-yet")).is_ok());
        } else {
            println!("skipped: /dev/shm is no tmpfs here, or swap is active");
        }
        assert!(matches!(in_memory(Path::new("/proc/model")), Err(DestinationError::NotMemory { .. })));
        assert!(matches!(in_memory(Path::new("/nonexistent/folder/model")), Err(DestinationError::Unknown { .. })));
    }

    #[test]
    fn the_file_systems_that_people_meet_have_names() {
        assert_eq!(name(0x6573_5546), "FUSE or virtiofs");
        assert_eq!(name(0x1234), "a file system of type 0x1234");
        assert!(NAMES.iter().all(|(magic, _)| *magic != TMPFS && *magic != RAMFS));
    }

    #[test]
    fn swap_is_active_where_a_device_is_listed() {
        let titles = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
        assert_eq!(active_swap(titles), None);
        assert_eq!(
            active_swap(&format!("{titles}/dev/vdb                                partition\t2097148\t0\t-2\n")),
            Some("/dev/vdb".into())
        );
    }

    #[test]
    fn noswap_is_an_option_of_the_file_system_on_that_device() {
        let mounts = "36 35 0:42 / /run/models rw,nosuid shared:1 - tmpfs tmpfs rw,size=1024k,noswap\n\
                      37 35 0:43 / /run/noswap rw,noswap - tmpfs noswap rw,size=1024k\n";
        assert!(is_noswap(mounts, rustix::fs::makedev(0, 42)));
        assert!(!is_noswap(mounts, rustix::fs::makedev(0, 43)), "a mount option or a name is not a file system's option");
        assert!(!is_noswap(mounts, rustix::fs::makedev(0, 4)));
    }
}
