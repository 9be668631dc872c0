//! Whether the kernel has a directory mounted somewhere.
//!
//! A container's mounts are not in our mount namespace, so the mountinfo of every distinct one is read, and what is
//! compared is the device and the directory on it: a path means nothing in another namespace.

use crate::Error;
use crate::store::is_there;
use orlop_model::VolumeName;
use orlop_sys::mount::{MountInfo, mount_info, mount_info_of_all_namespaces};
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};
use std::path::{Path, PathBuf};

/// A place where a directory, or a part of it, is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountedAt {
    pub(crate) at: PathBuf,
    /// One of the processes that see it there.
    pub(crate) process: u32,
}

/// An error when `_data` or a part of it is mounted anywhere, or something is mounted inside of it.
pub(crate) fn refuse(name: &VolumeName, path: &Path) -> Result<(), Error> {
    match find(path)? {
        None => Ok(()),
        Some(MountedAt { at, process }) => Err(Error::MountedElsewhere {
            name: name.clone(),
            at: at.display().to_string(),
            process: process.to_string(),
        }),
    }
}

/// The first mount of `path`, or of something below it, in any mount namespace; also the first mount inside of it in
/// ours. None when the path doesn't exist.
pub(crate) fn find(path: &Path) -> Result<Option<MountedAt>, Error> {
    let own = mount_info()?;
    let Some(place) = locate(path, &own)? else { return Ok(None) };
    if let Some(inside) = own.iter().find(|mount| mount.mount_point.starts_with(&place.path)) {
        return Ok(Some(MountedAt { at: inside.mount_point.clone(), process: std::process::id() }));
    }
    let is_it = |mount: &&MountInfo| mount.device == place.device && mount.root.starts_with(&place.root);
    for namespace in mount_info_of_all_namespaces()? {
        if let Some(mount) = namespace.mounts.iter().find(is_it) {
            return Ok(Some(MountedAt { at: mount.mount_point.clone(), process: namespace.pid }));
        }
    }
    Ok(None)
}

struct Place {
    path: PathBuf,
    device: (u32, u32),
    /// The directory's path in its own file system.
    root: PathBuf,
}

fn locate(path: &Path, own: &[MountInfo]) -> Result<Option<Place>, Error> {
    if !is_there(path)? {
        return Ok(None);
    }
    let path = path.canonicalize().map_err(|error| Error::io("resolve", path, error))?;
    let stat = rustix::fs::statx(CWD, &path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::MNT_ID)
        .map_err(|error| Error::io("stat", &path, error))?;
    // By id where the kernel tells it (Linux 5.8), since several mounts may cover each other.
    let by_id = own.iter().find(|mount| mount.id == stat.stx_mnt_id);
    let by_path = || {
        let above = own.iter().filter(|mount| path.starts_with(&mount.mount_point));
        above.max_by_key(|mount| mount.mount_point.as_os_str().len())
    };
    let Some(mount) = by_id.or_else(by_path) else { return Ok(None) };
    let below = path.strip_prefix(&mount.mount_point).unwrap_or(Path::new(""));
    // Joining an empty path would add a slash, which a comparison by components doesn't mind.
    Ok(Some(Place { device: mount.device, root: mount.root.join(below), path }))
}

/// Whether something is mounted at this very path.
pub(crate) fn is_mount_point(path: &Path) -> Result<bool, Error> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let stat =
        rustix::fs::statx(CWD, path, flags, StatxFlags::BASIC_STATS).map_err(|error| Error::io("stat", path, error))?;
    Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}
