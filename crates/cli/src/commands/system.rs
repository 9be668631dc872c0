//! Being connected.
use crate::args::system as args;
use crate::door::Door;
use crate::failure::{Failure, Outcome};
/// Being connected.
pub fn version(door: &Door, args: args::FormatArgs) -> Outcome {
    door.check()?;
    Err(Failure::unsupported(format!("{args:?}")))
}
/// Being connected.
pub fn info(door: &Door, args: args::FormatArgs) -> Outcome {
    door.check()?;
    Err(Failure::unsupported(format!("{args:?}")))
}
/// Being connected.
pub fn events(door: &Door, args: args::EventsArgs) -> Outcome {
    door.check()?;
    Err(Failure::unsupported(format!("{args:?}")))
}
/// Being connected.
pub fn df(door: &Door, args: args::DfArgs) -> Outcome {
    door.check()?;
    Err(Failure::unsupported(format!("{args:?}")))
}
/// Being connected.
pub fn prune(door: &Door, args: args::PruneArgs) -> Outcome {
    door.check()?;
    Err(Failure::unsupported(format!("{args:?}")))
}
/// Being connected.
pub fn tend(door: &Door, args: args::TendArgs) -> Outcome {
    door.check()?;
    Err(Failure::unsupported(format!("{args:?}")))
}
