//! The client's side of a shim's socket: joining a container or running something in it from a terminal, and the short
//! requests. Everything is addressed by the container's run directory.

use crate::Error;
use crate::launch::FirstClient;
use crate::protocol::{
    AttachRequest, CHUNK, ExecRequest, ExitMessage, Failure, FrameType, Inbox, ResizeRequest, STDIN_WINDOW, ShimState,
    SignalRequest, frame, json_frame,
};
use crate::shim::{SOCKET, socket_address};
use crate::spec::ProcessInput;
use orlop_sys::process::SignalFd;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// How a foreground session behaves.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Copy the caller's stdin.
    pub stdin: bool,
    /// Write the container's stdout.
    pub stdout: bool,
    /// Write the container's stderr.
    pub stderr: bool,
    /// The session has a terminal: raw mode when stdin is one, resize, detach keys.
    pub terminal: bool,
    /// Forward signals to the process (only without a terminal).
    pub sig_proxy: bool,
    /// Leaves the session when typed at a terminal; empty: nothing does. Docker's default is [`DETACH_KEYS`].
    pub detach_keys: Vec<u8>,
}

/// How long a shim may take for what needs no program to start.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// How long a shim is silent before it is looked at: a stopped one (SIGSTOP) is made to go on.
const SILENCE: Duration = Duration::from_secs(1);

/// Docker's default detach keys: Ctrl-P Ctrl-Q.
pub const DETACH_KEYS: [u8; 2] = [16, 17];

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// The process ended with this exit code (128 + n when signal n ended it).
    Exited(i32),
    /// The user typed the detach keys.
    Detached,
    /// The caller's stdout was closed; the process goes on.
    OutputClosed,
    /// This signal asked the caller to end while it held a terminal, which is as it was before; the process goes on.
    Interrupted(i32),
}

/// A connection to a shim.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    inbox: Inbox,
}

/// The three streams of a session's caller.
#[derive(Debug)]
pub struct Stdio {
    /// Read from.
    pub stdin: OwnedFd,
    /// Written to.
    pub stdout: OwnedFd,
    /// Written to.
    pub stderr: OwnedFd,
}

impl Stdio {
    /// Duplicates of this process's own three streams.
    pub fn inherit() -> Result<Self, Error> {
        let duplicate = |fd: BorrowedFd<'_>| {
            rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(Error::io("use", "the standard streams"))
        };
        Ok(Self {
            stdin: duplicate(std::io::stdin().as_fd())?,
            stdout: duplicate(std::io::stdout().as_fd())?,
            stderr: duplicate(std::io::stderr().as_fd())?,
        })
    }
}

/// Joins a running container's first process; the connection then goes into [`session`].
pub fn attach(dir: &Path, options: &SessionOptions) -> Result<Connection, Error> {
    let mut connection = Connection::connect(dir)?;
    connection.ask(&json_frame(FrameType::Attach, &options.request(false)))?;
    Ok(connection)
}

/// Runs a further process and returns once it runs; the connection then goes into [`session`].
///
/// `id` is chosen by the caller, up to 64 letters and digits; [`crate::shim::ExecRecord`] tells about it from then on.
pub fn exec(dir: &Path, id: &str, process: ProcessInput, options: &SessionOptions) -> Result<Connection, Error> {
    let request = ExecRequest { id: id.to_owned(), process, stdin: options.stdin, detach: false };
    let mut connection = Connection::connect(dir)?;
    connection.request(&json_frame(FrameType::Exec, &request))?;
    Ok(connection)
}

/// Runs a further process that nobody follows and returns once it runs.
pub fn exec_detached(dir: &Path, id: &str, process: ProcessInput) -> Result<(), Error> {
    let request = ExecRequest { id: id.to_owned(), process, stdin: false, detach: true };
    Connection::connect(dir)?.request(&json_frame(FrameType::Exec, &request)).map(drop)
}

/// Sends a signal to the first process or an exec session.
pub fn signal(dir: &Path, exec: Option<&str>, signal: i32) -> Result<(), Error> {
    let request = SignalRequest { exec: exec.map(str::to_owned), signal };
    Connection::connect(dir)?.ask(&json_frame(FrameType::Signal, &request)).map(drop)
}

/// Tells the shim that the user is stopping the container, before it is signalled.
pub fn stopping(dir: &Path) -> Result<(), Error> {
    Connection::connect(dir)?.ask(&frame(FrameType::Stopping, b"")).map(drop)
}

