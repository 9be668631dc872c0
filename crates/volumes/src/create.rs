//! Making a volume.
//!
//! The directory is made whole aside, renamed to the volume's name, and then one transaction makes it a volume. A crash
//! before that leaves a directory without a row that holds nothing but what is written here; whoever creates the name
//! next takes it away, and so does [`crate::recover`].

use crate::driver::driver_of;
use crate::recover::settle;
use crate::store::{is_there, is_visible, volume_path, volumes_path};
use crate::store::{read_record, write_record};
use crate::{Error, crash, trash};
use orlop_model::{Id, Timestamp, VolumeName};
use orlop_state::rows::volume::{VolumeOrigin, VolumePhase};
use orlop_state::{State, VolumeRow};
use orlop_sys::durable;
use rustix::fs::{AtFlags, CWD};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::Path;

/// The label that Docker gives to a volume without a name of its own.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// What `volume create`, or a mount of a volume that isn't there yet, asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateVolume {
    /// None makes an anonymous volume.
    pub name: Option<VolumeName>,
    /// None is the local driver, or that of the existing volume.
    pub driver: Option<String>,
    /// The driver's options. None at all also fits an existing volume that has some.
    pub options: BTreeMap<String, String>,
    /// Labels of a new volume; an existing one keeps its own.
    pub labels: BTreeMap<String, String>,
    /// The container that an anonymous volume is made for.
    pub origin: Option<VolumeOrigin>,
}

/// A volume that is there now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// Its row.
    pub volume: VolumeRow,
    /// Whether it was made by this call; false when it was there already.
    pub created: bool,
}

/// Makes a volume, or finds the one that has the name already.
///
/// # Errors
/// Docker's, when the name is taken by a volume of another driver or with other options, or when driver or options
/// can't be used; [`Error::Stray`] when something that is no volume lies in its place.
pub fn create(state: &State, request: CreateVolume) -> Result<Created, Error> {
    let volume = new_row(request.clone())?;
    let found = state.read(|tx| tx.volumes().peek(volume.name.as_str()))?;
    if let Some(found) = found
        && is_visible(&found)
    {
        return existing(found, &request);
    }

    // Whoever makes or removes it at this moment comes first.
    let _lock = state.lock("volume", volume.name.as_str())?;
    if let Some(found) = settle(state, &volume.name)? {
        return existing(found, &request);
    }
    make(state, &volume)?;
    Ok(Created { volume, created: true })
}

fn new_row(request: CreateVolume) -> Result<VolumeRow, Error> {
    let anonymous = request.name.is_none();
    let mut row = VolumeRow {
        name: request.name.unwrap_or_else(VolumeName::anonymous),
        driver: request.driver.unwrap_or_else(|| "local".to_owned()),
        options: request.options,
        labels: request.labels,
        created: Timestamp::now(),
        anonymous,
        origin: request.origin,
        phase: VolumePhase::Ready,
        mounted_for: Vec::new(),
    };
    if anonymous {
        row.labels.insert(ANONYMOUS.to_owned(), String::new());
    }
    driver_of(&row)?.check(&row)?;
    Ok(row)
}

fn existing(volume: VolumeRow, request: &CreateVolume) -> Result<Created, Error> {
    if request.driver.as_ref().is_some_and(|driver| *driver != volume.driver) {
        return Err(Error::OtherDriver { name: volume.name, driver: volume.driver });
    }
    if !request.options.is_empty() && request.options != volume.options {
        return Err(Error::OtherOptions { name: volume.name });
    }
    Ok(Created { volume, created: false })
}

/// Held shared by whoever has a directory aside, so that leftovers are known by the lock being free.
const MAKING: &str = ".creating";

/// How the names of directories aside begin; no volume's name begins with a dot.
const ASIDE: &str = ".creating-";

/// Makes the directory and the row; nothing stays of it when something fails. The caller holds the volume's lock.
fn make(state: &State, volume: &VolumeRow) -> Result<(), Error> {
    let (volumes, path) = (volumes_path(state), volume_path(state, &volume.name));
    durable::make_directory(&volumes, 0o701)?;
    trash::make_ready(state)?;
    if is_there(&path)? && !(leftover(&path, &volume.name)?.is_some() && remove_empty(&path)?) {
        return Err(Error::Stray { name: volume.name.clone(), path });
    }
    let _making = state.lock_shared("volume", MAKING)?;
    let aside = volumes.join(format!("{ASIDE}{}", Id::random()));
    let made = make_aside(&aside, volume)
        .and_then(|()| move_in(&aside, &path, volume))
        .and_then(|()| Ok(state.write(|tx| tx.volumes().insert(volume))?));
    if let Err(error) = made {
        // The first failure is the one to tell; what stays when this fails too is found by the next verb.
        let _ = remove_empty(&aside);
        if !matches!(error, Error::Stray { .. }) && matches!(row(state, &volume.name), Ok(None)) {
            let _ = remove_empty(&path);
        }
        return Err(error);
    }
    Ok(())
}

fn row(state: &State, name: &VolumeName) -> Result<Option<VolumeRow>, Error> {
    Ok(state.read(|tx| tx.volumes().get(name.as_str()))?)
}

