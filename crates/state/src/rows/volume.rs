//! Volumes.

use crate::Row;
use orlop_model::{Id, Timestamp, VolumeName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRow {
    /// Also the name of its directory.
    pub name: VolumeName,
    /// `local`, or a plugin's name.
    pub driver: String,
    /// The driver's options.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// When it was made.
    pub created: Timestamp,
    /// Made without a name, so `prune` may take it.
    pub anonymous: bool,
    /// For which container and image it was made.
    #[serde(default)]
    pub origin: Option<VolumeOrigin>,
    /// Where it is in its life.
    pub phase: VolumePhase,
    /// Containers for which something is mounted at its `_data` (only with options that need a mount).
    #[serde(default)]
    pub mounted_for: Vec<Id>,
}

/// Where an anonymous volume came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeOrigin {
    /// The container's id.
    pub container: Id,
    /// The container's name.
    pub container_name: String,
    /// The image, as the user named it.
    pub image: String,
}

/// A volume's life. Everything but Ready is an intent, finished or undone by whoever finds the volume's lock free.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumePhase {
    /// In use or ready to be used.
    Ready,
    /// The image's content is being copied in, under names that hold this id.
    Initialising(Id),
    /// It is on its way to this directory of the trash.
    Removing(Id),
    /// It is on its way back from this directory of the trash.
    Restoring(Id),
}

impl Row for VolumeRow {
    const TABLE: &'static str = "volume";

    fn key(&self) -> String {
        self.name.as_str().to_owned()
    }
}