/// Sets the size of a terminal, of the first process or of an exec session.
pub fn resize(dir: &Path, exec: Option<&str>, rows: u16, cols: u16) -> Result<(), Error> {
    let request = ResizeRequest { exec: exec.map(str::to_owned), rows, cols };
    Connection::connect(dir)?.ask(&json_frame(FrameType::Resize, &request)).map(drop)
}

/// Asks the shim how it is; [`Error::NotRunning`] when there is none.
pub fn state(dir: &Path) -> Result<ShimState, Error> {
    let answer = Connection::connect(dir)?.ask(&frame(FrameType::State, b""))?;
    parse(&answer)
}

/// Waits for the first process's end without any of its output, up to `timeout`; none when it still runs then.
pub fn wait(dir: &Path, timeout: Option<Duration>) -> Result<Option<i32>, Error> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let nothing = AttachRequest { stdin: false, stdout: false, stderr: false, foreground: false };
    let mut connection = Connection::connect(dir)?;
    connection.send(&json_frame(FrameType::Attach, &nothing))?;
    while let Some((kind, payload)) = connection.receive_until(deadline)? {
        match kind {
            FrameType::Exit => return parse::<ExitMessage>(&payload).map(|exit| Some(exit.code)),
            FrameType::Failed => return Err(failure(&payload)),
            _ => {}
        }
    }
    Ok(None)
}

impl SessionOptions {
    fn request(&self, foreground: bool) -> AttachRequest {
        AttachRequest { stdin: self.stdin, stdout: self.stdout, stderr: self.stderr, foreground }
    }
}

impl Connection {
    /// Connects to the shim of the container whose run directory is `dir`.
    pub fn connect(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(SOCKET);
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(Error::io("connect to", &path))?;
        let not_running = || Error::NotRunning("the container is not running".into());
        let (_dir, address) = match socket_address(dir, SOCKET) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Err(not_running());
            }
            other => other?,
        };
        match rustix::net::connect(&socket, &address) {
            Ok(()) => Ok(Self { socket, inbox: Inbox::default() }),
            Err(Errno::NOENT | Errno::CONNREFUSED) => Err(not_running()),
            Err(error) => Err(Error::io("connect to", &path)(error)),
        }
    }

    /// A connection to a shim that is yet to be launched, in the foreground: it gets every byte from the first one on.
    /// The far end goes into the launch request, the connection into [`session`].
    pub fn first_client(options: &SessionOptions) -> Result<(Self, FirstClient), Error> {
        let (near, far) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(Error::io("make", "a socket pair"))?;
        let connection = Self { socket: near, inbox: Inbox::default() };
        Ok((connection, FirstClient { socket: far, attach: options.request(true) }))
    }

    /// Sends a request that a shim answers at once, and waits for its answer, but not for ever.
    fn ask(&mut self, request: &[u8]) -> Result<Vec<u8>, Error> {
        self.answer(request, Some(Instant::now() + ANSWERS_WITHIN))
    }

    /// Sends a request and waits for its answer.
    fn request(&mut self, request: &[u8]) -> Result<Vec<u8>, Error> {
        self.answer(request, None)
    }

    fn answer(&mut self, request: &[u8], deadline: Option<Instant>) -> Result<Vec<u8>, Error> {
        self.send(request)?;
        match self.receive_until(deadline)? {
            None => Err(Error::Shim(format!("the container's shim did not answer within {ANSWERS_WITHIN:?}"))),
            Some((FrameType::Done, payload)) => Ok(payload),
            Some((FrameType::Failed, payload)) => Err(failure(&payload)),
            _ => Err(Error::Shim("the shim gave an answer that was not asked for".into())),
        }
    }

    /// The shim never waits for a client before it reads, so sending may wait.
    fn send(&self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            match rustix::net::send(&self.socket, bytes, SendFlags::NOSIGNAL) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(lost()),
                Err(error) => return Err(Error::io("send to", SOCKET)(error)),
            }
        }
        Ok(())
    }

    /// Reads what is there into the inbox, waiting for something.
    fn fill(&mut self) -> Result<(), Error> {
        let mut chunk = [0u8; CHUNK];
        match rustix::net::recv(&self.socket, &mut chunk, RecvFlags::empty()) {
            Ok((_, 0)) | Err(Errno::CONNRESET) => Err(lost()),
            Ok((_, length)) => {
                self.inbox.extend(&chunk[..length]);
                Ok(())
            }
            Err(Errno::INTR) => Ok(()),
            Err(error) => Err(Error::io("receive from", SOCKET)(error)),
        }
    }

    /// The next frame; none when the deadline has passed.
    fn receive_until(&mut self, deadline: Option<Instant>) -> Result<Option<(FrameType, Vec<u8>)>, Error> {
        loop {
            if let Some(frame) = self.inbox.next_frame()? {
                return Ok(Some(frame));
            }
            let left = deadline.map_or(SILENCE, |deadline| deadline.saturating_duration_since(Instant::now()));
            let wait = left.min(SILENCE);
            let wait = Timespec { tv_sec: wait.as_secs().cast_signed(), tv_nsec: i64::from(wait.subsec_nanos()) };
            match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&wait)) {
                Ok(0) if left.is_zero() => return Ok(None),
                Ok(0) => self.wake(),
                Ok(_) => self.fill()?,
                Err(Errno::INTR) => {}
                Err(error) => return Err(Error::io("wait for", SOCKET)(error)),
            }
        }
    }

    /// Nobody has a reason to stop a shim (SIGSTOP), and everybody would wait for it: it is made to go on.
    fn wake(&self) {
        const CONT: i32 = 18;
        // Who listens there, as this process sees it; another pid namespace sees none. It lives, since the connection
        // does.
        let Ok(peer) = rustix::net::sockopt::socket_peercred(&self.socket) else { return };
        let pid = peer.pid.as_raw_nonzero().get();
        if orlop_sys::pid::state_letter(pid.cast_unsigned()) == Some('T') {
            // One that went meanwhile needs no waking.
            let _ = orlop_sys::process::signal(pid, CONT);
        }
    }
}

