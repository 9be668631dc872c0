//! The first use of a volume: what the image has at the mount's target is copied in.
//!
//! Only an empty volume is filled, and it is filled completely or stays empty. A plain `_data` that nothing has mounted
//! is filled aside and replaced. What is mounted (a device, memory, or a plain `_data` in a container that runs) can't
//! be replaced; it is filled in place, after a list of all paths to be made was written, by which a failure or the
//! next user cleans it.

use crate::driver::driver_of;
use crate::store::{data_path, volume_path};
use crate::{Error, Mounted, crash, mounted};
use orlop_model::Id;
use orlop_state::rows::volume::VolumePhase;
use orlop_state::{State, VolumeRow};
use orlop_sys::copy::{CopyOptions, CopyStats, UnsupportedXattrs, Vanished, copy_tree, remove_tree};
use orlop_sys::durable;
use orlop_sys::path::open_beneath;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
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
    /// nothing at the target. None leaves it as it is.
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
/// Whatever fails, the volume is empty again; a full disk is an error of the kind NoSpace.
pub fn initialise(state: &State, mounted: &Mounted, options: FirstUseOptions<'_>) -> Result<FirstUse, Error> {
    let volume = &mounted.volume;
    let content = options.content.map(|content| open_content(volume, content, options.target)).transpose()?;
    let data = open_data(&mounted.path)?;
    if !is_empty(&data, &mounted.path)? {
        return Ok(FirstUse::Nothing);
    }
    let bare = match &content {
        Some(content) => is_empty(content, Path::new(options.target))?,
        None => true,
    };
    let filled = match content {
        Some(content) if !bare && !options.no_copy => fill(state, mounted, &content, &data),
        Some(content) if !options.no_copy => copy_root(&content, &data, &mounted.path).map(|()| FirstUse::Root),
        _ => Ok(FirstUse::Nothing),
    };
    let filled = filled.map_err(|error| Error::Initialise { name: volume.name.clone(), source: Box::new(error) })?;
    if let (true, Some(owner)) = (bare, options.owner) {
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
    let read = |error: Errno| Error::io("read", path, error);
    for entry in rustix::fs::Dir::read_from(directory).map_err(read)? {
        let entry = entry.map_err(read)?;
        if entry.file_name().to_bytes() != b"." && entry.file_name().to_bytes() != b".." {
            return Ok(false);
        }
    }
    Ok(true)
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
    let filled = if plain { fill_aside(&names, content) } else { fill_in_place(&names, content, data) };
    if filled.is_err() {
        // The first failure is the one to tell; if this fails too, the intent stays and the next verb tries again.
        let _ = undo(state, &intent, id);
    } else {
        crash::point("initialise: filled");
        state.write(|tx| tx.volumes().put(volume))?;
    }
    filled
}

/// The names that a first use works with.
struct Names {
    data: PathBuf,
    filling: PathBuf,
    list: PathBuf,
}

impl Names {
    fn new(volume: &Path, id: Id) -> Self {
        Self {
            data: volume.join("_data"),
            filling: volume.join(format!(".filling-{id}")),
            list: volume.join(format!(".filling-{id}.list")),
        }
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

fn fill_in_place(names: &Names, content: &OwnedFd, data: &OwnedFd) -> Result<FirstUse, Error> {
    let root = rustix::fs::fstat(data).map_err(|error| Error::io("stat", &names.data, error))?;
    let list = List { uid: root.st_uid, gid: root.st_gid, mode: root.st_mode & 0o7777, paths: walk(content)? };
    durable::write_file(&names.list, &list.to_bytes(), 0o600)?;
    crash::point("initialise: listed");
    let stats = copy_tree(content, data, CONTENT)?;
    crash::point("initialise: copied");
    rustix::fs::syncfs(data).map_err(|error| Error::io("sync", &names.data, error))?;
    std::fs::remove_file(&names.list).map_err(|error| Error::io("remove", &names.list, error))?;
    Ok(FirstUse::Copied(stats))
}

/// Makes a volume empty again whose first use was not finished, and ready for the next. One that was filled aside and
/// has got its new `_data` stays filled. The caller holds the lock.
pub(crate) fn undo(state: &State, volume: &VolumeRow, id: Id) -> Result<(), Error> {
    let names = Names::new(&volume_path(state, &volume.name), id);
    remove_tree(&names.filling)?;
    match std::fs::read(&names.list) {
        Ok(bytes) => {
            if let Some(list) = List::from_bytes(&bytes) {
                empty_again(state, volume, &list)?;
            }
            std::fs::remove_file(&names.list).map_err(|error| Error::io("remove", &names.list, error))?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io("read", &names.list, error)),
    }
    let ready = VolumeRow { phase: VolumePhase::Ready, ..volume.clone() };
    state.write(|tx| tx.volumes().put(&ready))?;
    Ok(())
}

/// Removes exactly the listed paths from a volume, mounting it for that when a reboot came in between.
fn empty_again(state: &State, volume: &VolumeRow, list: &List) -> Result<(), Error> {
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
    let cleaned = open_data(&path).and_then(|data| list.remove_from(&data, &path));
    if attach {
        driver.detach(volume, &path)?;
    }
    cleaned
}

/// What a first use in place is going to make, and how the root was before.
struct List {
    uid: u32,
    gid: u32,
    mode: u32,
    /// Parents before what is in them; directories end with a slash.
    paths: Vec<Vec<u8>>,
}

impl List {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} {:o}\0", self.uid, self.gid, self.mode).into_bytes();
        for path in &self.paths {
            bytes.extend_from_slice(path);
            bytes.push(0);
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut parts = bytes.split(|byte| *byte == 0);
        let root = std::str::from_utf8(parts.next()?).ok()?;
        let mut numbers = root.split(' ');
        Some(Self {
            uid: numbers.next()?.parse().ok()?,
            gid: numbers.next()?.parse().ok()?,
            mode: u32::from_str_radix(numbers.next()?, 8).ok()?,
            paths: parts.filter(|path| !path.is_empty()).map(<[u8]>::to_vec).collect(),
        })
    }

    /// Removes what is listed and there. Directories in which somebody else made something stay.
    fn remove_from(&self, data: &OwnedFd, root: &Path) -> Result<(), Error> {
        let mut parent: Option<(PathBuf, OwnedFd)> = None;
        for listed in self.paths.iter().rev() {
            let (path, flags) = match listed.strip_suffix(b"/") {
                Some(directory) => (Path::new(OsStr::from_bytes(directory)), AtFlags::REMOVEDIR),
                None => (Path::new(OsStr::from_bytes(listed)), AtFlags::empty()),
            };
            let (above, Some(name)) = (path.parent().unwrap_or(Path::new("")), path.file_name()) else { continue };
            if parent.as_ref().is_none_or(|(open, _)| open != above) {
                let relative = if above.as_os_str().is_empty() { Path::new(".") } else { above };
                match open_beneath(data, relative, OFlags::PATH | OFlags::DIRECTORY) {
                    Ok(opened) => parent = Some((above.to_owned(), opened)),
                    // Not made yet, or replaced by something that isn't ours: nothing to remove in it.
                    Err(_) => continue,
                }
            }
            let Some((_, opened)) = &parent else { continue };
            match rustix::fs::unlinkat(opened, name, flags) {
                Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR | Errno::ISDIR) => {}
                Err(error) => return Err(Error::io("remove", root.join(path), error)),
            }
        }
        rustix::fs::fchown(data, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))
            .and_then(|()| rustix::fs::fchmod(data, Mode::from_raw_mode(self.mode)))
            .and_then(|()| rustix::fs::syncfs(data))
            .map_err(|error| Error::io("set the owner of", root, error))
    }
}

