//! The keeper: the thread that asks the broker, and another that looks at the clock.
//!
//! Every `check_every`, and at half of a lease, the broker is asked about what is held, without a secret crossing: it judges by what is in
//! force now, and names the version that is current. Another version is then released, and what is not held at all. Where that cannot be used,
//! the version that is held is asked about by its number, so that it goes on for as long as it is permitted. At half of a lease the guest
//! attests anew, and the lease begins anew. The clock has a thread of its own, because an exchange may wait long for a broker that does
//! not answer, and a lease ends all the same.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use protocol::ids::{Name, Version};
use protocol::messages::{Item, ItemOutcome, Purpose};
use tokio::sync::watch;

use super::files::Files;
use super::kept::{Grant, Kept, Permitted};
use super::{CREDENTIALS, Credentials, Standing};
use crate::clock;
use crate::config::Config;
use crate::evidence::EvidenceError;
use crate::exchange::{Answered, Class, ExchangeError, Session, Terms};
use crate::report::Report;
use crate::retry::{Pace, SystemPace};
use crate::sidecar::catalog::{Catalog, Denial};
use connection::{Client, HttpError};

/// How often the clock is looked at.
const TICK: Duration = Duration::from_secs(1);
/// The wait after the first failure is below this, after each further one below twice as much.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// No wait after a failure is longer, unless the broker asks for it.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// Renewals are up to this share off, so that guests that started together do not come together.
const JITTER: f64 = 0.2;

/// How credentials are kept.
pub struct Settings {
    /// How often the broker is asked for new versions and revocations, at least.
    pub check_every: Duration,
    /// Where exchanges are counted, in a sidecar.
    pub catalog: Option<Arc<Catalog>>,
}

/// Why a keeper does not start. Once it runs, nothing of the broker's ends it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No client of the broker.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// No way to evidence.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// More than one request may ask for.
    #[error("{found} credentials, more than {CREDENTIALS}")]
    TooMany {
        /// How many.
        found: usize,
    },
    /// No thread.
    #[error("the system gives no thread: {0}")]
    Threads(std::io::Error),
}

impl StartError {
    /// What may help.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Http(error) => error.hint(),
            Self::Evidence(error) => error.hint(),
            Self::TooMany { .. } => "one guest holds 64 credentials at most",
            Self::Threads(_) => "a limit on processes or memory may be too low",
        }
    }
}

enum Order {
    Ask,
    Stop,
}

/// A credential that is kept, as others see it.
#[derive(Clone)]
pub struct View {
    /// Its name.
    pub name: Name,
    /// The version asked for; without it, the newest.
    pub wanted: Option<Version>,
    standing: watch::Receiver<Standing>,
}

impl View {
    /// How it stands now.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }
}

/// Credentials that are kept. When it goes, their files do, and nothing is asked for any more.
pub struct Keeping {
    orders: Sender<Order>,
    files: Arc<Files>,
    views: Vec<View>,
    changes: watch::Receiver<()>,
    /// The clock's thread ends with it.
    _clock: Sender<()>,
}

impl Keeping {
    /// All of them.
    #[must_use]
    pub fn views(&self) -> &[View] {
        &self.views
    }

    /// Learns of every change to any of them.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.clone()
    }

    /// Asks the broker now.
    pub fn ask(&self) {
        // The thread ends with this only.
        let _ = self.orders.send(Order::Ask);
    }
}

impl Keeping {
    /// Ends it: files are removed, and nothing is asked for any more.
    pub fn close(&self) {
        let _ = self.orders.send(Order::Stop);
        // Not joined: it may be waiting for a broker. It writes nothing more.
        self.files.close();
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.close();
    }
}

