//! Tiles of 256 hashes, bundles of 256 entries, and their paths (`c2sp.org/tlog-tiles`).
//!
//! The hashes of a tile at level `L` are the tree's at level `8·L`; the levels between are computed from them.
//! A full tile never changes; the last of each level is partial, and as wide as the log's size says.

use std::fmt;
use std::str::FromStr;

use super::decimal;
use super::tree::{Hash, HashSource, MAX_SIZE, MemoryTree, Node};
use crate::limits;

/// Hashes in a full tile, entries in a full bundle.
pub const WIDTH: u16 = 256;

/// Levels of the tree that one tile spans.
pub(super) const HEIGHT: u32 = 8;

/// Levels of tiles that a log of [`MAX_SIZE`] entries has.
pub(super) const LEVELS: u32 = 8;

/// How many complete tile hashes at tile level `level` a log of `size` entries has.
pub(super) fn hashes_at(level: u32, size: u64) -> u64 {
    level.checked_mul(HEIGHT).and_then(|bits| size.checked_shr(bits)).unwrap_or(0)
}

/// Which tile: its level and its place in that level, from the left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    /// Level of tiles, 0 to 7: 0 holds the hashes of leaves.
    pub level: u32,
    /// Its place among the tiles of its level.
    pub index: u64,
}

impl TileId {
    /// The tile from which the hash of `node` is read or computed.
    #[must_use]
    pub fn holding(node: Node) -> Self {
        let level = node.level / HEIGHT;
        Self { level, index: node.index.checked_shr(HEIGHT - node.level % HEIGHT).unwrap_or(0) }
    }
}

impl fmt::Display for TileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "level {} index {}", self.level, self.index)
    }
}

/// Up to 256 hashes of one level, and the hashes of the eight levels above them as far as they are complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    hashes: Vec<Hash>,
    tree: MemoryTree,
}

impl Tile {
    /// A tile without hashes, with room for all.
    pub(super) fn empty() -> Self {
        Self { hashes: Vec::with_capacity(WIDTH.into()), tree: MemoryTree::with_capacity(WIDTH.into()) }
    }

    /// From its hashes.
    ///
    /// # Errors
    /// [`TileError::Width`] where they are none or more than 256.
    pub fn from_hashes(hashes: impl IntoIterator<Item = Hash>) -> Result<Self, TileError> {
        let mut tile = Self::empty();
        for hash in hashes {
            tile.push(hash)?;
        }
        if tile.hashes.is_empty() { Err(TileError::Width { found: 0 }) } else { Ok(tile) }
    }

    /// From its stored or served bytes: 32 for each hash.
    ///
    /// # Errors
    /// [`TileError::Length`] where the bytes are no whole number of hashes, [`TileError::Width`] where they are none or more than 256.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TileError> {
        let (hashes, rest) = bytes.as_chunks::<32>();
        if !rest.is_empty() {
            return Err(TileError::Length { found: bytes.len() });
        }
        if hashes.len() > WIDTH.into() {
            return Err(TileError::Width { found: hashes.len() });
        }
        Self::from_hashes(hashes.iter().copied().map(Hash::from_bytes))
    }

    /// The bytes that are stored and served: 32 for each hash.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.hashes.iter().flat_map(Hash::as_bytes).copied().collect()
    }

    /// Its hashes, 256 where it is full.
    #[must_use]
    pub fn hashes(&self) -> &[Hash] {
        &self.hashes
    }

    /// Whether it has all 256 hashes.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.hashes.len() == usize::from(WIDTH)
    }

    /// The hash that stands for it at the next level of tiles; `None` where it is not full.
    #[must_use]
    pub fn root(&self) -> Option<Hash> {
        if self.is_full() { self.tree.hash(Node { level: HEIGHT, index: 0 }) } else { None }
    }

    /// Appends a hash.
    pub(super) fn push(&mut self, hash: Hash) -> Result<(), TileError> {
        if self.is_full() {
            return Err(TileError::Width { found: self.hashes.len() + 1 });
        }
        self.hashes.push(hash);
        self.tree.push(hash);
        Ok(())
    }

    /// The hash of `node`, one of those that [`TileId::holding`] places in this tile.
    pub(super) fn hash(&self, node: Node) -> Option<Hash> {
        let level = node.level % HEIGHT;
        let nodes = 1u64.checked_shl(HEIGHT - level)?;
        self.tree.hash(Node { level, index: node.index % nodes })
    }
}

/// Why bytes are no tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// Not a whole number of hashes.
    #[error("a tile of {found} bytes, not a multiple of 32")]
    Length {
        /// How many bytes.
        found: usize,
    },
    /// No hash, or more than a tile has.
    #[error("a tile of {found} hashes, expected 1 to 256")]
    Width {
        /// How many hashes.
        found: usize,
    },
}

