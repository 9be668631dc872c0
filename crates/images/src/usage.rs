//! What images take, for `system df`: a layer that several images share counts once.

use crate::Error;
use crate::list::names_of;
use orlop_model::{Digest, Id, ImageRef, Timestamp};
use orlop_state::{ReadTx, State};
use std::collections::{HashMap, HashSet};

/// The row `Images`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImagesUsage {
    /// How many images.
    pub total: usize,
    /// Of these, with at least one container, running or not.
    pub active: usize,
    /// Bytes of all layers, each once.
    pub size: u64,
    /// Bytes of layers that no container's image has: what `prune -a` brings.
    pub reclaimable: u64,
    /// For `-v`, newest first.
    pub images: Vec<ImageUsage>,
}

/// One image of `system df -v`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageUsage {
    /// Its id.
    pub id: Digest,
    /// Its names.
    pub names: Vec<ImageRef>,
    /// When its config says it was made.
    pub created: Option<Timestamp>,
    /// Bytes of its layers.
    pub size: u64,
    /// Of these, in layers that another image has too.
    pub shared: u64,
    /// The rest.
    pub unique: u64,
    /// Containers of it.
    pub containers: usize,
}

/// Adds up what the rows say.
pub fn usage(state: &State, tx: &ReadTx<'_>) -> Result<ImagesUsage, Error> {
    let images = tx.images().list()?;
    let tags = tx.tags().list()?;
    let containers = tx.containers().list()?;
    let sizes: HashMap<Id, u64> = tx.layers().list()?.into_iter().map(|layer| (layer.id, layer.size)).collect();
    let size_of = |id: &Id| sizes.get(id).copied().unwrap_or(0);
    let mut users: HashMap<Id, usize> = HashMap::new();
    for image in &images {
        for layer in image.layers.iter().collect::<HashSet<_>>() {
            *users.entry(*layer).or_default() += 1;
        }
    }
    // As `image prune -a` will ask.
    let has_container: HashSet<Digest> = containers.iter().map(|container| container.image).collect();
    let used = orlop_layers::store::referenced_without(state, tx, |image| !has_container.contains(&image.id))?;
    let mut listed: Vec<ImageUsage> = images
        .iter()
        .map(|image| {
            let shared = image.layers.iter().filter(|layer| users[layer] > 1).map(size_of).sum::<u64>();
            ImageUsage {
                id: image.id,
                names: names_of(&tags, image.id).0,
                created: image.created,
                size: image.size,
                shared,
                unique: image.size.saturating_sub(shared),
                containers: containers.iter().filter(|container| container.image == image.id).count(),
            }
        })
        .collect();
    listed.sort_by(|one, other| other.created.cmp(&one.created).then(one.id.cmp(&other.id)));
    Ok(ImagesUsage {
        total: images.len(),
        active: listed.iter().filter(|image| image.containers > 0).count(),
        size: users.keys().map(size_of).sum(),
        reclaimable: users.keys().filter(|layer| !used.contains(layer)).map(size_of).sum(),
        images: listed,
    })
}
