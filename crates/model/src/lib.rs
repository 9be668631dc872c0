//! The nouns of Orlop and the parsing of what a person types. Nothing here touches a file, the network or the kernel,
//! so anything may import it and every rule can be tested with a table of strings.
#![forbid(unsafe_code)]

pub mod digest;
pub mod error;
pub mod filter;
pub mod id;
pub mod image;
pub mod mount;
pub mod names;
pub mod near;
pub mod options;
pub mod platform;
pub mod reference;
pub mod size;
pub mod time;

pub use digest::Digest;
pub use error::{ErrorKind, Kind};
pub use id::Id;
pub use names::{ContainerName, VolumeName};
pub use platform::Platform;
pub use reference::ImageRef;
pub use time::Timestamp;
