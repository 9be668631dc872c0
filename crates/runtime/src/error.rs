//! What can go wrong while containers are run.

use orlop_model::{ErrorKind, Kind};
use std::path::{Path, PathBuf};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program to run isn't in the container (127).
    #[error("{0}")]
    CommandNotFound(String),
    /// The program to run can't be executed (126).
    #[error("{0}")]
    CommandNotExecutable(String),
    /// The OCI runtime's binary isn't on this machine.
    #[error(
        "the OCI runtime {0} was not found; install it (apt-get install runc) or name another in the configuration"
    )]
    RuntimeMissing(String),
    /// The OCI runtime refused; its own words in one line.
    #[error("{0}")]
    Runtime(String),
    /// The request makes no sense for this container.
    #[error("{0}")]
    Invalid(String),
    /// The container or exec session isn't running.
    #[error("{0}")]
    NotRunning(String),
    /// The shim cut this client off or broke the protocol.
    #[error("{0}")]
    Shim(String),
    /// An IO error and where it happened.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was being done, as a verb ("open", "write").
        action: &'static str,
        /// The path it was done to.
        path: PathBuf,
        /// The error.
        source: std::io::Error,
    },
}

impl Error {
    /// An IO error with its path; for `map_err`.
    pub fn io<E: Into<std::io::Error>>(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(E) -> Self {
        move |source| Self::Io { action, path: path.as_ref().to_path_buf(), source: source.into() }
    }
}

impl Kind for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::CommandNotFound(_) => ErrorKind::CommandNotFound,
            Self::CommandNotExecutable(_) => ErrorKind::CommandNotExecutable,
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::NotRunning(_) => ErrorKind::Conflict,
            Self::Io { source, .. } => Kind::kind(source),
            Self::RuntimeMissing(_) | Self::Runtime(_) | Self::Shim(_) => ErrorKind::Internal,
        }
    }
}
