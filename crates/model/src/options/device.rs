//! `--device`, `--device-cgroup-rule` and the limits of block devices.

use super::{InvalidOption, invalid};
use crate::size::parse_bytes;
use serde::{Deserialize, Serialize};

/// `--device HOST[:CONTAINER[:rwm]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMapping {
    /// A device, or a directory of them, on the host.
    pub host: String,
    /// Absolute path in the container.
    pub container: String,
    /// Of `r`, `w`, `m`.
    pub permissions: String,
}

impl DeviceMapping {
    /// Reads `HOST`, `HOST:CONTAINER`, `HOST:rwm` or `HOST:CONTAINER:rwm`.
    pub fn parse(text: &str) -> Result<Self, InvalidOption> {
        let is_mode = |text: &str| {
            let once = |letter| text.matches(letter).count() <= 1;
            !text.is_empty() && text.chars().all(|letter| "rwm".contains(letter)) && "rwm".chars().all(once)
        };
        let fields: Vec<&str> = text.split(':').collect();
        let (host, container, permissions) = match fields[..] {
            [host] => (host, host, "rwm"),
            [host, mode] if is_mode(mode) => (host, host, mode),
            [host, container] => (host, container, "rwm"),
            [host, container, mode] if is_mode(mode) => (host, container, mode),
            [_, _, mode] => return invalid(format!("bad mode specified: {mode}")),
            _ => return invalid(format!("invalid device specification: {text}")),
        };
        if host.is_empty() {
            return invalid(format!("bad format for path: {text}"));
        }
        if host.contains('=') && !host.starts_with('/') {
            return invalid(format!("{text}: devices of a CDI driver are not there; name a path below /dev"));
        }
        for path in [host, container] {
            if !path.starts_with('/') {
                return invalid(format!("{path} is not an absolute path"));
            }
        }
        Ok(Self { host: host.to_owned(), container: container.to_owned(), permissions: permissions.to_owned() })
    }
}

/// `--device-cgroup-rule 'c 1:3 rwm'`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// `a`, `b` or `c`.
    pub kind: char,
    /// None for every one (`*`).
    pub major: Option<i64>,
    /// None for every one (`*`).
    pub minor: Option<i64>,
    /// Of `r`, `w`, `m`.
    pub permissions: String,
}

impl DeviceRule {
    /// Reads `TYPE MAJOR:MINOR ACCESS`.
    pub fn parse(text: &str) -> Result<Self, InvalidOption> {
        let bad = || InvalidOption(format!("invalid device cgroup format '{text}'"));
        let fields: Vec<&str> = text.split(' ').collect();
        let [kind, numbers, access] = fields[..] else { return Err(bad()) };
        let (major, minor) = numbers.split_once(':').ok_or_else(bad)?;
        let number = |text: &str| match text {
            "*" => Ok(None),
            digits if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map(Some).map_err(|_| bad())
            }
            _ => Err(bad()),
        };
        let is_access = (1..=3).contains(&access.len()) && access.chars().all(|letter| "rwm".contains(letter));
        match kind {
            "a" | "b" | "c" if is_access => Ok(Self {
                kind: kind.chars().next().unwrap_or('a'),
                major: number(major)?,
                minor: number(minor)?,
                permissions: access.to_owned(),
            }),
            _ => Err(bad()),
        }
    }

    /// As it was typed.
    pub fn text(&self) -> String {
        let number = |number: Option<i64>| number.map_or("*".to_owned(), |number| number.to_string());
        format!("{} {}:{} {}", self.kind, number(self.major), number(self.minor), self.permissions)
    }
}

/// `--device-read-bps PATH:RATE` and its like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThrottleDevice {
    /// The device on the host.
    pub path: String,
    /// Bytes or operations a second.
    pub rate: u64,
}

impl ThrottleDevice {
    /// Bytes a second: `/dev/sda:1mb`.
    pub fn parse_bytes(text: &str) -> Result<Self, InvalidOption> {
        let (path, rate) = block_device(text)?;
        let bad = || {
            InvalidOption(format!(
                "invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. Number must be \
                 a positive integer. Unit is optional and can be kb, mb, or gb"
            ))
        };
        Ok(Self { path, rate: parse_bytes(rate).map_err(|_| bad())? })
    }

    /// Operations a second: `/dev/sda:1000`.
    pub fn parse_operations(text: &str) -> Result<Self, InvalidOption> {
        let (path, rate) = block_device(text)?;
        let bad = || {
            InvalidOption(format!(
                "invalid rate for device: {text}. The correct format is <device-path>:<number>. Number must be a \
                 positive integer"
            ))
        };
        Ok(Self { path, rate: rate.parse().map_err(|_| bad())? })
    }
}

/// `--blkio-weight-device PATH:WEIGHT`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightDevice {
    /// The device on the host.
    pub path: String,
    /// 10 to 1000, or 0.
    pub weight: u16,
}

impl WeightDevice {
    /// Reads `/dev/sda:200`.
    pub fn parse(text: &str) -> Result<Self, InvalidOption> {
        let (path, weight) = block_device(text)?;
        match weight.parse::<u16>() {
            Ok(weight) if weight == 0 || (10..=1000).contains(&weight) => Ok(Self { path, weight }),
            _ => invalid(format!("invalid weight for device: {text}")),
        }
    }
}

fn block_device(text: &str) -> Result<(String, &str), InvalidOption> {
    let Some((path, value)) = text.split_once(':') else { return invalid(format!("bad format: {text}")) };
    if !path.starts_with("/dev/") {
        return invalid(format!("bad format for device path: {text}"));
    }
    Ok((path.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices() {
        for (text, host, container, permissions) in [
            ("/dev/fuse", "/dev/fuse", "/dev/fuse", "rwm"),
            ("/dev/fuse:r", "/dev/fuse", "/dev/fuse", "r"),
            ("/dev/a:/dev/b", "/dev/a", "/dev/b", "rwm"),
            ("/dev/a:/dev/b:rw", "/dev/a", "/dev/b", "rw"),
        ] {
            let found = DeviceMapping::parse(text).unwrap();
            assert_eq!(
                (found.host.as_str(), found.container.as_str(), found.permissions.as_str()),
                (host, container, permissions)
            );
        }
        for text in ["", "dev/a", "/dev/a:b", "/dev/a:/dev/b:x", "/dev/a:/dev/b:rr", "a:b:c:d", "vendor.com/gpu=0"] {
            assert!(DeviceMapping::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rules_and_rates() {
        for text in ["c 1:3 rwm", "b *:* r", "a 10:* mr"] {
            assert_eq!(DeviceRule::parse(text).unwrap().text(), text);
        }
        for text in ["", "c 1:3", "x 1:3 r", "c 1 r", "c -1:3 r", "c 1:3 x", "c  1:3 r"] {
            assert!(DeviceRule::parse(text).is_err(), "{text}");
        }
        assert_eq!(ThrottleDevice::parse_bytes("/dev/sda:1mb").unwrap().rate, 1 << 20);
        assert_eq!(ThrottleDevice::parse_operations("/dev/sda:7").unwrap().rate, 7);
        assert_eq!(WeightDevice::parse("/dev/sda:500").unwrap().weight, 500);
        for text in ["/dev/sda", "/dev/sda:9", "/dev/sda:1001", "sda:100"] {
            assert!(WeightDevice::parse(text).is_err(), "{text}");
        }
        assert!(ThrottleDevice::parse_bytes("/dev/sda:-1").is_err());
    }
}
