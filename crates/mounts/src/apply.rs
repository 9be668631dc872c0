//! From resolved mounts to what the runtime mounts.

use crate::lookup::{is_directory, is_within, open_entry};
use crate::{Entry, Error, Origin, ResolvedKind, ResolvedMount, ResolvedVolume, source, tmpfs};
use orlop_model::Id;
use orlop_model::mount::{BindMount, BindRecursive, Propagation, TmpfsMount};
use orlop_state::State;
use orlop_sys::mount::{self as kernel, Changes};
use orlop_volumes::FirstUseOptions;
use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Where a container is about to run.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// Its id, under which the volumes' drivers know it.
    pub container: Id,
    /// Its mounted root file system.
    pub rootfs: BorrowedFd<'a>,
    /// `/run/orlop/mounts/ID`.
    pub run_dir: &'a Path,
    /// The user and group that it runs as, when they shall own what is new and empty.
    pub owner: Option<(u32, u32)>,
}

/// A mount as the OCI runtime needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliedMount {
    /// `destination`.
    pub target: String,
    /// The rest.
    pub kind: AppliedKind,
}

/// What the runtime is to mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppliedKind {
    /// A clone of the source. What the runtime binds inherits its read-only state, also that of mounts below. So it
    /// must be given neither `ro` nor `rw`: either makes it remount, which takes the host's `nosuid` and its like away,
    /// and `rw` (from runc 1.2 on) also the read-only state.
    Bind {
        /// `/run/orlop/mounts/ID/N`.
        source: PathBuf,
        /// `rbind` or `bind`, and the propagation.
        options: Vec<String>,
    },
    /// A new tmpfs.
    Tmpfs {
        /// All of its options.
        options: Vec<String>,
    },
}

/// Fills fresh volumes and clones every source below `run_dir`, parents before what lies below them. When anything
/// fails, everything is taken back.
pub fn apply(state: &State, mounts: &[ResolvedMount], place: &Place<'_>) -> Result<Vec<AppliedMount>, Error> {
    // What a crash has left.
    release(state, mounts, place.container, place.run_dir)?;
    apply_all(state, mounts, place).map_err(|cause| match release(state, mounts, place.container, place.run_dir) {
        Ok(()) => cause,
        Err(cleanup) => Error::CleanUp { cause: cause.into(), cleanup: cleanup.into() },
    })
}

/// Unmounts all that [`apply`] has mounted below `run_dir`, removes it, and tells the volumes' drivers. Does nothing
/// when nothing is there. Other mounts of the same sources stay: what is here are clones.
pub fn release(state: &State, mounts: &[ResolvedMount], container: Id, run_dir: &Path) -> Result<(), Error> {
    // A directory that isn't there has nothing mounted below it.
    if run_dir.symlink_metadata().is_ok() {
        unmount_below(run_dir)?;
        remove_run_dir(run_dir).map_err(|error| orlop_sys::Error::io("remove", run_dir, error))?;
    }
    let names: BTreeSet<_> = mounts.iter().filter_map(ResolvedMount::volume).map(|volume| &volume.name).collect();
    for name in names {
        orlop_volumes::unmount(state, name, container)?;
    }
    Ok(())
}

fn apply_all(state: &State, mounts: &[ResolvedMount], place: &Place<'_>) -> Result<Vec<AppliedMount>, Error> {
    let mut ordered: Vec<&ResolvedMount> = mounts.iter().collect();
    ordered.sort_by_key(|mount| mount.target.split('/').count());
    if ordered.iter().any(|mount| !matches!(mount.kind, ResolvedKind::Tmpfs(_))) {
        mount_run_dir(place.run_dir)?;
    }
    let mut applied = Vec::with_capacity(ordered.len());
    for (number, mount) in ordered.iter().enumerate() {
        let attached = place.run_dir.join(number.to_string());
        let (entry, found) = open_entry(place.rootfs, &mount.target)?;
        let is_below = |other: &&ResolvedMount| other.target != mount.target && is_within(&mount.target, &other.target);
        // Below another mount, what the image has there is not what this one is mounted on.
        let mounted_on = if ordered.iter().any(is_below) { Entry::Missing } else { entry };
        let kind = match &mount.kind {
            ResolvedKind::Volume(volume) => {
                let image = found.filter(|_| entry == Entry::Directory);
                apply_volume(state, mount, volume, place, mounted_on, image, attached)?
            }
            ResolvedKind::Bind(bind) => apply_bind(mount, bind, mounted_on, attached)?,
            ResolvedKind::Tmpfs(tmpfs) => apply_tmpfs(mount, tmpfs),
        };
        applied.push(AppliedMount { target: mount.target.clone(), kind });
    }
    Ok(applied)
}

