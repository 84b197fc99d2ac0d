//! The one writer of the audit log.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};

use protocol::admin::Accepted;
use protocol::encoding::Fields;
use protocol::entries::{Entry, EntryError, Event};
use protocol::ids::{Nonce, random_bytes};
use protocol::keys::SigningKey;
use protocol::log::{Checkpoint, Receipt, TileSet, TileTree, leaf_hash};
use tokio::sync::{mpsc, oneshot};

use super::explain::{commitment, decided, explain};
use super::{Identity, Published, PutFailed, RecordError, Recorded};
use crate::clock;
use crate::decision::Verdicts;
use crate::documents::{ActiveDocuments, Admitted};
use crate::store::{Append, Head, Store, StoreError, StoredDecision, StoredEntry, StoredTile};

/// Steps that may share one transaction.
const GROUP: usize = 256;

/// A step that waits for the writer, and whom to answer.
pub(super) enum Job {
    Record(Box<Verdicts>, oneshot::Sender<Result<Recorded, RecordError>>),
    Put(Admitted, oneshot::Sender<Result<Accepted, PutFailed>>),
    Note(Event, oneshot::Sender<Result<u64, RecordError>>),
}

/// The writer: what is durable, and how it grows.
///
/// A checkpoint is signed before it is stored, with what it covers, in one transaction: it never stands there alone. It leaves
/// this process only once the store has it. Where the store's answer is lost, the writer signs nothing more before it has
/// asked the store which of the two heads it holds, so that no two checkpoints of one size can ever be published.
pub(super) struct Writer {
    store: Arc<dyn Store>,
    key: SigningKey,
    identity: Identity,
    state: Published,
    published: Arc<RwLock<Published>>,
    /// A step of which it is unknown whether the store took it.
    unsettled: Option<(Head, Published)>,
    /// The store's head is neither where this broker left it nor where it meant to bring it.
    lost: Arc<AtomicBool>,
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

/// Whether the store has a step whose answer was lost.
enum Settled {
    Taken,
    NotTaken,
}

/// Who waits for an entry of the group, and its index.
enum Waiting {
    Record(u64, Box<Verdicts>, oneshot::Sender<Result<Recorded, RecordError>>),
    Put(Accepted, oneshot::Sender<Result<Accepted, PutFailed>>),
    Note(u64, oneshot::Sender<Result<u64, RecordError>>),
}

impl Writer {
    pub(super) fn new(
        store: Arc<dyn Store>,
        key: SigningKey,
        identity: Identity,
        state: Published,
        published: Arc<RwLock<Published>>,
        lost: Arc<AtomicBool>,
    ) -> Self {
        Self { store, key, identity, state, published, unsettled: None, lost }
    }

    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut jobs = Vec::with_capacity(GROUP);
        while queue.recv_many(&mut jobs, GROUP).await > 0 {
            self.commit(std::mem::take(&mut jobs)).await;
        }
    }

    /// One group: nonces, entries, checkpoint, transaction; then answers.
    async fn commit(&mut self, jobs: Vec<Job>) {
        let spent = match self.settle().await {
            Ok(_) => self.spent(&jobs).await,
            Err(error) => Err(error),
        };
        let spent = match spent {
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
        let event = Event::Decision {
            decision: verdicts.id,
            request: verdicts.request,
            nonce: Fields::new("portcullis/nonce/v1").field(verdicts.nonce).sha256(),
            guest: verdicts.guest.id(),
            purpose: verdicts.purpose,
            items: verdicts.items.iter().map(decided).collect(),
            details: commitment(&salt, &details),
        };
        let beside = (verdicts.nonce, StoredDecision { id: verdicts.id, salt, details });
        self.append(event, Some(beside), group)
    }

    /// Appends an entry to the group.
    fn append(&self, event: Event, decision: Option<(Nonce, StoredDecision)>, group: &mut Group) -> Result<u64, RecordError> {
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
        let after =
            Published { documents: Arc::clone(&group.documents), checkpoint: checkpoint.into(), edge: Arc::new(group.edge.clone()) };
        let step = Append {
            expected: (size, before),
            head: head.clone(),
            entries: group.entries.clone(),
            tiles: std::mem::take(&mut group.tiles),
            documents: group.puts.iter().map(Admitted::to_stored).collect(),
        };
        match self.store.append(step).await {
            Ok(()) => {
                self.become_state(after);
                Ok(())
            }
            Err(StoreError::NonceSpent) => Err(StoreError::NonceSpent.into()),
            Err(error) => {
                self.unsettled = Some((head, after));
                match self.settle().await {
                    Ok(Settled::Taken) => Ok(()),
                    Ok(Settled::NotTaken) | Err(_) => Err(error.into()),
                }
            }
        }
    }

    /// Finds out what became of a step whose answer was lost. While that is unknown, whoever waited for it was told that it
    /// failed, so that nothing was released on it; if the store has it nevertheless, the log goes on behind it.
    async fn settle(&mut self) -> Result<Settled, StoreError> {
        if self.lost.load(Ordering::Relaxed) {
            return Err(StoreError::HeadMoved);
        }
        let Some((attempted, _)) = &self.unsettled else { return Ok(Settled::NotTaken) };
        let found = self.store.head().await?;
        let taken = found.as_ref() == Some(attempted);
        let unchanged = match &found {
            Some(found) => *found.checkpoint == *self.state.checkpoint,
            None => self.state.edge.size() == 0,
        };
        let after = self.unsettled.take();
        match after {
            Some((_, after)) if taken => {
                self.become_state(after);
                Ok(Settled::Taken)
            }
            _ if unchanged => Ok(Settled::NotTaken),
            _ => {
                tracing::error!("the store's head is not where this broker left it; nothing is decided before a restart");
                self.lost.store(true, Ordering::Relaxed);
                Err(StoreError::HeadMoved)
            }
        }
    }

    fn become_state(&mut self, state: Published) {
        self.state = state;
        *self.published.write().unwrap_or_else(std::sync::PoisonError::into_inner) = self.state.clone();
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
