//! The collateral feed: fetches what the installation's platforms need from their vendors, ahead of need and out of the way of requests.
//!
//! * What every guest needs (revocation lists, authorities, QE identity, and the TCB info of each family seen) is fetched at start
//!   and again after half to three quarters of its life, or of a day.
//! * What one guest needs (the certificate of its VCEK, its family's TCB info) is fetched when a guest comes without it. The guest is
//!   told to come back. Such fetches have a budget, for what an unverified guest says of its platform is its own choice.
//! * A piece is asked for by one request at a time, however many wait for it. A failure is waited out, ever longer, with jitter,
//!   and as long as the upstream asks; what is held stays in use meanwhile. What an upstream does not have, or answers with nothing
//!   of use to, is not asked for again for a while.
//! * A fetch that a guest caused ends when nobody asks for it any more.
//!
//! An upstream is not trusted. It, or whoever stands between, can withhold what is new for as long as what is held stays valid.

mod budget;
mod client;
mod moment;
mod pace;
mod plans;
pub mod upstream;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use attestation::{PckAuthority, SigningKeyKind};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use protocol::time::UnixTime;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::clock;
use crate::collateral::{CollateralHouse, NotKept, Origin, PieceKey, Vendor};
use budget::Spent;
use client::{Client, NoReply};
use moment::Moment;
use plans::{Need, Outlook, Plans};
use upstream::Update;

/// How long one request to an upstream may take.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// How long a guest is asked to wait for a piece that is on its way.
const SOON: Duration = Duration::from_secs(3);
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
    /// Where the revocation list of Intel's root is, as a whole URL, where that is not where [`upstream::url`] says.
    pub root_crl: Option<Upstream>,
    /// Which of two evaluations Intel is asked for.
    pub update: Update,
    /// Fetches an hour that one client network may cause: an IPv4 address, or the 64-bit prefix of an IPv6 address.
    pub per_client: u32,
    /// Fetches an hour that all clients together may cause. The 48-bit prefix of an IPv6 address may cause a quarter of them.
    pub in_all: u32,
    /// How long one request may take.
    pub timeout: Duration,
}

impl Default for Settings {
    /// Nobody is asked for anything.
    fn default() -> Self {
        let update = Update::default();
        Self { amd: None, intel: None, root_crl: None, update, per_client: PER_CLIENT, in_all: IN_ALL, timeout: TIMEOUT }
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
    /// The upstream answered lately, and several times, with what is of no use.
    Unusable,
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
    root_crl: Option<Source>,
    update: Update,
    plans: Mutex<Plans>,
    wake: Notify,
    counters: Counters,
}

struct Source {
    url: String,
    client: Client,
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
    #[error("the fetch broke off in this broker")]
    Broken,
}

impl Failure {
    const fn outcome(&self) -> &'static str {
        match self {
            Self::Absent(_) => "absent",
            Self::Throttled { .. } => "throttled",
            Self::Status(_) | Self::Broken => "failed",
            Self::NoReply(NoReply::Unreachable(_)) => "unreachable",
            Self::NoReply(NoReply::TimedOut { .. }) => "timed-out",
            Self::NoReply(NoReply::TooLarge) => "too-large",
            Self::Form(_) => "unreadable",
            Self::NotKept(NotKept::Older { .. } | NotKept::BelowFloor { .. } | NotKept::Expired { .. }) => "outdated",
            Self::NotKept(NotKept::Store(_)) => "not-stored",
            Self::NotKept(_) => "refused",
        }
    }

    /// The same, of what is needed so. A mirror that forbids what it does not know (401, 403, 405, 451) says of a guest's platform that it
    /// does not have it. Of what every guest needs, it fails.
    fn of(self, need: Need) -> Self {
        match (self, need) {
            (Self::Status(status @ (401 | 403 | 405 | 451)), Need::Guest(_)) => Self::Absent(status),
            (failure, _) => failure,
        }
    }

    /// Whether the upstream answered as it will the next time: it is there, and does not ask for patience, and nothing failed here.
    const fn is_an_answer(&self) -> bool {
        match self {
            Self::Absent(_) | Self::Form(_) | Self::NoReply(NoReply::TooLarge) => true,
            // A gateway whose own upstream is gone, and a server that waited for us.
            Self::Status(status) => !matches!(status, 408 | 425 | 502 | 504),
            Self::NotKept(why) => !matches!(why, NotKept::Store(_)),
            Self::Throttled { .. } | Self::NoReply(_) | Self::Broken => false,
        }
    }
}

