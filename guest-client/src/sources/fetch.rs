//! One range, asked for again until it is whole: each attempt goes on where the last one ended.
//!
//! An outage is waited out with full jitter, and as the storage's `Retry-After` asks, for as long as patience says; what a range
//! gets on by ends the outage. A wrong answer is asked for again a few times, because one of several servers may be broken. What
//! does not change is not asked for again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::address::Address;
use super::answer::Asked;
use super::error::{FetchError, Hope};
use super::transport::{Opened, Redirects, Transport};
use crate::retry::{Pace, Patience, Waiting, outage_wait};

/// Bytes by which a range must get on for an outage to be over: a storage that gives a few at a time does not go on for ever.
const PROGRESS: usize = 64 * 1024;
/// Wrong answers in a row that are taken for an accident.
const WRONG: u32 = 3;

/// What is known of an object since its first answer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Facts {
    total: u64,
    tag: Option<String>,
}

/// What the answers about an object are held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The first of them: the object may not change while it is read.
    First,
    /// The size that it has by the signed manifest, each time anew. By which name its storage calls its content does not matter: it may
    /// be replaced by the same bytes, and what was wrong may be put right.
    Size(u64),
}

/// Fetches ranges of one sealed model.
pub struct Fetcher {
    address: Address,
    transport: Transport,
    facts: Mutex<HashMap<String, Facts>>,
    turns: Semaphore,
    patience: Patience,
    pace: Arc<dyn Pace>,
    stopped: AtomicBool,
}

impl Fetcher {
    /// Of the objects at `address`, `connections` at once.
    #[must_use]
    pub fn new(address: Address, transport: Transport, connections: usize, patience: Duration, pace: Arc<dyn Pace>) -> Self {
        Self {
            address,
            transport,
            facts: Mutex::default(),
            turns: Semaphore::new(connections),
            patience: Patience { outage: patience, denial: Waiting::No },
            pace,
            stopped: AtomicBool::new(false),
        }
    }

    /// Ends what is waited for: from now on every fetch fails.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    /// Whether it was stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// How long the object `name` is, where an answer has said so.
    #[must_use]
    pub fn total(&self, name: &str) -> Option<u64> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).get(name).map(|facts| facts.total)
    }

    /// The bytes of the range that the object has: fewer than were asked for only where it ends.
    ///
    /// # Errors
    /// [`FetchError`], after all that was tried.
    pub async fn fetch(&self, name: &str, range: Asked, expected: Expected) -> Result<Bytes, FetchError> {
        let mut buffer = Vec::new();
        let mut trouble = Trouble::default();
        loop {
            let before = buffer.len();
            let error = match self.attempt(name, range, expected, &mut buffer).await {
                Ok(()) => return Ok(Bytes::from(buffer)),
                Err(error) => error,
            };
            if self.is_stopped() {
                return Err(FetchError::Stopped);
            }
            if buffer.len().saturating_sub(before) >= PROGRESS {
                trouble = Trouble::default();
            }
            // Without ranges an object can still be had from its start, as long as it fits in one.
            let restart = range.start == 0 && before > 0 && matches!(error, FetchError::NoRanges { .. });
            if restart {
                buffer.clear();
            }
            let hope = if restart { Hope::Passing } else { error.hope() };
            match trouble.wait(hope, error.retry_after(), &*self.pace, &self.patience) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(error),
            }
        }
    }

    /// Asks once for what is missing. What came stays in `buffer`, also where it fails.
    async fn attempt(&self, name: &str, range: Asked, expected: Expected, buffer: &mut Vec<u8>) -> Result<(), FetchError> {
        // Held for the attempt alone: who waits for a throttled storage keeps nobody else from it. The semaphore is never closed.
        let _turn = self.turns.acquire().await.map_err(|_| FetchError::Stopped)?;
        if self.is_stopped() {
            return Err(FetchError::Stopped);
        }
        let held = u64::try_from(buffer.len()).unwrap_or(u64::MAX);
        let missing = Asked { start: range.start.saturating_add(held), length: range.length.saturating_sub(held) };
        let redirects = if self.address.follows_redirects() { Redirects::Followed } else { Redirects::Refused };
        let url = self.address.url(name).await?;
        let (accepted, body) = match self.transport.open(&url, missing, redirects).await? {
            Opened::Empty => return self.know(name, expected, Facts { total: 0, tag: None }),
            Opened::EndsBefore(total) => {
                self.know(name, expected, Facts { total, tag: None })?;
                return Err(FetchError::Status { status: 416 });
            }
            Opened::Body(accepted, body) => (accepted, body),
        };
        self.know(name, expected, Facts { total: accepted.total, tag: accepted.tag })?;
        // Bounded by what was asked for, which is bounded by the settings.
        let there = missing.length.min(accepted.total.saturating_sub(missing.start));
        buffer.reserve_exact(usize::try_from(there).unwrap_or(0));
        self.transport.read(body, accepted.length, buffer).await?;
        if accepted.length < there { Err(FetchError::CutShort { expected: there, found: accepted.length }) } else { Ok(()) }
    }

    /// Holds what an answer says of an object against what is known of it.
    fn know(&self, name: &str, expected: Expected, found: Facts) -> Result<(), FetchError> {
        if let Expected::Size(expected) = expected {
            return if found.total == expected { Ok(()) } else { Err(FetchError::OtherSize { expected, found: found.total }) };
        }
        let mut known = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        let facts = known.entry(name.to_owned()).or_insert_with(|| found.clone());
        if facts.total != found.total {
            return Err(FetchError::Changed { what: "length", expected: facts.total.to_string(), found: found.total.to_string() });
        }
        match (&facts.tag, &found.tag) {
            (Some(expected), Some(found)) if expected != found => {
                Err(FetchError::Changed { what: "entity tag", expected: expected.clone(), found: found.clone() })
            }
            _ => Ok(()),
        }
    }
}

