//! The audit log's one writer. Every decision and every change of documents passes here, one after another, in groups:
//! one transaction, one checkpoint, one flush to disk a group, and only then an answer to anybody in it.
//!
//! For a decision the step is [`Ledger::record`]: it spends the nonce, checks that the documents are still those that the
//! decision stands on, and appends the entry. Its result, [`Recorded`], is what releasing needs; nothing else makes one.

use std::collections::HashSet;
use std::sync::{Arc, RwLock};

use protocol::admin::{Accepted, Claim, Ending, ExplainedItem, Explanation};
use protocol::encoding::Fields;
use protocol::entries::{Decided, Entry, EntryError, Event, Verdict};
use protocol::ids::{AnchorClass, Digest, NoRandomness, random_bytes};
use protocol::keys::{PublicKey, SigningKey};
use protocol::log::{
    Checkpoint, CheckpointError, Hash, Origin, ProofError, RebuildError, Receipt, Tile, TileSet, TileTree, VerifiedCheckpoint, leaf_hash,
};
use tokio::sync::{mpsc, oneshot};

use crate::clock;
use crate::decision::Verdicts;
use crate::documents::{ActiveDocuments, Admitted, LoadError, PutError, Trust};
use crate::store::{Append, Head, Store, StoreError, StoredDecision, StoredEntry, StoredTile};

/// Steps that may share one transaction.
const GROUP: usize = 256;
/// Steps that may wait; more are refused rather than queued.
const QUEUE: usize = 1024;

/// A handle to the writer. Cloning it shares the one writer.
#[derive(Clone)]
pub struct Ledger {
    jobs: mpsc::Sender<Job>,
    published: Arc<RwLock<Published>>,
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

enum Job {
    Record(Box<Verdicts>, oneshot::Sender<Result<Recorded, RecordError>>),
    Put(Admitted, oneshot::Sender<Result<Accepted, PutFailed>>),
    Note(Event, oneshot::Sender<Result<u64, RecordError>>),
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
    /// that its last entry commits to. A store that does not match the head of its log is refused here.
    ///
    /// # Errors
    /// [`OpenError`], a variant per check.
    pub async fn open(store: Arc<dyn Store>, key: SigningKey, identity: Identity, trust: &Trust) -> Result<Self, OpenError> {
        let head = store.head().await?.ok_or(OpenError::Empty)?;
        let edge = rebuild(&*store, &head, &identity, &key).await?;
        let last = store.entries(head.size.saturating_sub(1)..head.size).await?;
        let last = Entry::parse(last.first().ok_or(OpenError::LastEntry)?)?;
        let (documents, left_out) = ActiveDocuments::load(&store.documents().await?, trust)?;
        for (slot, error) in left_out {
            tracing::warn!(slot, %error, "a stored document decides nothing");
        }
        if last.documents != *documents.digest() || head.documents != *documents.digest() {
            return Err(OpenError::Documents { expected: last.documents, found: *documents.digest() });
        }
        let checkpoint = head.checkpoint.into();
        let published = Published { documents: Arc::new(documents), checkpoint, edge: Arc::new(edge) };
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
        let writer = Writer { store, key, identity, state, published: Arc::clone(&published) };
        tokio::spawn(writer.run(queue));
        Self { jobs, published }
    }

