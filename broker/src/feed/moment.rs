//! The feed's own time. A wall clock is set, and may have run ahead for days before it is; nothing here may wait for as long as that.

use std::time::Duration;

use protocol::time::UnixTime;

/// How much older than another the time of a later call may be: whoever reads the clock first may come second.
const DISORDER: Duration = Duration::from_secs(10);

/// A point in the feed's own time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// This moment plus `duration`.
    #[must_use]
    pub const fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_secs()))
    }

    /// How long `earlier` lies before this; zero where it does not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }
}

/// Makes moments of the times that the feed is told. A wall clock that goes forward takes them along, by however much: a machine that
/// slept has slept. One that is set back leaves them where they are, and from there they go on with it.
#[derive(Debug, Default)]
pub struct Passage {
    told: Option<UnixTime>,
    now: Moment,
}

impl Passage {
    /// The moment of a call that was told this time.
    pub fn moment(&mut self, at: UnixTime) -> Moment {
        let told = self.told.unwrap_or(at);
        self.now = self.now.plus(at.since(told));
        self.told = Some(if told.since(at) > DISORDER { at } else { told.max(at) });
        self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_with_a_clock_that_goes_forward_and_never_goes_back() {
        let mut passage = Passage::default();
        let mut moments = |times: &[u64]| times.iter().map(|at| passage.moment(UnixTime::from_seconds(*at)).0).collect::<Vec<_>>();
        assert_eq!(moments(&[1000, 1000, 1007, 90_007]), [0, 0, 7, 89_007]);
        assert_eq!(moments(&[500, 501, 560]), [89_007, 89_008, 89_067], "set back, it goes on");
    }

    #[test]
    fn who_reads_the_clock_first_and_comes_second_makes_no_time_pass() {
        let mut passage = Passage::default();
        for at in [1000, 999, 1000, 990, 1000, 995, 1000] {
            assert_eq!(passage.moment(UnixTime::from_seconds(at)), Moment(0), "{at}");
        }
        assert_eq!(passage.moment(UnixTime::from_seconds(1001)), Moment(1));
    }
}
