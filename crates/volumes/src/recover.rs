//! Finishing or undoing what a dead process has begun.

use crate::store::volume_path;
use crate::{Error, create, first_use, mount, remove, trash};
use orlop_model::VolumeName;
use orlop_state::rows::volume::VolumePhase;
use orlop_state::{State, VolumeRow};

/// Settles every intent whose lock is free, ends mounts whose containers are gone, and goes on deleting what was being
/// deleted. Returns how many things were settled. Cheap when there is nothing to do: one read.
pub fn recover(state: &State) -> Result<usize, Error> {
    let (volumes, mut trash) = state.read(|tx| Ok::<_, Error>((tx.volumes().list()?, tx.trash().list()?)))?;
    let mut settled = 0;
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
    if settled > 0 {
        // A removal without the trash, finished above, has put something there to be deleted.
        trash = state.read(|tx| tx.trash().list())?;
    }
    for row in trash.iter().filter(|row| row.emptying) {
        settled += usize::from(trash::recover(state, row)?);
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
        VolumePhase::Creating => create::undo(state, name)?,
        VolumePhase::Initialising(id) => first_use::undo(state, &volume, id)?,
        VolumePhase::Removing(id) => {
            let now = trash::aside_path(state, id).exists();
            let moved = now || trash::path(state, id).exists();
            if !moved && !volume_path(state, name).exists() {
                // Somebody deleted it by hand: there is nothing to restore.
                state.write(|tx| tx.volumes().delete(name.as_str()))?;
                return Ok(None);
            }
            if !moved {
                // Either the move can be done now, or the volume stays.
                if remove::move_away(state, &volume, id, false).is_err() {
                    let ready = VolumeRow { phase: VolumePhase::Ready, ..volume };
                    state.write(|tx| tx.volumes().put(&ready))?;
                    return Ok(Some(ready));
                }
            }
            remove::finish(state, volume, id, now)?;
        }
        VolumePhase::Restoring(id) => {
            if trash::path(state, id).exists() {
                state.write(|tx| tx.volumes().delete(name.as_str()))?;
            } else {
                trash::finish_restore(state, &volume, id)?;
            }
        }
    }
    Ok(state.read(|tx| tx.volumes().get(name.as_str()))?)
}