fn lost() -> Error {
    Error::Shim(LOST.into())
}

fn failure(payload: &[u8]) -> Error {
    parse::<Failure>(payload).map_or_else(|error| error, Error::from)
}

fn parse<'a, T: serde::Deserialize<'a>>(payload: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(payload).map_err(|error| Error::Shim(format!("the shim's answer can't be read: {error}")))
}

/// Copies between the caller's streams and the session until one of its ends. To be called while the process has one
/// thread, since signals are collected instead of handled.
pub fn session(connection: Connection, options: &SessionOptions, stdio: Stdio) -> Result<SessionEnd, Error> {
    let signals = SignalFd::new(&watched_signals(options)).map_err(Error::io("watch", "signals"))?;
    // Restored when this function is left in any way.
    let _raw = if options.terminal && options.stdin { RawMode::enter(&stdio.stdin)? } else { None };
    let mut session = Session {
        connection,
        options,
        stdin_open: options.stdin,
        window: STDIN_WINDOW,
        keys: DetachKeys { keys: &options.detach_keys, matched: 0 },
        pending: None,
        stdout_chunk: write_chunk(&stdio.stdout),
        stderr_chunk: write_chunk(&stdio.stderr),
        stdio,
    };
    if options.terminal {
        session.send_size()?;
    }
    loop {
        match session.turn(&signals) {
            Ok(Some(end)) => return Ok(end),
            Ok(None) => {}
            Err(Error::Shim(text)) if options.stdin && text == LOST => return Err(Error::Shim(INPUT_LOST.into())),
            Err(error) => return Err(error),
        }
    }
}

const LOST: &str = "the container's shim has ended or closed the connection";
/// A terminal hangs up, and a pipe without a writer has ended.
const INPUT_LOST: &str = "the container's shim has ended, and with it the standard input of the program: it has seen its end; \
                          when it goes on all the same, attach shows its output";

const SIGWINCH: i32 = 28;
/// HUP, INT, QUIT, USR1, USR2, ALRM, TERM, CONT: those that a person or a service manager sends.
const PROXIED: [i32; 8] = [1, 2, 3, 10, 12, 14, 15, 18];
/// HUP, INT, QUIT, TERM: would end the caller and leave its terminal in raw mode.
const ENDING: [i32; 4] = [1, 2, 3, 15];

fn watched_signals(options: &SessionOptions) -> Vec<i32> {
    if options.terminal {
        ENDING.into_iter().chain([SIGWINCH]).collect()
    } else if options.sig_proxy {
        // Realtime signals too; the C library keeps 32 and 33 for itself.
        PROXIED.into_iter().chain(34..=64).collect()
    } else {
        Vec::new()
    }
}

