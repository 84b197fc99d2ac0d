//! The growing edge of a log, as its one writer holds it in memory: the partial tile of each level and the full one before it.
//!
//! That is enough to append, to sign and to prove the latest entries; whatever lies further back comes from stored
//! tiles. The edge of a log of 2^24 entries is below 200 KiB, so a batch is appended to a clone, and the clone takes
//! the edge's place once the batch is durable.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::tiles::{HEIGHT, LEVELS, Tile, TileId, TileKind, TilePath, WIDTH, hashes_at};
use super::tree::{self, Hash, HashSource, Node};
use super::verify::ProofError;

/// A tile that has become full, to be stored with the batch that filled it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompletedTile {
    /// Which tile.
    pub id: TileId,
    /// Its 256 hashes.
    pub tile: Arc<Tile>,
}

/// Full tiles read from the store, by their place.
#[derive(Clone, Debug, Default)]
pub struct TileSet(BTreeMap<TileId, Arc<Tile>>);

impl TileSet {
    /// Adds a tile.
    pub fn insert(&mut self, id: TileId, tile: Arc<Tile>) {
        self.0.insert(id, tile);
    }

    /// Whether the tile is there.
    #[must_use]
    pub fn contains(&self, id: &TileId) -> bool {
        self.0.contains_key(id)
    }
}

impl Extend<CompletedTile> for TileSet {
    fn extend<I: IntoIterator<Item = CompletedTile>>(&mut self, tiles: I) {
        self.0.extend(tiles.into_iter().map(|completed| (completed.id, completed.tile)));
    }
}

impl HashSource for TileSet {
    fn hash(&self, node: Node) -> Option<Hash> {
        self.0.get(&TileId::holding(node))?.hash(node)
    }
}

/// The edge at one level of tiles.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Level {
    /// The tile that grows: 0 to 255 hashes.
    growing: Tile,
    /// The full tile before it.
    full: Option<Arc<Tile>>,
}

/// The edge of a log. Cloning it is cheap, and is how a batch is tried before it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TileTree {
    size: u64,
    levels: Vec<Level>,
}

impl TileTree {
    /// Appends the hash of an entry ([`tree::leaf_hash`]) as entry [`Self::size`], and gives the tiles that it filled.
    ///
    /// # Errors
    /// [`ProofError::TooLarge`] beyond [`tree::MAX_SIZE`] entries.
    pub fn append(&mut self, leaf: Hash) -> Result<Vec<CompletedTile>, ProofError> {
        let size = self.size + 1;
        tree::within_bounds(size)?;
        let mut completed = Vec::new();
        let mut rising = Some(leaf);
        for level in 0..LEVELS {
            let Some(hash) = rising.take() else { break };
            let Some(tile) = self.push(level, hash) else { break };
            rising = tile.root();
            completed.push(CompletedTile { id: TileId { level, index: hashes_at(level + 1, size) - 1 }, tile });
        }
        self.size = size;
        Ok(completed)
    }

    /// Adds a hash at `level` of tiles, and gives the tile that it filled.
    fn push(&mut self, level: u32, hash: Hash) -> Option<Arc<Tile>> {
        let place = usize::try_from(level).ok()?;
        if self.levels.len() == place {
            self.levels.push(Level { growing: Tile::empty(), full: None });
        }
        let level = self.levels.get_mut(place)?;
        level.growing.push(hash).ok()?;
        if !level.growing.is_full() {
            return None;
        }
        let tile = Arc::new(std::mem::replace(&mut level.growing, Tile::empty()));
        level.full = Some(Arc::clone(&tile));
        Some(tile)
    }

    /// How many entries the log has.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The root of all its entries.
    ///
    /// # Errors
    /// None that can occur: the edge knows the hashes that make up its root.
    pub fn root(&self) -> Result<Hash, ProofError> {
        tree::root(self, self.size)
    }

