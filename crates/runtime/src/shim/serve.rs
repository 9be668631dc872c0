//! The shim's loop: one thread, one poll, everything non-blocking except the runtime's own short calls.

use super::client::Client;
use super::health::Health;
use super::oom::Oom;
use super::session::{Console, INIT, Phase, ProgramEnds, Session, listen_in, null};
use super::{ShimConfig, ShimFile, end};
use crate::Error;
use crate::log::LogWriter;
use crate::oci::{Call, CallFiles, OciRuntime, spawn_call};
use crate::protocol::{CHUNK, ExitMessage, Failure, FrameType, json_frame};
use orlop_model::Timestamp;
use orlop_sys::process::SignalFd;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::fs;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How old a container is when its shim leaves its caller's cgroups.
pub(super) const SETTLED: Duration = Duration::from_millis(200);

pub(super) struct Shim {
    pub config: ShimConfig,
    pub log: Option<LogWriter>,
    pub clients: Vec<Client>,
    pub stopping: bool,
    pub started_at: Timestamp,
    pub signals: SignalFd,
    pub listener: OwnedFd,
    pub sessions: Vec<Session>,
    /// Hears how the start went.
    pub launcher: Option<OwnedFd>,
    /// When to leave the caller's cgroups.
    pub leave_cgroups_at: Option<Instant>,
    pub next_client: u64,
    pub next_session: u64,
    pub ended_execs: VecDeque<String>,
    pub buffer: Vec<u8>,
    pub health: Option<Health>,
    pub oom: Option<Oom>,
    /// The engine was told that memory ran out.
    pub oom_told: bool,
    /// The first process, when it isn't our child.
    pub watch: Option<OwnedFd>,
    /// Nobody told how the adopted first process ended.
    pub exit_is_unknown: bool,
}

/// How a shim comes to its container.
pub(super) enum Begin {
    /// It starts it, with the client that sees everything from the first byte on.
    Start(Option<OwnedFd>),
    /// Its first shim was killed.
    Adopt,
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
    Watch,
    Oom,
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
pub(super) fn serve(file: ShimFile, launcher: OwnedFd, begin: Begin) -> Result<(), Error> {
    let begun = match begin {
        Begin::Start(first_client) => Shim::start(file, first_client),
        Begin::Adopt => Shim::adopt(file.config),
    };
    let mut shim = match begun {
        Ok(shim) => shim,
        Err(error) => {
            tell(&launcher, &Report::Failed(Failure::from(&error)));
            return Err(error);
        }
    };
    if shim.watch.is_some() {
        tell(&launcher, &Report::Started { pid: 0, pid_start: 0, started_at: shim.started_at });
        drop(launcher);
    } else {
        shim.launcher = Some(launcher);
    }
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

pub(super) fn tell(launcher: &OwnedFd, report: &Report) {
    let text = serde_json::to_vec(report).unwrap_or_default();
    // A launcher that was killed doesn't need to know; the container runs all the same.
    let _ = rustix::io::write(launcher, &text);
}

impl Shim {
    /// A shim without its container.
    pub(super) fn new(config: ShimConfig) -> Result<Self, Error> {
        // Nothing that is sent to "all of the session" or "everything" ends the shim before its container.
        let kept_away = [number::CHLD, number::HUP, number::INT, number::QUIT, number::TERM];
        let signals = SignalFd::new(&kept_away).map_err(Error::io("watch signals for", &config.dir))?;
        let listener = listen_in(&config.dir, super::SOCKET, 64)?;
        Ok(Self {
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
            health: None,
            oom: None,
            oom_told: false,
            watch: None,
            exit_is_unknown: false,
            config,
        })
    }

    fn start(file: ShimFile, first_client: Option<OwnedFd>) -> Result<Self, Error> {
        make_room(&file.config)?;
        let mut shim = Self::new(file.config)?;
        shim.health = shim.config.health.clone().map(|config| Health::new(config, None));
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

    pub(super) fn new_session(&self, key: u64, exec: Option<String>, args: Vec<String>, terminal: bool) -> Session {
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
            capture: None,
            stderr_head: Vec::new(),
        }
    }

    /// Makes a session's streams and lets the runtime start its process.
    pub(super) fn begin(
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
        let timeout = self.timeout();
        let mut adopted = None;
        for (token, flags) in self.wait(timeout.as_ref())? {
            match token {
                Token::Signals => while self.signals.next().is_ok_and(|signal| signal.is_some()) {},
                Token::Listener => self.accept(),
                Token::Console(key) => self.accept_console(key),
                Token::Watch => adopted = self.adopted_end(),
                Token::Oom => self.oom.iter_mut().for_each(Oom::look),
                Token::Client(id) => self.serve_client(id, flags),
                Token::Output(key, _) if self.is_ended(key) => self.discard(key),
                Token::Output(key, at) => {
                    self.forward(key, at);
                }
                Token::Stdin(key) => self.feed(key, flags),
            }
        }
        // Looked at in every turn: a lost wake-up must not be possible, and it costs two calls.
        let outcome = adopted.or_else(|| self.reap_children());
        if outcome.is_none() && self.oom.as_mut().is_some_and(Oom::is_due) {
            self.oom_told = true;
            end::call(&self.config.oom, &[]);
        }
        self.tend_health();
        self.tidy();
        Ok(outcome)
    }

    /// Leaves the caller's cgroups when it is time, and says how long it is until then.
    ///
    /// Moving a process between cgroups of v1 waits for an RCU grace period, 5 to 15 ms, in which nothing on the
    /// machine can fork or exit: a container that only lives for a moment is spared that.
    fn settling(&mut self) -> Option<Duration> {
        let left = self.leave_cgroups_at?.saturating_duration_since(Instant::now());
        if left.is_zero() {
            self.leave_cgroups_at = None;
            super::cgroup::leave_callers();
            return None;
        }
        Some(left)
    }

    /// How long to wait at most.
    fn timeout(&mut self) -> Option<Timespec> {
        let running = self.launcher.is_none();
        let health = self.health.as_ref().filter(|_| running).map(Health::wait);
        let oom = self.oom.as_ref().and_then(Oom::wait);
        let left = self.settling().into_iter().chain(health).chain(oom).min()?;
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
        if let Some(watch) = &self.watch {
            tokens.push(Token::Watch);
            fds.push(PollFd::new(watch, PollFlags::IN));
        }
        if let Some(oom) = &self.oom {
            tokens.push(Token::Oom);
            fds.push(oom.poll_fd());
        }
        match poll(&mut fds, timeout) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Vec::new()),
            Err(error) => return Err(Error::io("wait in", &self.config.dir)(error)),
        }
        let ready = tokens.into_iter().zip(&fds).map(|(token, fd)| (token, fd.revents()));
        Ok(ready.filter(|(_, flags)| !flags.is_empty()).collect())
    }

    pub(super) fn session(&mut self, key: u64) -> Option<&mut Session> {
        self.sessions.iter_mut().find(|session| session.key == key)
    }

    fn is_ended(&self, key: u64) -> bool {
        self.sessions.iter().any(|session| session.key == key && matches!(session.phase, Phase::Ended))
    }

    pub(super) fn client(&mut self, id: u64) -> Option<&mut Client> {
        self.clients.iter_mut().find(|client| client.id == id)
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
}

/// Numbers of the signals used here, the same on every architecture that is supported.
pub(super) mod number {
    pub const HUP: i32 = 1;
    pub const INT: i32 = 2;
    pub const QUIT: i32 = 3;
    pub const KILL: i32 = 9;
    pub const TERM: i32 = 15;
    pub const CHLD: i32 = 17;
}
