//! The store's rows and directories together: what stays, what goes, and what a kill leaves.

mod common;

use common::{Tar, temporary, unpack_into};
use orlop_layers::driver::{Vfs, create_image_layer};
use orlop_layers::{Driver, Error, store};
use orlop_model::{Digest, Id, Timestamp};
use orlop_state::{ImageRow, LayerPhase, LayerRow, State};
use std::path::Path;

fn digest(byte: u8) -> Digest {
    Digest::from_sha256([byte; 32])
}

/// A layer on disk and in the database, whole.
fn stored(state: &State, driver: &dyn Driver, diff_id: Digest, chain: Option<Digest>) -> LayerRow {
    let lease = state.lease().unwrap();
    let row = state.write(|tx| store::reserve(tx, lease.id(), diff_id)).unwrap();
    let diff = create_image_layer(driver, row.id).unwrap();
    unpack_into(&Tar::default().file("file", "content").end(), &diff).unwrap();
    state.write(|tx| store::commit_ready(tx, row.id, chain, 7)).unwrap()
}

fn image(state: &State, layers: Vec<Id>) {
    let row = ImageRow { id: digest(1), manifest: None, created: None, stored: Timestamp::now(), size: 7, layers };
    state.write(|tx| tx.images().put(&row)).unwrap();
}

fn open(root: &Path) -> (State, Vfs) {
    (State::open(root).unwrap(), Vfs::open(root).unwrap())
}

fn left(state: &State) -> Vec<Id> {
    state.read(|tx| tx.layers().list()).unwrap().into_iter().map(|row| row.id).collect()
}

#[test]
fn a_layer_is_found_where_it_fits() {
    let root = temporary();
    let (state, driver) = open(root.path());
    let (generic, bound, bottom) = (digest(1), digest(2), digest(3));
    let below = store::chain_id(None, digest(9));
    let any = stored(&state, &driver, generic, None);
    let here = stored(&state, &driver, bound, Some(store::chain_below(Some(below))));
    let lowest = stored(&state, &driver, bottom, Some(store::chain_below(None)));
    let find = |diff_id, below| {
        let stored = state.read(store::Stored::read).unwrap();
        stored.find(diff_id, store::chain_below(below)).map(|(id, _)| id)
    };
    assert_eq!(find(generic, None), Some(any.id));
    assert_eq!(find(generic, Some(below)), Some(any.id));
    assert_eq!(find(bound, Some(below)), Some(here.id));
    assert_eq!(find(bound, Some(digest(8))), None);
    assert_eq!(find(bound, None), None);
    assert_eq!(find(bottom, None), Some(lowest.id));
    assert_eq!(find(bottom, Some(below)), None);
    // What is being made is not there yet.
    let lease = state.lease().unwrap();
    state.write(|tx| store::reserve(tx, lease.id(), digest(5))).unwrap();
    assert_eq!(find(digest(5), None), None);
}

#[test]
fn chain_ids_are_those_of_the_specification() {
    let below = "sha256:1111111111111111111111111111111111111111111111111111111111111111".parse().unwrap();
    let upper = "sha256:2222222222222222222222222222222222222222222222222222222222222222".parse().unwrap();
    assert_eq!(store::chain_id(None, below), below);
    let expected = common::run("sh", &["-c", &format!("printf '%s' '{below} {upper}' | sha256sum")]);
    assert_eq!(store::chain_id(Some(below), upper).hex(), String::from_utf8_lossy(&expected)[..64]);
}

