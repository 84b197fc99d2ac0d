//! Whether a model that is to be opened to memory fits there: known before the key is asked for, and so before its first byte.
//!
//! Three things limit a tmpfs, and each may be the smallest: its own size (`size=`, `nr_inodes=`), the memory limit of the cgroup of
//! whoever writes, because each page is charged to the one that first touches it, and the machine's memory. A limit that is met
//! halfway is an error of the write in the first case; in the others it is the kernel killing a process, often not this one.
//!
//! Cgroups of version 2 (`memory.max`) and version 1 (`memory.limit_in_bytes`) are read, from the process's own up to the topmost
//! that is visible; what counts as used there is without the page cache of files, which the kernel gives back when it is needed.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use models_manifest::Contents;
use rustix::fs::{StatVfs, statvfs};

use crate::destination::{self, Kind};

/// The unit in which memory is taken (bytes).
const PAGE: u64 = 4096;
/// What opening takes beside the model's pages (bytes): buffers, and the kernel's own bookkeeping of inodes.
const WORKING: u64 = 16 << 20;
/// The kernel keeps about 18 bytes for each page of a file: by this divided, a share of the model.
const BOOKKEEPING: u64 = 256;

/// Why a model does not fit.
#[derive(Debug, thiserror::Error)]
pub enum CapacityError {
    /// The file system is too small.
    #[error("the model needs {needed} bytes, and the file system of {} has {available} left of {size}", path.display())]
    FileSystem {
        /// The folder.
        path: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// Bytes left.
        available: u64,
        /// Its size in bytes.
        size: u64,
    },
    /// The file system allows too few files.
    #[error("the model needs {needed} inodes, and the file system of {} has {available} left", path.display())]
    Inodes {
        /// The folder.
        path: PathBuf,
        /// Inodes needed.
        needed: u64,
        /// Inodes left.
        available: u64,
    },
    /// A cgroup's memory limit is too small.
    #[error("the model needs {needed} bytes, and {} is {limit}, of which {used} are used", file.display())]
    Cgroup {
        /// The file that sets the limit.
        file: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// The limit in bytes.
        limit: u64,
        /// Bytes used and not to be had back.
        used: u64,
    },
    /// The machine has too little memory.
    #[error("the model needs {needed} bytes, and this machine has {available} of memory left")]
    Memory {
        /// Bytes needed.
        needed: u64,
        /// Bytes left (`MemAvailable`).
        available: u64,
    },
    /// It cannot be told.
    #[error("cannot tell how much room {} has: {error}", path.display())]
    Unknown {
        /// What was looked at.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
}

impl CapacityError {
    /// A stable name.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::FileSystem { .. } => "no-room-file-system",
            Self::Inodes { .. } => "no-room-inodes",
            Self::Cgroup { .. } => "no-room-cgroup",
            Self::Memory { .. } => "no-room-memory",
            Self::Unknown { .. } => "no-room-unknown",
        }
    }

    /// What may help.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::FileSystem { .. } => "mount the tmpfs with a larger size=, in Kubernetes a larger sizeLimit; or mount the model instead",
            Self::Inodes { .. } => "mount the tmpfs with a larger nr_inodes=",
            Self::Cgroup { .. } => {
                "raise the container's memory limit by the model's size, or mount the model instead: its pages can be given back"
            }
            Self::Memory { .. } => "mount the model instead: its pages can be given back",
            Self::Unknown { .. } => "the folder that it shall lie in must exist",
        }
    }
}

/// What a model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Need {
    bytes: u64,
    inodes: u64,
}

impl Need {
    fn of(contents: &Contents) -> Self {
        let folders: std::collections::HashSet<&str> = contents.files().iter().flat_map(|file| file.path().directories()).collect();
        let pages = contents.files().iter().map(|file| file.geometry().size().div_ceil(PAGE).saturating_mul(PAGE));
        let inodes = contents.files().len().saturating_add(folders.len()).saturating_add(1);
        Self { bytes: pages.fold(0, u64::saturating_add), inodes: inodes as u64 }
    }

    /// What it still takes where `kept` bytes are there already.
    const fn beside(self, kept: u64) -> Self {
        Self { bytes: self.bytes.saturating_sub(kept), ..self }
    }

    /// Both.
    const fn and(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_add(other.bytes), inodes: self.inodes.saturating_add(other.inodes) }
    }

    /// With what opening takes beside the pages, where that is charged too.
    const fn charged(self) -> u64 {
        self.bytes.saturating_add(self.bytes / BOOKKEEPING).saturating_add(WORKING)
    }
}