fn make_aside(aside: &Path, volume: &VolumeRow) -> Result<(), Error> {
    durable::make_directory(aside, 0o701)?;
    durable::make_directory(&aside.join("_data"), 0o755)?;
    crash::point("create: half");
    write_record(aside, volume)?;
    crash::point("create: aside");
    Ok(())
}

fn move_in(aside: &Path, path: &Path, volume: &VolumeRow) -> Result<(), Error> {
    durable::rename_new_volatile(aside, path).map_err(|error| match error.is(Errno::EXIST) {
        // Somebody put it there this very moment; it is not ours to remove.
        true => Error::Stray { name: volume.name.clone(), path: path.to_owned() },
        false => Error::from(error),
    })?;
    // All at the end: the first of these writes the file system's journal, and the others find it written.
    durable::sync_file(&path.join("volume.json"))?;
    durable::sync_directory(path)?;
    durable::sync_parent(path)?;
    crash::point("create: moved");
    crash::failure("create: sync")
}

/// Removes what killed creations have left; `known` are the rows. Returns how many directories it was.
pub(crate) fn remove_leftovers(state: &State, known: &[VolumeRow]) -> Result<usize, Error> {
    let volumes = volumes_path(state);
    let read = |error| Error::io("read", &volumes, error);
    let entries = match std::fs::read_dir(&volumes) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        entries => entries.map_err(read)?,
    };
    let known: BTreeSet<&str> = known.iter().map(|row| row.name.as_str()).collect();
    let (mut aside, mut removed) = (Vec::new(), 0);
    for entry in entries {
        let name = entry.map_err(read)?.file_name();
        let Some(name) = name.to_str().filter(|name| !known.contains(name)) else { continue };
        if name.starts_with(ASIDE) {
            aside.push(volumes.join(name));
        } else if let Ok(name) = name.parse::<VolumeName>() {
            removed += usize::from(remove_unknown(state, &name)?);
        }
    }
    // Held: somebody is making one of them.
    if !aside.is_empty()
        && let Some(_making) = state.try_lock("volume", MAKING)?
    {
        for path in aside {
            removed += usize::from(remove_empty(&path)?);
        }
    }
    Ok(removed)
}

/// Removes a directory without a row when a killed creation has left it. One whose record says more than a name may
/// also be a volume that a database from a backup doesn't know: it stays until somebody creates that name.
fn remove_unknown(state: &State, name: &VolumeName) -> Result<bool, Error> {
    let path = volume_path(state, name);
    let says_nothing =
        |record: &VolumeRow| record.options.is_empty() && record.labels.keys().all(|key| key == ANONYMOUS);
    // Looked at before the lock as well, which would leave a file for each stray directory.
    if !leftover(&path, name)?.is_some_and(|record| says_nothing(&record)) {
        return Ok(false);
    }
    let Some(lock) = state.try_lock("volume", name.as_str())? else { return Ok(false) };
    if row(state, name)?.is_some() || leftover(&path, name)?.is_none() {
        return Ok(false);
    }
    let removed = remove_empty(&path)?;
    lock.remove();
    Ok(removed)
}

/// The record of a directory that holds what a creation makes and nothing else; None for anything else.
fn leftover(path: &Path, name: &VolumeName) -> Result<Option<VolumeRow>, Error> {
    let listed = |path: &Path| -> Result<Option<BTreeSet<OsString>>, Error> {
        match std::fs::read_dir(path) {
            Ok(entries) => Ok(Some(
                entries
                    .map(|entry| Ok(entry?.file_name()))
                    .collect::<std::io::Result<_>>()
                    .map_err(|error| Error::io("read", path, error))?,
            )),
            Err(error) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&error.kind()) => Ok(None),
            Err(error) => Err(Error::io("read", path, error)),
        }
    };
    let is_made_here = listed(path)?.is_some_and(|names| names.iter().eq(["_data", "volume.json"]));
    if !is_made_here || listed(&path.join("_data"))?.is_none_or(|names| !names.is_empty()) {
        return Ok(None);
    }
    // A power cut before the first sync leaves the record without its content.
    if path.join("volume.json").metadata().is_ok_and(|record| record.len() == 0) {
        return Ok(Some(new_row(CreateVolume { name: Some(name.clone()), ..CreateVolume::default() })?));
    }
    Ok(read_record(path)?.filter(|record| record.name == *name))
}

/// Removes a volume's directory; false when it holds anything but what this file has made.
fn remove_empty(path: &Path) -> Result<bool, Error> {
    // `_data` first and the record last: what can't be removed is still a whole volume then.
    for (path, flags) in [
        (path.join("_data"), AtFlags::REMOVEDIR),
        (path.join(".volume.json.tmp"), AtFlags::empty()),
        (path.join("volume.json"), AtFlags::empty()),
        (path.to_owned(), AtFlags::REMOVEDIR),
    ] {
        match rustix::fs::unlinkat(CWD, &path, flags) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::BUSY) => return Ok(false),
            Err(error) => return Err(Error::io("remove", &path, error)),
        }
    }
    Ok(true)
}