    /// What readers may see.
    #[must_use]
    pub fn published(&self) -> Published {
        self.published.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
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
}

/// Rebuilds the tree's edge from what is stored, and proves it against the signed head.
async fn rebuild(store: &dyn Store, head: &Head, identity: &Identity, key: &SigningKey) -> Result<TileTree, OpenError> {
    let checkpoint = VerifiedCheckpoint::verify(&head.checkpoint, &identity.origin, &[*key.public()])?;
    if checkpoint.size() != head.size || *checkpoint.root().as_bytes() != head.root {
        return Err(OpenError::Head { expected: checkpoint.size(), found: head.size });
    }
    let mut tiles = TileSet::default();
    for id in TileTree::tiles_to_rebuild(head.size) {
        let level = u8::try_from(id.level).map_err(|_| OpenError::LastEntry)?;
        if let Some(stored) = store.tile(level, id.index).await? {
            let tile = Tile::from_bytes(&stored.hashes).map_err(|_| StoreError::Damaged("a tile of another size"))?;
            tiles.insert(id, Arc::new(tile));
        }
    }
    let first = head.size - head.size % 256;
    let leaves: Vec<_> = store.entries(first..head.size).await?.iter().map(|entry| leaf_hash(entry)).collect();
    Ok(TileTree::rebuild(head.size, &Hash::from_bytes(head.root), &leaves, &tiles)?)
}

/// The writer: what is durable, and how it grows.
struct Writer {
    store: Arc<dyn Store>,
    key: SigningKey,
    identity: Identity,
    state: Published,
    published: Arc<RwLock<Published>>,
}

/// One group while it is being put together. Nothing of it counts before the store has it.
struct Group {
    documents: Arc<ActiveDocuments>,
    edge: TileTree,
    entries: Vec<StoredEntry>,
    tiles: Vec<StoredTile>,
    puts: Vec<Admitted>,
    replies: Vec<Waiting>,
}

/// Who waits for an entry of the group, and its index.
enum Waiting {
    Record(u64, Box<Verdicts>, oneshot::Sender<Result<Recorded, RecordError>>),
    Put(Accepted, oneshot::Sender<Result<Accepted, PutFailed>>),
    Note(u64, oneshot::Sender<Result<u64, RecordError>>),
}

impl Writer {
    async fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut jobs = Vec::with_capacity(GROUP);
        while queue.recv_many(&mut jobs, GROUP).await > 0 {
            self.commit(std::mem::take(&mut jobs)).await;
        }
    }

    /// One group: nonces, entries, checkpoint, transaction; then answers.
    async fn commit(&mut self, jobs: Vec<Job>) {
        let spent = match self.spent(&jobs).await {
            Ok(spent) => spent,
            Err(error) => return jobs.into_iter().for_each(|job| job.fail(&RecordError::Store(error.clone()))),
        };
        let mut group = Group {
            documents: Arc::clone(&self.state.documents),
            edge: (*self.state.edge).clone(),
            entries: Vec::with_capacity(jobs.len()),
            tiles: Vec::new(),
            puts: Vec::new(),
            replies: Vec::with_capacity(jobs.len()),
        };
        let mut seen = spent;
        for job in jobs {
            self.take(job, &mut seen, &mut group);
        }
        if group.entries.is_empty() {
            return;
        }
        match self.write(&mut group).await {
            Ok(()) => self.publish(group),
            Err(error) => group.replies.into_iter().for_each(|waiting| waiting.fail(&error)),
        }
    }

    async fn spent(&self, jobs: &[Job]) -> Result<HashSet<[u8; 32]>, StoreError> {
        let nonce = |job: &Job| if let Job::Record(verdicts, _) = job { Some(verdicts.nonce) } else { None };
        let nonces: Vec<_> = jobs.iter().filter_map(nonce).collect();
        if nonces.is_empty() {
            return Ok(HashSet::new());
        }
        Ok(self.store.spent(&nonces).await?.iter().map(|nonce| *nonce.as_bytes()).collect())
    }

    /// Takes one job into the group, or answers it with a refusal.
    fn take(&self, job: Job, seen: &mut HashSet<[u8; 32]>, group: &mut Group) {
        match job {
            Job::Record(verdicts, reply) => {
                if verdicts.documents != *group.documents.digest() {
                    drop(reply.send(Err(RecordError::DocumentsChanged)));
                } else if !seen.insert(*verdicts.nonce.as_bytes()) {
                    drop(reply.send(Err(RecordError::Replayed)));
                } else {
                    match self.decision(&verdicts, group) {
                        Ok(index) => group.replies.push(Waiting::Record(index, verdicts, reply)),
                        Err(error) => drop(reply.send(Err(error))),
                    }
                }
            }
            Job::Put(admitted, reply) => match self.put(admitted, group) {
                Ok(accepted) => group.replies.push(Waiting::Put(accepted, reply)),
                Err(error) => drop(reply.send(Err(error))),
            },
            Job::Note(event, reply) => match self.append(event, None, group) {
                Ok(index) => group.replies.push(Waiting::Note(index, reply)),
                Err(error) => drop(reply.send(Err(error))),
            },
        }
    }

    fn put(&self, admitted: Admitted, group: &mut Group) -> Result<Accepted, PutFailed> {
        let (document, event) = (*admitted.digest(), admitted.to_event());
        let after = Arc::new(group.documents.with(admitted.clone())?);
        let before = std::mem::replace(&mut group.documents, after);
        match self.append(event, None, group) {
            Ok(entry) => {
                group.puts.push(admitted);
                Ok(Accepted { document, entry, documents: *group.documents.digest() })
            }
            Err(error) => {
                group.documents = before;
                Err(error.into())
            }
        }
    }

