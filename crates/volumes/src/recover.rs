//! Finishing or undoing what a dead process has begun.

use crate::store::{is_there, volume_path};
use crate::{Error, create, first_use, mount, remove, trash};
use orlop_model::VolumeName;
use orlop_state::rows::volume::VolumePhase;
use orlop_state::{State, VolumeRow};

/// Settles every intent whose lock is free, ends mounts whose containers are gone, and goes on deleting what was being
/// deleted. Returns how many things were settled. Cheap when there is nothing to do: one read, and one of the names in
/// `volumes/`.
pub fn recover(state: &State) -> Result<usize, Error> {
    let mut settled = recover_volumes(state)?;
    // Read after that: a removal without the trash has put something there to be deleted.
    for row in state.read(|tx| tx.trash().list())?.iter().filter(|row| row.emptying) {
        settled += usize::from(trash::recover(state, row)?);
    }
    Ok(settled)
}

/// The part of [`recover`] that other verbs may be waiting for; it leaves alone what is being deleted for good.
pub fn recover_volumes(state: &State) -> Result<usize, Error> {
    let volumes = state.read(|tx| tx.volumes().list())?;
    let mut settled = create::remove_leftovers(state, &volumes)?;
    for volume in volumes {
        if volume.phase == VolumePhase::Ready && volume.mounted_for.is_empty() {
            continue;
        }
        // Held: its holder is at work.
        let Some(_lock) = state.try_lock("volume", volume.name.as_str())? else { continue };
        if volume.phase != VolumePhase::Ready {
            settle(state, &volume.name)?;
            settled += 1;
        }
        settled += usize::from(mount::forget_dead_users(state, &volume.name)?);
    }
    Ok(settled)
}

/// The row of a volume after any intent of a dead process is settled. The caller holds the volume's lock, so whoever
/// wrote the intent is gone.
pub(crate) fn settle(state: &State, name: &VolumeName) -> Result<Option<VolumeRow>, Error> {
    let Some(volume) = state.read(|tx| tx.volumes().get(name.as_str()))? else { return Ok(None) };
    match volume.phase {
        VolumePhase::Ready => return Ok(Some(volume)),
        // Nobody was told of it, and nobody can have written into it.
        VolumePhase::Initialising(id) => first_use::undo(state, &volume, id)?,
        VolumePhase::Removing(id) => {
            let moved = is_there(&trash::aside_path(state, id))? || is_there(&trash::path(state, id))?;
            if !moved && is_there(&volume_path(state, name))? {
                // Either it can be done now, or the volume stays: what is on the disk then says which.
                let _ = remove::move_away(state, &volume, id, false);
            }
            return remove::end(state, &volume, id);
        }
        VolumePhase::Restoring(id) => trash::end_restore(state, &volume, id)?,
    }
    Ok(state.read(|tx| tx.volumes().get(name.as_str()))?)
}
