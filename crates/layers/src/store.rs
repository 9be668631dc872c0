//! Which layers there are: rows in the database, directories below the driver's home.
//!
//! A load or pull, which the images crate drives, goes like this:
//!
//! 1. It takes a lease, and of each layer of the image that [`Stored`] doesn't have the lock `layer/<diff_id>`, in sorted
//!    order; then it looks again, since another may have unpacked it meanwhile.
//! 2. In one transaction it writes the lease with every layer that it found, so that none of these is removed any
//!    more, and [`reserve`]s the missing ones.
//! 3. It unpacks them in parallel, each into `driver::create_image_layer`, and checks the diff_ids.
//! 4. From the lowest on it settles each that has dependencies, with the diff directories of all below it.
//! 5. One syncfs; then one transaction with [`commit_ready`] for each, [`take_the_place_of_damaged`], the image's row,
//!    and the end of the lease.
//!
//! [`remove_unreferenced`] is the only way out of the store. It goes by rows alone, so it also ends what was
//! interrupted: a load whose lease is dead, a removal that was killed.

use crate::{Driver, Result, usage};
use orlop_model::{Digest, Id};
use orlop_state::{ImageRow, LayerPhase, LayerRow, ReadTx, State, WriteTx};
use sha2::{Digest as _, Sha256};
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

/// The chain id of an image's layers up to one (OCI image specification, "Layer ChainID"); `below` is that of the layer
/// under it, None under the lowest.
pub fn chain_id(below: Option<Digest>, diff_id: Digest) -> Digest {
    match below {
        None => diff_id,
        Some(below) => Digest::from_sha256(Sha256::digest(format!("{below} {diff_id}")).into()),
    }
}

/// What a row says of a layer that fits only over `below`. Nothing below is written as the digest of nothing, since
/// None says that a layer fits everywhere.
pub fn chain_below(below: Option<Digest>) -> Digest {
    below.unwrap_or_else(|| Digest::from_sha256(Sha256::digest(b"").into()))
}

/// The layers that a new image may stand on, by diff_id and the chain that they were settled for.
pub struct Stored(HashMap<(Digest, Option<Digest>), (Id, u64)>);

impl Stored {
    /// What is there now.
    pub fn read(tx: &ReadTx<'_>) -> Result<Self> {
        let rows = tx.layers().list()?.into_iter().filter(|row| row.phase == LayerPhase::Ready && !row.damaged);
        Ok(Self(rows.map(|row| ((row.diff_id, row.chain), (row.id, row.size))).collect()))
    }

    /// The layer with this content for a place over `below` ([`chain_below`]), and its size: one that fits everywhere,
    /// or one for that chain.
    pub fn find(&self, diff_id: Digest, below: Digest) -> Option<(Id, u64)> {
        self.0.get(&(diff_id, None)).or_else(|| self.0.get(&(diff_id, Some(below)))).copied()
    }
}

/// A new layer in the state of being created under a lease. Its directory is made only after this is committed.
pub fn reserve(tx: &WriteTx<'_>, lease: Id, diff_id: Digest) -> Result<LayerRow> {
    let row = LayerRow {
        id: Id::random(),
        diff_id,
        chain: None,
        size: 0,
        phase: LayerPhase::Creating(lease),
        damaged: false,
    };
    tx.layers().insert(&row)?;
    Ok(row)
}

/// Makes a reserved layer known as whole; everything of it is on the disk. `chain` is [`chain_below`] of its place when
/// it has dependencies, None otherwise; `size` is that of [`crate::Unpacked`].
pub fn commit_ready(tx: &WriteTx<'_>, id: Id, chain: Option<Digest>, size: u64) -> Result<LayerRow> {
    let row = tx.layers().get(&id.hex())?.ok_or(crate::Error::NotFound(id))?;
    let row = LayerRow { chain, size, phase: LayerPhase::Ready, ..row };
    tx.layers().put(&row)?;
    Ok(row)
}

/// Images go over from damaged layers to whole ones with the same content, which have just become ready. Containers do
/// when they start next ([`replacements`]): what is mounted is never changed.
pub fn take_the_place_of_damaged(tx: &WriteTx<'_>, whole: &[LayerRow]) -> Result<()> {
    if whole.is_empty() {
        return Ok(());
    }
    let new: HashMap<_, Id> = whole.iter().map(|row| ((row.diff_id, row.chain), row.id)).collect();
    let damaged: HashMap<Id, Id> = tx
        .layers()
        .list()?
        .into_iter()
        .filter(|row| row.damaged)
        .filter_map(|row| Some((row.id, *new.get(&(row.diff_id, row.chain))?)))
        .collect();
    if damaged.is_empty() {
        return Ok(());
    }
    for mut image in tx.images().list()? {
        let layers: Vec<Id> = image.layers.iter().map(|layer| *damaged.get(layer).unwrap_or(layer)).collect();
        if layers != image.layers {
            image.layers = layers;
            tx.images().put(&image)?;
        }
    }
    Ok(())
}

/// The chain of a container with whole layers in the place of damaged ones, where such have come; None when there is
/// nothing to change.
pub fn replacements(tx: &ReadTx<'_>, layers: &[Id]) -> Result<Option<Vec<Id>>> {
    let mut damaged = Vec::new();
    for id in layers {
        damaged.extend(tx.layers().get(&id.hex())?.filter(|row| row.damaged));
    }
    if damaged.is_empty() {
        return Ok(None);
    }
    let stored = Stored::read(tx)?;
    let whole = |id: &Id| {
        let row = damaged.iter().find(|row| row.id == *id)?;
        stored.0.get(&(row.diff_id, row.chain)).map(|(id, _)| *id)
    };
    let mut chain: Vec<Id> = Vec::with_capacity(layers.len());
    for id in layers.iter().map(|id| whole(id).unwrap_or(*id)) {
        if !chain.contains(&id) {
            chain.push(id);
        }
    }
    Ok((chain != layers).then_some(chain))
}

