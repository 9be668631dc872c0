//! The shim: the process beside each running container that holds its terminal, writes its log, serves attach and exec,
//! and notices its end. It opens no database.
//!
//! It is started by [`crate::launch()`] with everything it needs in `shim.json`; on its stdin it finds a pipe to tell how
//! the start went, on its stdout the first client's socket (or /dev/null), on its stderr `shim.log`. At the end it
//! removes what the runtime left, writes the exit record, answers its clients and starts `reap`, in this order.

mod adopt;
mod cgroup;
mod client;
mod connections;
mod end;
mod exec;
mod health;
mod oom;
mod processes;
mod serve;
mod session;
mod streams;

pub use health::{HealthConfig, HealthResult, HealthState, HealthStatus};
pub(crate) use serve::Report;
pub(crate) use session::socket_address;

use crate::Error;
use crate::oci::Runc;
use crate::protocol::AttachRequest;
use orlop_model::Timestamp;
use orlop_sys::durable;
use rustix::io::fcntl_dupfd_cloexec;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::IsTerminal;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// The socket's name in the run directory.
pub const SOCKET: &str = "shim.sock";
/// The exit record's name in the run directory, where it goes when the data root is full.
pub const EXIT_RECORD: &str = "exit.json";
/// A file of this name in the run directory says that the container is paused.
pub const PAUSED: &str = "paused";
/// The exit code of a container whose end nobody saw.
pub const UNKNOWN_EXIT: i32 = 255;
/// The config's name in the run directory.
pub(crate) const CONFIG: &str = "shim.json";

/// `shim.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ShimFile {
    /// 1.
    pub version: u32,
    pub config: ShimConfig,
    pub first_client: Option<AttachRequest>,
}

/// What a shim is told; `shim.json` in its directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimConfig {
    /// The container's id.
    pub id: String,
    /// Its run directory, which is the OCI bundle too.
    pub dir: PathBuf,
    /// The OCI runtime.
    pub runtime: Runc,
    /// The first process has a terminal.
    pub terminal: bool,
    /// `-i`: stdin stays open for clients; otherwise it is /dev/null.
    pub open_stdin: bool,
    /// Stdin ends when the first client that attached to it leaves or ends it (Docker's StdinOnce).
    pub stdin_once: bool,
    /// Where output is kept; none: only clients see it.
    pub log: Option<LogConfig>,
    /// Where the exit record goes, in the data root (`containers/ID/exit.json`).
    pub exit_record: PathBuf,
    /// The exit record survives a power cut; false for what nobody has been told of (`run --rm`).
    pub durable: bool,
    /// Its health check.
    #[serde(default)]
    pub health: Option<HealthConfig>,
    /// The command to run when the kernel has killed something in it for lack of memory and it goes on; empty: none.
    #[serde(default)]
    pub oom: Vec<String>,
    /// The command to run after the exit record is written, by absolute path; empty: none.
    pub reap: Vec<String>,
}

/// A container's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    /// The newest file; older ones have `.1`, `.2` … appended.
    pub path: PathBuf,
    /// Bytes after which a new file is begun.
    pub max_size: u64,
    /// How many files are kept, at least 1.
    pub max_files: u32,
    /// Added to each line (`--log-opt labels`, `env`, `tag`).
    #[serde(default)]
    pub attrs: BTreeMap<String, String>,
}

impl LogConfig {
    /// 5 files of 20 MB, so that a log can't fill the disk.
    pub fn new(path: PathBuf) -> Self {
        Self { path, max_size: 20_000_000, max_files: 5, attrs: BTreeMap::new() }
    }
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Version of this file's format: 1.
    pub version: u32,
    /// The container.
    pub id: String,
    /// 128 + n when signal n ended it.
    pub code: i32,
    /// The kernel killed something in it for lack of memory.
    pub oom_killed: bool,
    /// That was told while it ran.
    #[serde(default)]
    pub oom_told: bool,
    /// When the first process was started.
    pub started_at: Timestamp,
    /// When its end was noticed.
    pub finished_at: Timestamp,
    /// The user had asked to stop it.
    pub stopping: bool,
    /// Log lines that could not be written.
    pub log_lines_dropped: u64,
    /// Nobody could tell how it ended; `code` is [`UNKNOWN_EXIT`].
    #[serde(default)]
    pub unknown: bool,
    /// How its health check saw it last.
    #[serde(default)]
    pub health: Option<HealthState>,
}