/// A tmpfs of its own, so that one unmount takes all of it away and nothing in it is seen elsewhere.
fn mount_run_dir(run_dir: &Path) -> Result<(), Error> {
    let io = |error| orlop_sys::Error::io("create directory", run_dir, error);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(run_dir).map_err(io)?;
    let mount = kernel::tmpfs("orlop", &["mode=0700", "size=1m"], Changes::NONE)?;
    kernel::attach(&mount, run_dir)?;
    // Only now: attached to a shared mount, which /run is on most hosts, it has become shared itself.
    let propagation = Some(kernel::Propagation::Unbindable);
    Ok(kernel::change(&mount, Changes { propagation, ..Changes::NONE })?)
}

fn apply_volume(
    state: &State,
    mount: &ResolvedMount,
    volume: &ResolvedVolume,
    place: &Place<'_>,
    mounted_on: Entry,
    image: Option<OwnedFd>,
    attached: PathBuf,
) -> Result<AppliedKind, Error> {
    if mounted_on == Entry::File && volume.subpath.is_none() {
        return Err(Error::VolumeOverFile(mount.target.clone()));
    }
    // Holds the volume's lock until its content is cloned.
    let mounted = orlop_volumes::mount(state, &volume.name, place.container)?;
    // Another container's volume is its own to fill, and a part of a volume has no image behind it.
    if volume.subpath.is_none() && !matches!(mount.origin, Origin::VolumesFrom(_)) {
        let first_use = FirstUseOptions {
            content: image.as_ref().map(AsFd::as_fd),
            target: &mount.target,
            no_copy: volume.no_copy,
            owner: place.owner,
        };
        orlop_volumes::initialise(state, &mounted, first_use)?;
    }
    let content = open_volume(volume, &mounted.path)?;
    let path = mounted.path.to_string_lossy();
    source::fit(is_directory(&content, &mounted.path)?, mounted_on, &path, &mount.target)?;
    let changes = Changes {
        recursive: true,
        read_only: mount.read_only,
        propagation: Some(kernel::Propagation::Private),
        ..Changes::NONE
    };
    clone_to(&content, true, &[changes], &attached).map_err(|source| at(mount, source))?;
    Ok(AppliedKind::Bind { source: attached, options: vec!["rbind".to_owned(), "rprivate".to_owned()] })
}

/// The volume's root, or its subpath as a program chrooted to the volume would find it: a link in there that a
/// container made never leads out.
fn open_volume(volume: &ResolvedVolume, path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root =
        rustix::fs::open(path, flags, Mode::empty()).map_err(|error| orlop_sys::Error::io("open", path, error))?;
    let Some(subpath) = &volume.subpath else { return Ok(root) };
    orlop_sys::path::open_in_root(&root, Path::new(subpath), OFlags::PATH).map_err(|source| Error::Subpath {
        volume: volume.name.clone(),
        subpath: subpath.clone(),
        source,
    })
}

