//! From what a person asked for to what the runtime mounts, in three stages that are three types:
//!
//! 1. [`orlop_model::mount::MountSpec`]: the flags, parsed. Nothing was looked up yet.
//! 2. [`ResolvedMount`]: [`resolve`] has merged the flags with `--volumes-from` and the image's `VOLUME`s, has made the
//!    volumes, and has checked each source on the host. This is what a container's row keeps and `inspect` shows.
//! 3. [`AppliedMount`]: [`apply`] has filled fresh volumes and has cloned every source to `/run/orlop/mounts/ID/N`.
//!    The runtime sees only that path, so nothing that somebody renames or links meanwhile leads it elsewhere.
//!
//! `/run/orlop/mounts/ID` is a small tmpfs, private and unbindable: what is mounted there neither spreads over the
//! host nor comes along when a container gets a recursive bind of `/` or `/run`. [`release`] takes it away, at any
//! time, as often as one likes. Callers hold the container's lock.

#![forbid(unsafe_code)]

mod apply;
mod error;
mod lookup;
mod resolve;
mod resolved;
mod source;
mod tmpfs;

pub use apply::{AppliedKind, AppliedMount, Place, apply, release};
pub use error::Error;
pub use lookup::Entry;
pub use resolve::{Inherited, LookAtImage, Request, Resolved, resolve};
pub use resolved::{MountPoint, Origin, ResolvedKind, ResolvedMount, ResolvedVolume};
