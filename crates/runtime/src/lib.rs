//! Running containers: the OCI spec, the OCI runtime behind a trait, the shim that stands beside each running container,
//! and the client's side of attach and exec. Knows no store and no database: the engine hands in paths, and rows are
//! the engine's business.
//!
//! A container's run directory (`<run root>/containers/ID`, gone at reboot) is also its OCI bundle:
//!
//! ```text
//! config.json          the OCI spec
//! shim.json            what the shim is told (shim::ShimConfig)
//! stdin stdout stderr  FIFOs (not for a terminal)
//! shim.sock            the shim's socket (protocol)
//! shim.log             what the shim could not do, where that is harmless
//! exec-ID.json         one exec session (shim::ExecRecord)
//! ```
//!
//! The exit record and the container's log lie in the data root; their paths are part of the shim's config.
#![forbid(unsafe_code)]

pub mod apparmor;
pub mod attach;
pub mod error;
pub mod freezer;
pub mod launch;
pub mod log;
pub mod oci;
pub mod protocol;
pub mod seccomp;
pub mod selinux;
pub mod shim;
pub mod spec;

pub use error::Error;
pub use launch::{LaunchRequest, Launched, launch};
