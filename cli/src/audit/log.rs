//! A log as its broker shows it: the signed checkpoint, and tiles and bundles below it that are compared with what it says.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use protocol::dsse::SignedDocument;
use protocol::entries::{Entry, EntryError};
use protocol::ids::AnchorClass;
use protocol::keys::PublicKey;
use protocol::log::checkpoint::{CheckpointError, VerifiedCheckpoint};
use protocol::log::edge::TileSet;
use protocol::log::note::{BadOrigin, Origin};
use protocol::log::proof::{LogError, Receipt, verify_consistency};
use protocol::log::tiles::{BundleError, Tile, TileError, TileId, TileKind, TilePath, WIDTH, decode_bundle};
use protocol::log::tree::{self, leaf_hash};
use protocol::log::verify::{ProofError, verify_inclusion};

use crate::broker::{Broker, BrokerError};
use crate::installation::Certified;

/// Whoever shows a log: not trusted.
pub(super) trait Source {
    /// The latest checkpoint, a signed note.
    fn checkpoint(&self) -> Result<String, BrokerError>;
    /// What lies at `path`, if anything does.
    fn tile(&self, path: &TilePath) -> Result<Option<Vec<u8>>, BrokerError>;
}

impl Source for Broker {
    fn checkpoint(&self) -> Result<String, BrokerError> {
        Broker::checkpoint(self)
    }

    fn tile(&self, path: &TilePath) -> Result<Option<Vec<u8>>, BrokerError> {
        Broker::tile(self, path)
    }
}

/// One installation's log.
pub(super) struct Log<S> {
    source: S,
    installation: PublicKey,
    anchors: AnchorClass,
    origin: Origin,
    /// The keys that may sign its checkpoints, with their certificates.
    keys: Vec<(PublicKey, SignedDocument)>,
}