#[test]
fn only_what_nothing_refers_to_goes() {
    let root = temporary();
    let (state, driver) = open(root.path());
    let used = stored(&state, &driver, digest(1), None);
    let leased = stored(&state, &driver, digest(2), None);
    let free = stored(&state, &driver, digest(3), None);
    image(&state, vec![used.id]);
    let lease = state.lease().unwrap();
    state.write(|tx| lease.put(tx, "test", vec![leased.id])).unwrap();
    let creating = state.write(|tx| store::reserve(tx, lease.id(), digest(4))).unwrap();
    create_image_layer(&driver, creating.id).unwrap();
    let removed = store::remove_unreferenced(&state, &driver).unwrap();
    assert_eq!(removed.iter().map(|removed| removed.row.id).collect::<Vec<_>>(), [free.id]);
    assert!(removed[0].freed >= 4096, "{removed:?}");
    assert!(!driver.directory(free.id).exists());
    assert_eq!(left(&state).len(), 3);
    // The lease ends without a word, as after kill -9: what it held and what it was making go too.
    drop(lease);
    let removed = store::remove_unreferenced(&state, &driver).unwrap();
    assert_eq!(removed.len(), 2);
    assert!(!driver.directory(creating.id).exists() && !driver.directory(leased.id).exists());
    assert_eq!(left(&state), [used.id]);
    assert!(driver.diff(used.id).join("file").exists());
    assert!(store::remove_unreferenced(&state, &driver).unwrap().is_empty());
}

#[test]
fn a_removal_that_was_killed_is_finished() {
    let root = temporary();
    let (state, driver) = open(root.path());
    for deleted_already in [false, true] {
        let row = stored(&state, &driver, digest(1), None);
        state.write(|tx| tx.layers().put(&LayerRow { phase: LayerPhase::Removing, ..row.clone() })).unwrap();
        if deleted_already {
            driver.remove(row.id).unwrap();
        }
        let stored = state.read(store::Stored::read).unwrap();
        assert_eq!(stored.find(digest(1), store::chain_below(None)), None);
        assert_eq!(store::remove_unreferenced(&state, &driver).unwrap().len(), 1);
        assert!(left(&state).is_empty() && !driver.directory(row.id).exists());
    }
}

#[test]
fn a_layer_that_lost_its_row_is_not_made_ready() {
    let root = temporary();
    let (state, _driver) = open(root.path());
    let id = Id::random();
    let lost = state.write(|tx| store::commit_ready(tx, id, None, 1)).unwrap_err();
    assert!(matches!(lost, Error::NotFound(lost) if lost == id));
}

#[test]
fn loads_and_removals_at_once() {
    let root = temporary();
    drop(open(root.path()));
    std::thread::scope(|scope| {
        for worker in 0..6_u8 {
            let root = root.path();
            scope.spawn(move || {
                let (state, driver) = open(root);
                for round in 0..5_u8 {
                    let lease = state.lease().unwrap();
                    let row = state.write(|tx| store::reserve(tx, lease.id(), digest(worker * 8 + round))).unwrap();
                    let diff = create_image_layer(&driver, row.id).unwrap();
                    unpack_into(&Tar::default().file("file", "content").end(), &diff).unwrap();
                    let image = ImageRow {
                        id: digest(100 + worker * 8 + round),
                        manifest: None,
                        created: None,
                        stored: Timestamp::now(),
                        size: 7,
                        layers: vec![row.id],
                    };
                    let commit = |tx: &orlop_state::WriteTx<'_>| {
                        store::commit_ready(tx, row.id, None, 7)?;
                        Ok::<_, Error>(tx.images().put(&image)?)
                    };
                    state.write(commit).unwrap();
                    drop(lease);
                    if round % 2 == 1 {
                        state.write(|tx| tx.images().delete(&image.id.to_string())).unwrap();
                    }
                    store::remove_unreferenced(&state, &driver).unwrap();
                }
            });
        }
    });
    let (state, driver) = open(root.path());
    store::remove_unreferenced(&state, &driver).unwrap();
    let rows = left(&state);
    assert_eq!(rows.len(), 18);
    assert!(rows.iter().all(|&id| driver.diff(id).join("file").exists()));
    let directories = std::fs::read_dir(driver.home()).unwrap().count();
    assert_eq!(directories, 18);
}
