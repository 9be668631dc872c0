//! Puts a layer right for the chain that it belongs to.

use crate::{Dependencies, Result};
use std::path::{Path, PathBuf};

/// Settles what in the layer at `diff` depends on the layers below: `parents` are their diff directories, topmost
/// first, each settled already.
pub fn settle(_diff: &Path, _dependencies: &Dependencies, _parents: &[PathBuf]) -> Result<()> {
    Ok(())
}
