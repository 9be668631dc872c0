//! Points in time, as Docker writes them (RFC 3339 with nanoseconds, UTC).

use serde::{Deserialize, Serialize};
use std::fmt;

/// A point in time with nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(jiff::Timestamp);

impl Timestamp {
    /// What Go, and so Docker, writes for "never": the first instant of year 1.
    pub const NEVER: &'static str = "0001-01-01T00:00:00Z";

    /// The system's clock.
    pub fn now() -> Self {
        Self(jiff::Timestamp::now())
    }

    /// Seconds since 1970; negative before.
    pub fn from_seconds(seconds: i64) -> Option<Self> {
        jiff::Timestamp::from_second(seconds).ok().map(Self)
    }

    /// Seconds since 1970; negative before.
    pub fn seconds(self) -> i64 {
        self.0.as_second()
    }

    /// Nanoseconds within the second.
    pub fn subsecond_nanos(self) -> i32 {
        self.0.subsec_nanosecond()
    }

    /// Whole nanoseconds since 1970.
    pub fn nanos(self) -> i128 {
        self.0.as_nanosecond()
    }

    /// How long ago this was; zero when it lies ahead.
    pub fn elapsed(self) -> std::time::Duration {
        let nanos = jiff::Timestamp::now().as_nanosecond() - self.nanos();
        std::time::Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
    }

    /// RFC 3339 as read from an image's config or a flag.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }

    /// With whole seconds, as `volume inspect` shows CreatedAt.
    pub fn to_seconds_string(self) -> String {
        self.0.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// In the local time zone, as tables show CreatedAt (`2026-01-02 15:04:05 +0000 UTC`).
    pub fn to_local_string(self) -> String {
        self.0.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()
    }
}

/// RFC 3339 with nine decimals, as `inspect` and `logs -t` show it.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.strftime("%Y-%m-%dT%H:%M:%S.%9fZ"))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("invalid time {text:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_nine_decimals_and_reads_them_back() {
        let time = Timestamp::parse("2026-01-02T03:04:05.006Z").unwrap();
        assert_eq!(time.to_string(), "2026-01-02T03:04:05.006000000Z");
        assert_eq!(Timestamp::parse(&time.to_string()), Some(time));
        assert_eq!(time.to_seconds_string(), "2026-01-02T03:04:05Z");
        assert_eq!(Timestamp::from_seconds(-1).unwrap().to_seconds_string(), "1969-12-31T23:59:59Z");
    }
}
