//! The trash: removed volumes and writable layers, until they are restored or deleted for good.
//!
//! What goes in is moved by one rename, between the two transactions of the verb that removes it, so a crash leaves it
//! either here or there. What is deleted for good is marked in its row first: nothing half deleted can be restored.

use crate::recover::settle;
use crate::store::{is_there, volume_path, volumes_path};
use crate::{Error, crash};
use orlop_model::{Id, VolumeName};
use orlop_state::rows::trash::TrashContent;
use orlop_state::rows::volume::VolumePhase;
use orlop_state::{State, TrashRow, VolumeRow};
use orlop_sys::copy::{TreeUsage, remove_tree, tree_usage};
use orlop_sys::durable;
use orlop_sys::path::open_directory;
use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// `trash/ID`.
pub fn path(state: &State, id: Id) -> PathBuf {
    state.root().join("trash").join(id.hex())
}

/// Where a volume waits that is deleted without the trash, in its own file system.
pub(crate) fn aside_path(state: &State, id: Id) -> PathBuf {
    volumes_path(state).join(format!(".emptying-{id}"))
}

/// Moves a directory to `trash/ID`; the caller's transactions around it tell of it. `what` names it in errors.
///
/// For the engine's writable layers too: intent in the container's row, this, then one transaction that deletes the
/// row and inserts the [`TrashRow`].
///
/// # Errors
/// Also when all is moved and only the sync of it failed: whoever goes on looks where the directory is.
pub fn take_in(state: &State, id: Id, from: &Path, what: &str) -> Result<(), Error> {
    let trash = make_ready(state)?;
    let moved = match durable::rename_new(from, &path(state, id)) {
        // One more name may need one more block. Giving up the reserve is what it is for; tend makes it again.
        Err(error) if error.is(Errno::NOSPC) && std::fs::remove_file(state.root().join("reserve")).is_ok() => {
            durable::rename_new(from, &path(state, id))
        }
        moved => moved,
    };
    moved.map_err(|error| {
        if error.is(Errno::XDEV) { Error::TrashElsewhere { name: what.to_owned(), trash } } else { error.into() }
    })?;
    crash::failure("trash: sync")
}

/// Makes the trash itself, which has to be there before the disk is full.
pub(crate) fn make_ready(state: &State) -> Result<PathBuf, Error> {
    let trash = state.root().join("trash");
    durable::make_directory(&trash, 0o700)?;
    Ok(trash)
}

pub(crate) fn take_aside(state: &State, id: Id, from: &Path) -> Result<(), Error> {
    Ok(durable::rename_new(from, &aside_path(state, id))?)
}

/// What lies in the trash and can be restored, the latest first.
pub fn list(state: &State) -> Result<Vec<TrashRow>, Error> {
    let mut rows = state.read(|tx| tx.trash().list())?;
    rows.retain(|row| !row.emptying);
    rows.sort_by_key(|row| std::cmp::Reverse(row.removed));
    Ok(rows)
}

/// How much one item holds, walked.
pub fn usage(state: &State, id: Id) -> Result<TreeUsage, Error> {
    Ok(tree_usage(open_directory(&path(state, id))?)?)
}

