//! A mount from its beginning to its end, in the process that serves it.

use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use fuser::{BackgroundSession, Config, MountOption, SessionACL};
use models_manifest::{RangeSource, Reader, SealedModel};

use super::chunks::{Ahead, Chunks, Limits};
use super::events::{Event, Events, tell};
use super::filesystem::ModelFolder;
use super::order::COUNTERS;
use super::place::{Place, PlaceError};
use crate::signals;
use crate::sources::Stopper;

/// Server threads where nobody says how many: one a core, two at least, so that one reader's cipher does not hold up another's.
fn threads() -> usize {
    thread::available_parallelism().map_or(2, std::num::NonZero::get).clamp(2, 16)
}

/// How a mount is served.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Threads that answer the kernel, 1 or more.
    pub threads: usize,
    /// What is held and done ahead.
    pub limits: Limits,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { threads: threads(), limits: Limits::default() }
    }
}

/// Why a mount ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was asked to, by a signal.
    Asked,
    /// Whoever started it is gone.
    Orphaned,
    /// Somebody unmounted it.
    Unmounted,
}

/// Whether a mount server goes on when whoever started it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    /// It ends with it.
    Needed,
    /// It goes on.
    Outlived,
}

/// The reasons to end that come from outside: signals, and the end of whoever started it. Until there is a mount, each of them also ends
/// what waits for the storage.
pub struct Reasons {
    sender: Sender<Ending>,
    reasons: Receiver<Ending>,
    stage: Arc<Mutex<Stage>>,
}

/// How far it has come.
#[derive(Default)]
enum Stage {
    /// Nothing waits for the storage.
    #[default]
    Nothing,
    /// Something does, and this ends it.
    Fetching(Stopper),
    /// There was a reason to end.
    Ended,
    /// There is a mount. What its readers need goes on being fetched.
    Mounted(Arc<Events>),
}

fn stage(of: &Mutex<Stage>) -> MutexGuard<'_, Stage> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends what is fetched before there is a mount.
fn end_fetching(of: &Mutex<Stage>) {
    let mut stage = stage(of);
    if let Stage::Fetching(stopper) = &*stage {
        stopper.stop();
    }
    if !matches!(*stage, Stage::Mounted(_)) {
        *stage = Stage::Ended;
    }
}

impl Reasons {
    /// Listens for `SIGTERM` and `SIGINT`, and to `orders`, whose end is that of the parent. Whoever says that a mount is ready does this
    /// before: from then on it may be asked to end.
    ///
    /// # Errors
    /// The system's.
    pub fn listen(orders: impl Read + Send + 'static, parent: Parent) -> io::Result<Self> {
        let (sender, reasons) = mpsc::channel();
        let stage = Arc::<Mutex<Stage>>::default();
        let (signalled, asked) = (sender.clone(), Arc::clone(&stage));
        signals::on_each(move |_| {
            end_fetching(&asked);
            match signalled.send(Ending::Asked) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        })?;
        watch_orders(orders, parent, Arc::clone(&stage), sender.clone());
        Ok(Self { sender, reasons, stage })
    }

    /// Each reason also ends this, until there is a mount; one that has come already does so now.
    pub fn end(&self, stopper: Stopper) {
        let mut stage = stage(&self.stage);
        match *stage {
            Stage::Ended => stopper.stop(),
            _ => *stage = Stage::Fetching(stopper),
        }
    }

    /// There is a mount: reasons end it in order, and questions are answered.
    pub fn mounted<S: RangeSource + Send + Sync + 'static>(&self, mounted: &Mounted<S>) {
        *stage(&self.stage) = Stage::Mounted(Arc::clone(&mounted.events));
    }
}

/// A mounted model. Dropping it unmounts.
pub struct Mounted<S: RangeSource + Send + Sync + 'static> {
    session: BackgroundSession,
    events: Arc<Events>,
    place: Place,
    _ahead: Ahead<S>,
}

