//! What `-v`, `--mount`, `--tmpfs` and `--volumes-from` say, as typed.
//!
//! This is the parsed stage: nothing here has been looked up on the host. `mounts::resolve` turns it into the next.
//! The grammar is Docker's: `-v` as its daemon splits it (volume/mounts/linux_parser.go), `--mount` as its CLI reads
//! comma-separated values (opts/mount.go), `--tmpfs` as the daemon checks it. Messages are Docker's where it has any.

mod csv;
mod error;
mod flag;
mod long;
mod tmpfs;

pub use error::InvalidMount;
pub use flag::{parse_volume, parse_volumes_from};
pub use long::parse_mount;
pub use tmpfs::parse_tmpfs;

use crate::VolumeName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// One mount as the user asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSpec {
    /// What is mounted.
    pub kind: MountKind,
    /// Absolute, cleaned path inside the container; never `/`.
    pub target: String,
    /// `ro` or `readonly`.
    pub read_only: bool,
    /// The third part of `-v` as typed (`ro,z`), for `inspect`; empty for the other flags.
    #[serde(default)]
    pub mode: String,
}

/// `--volumes-from`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumesFrom {
    /// Name or id of the other container, as typed.
    pub container: String,
    /// `:ro`: every one of its mounts becomes read-only; otherwise each stays as it is there.
    pub read_only: bool,
    /// `:z` or `:Z`.
    pub relabel: Option<Relabel>,
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
    /// Other valid options, each at most once and in order (`nr_inodes=1k`, `size=10%`, `suid`, `noatime` …).
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

impl MountKind {
    /// Docker's `Type`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Volume(_) => "volume",
            Self::Bind(_) => "bind",
            Self::Tmpfs(_) => "tmpfs",
        }
    }
}

impl Propagation {
    /// As `--mount` and `inspect` write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rprivate => "rprivate",
            Self::Private => "private",
            Self::Rshared => "rshared",
            Self::Shared => "shared",
            Self::Rslave => "rslave",
            Self::Slave => "slave",
        }
    }

    /// The propagation of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Rprivate, Self::Private, Self::Rshared, Self::Shared, Self::Rslave, Self::Slave]
            .into_iter()
            .find(|propagation| propagation.name() == name)
    }
}

impl fmt::Display for Propagation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Refuses two mounts at one path, whichever flags they come from.
pub fn check_duplicates(mounts: &[MountSpec]) -> Result<(), InvalidMount> {
    let mut seen = std::collections::BTreeSet::new();
    match mounts.iter().find(|mount| !seen.insert(mount.target.as_str())) {
        Some(mount) => Err(InvalidMount::Duplicate(mount.target.clone())),
        None => Ok(()),
    }
}

/// The cleaned form of a path inside a container: absolute, and not its root.
pub fn parse_target(target: &str) -> Result<String, InvalidMount> {
    if target.is_empty() {
        return Err(InvalidMount::EmptyField("Target"));
    }
    if !target.starts_with('/') {
        return Err(InvalidMount::Relative(target.to_owned()));
    }
    match clean(target) {
        root if root == "/" => Err(InvalidMount::Root),
        target => Ok(target),
    }
}

/// The cleaned form of a bind's source on the host, which may be `/`.
pub fn parse_source(source: &str) -> Result<String, InvalidMount> {
    match source {
        "" => Err(InvalidMount::EmptyField("Source")),
        absolute if absolute.starts_with('/') => Ok(clean(absolute)),
        relative => Err(InvalidMount::Relative(relative.to_owned())),
    }
}

/// `source` seen from the working directory `cwd`.
fn absolute(source: &str, cwd: &Path) -> String {
    clean(&format!("{}/{source}", cwd.to_string_lossy()))
}

/// Go's `path.Clean` of an absolute path: no empty part, no `.`, and `..` taken back by text alone.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// A volume's name, with the hint that Docker gives to who meant a path.
fn parse_volume_name(name: &str) -> Result<VolumeName, InvalidMount> {
    let has_pattern = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    VolumeName::from_str(name).map_err(|_| match name {
        short if short.len() == 1 && has_pattern => InvalidMount::ShortName(short.to_owned()),
        long if long.len() > 255 && has_pattern => InvalidMount::LongName(long.to_owned()),
        name => InvalidMount::VolumeName(name.to_owned()),
    })
}

/// Go's `filepath.IsLocal`: neither absolute nor leaving the directory that it is relative to.
fn is_local(path: &str) -> bool {
    let mut depth = 0_i32;
    !path.is_empty()
        && !path.starts_with('/')
        && path.split('/').all(|part| {
            depth += match part {
                "" | "." => 0,
                ".." => -1,
                _ => 1,
            };
            depth >= 0
        })
}

#[cfg(test)]
mod tests;
