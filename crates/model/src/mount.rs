//! What `-v`, `--mount`, `--tmpfs` and `--volumes-from` say, as typed.
//!
//! This is the parsed stage: nothing here has been looked up on the host. `mounts::resolve` turns it into the next.

use crate::VolumeName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One mount as the user asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSpec {
    /// What is mounted.
    pub kind: MountKind,
    /// Absolute, cleaned path inside the container; never `/`.
    pub target: String,
    /// `ro` or `readonly`.
    pub read_only: bool,
}

/// The three kinds of mount that Docker has for containers on Linux.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// A named or anonymous volume.
    Volume(VolumeMount),
    /// A path of the host.
    Bind(BindMount),
    /// Memory.
    Tmpfs(TmpfsMount),
}

/// `type=volume`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMount {
    /// None for an anonymous volume.
    pub name: Option<VolumeName>,
    /// `volume-driver`, or `--volume-driver` for `-v`.
    pub driver: Option<String>,
    /// `volume-opt`.
    pub options: BTreeMap<String, String>,
    /// `volume-label`.
    pub labels: BTreeMap<String, String>,
    /// `volume-nocopy` or `:nocopy`: the image's content is not copied in on first use.
    pub no_copy: bool,
    /// `volume-subpath`: relative path inside the volume.
    pub subpath: Option<String>,
    /// `:z` (shared) or `:Z` (private) of `-v`.
    pub relabel: Option<Relabel>,
}

/// `type=bind`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindMount {
    /// Absolute path on the host.
    pub source: String,
    /// Mount propagation; Docker's default is rprivate.
    pub propagation: Propagation,
    /// Whether mounts below the source come along, and whether they become read-only as well.
    pub recursive: BindRecursive,
    /// `-v` makes a directory of a missing source; `--mount` only with `bind-create-src`.
    pub create_source: bool,
    /// `:z` (shared) or `:Z` (private) of `-v`.
    pub relabel: Option<Relabel>,
}

/// `type=tmpfs` and `--tmpfs`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TmpfsMount {
    /// Bytes; None leaves the kernel's default, half of the memory. A percentage (`size=10%`) is kept in `options`.
    pub size: Option<u64>,
    /// Permission bits with sticky; None is Docker's 1777.
    pub mode: Option<u32>,
    /// Owner of the root.
    pub uid: Option<u32>,
    /// Group of the root.
    pub gid: Option<u32>,
    /// `exec`: Docker mounts `noexec,nosuid,nodev` unless told otherwise.
    pub exec: bool,
    /// Other valid options, as typed and in order (`nr_inodes=1k`, `suid`, `noatime` …).
    pub options: Vec<String>,
}

/// SELinux relabelling of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Relabel {
    /// `:z`
    Shared,
    /// `:Z`
    Private,
}

/// Bind propagation, mount(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// Docker's default.
    #[default]
    Rprivate,
    /// This mount only.
    Private,
    /// Both ways, and for mounts below.
    Rshared,
    /// Both ways.
    Shared,
    /// From the host only, and for mounts below.
    Rslave,
    /// From the host only.
    Slave,
}

/// `bind-recursive`, Docker 25 and later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum BindRecursive {
    /// Mounts below come along; with readonly they become read-only where the kernel can do it.
    #[default]
    Enabled,
    /// Only the mount itself.
    Disabled,
    /// Mounts below come along and stay writable.
    Writable,
    /// As Enabled with readonly, but an error where the kernel can't do it.
    Readonly,
}
