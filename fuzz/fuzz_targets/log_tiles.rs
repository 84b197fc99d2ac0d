//! Tiles, entry bundles and their paths, as a monitor or a guest receives them.
//!
//! Input: a byte that chooses which, then the bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::forms;
use protocol::log::tiles::{WIDTH, decode_bundle, encode_bundle};
use protocol::log::tree::root;
use protocol::log::{MemoryTree, Tile, TilePath};

fuzz_target!(|data: &[u8]| {
    let Some((choice, bytes)) = data.split_first() else { return };
    match choice % 3 {
        0 => path(bytes),
        1 => tile(bytes),
        _ => bundle(bytes),
    }
});

fn path(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some(path) = forms::one_spelling::<TilePath>(text) else { return };
    assert!((1..=WIDTH).contains(&path.width()) && path.is_partial() == (path.width() < WIDTH));
}

fn tile(bytes: &[u8]) {
    let Ok(tile) = Tile::from_bytes(bytes) else {
        assert!(bytes.is_empty() || !bytes.len().is_multiple_of(32) || bytes.len() > 32 * usize::from(WIDTH));
        return;
    };
    assert_eq!(tile.to_bytes(), bytes);
    let tree: MemoryTree = tile.hashes().iter().copied().collect();
    assert_eq!(tile.root(), tile.is_full().then(|| root(&tree, WIDTH.into()).expect("a full tree")));
}

fn bundle(bytes: &[u8]) {
    let Some((width, bytes)) = bytes.split_first() else { return };
    let width = u16::from(*width) + 1;
    let Ok(entries) = decode_bundle(bytes, width) else { return };
    assert_eq!(entries.len(), usize::from(width));
    assert_eq!(encode_bundle(&entries).as_deref(), Ok(bytes));
}
