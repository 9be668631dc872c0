//! The shim's clients: what they ask for, what they are sent, and their leaving.

use super::client::Client;
use super::note;
use super::serve::Shim;
use super::session::{INIT, Session, null};
use crate::Error;
use crate::log::LogWriter;
use crate::protocol::{AttachRequest, Failure, FrameType, ResizeRequest, ShimState, SignalRequest, frame, json_frame};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, sockopt::socket_peercred};
use std::fs;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

impl Shim {
    pub(super) fn accept(&mut self) {
        while let Ok(socket) = accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            let own = rustix::process::geteuid();
            let allowed = socket_peercred(&socket).is_ok_and(|peer| peer.uid.is_root() || peer.uid == own);
            if allowed && let Err(error) = self.add_client(socket) {
                note(&format!("a client was turned away: {error}"));
            }
        }
    }

    pub(super) fn add_client(&mut self, socket: OwnedFd) -> Result<u64, Error> {
        let id = self.next_client;
        self.next_client += 1;
        self.clients.push(Client::new(id, socket)?);
        Ok(id)
    }

    pub(super) fn serve_client(&mut self, id: u64, flags: PollFlags) {
        let Some(client) = self.client(id) else { return };
        if flags.contains(PollFlags::OUT) {
            client.flush();
        }
        if client.closing {
            client.gone |= flags.intersects(PollFlags::HUP | PollFlags::ERR);
            return;
        }
        if !flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            return;
        }
        client.receive();
        loop {
            let Some(client) = self.client(id).filter(|client| !client.closing) else { return };
            match client.inbox.next_frame() {
                Ok(Some((kind, payload))) => {
                    if let Err(error) = self.handle(id, kind, &payload) {
                        self.fail(id, &error);
                    }
                }
                Ok(None) => return,
                Err(error) => return self.fail(id, &error),
            }
        }
    }

    pub(super) fn send(&mut self, id: u64, bytes: Vec<u8>) {
        let bytes: Rc<[u8]> = bytes.into();
        if let Some(client) = self.client(id) {
            client.push(&bytes);
            client.flush();
        }
    }

    /// The client hears why, and nothing more. An attached one stays with its session in vain, so it is cut off too.
    pub(super) fn fail(&mut self, id: u64, error: &Error) {
        self.send(id, json_frame(FrameType::Failed, &Failure::from(error)));
        if let Some(client) = self.client(id) {
            client.closing = true;
        }
    }

    pub(super) fn handle(&mut self, id: u64, kind: FrameType, payload: &[u8]) -> Result<(), Error> {
        let joined = self.client(id).and_then(|client| client.session);
        match kind {
            FrameType::Attach if joined.is_none() => {
                let request: AttachRequest = parse(payload)?;
                self.attach(id, INIT, &request);
                self.send(id, frame(FrameType::Done, b"{}"));
                Ok(())
            }
            FrameType::Exec if joined.is_none() => self.exec(id, parse(payload)?),
            FrameType::Stdin => self.take_stdin(id, joined, payload),
            FrameType::StdinEnd => {
                self.end_stdin_of(id);
                Ok(())
            }
            FrameType::Resize => {
                let request: ResizeRequest = parse(payload)?;
                let key = self.addressed(request.exec.as_deref(), joined)?;
                if let Some(session) = self.session(key) {
                    session.resize(request.rows, request.cols);
                }
                self.answer_done(id, joined);
                Ok(())
            }
            FrameType::Signal => {
                let request: SignalRequest = parse(payload)?;
                let key = self.addressed(request.exec.as_deref(), joined)?;
                let result = self.signal(key, request.signal);
                if joined.is_none() {
                    result?;
                }
                self.answer_done(id, joined);
                Ok(())
            }
            FrameType::Stopping => {
                self.stopping = true;
                self.answer_done(id, joined);
                Ok(())
            }
            FrameType::State => {
                let state = self.state();
                self.send(id, json_frame(FrameType::Done, &state));
                Ok(())
            }
            _ => Err(Error::Invalid(format!("the shim doesn't take {kind:?} here"))),
        }
    }

    /// Within a session only the session's own frames are sent.
    pub(super) fn answer_done(&mut self, id: u64, joined: Option<u64>) {
        if joined.is_none() {
            self.send(id, frame(FrameType::Done, b"{}"));
        }
    }

    pub(super) fn addressed(&self, exec: Option<&str>, joined: Option<u64>) -> Result<u64, Error> {
        let Some(exec) = exec else { return Ok(joined.unwrap_or(INIT)) };
        let found = self.sessions.iter().find(|session| session.exec.as_deref() == Some(exec));
        found.map(|session| session.key).ok_or_else(|| Error::NotRunning(format!("exec session {exec} is not running")))
    }

    pub(super) fn signal(&mut self, key: u64, signal: i32) -> Result<(), Error> {
        let pid = self.session(key).and_then(|session| session.pid());
        let pid = pid.ok_or_else(|| Error::NotRunning("the process is not running".into()))?;
        let sent = match &self.watch {
            Some(watch) if key == INIT => orlop_sys::pid::signal(watch, signal).map_err(|error| error.to_string()),
            // It is our unreaped child, so the number is still its own.
            _ => orlop_sys::process::signal(pid, signal).map_err(|error| error.to_string()),
        };
        sent.map_err(|error| Error::Invalid(format!("signal {signal} could not be sent: {error}")))
    }

    pub(super) fn state(&self) -> ShimState {
        let init = self.sessions.iter().find(|session| session.key == INIT).and_then(Session::pid);
        ShimState {
            id: self.config.id.clone(),
            shim_pid: std::process::id(),
            pid: init.map_or(0, i32::cast_unsigned),
            running: init.is_some(),
            stopping: self.stopping,
            log_lines_dropped: self.log.as_ref().map_or(0, LogWriter::dropped),
            execs: self.sessions.iter().filter(|s| s.pid().is_some()).filter_map(|s| s.exec.clone()).collect(),
        }
    }

    pub(super) fn attach(&mut self, id: u64, key: u64, request: &AttachRequest) {
        if let Some(client) = self.client(id) {
            client.session = Some(key);
            client.stdin = request.stdin;
            client.stdout = request.stdout;
            client.stderr = request.stderr;
            client.foreground = request.foreground;
        }
    }

    /// The last frame for everyone in a session.
    pub(super) fn say_goodbye(&mut self, key: u64, exit: Vec<u8>) {
        let exit: Rc<[u8]> = exit.into();
        for client in self.clients.iter_mut().filter(|client| client.session == Some(key) && !client.closing) {
            client.push(&exit);
            client.flush();
            client.closing = true;
        }
    }

    pub(super) fn has_foreground(&self) -> bool {
        self.clients.iter().any(|client| client.foreground)
    }

    /// A client in the foreground has got everything.
    pub(super) fn is_heard_in_the_foreground(&self) -> bool {
        let mut clients = self.clients.iter();
        clients.any(|client| client.session == Some(INIT) && client.foreground && !client.gone && !client.has_queue())
    }

    /// Everything is done; what was promised to clients still has to reach them. Only a foreground client may take
    /// its time.
    pub(super) fn linger(&mut self) {
        let patience = Instant::now() + Duration::from_secs(10);
        loop {
            let now = Instant::now();
            self.clients.retain(|client| client.has_queue() && !client.gone && (client.foreground || now < patience));
            if self.clients.is_empty() {
                return;
            }
            let mut fds: Vec<PollFd<'_>> =
                self.clients.iter().map(|client| PollFd::new(&client.socket, PollFlags::OUT)).collect();
            let timeout = Timespec { tv_sec: 1, tv_nsec: 0 };
            if poll(&mut fds, Some(&timeout)).is_err_and(|error| error != Errno::INTR) {
                return;
            }
            self.clients.iter_mut().for_each(Client::flush);
        }
    }

    /// Closes the socket, so that whoever comes now hears that nothing runs here.
    pub(super) fn stop_listening(&mut self) {
        let _ = fs::remove_file(self.config.dir.join(super::SOCKET));
        if let Ok(null) = null() {
            self.listener = null;
        }
    }
}

fn parse<'a, T: serde::Deserialize<'a>>(payload: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(payload).map_err(|error| Error::Invalid(format!("the shim can't read the request: {error}")))
}
