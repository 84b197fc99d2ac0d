//! Huge pages for a tmpfs that models are opened to: whoever writes onto pages of 2 MiB waits less for the kernel to find them.
//!
//! A tmpfs has them where it was mounted with `huge=always` or `huge=within_size`. A memory volume of a pod is mounted by others, without;
//! whoever may administer it (`CAP_SYS_ADMIN`) can still ask for them. `within_size` is asked for, not `always`: only what a file fills is
//! huge, so a small file takes no more memory than before, and what fits by its size goes on fitting.
//!
//! Only a tmpfs of its own is asked: one that is mounted on that very folder, whole. Part of another, `/run` or `/dev/shm`, say, belongs to
//! others too.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{FsPickFlags, fsconfig_reconfigure, fsconfig_set_flag, fsconfig_set_string, fspick};

use crate::destination::{Kind, kind};

/// What a folder has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HugePages {
    /// No file system in memory, or none that this question is about (ramfs).
    NoTmpfs,
    /// It was mounted with them.
    There,
    /// It has them since this asked for them.
    Given,
    /// It lies in a tmpfs that is not its own: nobody was asked.
    Shared,
    /// The kernel refuses them: `EPERM` for whoever may not administer the tmpfs, `EINVAL` where it has none.
    Refused(Errno),
}

/// Asks for huge pages in the tmpfs that is mounted on `folder`.
///
/// # Errors
/// The system's, where it cannot be told what `folder` lies on.
pub fn ask(folder: &Path) -> io::Result<HugePages> {
    if kind(folder)? != Kind::Memory {
        return Ok(HugePages::NoTmpfs);
    }
    let folder = folder.canonicalize()?;
    let mounts = fs::read("/proc/self/mountinfo")?;
    Ok(match mount_at(&mounts, &folder) {
        None => HugePages::Shared,
        Some(mount) if mount.kind != b"tmpfs" => HugePages::NoTmpfs,
        Some(mount) if mount.is_huge() => HugePages::There,
        Some(mount) if mount.root != b"/" => HugePages::Shared,
        Some(mount) => give(&folder, &mount).map_or_else(HugePages::Refused, |()| HugePages::Given),
    })
}

/// Changes this one option; the others stay as they are. `noswap` stays too, but kernels there are (6.4 and later) want it said once more.
fn give(mount_point: &Path, mount: &Mount<'_>) -> Result<(), Errno> {
    let tmpfs = fspick(CWD, mount_point, FsPickFlags::FSPICK_CLOEXEC)?;
    if mount.has(b"noswap") {
        fsconfig_set_flag(&tmpfs, "noswap")?;
    }
    fsconfig_set_string(&tmpfs, "huge", "within_size")?;
    fsconfig_reconfigure(&tmpfs)
}

/// A line of `/proc/self/mountinfo`, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
struct Mount<'l> {
    /// Which part of the file system is mounted; `/` is all of it.
    root: &'l [u8],
    kind: &'l [u8],
    /// The options of the file system.
    options: &'l [u8],
}

impl Mount<'_> {
    fn has(&self, option: &[u8]) -> bool {
        self.options.split(|byte| *byte == b',').any(|found| found == option)
    }

    fn is_huge(&self) -> bool {
        self.has(b"huge=always") || self.has(b"huge=within_size")
    }
}

/// What is mounted on `folder`: the last one, which lies on top (`proc_pid_mountinfo(5)`: the fourth field is the root, the fifth the mount
/// point; behind ` - ` stand type, source and the options of the file system).
fn mount_at<'m>(mounts: &'m [u8], folder: &Path) -> Option<Mount<'m>> {
    let folder = escaped(folder);
    let mounted = |line: &'m [u8]| {
        let mut fields = line.split(|byte| *byte == b' ');
        let (root, point) = (fields.nth(3)?, fields.next()?);
        let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
        let (kind, options) = (rest.next()?, rest.nth(1)?);
        (point == folder).then_some(Mount { root, kind, options })
    };
    mounts.split(|byte| *byte == b'\n').rev().find_map(mounted)
}

/// As `mountinfo` writes a path.
fn escaped(path: &Path) -> Vec<u8> {
    let mut field = Vec::with_capacity(path.as_os_str().len());
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => field.extend(format!("\\{byte:03o}").into_bytes()),
            _ => field.push(*byte),
        }
    }
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &[u8] = b"22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n\
        36 22 0:42 / /run/models rw,nosuid shared:2 - tmpfs tmpfs rw,size=1024k\n\
        37 22 0:43 /part /run/part rw,nosuid - tmpfs huge=always rw,size=1024k,huge=advise\n\
        38 22 0:44 / /run/my\\040models rw shared:3 master:1 - tmpfs tmpfs rw,huge=within_size\n\
        39 22 0:45 / /run/two rw - ext4 /dev/vdb rw\n\
        40 39 0:46 / /run/two rw - tmpfs - rw,huge=always\n";

    #[test]
    fn the_mount_on_a_folder_is_found_whatever_the_folder_is_called() {
        let at = |path: &str| mount_at(MOUNTS, Path::new(path));
        assert_eq!(at("/run/models"), Some(Mount { root: b"/", kind: b"tmpfs", options: b"rw,size=1024k" }));
        assert_eq!(at("/run/part").unwrap().root, b"/part");
        assert_eq!(at("/run/my models").unwrap().options, b"rw,huge=within_size");
        assert_eq!(at("/run/two").unwrap().kind, b"tmpfs", "the one on top");
        assert_eq!((at("/run/models/acme"), at("/run")), (None, None));
    }

    #[test]
    fn pages_are_huge_by_the_file_systems_own_option() {
        let huge = |path: &str| mount_at(MOUNTS, Path::new(path)).unwrap().is_huge();
        assert!(huge("/run/my models") && huge("/run/two"));
        assert!(!huge("/run/models") && !huge("/run/part"), "neither a source's name nor huge=advise");
    }

    #[test]
    fn only_a_tmpfs_of_its_own_is_asked() {
        assert_eq!(ask(Path::new("/proc/self")).unwrap(), HugePages::NoTmpfs);
        assert_eq!(ask(Path::new("/nonexistent")).unwrap_err().kind(), io::ErrorKind::NotFound);
        let Ok(folder) = tempfile::tempdir_in("/dev/shm") else { return println!("skipped: no /dev/shm") };
        if kind(folder.path()) == Ok(Kind::Memory) {
            assert_eq!(ask(folder.path()).unwrap(), HugePages::Shared);
        } else {
            println!("skipped: /dev/shm is no tmpfs here");
        }
    }
}
