//! Being connected.
use crate::args::container as args;
use crate::door::Door;
use crate::failure::{Failure, Outcome};
/// Being connected.
pub fn run(door: &Door, args: args::RunArgs) -> Outcome {
    door.check()?;
    Err(Failure::unsupported(format!("{args:?}")))
}
/// Being connected.
pub fn exec(door: &Door, args: args::ExecArgs) -> Outcome {
    door.check()?;
    Err(Failure::unsupported(format!("{args:?}")))
}
/// Being connected.
pub fn ps(door: &Door, args: args::PsArgs) -> Outcome {
    door.check()?;
    Err(Failure::unsupported(format!("{args:?}")))
}
/// Being connected.
pub fn create(door: &Door, args: args::CreateArgs) -> Outcome {
    door.check()?;
    Err(Failure::unsupported(format!("{args:?}")))
}
/// Being connected.
pub fn inspect_any(door: &Door, args: args::InspectArgs) -> Outcome {
    door.check()?;
    Err(Failure::unsupported(format!("{args:?}")))
}
/// Being connected.
pub fn kill(door: &Door, args: args::KillArgs) -> Outcome {
    door.check()?;
    Err(Failure::unsupported(format!("{args:?}")))
}
/// Being connected.
pub fn logs(door: &Door, args: args::LogsArgs) -> Outcome {
    door.check()?;
    Err(Failure::unsupported(format!("{args:?}")))
}
/// Being connected.
pub fn rm(door: &Door, args: args::RmArgs) -> Outcome {
    door.check()?;
    Err(Failure::unsupported(format!("{args:?}")))
}
/// Being connected.
pub fn start(door: &Door, args: args::StartArgs) -> Outcome {
    door.check()?;
    Err(Failure::unsupported(format!("{args:?}")))
}
/// Being connected.
pub fn stop(door: &Door, args: args::StopArgs) -> Outcome {
    door.check()?;
    Err(Failure::unsupported(format!("{args:?}")))
}
/// Being connected.
pub fn wait(door: &Door, args: args::NamesArgs) -> Outcome {
    door.check()?;
    Err(Failure::unsupported(format!("{args:?}")))
}
/// Being connected.
pub fn inspect(door: &Door, args: args::ContainerInspectArgs) -> Outcome {
    door.check()?;
    Err(Failure::unsupported(format!("{args:?}")))
}
/// Being connected.
pub fn prune(door: &Door, args: args::PruneArgs) -> Outcome {
    door.check()?;
    Err(Failure::unsupported(format!("{args:?}")))
}