impl ExitRecord {
    /// Reads it; none when there is none.
    pub fn read(path: &Path) -> Result<Option<Self>, Error> {
        read_json(path)
    }

    /// Reads it where it belongs or, when that disk was full, in the run directory.
    pub fn find(path: &Path, run_dir: &Path) -> Result<Option<Self>, Error> {
        match Self::read(path)? {
            Some(record) => Ok(Some(record)),
            None => Self::read(&run_dir.join(EXIT_RECORD)),
        }
    }

    fn write(&self, path: &Path, durable: bool) -> Result<(), Error> {
        write_json(path, self, durable)
    }
}

fn read_json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Option<T>, Error> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", path)(error)),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| Error::io("read", path)(std::io::Error::from(error)))
}

fn write_json(path: &Path, value: &impl Serialize, durable: bool) -> Result<(), Error> {
    let bytes = serde_json::to_vec(value).map_err(|error| Error::io("write", path)(std::io::Error::from(error)))?;
    let written = if durable {
        durable::write_file(path, &bytes, 0o600)
    } else {
        durable::write_file_volatile(path, &bytes, 0o600)
    };
    written.map_err(|error| Error::Runtime(error.to_string()))
}

/// One exec session; `exec-ID.json` in the run directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRecord {
    /// The session's id.
    pub id: String,
    /// Program and arguments.
    pub args: Vec<String>,
    /// It has a terminal.
    pub terminal: bool,
    /// As the host sees it; 0 before it runs.
    pub pid: u32,
    /// It runs.
    pub running: bool,
    /// Once it has ended.
    pub exit_code: Option<i32>,
}

impl ExecRecord {
    /// Reads a session's record; none when there never was one, or so many came after it that it was dropped.
    pub fn read(run_dir: &Path, id: &str) -> Result<Option<Self>, Error> {
        read_json(&Self::path(run_dir, id))
    }

    fn path(run_dir: &Path, id: &str) -> PathBuf {
        run_dir.join(format!("exec-{id}.json"))
    }

    fn write(&self, run_dir: &Path) -> Result<(), Error> {
        write_json(&Self::path(run_dir, &self.id), self, false)
    }
}

/// The shim's process, from its run directory to its exit code. Called by the binary before any thread is started, and
/// only by what [`crate::launch()`] has spawned.
pub fn main(dir: &Path) -> u8 {
    told(run(dir, false))
}

/// The process of a shim for a container that has lost its own; see [`main`] and [`crate::launch::adopt`].
pub fn adopt_main(dir: &Path) -> u8 {
    told(run(dir, true))
}

fn told(ended: Result<(), Error>) -> u8 {
    match ended {
        Ok(()) => 0,
        Err(error) => {
            note(&error.to_string());
            1
        }
    }
}

fn run(dir: &Path, adopt: bool) -> Result<(), Error> {
    let handed = Error::io::<rustix::io::Errno>;
    // A person who types the command gets an answer instead of a process that takes the terminal's end away.
    if std::io::stdin().is_terminal() {
        return Err(Error::Invalid("the shim is started by the engine, not by hand".into()));
    }
    let launcher = fcntl_dupfd_cloexec(std::io::stdin(), 3).map_err(handed("take over the pipe of", dir))?;
    let first = fcntl_dupfd_cloexec(std::io::stdout(), 3).map_err(handed("take over the client of", dir))?;
    let null = session::null()?;
    rustix::stdio::dup2_stdin(&null).map_err(handed("close the pipe of", dir))?;
    rustix::stdio::dup2_stdout(&null).map_err(handed("close the client of", dir))?;
    let first = fs::File::from(first);
    let is_socket = first.metadata().map_err(Error::io("stat the client of", dir))?.file_type().is_socket();
    // The runtime ends as soon as the program runs; its children then become the shim's.
    let own = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(own)).map_err(handed("become the subreaper of", dir))?;
    let path = dir.join(CONFIG);
    let file: ShimFile = read_json(&path)?.ok_or_else(|| Error::Invalid(format!("{} is missing", path.display())))?;
    let begin = if adopt { serve::Begin::Adopt } else { serve::Begin::Start(is_socket.then(|| first.into())) };
    serve::serve(file, launcher, begin)
}

/// Writes a line about something that went wrong but harms nobody to the shim's stderr, which is `shim.log`.
pub(crate) fn note(text: &str) {
    use std::io::Write;
    // If even that can't be written there is nobody left to tell.
    let _ = writeln!(std::io::stderr(), "{} {text}", Timestamp::now());
}
