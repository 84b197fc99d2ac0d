//! The one place that reads the clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use protocol::time::UnixTime;

/// Now. A clock before 1970 counts as 1970: no certificate holds then, so everything is refused.
pub(crate) fn now() -> UnixTime {
    UnixTime::from_seconds(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// A clock that never goes back, for rates and intervals.
pub(crate) fn monotonic() -> Instant {
    Instant::now()
}
