//! One layer archive into one directory.

mod acl;
mod archive;
mod header;
mod pax;
mod place;
mod stream;

pub(crate) use stream::inflate;

use crate::record::{self, Archived, Moves, Recorded};
use crate::{Error, Result};
use archive::Archive;
use orlop_model::Digest;
use place::Layer;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// Bytes of memory for what has to be remembered until a layer is finished (directories, whiteouts), of all layers
    /// together.
    pub memory: u64,
    /// Pieces of one sparse file.
    pub pieces: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 4_000_000,
            size: 1 << 40,
            ratio: 1000,
            ratio_from: 1 << 30,
            header: 1 << 20,
            memory: 128 << 20,
            pieces: 1 << 20,
        }
    }
}

/// What is left of an image's limits while its layers are unpacked in parallel.
#[derive(Debug, Default)]
pub struct Budget {
    limits: Limits,
    entries: AtomicU64,
    size: AtomicU64,
    memory: AtomicU64,
}

impl Budget {
    /// A fresh budget for one image.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Counts memory that stays in use until the layer is finished.
    fn hold(&self, bytes: usize) -> Result<()> {
        let before = self.memory.fetch_add(bytes as u64, Ordering::Relaxed);
        if before.saturating_add(bytes as u64) > self.limits.memory {
            let reason = "it has too many directories, or too large extended attributes of directories";
            return Err(Error::Limit(reason.to_owned()));
        }
        Ok(())
    }

    /// Counts one entry with this much content.
    fn take(&self, bytes: u64) -> Result<()> {
        let entries = self.entries.fetch_add(1, Ordering::Relaxed) + 1;
        if entries > self.limits.entries {
            return Err(Error::Limit(format!("the image has more than {} files", self.limits.entries)));
        }
        let before = self.size.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.limits.size {
            return Err(Error::Limit(format!("the image unpacks to more than {} bytes", self.limits.size)));
        }
        Ok(())
    }
}

/// How to unpack.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether the compressed bytes are hashed as well.
    pub blob_digest: bool,
    /// Whether the archive shall come back out of the layer ([`crate::record`]): then `into` is the `diff` of a layer's
    /// directory, and what else is needed is written beside it.
    pub record: bool,
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
    /// Extended attributes that the file system can't hold and that nothing depends on, with the number of files that
    /// lost them. Losing a file capability or an access control list is an error instead.
    pub skipped_xattrs: BTreeMap<String, u64>,
    /// Whether the archive can be made again from what is on the disk. When not, the caller gives a second stream of it
    /// to [`record::keep`] before the layer becomes ready.
    pub archived: Archived,
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
///
/// The stream may be plain, gzip or zstd. It is read to its end, whatever follows the archive's end marker included,
/// so that both digests cover all of it. Nothing is synced: the caller flushes all layers of an image at once. After an
/// error the directory holds what was unpacked so far, to be removed by the caller.
pub fn unpack(reader: impl Read + Send, into: &Path, options: Options, budget: &Budget) -> Result<Unpacked> {
    let limits = budget.limits;
    let beside = into.parent().filter(|_| options.record);
    let ((mut placed, recorder), digests) = stream::run(reader, options, &limits, |chunks| {
        // On this thread only, so that files are made with the mode that they shall have.
        orlop_sys::overlay::unshare_fs()?;
        rustix::process::umask(rustix::fs::Mode::empty());
        let mut layer = Layer::new(into, budget, beside.map(Moves::new))?;
        let mut archive = Archive::new(chunks, limits, beside.map(record::begin).transpose()?);
        while let Some(entry) = archive.next()? {
            budget.take(archive.stored())?;
            let content = archive.content(&entry.path);
            layer.add(entry, content)?;
        }
        let recorder = archive.finish()?;
        Ok((layer.finish()?, recorder))
    })?;
    let archived = match (beside, recorder, placed.moves.take()) {
        (Some(directory), Some(recorder), Some(moves)) => {
            // What settling will change is written down then.
            let tree = placed.dependencies.is_empty();
            record::seal(directory, Recorded { recorder, moves }, digests.diff_id, tree)?
        }
        _ => Archived::NotAsked,
    };
    Ok(Unpacked {
        diff_id: digests.diff_id,
        blob_digest: digests.blob,
        blob_size: digests.blob_size,
        size: placed.size,
        dependencies: placed.dependencies,
        skipped_xattrs: placed.skipped,
        archived,
    })
}