fn apply_bind(
    mount: &ResolvedMount,
    bind: &BindMount,
    mounted_on: Entry,
    attached: PathBuf,
) -> Result<AppliedKind, Error> {
    // It may have gone since the container was made; Docker makes it again too.
    if source::must_create(bind, &mount.target, Some(mounted_on))? {
        source::create(&bind.source)?;
    }
    let source = rustix::fs::open(bind.source.as_str(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| Error::Source { path: bind.source.clone(), source: error.into() })?;
    source::fit(is_directory(&source, Path::new(&bind.source))?, mounted_on, &bind.source, &mount.target)?;
    check_propagation(&source, bind)?;
    let recursive = bind.recursive != BindRecursive::Disabled;
    let all_read_only = recursive && bind.recursive != BindRecursive::Writable;
    let (propagation, deep) = match bind.propagation {
        Propagation::Rprivate => (Some(kernel::Propagation::Private), true),
        Propagation::Private => (Some(kernel::Propagation::Private), false),
        Propagation::Rslave => (Some(kernel::Propagation::Slave), true),
        Propagation::Slave => (Some(kernel::Propagation::Slave), false),
        // The clone is a peer of its source already, and so is what lies below.
        Propagation::Rshared | Propagation::Shared => (None, false),
    };
    let changes = [
        Changes { recursive: all_read_only, read_only: mount.read_only, ..Changes::NONE },
        Changes { recursive: deep && recursive, propagation, ..Changes::NONE },
    ];
    clone_to(&source, recursive, &changes, &attached).map_err(|source| at(mount, source))?;
    let bind_option = if recursive { "rbind" } else { "bind" };
    Ok(AppliedKind::Bind {
        source: attached,
        options: vec![bind_option.to_owned(), bind.propagation.name().to_owned()],
    })
}

fn apply_tmpfs(mount: &ResolvedMount, tmpfs: &TmpfsMount) -> AppliedKind {
    let no_swap = tmpfs::wants_no_swap(tmpfs) || tmpfs::is_secret(&mount.target) && kernel::tmpfs_has("noswap");
    AppliedKind::Tmpfs { options: tmpfs::options(tmpfs, mount.read_only, no_swap) }
}

/// Clones what `source` has open to the new path `attached`; nobody sees it before all changes are made.
fn clone_to(source: &OwnedFd, recursive: bool, changes: &[Changes], attached: &Path) -> Result<(), orlop_sys::Error> {
    let is_directory = is_directory(source, attached)?;
    let made = match is_directory {
        true => std::fs::create_dir(attached),
        false => std::fs::File::create_new(attached).map(drop),
    };
    made.map_err(|error| orlop_sys::Error::io("create", attached, error))?;
    let clone = kernel::clone_tree(source, recursive)?;
    for change in changes {
        kernel::change(&clone, *change)?;
    }
    kernel::attach(clone, attached)
}

/// Shared and slave mounts can't do what they promise unless the mount that the source lies on takes part.
fn check_propagation(source: &OwnedFd, bind: &BindMount) -> Result<(), Error> {
    let needs_shared = matches!(bind.propagation, Propagation::Shared | Propagation::Rshared);
    let needs_slave = matches!(bind.propagation, Propagation::Slave | Propagation::Rslave);
    if !needs_shared && !needs_slave {
        return Ok(());
    }
    let stat = rustix::fs::statx(source, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
        .map_err(|error| orlop_sys::Error::io("statx", &bind.source, error))?;
    let Some(on) = kernel::mount_info()?.into_iter().find(|mount| mount.id == stat.stx_mnt_id) else { return Ok(()) };
    if on.shared.is_some() || needs_slave && on.master.is_some() {
        return Ok(());
    }
    Err(Error::Propagation {
        source_path: bind.source.clone(),
        mount_point: on.mount_point,
        needed: if needs_shared { "shared" } else { "shared or slave" },
    })
}

/// Takes away every mount at or below a directory, also several on top of each other.
fn unmount_below(directory: &Path) -> Result<(), Error> {
    while kernel::unmount_tree(directory)? {}
    let below = |mount: &kernel::MountInfo| mount.mount_point.starts_with(directory);
    // Those that a crash has left without the tmpfs around them; the last mounted goes first.
    let mut left: Vec<PathBuf> =
        kernel::mount_info()?.into_iter().filter(below).map(|mount| mount.mount_point).collect();
    while let Some(path) = left.pop() {
        kernel::unmount_tree(&path)?;
    }
    Ok(())
}

/// Removes the directory and what mounts were attached to in it. Never recursively: if a mount were still there, its
/// content would go with it.
fn remove_run_dir(run_dir: &Path) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(run_dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => std::fs::remove_dir(entry.path())?,
            false => std::fs::remove_file(entry.path())?,
        }
    }
    std::fs::remove_dir(run_dir)
}

fn at(mount: &ResolvedMount, source: orlop_sys::Error) -> Error {
    Error::Mount { target: mount.target.clone(), source }
}
