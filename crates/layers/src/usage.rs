//! What a directory tree takes.

use crate::Result;
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

/// Walks the tree at `path`.
pub fn usage(_path: &Path) -> Result<Usage> {
    Ok(Usage::default())
}
