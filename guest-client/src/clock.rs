//! The one module that reads clocks. A guest's clock is under its host's influence: what hangs on it is whether a certificate or a lease
//! still holds, and nothing that a nonce or a digest decides.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use protocol::time::UnixTime;
use rustix::time::{ClockId, clock_gettime};

/// Now, to the second. A clock set before 1970 reads as 1970: every certificate is then refused.
#[must_use]
pub fn now() -> UnixTime {
    UnixTime::from_seconds(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// One moment by two clocks: the wall's, which can be set back, and the time since boot, suspension included, which cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The wall clock.
    pub wall: UnixTime,
    /// Since boot (`CLOCK_BOOTTIME`).
    pub boot: Duration,
}

/// Now, by both clocks.
#[must_use]
pub fn moment() -> Moment {
    let boot = clock_gettime(ClockId::Boottime);
    Moment { wall: now(), boot: Duration::from_secs(u64::try_from(boot.tv_sec).unwrap_or(0)) }
}
