//! The keeper: the one thread that talks to the broker. It asks for keys, renews, decides which version is current, and does what
//! expiry and denial are configured to do.
//!
//! A *lease* is the broker's last permit for a version: it ends with the attestation's lifetime, which the policy gives. Each version that lies
//! there in plaintext has its own, and an answer about one version says nothing about another. The broker is asked
//! every `check-every-seconds`, with the keys that were attested and without a key crossing: it judges the same evidence by what is in
//! force now. It is asked about each version that is held, by its number, and about the highest where that is followed. At half of a lease
//! the guest attests anew, and the leases begin anew. Where the broker does not answer, nothing changes before a
//! lease has run out. Where it answers no, the lease ends then too, or at once, as configured; a no that nobody has signed is no answer. A model's key
//! is never kept: a version that is opened again is released again.
//!
//! This file asks, listens, and keeps time; `holding` does what follows with versions.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use models_manifest::ModelKey;
use protocol::documents::Kind;
use protocol::ids::{Name, Version};
use protocol::limits;
use protocol::messages::{Item, ItemOutcome, Outcome, Purpose};
use protocol::time::UnixTime;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::SidecarError;
use super::catalog::{Catalog, Denial};
use super::config::{MODELS, OnDenial, SidecarConfig, Wanted};
use super::holding::{Kept, Leaving, OpeningId, Released, Underway};
use super::hook::{Change, Hook};
use super::lease::Lease;
use super::notes::Notes;
use super::place::{self, Found};
use super::version::{OpenFailed, OpenVersion};
use crate::capacity::Rooms;
use crate::clock;
use crate::config::Config;
use crate::evidence::Attester;
use crate::exchange::{Answered, Class, ExchangeError, Session, Terms};
use crate::report::Report;
use crate::retry::{Pace, SystemPace};
use connection::Client;

/// How often the keeper looks after what is held, mounted and leased.
pub(super) const TICK: Duration = Duration::from_secs(1);
/// The wait after the first failure is below this, after each further one below twice as much.
pub(super) const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// No wait after a failure is longer, unless the broker asks for it.
pub(super) const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// Orders that wait at most, whoever they are from.
pub const ORDERS: usize = 256;
/// Renewals are up to this share off, so that pods that started together do not come together.
const JITTER: f64 = 0.2;

/// What the keeper is asked to do.
pub enum Order {
    /// Keep this model open, or what is wanted of it now.
    Add(Wanted, oneshot::Sender<Result<(), Refused>>),
    /// No longer keep it open.
    Remove(Name, oneshot::Sender<Result<(), Refused>>),
    /// Ask the broker now.
    Ask,
    /// An opening has ended.
    Opened(OpeningId, Box<Result<OpenVersion, OpenFailed>>),
    /// The mount server of an opening has ended, with this exit code.
    MountEnded(OpeningId, i32),
    /// Put everything away and end.
    Stop,
}

/// Why an order is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such model.
    #[error("no model {name} is kept")]
    NoSuchModel {
        /// The name asked for.
        name: Name,
    },
    /// Adapters stand on it.
    #[error("{name} is the base of {adapter}, which is kept")]
    HasAdapters {
        /// The model.
        name: Name,
        /// One of its adapters.
        adapter: Name,
    },
    /// The base of an adapter is not kept.
    #[error("{base}, the base of {name}, is not kept")]
    NoBase {
        /// The adapter.
        name: Name,
        /// Its base.
        base: Name,
    },
    /// The base is an adapter of the model itself.
    #[error("{base}, the base of {name}, stands on {name} itself")]
    BaseCycle {
        /// The adapter.
        name: Name,
        /// Its base.
        base: Name,
    },
    /// Too many models.
    #[error("{MODELS} models are kept already")]
    TooMany,
    /// There is no folder in which a model could appear.
    #[error("no model can be kept: sidecar.toml has no `models`, the folder under which it would appear")]
    NoFolder,
}

impl Refused {
    /// A stable name.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoSuchModel { .. } => "no-such-model",
            Self::HasAdapters { .. } => "has-adapters",
            Self::NoBase { .. } => "no-base",
            Self::BaseCycle { .. } => "base-cycle",
            Self::TooMany => "too-many-models",
            Self::NoFolder => "no-models-folder",
        }
    }

    /// What may help.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NoFolder => "models = \"/PATH\" in sidecar.toml names it; then the sidecar is to be started again",
            _ => "GET /v1/models lists what is kept",
        }
    }
}

