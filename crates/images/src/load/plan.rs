//! Which layers are there and which have to be made, decided under the locks of both.

use super::{Made, Named, Progress};
use crate::Error;
use crate::archive::ArchivedLayer;
use crate::store::Store;
use orlop_layers::store as layers;
use orlop_model::{Digest, Id};
use orlop_state::{LayerPhase, LayerRow, Lease};
use orlop_sys::lock::FileLock;
use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;

/// A layer of a chain: stored already, or to be made.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Stored(Id, u64),
    New(Id),
}

impl Place {
    pub(super) fn id(&self) -> Id {
        match self {
            Self::Stored(id, _) | Self::New(id) => *id,
        }
    }
}

/// Where each layer of each image is.
pub(super) struct Plan {
    /// For each image, each of its layers, lowest first.
    pub(super) places: Vec<Vec<Place>>,
}

/// Looks again under the locks, and writes the rows of what is to be made. None when a layer is missing that isn't
/// among the `locked`.
fn plan(
    store: Store<'_>,
    images: &[Named],
    locked: &BTreeSet<Digest>,
    lease: &Lease,
    made: &Mutex<Made>,
) -> Result<Option<Plan>, Error> {
    let planned = store.state.write(|tx| {
        let stored = layers::Stored::read(tx)?;
        let is_missing = |(layer, chain): &(&ArchivedLayer, &Digest)| stored.find(layer.diff_id, **chain).is_none();
        let missing: BTreeSet<Digest> =
            images.iter().flat_map(Named::places).filter(is_missing).map(|(layer, _)| layer.diff_id).collect();
        if !missing.is_subset(locked) {
            return Ok(None);
        }
        // We hold the lock of each of these layers, so whoever was making one before is gone.
        let mut stale = Vec::new();
        for row in tx.layers().list()? {
            if matches!(row.phase, LayerPhase::Creating(_)) && missing.contains(&row.diff_id) {
                stale.push(row.id);
                tx.layers().put(&LayerRow { phase: LayerPhase::Removing, ..row })?;
            }
        }
        let mut new = HashMap::new();
        for diff_id in missing {
            new.insert(diff_id, layers::reserve(tx, lease.id(), diff_id)?.id);
        }
        let place = |(layer, chain): (&ArchivedLayer, &Digest)| match stored.find(layer.diff_id, *chain) {
            Some((id, size)) => Place::Stored(id, size),
            None => Place::New(new[&layer.diff_id]),
        };
        let places: Vec<Vec<Place>> = images.iter().map(|image| image.places().map(place).collect()).collect();
        let all: BTreeSet<Id> = places.iter().flatten().map(Place::id).collect();
        lease.put(tx, "load", all.into_iter().collect())?;
        Ok::<_, Error>(Some((Plan { places }, new, stale)))
    })?;
    let Some((plan, new, stale)) = planned else { return Ok(None) };
    made.lock().expect("no thread has begun").layers.extend(new.values());
    // Only tidying: `recover` does it otherwise.
    let _ = store.delete_layers(&stale);
    Ok(Some(plan))
}

/// Locks every image and every missing layer, in sorted order, so that two loads never wait for each other. A layer
/// that was there and has just been removed isn't locked; then it begins again.
pub(super) fn lock_and_plan(
    store: Store<'_>,
    images: &[Named],
    lease: &Lease,
    made: &Mutex<Made>,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<(Plan, Vec<FileLock>), Error> {
    let lock = |digest: &Digest| {
        if let Some(lock) = store.state.try_lock("layer", &digest.hex())? {
            return Ok(lock);
        }
        progress(Progress::Waiting { digest: *digest });
        Ok(store.state.lock("layer", &digest.hex())?)
    };
    loop {
        let digests = missing(store, images)?;
        let locks = digests.iter().map(lock).collect::<Result<Vec<_>, Error>>()?;
        if let Some(plan) = plan(store, images, &digests, lease, made)? {
            return Ok((plan, locks));
        }
    }
}

/// Every image, and every layer that is missing now.
fn missing(store: Store<'_>, images: &[Named]) -> Result<BTreeSet<Digest>, Error> {
    let mut digests: BTreeSet<Digest> = images.iter().map(|image| image.image.id).collect();
    let stored = store.state.read(layers::Stored::read)?;
    for image in images {
        for (layer, chain) in image.places() {
            if stored.find(layer.diff_id, *chain).is_none() {
                digests.insert(layer.diff_id);
            }
        }
    }
    Ok(digests)
}
