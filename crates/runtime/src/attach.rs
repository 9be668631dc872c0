//! The client's side of the shim's socket.
use crate::Error;
use crate::spec::ProcessInput;
use std::os::fd::OwnedFd;
use std::path::Path;

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
    /// Leaves the session when typed; empty: none. Docker's default is Ctrl-P Ctrl-Q.
    pub detach_keys: Vec<u8>,
}

/// Docker's default detach keys: Ctrl-P Ctrl-Q.
pub const DETACH_KEYS: [u8; 2] = [16, 17];

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// The process ended with this exit code (128 + n when a signal ended it).
    Exited(i32),
    /// The user typed the detach keys.
    Detached,
    /// The caller's stdout was closed; the container goes on.
    OutputClosed,
}

/// A connection to a shim.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
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

use crate::launch::FirstClient;
use crate::protocol::ShimState;

const BUILDING: &str = "attach is being built";

impl Stdio {
    /// Duplicates of this process's own three streams.
    pub fn inherit() -> Result<Self, Error> {
        Err(Error::Invalid(BUILDING.into()))
    }
}

impl Connection {
    /// Connects to the shim at `<run directory>/shim.sock`.
    pub fn connect(dir: &Path) -> Result<Self, Error> {
        let _ = dir;
        Err(Error::Invalid(BUILDING.into()))
    }

    /// A connection to a shim that is yet to be launched, in the foreground; its far end goes into the launch request.
    pub fn first_client(options: &SessionOptions) -> Result<(Self, FirstClient), Error> {
        let _ = options;
        Err(Error::Invalid(BUILDING.into()))
    }
}

/// Joins a running container's first process; the connection then goes into [`session`].
pub fn attach(dir: &Path, options: &SessionOptions) -> Result<Connection, Error> {
    let _ = (dir, options);
    Err(Error::Invalid(BUILDING.into()))
}

/// Runs a further process and returns once it runs; the connection then goes into [`session`].
pub fn exec(dir: &Path, id: &str, process: ProcessInput, options: &SessionOptions) -> Result<Connection, Error> {
    let _ = (dir, id, process, options);
    Err(Error::Invalid(BUILDING.into()))
}

/// Runs a further process that nobody follows and returns once it runs.
pub fn exec_detached(dir: &Path, id: &str, process: ProcessInput) -> Result<(), Error> {
    let _ = (dir, id, process);
    Err(Error::Invalid(BUILDING.into()))
}

/// Copies between the caller's streams and the session until one of its ends.
pub fn session(connection: Connection, options: &SessionOptions, stdio: Stdio) -> Result<SessionEnd, Error> {
    let _ = (connection.socket, options, stdio);
    Err(Error::Invalid(BUILDING.into()))
}

/// Sends a signal to the first process or an exec session.
pub fn signal(dir: &Path, exec: Option<&str>, signal: i32) -> Result<(), Error> {
    let _ = (dir, exec, signal);
    Err(Error::Invalid(BUILDING.into()))
}

/// Tells the shim that the user is stopping the container, before it is signalled.
pub fn stopping(dir: &Path) -> Result<(), Error> {
    let _ = dir;
    Err(Error::Invalid(BUILDING.into()))
}

/// Sets a terminal's size.
pub fn resize(dir: &Path, exec: Option<&str>, rows: u16, cols: u16) -> Result<(), Error> {
    let _ = (dir, exec, rows, cols);
    Err(Error::Invalid(BUILDING.into()))
}

/// Asks the shim how it is; `NotRunning` when there is none.
pub fn state(dir: &Path) -> Result<ShimState, Error> {
    let _ = dir;
    Err(Error::Invalid(BUILDING.into()))
}

/// Waits for the first process's end without any of its output, up to `timeout`; none when it still runs then.
pub fn wait(dir: &Path, timeout: Option<std::time::Duration>) -> Result<Option<i32>, Error> {
    let _ = (dir, timeout);
    Err(Error::Invalid(BUILDING.into()))
}