    /// The proof that entry `index` is in the tree as it is now. For the last 256 entries and more the edge is enough
    /// and `older` may be empty; for others it must hold what [`Self::tiles_for_inclusion`] names.
    ///
    /// # Errors
    /// [`ProofError::Index`], [`ProofError::Missing`].
    pub fn inclusion_proof(&self, index: u64, older: &impl HashSource) -> Result<Vec<Hash>, ProofError> {
        tree::inclusion_proof(&Both(self, older), index, self.size)
    }

    /// The proof that the tree of the first `old` entries is the beginning of the tree as it is now.
    /// `older` must hold what [`Self::tiles_for_consistency`] names.
    ///
    /// # Errors
    /// [`ProofError::OldTreeEmpty`], [`ProofError::Shrunk`], [`ProofError::Missing`].
    pub fn consistency_proof(&self, old: u64, older: &impl HashSource) -> Result<Vec<Hash>, ProofError> {
        tree::consistency_proof(&Both(self, older), old, self.size)
    }

    /// The full tiles that [`Self::inclusion_proof`] needs beside the edge.
    ///
    /// # Errors
    /// [`ProofError::Index`].
    pub fn tiles_for_inclusion(&self, index: u64) -> Result<BTreeSet<TileId>, ProofError> {
        Ok(self.not_at_hand(tree::inclusion_nodes(index, self.size)?))
    }

    /// The full tiles that [`Self::consistency_proof`] needs beside the edge.
    ///
    /// # Errors
    /// [`ProofError::OldTreeEmpty`], [`ProofError::Shrunk`].
    pub fn tiles_for_consistency(&self, old: u64) -> Result<BTreeSet<TileId>, ProofError> {
        Ok(self.not_at_hand(tree::consistency_nodes(old, self.size)?))
    }

    fn not_at_hand(&self, nodes: Vec<Node>) -> BTreeSet<TileId> {
        nodes.into_iter().filter(|node| self.hash(*node).is_none()).map(TileId::holding).collect()
    }

    /// The bytes of a tile of hashes as served at `path`, where the edge has them: a partial tile at any width up to
    /// what it has now, or the last full one. Other full tiles are in the store.
    #[must_use]
    pub fn tile_bytes(&self, path: &TilePath) -> Option<Vec<u8>> {
        let TileKind::Hashes { level } = path.kind() else { return None };
        let tile = self.tile(TileId { level, index: path.index() })?;
        let hashes = tile.hashes().get(..path.width().into())?;
        Some(hashes.iter().flat_map(Hash::as_bytes).copied().collect())
    }

    fn tile(&self, id: TileId) -> Option<&Tile> {
        let level = self.levels.get(usize::try_from(id.level).ok()?)?;
        let growing = hashes_at(id.level + 1, self.size);
        if id.index == growing {
            Some(&level.growing)
        } else if id.index.checked_add(1) == Some(growing) {
            level.full.as_deref()
        } else {
            None
        }
    }

    /// The full tiles that [`Self::rebuild`] needs for a log of `size` entries: at most 256 of each level.
    #[must_use]
    pub fn tiles_to_rebuild(size: u64) -> BTreeSet<TileId> {
        let mut tiles = BTreeSet::new();
        for level in 0..LEVELS {
            let full = hashes_at(level + 1, size);
            // Their roots are the hashes of the growing tile one level up; the last one is also kept itself.
            let first = (full - full % u64::from(WIDTH)).min(full.saturating_sub(1));
            tiles.extend((first..full).map(|index| TileId { level, index }));
        }
        tiles
    }

    /// The edge of a stored log: from the `size` and `root` of its checkpoint, the hashes of the entries that are in no
    /// full tile yet (`size % 256`), and the stored tiles that [`Self::tiles_to_rebuild`] names.
    ///
    /// # Errors
    /// The [`RebuildError`] that says how the store contradicts the checkpoint or itself.
    pub fn rebuild(size: u64, root: &Hash, leaves: &[Hash], stored: &TileSet) -> Result<Self, RebuildError> {
        tree::within_bounds(size).map_err(|_| RebuildError::TooLarge { size })?;
        let expected = size % u64::from(WIDTH);
        if u64::try_from(leaves.len()) != Ok(expected) {
            return Err(RebuildError::Leaves { expected, found: leaves.len() });
        }
        let mut edge = Self { size, levels: Vec::new() };
        for level in (0..LEVELS).take_while(|level| hashes_at(*level, size) > 0) {
            edge.levels.push(Level::rebuild(level, size, leaves, stored)?);
        }
        edge.check_full_tiles()?;
        let found = edge.root().map_err(RebuildError::Edge)?;
        if found == *root { Ok(edge) } else { Err(RebuildError::Root { expected: *root, found }) }
    }

