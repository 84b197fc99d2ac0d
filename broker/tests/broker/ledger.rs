//! The writer when the store misbehaves: nothing is released, nothing is signed twice, and it says so.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use broker::clock;
use broker::ledger::RecordError;
use broker::store::{
    Append, Head, Reply, Store, StoreError, StoredDecision, StoredDocument, StoredFloor, StoredPiece, StoredSighting, StoredTile,
};
use protocol::entries::Event;
use protocol::ids::{DecisionId, Nonce};
use protocol::messages::ItemOutcome;

use crate::house::*;

/// A real store on a line that can be cut: before a step reaches it, or before its answer comes back.
pub struct BadLine {
    store: Arc<dyn Store>,
    pub next: AtomicU8,
}

pub const GOOD: u8 = 0;
const STEP_LOST: u8 = 1;
const ANSWER_LOST: u8 = 2;
/// The answer is lost, and so is the next one about the head.
const LINE_DOWN: u8 = 3;
const HEAD_LOST: u8 = 4;
/// No piece of collateral is taken, until it is good again.
pub const PIECES_LOST: u8 = 5;
/// Whoever brings a piece of collateral panics, until it is good again.
pub const PIECES_PANIC: u8 = 6;

fn cut() -> StoreError {
    StoreError::Database("the line was cut".to_owned())
}

impl Store for BadLine {
    fn head(&self) -> Reply<'_, Option<Head>> {
        Box::pin(async {
            let lost = self.next.compare_exchange(HEAD_LOST, GOOD, Ordering::SeqCst, Ordering::SeqCst);
            if lost.is_ok() { Err(cut()) } else { self.store.head().await }
        })
    }
    fn documents(&self) -> Reply<'_, Vec<StoredDocument>> {
        self.store.documents()
    }
    fn spent<'a>(&'a self, nonces: &'a [Nonce]) -> Reply<'a, Vec<Nonce>> {
        self.store.spent(nonces)
    }
    fn append(&self, step: Append) -> Reply<'_, ()> {
        Box::pin(async move {
            match self.next.swap(GOOD, Ordering::SeqCst) {
                STEP_LOST => Err(cut()),
                ANSWER_LOST => self.store.append(step).await.and(Err(cut())),
                LINE_DOWN => {
                    self.store.append(step).await?;
                    self.next.store(HEAD_LOST, Ordering::SeqCst);
                    Err(cut())
                }
                _ => self.store.append(step).await,
            }
        })
    }
    fn entries(&self, range: Range<u64>) -> Reply<'_, Vec<Vec<u8>>> {
        self.store.entries(range)
    }
    fn tile(&self, level: u8, index: u64) -> Reply<'_, Option<StoredTile>> {
        self.store.tile(level, index)
    }
    fn decision(&self, id: DecisionId) -> Reply<'_, Option<(u64, StoredDecision)>> {
        self.store.decision(id)
    }
    fn pieces(&self) -> Reply<'_, Vec<StoredPiece>> {
        self.store.pieces()
    }
    fn keep_piece(&self, piece: StoredPiece, floor: Option<StoredFloor>) -> Reply<'_, ()> {
        match self.next.load(Ordering::SeqCst) {
            PIECES_LOST => Box::pin(async { Err(cut()) }),
            PIECES_PANIC => panic!("the line is told to panic"),
            _ => self.store.keep_piece(piece, floor),
        }
    }
    fn remove_piece<'a>(&'a self, key: &'a str) -> Reply<'a, ()> {
        self.store.remove_piece(key)
    }
    fn floors(&self) -> Reply<'_, Vec<StoredFloor>> {
        self.store.floors()
    }
    fn sightings(&self) -> Reply<'_, Vec<StoredSighting>> {
        self.store.sightings()
    }
    fn keep_sightings(&self, sightings: Vec<StoredSighting>, bound: usize) -> Reply<'_, ()> {
        self.store.keep_sightings(sightings, bound)
    }
}

pub async fn bad_line(house: &House) -> Arc<BadLine> {
    Arc::new(BadLine { store: house.store().await, next: AtomicU8::new(GOOD) })
}

