//! Points in time, as arguments: this crate never reads a clock.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Whole seconds since 1970-01-01T00:00:00Z. In text: RFC 3339, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(u64);

/// The latest time that has an RFC 3339 form: 9999-12-31T23:59:59Z.
const LATEST: u64 = 253_402_300_799;

impl UnixTime {
    /// From seconds since 1970. Later than the year 9999 is cut to its last second, so that every value has a text form.
    #[must_use]
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(if seconds > LATEST { LATEST } else { seconds })
    }

    /// Seconds since 1970.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        self.0
    }

    /// This time plus `duration`, cut at the year 9999.
    #[must_use]
    pub const fn plus(self, duration: Duration) -> Self {
        Self::from_seconds(self.0.saturating_add(duration.as_secs()))
    }

    /// How long `earlier` lies before this; zero where it does not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }

    /// Reads RFC 3339. Offsets are allowed; the result is UTC, cut to whole seconds.
    ///
    /// # Errors
    /// [`BadTime`] for anything else, and for times before 1970.
    pub fn parse(text: &str) -> Result<Self, BadTime> {
        let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| BadTime)?;
        u64::try_from(time.unix_timestamp()).map(Self::from_seconds).map_err(|_| BadTime)
    }
}

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = i64::try_from(self.0)
            .ok()
            .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
            .and_then(|time| time.format(&Rfc3339).ok());
        f.write_str(text.as_deref().unwrap_or("9999-12-31T23:59:59Z"))
    }
}

impl Serialize for UnixTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UnixTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

/// Not an RFC 3339 time since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 time at or after 1970")]
pub struct BadTime;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_seconds_agree() {
        let time = UnixTime::parse("2026-11-23T18:00:00Z").unwrap();
        assert_eq!(time.to_string(), "2026-11-23T18:00:00Z");
        assert_eq!(UnixTime::parse("2026-11-23T19:00:00+01:00").unwrap(), time);
        assert_eq!(UnixTime::parse("1969-12-31T23:59:59Z"), Err(BadTime));
        assert_eq!(UnixTime::parse("yesterday"), Err(BadTime));
        assert_eq!(UnixTime::from_seconds(u64::MAX).to_string(), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn a_fraction_of_a_second_is_cut_off_and_never_rounded_up() {
        let whole = UnixTime::parse("2026-11-23T18:00:00Z").unwrap();
        for fraction in ["0", "5", "999", "999999", "999999999"] {
            assert_eq!(UnixTime::parse(&format!("2026-11-23T18:00:00.{fraction}Z")), Ok(whole), "{fraction}");
        }
        for bad in ["2026-11-23T18:00:00.Z", "2026-11-23T18:00:00,5Z", "2026-11-23T18:00:00.5", "2026-11-23T18:00Z"] {
            assert_eq!(UnixTime::parse(bad), Err(BadTime), "{bad}");
        }
        assert_eq!(UnixTime::parse("1969-12-31T23:59:59.999999999Z"), Err(BadTime));
        assert_eq!(UnixTime::parse("1970-01-01T00:00:00.5Z"), Ok(UnixTime::from_seconds(0)));
    }

    #[test]
    fn february_has_29_days_in_a_leap_year_alone() {
        let day = |date: &str| UnixTime::parse(&format!("{date}T00:00:00Z")).map(UnixTime::seconds);
        assert_eq!((day("2024-02-29"), day("2024-03-01")), (Ok(1_709_164_800), Ok(1_709_251_200)));
        assert_eq!((day("2023-02-28"), day("2023-03-01")), (Ok(1_677_542_400), Ok(1_677_628_800)));
        // Every fourth year, but not every hundredth, but every four hundredth.
        assert_eq!(day("2000-02-29"), Ok(951_782_400));
        assert_eq!(day("2100-03-01").unwrap() - day("2100-02-28").unwrap(), 86_400);
        for none in ["2023-02-29", "2100-02-29", "2024-02-30", "2024-04-31", "2024-13-01", "2024-00-01", "2024-01-00"] {
            assert_eq!(day(none), Err(BadTime), "{none}");
        }
    }
}
