//! A store that was edited, cut or restored behind the broker's back is refused by name.

use broker::documents::LoadError;
use broker::ledger::OpenError;
use broker::store::StoreError;
use protocol::entries::Event;
use protocol::ids::AnchorClass;
use protocol::log::{CheckpointError, RebuildError};

use crate::house::*;

/// An installation with a record that is revoked, and a policy that replaced another.
async fn revoked() -> House {
    let house = House::with_llama().await;
    let broker = house.open().await;
    let second = policy_document(&authority(), "acme/strict", 2, &policy().replace("1 hour", "2 hours"));
    broker.ledger.put(house.trust.policy(&second).unwrap()).await.unwrap();
    broker.ledger.put(house.record("acme/other", 1)).await.unwrap();
    broker.ledger.put(house.revocations(1, &[("acme/llama", None)])).await.unwrap();
    drop(broker);
    house
}

/// What opening says after this SQL.
async fn after(sql: &str) -> OpenError {
    let house = revoked().await;
    assert!(house.open_ledger(None).await.is_ok(), "the near miss: nothing was changed");
    behind_its_back(&house.store_path(), sql).await;
    match house.open_ledger(None).await {
        Ok(_) => panic!("opened after {sql}"),
        Err(error) => error,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_deleted_revocation() {
    assert!(matches!(after("DELETE FROM documents WHERE slot LIKE 'revocations/%'").await, OpenError::Documents { .. }));
}

#[tokio::test]
async fn a_revocation_list_whose_signature_was_broken_does_not_fall_silent() {
    let list = revocation_document(&authority(), 1, &[("acme/llama", None)]);
    let mut broken = list.clone();
    let mut signature = *broken.signatures[0].sig.as_bytes();
    signature[0] ^= 1;
    broken.signatures[0].sig = protocol::keys::Signature::from_bytes(signature);
    let sql = |json: &[u8]| format!("UPDATE documents SET signed = x'{}' WHERE slot LIKE 'revocations/%'", hex(json));
    assert!(matches!(after(&sql(&broken.to_json())).await, OpenError::Load(LoadError::Damaged { .. })));
    // By the hint of a key that the configuration does not name, it would be a document that decides nothing.
    let mut orphan = list;
    orphan.signatures[0].keyid = key(9).public().id();
    assert!(matches!(after(&sql(&orphan.to_json())).await, OpenError::Load(LoadError::Damaged { .. })));
}

#[tokio::test]
async fn a_record_whose_signer_was_made_unknown() {
    let house = revoked().await;
    let stored = house.store().await.documents().await.unwrap();
    let record = stored.iter().find(|document| document.slot.starts_with("record/credential/acme/llama")).unwrap();
    let mut orphan: protocol::dsse::SignedDocument = serde_json::from_slice(&record.signed).unwrap();
    orphan.signatures[0].keyid = key(9).public().id();
    let sql = format!("UPDATE documents SET signed = x'{}' WHERE slot = '{}'", hex(&orphan.to_json()), record.slot);
    behind_its_back(&house.store_path(), &sql).await;
    assert!(matches!(house.open_ledger(None).await.map(drop), Err(OpenError::Documents { .. })));
}

#[tokio::test]
async fn an_old_policy_put_back() {
    let old = policy_document(&authority(), "acme/strict", 1, &policy()).to_json();
    let sql = format!("UPDATE documents SET signed = x'{}' WHERE slot LIKE 'policy/%'", hex(&old));
    assert!(matches!(after(&sql).await, OpenError::Documents { .. }));
}

#[tokio::test]
async fn a_document_in_another_slot() {
    let sql = "UPDATE documents SET slot = 'record/credential/acme/llama@7' WHERE slot = 'record/credential/acme/llama@1'";
    assert!(matches!(after(sql).await, OpenError::Load(LoadError::Damaged { .. })));
}

#[tokio::test]
async fn an_envelope_swapped() {
    let other = "(SELECT envelope FROM documents WHERE slot LIKE '%acme/other@1')";
    let sql = format!("UPDATE documents SET envelope = {other} WHERE slot LIKE '%acme/llama@1'");
    assert!(matches!(after(&sql).await, OpenError::Load(LoadError::Damaged { .. })));
    let sql = "UPDATE documents SET envelope = NULL WHERE slot LIKE '%acme/llama@1'";
    assert!(matches!(after(sql).await, OpenError::Load(LoadError::Damaged { .. })));
    let resealed = {
        let house = House::new().await;
        serde_json::to_vec(&house.record_file("acme/llama", 1).envelope).unwrap()
    };
    let sql = format!("UPDATE documents SET envelope = x'{}' WHERE slot LIKE '%acme/llama@1'", hex(&resealed));
    assert!(matches!(after(&sql).await, OpenError::Load(LoadError::Damaged { .. })));
}

#[tokio::test]
async fn entries_cut_off() {
    let sql = "DELETE FROM entries WHERE idx = (SELECT max(idx) FROM entries)";
    assert!(matches!(after(sql).await, OpenError::Tree(RebuildError::Leaves { .. })));
    assert!(matches!(after("UPDATE head SET size = size - 1").await, OpenError::Head { .. }));
    assert!(matches!(after("DELETE FROM head").await, OpenError::Empty));
}

#[tokio::test]
async fn an_entry_changed() {
    let sql = "UPDATE entries SET entry = CAST(replace(CAST(entry AS TEXT), 'record-put', 'record-pot') AS BLOB) WHERE idx = 2";
    assert!(matches!(after(sql).await, OpenError::Tree(RebuildError::Root { .. })));
}

#[tokio::test]
async fn another_logs_checkpoint() {
    let stranger = House::new().await;
    let head = stranger.store().await.head().await.unwrap().unwrap();
    let sql = format!("UPDATE head SET checkpoint = '{}', size = {}, root = x'{}'", head.checkpoint, head.size, hex(&head.root));
    assert!(matches!(after(&sql).await, OpenError::Checkpoint(CheckpointError::Note(_))));
}

#[tokio::test]
async fn a_log_of_another_class_of_roots() {
    let house = revoked().await;
    let mut identity = house.identity();
    identity.anchors = AnchorClass::Vendor;
    let opened = broker::ledger::Ledger::open(house.store().await, house.keys().1, identity, &house.trust, None).await;
    assert!(matches!(opened.map(drop), Err(OpenError::OtherLog { .. })));
}

/// The root of a log of 256 entries is rebuilt from a full tile: the last entry itself must be looked at.
#[tokio::test]
async fn the_last_entry_changed_where_it_ends_a_tile() {
    let house = House::with_llama().await;
    let broker = house.open().await;
    while broker.ledger.published().edge.size() < 256 {
        broker.ledger.note(Event::Started { version: "test".into() }).await.unwrap();
    }
    drop(broker);
    assert!(house.open_ledger(None).await.is_ok());
    let commits_to_another_set = "UPDATE entries SET entry = CAST(replace(CAST(entry AS TEXT), 'test', 'tost') AS BLOB) WHERE idx = 255";
    behind_its_back(&house.store_path(), commits_to_another_set).await;
    assert_eq!(house.open_ledger(None).await.map(drop), Err(OpenError::LastEntryChanged));
    behind_its_back(&house.store_path(), "DELETE FROM entries WHERE idx = 255").await;
    assert_eq!(house.open_ledger(None).await.map(drop), Err(OpenError::LastEntry));
}

#[tokio::test]
async fn a_tile_changed_or_missing() {
    let house = House::with_llama().await;
    let broker = house.open().await;
    while broker.ledger.published().edge.size() < 260 {
        broker.ledger.note(Event::Started { version: "test".into() }).await.unwrap();
    }
    drop(broker);
    assert!(house.open_ledger(None).await.is_ok());
    behind_its_back(&house.store_path(), "UPDATE tiles SET hashes = zeroblob(8192)").await;
    assert!(matches!(house.open_ledger(None).await.map(drop), Err(OpenError::Tree(RebuildError::Root { .. }))));
    behind_its_back(&house.store_path(), "UPDATE tiles SET hashes = zeroblob(8191)").await;
    assert!(matches!(house.open_ledger(None).await.map(drop), Err(OpenError::Store(StoreError::Damaged(_)))));
    behind_its_back(&house.store_path(), "DELETE FROM tiles").await;
    assert!(matches!(house.open_ledger(None).await.map(drop), Err(OpenError::Tree(RebuildError::Missing { .. }))));
}

#[tokio::test]
async fn a_restored_old_store_does_not_continue_the_checkpoint_that_was_kept() {
    let house = House::with_llama().await;
    let old = house.folder_copy();
    let broker = house.open().await;
    let early = broker.ledger.published().checkpoint;
    broker.ledger.put(house.revocations(1, &[("acme/llama", None)])).await.unwrap();
    let kept = broker.ledger.published().checkpoint;
    drop(broker);
    for checkpoint in [&early, &kept] {
        assert!(house.open_ledger(Some(checkpoint)).await.is_ok(), "the store as it was left continues both");
    }
    house.put_back(&old);
    assert!(house.open_ledger(None).await.is_ok(), "by itself an old store is a store: only a checkpoint held elsewhere tells");
    assert!(matches!(house.open_ledger(Some(&kept)).await.map(drop), Err(OpenError::RolledBack(_))), "it is smaller");
    // The thief lets it grow again, as far and further.
    let broker = house.open().await;
    for _ in 0..3 {
        broker.ledger.note(Event::Started { version: "test".into() }).await.unwrap();
    }
    drop(broker);
    assert!(matches!(house.open_ledger(Some(&kept)).await.map(drop), Err(OpenError::RolledBack(_))), "it is another log");
    assert!(house.open_ledger(Some(&early)).await.is_ok());
    let foreign = House::new().await.open().await.ledger.published().checkpoint;
    assert!(matches!(house.open_ledger(Some(&foreign)).await.map(drop), Err(OpenError::Kept(_))));
}

#[tokio::test]
async fn a_decisions_details_are_shown_only_as_they_were_recorded() {
    let house = House::with_llama().await;
    let broker = house.open().await;
    let outcome = ask(&broker, &Guest::default()).await;
    assert!(broker.ledger.decision(outcome.decision).await.unwrap().is_some());
    assert!(broker.ledger.decision([0; 16].into()).await.unwrap().is_none());
    let sql = "UPDATE entries SET details = CAST(replace(CAST(details AS TEXT), 'permitted', 'refused') AS BLOB) WHERE details IS NOT NULL";
    behind_its_back(&house.store_path(), sql).await;
    assert!(matches!(broker.ledger.decision(outcome.decision).await, Err(StoreError::Damaged(_))));
    let sql = "UPDATE entries SET entry = CAST(replace(CAST(entry AS TEXT), 'permitted', 'refused') AS BLOB) WHERE details IS NOT NULL";
    behind_its_back(&house.store_path(), sql).await;
    assert!(matches!(broker.ledger.decision(outcome.decision).await, Err(StoreError::Damaged(_))));
}

#[tokio::test]
async fn a_store_of_another_schema_is_not_guessed_at() {
    let house = House::new().await;
    let bytes_before = house.store().await.head().await;
    assert!(bytes_before.is_ok());
    sqlx_pragma(&house, "PRAGMA user_version = 4").await;
    let opened = broker::store::sqlite::SqliteStore::open(&house.store_path()).await;
    assert_eq!(opened.map(drop), Err(StoreError::Damaged("a schema of another version")));
}

async fn sqlx_pragma(house: &House, pragma: &'static str) {
    use sqlx::Connection;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(house.store_path());
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql(pragma).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}
