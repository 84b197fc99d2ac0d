//! One version of a model: opened to a folder or mounted, and put away when nobody uses it or when it must go.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use models_manifest::signature::SignatureError;
use models_manifest::{Advance, ModelKey, OpenError, Opening as Destination, Progress, open_model};
use protocol::ids::{Digest, Name, Version};
use protocol::keys::PublicKey;
use rustix::mount::{UnmountFlags, unmount};

use super::catalog::Catalog;
use super::config::Way;
use super::lease::Lease;
use super::notes::{self, FolderIdentity, Note, Notes, Under};
use super::{in_use, place};
use crate::capacity::{CapacityError, Room, Rooms};
use crate::config::{Plaintext, RequiredModelSigner};
use crate::destination::{self, DestinationError, Kind as LiesOn};
use crate::mount::order::Order;
use crate::mount::place::PlaceError;
use crate::mount::storage::{self, SignerError};
use crate::mount::supervised::{MountServer, Orders, Plan, ServerError, ServerIdentity};
use crate::sources::{FetchError, LocationError, ReachError, Reached, SealedLocation, Stopper, Storage};

/// How often progress is told.
const TELL: Duration = Duration::from_millis(200);
/// Mounts above each other that are taken away at most.
const MOUNTS: usize = 16;
/// `FUSE_SUPER_MAGIC` (`include/uapi/linux/magic.h`).
const FUSE: i64 = 0x6573_5546;

/// What was released of a version, and where its sealed files are. No `Debug`, no `Clone`: it holds the key.
pub struct Opening {
    /// The model.
    pub name: Name,
    /// The version.
    pub version: Version,
    /// The key.
    pub key: ModelKey,
    /// Which manifest of which publisher is believed, whose signature of the model, and how it is opened.
    pub under: Under,
    /// Where the sealed files are: a folder, `https://…` or `s3://…`.
    pub sealed: String,
    /// How they are fetched from elsewhere.
    pub storage: Storage,
    /// The signer that the configuration requires of it.
    pub signer: Option<RequiredModelSigner>,
    /// The folder of models.
    pub models: PathBuf,
    /// Where plaintext may go.
    pub plaintext: Plaintext,
    /// The room of all that is being opened.
    pub rooms: Arc<Rooms>,
    /// What ends the work.
    pub ending: Arc<Ending>,
}

/// Ends an opening, wherever it is: at its next chunk, or while it waits for the storage.
#[derive(Default)]
pub struct Ending(Mutex<Asked>);

#[derive(Default)]
struct Asked {
    ended: bool,
    fetching: Option<Stopper>,
    server: Option<ServerIdentity>,
}

impl Ending {
    /// Asks the opening to end.
    pub fn end(&self) {
        let mut asked = self.asked();
        asked.ended = true;
        if let Some(fetching) = asked.fetching.take() {
            fetching.stop();
        }
        if let Some(server) = asked.server.take() {
            server.kill();
        }
    }

