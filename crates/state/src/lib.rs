//! What Orlop knows: one SQLite database, the locks, the leases and the event log.
//!
//! On disk, below the data root:
//!
//! ```text
//! format.json      the version of everything else, and the features that a reader must know
//! state.db         every relation
//! events.jsonl     what happened
//! locks/KIND/NAME  flock files, one for each object that is being changed
//! leases/ID        flock files, one for each long verb that needs objects to stay
//! ```
//!
//! Any number of processes use these at once; none of them owns anything. A row is read or written only inside
//! [`State::read`] or [`State::write`], and nothing else is done there, with one exception: [`State::live_leases`] tries
//! the lock of each lease, because a decision on what nobody needs (to remove a layer) must see the leases of the same
//! moment as the rows. That is a few calls on local files, and none of them waits.
#![forbid(unsafe_code)]

mod database;
mod error;
pub mod events;
mod format;
mod lease;
pub mod rows;
mod table;

pub use database::{ReadTx, State, WriteTx};
pub use error::Error;
pub use lease::{Lease, LeaseRow};
pub use rows::container::ContainerRow;
pub use rows::image::{ImageRow, TagRow};
pub use rows::layer::{LayerPhase, LayerRow};
pub use rows::trash::TrashRow;
pub use rows::volume::VolumeRow;
pub use table::{Row, Table};
