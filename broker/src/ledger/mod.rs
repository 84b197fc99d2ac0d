//! The audit log. Every decision and every change of documents passes its one writer, one after another, in groups: one
//! transaction, one checkpoint, one flush to disk a group, and only then an answer to anybody in it.
//!
//! For a decision the step is [`Ledger::record`]: it spends the nonce, checks that the documents are still those that the
//! decision stands on, and appends the entry. Its result, [`Recorded`], is what releasing needs; nothing else makes one.

mod error;
mod explain;
mod open;
mod writer;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};

use protocol::admin::Accepted;
use protocol::entries::{Entry, Event};
use protocol::ids::{AnchorClass, DecisionId};
use protocol::keys::{PublicKey, SigningKey};
use protocol::log::{Origin, Receipt, Tile, TileId, TileSet, TileTree, leaf_hash, verify_inclusion};
use tokio::sync::{mpsc, oneshot};

use crate::decision::Verdicts;
use crate::documents::{ActiveDocuments, Admitted, Trust};
use crate::store::{Store, StoreError};

pub use error::{OpenError, PutFailed, RecordError};
use writer::{Job, Writer};

/// Steps that may wait; more are refused rather than queued.
const QUEUE: usize = 1024;

/// A handle to the writer. Cloning it shares the one writer.
#[derive(Clone)]
pub struct Ledger {
    jobs: mpsc::Sender<Job>,
    published: Arc<RwLock<Published>>,
    lost: Arc<AtomicBool>,
    store: Arc<dyn Store>,
}

/// What readers may see: all of it durable.
#[derive(Clone)]
pub struct Published {
    /// The documents in force.
    pub documents: Arc<ActiveDocuments>,
    /// The newest checkpoint.
    pub checkpoint: Arc<str>,
    /// The growing edge of the tree, for proofs and partial tiles.
    pub edge: Arc<TileTree>,
}

/// A decision that stands in the audit log. Only [`Ledger::record`] makes one; it is used up by being released.
#[must_use = "a recorded decision is answered"]
pub struct Recorded {
    pub(crate) verdicts: Verdicts,
    pub(crate) receipt: Receipt,
}

/// What the log belongs to.
#[derive(Clone)]
pub struct Identity {
    /// The log's origin.
    pub origin: Origin,
    /// The installation.
    pub installation: PublicKey,
    /// Its class of roots.
    pub anchors: AnchorClass,
}

impl Ledger {
    /// Opens the log: the stored head is signed by the log key, the stored tree has that root, the stored documents are those
    /// that its last entry commits to. A store that does not match the head of its log is refused here. With a checkpoint that
    /// was `kept` elsewhere, a store that does not continue it is refused too.
    ///
    /// # Errors
    /// [`OpenError`], a variant per check.
    pub async fn open(
        store: Arc<dyn Store>,
        key: SigningKey,
        identity: Identity,
        trust: &Trust,
        kept: Option<&str>,
    ) -> Result<Self, OpenError> {
        let published = open::open(&*store, key.public(), &identity, trust, kept).await?;
        Ok(Self::start(store, key, identity, published))
    }

    /// Begins a new log in an empty store, with its first entry.
    ///
    /// # Errors
    /// [`RecordError`].
    pub async fn begin(store: Arc<dyn Store>, key: SigningKey, identity: Identity) -> Result<Self, RecordError> {
        let empty = Published { documents: Arc::default(), checkpoint: "".into(), edge: Arc::default() };
        let ledger = Self::start(store, key, identity, empty);
        ledger.note(Event::Initialised {}).await?;
        Ok(ledger)
    }

