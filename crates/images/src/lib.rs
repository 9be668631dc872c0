//! Images: pulling them from registries, loading them from archives, naming, listing, describing and removing them.
//!
//! An image is a row that names its config's digest and its layers; its config and manifest lie as immutable files
//! in `content/blobs/sha256`, its layers belong to the `layers` crate. An image has a row only when all of it is on
//! disk and verified. The engine and nobody else calls this crate.

#![forbid(unsafe_code)]

pub mod archive;
mod aside;
mod error;
mod from_host;
mod inspect;
mod instruction;
mod list;
mod load;
mod made;
mod pull;
pub mod registry;
mod remove;
mod resolve;
mod save;
mod scrub;
mod store;
mod tag;
mod usage;
mod why;

pub use archive::Source;
pub use aside::Aside;
pub use error::Error;
pub use inspect::{GraphDriver, HistoryLine, ImageInspect, InspectConfig, Metadata, RootFs, history, inspect};
pub use instruction::apply_instruction;
pub use list::{ImageLine, NONE, Summary, lines, list};
pub use load::{Loaded, Progress, from_host, load};
pub use made::{NewImage, commit, import};
pub use pull::{LayerEvent, PullEvent, PullRequest, Pulled, pull};
pub use registry::check_platform;
pub use remove::{Planned, PrunePlan, Removal, Removed, apply_prune, plan_prune, remove};
pub use resolve::{Resolved, resolve};
pub use save::{Saved, save, save_file};
pub use scrub::{DamagedImage, Finding, Scrubbed, scrub};
pub use store::{Recovered, Store, blob, config, recover};
pub use tag::tag;
pub use usage::{ImageUsage, ImagesUsage, usage};
pub use why::{Keeper, KeptLayer, Why, why};
