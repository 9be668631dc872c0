//! `stop`: the container's own signal, time to end, then SIGKILL.

use crate::container::Phase;
use crate::start::stop_signal;
use crate::{Container, Engine, Result};
use orlop_model::Id;
use std::time::Duration;

/// Docker's, when neither the container nor the flag says another.
const DEFAULT_TIMEOUT: i64 = 10;

/// How long SIGKILL may take to show; a process in uninterruptible sleep takes longer.
const KILL_TIMEOUT: Duration = Duration::from_secs(30);

impl Engine {
    /// Stops a container; one that isn't running is left alone.
    ///
    /// `timeout` in seconds, negative waits for ever; None is the container's own, else 10. `signal` replaces the
    /// container's own.
    pub fn stop(&self, name: &str, timeout: Option<i64>, signal: Option<&str>) -> Result<()> {
        let signal = signal.map(crate::kill::signal_number).transpose()?;
        let container = self.container(name)?;
        if container.details.status.phase != Phase::Running {
            return Ok(());
        }
        self.note_stopping(container.id)?;
        // The shim puts it into the exit record; without a shim there is nobody to tell.
        let _ = orlop_runtime::attach::stopping(&self.bundle(container.id));
        let signal = match signal {
            Some(signal) => signal,
            None => stop_signal(&container)?,
        };
        let timeout = timeout.or(container.details.config.stop_timeout).unwrap_or(DEFAULT_TIMEOUT);
        let timeout = u64::try_from(timeout).ok().map(Duration::from_secs);
        self.signal(&container, signal)?;
        self.emit_container(&container, "kill", &[("signal", &signal.to_string())]);
        if !self.wait_for_end(&container, timeout)? {
            self.kill_hard(&container)?;
        }
        self.reap(container.id)
    }

    fn note_stopping(&self, id: Id) -> Result<()> {
        let _lock = self.state.lock("container", &id.hex())?;
        match self.row(id)? {
            Some(mut container) => self.update(&mut container, |container| container.details.status.stopping = true),
            None => Ok(()),
        }
    }

    /// SIGKILL, and waits until it has worked.
    pub(crate) fn kill_hard(&self, container: &Container) -> Result<()> {
        self.signal(container, rustix::process::Signal::KILL.as_raw())?;
        if self.wait_for_end(container, Some(KILL_TIMEOUT))? {
            return Ok(());
        }
        Err(crate::Error::Conflict(format!(
            "container {} did not end within {} seconds of SIGKILL; its process {} hangs in the kernel",
            container.id.short(),
            KILL_TIMEOUT.as_secs(),
            container.details.status.pid
        )))
    }

    /// Waits for the end of a running container's program; false when it still runs after `timeout`.
    pub(crate) fn wait_for_end(&self, container: &Container, timeout: Option<Duration>) -> Result<bool> {
        Ok(orlop_sys::pid::wait_for_exit(container.details.status.pid, container.details.status.pid_start, timeout)?)
    }
}
