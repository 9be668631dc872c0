//! Layers: what an image is made of, and the writable layer on top of it that a container gets.
//!
//! ```text
//! <data root>/<driver>/ID/diff     the files of one layer in overlay's format: a whiteout is a character device 0:0, an
//!                                  opaque directory has trusted.overlay.opaque=y
//! <data root>/<driver>/ID/…        beside diff, what brings the layer's archive back: [`record`]
//! <data root>/<driver>/ID/lower    of a writable layer: the ids below it, topmost first, joined by ':'
//! <data root>/<driver>/ID/work     of a writable layer: overlay's own
//! <data root>/<driver>/ID/merged   of a writable layer: where it is mounted
//! ```
//!
//! An image's layers are unpacked alone and in parallel ([`unpack`]), then put right for the chain that they belong to
//! ([`settle`]), flushed and made known with the image's row in one transaction ([`store`]). A [`driver`] makes the
//! root file system of a container out of a chain.

#![forbid(unsafe_code)]

mod error;

mod look_up;
mod merged;

pub mod changes;
pub mod driver;
pub mod pack;
pub mod record;
pub mod settle;
pub mod store;
pub mod unpack;
pub mod usage;

pub use changes::{Change, ChangeKind};
pub use driver::{Driver, DriverKind};
pub use error::{Error, Result};
pub use look_up::look_up;
pub use record::{Archived, LayerArchive};
pub use settle::settle;
pub use unpack::{Budget, Dependencies, Limits, Options, Unpacked, unpack};
pub use usage::{Usage, usage};
