//! Owner, mode, extended attributes and times.

use super::directory;
use crate::Error;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Statx, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const ACCESS_ACL: &CStr = c"system.posix_acl_access";
const DEFAULT_ACL: &CStr = c"system.posix_acl_default";

/// Copies owner, mode, extended attributes and times of one open file or directory to another.
///
/// Attributes that the target's file system can't hold are an error, but for SELinux labels, which belong to the
/// place and not to the file.
pub fn copy_metadata(source: impl AsFd, target: impl AsFd) -> Result<(), Error> {
    let (source, target) = (source.as_fd(), target.as_fd());
    let shown = |fd| directory::shown(fd, Path::new(""));
    let stat = directory::stat(source).map_err(|error| Error::io("stat", shown(source), error))?;
    let set = || {
        set_owner_and_mode(target, &stat)?;
        if copy_xattrs(Xattrs::Open(source), Xattrs::Open(target))? > 0 {
            return Err(Errno::OPNOTSUPP);
        }
        set_times(target, &stat)
    };
    set().map_err(|error| Error::io("copy attributes to", shown(target), error))
}

/// chown(2) first, because it takes away setuid bits and file capabilities; then the mode.
pub(super) fn set_owner_and_mode(target: BorrowedFd<'_>, stat: &Statx) -> Result<(), Errno> {
    rustix::fs::fchown(target, Some(Uid::from_raw(stat.stx_uid)), Some(Gid::from_raw(stat.stx_gid)))?;
    rustix::fs::fchmod(target, mode(stat))
}

/// Permission bits with setuid, setgid and sticky.
pub(super) fn mode(stat: &Statx) -> Mode {
    Mode::from_raw_mode(u32::from(stat.stx_mode) & 0o7777)
}

/// Both times with nanoseconds.
pub(super) fn set_times(target: BorrowedFd<'_>, stat: &Statx) -> Result<(), Errno> {
    rustix::fs::futimens(target, &times(stat))
}

/// The mode of an entry that can't be opened and is no symlink; fchmodat2(2) came with Linux 6.6 only.
pub(super) fn set_mode_at(directory: impl AsFd, name: &OsStr, stat: &Statx) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let entry = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(&entry)?.st_mode) == FileType::Symlink {
        return Err(Errno::LOOP);
    }
    rustix::fs::chmod(format!("/proc/self/fd/{}", entry.as_raw_fd()), mode(stat))
}

