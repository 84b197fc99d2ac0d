//! `portcullis-broker serve`: opens everything, says what it is, serves until it is told to stop.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use protocol::entries::{Event, RejectionCount};
use protocol::ids::AnchorClass;
use protocol::messages::InstallationAnswer;
use protocol::time::UnixTime;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::clock;
use crate::collateral::{CollateralFolder, CollateralHouse};
use crate::config::{Config, ConfigError};
use crate::custody::{CustodyError, Installation, Keys, read_token, unlock};
use crate::documents::Trust;
use crate::feed::{self, Feed};
use crate::identity::federation::Looked;
use crate::identity::{Issuer, IssuerError};
use crate::init::{InitError, anchors, store_path};
use crate::ledger::{Identity, Ledger, OpenError, RecordError};
use crate::server::{Broker, Parts, listen, router};
use crate::sightings::Sightings;
use crate::store::sqlite::SqliteStore;
use crate::store::{Store, StoreError};

/// How often rejections are summed up in the log, the collateral folder and foreign bundles are looked at, and keys are rotated.
const HOUSEKEEPING: Duration = Duration::from_secs(30);

/// Reads a configuration and everything that it names, and opens nothing that would change.
///
/// # Errors
/// [`ServeError`], as serving would give.
pub fn check(path: &Path) -> Result<Installation, ServeError> {
    let config = Config::read(path)?;
    let installation = Installation::read(&config.data)?;
    same_root(&config, &installation)?;
    anchors(&installation)?;
    Keys::open(&config.data, &installation, &unlock(&config.unlock)?, clock::now())?;
    read_token(&config.data)?;
    if let Some(identity) = &config.identity {
        Issuer::check(identity, &config.data, &installation, &unlock(&config.unlock)?)?;
    }
    CollateralFolder::open(config.collateral.folder.clone(), clock::now()).map_err(ServeError::Collateral)?;
    feed::check(&config.collateral.feed()).map_err(ServeError::Collateral)?;
    if let Some(tls) = &config.listen.tls {
        listen::acceptor(tls).map_err(ServeError::Tls)?;
    }
    Ok(installation)
}

fn same_root(config: &Config, installation: &Installation) -> Result<(), ServeError> {
    let found = installation.root;
    if config.root == found { Ok(()) } else { Err(ServeError::Root { expected: config.root, found }) }
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// [`ServeError`]; in particular where the store does not match the head of its log.
pub async fn serve(path: &Path) -> Result<(), ServeError> {
    let config = Config::read(path)?;
    let installation = Installation::read(&config.data)?;
    same_root(&config, &installation)?;
    let (keys, log_key) = Keys::open(&config.data, &installation, &unlock(&config.unlock)?, clock::now())?;
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&store_path(&config.data)).await?);
    let origin = installation.origin().parse().map_err(|_| ServeError::Origin(installation.origin()))?;
    let identity = Identity { origin, installation: installation.root, anchors: installation.anchors };
    let trust = Trust::new(&config, installation.anchors);
    let kept = kept_checkpoint(&config.data);
    let ledger = Ledger::open(Arc::clone(&store), log_key, identity, &trust, read_checkpoint(&kept)?.as_deref()).await?;
    ledger.note(Event::Started { version: env!("CARGO_PKG_VERSION").to_owned() }).await?;
    let issuer = issuer(&config, &installation, &ledger).await?;
    let anchors = Arc::new(anchors(&installation)?);
    let of = &config.collateral;
    let collateral = CollateralHouse::open(of.folder.clone(), of.vendors(), Arc::clone(&anchors), Arc::clone(&store), clock::now()).await;
    let collateral = Arc::new(collateral.map_err(ServeError::Collateral)?);
    let feed = Arc::new(Feed::new(&of.feed(), Arc::clone(&collateral)).map_err(ServeError::Collateral)?);
    let sightings = Sightings::new(store.sightings().await?, clock::now());
    let broker = Arc::new(Broker::new(Parts {
        keys,
        installation: InstallationAnswer { root: installation.root, certificates: installation.certificates.clone() },
        anchors,
        collateral,
        feed,
        trust,
        ledger,
        store,
        sightings,
        issuer,
        limits: config.limits.clone(),
        token: read_token(&config.data)?,
    }));
    let tls = config.listen.tls.as_ref().map(listen::acceptor).transpose().map_err(ServeError::Tls)?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let listener = TcpListener::bind(config.listen.address).await.map_err(|error| ServeError::Listen(error.to_string()))?;
    let address = listener.local_addr().map_err(|error| ServeError::Listen(error.to_string()))?;
    // Before anybody learns that there is something to stop.
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| ServeError::Listen(error.to_string()))?;
    announce(&installation, &format!("{scheme}://{address}"), &broker);

    let (stop, stopped) = watch::channel(false);
    let housekeeping = tokio::spawn(housekeeping(Arc::clone(&broker), kept, config.collateral.warn_before, stopped.clone()));
    let feeding = tokio::spawn(Arc::clone(&broker.feed).run(stopped.clone()));
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        tracing::info!("stopping: requests under way are finished");
        // Nobody listens any more only where serving has ended already.
        let _ = stop.send(true);
    });
    listen::serve(listener, tls, router(Arc::clone(&broker)), config.limits.connections, stopped).await;
    drop(housekeeping.await);
    drop(feeding.await);
    tracing::info!("stopped");
    Ok(())
}

