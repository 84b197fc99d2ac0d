//! A log in memory, shown truthfully and otherwise.

use std::cell::RefCell;
use std::collections::BTreeMap;

use protocol::documents::{Certificate, CertificateBody, CertifiedKey};
use protocol::dsse::SignedDocument;
use protocol::entries::{Entry, Event};
use protocol::ids::{AnchorClass, Digest};
use protocol::keys::{PublicKey, SigningKey};
use protocol::log::checkpoint::Checkpoint;
use protocol::log::tiles::{TilePath, WIDTH, encode_bundle};
use protocol::log::tree::{HashSource as _, MemoryTree, Node, leaf_hash};
use protocol::log::{tiles, tree};
use protocol::time::UnixTime;

use super::log::{Log, LogReadError, Source};
use super::proof::{CheckError, ProofFile};
use super::walk::{AuditError, walk};
use crate::broker::BrokerError;
use crate::installation::{Certified, log_certificates};

const AT: UnixTime = UnixTime::from_seconds(1000);

fn root() -> SigningKey {
    SigningKey::from_seed(&[1; 32]).unwrap()
}

fn log_key() -> SigningKey {
    SigningKey::from_seed(&[2; 32]).unwrap()
}

fn certificates() -> Vec<Certified> {
    let body = CertificateBody {
        installation: *root().public(),
        name: "acme".parse().unwrap(),
        anchors: AnchorClass::Test,
        certified: CertifiedKey::Log(*log_key().public()),
        not_before: UnixTime::from_seconds(0),
        not_after: UnixTime::from_seconds(2000),
    };
    log_certificates(&[SignedDocument::sign(&body, &root()).unwrap()], root().public(), AT).unwrap()
}

fn entry(number: u64) -> Entry {
    let event = if number == 0 { Event::Initialised {} } else { Event::Started { version: number.to_string() } };
    Entry {
        origin: "acme/log".to_owned(),
        installation: *root().public(),
        anchors: AnchorClass::Test,
        at: UnixTime::from_seconds(number),
        documents: Digest::from([0; 32]),
        event,
    }
}

/// A log that shows what it was given.
struct Shown {
    note: RefCell<String>,
    tiles: RefCell<BTreeMap<String, Vec<u8>>>,
}

impl Source for &Shown {
    fn checkpoint(&self) -> Result<String, BrokerError> {
        Ok(self.note.borrow().clone())
    }

    fn tile(&self, path: &TilePath) -> Result<Option<Vec<u8>>, BrokerError> {
        Ok(self.tiles.borrow().get(&path.to_string()).cloned())
    }
}

/// The log of these entries, with every tile of its size and no other.
fn shown(entries: &[Vec<u8>]) -> Shown {
    let size = entries.len() as u64;
    let tree: MemoryTree = entries.iter().map(|entry| leaf_hash(entry)).collect();
    let root = tree::root(&tree, size).unwrap();
    let note = Checkpoint { origin: "acme/log".parse().unwrap(), size, root }.sign(&log_key());
    let mut tiles = BTreeMap::new();
    for (index, bundle) in entries.chunks(usize::from(WIDTH)).enumerate() {
        let path = TilePath::at(tiles::TileKind::Entries, index as u64, size).unwrap();
        tiles.insert(path.to_string(), encode_bundle(bundle).unwrap());
    }
    for level in 0..3 {
        for path in (0..).map_while(|index| TilePath::at(tiles::TileKind::Hashes { level }, index, size)) {
            let first = path.index() * 256;
            let hash = |index| *tree.hash(Node { level: 8 * level, index }).unwrap().as_bytes();
            tiles.insert(path.to_string(), (first..first + u64::from(path.width())).flat_map(hash).collect());
        }
    }
    Shown { note: RefCell::new(note), tiles: RefCell::new(tiles) }
}

fn entries(number: u64) -> Vec<Vec<u8>> {
    (0..number).map(|number| entry(number).to_bytes().unwrap()).collect()
}

fn log(shown: &Shown) -> Log<&Shown> {
    Log::new(shown, *root().public(), &certificates()).unwrap()
}

#[test]
fn a_whole_log_passes_at_every_kind_of_size() {
    for size in [0, 1, 2, 255, 256, 257, 513, 1000] {
        let shown = shown(&entries(size));
        let log = log(&shown);
        let (_, checkpoint) = log.checkpoint().unwrap();
        let audit = walk(&log, &checkpoint, None).unwrap();
        assert_eq!(audit.starts as u64, size.saturating_sub(1));
        assert_eq!(audit.last, size.checked_sub(1).map(UnixTime::from_seconds));
    }
}