/// Checks that a model fits where it shall be opened to, a folder that need not exist yet; `kept` is where an earlier attempt may
/// have left a part of it, which has its room already.
///
/// # Errors
/// [`CapacityError`].
pub fn fits(contents: &Contents, to: &Path, kept: Option<&Path>) -> Result<(), CapacityError> {
    has_room(Need::of(contents).beside(kept.map_or(0, |kept| allocated(kept).unwrap_or(0))), to)
}

fn has_room(need: Need, to: &Path) -> Result<(), CapacityError> {
    let folder = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let unknown = |error| CapacityError::Unknown { path: folder.to_owned(), error };
    let found = statvfs(folder).map_err(|error| unknown(error.into()))?;
    file_system(need, folder, &found)?;
    if destination::kind(folder).map_err(|error| unknown(error.into()))? == Kind::Memory {
        cgroups(need, &Hierarchy::of_this_process())?;
        memory(need, &fs::read_to_string("/proc/meminfo").unwrap_or_default())?;
    }
    Ok(())
}

/// The room of models that are being opened side by side: what one has found free, and not yet written to, is no other's.
#[derive(Default)]
pub struct Rooms {
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    rooms: BTreeMap<u64, Need>,
    last: u64,
}

/// The room of one model. Dropping it gives back what was not written to.
pub struct Room {
    rooms: Arc<Rooms>,
    number: u64,
    whole: Need,
}

impl Rooms {
    /// Checks that a model fits beside all that has room already, and takes its room.
    ///
    /// # Errors
    /// As [`fits`].
    pub fn take(self: &Arc<Self>, contents: &Contents, to: &Path) -> Result<Room, CapacityError> {
        self.take_for(Need::of(contents), |need| has_room(need, to))
    }

    fn take_for(self: &Arc<Self>, whole: Need, check: impl FnOnce(Need) -> Result<(), CapacityError>) -> Result<Room, CapacityError> {
        let mut taken = self.taken();
        check(taken.rooms.values().copied().fold(whole, Need::and))?;
        taken.last = taken.last.wrapping_add(1);
        let number = taken.last;
        taken.rooms.insert(number, whole);
        Ok(Room { rooms: Arc::clone(self), number, whole })
    }

    /// A thread that panicked leaves whole numbers behind.
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room {
    /// So many bytes of it are written: the system counts them itself now.
    pub fn written(&self, bytes: u64) {
        self.rooms.taken().rooms.insert(self.number, self.whole.beside(bytes));
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.rooms.taken().rooms.remove(&self.number);
    }
}

/// How many bytes lie below a folder, holes not counted.
fn allocated(folder: &Path) -> io::Result<u64> {
    /// Of `st_blocks`, whatever the file system's own unit is.
    const BLOCK: u64 = 512;
    fs::read_dir(folder)?.try_fold(0u64, |sum, entry| {
        let entry = entry?;
        // An entry's metadata are the link's own: nothing outside is counted.
        let metadata = entry.metadata()?;
        let own = if metadata.is_dir() { allocated(&entry.path())? } else { metadata.blocks().saturating_mul(BLOCK) };
        Ok(sum.saturating_add(own))
    })
}

fn file_system(need: Need, folder: &Path, found: &StatVfs) -> Result<(), CapacityError> {
    let (available, size) = (found.f_bavail.saturating_mul(found.f_frsize), found.f_blocks.saturating_mul(found.f_frsize));
    // A tmpfs or ramfs without a limit says 0.
    if size > 0 && need.bytes > available {
        return Err(CapacityError::FileSystem { path: folder.to_owned(), needed: need.bytes, available, size });
    }
    if found.f_files > 0 && need.inodes > found.f_favail {
        return Err(CapacityError::Inodes { path: folder.to_owned(), needed: need.inodes, available: found.f_favail });
    }
    Ok(())
}

/// The cgroups of this process that may limit its memory.
struct Hierarchy {
    /// From its own to the topmost that is visible.
    folders: Vec<PathBuf>,
    names: &'static Names,
}

/// The names of a version's files.
struct Names {
    limit: &'static str,
    used: &'static str,
    /// In `memory.stat`: the page cache of files, without tmpfs.
    cache: [&'static str; 2],
}

const V2: Names = Names { limit: "memory.max", used: "memory.current", cache: ["inactive_file", "active_file"] };
const V1: Names =
    Names { limit: "memory.limit_in_bytes", used: "memory.usage_in_bytes", cache: ["total_inactive_file", "total_active_file"] };

impl Hierarchy {
    fn of_this_process() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self::of(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"))
    }

