//! Taking a volume away: into the trash, from which it can come back.

use crate::recover::settle;
use crate::store::{data_path, is_there, users, volume_path};
use crate::{Error, crash, mount, mounted, trash};
use orlop_model::{Id, Timestamp, VolumeName};
use orlop_state::rows::trash::TrashContent;
use orlop_state::rows::volume::VolumePhase;
use orlop_state::{State, TrashRow, VolumeRow};
use orlop_sys::durable;

/// How `volume rm` was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoveVolume {
    /// `-f`: a missing volume is no error. One that is in use stays an error, as in Docker.
    pub force: bool,
    /// `--now`: deleted for good instead of moved to the trash.
    pub now: bool,
}

/// What became of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// There was none, and `force` was given.
    Missing,
    /// It waits in the trash under this id.
    Trashed(Id),
    /// It is gone, and this many bytes are free.
    Deleted(u64),
}

/// Removes a volume that no container refers to and that the kernel has mounted nowhere.
pub fn remove(state: &State, name: &VolumeName, options: RemoveVolume) -> Result<Removal, Error> {
    let lock = state.lock("volume", name.as_str())?;
    let Some(volume) = settle(state, name)? else {
        lock.remove();
        return if options.force { Ok(Removal::Missing) } else { Err(Error::NoSuchVolume(name.clone())) };
    };
    refuse_while_used(state, &volume)?;
    mount::release(state, &volume)?;
    mounted::refuse(name, &data_path(state, name))?;

    let id = Id::random();
    let intent = VolumeRow { phase: VolumePhase::Removing(id), mounted_for: Vec::new(), ..volume.clone() };
    state.write(|tx| {
        // Again, now that nobody else can write: a container may have been created since.
        let containers = users(tx, name)?;
        if !containers.is_empty() {
            return Err(Error::InUse { name: name.clone(), containers });
        }
        Ok(tx.volumes().put(&intent)?)
    })?;
    crash::point("remove: intent");
    if let Err(error) = move_away(state, &volume, id, options.now) {
        // The move may be done, and only the sync of it have failed. If this fails too, the intent stays.
        let is_gone = matches!(end(state, &intent, id), Ok(None)) && !trash::has(state, id)?;
        if !is_gone {
            return Err(error);
        }
        // Somebody deleted it by hand, so there was nothing to move.
        lock.remove();
        return Ok(Removal::Deleted(0));
    }
    crash::point("remove: moved");
    finish(state, volume, id, options.now)?;
    lock.remove();
    if !options.now {
        return Ok(Removal::Trashed(id));
    }
    Ok(Removal::Deleted(trash::delete(state, id)?.unwrap_or(0)))
}

/// Takes back a volume that the caller has created for something that failed after all. Somebody else may have found it
/// meanwhile: one that is used, or that holds anything, stays. Says whether it is gone.
pub fn undo_create(state: &State, name: &VolumeName) -> Result<bool, Error> {
    let path = data_path(state, name);
    // A container that comes after this look is found by the removal; one that came and went has left its files.
    if std::fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_some()) {
        return Ok(false);
    }
    match remove(state, name, RemoveVolume { force: true, now: false }) {
        Ok(Removal::Trashed(id)) => {
            let path = trash::path(state, id).join("_data");
            if std::fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_none()) {
                trash::delete(state, id)?;
            }
            Ok(true)
        }
        Ok(_) => Ok(true),
        Err(Error::InUse { .. } | Error::MountedElsewhere { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

fn refuse_while_used(state: &State, volume: &VolumeRow) -> Result<(), Error> {
    let name = &volume.name;
    let containers = state.read(|tx| users(tx, name))?;
    if containers.is_empty() { Ok(()) } else { Err(Error::InUse { name: name.clone(), containers }) }
}

pub(crate) fn move_away(state: &State, volume: &VolumeRow, id: Id, now: bool) -> Result<(), Error> {
    let path = volume_path(state, &volume.name);
    if now { trash::take_aside(state, id, &path) } else { trash::take_in(state, id, &path, volume.name.as_str()) }
}

/// Ends a removal by what is on the disk: moved or still there. None when the volume is gone.
pub(crate) fn end(state: &State, volume: &VolumeRow, id: Id) -> Result<Option<VolumeRow>, Error> {
    let path = volume_path(state, &volume.name);
    for (moved, now) in [(trash::aside_path(state, id), true), (trash::path(state, id), false)] {
        if is_there(&moved)? {
            durable::sync_parents(&path, &moved)?;
            finish(state, volume.clone(), id, now)?;
            return Ok(None);
        }
    }
    if !is_there(&path)? {
        state.write(|tx| tx.volumes().delete(volume.name.as_str()))?;
        return Ok(None);
    }
    let ready = VolumeRow { phase: VolumePhase::Ready, ..volume.clone() };
    state.write(|tx| tx.volumes().put(&ready))?;
    Ok(Some(ready))
}

/// The last transaction: the volume is gone, and the trash has it.
pub(crate) fn finish(state: &State, volume: VolumeRow, id: Id, now: bool) -> Result<(), Error> {
    let name = volume.name.clone();
    let volume = VolumeRow { phase: VolumePhase::Ready, mounted_for: Vec::new(), ..volume };
    let row = TrashRow { id, removed: Timestamp::now(), content: TrashContent::Volume(volume), emptying: now };
    state.write(|tx| {
        tx.trash().insert(&row)?;
        tx.volumes().delete(name.as_str())
    })?;
    Ok(())
}