#[test]
fn any_changed_byte_of_any_tile_is_found() {
    let shown = shown(&entries(300));
    let (_, checkpoint) = log(&shown).checkpoint().unwrap();
    let paths: Vec<String> = shown.tiles.borrow().keys().cloned().collect();
    assert_eq!(paths.len(), 5);
    for path in paths {
        let genuine = shown.tiles.borrow()[&path].clone();
        for at in [0, genuine.len() / 2, genuine.len() - 1] {
            let mut changed = genuine.clone();
            changed[at] ^= 1;
            shown.tiles.borrow_mut().insert(path.clone(), changed);
            assert!(walk(&log(&shown), &checkpoint, None).is_err(), "{path} byte {at}");
        }
        shown.tiles.borrow_mut().insert(path, genuine);
    }
    assert!(walk(&log(&shown), &checkpoint, None).is_ok());
}

#[test]
fn a_missing_tile_is_named() {
    let shown = shown(&entries(300));
    let (_, checkpoint) = log(&shown).checkpoint().unwrap();
    shown.tiles.borrow_mut().remove("tile/entries/001.p/44");
    let refused = walk(&log(&shown), &checkpoint, None).unwrap_err();
    assert_eq!(refused.to_string(), "the log shows no tile/entries/001.p/44, which a log of 300 entries has");
}

#[test]
fn a_log_that_grew_while_it_was_read_passes_for_the_size_that_was_signed() {
    let small = shown(&entries(300));
    let (_, checkpoint) = log(&small).checkpoint().unwrap();
    // Full tiles have taken the place of partial ones; a partial tile whose full one is not there yet stays.
    let grown = shown(&entries(512));
    for (path, bytes) in small.tiles.borrow().iter() {
        let full = path.split_once(".p/").map(|(full, _)| full.to_owned());
        if full.is_some_and(|full| !grown.tiles.borrow().contains_key(&full)) {
            grown.tiles.borrow_mut().insert(path.clone(), bytes.clone());
        }
    }
    assert!(!grown.tiles.borrow().contains_key("tile/entries/001.p/44"));
    walk(&log(&grown), &checkpoint, None).unwrap();
}

#[test]
fn another_root_than_the_entries_give_is_found() {
    let shown = shown(&entries(3));
    let root = leaf_hash(b"another");
    let note = Checkpoint { origin: "acme/log".parse().unwrap(), size: 3, root }.sign(&log_key());
    *shown.note.borrow_mut() = note;
    let (_, checkpoint) = log(&shown).checkpoint().unwrap();
    assert!(matches!(walk(&log(&shown), &checkpoint, None), Err(AuditError::Root { size: 3, expected, .. }) if expected == root));
}

#[test]
fn a_log_may_grow_and_may_neither_shrink_nor_change() {
    let kept = shown(&entries(300));
    let (_, kept) = log(&kept).checkpoint().unwrap();
    let grown = shown(&entries(301));
    let (_, new) = log(&grown).checkpoint().unwrap();
    walk(&log(&grown), &new, Some(&kept)).unwrap();
    log(&grown).check_growth(&kept, &new).unwrap();

    let shrunk = shown(&entries(299));
    let (_, new) = log(&shrunk).checkpoint().unwrap();
    assert!(matches!(walk(&log(&shrunk), &new, Some(&kept)), Err(AuditError::Shrunk { old: 300, new: 299 })));
    assert!(matches!(log(&shrunk).check_growth(&kept, &new), Err(LogReadError::Growth(_))));

    let mut other = entries(302);
    other.remove(7);
    let rewritten = shown(&other);
    let (_, new) = log(&rewritten).checkpoint().unwrap();
    assert!(matches!(walk(&log(&rewritten), &new, Some(&kept)), Err(AuditError::Rewritten { size: 300, .. })));
    assert!(matches!(log(&rewritten).check_growth(&kept, &new), Err(LogReadError::Growth(_))));
}

