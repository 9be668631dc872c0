//! `--filter key=value`: which keys each verb knows, and how a value is compared (Docker's package `filters`).
//!
//! What a key means (`dangling`, `ancestor` …) is the verb's; here is only what all of them share. Several values of
//! one key are alternatives, except labels, which must all be there; several keys must all hold.

use crate::{ErrorKind, Kind, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

/// Keys of `ps`.
pub const CONTAINERS: &[&str] = &[
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];
/// Keys of `container prune`.
pub const CONTAINER_PRUNE: &[&str] = &["label", "label!", "until"];
/// Keys of `images`.
pub const IMAGES: &[&str] = &["before", "dangling", "label", "reference", "since", "until"];
/// Keys of `image prune`.
pub const IMAGE_PRUNE: &[&str] = &["dangling", "label", "label!", "until"];
/// Keys of `volume ls`.
pub const VOLUMES: &[&str] = &["dangling", "driver", "label", "name"];
/// Keys of `volume prune`.
pub const VOLUME_PRUNE: &[&str] = &["all", "label", "label!"];
/// Keys of `system prune`.
pub const SYSTEM_PRUNE: &[&str] = &["label", "label!", "until"];
/// Keys of `events`.
pub const EVENTS: &[&str] = &[
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

/// What was given with `--filter`, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, Vec<String>>);

/// A filter that the verb can't use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFilter {
    /// No `=` in it.
    #[error("invalid filter '{0}': bad format of filter (expected name=value)")]
    Format(String),
    /// The verb has no such key.
    #[error("invalid filter '{0}'")]
    Key(String),
    /// The key doesn't take this value.
    #[error("invalid filter '{key}=[{}]'", values.join(" "))]
    Value {
        /// The key.
        key: String,
        /// All values given for it.
        values: Vec<String>,
    },
    /// `until` is given more than once.
    #[error("more than one until filter specified")]
    UntilTwice,
}

impl Kind for InvalidFilter {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

impl Filters {
    /// Reads the arguments of `--filter`. `allowed` is one of this module's lists.
    pub fn parse<S: AsRef<str>>(arguments: &[S], allowed: &[&str]) -> Result<Self, InvalidFilter> {
        let mut filters = Self::default();
        for argument in arguments.iter().map(AsRef::as_ref).filter(|argument| !argument.is_empty()) {
            let (key, value) = argument.split_once('=').ok_or_else(|| InvalidFilter::Format(argument.to_owned()))?;
            let key = key.trim().to_ascii_lowercase();
            if !allowed.contains(&key.as_str()) {
                return Err(InvalidFilter::Key(key));
            }
            filters.add(&key, value.trim());
        }
        Ok(filters)
    }

    /// Adds one value, unchecked: for what a flag of its own says (`prune --all`).
    pub fn add(&mut self, key: &str, value: &str) {
        let values = self.0.entry(key.to_owned()).or_default();
        if !values.iter().any(|present| present == value) {
            values.push(value.to_owned());
        }
    }

    /// Whether nothing was given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `key` was given.
    pub fn contains(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// The values given for `key`; none when it wasn't.
    pub fn values(&self, key: &str) -> &[String] {
        self.0.get(key).map(Vec::as_slice).unwrap_or_default()
    }

    /// The one boolean given for `key` (`true`, `1`, `false`, `0`), or None. Both at once are an error, as in Docker.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>, InvalidFilter> {
        let values = self.values(key);
        let is_given = |texts: [&str; 2]| values.iter().any(|value| texts.contains(&value.as_str()));
        match (is_given(["true", "1"]), is_given(["false", "0"])) {
            _ if values.is_empty() => Ok(None),
            (true, false) => Ok(Some(true)),
            (false, true) => Ok(Some(false)),
            _ => Err(InvalidFilter::Value { key: key.to_owned(), values: values.to_vec() }),
        }
    }

    /// Whether `text` equals one of the values, or the key wasn't given (`driver=local`, `status=running`).
    pub fn equals(&self, key: &str, text: &str) -> bool {
        !self.contains(key) || self.values(key).iter().any(|value| value == text)
    }

    /// Whether one of the values, as a regular expression, is found in `text`, or the key wasn't given (`name`, `id`).
    /// A value that is no regular expression is looked for as it stands.
    pub fn matches(&self, key: &str, text: &str) -> bool {
        let is_found = |value: &String| {
            regex::Regex::new(value).map_or_else(|_| text.contains(value.as_str()), |regex| regex.is_match(text))
        };
        !self.contains(key) || self.values(key).iter().any(is_found)
    }

    /// Whether `labels` has all of `label=KEY` and `label=KEY=VALUE`, and not all of `label!=…`.
    pub fn matches_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|present| present == value),
            None => labels.contains_key(wanted),
        };
        let excluded = self.contains("label!") && self.values("label!").iter().all(has);
        self.values("label").iter().all(has) && !excluded
    }

    /// The point in time of `until`: RFC 3339, a date, seconds since 1970, or a duration before `now` (`24h`, `1h30m`).
    pub fn until(&self, now: Timestamp) -> Result<Option<Timestamp>, InvalidFilter> {
        match self.values("until") {
            [] => Ok(None),
            [value] => parse_moment(value, now)
                .map(Some)
                .ok_or_else(|| InvalidFilter::Value { key: "until".to_owned(), values: vec![value.clone()] }),
            _ => Err(InvalidFilter::UntilTwice),
        }
    }
}

