//! `image scrub`: whether what is stored still is what was loaded.
//!
//! Of each image its config and manifest are hashed; each layer's archive is made again from its files and hashed, and
//! every path of it is compared with what it looked like when it was stored. A layer that differs is marked in its row:
//! the next load or pull of an image with that layer stores it anew, in a directory of its own, and all images go over
//! to that. What is mounted is never changed; a container goes over when it starts next.

use crate::list::names_of;
use crate::resolve::resolve;
use crate::{Error, Store, blob};
use orlop_layers::record;
use orlop_layers::store as layers;
use orlop_model::{Digest, Id, ImageRef, Platform};
use orlop_state::{ImageRow, LayerPhase, LayerRow};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Mutex;

/// Of one layer; a layer that is all wrong would fill the memory otherwise.
const MAX_FINDINGS: usize = 1000;

/// Something that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The images that have it, by a name or else by their short ids.
    pub images: Vec<String>,
    /// The layer; None: the image's config or manifest.
    pub layer: Option<Digest>,
    /// In the layer; empty for the whole of it.
    pub path: PathBuf,
    /// What differs.
    pub what: String,
}

/// What a scrub found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Images that were looked at.
    pub images: usize,
    /// Layers that were looked at, each once.
    pub layers: usize,
    /// Everything that differs, by layer and path.
    pub findings: Vec<Finding>,
    /// Images that something was found in.
    pub damaged: Vec<DamagedImage>,
    /// Running containers that stand on a damaged layer, and do so until they stop.
    pub running: BTreeSet<String>,
}

/// An image that something was found in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedImage {
    /// Its id.
    pub id: Digest,
    /// By a name or else by its short id.
    pub name: String,
    /// Under which registries have it, exactly it.
    pub pinned: Vec<ImageRef>,
    /// What its config says that it is for.
    pub platform: Option<Platform>,
}

struct Work {
    images: Vec<Named>,
    layers: BTreeMap<Id, LayerRow>,
}

struct Named {
    row: ImageRow,
    shown: String,
    pinned: Vec<ImageRef>,
}

impl Work {
    /// Those that have the layer.
    fn having(&self, layer: Id) -> impl Iterator<Item = &Named> {
        self.images.iter().filter(move |image| image.row.layers.contains(&layer))
    }
}

