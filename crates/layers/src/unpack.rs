//! One layer archive into one directory.

use crate::Result;
use orlop_model::Digest;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

/// What an image may need at most. All layers of an image share one [`Budget`].
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Entries of all layers together.
    pub entries: u64,
    /// Bytes of all layers together, unpacked.
    pub size: u64,
    /// Unpacked bytes for each compressed byte; looked at only once a layer is larger than `ratio_from`.
    pub ratio: u64,
    /// Unpacked bytes of a layer from which on `ratio` counts.
    pub ratio_from: u64,
    /// Bytes of one extended header (pax, GNU long name).
    pub header: u64,
    /// Pieces of one sparse file.
    pub pieces: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 4_000_000, size: 1 << 40, ratio: 1000, ratio_from: 1 << 30, header: 1 << 20, pieces: 1 << 20 }
    }
}

/// What is left of an image's limits while its layers are unpacked in parallel.
#[derive(Debug, Default)]
pub struct Budget {
    pub(crate) limits: Limits,
    pub(crate) entries: AtomicU64,
    pub(crate) size: AtomicU64,
}

impl Budget {
    /// A fresh budget for one image.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }
}

/// How to unpack.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether the compressed bytes are hashed as well.
    pub blob_digest: bool,
}

/// What came out of an archive.
#[derive(Clone, Debug)]
pub struct Unpacked {
    /// SHA-256 of the uncompressed stream, to its end.
    pub diff_id: Digest,
    /// SHA-256 of the stream as given, when asked for.
    pub blob_digest: Option<Digest>,
    /// Bytes of the stream as given.
    pub blob_size: u64,
    /// Sum of the regular files' apparent sizes, as Docker's layer size; a hard link counts nothing.
    pub size: u64,
    /// What depends on the layers below.
    pub dependencies: Dependencies,
}

/// What in a layer can only be settled once the layers below it are known. Paths are relative to the layer's root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dependencies {
    /// Directories that the archive has things in but no entry for, shallowest first.
    pub parents: Vec<PathBuf>,
    /// Hard links to files that the archive doesn't have.
    pub links: Vec<Link>,
    /// Whiteouts: what they hide must exist below.
    pub whiteouts: Vec<PathBuf>,
}

/// A hard link to a file of a lower layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The name to make.
    pub path: PathBuf,
    /// The file that it is another name of.
    pub target: PathBuf,
}

impl Dependencies {
    /// Whether the layer is the same over every chain.
    pub fn is_empty(&self) -> bool {
        self.parents.is_empty() && self.links.is_empty() && self.whiteouts.is_empty()
    }
}

/// Unpacks `reader` into the empty directory `into`, in overlay's format.
pub fn unpack(_reader: impl Read + Send, _into: &Path, _options: Options, _budget: &Budget) -> Result<Unpacked> {
    Err(crate::Error::Archive("being built".to_owned()))
}
