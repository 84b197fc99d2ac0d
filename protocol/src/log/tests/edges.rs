//! The growing edge of a log: it proves what a whole tree proves, is rebuilt from what is stored, and is rolled back by forgetting a clone.

use std::sync::Arc;

use super::*;
use crate::log::edge::{CompletedTile, RebuildError, TileSet, TileTree};
use crate::log::tiles::{Tile, TileId, TilePath};
use crate::log::tree::consistency_proof;
use crate::log::verify::{ProofError, verify_consistency, verify_inclusion};

/// Past two tiles of the second level, so that three levels are at work.
const MANY: u64 = 2 * 65_536 + 3 * 256 + 7;

/// A log with everything that its store would have: all hashes, all full tiles.
struct Log {
    edge: TileTree,
    stored: TileSet,
    tree: MemoryTree,
}

impl Log {
    fn of(size: u64) -> Self {
        let mut log = Self { edge: TileTree::default(), stored: TileSet::default(), tree: MemoryTree::default() };
        for index in 0..size {
            log.tree.push(leaf(index));
            log.stored.extend(log.edge.append(leaf(index)).unwrap());
        }
        log
    }

    fn root(&self) -> Hash {
        head(&self.tree, self.tree.size()).root
    }

    /// The hashes of the entries that are in no full tile.
    fn last_leaves(&self) -> Vec<Hash> {
        (self.tree.size() / 256 * 256..self.tree.size()).map(leaf).collect()
    }

    /// What is stored of what a rebuild asks for.
    fn to_rebuild(&self) -> TileSet {
        let mut tiles = TileSet::default();
        for id in TileTree::tiles_to_rebuild(self.tree.size()) {
            tiles.insert(id, self.tile(id));
        }
        tiles
    }

    /// A full tile, from its bytes.
    fn tile(&self, id: TileId) -> Arc<Tile> {
        let hashes = (id.index * 256..(id.index + 1) * 256).map(|index| {
            let node = crate::log::tree::Node { level: id.level * 8, index };
            crate::log::tree::HashSource::hash(&self.tree, node).unwrap()
        });
        Arc::new(Tile::from_hashes(hashes).unwrap())
    }
}

#[test]
fn an_edge_has_the_root_of_the_whole_tree_at_every_size() {
    let (mut edge, mut frontier) = (TileTree::default(), crate::log::tree::Frontier::default());
    assert_eq!(edge.root(), Ok(Hash::EMPTY_ROOT));
    for index in 0..66_000 {
        edge.append(leaf(index)).unwrap();
        frontier.append(leaf(index)).unwrap();
        if index < 1000 || index % 97 == 0 || index % 256 > 253 || index % 256 < 2 {
            assert_eq!(edge.root(), Ok(frontier.root()), "{index}");
        }
    }
}

#[test]
fn tiles_come_out_when_they_are_full_and_once() {
    let mut edge = TileTree::default();
    let mut ids = Vec::new();
    for index in 0..65_536 {
        for CompletedTile { id, tile } in edge.append(leaf(index)).unwrap() {
            assert!(tile.is_full());
            ids.push((index, id));
        }
    }
    assert_eq!(ids.len(), 257);
    assert_eq!(ids[0], (255, TileId { level: 0, index: 0 }));
    assert_eq!(ids[255], (65_535, TileId { level: 0, index: 255 }));
    assert_eq!(ids[256], (65_535, TileId { level: 1, index: 0 }));
}

#[test]
fn the_edge_alone_proves_the_last_256_entries_at_every_size() {
    let nothing = TileSet::default();
    for start in [0, 200, 256, 500, 65_536 - 40, 65_536 + 230, 131_072 - 40] {
        let mut log = Log::of(start);
        for index in start..start + 60 {
            log.tree.push(leaf(index));
            log.edge.append(leaf(index)).unwrap();
            let (size, root) = (index + 1, log.root());
            for index in size.saturating_sub(256)..size {
                let proof = log.edge.inclusion_proof(index, &nothing).unwrap();
                assert_eq!(verify_inclusion(&leaf(index), index, size, &proof, &root), Ok(()), "{index} of {size}");
                assert!(log.edge.tiles_for_inclusion(index).unwrap().is_empty());
            }
        }
    }
}

