//! Where volumes lie, and what is known about them.

use crate::Error;
use crate::driver::driver_of;
use orlop_model::filter::Filters;
use orlop_model::{Id, VolumeName};
use orlop_state::rows::volume::{VolumeOrigin, VolumePhase};
use orlop_state::{ReadTx, State, VolumeRow};
use orlop_sys::copy::{TreeUsage, tree_usage};
use orlop_sys::path::open_directory;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A volume as `inspect` shows it; the fields and their order are those of Docker's API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Volume {
    /// RFC 3339 with whole seconds.
    pub created_at: String,
    /// `local`.
    pub driver: String,
    /// None, shown as `null`, when there are none.
    pub labels: Option<BTreeMap<String, String>>,
    /// `_data`.
    pub mountpoint: PathBuf,
    /// The name.
    pub name: VolumeName,
    /// None, shown as `null`, when there are none.
    pub options: Option<BTreeMap<String, String>>,
    /// For which container and image an anonymous one was made; not in Docker's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// `local`: this host only.
    pub scope: &'static str,
}

/// Where an anonymous volume came from; the container and the image may be gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Origin {
    /// The container's id.
    pub container: Id,
    /// The container's name.
    pub container_name: String,
    /// The image, as the user named it.
    pub image: String,
}

impl Volume {
    pub(crate) fn new(state: &State, row: VolumeRow) -> Self {
        let shown = |map: BTreeMap<String, String>| (!map.is_empty()).then_some(map);
        Self {
            created_at: row.created.to_seconds_string(),
            mountpoint: data_path(state, &row.name),
            driver: row.driver,
            labels: shown(row.labels),
            name: row.name,
            options: shown(row.options),
            origin: row.origin.map(|VolumeOrigin { container, container_name, image }| Origin {
                container,
                container_name,
                image,
            }),
            scope: "local",
        }
    }
}

/// `volumes/NAME`.
pub fn volume_path(state: &State, name: &VolumeName) -> PathBuf {
    volumes_path(state).join(name.as_str())
}

/// `volumes/NAME/_data`.
pub fn data_path(state: &State, name: &VolumeName) -> PathBuf {
    volume_path(state, name).join("_data")
}

pub(crate) fn volumes_path(state: &State) -> PathBuf {
    state.root().join("volumes")
}

/// Whether anything lies at a path. Only ENOENT says no: a disk that fails isn't one that is empty.
pub(crate) fn is_there(path: &Path) -> Result<bool, Error> {
    match rustix::fs::lstat(path) {
        Ok(_) => Ok(true),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(error) => Err(Error::io("stat", path, error)),
    }
}

/// Whether a volume with this row is there for others. One that comes back isn't yet, one that is being removed isn't
/// any more.
pub(crate) fn is_visible(row: &VolumeRow) -> bool {
    match row.phase {
        VolumePhase::Ready | VolumePhase::Initialising(_) => true,
        VolumePhase::Removing(_) | VolumePhase::Restoring(_) => false,
    }
}

/// The row of one volume.
pub fn get(state: &State, name: &VolumeName) -> Result<VolumeRow, Error> {
    let row = state.read(|tx| tx.volumes().get(name.as_str()))?;
    row.filter(is_visible).ok_or_else(|| Error::NoSuchVolume(name.clone()))
}

/// One volume, as `volume inspect` shows it.
pub fn inspect(state: &State, name: &VolumeName) -> Result<Volume, Error> {
    Ok(Volume::new(state, get(state, name)?))
}

/// The volumes that pass the filters `name`, `driver`, `label` and `dangling`, ordered by name.
pub fn list(state: &State, filters: &Filters) -> Result<Vec<Volume>, Error> {
    let dangling = filters.boolean("dangling")?;
    let (rows, used) = state.read(|tx| {
        // Only one filter asks who uses what.
        let used = if dangling.is_some() { used_names(tx)? } else { BTreeSet::new() };
        Ok::<_, Error>((tx.volumes().list()?, used))
    })?;
    let passes = |row: &VolumeRow| {
        is_visible(row)
            && filters.matches("name", row.name.as_str())
            && filters.equals("driver", &row.driver)
            && filters.matches_labels(&row.labels)
            && dangling.is_none_or(|dangling| dangling != used.contains(&row.name))
    };
    Ok(rows.into_iter().filter(passes).map(|row| Volume::new(state, row)).collect())
}

/// The volumes that no container, running or not, refers to: what `prune --all` would take, and what `system df` calls
/// reclaimable.
pub fn unused(tx: &ReadTx<'_>) -> Result<Vec<VolumeRow>, Error> {
    let used = used_names(tx)?;
    let mut rows = tx.volumes().list()?;
    rows.retain(|row| row.phase == VolumePhase::Ready && !used.contains(&row.name));
    Ok(rows)
}

/// Makes sure that a container may refer to these volumes: for the transaction that inserts its row. The first that is
/// gone is an error; whoever creates volumes as they are needed then creates it again, since a prune came in between.
pub fn require(tx: &ReadTx<'_>, names: &[VolumeName]) -> Result<(), Error> {
    for name in names {
        let row = tx.volumes().get(name.as_str())?;
        row.filter(is_visible).ok_or_else(|| Error::NoSuchVolume(name.clone()))?;
    }
    Ok(())
}

fn used_names(tx: &ReadTx<'_>) -> Result<BTreeSet<VolumeName>, Error> {
    Ok(tx.containers().list()?.into_iter().flat_map(|row| row.volumes).collect())
}

/// The containers, running or not, that refer to a volume.
pub(crate) fn users(tx: &ReadTx<'_>, name: &VolumeName) -> Result<Vec<Id>, Error> {
    Ok(tx.containers().using_volume(name)?)
}

/// How much a volume holds, walked. None for one that only stands for a device or for memory, and for one that was
/// removed meanwhile.
pub fn usage(state: &State, row: &VolumeRow) -> Result<Option<TreeUsage>, Error> {
    if driver_of(row)?.needs_mount(row)? {
        return Ok(None);
    }
    match open_directory(&data_path(state, &row.name)) {
        Err(error) if error.is(rustix::io::Errno::NOENT) => Ok(None),
        directory => Ok(Some(tree_usage(directory?)?)),
    }
}

/// Writes `volume.json` into a volume's directory.
/// Doesn't wait for the disk: the caller syncs.
pub(crate) fn write_record(directory: &Path, row: &VolumeRow) -> Result<(), Error> {
    let record = VolumeRow { phase: VolumePhase::Ready, mounted_for: Vec::new(), ..row.clone() };
    let mut json = serde_json::to_vec_pretty(&record).map_err(|error| Error::io("write", directory, error))?;
    json.push(b'\n');
    Ok(orlop_sys::durable::write_file_volatile(&directory.join("volume.json"), &json, 0o600)?)
}

/// What `volume.json` in a directory says; None when it isn't there or isn't one.
pub(crate) fn read_record(directory: &Path) -> Result<Option<VolumeRow>, Error> {
    let opened = open_directory(directory)?;
    let bytes = orlop_sys::path::read_in_root(&opened, Path::new("volume.json"), 1 << 20)?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}
