//! Removing what no container refers to.

use crate::store::unused;
use crate::{Error, Removal, RemoveVolume, remove, usage};
use orlop_model::filter::Filters;
use orlop_model::{Id, VolumeName};
use orlop_state::{State, VolumeRow};

/// What a prune would take; for the user to see, and then to apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrunePlan {
    /// The volumes to remove.
    pub volumes: Vec<VolumeRow>,
    /// Named volumes that are unused as well and stay, because `all` wasn't asked for.
    pub kept_named: usize,
}

/// What a prune took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Volumes that are in the trash now, with their ids there.
    pub deleted: Vec<(VolumeName, Id)>,
    /// Allocated bytes that wait in the trash; none of them is free yet.
    pub trashed_bytes: u64,
}

/// Chooses the volumes that no container refers to: anonymous ones, and with `all` (also as a filter) named ones.
/// Filters: `label` and `label!`.
pub fn plan_prune(state: &State, all: bool, filters: &Filters) -> Result<PrunePlan, Error> {
    let all = all || filters.boolean("all")?.unwrap_or(false);
    let unused = state.read(unused)?;
    let matching = unused.into_iter().filter(|row| filters.matches_labels(&row.labels));
    let (volumes, kept): (Vec<_>, Vec<_>) = matching.partition(|row| all || row.anonymous);
    Ok(PrunePlan { volumes, kept_named: kept.len() })
}

/// Moves the planned volumes to the trash. One that was removed or came into use since is left out, and one
/// that fails keeps no other from it.
///
/// # Errors
/// The first failure, after everything else was tried.
pub fn prune(state: &State, plan: PrunePlan) -> Result<Pruned, Error> {
    let mut pruned = Pruned::default();
    let mut failure = None;
    for volume in plan.volumes {
        // Measured first: the size is what the user is told, and one that vanishes meanwhile is left out anyway.
        let bytes = usage(state, &volume).ok().flatten().map_or(0, |usage| usage.allocated);
        match remove(state, &volume.name, RemoveVolume { force: true, now: false }) {
            Ok(Removal::Trashed(id)) => {
                pruned.deleted.push((volume.name, id));
                pruned.trashed_bytes += bytes;
            }
            Ok(_) | Err(Error::InUse { .. } | Error::MountedElsewhere { .. }) => {}
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    failure.map_or(Ok(pruned), Err)
}
