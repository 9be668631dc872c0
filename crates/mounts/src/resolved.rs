//! The resolved stage, as a container's row keeps it.

use orlop_model::VolumeName;
use orlop_model::mount::{BindMount, TmpfsMount};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One mount of a container. Its volume exists; its source on the host was there when the container was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedMount {
    /// Absolute, cleaned path inside the container.
    pub target: String,
    /// Whether the container may not write there.
    pub read_only: bool,
    /// The third part of `-v` as typed.
    #[serde(default)]
    pub mode: String,
    /// Who asked for it.
    pub origin: Origin,
    /// What is mounted.
    pub kind: ResolvedKind,
}

/// Where a mount comes from; an earlier one in this list beats a later one at the same path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// `-v`, `--mount` or `--tmpfs`.
    Flag,
    /// `--volumes-from`, of this container as typed.
    VolumesFrom(String),
    /// A `VOLUME` of the image.
    Image,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResolvedKind {
    /// A volume.
    Volume(ResolvedVolume),
    /// A path of the host.
    Bind(BindMount),
    /// Memory; every start begins with an empty one.
    Tmpfs(TmpfsMount),
}

/// A volume that exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedVolume {
    /// Its name.
    pub name: VolumeName,
    /// Nobody gave it its name; `rm -v` and `--rm` take it along.
    pub anonymous: bool,
    /// Its driver.
    pub driver: String,
    /// Where its content lies on the host, as the store said when the container was made.
    pub mountpoint: PathBuf,
    /// Only this part of it.
    pub subpath: Option<String>,
    /// It isn't filled from the image on first use.
    pub no_copy: bool,
}

impl ResolvedMount {
    /// The volume that this mount needs.
    pub fn volume(&self) -> Option<&ResolvedVolume> {
        match &self.kind {
            ResolvedKind::Volume(volume) => Some(volume),
            ResolvedKind::Bind(_) | ResolvedKind::Tmpfs(_) => None,
        }
    }

    /// As `inspect` shows it under `Mounts`.
    pub fn point(&self) -> MountPoint {
        let mut point = MountPoint {
            kind: "tmpfs",
            name: None,
            source: String::new(),
            destination: self.target.clone(),
            driver: None,
            mode: self.mode.clone(),
            rw: !self.read_only,
            propagation: "",
        };
        match &self.kind {
            ResolvedKind::Volume(volume) => {
                point.kind = "volume";
                point.name = Some(volume.name.clone());
                point.source = volume.mountpoint.to_string_lossy().into_owned();
                point.driver = Some(volume.driver.clone());
                // Docker labels the content of local volumes unless told otherwise, and shows it as the mode.
                if point.mode.is_empty() && volume.driver == "local" && self.origin == Origin::Flag {
                    point.mode = "z".to_owned();
                }
            }
            ResolvedKind::Bind(bind) => {
                point.kind = "bind";
                point.source.clone_from(&bind.source);
                point.propagation = bind.propagation.name();
            }
            // Docker keeps the options of --tmpfs elsewhere (HostConfig.Tmpfs).
            ResolvedKind::Tmpfs(_) => point.mode.clear(),
        }
        point
    }
}

/// Docker's MountPoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct MountPoint {
    /// `volume`, `bind` or `tmpfs`.
    #[serde(rename = "Type")]
    pub kind: &'static str,
    /// Of the volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<VolumeName>,
    /// On the host.
    pub source: String,
    /// In the container.
    pub destination: String,
    /// Of the volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// The third part of `-v`.
    pub mode: String,
    /// Whether the container may write.
    #[serde(rename = "RW")]
    pub rw: bool,
    /// Of a bind.
    pub propagation: &'static str,
}