    /// The entry of a decision, its details beside it.
    fn decision(&self, verdicts: &Verdicts, group: &mut Group) -> Result<u64, RecordError> {
        let salt = random_bytes::<32>()?;
        let explanation = explain(verdicts, self.identity.anchors, group.edge.size());
        let details = serde_json::to_vec(&explanation).map_err(|error| RecordError::Entry(EntryError::Form(error.to_string())))?;
        let commitment = Fields::new("portcullis/decision-details/v1").field(salt).field(&details).sha256();
        let event = Event::Decision {
            decision: verdicts.id,
            request: verdicts.request,
            nonce: Fields::new("portcullis/nonce/v1").field(verdicts.nonce).sha256(),
            guest: verdicts.guest.id(),
            purpose: verdicts.purpose,
            items: verdicts.items.iter().map(crate::decision::ItemVerdict::to_decided).collect(),
            details: commitment,
        };
        let beside = (verdicts.nonce, StoredDecision { id: verdicts.id, salt, details });
        self.append(event, Some(beside), group)
    }

    /// Appends an entry to the group.
    fn append(
        &self,
        event: Event,
        decision: Option<(protocol::ids::Nonce, StoredDecision)>,
        group: &mut Group,
    ) -> Result<u64, RecordError> {
        let entry = Entry {
            origin: self.identity.origin.to_string(),
            installation: self.identity.installation,
            anchors: self.identity.anchors,
            at: clock::now(),
            documents: *group.documents.digest(),
            event,
        };
        let entry = entry.to_bytes()?;
        let index = group.edge.size();
        for completed in group.edge.append(leaf_hash(&entry))? {
            let level = u8::try_from(completed.id.level).unwrap_or(u8::MAX);
            group.tiles.push(StoredTile { level, index: completed.id.index, hashes: completed.tile.to_bytes() });
        }
        let (nonce, decision) = decision.unzip();
        group.entries.push(StoredEntry { entry, nonce, decision });
        Ok(index)
    }

    /// Signs the checkpoint and makes the group durable.
    async fn write(&mut self, group: &mut Group) -> Result<(), RecordError> {
        let root = group.edge.root()?;
        let checkpoint = Checkpoint { origin: self.identity.origin.clone(), size: group.edge.size(), root }.sign(&self.key);
        let size = self.state.edge.size();
        let before = if size == 0 { [0; 32] } else { *self.state.edge.root()?.as_bytes() };
        let head =
            Head { size: group.edge.size(), root: *root.as_bytes(), checkpoint: checkpoint.clone(), documents: *group.documents.digest() };
        let documents = group.puts.iter().map(Admitted::to_stored).collect();
        let entries = std::mem::take(&mut group.entries);
        let step = Append { expected: (size, before), head, entries: entries.clone(), tiles: std::mem::take(&mut group.tiles), documents };
        self.store.append(step).await?;
        group.entries = entries;
        self.state =
            Published { documents: Arc::clone(&group.documents), checkpoint: checkpoint.into(), edge: Arc::new(group.edge.clone()) };
        *self.published.write().unwrap_or_else(std::sync::PoisonError::into_inner) = self.state.clone();
        Ok(())
    }