/// Mounts `model` at `place`: when this returns, the folder is there. Nothing of the model's files was read for that.
///
/// # Errors
/// [`PlaceError::Mount`].
pub fn mount<S: RangeSource + Send + Sync + 'static>(
    model: SealedModel<S>,
    place: Place,
    tuning: Tuning,
) -> Result<Mounted<S>, PlaceError> {
    let contents = model.contents();
    let piece = contents.files().iter().map(|file| file.geometry().chunk_size().bytes()).max().unwrap_or_default();
    let events = Arc::new(Events::of(format!("{}@{}", contents.name(), contents.version().number())));
    let chunks = Chunks::new(Reader::new(model), Arc::clone(&events), tuning.limits);
    let ahead = chunks.walk_ahead();
    let folder = ModelFolder::new(chunks, Arc::clone(&events));
    let mut options = Config::default();
    options.mount_options = vec![
        MountOption::FSName("portcullis".to_owned()),
        MountOption::RO,
        MountOption::NoExec,
        // The kernel checks the modes, which let everybody read: the engine may be another user than whoever mounts.
        MountOption::DefaultPermissions,
    ];
    options.acl = SessionACL::All;
    options.n_threads = Some(tuning.threads.max(1));
    options.clone_fd = true;
    let session =
        fuser::spawn_mount(folder, place.path(), &options).map_err(|error| PlaceError::Mount { path: place.path().to_owned(), error })?;
    read_ahead(place.path(), piece);
    Ok(Mounted { session, events, place, _ahead: ahead })
}

/// The kernel reads 128 KiB ahead as it comes, and so asks for half a chunk at a time. Where this process may (root, with a writable
/// `/sys`), it is told to ask for whole ones; where not, each chunk takes two questions, and nothing else changes.
fn read_ahead(at: &Path, piece: u32) {
    if let Ok(metadata) = std::fs::metadata(at) {
        let (major, minor) = (rustix::fs::major(metadata.dev()), rustix::fs::minor(metadata.dev()));
        let kib = piece.clamp(256 << 10, 1 << 20) >> 10;
        let _ = std::fs::write(format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb"), kib.to_string());
    }
}

impl<S: RangeSource + Send + Sync + 'static> Mounted<S> {
    /// What it tells and counts.
    #[must_use]
    pub fn events(&self) -> &Arc<Events> {
        &self.events
    }

    /// The mount point.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.place.path()
    }

    /// Serves until there is a reason to end; then takes the mount's name away, and goes on for those who have files of it open, but
    /// no longer than `linger`. What is mapped then stays readable as far as the page cache has it.
    pub fn serve(self, reasons: Reasons, linger: Duration) -> Ending {
        let Reasons { sender, reasons, .. } = reasons;
        let Self { session, place, .. } = self;
        thread::spawn(move || {
            // However the session ended, it is over.
            let _ = session.join();
            let _ = sender.send(Ending::Unmounted);
        });
        let ending = reasons.recv().unwrap_or(Ending::Unmounted);
        if ending != Ending::Unmounted {
            place.unmount();
            wait_for_readers(&reasons, linger);
        }
        ending
    }
}

/// Until the last file is closed, the time is over, or somebody asks once more.
fn wait_for_readers(reasons: &Receiver<Ending>, linger: Duration) {
    let until = std::time::Instant::now() + linger;
    loop {
        let rest = until.saturating_duration_since(std::time::Instant::now());
        match reasons.recv_timeout(rest) {
            Ok(Ending::Orphaned) => {}
            Ok(Ending::Asked | Ending::Unmounted) | Err(_) => return,
        }
    }
}

/// Answers what is asked, and notices the end of who asks. A mount may outlive that; what is none yet does not.
fn watch_orders(orders: impl Read + Send + 'static, parent: Parent, of: Arc<Mutex<Stage>>, reasons: Sender<Ending>) {
    thread::spawn(move || {
        for line in BufReader::new(orders).lines().map_while(Result::ok) {
            if let (COUNTERS, Stage::Mounted(events)) = (line.as_str(), &*stage(&of)) {
                tell(&Event::Counters(events.counted()), &mut io::stdout().lock());
            }
        }
        end_fetching(&of);
        if parent == Parent::Needed || !matches!(*stage(&of), Stage::Mounted(_)) {
            let _ = reasons.send(Ending::Orphaned);
        }
    });
}
