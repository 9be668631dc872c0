//! Whose namespaces a container is in.

use serde_json::{Value, json};
use std::path::PathBuf;

/// Whose namespace of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Namespace {
    /// A new one.
    #[default]
    Own,
    /// That of the host.
    Host,
    /// The one behind this file (`/proc/PID/ns/…`).
    Path(PathBuf),
}

/// The namespaces of a container; the mount namespace is always its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespaces {
    /// Its own has a loopback device only.
    pub network: Namespace,
    /// Process ids.
    pub pid: Namespace,
    /// System V IPC and POSIX message queues.
    pub ipc: Namespace,
    /// Host name and domain.
    pub uts: Namespace,
    /// The view of the cgroup tree.
    pub cgroup: Namespace,
}

impl Default for Namespaces {
    /// All its own, but for the cgroup namespace where cgroup v1 is there: Docker's rule.
    fn default() -> Self {
        Self {
            network: Namespace::Own,
            pid: Namespace::Own,
            ipc: Namespace::Own,
            uts: Namespace::Own,
            cgroup: if super::cgroups_are_unified() { Namespace::Own } else { Namespace::Host },
        }
    }
}

impl Namespaces {
    pub(super) fn to_json(&self) -> Vec<Value> {
        let kinds = [
            ("uts", &self.uts),
            ("ipc", &self.ipc),
            ("pid", &self.pid),
            ("network", &self.network),
            ("cgroup", &self.cgroup),
        ];
        let mut all = vec![json!({ "type": "mount" })];
        all.extend(kinds.into_iter().filter_map(|(kind, namespace)| match namespace {
            Namespace::Host => None,
            Namespace::Own => Some(json!({ "type": kind })),
            Namespace::Path(path) => Some(json!({ "type": kind, "path": path })),
        }));
        all
    }
}
