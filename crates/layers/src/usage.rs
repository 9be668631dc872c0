//! What a writable layer takes.

use crate::{Error, Result};
use orlop_sys::copy::tree_usage;
use std::path::Path;

/// What a directory tree takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Docker's SIZE: apparent bytes of everything but directories, each inode once.
    pub size: u64,
    /// DISK: allocated bytes, equal to `du`.
    pub disk: u64,
    /// Entries, the root not counted.
    pub entries: u64,
}

/// Walks the tree at `path`, a layer's diff directory, on several threads.
pub fn usage(path: &Path) -> Result<Usage> {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let root = rustix::fs::open(path, flags, rustix::fs::Mode::empty());
    let found = tree_usage(root.map_err(|error| Error::io("open", path, error))?)?;
    Ok(Usage { size: found.apparent, disk: found.allocated, entries: found.files + found.directories })
}
