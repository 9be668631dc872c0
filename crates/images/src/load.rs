//! Loading: from an archive to layers, blobs and rows.
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

use crate::Error;
use crate::archive::{self, ArchivedImage, ArchivedLayer, BlobReader, Source};
use crate::from_host::collect;
use crate::store::{Store, blob};
use orlop_layers::driver::create_image_layer;
use orlop_layers::{Budget, Limits, Options, Unpacked, store as layers};
use orlop_model::{Digest, Id, ImageRef, Timestamp};
use orlop_state::{ImageRow, LayerPhase, LayerRow, Lease, ReadTx, TagRow};
use orlop_sys::durable;
use orlop_sys::lock::FileLock;
use rustix::fs::{IFlags, Mode, OFlags};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

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
    /// A layer that has to be unpacked: bytes of its blob that were read, and all of them.
    Unpacking {
        /// The layer.
        diff_id: Digest,
        /// Bytes read.
        done: u64,
        /// Bytes of the blob.
        total: u64,
    },
    /// Everything is unpacked and goes to the disk.
    Syncing,
}

/// Loads every image of an archive: all or, on an error, none.
pub fn load(store: Store<'_>, source: Source, progress: &(dyn Fn(Progress) + Sync)) -> Result<Vec<Loaded>, Error> {
    let images = archive::open(source, &store.ingest())?;
    load_all(store, images, progress)
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
    let mut loaded = load_all(store, vec![image], progress)?;
    Ok(loaded.remove(0))
}

/// An image with its names read.
struct Named {
    image: ArchivedImage,
    names: Vec<ImageRef>,
    /// Chain below each layer, lowest first.
    chains: Vec<Digest>,
}

/// One layer that has to be unpacked.
struct Task<'a> {
    id: Id,
    layer: &'a ArchivedLayer,
    budget: &'a Budget,
}

/// A layer of a chain: stored already, or to be made.
#[derive(Clone, Copy)]
enum Place {
    Stored(Id, u64),
    New(Id),
}

impl Named {
    /// Each layer with the chain below it, lowest first.
    fn places(&self) -> impl Iterator<Item = (&ArchivedLayer, &Digest)> {
        self.image.layers.iter().zip(&self.chains)
    }
}

impl Place {
    fn id(&self) -> Id {
        match self {
            Self::Stored(id, _) | Self::New(id) => *id,
        }
    }
}

