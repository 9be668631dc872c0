//! What can go wrong with a layer.

use orlop_model::{ErrorKind, Id, Kind};
use rustix::io::Errno;
use std::io;
use std::path::{Path, PathBuf};

/// The result of everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with a layer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A call on a file of the store failed.
    #[error("can't {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file that it was tried on.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The stream that holds the archive could not be read.
    #[error("can't read the layer: {0}")]
    Read(#[source] io::Error),
    /// The archive could not be written.
    #[error("can't write the archive: {0}")]
    Write(#[source] io::Error),
    /// A call to the kernel failed.
    #[error(transparent)]
    Sys(#[from] orlop_sys::Error),
    /// The archive is not a layer, or is damaged.
    #[error("invalid layer archive: {0}")]
    Archive(String),
    /// One entry of the archive can't be unpacked.
    #[error("invalid layer archive: entry {entry:?}: {reason}")]
    Entry {
        /// The name as the archive gives it.
        entry: String,
        /// What is wrong with it.
        reason: String,
    },
    /// What brings a layer's archive back is damaged.
    #[error("{} is damaged: {reason}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A layer without a record.
    #[error("the layer in {} has no record of its archive", directory.display())]
    NoRecord {
        /// The layer's directory.
        directory: PathBuf,
    },
    /// A file of a layer is not what it was when it was stored.
    #[error("{} {reason}", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// How it differs.
        reason: &'static str,
    },
    /// A file that an image can't hold.
    #[error(
        "{} can't be in an image: there a name that begins with .wh. says that something is removed; rename or remove it \
         in the container", path.display()
    )]
    WhiteoutName {
        /// In the container.
        path: PathBuf,
    },
    /// The archive needs more than the limits allow.
    #[error("layer refused: {0}")]
    Limit(String),
    /// The layer is compressed in a way that layers are not compressed in.
    #[error("the layer is compressed with {0}, which is not supported: use gzip, zstd or none")]
    Compression(&'static str),
    /// The layer does not fit the layers below it.
    #[error("layer does not fit what lies below it: {0}")]
    Chain(String),
    /// More layers than a mount can have.
    #[error("{count} layers are too many: {driver} mounts at most {max}")]
    TooManyLayers {
        /// How many were asked for.
        count: usize,
        /// How many there can be.
        max: usize,
        /// Which driver says so.
        driver: &'static str,
    },
    /// The kernel refused a mount.
    #[error("can't mount layer {id}: {reason}", id = id.short())]
    Mount {
        /// The writable layer.
        id: Id,
        /// What was tried and what the kernel said.
        reason: String,
    },
    /// Mounted where this process can't see it.
    #[error("layer {id} is mounted in the mount namespace of process {pid}: stop that process first", id = id.short())]
    MountedElsewhere {
        /// The writable layer.
        id: Id,
        /// A process in that namespace.
        pid: u32,
    },
    /// No such layer on disk.
    #[error("no such layer: {0}")]
    NotFound(Id),
    /// The driver can't work on this file system.
    #[error("storage driver {driver} can't be used on {}: {reason}", path.display())]
    DriverUnusable {
        /// The driver.
        driver: &'static str,
        /// The data root.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The database said no.
    #[error(transparent)]
    State(#[from] orlop_state::Error),
}

impl Error {
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        Self::Io { action, path: path.as_ref().to_owned(), source: source.into() }
    }

    /// Why reading a [`crate::LayerArchive`] failed.
    pub fn of_reader(error: io::Error) -> Self {
        error.downcast::<Self>().unwrap_or_else(Self::Read)
    }

    /// Whether it tells of damage: what is stored is gone, has changed, or doesn't come back from the disk. Any other
    /// failure (no descriptor or memory left, no permission) says nothing about what is stored.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Record { .. } | Self::NoRecord { .. } | Self::Changed { .. } => true,
            Self::Io { source, .. } | Self::Read(source) => is_damage(source),
            Self::Sys(error) => error.source_error().is_none_or(is_damage),
            _ => false,
        }
    }

    /// Names the entry in which the archive is damaged.
    pub(crate) fn in_entry(self, entry: &[u8]) -> Self {
        match self {
            Self::Archive(reason) => Self::entry(entry, reason),
            other => other,
        }
    }

    pub(crate) fn entry(entry: &[u8], reason: impl Into<String>) -> Self {
        Self::Entry { entry: String::from_utf8_lossy(entry).into_owned(), reason: reason.into() }
    }
}

fn is_damage(error: &io::Error) -> bool {
    let Some(number) = error.raw_os_error() else {
        // What a decoder says, or a stream that ended too early.
        return !matches!(error.kind(), io::ErrorKind::OutOfMemory | io::ErrorKind::Interrupted);
    };
    let lost = [Errno::IO, Errno::UCLEAN, Errno::BADMSG, Errno::NODATA, Errno::REMOTEIO, Errno::ILSEQ];
    // Something else lies there, or what a damaged record asks for can't be.
    let changed = [Errno::NOENT, Errno::NOTDIR, Errno::ISDIR, Errno::LOOP, Errno::XDEV, Errno::NXIO, Errno::NODEV];
    let impossible = [Errno::INVAL, Errno::NAMETOOLONG];
    lost.iter().chain(&changed).chain(&impossible).any(|errno| errno.raw_os_error() == number)
}

impl Kind for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } | Self::Read(source) | Self::Write(source) => Kind::kind(source),
            Self::Sys(error) => error.kind(),
            Self::WhiteoutName { .. }
            | Self::Archive(_)
            | Self::Entry { .. }
            | Self::Limit(_)
            | Self::Compression(_)
            | Self::Chain(_) => ErrorKind::Invalid,
            Self::TooManyLayers { .. } => ErrorKind::Invalid,
            Self::Mount { .. } => ErrorKind::Internal,
            Self::MountedElsewhere { .. } => ErrorKind::Conflict,
            Self::Record { .. } | Self::Changed { .. } => ErrorKind::Corrupt,
            Self::NotFound(_) | Self::NoRecord { .. } => ErrorKind::NotFound,
            Self::DriverUnusable { .. } => ErrorKind::Unsupported,
            Self::State(error) => error.kind(),
        }
    }
}
