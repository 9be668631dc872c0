//! The OCI runtime.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// runc, or what has its command line (crun, youki).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runc {
    /// A name looked up in PATH, or a path.
    pub binary: String,
    /// Where it keeps its state: `<run root>/runc`.
    pub root: PathBuf,
}
