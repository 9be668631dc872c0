//! What can go wrong with images.

use orlop_model::{Digest, ErrorKind, Kind};
use std::io;
use std::path::PathBuf;

/// Errors of this crate. Where Docker has a text for it, it is Docker's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The archive can't be opened.
    #[error("open {path}: {source}", path = .path.display())]
    Open {
        /// What was to be opened.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Standard input is a terminal.
    #[error("requested load from stdin, but stdin is a terminal: give a file with -i or redirect one")]
    Terminal,
    /// Nothing to read.
    #[error("the image archive is empty")]
    Empty,
    /// No tar header at its beginning.
    #[error("not a tar archive: expected `docker save` format or an OCI archive, plain or compressed by gzip or zstd")]
    NotAnArchive,
    /// A tar archive of something else.
    #[error("no manifest.json and no index.json in it: not an image archive")]
    NotAnImage,
    /// The archive ends within an entry.
    #[error("the image archive is truncated: it ends at byte {at}, within an entry")]
    Truncated {
        /// Its length.
        at: u64,
    },
    /// A compression that isn't read.
    #[error("the image archive is compressed by {name}, which is not supported: pipe it through `{tool}`")]
    Compression {
        /// Its name.
        name: &'static str,
        /// What expands it.
        tool: &'static str,
    },
    /// The compressed stream is damaged.
    #[error("the image archive can't be decompressed: {source}")]
    Decompress {
        /// The decoder's word.
        source: io::Error,
    },
    /// Reading failed.
    #[error("reading the image archive: {source}")]
    ReadArchive {
        /// Why.
        source: io::Error,
    },
    /// The archive's copy can't be written.
    #[error("spooling the image archive to {path}: {source}", path = .path.display())]
    Spool {
        /// Our directory for it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The archive names a file that it doesn't hold.
    #[error("the image archive has no {name:?}{hint}")]
    Missing {
        /// The file.
        name: String,
        /// More about it.
        hint: &'static str,
    },
    /// Bad JSON.
    #[error("{name} can't be read: {source}")]
    Json {
        /// Which.
        name: String,
        /// Why.
        source: serde_json::Error,
    },
    /// Anything else that is wrong with an archive.
    #[error("bad image archive: {0}")]
    Archive(String),
    /// A blob is not as long as its descriptor says.
    #[error("{name} has {size} bytes, but its descriptor says {expected}")]
    WrongSize {
        /// Which.
        name: String,
        /// Bytes announced.
        expected: u64,
        /// Bytes there.
        size: u64,
    },
    /// A blob's content isn't what its name says.
    #[error("{name} has the digest {digest}, but {expected} was announced")]
    WrongDigest {
        /// Which.
        name: String,
        /// Announced.
        expected: Digest,
        /// Computed.
        digest: Digest,
    },
    /// The config and the manifest disagree.
    #[error("image {id} has {diff_ids} diff_ids in its config but {layers} layers in its manifest")]
    LayerCount {
        /// The image.
        id: Digest,
        /// In the config.
        diff_ids: usize,
        /// In the manifest.
        layers: usize,
    },
    /// A media type that isn't known.
    #[error("unknown media type of a {what}: {media_type:?}")]
    MediaType {
        /// What was expected there.
        what: &'static str,
        /// What stands there.
        media_type: String,
    },
    /// A layer that isn't in any archive.
    #[error("foreign layer ({media_type}): its content lies elsewhere, which is not supported")]
    ForeignLayer {
        /// What stands there.
        media_type: String,
    },
    /// A multi-platform image without one for this machine.
    #[error("no image for {wanted} in the archive, which has {found}", found = .found.join(", "))]
    Platform {
        /// This machine.
        wanted: String,
        /// What there is.
        found: Vec<String>,
    },
    /// A tool of this machine can't become part of an image.
    #[error("{0}")]
    FromHost(String),
}

impl Error {
    pub(crate) fn archive(what: String) -> Self {
        Self::Archive(what)
    }
}

impl Kind for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Open { source, .. } if source.kind() == io::ErrorKind::NotFound => ErrorKind::NotFound,
            Self::Open { source, .. } | Self::ReadArchive { source } | Self::Spool { source, .. } => Kind::kind(source),
            Self::Compression { .. } | Self::ForeignLayer { .. } => ErrorKind::Unsupported,
            Self::Terminal
            | Self::Empty
            | Self::NotAnArchive
            | Self::NotAnImage
            | Self::Truncated { .. }
            | Self::Decompress { .. }
            | Self::Missing { .. }
            | Self::Json { .. }
            | Self::Archive(_)
            | Self::WrongSize { .. }
            | Self::WrongDigest { .. }
            | Self::LayerCount { .. }
            | Self::MediaType { .. }
            | Self::FromHost(_)
            | Self::Platform { .. } => ErrorKind::Invalid,
        }
    }
}
