//! The one place that reads the clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use protocol::time::UnixTime;

/// Now. A clock before 1970 counts as 1970: no certificate holds then, so everything is refused.
pub(crate) fn now() -> UnixTime {
    UnixTime::from_seconds(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// A time that somebody names: RFC 3339 in UTC, or a day, which stands for its first second.
pub(crate) fn moment(text: &str) -> Result<UnixTime, String> {
    let time = UnixTime::parse(text).or_else(|error| UnixTime::parse(&format!("{text}T00:00:00Z")).map_err(|_| error));
    time.map_err(|_| "expected a day or a time in UTC, such as 2026-12-24 or 2026-12-24T08:00:00Z".to_owned())
}

/// A clock that never goes back, for rates and intervals.
pub(crate) fn monotonic() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_stands_for_its_first_second() {
        assert_eq!(moment("2025-06-20"), moment("2025-06-20T00:00:00Z"));
        assert_eq!(moment("2025-06-20").unwrap().to_string(), "2025-06-20T00:00:00Z");
        for bad in ["", "2025", "2025-06", "2025-6-2", "2025-02-30", "20250620", "yesterday", "2025-06-20 08:00", "2025-06-20T08:00"] {
            assert!(moment(bad).unwrap_err().contains("such as 2026-12-24"), "{bad}");
        }
    }
}
