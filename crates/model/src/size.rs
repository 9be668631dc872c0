//! Sizes and durations, read and written as Docker does (its library go-units).

use std::time::Duration;

/// A text that is not a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSize {
    /// No number in it, or a negative one.
    #[error("invalid size: '{0}'")]
    Size(String),
    /// The unit is not one of b, k, m, g, t, p.
    #[error("invalid suffix: '{0}'")]
    Suffix(String),
}

/// Bytes of `1g`, `512m`, `64k`, `1024`, `1.5GiB`: every unit is a power of 1024 (go-units `RAMInBytes`).
pub fn parse_bytes(text: &str) -> Result<u64, InvalidSize> {
    let invalid = || InvalidSize::Size(text.to_owned());
    let last = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ').ok_or_else(invalid)?;
    let number = text[..=last].strip_suffix(' ').unwrap_or(&text[..=last]);
    // Rust's floats also read `inf` and `1e5`; neither is a size.
    if !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(invalid());
    }
    let number: f64 = number.parse().map_err(|_| invalid())?;
    let bytes = number * unit(&text[last + 1..])?;
    // 2^63: Docker counts in signed 64-bit numbers, and so does the kernel's loff_t.
    if bytes >= 9_223_372_036_854_775_808.0 {
        return Err(invalid());
    }
    Ok(bytes as u64)
}

/// How many bytes one of `suffix` is.
fn unit(suffix: &str) -> Result<f64, InvalidSize> {
    let lower = suffix.to_ascii_lowercase();
    let bad = || InvalidSize::Suffix(lower.clone());
    let power = match lower.chars().next() {
        None => return Ok(1.0),
        Some('b') if lower.len() == 1 => return Ok(1.0),
        Some(letter) => "kmgtp".find(letter).ok_or_else(bad)?,
    };
    match &lower[1..] {
        "" | "b" | "ib" => Ok(1024_f64.powi(power as i32 + 1)),
        _ => Err(bad()),
    }
}

const DECIMAL: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
const BINARY: [&str; 9] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];

/// Decimal with four significant digits, as `system df` writes it: `1.235GB` (go-units `HumanSize`).
pub fn human(bytes: u64) -> String {
    scaled(bytes, 1000.0, &DECIMAL, 4)
}

/// Decimal with three significant digits, as `images` and `history` write it: `1.23GB`.
pub fn human_short(bytes: u64) -> String {
    scaled(bytes, 1000.0, &DECIMAL, 3)
}

/// Binary with four significant digits, as `info` and `stats` write memory: `1.952GiB` (go-units `BytesSize`).
pub fn human_binary(bytes: u64) -> String {
    scaled(bytes, 1024.0, &BINARY, 4)
}

fn scaled(bytes: u64, base: f64, units: &[&str], digits: usize) -> String {
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= base && unit + 1 < units.len() {
        size /= base;
        unit += 1;
    }
    // Docker writes 999,999 bytes with three digits as `1e+03kB`; the next unit says the same.
    if rounds_past(size, digits) && base == 1000.0 && unit + 1 < units.len() {
        size /= base;
        unit += 1;
    }
    format!("{}{}", significant(size, digits), units[unit])
}

/// Whether `size`, below 1000, becomes 1000 once rounded to `digits` digits.
fn rounds_past(size: f64, digits: usize) -> bool {
    significant(size, digits).starts_with("1000")
}

/// Go's `%.<digits>g` for the numbers that occur here: that many significant digits, no trailing zeros.
fn significant(size: f64, digits: usize) -> String {
    let whole = if size < 1.0 { 1 } else { size.log10().floor() as usize + 1 };
    let text = format!("{size:.*}", digits.saturating_sub(whole));
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// How long ago something was, without the `ago` (go-units `HumanDuration`).
pub fn human_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    let hours = (seconds + 1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sizes_as_docker_does() {
        for (text, bytes) in [
            ("1024", 1024),
            ("0", 0),
            ("64k", 64 << 10),
            ("64 kB", 64 << 10),
            ("512m", 512 << 20),
            ("512MiB", 512 << 20),
            ("1g", 1 << 30),
            ("1.5g", 3 << 29),
            (".5k", 512),
            ("1T", 1 << 40),
            ("3p", 3 << 50),
            ("32b", 32),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_size() {
        for (text, message) in [
            ("", "invalid size: ''"),
            ("g", "invalid size: 'g'"),
            ("-1g", "invalid size: '-1g'"),
            ("1e5", "invalid size: '1e5'"),
            ("1.2.3", "invalid size: '1.2.3'"),
            ("9000p", "invalid size: '9000p'"),
            ("1x", "invalid suffix: 'x'"),
            ("1kib2", "invalid size: '1kib2'"),
            ("1gbb", "invalid suffix: 'gbb'"),
            ("1bb", "invalid suffix: 'bb'"),
            ("1€", "invalid suffix: '€'"),
        ] {
            assert_eq!(parse_bytes(text).unwrap_err().to_string(), message, "{text}");
        }
    }

    #[test]
    fn writes_sizes_as_docker_does() {
        for (bytes, long, short, binary) in [
            (0, "0B", "0B", "0B"),
            (1, "1B", "1B", "1B"),
            (999, "999B", "999B", "999B"),
            (1000, "1kB", "1kB", "1000B"),
            (1023, "1.023kB", "1.02kB", "1023B"),
            (1024, "1.024kB", "1.02kB", "1KiB"),
            (999_999, "1MB", "1MB", "976.6KiB"),
            (1_234_567, "1.235MB", "1.23MB", "1.177MiB"),
            (77_800_000, "77.8MB", "77.8MB", "74.2MiB"),
            (123_456_789, "123.5MB", "123MB", "117.7MiB"),
            (1_073_741_824, "1.074GB", "1.07GB", "1GiB"),
            (u64::MAX, "18.45EB", "18.4EB", "16EiB"),
        ] {
            assert_eq!(human(bytes), long);
            assert_eq!(human_short(bytes), short);
            assert_eq!(human_binary(bytes), binary);
        }
    }

    #[test]
    fn writes_durations_as_docker_does() {
        const HOUR: u64 = 3600;
        const DAY: u64 = 24 * HOUR;
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (59 * 60 + 59, "59 minutes"),
            (HOUR, "About an hour"),
            (HOUR + 1799, "About an hour"),
            (HOUR + 1800, "2 hours"),
            (47 * HOUR, "47 hours"),
            (2 * DAY, "2 days"),
            (13 * DAY, "13 days"),
            (14 * DAY, "2 weeks"),
            (3 * 7 * DAY, "3 weeks"),
            (60 * DAY, "2 months"),
            (729 * DAY, "24 months"),
            (730 * DAY, "2 years"),
        ] {
            assert_eq!(human_duration(Duration::from_secs(seconds)), text);
        }
    }
}
