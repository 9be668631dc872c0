//! Where a path of `cp` leads, inside a root.

use crate::{Error, Result};
use orlop_sys::path::open_in_root;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// As many links in a row as the kernel follows.
const MAX_LINKS: usize = 40;

/// A path that is to be looked up below a root.
pub(super) struct Place<'a> {
    root: &'a OwnedFd,
    path: PathBuf,
    /// It ends with a slash: only a directory will do.
    slash: bool,
    /// It ends with `/.`: the content of a directory, not itself.
    dot: bool,
}

/// What a path leads to.
pub(super) enum Located {
    /// A directory, open; `name` is what a copy of it is called, `content` says that only what is in it is meant.
    Directory { fd: OwnedFd, name: OsString, content: bool },
    /// Anything else, by its directory and its name there; `shown` is what a copy of it is called.
    Entry { parent: OwnedFd, name: OsString, shown: OsString },
    /// Nothing, in a directory that is there.
    Missing { parent: OwnedFd, name: OsString, slash: bool },
}

impl<'a> Place<'a> {
    /// A relative path begins at the root.
    pub fn new(root: &'a OwnedFd, path: &Path) -> Self {
        let bytes = path.as_os_str().as_bytes();
        let dot = bytes == b"." || bytes.ends_with(b"/.");
        let slash = bytes.ends_with(b"/") || dot;
        let parts = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
        Self { root, path: Path::new("/").join(parts.collect::<PathBuf>()), slash, dot }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks it up; with `follow` also what a symlink at its end points to. An error (ENOENT) when its directory isn't
    /// there.
    pub fn locate(&self, follow: bool) -> Result<Located> {
        let shown = self.path.file_name().unwrap_or_default().to_owned();
        let mut path = self.path.clone();
        for _ in 0..MAX_LINKS {
            let Some(name) = path.file_name().map(OsStr::to_owned) else {
                // The root, or what ends with `..`.
                let fd = open_in_root(self.root, &path, OFlags::RDONLY | OFlags::DIRECTORY)?;
                return Ok(Located::Directory { fd, content: self.dot || shown.is_empty(), name: shown });
            };
            let above = path.parent().unwrap_or(Path::new("/"));
            let parent = open_in_root(self.root, above, OFlags::RDONLY | OFlags::DIRECTORY)?;
            let failed = |error: Errno| Error::Sys(orlop_sys::Error::io("stat", &path, error));
            let stat = match rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => return Ok(Located::Missing { parent, name, slash: self.slash }),
                stat => stat.map_err(failed)?,
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    let fd = open_directory(parent.as_fd(), &name).map_err(failed)?;
                    return Ok(Located::Directory { fd, name: shown, content: self.dot });
                }
                FileType::Symlink if follow || self.slash => {
                    let link = rustix::fs::readlinkat(&parent, &name, Vec::new()).map_err(failed)?;
                    path = above.join(OsStr::from_bytes(link.as_bytes()));
                }
                _ if self.slash => return Err(failed(Errno::NOTDIR)),
                _ => return Ok(Located::Entry { parent, name, shown }),
            }
        }
        Err(Error::Sys(orlop_sys::Error::io("stat", &self.path, Errno::LOOP)))
    }
}

/// A directory's own descriptor for reading its entries, never through a symlink.
pub(super) fn open_directory(parent: BorrowedFd<'_>, name: &OsStr) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

impl Located {
    /// Directory and name by which it is reached.
    pub fn entry(&self) -> (BorrowedFd<'_>, &OsStr) {
        match self {
            Self::Directory { fd, .. } => (fd.as_fd(), OsStr::new(".")),
            Self::Entry { parent, name, .. } | Self::Missing { parent, name, .. } => (parent.as_fd(), name),
        }
    }

    /// What a copy of it is called.
    pub fn shown(&self) -> &OsStr {
        match self {
            Self::Directory { name, .. } | Self::Missing { name, .. } => name,
            Self::Entry { shown, .. } => shown,
        }
    }
}
