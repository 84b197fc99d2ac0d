//! The collateral feed: fetches what the installation's platforms need from their vendors, ahead of need and out of the way of requests.
//!
//! * What every guest needs (revocation lists, authorities, QE identity, and the TCB info of each family seen) is fetched at start
//!   and again after half to three quarters of its life, or of a day.
//! * What one guest needs (the certificate of its VCEK, its family's TCB info) is fetched when a guest comes without it. The guest is
//!   told to come back. Such fetches have a budget, for what an unverified guest says of its platform is its own choice.
//! * A piece is asked for by one request at a time, however many wait for it. A failure is waited out, ever longer, with jitter,
//!   and as long as the upstream asks; what is held stays in use meanwhile. What an upstream does not have is not asked for again
//!   for a while.
//!
//! An upstream is not trusted. It, or whoever stands between, can withhold what is new for as long as what is held stays valid.

mod budget;
mod client;
mod pace;
pub mod upstream;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use attestation::{PckAuthority, SigningKeyKind};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use protocol::time::UnixTime;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::clock;
use crate::collateral::{CollateralHouse, NotKept, Origin, PieceKey, Vendor};
use budget::{Budget, Spent};
use client::{Client, NoReply};
use upstream::Update;

/// How long one request to an upstream may take.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// Requests to one upstream at a time.
const PARALLEL: usize = 4;
/// Pieces that guests wait for at most, or that upstreams did not have.
const QUEUE: usize = 1024;
/// How long a guest is asked to wait for a piece that is on its way.
const SOON: Duration = Duration::from_secs(3);
/// How long what an upstream does not have is not asked for again.
const ABSENT: Duration = Duration::from_secs(15 * 60);
/// How often the feed looks at what is due, when nobody wakes it.
const LOOK: Duration = Duration::from_secs(10);

/// Where a vendor's collateral comes from.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// The service, without a final slash.
    pub url: String,
    /// Whose certificates the service may have, PEM; the web's authorities by default.
    pub ca_file: Option<PathBuf>,
}

/// What the feed is to do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// AMD's service; `None`: AMD is asked for nothing.
    pub amd: Option<Upstream>,
    /// Intel's service; `None`: Intel is asked for nothing.
    pub intel: Option<Upstream>,
    /// Which of two evaluations Intel is asked for.
    pub update: Update,
    /// Fetches an hour that one client network may cause.
    pub per_client: u32,
    /// Fetches an hour that all clients together may cause.
    pub in_all: u32,
    /// How long one request may take.
    pub timeout: Duration,
}

impl Default for Settings {
    /// Nobody is asked for anything.
    fn default() -> Self {
        Self { amd: None, intel: None, update: Update::default(), per_client: PER_CLIENT, in_all: IN_ALL, timeout: TIMEOUT }
    }
}

/// Fetches an hour that one client network may cause, where nothing else is configured: a rack behind one address starts.
pub const PER_CLIENT: u32 = 60;
/// Fetches an hour that all clients together may cause, where nothing else is configured.
pub const IN_ALL: u32 = 600;

/// What becomes of a piece that a guest needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// It is on its way; this long may pass.
    Coming(Duration),
    /// It cannot be asked for before this long, for too many others were.
    OverBudget(Duration),
    /// The upstream said lately that there is no such thing.
    Absent,
    /// Nobody is asked for such pieces.
    NoUpstream,
}

/// Source and outcome, both from fixed lists.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Fetch {
    source: &'static str,
    outcome: &'static str,
}

/// What metrics show of the feed.
#[derive(Clone, Default)]
pub(crate) struct Counters {
    pub(crate) fetches: Family<Fetch, Counter>,
    pub(crate) refusals: Family<[(&'static str, &'static str); 1], Counter>,
}

/// The feed.
pub struct Feed {
    house: Arc<CollateralHouse>,
    amd: Option<Source>,
    intel: Option<Source>,
    update: Update,
    plans: Mutex<Plans>,
    wake: Notify,
    counters: Counters,
}