/// What lies at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TileKind {
    /// Hashes of this level of tiles, 0 to 7.
    Hashes {
        /// The level.
        level: u32,
    },
    /// The entries whose hashes the tile of level 0 with the same index has.
    Entries,
}

impl TileKind {
    /// The level of tiles whose index and width a path of this kind counts in.
    const fn level(self) -> u32 {
        match self {
            Self::Hashes { level } => level,
            Self::Entries => 0,
        }
    }
}

/// The path of a tile or of an entry bundle below the log's prefix: `tile/<L>/<N>[.p/<W>]` or `tile/entries/<N>[.p/<W>]`.
/// `N` is written in groups of three digits, each but the last behind an `x`; `W` is there where the tile is partial.
///
/// A path has one spelling: whatever parses prints as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TilePath {
    kind: TileKind,
    index: u64,
    width: u16,
}

impl TilePath {
    /// The path at which a log of `size` entries shows tile `index` of `kind`; `None` where it has no such tile.
    #[must_use]
    pub fn at(kind: TileKind, index: u64, size: u64) -> Option<Self> {
        let start = index.checked_mul(WIDTH.into())?;
        let left = hashes_at(kind.level(), size.min(MAX_SIZE)).checked_sub(start)?;
        let width = u16::try_from(left.min(WIDTH.into())).ok()?;
        (width > 0 && kind.level() < LEVELS).then_some(Self { kind, index, width })
    }

    /// What lies there.
    #[must_use]
    pub const fn kind(&self) -> TileKind {
        self.kind
    }

    /// Its place among its kind, from the left.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// How many hashes or entries: 256 where it is full.
    #[must_use]
    pub const fn width(&self) -> u16 {
        self.width
    }

    /// Whether it is not full.
    #[must_use]
    pub const fn is_partial(&self) -> bool {
        self.width < WIDTH
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Hashes { level } => write!(f, "tile/{level}/")?,
            TileKind::Entries => f.write_str("tile/entries/")?,
        }
        let mut groups = vec![self.index % 1000];
        let mut rest = self.index / 1000;
        while rest > 0 {
            groups.push(rest % 1000);
            rest /= 1000;
        }
        while let Some(group) = groups.pop() {
            if groups.is_empty() {
                write!(f, "{group:03}")?;
            } else {
                write!(f, "x{group:03}/")?;
            }
        }
        if self.is_partial() { write!(f, ".p/{}", self.width) } else { Ok(()) }
    }
}

/// Why a text is no path of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// Not `tile/`, a level and an index.
    #[error("not a tile's path: expected tile/LEVEL/INDEX or tile/entries/INDEX")]
    Form,
    /// The level is not one of a log of at most 2^62 entries.
    #[error("not a level of tiles: expected 0 to 7")]
    Level,
    /// The index is not written in groups of three digits, or lies beyond 2^62 entries.
    #[error("not a tile's index: expected groups of three digits, each but the last behind an x")]
    Index,
    /// The width of a partial tile is not 1 to 255.
    #[error("not a partial tile's width: expected 1 to 255")]
    Width,
}

impl FromStr for TilePath {
    type Err = BadPath;
    fn from_str(text: &str) -> Result<Self, BadPath> {
        let (kind, rest) = text.strip_prefix("tile/").and_then(|rest| rest.split_once('/')).ok_or(BadPath::Form)?;
        let kind = if kind == "entries" { TileKind::Entries } else { TileKind::Hashes { level: level(kind)? } };
        let (index, width) = match rest.split_once(".p/") {
            None => (rest, WIDTH),
            Some((index, width)) => (index, partial_width(width)?),
        };
        let index = index_from(index).filter(|index| *index < tiles_at_most(kind.level())).ok_or(BadPath::Index)?;
        Ok(Self { kind, index, width })
    }
}

fn level(text: &str) -> Result<u32, BadPath> {
    decimal(text).and_then(|level| u32::try_from(level).ok()).filter(|level| *level < LEVELS).ok_or(BadPath::Level)
}

fn partial_width(text: &str) -> Result<u16, BadPath> {
    decimal(text).and_then(|width| u16::try_from(width).ok()).filter(|width| (1..WIDTH).contains(width)).ok_or(BadPath::Width)
}

/// Tiles, full and partial, at `level` of the largest log.
fn tiles_at_most(level: u32) -> u64 {
    hashes_at(level, MAX_SIZE).div_ceil(WIDTH.into())
}

