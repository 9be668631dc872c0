//! Where images lie, and which layers something still needs.
//!
//! ```text
//! <data root>/content/blobs/sha256/HEX   configs and manifests, immutable
//! <data root>/content/ingest/            archives that have to be copied before they are read, as files without a name;
//!                                        what a pull has of blobs, by their digests
//! ```

use crate::Error;
use crate::archive::sha256;
use orlop_layers::Driver;
use orlop_model::image::ImageConfig;
use orlop_model::{Digest, Id};
use orlop_state::{ImageRow, LayerPhase, LayerRow, ReadTx, State};
use orlop_sys::lock::FileLock;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// What every verb here works on.
#[derive(Clone, Copy)]
pub struct Store<'a> {
    /// Rows, locks and leases.
    pub state: &'a State,
    /// The driver that holds the layers.
    pub driver: &'a dyn Driver,
}

impl Store<'_> {
    pub(crate) fn blob_path(&self, digest: Digest) -> PathBuf {
        blob_path(self.state.root(), digest)
    }

    pub(crate) fn ingest(&self) -> PathBuf {
        self.state.root().join("content/ingest")
    }

    /// Who loads or removes an image holds this lock from before its blobs are touched until its row is right.
    pub(crate) fn lock_image(&self, id: Digest) -> Result<FileLock, Error> {
        Ok(self.state.lock("layer", &id.hex())?)
    }

    /// The config of an image; its bytes are verified.
    pub fn config(&self, id: Digest) -> Result<ImageConfig, Error> {
        config(self.state.root(), id)
    }

    /// Deletes the directories of layers that are marked as being removed, then their rows. Returns the bytes that
    /// are free now.
    pub(crate) fn delete_layers(&self, layers: &[Id]) -> Result<u64, Error> {
        Ok(orlop_layers::store::delete(self.state, self.driver, layers)?.values().sum())
    }

    /// The layers' blobs that an image's manifest names, stored or not.
    fn layer_blobs(&self, row: &ImageRow) -> Vec<Digest> {
        let manifest =
            row.manifest.and_then(|digest| blob(self.state.root(), digest).ok().map(|bytes| (digest, bytes)));
        let parsed = manifest.and_then(|(digest, bytes)| crate::archive::oci::parse_manifest(digest, &bytes).ok());
        parsed.and_then(|manifest| manifest.layers).into_iter().flatten().map(|layer| layer.digest).collect()
    }

    /// Of an image's layers, the blobs that were kept and that no other image has; its row is still there or not.
    pub(crate) fn kept_blobs(&self, row: &ImageRow) -> Result<Vec<Digest>, Error> {
        let mut kept = self.layer_blobs(row);
        kept.retain(|digest| self.blob_path(*digest).exists());
        if kept.is_empty() {
            return Ok(kept);
        }
        let others = self.state.read(|tx| tx.images().list())?;
        let needed: HashSet<Digest> =
            others.iter().filter(|other| other.id != row.id).flat_map(|other| self.layer_blobs(other)).collect();
        kept.retain(|digest| !needed.contains(digest));
        Ok(kept)
    }

    /// Deletes a blob; returns the bytes that are free now.
    pub(crate) fn delete_blob(&self, digest: Digest) -> Result<u64, Error> {
        use std::os::unix::fs::MetadataExt;
        let path = self.blob_path(digest);
        let disk = path.metadata().map_or(0, |metadata| metadata.blocks() * 512);
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(disk),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(source) => Err(Error::Io { action: "remove", path, source }),
        }
    }
}

fn blob_path(root: &Path, digest: Digest) -> PathBuf {
    root.join("content/blobs/sha256").join(digest.hex())
}

/// The bytes of a stored config or manifest, verified.
pub fn blob(root: &Path, digest: Digest) -> Result<Vec<u8>, Error> {
    let path = blob_path(root, digest);
    let bytes = std::fs::read(&path).map_err(|source| Error::Io { action: "read", path: path.clone(), source })?;
    match sha256(&bytes) == digest {
        true => Ok(bytes),
        false => Err(Error::Corrupt { path }),
    }
}

