//! What can go wrong between a parsed mount and a running container.

use orlop_model::mount::InvalidMount;
use orlop_model::{ErrorKind, Kind, VolumeName};
use std::path::PathBuf;

/// A mount that can't be resolved or applied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request itself is wrong.
    #[error(transparent)]
    Invalid(#[from] InvalidMount),
    /// `--mount` doesn't make its source.
    #[error("invalid mount config for type \"bind\": bind source path does not exist: {0}")]
    SourceMissing(String),
    /// A directory of that name would keep the socket from being made.
    #[error(
        "invalid mount config for type \"bind\": bind source path does not exist: {0} (no directory is made for the \
         name of a socket; start the program that listens on it first)"
    )]
    SocketMissing(String),
    /// A directory can't be mounted over a file.
    #[error(
        "invalid mount config for type \"bind\": bind source path does not exist: {path} (no directory is made for \
         it, since {target} is a file in the image; create the file first)"
    )]
    FileMissing {
        /// On the host.
        path: String,
        /// In the container.
        target: String,
    },
    /// The directory for a missing source can't be made.
    #[error("error while creating mount source path '{path}': {source}")]
    CreateSource {
        /// On the host.
        path: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The source can't be looked at.
    #[error("invalid mount config for type \"bind\": stat {path}: {source}")]
    Source {
        /// On the host.
        path: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// `bind-propagation` asks for more than the host's mount gives.
    #[error("path {source_path} is mounted on {} but it is not a {needed} mount", mount_point.display())]
    Propagation {
        /// On the host.
        source_path: String,
        /// Of the mount that it lies on.
        mount_point: PathBuf,
        /// `shared`, or `shared or slave`.
        needed: &'static str,
    },
    /// A volume is a directory.
    #[error("cannot mount volume over existing file, file exists {0}")]
    VolumeOverFile(String),
    /// A file and a directory don't fit on each other.
    #[error(
        "cannot mount the {} {source_path} on {target}, which is a {} in the image",
        if *source_is_directory { "directory" } else { "file" },
        if *source_is_directory { "file" } else { "directory" },
    )]
    Mismatch {
        /// On the host.
        source_path: String,
        /// In the container.
        target: String,
        /// Otherwise a file of any kind.
        source_is_directory: bool,
    },
    /// `volume-subpath` leads nowhere.
    #[error("cannot access volume subpath {subpath:?} of volume {volume}: {source}")]
    Subpath {
        /// Whose.
        volume: VolumeName,
        /// As typed.
        subpath: String,
        /// The kernel's answer.
        source: orlop_sys::Error,
    },
    /// The kernel is too old.
    #[error("invalid tmpfs option \"noswap\": it needs Linux 6.4")]
    NoSwap,
    /// `:z` and `:Z` would have no effect.
    #[error("relabelling {0} is not supported while SELinux is enforcing: leave out z and Z and label it with chcon")]
    Relabel(String),
    /// The store's answer.
    #[error(transparent)]
    Volume(#[from] orlop_volumes::Error),
    /// A kernel call failed.
    #[error("mount {target}: {source}")]
    Mount {
        /// In the container.
        target: String,
        /// The kernel's answer.
        source: orlop_sys::Error,
    },
    /// A kernel call that is about no mount in particular failed.
    #[error(transparent)]
    Kernel(#[from] orlop_sys::Error),
    /// It failed, and then taking back what was done failed as well.
    #[error("{cause}; cleaning up: {cleanup}")]
    CleanUp {
        /// What failed first.
        cause: Box<Self>,
        /// What failed then.
        cleanup: Box<Self>,
    },
}

impl Kind for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(error) => error.kind(),
            Self::Volume(error) => error.kind(),
            Self::Mount { source, .. } | Self::Kernel(source) => source.kind(),
            Self::CreateSource { source, .. } | Self::Source { source, .. } => match Kind::kind(source) {
                ErrorKind::Internal => ErrorKind::Invalid,
                kind => kind,
            },
            Self::CleanUp { cause, .. } => cause.kind(),
            Self::NoSwap | Self::Relabel(_) => ErrorKind::Unsupported,
            Self::VolumeOverFile(_) => ErrorKind::Conflict,
            Self::SourceMissing(_)
            | Self::SocketMissing(_)
            | Self::FileMissing { .. }
            | Self::Propagation { .. }
            | Self::Mismatch { .. }
            | Self::Subpath { .. } => ErrorKind::Invalid,
        }
    }
}
