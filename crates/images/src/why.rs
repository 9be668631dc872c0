//! `image why`: what keeps each layer, and what removing an image would bring.

use crate::list::names_of;
use crate::resolve::resolve;
use crate::{Error, Store, config};
use orlop_layers::store::referenced_without;
use orlop_model::{Digest, Id, ImageRef};
use orlop_state::{ContainerRow, ImageRow, LayerRow, LeaseRow, ReadTx, TagRow};
use std::collections::{BTreeSet, HashSet};

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// The image that was asked for; None when it was a layer.
    pub image: Option<Digest>,
    /// Its layers, lowest first; or every place that the layer is stored in.
    pub layers: Vec<KeptLayer>,
    /// Bytes that would be free on the disk if the image were removed, or else if all that keeps the layer were.
    pub freed: u64,
    /// Bytes that the layers take on the disk.
    pub disk: u64,
}

/// A layer and what keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptLayer {
    /// Of its archive.
    pub diff_id: Digest,
    /// Sum of its files' lengths in bytes.
    pub size: u64,
    /// Bytes that its directory takes on the disk.
    pub disk: u64,
    /// A scrub found it damaged.
    pub damaged: bool,
    /// What keeps it.
    pub keepers: Vec<Keeper>,
}

/// What keeps a layer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keeper {
    /// A name of an image that has it.
    Tag(String),
    /// An image without a name that has it.
    Image(Digest),
    /// An image that was made on top of the one that was asked for, by a name or else by its short id.
    Child(String),
    /// A container.
    Container {
        /// Its name.
        name: String,
        /// Whether it runs.
        running: bool,
    },
    /// A verb that is under way.
    Verb(String),
}

impl std::fmt::Display for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tag(name) => write!(f, "tag {name}"),
            Self::Image(id) => write!(f, "image {}", id.short()),
            Self::Child(name) => write!(f, "child image {name}"),
            Self::Container { name, running: true } => write!(f, "running container {name}"),
            Self::Container { name, running: false } => write!(f, "container {name}"),
            Self::Verb(verb) => write!(f, "{verb} under way"),
        }
    }
}

/// Rows that may keep a layer.
struct Rows {
    images: Vec<ImageRow>,
    tags: Vec<TagRow>,
    containers: Vec<ContainerRow>,
    leases: Vec<LeaseRow>,
}

/// What `text` means: an image, or a layer by its diff_id, the name of its directory, or the beginning of either.
pub fn why(store: Store<'_>, text: &str) -> Result<Why, Error> {
    let (image, layers, freeable, rows) = store.state.read(|tx| {
        let (image, layers) = match resolve(tx, text) {
            Ok(found) => {
                let mut layers = Vec::with_capacity(found.row.layers.len());
                for id in &found.row.layers {
                    layers.extend(tx.layers().get(&id.hex())?);
                }
                (Some(found.row), layers)
            }
            Err(error @ (Error::NotFound { .. } | Error::Ambiguous { .. })) => {
                let layers = layers(tx, text)?;
                if layers.is_empty() {
                    return Err(error);
                }
                (None, layers)
            }
            Err(error) => return Err(error),
        };
        let freeable: HashSet<Id> = match &image {
            None => layers.iter().map(|row| row.id).collect(),
            Some(image) => {
                let stays = referenced_without(store.state, tx, |row| row.id == image.id)?;
                layers.iter().map(|row| row.id).filter(|id| !stays.contains(id)).collect()
            }
        };
        let rows = Rows {
            images: tx.images().list()?,
            tags: tx.tags().list()?,
            containers: tx.containers().list()?,
            leases: store.state.live_leases(tx)?,
        };
        Ok((image, layers, freeable, rows))
    })?;
    let children = image.as_ref().map(|image| children(store, image, &rows.images)).unwrap_or_default();
    let mut why = Why { image: image.map(|row| row.id), layers: Vec::new(), freed: 0, disk: 0 };
    for row in layers {
        let disk = orlop_layers::usage(&store.driver.directory(row.id))?.disk;
        why.disk += disk;
        why.freed += if freeable.contains(&row.id) { disk } else { 0 };
        let keepers = keepers(&rows, &children, row.id);
        why.layers.push(KeptLayer { diff_id: row.diff_id, size: row.size, disk, damaged: row.damaged, keepers });
    }
    Ok(why)
}

/// The layer whose diff_id or directory begins so; by its diff_id each place that it is stored in, as for several chains
/// or beside a damaged one.
fn layers(tx: &ReadTx<'_>, text: &str) -> Result<Vec<LayerRow>, Error> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    if hex.len() < 4 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(Vec::new());
    }
    let fits = |row: &LayerRow| row.diff_id.hex().starts_with(hex) || row.id.hex().starts_with(hex);
    let found: Vec<LayerRow> = tx.layers().list()?.into_iter().filter(fits).collect();
    let contents: BTreeSet<Digest> = found.iter().map(|row| row.diff_id).collect();
    match contents.len() {
        0 | 1 => Ok(found),
        count => Err(Error::AmbiguousLayer { prefix: hex.to_owned(), count }),
    }
}

fn keepers(rows: &Rows, children: &HashSet<Digest>, layer: Id) -> Vec<Keeper> {
    let mut keepers = Vec::new();
    for image in rows.images.iter().filter(|image| image.layers.contains(&layer)) {
        let (names, pinned) = names_of(&rows.tags, image.id);
        if children.contains(&image.id) {
            keepers.push(Keeper::Child(names.first().map_or_else(|| image.id.short(), ImageRef::familiar)));
        } else if names.is_empty() && pinned.is_empty() {
            keepers.push(Keeper::Image(image.id));
        } else {
            keepers.extend(names.iter().chain(&pinned).map(|name| Keeper::Tag(name.familiar())));
        }
    }
    for container in rows.containers.iter().filter(|container| container.layers.contains(&layer)) {
        keepers.push(Keeper::Container { name: container.name.to_string(), running: container.running });
    }
    let leases = rows.leases.iter().filter(|lease| lease.layers.contains(&layer));
    keepers.extend(leases.map(|lease| Keeper::Verb(lease.purpose.clone())));
    keepers.sort();
    keepers
}

/// Images that have all layers of `parent` below layers of their own, or the same layers and a longer history.
fn children(store: Store<'_>, parent: &ImageRow, images: &[ImageRow]) -> HashSet<Digest> {
    // An image whose config is damaged is nobody's parent and nobody's child.
    let read = |row: &ImageRow| config(store.state.root(), row.id).ok();
    let Some(below) = read(parent) else { return HashSet::new() };
    let is_child = |row: &&ImageRow| {
        row.id != parent.id
            && read(row).is_some_and(|config| {
                config.rootfs.diff_ids.starts_with(&below.rootfs.diff_ids)
                    && (config.rootfs.diff_ids.len(), config.history.len())
                        > (below.rootfs.diff_ids.len(), below.history.len())
            })
    };
    images.iter().filter(is_child).map(|row| row.id).collect()
}
