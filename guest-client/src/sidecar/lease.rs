//! A lease: how long the broker's last permit holds: for a version of a model, for a credential, for an identity.
//!
//! The broker says until which second. The guest's wall clock can be set back by its host, so a lease also ends when as much time has
//! passed since boot as there was left when it began. Whichever comes first ends it.

use std::time::Duration;

use protocol::time::UnixTime;
use serde::{Serialize, Serializer};

use crate::clock::Moment;

/// The broker's last permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The last second at which it holds.
    until: UnixTime,
    /// The same as time since boot.
    boot: Duration,
    /// How long it was when it began.
    whole: Duration,
}

impl Lease {
    /// From `at` until the second `until`.
    #[must_use]
    pub const fn new(until: UnixTime, at: Moment) -> Self {
        let whole = until.since(at.wall);
        Self { until, boot: at.boot.saturating_add(whole), whole }
    }

    /// What the permit of an answer makes of the lease that there is, if there is one.
    #[must_use]
    pub fn after(held: Option<Self>, until: UnixTime, at: Moment) -> Self {
        held.map_or_else(|| Self::new(until, at), |held| held.renewed(until, at))
    }

    /// One that an earlier life of this sidecar noted. It ends no later than noted, and no later than one that began now.
    #[must_use]
    pub fn noted(until: UnixTime, boot: Duration, at: Moment) -> Self {
        let fresh = Self::new(until, at);
        Self { boot: boot.min(fresh.boot), ..fresh }
    }

    /// The last second at which it holds.
    #[must_use]
    pub const fn until(&self) -> UnixTime {
        self.until
    }

    /// The last second since boot at which it holds.
    #[must_use]
    pub const fn boot(&self) -> Duration {
        self.boot
    }

    /// Whether it has run out.
    #[must_use]
    pub fn is_over(&self, at: Moment) -> bool {
        at.wall > self.until || at.boot > self.boot
    }

    /// How long there is until half of it is over.
    #[must_use]
    pub fn until_half(&self, at: Moment) -> Duration {
        self.until.since(at.wall).min(self.boot.saturating_sub(at.boot)).saturating_sub(self.whole / 2)
    }

    /// Seconds until it runs out, negative behind that.
    #[must_use]
    pub fn seconds_left(&self, at: Moment) -> i64 {
        let difference = |later: u64, earlier: u64| i64::try_from(i128::from(later) - i128::from(earlier)).unwrap_or(i64::MAX);
        difference(self.until.seconds(), at.wall.seconds()).min(difference(self.boot.as_secs(), at.boot.as_secs()))
    }

    /// The same, over: the last second at which it holds is the one before `at`.
    #[must_use]
    pub fn ended(self, at: Moment) -> Self {
        let until = UnixTime::from_seconds(at.wall.seconds().saturating_sub(1));
        Self { until: until.min(self.until), boot: self.boot.min(at.boot), ..self }
    }

    /// The permit of a later answer. One that ends at the same second is the same lease: half of it is over when it was.
    #[must_use]
    pub fn renewed(self, until: UnixTime, at: Moment) -> Self {
        if self.until == until { self } else { Self::new(until, at) }
    }
}

/// As the second at which it ends.
impl Serialize for Lease {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.until.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(wall: u64, boot: u64) -> Moment {
        Moment { wall: UnixTime::from_seconds(wall), boot: Duration::from_secs(boot) }
    }

    fn lease() -> Lease {
        Lease::new(UnixTime::from_seconds(1600), at(1000, 50))
    }

    #[test]
    fn a_lease_holds_through_its_last_second_by_both_clocks() {
        assert!(!lease().is_over(at(1600, 650)));
        assert!(lease().is_over(at(1601, 650)), "the wall clock ends it");
        assert!(lease().is_over(at(1000, 651)), "a wall clock that was set back does not prolong it");
        assert_eq!((lease().seconds_left(at(1000, 50)), lease().seconds_left(at(1000, 651))), (600, -1));
    }

    #[test]
    fn half_of_a_lease_is_half_of_what_it_was_when_it_began() {
        assert_eq!(lease().until_half(at(1000, 50)), Duration::from_secs(300));
        assert_eq!(lease().until_half(at(1299, 349)), Duration::from_secs(1));
        assert_eq!(lease().until_half(at(1000, 350)), Duration::ZERO);
        let same = lease().renewed(UnixTime::from_seconds(1600), at(1200, 250));
        assert_eq!(same, lease());
        assert_eq!(lease().renewed(UnixTime::from_seconds(1601), at(1200, 250)).whole, Duration::from_secs(401));
        assert_eq!(Lease::after(Some(lease()), UnixTime::from_seconds(1600), at(1200, 250)), lease());
        assert_eq!(Lease::after(None, UnixTime::from_seconds(1600), at(1000, 50)), lease());
    }

    #[test]
    fn a_lease_that_was_ended_is_over_at_once() {
        assert!(lease().ended(at(1100, 150)).is_over(at(1100, 150)));
        assert_eq!(lease().ended(at(1700, 750)).until(), UnixTime::from_seconds(1600), "what is over is not prolonged");
    }

    #[test]
    fn a_noted_lease_ends_as_noted_whatever_was_done_to_the_wall_clock_meanwhile() {
        assert_eq!(Lease::noted(UnixTime::from_seconds(1600), Duration::from_secs(650), at(1100, 150)).boot(), Duration::from_secs(650));
        // The wall clock was set back while nobody looked.
        assert!(Lease::noted(UnixTime::from_seconds(1600), Duration::from_secs(650), at(1000, 651)).is_over(at(1000, 651)));
        // A note from another boot: time since boot began anew.
        assert_eq!(
            Lease::noted(UnixTime::from_seconds(1600), Duration::from_secs(9_999_999), at(1500, 10)).boot(),
            Duration::from_secs(110)
        );
    }
}