    /// Checks each kept full tile against its hash one level up: the root alone does not cover all of them.
    fn check_full_tiles(&self) -> Result<(), RebuildError> {
        for (level, edge) in (0..).zip(&self.levels) {
            let Some(found) = edge.full.as_deref().and_then(Tile::root) else { continue };
            let id = TileId { level, index: hashes_at(level + 1, self.size).saturating_sub(1) };
            let node = Node { level: (level + 1) * HEIGHT, index: id.index };
            let expected = self.hash(node).ok_or(RebuildError::Edge(ProofError::Missing { node }))?;
            if expected != found {
                return Err(RebuildError::Tile { id, expected, found });
            }
        }
        Ok(())
    }
}

impl Level {
    fn rebuild(level: u32, size: u64, leaves: &[Hash], stored: &TileSet) -> Result<Self, RebuildError> {
        let full_tile = |level: u32, index: u64| {
            let id = TileId { level, index };
            stored.0.get(&id).filter(|tile| tile.is_full()).ok_or(RebuildError::Missing { id })
        };
        let hashes = hashes_at(level, size);
        let full = hashes_at(level + 1, size);
        let mut growing = Tile::empty();
        match level.checked_sub(1) {
            None => leaves.iter().try_for_each(|leaf| growing.push(*leaf)).map_err(|_| RebuildError::TooLarge { size })?,
            Some(below) => {
                for index in full * u64::from(WIDTH)..hashes {
                    let root = full_tile(below, index)?.root().ok_or(RebuildError::Missing { id: TileId { level: below, index } })?;
                    growing.push(root).map_err(|_| RebuildError::TooLarge { size })?;
                }
            }
        }
        let full = full.checked_sub(1).map(|index| full_tile(level, index).cloned()).transpose()?;
        Ok(Self { growing, full })
    }
}

impl HashSource for TileTree {
    fn hash(&self, node: Node) -> Option<Hash> {
        self.tile(TileId::holding(node))?.hash(node)
    }
}

/// The edge first, then the store.
struct Both<'a, Edge, Store>(&'a Edge, &'a Store);

impl<Edge: HashSource, Store: HashSource> HashSource for Both<'_, Edge, Store> {
    fn hash(&self, node: Node) -> Option<Hash> {
        self.0.hash(node).or_else(|| self.1.hash(node))
    }
}

/// How a stored log contradicts its checkpoint or itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RebuildError {
    /// Larger than any log.
    #[error("a log of {size} entries is larger than 2^62")]
    TooLarge {
        /// The checkpoint's size.
        size: u64,
    },
    /// Not as many entries as the partial tile has.
    #[error("{found} entries behind the last full tile, expected {expected}")]
    Leaves {
        /// How many the checkpoint's size asks for.
        expected: u64,
        /// How many there are.
        found: usize,
    },
    /// A full tile is not in the store.
    #[error("the full tile at {id} is missing")]
    Missing {
        /// Which tile.
        id: TileId,
    },
    /// A full tile is not the one that the level above was computed from.
    #[error("the tile at {id} has root {found}, expected {expected}")]
    Tile {
        /// Which tile.
        id: TileId,
        /// Its root as the level above has it.
        expected: Hash,
        /// Its own root.
        found: Hash,
    },
    /// The stored entries and tiles do not give the checkpoint's root.
    #[error("the stored log has root {found}, but its checkpoint says {expected}")]
    Root {
        /// The checkpoint's root.
        expected: Hash,
        /// The root of what is stored.
        found: Hash,
    },
    /// The rebuilt edge lacks a hash.
    #[error("the rebuilt edge is incomplete: {0}")]
    Edge(ProofError),
}
