//! `restart`, and restart policies: whether a container whose program has ended is started again, when, and by whom.
//!
//! Who reaps decides and writes it into the row, then starts `internal restart ID`, which waits and starts the
//! container. One that was killed meanwhile is found by `tend`.

use crate::container::{Phase, Restarting, Status};
use crate::{Container, Engine, Error, Result};
use orlop_model::options::{RestartName, RestartPolicy};
use orlop_model::{Id, Timestamp};
use orlop_runtime::oci::SYSTEM_PATH;
use orlop_sys::process::{Spawn, Ties};
use std::os::fd::AsFd;
use std::time::Duration;

/// Docker's back-off, in milliseconds: the first, the longest, and how long a program has to run for it to begin anew.
const FIRST: u64 = 100;
/// See [`FIRST`].
const LONGEST: u64 = 60_000;
/// See [`FIRST`].
const SETTLED: u64 = 10_000;

/// How soon who waits notices that nothing is to be started any more.
const CHANGE_OF_MIND: Duration = Duration::from_millis(200);

/// What the policy says of an end in this boot.
fn wants_restart(policy: RestartPolicy, exit_code: i32, restarts: u32) -> bool {
    match policy.name {
        RestartName::No => false,
        RestartName::Always | RestartName::UnlessStopped => true,
        RestartName::OnFailure => exit_code != 0 && (policy.maximum_retries == 0 || restarts < policy.maximum_retries),
    }
}

/// What it says after a boot.
fn wants_start_at_boot(policy: RestartPolicy, status: &Status) -> bool {
    match policy.name {
        RestartName::UnlessStopped => !status.stopping,
        _ => wants_restart(policy, status.exit_code, status.restart_count),
    }
}

/// The back-off after a program that ran for `ran` milliseconds.
fn backoff(before: u64, ran: u64) -> u64 {
    match before {
        0 => FIRST,
        _ if ran >= SETTLED => FIRST,
        before => (before * 2).min(LONGEST),
    }
}

/// Notes in the status of a container that has just ended whether and when it is started again.
pub(crate) fn plan(policy: RestartPolicy, status: &mut Status) {
    let wanted = !status.stopping && !status.shutdown && wants_restart(policy, status.exit_code, status.restart_count);
    if !wanted {
        return;
    }
    let ran = match (status.started, status.finished) {
        (Some(started), Some(finished)) => u64::try_from((finished.nanos() - started.nanos()) / 1_000_000).unwrap_or(0),
        _ => 0,
    };
    status.backoff = backoff(status.backoff, ran);
    status.restart_count = status.restart_count.saturating_add(1);
    status.restarting = Some(Restarting { since: Timestamp::now(), after: status.backoff });
}

impl Restarting {
    /// How long it is until the start. A clock that was set back makes nobody wait longer than the longest back-off.
    fn left(self) -> Duration {
        let after = Duration::from_millis(self.after);
        match Timestamp::now().nanos() - self.since.nanos() {
            passed @ 0.. => after.saturating_sub(Duration::from_nanos(u64::try_from(passed).unwrap_or(u64::MAX))),
            _ => after,
        }
    }
}

impl Engine {
    /// Stops a container and starts it again; one that isn't running is started. Flags are those of [`Engine::stop`].
    pub fn restart(&self, name: &str, timeout: Option<i64>, signal: Option<&str>) -> Result<()> {
        let container = self.container(name)?;
        // A `--rm` container must not go with its end.
        self.note(container.id, |status| status.kept = true)?;
        let stopped = self.stop(&container.id.hex(), timeout, signal);
        let started = stopped.and_then(|()| self.start(&container.id.hex(), None).map(drop));
        let released = self.note(container.id, |status| status.kept = false);
        started.and(released)?;
        if let Some(container) = self.row(container.id)? {
            self.emit_container(&container, "restart", &[]);
        }
        Ok(())
    }

    /// Changes the status of a container that is there.
    pub(crate) fn note(&self, id: Id, change: impl FnOnce(&mut Status)) -> Result<()> {
        let _lock = self.state.lock("container", &id.hex())?;
        match self.row(id)? {
            Some(mut container) => self.update(&mut container, |container| change(&mut container.details.status)),
            None => Ok(()),
        }
    }

    /// Has another process wait for the moment of a planned start.
    pub(crate) fn restart_in_background(&self, id: Id) -> Result<()> {
        self.spawn_detached(self.internal(&["restart", &id.hex()]))
    }