/// All paths below a directory, parents first, as [`List`] holds them.
fn walk(content: &OwnedFd) -> Result<Vec<Vec<u8>>, Error> {
    let mut paths = Vec::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(directory) = waiting.pop() {
        let failed = |error: Errno| Error::io("read", &directory, error);
        let relative = if directory.as_os_str().is_empty() { Path::new(".") } else { directory.as_path() };
        let opened = open_beneath(content.as_fd(), relative, OFlags::RDONLY | OFlags::DIRECTORY)?;
        for entry in rustix::fs::Dir::read_from(&opened).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let path = directory.join(name);
            let mut listed = path.as_os_str().as_bytes().to_vec();
            if is_directory(&opened, &entry).map_err(failed)? {
                listed.push(b'/');
                waiting.push(path);
            }
            paths.push(listed);
        }
    }
    Ok(paths)
}

fn is_directory(parent: &OwnedFd, entry: &rustix::fs::DirEntry) -> Result<bool, Errno> {
    if entry.file_type() != FileType::Unknown {
        return Ok(entry.file_type() == FileType::Directory);
    }
    let stat = rustix::fs::statat(parent, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode).is_dir())
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
    fn a_list_is_read_as_it_was_written() {
        let paths = vec![b"a/".to_vec(), b"a/new\nline\xff".to_vec()];
        let list = List { uid: 1, gid: 2, mode: 0o1755, paths: paths.clone() };
        let read = List::from_bytes(&list.to_bytes()).unwrap();
        assert_eq!((read.uid, read.gid, read.mode, read.paths), (1, 2, 0o1755, paths));
        assert!(List::from_bytes(b"").is_none());
    }
}
