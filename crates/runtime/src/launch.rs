//! Starting a container: in the engine's process, up to the moment when its first process runs.

use crate::Error;
use crate::protocol::AttachRequest;
use crate::shim::ShimConfig;
use crate::spec::SpecInput;
use orlop_model::Timestamp;
use std::os::fd::OwnedFd;

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
    /// When it was started.
    pub started_at: Timestamp,
}

/// Starts the container and its shim, and returns when its first process runs (or has already ended).
///
/// On an error nothing of the runtime's is left, no exit record is written and `reap` isn't called.
pub fn launch(request: LaunchRequest) -> Result<Launched, Error> {
    let _ = request;
    Err(Error::Invalid("launch is being built".into()))
}
