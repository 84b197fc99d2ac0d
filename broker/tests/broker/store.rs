//! What every store does. Each test takes a way to make an empty one (at a path, if it wants one), so that the next store joins
//! with one line.

use std::path::PathBuf;

use broker::store::sqlite::SqliteStore;
use broker::store::{
    Append, Head, Store, StoreError, StoredDecision, StoredDocument, StoredEntry, StoredFloor, StoredPiece, StoredSighting, StoredTile,
};
use protocol::ids::{DecisionId, Digest, Nonce};

/// A step from `from` to `to` entries. A store does not look into entries and roots; a root here is its size.
fn step(from: u64, to: u64) -> Append {
    Append {
        expected: (from, root(from)),
        head: Head { size: to, root: root(to), checkpoint: format!("checkpoint {to}"), documents: Digest::from([5; 32]) },
        entries: (from..to).map(|index| StoredEntry { entry: entry(index), nonce: None, decision: None }).collect(),
        tiles: Vec::new(),
        documents: Vec::new(),
    }
}

fn root(size: u64) -> [u8; 32] {
    let mut root = [0; 32];
    root[24..].copy_from_slice(&size.to_be_bytes());
    root
}

fn entry(index: u64) -> Vec<u8> {
    format!("entry {index}").into_bytes()
}

fn nonce(byte: u8) -> Nonce {
    Nonce::from([byte; 32])
}

fn spending(mut step: Append, nonce: Nonce) -> Append {
    step.entries[0].nonce = Some(nonce);
    step
}

fn document(slot: &str, signed: &[u8]) -> StoredDocument {
    StoredDocument { slot: slot.to_owned(), signed: signed.to_vec(), envelope: None }
}

async fn every_store_begins_empty<S: Store>(make: impl AsyncFn(PathBuf) -> S) {
    let folder = tempfile::tempdir().unwrap();
    let store = make(folder.path().join("store")).await;
    assert_eq!(store.head().await, Ok(None));
    assert_eq!(store.documents().await, Ok(vec![]));
    assert_eq!(store.entries(0..10).await, Ok(vec![]));
    assert_eq!(store.tile(0, 0).await, Ok(None));
    assert_eq!(store.decision(DecisionId::from([1; 16])).await, Ok(None));
    assert_eq!(store.spent(&[nonce(1)]).await, Ok(vec![]));
}

async fn every_store_gives_back_what_was_appended<S: Store>(make: impl AsyncFn(PathBuf) -> S) {
    let folder = tempfile::tempdir().unwrap();
    let store = make(folder.path().join("store")).await;
    let mut step = spending(step(0, 3), nonce(1));
    let decision = StoredDecision { id: DecisionId::from([7; 16]), salt: [8; 32], details: b"{}".to_vec() };
    step.entries[2].decision = Some(decision.clone());
    step.tiles = vec![StoredTile { level: 1, index: 2, hashes: vec![9; 8192] }];
    let record = StoredDocument { envelope: Some(b"sealed".to_vec()), ..document("record/a@1", b"statement") };
    step.documents = vec![document("policy/b", b"policy"), record.clone()];
    store.append(step.clone()).await.unwrap();
    assert_eq!(store.head().await, Ok(Some(step.head)));
    assert_eq!(store.entries(0..3).await, Ok(vec![entry(0), entry(1), entry(2)]));
    assert_eq!(store.entries(1..2).await, Ok(vec![entry(1)]));
    assert_eq!(store.entries(2..9).await, Ok(vec![entry(2)]), "fewer where the log ends");
    assert_eq!(store.tile(1, 2).await, Ok(Some(step.tiles[0].clone())));
    assert_eq!((store.tile(1, 1).await, store.tile(0, 2).await), (Ok(None), Ok(None)));
    assert_eq!(store.documents().await, Ok(vec![document("policy/b", b"policy"), record]), "in the order of their slots");
    assert_eq!(store.decision(decision.id).await, Ok(Some((2, decision))));
    assert_eq!(store.spent(&[nonce(2), nonce(1)]).await, Ok(vec![nonce(1)]));
}

async fn every_store_keeps_one_document_a_slot<S: Store>(make: impl AsyncFn(PathBuf) -> S) {
    let folder = tempfile::tempdir().unwrap();
    let store = make(folder.path().join("store")).await;
    store.append(Append { documents: vec![document("a", b"1"), document("b", b"1")], ..step(0, 1) }).await.unwrap();
    store.append(Append { documents: vec![document("a", b"2"), document("a", b"3")], ..step(1, 2) }).await.unwrap();
    assert_eq!(store.documents().await, Ok(vec![document("a", b"3"), document("b", b"1")]));
}

