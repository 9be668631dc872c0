//! What a call to the kernel can answer, with the path or the object it was about.

use std::path::{Path, PathBuf};

/// A kernel call that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call on a path failed.
    #[error("{call} {}: {source}", path.display())]
    Io {
        /// What was tried.
        call: &'static str,
        /// On which path.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// Something else than a file lies where a regular file is needed.
    #[error("{} is not a regular file", path.display())]
    NotRegular {
        /// Where.
        path: PathBuf,
    },
    /// A file that is read whole is larger than allowed.
    #[error("{} is larger than {limit} bytes", path.display())]
    TooLarge {
        /// Where.
        path: PathBuf,
        /// In bytes.
        limit: u64,
    },
    /// A call that has no path failed.
    #[error("{call}: {source}")]
    Call {
        /// What was tried.
        call: &'static str,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

impl Error {
    /// An error of a call on a path.
    pub fn io(call: &'static str, path: impl AsRef<Path>, source: impl Into<std::io::Error>) -> Self {
        Self::Io { call, path: path.as_ref().to_owned(), source: source.into() }
    }

    /// An error of a call that has no path.
    pub fn call(call: &'static str, source: impl Into<std::io::Error>) -> Self {
        Self::Call { call, source: source.into() }
    }

    /// Whether the kernel answered with this number.
    pub fn is(&self, errno: rustix::io::Errno) -> bool {
        self.source_error().and_then(std::io::Error::raw_os_error) == Some(errno.raw_os_error())
    }

    /// The kernel's answer, when there was one.
    pub fn source_error(&self) -> Option<&std::io::Error> {
        match self {
            Self::Io { source, .. } | Self::Call { source, .. } => Some(source),
            Self::NotRegular { .. } | Self::TooLarge { .. } => None,
        }
    }
}

impl orlop_model::Kind for Error {
    fn kind(&self) -> orlop_model::ErrorKind {
        match self {
            Self::Io { source, .. } | Self::Call { source, .. } => orlop_model::Kind::kind(source),
            Self::NotRegular { .. } | Self::TooLarge { .. } => orlop_model::ErrorKind::Invalid,
        }
    }
}
