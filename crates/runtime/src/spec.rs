//! The OCI runtime spec of a container: Docker's defaults (moby `oci/defaults.go`, OCI runtime-spec 1.0.2) around what
//! the engine has resolved.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Everything about a container that its spec depends on, resolved: no names, no links, no defaults left to look up.
#[derive(Clone, Debug)]
pub struct SpecInput {
    /// The mounted root file system on the host.
    pub root: PathBuf,
    /// `--read-only`.
    pub read_only_rootfs: bool,
    /// The first process: program, environment, user, terminal.
    pub process: ProcessInput,
    /// Written to the UTS namespace; ignored with the host's network, which keeps the host's name.
    pub hostname: String,
    /// In the order in which they are mounted, after Docker's own.
    pub mounts: Vec<SpecMount>,
    /// `--network`.
    pub network: Network,
    /// Below every controller's root, e.g. `/orlop/ID`.
    pub cgroup_path: String,
}

/// A process in a container: the first one or one of `exec`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInput {
    /// Program and arguments; the program is looked up in the environment's PATH.
    pub args: Vec<String>,
    /// `NAME=value`; defaults such as PATH, HOSTNAME and TERM are the caller's duty.
    pub env: Vec<String>,
    /// Absolute path in the container.
    pub cwd: String,
    /// User id in the container.
    pub uid: u32,
    /// Group id in the container.
    pub gid: u32,
    /// Supplementary groups.
    pub additional_gids: Vec<u32>,
    /// Give it a terminal.
    pub terminal: bool,
    /// The terminal's first size, rows and columns.
    pub console_size: Option<(u16, u16)>,
}

/// One mount of the container beside Docker's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpecMount {
    /// A directory or file of the host.
    Bind {
        /// Already cloned to a path of ours that only root can change.
        source: PathBuf,
        /// Absolute path in the container.
        target: String,
        /// How it may be written.
        access: BindAccess,
        /// `private`, `rprivate`, `slave`, `rslave`, `shared`, `rshared`.
        propagation: String,
        /// With what is mounted below the source.
        recursive: bool,
    },
    /// A file system in memory.
    Tmpfs {
        /// Absolute path in the container.
        target: String,
        /// Mount options as mount(8) takes them (`size=64m`, `mode=1777`, `noexec` …).
        options: Vec<String>,
    },
}

/// Whether a bind may be written through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindAccess {
    /// Writable.
    ReadWrite,
    /// The top mount is read-only, those below keep their own flag.
    ReadOnly,
    /// Read-only with everything below (`bind-recursive=readonly`; needs Linux 5.12).
    RecursivelyReadOnly,
}

/// `--network`, as far as it is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// A namespace of its own with a loopback device only.
    None,
    /// The host's network and host name.
    Host,
}
