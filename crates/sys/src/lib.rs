//! Calls to the kernel: the mount API, paths resolved by descriptor, locks, copies, processes, and writes that are
//! durable. The only crate with `unsafe`; each wraps one call and returns owned things.

pub mod copy;
pub mod durable;
mod error;
pub mod lock;
pub mod mount;
pub mod overlay;
pub mod path;
pub mod pid;
pub mod process;

pub use error::Error;