/// In a keeper's place where there is no folder of models: nothing is held, and whoever wants a model kept is told why it cannot be. Until it
/// is told to stop.
pub fn keep_none(queue: &Receiver<Order>) {
    for order in queue {
        match order {
            Order::Add(_, reply) => drop(reply.send(Err(Refused::NoFolder))),
            Order::Remove(name, reply) => drop(reply.send(Err(Refused::NoSuchModel { name }))),
            Order::Stop => return,
            // There is nothing to ask about, and nothing is ever opened.
            Order::Ask | Order::Opened(..) | Order::MountEnded(..) => {}
        }
    }
}

/// The keeper.
pub struct Keeper {
    client: Client,
    attester: Box<dyn Attester>,
    terms: Terms,
    keeping: Keeping,
    found: Found,
}

/// What the keeper knows and holds.
pub(super) struct Keeping {
    pub(super) guest: Config,
    pub(super) sidecar: SidecarConfig,
    pub(super) notes: Notes,
    pub(super) catalog: Arc<Catalog>,
    pub(super) orders: SyncSender<Order>,
    pub(super) queue: Receiver<Order>,
    pub(super) hook: Hook,
    pub(super) rooms: Arc<Rooms>,
    pub(super) models: BTreeMap<Name, Kept>,
    /// Openings that have not ended yet, also of what is no longer wanted.
    pub(super) openings: BTreeMap<OpeningId, Underway>,
    pub(super) leaving: Vec<Leaving>,
    pub(super) last: OpeningId,
    pace: SystemPace,
    /// When to look after what is held.
    tick: Instant,
    /// When to ask the broker.
    next: Instant,
    /// Nobody makes that any earlier: the broker did not answer, or asked to be left alone.
    not_before: Instant,
    failures: u32,
}

impl Keeper {
    /// Nothing is asked for yet.
    ///
    /// # Errors
    /// [`SidecarError::Http`], [`SidecarError::Evidence`], [`SidecarError::Threads`], [`SidecarError::Models`].
    pub fn new(
        guest: Config,
        terms: Terms,
        sidecar: SidecarConfig,
        notes: Notes,
        catalog: Arc<Catalog>,
        (orders, queue): (SyncSender<Order>, Receiver<Order>),
        hook: Hook,
    ) -> Result<Self, SidecarError> {
        let client = Client::new(&guest.broker)?;
        let attester = guest.evidence.attester(&guest.interfaces)?;
        let found = place::find(notes.models());
        let found = found.map_err(|error| SidecarError::Models { path: notes.models().to_owned(), error })?;
        let keeping = Keeping::new(guest, sidecar, notes, catalog, (orders, queue), hook);
        Ok(Self { client, attester, terms, keeping, found })
    }

    /// Until it is told to stop.
    pub fn run(self) {
        let Self { client, attester, terms, mut keeping, found } = self;
        keeping.take_in(&found);
        let mut session = Session::new(&client, &*attester, terms);
        keeping.run(|keeping| keeping.ask(&mut session));
    }
}

/// The thread that a keeper runs on.
pub(super) struct Thread {
    handle: JoinHandle<()>,
    ended: oneshot::Receiver<()>,
}

impl Thread {
    /// Starts it. What it keeps, and the queue of its orders, are gone before its end is noticed.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn start(keep: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let (alive, ended) = oneshot::channel::<()>();
        let handle = Builder::new().name("keeper".to_owned()).spawn(move || {
            // However it ends: that this is gone is noticed.
            let _alive = alive;
            keep();
        })?;
        Ok(Self { handle, ended })
    }

    /// Waits until it has ended, which it does by itself only where something fails inside. To be waited for once.
    pub(super) async fn ended(&mut self) {
        // Nothing is ever sent: the sender goes.
        let _ = (&mut self.ended).await;
    }

    /// Has everything put away, and waits until it is.
    pub(super) fn stop(self, orders: &SyncSender<Order>) {
        // Where the keeper has ended already, there is nobody to tell.
        let _ = orders.send(Order::Stop);
        let _ = self.handle.join();
    }
}

