//! Platforms as `--platform` and image indexes name them (`linux/arm/v7`), matched as containerd does.

use crate::{ErrorKind, Kind};
use std::fmt;
use std::str::FromStr;

/// An operating system and a processor, in Go's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// GOOS.
    pub os: String,
    /// GOARCH.
    pub architecture: String,
    /// GOARM and its like (`v7`); empty when it doesn't matter.
    pub variant: String,
}

/// A text that is not a platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?}: unknown operating system or architecture: expected OS, ARCHITECTURE or OS/ARCHITECTURE[/VARIANT]")]
pub struct InvalidPlatform(pub String);

impl Kind for InvalidPlatform {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

const SYSTEMS: [&str; 11] =
    ["linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "solaris", "illumos", "aix", "wasip1", "android"];
const ARCHITECTURES: [&str; 13] = [
    "amd64", "arm64", "arm", "386", "ppc64le", "ppc64", "s390x", "riscv64", "loong64", "mips64le", "mips64", "mipsle",
    "wasm",
];

impl Platform {
    /// This machine's.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", ""),
            "powerpc64" => ("ppc64", ""),
            "loongarch64" => ("loong64", ""),
            "arm" => ("arm", "v7"),
            other => normal(other, ""),
        };
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: variant.to_owned() }
    }

    /// How well what is `offered` fits where `self` is wanted: 0 best, None not at all. Where no variant is wanted, a
    /// newer one than the oldest comes last: it may need what the processor lacks.
    pub fn rank(&self, offered: &Self) -> Option<u8> {
        if self.os != offered.os {
            return None;
        }
        let older = |wanted: u8, offered: u8| wanted.checked_sub(offered);
        match (self.architecture.as_str(), offered.architecture.as_str()) {
            ("arm", "arm") => older(self.level(7), offered.level(7)),
            // The processor runs both.
            ("arm64", "arm") => older(8, offered.level(7)).map(|rank| 10 + rank),
            (wanted, other) if wanted != other => None,
            ("amd64" | "arm64", _) => {
                let oldest = if self.architecture == "amd64" { 1 } else { 8 };
                match (self.variant.is_empty(), offered.level(oldest)) {
                    (true, level) => Some(u8::from(level > oldest)),
                    (false, level) => older(self.level(oldest), level),
                }
            }
            _ => Some(u8::from(self.variant != offered.variant && !self.variant.is_empty())),
        }
    }

    fn level(&self, default: u8) -> u8 {
        self.variant.strip_prefix('v').and_then(|level| level.parse().ok()).unwrap_or(default)
    }
}

/// Other names of the same processor, as `uname` and Debian have them.
fn normal<'a>(architecture: &'a str, variant: &'a str) -> (&'a str, &'a str) {
    match (architecture, variant) {
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8") => ("arm64", ""),
        ("aarch64", variant) => ("arm64", variant),
        ("i386" | "i686" | "x86", _) => ("386", ""),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("arm", "8") => ("arm", "v8"),
        other => other,
    }
}

impl FromStr for Platform {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Self, InvalidPlatform> {
        let lower = text.to_lowercase();
        let parts: Vec<&str> = lower.split('/').collect();
        let host = Self::host();
        let (os, architecture, variant) = match parts[..] {
            [os] if SYSTEMS.contains(&os) => (os, host.architecture.as_str(), host.variant.as_str()),
            [architecture] => ("linux", architecture, ""),
            [os, architecture] => (os, architecture, ""),
            [os, architecture, variant] if !variant.is_empty() => (os, architecture, variant),
            _ => return Err(InvalidPlatform(text.to_owned())),
        };
        let os = if os == "macos" { "darwin" } else { os };
        let (architecture, variant) = normal(architecture, variant);
        if !SYSTEMS.contains(&os) || !ARCHITECTURES.contains(&architecture) {
            return Err(InvalidPlatform(text.to_owned()));
        }
        Ok(Self { os: os.to_owned(), architecture: architecture.to_owned(), variant: variant.to_owned() })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_names_are_read() {
        for (text, expected) in [
            ("linux/amd64", Some("linux/amd64")),
            ("linux/x86_64", Some("linux/amd64")),
            ("aarch64", Some("linux/arm64")),
            ("linux/arm64/v8", Some("linux/arm64")),
            ("linux/arm", Some("linux/arm/v7")),
            ("linux/armhf", Some("linux/arm/v7")),
            ("Linux/ARM/v6", Some("linux/arm/v6")),
            ("windows/amd64", Some("windows/amd64")),
            ("linux/amd64/v3", Some("linux/amd64/v3")),
            ("", None),
            ("linux/", None),
            ("linux/pdp11", None),
            ("plan10/amd64", None),
            ("linux/arm/v7/x", None),
        ] {
            let read = text.parse::<Platform>().ok().map(|platform| platform.to_string());
            assert_eq!(read.as_deref(), expected, "{text}");
        }
        assert_eq!("linux".parse::<Platform>().unwrap(), Platform::host());
    }

    #[test]
    fn the_best_of_what_fits() {
        let platform = |text: &str| text.parse::<Platform>().unwrap();
        for (wanted, offered, expected) in [
            ("linux/amd64", "linux/amd64", Some(0)),
            ("linux/amd64", "linux/amd64/v3", Some(1)),
            ("linux/amd64/v3", "linux/amd64/v2", Some(1)),
            ("linux/amd64/v2", "linux/amd64/v3", None),
            ("linux/arm/v7", "linux/arm/v6", Some(1)),
            ("linux/arm/v6", "linux/arm/v7", None),
            ("linux/arm64", "linux/arm/v7", Some(11)),
            ("linux/arm64", "linux/arm64/v8", Some(0)),
            ("linux/arm/v7", "linux/arm64", None),
            ("linux/s390x", "linux/s390x", Some(0)),
            ("linux/amd64", "windows/amd64", None),
            ("linux/amd64", "linux/386", None),
        ] {
            assert_eq!(platform(wanted).rank(&platform(offered)), expected, "{wanted} {offered}");
        }
    }
}
