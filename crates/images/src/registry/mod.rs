//! The registry client (OCI distribution-spec, Docker's Registry HTTP API V2), for pulls and logins.
//!
//! Blocking, with a thread for each connection that is in use; nothing of it is started before a verb needs it. Nothing
//! that a server says is trusted: bodies have limits, digests and sizes are verified, waits end.
//!
//! ```text
//! <data root>/content/ingest/HEX   what has come of a layer's blob, named by the blob's digest; its lock is held by
//!                                  whoever writes it, and the next pull goes on where it ends
//! ```

mod auth;
mod blob;
mod credentials;
mod failure;
mod http;
mod login;
mod manifest;
mod session;

pub use auth::Credentials;
pub use credentials::{ClientConfig, CredentialsOf, Stored, server_of};
pub use failure::{Failure, RegistryErrors};
pub use login::login;

pub(crate) use blob::remove_old;
pub use manifest::check_platform;
pub(crate) use manifest::{Found, Wanted, find, tags};
pub(crate) use session::{Registry, Session};

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Docker Hub's registry, which isn't where its name points.
const DOCKER_HUB: &str = "https://registry-1.docker.io";

/// What the engine's config says of registries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// By host and port, `docker.io` for Docker Hub; a mirror's own host as well.
    pub hosts: BTreeMap<String, HostSettings>,
    /// Layers that come at the same time.
    pub downloads: usize,
    /// How often what breaks off is tried again.
    pub attempts: u32,
    /// How long a server may be silent, or bring next to nothing.
    pub timeout: Duration,
    /// Whether blobs of layers stay in `content/layers`.
    pub keep_blobs: bool,
}

/// One registry's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostSettings {
    /// URLs that are asked before the registry itself, in this order.
    pub mirrors: Vec<String>,
    /// Plain HTTP, and certificates of anybody.
    pub insecure: bool,
    /// A file with certificates of authorities, besides the system's.
    pub ca: Option<PathBuf>,
}

impl Default for Settings {
    /// Docker's numbers.
    fn default() -> Self {
        Self { hosts: BTreeMap::new(), downloads: 3, attempts: 5, timeout: Duration::from_secs(30), keep_blobs: false }
    }
}

impl Settings {
    /// This machine itself is trusted, as Docker does, unless an authority is named for it.
    fn is_insecure(&self, host: &str) -> bool {
        match self.hosts.get(host) {
            Some(own) if own.insecure => true,
            Some(own) if own.ca.is_some() => false,
            _ => http::is_loopback(host),
        }
    }

    fn trust(&self, host: &str) -> http::Trust {
        http::Trust { insecure: self.is_insecure(host), ca: self.hosts.get(host).and_then(|own| own.ca.clone()) }
    }

    /// Where a registry may be, best first. Plain HTTP is for this machine itself and for what the config calls insecure.
    fn bases(&self, registry: &str) -> Vec<String> {
        match registry {
            "docker.io" => vec![DOCKER_HUB.to_owned()],
            other if !self.is_insecure(other) => vec![format!("https://{other}")],
            here if http::is_loopback(here) => vec![format!("http://{here}"), format!("https://{here}")],
            other => vec![format!("https://{other}"), format!("http://{other}")],
        }
    }
}

/// Whether `url` can be a mirror: `http://` or `https://`, a host, and perhaps a path.
pub fn is_mirror(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")) else { return false };
    !rest.is_empty()
        && !rest.starts_with('/')
        && !rest.contains(['@', '?', '#', ' '])
        && url.parse::<ureq::http::Uri>().is_ok()
}
