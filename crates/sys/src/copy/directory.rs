//! Directories of a tree, opened by their path below its root, and their entries.

use crate::Error;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Statx, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use std::ffi::{CString, OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Longest piece of a path handed to one openat2(2); PATH_MAX is 4096 with the final zero.
const PIECE: usize = 3000;

/// A root, and whether the walk may go on into other mounts.
#[derive(Clone, Copy)]
pub(super) struct Root<'a> {
    pub(super) fd: BorrowedFd<'a>,
    pub(super) cross_mounts: bool,
}

/// One entry as getdents64(2) lists it. `file_type` may be unknown.
pub(super) struct Entry {
    pub(super) name: CString,
    pub(super) file_type: FileType,
    pub(super) inode: u64,
}

impl Entry {
    pub(super) fn name(&self) -> &OsStr {
        OsStr::from_bytes(self.name.as_bytes())
    }
}

impl<'a> Root<'a> {
    pub(super) fn new(fd: &'a impl AsFd, cross_mounts: bool) -> Self {
        Self { fd: fd.as_fd(), cross_mounts }
    }

    /// Opens a directory for reading its entries. The empty path is the root.
    pub(super) fn open(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        if !self.cross_mounts {
            resolve |= ResolveFlags::NO_XDEV;
        }
        if path.as_os_str().is_empty() {
            return open_once(self.fd, Path::new("."), resolve);
        }
        let mut opened: Option<OwnedFd> = None;
        for piece in pieces(path) {
            opened = Some(open_once(opened.as_ref().map_or(self.fd, AsFd::as_fd), &piece, resolve)?);
        }
        opened.ok_or(Errno::NOENT)
    }

    /// The path of an entry as a person finds it, for errors.
    pub(super) fn shown(&self, path: &Path) -> PathBuf {
        shown(self.fd, path)
    }

    /// An error of a call on an entry of this tree.
    pub(super) fn error(&self, call: &'static str, path: &Path, errno: Errno) -> Error {
        Error::io(call, self.shown(path), errno)
    }
}

/// Opens a directory below `root` for reading its entries, however long its path is; no symlink on the way is followed and
/// no other mount is entered (XDEV). The empty path is the root.
pub fn open_below(root: impl AsFd, path: &Path) -> Result<OwnedFd, Error> {
    let root = Root::new(&root, false);
    root.open(path).map_err(|error| root.error("open", path, error))
}

/// Where `path` below the directory `fd` lies on the host, as well as the kernel knows.
pub(super) fn shown(fd: impl AsFd, path: &Path) -> PathBuf {
    let link = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    let root = std::fs::read_link(link).unwrap_or_default();
    if path.as_os_str().is_empty() { root } else { root.join(path) }
}

/// A path in parts that the kernel takes; trees that a program made step by step may be deeper than PATH_MAX.
fn pieces(path: &Path) -> Vec<PathBuf> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() <= PIECE {
        return vec![path.to_owned()];
    }
    let mut pieces = vec![PathBuf::new()];
    for component in path.components() {
        let last = pieces.len() - 1;
        if pieces[last].as_os_str().len() + component.as_os_str().len() >= PIECE {
            pieces.push(PathBuf::from(component.as_os_str()));
        } else {
            pieces[last].push(component);
        }
    }
    pieces
}

fn open_once(base: BorrowedFd<'_>, path: &Path, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut extra = OFlags::NOATIME;
    let mut attempts = 0;
    loop {
        match rustix::fs::openat2(base, path, flags | extra, Mode::empty(), resolve) {
            // Only the owner may open without changing the access time.
            Err(Errno::PERM) if !extra.is_empty() => extra = OFlags::empty(),
            // Something was renamed during the look-up; the kernel asks to try again.
            Err(Errno::AGAIN | Errno::INTR) if attempts < 128 => attempts += 1,
            result => return result,
        }
    }
}

/// Below this depth a tree is walked by one thread that climbs by `..`, so that neither memory nor time grow with the
/// square of the depth. Programs can nest directories without end.
pub(super) const DEEP: usize = 96;