    /// Of what `/proc/self/cgroup` and `/proc/self/mountinfo` say. Where the memory controller is one of version 1, version 2 limits none.
    fn of(own: &str, mounts: &str) -> Self {
        let line = |wanted: fn(&str) -> bool| {
            own.lines().find_map(|line| {
                let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
                wanted(controllers).then(|| path.to_owned())
            })
        };
        let (path, names, mount) = match line(|controllers| controllers.split(',').any(|name| name == "memory")) {
            Some(path) => (Some(path), &V1, mounted(mounts, |kind, options| kind == "cgroup" && options.split(',').any(|o| o == "memory"))),
            None => (line(str::is_empty), &V2, mounted(mounts, |kind, _| kind == "cgroup2")),
        };
        let folders = path.zip(mount).map(|(path, (root, point))| upwards(&path, &root, &point)).unwrap_or_default();
        Self { folders, names }
    }

    fn swaps_nothing(&self) -> bool {
        let limit = |folder: &PathBuf| fs::read_to_string(folder.join("memory.swap.max")).unwrap_or_default();
        self.folders.iter().any(|folder| limit(folder).trim() == "0")
    }
}

/// Root and mount point of the first mount that `wanted` takes by its type and its file system's options.
fn mounted(mounts: &str, wanted: impl Fn(&str, &str) -> bool) -> Option<(String, PathBuf)> {
    mounts.lines().find_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        let mut system = system.split(' ');
        let (kind, options) = (system.next()?, system.nth(1)?);
        let mut mount = mount.split(' ').skip(3);
        let (root, point) = (mount.next()?, mount.next()?);
        wanted(kind, options).then(|| (root.to_owned(), PathBuf::from(point)))
    })
}

/// The folders of cgroup `path` and of those around it, as far as a mount of `root` at `point` shows them.
fn upwards(path: &str, root: &str, point: &Path) -> Vec<PathBuf> {
    let below = Path::new(path).strip_prefix(root).or_else(|_| Path::new(path).strip_prefix("/")).unwrap_or(Path::new(""));
    let own = point.join(below);
    // A process whose cgroup lies outside what it sees is limited at least by what it does see.
    own.ancestors().take_while(|folder| folder.starts_with(point)).map(Path::to_owned).collect()
}

/// Whether nothing of this process is swapped, whatever the machine does: a cgroup of version 2, its own or one around it, has
/// `memory.swap.max` 0.
#[must_use]
pub fn swaps_nothing() -> bool {
    Hierarchy::of_this_process().swaps_nothing()
}

fn cgroups(need: Need, hierarchy: &Hierarchy) -> Result<(), CapacityError> {
    let names = hierarchy.names;
    for folder in &hierarchy.folders {
        let number = |name: &str| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
        // No file, or `max`: no limit here.
        let (Some(limit), Some(current)) = (number(names.limit), number(names.used)) else { continue };
        let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        let used = current.saturating_sub(cache(&stat, names));
        if need.charged() > limit.saturating_sub(used) {
            return Err(CapacityError::Cgroup { file: folder.join(names.limit), needed: need.charged(), limit, used });
        }
    }
    Ok(())
}

/// The page cache of files that `memory.stat` counts (bytes).
fn cache(stat: &str, names: &Names) -> u64 {
    let values = stat.lines().filter_map(|line| line.split_once(' ')).filter(|(name, _)| names.cache.contains(name));
    values.filter_map(|(_, value)| value.parse::<u64>().ok()).fold(0, u64::saturating_add)
}

