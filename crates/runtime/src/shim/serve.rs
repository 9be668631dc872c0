//! The shim's loop: one thread, one poll, everything non-blocking except the runtime's own short calls.

use super::client::Client;
use super::session::{Console, INIT, Phase, ProgramEnds, Session, listen_in, null};
use super::{ExecRecord, ShimConfig, ShimFile, end, note};
use crate::Error;
use crate::log::{LogWriter, Stream};
use crate::oci::{Call, CallFiles, OciRuntime, failure_of, spawn_call};
use crate::protocol::{
    AttachRequest, CHUNK, ExecRequest, ExitMessage, Failure, FrameType, MAX_LAG, ResizeRequest, STDIN_WINDOW,
    ShimState, SignalRequest, frame, json_frame,
};
use orlop_model::Timestamp;
use orlop_sys::process::SignalFd;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, sockopt::socket_peercred};
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, wait, waitid, waitpid};
use std::collections::VecDeque;
use std::fs;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// At most this much is taken of what an ended process left in its pipes; they hold far less.
const MAX_LEFTOVER: usize = 16 * 1024 * 1024;
/// Records of ended exec sessions that are kept for `inspect`.
const KEPT_EXECS: usize = 64;
/// How old a container is when its shim leaves its caller's cgroups.
const SETTLED: Duration = Duration::from_millis(200);
/// What is looked at to recognise a failed execve.
const STDERR_HEAD: usize = 4096;

pub(super) struct Shim {
    pub config: ShimConfig,
    pub log: Option<LogWriter>,
    pub clients: Vec<Client>,
    pub stopping: bool,
    pub started_at: Timestamp,
    signals: SignalFd,
    listener: OwnedFd,
    sessions: Vec<Session>,
    /// Hears how the start went.
    launcher: Option<OwnedFd>,
    /// When to leave the caller's cgroups.
    leave_cgroups_at: Option<Instant>,
    next_client: u64,
    next_session: u64,
    ended_execs: VecDeque<String>,
    buffer: Vec<u8>,
}

/// What the loop waits for.
#[derive(Clone, Copy)]
enum Token {
    Signals,
    Listener,
    Client(u64),
    Output(u64, usize),
    Stdin(u64),
    Console(u64),
}

/// How the first process ended, or why it never ran.
pub(super) enum Outcome {
    Ended(i32),
    NotStarted(Error),
}

/// What the launcher is told.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Report {
    Started { pid: u32, pid_start: u64, started_at: Timestamp },
    Failed(Failure),
}

/// Starts the container and stays with it. Returns when everything that its end asks for is done.
pub(super) fn serve(file: ShimFile, launcher: OwnedFd, first_client: Option<OwnedFd>) -> Result<(), Error> {
    let mut shim = match Shim::start(file, first_client) {
        Ok(shim) => shim,
        Err(error) => {
            tell(&launcher, &Report::Failed(Failure::from(&error)));
            return Err(error);
        }
    };
    shim.launcher = Some(launcher);
    let outcome = loop {
        if let Some(outcome) = shim.turn()? {
            break outcome;
        }
    };
    match outcome {
        Outcome::NotStarted(error) => {
            end::forget(&shim.config, false);
            if let Some(launcher) = shim.launcher.take() {
                tell(&launcher, &Report::Failed(Failure::from(&error)));
            }
            Err(error)
        }
        Outcome::Ended(code) => {
            shim.abandon_starting();
            if let Some(log) = &mut shim.log {
                log.finish();
            }
            let exit = json_frame(FrameType::Exit, &ExitMessage { code });
            end::finish(&mut shim, code);
            shim.say_goodbye(INIT, exit);
            // Who runs the container in the foreground reaps it himself before he goes on; a second process that wants
            // the same would only be in his way.
            if !(shim.is_heard_in_the_foreground() && end::is_reaped_by_a_client(&shim.config)) {
                end::reap(&shim.config);
            }
            shim.linger();
            Ok(())
        }
    }
}