/// Checks the images that `names` mean, or all when there are none. `progress` hears of each layer that was checked and
/// of how many there are. A dry run marks nothing as damaged.
pub fn scrub(
    store: Store<'_>,
    names: &[String],
    dry_run: bool,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Scrubbed, Error> {
    let lease = store.state.lease()?;
    let work = store.state.write(|tx| {
        let mut rows: BTreeMap<Digest, ImageRow> = BTreeMap::new();
        for name in names {
            let row = resolve(tx, name)?.row;
            rows.insert(row.id, row);
        }
        if names.is_empty() {
            rows.extend(tx.images().list()?.into_iter().map(|row| (row.id, row)));
        }
        let tags = tx.tags().list()?;
        let wanted: BTreeSet<Id> = rows.values().flat_map(|row| row.layers.iter().copied()).collect();
        let stored = tx.layers().list()?.into_iter().filter(|row| row.phase == LayerPhase::Ready);
        let layers = stored.filter(|row| wanted.contains(&row.id)).map(|row| (row.id, row)).collect();
        lease.put(tx, "scrub", wanted.into_iter().collect())?;
        let name = |row: ImageRow| {
            let (names, pinned) = names_of(&tags, row.id);
            Named { shown: names.first().map_or_else(|| row.id.short(), ImageRef::familiar), row, pinned }
        };
        let images = rows.into_values().map(name);
        Ok::<_, Error>(Work { images: images.collect(), layers })
    })?;
    let scrubbed = scrub_leased(store, &work, dry_run, progress);
    let is_unneeded = store.state.write(|tx| {
        lease.end(tx)?;
        let needed = layers::referenced(store.state, tx)?;
        Ok::<_, Error>(work.layers.keys().any(|layer| !needed.contains(layer)))
    })?;
    if is_unneeded {
        // An image was removed meanwhile, and only this scrub still needed its layers.
        layers::remove_unreferenced(store.state, store.driver)?;
    }
    scrubbed
}

fn scrub_leased(
    store: Store<'_>,
    work: &Work,
    dry_run: bool,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Scrubbed, Error> {
    let mut scrubbed = Scrubbed { images: work.images.len(), layers: work.layers.len(), ..Scrubbed::default() };
    let mut damaged: BTreeSet<Digest> = BTreeSet::new();
    for image in &work.images {
        let row = &image.row;
        let mut found = |what: String| {
            let images = vec![image.shown.clone()];
            scrubbed.findings.push(Finding { images, layer: None, path: PathBuf::new(), what });
            damaged.insert(row.id);
        };
        for (what, digest) in [("config", Some(row.id)), ("manifest", row.manifest)] {
            match digest.map(|digest| blob(store.state.root(), digest)) {
                None | Some(Ok(_)) => {}
                Some(Err(error)) => found(format!("its {what} is damaged: {error}")),
            }
        }
        for layer in row.layers.iter().filter(|layer| !work.layers.contains_key(layer)) {
            found(format!("its layer {} is not in the database", layer.short()));
        }
    }
    let checked = check_all(store, work, progress)?;
    store.state.write(|tx| {
        for (id, found) in checked.iter().filter(|_| !dry_run) {
            layers::set_damaged(tx, *id, !found.is_empty())?;
        }
        for container in tx.containers().list()?.into_iter().filter(|container| container.running) {
            if container.layers.iter().any(|layer| checked.get(layer).is_some_and(|found| !found.is_empty())) {
                scrubbed.running.insert(container.name.to_string());
            }
        }
        Ok::<_, Error>(())
    })?;
    for (id, found) in checked {
        if found.is_empty() {
            continue;
        }
        damaged.extend(work.having(id).map(|image| image.row.id));
        let images: Vec<String> = work.having(id).map(|image| image.shown.clone()).collect();
        let layer = work.layers.get(&id).map(|row| row.diff_id);
        let finding =
            |one: record::Difference| Finding { images: images.clone(), layer, path: one.path, what: one.what };
        scrubbed.findings.extend(found.into_iter().map(finding));
    }
    let damaged = work.images.iter().filter(|image| damaged.contains(&image.row.id));
    let image = |image: &Named| DamagedImage {
        id: image.row.id,
        name: image.shown.clone(),
        pinned: image.pinned.clone(),
        platform: store.config(image.row.id).ok().map(|config| Platform {
            os: config.os,
            architecture: config.architecture,
            variant: config.variant.unwrap_or_default(),
        }),
    };
    scrubbed.damaged = damaged.map(image).collect();
    Ok(scrubbed)
}

/// Every layer with what differs in it, checked on a few threads.
fn check_all(
    store: Store<'_>,
    work: &Work,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<BTreeMap<Id, Vec<record::Difference>>, Error> {
    let threads = crate::load::threads().min(work.layers.len());
    let mut queue: Vec<&LayerRow> = work.layers.values().collect();
    queue.sort_by_key(|row| row.size);
    let queue = Mutex::new(queue);
    let checked = Mutex::new(BTreeMap::new());
    let locked = "no thread panics while it holds this";
    let check = || -> Result<(), Error> {
        loop {
            let Some(row) = queue.lock().expect(locked).pop() else { return Ok(()) };
            let found = check_layer(store, row)?;
            let mut checked = checked.lock().expect(locked);
            checked.insert(row.id, found);
            progress(checked.len(), work.layers.len());
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(check)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a check panicked"))
    })?;
    Ok(checked.into_inner().expect(locked))
}

fn check_layer(store: Store<'_>, row: &LayerRow) -> Result<Vec<record::Difference>, Error> {
    let mut found: Vec<record::Difference> = Vec::new();
    let mut more = 0_u64;
    let mut tell = |one: record::Difference| match found.len() < MAX_FINDINGS {
        true => found.push(one),
        false => more += 1,
    };
    let checked = record::check(&store.driver.directory(row.id), row.diff_id, &mut tell);
    if let Err(error) = checked {
        if !error.is_damage() {
            return Err(error.into());
        }
        tell(record::Difference { path: PathBuf::new(), what: format!("can't be checked: {error}") });
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    if more > 0 {
        found.push(record::Difference { path: PathBuf::new(), what: format!("and {more} more") });
    }
    Ok(found)
}
