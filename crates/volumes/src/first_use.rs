//! The first use of a volume: what the image has at the mount's target is copied in.
//!
//! Only an empty volume is filled, and it is filled completely or stays empty. A plain `_data` that nothing has mounted
//! is filled aside and replaced. What is mounted (a device, memory, or a plain `_data` in a container that runs) can't
//! be replaced: the content is made whole in a directory of its own inside of it, and then moved to where it belongs,
//! entry by entry. Until it is whole a failure or the next user removes that directory; from then on the next user
//! goes on moving. So nothing is ever removed or replaced under a name that somebody else may have written to.

use crate::driver::driver_of;
use crate::store::{data_path, is_there, volume_path};
use crate::{Error, Mounted, crash, mounted};
use orlop_model::Id;
use orlop_state::rows::volume::VolumePhase;
use orlop_state::{State, VolumeRow};
use orlop_sys::copy::{CopyOptions, CopyStats, UnsupportedXattrs, Vanished, copy_metadata, copy_tree};
use orlop_sys::copy::{remove_at, remove_tree};
use orlop_sys::durable;
use orlop_sys::path::open_beneath;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use std::ffi::{CString, OsStr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What a container brings to the first use of a volume.
#[derive(Clone, Copy, Debug)]
pub struct FirstUseOptions<'a> {
    /// What the container's root file system has at the mount's target, opened by the resolver (O_PATH will do); None
    /// when it has nothing there.
    pub content: Option<BorrowedFd<'a>>,
    /// The target, for errors.
    pub target: &'a str,
    /// `volume-nocopy`: nothing is taken over from the image.
    pub no_copy: bool,
    /// The container's user and group. They own the root of an empty volume that would be root's, when the image has
    /// nothing at the target. None leaves it as it is. A directory of the host always keeps its owner.
    pub owner: Option<(u32, u32)>,
}

/// What a first use did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstUse {
    /// Nothing: the volume holds something, the image has nothing there, or `no_copy`.
    Nothing,
    /// The image's directory is empty: only its owner, mode, attributes and times were taken over.
    Root,
    /// The content was copied.
    Copied(CopyStats),
}

/// Copies the image's content into a volume that is empty. `mounted` holds the volume's lock; whoever comes second
/// waits for it in [`crate::mount`] and finds the volume filled.
///
/// # Errors
/// The volume is empty again, unless all was copied already; a full disk is an error of the kind NoSpace.
pub fn initialise(state: &State, mounted: &Mounted, options: FirstUseOptions<'_>) -> Result<FirstUse, Error> {
    let volume = &mounted.volume;
    let content = options.content.map(|content| open_content(volume, content, options.target)).transpose()?;
    let data = open_data(&mounted.path)?;
    let root_is_ours = driver_of(volume)?.root_is_ours(volume)?;
    if !is_empty(&data, &mounted.path)? {
        return Ok(FirstUse::Nothing);
    }
    let bare = match &content {
        Some(content) => is_empty(content, Path::new(options.target))?,
        None => true,
    };
    let filled = match content {
        Some(content) if !bare && !options.no_copy => fill(state, mounted, &content, &data),
        Some(content) if !options.no_copy && root_is_ours => {
            copy_root(&content, &data, &mounted.path).map(|()| FirstUse::Root)
        }
        _ => Ok(FirstUse::Nothing),
    };
    let filled = filled.map_err(|error| Error::Initialise { name: volume.name.clone(), source: Box::new(error) })?;
    if let (true, Some(owner)) = (bare && root_is_ours, options.owner) {
        give_root_to(&data, &mounted.path, owner)?;
    }
    Ok(filled)
}

fn open_content(volume: &VolumeRow, content: BorrowedFd<'_>, target: &str) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat(content, ".", flags, Mode::empty()) {
        Ok(content) => Ok(content),
        Err(Errno::NOTDIR) => Err(Error::NotADirectory { name: volume.name.clone(), path: target.to_owned() }),
        Err(error) => Err(Error::io("open", target, error)),
    }
}

fn open_data(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|error| Error::io("open", path, error))
}

fn is_empty(directory: &OwnedFd, path: &Path) -> Result<bool, Error> {
    Ok(entries(directory, path)?.is_empty())
}

