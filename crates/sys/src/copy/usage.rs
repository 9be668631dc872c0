//! How much a tree holds.

use super::directory::{self, Root, entries, file_type, identity, is_mount_point, stat_at};
use super::pool::{self, Stack};
use crate::Error;
use rustix::fs::FileType;
use rustix::io::Errno;
use std::collections::HashSet;
use std::os::fd::AsFd;
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
    let mut sum = TreeUsage::default();
    for entry in entries(&opened).map_err(|error| root.error("read", path, error))? {
        let stat = match stat_at(&opened, entry.name()) {
            Err(Errno::NOENT) => continue,
            stat => stat.map_err(|error| root.error("stat", &path.join(entry.name()), error))?,
        };
        if is_mount_point(&stat) {
            continue;
        }
        if file_type(&stat) == FileType::Directory {
            sum.directories += 1;
            sum.allocated += stat.stx_blocks * 512;
            stack.push([path.join(entry.name())]);
            continue;
        }
        sum.files += 1;
        let counted =
            stat.stx_nlink > 1 && !linked.lock().unwrap_or_else(PoisonError::into_inner).insert(identity(&stat));
        if !counted {
            sum.apparent += stat.stx_size;
            sum.allocated += stat.stx_blocks * 512;
        }
    }
    let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
    total.apparent += sum.apparent;
    total.allocated += sum.allocated;
    total.files += sum.files;
    total.directories += sum.directories;
    Ok(())
}