impl Credentials {
    /// Starts to ask for them, and to keep them.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(self, guest: &Config, terms: Terms, settings: Settings) -> Result<Keeping, StartError> {
        if self.kept.len() > CREDENTIALS {
            return Err(StartError::TooMany { found: self.kept.len() });
        }
        let client = Client::new(&guest.broker)?;
        let attester = guest.evidence.attester(&guest.interfaces)?;
        let changes = self.changes();
        let view = |kept: &Kept| View { name: kept.item().name.clone(), wanted: kept.item().version, standing: kept.watch() };
        let views = self.kept.iter().map(view).collect();
        let (orders, queue) = mpsc::channel();
        let (clock, ended) = mpsc::channel();
        let kept = Arc::new(Mutex::new(self.kept));
        let ticking = Ticking { kept: Arc::clone(&kept), files: Arc::clone(&self.files) };
        let mut keeper = Keeper {
            kept,
            files: Arc::clone(&self.files),
            settings,
            orders: queue,
            pace: SystemPace::start(),
            next: Instant::now(),
            failures: 0,
        };
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.to_owned()).spawn(run).map(drop).map_err(StartError::Threads)
        };
        spawn("leases", Box::new(move || ticking.run(&ended)))?;
        let run = move || {
            let mut session = Session::new(&client, &*attester, terms);
            if keeper.kept().iter().all(Kept::is_held) {
                keeper.next = Instant::now() + keeper.until_next();
            }
            while keeper.step(&mut session) {}
        };
        spawn("credentials", Box::new(run))?;
        Ok(Keeping { orders, files: self.files, views, changes, _clock: clock })
    }
}

/// Ends what is over, whatever the keeper waits for.
struct Ticking {
    kept: Arc<Mutex<Vec<Kept>>>,
    files: Arc<Files>,
}

impl Ticking {
    fn run(&self, ended: &Receiver<()>) {
        while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            let at = clock::moment();
            lock(&self.kept).iter_mut().for_each(|kept| kept.end_if_over(at, &self.files));
        }
    }
}

fn lock(kept: &Mutex<Vec<Kept>>) -> MutexGuard<'_, Vec<Kept>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is asked for: the place among those that are kept, and the item.
type Asked = Vec<(usize, Item)>;

struct Keeper {
    kept: Arc<Mutex<Vec<Kept>>>,
    files: Arc<Files>,
    settings: Settings,
    orders: Receiver<Order>,
    pace: SystemPace,
    next: Instant,
    failures: u32,
}