async fn every_store_moves_its_head_only_from_where_it_is_said_to_be<S: Store>(make: impl AsyncFn(PathBuf) -> S) {
    let folder = tempfile::tempdir().unwrap();
    let store = make(folder.path().join("store")).await;
    store.append(step(0, 2)).await.unwrap();
    let before = store.head().await;
    let elsewhere = Append { expected: (2, root(9)), ..step(2, 3) };
    for wrong in [step(0, 1), step(1, 3), step(3, 4), elsewhere] {
        let wrong = Append { documents: vec![document("a", b"1")], ..spending(wrong, nonce(4)) };
        assert_eq!(store.append(wrong).await, Err(StoreError::HeadMoved));
    }
    assert_eq!(store.head().await, before);
    assert_eq!((store.entries(0..9).await.unwrap().len(), store.documents().await.unwrap().len()), (2, 0), "nothing happened");
    assert_eq!(store.spent(&[nonce(4)]).await, Ok(vec![]));
    assert_eq!(store.append(step(2, 3)).await, Ok(()));
}

async fn every_store_spends_a_nonce_once<S: Store>(make: impl AsyncFn(PathBuf) -> S) {
    let folder = tempfile::tempdir().unwrap();
    let store = make(folder.path().join("store")).await;
    store.append(spending(step(0, 1), nonce(1))).await.unwrap();
    let before = store.head().await;
    let again = Append { documents: vec![document("a", b"1")], ..spending(step(1, 3), nonce(1)) };
    assert_eq!(store.append(again).await, Err(StoreError::NonceSpent));
    assert_eq!((store.head().await, store.documents().await), (before, Ok(vec![])), "nothing happened");
    assert_eq!(store.append(spending(step(1, 3), nonce(2))).await, Ok(()));
    assert_eq!(store.append(step(3, 5)).await, Ok(()), "entries without nonces do not get into each other's way");
}

async fn every_store_takes_one_of_two_steps_from_the_same_head<S: Store>(make: impl AsyncFn(PathBuf) -> S) {
    let folder = tempfile::tempdir().unwrap();
    let store = make(folder.path().join("store")).await;
    store.append(step(0, 1)).await.unwrap();
    let (one, two) = tokio::join!(store.append(step(1, 2)), store.append(step(1, 3)));
    assert!([&one, &two].contains(&&Ok(())) && [&one, &two].contains(&&Err(StoreError::HeadMoved)), "{one:?} {two:?}");
}

async fn every_store_refuses_numbers_that_it_cannot_keep<S: Store>(make: impl AsyncFn(PathBuf) -> S) {
    let folder = tempfile::tempdir().unwrap();
    let store = make(folder.path().join("store")).await;
    let huge = Append { head: Head { size: u64::MAX, ..step(0, 1).head }, ..step(0, 1) };
    assert!(matches!(store.append(huge).await, Err(StoreError::Damaged(_))));
    assert!(matches!(store.tile(0, u64::MAX).await, Err(StoreError::Damaged(_))));
    assert!(matches!(store.entries(0..u64::MAX).await, Err(StoreError::Damaged(_))));
    assert_eq!(store.head().await, Ok(None));
    assert_eq!(store.append(step(0, 1)).await, Ok(()));
}

fn piece(key: &str, bytes: &[u8]) -> StoredPiece {
    StoredPiece { key: key.to_owned(), bytes: bytes.to_vec(), issuer_chain: b"chain".to_vec(), fetched_at: 1_800_000_000 }
}

fn floor(subject: &str, number: u32) -> StoredFloor {
    StoredFloor { subject: subject.to_owned(), number }
}

async fn every_store_keeps_one_piece_of_collateral_a_key<S: Store>(make: impl AsyncFn(PathBuf) -> S) {
    let folder = tempfile::tempdir().unwrap();
    let store = make(folder.path().join("store")).await;
    assert_eq!((store.pieces().await, store.floors().await), (Ok(vec![]), Ok(vec![])));
    store.keep_piece(piece("b", b"1"), None).await.unwrap();
    store.keep_piece(piece("a", b"1"), None).await.unwrap();
    let newer = StoredPiece { fetched_at: 1_800_000_001, issuer_chain: Vec::new(), ..piece("b", b"2") };
    store.keep_piece(newer.clone(), None).await.unwrap();
    assert_eq!(store.pieces().await, Ok(vec![piece("a", b"1"), newer.clone()]), "in the order of their keys");
    store.remove_piece("a").await.unwrap();
    store.remove_piece("never there").await.unwrap();
    assert_eq!(store.pieces().await, Ok(vec![newer]));
    let never = StoredPiece { fetched_at: u64::MAX, ..piece("c", b"1") };
    assert!(matches!(store.keep_piece(never, Some(floor("c", 1))).await, Err(StoreError::Damaged(_))));
    assert_eq!((store.pieces().await.unwrap().len(), store.floors().await), (1, Ok(vec![])), "nothing happened");
}

async fn every_store_raises_floors_and_never_lowers_them<S: Store>(make: impl AsyncFn(PathBuf) -> S) {
    let folder = tempfile::tempdir().unwrap();
    let store = make(folder.path().join("store")).await;
    for (number, highest) in [(17, 17), (18, 18), (17, 18), (18, 18), (0, 18), (u32::MAX, u32::MAX)] {
        let (of_this, before) = (piece("tcb", &number.to_be_bytes()), store.pieces().await.unwrap());
        let expected = if number < highest { Err(StoreError::BelowFloor { floor: highest, found: number }) } else { Ok(()) };
        assert_eq!(store.keep_piece(of_this.clone(), Some(floor("TDX/a", number))).await, expected);
        assert_eq!(store.floors().await, Ok(vec![floor("TDX/a", highest)]));
        assert_eq!(store.pieces().await.unwrap(), if number < highest { before } else { vec![of_this] }, "{number}");
    }
    store.keep_piece(piece("qe", b"1"), Some(floor("QE", 3))).await.unwrap();
    store.remove_piece("tcb").await.unwrap();
    assert_eq!(store.floors().await, Ok(vec![floor("QE", 3), floor("TDX/a", u32::MAX)]), "a floor outlives its piece");
}

