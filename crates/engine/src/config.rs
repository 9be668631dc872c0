//! `/etc/orlop/config.toml`: every setting, its default, and nothing else.

#[cfg(test)]
mod page;

use crate::{Error, Result};
use orlop_images::registry::{self, HostSettings};
use orlop_layers::DriverKind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The settings. A key that isn't here is an error, so that a misspelt one never passes for the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// `[storage]`
    pub storage: Storage,
    /// `[runtime]`
    pub runtime: Runtime,
    /// `[runtimes]`: further OCI runtimes by name, for `--runtime`; each a name that is looked up in PATH, or a path.
    pub runtimes: BTreeMap<String, String>,
    /// `[log]`
    pub log: Log,
    /// `[trash]`
    pub trash: Trash,
    /// `[images]`
    pub images: Images,
    /// `[registry."docker.io"]`, by host and port.
    pub registry: BTreeMap<String, Registry>,
}

/// `[images]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Images {
    /// Layers that a pull fetches at the same time.
    pub max_concurrent_downloads: usize,
    /// How often a download that broke off is tried again.
    pub max_download_attempts: u32,
    /// Seconds that a registry may be silent, or bring next to nothing.
    pub download_timeout: u64,
    /// Whether the blobs of pulled layers stay beside their files.
    pub keep_blobs: bool,
}

impl Default for Images {
    fn default() -> Self {
        let defaults = registry::Settings::default();
        Self {
            max_concurrent_downloads: defaults.downloads,
            max_download_attempts: defaults.attempts,
            download_timeout: defaults.timeout.as_secs(),
            keep_blobs: defaults.keep_blobs,
        }
    }
}

/// `[registry."HOST"]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Registry {
    /// URLs that are asked before the registry itself, in this order. They get no credentials of it.
    pub mirrors: Vec<String>,
    /// Allows plain HTTP and certificates of anybody.
    pub insecure: bool,
    /// A PEM file with certificates of authorities, besides the system's.
    pub ca: Option<PathBuf>,
}

/// `[trash]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Storage {
    /// `overlay2` or `vfs`; by default the first of them that works on the data root's file system.
    pub driver: Option<String>,
}

/// `[runtime]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
        if let Some(name) = config.runtimes.keys().find(|name| !is_runtime_name(name)) {
            return Err(invalid(format!("runtimes.{name}: a name has letters, digits, '-', '_' and '.' only")));
        }
        if config.log.max_files == 0 || config.log.max_size < 4096 {
            return Err(invalid("log: max-files must be at least 1 and max-size at least 4096".to_owned()));
        }
        config.check_registries().map_err(invalid)?;
        Ok(config)
    }

    fn check_registries(&self) -> std::result::Result<(), String> {
        let Images { max_concurrent_downloads, max_download_attempts, download_timeout, .. } = self.images;
        if max_concurrent_downloads == 0 || max_concurrent_downloads > 64 || download_timeout == 0 {
            return Err("images: max-concurrent-downloads must be 1 to 64 and download-timeout at least 1".to_owned());
        }
        if max_download_attempts > 100 {
            return Err("images: max-download-attempts must be 0 to 100".to_owned());
        }
        for (host, registry) in &self.registry {
            if host.is_empty() || host.contains('/') {
                return Err(format!("registry {host:?}: expected a host, or a host and a port, without a path"));
            }
            if let Some(mirror) = registry.mirrors.iter().find(|mirror| !registry::is_mirror(mirror)) {
                return Err(format!("registry {host:?}: mirror {mirror:?}: expected http://HOST or https://HOST"));
            }
        }
        Ok(())
    }

    /// What a pull needs to know.
    pub fn registries(&self) -> registry::Settings {
        let host = |(host, own): (&String, &Registry)| {
            let settings = HostSettings { mirrors: own.mirrors.clone(), insecure: own.insecure, ca: own.ca.clone() };
            (host.clone(), settings)
        };
        registry::Settings {
            hosts: self.registry.iter().map(host).collect(),
            downloads: self.images.max_concurrent_downloads,
            attempts: self.images.max_download_attempts,
            timeout: Duration::from_secs(self.images.download_timeout),
            keep_blobs: self.images.keep_blobs,
        }
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

/// It becomes the name of a directory.
fn is_runtime_name(name: &str) -> bool {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    is_plain && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
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
            ("[registry.\"docker.io\"]\nmirror = []\n", "line 2: unknown field `mirror`"),
            (
                "[registry.\"docker.io\"]\nmirrors = [\"127.0.0.1:5000\"]\n",
                "mirror \"127.0.0.1:5000\": expected http://",
            ),
            ("[registry.\"https://docker.io\"]\n", "without a path"),
            ("[images]\nmax-concurrent-downloads = 0\n", "1 to 64"),
            ("[images]\nmax-download-attempts = 101\n", "0 to 100"),
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