#[test]
fn stored_tiles_prove_the_rest_and_no_tile_is_asked_for_in_vain() {
    let log = Log::of(MANY);
    let root = log.root();
    for index in (0..MANY).step_by(997).chain([0, 255, 256, 65_535, 65_536, 131_071, 131_072, MANY - 1]) {
        let mut older = TileSet::default();
        let needed = log.edge.tiles_for_inclusion(index).unwrap();
        assert!(needed.len() <= 2, "{index}");
        for id in &needed {
            assert!(log.stored.contains(id));
            assert!(matches!(log.edge.inclusion_proof(index, &older), Err(ProofError::Missing { .. })));
            older.insert(*id, log.tile(*id));
        }
        let proof = log.edge.inclusion_proof(index, &older).unwrap();
        assert_eq!(verify_inclusion(&leaf(index), index, MANY, &proof, &root), Ok(()), "{index}");
    }
    assert_eq!(log.edge.inclusion_proof(MANY, &log.stored), Err(ProofError::Index { index: MANY, size: MANY }));
}

#[test]
fn an_edge_proves_growth_from_every_older_size() {
    let log = Log::of(MANY);
    let new = head(&log.tree, MANY);
    for old_size in (1..MANY).step_by(997).chain([1, 255, 256, 257, 65_536, 65_537, MANY - 1, MANY]) {
        let mut older = TileSet::default();
        for id in log.edge.tiles_for_consistency(old_size).unwrap() {
            older.insert(id, log.tile(id));
        }
        let proof = log.edge.consistency_proof(old_size, &older).unwrap();
        assert_eq!(verify_consistency(&head(&log.tree, old_size), &new, &proof), Ok(()), "{old_size}");
        assert_eq!(consistency_proof(&log.tree, old_size, MANY), Ok(proof));
    }
    assert_eq!(log.edge.consistency_proof(0, &log.stored), Err(ProofError::OldTreeEmpty));
    assert_eq!(log.edge.consistency_proof(MANY + 1, &log.stored), Err(ProofError::Shrunk { old: MANY + 1, new: MANY }));
}

#[test]
fn a_batch_tried_on_a_clone_leaves_the_edge_as_it_was() {
    let log = Log::of(65_530);
    let mut batch = log.edge.clone();
    for index in 65_530..65_560 {
        batch.append(leaf(index)).unwrap();
    }
    assert_eq!(log.edge, Log::of(65_530).edge);
    assert_eq!(log.edge.root(), Ok(log.root()));
    assert_eq!(batch, Log::of(65_560).edge);
}

#[test]
fn an_edge_is_rebuilt_from_its_store_at_every_kind_of_size() {
    for size in [0, 1, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 65_792, 131_072, MANY] {
        let log = Log::of(size);
        let rebuilt = TileTree::rebuild(size, &log.root(), &log.last_leaves(), &log.to_rebuild());
        assert_eq!(rebuilt.as_ref(), Ok(&log.edge), "{size}");
    }
}

