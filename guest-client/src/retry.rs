//! When to try again. An outage is retried soon and ever more slowly, with full jitter, and as the broker's `Retry-After` asks;
//! a denial is an answer, and is retried slowly and only where somebody asked to wait for a better one.
//!
//! Time is an argument here: [`Pace`] sleeps, measures and draws lots, and tests put their own in its place.

use std::time::{Duration, Instant};

use protocol::ids::random_bytes;

/// Sleeping, elapsed time, and chance.
pub trait Pace: Send + Sync {
    /// How long it has been since the beginning.
    fn elapsed(&self) -> Duration;
    /// Waits.
    fn sleep(&self, duration: Duration);
    /// A random duration from zero to `bound`.
    fn below(&self, bound: Duration) -> Duration;
}

/// The machine's own.
pub struct SystemPace(Instant);

impl SystemPace {
    /// Beginning now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }
}

impl Pace for SystemPace {
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }

    fn below(&self, bound: Duration) -> Duration {
        // Without random bytes the wait is half the bound: jitter spreads load and decides nothing.
        let share = random_bytes::<4>().map_or(0.5, |bytes| f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX));
        bound.mul_f64(share)
    }
}

/// How an attempt ended. Each carries the result that stands if nothing is tried again.
#[derive(Debug, PartialEq, Eq)]
pub enum Attempt<T> {
    /// It succeeded, or failed in a way that trying again does not change.
    Finished(T),
    /// Nobody answered, or somebody asked to come back later, perhaps after a certain time.
    Outage(T, Option<Duration>),
    /// The answer is no.
    Denied(T),
}

/// The first wait in an outage is below this; each later one is below twice the last bound.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
/// No wait in an outage is above this, unless the broker asks for more.
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// A denial's wait is this share longer or shorter, so that a fleet that was denied together does not return together.
const DENIAL_JITTER: f64 = 0.2;

/// How long to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// An outage is retried until this long after its first failure. Zero: not at all.
    pub outage: Duration,
    /// What to do about a denial.
    pub denial: Waiting,
}

/// What to do about a denial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// Take it for an answer.
    No,
    /// Ask again at about this interval.
    Every {
        /// The mean interval.
        interval: Duration,
        /// Until this long after the beginning; `None`: for ever.
        until: Option<Duration>,
    },
}

/// Why it is waited, for whoever watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nobody answered.
    Outage,
    /// The answer was no.
    Denial,
}

/// Tries until an attempt is finished or patience ends, and gives the last result. `waiting` learns of each wait before it begins.
pub fn persist<T>(
    pace: &dyn Pace,
    patience: &Patience,
    mut attempt: impl FnMut() -> Attempt<T>,
    mut waiting: impl FnMut(&T, Reason, Duration),
) -> T {
    let mut outage: Option<(Duration, u32)> = None;
    loop {
        let (result, reason, wait) = match attempt() {
            Attempt::Finished(result) => return result,
            Attempt::Outage(result, after) => {
                let (since, failures) = outage.unwrap_or((pace.elapsed(), 0));
                outage = Some((since, failures.saturating_add(1)));
                match outage_wait(pace, patience, since, failures, after) {
                    Some(wait) => (result, Reason::Outage, wait),
                    None => return result,
                }
            }
            Attempt::Denied(result) => {
                outage = None;
                match denial_wait(pace, patience) {
                    Some(wait) => (result, Reason::Denial, wait),
                    None => return result,
                }
            }
        };
        waiting(&result, reason, wait);
        pace.sleep(wait);
    }
}

/// Full jitter under a doubling bound; on top of it what the broker asks for.
pub(crate) fn outage_wait(
    pace: &dyn Pace,
    patience: &Patience,
    since: Duration,
    failures: u32,
    after: Option<Duration>,
) -> Option<Duration> {
    let bound = FIRST_BACKOFF.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST_BACKOFF);
    let wait = after.unwrap_or_default().saturating_add(pace.below(bound));
    let end = since.saturating_add(patience.outage);
    (pace.elapsed().saturating_add(wait) <= end && !patience.outage.is_zero()).then_some(wait)
}