    /// Waits until a planned start is due and starts the container, unless somebody has changed his mind meanwhile.
    /// One process does it; the others return at once.
    pub fn restart_when_due(&self, id: Id) -> Result<()> {
        let Some(turn) = self.state.try_lock("engine", &format!("restart-{id}"))? else { return Ok(()) };
        let result = self.wait_and_restart(id);
        turn.remove();
        result
    }

    fn wait_and_restart(&self, id: Id) -> Result<()> {
        let planned = loop {
            let Some(planned) = self.row(id)?.and_then(|container| container.details.status.restarting) else {
                return Ok(());
            };
            match planned.left() {
                Duration::ZERO => break planned,
                left => std::thread::sleep(left.min(CHANGE_OF_MIND)),
            }
        };
        let _lock = self.state.lock("container", &id.hex())?;
        match self.settled(id)? {
            Some(mut container)
                if container.details.status.restarting == Some(planned)
                    && container.details.status.phase == Phase::Exited =>
            {
                self.update(&mut container, |container| container.details.status.phase = Phase::Starting)?;
                self.start_again(&mut container)
            }
            _ => Ok(()),
        }
    }

    /// Starts that are planned and that nobody waits for any more.
    pub(crate) fn take_up_restarts(&self, containers: &[Container]) -> Result<()> {
        for container in containers.iter().filter(|container| container.details.status.restarting.is_some()) {
            let name = format!("restart-{}", container.id);
            if let Some(turn) = self.state.try_lock("engine", &name)? {
                drop(turn);
                self.restart_in_background(container.id)?;
            }
        }
        Ok(())
    }

    /// Starts what its restart policy wants started after a boot, or after [`Self::stop_all`]: units may be restarted without
    /// the machine. Returns who couldn't be started and why.
    pub fn start_at_boot(&self) -> Result<Vec<(String, Error)>> {
        let mut failed = Vec::new();
        for container in self.containers()? {
            let (status, policy) = (&container.details.status, container.details.host.options.restart);
            let is_due = status.phase == Phase::Exited
                && status.started.is_some()
                && (status.boot != self.boot() || status.shutdown)
                && wants_start_at_boot(policy, status);
            if is_due && let Err(error) = self.start(&container.id.hex(), None) {
                failed.push((container.name.to_string(), error));
            }
        }
        Ok(failed)
    }

    /// Starts a process that nobody waits for.
    pub(crate) fn spawn_detached(&self, args: Vec<String>) -> Result<()> {
        let Some(program) = args.first().map(std::path::PathBuf::from) else { return Ok(()) };
        let null = std::fs::File::options().read(true).write(true).open("/dev/null");
        let null = null.map_err(Error::io("open", "/dev/null"))?;
        let spawned = orlop_sys::process::spawn(&Spawn {
            program: program.clone(),
            args,
            env: vec![format!("PATH={SYSTEM_PATH}")],
            cwd: Some("/".into()),
            fds: vec![null.as_fd(); 3],
            ties: Ties::None,
        });
        spawned.map(drop).map_err(Error::io("start", program))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_and_back_off_are_dockers() {
        let policy = |text: &str| RestartPolicy::parse(text).unwrap();
        for (text, code, restarts, wanted) in [
            ("no", 1, 0, false),
            ("always", 0, 99, true),
            ("unless-stopped", 0, 99, true),
            ("on-failure", 0, 0, false),
            ("on-failure", 1, 99, true),
            ("on-failure:2", 1, 1, true),
            ("on-failure:2", 1, 2, false),
        ] {
            assert_eq!(wants_restart(policy(text), code, restarts), wanted, "{text} {code} {restarts}");
        }
        for (before, ran, wanted) in
            [(0, 0, 100), (100, 50, 200), (51_200, 0, 60_000), (60_000, 9_999, 60_000), (60_000, 10_000, 100)]
        {
            assert_eq!(backoff(before, ran), wanted, "{before} {ran}");
        }
        let mut status = Status { exit_code: 1, ..Status::new() };
        for (text, stopping, wanted) in [
            ("always", true, true),
            ("unless-stopped", true, false),
            ("unless-stopped", false, true),
            ("on-failure", true, true),
            ("no", false, false),
        ] {
            status.stopping = stopping;
            assert_eq!(wants_start_at_boot(policy(text), &status), wanted, "{text} {stopping}");
        }
        plan(policy("always"), &mut status);
        assert!(status.restarting.is_some() && status.restart_count == 1 && status.backoff == 100);
        let mut stopped = Status { exit_code: 1, stopping: true, ..Status::new() };
        plan(policy("always"), &mut stopped);
        assert!(stopped.restarting.is_none());
    }
}