/// Why the log cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogReadError {
    /// The broker does not answer.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The installation's name makes no log name.
    #[error(transparent)]
    Origin(#[from] BadOrigin),
    /// The checkpoint is not this log's.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A tile or bundle that the checkpoint's size asks for is not there.
    #[error("the log shows no {path}, which a log of {size} entries has")]
    Missing { path: TilePath, size: u64 },
    /// A bundle that is none.
    #[error("{path}: {error}")]
    Bundle { path: TilePath, error: BundleError },
    /// A tile that is none.
    #[error("{path}: {error}")]
    Tile { path: TilePath, error: TileError },
    /// An entry that is none.
    #[error("entry {index}: {error}")]
    Entry { index: u64, error: EntryError },
    /// An entry of another log, installation or class.
    #[error("entry {index} names another {what}: expected {expected}, found {found}")]
    Foreign { index: u64, what: &'static str, expected: String, found: String },
    /// An entry that is not in the tree.
    #[error("entry {index} is not in the tree that the checkpoint names: {error}")]
    NotIncluded { index: u64, error: ProofError },
    /// Past the end.
    #[error("the log has {size} entries; there is no entry {index}")]
    Index { index: u64, size: u64 },
    /// The log has not only grown between two checkpoints.
    #[error(transparent)]
    Growth(LogError),
    /// The tree lacks a hash, or a proof that was just made does not hold.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The same of a receipt.
    #[error(transparent)]
    Receipt(LogError),
    /// No certified key signed the checkpoint.
    #[error("no certified key has signed the checkpoint")]
    NoSigner,
}

impl<S: Source> Log<S> {
    /// Of the installation with this root, whose log keys these certificates certify.
    pub(super) fn new(source: S, installation: PublicKey, certificates: &[Certified]) -> Result<Self, LogReadError> {
        let (first, _) = certificates.first().ok_or(LogReadError::NoSigner)?;
        let (name, anchors) = (first.body().name.clone(), first.body().anchors);
        let of_this =
            certificates.iter().filter(|(certificate, _)| certificate.body().name == name && certificate.body().anchors == anchors);
        let keys = of_this.filter_map(|(certificate, signed)| Some((*certificate.log().ok()?, signed.clone()))).collect();
        Ok(Self { source, installation, anchors, origin: format!("{name}/log").parse()?, keys })
    }

    /// The latest checkpoint, as it came and verified.
    pub(super) fn checkpoint(&self) -> Result<(String, VerifiedCheckpoint), LogReadError> {
        let note = self.source.checkpoint()?;
        let checkpoint = self.verify_checkpoint(&note)?;
        Ok((note, checkpoint))
    }

    /// A note as this log's checkpoint.
    pub(super) fn verify_checkpoint(&self, note: &str) -> Result<VerifiedCheckpoint, CheckpointError> {
        let keys: Vec<PublicKey> = self.keys.iter().map(|(key, _)| *key).collect();
        VerifiedCheckpoint::verify(note, &self.origin, &keys)
    }

    /// The bytes at `path` as wide as it says. A partial tile may have given way to a wider one meanwhile: its beginning serves.
    fn fetch(&self, kind: TileKind, index: u64, size: u64) -> Result<Fetched, LogReadError> {
        let start = ProofError::Index { index, size };
        let path = TilePath::at(kind, index, size).ok_or(start)?;
        if let Some(bytes) = self.source.tile(&path)? {
            return Ok(Fetched { path, bytes, width: path.width() });
        }
        let full = TilePath::at(kind, index, tree::MAX_SIZE).filter(|_| path.is_partial());
        let wider = full.map(|full| self.source.tile(&full)).transpose()?.flatten();
        let bytes = wider.ok_or(LogReadError::Missing { path, size })?;
        Ok(Fetched { path, bytes, width: WIDTH })
    }

    /// The entries of bundle `index` of a log of `size` entries.
    pub(super) fn bundle(&self, index: u64, size: u64) -> Result<Vec<Vec<u8>>, LogReadError> {
        let Fetched { path, bytes, width } = self.fetch(TileKind::Entries, index, size)?;
        let entries = decode_bundle(&bytes, width).map_err(|error| LogReadError::Bundle { path, error })?;
        Ok(entries.into_iter().take(usize::from(path.width())).map(<[u8]>::to_vec).collect())
    }

    /// A tile of hashes of a log of `size` entries.
    pub(super) fn tile(&self, id: TileId, size: u64) -> Result<Tile, LogReadError> {
        let Fetched { path, bytes, .. } = self.fetch(TileKind::Hashes { level: id.level }, id.index, size)?;
        let bad = |error| LogReadError::Tile { path, error };
        let tile = Tile::from_bytes(&bytes).map_err(bad)?;
        let width = usize::from(path.width());
        if tile.hashes().len() < width {
            return Err(bad(TileError::Width { found: tile.hashes().len() }));
        }
        Tile::from_hashes(tile.hashes().iter().take(width).copied()).map_err(bad)
    }

    /// Reads an entry and checks that it is this log's.
    pub(super) fn parse(&self, index: u64, bytes: &[u8]) -> Result<Entry, LogReadError> {
        let entry = Entry::parse(bytes).map_err(|error| LogReadError::Entry { index, error })?;
        let foreign = |what, expected: String, found: String| Err(LogReadError::Foreign { index, what, expected, found });
        if entry.origin != self.origin.as_str() {
            return foreign("log", self.origin.to_string(), entry.origin);
        }
        if entry.installation != self.installation {
            return foreign("installation", self.installation.to_string(), entry.installation.to_string());
        }
        if entry.anchors != self.anchors {
            return foreign("class of roots", self.anchors.to_string(), entry.anchors.to_string());
        }
        Ok(entry)
    }

    /// The tiles that these nodes are read from.
    fn tiles(&self, nodes: Vec<tree::Node>, size: u64) -> Result<TileSet, LogReadError> {
        let ids: BTreeSet<TileId> = nodes.into_iter().map(TileId::holding).collect();
        let mut set = TileSet::default();
        for id in ids {
            set.insert(id, Arc::new(self.tile(id, size)?));
        }
        Ok(set)
    }

    /// Entries by index, each proven to be in the checkpoint's tree.
    pub(super) fn entries(&self, range: Range<u64>, checkpoint: &VerifiedCheckpoint) -> Result<Vec<(u64, Entry)>, LogReadError> {
        let size = checkpoint.size();
        let mut nodes = Vec::new();
        for index in range.clone() {
            nodes.extend(tree::inclusion_nodes(index, size)?);
        }
        let tiles = self.tiles(nodes, size)?;
        let mut entries = Vec::new();
        let mut bundle = (u64::MAX, Vec::new());
        for index in range {
            let number = index / u64::from(WIDTH);
            if bundle.0 != number {
                bundle = (number, self.bundle(number, size)?);
            }
            let place = usize::try_from(index % u64::from(WIDTH)).unwrap_or(usize::MAX);
            let bytes = bundle.1.get(place).ok_or(LogReadError::Index { index, size })?;
            let proof = tree::inclusion_proof(&tiles, index, size)?;
            let included = verify_inclusion(&leaf_hash(bytes), index, size, &proof, checkpoint.root());
            included.map_err(|error| LogReadError::NotIncluded { index, error })?;
            entries.push((index, self.parse(index, bytes)?));
        }
        Ok(entries)
    }

    /// Checks that the log has only grown from `old` to `new`.
    pub(super) fn check_growth(&self, old: &VerifiedCheckpoint, new: &VerifiedCheckpoint) -> Result<(), LogReadError> {
        // An empty log is the beginning of every log.
        let proof = if old.size() == 0 || old.size() >= new.size() {
            Vec::new()
        } else {
            let tiles = self.tiles(tree::consistency_nodes(old.size(), new.size())?, new.size())?;
            tree::consistency_proof(&tiles, old.size(), new.size())?
        };
        if old.size() == 0 {
            return Ok(());
        }
        verify_consistency(old, new, &proof).map_err(LogReadError::Growth)
    }

    /// An entry with its proof, verified.
    pub(super) fn receipt(&self, index: u64, note: &str, checkpoint: &VerifiedCheckpoint) -> Result<Receipt, LogReadError> {
        let size = checkpoint.size();
        if index >= size {
            return Err(LogReadError::Index { index, size });
        }
        let bundle = self.bundle(index / u64::from(WIDTH), size)?;
        let place = usize::try_from(index % u64::from(WIDTH)).unwrap_or(usize::MAX);
        let entry = bundle.get(place).ok_or(LogReadError::Index { index, size })?;
        let tiles = self.tiles(tree::inclusion_nodes(index, size)?, size)?;
        Ok(Receipt::new(entry.clone(), index, tree::inclusion_proof(&tiles, index, size)?, note))
    }

    /// The certificate of the key that signed a receipt's checkpoint.
    pub(super) fn certificate_of(&self, receipt: &Receipt) -> Result<SignedDocument, LogReadError> {
        let mut refused = LogReadError::NoSigner;
        for (key, certificate) in &self.keys {
            match receipt.verify(&self.origin, key) {
                Ok(_) => return Ok(certificate.clone()),
                Err(error) => refused = LogReadError::Receipt(error),
            }
        }
        Err(refused)
    }
}

/// What lay at a path, or at that of the full tile that took its place.
struct Fetched {
    /// The path that was asked for.
    path: TilePath,
    bytes: Vec<u8>,
    /// How many hashes or entries the bytes should have.
    width: u16,
}
