//! Requests that proved nothing: counted for the log, and the newest kept in memory for `explain`. An unverified caller can
//! make neither grow without bound.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Mutex;

use protocol::admin::{Ending, Explanation};
use protocol::entries::RejectionCount;
use protocol::ids::{AnchorClass, DecisionId, Digest};
use protocol::time::UnixTime;

/// Rejections that `explain` can still show.
const KEPT: usize = 2048;

/// What is remembered of rejections.
#[derive(Default)]
pub struct Rejections(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    counts: BTreeMap<&'static str, u64>,
    newest: HashMap<DecisionId, Explanation>,
    order: VecDeque<DecisionId>,
}

/// One rejection.
pub struct Rejected {
    /// Its number.
    pub decision: DecisionId,
    /// When.
    pub at: UnixTime,
    /// The installation's class of roots.
    pub anchors: AnchorClass,
    /// The request's digest, where a request could be read.
    pub request: Option<Digest>,
    /// The stable code.
    pub code: &'static str,
    /// What was expected and found.
    pub detail: String,
    /// What may help.
    pub hint: String,
}

impl Rejections {
    /// Remembers one.
    pub fn add(&self, rejected: Rejected) {
        let Rejected { decision, at, anchors, request, code, detail, hint } = rejected;
        let ending = Ending::Rejected { code: code.to_owned(), detail, hint };
        let mut inner = self.lock();
        *inner.counts.entry(code).or_default() += 1;
        inner.newest.insert(decision, Explanation { decision, at, anchors, request, ending });
        inner.order.push_back(decision);
        if inner.order.len() > KEPT
            && let Some(oldest) = inner.order.pop_front()
        {
            inner.newest.remove(&oldest);
        }
    }

    /// What is known of one.
    #[must_use]
    pub fn find(&self, decision: &DecisionId) -> Option<Explanation> {
        self.lock().newest.get(decision).cloned()
    }

    /// Takes the counts since the last call, for one entry of the log.
    #[must_use]
    pub fn take_counts(&self) -> Vec<RejectionCount> {
        let counts = std::mem::take(&mut self.lock().counts);
        counts.into_iter().map(|(code, count)| RejectionCount { code: code.to_owned(), count }).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(number: u16) -> Rejected {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&number.to_be_bytes());
        let (at, anchors) = (UnixTime::from_seconds(1), AnchorClass::Test);
        Rejected { decision: id.into(), at, anchors, request: None, code: "challenge-form", detail: String::new(), hint: String::new() }
    }

    #[test]
    fn the_newest_can_be_explained_and_all_are_counted_once() {
        let rejections = Rejections::default();
        let many = u16::try_from(KEPT).unwrap() + 10;
        for number in 0..many {
            rejections.add(rejected(number));
        }
        assert!(rejections.find(&rejected(9).decision).is_none());
        assert!(rejections.find(&rejected(10).decision).is_some());
        assert_eq!(rejections.take_counts(), vec![RejectionCount { code: "challenge-form".into(), count: many.into() }]);
        assert!(rejections.take_counts().is_empty());
    }
}
