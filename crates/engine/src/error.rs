//! What a verb answers when it can't do its work.

use orlop_model::{ErrorKind, Kind};
use std::path::PathBuf;

/// A verb that failed. The texts are Docker's where Docker has any.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No container has this name, id or prefix of an id.
    #[error("No such container: {0}")]
    NoSuchContainer(String),
    /// A path of `cp` isn't in the container.
    #[error("{0}")]
    NoSuchPath(String),
    /// What isn't there, and names of the same kind that are close to it; for a hint.
    #[error("{0}")]
    Near(Box<Error>, Vec<String>),
    /// Neither a container nor an image nor a volume has this name.
    #[error("No such object: {0}")]
    NoSuchObject(String),
    /// Several ids begin with this.
    #[error("multiple IDs found with provided prefix: {0}")]
    Ambiguous(String),
    /// Another container has the name.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". You have to remove (or rename) that container to be able to reuse that name."
    )]
    NameTaken {
        /// The name.
        name: String,
        /// The id of who has it.
        holder: String,
    },
    /// The image is not on this machine; names that are close to it are for a hint.
    #[error("No such image: {0}")]
    ImageMissing(String, Vec<String>),
    /// No volume can have this name.
    #[error("get {0}: no such volume")]
    NoSuchVolume(String),
    /// The container's state forbids it.
    #[error("{0}")]
    Conflict(String),
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// Docker can do it and this engine can't yet.
    #[error("{0}")]
    Unsupported(String),
    /// The image or the container has no program to run.
    #[error("no command specified")]
    NoCommand,
    /// A flag makes no sense.
    #[error(transparent)]
    Option(#[from] orlop_model::options::InvalidOption),
    /// The configuration can't be used.
    #[error("{}: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file or directory of ours can't be used.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The database or a lock.
    #[error(transparent)]
    State(#[from] orlop_state::Error),
    /// A kernel call.
    #[error(transparent)]
    Sys(#[from] orlop_sys::Error),
    /// A layer.
    #[error(transparent)]
    Layers(#[from] orlop_layers::Error),
    /// An image.
    #[error(transparent)]
    Images(#[from] orlop_images::Error),
    /// A volume.
    #[error(transparent)]
    Volumes(#[from] orlop_volumes::Error),
    /// A mount.
    #[error(transparent)]
    Mounts(#[from] orlop_mounts::Error),
    /// A container's program.
    #[error(transparent)]
    Runtime(#[from] orlop_runtime::Error),
}

impl Error {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

impl Error {
    /// With names that may have been meant.
    pub(crate) fn near(self, names: Vec<String>) -> Self {
        if names.is_empty() { self } else { Self::Near(Box::new(self), names) }
    }
}

impl Kind for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchContainer(_)
            | Self::NoSuchPath(_)
            | Self::NoSuchObject(_)
            | Self::NoSuchVolume(_)
            | Self::ImageMissing(..) => ErrorKind::NotFound,
            Self::NameTaken { .. } | Self::Conflict(_) => ErrorKind::Conflict,
            Self::Ambiguous(_) | Self::Invalid(_) | Self::Option(_) | Self::NoCommand | Self::Config { .. } => {
                ErrorKind::Invalid
            }
            Self::Unsupported(_) => ErrorKind::Unsupported,
            Self::Near(error, _) => error.kind(),
            Self::Io { source, .. } => Kind::kind(source),
            Self::State(error) => error.kind(),
            Self::Sys(error) => error.kind(),
            Self::Layers(error) => error.kind(),
            Self::Images(error) => error.kind(),
            Self::Volumes(error) => error.kind(),
            Self::Mounts(error) => error.kind(),
            Self::Runtime(error) => error.kind(),
        }
    }
}