/// What went wrong since a range last got on.
#[derive(Debug, Default)]
struct Trouble {
    /// Since when, and how often.
    outage: Option<(Duration, u32)>,
    wrong: u32,
}

impl Trouble {
    /// How long to wait before the next attempt; `None`: there is none.
    fn wait(&mut self, hope: Hope, retry_after: Option<Duration>, pace: &dyn Pace, patience: &Patience) -> Option<Duration> {
        match hope {
            Hope::None => return None,
            Hope::Doubtful => {
                self.wrong = self.wrong.saturating_add(1);
                if self.wrong >= WRONG {
                    return None;
                }
            }
            Hope::Passing => {}
        }
        let (since, failures) = self.outage.unwrap_or((pace.elapsed(), 0));
        self.outage = Some((since, failures.saturating_add(1)));
        outage_wait(pace, patience, since, failures, retry_after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::tests::Scripted;

    const PATIENCE: Patience = Patience { outage: Duration::from_secs(10), denial: Waiting::No };

    #[test]
    fn an_outage_is_waited_out_with_full_jitter_and_as_the_storage_asks() {
        let (pace, mut trouble) = (Scripted::new(1.0), Trouble::default());
        let mut wait = |retry_after| {
            let wait = trouble.wait(Hope::Passing, retry_after, &pace, &PATIENCE);
            wait.inspect(|wait| pace.sleep(*wait)).map(|wait| wait.as_millis())
        };
        assert_eq!([wait(None), wait(None)], [Some(500), Some(1000)]);
        assert_eq!(wait(Some(Duration::from_secs(3))), Some(5000));
        assert_eq!(wait(None), None, "6.5 s are over, and the next bound is 4 s");
    }

    #[test]
    fn a_storage_that_asks_for_more_than_patience_is_not_waited_for() {
        let (pace, mut trouble) = (Scripted::new(0.0), Trouble::default());
        assert_eq!(trouble.wait(Hope::Passing, Some(Duration::from_secs(10)), &pace, &PATIENCE), Some(Duration::from_secs(10)));
        assert_eq!(Trouble::default().wait(Hope::Passing, Some(Duration::from_secs(11)), &pace, &PATIENCE), None);
    }

    #[test]
    fn a_wrong_answer_is_asked_for_again_twice_and_what_does_not_change_never() {
        let (pace, mut trouble) = (Scripted::new(0.0), Trouble::default());
        let mut wait = |hope| trouble.wait(hope, None, &pace, &PATIENCE).is_some();
        assert_eq!([wait(Hope::Doubtful), wait(Hope::Passing), wait(Hope::Doubtful), wait(Hope::Doubtful)], [true, true, true, false]);
        assert!(!wait(Hope::None));
    }
}
