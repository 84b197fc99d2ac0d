//! What was not kept lately, and why: for an operator who wonders why a piece that was brought is not there.
//!
//! Of each kind the last refusal alone, so that nobody who sends rubbish fills it, and beside it the last that was older than what is held:
//! nothing is missing then, but who carried it here may have meant another. Nothing is decided on it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use protocol::time::UnixTime;

use super::{NotKept, Origin, PieceKey};

/// The kind of what is no piece at all.
pub const FILE: &str = "file";

/// A piece that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its kind, one of [`PieceKey::KINDS`]; or [`FILE`].
    pub kind: &'static str,
    /// Which piece it was, as far as that is known; or the name of the file.
    pub subject: String,
    /// Where it came from.
    pub origin: Origin,
    /// Why it was not kept.
    pub why: String,
    /// When it came.
    pub at: UnixTime,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, origin, why, at, .. } = self;
        write!(f, "{subject}, {origin} at {at}, was refused: {why}")
    }
}

/// Whether something is missing for a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lack {
    /// The piece that was refused, perhaps.
    Perhaps,
    /// Nothing: a newer one is held.
    Nothing,
}

impl Lack {
    const ALL: [Self; 2] = [Self::Perhaps, Self::Nothing];
}

/// The last refusals of each kind.
#[derive(Default)]
pub(super) struct Refusals(Mutex<BTreeMap<(&'static str, Lack), Refused>>);

impl Refusals {
    /// Takes note of a refusal. That an upstream sends what is older than what is held is none, nor is it that the store failed.
    pub(super) fn note(&self, kind: &'static str, subject: String, origin: Origin, why: &NotKept, at: UnixTime) {
        let lack = match (why, origin) {
            (NotKept::Older { .. }, Origin::Upstream) | (NotKept::Store(_), _) => return,
            (NotKept::Older { .. }, Origin::Carried | Origin::Stored) => Lack::Nothing,
            _ => Lack::Perhaps,
        };
        let refused = Refused { kind, subject, origin, why: why.to_string(), at };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((kind, lack), refused);
    }

    /// A piece was kept: whatever was refused in its place is of no interest any more.
    pub(super) fn settle(&self, key: &PieceKey) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let subject = key.to_string();
        for place in Lack::ALL.map(|lack| (key.kind(), lack)) {
            // Where a refused piece could not even be read, its subject is its kind.
            if last.get(&place).is_some_and(|refused| refused.subject == subject || refused.subject == refused.kind) {
                last.remove(&place);
            }
        }
    }

    /// What may be why a piece of a kind is missing.
    pub(super) fn of(&self, kind: &'static str) -> Option<Refused> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&(kind, Lack::Perhaps)).cloned()
    }

    pub(super) fn all(&self) -> Vec<Refused> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_refusal_of_a_kind_stays_until_such_a_piece_is_kept() {
        let (refusals, at) = (Refusals::default(), UnixTime::from_seconds);
        let key = PieceKey::TcbInfo([7; 6]);
        let note = |subject: &str, why: &NotKept, when| refusals.note("tcb-info", subject.to_owned(), Origin::Carried, why, at(when));
        note("tcb-info", &NotKept::Unknown, 1);
        note(&key.to_string(), &NotKept::BelowFloor { floor: 20, found: 19 }, 2);
        let older = NotKept::Older { held: at(2), found: at(1) };
        refusals.note("tcb-info", key.to_string(), Origin::Upstream, &older, at(3));
        let last = refusals.of("tcb-info").unwrap();
        let said = "intel/tcb/070707070707, carried here at 1970-01-01T00:00:02Z, was refused: its evaluation number is 19, and 20 was accepted before";
        assert_eq!((last.to_string().as_str(), refusals.all()), (said, vec![last]));
        refusals.settle(&PieceKey::TcbInfo([8; 6]));
        refusals.settle(&PieceKey::QeIdentity);
        assert!(refusals.of("tcb-info").is_some(), "of another platform, of another kind");
        // One that is older than what is held is shown if it was carried here, and explains nothing.
        note(&key.to_string(), &older, 3);
        assert_eq!((refusals.of("tcb-info").unwrap().at, refusals.all().len()), (at(2), 2));
        refusals.settle(&key);
        assert_eq!((refusals.of("tcb-info"), refusals.all()), (None, vec![]));
        note("tcb-info", &NotKept::Unknown, 4);
        refusals.settle(&key);
        assert_eq!(refusals.all(), []);
    }
}