#[test]
fn a_store_that_contradicts_its_checkpoint_is_refused_by_name() {
    let log = Log::of(65_536 + 5);
    let (size, root, leaves, tiles) = (65_541, log.root(), log.last_leaves(), log.to_rebuild());
    let rebuild = |size, root: &Hash, leaves: &[Hash], tiles: &TileSet| TileTree::rebuild(size, root, leaves, tiles).unwrap_err();
    assert!(TileTree::rebuild(size, &root, &leaves, &tiles).is_ok());

    let too_large = u64::MAX;
    assert_eq!(rebuild(too_large, &root, &leaves, &tiles), RebuildError::TooLarge { size: too_large });
    assert_eq!(rebuild(size, &root, &leaves[..4], &tiles), RebuildError::Leaves { expected: 5, found: 4 });
    assert_eq!(rebuild(size - 1, &root, &leaves, &tiles), RebuildError::Leaves { expected: 4, found: 5 });
    let id = TileId { level: 0, index: 255 };
    assert_eq!(rebuild(size, &root, &leaves, &TileSet::default()), RebuildError::Missing { id });

    let found = altered(&root);
    assert_eq!(rebuild(size, &found, &leaves, &tiles), RebuildError::Root { expected: found, found: root });
    let changed: Vec<Hash> = leaves.iter().map(altered).collect();
    assert!(matches!(rebuild(size, &root, &changed, &tiles), RebuildError::Root { expected, .. } if expected == root));

    // The last full tile of level 0 is not under the root of what is rebuilt, but under its hash in level 1.
    let mut forged = log.to_rebuild();
    let mut hashes = log.tile(id).hashes().to_vec();
    hashes[7] = altered(&hashes[7]);
    forged.insert(id, Arc::new(Tile::from_hashes(hashes).unwrap()));
    assert!(matches!(rebuild(size, &root, &leaves, &forged), RebuildError::Tile { id: tile, .. } if tile == id));

    // A partial tile in the place of a full one is none.
    let mut partial = log.to_rebuild();
    partial.insert(id, Arc::new(Tile::from_hashes([root]).unwrap()));
    assert_eq!(rebuild(size, &root, &leaves, &partial), RebuildError::Missing { id });
}

#[test]
fn the_edge_serves_its_partial_tiles_at_every_width_up_to_theirs() {
    let log = Log::of(70_000);
    let bytes = |path: &str| log.edge.tile_bytes(&path.parse::<TilePath>().unwrap());
    let leaves = |range: std::ops::Range<u64>| Some(range.flat_map(|index| *leaf(index).as_bytes()).collect::<Vec<u8>>());
    assert_eq!(bytes("tile/0/273.p/112"), leaves(273 * 256..70_000));
    assert_eq!(bytes("tile/0/273.p/1"), leaves(273 * 256..273 * 256 + 1));
    assert_eq!(bytes("tile/0/273.p/113"), None);
    assert_eq!(bytes("tile/0/273"), None);
    assert_eq!(bytes("tile/0/272"), leaves(272 * 256..273 * 256));
    assert_eq!(bytes("tile/0/271"), None);
    assert_eq!(bytes("tile/1/000"), Some(log.tile(TileId { level: 1, index: 0 }).to_bytes()));
    assert_eq!(bytes("tile/1/001.p/17").map(|bytes| bytes.len()), Some(17 * 32));
    assert_eq!(bytes("tile/2/000.p/1").map(|bytes| bytes.len()), Some(32));
    assert_eq!(bytes("tile/2/000.p/2"), None);
    assert_eq!(bytes("tile/entries/273.p/112"), None);
}

/// Not a measurement, only a bound that a mistake of an order of magnitude would break: a batch of 64 on a log of 130 000.
#[test]
fn a_batch_costs_microseconds_for_each_entry() {
    let log = Log::of(MANY);
    let nothing = TileSet::default();
    let fastest = (0..20)
        .map(|_| {
            let start = std::time::Instant::now();
            let mut batch = log.edge.clone();
            for index in MANY..MANY + 64 {
                batch.append(leaf(index)).unwrap();
            }
            for index in MANY..MANY + 64 {
                batch.inclusion_proof(index, &nothing).unwrap();
            }
            start.elapsed()
        })
        .min()
        .unwrap();
    println!("clone, 64 appends, 64 proofs: {fastest:?}");
    assert!(fastest < std::time::Duration::from_millis(5), "{fastest:?}");
}
