//! `/etc/orlop/config.toml`: every setting, its default, and nothing else.

use crate::{Error, Result};
use orlop_layers::DriverKind;
use serde::Deserialize;
use std::path::Path;

/// The settings. A key that isn't here is an error, so that a misspelt one never passes for the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// `[storage]`
    pub storage: Storage,
    /// `[runtime]`
    pub runtime: Runtime,
    /// `[log]`
    pub log: Log,
    /// `[trash]`
    pub trash: Trash,
}

/// `[trash]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Trash {
    /// Days that removed volumes and writable layers can be brought back.
    pub keep_days: u32,
}

impl Default for Trash {
    fn default() -> Self {
        Self { keep_days: 7 }
    }
}

/// `[storage]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Storage {
    /// `overlay2` or `vfs`; by default the first of them that works on the data root's file system.
    pub driver: Option<String>,
}

/// `[runtime]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Runtime {
    /// The OCI runtime: a name that is looked up in PATH, or a path.
    pub binary: String,
}

impl Default for Runtime {
    fn default() -> Self {
        Self { binary: "runc".to_owned() }
    }
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Log {
    /// Bytes after which a container's log goes on in a new file.
    pub max_size: u64,
    /// How many files of a container's log are kept, at least 1.
    pub max_files: u32,
}

impl Default for Log {
    fn default() -> Self {
        Self { max_size: 20_000_000, max_files: 5 }
    }
}

impl Config {
    /// Where the settings are looked for unless another file is named.
    pub const PATH: &'static str = "/etc/orlop/config.toml";

    /// Reads `path`; a file that isn't there has no settings, unless `required`.
    pub fn read(path: &Path, required: bool) -> Result<Self> {
        let invalid = |reason: String| Error::Config { path: path.to_owned(), reason };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => return Ok(Self::default()),
            Err(error) => return Err(invalid(error.to_string())),
        };
        let config: Self = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            invalid(format!("line {line}: {}", error.message().replace('\n', " ")))
        })?;
        config.driver().map_err(|name| invalid(format!("storage.driver: unknown driver {name:?} (overlay2, vfs)")))?;
        if config.log.max_files == 0 || config.log.max_size < 4096 {
            return Err(invalid("log: max-files must be at least 1 and max-size at least 4096".to_owned()));
        }
        Ok(config)
    }

    /// The storage driver that was chosen, if one was.
    pub(crate) fn driver(&self) -> std::result::Result<Option<DriverKind>, String> {
        match self.storage.driver.as_deref() {
            None => Ok(None),
            Some("overlay2") => Ok(Some(DriverKind::Overlay2)),
            Some("vfs") => Ok(Some(DriverKind::Vfs)),
            Some(other) => Err(other.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_and_bad_values_are_named_with_their_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        for (text, part) in [
            ("[log]\nmax-sise = 1\n", "line 2: unknown field `max-sise`"),
            ("[storage]\ndriver = \"aufs\"\n", "unknown driver \"aufs\""),
            ("[log]\nmax-files = 0\n", "at least 1"),
            ("[log\n", "line 1"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Config::read(&path, true).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        std::fs::write(&path, "[runtime]\nbinary = \"crun\"\n").unwrap();
        assert_eq!(Config::read(&path, true).unwrap().runtime.binary, "crun");
        assert_eq!(Config::read(&dir.path().join("none"), false).unwrap(), Config::default());
        assert!(Config::read(&dir.path().join("none"), true).is_err());
    }
}
