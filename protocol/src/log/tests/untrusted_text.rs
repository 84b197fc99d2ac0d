//! Whatever comes from outside is read or refused, and what is read prints as it was.

use proptest::prelude::*;

use super::*;
use crate::keys::SigningKey;
use crate::log::checkpoint::{Checkpoint, VerifiedCheckpoint};
use crate::log::note::{self, VerifierKey};
use crate::log::proof::{ConsistencyProof, InclusionProof, Receipt};
use crate::log::tiles::{Tile, TilePath, decode_bundle, encode_bundle};
use crate::log::tree::inclusion_proof;

fn key() -> VerifierKey {
    let key = SigningKey::from_seed(&[1; 32]).unwrap();
    VerifierKey { name: "log.example".parse().unwrap(), key: *key.public() }
}

fn receipt() -> Receipt {
    let root = head(&tree_of(7), 7).root;
    let note = Checkpoint { origin: key().name, size: 7, root }.sign(&SigningKey::from_seed(&[1; 32]).unwrap());
    Receipt::new(entry(5), 5, inclusion_proof(&tree_of(7), 5, 7).unwrap(), &note)
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(?s).{0,200}") {
        let _ = text.parse::<TilePath>().map(|path| assert_eq!(path.to_string(), text));
        let _ = text.parse::<VerifierKey>().map(|key| assert_eq!(key.to_string(), text));
        let _ = text.parse::<InclusionProof>().map(|proof| assert_eq!(proof.to_string(), text));
        let _ = text.parse::<ConsistencyProof>().map(|proof| assert_eq!(proof.to_string(), text));
        prop_assert!(note::open(&text, &[key()]).is_err());
    }

    #[test]
    fn text_that_is_nearly_right_is_read_or_refused(
        path in "tile/(entries|[0-9]{1,2})/(x[0-9]{3}/){0,3}[0-9]{2,4}(\\.p/[0-9]{1,3})?",
        proof in "(c2sp.org/tlog-proof@v1\n)?(extra [a-z]{4}\n)?(index|old) [0-9]{1,3}\n([A-Za-z0-9]{42}[AEIM]=\n){0,3}\n?[a-z\n]{0,9}",
        note in "[a-z\n]{0,9}\n\n?(\u{2014} [a-z]{0,3} [A-Za-z0-9]{8,12}={0,2}\n){0,3}",
    ) {
        let _ = path.parse::<TilePath>().map(|parsed| assert_eq!(parsed.to_string(), path));
        let _ = proof.parse::<InclusionProof>().map(|parsed| assert_eq!(parsed.to_string(), proof));
        let _ = proof.parse::<ConsistencyProof>().map(|parsed| assert_eq!(parsed.to_string(), proof));
        prop_assert!(note::open(&note, &[key()]).is_err());
    }

    #[test]
    fn every_path_that_a_log_has_is_read_back(index in 0u64..1 << 54, level in 0u32..8, size in 0u64..1 << 62) {
        use crate::log::tiles::TileKind;
        for kind in [TileKind::Entries, TileKind::Hashes { level }] {
            if let Some(path) = TilePath::at(kind, index, size) {
                prop_assert_eq!(path.to_string().parse(), Ok(path));
            }
        }
    }

    #[test]
    fn bundles_and_tiles_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600), width in 0u16..8) {
        if let Ok(entries) = decode_bundle(&bytes, width) && !entries.is_empty() {
            prop_assert_eq!(encode_bundle(&entries).unwrap(), bytes.clone());
        }
        if let Ok(tile) = Tile::from_bytes(&bytes) {
            prop_assert_eq!(tile.to_bytes(), bytes);
        }
    }

    #[test]
    fn a_receipt_with_one_character_changed_is_refused(at in any::<prop::sample::Index>(), to in any::<char>()) {
        let receipt = receipt();
        let (start, old) = *at.get(&receipt.proof.char_indices().collect::<Vec<_>>());
        prop_assume!(old != to);
        let (before, after) = (&receipt.proof[..start], &receipt.proof[start + old.len_utf8()..]);
        let altered = Receipt { entry: receipt.entry.clone(), proof: format!("{before}{to}{after}") };
        prop_assert!(altered.verify(&key().name, &key().key).is_err(), "{}", altered.proof);
    }

    #[test]
    fn a_note_cut_short_is_refused(length in 0usize..400) {
        let note = receipt().proof.split_once("\n\n").unwrap().1.to_owned();
        let cut: String = note.chars().take(length).collect();
        prop_assert_eq!(VerifiedCheckpoint::verify(&cut, &key().name, &[key().key]).is_ok(), cut == note);
    }
}
