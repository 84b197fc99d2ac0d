//! Documents of Intel's in whose place ones of a higher evaluation number came. No platform is judged by them. They tell when a TCB level was
//! first dated: Intel dates a level anew for as long as nothing is known against it, and a period of grace must not begin anew with that.

use std::collections::BTreeMap;

use attestation::SignedBody;

use super::{CollateralHouse, Piece};
use crate::store::{StoreError, StoredPiece};

/// Before their keys in the store, which are no [`super::PieceKey`]s.
const PREFIX: &str = "intel/replaced/";
/// How many are kept of one kind and family: some years' worth, and a period of grace is a year at most.
const EACH: usize = 12;

/// By subject and evaluation number.
pub(super) type Replaced = BTreeMap<(String, u32), SignedBody>;

impl CollateralHouse {
    /// Keeps a document that one of number `by` is about to take the place of, if that is higher.
    pub(super) async fn keep_replaced(&self, held: &Piece, by: Option<u32>) -> Result<(), StoreError> {
        let Some((subject, number)) = held.evaluation.clone().filter(|(_, number)| by.is_some_and(|by| by > *number)) else {
            return Ok(());
        };
        let body = SignedBody { body: held.raw.bytes.clone(), issuer_chain: held.raw.issuer_chain.clone() };
        let stored = StoredPiece {
            key: key(&subject, number),
            bytes: body.body.clone(),
            issuer_chain: body.issuer_chain.clone(),
            fetched_at: held.fetched_at.seconds(),
        };
        self.store.keep_piece(stored, None).await?;
        let forgotten = {
            let mut held = self.held_mut();
            held.replaced.insert((subject.clone(), number), body);
            let own = held.replaced.keys().filter(|(of, _)| *of == subject);
            let mut numbers: Vec<u32> = own.map(|(_, number)| *number).collect();
            numbers.truncate(numbers.len().saturating_sub(EACH));
            numbers.iter().for_each(|number| drop(held.replaced.remove(&(subject.clone(), *number))));
            numbers
        };
        for number in forgotten {
            self.store.remove_piece(&key(&subject, number)).await?;
        }
        Ok(())
    }

    /// Takes a stored one back. Whatever the store has under such a key is no more than a date, and that only if it is signed.
    pub(super) fn take_back_replaced(&self, stored: &StoredPiece) -> bool {
        let Some((subject, number)) = stored.key.strip_prefix(PREFIX).and_then(|rest| rest.rsplit_once('/')) else { return false };
        let Ok(number) = number.parse() else { return false };
        let body = SignedBody { body: stored.bytes.clone(), issuer_chain: stored.issuer_chain.clone() };
        self.held_mut().replaced.insert((subject.to_owned(), number), body);
        true
    }
}

fn key(subject: &str, number: u32) -> String {
    format!("{PREFIX}{subject}/{number}")
}
