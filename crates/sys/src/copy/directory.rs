//! Directories of a tree, opened by their path below its root, and their entries.

use crate::Error;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Statx, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use std::ffi::{CString, OsStr};
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