/// The issuer of identities, with keys that sign, where the configuration has one.
async fn issuer(config: &Config, installation: &Installation, ledger: &Ledger) -> Result<Option<Arc<Issuer>>, ServeError> {
    let Some(identity) = &config.identity else { return Ok(None) };
    let issuer = Issuer::open(identity, &config.data, installation, &unlock(&config.unlock)?)?;
    issuer.rotate(ledger, clock::now()).await?;
    tell_of_federation(issuer.refresh_federation(ledger, clock::now()).await);
    let realm = issuer.realm();
    tracing::info!(trust_domain = %realm.trust_domain, issuer = realm.issuer.as_deref().unwrap_or("none"), "identities are given");
    Ok(Some(Arc::new(issuer)))
}

/// One line for each file of a foreign trust domain that was taken or refused.
fn tell_of_federation(looked: Vec<Looked>) {
    for (trust_domain, outcome) in looked {
        match outcome {
            Ok(sequence) => tracing::info!(%trust_domain, sequence, "the bundle of a federated trust domain is in use"),
            Err(error) => tracing::error!(%trust_domain, code = error.code(), %error, "the bundle of a federated trust domain is refused"),
        }
    }
}

/// What the broker is, once, at start. The last line is what a supervisor or a test waits for.
fn announce(installation: &Installation, url: &str, broker: &Broker) {
    let anchors = installation.anchors.as_str();
    if installation.anchors == AnchorClass::Test {
        tracing::warn!(anchors, "this installation judges evidence under TEST roots: nothing of value belongs here");
    }
    let published = broker.ledger.published();
    let (records, entries) = (published.documents.records().count(), published.edge.size());
    tracing::info!(name = %installation.name, root = %installation.root, anchors, records, log_entries = entries, "the store matches the head of its log");
    tracing::info!(url, "listening");
}

async fn housekeeping(broker: Arc<Broker>, kept: PathBuf, warn_before: Duration, mut stop: watch::Receiver<bool>) {
    loop {
        let stopping = tokio::time::timeout(HOUSEKEEPING, stop.wait_for(|stop| *stop)).await.is_ok();
        let at = clock::now();
        broker.collateral.refresh(at).await;
        warn_of_expiry(&broker, warn_before, at);
        let documents = broker.ledger.published().documents;
        broker.collateral.forget_lapsed(&|piece| documents.usable_until(piece), at).await;
        broker.forget_quiet_clients();
        if let Some(issuer) = &broker.issuer {
            if let Err(error) = issuer.rotate(&broker.ledger, clock::now()).await {
                tracing::error!(%error, "the issuer's keys could not be rotated; those in use go on, and it is tried again");
            }
            tell_of_federation(issuer.refresh_federation(&broker.ledger, clock::now()).await);
        }
        sum_up_rejections(&broker).await;
        if let Err(error) = broker.sightings.write(&*broker.store).await {
            tracing::error!(%error, "which platforms were seen lately could not be written; it is tried again");
        }
        if let Err(error) = keep_checkpoint(&kept, &broker.ledger.published().checkpoint) {
            tracing::error!(%error, file = %kept.display(), "the checkpoint beside the store could not be written");
        }
        if stopping {
            return;
        }
    }
}

