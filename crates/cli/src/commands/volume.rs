//! Being connected.
use crate::args::volume as args;
use crate::door::Door;
use crate::failure::{Failure, Outcome};
/// Being connected.
pub fn create(door: &Door, args: args::CreateArgs) -> Outcome {
    door.check()?;
    Err(Failure::unsupported(format!("{args:?}")))
}
/// Being connected.
pub fn inspect(door: &Door, args: args::InspectArgs) -> Outcome {
    door.check()?;
    Err(Failure::unsupported(format!("{args:?}")))
}
/// Being connected.
pub fn ls(door: &Door, args: args::LsArgs) -> Outcome {
    door.check()?;
    Err(Failure::unsupported(format!("{args:?}")))
}
/// Being connected.
pub fn prune(door: &Door, args: args::PruneArgs) -> Outcome {
    door.check()?;
    Err(Failure::unsupported(format!("{args:?}")))
}
/// Being connected.
pub fn restore(door: &Door, args: args::RestoreArgs) -> Outcome {
    door.check()?;
    Err(Failure::unsupported(format!("{args:?}")))
}
/// Being connected.
pub fn rm(door: &Door, args: args::RmArgs) -> Outcome {
    door.check()?;
    Err(Failure::unsupported(format!("{args:?}")))
}
/// Being connected.
pub fn trash_ls(door: &Door, args: args::TrashLsArgs) -> Outcome {
    door.check()?;
    Err(Failure::unsupported(format!("{args:?}")))
}
/// Being connected.
pub fn trash_empty(door: &Door, args: args::TrashEmptyArgs) -> Outcome {
    door.check()?;
    Err(Failure::unsupported(format!("{args:?}")))
}