fn load_all(
    store: Store<'_>,
    images: Vec<ArchivedImage>,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Vec<Loaded>, Error> {
    let images = images.into_iter().map(name_image).collect::<Result<Vec<_>, _>>()?;
    let lease = store.state.lease()?;
    let made = Mutex::new(Made::default());
    let (plan, _locks) = lock_and_plan(store, &images, &lease, &made)?;
    let result = load_locked(store, &images, &plan, &lease, &made, progress);
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
    for name in &image.names {
        let mut parsed = ImageRef::parse(name).map_err(|source| Error::NameInArchive { name: name.clone(), source })?;
        parsed.digest = None;
        crate::tag::check_name(&parsed)?;
        if parsed.tag.is_some() && !names.contains(&parsed) {
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

/// Locks every image and every missing layer, in sorted order, so that two loads never wait for each other. A layer
/// that was there and has just been removed isn't locked; then it begins again.
fn lock_and_plan(
    store: Store<'_>,
    images: &[Named],
    lease: &Lease,
    made: &Mutex<Made>,
) -> Result<(Plan, Vec<FileLock>), Error> {
    loop {
        let digests = missing(store, images)?;
        let locks = digests
            .iter()
            .map(|digest| Ok(store.state.lock("layer", &digest.hex())?))
            .collect::<Result<Vec<_>, Error>>()?;
        if let Some(plan) = plan(store, images, &digests, lease, made)? {
            return Ok((plan, locks));
        }
    }
}

/// Every image, and every layer that is missing now.
fn missing(store: Store<'_>, images: &[Named]) -> Result<BTreeSet<Digest>, Error> {
    let mut digests: BTreeSet<Digest> = images.iter().map(|image| image.image.id).collect();
    let stored = store.state.read(StoredLayers::read)?;
    for image in images {
        for (layer, chain) in image.places() {
            if stored.find(layer.diff_id, *chain).is_none() {
                digests.insert(layer.diff_id);
            }
        }
    }
    Ok(digests)
}

/// The layers that are ready, by diff_id and the chain that they were settled for.
struct StoredLayers(HashMap<(Digest, Option<Digest>), (Id, u64)>);

impl StoredLayers {
    fn read(tx: &ReadTx<'_>) -> Result<Self, Error> {
        let rows = tx.layers().list()?.into_iter().filter(|row| row.phase == LayerPhase::Ready);
        Ok(Self(rows.map(|row| ((row.diff_id, row.chain), (row.id, row.size))).collect()))
    }

    fn find(&self, diff_id: Digest, below: Digest) -> Option<(Id, u64)> {
        self.0.get(&(diff_id, None)).or_else(|| self.0.get(&(diff_id, Some(below)))).copied()
    }
}

fn load_locked(
    store: Store<'_>,
    images: &[Named],
    plan: &Plan,
    lease: &Lease,
    made: &Mutex<Made>,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Vec<Loaded>, Error> {
    let budgets: Vec<Budget> = images.iter().map(|_| Budget::new(Limits::default())).collect();
    let mut tasks: BTreeMap<Id, Task<'_>> = BTreeMap::new();
    for ((image, places), budget) in images.iter().zip(&plan.places).zip(&budgets) {
        for (layer, place) in image.image.layers.iter().zip(places) {
            if let Place::New(id) = place {
                tasks.entry(*id).or_insert(Task { id: *id, layer, budget });
            }
        }
    }
    let existed = tasks.is_empty();
    if !existed {
        spread_layers(store.driver.home());
    }
    let mut unpacked = unpack_all(store, tasks.into_values().collect(), progress)?;
    let mut settled = Settled::default();
    for ((image, places), budget) in images.iter().zip(&plan.places).zip(&budgets) {
        settled.settle(store, image, places, &mut unpacked, budget, lease, made)?;
    }
    let known = known_blobs(store, images)?;
    if !existed || !known {
        progress(Progress::Syncing);
        for image in images {
            write_blobs(store, &image.image)?;
        }
        durable::sync_file_system(store.state.root())?;
    }
    commit(store, images, plan, &settled, lease)
}

struct Plan {
    /// For each image, each of its layers, lowest first.
    places: Vec<Vec<Place>>,
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
        let stored = StoredLayers::read(tx)?;
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

/// Tells ext4 that layers have nothing to do with each other, so that it places each in a block group of its own.
///
/// Otherwise all files go where the last layer was removed, and ext4 steps over each recently freed inode there again
/// for each new file: a load of 20,000 files right after an `rmi` took 5.4 s that way, and 0.9 s with this.
fn spread_layers(home: &Path) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(directory) = rustix::fs::open(home, flags, Mode::empty()) else { return };
    // Only for speed, and other file systems don't know it.
    if let Ok(flags) = rustix::fs::ioctl_getflags(&directory)
        && !flags.contains(IFlags::TOPDIR)
    {
        let _ = rustix::fs::ioctl_setflags(&directory, flags | IFlags::TOPDIR);
    }
}

/// Unpacks in as many threads as there are processors, at least two: while one waits for the disk the other works.
fn unpack_all(
    store: Store<'_>,
    mut tasks: Vec<Task<'_>>,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<HashMap<Id, Unpacked>, Error> {
    tasks.sort_by_key(|task| task.layer.blob.size);
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8).min(tasks.len());
    let queue = Mutex::new(tasks);
    let done = Mutex::new(HashMap::new());
    let failed = AtomicBool::new(false);
    let work = || -> Result<(), Error> {
        while !failed.load(Ordering::Relaxed) {
            let Some(task) = queue.lock().expect("nothing panics while it holds this").pop() else { break };
            match unpack_one(store, &task, progress, &failed) {
                Ok(unpacked) => {
                    done.lock().expect("nothing panics while it holds this").insert(task.id, unpacked);
                }
                Err(error) => {
                    // Only the first failure is told; the others are its consequence or come to the same.
                    let first = !failed.swap(true, Ordering::Relaxed);
                    return if first { Err(error) } else { Ok(()) };
                }
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let results: Vec<_> = workers.into_iter().map(|worker| worker.join().expect("unpacking panicked")).collect();
        results.into_iter().collect::<Result<(), Error>>()
    })?;
    Ok(done.into_inner().expect("all threads have ended"))
}

fn unpack_one(
    store: Store<'_>,
    task: &Task<'_>,
    progress: &(dyn Fn(Progress) + Sync),
    cancelled: &AtomicBool,
) -> Result<Unpacked, Error> {
    let layer = task.layer;
    let into = create_image_layer(store.driver, task.id)?;
    let reader = Watched {
        inner: layer.blob.reader(),
        diff_id: layer.diff_id,
        done: 0,
        told: 0,
        total: layer.blob.size,
        progress,
        cancelled,
    };
    // An uncompressed blob is its own diff_id, which is computed anyway.
    let options = Options { blob_digest: layer.digest.is_some_and(|digest| digest != layer.diff_id) };
    let unpacked = orlop_layers::unpack(reader, &into, options, task.budget)
        .map_err(|source| Error::Layer { name: layer.blob.name.clone(), source })?;
    verify(layer, &unpacked)?;
    Ok(unpacked)
}

fn verify(layer: &ArchivedLayer, unpacked: &Unpacked) -> Result<(), Error> {
    let wrong = |what: &str, expected, digest| {
        Err(Error::WrongDigest { name: format!("{what} {:?}", layer.blob.name), expected, digest })
    };
    if unpacked.blob_size != layer.blob.size {
        let name = layer.blob.name.clone();
        return Err(Error::WrongSize { name, expected: layer.blob.size, size: unpacked.blob_size });
    }
    match (layer.digest, unpacked.blob_digest) {
        (Some(expected), Some(digest)) if expected != digest => return wrong("the blob", expected, digest),
        _ => {}
    }
    match unpacked.diff_id == layer.diff_id {
        true => Ok(()),
        false => wrong("the layer", layer.diff_id, unpacked.diff_id),
    }
}

/// Tells how far a blob was read, each MiB, and stops when another layer has failed.
struct Watched<'a> {
    inner: BlobReader,
    diff_id: Digest,
    done: u64,
    told: u64,
    total: u64,
    progress: &'a (dyn Fn(Progress) + Sync),
    cancelled: &'a AtomicBool,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(io::Error::other("another layer failed"));
        }
        let read = self.inner.read(buffer)?;
        self.done += read as u64;
        if self.done - self.told >= 1 << 20 || (read == 0 && self.told != self.done) {
            self.told = self.done;
            (self.progress)(Progress::Unpacking { diff_id: self.diff_id, done: self.done, total: self.total });
        }
        Ok(read)
    }
}

/// What became of the new layers: for each chain that a layer was needed for, the stored layer.
#[derive(Default)]
struct Settled {
    /// By diff_id and chain; chain None where it fits everywhere.
    rows: HashMap<(Digest, Option<Digest>), (Id, u64)>,
    /// For each image, its layers, lowest first and each once, and the sum of the sizes of all.
    images: Vec<(Vec<Id>, u64)>,
    skipped_xattrs: BTreeMap<String, u64>,
}

impl Settled {
    #[expect(clippy::too_many_arguments, reason = "each is a different thing, and it is called once")]
    fn settle(
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
                            orlop_layers::settle(&store.driver.diff(id), &content.dependencies, &parents)
                                .map_err(|source| Error::Layer { name: layer.blob.name.clone(), source })?;
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

fn known_blobs(store: Store<'_>, images: &[Named]) -> Result<bool, Error> {
    store.state.read(|tx| {
        for image in images {
            let manifest = image.image.manifest.as_ref().map(|(digest, _)| *digest);
            match tx.images().get(&image.image.id.to_string())? {
                // Damaged blobs are written again from what we have in hand.
                Some(row) if row.manifest == manifest || manifest.is_none() => {
                    let whole = |digest| blob(store.state.root(), digest).is_ok();
                    if !whole(row.id) || !row.manifest.is_none_or(whole) {
                        return Ok(false);
                    }
                }
                _ => return Ok(false),
            }
        }
        Ok(true)
    })
}

fn write_blobs(store: Store<'_>, image: &ArchivedImage) -> Result<(), Error> {
    let directory = store.state.root().join("content/blobs/sha256");
    make_directories(&directory)?;
    durable::write_file_volatile(&store.blob_path(image.id), &image.config, 0o644)?;
    if let Some((digest, bytes)) = &image.manifest {
        durable::write_file_volatile(&store.blob_path(*digest), bytes, 0o644)?;
    }
    Ok(())
}

fn make_directories(path: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(path).map_err(|source| Error::Io { action: "create", path: path.to_owned(), source })
}

fn commit(
    store: Store<'_>,
    images: &[Named],
    plan: &Plan,
    settled: &Settled,
    lease: &Lease,
) -> Result<Vec<Loaded>, Error> {
    store.state.write(|tx| {
        for ((_, chain), (id, size)) in &settled.rows {
            layers::commit_ready(tx, *id, *chain, *size)?;
        }
        let now = Timestamp::now();
        let mut loaded = Vec::with_capacity(images.len());
        for ((image, places), (layers, size)) in images.iter().zip(&plan.places).zip(&settled.images) {
            let archived = &image.image;
            let manifest = archived.manifest.as_ref().map(|(digest, _)| *digest);
            let known = tx.images().get(&archived.id.to_string())?;
            let existed = known.is_some() && places.iter().all(|place| matches!(place, Place::Stored(..)));
            let row = match known {
                Some(row) => {
                    ImageRow { manifest: manifest.or(row.manifest), layers: layers.clone(), size: *size, ..row }
                }
                None => ImageRow {
                    id: archived.id,
                    manifest,
                    created: archived.parsed.created.as_deref().and_then(Timestamp::parse),
                    stored: now,
                    size: *size,
                    layers: layers.clone(),
                },
            };
            tx.images().put(&row)?;
            let mut moved = Vec::new();
            for name in &image.names {
                let key = name.to_string();
                match tx.tags().get(&key)? {
                    Some(old) if old.image != archived.id => moved.push((name.clone(), old.image)),
                    _ => {}
                }
                tx.tags().put(&TagRow { name: key, image: archived.id, tagged: now })?;
            }
            loaded.push(Loaded {
                id: archived.id,
                names: image.names.clone(),
                moved,
                existed,
                skipped_xattrs: settled.skipped_xattrs.clone(),
            });
        }
        lease.end(tx)?;
        Ok(loaded)
    })
}

/// Takes back what a failed load made. Its own failures are left to `recover`, which finds the dead lease: the error
/// that led here is the one to tell.
fn undo(store: Store<'_>, images: &[Named], lease: &Lease, made: &Made) {
    let gone: Vec<Id> = made.layers.iter().filter(|layer| store.driver.remove(**layer).is_ok()).copied().collect();
    let known = store.state.write(|tx| {
        for layer in &gone {
            tx.layers().delete(&layer.hex())?;
        }
        lease.end(tx)?;
        Ok::<_, Error>(tx.images().list()?)
    });
    let Ok(known) = known else { return };
    for image in images {
        if known.iter().any(|row| row.id == image.image.id) {
            continue;
        }
        let _ = store.delete_blob(image.image.id);
        if let Some((digest, _)) = &image.image.manifest {
            let _ = store.delete_blob(*digest);
        }
    }
}
