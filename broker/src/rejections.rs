//! Requests that proved nothing: counted for the log, and the newest kept in memory for `explain`. An unverified caller can
//! make neither grow without bound.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Mutex;

use protocol::admin::{Ending, Explanation};
use protocol::ids::{AnchorClass, DecisionId, Digest};
use protocol::time::UnixTime;

/// Rejections that `explain` can still show.
const KEPT: usize = 2048;
/// Bytes of a detail that are kept: it may quote what an unverified caller sent.
const DETAIL: usize = 512;

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
        let Rejected { decision, at, anchors, request, code, mut detail, hint } = rejected;
        detail.truncate(detail.floor_char_boundary(DETAIL));
        detail.shrink_to_fit();
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
    pub fn take_counts(&self) -> Vec<(&'static str, u64)> {
        std::mem::take(&mut self.lock().counts).into_iter().collect()
    }

    /// Puts counts back that could not be written down.
    pub fn put_back(&self, counts: &[(&'static str, u64)]) {
        let mut inner = self.lock();
        for (code, count) in counts {
            *inner.counts.entry(code).or_default() += count;
        }
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
        assert_eq!(rejections.take_counts(), vec![("challenge-form", many.into())]);
        assert!(rejections.take_counts().is_empty());
        rejections.put_back(&[("challenge-form", 3)]);
        rejections.add(rejected(0));
        assert_eq!(rejections.take_counts(), vec![("challenge-form", 4)]);
    }

    #[test]
    fn a_caller_cannot_fill_the_memory_with_what_it_sends() {
        let rejections = Rejections::default();
        rejections.add(Rejected { detail: "\u{1F512}".repeat(100_000), ..rejected(1) });
        let Ending::Rejected { detail, .. } = rejections.find(&rejected(1).decision).unwrap().ending else { panic!("rejected") };
        assert_eq!(detail, "\u{1F512}".repeat(DETAIL / 4));
    }
}
