//! What can go wrong with volumes, in Docker's words where it has some.

use orlop_model::{ErrorKind, Id, Kind, VolumeName};
use std::path::PathBuf;

/// A failure of a verb on volumes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No volume has this name.
    #[error("get {0}: no such volume")]
    NoSuchVolume(VolumeName),
    /// A volume of this name is there, of another driver.
    #[error("create {name}: driver '{driver}' already has volume '{name}': volume name must be unique")]
    OtherDriver {
        /// The volume.
        name: VolumeName,
        /// The driver that has it.
        driver: String,
    },
    /// A volume of this name is there, with other options.
    #[error(
        "create {name}: volume '{name}' exists with other options: volume name must be unique; use another name, or \
         remove it first"
    )]
    OtherOptions {
        /// The volume.
        name: VolumeName,
    },
    /// The driver is neither built in nor a plugin that is installed.
    #[error(
        "create {name}: error looking up volume plugin {driver}: plugin \"{driver}\" not found; a plugin is installed by \
         running its daemon, which puts a socket into /run/docker/plugins, and this version can use none yet: leave \
         the driver away, or use \"local\""
    )]
    NoSuchDriver {
        /// The volume.
        name: VolumeName,
        /// The driver that was asked for.
        driver: String,
    },
    /// An option of the local driver can't be used.
    #[error("create {name}: {source}")]
    Options {
        /// The volume.
        name: VolumeName,
        /// What is wrong.
        source: InvalidOptions,
    },
    /// Something lies where the volume's directory belongs, and no row knows it.
    #[error(
        "create {name}: {} exists but belongs to no volume; move it away, or remove it when its content is not needed",
        path.display()
    )]
    Stray {
        /// The volume.
        name: VolumeName,
        /// What is in the way.
        path: PathBuf,
    },
    /// Containers refer to it.
    #[error("remove {name}: volume is in use - [{}]", containers.iter().map(Id::hex).collect::<Vec<_>>().join(", "))]
    InUse {
        /// The volume.
        name: VolumeName,
        /// Running or not.
        containers: Vec<Id>,
    },
    /// No container refers to it, and yet the kernel has it mounted.
    #[error("remove {name}: volume is in use - mounted at {at} by process {process}; unmount it first")]
    MountedElsewhere {
        /// The volume.
        name: VolumeName,
        /// Where, in that process's mount namespace.
        at: String,
        /// One of the processes in that mount namespace.
        process: String,
    },
    /// The device of a volume can't be mounted.
    #[error("error while mounting volume '{}': failed to mount local volume: mount {device}:{}: {source}", path.display(), path.display())]
    Mount {
        /// `_data`.
        path: PathBuf,
        /// The volume's option `device`.
        device: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The image has something else than a directory where the volume goes.
    #[error("source {path} is not a directory; volume {name} can only be mounted over a directory")]
    NotADirectory {
        /// The volume.
        name: VolumeName,
        /// The path in the image.
        path: String,
    },
    /// The trash lies on another file system.
    #[error(
        "remove {name}: {} lies on another file system, so it can't be moved there and stays; put that directory on the \
         same file system as what is to be removed", trash.display()
    )]
    TrashElsewhere {
        /// What was to be removed.
        name: String,
        /// The directory of the trash.
        trash: PathBuf,
    },
    /// Nothing of this name or id lies in the trash.
    #[error("restore {0}: nothing of that name or id is in the trash; `orlop volume trash ls` lists what is")]
    NotInTrash(String),
    /// Several things in the trash have this prefix.
    #[error("restore {0}: several ids in the trash begin with that; give more digits")]
    AmbiguousTrash(String),
    /// Not a volume.
    #[error("restore {0}: this is a container's writable layer; only volumes can be restored by this version")]
    NotAVolume(String),
    /// The name is taken by another volume.
    #[error(
        "restore {name}: a volume of that name exists; `orlop volume rm {name}` moves it to the trash as well, and then \
         `orlop volume restore {}` brings back the one from before", id.short()
    )]
    RestoreExists {
        /// Where the one to bring back lies in the trash: once the other has gone there too, the name means that one.
        id: Id,
        /// The volume.
        name: VolumeName,
    },
    /// A directory of the store is missing.
    #[error(
        "volume {name}: {} is missing; nothing was changed: restore that directory from a backup, or forget the volume \
         with `orlop volume rm {name}`", path.display()
    )]
    Missing {
        /// The volume.
        name: VolumeName,
        /// What should be there.
        path: PathBuf,
    },
    /// A filter can't be used.
    #[error(transparent)]
    Filter(#[from] orlop_model::filter::InvalidFilter),
    /// The database or a lock failed.
    #[error(transparent)]
    State(#[from] orlop_state::Error),
    /// A kernel call failed.
    #[error(transparent)]
    Sys(#[from] orlop_sys::Error),
    /// The image's content could not be copied in; the volume is as it was.
    #[error("initialise volume {name}: {source}")]
    Initialise {
        /// The volume.
        name: VolumeName,
        /// What failed.
        source: Box<Error>,
    },
}

/// Options of the local driver that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOptions {
    /// Docker doesn't know the key either.
    #[error("invalid option key: {0:?}")]
    Key(String),
    /// A key that the others need.
    #[error("missing required option: {0:?}")]
    Missing(&'static str),
    /// Docker's, but not here.
    #[error("option {key}={value} of the local driver is not supported by this version; {instead}")]
    Unsupported {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What can be used.
        instead: &'static str,
    },
    /// A mount option that is not known.
    #[error("invalid mount option {0:?} in option o of the local driver")]
    Flag(String),
    /// A device that is no absolute path.
    #[error("option device={0} of the local driver must be an absolute path")]
    Device(String),
}

impl Error {
    /// An error of a call on a path.
    pub(crate) fn io(call: &'static str, path: impl AsRef<std::path::Path>, source: impl Into<std::io::Error>) -> Self {
        Self::Sys(orlop_sys::Error::io(call, path, source))
    }

    /// Whether the kernel answered with this number.
    pub(crate) fn is(&self, errno: rustix::io::Errno) -> bool {
        match self {
            Self::Sys(error) => error.is(errno),
            Self::Mount { source, .. } => source.raw_os_error() == Some(errno.raw_os_error()),
            _ => false,
        }
    }
}

impl Kind for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchVolume(_) | Self::NotInTrash(_) | Self::NoSuchDriver { .. } => ErrorKind::NotFound,
            Self::OtherDriver { .. }
            | Self::OtherOptions { .. }
            | Self::Stray { .. }
            | Self::InUse { .. }
            | Self::MountedElsewhere { .. }
            | Self::RestoreExists { .. } => ErrorKind::Conflict,
            Self::Options { source: InvalidOptions::Unsupported { .. }, .. }
            | Self::NotAVolume(_)
            | Self::TrashElsewhere { .. } => ErrorKind::Unsupported,
            Self::Options { .. } | Self::NotADirectory { .. } | Self::AmbiguousTrash(_) => ErrorKind::Invalid,
            Self::Mount { source, .. } => match Kind::kind(source) {
                ErrorKind::NoSpace => ErrorKind::NoSpace,
                _ => ErrorKind::Invalid,
            },
            Self::Missing { .. } => ErrorKind::Corrupt,
            Self::Filter(error) => error.kind(),
            Self::State(error) => error.kind(),
            Self::Sys(error) => error.kind(),
            Self::Initialise { source, .. } => source.kind(),
        }
    }
}