/// Says of a stored layer whether it still is what it was.
pub fn set_damaged(tx: &WriteTx<'_>, id: Id, is_damaged: bool) -> Result<()> {
    if let Some(row) = tx.layers().get(&id.hex())?
        && row.damaged != is_damaged
    {
        tx.layers().put(&LayerRow { damaged: is_damaged, ..row })?;
    }
    Ok(())
}

/// The layers that an image, a container or a running verb needs: the one answer that removal, prune and `system df`
/// ask for. What lies in the trash needs none, since a writable layer there holds whole files.
pub fn referenced(state: &State, tx: &ReadTx<'_>) -> Result<HashSet<Id>> {
    referenced_without(state, tx, |_| false)
}

/// The same as if some images were gone.
pub fn referenced_without(state: &State, tx: &ReadTx<'_>, is_gone: impl Fn(&ImageRow) -> bool) -> Result<HashSet<Id>> {
    let mut used: HashSet<Id> = state.live_leases(tx)?.into_iter().flat_map(|lease| lease.layers).collect();
    used.extend(tx.images().list()?.into_iter().filter(|image| !is_gone(image)).flat_map(|image| image.layers));
    used.extend(tx.containers().list()?.into_iter().flat_map(|container| container.layers));
    Ok(used)
}

/// Layers that may go: whole ones that nothing refers to, and what an interrupted load or removal left.
pub fn unreferenced(state: &State, tx: &ReadTx<'_>) -> Result<Vec<LayerRow>> {
    let live: HashSet<Id> = state.live_leases(tx)?.into_iter().map(|lease| lease.id).collect();
    let used = referenced(state, tx)?;
    let mut rows = tx.layers().list()?;
    let alive = |lease: Id| -> Result<bool> {
        // A lease without a row yet: its holder writes it together with what it reserves, but may do so later.
        Ok(live.contains(&lease) || state.lease_is_alive(lease)?)
    };
    let mut free = Vec::new();
    for row in rows.drain(..) {
        let may_go = match row.phase {
            LayerPhase::Ready => !used.contains(&row.id),
            LayerPhase::Creating(lease) => !alive(lease)?,
            LayerPhase::Removing => true,
        };
        if may_go {
            free.push(row);
        }
    }
    Ok(free)
}

/// A layer that was removed.
#[derive(Clone, Debug)]
pub struct Removed {
    /// As it was before.
    pub row: LayerRow,
    /// Bytes that its directory had allocated.
    pub freed: u64,
}

/// Removes every layer that nothing refers to, and finishes what was interrupted.
///
/// The rows are marked in one transaction, which also decides what is unreferenced; then the directories are deleted in
/// parallel; then the rows. A kill between leaves rows that the next call finds. Deleting needs no free block.
pub fn remove_unreferenced(state: &State, driver: &dyn Driver) -> Result<Vec<Removed>> {
    // The usual case costs no write.
    if state.read(|tx| unreferenced(state, tx))?.is_empty() {
        return Ok(Vec::new());
    }
    let rows = state.write(|tx| {
        let rows = unreferenced(state, tx)?;
        for row in rows.iter().filter(|row| row.phase != LayerPhase::Removing) {
            tx.layers().put(&LayerRow { phase: LayerPhase::Removing, ..row.clone() })?;
        }
        Ok::<_, crate::Error>(rows)
    })?;
    let ids: Vec<Id> = rows.iter().map(|row| row.id).collect();
    let freed = delete(state, driver, &ids)?;
    Ok(rows.into_iter().map(|row| Removed { freed: freed.get(&row.id).copied().unwrap_or(0), row }).collect())
}

/// Deletes the directories of layers whose rows say that they are being removed, and then the rows. Gives the bytes that
/// each had allocated. What can't be deleted keeps its row and is tried again next time.
pub fn delete(state: &State, driver: &dyn Driver, layers: &[Id]) -> Result<HashMap<Id, u64>> {
    if layers.is_empty() {
        return Ok(HashMap::new());
    }
    let (freed, failure) = delete_directories(driver, layers);
    state.write(|tx| {
        for id in freed.keys() {
            tx.layers().delete(&id.hex())?;
        }
        Ok::<_, crate::Error>(())
    })?;
    failure.map_or(Ok(freed), Err)
}

/// Deletes on a few threads; what was deleted, and the first failure.
fn delete_directories(driver: &dyn Driver, layers: &[Id]) -> (HashMap<Id, u64>, Option<crate::Error>) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(layers.len());
    let queue = Mutex::new(layers.to_vec());
    let results = Mutex::new((HashMap::new(), None));
    let locked = "no thread panics while it holds this";
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let Some(id) = queue.lock().expect(locked).pop() else { return };
                    // Only for the number that is shown; a directory that was never made frees nothing.
                    let freed = usage(&driver.directory(id)).map_or(0, |usage| usage.disk);
                    let deleted = driver.remove(id);
                    let mut results = results.lock().expect(locked);
                    match deleted {
                        Ok(()) => {
                            results.0.insert(id, freed);
                        }
                        Err(error) => results.1 = results.1.take().or(Some(error)),
                    }
                }
            });
        }
    });
    results.into_inner().expect(locked)
}