impl Keeper {
    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        lock(&self.kept)
    }

    /// One order, or what time has brought. Whether to go on.
    fn step(&mut self, session: &mut Session<'_>) -> bool {
        match self.orders.recv_timeout(self.next.saturating_duration_since(Instant::now())) {
            Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
            Ok(Order::Ask) | Err(RecvTimeoutError::Timeout) => self.ask(session),
        }
        true
    }

    /// One round with the broker: what is held is renewed, another version released, and what is not held.
    fn ask(&mut self, session: &mut Session<'_>) {
        let at = clock::moment();
        if self.kept().iter().filter_map(|kept| kept.until_half(at)).any(|left| left.is_zero()) {
            session.forget();
        }
        // In a request of its own, since that may ask for no more than one can hold.
        let ended = self.exchange(session, Purpose::Check, self.asked(Kept::by_number)).and_then(|_| {
            let held = self.asked(|kept| kept.is_held().then(|| kept.item().clone()));
            let mut missing = self.asked(|kept| (!kept.is_held()).then(|| kept.item().clone()));
            missing.extend(self.exchange(session, Purpose::Check, held)?);
            self.exchange(session, Purpose::Release, missing).map(drop)
        });
        match ended {
            Ok(()) => {
                self.failures = 0;
                self.next = Instant::now() + self.until_next();
            }
            Err(after) => {
                let bound = FIRST_BACKOFF.saturating_mul(2_u32.saturating_pow(self.failures)).min(LONGEST_BACKOFF);
                self.failures = self.failures.saturating_add(1);
                self.next = Instant::now() + after.unwrap_or_default() + self.pace.below(bound);
            }
        }
    }

    /// What to ask for, of each for which there is something.
    fn asked(&self, what: impl Fn(&Kept) -> Option<Item>) -> Asked {
        self.kept().iter().enumerate().filter_map(|(at, kept)| Some((at, what(kept)?))).collect()
    }

    /// Until half of the first lease is over or something ends by itself, and no longer than is configured; a little later by chance, or
    /// earlier.
    fn until_next(&self) -> Duration {
        let at = clock::moment();
        let spread = |wait: Duration| wait + self.pace.below(wait.mul_f64(JITTER));
        let every = self.settings.check_every;
        let every = every.saturating_sub(self.pace.below(every.mul_f64(JITTER)));
        let kept = self.kept();
        let halves = kept.iter().filter_map(|kept| kept.until_half(at)).map(spread);
        let ends = kept.iter().filter_map(|kept| kept.until_end(at)).map(|left| left + 2 * TICK);
        halves.chain(ends).fold(every, Duration::min).max(TICK)
    }

    /// One exchange. What was permitted in another version than is held comes back, to be released.
    fn exchange(&self, session: &mut Session<'_>, purpose: Purpose, asked: Asked) -> Result<Asked, Option<Duration>> {
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let items: Vec<Item> = asked.iter().map(|(_, item)| item.clone()).collect();
        match session.release(purpose, &items) {
            Ok(answered) => {
                self.count(Catalog::answered);
                self.answered(asked, answered)
            }
            Err(error) => Err(self.not_answered(&asked, &error)),
        }
    }

    /// Each item is answered in its place, as the session has checked.
    fn answered(&self, asked: Asked, answered: Answered) -> Result<Asked, Option<Duration>> {
        if !answered.is_permitted() {
            Report::of_decision(answered.outcome(), answered.entry()).leave(None);
        }
        let decision = answered.outcome().decision.to_string();
        let moment = clock::moment();
        let mut other = Vec::new();
        let mut usable = true;
        let mut kept = self.kept();
        for ((at, item), outcome) in asked.into_iter().zip(answered.into_outcome().items) {
            let Some(kept) = kept.get_mut(at) else { continue };
            match outcome {
                ItemOutcome::Permitted { item: Item { version: Some(version), .. }, expires } => {
                    if kept.permitted(&item, version, expires, moment) == Permitted::Other {
                        other.push((at, item));
                    }
                }
                ItemOutcome::Refused { reasons, .. } => {
                    let denial = denial(reasons.into_iter().next(), &decision);
                    let Denial { code, found, hint, .. } = &denial;
                    tracing::warn!(credential = %item.name, code, found, hint, decision, "denied");
                    if let Some(catalog) = &self.settings.catalog {
                        catalog.denied(&item.name, &denial);
                    }
                    kept.refused(denial, &self.files);
                }
                granted => usable &= self.granted(kept, granted),
            }
        }
        // What was released and cannot be used may be another time: a folder may have room again, a publisher correct it.
        if usable { Ok(other) } else { Err(None) }
    }

    fn granted(&self, kept: &mut Kept, outcome: ItemOutcome) -> bool {
        let Some(grant) = Grant::of(outcome) else { return true };
        let (name, version) = (kept.item().name.clone(), grant.version);
        match kept.granted(grant, &self.files, clock::moment()) {
            Ok(()) => tracing::info!(credential = %name, %version, "held"),
            Err(error) => {
                tracing::error!(credential = %name, code = error.code(), %error, "what was released cannot be used");
                return false;
            }
        }
        true
    }

    /// No answer, or one that is not believed, or a rejection of the guest as a whole. When to come back, where that was asked for.
    fn not_answered(&self, asked: &Asked, error: &ExchangeError) -> Option<Duration> {
        let (code, hint) = (error.code(), error.hint());
        match error.class() {
            Class::Outage(after) => {
                tracing::warn!(%error, code, hint, "the broker does not answer; credentials stay until their leases end");
                self.count(|catalog| catalog.count(|counts| counts.outages += 1));
                return after;
            }
            Class::Denied => {
                tracing::warn!(%error, code, hint, "rejected; credentials stay until their leases end");
                let report = Report::of_error(error);
                let denial = Denial { code: report.code, found: report.message, hint: report.hint, decision: report.decision };
                let mut kept = self.kept();
                asked.iter().for_each(|(at, _)| {
                    if let Some(kept) = kept.get_mut(*at) {
                        kept.rejected(denial.clone());
                    }
                });
            }
            Class::Untrusted => {
                tracing::error!(%error, code, hint, "whoever answers is not believed; credentials stay until their leases end");
                self.count(|catalog| catalog.count(|counts| counts.untrusted += 1));
            }
            Class::NoEvidence | Class::Local => {
                tracing::error!(%error, code, hint, "nothing can be asked of the broker");
                self.count(|catalog| catalog.count(|counts| counts.outages += 1));
            }
        }
        None
    }

    fn count(&self, count: impl FnOnce(&Catalog)) {
        if let Some(catalog) = &self.settings.catalog {
            count(catalog);
        }
    }
}

fn denial(reason: Option<protocol::messages::Reason>, decision: &str) -> Denial {
    let (code, found, hint) =
        reason.map_or_else(|| ("refused".to_owned(), String::new(), String::new()), |reason| (reason.code, reason.found, reason.hint));
    Denial { code, found, hint, decision: Some(decision.to_owned()) }
}
