//! `stop`: the container's own signal, time to end, then SIGKILL.

use crate::container::Phase;
use crate::start::stop_signal;
use crate::{Container, Engine, Error, Result};
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
        let mut container = self.container(name)?;
        if container.details.status.restarting.is_some() {
            let mut was_waiting = false;
            self.note(container.id, |status| {
                status.stopping = true;
                was_waiting = status.restarting.take().is_some();
            })?;
            if was_waiting {
                self.emit_container(&container, "stop", &[]);
                return Ok(());
            }
            // It was started at this very moment.
            container = self.container(name)?;
        }
        if container.details.status.phase != Phase::Running {
            return Ok(());
        }
        self.note(container.id, |status| status.stopping = true)?;
        self.ensure_shim(&container)?;
        // The shim puts it into the exit record; without a shim there is nobody to tell.
        let _ = orlop_runtime::attach::stopping(&self.bundle(container.id));
        self.end(&container, timeout, signal)
    }

    /// Stops every running container at once, each with its own signal and time-out, because the machine goes down: the
    /// next boot starts those that their restart policies want. Returns who couldn't be stopped and why.
    pub fn stop_all(&self) -> Result<Vec<(String, Error)>> {
        let running = |container: &Container| {
            container.details.status.phase == Phase::Running || container.details.status.restarting.is_some()
        };
        let containers: Vec<Container> = self.containers()?.into_iter().filter(running).collect();
        let stop = |container: &Container| -> Result<()> {
            // An open database is one thread's.
            let engine = Self::open(self.roots.clone(), self.config.clone(), self.command.clone())?;
            engine.note(container.id, |status| {
                status.shutdown = true;
                status.restarting = None;
            })?;
            // Read again: one that waited may have been started meanwhile.
            match engine.row(container.id)? {
                Some(container) if container.details.status.phase == Phase::Running => {
                    engine.end(&container, None, None)
                }
                _ => Ok(()),
            }
        };
        let stop = &stop;
        let failed = std::thread::scope(|scope| {
            let ends: Vec<_> =
                containers.iter().map(|container| (container, scope.spawn(move || stop(container)))).collect();
            let outcome = |(container, end): (&Container, std::thread::ScopedJoinHandle<'_, Result<()>>)| {
                let error = match end.join() {
                    Ok(Ok(())) => return None,
                    Ok(Err(error)) => error,
                    Err(_) => Error::Invalid("stopping it failed on a broken invariant".to_owned()),
                };
                Some((container.name.to_string(), error))
            };
            ends.into_iter().filter_map(outcome).collect()
        });
        Ok(failed)
    }

    fn end(&self, container: &Container, timeout: Option<i64>, signal: Option<i32>) -> Result<()> {
        let signal = match signal {
            Some(signal) => signal,
            None => stop_signal(container)?,
        };
        let timeout = timeout.or(container.details.config.stop_timeout).unwrap_or(DEFAULT_TIMEOUT);
        let timeout = u64::try_from(timeout).ok().map(Duration::from_secs);
        self.signal(container, signal)?;
        if container.details.status.paused {
            self.thaw(container)?;
        }
        self.emit_container(container, "kill", &[("signal", &signal.to_string())]);
        if !self.wait_for_end(container, timeout)? {
            self.kill_hard(container)?;
        }
        self.reap(container.id)
    }

    /// SIGKILL, and waits until it has worked.
    pub(crate) fn kill_hard(&self, container: &Container) -> Result<()> {
        self.signal(container, rustix::process::Signal::KILL.as_raw())?;
        if container.details.status.paused {
            // With cgroup v1 nothing dies while it is frozen.
            self.thaw(container)?;
        }
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
