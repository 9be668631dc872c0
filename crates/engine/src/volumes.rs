//! The verbs on volumes.

use crate::{Engine, Error, Result};
use orlop_model::filter::Filters;
use orlop_model::near::near;
use orlop_model::{ErrorKind, Id, Kind, VolumeName};
use orlop_state::events::Event;
use orlop_state::{TrashRow, VolumeRow};
use orlop_volumes::{CreateVolume, PrunePlan, Pruned, Removal, RemoveVolume, Volume, trash};

/// One line of `system df -v` under Local Volumes.
#[derive(Clone, Debug)]
pub struct VolumeUsage {
    /// The volume.
    pub name: VolumeName,
    /// How many containers, running or not, mount it.
    pub links: usize,
    /// Apparent bytes, hardlinks once; None when its content lies elsewhere.
    pub size: Option<u64>,
}

impl Engine {
    /// `volume create`.
    pub fn volume_create(&self, request: CreateVolume) -> Result<VolumeRow> {
        let made = orlop_volumes::create(&self.state, request)?;
        if made.created {
            self.emit_volume("create", &made.volume.name, &[("driver", &made.volume.driver)]);
        }
        Ok(made.volume)
    }

    /// `volume ls`, by name.
    pub fn volume_list(&self, filters: &Filters) -> Result<Vec<Volume>> {
        Ok(orlop_volumes::list(&self.state, filters)?)
    }

    /// `volume inspect`.
    pub fn volume_inspect(&self, name: &str) -> Result<Volume> {
        let found = volume_name(name).and_then(|name| Ok(orlop_volumes::inspect(&self.state, &name)?));
        found.map_err(|error| self.near_volume(error, name))
    }

    /// A volume that isn't there, with names that may have been meant.
    fn near_volume(&self, error: Error, name: &str) -> Error {
        if error.kind() != ErrorKind::NotFound {
            return error;
        }
        // The hint is no reason to fail otherwise than by what is missing.
        let rows = self.state.read(|tx| tx.volumes().list()).unwrap_or_default();
        error.near(near(name, rows.iter().map(|row| row.name.as_str())))
    }

    /// `volume rm`: into the trash.
    pub fn volume_remove(&self, name: &str, force: bool) -> Result<Removal> {
        let text = name;
        let name = volume_name(name)?;
        let removed = orlop_volumes::remove(&self.state, &name, RemoveVolume { force, now: false });
        let removal = removed.map_err(|error| self.near_volume(error.into(), text))?;
        if !matches!(removal, Removal::Missing) {
            self.emit_volume("destroy", &name, &[("driver", "local")]);
        }
        Ok(removal)
    }

    /// What `volume prune` would remove.
    pub fn volume_prune_plan(&self, all: bool, filters: &Filters) -> Result<PrunePlan> {
        Ok(orlop_volumes::plan_prune(&self.state, all, filters)?)
    }

    /// Moves what the plan names to the trash, except what was put to use since.
    pub fn volume_prune(&self, plan: PrunePlan) -> Result<Pruned> {
        let pruned = orlop_volumes::prune(&self.state, plan)?;
        for (name, _) in &pruned.deleted {
            self.emit_volume("destroy", name, &[("driver", "local")]);
        }
        Ok(pruned)
    }

    /// `volume restore`: brings the latest of that name, or that place in the trash, back.
    pub fn volume_restore(&self, name_or_id: &str) -> Result<VolumeRow> {
        let volume = trash::restore(&self.state, name_or_id)?;
        self.emit_volume("restore", &volume.name, &[("driver", &volume.driver)]);
        Ok(volume)
    }

    /// `volume trash ls`, latest first, each with its allocated bytes.
    pub fn trash_list(&self) -> Result<Vec<(TrashRow, u64)>> {
        let mut listed = Vec::new();
        for row in trash::list(&self.state)? {
            let bytes = match trash::usage(&self.state, row.id) {
                Ok(usage) => usage.allocated,
                // Restored or deleted by another process meanwhile.
                Err(_) if !trash::path(&self.state, row.id).exists() => continue,
                Err(error) => return Err(error.into()),
            };
            listed.push((row, bytes));
        }
        Ok(listed)
    }

    /// `volume trash empty`: deletes for good, and returns how many bytes are free now.
    pub fn trash_empty(&self, choose: impl Fn(&TrashRow) -> bool) -> Result<(Vec<Id>, u64)> {
        Ok(trash::empty(&self.state, choose)?)
    }

    /// What volumes take.
    pub fn volume_usage(&self) -> Result<Vec<VolumeUsage>> {
        let (rows, containers) =
            self.state.read(|tx| Ok::<_, Error>((tx.volumes().list()?, tx.containers().list()?)))?;
        rows.into_iter()
            .map(|row| {
                let links = containers.iter().filter(|container| container.volumes.contains(&row.name)).count();
                let usage = orlop_volumes::usage(&self.state, &row)?;
                Ok(VolumeUsage { name: row.name, links, size: usage.map(|usage| usage.apparent) })
            })
            .collect()
    }

    pub(crate) fn emit_volume(&self, action: &str, name: &VolumeName, attributes: &[(&str, &str)]) {
        self.state.emit(&Event::now("volume", action, name, attributes));
    }
}

/// A name that can't be one belongs to no volume.
fn volume_name(name: &str) -> Result<VolumeName> {
    name.parse().map_err(|_| Error::NoSuchVolume(name.to_owned()))
}
