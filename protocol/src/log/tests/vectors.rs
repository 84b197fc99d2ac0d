//! The published vectors of `protocol/vectors/log`: made by this code, compared value for value, explained in SPEC-log.md.

use serde_json::{Value, json};

use super::*;
use crate::encoding::to_base64;
use crate::keys::SigningKey;
use crate::log::checkpoint::Checkpoint;
use crate::log::note::{Origin, VerifierKey};
use crate::log::proof::{ConsistencyProof, Receipt};
use crate::log::tiles::{Tile, TileKind, TilePath, encode_bundle};
use crate::log::tree::{consistency_proof, inclusion_proof};

const SEED: [u8; 32] = [1; 32];

fn origin() -> Origin {
    "log.example/audit".parse().unwrap()
}

fn note(size: u64) -> String {
    let key = SigningKey::from_seed(&SEED).unwrap();
    Checkpoint { origin: origin(), size, root: head(&tree_of(size), size).root }.sign(&key)
}

fn roots() -> Value {
    let tree = tree_of(69);
    let roots: Vec<Value> = (0..=8).chain([69]).map(|size| json!({ "size": size, "root": head(&tree, size).root })).collect();
    json!({ "entries": "entry INDEX in ASCII, INDEX from 0 in decimal", "leaf_0": leaf(0), "roots": roots })
}

fn proofs() -> Value {
    let tree = tree_of(69);
    let inclusion: Vec<Value> = [(0, 1), (5, 7), (6, 7), (42, 69)]
        .map(|(index, size)| json!({ "index": index, "size": size, "proof": inclusion_proof(&tree, index, size).unwrap() }))
        .into();
    let consistency: Vec<Value> = [(3, 7), (4, 7), (7, 7), (42, 69)]
        .map(|(old, new)| json!({ "old": old, "new": new, "proof": consistency_proof(&tree, old, new).unwrap() }))
        .into();
    json!({ "inclusion": inclusion, "consistency": consistency })
}

fn checkpoint() -> Value {
    let key = SigningKey::from_seed(&SEED).unwrap();
    let verifier = VerifierKey { name: origin(), key: *key.public() };
    json!({ "seed": hex::encode(SEED), "verifier_key": verifier.to_string(), "size_0": note(0), "size_69": note(69) })
}

fn receipt() -> Value {
    let receipt = Receipt::new(entry(42), 42, inclusion_proof(&tree_of(69), 42, 69).unwrap(), &note(69));
    let hashes = consistency_proof(&tree_of(69), 42, 69).unwrap();
    let growth = ConsistencyProof { old_size: 42, hashes, checkpoint: note(69) };
    json!({ "receipt": receipt, "growth": growth.to_string() })
}

fn tiles() -> Value {
    let entries: Vec<Vec<u8>> = (0..3).map(entry).collect();
    let paths = [
        (TileKind::Hashes { level: 0 }, 273),
        (TileKind::Hashes { level: 1 }, 0),
        (TileKind::Hashes { level: 2 }, 0),
        (TileKind::Entries, 273),
    ]
    .map(|(kind, index)| TilePath::at(kind, index, 70_000).unwrap().to_string());
    json!({
        "bundle_of_3": to_base64(&encode_bundle(&entries).unwrap()),
        "tile_of_3": to_base64(&Tile::from_hashes((0..3).map(leaf)).unwrap().to_bytes()),
        "root_of_full_tile_0": Tile::from_hashes((0..256).map(leaf)).unwrap().root(),
        "paths_at_70000": paths,
        "path_of_tile_1234067": TilePath::at(TileKind::Hashes { level: 0 }, 1_234_067, 1 << 40).unwrap().to_string(),
    })
}

/// Set `PORTCULLIS_WRITE_VECTORS` to write the files anew.
#[test]
fn the_published_vectors_are_what_this_code_makes() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/log");
    for (name, value) in
        [("roots", roots()), ("proofs", proofs()), ("checkpoint", checkpoint()), ("receipt", receipt()), ("tiles", tiles())]
    {
        let file = folder.join(format!("{name}.json"));
        if std::env::var_os("PORTCULLIS_WRITE_VECTORS").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&file, format!("{value:#}\n")).unwrap();
        }
        assert_eq!(serde_json::from_slice::<Value>(&std::fs::read(&file).unwrap()).unwrap(), value, "{name}");
    }
}

/// The vectors as an outsider checks them: from the files alone.
#[test]
fn the_published_receipt_verifies_from_its_file() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/log");
    let read = |name: &str| -> Value { serde_json::from_slice(&std::fs::read(file.join(name)).unwrap()).unwrap() };
    let verifier: VerifierKey = read("checkpoint.json")["verifier_key"].as_str().unwrap().parse().unwrap();
    let receipt: Receipt = serde_json::from_value(read("receipt.json")["receipt"].clone()).unwrap();
    let verified = receipt.verify(&verifier.name, &verifier.key).unwrap();
    assert_eq!((verified.index(), verified.size(), verified.entry()), (42, 69, b"entry 42".as_slice()));
}