/// What the runtime still knows of an earlier run, whose shim was killed, must not be in the way.
fn make_room(config: &ShimConfig) -> Result<(), Error> {
    match config.runtime.state(&config.id)? {
        Some(state) if state.status != "stopped" => {
            Err(Error::Invalid(format!("container {} is {} already", config.id, state.status)))
        }
        Some(_) => config.runtime.delete(&config.id, true),
        None => Ok(()),
    }
}

fn tell(launcher: &OwnedFd, report: &Report) {
    let text = serde_json::to_vec(report).unwrap_or_default();
    // A launcher that was killed doesn't need to know; the container runs all the same.
    let _ = rustix::io::write(launcher, &text);
}

impl Shim {
    fn start(file: ShimFile, first_client: Option<OwnedFd>) -> Result<Self, Error> {
        let config = file.config;
        make_room(&config)?;
        // Nothing that is sent to "all of the session" or "everything" ends the shim before its container.
        let kept_away = [libc_signal::CHLD, libc_signal::HUP, libc_signal::INT, libc_signal::QUIT, libc_signal::TERM];
        let signals = SignalFd::new(&kept_away).map_err(Error::io("watch signals for", &config.dir))?;
        let listener = listen_in(&config.dir, super::SOCKET, 64)?;
        let mut shim = Self {
            log: config.log.clone().map(LogWriter::open),
            clients: Vec::new(),
            stopping: false,
            started_at: Timestamp::now(),
            signals,
            listener,
            sessions: Vec::new(),
            launcher: None,
            leave_cgroups_at: None,
            next_client: 1,
            next_session: INIT + 1,
            ended_execs: VecDeque::new(),
            buffer: vec![0; CHUNK],
            config,
        };
        if let (Some(socket), Some(attach)) = (first_client, file.first_client) {
            let id = shim.add_client(socket)?;
            shim.attach(id, INIT, &attach);
        }
        let (terminal, open_stdin) = (shim.config.terminal, shim.config.open_stdin);
        let files = CallFiles {
            dir: shim.config.dir.clone(),
            pid_file: "init.pid".into(),
            console_socket: terminal.then(|| "console.sock".into()),
            log: "runtime.log".into(),
        };
        let call = shim.config.runtime.run_detached(&shim.config.id, &files);
        let mut session = shim.new_session(INIT, None, Vec::new(), terminal);
        session.stdin_once = shim.config.stdin_once;
        shim.begin(session, call, &files, open_stdin, true)?;
        if !shim.has_foreground() {
            // Once the launcher is told, its caller's cgroups may be killed. While the runtime works it costs no time.
            super::cgroup::leave_callers();
        }
        Ok(shim)
    }

    fn new_session(&self, key: u64, exec: Option<String>, args: Vec<String>, terminal: bool) -> Session {
        Session {
            key,
            exec,
            args,
            terminal,
            phase: Phase::Ended,
            outputs: Vec::new(),
            stdin: None,
            stdin_once: true,
            early_input: VecDeque::new(),
            console: None,
            first_size: None,
            requester: None,
            detached: false,
            stderr_head: Vec::new(),
        }
    }

    /// Makes a session's streams and lets the runtime start its process.
    fn begin(
        &mut self,
        mut session: Session,
        call: Call,
        files: &CallFiles,
        open_stdin: bool,
        fifos: bool,
    ) -> Result<(), Error> {
        let dir = self.config.dir.clone();
        let ends = if let Some(name) = &files.console_socket {
            let socket = listen_in(&dir, name, 1)?;
            session.console = Some(Console::Listening { socket, name: name.clone() });
            ProgramEnds([null()?, null()?, null()?])
        } else {
            let (outputs, stdin, ends) = Session::with_pipes(fifos.then_some(dir.as_path()), open_stdin)?;
            session.outputs = outputs;
            session.stdin = stdin;
            ends
        };
        let _ = fs::remove_file(dir.join(&files.pid_file));
        let runtime = spawn_call(&call, &dir, ends.fds())?;
        session.phase = Phase::Starting { runtime, call };
        self.sessions.push(session);
        Ok(())
    }

