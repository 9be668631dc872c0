//! `--restart`, `--log-driver` and `--log-opt`.

use super::{InvalidOption, invalid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// When a container whose program has ended is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartName {
    /// Never.
    #[default]
    No,
    /// Always, also after a boot.
    Always,
    /// When its exit code isn't 0.
    OnFailure,
    /// Always, unless it was stopped by the user before a boot.
    UnlessStopped,
}

impl RestartName {
    /// Docker's word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Always => "always",
            Self::OnFailure => "on-failure",
            Self::UnlessStopped => "unless-stopped",
        }
    }
}

/// `--restart`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RestartPolicy {
    /// When.
    pub name: RestartName,
    /// With `on-failure`: how often at most; 0 is without end.
    pub maximum_retries: u32,
}

impl RestartPolicy {
    /// Reads `no`, `always`, `unless-stopped`, `on-failure` or `on-failure:COUNT`; empty is `no`.
    pub fn parse(text: &str) -> Result<Self, InvalidOption> {
        let (name, count) = match text.split_once(':') {
            Some((_, count)) if count.contains(':') => return invalid("invalid restart policy format"),
            Some((name, count)) => (name, Some(count)),
            None => (text, None),
        };
        let name = match name {
            "" if count.is_some() => {
                return invalid("invalid restart policy format: no policy provided before colon");
            }
            "" | "no" => RestartName::No,
            "always" => RestartName::Always,
            "on-failure" => RestartName::OnFailure,
            "unless-stopped" => RestartName::UnlessStopped,
            other => {
                return invalid(format!(
                    "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or \
                     'unless-stopped'"
                ));
            }
        };
        let maximum_retries = match count {
            None => 0,
            Some(text) => match text.parse::<i32>() {
                Ok(count) if count < 0 => {
                    return invalid("invalid restart policy: maximum retry count cannot be negative");
                }
                Ok(count) => count.unsigned_abs(),
                Err(_) => return invalid("invalid restart policy format: maximum retry count must be an integer"),
            },
        };
        if maximum_retries > 0 && name != RestartName::OnFailure {
            return invalid("invalid restart policy: maximum retry count can only be used with 'on-failure'");
        }
        Ok(Self { name, maximum_retries })
    }
}

/// `--log-driver` and `--log-opt`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogConfig {
    /// `json-file`, `local`, `none`, `journald` …; empty for the engine's default.
    pub driver: String,
    /// `max-size`, `max-file`, `labels` …
    pub options: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restart_policies() {
        for (text, name, count) in [
            ("", RestartName::No, 0),
            ("no", RestartName::No, 0),
            ("always", RestartName::Always, 0),
            ("always:0", RestartName::Always, 0),
            ("on-failure", RestartName::OnFailure, 0),
            ("on-failure:3", RestartName::OnFailure, 3),
            ("unless-stopped", RestartName::UnlessStopped, 0),
        ] {
            assert_eq!(RestartPolicy::parse(text).unwrap(), RestartPolicy { name, maximum_retries: count }, "{text}");
        }
        for (text, part) in [
            ("sometimes", "unknown policy 'sometimes'"),
            ("always:3", "can only be used with 'on-failure'"),
            ("on-failure:x", "must be an integer"),
            ("on-failure:-1", "cannot be negative"),
            ("on-failure:1:2", "invalid restart policy format"),
            (":1", "no policy provided before colon"),
        ] {
            assert!(RestartPolicy::parse(text).unwrap_err().to_string().contains(part), "{text}");
        }
    }
}
