//! Health checks: exec sessions by the clock, whose exit codes make a container healthy or not (moby
//! `daemon/health.go`).

use super::serve::{Shim, number};
use super::session::Phase;
use super::{end, note, read_json, write_json};
use crate::Error;
use crate::spec::ProcessInput;
use orlop_model::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Bytes of a check's output that are kept.
const MAX_OUTPUT: usize = 4096;
/// Results that are kept.
const KEPT_RESULTS: usize = 5;
/// How often it is looked whether a paused container goes on.
const PAUSE: Duration = Duration::from_secs(1);

/// A health check with every default filled in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthConfig {
    /// What runs; exit code 0 is healthy.
    pub process: ProcessInput,
    /// Nanoseconds from the end of a check to the next.
    pub interval: u64,
    /// Nanoseconds that a check may take.
    pub timeout: u64,
    /// Nanoseconds after the start in which failures don't count.
    pub start_period: u64,
    /// `interval` in that time.
    pub start_interval: u64,
    /// Failures in a row that make it unhealthy, at least 1.
    pub retries: u32,
    /// Called when the status changes, with the status appended; empty: nothing.
    pub notify: Vec<String>,
}

/// Docker's words for how a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// No check has succeeded yet, and not enough have failed.
    Starting,
    /// The last check succeeded, or too few have failed since.
    Healthy,
    /// Too many failed in a row.
    Unhealthy,
}

impl HealthStatus {
    /// As Docker writes it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// How a container is; `health.json` in the run directory, in the JSON of Docker's `State.Health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HealthState {
    /// Now.
    pub status: HealthStatus,
    /// Failures since the last success.
    pub failing_streak: u32,
    /// The last checks, oldest first.
    pub log: Vec<HealthResult>,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HealthResult {
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// -1 when it took too long or couldn't be run.
    pub exit_code: i32,
    /// What it wrote, cut off.
    pub output: String,
}

impl HealthState {
    /// Before the first check.
    pub const STARTING: Self = Self { status: HealthStatus::Starting, failing_streak: 0, log: Vec::new() };

    /// Reads it; none for a container without a check or that isn't running.
    pub fn read(run_dir: &Path) -> Option<Self> {
        read_json(&path(run_dir)).ok().flatten()
    }

    /// Takes a result in; `counts` is false for a failure before the start period is over.
    fn take(&mut self, result: HealthResult, retries: u32, counts: bool) {
        if result.exit_code == 0 {
            (self.status, self.failing_streak) = (HealthStatus::Healthy, 0);
        } else if counts {
            self.failing_streak = self.failing_streak.saturating_add(1);
            if self.failing_streak >= retries {
                self.status = HealthStatus::Unhealthy;
            }
        }
        if self.log.len() >= KEPT_RESULTS {
            self.log.drain(..=self.log.len() - KEPT_RESULTS);
        }
        self.log.push(result);
    }
}

fn path(run_dir: &Path) -> PathBuf {
    run_dir.join("health.json")
}

/// Its presence in the run directory says that the container is paused.
pub(super) fn is_paused(run_dir: &Path) -> bool {
    run_dir.join(super::PAUSED).exists()
}

/// A container's checks, on the way.
pub(super) struct Health {
    config: HealthConfig,
    state: HealthState,
    /// When the next check begins; while one runs, when it has taken too long.
    due: Instant,
    check: Option<Check>,
}

struct Check {
    session: u64,
    start: Timestamp,
    timed_out: bool,
}

impl Health {
    /// `state` is what an earlier shim has left.
    pub fn new(config: HealthConfig, state: Option<HealthState>) -> Self {
        let state = state.unwrap_or(HealthState::STARTING);
        Self { config, state, due: Instant::now(), check: None }
    }

    /// How long it is to the next thing to do.
    pub fn wait(&self) -> Duration {
        self.due.saturating_duration_since(Instant::now())
    }

    fn in_start_period(&self, started_at: Timestamp, at: Timestamp) -> bool {
        self.state.status == HealthStatus::Starting
            && at.nanos() - started_at.nanos() < i128::from(self.config.start_period)
    }

    fn plan(&mut self, started_at: Timestamp) {
        let early = self.in_start_period(started_at, Timestamp::now());
        let pause = if early { self.config.start_interval } else { self.config.interval };
        self.due = Instant::now() + Duration::from_nanos(pause);
    }

    fn save(&self, run_dir: &Path) {
        if let Err(error) = write_json(&path(run_dir), &self.state, false) {
            note(&format!("the health is not recorded: {error}"));
        }
    }
}

impl Shim {
    /// The container runs.
    pub(super) fn begin_health(&mut self) {
        let started_at = self.started_at;
        if let Some(health) = &mut self.health {
            health.plan(started_at);
            health.save(&self.config.dir);
        }
    }

