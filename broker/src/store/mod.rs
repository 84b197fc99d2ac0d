//! What outlives the process: log, documents, decisions, collateral. SQLite by default; PostgreSQL joins behind the same trait and the
//! same behavioural tests.
//!
//! The store is not trusted. Documents are signed, envelopes are sealed, the log's head is signed and commits to the
//! documents: its thief gains ciphertext, its editor gains a refusal. Only a rollback of the whole store passes here; who
//! keeps checkpoints elsewhere (guests, monitors) catches that.
//!
//! Collateral is the vendors', signed by them and verified again wherever it is used: its editor can take pieces away, and so
//! delay a release. Beside it stand the highest evaluation numbers that were ever accepted. Whoever lowers those gains that
//! older collateral of the vendor's, as long as that is still valid, is accepted once more, and nothing else.
//!
//! Which platforms were seen lately is for a forecast alone: its editor misleads whoever reads that.

pub mod sqlite;

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;

use protocol::ids::{DecisionId, Digest, Nonce};

/// A boxed future, so that stores can stand behind one trait object.
pub type Reply<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// The newest state of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// How many entries it has.
    pub size: u64,
    /// Its root.
    pub root: [u8; 32],
    /// The signed checkpoint over both.
    pub checkpoint: String,
    /// The digest of the active document set behind the last entry.
    pub documents: Digest,
}

/// One entry, and what is kept beside it.
#[derive(Clone, Debug)]
pub struct StoredEntry {
    /// The bytes that were hashed into the log.
    pub entry: Vec<u8>,
    /// The nonce that it spends.
    pub nonce: Option<Nonce>,
    /// The decision that it is about.
    pub decision: Option<StoredDecision>,
}

/// A decision's details, by its number: what `explain` shows. The entry commits to `salt ‖ details`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDecision {
    /// Its number.
    pub id: DecisionId,
    /// The salt of the commitment.
    pub salt: [u8; 32],
    /// JSON of [`protocol::admin::Explanation`].
    pub details: Vec<u8>,
}

/// A full tile of the log: 256 hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTile {
    /// The tile level.
    pub level: u8,
    /// The number within its level.
    pub index: u64,
    /// 256 hashes of 32 bytes.
    pub hashes: Vec<u8>,
}

/// A signed document in its slot: a slot holds one document, a newer one replaces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDocument {
    /// What it is the newest of, such as `policy/KEY/NAME`.
    pub slot: String,
    /// The signed document, JSON.
    pub signed: Vec<u8>,
    /// A record's envelope, JSON.
    pub envelope: Option<Vec<u8>>,
}

/// One durable step of the log: all of it, or nothing.
#[derive(Clone, Debug)]
pub struct Append {
    /// The size and root that the log must have; zero and all zero bytes for a new one.
    pub expected: (u64, [u8; 32]),
    /// The head behind this step.
    pub head: Head,
    /// The new entries, from index `expected.0` on.
    pub entries: Vec<StoredEntry>,
    /// The tiles that they fill.
    pub tiles: Vec<StoredTile>,
    /// The documents that they put.
    pub documents: Vec<StoredDocument>,
}

/// A piece of a vendor's collateral, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPiece {
    /// What it is, wherever it came from: such as `intel/qe-identity`.
    pub key: String,
    /// The piece: DER, or a signed JSON body.
    pub bytes: Vec<u8>,
    /// The certificates of its signer, PEM; empty where the piece has none beside it.
    pub issuer_chain: Vec<u8>,
    /// When it came, in seconds since 1970.
    pub fetched_at: u64,
}

/// The highest evaluation number that was ever accepted for something. It is never lowered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFloor {
    /// For what: such as `TDX/50806f000000`.
    pub subject: String,
    /// The number.
    pub number: u32,
}

/// What a platform's evidence last said, under one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSighting {
    /// The machine, as its evidence names it.
    pub machine: String,
    /// Whose policy decided.
    pub authority: String,
    /// The policy's name.
    pub policy: String,
    /// When, in seconds since 1970.
    pub seen: u64,
    /// JSON of [`policies::Aging`].
    pub claims: Vec<u8>,
}

/// Where the broker keeps what outlives it.
pub trait Store: Send + Sync {
    /// The head; `None` for a new store.
    fn head(&self) -> Reply<'_, Option<Head>>;
    /// All documents, by slot.
    fn documents(&self) -> Reply<'_, Vec<StoredDocument>>;
    /// Which of these nonces are spent.
    fn spent<'a>(&'a self, nonces: &'a [Nonce]) -> Reply<'a, Vec<Nonce>>;
    /// One durable step. When this returns, it survives a crash.
    ///
    /// # Errors
    /// [`StoreError::HeadMoved`] where the log is not as expected, [`StoreError::NonceSpent`]; either way nothing happened.
    fn append(&self, step: Append) -> Reply<'_, ()>;
    /// Entries by index; fewer where the log ends.
    fn entries(&self, range: Range<u64>) -> Reply<'_, Vec<Vec<u8>>>;
    /// A full tile.
    fn tile(&self, level: u8, index: u64) -> Reply<'_, Option<StoredTile>>;
    /// A decision and the index of its entry.
    fn decision(&self, id: DecisionId) -> Reply<'_, Option<(u64, StoredDecision)>>;
    /// All pieces of collateral, by key.
    fn pieces(&self) -> Reply<'_, Vec<StoredPiece>>;
    /// Keeps a piece in the place of the one with its key, and raises a floor to its number with it, in one durable step.
    ///
    /// # Errors
    /// [`StoreError::BelowFloor`] where the floor is higher already; then nothing happened.
    fn keep_piece(&self, piece: StoredPiece, floor: Option<StoredFloor>) -> Reply<'_, ()>;
    /// Removes the piece with a key, if there is one. Floors stay.
    fn remove_piece<'a>(&'a self, key: &'a str) -> Reply<'a, ()>;
    /// All floors, by subject.
    fn floors(&self) -> Reply<'_, Vec<StoredFloor>>;
    /// The sightings, the newest first.
    fn sightings(&self) -> Reply<'_, Vec<StoredSighting>>;
    /// Keeps sightings, each in the place of the one of its machine and policy, and forgets all but the newest `bound` of them.
    fn keep_sightings(&self, sightings: Vec<StoredSighting>, bound: usize) -> Reply<'_, ()>;
}

/// Why the store did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Somebody else wrote to the log.
    #[error("the log's head is not where this broker left it")]
    HeadMoved,
    /// A nonce of this step is spent.
    #[error("a nonce of this step is spent already")]
    NonceSpent,
    /// A piece whose evaluation number is lower than one that was accepted before.
    #[error("its evaluation number is {found}, and {floor} was accepted before")]
    BelowFloor {
        /// The highest number that was ever accepted.
        floor: u32,
        /// This one's.
        found: u32,
    },
    /// The database cannot be used.
    #[error("the store failed: {0}")]
    Database(String),
    /// What lies in it cannot be.
    #[error("the store holds what cannot be: {0}")]
    Damaged(&'static str),
}
