//! Where plaintext may go on this machine: memory, where there is any to write to.

use std::path::{Path, PathBuf};

use guest_client::destination;
use tempfile::TempDir;

use crate::failure::Failure;

/// What is left free beside the plaintext (bytes).
const MARGIN: u64 = 16 << 20;

/// A folder for plaintext, removed when this is dropped.
pub struct Room {
    folder: TempDir,
    kind: Kind,
}

/// What the folder lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Memory, by the guest client's own rule.
    Memory,
    /// Something else: no tmpfs here has room, or swap is active.
    Disk,
}

impl Room {
    /// A folder with room for `bytes`: in memory where possible.
    ///
    /// # Errors
    /// [`Failure::Io`].
    pub fn find(bytes: u64) -> Result<Self, Failure> {
        for place in places() {
            if destination::in_memory(&place.join("model")).is_ok()
                && has_room(&place, bytes)
                && let Ok(folder) = folder_in(&place)
            {
                return Ok(Self { folder, kind: Kind::Memory });
            }
        }
        let place = std::env::temp_dir();
        Ok(Self { folder: folder_in(&place).map_err(Failure::io(&place))?, kind: Kind::Disk })
    }

    /// A folder with room for `bytes` in memory, and nowhere else.
    ///
    /// # Errors
    /// [`Failure::NoMemory`], [`Failure::Io`].
    pub fn in_memory(bytes: u64) -> Result<Self, Failure> {
        let needed = bytes.saturating_add(MARGIN);
        let memory = available();
        let mut most = 0;
        for place in places().filter(|place| destination::in_memory(&place.join("model")).is_ok()) {
            let free = free(&place).min(memory);
            if free >= needed {
                return Ok(Self { folder: folder_in(&place).map_err(Failure::io(&place))?, kind: Kind::Memory });
            }
            most = most.max(free);
        }
        Err(Failure::NoMemory { needed, free: most })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// What it lies on.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }
}

fn folder_in(place: &Path) -> std::io::Result<TempDir> {
    tempfile::Builder::new().prefix("portcullis-plaintext-").tempdir_in(place)
}

/// Where memory file systems are looked for.
fn places() -> impl Iterator<Item = PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    std::iter::once(PathBuf::from("/dev/shm")).chain(runtime).chain([std::env::temp_dir()])
}

fn has_room(place: &Path, bytes: u64) -> bool {
    free(place) >= bytes.saturating_add(MARGIN)
}

/// What the file system gives to whoever asks (bytes). It may be more than there is memory.
fn free(place: &Path) -> u64 {
    rustix::fs::statvfs(place).map_or(0, |found| found.f_bavail.saturating_mul(found.f_frsize))
}

/// The memory that could be had without swapping (bytes); `proc_meminfo(5)`.
fn available() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib: Option<u64> = line.and_then(|line| line.trim().strip_suffix("kB")).and_then(|number| number.trim().parse().ok());
    kib.map_or(0, |kib| kib.saturating_mul(1024))
}
