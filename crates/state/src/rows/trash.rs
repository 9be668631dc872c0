//! What was removed and can be brought back.

use crate::{Row, VolumeRow};
use orlop_model::{ContainerName, Digest, Id, Timestamp};
use serde::{Deserialize, Serialize};

/// One directory below `trash/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrashRow {
    /// Also the name of its directory; random and never used again.
    pub id: Id,
    /// When it was removed.
    pub removed: Timestamp,
    /// What it was.
    pub content: TrashContent,
    /// It is being deleted for good and can't be restored any more.
    pub emptying: bool,
}

/// What lies in a directory of the trash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TrashContent {
    /// A volume, with its row as it was.
    Volume(VolumeRow),
    /// A container's writable layer.
    WritableLayer {
        /// The container's id.
        container: Id,
        /// Its name.
        name: ContainerName,
        /// Its image.
        image: Digest,
        /// The image's layers, lowest first. They don't stay for this: what the trash holds are whole files.
        layers: Vec<Id>,
    },
}

impl Row for TrashRow {
    const TABLE: &'static str = "trash";

    fn key(&self) -> String {
        self.id.hex()
    }
}