fn denial_wait(pace: &dyn Pace, patience: &Patience) -> Option<Duration> {
    let Waiting::Every { interval, until } = patience.denial else { return None };
    let wait = interval.mul_f64(1.0 - DENIAL_JITTER).saturating_add(pace.below(interval.mul_f64(2.0 * DENIAL_JITTER)));
    until.is_none_or(|until| pace.elapsed().saturating_add(wait) <= until).then_some(wait)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Sleeps at once and remembers for how long; its lots always come out as the same share of the bound.
    pub(crate) struct Scripted {
        pub(crate) slept: Mutex<Vec<Duration>>,
        share: f64,
    }

    impl Scripted {
        pub(crate) fn new(share: f64) -> Self {
            Self { slept: Mutex::default(), share }
        }

        fn millis(&self) -> Vec<u128> {
            self.slept.lock().unwrap().iter().map(Duration::as_millis).collect()
        }
    }

    impl Pace for Scripted {
        fn elapsed(&self) -> Duration {
            self.slept.lock().unwrap().iter().sum()
        }
        fn sleep(&self, duration: Duration) {
            self.slept.lock().unwrap().push(duration);
        }
        fn below(&self, bound: Duration) -> Duration {
            bound.mul_f64(self.share)
        }
    }

    const PATIENCE: Patience = Patience { outage: Duration::from_secs(60), denial: Waiting::No };

    /// Runs a script of attempts, and fails the test if more are made.
    fn run(pace: &Scripted, patience: &Patience, script: Vec<Attempt<u32>>) -> (u32, Vec<Reason>) {
        let mut script = script.into_iter();
        let mut reasons = Vec::new();
        let result = persist(pace, patience, || script.next().expect("no further attempt"), |_, reason, _| reasons.push(reason));
        assert!(script.next().is_none(), "fewer attempts than expected");
        (result, reasons)
    }

    #[test]
    fn an_outage_is_waited_out_under_a_doubling_bound_with_full_jitter() {
        let outages = |count| (0..count).map(|_| Attempt::Outage(0, None)).chain([Attempt::Finished(7)]).collect::<Vec<_>>();
        let (late, half, none) = (Scripted::new(1.0), Scripted::new(0.5), Scripted::new(0.0));
        assert_eq!(run(&late, &PATIENCE, outages(5)).0, 7);
        assert_eq!(late.millis(), [500, 1000, 2000, 4000, 8000]);
        assert_eq!(run(&half, &PATIENCE, outages(3)).0, 7);
        assert_eq!(half.millis(), [250, 500, 1000]);
        assert_eq!(run(&none, &PATIENCE, outages(3)).0, 7);
        assert_eq!(none.millis(), [0, 0, 0]);
    }

    #[test]
    fn the_bound_stops_doubling() {
        let pace = Scripted::new(1.0);
        let patience = Patience { outage: Duration::from_secs(1000), ..PATIENCE };
        run(&pace, &patience, (0..9).map(|_| Attempt::Outage(0, None)).chain([Attempt::Finished(1)]).collect());
        assert_eq!(pace.millis(), [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]);
    }

    #[test]
    fn the_broker_is_left_alone_for_as_long_as_it_asks() {
        let pace = Scripted::new(0.5);
        run(&pace, &PATIENCE, vec![Attempt::Outage(0, Some(Duration::from_secs(9))), Attempt::Finished(1)]);
        assert_eq!(pace.millis(), [9250]);
    }

    #[test]
    fn an_outage_ends_patience_and_the_last_failure_stands() {
        let pace = Scripted::new(1.0);
        let patience = Patience { outage: Duration::from_secs(3), ..PATIENCE };
        let script = vec![Attempt::Outage(1, None), Attempt::Outage(2, None), Attempt::Outage(3, None)];
        assert_eq!(run(&pace, &patience, script), (3, vec![Reason::Outage; 2]));
        let asked = Scripted::new(0.0);
        assert_eq!(run(&asked, &patience, vec![Attempt::Outage(1, Some(Duration::from_secs(4)))]).0, 1);
        let never = Patience { outage: Duration::ZERO, ..PATIENCE };
        assert_eq!(run(&Scripted::new(0.0), &never, vec![Attempt::Outage(1, None)]).0, 1);
    }

    #[test]
    fn an_outage_after_a_denial_is_a_new_outage() {
        let pace = Scripted::new(1.0);
        let every = Waiting::Every { interval: Duration::from_secs(60), until: None };
        let patience = Patience { denial: every, ..PATIENCE };
        let script =
            vec![Attempt::Outage(0, None), Attempt::Outage(0, None), Attempt::Denied(0), Attempt::Outage(0, None), Attempt::Finished(1)];
        let (_, reasons) = run(&pace, &patience, script);
        assert_eq!(pace.millis(), [500, 1000, 72000, 500]);
        assert_eq!(reasons, [Reason::Outage, Reason::Outage, Reason::Denial, Reason::Outage]);
    }

    #[test]
    fn a_denial_is_an_answer_unless_somebody_waits_for_a_better_one() {
        let pace = Scripted::new(0.5);
        assert_eq!(run(&pace, &PATIENCE, vec![Attempt::Denied(3)]).0, 3);
        assert!(pace.millis().is_empty());
    }

    #[test]
    fn a_denial_is_retried_slowly_and_spread_out_until_the_end_of_waiting() {
        let every = Waiting::Every { interval: Duration::from_secs(60), until: Some(Duration::from_secs(100)) };
        let patience = Patience { denial: every, ..PATIENCE };
        for (share, expected) in [(0.0, vec![48000, 48000]), (0.5, vec![60000]), (1.0, vec![72000])] {
            let pace = Scripted::new(share);
            run(&pace, &patience, (0..=expected.len()).map(|_| Attempt::Denied(0)).collect());
            assert_eq!(pace.millis(), expected);
        }
    }

    #[test]
    fn the_machines_own_chance_stays_within_its_bound() {
        let pace = SystemPace::start();
        let bound = Duration::from_millis(10);
        let draws: std::collections::HashSet<_> = (0..64).map(|_| pace.below(bound)).collect();
        assert!(draws.iter().all(|draw| *draw <= bound));
        assert!(draws.len() > 32, "64 draws gave {} values", draws.len());
    }
}
