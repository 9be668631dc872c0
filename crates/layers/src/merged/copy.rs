//! Copies out of a chain: one entry, as overlay's copy-up, or everything that the chain shows.

use super::{Found, Merged};
use crate::{Error, Result};
use orlop_sys::copy::{copy_file, copy_metadata};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

impl Merged {
    /// Copies all that the chain shows into the empty directory `target`, its root's own attributes included. Files are
    /// hard links of each other where their layer has them so.
    pub(crate) fn copy_to(&self, target: &Path) -> Result<()> {
        let root = orlop_sys::path::open_directory(target)?;
        let mut links: HashMap<(usize, u64), PathBuf> = HashMap::new();
        let mut directories = vec![self.root()];
        let mut done: Vec<Found> = Vec::new();
        while let Some(directory) = directories.pop() {
            for mut found in self.list(&directory)? {
                let failed = |action: &'static str, error: Errno| Error::io(action, target.join(&found.path), error);
                if let Some(below) = found.directory.take() {
                    rustix::fs::mkdirat(&root, &found.path, Mode::from_raw_mode(0o700))
                        .map_err(|error| failed("create", error))?;
                    directories.push(below);
                    done.push(found);
                    continue;
                }
                if found.stat.st_nlink > 1 {
                    if let Some(first) = links.get(&Self::identity(&found)) {
                        rustix::fs::linkat(&root, first, &root, &found.path, AtFlags::empty())
                            .map_err(|error| failed("link", error))?;
                        continue;
                    }
                    links.insert(Self::identity(&found), found.path.clone());
                }
                let (from, name) = self.place_of(&found)?;
                copy_entry(&from, name, &found.stat, &root, found.path.as_os_str(), &target.join(&found.path))?;
            }
        }
        // Deepest first is not needed: setting the attributes of a directory leaves those of its parent alone.
        for found in &done {
            let to = orlop_sys::path::open_beneath(&root, &found.path, OFlags::RDONLY | OFlags::DIRECTORY)?;
            copy_directory_metadata(self.open_found(found, OFlags::RDONLY | OFlags::DIRECTORY)?, to)?;
        }
        Ok(())
    }
}

/// Owner, mode, attributes (but overlay's own) and times of a directory.
pub(crate) fn copy_directory_metadata(from: impl AsFd, to: impl AsFd) -> Result<()> {
    Ok(copy_metadata(from, to)?)
}

/// Copies one entry that is not a directory, with all that makes it up. `shown` names the copy in errors.
pub(crate) fn copy_entry(
    from: impl AsFd,
    name: &OsStr,
    stat: &Stat,
    to: impl AsFd,
    to_name: &OsStr,
    shown: &Path,
) -> Result<()> {
    let failed = |action: &'static str| move |error: Errno| Error::io(action, shown, error);
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind.is_file() {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let source = rustix::fs::openat(&from, name, flags, Mode::empty()).map_err(failed("read the source of"))?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target = rustix::fs::openat(&to, to_name, flags, Mode::from_raw_mode(0o600)).map_err(failed("create"))?;
        copy_file(&source, &target, stat.st_size.cast_unsigned()).map_err(|error| Error::io("write", shown, error))?;
        return Ok(copy_metadata(source, target)?);
    }
    if kind.is_symlink() {
        let target = rustix::fs::readlinkat(&from, name, Vec::new()).map_err(failed("read the source of"))?;
        rustix::fs::symlinkat(target.as_c_str(), &to, to_name).map_err(failed("create"))?;
    } else {
        rustix::fs::mknodat(&to, to_name, kind, Mode::from_raw_mode(0o600), stat.st_rdev).map_err(failed("create"))?;
    }
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(&to, to_name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(failed("chown"))?;
    if !kind.is_symlink() {
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        rustix::fs::chmodat(&to, to_name, mode, AtFlags::empty()).map_err(failed("chmod"))?;
    }
    copy_xattrs(&from, name, &to, to_name).map_err(failed("copy attributes to"))?;
    let spec = |tv_sec: i64, nanos: u64| Timespec { tv_sec, tv_nsec: nanos.cast_signed() };
    let times = Timestamps {
        last_access: spec(stat.st_atime, stat.st_atime_nsec),
        last_modification: spec(stat.st_mtime, stat.st_mtime_nsec),
    };
    rustix::fs::utimensat(&to, to_name, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(failed("set the times of"))
}

/// Attributes of what can't be opened. There is no call that takes a directory and a name before Linux 6.13.
fn copy_xattrs(from: impl AsFd, name: &OsStr, to: impl AsFd, to_name: &OsStr) -> Result<(), Errno> {
    let path =
        |fd: &dyn AsFd, name: &OsStr| PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())).join(name);
    let (source, target) = (path(&from, name), path(&to, to_name));
    let mut list = vec![0; 64 << 10];
    let length = match rustix::fs::llistxattr(&source, &mut list) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(error) => return Err(error),
    };
    for name in list[..length].split_inclusive(|&byte| byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        if name.to_bytes().starts_with(b"trusted.overlay.") {
            continue;
        }
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::lgetxattr(&source, name, &mut value)?;
        match rustix::fs::lsetxattr(&target, name, &value[..length], XattrFlags::empty()) {
            // A label belongs to the place, not to the file.
            Err(Errno::OPNOTSUPP | Errno::PERM) if name.to_bytes() == OsStr::new("security.selinux").as_bytes() => {}
            set => set?,
        }
    }
    Ok(())
}
