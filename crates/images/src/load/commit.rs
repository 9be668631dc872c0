//! Blobs, and the one transaction that makes images visible; or everything taken back.

use super::plan::{Place, Plan};
use super::settle::Settled;
use super::{Loaded, Made, Named};
use crate::Error;
use crate::archive::ArchivedImage;
use crate::store::{Store, blob};
use orlop_layers::store as layers;
use orlop_model::{Digest, Id, Timestamp};
use orlop_state::{ImageRow, Lease, TagRow};
use orlop_sys::durable;
use std::collections::HashMap;
use std::path::Path;

pub(super) fn known_blobs(store: Store<'_>, images: &[Named]) -> Result<bool, Error> {
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

pub(super) fn write_blobs(store: Store<'_>, image: &ArchivedImage) -> Result<(), Error> {
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

pub(super) fn commit(
    store: Store<'_>,
    images: &[Named],
    plan: &Plan,
    settled: &Settled,
    lease: &Lease,
) -> Result<Vec<Loaded>, Error> {
    store.state.write(|tx| {
        let mut ready = Vec::with_capacity(settled.rows.len());
        for ((_, chain), (id, size)) in &settled.rows {
            ready.push(layers::commit_ready(tx, *id, *chain, *size)?);
        }
        layers::take_the_place_of_damaged(tx, &ready)?;
        let now = Timestamp::now();
        // Read once: each name that isn't there would be a look at the whole table.
        let mut tags: HashMap<String, Digest> =
            tx.tags().list()?.into_iter().map(|tag| (tag.name, tag.image)).collect();
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
                match tags.insert(key.clone(), archived.id) {
                    Some(old) if old != archived.id => moved.push((name.clone(), old)),
                    _ => {}
                }
                tx.tags().put(&TagRow { name: key, image: archived.id, tagged: now })?;
            }
            for pinned in &archived.pinned {
                tx.tags().put(&TagRow { name: pinned.to_string(), image: archived.id, tagged: now })?;
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
pub(super) fn undo(store: Store<'_>, images: &[Named], lease: &Lease, made: &Made) {
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
        let _ = store.delete_blobs(image.image.id, image.image.manifest.as_ref().map(|(digest, _)| *digest));
    }
}