/// A pipe that is ready takes at least PIPE_BUF bytes without blocking, and blocking would hold up signals and input.
fn write_chunk(fd: &OwnedFd) -> usize {
    use rustix::fs::{FileType, fstat};
    let regular = fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
    if regular { CHUNK } else { 4096 }
}

struct Session<'a> {
    connection: Connection,
    options: &'a SessionOptions,
    stdio: Stdio,
    stdin_open: bool,
    /// How much input the shim takes now.
    window: usize,
    keys: DetachKeys<'a>,
    /// Output that is being written: nothing more is received until then, so the program waits.
    pending: Option<Output>,
    stdout_chunk: usize,
    stderr_chunk: usize,
}

struct Output {
    to_stderr: bool,
    bytes: Vec<u8>,
    written: usize,
}

impl Session<'_> {
    /// Waits for something and handles it.
    fn turn(&mut self, signals: &SignalFd) -> Result<Option<SessionEnd>, Error> {
        while self.pending.is_none() {
            match self.connection.inbox.next_frame()? {
                Some((kind, payload)) => {
                    if let Some(end) = self.take(kind, payload)? {
                        return Ok(Some(end));
                    }
                }
                None => break,
            }
        }
        let (signalled, readable, input, output) = {
            // Keys that are held back come on top of what is read.
            let read_stdin = self.stdin_open && self.window > self.keys.keys.len();
            let (receive, write) = match &self.pending {
                Some(Output { to_stderr: true, .. }) => (PollFlags::empty(), Some(&self.stdio.stderr)),
                Some(_) => (PollFlags::empty(), Some(&self.stdio.stdout)),
                None => (PollFlags::IN, None),
            };
            let mut fds = vec![PollFd::from_borrowed_fd(signals.fd(), PollFlags::IN)];
            fds.push(PollFd::new(&self.connection.socket, receive));
            let stdin_at = read_stdin.then(|| {
                fds.push(PollFd::new(&self.stdio.stdin, PollFlags::IN));
                fds.len() - 1
            });
            let output_at = write.map(|fd| {
                fds.push(PollFd::new(fd, PollFlags::OUT));
                fds.len() - 1
            });
            match poll(&mut fds, None) {
                Ok(_) => {}
                Err(Errno::INTR) => return Ok(None),
                Err(error) => return Err(Error::io("wait for", SOCKET)(error)),
            }
            let ready = |at: usize| !fds[at].revents().is_empty();
            (ready(0), ready(1) && self.pending.is_none(), stdin_at.is_some_and(ready), output_at.is_some_and(ready))
        };
        if signalled && let Some(end) = self.signals(signals)? {
            return Ok(Some(end));
        }
        if output && let Some(end) = self.write_output()? {
            return Ok(Some(end));
        }
        if input && let Some(end) = self.read_input()? {
            return Ok(Some(end));
        }
        if readable {
            self.connection.fill()?;
        }
        Ok(None)
    }

    fn take(&mut self, kind: FrameType, payload: Vec<u8>) -> Result<Option<SessionEnd>, Error> {
        match kind {
            FrameType::Stdout | FrameType::Stderr => {
                let to_stderr = kind == FrameType::Stderr;
                self.pending = (!payload.is_empty()).then_some(Output { to_stderr, bytes: payload, written: 0 });
            }
            FrameType::StdinTaken => {
                let taken = payload.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
                self.window = (self.window + taken as usize).min(STDIN_WINDOW);
            }
            FrameType::Exit => return parse::<ExitMessage>(&payload).map(|exit| Some(SessionEnd::Exited(exit.code))),
            FrameType::Failed => return Err(failure(&payload)),
            _ => {}
        }
        Ok(None)
    }

    fn write_output(&mut self) -> Result<Option<SessionEnd>, Error> {
        let Some(output) = &mut self.pending else { return Ok(None) };
        let (fd, chunk) = if output.to_stderr {
            (&self.stdio.stderr, self.stderr_chunk)
        } else {
            (&self.stdio.stdout, self.stdout_chunk)
        };
        let rest = &output.bytes[output.written..];
        match rustix::io::write(fd, &rest[..rest.len().min(chunk)]) {
            Ok(length) => output.written += length,
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) if output.to_stderr => output.written = output.bytes.len(),
            Err(Errno::PIPE) => return Ok(Some(SessionEnd::OutputClosed)),
            Err(error) => return Err(Error::io("write to", "stdout")(error)),
        }
        if output.written == output.bytes.len() {
            self.pending = None;
        }
        Ok(None)
    }

    fn read_input(&mut self) -> Result<Option<SessionEnd>, Error> {
        let mut chunk = [0u8; CHUNK];
        let room = (self.window - self.keys.keys.len()).min(CHUNK);
        let length = match rustix::io::read(&self.stdio.stdin, &mut chunk[..room]) {
            Ok(length) => length,
            Err(Errno::INTR | Errno::AGAIN) => return Ok(None),
            // EIO: a terminal whose other end is gone. A directory as stdin (EISDIR) has no input either.
            Err(_) => 0,
        };
        if length == 0 {
            self.stdin_open = false;
            return self.offer(&frame(FrameType::StdinEnd, b"")).map(|()| None);
        }
        let mut bytes = Vec::with_capacity(length);
        let detach_keys = self.options.terminal && !self.keys.keys.is_empty();
        if detach_keys && self.keys.filter(&chunk[..length], &mut bytes) {
            return Ok(Some(SessionEnd::Detached));
        }
        let bytes = if detach_keys { &bytes[..] } else { &chunk[..length] };
        if !bytes.is_empty() {
            self.window = self.window.saturating_sub(bytes.len());
            self.offer(&frame(FrameType::Stdin, bytes))?;
        }
        Ok(None)
    }

    fn signals(&mut self, signals: &SignalFd) -> Result<Option<SessionEnd>, Error> {
        while let Some(signal) = signals.next().map_err(Error::io("read", "signals"))? {
            if signal == SIGWINCH {
                self.send_size()?;
            } else if self.options.terminal {
                return Ok(Some(SessionEnd::Interrupted(signal)));
            } else {
                self.offer(&json_frame(FrameType::Signal, &SignalRequest { exec: None, signal }))?;
            }
        }
        Ok(None)
    }

    /// Sends something that the process may no longer be there for: its last words are still to be read then.
    fn offer(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match self.connection.send(bytes) {
            Err(Error::Shim(_)) => {
                self.stdin_open = false;
                Ok(())
            }
            other => other,
        }
    }

    /// The caller's terminal says how large it is; without one the session's keeps its size.
    fn send_size(&mut self) -> Result<(), Error> {
        let size = [&self.stdio.stdout, &self.stdio.stdin].into_iter().find_map(|fd| tcgetwinsize(fd).ok());
        let Some(size) = size else { return Ok(()) };
        let request = ResizeRequest { exec: None, rows: size.ws_row, cols: size.ws_col };
        self.offer(&json_frame(FrameType::Resize, &request))
    }
}

