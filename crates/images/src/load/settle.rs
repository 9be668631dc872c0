//! Layers put right for the chains that they belong to.

use super::plan::Place;
use super::unpack::{Task, keep_archive, unpack_one};
use super::{Made, Named};
use crate::Error;
use crate::archive::ArchivedLayer;
use crate::store::Store;
use orlop_layers::{Budget, Unpacked, store as layers};
use orlop_model::{Digest, Id};
use orlop_state::Lease;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

/// What became of the new layers: for each chain that a layer was needed for, the stored layer.
#[derive(Default)]
pub(super) struct Settled {
    /// By diff_id and chain; chain None where it fits everywhere.
    pub(super) rows: HashMap<(Digest, Option<Digest>), (Id, u64)>,
    /// For each image, its layers, lowest first and each once, and the sum of the sizes of all.
    pub(super) images: Vec<(Vec<Id>, u64)>,
    pub(super) skipped_xattrs: BTreeMap<String, u64>,
}

impl Settled {
    #[expect(clippy::too_many_arguments, reason = "each is a different thing, and it is called once")]
    pub(super) fn settle(
        &mut self,
        store: Store<'_>,
        image: &Named,
        places: &[Place],
        unpacked: &mut HashMap<Id, Unpacked>,
        budget: &Budget,
        lease: &Lease,
        made: &Mutex<Made>,
    ) -> Result<(), Error> {
        let mut layers: Vec<Id> = Vec::with_capacity(places.len());
        let mut size = 0;
        for ((layer, below), place) in image.places().zip(places) {
            let (id, bytes) = match *place {
                Place::Stored(id, bytes) => (id, bytes),
                Place::New(id) => {
                    let known = self.rows.get(&(layer.diff_id, None)).or(self.rows.get(&(layer.diff_id, Some(*below))));
                    match known {
                        Some(known) => *known,
                        None => {
                            let (id, content) = match unpacked.remove(&id) {
                                Some(content) => (id, content),
                                // The same layer above another chain: it is settled differently, so it is another.
                                None => unpack_again(store, layer, budget, lease, made)?,
                            };
                            for (name, files) in &content.skipped_xattrs {
                                *self.skipped_xattrs.entry(name.clone()).or_default() += files;
                            }
                            let parents: Vec<PathBuf> = layers.iter().rev().map(|id| store.driver.diff(*id)).collect();
                            let diff = store.driver.diff(id);
                            let archived = orlop_layers::settle(&diff, &content.dependencies, &parents)
                                .map_err(|source| Error::Layer { name: layer.blob.name(), source })?;
                            keep_archive(store, id, layer, &archived, &AtomicBool::new(false))?;
                            let chain = (!content.dependencies.is_empty()).then_some(*below);
                            self.rows.insert((layer.diff_id, chain), (id, content.size));
                            (id, content.size)
                        }
                    }
                }
            };
            layers.push(id);
            size += bytes;
        }
        self.images.push((without_repeats(&layers), size));
        Ok(())
    }
}

/// The chain to mount: overlay refuses a directory that is given twice (ELOOP). The upper one hides all of the lower,
/// so that the lower can go.
fn without_repeats(layers: &[Id]) -> Vec<Id> {
    let is_last = |(index, id): &(usize, &Id)| !layers[index + 1..].contains(id);
    layers.iter().enumerate().filter(is_last).map(|(_, id)| *id).collect()
}

fn unpack_again(
    store: Store<'_>,
    layer: &ArchivedLayer,
    budget: &Budget,
    lease: &Lease,
    made: &Mutex<Made>,
) -> Result<(Id, Unpacked), Error> {
    let id = store.state.write(|tx| layers::reserve(tx, lease.id(), layer.diff_id))?.id;
    made.lock().expect("nothing panics while it holds this").layers.push(id);
    // In a thread of its own, because unpacking changes the umask of the thread that it runs in.
    let work = || unpack_one(store, &Task { id, layer, budget }, &|_| {}, &AtomicBool::new(false));
    let unpacked = std::thread::scope(|scope| scope.spawn(work).join().expect("unpacking panicked"))?;
    Ok((id, unpacked))
}
