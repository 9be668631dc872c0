//! Making a volume.

use crate::driver::driver_of;
use crate::recover::settle;
use crate::store::{is_there, is_visible, volume_path, volumes_path, write_record};
use crate::{Error, crash, trash};
use orlop_model::{Timestamp, VolumeName};
use orlop_state::rows::volume::{VolumeOrigin, VolumePhase};
use orlop_state::{State, VolumeRow};
use orlop_sys::durable;
use rustix::fs::{AtFlags, CWD};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::path::Path;

/// The label that Docker gives to a volume without a name of its own.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// What `volume create`, or a mount of a volume that isn't there yet, asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    let found = state.read(|tx| tx.volumes().get(volume.name.as_str()))?;
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

/// Makes the directory between two transactions; nothing stays of it when something fails.
fn make(state: &State, volume: &VolumeRow) -> Result<(), Error> {
    let path = volume_path(state, &volume.name);
    durable::make_directory(&volumes_path(state), 0o701)?;
    trash::make_ready(state)?;
    if is_there(&path)? {
        return Err(Error::Stray { name: volume.name.clone(), path });
    }
    // From here on what lies at the path is ours, also for whoever finds this intent after a crash.
    let intent = VolumeRow { phase: VolumePhase::Creating, ..volume.clone() };
    state.write(|tx| tx.volumes().insert(&intent))?;
    crash::point("create: intent");
    let made = make_directories(state, volume).and_then(|()| {
        crash::point("create: directories");
        Ok(state.write(|tx| tx.volumes().put(volume))?)
    });
    match made {
        Ok(()) => Ok(()),
        // Somebody put it there this very moment; it is not ours to remove.
        Err(error @ Error::Stray { .. }) => {
            state.write(|tx| tx.volumes().delete(volume.name.as_str()))?;
            Err(error)
        }
        Err(error) => {
            // The first failure is the one to tell; if this fails too, the intent stays and the next verb tries again.
            let _ = undo(state, volume);
            Err(error)
        }
    }
}

fn make_directories(state: &State, volume: &VolumeRow) -> Result<(), Error> {
    let path = volume_path(state, &volume.name);
    rustix::fs::mkdir(&path, rustix::fs::Mode::RWXU).map_err(|error| match error {
        Errno::EXIST => Error::Stray { name: volume.name.clone(), path: path.clone() },
        error => Error::io("create directory", &path, error),
    })?;
    crash::point("create: directory");
    rustix::fs::chmod(&path, rustix::fs::Mode::from_raw_mode(0o701))
        .map_err(|error| Error::io("chmod", &path, error))?;
    durable::make_directory(&path.join("_data"), 0o755)?;
    crash::point("create: half");
    // Also syncs the directory, and with it the name of `_data`.
    write_record(&path, volume)?;
    Ok(durable::sync_parent(&path)?)
}

/// Takes back a creation that nobody was told of; finishes it when somebody has put something into it meanwhile.
pub(crate) fn undo(state: &State, volume: &VolumeRow) -> Result<(), Error> {
    let path = volume_path(state, &volume.name);
    if !remove_empty(&path)? {
        let ready = VolumeRow { phase: VolumePhase::Ready, ..volume.clone() };
        durable::make_directory(&path.join("_data"), 0o755)?;
        write_record(&path, &ready)?;
        durable::sync_parent(&path)?;
        state.write(|tx| tx.volumes().put(&ready))?;
        return Ok(());
    }
    if path.parent().map(is_there).transpose()?.unwrap_or(false) {
        durable::sync_parent(&path)?;
    }
    state.write(|tx| tx.volumes().delete(volume.name.as_str()))?;
    Ok(())
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
            Err(Errno::NOTEMPTY | Errno::EXIST) => return Ok(false),
            Err(error) => return Err(Error::io("remove", &path, error)),
        }
    }
    Ok(true)
}