impl Keeping {
    pub(super) fn new(
        guest: Config,
        sidecar: SidecarConfig,
        notes: Notes,
        catalog: Arc<Catalog>,
        (orders, queue): (SyncSender<Order>, Receiver<Order>),
        hook: Hook,
    ) -> Self {
        let models = sidecar.wanted.iter().map(|wanted| (wanted.name.clone(), Kept::new(wanted.clone()))).collect();
        let now = Instant::now();
        Self {
            guest,
            sidecar,
            notes,
            catalog,
            orders,
            queue,
            hook,
            rooms: Arc::default(),
            models,
            openings: BTreeMap::new(),
            leaving: Vec::new(),
            last: OpeningId::default(),
            pace: SystemPace::start(),
            tick: now,
            next: now,
            not_before: now,
            failures: 0,
        }
    }

    /// Until it is told to stop: then everything is put away.
    pub(super) fn run(mut self, mut ask: impl FnMut(&mut Self)) {
        while self.step(&mut ask) {}
        self.put_all_away();
    }

    /// One order, if there is one, and whatever it is time for. Whether to go on.
    pub(super) fn step(&mut self, ask: impl FnOnce(&mut Self)) -> bool {
        let wait = self.next.min(self.tick).saturating_duration_since(Instant::now());
        match self.queue.recv_timeout(wait) {
            Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
            Ok(order) => self.take(order),
            Err(RecvTimeoutError::Timeout) => {}
        }
        // By the clock, however many orders there are.
        if Instant::now() >= self.tick {
            self.tick = Instant::now() + TICK;
            self.end_leases();
            self.let_go();
            self.ask_counters();
        }
        if Instant::now() >= self.next {
            ask(self);
        }
        true
    }

    pub(super) fn take(&mut self, order: Order) {
        match order {
            Order::Add(wanted, reply) => drop(reply.send(self.add(wanted))),
            Order::Remove(name, reply) => drop(reply.send(self.remove(&name))),
            Order::Ask => self.ask_soon(),
            Order::Opened(id, opened) => self.opened(id, *opened),
            Order::MountEnded(id, code) => self.mount_ended(id, code),
            Order::Stop => {}
        }
    }

    /// Asks the broker as soon as it may be asked.
    pub(super) fn ask_soon(&mut self) {
        self.ask_at(Instant::now());
    }

    /// Asks the broker no later than that, as far as it may be asked.
    pub(super) fn ask_at(&mut self, time: Instant) {
        self.next = self.next.min(time.max(self.not_before));
    }

    pub(super) fn add(&mut self, wanted: Wanted) -> Result<(), Refused> {
        self.check_base(&wanted)?;
        if self.models.len() >= MODELS && !self.models.contains_key(&wanted.name) {
            return Err(Refused::TooMany);
        }
        self.catalog.want(&wanted, self.notes.models());
        let kept = self.models.entry(wanted.name.clone()).or_insert_with(|| Kept::new(wanted.clone()));
        kept.want(wanted);
        self.ask_soon();
        Ok(())
    }

    /// The base of an adapter is kept, and stands on other models than the adapter.
    fn check_base(&self, wanted: &Wanted) -> Result<(), Refused> {
        let Some(first) = &wanted.base else { return Ok(()) };
        let mut base = Some(first);
        while let Some(next) = base {
            if *next == wanted.name {
                return Err(Refused::BaseCycle { name: wanted.name.clone(), base: first.clone() });
            }
            let Some(kept) = self.models.get(next) else {
                return Err(Refused::NoBase { name: wanted.name.clone(), base: first.clone() });
            };
            base = kept.wanted.base.as_ref();
        }
        Ok(())
    }

    /// One round with the broker: what is held is renewed, what is not open is released, and newer versions after that.
    fn ask(&mut self, session: &mut Session<'_>) {
        let at = clock::moment();
        if self.asked_about().any(|(.., lease)| lease.until_half(at).is_zero()) {
            session.forget();
        }
        let ended = self.exchange(session, Purpose::Check, &self.held()).and_then(|newer| {
            self.exchange(session, Purpose::Release, &self.missing())?;
            self.exchange(session, Purpose::Release, &newer).map(drop)
        });
        match ended {
            Ok(()) => {
                (self.failures, self.not_before) = (0, Instant::now());
                self.next = Instant::now() + self.until_next();
            }
            Err(after) => self.back_off(after),
        }
    }

    /// Leaves the broker alone for a while, longer each time, and for as long as it asked.
    pub(super) fn back_off(&mut self, after: Option<Duration>) {
        let bound = FIRST_BACKOFF.saturating_mul(2_u32.saturating_pow(self.failures)).min(LONGEST_BACKOFF);
        self.failures = self.failures.saturating_add(1);
        self.not_before = Instant::now() + after.unwrap_or_default() + self.pace.below(bound);
        self.next = self.not_before;
    }