/// The config of the image `id` below the data root `root`, verified.
pub fn config(root: &Path, id: Digest) -> Result<ImageConfig, Error> {
    let bytes = blob(root, id)?;
    serde_json::from_slice(&bytes).map_err(|source| Error::Json { name: format!("the config of image {id}"), source })
}

/// Marks those of `candidates` that nothing needs any more as being removed, and returns them.
pub(crate) fn mark_unreferenced(
    state: &State,
    tx: &orlop_state::WriteTx<'_>,
    candidates: &[Id],
) -> Result<Vec<Id>, Error> {
    let referenced = orlop_layers::store::referenced(state, tx)?;
    let mut marked = Vec::new();
    for candidate in candidates {
        if referenced.contains(candidate) || marked.contains(candidate) {
            continue;
        }
        if let Some(row) = tx.layers().get(&candidate.hex())? {
            tx.layers().put(&LayerRow { phase: LayerPhase::Removing, ..row })?;
            marked.push(*candidate);
        }
    }
    Ok(marked)
}

/// What [`recover`] cleaned up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Layers of interrupted loads and removals, and layers that nothing refers to.
    pub layers: usize,
    /// Configs and manifests that no image has, and what a pull left long ago.
    pub blobs: usize,
    /// Leases whose holders are gone.
    pub leases: usize,
}

/// Finishes what interrupted verbs left: layers that were being made or removed, unreferenced layers (of a container
/// that went after its image), blobs without an image. For `tend`; may run beside every other verb.
pub fn recover(store: Store<'_>) -> Result<Recovered, Error> {
    let leases = if store.state.read(|tx| tx.leases().list())?.is_empty() { 0 } else { forget_dead_leases(store)? };
    let layers = orlop_layers::store::remove_unreferenced(store.state, store.driver)?.len();
    let partial = crate::registry::remove_old(&store.ingest())?;
    Ok(Recovered { layers, blobs: recover_blobs(store)? + partial, leases })
}

fn forget_dead_leases(store: Store<'_>) -> Result<usize, Error> {
    store.state.write(|tx| {
        let live: HashSet<Id> = store.state.live_leases(tx)?.into_iter().map(|lease| lease.id).collect();
        let dead: Vec<_> = tx.leases().list()?.into_iter().filter(|lease| !live.contains(&lease.id)).collect();
        for lease in &dead {
            tx.leases().delete(&lease.id.hex())?;
        }
        Ok(dead.len())
    })
}

fn recover_blobs(store: Store<'_>) -> Result<usize, Error> {
    let directory = store.state.root().join("content/blobs/sha256");
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(source) => return Err(Error::Io { action: "read", path: directory, source }),
    };
    let known = |tx: &ReadTx<'_>| -> Result<HashSet<Digest>, Error> {
        Ok(tx.images().list()?.iter().flat_map(ImageRow::blobs).collect())
    };
    let before = store.state.read(known)?;
    let mut removed = 0;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        // `.HEX.tmp` is a blob whose writer was killed.
        let hex = name.strip_prefix('.').and_then(|name| name.strip_suffix(".tmp")).unwrap_or(&name);
        let Ok(digest) = format!("sha256:{hex}").parse::<Digest>() else { continue };
        if before.contains(&digest) && hex == name {
            continue;
        }
        // A load in progress holds its image's lock; its manifest is told by its age.
        let Some(_lock) = store.state.try_lock("layer", &digest.hex())? else { continue };
        let age = entry.metadata().ok().and_then(|metadata| metadata.modified().ok()?.elapsed().ok());
        let is_old = age.is_some_and(|age| age.as_secs() > 3600);
        let is_kept = || -> Result<bool, Error> {
            let images = store.state.read(|tx| tx.images().list())?;
            Ok(hex == name && images.iter().any(|image| store.layer_blobs(image).contains(&digest)))
        };
        if is_old && !is_kept()? && (hex != name || !store.state.read(known)?.contains(&digest)) {
            let path = entry.path();
            std::fs::remove_file(&path).map_err(|source| Error::Io { action: "remove", path, source })?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// The blobs that an image has.
pub(crate) trait Blobs {
    fn blobs(&self) -> Vec<Digest>;
}

impl Blobs for ImageRow {
    fn blobs(&self) -> Vec<Digest> {
        std::iter::once(self.id).chain(self.manifest).collect()
    }
}
