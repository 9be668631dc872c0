//! `update`: other limits and another restart policy for a container, at once for one that runs.

use crate::container::Phase;
use crate::limits::{self, OwnLimits, Support};
use crate::{Container, Engine, Error, Result};
use orlop_model::options::{HostOptions, Resources, RestartName, RestartPolicy};
use orlop_runtime::spec;

/// What is to be changed; None and what [`Resources`] calls "no limit of its own" leave it as it is.
#[derive(Clone, Debug, Default)]
pub struct UpdateRequest {
    /// Other limits.
    pub resources: Resources,
    /// Another restart policy.
    pub restart: Option<RestartPolicy>,
}

impl Engine {
    /// Changes a container's limits and its restart policy; gives what this machine can't keep of them.
    pub fn update_container(&self, name: &str, request: &UpdateRequest) -> Result<Vec<String>> {
        let id = self.container(name)?.id;
        let _lock = self.state.lock("container", &id.hex())?;
        let mut container = self.settled(id)?.ok_or_else(|| Error::NoSuchContainer(name.to_owned()))?;
        if matches!(container.details.status.phase, Phase::Removing { .. }) {
            return Err(Error::Conflict(format!("cannot update container {name}: it is marked for removal")));
        }
        let host = &container.details.host;
        if host.auto_remove && request.restart.is_some_and(|policy| policy.name != RestartName::No) {
            return Err(Error::Invalid(
                "Restart policy cannot be updated because AutoRemove is enabled for the container".to_owned(),
            ));
        }
        let mut options = HostOptions { resources: request.resources.clone(), ..HostOptions::default() };
        let support = Support::probe();
        limits::check_machine(&options, support)?;
        let warnings = limits::fit(&mut options, support, &OwnLimits::read());
        let changed = changed(&host.options.resources, &options.resources)?;
        changed.check()?;
        if self.is_running(&container) && changed != host.options.resources {
            let runtime = self.runtime_of(&container)?;
            runtime.update(&id.hex(), &spec::update(&changed).to_string())?;
        }
        self.update(&mut container, |container: &mut Container| {
            let options = &mut container.details.host.options;
            options.resources = changed;
            if let Some(policy) = request.restart {
                options.restart = policy;
            }
        })?;
        self.emit_container(&container, "update", &[]);
        Ok(warnings)
    }
}

/// `old` with what `new` says, by Docker's rules (moby `container.UpdateContainer`).
fn changed(old: &Resources, new: &Resources) -> Result<Resources> {
    let conflict = |text: &str| Err(Error::Invalid(format!("Conflicting options: {text}")));
    if new.nano_cpus != 0 && old.cpu_period != 0 {
        return conflict("Nano CPUs cannot be updated as CPU Period has already been set");
    }
    if new.nano_cpus != 0 && old.cpu_quota != 0 {
        return conflict("Nano CPUs cannot be updated as CPU Quota has already been set");
    }
    if new.cpu_quota != 0 && old.nano_cpus != 0 {
        return conflict("CPU Quota cannot be updated as NanoCPUs has already been set");
    }
    if new.cpu_period != 0 && old.nano_cpus != 0 {
        return conflict("CPU Period cannot be updated as NanoCPUs has already been set");
    }
    let swap = old.effective_swap();
    if new.memory != 0 && swap > 0 && new.memory > swap && new.memory_swap == 0 {
        return Err(Error::Invalid(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
                .to_owned(),
        ));
    }
    let or = |new: i64, old: i64| if new == 0 { old } else { new };
    let or_text = |new: &String, old: &String| if new.is_empty() { old.clone() } else { new.clone() };
    Ok(Resources {
        memory: or(new.memory, old.memory),
        // What followed from the old memory alone stays what it was, as in Docker.
        memory_swap: or(new.memory_swap, if new.memory == 0 { old.memory_swap } else { swap }),
        memory_reservation: or(new.memory_reservation, old.memory_reservation),
        nano_cpus: or(new.nano_cpus, old.nano_cpus),
        cpu_shares: or(new.cpu_shares, old.cpu_shares),
        cpu_period: or(new.cpu_period, old.cpu_period),
        cpu_quota: or(new.cpu_quota, old.cpu_quota),
        cpu_realtime_period: or(new.cpu_realtime_period, old.cpu_realtime_period),
        cpu_realtime_runtime: or(new.cpu_realtime_runtime, old.cpu_realtime_runtime),
        cpuset_cpus: or_text(&new.cpuset_cpus, &old.cpuset_cpus),
        cpuset_mems: or_text(&new.cpuset_mems, &old.cpuset_mems),
        pids_limit: new.pids_limit.or(old.pids_limit),
        blkio_weight: if new.blkio_weight == 0 { old.blkio_weight } else { new.blkio_weight },
        ..old.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: i64 = 1 << 20;

    #[test]
    fn what_is_not_given_stays() {
        let old = Resources { memory: 32 * MB, cpu_shares: 5, pids_limit: Some(9), ..Resources::default() };
        let new = Resources { memory: 48 * MB, cpuset_cpus: "0".into(), ..Resources::default() };
        let found = changed(&old, &new).unwrap();
        assert_eq!((found.memory, found.memory_swap, found.cpu_shares), (48 * MB, 64 * MB, 5));
        assert_eq!((found.cpuset_cpus.as_str(), found.pids_limit), ("0", Some(9)));
        let none = Resources::default;
        for (old, new, part) in [
            (
                Resources { nano_cpus: 1, ..none() },
                Resources { cpu_quota: 5000, ..none() },
                "CPU Quota cannot be updated",
            ),
            (
                Resources { cpu_period: 5000, ..none() },
                Resources { nano_cpus: 1, ..none() },
                "Nano CPUs cannot be updated",
            ),
            (old, Resources { memory: 128 * MB, ..none() }, "Memory limit should be smaller than already set"),
        ] {
            assert!(changed(&old, &new).unwrap_err().to_string().contains(part), "{part}");
        }
    }
}
