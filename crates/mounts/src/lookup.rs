//! Looking at a path as the container will see it.

use crate::Error;
use orlop_sys::path::open_in_root;
use rustix::fs::{FileType, OFlags, fstat};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// What an image has at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Nothing, or a link that leads nowhere.
    Missing,
    /// Anything but a directory.
    File,
    /// A directory.
    Directory,
}

/// What lies at `path` for a program whose root is `root`, with a descriptor (O_PATH) of it. Symlinks are followed,
/// never out of the root.
pub(crate) fn open_entry(root: impl AsFd, path: &str) -> Result<(Entry, Option<OwnedFd>), Error> {
    let path = Path::new(path);
    let fd = match open_in_root(root, path, OFlags::PATH) {
        Ok(fd) => fd,
        // A loop of links is nothing that could be mounted over either; the runtime will say so.
        Err(error) if [Errno::NOENT, Errno::NOTDIR, Errno::LOOP].into_iter().any(|errno| error.is(errno)) => {
            return Ok((Entry::Missing, None));
        }
        Err(error) => return Err(error.into()),
    };
    let entry = if is_directory(&fd, path)? { Entry::Directory } else { Entry::File };
    Ok((entry, Some(fd)))
}

/// `path` is only for the error.
pub(crate) fn is_directory(fd: impl AsFd, path: &Path) -> Result<bool, orlop_sys::Error> {
    let stat = fstat(fd).map_err(|error| orlop_sys::Error::io("stat", path, error))?;
    Ok(FileType::from_raw_mode(stat.st_mode).is_dir())
}

/// Whether `path` is `parent` or lies below it.
pub(crate) fn is_within(path: &str, parent: &str) -> bool {
    path.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
