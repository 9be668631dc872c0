//! The parts of this binary that no person calls.

use crate::door::Door;
use crate::failure::{Failure, Outcome};
use std::path::Path;
use std::process::ExitCode;

/// `internal shim DIR`
pub fn shim(directory: &Path) -> ExitCode {
    let _ = directory;
    ExitCode::from(1)
}

/// `internal reap ID`
pub fn reap(door: &Door, id: &str) -> Outcome {
    let _ = door;
    Err(Failure::unsupported(id))
}