    fn start(store: Arc<dyn Store>, key: SigningKey, identity: Identity, state: Published) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let published = Arc::new(RwLock::new(state.clone()));
        let lost = Arc::new(AtomicBool::new(false));
        let writer = Writer::new(Arc::clone(&store), key, identity, state, Arc::clone(&published), Arc::clone(&lost));
        tokio::spawn(writer.run(queue));
        Self { jobs, published, lost, store }
    }

    /// What readers may see.
    #[must_use]
    pub fn published(&self) -> Published {
        self.published.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Whether this log can still grow. It cannot once the store's head is not where this broker left it: somebody else
    /// writes there, or an older store was put back. Only a restart, which checks everything, heals that.
    #[must_use]
    pub fn can_grow(&self) -> bool {
        !self.lost.load(Ordering::Relaxed) && !self.jobs.is_closed()
    }

    /// Records a decision: spends its nonce and appends its entry, durably.
    ///
    /// # Errors
    /// [`RecordError::Replayed`] where the nonce is spent; [`RecordError::DocumentsChanged`] where the decision stands on
    /// documents that are no longer in force: decide again.
    pub async fn record(&self, verdicts: Verdicts) -> Result<Recorded, RecordError> {
        let (reply, answer) = oneshot::channel();
        self.jobs.try_send(Job::Record(Box::new(verdicts), reply)).map_err(|_| RecordError::Busy)?;
        answer.await.map_err(|_| RecordError::Stopped)?
    }

    /// Puts a document in force, durably.
    ///
    /// # Errors
    /// [`PutFailed`].
    pub async fn put(&self, admitted: Admitted) -> Result<Accepted, PutFailed> {
        let (reply, answer) = oneshot::channel();
        self.jobs.try_send(Job::Put(admitted, reply)).map_err(|_| RecordError::Busy)?;
        answer.await.map_err(|_| RecordError::Stopped)?
    }

    /// Appends an entry about the broker itself, durably, and gives its index.
    ///
    /// # Errors
    /// [`RecordError`].
    pub async fn note(&self, event: Event) -> Result<u64, RecordError> {
        let (reply, answer) = oneshot::channel();
        self.jobs.try_send(Job::Note(event, reply)).map_err(|_| RecordError::Busy)?;
        answer.await.map_err(|_| RecordError::Stopped)?
    }

    /// The details of a decision, JSON of [`protocol::admin::Explanation`]; `None` where there is no such decision, or its
    /// details were deleted. They are those that its entry commits to, and the entry is in the tree.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] where the store shows something else than what was recorded.
    pub async fn decision(&self, id: DecisionId) -> Result<Option<Vec<u8>>, StoreError> {
        let Some((index, stored)) = self.store.decision(id).await? else { return Ok(None) };
        let edge = self.published().edge;
        if index >= edge.size() {
            return Ok(None);
        }
        let entries = self.store.entries(index..index.saturating_add(1)).await?;
        let bytes = entries.first().ok_or(StoreError::Damaged("a decision without its entry"))?;
        let unproven = |_| StoreError::Damaged("an entry that the log's tree does not have");
        let tiles = tiles(&*self.store, edge.tiles_for_inclusion(index).map_err(unproven)?).await?;
        let proof = edge.inclusion_proof(index, &tiles).map_err(unproven)?;
        let root = edge.root().map_err(unproven)?;
        verify_inclusion(&leaf_hash(bytes), index, edge.size(), &proof, &root).map_err(unproven)?;
        let entry = Entry::parse(bytes).map_err(|_| StoreError::Damaged("an entry that cannot be read"))?;
        match entry.event {
            Event::Decision { decision, details, .. }
                if decision == id && details == explain::commitment(&stored.salt, &stored.details) =>
            {
                Ok(Some(stored.details))
            }
            _ => Err(StoreError::Damaged("details of a decision that its entry does not commit to")),
        }
    }
}

/// Reads full tiles, as far as they are there.
async fn tiles(store: &dyn Store, ids: BTreeSet<TileId>) -> Result<TileSet, StoreError> {
    let mut tiles = TileSet::default();
    for id in ids {
        let level = u8::try_from(id.level).map_err(|_| StoreError::Damaged("a tile level beyond 255"))?;
        if let Some(stored) = store.tile(level, id.index).await? {
            let tile = Tile::from_bytes(&stored.hashes).map_err(|_| StoreError::Damaged("a tile of another size"))?;
            tiles.insert(id, Arc::new(tile));
        }
    }
    Ok(tiles)
}
