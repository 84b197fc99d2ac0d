//! The one module that reads the clock. Everything else is told the time.

use protocol::time::UnixTime;
use std::time::{SystemTime, UNIX_EPOCH};

/// Now, to the second. A clock set before 1970 reads as 1970: every certificate and challenge is then refused.
#[must_use]
pub fn now() -> UnixTime {
    UnixTime::from_seconds(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}
