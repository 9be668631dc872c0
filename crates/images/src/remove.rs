//! `rmi` and `image prune`.
//!
//! One transaction takes names and the image's row away and marks the layers that nothing needs any more; then their
//! directories and the blobs are deleted; then the layers' rows. `recover` finishes what a crash interrupts. The rules
//! and the messages of `rmi` are those of Docker (moby, daemon/images/image_delete.go).

use crate::list::names_of;
use crate::resolve::{Resolved, resolve};
use crate::store::mark_unreferenced;
use crate::{Error, Store};
use orlop_model::filter::Filters;
use orlop_model::{Digest, Id, ImageRef, Timestamp};
use orlop_state::{ContainerRow, ImageRow, WriteTx};
use std::collections::{HashMap, HashSet};

/// A line that `rmi` prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// `Untagged: NAME`.
    Untagged(String),
    /// `Deleted: DIGEST`: the image, or the chain id of a layer.
    Deleted(Digest),
}

impl std::fmt::Display for Removal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Untagged(name) => write!(f, "Untagged: {name}"),
            Self::Deleted(digest) => write!(f, "Deleted: {digest}"),
        }
    }
}

/// What a removal did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// In the order of printing.
    pub lines: Vec<Removal>,
    /// Bytes on the disk that are free now.
    pub freed: u64,
}

/// What is left to do once the rows are gone.
struct Leftover {
    image: ImageRow,
    layers: Vec<Id>,
}

/// Removes a name, and with its last name the image; or the image by its id.
///
/// Refused with Docker's messages while a container uses it; `force` takes the names away all the same, and deletes
/// an image that only stopped containers use. What a container needs of its layers always stays.
pub fn remove(store: Store<'_>, text: &str, force: bool) -> Result<Removed, Error> {
    // Before the transaction, because a lock may take long; the transaction looks again.
    let id = store.state.read(|tx| Ok::<_, Error>(resolve(tx, text)?.row.id))?;
    let lock = store.lock_image(id)?;
    let chain = diff_ids(store, id);
    let mut removed = Removed::default();
    let leftover = store.state.write(|tx| {
        let Resolved { row, name } = resolve(tx, text)?;
        if row.id != id {
            return Err(Error::Changed { name: text.to_owned() });
        }
        remove_rows(store, tx, &row, name, force, &chain, &mut removed.lines)
    })?;
    if let Some(leftover) = leftover {
        removed.freed = clear(store, &leftover)?;
        lock.remove();
    }
    Ok(removed)
}

/// The layers that the config names, for the lines to print; an image whose config is damaged is removed without.
fn diff_ids(store: Store<'_>, id: Digest) -> Vec<Digest> {
    store.config(id).map(|config| config.rootfs.diff_ids).unwrap_or_default()
}

fn remove_rows(
    store: Store<'_>,
    tx: &WriteTx<'_>,
    row: &ImageRow,
    name: Option<ImageRef>,
    force: bool,
    chain: &[Digest],
    lines: &mut Vec<Removal>,
) -> Result<Option<Leftover>, Error> {
    let (tagged, pinned) = names_of(&tx.tags().list()?, row.id);
    let names = [tagged, pinned].concat();
    let containers: Vec<ContainerRow> =
        tx.containers().list()?.into_iter().filter(|container| container.image == row.id).collect();
    if let Some(name) = name {
        let doomed = doomed(&names, &name);
        let is_last = doomed.len() == names.len();
        if let Some(container) = containers.first().filter(|_| is_last && !force) {
            return Err(Error::NameInUse {
                name: name.familiar(),
                container: container.id.short(),
                image: row.id.short(),
            });
        }
        for name in &doomed {
            untag(tx, name, lines)?;
        }
        // With force the name goes, and the image stays for the container that runs.
        if !is_last || containers.iter().any(|container| container.running) {
            return Ok(None);
        }
    } else {
        check_unused(row, &names, &containers, force)?;
        for name in &names {
            untag(tx, name, lines)?;
        }
    }
    delete_rows(store, tx, row, chain, lines).map(Some)
}

/// The conflicts of a removal by id. Force overrules all but a running container.
fn check_unused(row: &ImageRow, names: &[ImageRef], containers: &[ContainerRow], force: bool) -> Result<(), Error> {
    let refuse = |hard: bool, reason: String| Err(Error::InUse { image: row.id.short(), hard, reason });
    if let Some(container) = containers.iter().find(|container| container.running) {
        return refuse(true, format!("image is being used by running container {}", container.id.short()));
    }
    if force {
        return Ok(());
    }
    if !is_single(names) && !names.is_empty() {
        return refuse(false, "image is referenced in multiple repositories".to_owned());
    }
    match containers.first() {
        Some(container) => refuse(false, format!("image is being used by stopped container {}", container.id.short())),
        None => Ok(()),
    }
}

/// What goes with a name. The last tag of a repository takes the digests of that repository along; a digest that no
/// registry gave stands for every tag of its repository.
fn doomed<'a>(names: &'a [ImageRef], name: &ImageRef) -> Vec<&'a ImageRef> {
    let of_repository = || names.iter().filter(|other| other.name() == name.name());
    match name.digest {
        Some(digest) => {
            let itself: Vec<&ImageRef> = of_repository().filter(|other| other.digest == Some(digest)).collect();
            if itself.is_empty() { of_repository().collect() } else { itself }
        }
        None if of_repository().filter(|other| other.digest.is_none()).count() > 1 => {
            of_repository().filter(|other| *other == name).collect()
        }
        None => of_repository().collect(),
    }
}

