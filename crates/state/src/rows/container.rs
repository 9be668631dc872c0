//! Containers, as far as the stores ask about them.

use crate::{Error, Row, Table};
use orlop_model::{ContainerName, Digest, Id, VolumeName};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

/// One container. The stores read what refers to their objects; the engine, which owns the row, reads and writes it
/// with its own `Details`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRow<Details = IgnoredAny> {
    /// Its id.
    pub id: Id,
    /// Its name, unique.
    pub name: ContainerName,
    /// Its image.
    pub image: Digest,
    /// The image's layers, lowest first. They stay as long as the container, even when the image is removed by force.
    pub layers: Vec<Id>,
    /// The directory of its writable layer.
    pub writable: Id,
    /// The volumes that it mounts.
    pub volumes: Vec<VolumeName>,
    /// Whether a program runs in it, as far as the row knows; the engine checks that against the boot.
    pub running: bool,
    /// Everything else.
    pub details: Details,
}

impl<Details: DeserializeOwned> Row for ContainerRow<Details> {
    const TABLE: &'static str = "container";

    fn key(&self) -> String {
        self.id.hex()
    }
}

impl<Details: DeserializeOwned> Table<'_, ContainerRow<Details>> {
    /// The container with this name.
    pub fn named(&self, name: &ContainerName) -> Result<Option<ContainerRow<Details>>, Error> {
        self.get_by("name", name.as_str())
    }
}

impl Table<'_, ContainerRow> {
    /// Ids of the containers, running or not, that mount this volume.
    pub fn using_volume(&self, name: &VolumeName) -> Result<Vec<Id>, Error> {
        Ok(self.list()?.into_iter().filter(|row| row.volumes.contains(name)).map(|row| row.id).collect())
    }
}