fn sighting(machine: &str, seen: u64, claims: &[u8]) -> StoredSighting {
    let (authority, policy) = ("key".to_owned(), "inference".to_owned());
    StoredSighting { machine: machine.to_owned(), authority, policy, seen, claims: claims.to_vec() }
}

async fn every_store_keeps_the_newest_sightings_one_a_machine_and_policy<S: Store>(make: impl AsyncFn(PathBuf) -> S) {
    let folder = tempfile::tempdir().unwrap();
    let store = make(folder.path().join("store")).await;
    assert_eq!(store.sightings().await, Ok(vec![]));
    let other = StoredSighting { policy: "other".to_owned(), ..sighting("a", 4, b"4") };
    store.keep_sightings(vec![sighting("a", 1, b"1"), other.clone(), sighting("b", 2, b"2")], 9).await.unwrap();
    store.keep_sightings(vec![sighting("a", 3, b"3")], 9).await.unwrap();
    let all = vec![other.clone(), sighting("a", 3, b"3"), sighting("b", 2, b"2")];
    assert_eq!(store.sightings().await, Ok(all), "the newest first");
    store.keep_sightings(vec![sighting("c", 5, b"5")], 2).await.unwrap();
    assert_eq!(store.sightings().await, Ok(vec![sighting("c", 5, b"5"), other.clone()]));
    assert!(matches!(store.keep_sightings(vec![sighting("d", u64::MAX, b"")], 9).await, Err(StoreError::Damaged(_))));
    assert_eq!(store.sightings().await.unwrap().len(), 2, "nothing happened");
}

/// The whole suite for one store.
macro_rules! suite {
    ($store:ident, $make:expr) => {
        mod $store {
            suite!(@each $make =>
                every_store_begins_empty,
                every_store_gives_back_what_was_appended,
                every_store_keeps_one_document_a_slot,
                every_store_moves_its_head_only_from_where_it_is_said_to_be,
                every_store_spends_a_nonce_once,
                every_store_takes_one_of_two_steps_from_the_same_head,
                every_store_refuses_numbers_that_it_cannot_keep,
                every_store_keeps_one_piece_of_collateral_a_key,
                every_store_raises_floors_and_never_lowers_them,
                every_store_keeps_the_newest_sightings_one_a_machine_and_policy
            );
        }
    };
    (@each $make:expr => $($test:ident),+) => {
        $(#[tokio::test]
        async fn $test() {
            super::$test($make).await;
        })+
    };
}

async fn fresh_sqlite(path: PathBuf) -> SqliteStore {
    SqliteStore::create(&path).await.unwrap()
}

suite!(sqlite, super::fresh_sqlite);

#[tokio::test]
async fn an_sqlite_store_is_there_after_a_restart_and_is_never_made_twice() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    assert!(matches!(SqliteStore::open(&path).await.map(drop), Err(StoreError::Database(_))), "opening makes nothing");
    let store = SqliteStore::create(&path).await.unwrap();
    store.append(step(0, 3)).await.unwrap();
    drop(store);
    assert_eq!(SqliteStore::open(&path).await.unwrap().head().await.unwrap().unwrap().size, 3);
    assert!(matches!(SqliteStore::create(&path).await.map(drop), Err(StoreError::Database(_))));
}

#[tokio::test]
async fn an_sqlite_store_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::create(&folder.path().join("store.sqlite")).await.unwrap();
    store.append(step(0, 1)).await.unwrap();
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", file.path());
    }
}

#[tokio::test]
async fn an_sqlite_store_of_an_older_schema_gets_what_it_lacks() {
    use sqlx::Connection;
    let older = [
        "DROP TABLE collateral; DROP TABLE floors; DROP TABLE sightings; PRAGMA user_version = 1;",
        "DROP TABLE sightings; PRAGMA user_version = 2;",
    ];
    for sql in older {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.sqlite");
        let store = SqliteStore::create(&path).await.unwrap();
        store.append(step(0, 3)).await.unwrap();
        drop(store);
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
        let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        let store = SqliteStore::open(&path).await.unwrap();
        store.keep_piece(piece("a", b"1"), Some(floor("A", 1))).await.unwrap();
        store.keep_sightings(vec![sighting("a", 1, b"1")], 9).await.unwrap();
        drop(store);
        let store = SqliteStore::open(&path).await.unwrap();
        assert_eq!((store.head().await.unwrap().unwrap().size, store.floors().await), (3, Ok(vec![floor("A", 1)])));
        assert_eq!(store.sightings().await, Ok(vec![sighting("a", 1, b"1")]));
    }
}
