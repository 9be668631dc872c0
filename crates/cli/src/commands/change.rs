//! The verbs that change a container that is there: `rename` and `update`.

use super::each_name;
use super::options::resources;
use super::request::container_name;
use crate::args::container as args;
use crate::args::options::{ResourceArgs, SecurityArgs};
use crate::door::Door;
use crate::failure::{Failure, Outcome};
use crate::output::print::{out, warn};
use orlop_engine::UpdateRequest;
use orlop_model::options::RestartPolicy;

/// `rename`
pub fn rename(door: &Door, args: args::NamesArgs) -> Outcome {
    let [old, new] = &args.names[..] else { unreachable!("the number of arguments was checked") };
    if old.trim().is_empty() || new.trim().is_empty() {
        return Err(Failure::invalid("Neither old nor new names may be empty"));
    }
    let new = container_name(new.strip_prefix('/').unwrap_or(new))?;
    door.engine()?.rename(old, &new)?;
    Ok(0)
}

/// `update`
pub fn update(door: &Door, args: args::UpdateArgs) -> Outcome {
    let restart = args.restart.as_deref().map(RestartPolicy::parse).transpose();
    let restart = restart.map_err(|error| Failure::invalid(error.to_string()))?;
    let limits = ResourceArgs {
        blkio_weight: args.blkio_weight,
        cpu_period: args.cpu_period,
        cpu_quota: args.cpu_quota,
        cpu_rt_period: args.cpu_rt_period,
        cpu_rt_runtime: args.cpu_rt_runtime,
        cpu_shares: args.cpu_shares,
        cpus: args.cpus,
        cpuset_cpus: args.cpuset_cpus,
        cpuset_mems: args.cpuset_mems,
        memory: args.memory,
        memory_reservation: args.memory_reservation,
        memory_swap: args.memory_swap,
        pids_limit: args.pids_limit,
        ..ResourceArgs::default()
    };
    let request = UpdateRequest { resources: resources(&limits, &SecurityArgs::default())?, restart };
    if request.restart.is_none() && request.resources == orlop_model::options::Resources::default() {
        return Err(Failure::invalid("you must provide one or more flags when using this command"));
    }
    let engine = door.engine()?;
    each_name(&args.containers, |name| {
        for warning in engine.update_container(name, &request)? {
            warn(&warning);
        }
        Ok(out(&format!("{name}\n"))?)
    })
}
