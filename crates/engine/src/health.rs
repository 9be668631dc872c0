//! Health checks: what the shim is told to run, and how a container is.

use crate::container::Phase;
use crate::{Container, Engine, Result};
use orlop_model::Id;
use orlop_model::options::HealthCheck;
use orlop_runtime::shim::{HealthConfig, HealthState};
use orlop_runtime::spec::ProcessInput;

/// The check of a container with every default filled in; None when it has none. `process` is the first process's.
pub(crate) fn config(engine: &Engine, container: &Container, process: &ProcessInput) -> Option<HealthConfig> {
    let check = container.details.config.health.as_ref().filter(|check| check.is_active())?;
    let or = |value: i64, default: i64| u64::try_from(if value == 0 { default } else { value }).unwrap_or(0);
    Some(HealthConfig {
        process: ProcessInput { args: arguments(check), terminal: false, console_size: None, ..process.clone() },
        interval: or(check.interval, HealthCheck::INTERVAL),
        timeout: or(check.timeout, HealthCheck::TIMEOUT),
        start_period: u64::try_from(check.start_period).unwrap_or(0),
        start_interval: or(check.start_interval, HealthCheck::START_INTERVAL),
        retries: u32::try_from(or(check.retries, HealthCheck::RETRIES)).unwrap_or(u32::MAX),
        notify: engine.internal(&["health", &container.id.hex()]),
    })
}

fn arguments(check: &HealthCheck) -> Vec<String> {
    match check.test.split_first() {
        Some((kind, line)) if kind == "CMD-SHELL" => {
            ["/bin/sh", "-c"].into_iter().map(str::to_owned).chain(line.iter().cloned()).collect()
        }
        Some((_, arguments)) => arguments.to_vec(),
        None => Vec::new(),
    }
}

impl Engine {
    /// How a container with a health check is, or was when it ended; None without a check.
    pub fn health(&self, container: &Container) -> Option<HealthState> {
        container.details.config.health.as_ref().filter(|check| check.is_active())?;
        let status = &container.details.status;
        match status.phase {
            Phase::Running => Some(HealthState::read(&self.bundle(container.id)).unwrap_or(HealthState::STARTING)),
            _ => status.health.clone(),
        }
    }

    /// Tells that the kernel has killed something in a container for lack of memory, and it goes on.
    pub fn out_of_memory(&self, id: Id) -> Result<()> {
        if let Some(container) = self.row(id)? {
            self.emit_container(&container, "oom", &[]);
        }
        Ok(())
    }

    /// Tells of a change that the shim has seen.
    pub fn health_changed(&self, id: Id, status: &str) -> Result<()> {
        if let Some(container) = self.row(id)? {
            self.emit_container(&container, &format!("health_status: {status}"), &[]);
        }
        Ok(())
    }
}