    /// Waits for something and handles it.
    fn turn(&mut self) -> Result<Option<Outcome>, Error> {
        let timeout = self.settling();
        for (token, flags) in self.wait(timeout.as_ref())? {
            match token {
                Token::Signals => while self.signals.next().is_ok_and(|signal| signal.is_some()) {},
                Token::Listener => self.accept(),
                Token::Console(key) => self.accept_console(key),
                Token::Client(id) => self.serve_client(id, flags),
                Token::Output(key, _) if self.is_ended(key) => self.discard(key),
                Token::Output(key, at) => {
                    self.forward(key, at);
                }
                Token::Stdin(key) => self.feed(key, flags),
            }
        }
        // Looked at in every turn: a lost wake-up must not be possible, and it costs two calls.
        let outcome = self.reap_children();
        self.tidy();
        Ok(outcome)
    }

    /// Leaves the caller's cgroups when it is time, and says how long it is until then.
    ///
    /// Moving a process between cgroups of v1 waits for an RCU grace period, 5 to 15 ms, in which nothing on the
    /// machine can fork or exit: a container that only lives for a moment is spared that.
    fn settling(&mut self) -> Option<Timespec> {
        let left = self.leave_cgroups_at?.saturating_duration_since(Instant::now());
        if left.is_zero() {
            self.leave_cgroups_at = None;
            super::cgroup::leave_callers();
            return None;
        }
        Some(Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: i64::from(left.subsec_nanos()) })
    }

    /// What is ready. Several outputs of a session come in ascending order.
    fn wait(&self, timeout: Option<&Timespec>) -> Result<Vec<(Token, PollFlags)>, Error> {
        let mut tokens = vec![Token::Signals, Token::Listener];
        let mut fds = vec![PollFd::from_borrowed_fd(self.signals.fd(), PollFlags::IN)];
        fds.push(PollFd::new(&self.listener, PollFlags::IN));
        for client in &self.clients {
            let out = if client.has_queue() { PollFlags::OUT } else { PollFlags::empty() };
            let read = if client.closing { PollFlags::empty() } else { PollFlags::IN };
            tokens.push(Token::Client(client.id));
            fds.push(PollFd::new(&client.socket, read | out));
        }
        for session in &self.sessions {
            if let (true, Some(Console::Listening { socket, .. })) = (session.is_starting(), &session.console) {
                tokens.push(Token::Console(session.key));
                fds.push(PollFd::new(socket, PollFlags::IN));
            }
            // While the runtime works, its own messages may be in the pipe; on success there are none.
            let held = session.is_starting() || self.clients.iter().any(|client| client.holds_back(session.key));
            for (at, output) in session.outputs.iter().enumerate().filter(|_| !held) {
                tokens.push(Token::Output(session.key, at));
                fds.push(PollFd::new(&output.fd, PollFlags::IN));
            }
            if let Some(stdin) = session.stdin.as_ref().filter(|stdin| !stdin.pending.is_empty()) {
                tokens.push(Token::Stdin(session.key));
                fds.push(PollFd::new(&stdin.fd, PollFlags::OUT));
            }
        }
        match poll(&mut fds, timeout) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Vec::new()),
            Err(error) => return Err(Error::io("wait in", &self.config.dir)(error)),
        }
        let ready = tokens.into_iter().zip(&fds).map(|(token, fd)| (token, fd.revents()));
        Ok(ready.filter(|(_, flags)| !flags.is_empty()).collect())
    }

    fn session(&mut self, key: u64) -> Option<&mut Session> {
        self.sessions.iter_mut().find(|session| session.key == key)
    }

    fn is_ended(&self, key: u64) -> bool {
        self.sessions.iter().any(|session| session.key == key && matches!(session.phase, Phase::Ended))
    }

    fn client(&mut self, id: u64) -> Option<&mut Client> {
        self.clients.iter_mut().find(|client| client.id == id)
    }

    // Clients

    fn accept(&mut self) {
        while let Ok(socket) = accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            let own = rustix::process::geteuid();
            let allowed = socket_peercred(&socket).is_ok_and(|peer| peer.uid.is_root() || peer.uid == own);
            if allowed && let Err(error) = self.add_client(socket) {
                note(&format!("a client was turned away: {error}"));
            }
        }
    }

    fn add_client(&mut self, socket: OwnedFd) -> Result<u64, Error> {
        let id = self.next_client;
        self.next_client += 1;
        self.clients.push(Client::new(id, socket)?);
        Ok(id)
    }

    fn serve_client(&mut self, id: u64, flags: PollFlags) {
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

    fn send(&mut self, id: u64, bytes: Vec<u8>) {
        let bytes: Rc<[u8]> = bytes.into();
        if let Some(client) = self.client(id) {
            client.push(&bytes);
            client.flush();
        }
    }

    /// The client hears why, and nothing more. An attached one stays with its session in vain, so it is cut off too.
    fn fail(&mut self, id: u64, error: &Error) {
        self.send(id, json_frame(FrameType::Failed, &Failure::from(error)));
        if let Some(client) = self.client(id) {
            client.closing = true;
        }
    }

    fn handle(&mut self, id: u64, kind: FrameType, payload: &[u8]) -> Result<(), Error> {
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
    fn answer_done(&mut self, id: u64, joined: Option<u64>) {
        if joined.is_none() {
            self.send(id, frame(FrameType::Done, b"{}"));
        }
    }

    fn addressed(&self, exec: Option<&str>, joined: Option<u64>) -> Result<u64, Error> {
        let Some(exec) = exec else { return Ok(joined.unwrap_or(INIT)) };
        let found = self.sessions.iter().find(|session| session.exec.as_deref() == Some(exec));
        found.map(|session| session.key).ok_or_else(|| Error::NotRunning(format!("exec session {exec} is not running")))
    }

    fn signal(&mut self, key: u64, signal: i32) -> Result<(), Error> {
        let pid = self.session(key).and_then(|session| session.pid());
        let pid = pid.ok_or_else(|| Error::NotRunning("the process is not running".into()))?;
        orlop_sys::process::signal(pid, signal)
            .map_err(|error| Error::Invalid(format!("signal {signal} could not be sent: {error}")))
    }

    fn state(&self) -> ShimState {
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

    fn attach(&mut self, id: u64, key: u64, request: &AttachRequest) {
        if let Some(client) = self.client(id) {
            client.session = Some(key);
            client.stdin = request.stdin;
            client.stdout = request.stdout;
            client.stderr = request.stderr;
            client.foreground = request.foreground;
        }
    }

    // Exec

    fn exec(&mut self, id: u64, request: ExecRequest) -> Result<(), Error> {
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
        let key = self.next_session;
        self.next_session += 1;
        let files = CallFiles {
            dir: self.config.dir.clone(),
            pid_file: format!("exec-{key}.pid"),
            console_socket: request.process.terminal.then(|| format!("console-{key}.sock")),
            log: format!("exec-{key}.log"),
        };
        let process = format!("exec-{key}.process");
        let path = self.config.dir.join(&process);
        let spec = crate::spec::process(&request.process).to_string();
        fs::write(&path, spec).map_err(Error::io("write", &path))?;
        let call = self.config.runtime.exec(&self.config.id, &process, &files);
        let args = request.process.args.clone();
        let mut session = self.new_session(key, Some(request.id), args, request.process.terminal);
        session.first_size = request.process.console_size;
        session.requester = Some(id);
        session.detached = request.detach;
        self.begin(session, call, &files, request.stdin, false)?;
        // Attached before it runs, so that nothing of it is missed; a detached one only waits for the answer.
        let follow = !request.detach;
        let attach = AttachRequest { stdin: request.stdin, stdout: follow, stderr: follow, foreground: follow };
        self.attach(id, key, &attach);
        Ok(())
    }

    fn record_exec(&mut self, key: u64, exit_code: Option<i32>) {
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

    // Streams

    fn accept_console(&mut self, key: u64) {
        let (dir, init_stdin) = (self.config.dir.clone(), self.config.open_stdin);
        let requester_stdin =
            |clients: &[Client], id: Option<u64>| clients.iter().any(|client| Some(client.id) == id && client.stdin);
        let Some(session) = self.sessions.iter_mut().find(|session| session.key == key) else { return };
        let open_stdin = if key == INIT { init_stdin } else { requester_stdin(&self.clients, session.requester) };
        if let Err(error) = session.accept_console(&dir, open_stdin) {
            // The runtime notices the same and its failure is what the user hears.
            note(&format!("no terminal: {error}"));
        }
    }

    /// Reads one chunk of an output and hands it on; false when there is nothing now.
    fn forward(&mut self, key: u64, at: usize) -> bool {
        let Some(session) = self.sessions.iter_mut().find(|session| session.key == key) else { return false };
        let Some(output) = session.outputs.get(at) else { return false };
        let stream = output.stream;
        let length = match rustix::io::read(&output.fd, &mut self.buffer[..]) {
            Ok(0) => {
                session.outputs.remove(at);
                return false;
            }
            Ok(length) => length,
            Err(Errno::AGAIN | Errno::INTR) => return false,
            Err(_) => {
                // EIO: the terminal's last other end was closed.
                session.outputs.remove(at);
                return false;
            }
        };
        let bytes = &self.buffer[..length];
        if stream == Stream::Stderr || session.terminal {
            let room = STDERR_HEAD.saturating_sub(session.stderr_head.len());
            session.stderr_head.extend_from_slice(&bytes[..length.min(room)]);
        }
        let wanted = |client: &&mut Client| {
            let stream = if stream == Stream::Stdout { client.stdout } else { client.stderr };
            client.session == Some(key) && stream && !client.closing
        };
        let mut message: Option<Rc<[u8]>> = None;
        for client in self.clients.iter_mut().filter(wanted) {
            let kind = if stream == Stream::Stdout { FrameType::Stdout } else { FrameType::Stderr };
            let message = message.get_or_insert_with(|| frame(kind, bytes).into());
            client.push(message);
            client.flush();
            if !client.foreground && client.lag() > MAX_LAG {
                client.drop_queue();
                let why = Error::Shim(format!("dropped: more than {MAX_LAG} bytes behind the container's output"));
                client.push(&json_frame(FrameType::Failed, &Failure::from(&why)).into());
                client.closing = true;
            }
        }
        if let (INIT, Some(log)) = (key, &mut self.log) {
            log.write(stream, bytes);
        }
        true
    }

    /// What an ended exec session's descendants still write goes nowhere.
    fn discard(&mut self, key: u64) {
        let Some(session) = self.sessions.iter_mut().find(|session| session.key == key) else { return };
        let buffer = &mut self.buffer;
        session.outputs.retain(|output| {
            matches!(rustix::io::read(&output.fd, &mut buffer[..]), Ok(1..) | Err(Errno::AGAIN | Errno::INTR))
        });
    }

    /// Everything that the process wrote before it ended.
    fn drain(&mut self, key: u64) {
        let mut taken = 0;
        for at in (0..2).rev() {
            while taken < MAX_LEFTOVER && self.forward(key, at) {
                taken += CHUNK;
            }
        }
    }

    fn take_stdin(&mut self, id: u64, joined: Option<u64>, bytes: &[u8]) -> Result<(), Error> {
        let Some(client) = self.client(id).filter(|client| client.stdin) else {
            return Err(Error::Invalid("this client did not ask to send input".into()));
        };
        if client.stdin_pending + bytes.len() > STDIN_WINDOW {
            return Err(Error::Invalid("more input than the window allows".into()));
        }
        client.stdin_pending += bytes.len();
        let waiting = (id, bytes.to_vec(), 0);
        match joined.and_then(|key| self.session(key)) {
            Some(session) if session.terminal && session.is_starting() && session.stdin.is_none() => {
                session.early_input.push_back(waiting);
            }
            Some(Session { key, stdin: Some(stdin), .. }) if !stdin.ending => {
                stdin.pending.push_back(waiting);
                let key = *key;
                self.feed(key, PollFlags::OUT);
            }
            // The program has no stdin any more: as with a closed pipe the bytes go nowhere.
            _ => self.taken(id, bytes.len()),
        }
        Ok(())
    }

    /// Gives the program of its input what it takes.
    fn feed(&mut self, key: u64, flags: PollFlags) {
        let Some(session) = self.session(key) else { return };
        let starting = session.is_starting();
        let Some(stdin) = &mut session.stdin else { return };
        let mut taken: Vec<(u64, usize)> = Vec::new();
        let mut broken = flags.contains(PollFlags::ERR) && !starting;
        while let (false, Some((client, bytes, offset))) = (broken, stdin.pending.front_mut()) {
            match rustix::io::write(&stdin.fd, &bytes[*offset..]) {
                Ok(length) => {
                    *offset += length;
                    taken.push((*client, length));
                    if *offset == bytes.len() {
                        stdin.pending.pop_front();
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                // Nobody will read it: the program has closed its stdin.
                Err(_) => broken = true,
            }
        }
        if broken {
            taken.extend(stdin.pending.drain(..).map(|(client, bytes, offset)| (client, bytes.len() - offset)));
        }
        if broken || (stdin.ending && stdin.pending.is_empty()) {
            session.stdin = None;
        }
        for (client, length) in taken {
            self.taken(client, length);
        }
    }

    fn taken(&mut self, id: u64, length: usize) {
        if let Some(client) = self.client(id) {
            client.stdin_pending -= length;
        }
        if length > 0 {
            self.send(id, frame(FrameType::StdinTaken, &(length as u32).to_be_bytes()));
        }
    }

    /// A client has no more input, or is gone.
    fn end_stdin_of(&mut self, id: u64) {
        let Some(client) = self.client(id).filter(|client| client.stdin) else { return };
        client.stdin = false;
        let Some(key) = client.session else { return };
        let Some(session) = self.session(key) else { return };
        // A terminal has no end of input but the one that is typed.
        if session.stdin_once && !session.terminal {
            if let Some(stdin) = &mut session.stdin {
                stdin.ending = true;
            }
            self.feed(key, PollFlags::OUT);
        }
    }

    // Processes

    fn reap_children(&mut self) -> Option<Outcome> {
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
    fn advance(&mut self, key: u64) -> Option<Outcome> {
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
    fn code_of_failed_execve(&mut self, key: u64, code: i32) -> i32 {
        let Some(session) = self.session(key).filter(|_| code == 1 || code == 255) else { return code };
        let message = String::from_utf8_lossy(&session.stderr_head);
        if message.trim_end().ends_with("no such file or directory") { 127 } else { 126 }
    }

    /// The runtime has ended: the process runs, or it never will.
    fn runtime_done(&mut self, key: u64, code: i32) -> Option<Outcome> {
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

    fn runs(&mut self, key: u64, pid: i32) {
        if key == INIT {
            self.started_at = Timestamp::now();
            if self.has_foreground() {
                // Its caller waits for it anyway, and a container that only lives for a moment is spared that.
                self.leave_cgroups_at = Some(Instant::now() + SETTLED);
            }
            let pid = pid.cast_unsigned();
            // It is our unreaped child, so the number is still its own.
            let pid_start = orlop_sys::pid::start_time(pid).unwrap_or(0);
            if let Some(launcher) = self.launcher.take() {
                tell(&launcher, &Report::Started { pid, pid_start, started_at: self.started_at });
            }
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

    fn never_runs(&mut self, key: u64, error: Error) -> Option<Outcome> {
        if key == INIT {
            return Some(Outcome::NotStarted(error));
        }
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
    fn ended(&mut self, key: u64, code: i32) -> Option<Outcome> {
        self.drain(key);
        let session = self.session(key)?;
        session.phase = Phase::Ended;
        session.close_input();
        if key == INIT {
            return Some(Outcome::Ended(code));
        }
        self.record_exec(key, Some(code));
        self.say_goodbye(key, json_frame(FrameType::Exit, &ExitMessage { code }));
        None
    }

    /// The last frame for everyone in a session.
    fn say_goodbye(&mut self, key: u64, exit: Vec<u8>) {
        let exit: Rc<[u8]> = exit.into();
        for client in self.clients.iter_mut().filter(|client| client.session == Some(key) && !client.closing) {
            client.push(&exit);
            client.flush();
            client.closing = true;
        }
    }

    fn has_foreground(&self) -> bool {
        self.clients.iter().any(|client| client.foreground)
    }

    /// A client in the foreground has got everything.
    fn is_heard_in_the_foreground(&self) -> bool {
        let mut clients = self.clients.iter();
        clients.any(|client| client.session == Some(INIT) && client.foreground && !client.gone && !client.has_queue())
    }

    /// The container has ended while the runtime was starting something in it: that can't succeed any more.
    fn abandon_starting(&mut self) {
        let keys: Vec<u64> = self.sessions.iter().filter(|s| s.key != INIT).map(|s| s.key).collect();
        for key in keys {
            let Some(session) = self.session(key) else { continue };
            match session.phase {
                Phase::Starting { runtime, .. } => {
                    // It is our unreaped child, so the number is still its own.
                    let _ = orlop_sys::process::signal(runtime, libc_signal::KILL);
                    crate::oci::wait_for(runtime);
                    let gone = Error::NotRunning(format!("container {} is not running", self.config.id));
                    self.never_runs(key, gone);
                }
                Phase::Running { .. } => {
                    let _ = self.ended(key, 128 + libc_signal::KILL);
                }
                Phase::Ended => {}
            }
        }
    }

    /// Forgets clients that left and sessions of which nothing is left.
    fn tidy(&mut self) {
        let leaving: Vec<u64> = self.clients.iter().filter(|client| client.gone).map(|client| client.id).collect();
        for id in leaving {
            self.end_stdin_of(id);
            self.clients.retain(|client| client.id != id);
        }
        self.clients.retain(|client| !client.closing || client.has_queue());
        self.sessions.retain(|session| {
            session.key == INIT || !matches!(session.phase, Phase::Ended) || !session.outputs.is_empty()
        });
    }

    /// Everything is done; what was promised to clients still has to reach them. Only a foreground client may take
    /// its time.
    fn linger(&mut self) {
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
    pub fn stop_listening(&mut self) {
        let _ = fs::remove_file(self.config.dir.join(super::SOCKET));
        if let Ok(null) = null() {
            self.listener = null;
        }
    }
}

/// 128 + n for a signal, as shells and Docker have it.
fn code_of(status: rustix::process::WaitStatus) -> i32 {
    status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal)).unwrap_or(255)
}

fn parse<'a, T: serde::Deserialize<'a>>(payload: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(payload).map_err(|error| Error::Invalid(format!("the shim can't read the request: {error}")))
}

/// Numbers of the signals used here, the same on every architecture that is supported.
mod libc_signal {
    pub const HUP: i32 = 1;
    pub const INT: i32 = 2;
    pub const QUIT: i32 = 3;
    pub const KILL: i32 = 9;
    pub const TERM: i32 = 15;
    pub const CHLD: i32 = 17;
}
