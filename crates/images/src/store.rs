//! Where images lie, and which layers something still needs.
//!
//! ```text
//! <data root>/content/blobs/sha256/HEX   configs and manifests, immutable
//! <data root>/content/layers/HEX         blobs of layers that `keep-blobs` keeps, by their digests; a directory of their
//!                                        own, since what a manifest calls a layer may be anything
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
use std::fs::DirEntry;
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

    /// Where the blob of a layer stays when it is kept.
    pub(crate) fn layer_blob_path(&self, digest: Digest) -> PathBuf {
        self.state.root().join(LAYER_BLOBS).join(digest.hex())
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

    /// The layers' blobs that a manifest names, stored or not.
    fn layer_blobs(&self, manifest: Option<Digest>) -> Vec<Digest> {
        let manifest = manifest.and_then(|digest| blob(self.state.root(), digest).ok().map(|bytes| (digest, bytes)));
        let parsed = manifest.and_then(|(digest, bytes)| crate::archive::oci::parse_manifest(digest, &bytes).ok());
        parsed.and_then(|manifest| manifest.layers).into_iter().flatten().map(|layer| layer.digest).collect()
    }

    /// Deletes the blobs of an image that has no row, or none any more: its config and manifest, and those of its layers that were
    /// kept; none that another image has, whatever it is there. Returns the bytes that are free now.
    pub(crate) fn delete_blobs(&self, id: Digest, manifest: Option<Digest>) -> Result<u64, Error> {
        let others = self.state.read(|tx| tx.images().list())?;
        let others = || others.iter().filter(|other| other.id != id);
        let mut kept = self.layer_blobs(manifest);
        kept.retain(|digest| self.layer_blob_path(*digest).exists());
        if !kept.is_empty() {
            let needed: HashSet<Digest> = others().flat_map(|other| self.layer_blobs(other.manifest)).collect();
            kept.retain(|digest| !needed.contains(digest));
        }
        let needed: HashSet<Digest> = others().flat_map(ImageRow::blobs).collect();
        let own = std::iter::once(id)
            .chain(manifest)
            .filter(|digest| !needed.contains(digest))
            .map(|digest| self.blob_path(digest));
        // The manifest goes last: it names the others.
        let paths = kept.iter().map(|digest| self.layer_blob_path(*digest)).chain(own);
        paths.map(|path| delete_blob(&path)).sum()
    }
}

/// Below the data root.
const LAYER_BLOBS: &str = "content/layers";
const BLOBS: &str = "content/blobs/sha256";

/// Deletes a blob; returns the bytes that are free now.
fn delete_blob(path: &Path) -> Result<u64, Error> {
    use std::os::unix::fs::MetadataExt;
    let disk = path.metadata().map_or(0, |metadata| metadata.blocks() * 512);
    match std::fs::remove_file(path) {
        Ok(()) => Ok(disk),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(source) => Err(Error::Io { action: "remove", path: path.to_owned(), source }),
    }
}

fn blob_path(root: &Path, digest: Digest) -> PathBuf {
    root.join(BLOBS).join(digest.hex())
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
    let blobs = recover_blobs(store)? + recover_layer_blobs(store)?;
    Ok(Recovered { layers, blobs: blobs + partial, leases })
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

/// What lies in a directory below the data root; nothing in one that isn't there.
fn entries(store: Store<'_>, directory: &str) -> Result<Vec<DirEntry>, Error> {
    let path = store.state.root().join(directory);
    match std::fs::read_dir(&path) {
        Ok(entries) => Ok(entries.flatten().collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(Error::Io { action: "read", path, source }),
    }
}

/// Removes what nobody has touched for an hour.
fn remove_old(entry: &DirEntry) -> Result<bool, Error> {
    let age = entry.metadata().ok().and_then(|metadata| metadata.modified().ok()?.elapsed().ok());
    if age.is_none_or(|age| age.as_secs() <= 3600) {
        return Ok(false);
    }
    let path = entry.path();
    std::fs::remove_file(&path).map_err(|source| Error::Io { action: "remove", path, source })?;
    Ok(true)
}

fn recover_blobs(store: Store<'_>) -> Result<usize, Error> {
    let known = |tx: &ReadTx<'_>| -> Result<HashSet<Digest>, Error> {
        Ok(tx.images().list()?.iter().flat_map(ImageRow::blobs).collect())
    };
    let before = store.state.read(known)?;
    let mut removed = 0;
    for entry in entries(store, BLOBS)? {
        let name = entry.file_name().to_string_lossy().into_owned();
        // `.HEX.tmp` is a blob whose writer was killed.
        let hex = name.strip_prefix('.').and_then(|name| name.strip_suffix(".tmp")).unwrap_or(&name);
        let Ok(digest) = format!("sha256:{hex}").parse::<Digest>() else { continue };
        if before.contains(&digest) && hex == name {
            continue;
        }
        // A load in progress holds its image's lock; its manifest is told by its age.
        let Some(_lock) = store.state.try_lock("layer", &digest.hex())? else { continue };
        if hex != name || !store.state.read(known)?.contains(&digest) {
            removed += usize::from(remove_old(&entry)?);
        }
    }
    Ok(removed)
}

/// Blobs of layers that no image names any more.
fn recover_layer_blobs(store: Store<'_>) -> Result<usize, Error> {
    let entries = entries(store, LAYER_BLOBS)?;
    if entries.is_empty() {
        return Ok(0);
    }
    let images = store.state.read(|tx| tx.images().list())?;
    let needed: HashSet<String> =
        images.iter().flat_map(|row| store.layer_blobs(row.manifest)).map(|digest| digest.hex()).collect();
    let mut removed = 0;
    for entry in entries {
        if !needed.contains(&*entry.file_name().to_string_lossy()) {
            removed += usize::from(remove_old(&entry)?);
        }
    }
    Ok(removed)
}

/// The blobs that an image has.
trait Blobs {
    fn blobs(&self) -> Vec<Digest>;
}

impl Blobs for ImageRow {
    fn blobs(&self) -> Vec<Digest> {
        std::iter::once(self.id).chain(self.manifest).collect()
    }
}