/// What is done on a walk by [`walk_deep`].
pub(super) trait DeepWalk {
    /// Does what is to be done in a directory, and says which of its directories to go into.
    fn enter(&mut self, directory: &OwnedFd) -> Result<Vec<OsString>, Error>;

    /// After everything below the entry `name` of `above` was walked.
    fn leave(&mut self, above: &OwnedFd, name: &OsStr) -> Result<(), Error>;

    /// A directory that can't be opened: gone, replaced, a mount point (XDEV), or moved elsewhere while it was walked
    /// (STALE). Ok skips it; one that was moved ends the walk.
    fn fail(&mut self, above: &OwnedFd, name: &OsStr, errno: Errno) -> Result<(), Error>;
}

/// Walks a tree of any depth with two descriptors, never following a symlink and never leaving the mount.
pub(super) fn walk_deep(top: OwnedFd, walk: &mut impl DeepWalk) -> Result<(), Error> {
    struct Level {
        /// The directory's own name in the one above.
        name: OsString,
        above: (u64, u64),
        /// Directories above that are still to be walked.
        waiting: Vec<OsString>,
    }
    let mut levels: Vec<Level> = Vec::new();
    let mut waiting = walk.enter(&top)?;
    let mut current = top;
    loop {
        if let Some(name) = waiting.pop() {
            let below = match open_child(&current, &name) {
                Ok(below) => below,
                Err(errno) => {
                    walk.fail(&current, &name, errno)?;
                    continue;
                }
            };
            let above = stat(&current).map_err(|error| Error::io("stat", shown(&current, Path::new("")), error))?;
            let below_waiting = walk.enter(&below)?;
            let waiting_above = std::mem::replace(&mut waiting, below_waiting);
            levels.push(Level { name, above: identity(&above), waiting: waiting_above });
            current = below;
            continue;
        }
        let Some(level) = levels.pop() else { return Ok(()) };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let above = rustix::fs::openat(&current, "..", flags, Mode::empty())
            .map_err(|error| Error::io("open", shown(&current, Path::new("..")), error))?;
        let now = stat(&above).map_err(|error| Error::io("stat", shown(&above, Path::new("")), error))?;
        if identity(&now) != level.above {
            return walk.fail(&above, &level.name, Errno::STALE);
        }
        // Closed first: the removal of a directory that is open costs far more.
        current = above;
        walk.leave(&current, &level.name)?;
        waiting = level.waiting;
    }
}

/// Opens a directory's own directory `name`, unless something is mounted there (XDEV).
pub(super) fn open_child(parent: impl AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    open_once(parent.as_fd(), Path::new(name), resolve)
}

/// All entries but `.` and `..`, in the order of their inodes, which is how they lie on the disk.
pub(super) fn entries(directory: impl AsFd) -> Result<Vec<Entry>, Errno> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 32 * 1024];
    let mut reader = RawDir::new(directory, &mut buffer);
    let mut entries = Vec::new();
    while let Some(entry) = reader.next() {
        let entry = match entry {
            // The directory was removed meanwhile: it has no entries.
            Err(Errno::NOENT) => break,
            entry => entry?,
        };
        let name = entry.file_name();
        if name.to_bytes() != b"." && name.to_bytes() != b".." {
            entries.push(Entry { name: name.to_owned(), file_type: entry.file_type(), inode: entry.ino() });
        }
    }
    entries.sort_unstable_by_key(|entry| entry.inode);
    Ok(entries)
}

/// statx(2) of an entry, never following it and never waiting for a network.
pub(super) fn stat_at(directory: impl AsFd, name: &OsStr) -> Result<Statx, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    rustix::fs::statx(directory, name, flags, StatxFlags::BASIC_STATS)
}

/// statx(2) of what is open.
pub(super) fn stat(fd: impl AsFd) -> Result<Statx, Errno> {
    rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
}

/// The file type in a mode.
pub(super) fn file_type(stat: &Statx) -> FileType {
    FileType::from_raw_mode(stat.stx_mode.into())
}

/// Device and inode: which file this is.
pub(super) fn identity(stat: &Statx) -> (u64, u64) {
    (u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor), stat.stx_ino)
}

/// Whether something is mounted here (Linux 5.8 and later).
pub(super) fn is_mount_point(stat: &Statx) -> bool {
    stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
}