/// One line a piece and day, with the last second at which some policy in force takes it.
pub fn warn_of_expiry(broker: &Broker, warn_before: Duration, at: UnixTime) {
    let documents = broker.ledger.published().documents;
    for piece in broker.collateral.expiring(warn_before, at) {
        let (key, until, fetched_at, usable_until) = (&piece.key, piece.until, piece.fetched_at, documents.usable_until(&piece));
        if at <= until {
            tracing::warn!(%key, %until, %usable_until, %fetched_at, "collateral expires soon");
        } else if at <= usable_until {
            tracing::warn!(%key, %until, %usable_until, %fetched_at, "collateral has expired; policies that allow for its age go on");
        } else {
            tracing::warn!(%key, %until, %usable_until, %fetched_at, "collateral has expired, and no policy in force allows for its age");
        }
    }
}

/// One entry for all of them, however many: an unverified caller cannot make the log grow.
pub async fn sum_up_rejections(broker: &Broker) {
    let taken = broker.rejections.take_counts();
    if taken.is_empty() {
        return;
    }
    let counts = taken.iter().map(|(code, count)| RejectionCount { code: (*code).to_owned(), count: *count }).collect();
    tracing::info!(rejections = ?taken, "rejected since the last such line");
    if let Err(error) = broker.ledger.note(Event::Rejections { counts }).await {
        tracing::error!(%error, "rejections could not be summed up in the log");
        broker.rejections.put_back(&taken);
    }
}

/// Where the newest checkpoint is kept beside the store. An older store that is put back alone does not continue it; whoever
/// can change this file too is caught by the checkpoints that guests and monitors keep.
#[must_use]
pub fn kept_checkpoint(data: &Path) -> PathBuf {
    data.join("log.checkpoint")
}

/// Writes the checkpoint under another name first, so that a crash leaves the old one or the new one.
///
/// # Errors
/// The operating system's.
pub fn keep_checkpoint(path: &Path, checkpoint: &str) -> std::io::Result<()> {
    let beside = path.with_extension("checkpoint.new");
    std::fs::write(&beside, checkpoint)?;
    std::fs::rename(&beside, path)
}

/// Reads what was kept; nothing was before the first start.
fn read_checkpoint(path: &Path) -> Result<Option<String>, ServeError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ServeError::Checkpoint { path: path.to_owned(), error: error.to_string() }),
    }
}

/// Why the broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The keys.
    #[error(transparent)]
    Custody(#[from] CustodyError),
    /// The configuration pins another root than the data folder was made for.
    #[error("the configuration pins root {expected}, the data folder belongs to {found}")]
    Root {
        /// By the configuration.
        expected: protocol::keys::PublicKey,
        /// By the data folder.
        found: protocol::keys::PublicKey,
    },
    /// The installation's name makes no log origin.
    #[error("{0} cannot name a log")]
    Origin(String),
    /// The roots.
    #[error(transparent)]
    Init(#[from] InitError),
    /// The log.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The first entry of this run.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The checkpoint that was kept cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// The operating system's word.
        error: String,
    },
    /// The collateral.
    #[error("{0}")]
    Collateral(String),
    /// The issuer of identities.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// TLS material.
    #[error("{0}")]
    Tls(String),
    /// The address.
    #[error("cannot listen: {0}")]
    Listen(String),
}
