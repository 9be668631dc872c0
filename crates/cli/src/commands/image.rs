//! Being connected.
use crate::args::image as args;
use crate::door::Door;
use crate::failure::{Failure, Outcome};
/// Being connected.
pub fn ls(door: &Door, args: args::LsArgs) -> Outcome {
    door.check()?;
    Err(Failure::unsupported(format!("{args:?}")))
}
/// Being connected.
pub fn load(door: &Door, args: args::LoadArgs) -> Outcome {
    door.check()?;
    Err(Failure::unsupported(format!("{args:?}")))
}
/// Being connected.
pub fn history(door: &Door, args: args::HistoryArgs) -> Outcome {
    door.check()?;
    Err(Failure::unsupported(format!("{args:?}")))
}
/// Being connected.
pub fn rm(door: &Door, args: args::RmArgs) -> Outcome {
    door.check()?;
    Err(Failure::unsupported(format!("{args:?}")))
}
/// Being connected.
pub fn tag(door: &Door, args: args::TagArgs) -> Outcome {
    door.check()?;
    Err(Failure::unsupported(format!("{args:?}")))
}
/// Being connected.
pub fn from_host(door: &Door, args: args::FromHostArgs) -> Outcome {
    door.check()?;
    Err(Failure::unsupported(format!("{args:?}")))
}
/// Being connected.
pub fn inspect(door: &Door, args: args::InspectArgs) -> Outcome {
    door.check()?;
    Err(Failure::unsupported(format!("{args:?}")))
}
/// Being connected.
pub fn prune(door: &Door, args: args::PruneArgs) -> Outcome {
    door.check()?;
    Err(Failure::unsupported(format!("{args:?}")))
}