    /// Starts a check that is due, and ends one that takes too long.
    pub(super) fn tend_health(&mut self) {
        let Some(health) = &mut self.health else { return };
        if !health.wait().is_zero() {
            return;
        }
        if let Some(check) = &mut health.check {
            // Its end is told like any other; until then there is nothing more to do for it.
            check.timed_out = true;
            health.due = Instant::now() + PAUSE;
            let key = check.session;
            self.end_check(key);
        } else if is_paused(&self.config.dir) {
            health.due = Instant::now() + PAUSE;
        } else {
            self.check_health();
        }
    }

    fn check_health(&mut self) {
        let Some(health) = &mut self.health else { return };
        let (process, timeout) = (health.config.process.clone(), health.config.timeout);
        let start = Timestamp::now();
        match self.begin_exec(&process, None, false) {
            Ok(key) => {
                if let Some(session) = self.session(key) {
                    session.capture = Some(Vec::new());
                }
                if let Some(health) = &mut self.health {
                    health.check = Some(Check { session: key, start, timed_out: false });
                    health.due = Instant::now() + Duration::from_nanos(timeout);
                }
            }
            Err(error) => self.take_result(start, -1, error.to_string()),
        }
    }

    fn end_check(&mut self, key: u64) {
        let pid = self.session(key).and_then(|session| match session.phase {
            Phase::Starting { runtime, .. } => Some(runtime),
            Phase::Running { pid } => Some(pid),
            Phase::Ended => None,
        });
        if let Some(pid) = pid {
            // It is our unreaped child, so the number is still its own.
            let _ = orlop_sys::process::signal(pid, number::KILL);
        }
    }

    /// A session has ended, or never began; it may have been a check.
    pub(super) fn check_ended(&mut self, key: u64, code: Result<i32, &Error>) {
        let Some(health) = &mut self.health else { return };
        let Some(check) = health.check.take_if(|check| check.session == key) else { return };
        let timeout = Duration::from_nanos(health.config.timeout);
        let written = self.session(key).and_then(|session| session.capture.take()).unwrap_or_default();
        let output = text_of(&written);
        let (code, output) = match code {
            _ if check.timed_out => (-1, format!("Health check exceeded timeout ({timeout:?}): {output}")),
            Ok(code) => (code, output),
            Err(error) => (-1, error.to_string()),
        };
        self.take_result(check.start, code, output);
    }

    fn take_result(&mut self, start: Timestamp, exit_code: i32, output: String) {
        let started_at = self.started_at;
        let Some(health) = &mut self.health else { return };
        let before = health.state.status;
        let counts = !health.in_start_period(started_at, start);
        let result = HealthResult { start, end: Timestamp::now(), exit_code, output };
        health.state.take(result, health.config.retries, counts);
        health.plan(started_at);
        health.save(&self.config.dir);
        let status = health.state.status;
        if status != before {
            end::call(&health.config.notify, &[status.word()]);
        }
    }
}

impl super::session::Session {
    /// Keeps the beginning of what a check writes.
    pub(super) fn capture(&mut self, bytes: &[u8]) {
        if let Some(kept) = &mut self.capture {
            let room = (MAX_OUTPUT + 1).saturating_sub(kept.len());
            kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }
}

fn text_of(written: &[u8]) -> String {
    let cut = written.len().min(MAX_OUTPUT);
    let mut text = String::from_utf8_lossy(&written[..cut]).into_owned();
    if written.len() > cut {
        text += "...";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_make_a_status() {
        let result = |exit_code| HealthResult {
            start: Timestamp::now(),
            end: Timestamp::now(),
            exit_code,
            output: String::new(),
        };
        let mut state = HealthState::STARTING;
        for (code, counts, status, streak) in [
            (1, false, HealthStatus::Starting, 0),
            (1, true, HealthStatus::Starting, 1),
            (0, true, HealthStatus::Healthy, 0),
            (1, true, HealthStatus::Healthy, 1),
            (-1, true, HealthStatus::Unhealthy, 2),
            (1, true, HealthStatus::Unhealthy, 3),
            (0, true, HealthStatus::Healthy, 0),
        ] {
            state.take(result(code), 2, counts);
            assert_eq!((state.status, state.failing_streak), (status, streak), "{code}");
        }
        assert_eq!(state.log.len(), KEPT_RESULTS);
        assert_eq!(state.log.last().map(|result| result.exit_code), Some(0));
        let text = serde_json::to_string(&HealthState::STARTING).unwrap();
        assert_eq!(text, r#"{"Status":"starting","FailingStreak":0,"Log":[]}"#);
        assert_eq!(text_of(&[b'x'; MAX_OUTPUT + 1]).len(), MAX_OUTPUT + 3);
    }
}