/// A point in time as `--since`, `--until` and `until=` take it: RFC 3339 (also without zone, then UTC, or only the
/// date), seconds since 1970, or a duration before `now`.
pub fn parse_moment(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Some(duration) = parse_duration(text) {
        let nanos = now.nanos() - i128::try_from(duration.as_nanos()).ok()?;
        return Timestamp::from_seconds(i64::try_from(nanos.div_euclid(1_000_000_000)).ok()?);
    }
    let zoned = || Timestamp::parse(&format!("{text}Z"));
    let date = || Timestamp::parse(&format!("{text}T00:00:00Z"));
    let seconds = || Timestamp::from_seconds(text.split('.').next()?.parse().ok()?);
    seconds().or_else(|| Timestamp::parse(text)).or_else(zoned).or_else(date)
}

/// Go's durations, positive ones only: `90s`, `1h30m`, `1.5h`, `300ms`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 7] =
        [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let (_, seconds) = UNITS.iter().find(|(unit, _)| *unit == &rest[..unit_end])?;
        total += number * seconds;
        rest = &rest[unit_end..];
    }
    // A text of no parts is no duration; one too large for Go's 64-bit nanoseconds isn't either.
    (!text.is_empty() && total < 9.2e9).then(|| Duration::from_secs_f64(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(arguments: &[&str]) -> Filters {
        let all: Vec<&str> = [CONTAINERS, CONTAINER_PRUNE, VOLUMES].concat();
        Filters::parse(arguments, &all).unwrap()
    }

    #[test]
    fn refuses_in_dockers_words() {
        for (argument, message) in [
            ("x", "invalid filter 'x': bad format of filter (expected name=value)"),
            ("x=1", "invalid filter 'x'"),
            ("=1", "invalid filter ''"),
            ("until=1h", "invalid filter 'until'"),
        ] {
            assert_eq!(Filters::parse(&[argument], VOLUMES).unwrap_err().to_string(), message);
        }
        assert!(Filters::parse(&["", " Dangling = true "], VOLUMES).unwrap().boolean("dangling").unwrap().unwrap());
    }

    #[test]
    fn booleans_are_true_false_1_and_0() {
        for (arguments, expected) in [
            (&[][..], Ok(None)),
            (&["dangling=true"], Ok(Some(true))),
            (&["dangling=1", "dangling=true"], Ok(Some(true))),
            (&["dangling=0"], Ok(Some(false))),
            (&["dangling=yes"], Err("invalid filter 'dangling=[yes]'")),
            (&["dangling=1", "dangling=0"], Err("invalid filter 'dangling=[1 0]'")),
        ] {
            let found = filters(arguments).boolean("dangling").map_err(|error| error.to_string());
            assert_eq!(found, expected.map_err(str::to_owned));
        }
    }

    #[test]
    fn names_match_as_regular_expressions() {
        for (arguments, name, expected) in [
            (&[][..], "db", true),
            (&["name=b"], "db", true),
            (&["name=^b"], "db", false),
            (&["name=^db$", "name=web"], "web1", true),
            (&["name=(("], "a((b", true),
            (&["name=(("], "ab", false),
        ] {
            assert_eq!(filters(arguments).matches("name", name), expected, "{arguments:?} {name}");
        }
        assert!(filters(&["driver=local"]).equals("driver", "local"));
        assert!(!filters(&["driver=loc"]).equals("driver", "local"));
    }

    #[test]
    fn labels_must_all_be_there() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())]);
        for (arguments, expected) in [
            (&[][..], true),
            (&["label=a"], true),
            (&["label=a=1", "label=b"], true),
            (&["label=a=2"], false),
            (&["label=a", "label=c"], false),
            (&["label=b="], true),
            (&["label!=a"], false),
            (&["label!=a", "label!=c"], true),
            (&["label!=c=1"], true),
        ] {
            assert_eq!(filters(arguments).matches_labels(&labels), expected, "{arguments:?}");
        }
    }

    #[test]
    fn until_takes_times_and_durations() {
        let now = Timestamp::parse("2026-01-02T00:00:00Z").unwrap();
        for (value, expected) in [
            ("24h", Some("2026-01-01T00:00:00Z")),
            ("1h30m", Some("2026-01-01T22:30:00Z")),
            ("1.5h", Some("2026-01-01T22:30:00Z")),
            ("0", Some("2026-01-02T00:00:00Z")),
            ("1767225600", Some("2026-01-01T00:00:00Z")),
            ("2025-12-31", Some("2025-12-31T00:00:00Z")),
            ("2025-12-31T12:00:00", Some("2025-12-31T12:00:00Z")),
            ("2025-12-31T12:00:00+01:00", Some("2025-12-31T11:00:00Z")),
            ("soon", None),
            ("h", None),
            ("1h2", None),
        ] {
            let found = filters(&[&format!("until={value}")]).until(now);
            assert_eq!(found.ok().flatten().map(Timestamp::to_seconds_string).as_deref(), expected, "{value}");
        }
    }
}
