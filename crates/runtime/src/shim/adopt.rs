//! A new shim for a container whose own was killed: its program goes on, watched by a pidfd, its output comes through
//! the FIFOs in the run directory. A terminal went with the old shim, and so did its exec sessions.

use super::health::{Health, HealthState};
use super::oom::Oom;
use super::serve::{Outcome, Shim};
use super::session::{INIT, Phase, Session};
use super::{ShimConfig, read_json, write_json};
use crate::Error;
use orlop_model::Timestamp;
use orlop_sys::pid;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// The record's name in the run directory.
pub(super) const RUNNING: &str = "running.json";

/// How long an ended program that isn't our child may take until its parent has reaped it.
const REAPED_WITHIN: Duration = Duration::from_secs(2);

/// What a later shim has to know of a container that runs; `running.json` in the run directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Running {
    /// The first process, as the host sees it.
    pub pid: u32,
    /// When it was started, in clock ticks since boot.
    pub pid_start: u64,
    /// The same, as the exit record will have it.
    pub started_at: Timestamp,
}

impl Running {
    pub(super) fn write(&self, config: &ShimConfig) -> Result<(), Error> {
        write_json(&config.dir.join(RUNNING), self, false)
    }

    pub(super) fn read(config: &ShimConfig) -> Result<Self, Error> {
        let path = config.dir.join(RUNNING);
        read_json(&path)?.ok_or_else(|| Error::NotRunning(format!("{} is missing", path.display())))
    }
}

impl Shim {
    /// Stands beside a container that runs already.
    pub(super) fn adopt(config: ShimConfig) -> Result<Self, Error> {
        let running = Running::read(&config)?;
        let watch = pid::open(running.pid, running.pid_start)
            .map_err(|error| Error::Runtime(error.to_string()))?
            .ok_or_else(|| Error::NotRunning(format!("container {} is not running", config.id)))?;
        let mut shim = Self::new(config)?;
        shim.started_at = running.started_at;
        let (terminal, open_stdin) = (shim.config.terminal, shim.config.open_stdin);
        let mut session = shim.new_session(INIT, None, Vec::new(), terminal);
        session.stdin_once = shim.config.stdin_once;
        if !terminal {
            (session.outputs, session.stdin) = Session::with_fifos_of_another(&shim.config.dir, open_stdin)?;
        }
        session.phase = Phase::Running { pid: running.pid.cast_signed() };
        shim.sessions.push(session);
        shim.watch = Some(watch);
        let state = HealthState::read(&shim.config.dir);
        shim.health = shim.config.health.clone().map(|config| Health::new(config, state));
        shim.begin_health();
        shim.oom = Oom::watch(&shim.config);
        super::cgroup::leave_callers();
        Ok(shim)
    }

    /// The adopted program has ended.
    pub(super) fn adopted_end(&mut self) -> Option<Outcome> {
        let watch = self.watch.take()?;
        let pid = self.session(INIT)?.pid()?;
        let deadline = Instant::now() + REAPED_WITHIN;
        // The kernel tells the exit code once the parent has taken it; a parent that never does leaves it in /proc.
        let status = loop {
            match pid::exit_status(&watch) {
                None if Instant::now() < deadline && pid::is_reaping_told() => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                status => break status.or_else(|| pid::status_of_zombie(pid.cast_unsigned())),
            }
        };
        self.exit_is_unknown = status.is_none();
        let code = status.map_or(super::UNKNOWN_EXIT, |status| match status & 0x7f {
            0 => (status >> 8) & 0xff,
            signal => 128 + signal,
        });
        self.ended(INIT, code)
    }
}
