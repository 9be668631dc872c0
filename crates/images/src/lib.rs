//! Images: loading them from archives, naming, listing, describing and removing them.
//!
//! An image is a row that names its config's digest and its layers; its config and manifest lie as immutable files
//! in `content/blobs/sha256`, its layers belong to the `layers` crate. An image has a row only when all of it is on
//! disk and verified. The engine and nobody else calls this crate.

#![forbid(unsafe_code)]

pub mod archive;
mod error;
mod from_host;

pub use error::Error;