    /// What to ask about what is held: each version that lies there or is being opened, by its number; and of a model that is open, also what is
    /// wanted of it, which may be a newer one.
    pub(super) fn held(&self) -> Vec<Item> {
        let versions = self.asked_about().map(|(name, version, _)| (name, Some(version)));
        let open = self.models.iter().filter(|(_, kept)| kept.current.is_some());
        let asked: BTreeSet<(&Name, Option<Version>)> = versions.chain(open.map(|(name, kept)| (name, kept.wanted.version))).collect();
        asked.into_iter().map(|(name, version)| item(name, version)).collect()
    }

    /// What to have released: what is not open and may be opened.
    pub(super) fn missing(&self) -> Vec<Item> {
        let is_open = |name: &Name| self.models.get(name).is_some_and(|kept| kept.current.is_some());
        let missing = self.models.iter().filter(|(_, kept)| kept.current.is_none() && kept.may_open());
        let ready = missing.filter(|(_, kept)| kept.wanted.base.as_ref().is_none_or(is_open));
        ready.map(|(name, kept)| item(name, kept.wanted.version)).collect()
    }

    /// Until half of the first lease is over, and no longer than is configured; a little later by chance, or earlier.
    fn until_next(&self) -> Duration {
        let at = clock::moment();
        let spread = |wait: Duration| wait + self.pace.below(wait.mul_f64(JITTER));
        // Who was told no asks again at the configured interval, whatever is left of the lease.
        let leases = self.asked_about().filter(|(name, version, lease)| !lease.is_over(at) && !self.is_denied(name, *version));
        let halves = leases.map(|(.., lease)| spread(lease.until_half(at)));
        let retries = self.models.values().filter_map(|kept| kept.not_before).map(|time| time.saturating_duration_since(Instant::now()));
        let every = self.sidecar.check_every;
        let every = every.saturating_sub(self.pace.below(every.mul_f64(JITTER)));
        halves.chain(retries).fold(every, Duration::min).max(TICK)
    }

    /// As many exchanges as that many items take. What was permitted in a newer version than is open comes back, to be released.
    fn exchange(&mut self, session: &mut Session<'_>, purpose: Purpose, items: &[Item]) -> Result<Vec<Item>, Option<Duration>> {
        let mut newer = Vec::new();
        for items in items.chunks(limits::ASKS) {
            match session.release(purpose, items) {
                Ok(answered) => newer.extend(self.answered(items, answered)),
                Err(error) => return Err(self.not_answered(items, &error)),
            }
        }
        Ok(newer)
    }

    fn answered(&mut self, items: &[Item], answered: Answered) -> Vec<Item> {
        self.catalog.answered();
        if !answered.is_permitted() {
            Report::of_decision(answered.outcome(), answered.entry()).leave(None);
        }
        self.decided(items, answered.into_outcome())
    }

    /// What was decided about `items`. Each answer is about the version that it names, and about no other.
    pub(super) fn decided(&mut self, items: &[Item], outcome: Outcome) -> Vec<Item> {
        let Outcome { decision, items: outcomes, .. } = outcome;
        let refused = |outcome: &ItemOutcome| matches!(outcome, ItemOutcome::Refused { .. }).then(|| outcome.item().name.clone());
        let refused: BTreeSet<Name> = outcomes.iter().filter_map(refused).collect();
        items.iter().filter(|item| !refused.contains(&item.name)).for_each(|item| self.catalog.no_longer_denied(&item.name));
        let mut newer = Vec::new();
        for (asked, outcome) in items.iter().zip(outcomes) {
            match outcome {
                ItemOutcome::Permitted { item: Item { name, version: Some(version), .. }, expires } => {
                    self.permitted(&name, version, expires);
                    newer.extend(self.is_newer(asked, version).then(|| item(&name, Some(version))));
                }
                ItemOutcome::Granted { item: Item { name, version: Some(version), .. }, publisher, manifest, expires, secret, .. } => {
                    let key = ModelKey::from_secret(Zeroizing::new(secret.expose().to_vec()));
                    match (manifest, key) {
                        (Some(manifest), Ok(key)) => self.begin(&name, version, Released { key, manifest, publisher, until: expires }),
                        _ => tracing::error!(model = %name, "what was released is no model key"),
                    }
                }
                ItemOutcome::Refused { item, reasons } => {
                    let denial = Denial::new(reasons.into_iter().next(), &decision.to_string());
                    self.denied(&item.name, item.version, &denial);
                }
                // An exchange lets through what was asked for, with its version, and nothing else.
                _ => {}
            }
        }
        self.end_leases();
        newer
    }

