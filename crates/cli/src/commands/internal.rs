//! The parts of this binary that no person calls.

use crate::door::Door;
use crate::failure::{Failure, Outcome};
use std::path::Path;

/// `internal shim DIR`: stands beside one running container until that has ended. It opens no engine.
pub fn shim(directory: &Path) -> u8 {
    orlop_engine::shim_main(directory)
}

/// `internal reap ID`: called by the shim when its container has ended.
pub fn reap(door: &Door, id: &str) -> Outcome {
    let id = id.parse().map_err(|error| Failure::invalid(format!("{error}")))?;
    door.local_engine()?.reap(id)?;
    Ok(0)
}