/// Whether an image has one name: all of one repository, and one tag at most.
fn is_single(names: &[ImageRef]) -> bool {
    let one_repository = names.windows(2).all(|pair| pair[0].name() == pair[1].name());
    !names.is_empty() && one_repository && names.iter().filter(|name| name.digest.is_none()).count() <= 1
}

fn untag(tx: &WriteTx<'_>, name: &ImageRef, lines: &mut Vec<Removal>) -> Result<(), Error> {
    tx.tags().delete(&name.to_string())?;
    lines.push(Removal::Untagged(name.familiar()));
    Ok(())
}

fn delete_rows(
    store: Store<'_>,
    tx: &WriteTx<'_>,
    row: &ImageRow,
    chain: &[Digest],
    lines: &mut Vec<Removal>,
) -> Result<Leftover, Error> {
    let mut diff_ids = HashMap::new();
    for layer in &row.layers {
        diff_ids.extend(tx.layers().get(&layer.hex())?.map(|row| (row.diff_id, *layer)));
    }
    tx.images().delete(&row.id.to_string())?;
    lines.push(Removal::Deleted(row.id));
    let layers = mark_unreferenced(store.state, tx, &row.layers)?;
    // Docker names layers by their chains, topmost first.
    let mut below = None;
    let mut gone = Vec::new();
    for diff_id in chain {
        let chain_id = *below.insert(orlop_layers::store::chain_id(below, *diff_id));
        if diff_ids.get(diff_id).is_some_and(|layer| layers.contains(layer)) {
            gone.push(Removal::Deleted(chain_id));
        }
    }
    lines.extend(gone.into_iter().rev());
    Ok(Leftover { image: row.clone(), layers })
}

/// Deletes what the rows no longer name. The image's lock is held.
fn clear(store: Store<'_>, leftover: &Leftover) -> Result<u64, Error> {
    Ok(store.delete_layers(&leftover.layers)? + store.delete_blobs(leftover.image.id, leftover.image.manifest)?)
}

/// What `image prune` would remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrunePlan {
    /// Images, oldest first.
    pub images: Vec<Planned>,
    /// Unused images that stay because they have names and `all` wasn't given.
    pub kept: usize,
}

/// An image in a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Its id.
    pub id: Digest,
    /// Its names; none for a dangling image.
    pub names: Vec<ImageRef>,
    /// Sum of its layers in bytes, shared ones included.
    pub size: u64,
}

/// Plans a prune: dangling images, or with `all` (or the filter `dangling=false`) every image without a container.
/// Filters: dangling, until, label, label!.
pub fn plan_prune(store: Store<'_>, all: bool, filters: &Filters) -> Result<PrunePlan, Error> {
    let until = filters.until(Timestamp::now())?;
    let all = all || filters.boolean("dangling")? == Some(false);
    let (images, tags, used) = store.state.read(|tx| {
        let used: HashSet<Digest> = tx.containers().list()?.into_iter().map(|container| container.image).collect();
        Ok::<_, Error>((tx.images().list()?, tx.tags().list()?, used))
    })?;
    let mut unused: Vec<&ImageRow> = images.iter().filter(|image| !used.contains(&image.id)).collect();
    unused.sort_by_key(|image| (image.created, image.id));
    let mut plan = PrunePlan::default();
    for image in unused {
        if until.is_some_and(|until| image.created >= Some(until)) {
            continue;
        }
        let has_label_filter = filters.contains("label") || filters.contains("label!");
        if has_label_filter && !filters.matches_labels(&store.config(image.id)?.config.labels) {
            continue;
        }
        let (tagged, pinned) = names_of(&tags, image.id);
        if tagged.is_empty() || all {
            plan.images.push(Planned { id: image.id, names: [tagged, pinned].concat(), size: image.size });
        } else {
            plan.kept += 1;
        }
    }
    Ok(plan)
}

/// Removes what is planned, except for images that a container uses by now or that have got another name.
pub fn apply_prune(store: Store<'_>, plan: &PrunePlan) -> Result<Removed, Error> {
    let mut removed = Removed::default();
    for planned in &plan.images {
        let lock = store.lock_image(planned.id)?;
        let chain = diff_ids(store, planned.id);
        let mut lines = Vec::new();
        let leftover = store.state.write(|tx| {
            let Some(row) = tx.images().get(&planned.id.to_string())? else { return Ok(None) };
            let (tagged, pinned) = names_of(&tx.tags().list()?, row.id);
            let names = [tagged, pinned].concat();
            let is_used = tx.containers().list()?.iter().any(|container| container.image == row.id);
            if is_used || names != planned.names || is_leased(store, tx, &row)? {
                return Ok(None);
            }
            for name in &names {
                untag(tx, name, &mut lines)?;
            }
            delete_rows(store, tx, &row, &chain, &mut lines).map(Some)
        })?;
        if let Some(leftover) = leftover {
            removed.lines.append(&mut lines);
            removed.freed += clear(store, &leftover)?;
            lock.remove();
        }
    }
    // What was unreferenced before: layers of a container that went after its image, or damaged ones.
    let unreferenced = orlop_layers::store::remove_unreferenced(store.state, store.driver)?;
    removed.freed += unreferenced.iter().map(|layer| layer.freed).sum::<u64>();
    Ok(removed)
}

/// A load that found all of its layers there holds them by a lease.
fn is_leased(store: Store<'_>, tx: &WriteTx<'_>, row: &ImageRow) -> Result<bool, Error> {
    let leases = store.state.live_leases(tx)?;
    Ok(!row.layers.is_empty() && leases.iter().any(|lease| row.layers.iter().all(|id| lease.layers.contains(id))))
}