/// The names in a directory.
fn entries(directory: &OwnedFd, path: &Path) -> Result<Vec<CString>, Error> {
    let read = |error: Errno| Error::io("read", path, error);
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory).map_err(read)? {
        let entry = entry.map_err(read)?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

const CONTENT: CopyOptions = CopyOptions {
    root_metadata: true,
    cross_mounts: false,
    vanished: Vanished::Fail,
    // As in Docker: a volume in memory may know fewer of them.
    unsupported_xattrs: UnsupportedXattrs::Skip,
};

/// Copies an empty directory: only its own metadata. Doing half of that is harmless, since it is done again.
fn copy_root(content: &OwnedFd, data: &OwnedFd, path: &Path) -> Result<(), Error> {
    copy_tree(content, data, CONTENT)?;
    rustix::fs::fsync(data).map_err(|error| Error::io("sync", path, error))
}

fn give_root_to(data: &OwnedFd, path: &Path, (uid, gid): (u32, u32)) -> Result<(), Error> {
    let stat = rustix::fs::fstat(data).map_err(|error| Error::io("stat", path, error))?;
    if stat.st_uid != 0 || uid == 0 {
        return Ok(());
    }
    rustix::fs::fchown(data, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
        .and_then(|()| rustix::fs::fsync(data))
        .map_err(|error| Error::io("chown", path, error))
}

/// Fills an empty volume between two transactions.
fn fill(state: &State, mounted: &Mounted, content: &OwnedFd, data: &OwnedFd) -> Result<FirstUse, Error> {
    let volume = &mounted.volume;
    let plain = !driver_of(volume)?.needs_mount(volume)?
        && !mounted::is_mount_point(&mounted.path)?
        && mounted::find(&mounted.path)?.is_none();
    let id = Id::random();
    let intent = VolumeRow { phase: VolumePhase::Initialising(id), ..volume.clone() };
    state.write(|tx| tx.volumes().put(&intent))?;
    crash::point("initialise: intent");
    let names = Names::new(&volume_path(state, &volume.name), id);
    let filled = match plain {
        true => fill_aside(&names, content),
        false => {
            let root_is_ours = driver_of(volume)?.root_is_ours(volume)?;
            fill_in_place(&InPlace { data, path: &mounted.path, root_is_ours }, content, id)
        }
    };
    if filled.is_err() {
        // The first failure is the one to tell; if this fails too, the intent stays and the next verb tries again.
        let _ = undo(state, &intent, id);
    } else {
        crash::point("initialise: filled");
        state.write(|tx| tx.volumes().put(volume))?;
    }
    filled
}

/// The names that a first use aside works with.
struct Names {
    data: PathBuf,
    filling: PathBuf,
}

impl Names {
    fn new(volume: &Path, id: Id) -> Self {
        Self { data: volume.join("_data"), filling: volume.join(format!(".filling-{id}")) }
    }
}

fn fill_aside(names: &Names, content: &OwnedFd) -> Result<FirstUse, Error> {
    durable::make_directory(&names.filling, 0o700)?;
    let stats = copy_tree(content, open_data(&names.filling)?, CONTENT)?;
    crash::point("initialise: copied");
    durable::sync_file_system(&names.filling)?;
    crash::point("initialise: synced");
    // rename(2) puts a directory in the place of an empty one in one step, and refuses when that isn't empty. (Unlike
    // RENAME_EXCHANGE it works on every file system and leaves nothing behind that could hold somebody's files.)
    match durable::rename(&names.filling, &names.data) {
        Ok(()) => Ok(FirstUse::Copied(stats)),
        // Somebody on the host has written into the volume meanwhile: it wasn't empty after all, and his files count.
        Err(error) if error.is(Errno::NOTEMPTY) || error.is(Errno::EXIST) => {
            remove_tree(&names.filling)?;
            Ok(FirstUse::Nothing)
        }
        Err(error) => Err(error.into()),
    }
}

/// A `_data` that can't be replaced.
struct InPlace<'a> {
    data: &'a OwnedFd,
    path: &'a Path,
    /// Whether the image's directory gives its owner and mode to it.
    root_is_ours: bool,
}

/// Inside of a `_data` that is filled in place: where the content is made.
fn filling_name(id: Id) -> String {
    format!(".orlop-filling-{id}")
}

/// The same once it is whole and on the disk.
fn filled_name(id: Id) -> String {
    format!(".orlop-filled-{id}")
}

fn fill_in_place(place: &InPlace<'_>, content: &OwnedFd, id: Id) -> Result<FirstUse, Error> {
    let failed = |call: &'static str| move |error: Errno| Error::io(call, place.path, error);
    let (filling, filled) = (filling_name(id), filled_name(id));
    rustix::fs::mkdirat(place.data, &filling, Mode::RWXU).map_err(failed("create a directory in"))?;
    let aside = open_directory_in(place, &filling)?;
    forget_inherited_acl(&aside).map_err(failed("remove the inherited acl in"))?;
    let stats = copy_tree(content, &aside, CONTENT)?;
    crash::point("initialise: copied");
    rustix::fs::syncfs(place.data).map_err(failed("sync"))?;
    crash::point("initialise: synced");
    // Somebody has written into the volume meanwhile: it wasn't empty after all, and his files count.
    if entries(place.data, place.path)?.iter().any(|name| name.as_bytes() != filling.as_bytes()) {
        remove_at(place.data, OsStr::new(&filling))?;
        return Ok(FirstUse::Nothing);
    }
    rustix::fs::renameat(place.data, &filling, place.data, &filled).map_err(failed("rename in"))?;
    rustix::fs::fsync(place.data).map_err(failed("sync"))?;
    crash::point("initialise: whole");
    move_in(place, &filled)?;
    Ok(FirstUse::Copied(stats))
}

fn open_directory_in(place: &InPlace<'_>, name: &str) -> Result<OwnedFd, Error> {
    Ok(open_beneath(place.data, Path::new(name), OFlags::RDONLY | OFlags::DIRECTORY)?)
}

/// What the image has is copied, not what the volume's root hands to new entries.
fn forget_inherited_acl(directory: &OwnedFd) -> Result<(), Errno> {
    for acl in ["system.posix_acl_default", "system.posix_acl_access"] {
        match rustix::fs::fremovexattr(directory, acl) {
            Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Moves what was made whole to where it belongs. A name that somebody else has taken stays his.
fn move_in(place: &InPlace<'_>, filled: &str) -> Result<(), Error> {
    let failed = |call: &'static str| move |error: Errno| Error::io(call, place.path, error);
    let made = open_directory_in(place, filled)?;
    let stat = rustix::fs::fstat(&made).map_err(failed("stat"))?;
    for name in entries(&made, place.path)? {
        let moved = match rustix::fs::renameat_with(&made, &name, place.data, &name, RenameFlags::NOREPLACE) {
            // This file system doesn't know the flag.
            Err(Errno::INVAL) => rename_unless_there(&made, &name, place.data),
            moved => moved,
        };
        match moved {
            // A program in a container may also have removed what it saw.
            Ok(()) | Err(Errno::EXIST | Errno::NOENT) => {}
            Err(error) => return Err(failed("move the content of the image in")(error)),
        }
        crash::point("initialise: moved one");
    }
    if place.root_is_ours {
        copy_metadata(&made, place.data)?;
    }
    remove_at(place.data, OsStr::new(filled))?;
    if place.root_is_ours {
        let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = Timestamps {
            last_access: time(stat.st_atime, stat.st_atime_nsec as _),
            last_modification: time(stat.st_mtime, stat.st_mtime_nsec as _),
        };
        rustix::fs::futimens(place.data, &times).map_err(failed("set the times of"))?;
    }
    rustix::fs::syncfs(place.data).map_err(failed("sync"))
}

fn rename_unless_there(from: &OwnedFd, name: &CString, to: &OwnedFd) -> Result<(), Errno> {
    match rustix::fs::statat(to, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Err(Errno::EXIST),
        Err(Errno::NOENT) => rustix::fs::renameat(from, name, to, name),
        Err(error) => Err(error),
    }
}

/// Makes a volume empty again whose first use was not finished, or finishes it when all was copied already. The caller
/// holds the lock.
pub(crate) fn undo(state: &State, volume: &VolumeRow, id: Id) -> Result<(), Error> {
    let names = Names::new(&volume_path(state, &volume.name), id);
    remove_tree(&names.filling)?;
    if is_there(&names.data)? {
        settle_in_place(state, volume, id)?;
    }
    let ready = VolumeRow { phase: VolumePhase::Ready, ..volume.clone() };
    state.write(|tx| tx.volumes().put(&ready))?;
    Ok(())
}

/// Settles what lies inside of `_data`, mounting it for that when a reboot came in between.
fn settle_in_place(state: &State, volume: &VolumeRow, id: Id) -> Result<(), Error> {
    let path = data_path(state, &volume.name);
    let driver = driver_of(volume)?;
    let attach = driver.needs_mount(volume)? && !mounted::is_mount_point(&path)?;
    if attach {
        match driver.attach(volume, &path) {
            // The device is gone, and what was copied to it as well.
            Err(error) if error.is(Errno::NOENT) => return Ok(()),
            attached => attached?,
        }
    }
    let settled = open_data(&path).and_then(|data| {
        let place = InPlace { data: &data, path: &path, root_is_ours: driver.root_is_ours(volume)? };
        remove_at(&data, OsStr::new(&filling_name(id)))?;
        match move_in(&place, &filled_name(id)) {
            // Nothing there, or something that isn't ours.
            Err(error) if [Errno::NOENT, Errno::NOTDIR, Errno::LOOP].into_iter().any(|errno| error.is(errno)) => Ok(()),
            moved => moved,
        }
    });
    if attach {
        driver.detach(volume, &path)?;
    }
    settled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_writes_meanwhile_counts() {
        let volume = tempfile::tempdir_in("/var/tmp").unwrap();
        let content = tempfile::tempdir_in("/var/tmp").unwrap();
        std::fs::write(content.path().join("file"), b"image").unwrap();
        let names = Names::new(volume.path(), Id::random());
        std::fs::create_dir(&names.data).unwrap();
        std::fs::write(names.data.join("file"), b"host").unwrap();
        let filled = fill_aside(&names, &open_data(content.path()).unwrap()).unwrap();
        assert_eq!(filled, FirstUse::Nothing);
        assert_eq!(std::fs::read(names.data.join("file")).unwrap(), b"host");
        assert_eq!(std::fs::read_dir(volume.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_program_writes_into_a_mounted_volume_meanwhile_counts() {
        let (volume, content) = (tempfile::tempdir_in("/var/tmp").unwrap(), tempfile::tempdir_in("/var/tmp").unwrap());
        for name in ["file", "other"] {
            std::fs::write(content.path().join(name), b"image").unwrap();
        }
        std::fs::write(volume.path().join("file"), b"program").unwrap();
        let data = open_data(volume.path()).unwrap();
        let place = InPlace { data: &data, path: volume.path(), root_is_ours: true };
        let filled = fill_in_place(&place, &open_data(content.path()).unwrap(), Id::random()).unwrap();
        assert_eq!(filled, FirstUse::Nothing);
        assert_eq!(entries(&data, volume.path()).unwrap(), [c"file".to_owned()]);
        assert_eq!(std::fs::read(volume.path().join("file")).unwrap(), b"program");
    }

    #[test]
    fn a_name_that_is_taken_while_the_content_moves_in_stays() {
        for no_flag in [false, true] {
            let volume = tempfile::tempdir_in("/var/tmp").unwrap();
            std::fs::create_dir(volume.path().join("filled")).unwrap();
            for name in ["file", "other"] {
                std::fs::write(volume.path().join("filled").join(name), b"image").unwrap();
            }
            std::fs::write(volume.path().join("file"), b"program").unwrap();
            let data = open_data(volume.path()).unwrap();
            let place = InPlace { data: &data, path: volume.path(), root_is_ours: true };
            if no_flag {
                let filled = open_directory_in(&place, "filled").unwrap();
                assert_eq!(rename_unless_there(&filled, &c"file".to_owned(), &data), Err(Errno::EXIST));
                assert_eq!(rename_unless_there(&filled, &c"other".to_owned(), &data), Ok(()));
            }
            move_in(&place, "filled").unwrap();
            assert_eq!(std::fs::read(volume.path().join("file")).unwrap(), b"program");
            assert_eq!(std::fs::read(volume.path().join("other")).unwrap(), b"image");
            assert_eq!(entries(&data, volume.path()).unwrap().len(), 2);
        }
    }
}