    /// Whether what was asked for is what is wanted of a model, and another version of it than is open, which may be opened.
    fn is_newer(&self, asked: &Item, version: Version) -> bool {
        let wants = |kept: &&Kept| kept.wanted.version == asked.version && kept.current.is_some_and(|current| current != version);
        self.models.get(&asked.name).filter(wants).is_some_and(Kept::may_open)
    }

    /// No answer, or one that is not believed, or a rejection of the guest as a whole. When to come back, where that was asked for.
    pub(super) fn not_answered(&mut self, items: &[Item], error: &ExchangeError) -> Option<Duration> {
        let (code, hint) = (error.code(), error.hint());
        match error.class() {
            Class::Outage(after) => {
                tracing::warn!(%error, code, hint, "the broker does not answer; what is open stays open until its lease ends");
                self.catalog.count(|counts| counts.outages += 1);
                after
            }
            Class::Denied => {
                // Nobody has signed it: anybody on the way may have said so. It is shown, and ends no lease.
                tracing::warn!(%error, code, hint, "rejected; what is open stays open until its lease ends");
                let report = Report::of_error(error);
                report.leave(None);
                let denial = Denial { code: report.code, found: report.message, hint: report.hint, decision: report.decision };
                let names: BTreeSet<&Name> = items.iter().map(|item| &item.name).collect();
                names.into_iter().for_each(|name| self.catalog.denied(name, &denial));
                self.catalog.count(|counts| counts.outages += 1);
                None
            }
            Class::Untrusted => {
                tracing::error!(%error, code, hint, "whoever answers is not believed; what is open stays open until its lease ends");
                self.catalog.count(|counts| counts.untrusted += 1);
                None
            }
            Class::NoEvidence | Class::Local => {
                tracing::error!(%error, code, hint, "nothing can be asked of the broker");
                self.catalog.count(|counts| counts.outages += 1);
                None
            }
        }
    }

    fn permitted(&mut self, name: &Name, version: Version, until: UnixTime) {
        let at = clock::moment();
        let opening = self.openings.values_mut().find(|opening| opening.name == *name && opening.version == version);
        opening.into_iter().for_each(|opening| opening.lease = opening.lease.renewed(until, at));
        let Some(held) = self.held_mut(name, version) else { return };
        (held.lease, held.denied, held.expired) = (held.lease.renewed(until, at), false, false);
        let lease = held.lease;
        self.note(name, version);
        let Some(kept) = self.models.get_mut(name).filter(|kept| kept.current == Some(version)) else { return };
        let was_expired = std::mem::replace(&mut kept.expired, false);
        self.catalog.permitted(name, lease);
        if was_expired {
            self.permitted_again(name, Some(version), lease);
        }
    }

    pub(super) fn permitted_again(&self, name: &Name, version: Option<Version>, lease: Lease) {
        tracing::info!(model = %name, lease = %lease.until(), "permitted again");
        self.hook.tell(Change::Renewed, name, version, &place::current(self.notes.models(), name));
    }

    /// A no of the broker's, about a version or, where it knows none, about the name alone.
    fn denied(&mut self, name: &Name, version: Option<Version>, denial: &Denial) {
        let Denial { code, found, hint, decision } = denial;
        let (decision, number) = (decision.as_deref().unwrap_or_default(), version.map(Version::number));
        tracing::warn!(model = %name, version = number, code, found, hint, decision, "denied");
        self.catalog.denied(name, denial);
        let Some(version) = version else { return };
        let (at, at_once) = (clock::moment(), self.sidecar.on_denial == OnDenial::AtOnce);
        let opening = self.openings.values_mut().find(|opening| opening.name == *name && opening.version == version);
        opening.into_iter().filter(|_| at_once).for_each(|opening| opening.lease = opening.lease.ended(at));
        let Some(held) = self.held_mut(name, version) else { return };
        held.denied = true;
        if at_once {
            held.lease = held.lease.ended(at);
            self.note(name, version);
        }
    }
}

fn item(name: &Name, version: Option<Version>) -> Item {
    Item { kind: Kind::Model, name: name.clone(), version }
}
