//! Loading: from an archive or a registry to layers, blobs and rows.
//!
//! The order makes an image visible only when all of it is on the disk and verified, and lets nothing stay when it
//! fails:
//!
//! 1. lock the images and the layers that are missing, in sorted order, and look again: another load may have
//!    brought them meanwhile;
//! 2. rows of the new layers as Creating, under a lease, in one transaction with what is there already and must stay;
//! 3. unpack and verify them, in parallel, the largest first, none waiting for another;
//! 4. settle them from the bottom of each chain upwards;
//! 5. write configs and manifests, and one syncfs for everything;
//! 6. one transaction: layers Ready, images, names, the lease's end.
//!
//! A failure removes the directories and rows at once; a kill leaves a dead lease, by which `recover` finds them.

mod commit;
mod plan;
mod settle;
mod unpack;

use crate::Error;
use crate::archive::{self, ArchivedImage, ArchivedLayer, Source};
use crate::from_host::collect;
use crate::store::Store;
use commit::{commit, known_blobs, undo, write_blobs};
use orlop_layers::{Budget, Limits, store as layers};
use orlop_model::{Digest, Id, ImageRef};
use orlop_state::Lease;
use orlop_sys::durable;
use plan::{Place, Plan, lock_and_plan};
use settle::Settled;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use unpack::{Task, spread_layers, unpack_all};

/// An image that was loaded, or was there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Its id.
    pub id: Digest,
    /// The names that it has now by this load; none for an image without a name.
    pub names: Vec<ImageRef>,
    /// Names that another image had until now, and that image.
    pub moved: Vec<(ImageRef, Digest)>,
    /// It was here already.
    pub existed: bool,
    /// Extended attributes that the file system doesn't have, by name, and how many files of the archive lost them.
    pub skipped_xattrs: BTreeMap<String, u64>,
}

/// What a load tells while it works; several threads call at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A layer or image that another process is at; this one waits for it.
    Waiting {
        /// The layer's diff_id, or the image's id.
        digest: Digest,
    },
    /// A layer that isn't there.
    Missing {
        /// The layer.
        diff_id: Digest,
    },
    /// A layer that is there already, as every one is when nothing is made for it.
    Present {
        /// The layer.
        diff_id: Digest,
    },
    /// A layer that has to be unpacked: bytes of its blob that were read, and all of them.
    Unpacking {
        /// The layer.
        diff_id: Digest,
        /// Bytes read.
        done: u64,
        /// Bytes of the blob.
        total: u64,
    },
    /// A layer's source broke off and is asked again.
    Retrying {
        /// The layer.
        diff_id: Digest,
        /// Until then.
        seconds: u64,
    },
    /// A layer is unpacked and verified.
    Unpacked {
        /// The layer.
        diff_id: Digest,
    },
    /// Everything is unpacked and goes to the disk.
    Syncing,
}

/// Loads every image of an archive: all or, on an error, none.
pub fn load(store: Store<'_>, source: Source, progress: &(dyn Fn(Progress) + Sync)) -> Result<Vec<Loaded>, Error> {
    let images = archive::open(source, &store.ingest())?;
    load_all(store, images, threads(), progress)
}

/// Builds an image of this machine's own tools ([`from_host`]) and stores it as `name`.
///
/// `binaries` are names in PATH or paths; none means a usual set.
pub fn from_host(
    store: Store<'_>,
    name: &ImageRef,
    binaries: &[String],
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Loaded, Error> {
    if name.digest.is_some() {
        return Err(Error::TagDigest);
    }
    let image = collect(&name.familiar(), binaries, &store.ingest())?;
    let mut loaded = load_all(store, vec![image], threads(), progress)?;
    Ok(loaded.remove(0))
}

/// An image with its names read.
struct Named {
    image: ArchivedImage,
    names: Vec<ImageRef>,
    /// Chain below each layer, lowest first.
    chains: Vec<Digest>,
}

impl Named {
    /// Each layer with the chain below it, lowest first.
    fn places(&self) -> impl Iterator<Item = (&ArchivedLayer, &Digest)> {
        self.image.layers.iter().zip(&self.chains)
    }
}

/// How many layers are unpacked at a time: as many as there are processors, at least two, since while one waits for the
/// disk the other works.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8)
}

