//! `--pid`, `--ipc`, `--uts`, `--userns` and `--cgroupns`: whose namespace a container is in.

use super::{InvalidOption, invalid};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Stored and shown as Docker writes it.
macro_rules! as_text {
    ($type:ty) => {
        impl TryFrom<String> for $type {
            type Error = InvalidOption;

            fn try_from(text: String) -> Result<Self, InvalidOption> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(mode: $type) -> Self {
                mode.to_string()
            }
        }
    };
}

/// `--pid`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum PidMode {
    /// The container's own.
    #[default]
    Own,
    /// The host's.
    Host,
    /// That of another container, by name or id.
    Container(String),
}

/// `--ipc`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum IpcMode {
    /// The container's own, which no other may join.
    #[default]
    Private,
    /// The container's own, without /dev/shm.
    None,
    /// The container's own, which others may join.
    Shareable,
    /// The host's.
    Host,
    /// That of another container, by name or id.
    Container(String),
}

/// `--uts`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum UtsMode {
    /// The container's own.
    #[default]
    Own,
    /// The host's.
    Host,
}

/// `--userns`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum UserMode {
    /// What the engine does by itself, which is the host's too.
    #[default]
    Own,
    /// The host's.
    Host,
}

/// `--cgroupns`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum CgroupMode {
    /// Private with cgroup v2, the host's with v1.
    #[default]
    Default,
    /// The container's own.
    Private,
    /// The host's.
    Host,
}

as_text!(PidMode);
as_text!(IpcMode);
as_text!(UtsMode);
as_text!(UserMode);
as_text!(CgroupMode);

/// The name in `container:NAME`.
fn joined(text: &str) -> Option<String> {
    text.strip_prefix("container:").filter(|name| !name.is_empty()).map(str::to_owned)
}

impl FromStr for PidMode {
    type Err = InvalidOption;

    fn from_str(text: &str) -> Result<Self, InvalidOption> {
        match (text, joined(text)) {
            ("", _) => Ok(Self::Own),
            ("host", _) => Ok(Self::Host),
            (_, Some(name)) => Ok(Self::Container(name)),
            _ => invalid("--pid: invalid PID mode"),
        }
    }
}

impl FromStr for IpcMode {
    type Err = InvalidOption;

    fn from_str(text: &str) -> Result<Self, InvalidOption> {
        match (text, joined(text)) {
            ("" | "private", _) => Ok(Self::Private),
            ("none", _) => Ok(Self::None),
            ("shareable", _) => Ok(Self::Shareable),
            ("host", _) => Ok(Self::Host),
            (_, Some(name)) => Ok(Self::Container(name)),
            _ => invalid(format!("invalid IPC mode: {text}")),
        }
    }
}

impl FromStr for UtsMode {
    type Err = InvalidOption;

    fn from_str(text: &str) -> Result<Self, InvalidOption> {
        match text {
            "" => Ok(Self::Own),
            "host" => Ok(Self::Host),
            _ => invalid("--uts: invalid UTS mode"),
        }
    }
}

impl FromStr for UserMode {
    type Err = InvalidOption;

    fn from_str(text: &str) -> Result<Self, InvalidOption> {
        match text {
            "" => Ok(Self::Own),
            "host" => Ok(Self::Host),
            _ => invalid("--userns: invalid USER mode"),
        }
    }
}

impl FromStr for CgroupMode {
    type Err = InvalidOption;

    fn from_str(text: &str) -> Result<Self, InvalidOption> {
        match text {
            "" => Ok(Self::Default),
            "private" => Ok(Self::Private),
            "host" => Ok(Self::Host),
            _ => invalid("--cgroupns: invalid CGROUP mode"),
        }
    }
}

impl fmt::Display for PidMode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => Ok(()),
            Self::Host => out.write_str("host"),
            Self::Container(name) => write!(out, "container:{name}"),
        }
    }
}

impl fmt::Display for IpcMode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Private => out.write_str("private"),
            Self::None => out.write_str("none"),
            Self::Shareable => out.write_str("shareable"),
            Self::Host => out.write_str("host"),
            Self::Container(name) => write!(out, "container:{name}"),
        }
    }
}

impl fmt::Display for UtsMode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if *self == Self::Host { "host" } else { "" })
    }
}

impl fmt::Display for UserMode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if *self == Self::Host { "host" } else { "" })
    }
}

impl fmt::Display for CgroupMode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Default => "",
            Self::Private => "private",
            Self::Host => "host",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_and_written_as_docker_does() {
        for text in ["", "host", "container:db"] {
            assert_eq!(text.parse::<PidMode>().unwrap().to_string(), text);
        }
        for text in ["private", "none", "shareable", "host", "container:db"] {
            assert_eq!(text.parse::<IpcMode>().unwrap().to_string(), text);
        }
        for text in ["", "host", "private"] {
            assert_eq!(text.parse::<CgroupMode>().unwrap().to_string(), text);
        }
        for error in [
            "x".parse::<PidMode>().unwrap_err(),
            "container:".parse::<PidMode>().unwrap_err(),
            "private".parse::<UtsMode>().unwrap_err(),
            "remap".parse::<UserMode>().unwrap_err(),
            "none".parse::<CgroupMode>().unwrap_err(),
            "x".parse::<IpcMode>().unwrap_err(),
        ] {
            assert!(error.to_string().contains("invalid"), "{error}");
        }
        assert_eq!(serde_json::to_string(&IpcMode::Container("a".into())).unwrap(), "\"container:a\"");
    }
}
