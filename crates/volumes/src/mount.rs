//! The use of a volume by containers: who uses it is in its row, and what is mounted at `_data` follows from that.

use crate::driver::driver_of;
use crate::recover::settle;
use crate::store::{data_path, is_there};
use crate::{Error, crash};
use orlop_model::{Id, VolumeName};
use orlop_state::{State, VolumeRow};
use orlop_sys::lock::FileLock;
use std::path::PathBuf;

/// A volume whose `_data` can be used now. It holds the volume's lock: nobody else initialises, removes or unmounts the
/// volume before this is dropped, so drop it once `_data` is cloned to where the container finds it, and before the
/// next volume is mounted.
#[derive(Debug)]
pub struct Mounted {
    /// The volume's row.
    pub volume: VolumeRow,
    /// `_data`.
    pub path: PathBuf,
    pub(crate) _lock: FileLock,
}

/// Makes a volume's `_data` usable for a container: mounts what the options say, unless another container has that
/// already. The container's row must exist, and its lock `container/ID` be held until the row says running: that is
/// how others know that this use is alive.
pub fn mount(state: &State, name: &VolumeName, container: Id) -> Result<Mounted, Error> {
    let lock = state.lock("volume", name.as_str())?;
    let mut volume = settle(state, name)?.ok_or_else(|| Error::NoSuchVolume(name.clone()))?;
    let path = data_path(state, name);
    let is_directory = match path.symlink_metadata() {
        Ok(metadata) => metadata.is_dir(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(Error::io("stat", path, error)),
    };
    if !is_directory {
        return Err(Error::Missing { name: name.clone(), path });
    }
    let driver = driver_of(&volume)?;
    if driver.needs_mount(&volume)? {
        // The row first, so that a mount without a user is one that somebody may end.
        if !volume.mounted_for.contains(&container) {
            volume.mounted_for.push(container);
            state.write(|tx| tx.volumes().put(&volume))?;
        }
        crash::point("mount: row");
        if let Err(error) = driver.attach(&volume, &path) {
            volume.mounted_for.retain(|user| *user != container);
            state.write(|tx| tx.volumes().put(&volume))?;
            return Err(error);
        }
    }
    Ok(Mounted { volume, path, _lock: lock })
}

/// Ends a container's use of a volume; after the last one what was mounted at `_data` is unmounted. A volume that is
/// gone, or that the container doesn't use, is no error.
pub fn unmount(state: &State, name: &VolumeName, container: Id) -> Result<(), Error> {
    let found = state.read(|tx| tx.volumes().get(name.as_str()))?;
    if found.is_none_or(|volume| volume.mounted_for.is_empty()) {
        return Ok(());
    }
    let _lock = state.lock("volume", name.as_str())?;
    end_uses(state, name, |user| user == container).map(drop)
}

/// Ends the uses of containers that are gone. The caller holds the volume's lock.
pub(crate) fn forget_dead_users(state: &State, name: &VolumeName) -> Result<bool, Error> {
    end_uses(state, name, |_| false)
}

/// Takes users from the row, those that `ended` names and those that are dead; the mount goes before the last user, so
/// that a crash in between leaves somebody who ends it again. Says whether anything changed.
fn end_uses(state: &State, name: &VolumeName, ended: impl Fn(Id) -> bool) -> Result<bool, Error> {
    let Some(mut volume) = state.read(|tx| tx.volumes().get(name.as_str()))? else { return Ok(false) };
    let before = volume.mounted_for.clone();
    let mut alive = Vec::new();
    for user in &before {
        if !ended(*user) && is_alive(state, *user)? {
            alive.push(*user);
        }
    }
    if alive == before {
        return Ok(false);
    }
    if alive.is_empty() {
        driver_of(&volume)?.detach(&volume, &data_path(state, name))?;
    }
    crash::point("unmount: detached");
    volume.mounted_for = alive;
    state.write(|tx| tx.volumes().put(&volume))?;
    Ok(true)
}

/// Whether a container runs, or is being started or stopped right now.
fn is_alive(state: &State, container: Id) -> Result<bool, Error> {
    let row = state.read(|tx| tx.containers().get(&container.hex()))?;
    Ok(match row {
        None => false,
        Some(row) if row.running => true,
        Some(_) => state.try_lock("container", &container.hex())?.is_none(),
    })
}

/// Unmounts what a volume that no container refers to still has at its `_data`.
pub(crate) fn release(state: &State, volume: &VolumeRow) -> Result<(), Error> {
    let path = data_path(state, &volume.name);
    if !is_there(&path)? {
        return Ok(());
    }
    driver_of(volume)?.detach(volume, &path)
}
