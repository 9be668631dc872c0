//! The shim.

use crate::Error;
use crate::oci::Runc;
use orlop_model::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

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
}

impl LogConfig {
    /// 5 files of 20 MB, so that a log can't fill the disk.
    pub fn new(path: PathBuf) -> Self {
        Self { path, max_size: 20_000_000, max_files: 5 }
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
    /// When the first process was started.
    pub started_at: Timestamp,
    /// When its end was noticed.
    pub finished_at: Timestamp,
    /// The user had asked to stop it.
    pub stopping: bool,
    /// Log lines that could not be written.
    pub log_lines_dropped: u64,
}

impl ExitRecord {
    /// Reads it; none when there is none.
    pub fn read(path: &Path) -> Result<Option<Self>, Error> {
        let _ = path;
        Ok(None)
    }
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

/// The shim's process, from its directory to its exit code. Called by the binary before any thread is started.
pub fn main(dir: &Path) -> u8 {
    let _ = dir;
    125
}
