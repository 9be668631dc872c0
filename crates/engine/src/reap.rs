//! What happens when a container's program has ended: unmount, write down how it ended, and remove it when it was
//! started with `--rm`. Called by whoever notices first (the shim's `internal reap`, the client in the foreground, the
//! next command); the container's lock lets one of them do it.

use crate::container::Phase;
use crate::{Container, Engine, Error, Result};
use orlop_model::{Id, Timestamp};
use orlop_runtime::shim::{ExitRecord, HealthState, HealthStatus, UNKNOWN_EXIT};
use orlop_sys::lock::FileLock;
use std::time::Duration;

/// How long a living shim may take to write down the end that it saw.
const SHIM_TIMEOUT: Duration = Duration::from_secs(10);

/// What is known of a program's end.
enum End {
    Told(ExitRecord),
    /// Nobody saw it.
    Unknown,
    /// Its shim hasn't written it down yet.
    NotYet,
}

impl Engine {
    /// Reaps a container whose program has ended; one that runs, or that is gone, is left alone.
    pub fn reap(&self, id: Id) -> Result<()> {
        let lock = self.state.lock("container", &id.hex())?;
        self.reap_under(lock, id)
    }

    pub(crate) fn reap_under(&self, lock: FileLock, id: Id) -> Result<()> {
        match self.settled(id)? {
            // Its own reaper, which can reach its mounts, waits for this lock.
            Some(container) if self.needs_reaping(&container) && self.is_elsewhere(&container) => {
                drop(lock);
                self.wait_for_reaper(id)?;
            }
            Some(mut container) if self.needs_reaping(&container) => {
                self.reap_locked(&mut container)?;
                if self.row(id)?.is_none() {
                    lock.remove();
                }
            }
            Some(_) => {}
            None => lock.remove(),
        }
        Ok(())
    }

    /// The caller holds the lock, and the program is gone.
    pub(crate) fn reap_locked(&self, container: &mut Container) -> Result<()> {
        let foreign_boot = container.details.status.boot != self.boot();
        let record = match self.end_of(container, foreign_boot)? {
            End::Told(record) => Some(record),
            End::Unknown => None,
            // Its shim is at it, on a slow disk; whoever looks next finds the record.
            End::NotYet => return Ok(()),
        };
        if record.is_none() && !foreign_boot {
            // The shim was killed: what it would have cleaned up is still there.
            self.delete_from_runtime(container)?;
        }
        let oom = record.as_ref().is_some_and(|record| record.oom_killed && !record.oom_told);
        let health = match &record {
            Some(record) => record.health.clone(),
            None => HealthState::read(&self.bundle(container.id)),
        };
        self.tear_down(container)?;
        let policy = container.details.host.options.restart;
        let status = &mut container.details.status;
        // Docker's way: what doesn't run isn't healthy.
        status.health = health.map(|health| HealthState { status: HealthStatus::Unhealthy, ..health });
        status.paused = false;
        status.held = false;
        status.phase = Phase::Exited;
        status.pid = 0;
        match record {
            Some(record) => {
                status.exit_code = record.code;
                status.finished = Some(record.finished_at);
                status.oom_killed = record.oom_killed;
                if record.unknown {
                    status.error = "exit code unknown: its shim was killed".to_owned();
                }
            }
            None => {
                status.exit_code = UNKNOWN_EXIT;
                status.finished = Some(Timestamp::now());
                status.error = if foreign_boot {
                    "the machine was restarted while it ran".to_owned()
                } else {
                    "exit code unknown: its shim was killed".to_owned()
                };
            }
        }
        if !foreign_boot {
            crate::restart::plan(policy, status);
        }
        let restarts = status.restarting.is_some();
        let (code, stopping) = (status.exit_code.to_string(), status.stopping);
        if container.details.host.auto_remove && !container.details.status.kept {
            // It goes at once, so nobody needs to read of its end; killed half-way, it is reaped again.
            self.emit_end(container, &code, stopping, oom);
            return self.delete_auto_removed(container);
        }
        self.update(container, |_| {})?;
        self.emit_end(container, &code, stopping, oom);
        // When it can't be called, the next tend does.
        if restarts { self.restart_in_background(container.id) } else { Ok(()) }
    }

    fn emit_end(&self, container: &Container, code: &str, stopping: bool, oom: bool) {
        if oom {
            self.emit_container(container, "oom", &[]);
        }
        self.emit_container(container, "die", &[("exitCode", code)]);
        if stopping {
            self.emit_container(container, "stop", &[]);
        }
    }

    /// How the program ended. Its shim sees the end a moment before it has written it down, so it is waited for.
    fn end_of(&self, container: &Container, foreign_boot: bool) -> Result<End> {
        let bundle = self.bundle(container.id);
        let read = || -> Result<Option<End>> {
            let record = ExitRecord::find(&self.exit_record(container.id), &bundle)?;
            // After a power cut the record of an earlier run may be back.
            let own = record.filter(|record| Some(record.started_at) == container.details.status.started);
            Ok(own.map(End::Told))
        };
        if let Some(end) = read()? {
            return Ok(end);
        }
        if foreign_boot {
            return Ok(End::Unknown);
        }
        match orlop_runtime::attach::wait(&bundle, Some(SHIM_TIMEOUT)) {
            Ok(None) => Ok(End::NotYet),
            // An error says that there is no shim any more; then the record is there now or never.
            Ok(Some(_)) | Err(_) => Ok(read()?.unwrap_or(End::Unknown)),
        }
    }

    /// Whether the container's mounts are in another mount namespace than this process, out of its reach.
    fn is_elsewhere(&self, container: &Container) -> bool {
        let status = &container.details.status;
        status.boot == self.boot() && ![0, crate::start::own_mount_namespace()].contains(&status.mount_namespace)
    }

    /// Ends a container that was started from another mount namespace (`unshare -m`, a systemd unit with PrivateTmp):
    /// only its shim's reaper, which lives there, can unmount what is mounted for it.
    pub(crate) fn leave_to_its_namespace(&self, container: &Container) -> Result<()> {
        if container.details.status.phase != Phase::Running || !self.is_elsewhere(container) {
            return Ok(());
        }
        self.kill_hard(container)?;
        self.wait_for_reaper(container.id)
    }

    fn wait_for_reaper(&self, id: Id) -> Result<()> {
        let deadline = std::time::Instant::now() + SHIM_TIMEOUT;
        while std::time::Instant::now() < deadline {
            match self.row(id)? {
                Some(container) if container.details.status.phase == Phase::Running => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                _ => return Ok(()),
            }
        }
        Err(Error::Conflict(format!(
            "container {} was started from another mount namespace, where its mounts are; reap it there with `orlop system tend`",
            id.short()
        )))
    }

    /// Whether the row says that a program runs, and none does.
    pub(crate) fn needs_reaping(&self, container: &Container) -> bool {
        container.details.status.phase == Phase::Running && !self.is_alive(container)
    }

    /// Whether the very process that the row names still runs in this boot.
    pub(crate) fn is_alive(&self, container: &Container) -> bool {
        let status = &container.details.status;
        status.boot == self.boot() && orlop_sys::pid::is_alive(status.pid, status.pid_start)
    }
}