    /// Whether it was asked to.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.asked().ended
    }

    /// From now on, its end ends this too.
    fn covers(&self, fetching: Stopper) {
        let mut asked = self.asked();
        if asked.ended {
            fetching.stop();
        } else {
            asked.fetching = Some(fetching);
        }
    }

    /// From now on, its end ends this server too.
    fn covers_server(&self, server: ServerIdentity) {
        let mut asked = self.asked();
        if asked.ended {
            server.kill();
        } else {
            asked.server = Some(server);
        }
    }

    /// A thread that panicked leaves a whole value behind.
    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a version was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenFailed {
    /// The sealed model is not the released one, or cannot be read or written.
    #[error("{error} ({})", error.code())]
    Open {
        /// Why.
        error: Box<OpenError>,
    },
    /// No place that is spoken to.
    #[error("{error}")]
    Location {
        /// Why.
        #[from]
        error: LocationError,
    },
    /// The storage did not give it.
    #[error("{error} ({})", error.code())]
    Storage {
        /// Why.
        #[from]
        error: FetchError,
    },
    /// It does not bear the signature that the configuration requires.
    #[error("{error} ({})", error.code())]
    Signature {
        /// Why.
        error: Box<SignatureError>,
    },
    /// It does not fit into memory.
    #[error("{error} ({})", error.code())]
    Capacity {
        /// Why.
        #[from]
        error: CapacityError,
    },
    /// The folder of models is not in memory.
    #[error("{error} ({})", error.code())]
    Destination {
        /// Why.
        #[from]
        error: DestinationError,
    },
    /// Nothing can be mounted there.
    #[error("{error} ({})", error.code())]
    Place {
        /// Why.
        #[from]
        error: PlaceError,
    },
    /// The mount server did not start.
    #[error("{0}")]
    Server(#[from] ServerError),
    /// It ended before it could be used.
    #[error("the mount server ended at once, with exit code {code}")]
    ServerEnded {
        /// Its exit code.
        code: i32,
    },
    /// The folder of models cannot be written.
    #[error("cannot write below the folder of models: {0}")]
    Write(#[from] io::Error),
    /// The link cannot be made.
    #[error("the link to it cannot be made: {0}")]
    Link(io::Error),
    /// What lay in its place could not be put away.
    #[error("what lay in its place cannot be put away")]
    Occupied,
    /// No thread for it.
    #[error("the system gives no thread: {0}")]
    Thread(io::Error),
    /// It ended in a way that nobody foresaw; the log has more.
    #[error("the opening broke off")]
    BrokeOff,
}

impl From<OpenError> for OpenFailed {
    fn from(error: OpenError) -> Self {
        Self::Open { error: Box::new(error) }
    }
}

impl From<SignatureError> for OpenFailed {
    fn from(error: SignatureError) -> Self {
        match error {
            SignatureError::Open(error) => error.into(),
            error => Self::Signature { error: Box::new(error) },
        }
    }
}

impl From<SignerError> for OpenFailed {
    fn from(error: SignerError) -> Self {
        match error {
            SignerError::Reach(error) => error.into(),
            SignerError::Signature(error) => error.into(),
        }
    }
}

impl From<ReachError> for OpenFailed {
    fn from(error: ReachError) -> Self {
        match error {
            ReachError::Fetch(error) => error.into(),
            ReachError::Open(error) => error.into(),
        }
    }
}

impl OpenFailed {
    /// Whether what lies in storage is not what was sealed.
    #[must_use]
    pub fn is_tampering(&self) -> bool {
        match self {
            Self::Open { error } => !matches!(**error, OpenError::Io { .. } | OpenError::Cipher(_) | OpenError::Cancelled(_)),
            _ => false,
        }
    }
}

/// A version whose files can be read.
pub struct OpenVersion {
    /// Where they are.
    pub path: PathBuf,
    /// What it was opened under.
    pub under: Under,
    /// Its files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    kind: Kind,
}

enum Kind {
    Folder(Option<FolderIdentity>),
    /// `orders` are an earlier life's where there are none.
    Mounted {
        server: Option<ServerIdentity>,
        orders: Option<Orders>,
    },
}

impl Opening {
    /// Opens it. What can be known to fail does so before the first byte; a failure leaves nothing.
    ///
    /// # Errors
    /// [`OpenFailed`].
    pub fn open(self, catalog: &Arc<Catalog>, ended: impl FnOnce(i32) + Send + 'static) -> Result<OpenVersion, OpenFailed> {
        let path = place::version(&self.models, &self.name, self.version);
        let sealed: SealedLocation = self.sealed.parse()?;
        place::make_parent(&path)?;
        match self.under.way {
            Way::Open => self.open_folder(path, &sealed, catalog),
            Way::Mount => self.mount(path, sealed, catalog, ended),
        }
    }

    fn open_folder(self, path: PathBuf, sealed: &SealedLocation, catalog: &Catalog) -> Result<OpenVersion, OpenFailed> {
        let Self { name, version, key, under, plaintext, storage, signer, rooms, ending, .. } = self;
        if plaintext == Plaintext::Memory {
            destination::in_memory(&path)?;
        }
        let reached = Reached::at_until(sealed, &storage, |fetching| ending.covers(fetching))?;
        // Whatever it is, nobody has it in their books.
        remove_leftover(&path)?;
        let room = rooms.take(&reached.inspection().contents, &path)?;
        reached.prefetch();
        let mut watch = Watch { catalog, name: &name, version, ending: &ending, room: None, told: Instant::now() };
        let began = Instant::now();
        let model = reached.unlock(&[under.publisher], &under.manifest, key)?;
        if let Some(required) = &signer {
            required.verify(&model, &mut watch)?;
        }
        watch.room = Some(&room);
        let apart_from = if let SealedLocation::Folder(folder) = sealed { Some(folder.as_path()) } else { None };
        open_model(&model, Destination { apart_from, ..Destination::to(&path) }, &mut watch)?;
        let (files, bytes) = (model.contents().files().len(), model.contents().total());
        catalog.count(|counts| {
            counts.opened_bytes += bytes;
            counts.opening += began.elapsed();
        });
        let kind = Kind::Folder(FolderIdentity::of(&path));
        Ok(OpenVersion { path, under, files, bytes, kind })
    }

    fn mount(
        self,
        path: PathBuf,
        sealed: SealedLocation,
        catalog: &Arc<Catalog>,
        ended: impl FnOnce(i32) + Send + 'static,
    ) -> Result<OpenVersion, OpenFailed> {
        if self.plaintext == Plaintext::Memory {
            destination::never_swapped()?;
        }
        let ending = &*self.ending;
        let contents = Reached::at_until(&sealed, &self.storage, |fetching| ending.covers(fetching))?.inspection().contents.clone();
        // It goes on without us: readers keep their mount until a sidecar that starts again has another for them, or its lease ends.
        let plan = Plan { at: path.clone(), more: vec!["--outlive".into()] };
        let (manifest, publishers) = (self.under.manifest, vec![self.under.publisher]);
        let order = Order { sealed, storage: self.storage, manifest, publishers, key: self.key };
        if let Some(required) = &self.signer {
            let (name, version) = (&self.name, self.version);
            let mut watch = Watch { catalog, name, version, ending, room: None, told: Instant::now() };
            storage::check_signer(&order, required, |fetching| ending.covers(fetching), &mut watch)?;
        }
        // Whatever it is, nobody has it in their books. And no folder before this: a failure leaves nothing.
        remove_leftover(&path)?;
        fs::create_dir_all(&path)?;
        let server =
            MountServer::start_until(&plan, &order, |_, server| server.into_iter().for_each(|server| ending.covers_server(server)));
        if server.is_err() {
            // One that was killed may have mounted already.
            remove_leftover(&path)?;
        }
        let server = server?;
        let identity = server.identity().ok();
        let (orders, mut events) = server.split();
        let kind = Kind::Mounted { server: identity, orders: Some(orders) };
        let opened = OpenVersion { path, under: self.under, files: contents.files().len(), bytes: contents.total(), kind };
        let (catalog, name, version) = (Arc::clone(catalog), self.name, self.version);
        let listening = std::thread::Builder::new().spawn(move || {
            let mut given = 0;
            while let Ok(Some(line)) = events.next_event() {
                heard(&line, &catalog, &name, version, &mut given);
            }
            ended(events.wait().unwrap_or(1));
        });
        match listening {
            Ok(_) => Ok(opened),
            Err(error) => {
                opened.remove()?;
                Err(OpenFailed::Thread(error))
            }
        }
    }
}

/// What a mount server says on a line.
#[derive(serde::Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Heard {
    Tampered {
        file: String,
        chunk: u64,
        reason: String,
    },
    Unreadable {
        file: String,
        chunk: u64,
        reason: String,
    },
    Counters {
        bytes: u64,
    },
    #[serde(other)]
    Other,
}

fn heard(line: &str, catalog: &Catalog, name: &Name, version: Version, given: &mut u64) {
    match serde_json::from_str(line) {
        Ok(Heard::Tampered { file, chunk, reason }) => {
            tracing::error!(model = %name, %version, file, chunk, reason, "the storage gave something else than what was sealed; the reader got an I/O error");
            catalog.tampered(name, version);
        }
        Ok(Heard::Unreadable { file, chunk, reason }) => {
            tracing::warn!(model = %name, %version, file, chunk, reason, "the storage could not be read; the reader got an I/O error");
        }
        Ok(Heard::Counters { bytes }) => {
            let more = bytes.saturating_sub(*given);
            *given = bytes;
            catalog.count(|counts| counts.mounted_bytes += more);
        }
        Ok(Heard::Other) | Err(_) => {}
    }
}

impl OpenVersion {
    /// One that an earlier life left at `path`, if it is what was noted.
    #[must_use]
    pub fn left(path: PathBuf, note: &Note, plaintext: Plaintext) -> Option<Self> {
        let kind = match note.under.way {
            Way::Open => {
                let in_memory = plaintext == Plaintext::Disk || destination::in_memory(&path).is_ok();
                let is_noted = note.folder.is_some() && FolderIdentity::of(&path) == note.folder;
                // Of what lies on a disk, its host could have written the note too.
                (is_noted && in_memory && destination::kind(&path) == Ok(LiesOn::Memory)).then_some(Kind::Folder(note.folder))?
            }
            // A server that is gone does not answer.
            Way::Mount => {
                let is_served = rustix::fs::statfs(&path).is_ok_and(|found| found.f_type == FUSE);
                (is_served && note.server.is_some()).then_some(Kind::Mounted { server: note.server, orders: None })?
            }
        };
        Some(Self { path, under: note.under.clone(), files: note.files, bytes: note.bytes, kind })
    }

    /// Something at `path` that must go, whatever it is. It is not [whole](Self::is_whole), so nobody asks what it was opened under.
    #[must_use]
    pub fn leftover(path: PathBuf) -> Self {
        let under = Under::new(Digest::from([0; 32]), PublicKey::from_bytes([0; 32]), None, Way::Open);
        Self { path, under, files: 0, bytes: 0, kind: Kind::Folder(None) }
    }

    /// Whether it can be what is current again: files lie there as they did, and a mount's server is one that we hear.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        match &self.kind {
            Kind::Folder(identity) => identity.is_some(),
            Kind::Mounted { orders, .. } => orders.is_some(),
        }
    }

    /// What is noted of it.
    #[must_use]
    pub fn note(&self, lease: &Lease) -> Note {
        let (folder, server) = match &self.kind {
            Kind::Folder(identity) => (*identity, None),
            Kind::Mounted { server, .. } => (None, *server),
        };
        let (until, until_since_boot) = (lease.until(), lease.boot().as_secs());
        Note { under: self.under.clone(), files: self.files, bytes: self.bytes, until, until_since_boot, folder, server }
    }

    /// Asks for counters, which come with the events. A folder has none.
    pub fn ask_counters(&mut self) {
        if let Kind::Mounted { orders: Some(orders), .. } = &mut self.kind {
            // A server that has ended is noticed by its end.
            let _ = orders.ask_counters();
        }
    }

    /// Whether nobody has anything of it open. A mount that nobody uses is taken away by being asked.
    ///
    /// # Errors
    /// The system's.
    pub fn is_idle(&self) -> io::Result<bool> {
        match &self.kind {
            Kind::Folder(_) => in_use::in_use(&self.path).map(|used| !used),
            Kind::Mounted { .. } => match unmount(&self.path, UnmountFlags::NOFOLLOW) {
                Err(rustix::io::Errno::BUSY) => Ok(false),
                Ok(()) | Err(rustix::io::Errno::INVAL) => Ok(true),
                Err(error) => Err(error.into()),
            },
        }
    }

    /// Puts it away now. Who has a file open keeps it until it is closed; of a mount, as far as the page cache has it. Its note goes
    /// first: of what lies there in part, nobody shall believe that it is whole.
    ///
    /// # Errors
    /// The system's.
    pub fn put_away(&self, notes: &Notes, name: &Name, version: Version) -> io::Result<()> {
        notes.forget(name, version)?;
        self.remove()
    }

    fn remove(&self) -> io::Result<()> {
        // Killed, not asked: one that is asked unmounts by its path, where another may be mounted by then.
        if let Kind::Mounted { server: Some(server), .. } = &self.kind {
            server.kill();
        }
        remove_leftover(&self.path)
    }

    /// Whether its files can be read at this moment: the first byte of the first file that has one. It may wait for the storage.
    ///
    /// # Errors
    /// The system's.
    pub fn read_a_byte(path: &Path) -> io::Result<()> {
        fn first(path: &Path) -> io::Result<bool> {
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    if first(&entry.path())? {
                        return Ok(true);
                    }
                } else if entry.metadata()?.len() > 0 {
                    let mut byte = [0];
                    io::Read::read_exact(&mut fs::File::open(entry.path())?, &mut byte)?;
                    return Ok(true);
                }
            }
            Ok(false)
        }
        first(path).map(drop)
    }
}

/// Takes away what is mounted at `path`, whoever uses it, and what lies there.
fn remove_leftover(path: &Path) -> io::Result<()> {
    for _ in 0..MOUNTS {
        if unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_err() {
            break;
        }
    }
    notes::remove(path)
}

/// Tells the catalog how far an opening is, and ends it when it is asked to.
struct Watch<'a> {
    catalog: &'a Catalog,
    name: &'a Name,
    version: Version,
    ending: &'a Ending,
    /// What it is written to.
    room: Option<&'a Room>,
    told: Instant,
}

impl Progress for Watch<'_> {
    fn advance(&mut self, advance: Advance<'_>) -> ControlFlow<()> {
        if self.told.elapsed() >= TELL {
            self.told = Instant::now();
            self.catalog.progress(self.name, self.version, advance.done, advance.total);
            if let Some(room) = self.room {
                room.written(advance.done);
            }
        }
        if self.ending.is_asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
