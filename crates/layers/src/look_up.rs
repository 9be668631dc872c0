//! What a chain of layers shows at a path, without a mount.

use crate::Result;
use crate::merged::Merged;
use rustix::fs::FileType;
use std::path::{Path, PathBuf};

/// The kind of what a program would find at `path` in a root file system made of `chain` (diff directories, topmost
/// first). Symlinks are followed, never out of the chain. None when nothing is there.
pub fn look_up(chain: &[PathBuf], path: &Path) -> Result<Option<FileType>> {
    let merged = Merged::open(chain)?;
    Ok(merged.follow(path, true)?.map(|found| FileType::from_raw_mode(found.stat.st_mode)))
}
