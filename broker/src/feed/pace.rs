//! When to fetch: again after a failure, and once more before a piece expires. Time and chance are arguments.

use std::time::Duration;

use protocol::ids::random_bytes;
use protocol::time::UnixTime;

/// The first wait after a failure is below this; each later one below twice the last bound.
const FIRST_BACKOFF: Duration = Duration::from_secs(10);
/// No wait after a failure is above this, unless the upstream asks for more.
const LONGEST_BACKOFF: Duration = Duration::from_secs(3600);
/// What an upstream may ask for at most: one that asks for more is taken to ask for this.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// How long an upstream that throttles, and does not say for how long, is left alone.
pub const THROTTLED: Duration = Duration::from_secs(60);
/// A piece is asked for anew at the latest after three quarters of this, however long it lives: news such as a revocation or a
/// TCB recovery does not wait for the old piece to expire.
const LONGEST_REST: Duration = Duration::from_secs(24 * 3600);
/// A piece is not asked for anew before this, however short its life.
const SHORTEST_REST: Duration = Duration::from_secs(60);

/// A share between zero and one, for jitter: it spreads load and decides nothing.
#[must_use]
pub fn chance() -> f64 {
    random_bytes::<4>().map_or(0.5, |bytes| f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX))
}

/// How long to wait after `failures` failures in a row: half of a doubling bound, and a share of the other half.
#[must_use]
pub fn backoff(failures: u32, chance: f64) -> Duration {
    let doubled = FIRST_BACKOFF.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
    let bound = doubled.min(LONGEST_BACKOFF);
    bound.mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0))
}

/// How long from `at` until a piece that came at one time and ends at another is asked for anew: after half to three quarters of its
/// life, or of a day. One that came in the future, by a clock that ran ahead then, came just now.
#[must_use]
pub fn rest(fetched_at: UnixTime, until: UnixTime, at: UnixTime, chance: f64) -> Duration {
    let came = fetched_at.min(at);
    let life = until.since(came).min(LONGEST_REST);
    came.plus(life.mul_f64(0.5 + 0.25 * chance.clamp(0.0, 1.0)).max(SHORTEST_REST)).since(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_waited_out_under_a_doubling_bound() {
        let seconds = |chance| (1..=11).map(|failures| backoff(failures, chance).as_secs()).collect::<Vec<_>>();
        assert_eq!(seconds(1.0), [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]);
        assert_eq!(seconds(0.0), [5, 10, 20, 40, 80, 160, 320, 640, 1280, 1800, 1800]);
        assert_eq!(backoff(u32::MAX, 1.0), LONGEST_BACKOFF);
    }

    #[test]
    fn a_piece_is_asked_for_anew_between_half_and_three_quarters_of_its_life_and_of_a_day() {
        let at = UnixTime::from_seconds;
        let rest = |life, chance| rest(at(1000), at(1000 + life), at(1000), chance).as_secs();
        assert_eq!((rest(4000, 0.0), rest(4000, 1.0)), (2000, 3000));
        let day = 86_400;
        assert_eq!((rest(30 * day, 0.0), rest(30 * day, 1.0)), (day / 2, day / 4 * 3));
        assert_eq!(rest(10, 1.0), 60);
        let now = |until, now| super::rest(at(1000), at(until), at(now), 1.0).as_secs();
        assert_eq!(now(10, 1000), 60, "what has expired is asked for again soon, not at once");
        assert_eq!((now(5000, 3000), now(5000, 4001)), (1000, 0), "part of it is over");
    }

    #[test]
    fn a_piece_that_came_in_the_future_is_asked_for_anew_as_if_it_came_now() {
        let (day, at) = (86_400, UnixTime::from_seconds);
        let rest = |fetched_at| rest(at(fetched_at), at(100 * day), at(day), 1.0).as_secs();
        assert_eq!((rest(60 * day), rest(day)), (day / 4 * 3, day / 4 * 3));
        assert_eq!(rest(day - 1), day / 4 * 3 - 1, "the near miss came a second ago");
    }

    #[test]
    fn chance_is_a_share() {
        assert!((0..100).map(|_| chance()).all(|share| (0.0..=1.0).contains(&share)));
    }
}