/// Deletes all that `choose` says yes to for good; returns the ids and how many bytes of the disk are free now. One item
/// that can't be deleted keeps no other from it.
///
/// # Errors
/// The first failure, after everything else was tried.
pub fn empty(state: &State, choose: impl Fn(&TrashRow) -> bool) -> Result<(Vec<Id>, u64), Error> {
    let rows = state.read(|tx| tx.trash().list())?;
    let (mut ids, mut bytes, mut failure) = (Vec::new(), 0, None);
    for row in rows.into_iter().filter(|row| row.emptying || choose(row)) {
        match delete(state, row.id) {
            Ok(Some(freed)) => {
                ids.push(row.id);
                bytes += freed;
            }
            Ok(None) => {}
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    failure.map_or(Ok((ids, bytes)), Err)
}

/// Deletes one item for good; returns how many bytes of the disk are free now, or None when it is gone already.
pub(crate) fn delete(state: &State, id: Id) -> Result<Option<u64>, Error> {
    let lock = state.lock("volume", &lock_name(id))?;
    let marked = state.write(|tx| {
        let Some(row) = tx.trash().get(&id.hex())? else { return Ok(false) };
        if !row.emptying {
            tx.trash().put(&TrashRow { emptying: true, ..row })?;
        }
        Ok::<_, Error>(true)
    })?;
    crash::point("empty: marked");
    if !marked {
        lock.remove();
        return Ok(None);
    }
    let mut bytes = 0;
    for path in [path(state, id), aside_path(state, id)] {
        match open_directory(&path) {
            Ok(directory) => bytes += tree_usage(directory)?.allocated,
            Err(error) if error.is(Errno::NOENT) => continue,
            // Its row stays, and with it the knowledge that something lies there.
            Err(error) => return Err(error.into()),
        }
        remove_tree(&path)?;
    }
    crash::point("empty: deleted");
    state.write(|tx| tx.trash().delete(&id.hex()))?;
    lock.remove();
    Ok(Some(bytes))
}

/// Ends what a dead process has begun to delete; what another one is deleting is left to it.
pub(crate) fn recover(state: &State, row: &TrashRow) -> Result<bool, Error> {
    match state.try_lock("volume", &lock_name(row.id))? {
        None => return Ok(false),
        Some(lock) => drop(lock),
    }
    delete(state, row.id)?;
    Ok(true)
}

/// A volume's name never begins with a dot, so these don't meet the volumes' own locks.
fn lock_name(id: Id) -> String {
    format!(".trash-{id}")
}

/// Brings a volume back: the latest of that name, or the one of that id (a unique beginning of at least 4 digits is
/// enough). It keeps its name, its creation time, labels and options.
///
/// # Errors
/// [`Error::RestoreExists`] when a volume of that name exists.
pub fn restore(state: &State, name_or_id: &str) -> Result<VolumeRow, Error> {
    let found = find(state, name_or_id)?;
    let TrashContent::Volume(volume) = found.content else {
        return Err(Error::NotAVolume(name_or_id.to_owned()));
    };
    let (id, name) = (found.id, volume.name.clone());
    // Volume before trash, everywhere.
    let _volume_lock = state.lock("volume", name.as_str())?;
    let trash_lock = state.lock("volume", &lock_name(id))?;
    if settle(state, &name)?.is_some() {
        return Err(Error::RestoreExists { id, name });
    }
    let volume = VolumeRow { phase: VolumePhase::Ready, mounted_for: Vec::new(), ..volume };
    state.write(|tx| {
        let still = tx.trash().get(&id.hex())?.is_some_and(|row| !row.emptying);
        if !still {
            return Err(Error::NotInTrash(name_or_id.to_owned()));
        }
        Ok(tx.volumes().insert(&VolumeRow { phase: VolumePhase::Restoring(id), ..volume.clone() })?)
    })?;
    crash::point("restore: intent");
    if let Err(error) = move_back(state, &name, id) {
        // The move may be done, and only the sync of it have failed. If this fails too, the intent stays.
        let _ = end_restore(state, &volume, id);
        return Err(error);
    }
    crash::point("restore: moved");
    finish_restore(state, &volume, id)?;
    trash_lock.remove();
    Ok(volume)
}

fn move_back(state: &State, name: &VolumeName, id: Id) -> Result<(), Error> {
    durable::make_directory(&volumes_path(state), 0o701)?;
    let target = volume_path(state, name);
    durable::rename_new(&path(state, id), &target).map_err(|error| {
        if error.is(Errno::EXIST) { Error::Stray { name: name.clone(), path: target.clone() } } else { error.into() }
    })?;
    crash::failure("restore: sync")
}

/// Ends a restoration by what is on the disk: moved, or still in the trash.
pub(crate) fn end_restore(state: &State, volume: &VolumeRow, id: Id) -> Result<(), Error> {
    let (from, to) = (path(state, id), volume_path(state, &volume.name));
    if !is_there(&from)? && is_there(&to)? {
        durable::sync_parents(&from, &to)?;
        return finish_restore(state, volume, id);
    }
    // One that somebody deleted by hand meanwhile stays listed; emptying the trash forgets it.
    state.write(|tx| tx.volumes().delete(volume.name.as_str()))?;
    Ok(())
}

/// Whether an item is listed, to be restored or to be deleted.
pub(crate) fn has(state: &State, id: Id) -> Result<bool, Error> {
    Ok(state.read(|tx| tx.trash().get(&id.hex()))?.is_some())
}

fn finish_restore(state: &State, volume: &VolumeRow, id: Id) -> Result<(), Error> {
    let volume = VolumeRow { phase: VolumePhase::Ready, ..volume.clone() };
    state.write(|tx| {
        tx.volumes().put(&volume)?;
        tx.trash().delete(&id.hex())
    })?;
    Ok(())
}

fn find(state: &State, name_or_id: &str) -> Result<TrashRow, Error> {
    let rows = list(state)?;
    let named =
        |row: &&TrashRow| matches!(&row.content, TrashContent::Volume(volume) if volume.name.as_str() == name_or_id);
    if let Some(latest) = rows.iter().find(named) {
        return Ok(latest.clone());
    }
    let mut with_prefix = rows.iter().filter(|row| name_or_id.len() >= 4 && row.id.hex().starts_with(name_or_id));
    match (with_prefix.next(), with_prefix.next()) {
        (Some(row), None) => Ok(row.clone()),
        (Some(_), Some(_)) => Err(Error::AmbiguousTrash(name_or_id.to_owned())),
        (None, _) => Err(Error::NotInTrash(name_or_id.to_owned())),
    }
}
