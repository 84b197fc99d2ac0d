//! A fake `/sys/kernel/config/tsm/report` over FUSE, so that a guest's own collecting code is what runs in tests.
//!
//! It behaves as the kernel does (`drivers/virt/coco/guest/report.c`, `fs/configfs/file.c`, `drivers/virt/coco/sev-guest`): a directory
//! is a report instance, a binary attribute is delivered when it is closed and its error is lost there, a report is generated on the
//! first read after a write and cached until the next write, and every write counts. Behind it is an SNP guest or a TD, whose event log
//! stands elsewhere ([`ccel`]). [`Fault`] says how it misbehaves on request.
//!
//! Left out: the SVSM attributes, which the kernel shows to guests above VMPL 0 only.
//!
//! ```no_run
//! use testbed::configfs::FakeConfigfs;
//! use testbed::snp::{GuestShape, Line, SoftPlatform};
//!
//! let guest = SoftPlatform::new(Line::Milan).guest(GuestShape::default());
//! match FakeConfigfs::new(guest).mount(std::path::Path::new("/some/empty/folder")) {
//!     Ok(mounted) => println!("reports are made in {}", mounted.path().display()),
//!     Err(reason) => println!("{reason}"),
//! }
//! ```

mod filesystem;
mod serve;
mod tsm;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fuser::{BackgroundSession, Config, MountOption};

use self::filesystem::Reports;
use self::tsm::Tsm;
use crate::tdx::{Ending, EventLog};

pub use serve::{ServeError, serve};
pub use tsm::Guest;

/// A way in which the fake misbehaves. Those with `times` happen that often and then no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No driver is registered: `mkdir` and every later step fail with `ENXIO`.
    NoProvider,
    /// `provider` reads so instead of the driver's own name.
    Provider(String),
    /// Somebody else writes 64 bytes of his own right after an inblob was delivered.
    RivalAfterInblob {
        /// How often.
        times: u32,
    },
    /// Somebody else writes 64 bytes of his own right after an outblob was read.
    RivalAfterOutblob {
        /// How often.
        times: u32,
    },
    /// Reports are over other report data than what was written, and the generation tells nothing.
    OtherReportData,
    /// This many zero bytes stand behind the report.
    OutblobPadded(usize),
    /// The report has this many bytes only.
    OutblobCut(usize),
    /// There is no `auxblob` file.
    NoAuxblob,
    /// `auxblob` has these bytes; empty is what a host without certificates gives.
    Auxblob(Vec<u8>),
    /// So many writes went without a read that the kernel takes no more: `EBUSY`.
    GenerationWrapped,
    /// Reading a blob that has to be generated fails with this error number.
    ReadFails {
        /// The error number, for instance that of `EIO`.
        errno: i32,
        /// How often.
        times: u32,
    },
}

/// The size limit of `outblob` and `auxblob` in bytes (32 KiB in Linux 6.7); beyond it reads fail with `EFBIG`.
pub const OUTBLOB_MAX: usize = 32 * 1024;

/// A fake configfs that is not mounted yet.
pub struct FakeConfigfs {
    state: Shared,
}

/// Bytes of the area that firmware sets aside for an event log.
const CCEL_AREA: usize = 64 * 1024;

/// A TD's event log as the kernel shows it (`/sys/firmware/acpi/tables/data/CCEL`): its records, and 0xff to the end of an area of 64 KiB.
#[must_use]
pub fn ccel(log: &EventLog) -> Vec<u8> {
    let records = log.clone().with(|log| log.ending = Ending::None).bytes();
    let padding = CCEL_AREA.saturating_sub(records.len());
    log.clone().with(|log| log.ending = Ending::Ones(padding)).bytes()
}

type Shared = Arc<Mutex<Tsm>>;

fn locked(state: &Shared) -> MutexGuard<'_, Tsm> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FakeConfigfs {
    /// An honest one that serves this guest's reports or quotes; an SNP guest's VMPL is the privilege floor.
    #[must_use]
    pub fn new(guest: impl Into<Guest>) -> Self {
        Self { state: Arc::new(Mutex::new(Tsm::new(guest.into()))) }
    }

    /// Adds a fault.
    #[must_use]
    pub fn with(self, fault: Fault) -> Self {
        locked(&self.state).add_fault(fault);
        self
    }

    /// Mounts it on an existing empty folder, which then is the `report` folder itself.
    ///
    /// # Errors
    /// [`NoFuse`] when this machine does not let us: no `/dev/fuse`, or no right to mount. Tests print it and return.
    pub fn mount(self, folder: &Path) -> Result<Mounted, NoFuse> {
        if !Path::new("/dev/fuse").exists() {
            return Err(NoFuse { why: io::Error::new(io::ErrorKind::NotFound, "no /dev/fuse") });
        }
        let mut options = Config::default();
        options.mount_options = vec![MountOption::FSName("configfs".to_owned()), MountOption::NoExec];
        let session = fuser::spawn_mount(Reports::new(Arc::clone(&self.state)), folder, &options).map_err(|why| NoFuse { why })?;
        Ok(Mounted { session: Some(session), path: folder.to_owned(), state: self.state })
    }
}

/// A fake configfs in place; dropping it unmounts it.
pub struct Mounted {
    session: Option<BackgroundSession>,
    path: PathBuf,
    state: Shared,
}

impl Mounted {
    /// The `report` folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a fault while it is running.
    pub fn add_fault(&self, fault: Fault) {
        locked(&self.state).add_fault(fault);
    }

    /// Names of the report instances that exist now: empty when everybody has cleaned up.
    #[must_use]
    pub fn instances(&self) -> Vec<String> {
        locked(&self.state).names()
    }

    /// How many reports were generated.
    #[must_use]
    pub fn generated(&self) -> u64 {
        locked(&self.state).generated
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(self.session.take());
        // Open files make a plain unmount fail; nothing of a test may stay behind. Fails when there is nothing left to detach.
        let _ = rustix::mount::unmount(&self.path, rustix::mount::UnmountFlags::DETACH);
    }
}

/// Why nothing was mounted.
#[derive(Debug)]
pub struct NoFuse {
    why: io::Error,
}

impl fmt::Display for NoFuse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "skipped: no FUSE here ({})", self.why)
    }
}

impl std::error::Error for NoFuse {}