/// Reads what the settings name, as [`Feed::new`] would.
///
/// # Errors
/// What is wrong with a file of authorities.
pub fn check(settings: &Settings) -> Result<(), String> {
    let mut upstreams = [&settings.amd, &settings.intel, &settings.root_crl].into_iter().flatten();
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
            root_crl: source(&settings.root_crl)?,
            update: settings.update,
            plans: Mutex::new(Plans::new(settings)),
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

    /// The URL of a piece, and whom to ask for it.
    fn place(&self, key: &PieceKey) -> Option<(String, &Client)> {
        if let (PieceKey::RootCrl, Some(Source { url, client })) = (key, &self.root_crl) {
            return Some((url.clone(), client));
        }
        let Source { url, client } = self.source(key.vendor())?;
        Some((upstream::url(url, self.update, key), client))
    }

    /// Asks for a piece that a guest needs and that is not held, on behalf of a client network.
    pub fn want(&self, key: PieceKey, client: IpAddr, at: UnixTime) -> Wanted {
        if self.source(key.vendor()).is_none() {
            return Wanted::NoUpstream;
        }
        let mut plans = self.plans();
        let now = plans.moment(at);
        if let Some(known) = plans.asked(&key, now) {
            return known;
        }
        match plans.add(key, client, now) {
            Ok(pause) => {
                self.wake.notify_one();
                Wanted::Coming(pause.max(SOON))
            }
            Err(Spent(seconds)) => {
                self.counters.refusals.get_or_create(&[("source", key.vendor().as_str())]).inc();
                Wanted::OverBudget(Duration::from_secs(seconds))
            }
        }
    }

    /// Starts the fetches that are due, a few of each source at a time, and gives their ends to whoever waits for them.
    pub fn start_due(self: &Arc<Self>, at: UnixTime) -> Vec<JoinHandle<()>> {
        let mut plans = self.plans();
        let now = plans.moment(at);
        plans.forget_unwanted(now);
        self.plan_standing(&mut plans, at, now);
        let waits = |plans: &Plans, key: &PieceKey| self.waits_for_authority(key, plans, now);
        let due: Vec<_> = Vendor::ALL.into_iter().flat_map(|vendor| plans.start(vendor, now, waits)).collect();
        due.into_iter().map(|key| tokio::spawn(Arc::clone(self).fetch(key, at, now))).collect()
    }

    /// Whether a certificate is better asked for after its authority's, which is asked for at this moment: without it, it does not
    /// verify where the authority is not compiled in.
    fn waits_for_authority(&self, key: &PieceKey, plans: &Plans, now: Moment) -> bool {
        let PieceKey::Vcek(name) = key else { return false };
        let authority = PieceKey::AmdAuthority(name.line(), SigningKeyKind::Vcek);
        plans.is_due(&authority, now) && self.house.piece(&authority).is_none()
    }

    /// What every guest needs has a plan, and so has each held piece that runs out and has news.
    fn plan_standing(&self, plans: &mut Plans, at: UnixTime, now: Moment) {
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
            plans.stand(key, now, || self.rest(&key, at));
        }
    }

    /// How long what is held under a key is good for; nothing is for no time.
    fn rest(&self, key: &PieceKey, at: UnixTime) -> Duration {
        self.house.piece(key).map_or(Duration::ZERO, |held| pace::rest(held.fetched_at, held.until, at, pace::chance()))
    }

    /// One fetch, from request to store, and the plan for the next. Whatever is waited out after it counts from its end.
    async fn fetch(self: Arc<Self>, key: PieceKey, at: UnixTime, now: Moment) {
        let (begun, feed) = (Instant::now(), Arc::clone(&self));
        // In a task of its own: should it panic, the piece is asked for again.
        let attempt = tokio::spawn(async move { feed.attempt(key, at).await });
        let ended = attempt.await.unwrap_or(Err(Failure::Broken));
        let (at, now) = (at.plus(begun.elapsed()), now.plus(begun.elapsed()));
        let mut plans = self.plans();
        let Some(need) = plans.need(&key) else { return };
        let ended = ended.map_err(|failure| failure.of(need));
        let (source, outcome) = (key.vendor().as_str(), ended.as_ref().map_or_else(Failure::outcome, |()| "kept"));
        self.counters.fetches.get_or_create(&Fetch { source, outcome }).inc();
        match ended {
            Ok(()) => {
                // The certificate of a VCEK has no news until it expires, in some years.
                let rest = (!matches!(key, PieceKey::Vcek(_))).then(|| self.rest(&key, at));
                plans.came(&key, now, rest);
                tracing::info!(%key, "collateral fetched");
            }
            Err(why) => match (plans.failed(&key, &why, now, pace::chance()), need) {
                (Outlook::Again { failures, wait }, _) => {
                    let again_in = wait.as_secs();
                    tracing::warn!(%key, %why, failures, again_in, "collateral could not be fetched; what is held stays in use");
                }
                (Outlook::GivenUp, Need::Standing) => {
                    let hint = missing_hint(&key);
                    tracing::warn!(%key, %why, hint, "what every guest of the vendor's may need cannot be fetched; what is held stays in use");
                }
                (Outlook::GivenUp, Need::Guest(_)) => tracing::info!(%key, %why, "what a guest needs cannot be fetched"),
            },
        }
        drop(plans);
        self.wake.notify_one();
    }

    async fn attempt(&self, key: PieceKey, at: UnixTime) -> Result<(), Failure> {
        let Some((url, client)) = self.place(&key) else { return Err(Failure::Absent(0)) };
        let begun = Instant::now();
        let reply = client.get(&url).await?;
        let at = at.plus(begun.elapsed());
        match reply.status {
            200 => {
                let raw = upstream::read(&key, &reply.headers, reply.body).map_err(Failure::Form)?;
                Ok(self.house.offer(key, raw, Origin::Upstream, at).await?)
            }
            // 461 and 462: a caching service that does not know the platform.
            status @ (400 | 404 | 410 | 461 | 462) => Err(Failure::Absent(status)),
            status @ (429 | 503) => Err(Failure::Throttled { status, wait: reply.retry_after(at).unwrap_or(pace::THROTTLED) }),
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

/// What an operator can do about a piece that every guest may need, and that an upstream does not have.
const fn missing_hint(key: &PieceKey) -> &'static str {
    match key {
        PieceKey::RootCrl => {
            "caching services have it, a proxy of Intel's service has not: say [collateral.intel] root_crl_url, or carry it in"
        }
        _ => "name another upstream, or carry it in",
    }
}