/// Finds the detach keys in what is typed; a beginning of them is held back until it is clear that they aren't.
struct DetachKeys<'a> {
    keys: &'a [u8],
    matched: usize,
}

impl DetachKeys<'_> {
    /// Moves what isn't part of the keys to `out`; true when they were typed.
    fn filter(&mut self, typed: &[u8], out: &mut Vec<u8>) -> bool {
        for byte in typed {
            if *byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return true;
                }
                continue;
            }
            out.extend_from_slice(&self.keys[..self.matched]);
            self.matched = usize::from(*byte == self.keys[0]);
            if self.matched == 0 {
                out.push(*byte);
            }
        }
        false
    }
}

/// A terminal that hands on every key; as before once it is dropped.
struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// None when it isn't a terminal.
    fn enter(terminal: &OwnedFd) -> Result<Option<Self>, Error> {
        if !isatty(terminal) {
            return Ok(None);
        }
        let name = "the terminal";
        let before = tcgetattr(terminal).map_err(Error::io("set", name))?;
        let terminal = terminal.try_clone().map_err(Error::io("set", name))?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Now, &raw).map_err(Error::io("set", name))?;
        Ok(Some(Self { terminal, before }))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_found_and_others_pass() {
        for (typed, passed, detached) in [
            (&[&b"ab"[..]][..], &b"ab"[..], false),
            (&[b"a\x10\x11b"], b"a", true),
            (&[b"a\x10", b"\x11"], b"a", true),
            (&[b"\x10", b"x\x11"], b"\x10x\x11", false),
            (&[b"\x10\x10\x11"], b"\x10", true),
        ] {
            let mut keys = DetachKeys { keys: &DETACH_KEYS, matched: 0 };
            let mut out = Vec::new();
            let found = typed.iter().any(|part| keys.filter(part, &mut out));
            assert_eq!((out.as_slice(), found), (passed, detached), "{typed:?}");
        }
    }
}
