//! Volumes: the store, the local driver, the first use and the trash.
//!
//! ```text
//! volumes/NAME/_data             what containers see; Docker's path
//! volumes/NAME/volume.json       what the row can be rebuilt from
//! volumes/NAME/.filling-ID       content of an image on its way to become `_data`
//! volumes/NAME/_data/.orlop-filling-ID, .orlop-filled-ID  the same inside of a `_data` that is mounted
//! volumes/.creating-ID           a volume that is being made
//! trash/ID                       a removed volume's whole directory, or a container's writable layer
//! volumes/.emptying-ID           a volume that is deleted for good without the trash
//! ```
//!
//! The life of a volume: [`create`] makes it, [`mount`] makes `_data` usable and holds the volume's lock until the
//! caller has cloned it to where the container finds it, [`initialise`] copies the image's content in meanwhile,
//! [`unmount`] ends the use, [`remove`] moves it to the trash, [`trash::restore`] brings it back. Each change of an
//! existing volume is an intent in its row ([`orlop_state::rows::volume::VolumePhase`]), held under the lock
//! `volume/NAME`; [`recover`] finishes or undoes those whose holder is gone, and so does every verb that meets one.
//!
//! The engine and `mounts` call this crate. Whoever lets a container refer to a volume does that in one transaction
//! that also finds the volume's row in the phase Ready, because a removal checks for references in its own.
#![forbid(unsafe_code)]

mod crash;
mod create;
mod driver;
mod error;
mod first_use;
mod local;
mod mount;
mod mounted;
mod prune;
mod recover;
mod remove;
mod store;
pub mod trash;

pub use create::{CreateVolume, Created, create};
pub use driver::VolumeDriver;
pub use error::{Error, InvalidOptions};
pub use first_use::{FirstUse, FirstUseOptions, initialise};
pub use local::LocalDriver;
pub use mount::{Mounted, mount, unmount};
pub use prune::{PrunePlan, Pruned, plan_prune, prune};
pub use recover::{recover, recover_volumes};
pub use remove::{Removal, RemoveVolume, remove, undo_create};
pub use store::{Volume, data_path, get, inspect, list, require, unused, usage, volume_path};

#[cfg(test)]
mod tests;