/// Both times of an entry, itself and not what it points to.
pub(super) fn set_times_at(directory: impl AsFd, name: &OsStr, stat: &Statx) -> Result<(), Errno> {
    rustix::fs::utimensat(directory, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
}

fn times(stat: &Statx) -> Timestamps {
    let time = |time: &rustix::fs::StatxTimestamp| Timespec { tv_sec: time.tv_sec, tv_nsec: time.tv_nsec.into() };
    Timestamps { last_access: time(&stat.stx_atime), last_modification: time(&stat.stx_mtime) }
}

/// Whose attributes are meant.
#[derive(Clone, Copy)]
pub(super) enum Xattrs<'a> {
    /// An open file or directory.
    Open(BorrowedFd<'a>),
    /// An entry that can't be opened (symlink, device, FIFO), itself and not what it points to.
    Entry(BorrowedFd<'a>, &'a OsStr),
}

/// Copies all extended attributes but overlay's own; says how many the target's file system can't hold.
pub(super) fn copy_xattrs(source: Xattrs<'_>, target: Xattrs<'_>) -> Result<u32, Errno> {
    let mut refused = 0;
    for name in list(source)? {
        let bytes = name.as_bytes();
        if is_overlays(bytes) {
            continue;
        }
        let value = match get(source, &name) {
            // Gone since it was listed.
            Err(Errno::NODATA) => continue,
            value => value?,
        };
        match set(target, &name, &value) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP | Errno::PERM) if bytes == b"security.selinux" => {}
            Err(Errno::OPNOTSUPP | Errno::PERM) => refused += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(refused)
}

/// Names and values of an entry's extended attributes, its own and not those of what it points to, but for overlay's; in
/// the order of their names.
pub fn xattrs(directory: impl AsFd, name: &OsStr) -> Result<Vec<(CString, Vec<u8>)>, Error> {
    let of = Xattrs::Entry(directory.as_fd(), name);
    let read = || {
        let mut found = Vec::new();
        for attribute in list(of)?.into_iter().filter(|attribute| !is_overlays(attribute.as_bytes())) {
            match get(of, &attribute) {
                Err(Errno::NODATA) => {}
                value => found.push((attribute, value?)),
            }
        }
        found.sort();
        Ok(found)
    };
    let shown = || directory::shown(directory.as_fd(), Path::new(name));
    read().map_err(|error: Errno| Error::io("read the attributes of", shown(), error))
}

/// Attributes that say how overlay shows an entry: they would change the meaning of a copy if it ever became a layer.
fn is_overlays(attribute: &[u8]) -> bool {
    attribute.starts_with(b"trusted.overlay.") || attribute.starts_with(b"user.overlay.")
}

/// Takes away access rights that a new entry got from its directory's default ACL.
pub(super) fn remove_acls(target: Xattrs<'_>) -> Result<(), Errno> {
    for acl in [ACCESS_ACL, DEFAULT_ACL] {
        let removed = match target {
            Xattrs::Open(fd) => rustix::fs::fremovexattr(fd, acl),
            Xattrs::Entry(directory, name) => rustix::fs::lremovexattr(path(directory, name), acl),
        };
        match removed {
            // A file has no default ACL: EACCES.
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::ACCESS) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether new entries of this directory get rights of their own from it.
pub(super) fn has_default_acl(directory: BorrowedFd<'_>) -> bool {
    let mut value = [0; 4];
    match rustix::fs::fgetxattr(directory, DEFAULT_ACL, &mut value[..]) {
        Ok(size) => size > 0,
        Err(error) => error == Errno::RANGE,
    }
}

fn list(of: Xattrs<'_>) -> Result<Vec<CString>, Errno> {
    let mut buffer = vec![0; 256];
    loop {
        let result = match of {
            Xattrs::Open(fd) => rustix::fs::flistxattr(fd, &mut buffer[..]),
            Xattrs::Entry(directory, name) => rustix::fs::llistxattr(path(directory, name), &mut buffer[..]),
        };
        match result {
            Ok(size) => {
                buffer.truncate(size);
                let names = buffer.split(|byte| *byte == 0).filter(|name| !name.is_empty());
                return Ok(names.map(|name| CString::new(name).unwrap_or_default()).collect());
            }
            // 64 KiB is the kernel's limit of a list (XATTR_LIST_MAX).
            Err(Errno::RANGE) if buffer.len() < 64 * 1024 => buffer.resize(64 * 1024, 0),
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        }
    }
}

fn get(of: Xattrs<'_>, attribute: &CStr) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 256];
    loop {
        let result = match of {
            Xattrs::Open(fd) => rustix::fs::fgetxattr(fd, attribute, &mut buffer[..]),
            Xattrs::Entry(directory, name) => rustix::fs::lgetxattr(path(directory, name), attribute, &mut buffer[..]),
        };
        match result {
            Ok(size) => {
                buffer.truncate(size);
                return Ok(buffer);
            }
            // 64 KiB is the kernel's limit of a value (XATTR_SIZE_MAX).
            Err(Errno::RANGE) if buffer.len() < 64 * 1024 => buffer.resize(64 * 1024, 0),
            Err(error) => return Err(error),
        }
    }
}

fn set(of: Xattrs<'_>, attribute: &CStr, value: &[u8]) -> Result<(), Errno> {
    match of {
        Xattrs::Open(fd) => rustix::fs::fsetxattr(fd, attribute, value, XattrFlags::empty()),
        Xattrs::Entry(directory, name) => {
            rustix::fs::lsetxattr(path(directory, name), attribute, value, XattrFlags::empty())
        }
    }
}

/// There is no lgetxattrat(2) before Linux 6.13. The directory is named by its descriptor, and the last component is
/// not followed, so this can't lead elsewhere.
fn path(directory: BorrowedFd<'_>, name: &OsStr) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.as_bytes());
    path
}
