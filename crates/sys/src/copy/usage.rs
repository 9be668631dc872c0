//! How much a tree holds.

use super::directory::{self, DEEP, DeepWalk, Root, entries, file_type, identity, is_mount_point, stat_at, walk_deep};
use super::pool::{self, Stack};
use crate::Error;
use rustix::fs::FileType;
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Sizes of a tree, walked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeUsage {
    /// Bytes as Docker's SIZE counts them: lengths of everything that is not a directory, hardlinks once.
    pub apparent: u64,
    /// Bytes of allocated blocks, as `du` counts them: directories and the root included, hardlinks once.
    pub allocated: u64,
    /// Entries that are not directories; each name of a hardlinked file counts.
    pub files: u64,
    /// Directories below the root.
    pub directories: u64,
}

/// Measures a tree, never leaving its mount. What vanishes meanwhile is not counted.
pub fn tree_usage(root: impl AsFd) -> Result<TreeUsage, Error> {
    let root = Root::new(&root, false);
    let stat = directory::stat(root.fd).map_err(|error| root.error("stat", Path::new(""), error))?;
    let total = Mutex::new(TreeUsage { allocated: stat.stx_blocks * 512, ..TreeUsage::default() });
    let linked = Mutex::new(HashSet::new());
    pool::run(PathBuf::new(), |path, stack| measure(root, &path, stack, &linked, &total))?;
    Ok(total.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn measure(
    root: Root<'_>,
    path: &Path,
    stack: &Stack<PathBuf, Error>,
    linked: &Mutex<HashSet<(u64, u64)>>,
    total: &Mutex<TreeUsage>,
) -> Result<(), Error> {
    let opened = match root.open(path) {
        // Removed, replaced or mounted over since its parent was read.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => return Ok(()),
        opened => opened.map_err(|error| root.error("open", path, error))?,
    };
    let mut walk = Walk { linked, sum: TreeUsage::default() };
    if path.components().count() >= DEEP {
        walk_deep(opened, &mut walk)?;
    } else {
        let directories = walk.measure(&opened)?;
        stack.push(directories.into_iter().map(|name| path.join(name)));
    }
    let sum = walk.sum;
    let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
    total.apparent += sum.apparent;
    total.allocated += sum.allocated;
    total.files += sum.files;
    total.directories += sum.directories;
    Ok(())
}

struct Walk<'a> {
    linked: &'a Mutex<HashSet<(u64, u64)>>,
    sum: TreeUsage,
}

impl Walk<'_> {
    /// Adds up the entries of one directory; returns its directories.
    fn measure(&mut self, opened: &OwnedFd) -> Result<Vec<OsString>, Error> {
        let failed = |call, name: &OsStr, error| Error::io(call, directory::shown(opened, Path::new(name)), error);
        let mut directories = Vec::new();
        for entry in entries(opened).map_err(|error| failed("read", OsStr::new(""), error))? {
            let stat = match stat_at(opened, entry.name()) {
                Err(Errno::NOENT) => continue,
                stat => stat.map_err(|error| failed("stat", entry.name(), error))?,
            };
            if is_mount_point(&stat) {
                continue;
            }
            if file_type(&stat) == FileType::Directory {
                self.sum.directories += 1;
                self.sum.allocated += stat.stx_blocks * 512;
                directories.push(entry.name().to_owned());
                continue;
            }
            self.sum.files += 1;
            let counted = stat.stx_nlink > 1
                && !self.linked.lock().unwrap_or_else(PoisonError::into_inner).insert(identity(&stat));
            if !counted {
                self.sum.apparent += stat.stx_size;
                self.sum.allocated += stat.stx_blocks * 512;
            }
        }
        Ok(directories)
    }
}

impl DeepWalk for Walk<'_> {
    fn enter(&mut self, directory: &OwnedFd) -> Result<Vec<OsString>, Error> {
        self.measure(directory)
    }

    fn leave(&mut self, _above: &OwnedFd, _name: &OsStr) -> Result<(), Error> {
        Ok(())
    }

    fn fail(&mut self, above: &OwnedFd, name: &OsStr, errno: Errno) -> Result<(), Error> {
        match errno {
            // Removed, replaced, mounted over or moved since its parent was read.
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::STALE => Ok(()),
            errno => Err(Error::io("open", directory::shown(above, Path::new(name)), errno)),
        }
    }
}