fn memory(need: Need, meminfo: &str) -> Result<(), CapacityError> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|number| number.parse::<u64>().ok());
    match kib.map(|kib| kib.saturating_mul(1024)) {
        Some(available) if need.charged() > available => Err(CapacityError::Memory { needed: need.charged(), available }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn need(bytes: u64) -> Need {
        Need { bytes, inodes: 3 }
    }

    #[test]
    fn the_cgroups_of_version_2_are_walked_up_to_the_mount() {
        let mounts = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = Hierarchy::of("0::/kubepods/pod1/engine\n", mounts);
        let expected = ["kubepods/pod1/engine", "kubepods/pod1", "kubepods", ""].map(|below| Path::new("/sys/fs/cgroup").join(below));
        assert_eq!(found.folders, expected);
        assert_eq!(found.names.limit, "memory.max");
        // In a cgroup namespace the process sees itself at the top.
        assert_eq!(Hierarchy::of("0::/\n", mounts).folders, [Path::new("/sys/fs/cgroup")]);
        assert!(Hierarchy::of("0::/a\n", "").folders.is_empty());
    }

    #[test]
    fn a_memory_controller_of_version_1_is_the_one_that_counts() {
        let mounts = "30 24 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                      31 24 0:27 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      32 24 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        let found = Hierarchy::of("4:memory:/docker/abc/job\n1:cpu:/\n0::/\n", mounts);
        assert_eq!(found.folders, [Path::new("/sys/fs/cgroup/memory/job"), Path::new("/sys/fs/cgroup/memory")]);
        assert_eq!(found.names.limit, "memory.limit_in_bytes");
    }

    #[test]
    fn every_cgroup_on_the_way_up_limits_and_page_cache_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let set = |folder: &Path, limit: &str, used: u64, stat: &str| {
            fs::write(folder.join("memory.max"), format!("{limit}\n")).unwrap();
            fs::write(folder.join("memory.current"), format!("{used}\n")).unwrap();
            fs::write(folder.join("memory.stat"), stat).unwrap();
        };
        let hierarchy = Hierarchy { folders: vec![inner.clone(), folder.path().to_owned()], names: &V2 };
        let needs = need(64 * MIB).charged();
        set(&inner, "max", 0, "");
        set(folder.path(), &(needs + 100 * MIB).to_string(), 100 * MIB, "anon 5\n");
        assert!(cgroups(need(64 * MIB), &hierarchy).is_ok());
        set(folder.path(), &(needs + 100 * MIB - 1).to_string(), 100 * MIB, "anon 5\n");
        let refused = cgroups(need(64 * MIB), &hierarchy).unwrap_err();
        let CapacityError::Cgroup { file, needed, limit, used } = &refused else { panic!("{refused}") };
        assert_eq!((file.as_path(), *needed, *limit, *used), (&*folder.path().join("memory.max"), needs, needs + 100 * MIB - 1, 100 * MIB));
        // A byte of it is page cache.
        set(folder.path(), &(needs + 100 * MIB - 1).to_string(), 100 * MIB, "inactive_file 1\nactive_file 0\n");
        assert!(cgroups(need(64 * MIB), &hierarchy).is_ok());
        let swap = |folder: &Path, limit: &str| fs::write(folder.join("memory.swap.max"), limit).unwrap();
        assert!(!hierarchy.swaps_nothing(), "nothing is said of it");
        swap(&inner, "max\n");
        swap(folder.path(), "4096\n");
        assert!(!hierarchy.swaps_nothing());
        swap(folder.path(), "0\n");
        assert!(hierarchy.swaps_nothing());
        set(&inner, "1048576", 0, "");
        assert!(matches!(cgroups(need(64 * MIB), &hierarchy), Err(CapacityError::Cgroup { limit: MIB, .. })));
    }

    #[test]
    fn what_an_earlier_attempt_wrote_is_not_needed_again_and_holes_are() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("written"), vec![1; 65_536]).unwrap();
        fs::File::create(inner.join("hole")).unwrap().set_len(MIB).unwrap();
        fs::File::open(inner.join("written")).unwrap().sync_all().unwrap();
        let kept = allocated(folder.path()).unwrap();
        assert!((65_536..MIB).contains(&kept), "{kept}");
        assert_eq!(need(2 * MIB).beside(kept).bytes, 2 * MIB - kept);
        assert_eq!(need(1).beside(kept).bytes, 0);
        assert!(allocated(&folder.path().join("absent")).is_err());
    }

    #[test]
    fn models_that_are_opened_side_by_side_do_not_take_the_same_room() {
        let rooms = Arc::new(Rooms::default());
        // There is room for five MiB; what is written is no longer free.
        let take = |bytes, written: u64| {
            rooms.take_for(need(bytes), |need| {
                let available = 5 * MIB - written;
                let refused = || CapacityError::Memory { needed: need.bytes, available };
                if need.bytes > available { Err(refused()) } else { Ok(()) }
            })
        };
        let first = take(3 * MIB, 0).unwrap();
        assert!(matches!(take(3 * MIB, 0), Err(CapacityError::Memory { needed, .. }) if needed == 6 * MIB));
        let small = take(2 * MIB, 0).unwrap();
        first.written(2 * MIB);
        assert!(take(1, 2 * MIB).is_err(), "the rest is still the first's");
        drop(small);
        assert!(take(2 * MIB, 2 * MIB).is_ok());
        drop(first);
        assert!(take(3 * MIB, 2 * MIB).is_ok());
    }

    #[test]
    fn the_machines_memory_limits() {
        let meminfo = |kib: u64| format!("MemTotal: 1 kB\nMemAvailable:   {kib} kB\n");
        let kib = need(4 * MIB).charged().div_ceil(1024);
        assert!(memory(need(4 * MIB), &meminfo(kib)).is_ok());
        assert!(matches!(memory(need(4 * MIB), &meminfo(kib - 1)), Err(CapacityError::Memory { .. })));
    }
}