/// The index that three-digit groups spell, the first of several groups not `x000`.
fn index_from(text: &str) -> Option<u64> {
    let mut index = 0u64;
    let mut groups = text.split('/').peekable();
    while let Some(group) = groups.next() {
        let digits = if groups.peek().is_some() { group.strip_prefix('x')? } else { group };
        if digits.len() != 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) || (group == "x000" && index == 0) {
            return None;
        }
        index = index.checked_mul(1000)?.checked_add(digits.parse().ok()?)?;
    }
    Some(index)
}

/// Why entries are no bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Not the number of entries that there should be.
    #[error("a bundle of {found} entries, expected {expected}")]
    Entries {
        /// How many there should be.
        expected: u16,
        /// How many there are, counted no further than one more than expected.
        found: usize,
    },
    /// No entry, or more than a bundle has.
    #[error("a bundle of {found} entries, expected 1 to 256")]
    Width {
        /// How many there are.
        found: usize,
    },
    /// An entry is longer than its two bytes of length can say.
    #[error("an entry of {found} bytes, more than {max}", max = limits::LOG_ENTRY)]
    EntryTooLong {
        /// How many bytes.
        found: usize,
    },
    /// The bytes end within an entry.
    #[error("the bundle ends within entry {entry}")]
    Truncated {
        /// Which entry of the bundle, from 0.
        entry: usize,
    },
}

/// Writes entries as a bundle: each behind its length as a big-endian `u16`.
///
/// # Errors
/// [`BundleError::Width`], [`BundleError::EntryTooLong`].
pub fn encode_bundle<E: AsRef<[u8]>>(entries: &[E]) -> Result<Vec<u8>, BundleError> {
    if entries.is_empty() || entries.len() > WIDTH.into() {
        return Err(BundleError::Width { found: entries.len() });
    }
    let mut bundle = Vec::with_capacity(entries.iter().map(|entry| entry.as_ref().len() + 2).sum());
    for entry in entries {
        let entry = entry.as_ref();
        let length = u16::try_from(entry.len()).map_err(|_| BundleError::EntryTooLong { found: entry.len() })?;
        bundle.extend_from_slice(&length.to_be_bytes());
        bundle.extend_from_slice(entry);
    }
    Ok(bundle)
}

/// Reads a bundle of `width` entries, as its path says.
///
/// # Errors
/// [`BundleError::Truncated`], [`BundleError::Entries`].
pub fn decode_bundle(mut bundle: &[u8], width: u16) -> Result<Vec<&[u8]>, BundleError> {
    let mut entries = Vec::with_capacity(width.min(WIDTH).into());
    while !bundle.is_empty() {
        if entries.len() == usize::from(width) {
            return Err(BundleError::Entries { expected: width, found: entries.len() + 1 });
        }
        let truncated = BundleError::Truncated { entry: entries.len() };
        let (length, rest) = bundle.split_first_chunk().ok_or(truncated)?;
        let (entry, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into()).ok_or(truncated)?;
        entries.push(entry);
        bundle = rest;
    }
    if entries.len() == usize::from(width) { Ok(entries) } else { Err(BundleError::Entries { expected: width, found: entries.len() }) }
}

#[cfg(test)]
mod tests {
    use super::super::tree::{leaf_hash, root};
    use super::*;

    fn hashes(count: u32) -> Vec<Hash> {
        (0..count).map(|index| leaf_hash(&index.to_be_bytes())).collect()
    }

