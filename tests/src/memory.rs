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
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let places = std::iter::once(PathBuf::from("/dev/shm")).chain(runtime).chain([std::env::temp_dir()]);
        for place in places {
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

fn has_room(place: &Path, bytes: u64) -> bool {
    rustix::fs::statvfs(place).is_ok_and(|found| found.f_bavail.saturating_mul(found.f_frsize) >= bytes.saturating_add(MARGIN))
}