    /// Answers everybody in a durable group.
    fn publish(&self, group: Group) {
        let first = self.state.edge.size().saturating_sub(u64::try_from(group.entries.len()).unwrap_or(u64::MAX));
        let mut entries: Vec<_> = group.entries.into_iter().map(|stored| stored.entry).collect();
        for waiting in group.replies {
            match waiting {
                Waiting::Record(index, verdicts, reply) => {
                    let entry =
                        usize::try_from(index - first).ok().and_then(|at| entries.get_mut(at)).map(std::mem::take).unwrap_or_default();
                    let proof = self.state.edge.inclusion_proof(index, &TileSet::default());
                    let recorded = proof.map_err(RecordError::from).map(|hashes| {
                        let receipt = Receipt::new(entry, index, hashes, &self.state.checkpoint);
                        Recorded { verdicts: *verdicts, receipt }
                    });
                    drop(reply.send(recorded));
                }
                Waiting::Put(accepted, reply) => drop(reply.send(Ok(accepted))),
                Waiting::Note(index, reply) => drop(reply.send(Ok(index))),
            }
        }
    }
}

impl Job {
    fn fail(self, error: &RecordError) {
        match self {
            Self::Record(_, reply) => drop(reply.send(Err(error.clone()))),
            Self::Put(_, reply) => drop(reply.send(Err(error.clone().into()))),
            Self::Note(_, reply) => drop(reply.send(Err(error.clone()))),
        }
    }
}

impl Waiting {
    fn fail(self, error: &RecordError) {
        match self {
            Self::Record(_, _, reply) => drop(reply.send(Err(error.clone()))),
            Self::Put(_, reply) => drop(reply.send(Err(error.clone().into()))),
            Self::Note(_, reply) => drop(reply.send(Err(error.clone()))),
        }
    }
}

/// Everything about a decision, as the operator sees it.
fn explain(verdicts: &Verdicts, anchors: AnchorClass, entry: u64) -> Explanation {
    let transcript = verdicts.claims.transcript();
    let item = |item: &crate::decision::ItemVerdict| ExplainedItem {
        item: item.item.clone(),
        verdict: item.verdict(),
        policy: item.policy.clone(),
        checks: item.checks.clone(),
    };
    let ending = Ending::Decided {
        entry,
        purpose: verdicts.purpose,
        platform: transcript.platform,
        role: transcript.role.clone(),
        configuration: transcript.configuration,
        guest: verdicts.guest.id(),
        evidence: verdicts.evidence,
        claims: claims(&verdicts.claims),
        items: verdicts.items.iter().map(item).collect(),
    };
    Explanation { decision: verdicts.id, at: verdicts.at, anchors, request: Some(verdicts.request), ending }
}

/// What the evidence proves, by name, in words.
fn claims(claims: &attestation::VerifiedClaims) -> Vec<Claim> {
    claims.platform().in_words().into_iter().map(|(name, value)| Claim { name: name.to_owned(), value }).collect()
}

impl crate::decision::ItemVerdict {
    /// What was decided.
    pub(crate) const fn verdict(&self) -> Verdict {
        if self.permit.is_some() { Verdict::Permitted } else { Verdict::Refused }
    }

    fn to_decided(&self) -> Decided {
        let failed = self.checks.iter().filter(|check| check.verdict == protocol::admin::CheckVerdict::Failed);
        Decided {
            kind: self.item.kind,
            name: self.item.name.clone(),
            version: self.record.as_ref().map(|record| record.statement.body().version),
            statement: self.record.as_ref().map(|record| *record.statement.digest()),
            policy: self.policy.as_ref().map(|policy| policy.document),
            verdict: self.verdict(),
            reasons: failed.map(|check| check.code.clone()).collect(),
        }
    }
}

/// Why a step did not become durable. Nothing of it counts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The nonce is spent.
    #[error("the challenge was used before")]
    Replayed,
    /// Other documents are in force by now.
    #[error("the documents changed while deciding")]
    DocumentsChanged,
    /// Too many steps wait.
    #[error("too many requests wait for the audit log")]
    Busy,
    /// The writer is gone.
    #[error("the audit log's writer has stopped")]
    Stopped,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The entry does not fit.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The tree cannot grow or prove.
    #[error(transparent)]
    Tree(#[from] ProofError),
    /// No random bytes.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

/// Why a document was not put in force.
#[derive(Debug, thiserror::Error)]
pub enum PutFailed {
    /// It may not join the set.
    #[error(transparent)]
    Refused(#[from] PutError),
    /// It could not be recorded.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// How the store fails to match its log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// There is no log.
    #[error("the store has no log; run `portcullis-broker init`")]
    Empty,
    /// The head's checkpoint is not this log's, or not signed by its key.
    #[error("the head's checkpoint does not verify: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The head is not what its checkpoint says.
    #[error("the head has {found} entries, its checkpoint {expected}")]
    Head {
        /// By the checkpoint.
        expected: u64,
        /// By the head.
        found: u64,
    },
    /// The stored tree has another root.
    #[error("the stored log does not match its checkpoint: {0}")]
    Tree(#[from] RebuildError),
    /// The last entry is missing.
    #[error("the last entry of the log is missing")]
    LastEntry,
    /// The last entry cannot be read.
    #[error("the last entry of the log cannot be read: {0}")]
    Entry(#[from] EntryError),
    /// The stored documents are not those that the log's last entry commits to.
    #[error(
        "the stored documents have digest {found}, the log's last entry commits to {expected}: a document was changed, added or deleted behind the broker's back"
    )]
    Documents {
        /// By the last entry.
        expected: Digest,
        /// By the store.
        found: Digest,
    },
    /// The stored documents cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
