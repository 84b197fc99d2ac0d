//! What others can make happen as often as they like is counted, and told once a second: else they would write the log.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One code is told once in this time.
const EVERY: Duration = Duration::from_secs(1);

/// What was told last of each code.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<BTreeMap<&'static str, Told>>);

#[derive(Debug)]
struct Told {
    at: Instant,
    untold: u64,
}

impl Seldom {
    /// It has happened. If it is to be told now: how often it has since it was told last, this time not counted.
    pub fn happened(&self, code: &'static str, now: Instant) -> Option<u64> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match told.get_mut(code) {
            Some(last) if now.saturating_duration_since(last.at) < EVERY => {
                last.untold = last.untold.saturating_add(1);
                None
            }
            last => {
                let untold = last.map_or(0, |last| last.untold);
                told.insert(code, Told { at: now, untold: 0 });
                Some(untold)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_is_told_once_a_second_with_how_often_it_was_not() {
        let (seldom, start) = (Seldom::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(seldom.happened("caller-user", at(0)), Some(0));
        assert_eq!((0..1000).filter_map(|millis| seldom.happened("caller-user", at(millis))).count(), 0);
        assert_eq!(seldom.happened("caller-cgroup", at(999)), Some(0), "another is another matter");
        assert_eq!(seldom.happened("caller-user", at(1000)), Some(1000));
        assert_eq!(seldom.happened("caller-user", at(5000)), Some(0));
    }
}
