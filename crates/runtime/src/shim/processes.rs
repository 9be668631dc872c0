//! Processes that begin and end: the runtime at work, the first process, exec sessions, and what they leave behind.

use super::adopt::Running;
use super::note;
use super::oom::Oom;
use super::serve::{Outcome, Report, SETTLED, Shim, number, tell};
use super::session::{INIT, Phase, Session};
use crate::Error;
use crate::oci::failure_of;
use crate::protocol::{ExitMessage, FrameType, frame, json_frame};
use orlop_model::Timestamp;
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, wait, waitid, waitpid};
use std::fs;
use std::time::Instant;

impl Shim {
    pub(super) fn reap_children(&mut self) -> Option<Outcome> {
        let keys: Vec<u64> = self.sessions.iter().map(|session| session.key).collect();
        for key in keys {
            if let Some(outcome) = self.advance(key) {
                return Some(outcome);
            }
        }
        // What isn't ours by name was left behind by the runtime or came out of an exec session. While the runtime
        // works, a process that we don't know yet may be the one that it is about to name.
        while !self.sessions.iter().any(Session::is_starting) {
            let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) else { break };
            let pid = pid.as_raw_nonzero().get();
            let known = self.sessions.iter().find(|session| session.pid() == Some(pid)).map(|session| session.key);
            if let Some(outcome) = known.and_then(|key| self.ended(key, code_of(status))) {
                return Some(outcome);
            }
        }
        None
    }

    /// Looks whether the runtime has done its work for a session, and whether its process has ended.
    pub(super) fn advance(&mut self, key: u64) -> Option<Outcome> {
        let session = self.session(key)?;
        if let Phase::Starting { runtime, .. } = &session.phase {
            let pid = Pid::from_raw(*runtime)?;
            let code = match waitpid(Some(pid), WaitOptions::NOHANG) {
                Ok(Some((_, status))) => code_of(status),
                Ok(None) | Err(Errno::INTR) => return None,
                Err(_) => 0,
            };
            let outcome = self.runtime_done(key, code);
            if outcome.is_some() {
                return outcome;
            }
        }
        let pid = Pid::from_raw(self.session(key)?.pid()?)?;
        // Looked at before it is reaped: the name tells whether the program itself ever ran.
        let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        if !matches!(waitid(WaitId::Pid(pid), peek), Ok(Some(_))) {
            return None;
        }
        let never_ran =
            fs::read(format!("/proc/{}/comm", pid.as_raw_nonzero())).is_ok_and(|name| name == b"runc:[2:INIT]\n");
        let status = waitpid(Some(pid), WaitOptions::NOHANG).ok().flatten();
        let code = status.map_or(255, |(_, status)| code_of(status));
        self.drain(key);
        let code = if never_ran { self.code_of_failed_execve(key, code) } else { code };
        self.ended(key, code)
    }

    /// runc's init writes why execve failed to the program's stderr and ends with 1. Docker's codes are 127 for
    /// something missing (an interpreter) and 126 for the rest.
    pub(super) fn code_of_failed_execve(&mut self, key: u64, code: i32) -> i32 {
        let Some(session) = self.session(key).filter(|_| code == 1 || code == 255) else { return code };
        let message = String::from_utf8_lossy(&session.stderr_head);
        if message.trim_end().ends_with("no such file or directory") { 127 } else { 126 }
    }

    /// The runtime has ended: the process runs, or it never will.
    pub(super) fn runtime_done(&mut self, key: u64, code: i32) -> Option<Outcome> {
        self.accept_console(key);
        let dir = self.config.dir.clone();
        let session = self.session(key)?;
        let Phase::Starting { call, .. } = std::mem::replace(&mut session.phase, Phase::Ended) else { return None };
        let pid_file = dir.join(if key == INIT { "init.pid".to_owned() } else { format!("exec-{key}.pid") });
        let pid = fs::read_to_string(&pid_file).ok().and_then(|text| text.trim().parse().ok()).filter(|pid| *pid > 0);
        if key != INIT {
            for leftover in [pid_file, dir.join(format!("exec-{key}.process"))] {
                let _ = fs::remove_file(leftover);
            }
        }
        match pid.filter(|_| code == 0) {
            Some(pid) => {
                let _ = fs::remove_file(&call.log);
                session.phase = Phase::Running { pid };
                self.runs(key, pid);
                None
            }
            None => self.never_runs(key, failure_of(&call)),
        }
    }

    pub(super) fn runs(&mut self, key: u64, pid: i32) {
        if key == INIT {
            self.started_at = Timestamp::now();
            self.begin_health();
            if self.has_foreground() {
                // Its caller waits for it anyway, and a container that only lives for a moment is spared that.
                self.leave_cgroups_at = Some(Instant::now() + SETTLED);
            }
            let pid = pid.cast_unsigned();
            // It is our unreaped child, so the number is still its own.
            let pid_start = orlop_sys::pid::start_time(pid).unwrap_or(0);
            let running = Running { pid, pid_start, started_at: self.started_at };
            if let Err(error) = running.write(&self.config) {
                note(&format!("no later shim can adopt this container: {error}"));
            }
            if let Some(launcher) = self.launcher.take() {
                tell(&launcher, &Report::Started { pid, pid_start, started_at: self.started_at });
            }
            self.oom = Oom::watch(&self.config);
            return;
        }
        self.record_exec(key, None);
        let Some(session) = self.session(key) else { return };
        let detached = session.detached;
        let Some(id) = session.requester.take() else { return };
        self.send(id, frame(FrameType::Done, b"{}"));
        if detached && let Some(client) = self.client(id) {
            client.session = None;
            client.closing = true;
        }
    }

    pub(super) fn never_runs(&mut self, key: u64, error: Error) -> Option<Outcome> {
        if key == INIT {
            return Some(Outcome::NotStarted(error));
        }
        self.check_ended(key, Err(&error));
        let session = self.session(key)?;
        session.outputs.clear();
        session.close_input();
        let requester = session.requester.take();
        self.sessions.retain(|session| session.key != key);
        if let Some(id) = requester {
            self.fail(id, &error);
        }
        None
    }

    /// A session's process was reaped.
    pub(super) fn ended(&mut self, key: u64, code: i32) -> Option<Outcome> {
        self.drain(key);
        let session = self.session(key)?;
        session.phase = Phase::Ended;
        session.close_input();
        if key == INIT {
            return Some(Outcome::Ended(code));
        }
        self.record_exec(key, Some(code));
        self.check_ended(key, Ok(code));
        self.say_goodbye(key, json_frame(FrameType::Exit, &ExitMessage { code }));
        None
    }

    /// The container has ended while the runtime was starting something in it: that can't succeed any more.
    pub(super) fn abandon_starting(&mut self) {
        let keys: Vec<u64> = self.sessions.iter().filter(|s| s.key != INIT).map(|s| s.key).collect();
        for key in keys {
            let Some(session) = self.session(key) else { continue };
            match session.phase {
                Phase::Starting { runtime, .. } => {
                    // It is our unreaped child, so the number is still its own.
                    let _ = orlop_sys::process::signal(runtime, number::KILL);
                    crate::oci::wait_for(runtime);
                    let gone = Error::NotRunning(format!("container {} is not running", self.config.id));
                    self.never_runs(key, gone);
                }
                Phase::Running { .. } => {
                    let _ = self.ended(key, 128 + number::KILL);
                }
                Phase::Ended => {}
            }
        }
    }
}

/// 128 + n for a signal, as shells and Docker have it.
fn code_of(status: rustix::process::WaitStatus) -> i32 {
    status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal)).unwrap_or(255)
}