/// What load, pull and from-host share: stores the images, with at most `threads` layers at a time.
pub(crate) fn load_all(
    store: Store<'_>,
    images: Vec<ArchivedImage>,
    threads: usize,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Vec<Loaded>, Error> {
    let images = images.into_iter().map(name_image).collect::<Result<Vec<_>, _>>()?;
    let lease = store.state.lease()?;
    let made = Mutex::new(Made::default());
    let (plan, _locks) = lock_and_plan(store, &images, &lease, &made, progress)?;
    let result = load_locked(store, &images, &plan, &lease, &made, threads, progress);
    // Damaged ones whose place new ones have taken now.
    if result.is_ok() && store.state.read(|tx| tx.layers().list())?.iter().any(|layer| layer.damaged) {
        layers::remove_unreferenced(store.state, store.driver)?;
    }
    if result.is_err() {
        let made = made.into_inner().expect("a thread that panicked has ended this one as well");
        undo(store, &images, &lease, &made);
    }
    result
}

/// What has to go when the load fails.
#[derive(Default)]
struct Made {
    layers: Vec<Id>,
}

fn name_image(image: ArchivedImage) -> Result<Named, Error> {
    let mut names = Vec::with_capacity(image.names.len());
    let mut seen = BTreeSet::new();
    for name in &image.names {
        let mut parsed = ImageRef::parse(name).map_err(|source| Error::NameInArchive { name: name.clone(), source })?;
        parsed.digest = None;
        crate::tag::check_name(&parsed)?;
        if parsed.tag.is_some() && seen.insert(parsed.clone()) {
            names.push(parsed);
        }
    }
    let chains = chains_below(&image.parsed.rootfs.diff_ids);
    Ok(Named { image, names, chains })
}

/// The chain below each layer, as [`layers::chain_below`] writes it.
fn chains_below(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut below = None;
    let chain = |diff_id: &Digest| {
        let chain = layers::chain_below(below);
        below = Some(layers::chain_id(below, *diff_id));
        chain
    };
    diff_ids.iter().map(chain).collect()
}

/// What can't fit isn't begun: a size that a registry made up must not fill the disk.
fn check_space(store: Store<'_>, missing: impl Iterator<Item = u64>) -> Result<(), Error> {
    let needed = missing.fold(0_u64, u64::saturating_add);
    if needed <= 1 << 30 {
        return Ok(());
    }
    let (free, _) = durable::free_space(store.state.root())?;
    if needed > free { Err(Error::TooLarge { needed, free }) } else { Ok(()) }
}

fn load_locked(
    store: Store<'_>,
    images: &[Named],
    plan: &Plan,
    lease: &Lease,
    made: &Mutex<Made>,
    threads: usize,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Vec<Loaded>, Error> {
    let budgets: Vec<Budget> = images.iter().map(|_| Budget::new(Limits::default())).collect();
    let mut tasks: BTreeMap<Id, Task<'_>> = BTreeMap::new();
    for ((image, places), budget) in images.iter().zip(&plan.places).zip(&budgets) {
        for (layer, place) in image.image.layers.iter().zip(places) {
            match place {
                Place::New(id) => {
                    progress(Progress::Missing { diff_id: layer.diff_id });
                    tasks.entry(*id).or_insert(Task { id: *id, layer, budget });
                }
                Place::Stored(..) => progress(Progress::Present { diff_id: layer.diff_id }),
            }
        }
    }
    check_space(store, tasks.values().map(|task| task.layer.blob.to_fetch()))?;
    let existed = tasks.is_empty();
    if !existed {
        spread_layers(store.driver.home());
    }
    let mut unpacked = unpack_all(store, tasks.into_values().collect(), threads, progress)?;
    let mut settled = Settled::default();
    for ((image, places), budget) in images.iter().zip(&plan.places).zip(&budgets) {
        settled.settle(store, image, places, &mut unpacked, budget, lease, made)?;
    }
    let known = known_blobs(store, images)?;
    if !existed || !known {
        progress(Progress::Syncing);
        for image in images {
            image.image.layers.iter().try_for_each(|layer| layer.blob.unpacked())?;
            write_blobs(store, &image.image)?;
        }
        durable::sync_file_system(store.state.root())?;
    }
    commit(store, images, plan, &settled, lease)
}
