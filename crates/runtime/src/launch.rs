//! Starting a container: in the engine's process, up to the moment when its first process runs.

use crate::Error;
use crate::oci::SYSTEM_PATH;
use crate::protocol::AttachRequest;
use crate::shim::{CONFIG, Report, ShimConfig, ShimFile};
use crate::spec::{self, SpecInput};
use orlop_model::Timestamp;
use orlop_sys::process::{Spawn, Ties, spawn};
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Everything that a launch needs.
#[derive(Debug)]
pub struct LaunchRequest {
    /// The container.
    pub spec: SpecInput,
    /// What the shim is told; its `dir` is made if it is missing.
    pub shim: ShimConfig,
    /// How to call the shim, by absolute path; the run directory is appended
    /// (`/proc/self/exe` resolved, `internal`, `shim`).
    pub shim_command: Vec<String>,
    /// The client that sees everything from the first byte on ([`crate::attach::Connection::first_client`]).
    pub client: Option<FirstClient>,
}

/// The far end of a connection whose near end the caller keeps.
#[derive(Debug)]
pub struct FirstClient {
    /// The shim's end of a socket pair.
    pub socket: OwnedFd,
    /// What it wants.
    pub attach: AttachRequest,
}

/// A container that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launched {
    /// Its first process, as the host sees it.
    pub pid: u32,
    /// When that process was started, in clock ticks since boot (proc(5)).
    pub pid_start: u64,
    /// When it was started.
    pub started_at: Timestamp,
}

/// Starts the container and its shim, and returns when its first process runs (or has already ended).
///
/// On an error nothing of the runtime's is left, no exit record is written and `reap` isn't called.
pub fn launch(request: LaunchRequest) -> Result<Launched, Error> {
    let LaunchRequest { spec, mut shim, shim_command, client } = request;
    let dir = shim.dir.clone();
    // Looked up here, where the caller's PATH is, and before anything is made.
    shim.runtime = shim.runtime.resolved()?;
    let (client, first_client) = client.map(|client| (client.socket, client.attach)).unzip();
    prepare_directory(&dir)?;
    write(&dir.join("config.json"), &spec::build(&spec))?;
    write(&dir.join(CONFIG), &ShimFile { version: 1, config: shim, first_client })?;
    let report = spawn_shim(&dir, shim_command, client)?;
    match report {
        Some(Report::Started { pid, pid_start, started_at }) => Ok(Launched { pid, pid_start, started_at }),
        Some(Report::Failed(failure)) => Err(failure.into()),
        None => Err(Error::Shim(format!("the shim ended before the container ran; see {}", dir.join(LOG).display()))),
    }
}

/// Gives a container whose shim was killed a new one. `command` is as [`LaunchRequest::shim_command`], of the verb that
/// calls [`crate::shim::adopt_main`]. The caller sees to it that there is no shim, and that only one adopts.
pub fn adopt(dir: &Path, command: Vec<String>) -> Result<(), Error> {
    match spawn_shim(dir, command, None)? {
        Some(Report::Started { .. }) => Ok(()),
        Some(Report::Failed(failure)) => Err(failure.into()),
        None => Err(Error::Shim(format!("the new shim ended at once; see {}", dir.join(LOG).display()))),
    }
}

/// Where the shim tells what went wrong without harm.
const LOG: &str = "shim.log";

/// Only root may look: the spec holds the environment.
fn prepare_directory(dir: &Path) -> Result<(), Error> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(Error::io("create", dir))
}

fn write(path: &Path, value: &impl serde::Serialize) -> Result<(), Error> {
    let bytes = serde_json::to_vec(value).map_err(|error| Error::io("write", path)(std::io::Error::from(error)))?;
    fs::write(path, bytes).map_err(Error::io("write", path))
}

/// Starts the shim and waits for its report; none when it ended without one.
fn spawn_shim(dir: &Path, mut command: Vec<String>, client: Option<OwnedFd>) -> Result<Option<Report>, Error> {
    let program = command.first().cloned().unwrap_or_default();
    command.push(dir.to_string_lossy().into_owned());
    let (read, report) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(Error::io("start", &program))?;
    let null = File::options().read(true).write(true).open("/dev/null").map_err(Error::io("open", "/dev/null"))?;
    let log = dir.join(LOG);
    let log_file = File::options().create(true).append(true).mode(0o600).open(&log).map_err(Error::io("open", &log))?;
    let first = client.as_ref().map_or(null.as_fd(), OwnedFd::as_fd);
    let fds = vec![report.as_fd(), first, log_file.as_fd()];
    let request = Spawn {
        program: PathBuf::from(&program),
        args: command,
        env: vec![format!("PATH={SYSTEM_PATH}")],
        cwd: Some("/".into()),
        fds,
        ties: Ties::None,
    };
    spawn(&request).map_err(Error::io("start", &program))?;
    drop((report, client));
    let mut text = String::new();
    File::from(read).read_to_string(&mut text).map_err(Error::io("hear from", &program))?;
    Ok(serde_json::from_str(&text).ok())
}