    #[test]
    fn a_path_has_one_spelling() {
        for text in [
            "tile/0/000",
            "tile/0/x001/x234/067",
            "tile/7/000",
            "tile/entries/999",
            "tile/entries/x001/000.p/255",
            "tile/3/012.p/1",
            "tile/0/x018/x014/x398/x509/x481/983", // the last tile of 2^62 entries
        ] {
            assert_eq!(text.parse::<TilePath>().map(|path| path.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn other_spellings_are_refused_by_name() {
        use BadPath::{Form, Index, Level, Width};
        for (text, reason) in [
            ("", Form),
            ("/tile/0/000", Form),
            ("tile/0", Form),
            ("tiles/0/000", Form),
            ("tile//000", Level),
            ("tile/00/000", Level),
            ("tile/8/000", Level),
            ("tile/+1/000", Level),
            ("tile/-1/000", Level),
            ("tile/data/000", Level),
            ("tile/18446744073709551616/000", Level),
            ("tile/0/", Index),
            ("tile/0/0", Index),
            ("tile/0/0000", Index),
            ("tile/0/x000", Index),
            ("tile/0/x000/000", Index),
            ("tile/0/x000/001", Index),
            ("tile/0/001/000", Index),
            ("tile/0/x001/x000", Index),
            ("tile/0/x001//000", Index),
            ("tile/0/x001/000/", Index),
            ("tile/0/X001/000", Index),
            ("tile/0/x001/0é", Index),
            ("tile/0/../000", Index),
            ("tile/0/+01", Index),
            ("tile/0/000.p", Index),
            ("tile/0/x018/x014/x398/x509/x481/984", Index),
            ("tile/7/001", Index),
            ("tile/0/x999/x999/x999/x999/x999/x999/x999/999", Index),
            ("tile/0/000.p/0", Width),
            ("tile/0/000.p/256", Width),
            ("tile/0/000.p/01", Width),
            ("tile/0/000.p/", Width),
            ("tile/0/000.p/1/", Width),
            ("tile/0/000.p/1.p/1", Width),
        ] {
            assert_eq!(text.parse::<TilePath>(), Err(reason), "{text}");
        }
    }

    #[test]
    fn a_log_of_70000_entries_has_the_tiles_that_the_specification_names() {
        let at = |kind, index| TilePath::at(kind, index, 70_000).map(|path| path.to_string());
        let level = |level| TileKind::Hashes { level };
        assert_eq!(at(level(0), 272).as_deref(), Some("tile/0/272"));
        assert_eq!(at(level(0), 273).as_deref(), Some("tile/0/273.p/112"));
        assert_eq!(at(level(0), 274), None);
        assert_eq!(at(level(1), 0).as_deref(), Some("tile/1/000"));
        assert_eq!(at(level(1), 1).as_deref(), Some("tile/1/001.p/17"));
        assert_eq!(at(level(2), 0).as_deref(), Some("tile/2/000.p/1"));
        assert_eq!(at(level(3), 0), None);
        assert_eq!(at(TileKind::Entries, 273).as_deref(), Some("tile/entries/273.p/112"));
        assert_eq!(TilePath::at(level(1), 0, 256).map(|path| path.width()), Some(1));
        assert_eq!(TilePath::at(level(0), 1, 256), None);
        assert_eq!(TilePath::at(level(0), u64::MAX, 256), None);
        assert_eq!(TilePath::at(level(9), 0, u64::MAX), None);
    }

    #[test]
    fn a_tile_reads_its_own_bytes_and_only_whole_hashes() {
        for width in [1, 2, 255, 256] {
            let tile = Tile::from_hashes(hashes(width)).unwrap();
            assert_eq!(Tile::from_bytes(&tile.to_bytes()), Ok(tile));
        }
        assert_eq!(Tile::from_bytes(&[]), Err(TileError::Width { found: 0 }));
        assert_eq!(Tile::from_bytes(&[0; 31]), Err(TileError::Length { found: 31 }));
        assert_eq!(Tile::from_bytes(&[0; 257 * 32]), Err(TileError::Width { found: 257 }));
        assert_eq!(Tile::from_hashes(hashes(257)), Err(TileError::Width { found: 257 }));
    }

    #[test]
    fn only_a_full_tile_has_a_root() {
        let tree: MemoryTree = hashes(256).into_iter().collect();
        assert_eq!(Tile::from_hashes(hashes(256)).unwrap().root(), root(&tree, 256).ok());
        assert_eq!(Tile::from_hashes(hashes(255)).unwrap().root(), None);
    }

    #[test]
    fn every_node_lies_in_one_tile() {
        for (level, index, tile) in
            [(0, 0, (0, 0)), (0, 256, (0, 1)), (7, 1, (0, 0)), (7, 2, (0, 1)), (8, 0, (1, 0)), (8, 256, (1, 1)), (15, 5, (1, 2))]
        {
            assert_eq!(TileId::holding(Node { level, index }), TileId { level: tile.0, index: tile.1 }, "{level} {index}");
        }
    }

    #[test]
    fn a_bundle_is_read_as_it_was_written() {
        let entries: [&[u8]; 3] = [b"", b"one", &[7; 65_535]];
        let bundle = encode_bundle(&entries).unwrap();
        assert_eq!(decode_bundle(&bundle, 3).unwrap(), entries);
        assert_eq!(bundle[..7], *b"\0\0\0\x03one");

        assert_eq!(encode_bundle(&[[0; 65_536]]), Err(BundleError::EntryTooLong { found: 65_536 }));
        assert_eq!(encode_bundle::<&[u8]>(&[]), Err(BundleError::Width { found: 0 }));
        assert_eq!(encode_bundle(&[b""; 257]), Err(BundleError::Width { found: 257 }));
        assert_eq!(decode_bundle(&bundle, 2), Err(BundleError::Entries { expected: 2, found: 3 }));
        assert_eq!(decode_bundle(&bundle, 4), Err(BundleError::Entries { expected: 4, found: 3 }));
        assert_eq!(decode_bundle(&bundle[..bundle.len() - 1], 3), Err(BundleError::Truncated { entry: 2 }));
        assert_eq!(decode_bundle(&bundle[..3], 2), Err(BundleError::Truncated { entry: 1 }));
    }
}