struct Source {
    url: String,
    client: Client,
}

struct Plans {
    plans: HashMap<PieceKey, Plan>,
    budget: Budget,
    /// Until when an upstream is left alone, because it asked for that.
    paused: HashMap<Vendor, UnixTime>,
}

/// One piece that is to be fetched.
#[derive(Clone, Copy, Debug)]
struct Plan {
    next: UnixTime,
    state: State,
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    UnderWay,
    /// The upstream has no such thing; nobody is asked before the plan's time.
    Absent,
}

/// How an attempt ended.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the upstream has no such thing (status {0})")]
    Absent(u16),
    #[error("the upstream throttles (status {status})")]
    Throttled { status: u16, wait: Duration },
    #[error("the upstream failed (status {0})")]
    Status(u16),
    #[error("the upstream {0}")]
    NoReply(#[from] NoReply),
    #[error("the answer cannot be read: {0}")]
    Form(&'static str),
    #[error("what came is not kept: {0}")]
    NotKept(#[from] NotKept),
}

impl Failure {
    const fn outcome(&self) -> &'static str {
        match self {
            Self::Absent(_) => "absent",
            Self::Throttled { .. } => "throttled",
            Self::Status(_) => "failed",
            Self::NoReply(NoReply::Unreachable(_)) => "unreachable",
            Self::NoReply(NoReply::TimedOut { .. }) => "timed-out",
            Self::NoReply(NoReply::TooLarge) => "too-large",
            Self::Form(_) => "unreadable",
            Self::NotKept(NotKept::Older { .. } | NotKept::BelowFloor { .. } | NotKept::Expired { .. }) => "outdated",
            Self::NotKept(NotKept::Store(_)) => "not-stored",
            Self::NotKept(_) => "refused",
        }
    }
}

/// Reads what the settings name, as [`Feed::new`] would.
///
/// # Errors
/// What is wrong with a file of authorities.
pub fn check(settings: &Settings) -> Result<(), String> {
    let mut upstreams = [&settings.amd, &settings.intel].into_iter().flatten();
    upstreams.try_for_each(|upstream| Client::new(upstream.ca_file.as_deref(), settings.timeout).map(drop))
}

impl Feed {
    /// Sets the feed up. Nothing is asked for yet.
    ///
    /// # Errors
    /// What is wrong with a file of authorities.
    pub fn new(settings: &Settings, house: Arc<CollateralHouse>) -> Result<Self, String> {
        let source = |upstream: &Option<Upstream>| -> Result<Option<Source>, String> {
            let Some(Upstream { url, ca_file }) = upstream else { return Ok(None) };
            Ok(Some(Source { url: url.trim_end_matches('/').to_owned(), client: Client::new(ca_file.as_deref(), settings.timeout)? }))
        };
        Ok(Self {
            house,
            amd: source(&settings.amd)?,
            intel: source(&settings.intel)?,
            update: settings.update,
            plans: Mutex::new(Plans {
                plans: HashMap::new(),
                budget: Budget::new(settings.per_client, settings.in_all),
                paused: HashMap::new(),
            }),
            wake: Notify::new(),
            counters: Counters::default(),
        })
    }

    pub(crate) fn counters(&self) -> Counters {
        self.counters.clone()
    }

    fn plans(&self) -> MutexGuard<'_, Plans> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    const fn source(&self, vendor: Vendor) -> Option<&Source> {
        match vendor {
            Vendor::Amd => self.amd.as_ref(),
            Vendor::Intel => self.intel.as_ref(),
        }
    }

    /// Asks for a piece that a guest needs and that is not held, on behalf of a client network.
    pub fn want(&self, key: PieceKey, client: IpAddr, at: UnixTime) -> Wanted {
        if self.source(key.vendor()).is_none() {
            return Wanted::NoUpstream;
        }
        let mut plans = self.plans();
        let Plans { plans, budget, paused } = &mut *plans;
        let pause = paused.get(&key.vendor()).map_or(Duration::ZERO, |until| until.since(at));
        match plans.get(&key) {
            Some(plan) if plan.state == State::Absent && at < plan.next => return Wanted::Absent,
            Some(plan) if plan.state != State::Absent => return Wanted::Coming(plan.next.since(at).max(pause).max(SOON)),
            _ => {}
        }
        let refuse = |Spent(seconds): Spent| {
            self.counters.refusals.get_or_create(&[("source", key.vendor().as_str())]).inc();
            Wanted::OverBudget(Duration::from_secs(seconds))
        };
        if plans.len() >= QUEUE {
            plans.retain(|_, plan| plan.state != State::Absent || at < plan.next);
            if plans.len() >= QUEUE {
                return refuse(Spent(LOOK.as_secs()));
            }
        }
        if let Err(spent) = budget.take(client, at) {
            return refuse(spent);
        }
        plans.insert(key, Plan { next: at, state: State::Waiting, failures: 0 });
        self.wake.notify_one();
        Wanted::Coming(pause.max(SOON))
    }

    /// Starts the fetches that are due, a few of each source at a time, and gives their ends to whoever waits for them.
    pub fn start_due(self: &Arc<Self>, at: UnixTime) -> Vec<JoinHandle<()>> {
        let mut due: Vec<(PieceKey, UnixTime)> = Vec::new();
        {
            let mut plans = self.plans();
            self.plan_standing(&mut plans.plans, at);
            for vendor in Vendor::ALL {
                if plans.paused.get(&vendor).is_some_and(|until| at < *until) {
                    continue;
                }
                let own = plans.plans.iter().filter(|(key, _)| key.vendor() == vendor);
                let under_way = own.clone().filter(|(_, plan)| plan.state == State::UnderWay).count();
                let mut ready: Vec<_> = own
                    .filter(|(key, plan)| {
                        plan.state == State::Waiting && plan.next <= at && !self.waits_for_authority(key, &plans.plans, at)
                    })
                    .map(|(key, plan)| (*key, plan.next))
                    .collect();
                ready.sort_by_key(|(_, next)| *next);
                due.extend(ready.into_iter().take(PARALLEL.saturating_sub(under_way)));
            }
            for (key, _) in &due {
                if let Some(plan) = plans.plans.get_mut(key) {
                    plan.state = State::UnderWay;
                }
            }
        }
        due.into_iter()
            .map(|(key, _)| {
                let feed = Arc::clone(self);
                tokio::spawn(async move { feed.fetch(key, at).await })
            })
            .collect()
    }

    /// Whether a certificate is better asked for after its authority's, which is asked for at this moment: without it, it does not
    /// verify where the authority is not compiled in.
    fn waits_for_authority(&self, key: &PieceKey, plans: &HashMap<PieceKey, Plan>, at: UnixTime) -> bool {
        let PieceKey::Vcek(name) = key else { return false };
        let authority = PieceKey::AmdAuthority(name.line(), SigningKeyKind::Vcek);
        let now = |plan: &Plan| plan.state == State::UnderWay || (plan.state == State::Waiting && plan.next <= at);
        plans.get(&authority).is_some_and(now) && self.house.piece(&authority).is_none()
    }

    /// What every guest needs has a plan, and so has each held piece that runs out and has news.
    fn plan_standing(&self, plans: &mut HashMap<PieceKey, Plan>, at: UnixTime) {
        let mut keys = Vec::new();
        if self.amd.is_some() {
            for line in self.house.lines() {
                let kinds = [SigningKeyKind::Vcek, SigningKeyKind::Vlek];
                keys.extend(kinds.map(|kind| PieceKey::AmdAuthority(line, kind)));
                keys.push(PieceKey::AmdCrl(line));
            }
        }
        if self.intel.is_some() && self.house.has_intel_root() {
            keys.extend([PieceKey::RootCrl, PieceKey::QeIdentity]);
            keys.extend([PckAuthority::Platform, PckAuthority::Processor].map(PieceKey::PckCrl));
            keys.extend(self.house.pieces().iter().map(|piece| piece.key).filter(|key| matches!(key, PieceKey::TcbInfo(_))));
        }
        for key in keys {
            let next = || self.house.piece(&key).map_or(at, |held| pace::refresh(held.fetched_at, held.until, pace::chance()));
            let plan = plans.entry(key).or_insert_with(|| Plan { next: next(), state: State::Waiting, failures: 0 });
            // What every guest needs is asked for again even where it was absent.
            if plan.state == State::Absent && plan.next <= at {
                plan.state = State::Waiting;
            }
        }
    }

    /// One fetch, from request to store, and the plan for the next.
    async fn fetch(&self, key: PieceKey, at: UnixTime) {
        let source = key.vendor().as_str();
        let ended = self.attempt(key, at).await;
        let outcome = ended.as_ref().map_or_else(Failure::outcome, |()| "kept");
        self.counters.fetches.get_or_create(&Fetch { source, outcome }).inc();
        let mut plans = self.plans();
        let Some(plan) = plans.plans.get_mut(&key) else { return };
        match ended {
            Ok(()) => {
                tracing::info!(%key, "collateral fetched");
                match self.house.piece(&key) {
                    // It has no news until it expires, in some years.
                    Some(_) if matches!(key, PieceKey::Vcek(_)) => drop(plans.plans.remove(&key)),
                    held => {
                        let next = held.map_or(at, |held| pace::refresh(held.fetched_at, held.until, pace::chance()));
                        *plan = Plan { next, state: State::Waiting, failures: 0 };
                    }
                }
            }
            Err(Failure::Absent(status)) => {
                tracing::info!(%key, status, "the upstream has no such collateral");
                *plan = Plan { next: at.plus(ABSENT), state: State::Absent, failures: 0 };
            }
            Err(failure) => {
                plan.failures = plan.failures.saturating_add(1);
                plan.state = State::Waiting;
                let mut wait = pace::backoff(plan.failures, pace::chance());
                if let Failure::Throttled { wait: asked, .. } = failure {
                    wait = wait.max(asked);
                }
                plan.next = at.plus(wait);
                let (failures, again) = (plan.failures, plan.next);
                tracing::warn!(%key, why = %failure, failures, %again, "collateral could not be fetched; what is held stays in use");
                if let Failure::Throttled { wait, .. } = failure {
                    plans.paused.insert(key.vendor(), at.plus(wait));
                }
            }
        }
        drop(plans);
        self.wake.notify_one();
    }

    async fn attempt(&self, key: PieceKey, at: UnixTime) -> Result<(), Failure> {
        let Some(Source { url, client }) = self.source(key.vendor()) else { return Err(Failure::Absent(0)) };
        let reply = client.get(&upstream::url(url, self.update, &key)).await?;
        match reply.status {
            200 => {
                let raw = upstream::read(&key, &reply.headers, reply.body).map_err(Failure::Form)?;
                Ok(self.house.offer(key, raw, Origin::Upstream, at).await?)
            }
            // 461 and 462: a caching service that does not know the platform.
            status @ (400 | 404 | 410 | 461 | 462) => Err(Failure::Absent(status)),
            status @ (429 | 503) => Err(Failure::Throttled { status, wait: reply.retry_after.unwrap_or(pace::THROTTLED) }),
            status => Err(Failure::Status(status)),
        }
    }

    /// Fetches what is due, whenever it is due, until `stop` turns true.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        if self.amd.is_none() && self.intel.is_none() {
            return;
        }
        loop {
            drop(self.start_due(clock::now()));
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }
}
