//! The parts of this binary that no person calls.

use crate::door::Door;
use crate::failure::{Failure, Outcome};
use std::path::Path;

/// `internal shim DIR`: stands beside one running container until that has ended. It opens no engine.
pub fn shim(directory: &Path) -> u8 {
    orlop_engine::shim_main(directory)
}

/// `internal adopt DIR`: the shim of a container that has lost its first one. It opens no engine.
pub fn adopt(directory: &Path) -> u8 {
    orlop_engine::shim_adopt_main(directory)
}

/// `internal restart ID`: called by who has reaped a container that its policy starts again.
pub fn restart(door: &Door, id: &str) -> Outcome {
    let id = id.parse().map_err(|error| Failure::invalid(format!("{error}")))?;
    orlop_engine::Engine::enter_host_mounts();
    door.local_engine()?.restart_when_due(id)?;
    Ok(0)
}

/// `internal oom ID`: called by the shim when memory ran out in its container.
pub fn oom(door: &Door, id: &str) -> Outcome {
    let id = id.parse().map_err(|error| Failure::invalid(format!("{error}")))?;
    door.local_engine()?.out_of_memory(id)?;
    Ok(0)
}

/// `internal uncopy ID`: called by `tend` when a `cp` was killed.
pub fn uncopy(door: &Door, id: &str) -> Outcome {
    door.local_engine()?.sweep_copies(id)?;
    Ok(0)
}

/// `internal health ID STATUS`: called by the shim when the health of its container has changed.
pub fn health(door: &Door, id: &str, status: &str) -> Outcome {
    let id = id.parse().map_err(|error| Failure::invalid(format!("{error}")))?;
    door.local_engine()?.health_changed(id, status)?;
    Ok(0)
}

/// `internal reap ID`: called by the shim when its container has ended.
pub fn reap(door: &Door, id: &str) -> Outcome {
    let id = id.parse().map_err(|error| Failure::invalid(format!("{error}")))?;
    orlop_engine::Engine::enter_host_mounts();
    door.local_engine()?.reap(id)?;
    Ok(0)
}
