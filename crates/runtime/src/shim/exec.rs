//! Exec sessions: further processes in the container.

use super::serve::Shim;
use super::session::INIT;
use super::{ExecRecord, note};
use crate::Error;
use crate::oci::{CallFiles, OciRuntime};
use crate::protocol::{AttachRequest, ExecRequest};
use crate::spec::ProcessInput;
use std::fs;

/// Records of ended exec sessions that are kept for `inspect`.
const KEPT_EXECS: usize = 64;

impl Shim {
    pub(super) fn exec(&mut self, id: u64, request: ExecRequest) -> Result<(), Error> {
        if request.id.is_empty()
            || request.id.len() > 64
            || !request.id.bytes().all(|byte| byte.is_ascii_alphanumeric())
        {
            return Err(Error::Invalid(format!("{:?} is no id for an exec session", request.id)));
        }
        if self.session(INIT).and_then(|init| init.pid()).is_none() {
            return Err(Error::NotRunning(format!("container {} is not running", self.config.id)));
        }
        if self.sessions.iter().any(|session| session.exec.as_deref() == Some(request.id.as_str())) {
            return Err(Error::Invalid(format!("exec session {} exists already", request.id)));
        }
        let key = self.begin_exec(&request.process, Some(request.id), request.stdin)?;
        if let Some(session) = self.session(key) {
            session.requester = Some(id);
            session.detached = request.detach;
        }
        // Attached before it runs, so that nothing of it is missed; a detached one only waits for the answer.
        let follow = !request.detach;
        let attach = AttachRequest { stdin: request.stdin, stdout: follow, stderr: follow, foreground: follow };
        self.attach(id, key, &attach);
        Ok(())
    }

    /// Lets the runtime start a process in the container; the new session's key.
    pub(super) fn begin_exec(&mut self, input: &ProcessInput, id: Option<String>, stdin: bool) -> Result<u64, Error> {
        let key = self.next_session;
        self.next_session += 1;
        let files = CallFiles {
            dir: self.config.dir.clone(),
            pid_file: format!("exec-{key}.pid"),
            console_socket: input.terminal.then(|| format!("console-{key}.sock")),
            log: format!("exec-{key}.log"),
        };
        let process = format!("exec-{key}.process");
        let path = self.config.dir.join(&process);
        let spec = crate::spec::process(input).to_string();
        fs::write(&path, spec).map_err(Error::io("write", &path))?;
        let call = self.config.runtime.exec(&self.config.id, &process, &files);
        let mut session = self.new_session(key, id, input.args.clone(), input.terminal);
        session.first_size = input.console_size;
        self.begin(session, call, &files, stdin, false)?;
        Ok(key)
    }

    pub(super) fn record_exec(&mut self, key: u64, exit_code: Option<i32>) {
        let Some(session) = self.session(key) else { return };
        let Some(id) = session.exec.clone() else { return };
        let record = ExecRecord {
            args: session.args.clone(),
            terminal: session.terminal,
            pid: session.pid().map_or(0, i32::cast_unsigned),
            running: exit_code.is_none(),
            exit_code,
            id,
        };
        if let Err(error) = record.write(&self.config.dir) {
            note(&format!("exec session {} is not recorded: {error}", record.id));
        }
        if exit_code.is_some() {
            self.ended_execs.push_back(record.id);
            if self.ended_execs.len() > KEPT_EXECS
                && let Some(oldest) = self.ended_execs.pop_front()
            {
                let _ = fs::remove_file(ExecRecord::path(&self.config.dir, &oldest));
            }
        }
    }
}