#[test]
fn an_entry_of_another_log_installation_or_class_is_found() {
    type Change = fn(&mut Entry);
    let changes: [(&str, Change); 3] = [
        ("log", |entry| entry.origin = "evil/log".to_owned()),
        ("installation", |entry| entry.installation = PublicKey::from_bytes([9; 32])),
        ("class of roots", |entry| entry.anchors = AnchorClass::Vendor),
    ];
    for (expected, change) in changes {
        let mut foreign = entry(1);
        change(&mut foreign);
        let shown = shown(&[entry(0).to_bytes().unwrap(), foreign.to_bytes().unwrap()]);
        let (_, checkpoint) = log(&shown).checkpoint().unwrap();
        let refused = walk(&log(&shown), &checkpoint, None).unwrap_err();
        assert!(matches!(refused, AuditError::Read(LogReadError::Foreign { index: 1, what, .. }) if what == expected), "{expected}");
    }
    let shown = shown(&[b"{}".to_vec()]);
    let (_, checkpoint) = log(&shown).checkpoint().unwrap();
    assert!(matches!(walk(&log(&shown), &checkpoint, None), Err(AuditError::Read(LogReadError::Entry { index: 0, .. }))));
}

#[test]
fn a_checkpoint_by_a_key_that_is_not_certified_is_refused() {
    let shown = shown(&entries(3));
    let size = 3;
    let tree: MemoryTree = entries(size).iter().map(|entry| leaf_hash(entry)).collect();
    let root = tree::root(&tree, size).unwrap();
    let stranger = SigningKey::from_seed(&[9; 32]).unwrap();
    *shown.note.borrow_mut() = Checkpoint { origin: "acme/log".parse().unwrap(), size, root }.sign(&stranger);
    assert!(matches!(log(&shown).checkpoint(), Err(LogReadError::Checkpoint(_))));
}

#[test]
fn the_tail_is_proven_entry_by_entry() {
    let shown = shown(&entries(600));
    let log = log(&shown);
    let (_, checkpoint) = log.checkpoint().unwrap();
    let tail = log.entries(505..600, &checkpoint).unwrap();
    assert_eq!(tail.first(), Some(&(505, entry(505))));
    assert_eq!(tail.len(), 95);
    // Another entry in the place of one, with everything else as it was.
    let path = "tile/entries/002.p/88".to_owned();
    let mut bundle = entries(600)[512..].to_vec();
    bundle[80] = entry(1).to_bytes().unwrap();
    shown.tiles.borrow_mut().insert(path, encode_bundle(&bundle).unwrap());
    assert!(matches!(log.entries(505..600, &checkpoint), Err(LogReadError::NotIncluded { index: 592, .. })));
    assert!(log.entries(505..592, &checkpoint).is_ok());
}

fn proof(index: u64) -> ProofFile {
    let shown = shown(&entries(600));
    let log = log(&shown);
    let (note, checkpoint) = log.checkpoint().unwrap();
    let receipt = log.receipt(index, &note, &checkpoint).unwrap();
    ProofFile { certificate: log.certificate_of(&receipt).unwrap(), receipt }
}

#[test]
fn a_proof_is_checked_with_the_root_alone() {
    for index in [0, 255, 256, 599] {
        let json = serde_json::to_vec(&proof(index)).unwrap();
        let read: ProofFile = serde_json::from_slice(&json).unwrap();
        read.check(root().public(), AT).unwrap();
    }
    let shown = shown(&entries(600));
    let (note, checkpoint) = log(&shown).checkpoint().unwrap();
    assert!(matches!(log(&shown).receipt(600, &note, &checkpoint), Err(LogReadError::Index { index: 600, size: 600 })));
}

#[test]
fn a_proof_of_another_entry_root_or_time_does_not_hold() {
    let mut other = proof(7);
    other.receipt.entry = entry(8).to_bytes().unwrap();
    assert!(matches!(other.check(root().public(), AT), Err(CheckError::Receipt(_))));
    let stranger = SigningKey::from_seed(&[9; 32]).unwrap();
    assert!(matches!(proof(7).check(stranger.public(), AT), Err(CheckError::Certificate(_))));
    assert!(matches!(proof(7).check(root().public(), UnixTime::from_seconds(2001)), Err(CheckError::Certificate(_))));
    assert!(proof(7).check(root().public(), UnixTime::from_seconds(2000)).is_ok());
}

#[test]
fn the_certificates_of_another_root_give_no_log_key() {
    let (_, signed) = certificates().remove(0);
    let stranger = SigningKey::from_seed(&[9; 32]).unwrap();
    assert!(log_certificates(std::slice::from_ref(&signed), stranger.public(), AT).is_err());
    assert!(Certificate::verify(&signed, root().public(), AT).is_ok());
}