#[tokio::test]
async fn a_step_that_the_store_did_not_take_changes_nothing() {
    let house = House::with_llama().await;
    let line = bad_line(&house).await;
    let broker = house.open_on(Arc::clone(&line) as Arc<dyn Store>).await;
    let before = broker.ledger.published().checkpoint;
    line.next.store(STEP_LOST, Ordering::SeqCst);
    let put = broker.ledger.put(house.revocations(1, &[("acme/llama", None)])).await;
    assert!(put.is_err());
    assert_eq!(broker.ledger.published().checkpoint, before);
    assert!(matches!(ask(&broker, &Guest::default()).await.items[0], ItemOutcome::Granted { .. }), "it was not put in force");
    assert!(broker.ledger.can_grow());
    drop(broker);
    assert!(house.open_ledger(Some(&before)).await.is_ok());
}

#[tokio::test]
async fn a_step_that_the_store_took_counts_though_its_answer_was_lost() {
    for (how, told) in [(ANSWER_LOST, true), (LINE_DOWN, false)] {
        let house = House::with_llama().await;
        let line = bad_line(&house).await;
        let broker = house.open_on(Arc::clone(&line) as Arc<dyn Store>).await;
        line.next.store(how, Ordering::SeqCst);
        let put = broker.ledger.put(house.revocations(1, &[("acme/llama", None)])).await;
        assert_eq!(put.is_ok(), told, "while nobody can know, whoever waits is told that it failed");
        assert_eq!(codes(&ask(&broker, &Guest::default()).await.items[0]), ["record-revoked"]);
        let checkpoint = broker.ledger.published().checkpoint;
        drop(broker);
        assert!(house.open_ledger(Some(&checkpoint)).await.is_ok(), "one history, with nothing signed twice");
    }
}

#[tokio::test]
async fn a_decision_whose_record_is_unknown_releases_nothing_and_spends_its_nonce() {
    let house = House::with_llama().await;
    let line = bad_line(&house).await;
    let broker = house.open_on(Arc::clone(&line) as Arc<dyn Store>).await;
    let (guest, at) = (Guest::default(), clock::now());
    let request = guest.request(&challenge(&broker, at));
    line.next.store(LINE_DOWN, Ordering::SeqCst);
    assert_eq!(exchange(&broker, &guest, &request, at).await, Err(No::NotRecorded(RecordError::Store(cut()))));
    assert_eq!(exchange(&broker, &guest, &request, at).await, Err(No::NotRecorded(RecordError::Replayed)));
}

#[tokio::test]
async fn a_store_that_was_moved_under_a_running_broker_is_not_written_to_again() {
    let house = House::with_llama().await;
    let (one, two) = (house.open().await, house.open().await);
    assert!(matches!(ask(&one, &Guest::default()).await.items[0], ItemOutcome::Granted { .. }));
    let (guest, at) = (Guest::default(), clock::now());
    let moved = Err(No::NotRecorded(RecordError::Store(StoreError::HeadMoved)));
    for _ in 0..2 {
        assert_eq!(exchange(&two, &guest, &guest.request(&challenge(&two, at)), at).await, moved);
    }
    assert!(one.ledger.can_grow() && !two.ledger.can_grow());
    assert!(matches!(ask(&one, &Guest::default()).await.items[0], ItemOutcome::Granted { .. }));
}

#[tokio::test]
async fn many_at_once_share_groups_and_each_gets_its_own_receipt() {
    let house = House::with_llama().await;
    let broker = house.open().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let broker = Arc::clone(&broker);
        tasks.spawn(async move { ask(&broker, &Guest::default()).await });
    }
    let mut indices = std::collections::BTreeSet::new();
    while let Some(outcome) = tasks.join_next().await {
        let outcome = outcome.unwrap();
        let receipt = outcome.receipt.verify(&house.identity().origin, &log_key(&house)).unwrap();
        let entry = protocol::entries::Entry::parse(receipt.entry()).unwrap();
        assert!(matches!(entry.event, Event::Decision { decision, .. } if decision == outcome.decision));
        assert!(indices.insert(receipt.index()));
    }
    assert_eq!(indices.len(), 32);
}
