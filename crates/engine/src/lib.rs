//! The verbs of Orlop, one a file. Each is a function on an [`Engine`], which owns nothing but the paths and an open
//! database: whatever must survive is a row or a file, and any number of engines work on one data root at once.
//!
//! On disk, below the data root, this crate has `containers/ID/` (0700): the log, the exit record, and the files that
//! are mounted over /etc/hosts, /etc/hostname and /etc/resolv.conf. In the run root, `containers/ID/` is the OCI bundle
//! and the shim's socket, `mounts/ID/` the cloned sources of mounts.
#![forbid(unsafe_code)]

mod adopt;
mod attach;
mod commit;
pub mod config;
mod confine;
pub mod container;
mod cp;
mod create;
mod diff;
mod error;
mod events;
mod exec;
mod export;
mod files;
mod health;
mod images;
mod import;
pub mod inspect;
mod kill;
mod limits;
mod list;
mod logging;
mod logs;
mod open;
mod pause;
mod pull;
mod reap;
mod remove;
mod rename;
mod request;
mod restart;
mod scrub;
mod start;
mod stats;
mod stop;
mod system;
mod tend;
mod top;
mod trash;
mod units;
mod update;
mod user;
mod volumes;
mod wait;

pub use attach::{AttachRequest, Session};
pub use commit::CommitRequest;
pub use config::Config;
pub use container::Container;
pub use cp::CopyRequest;
pub use error::Error;
pub use events::EventQuery;
pub use exec::ExecRequest;
pub use import::ImportRequest;
pub use list::{ContainerSummary, ListRequest};
pub use logs::LogRequest;
pub use open::{Engine, Roots};
pub use orlop_images::registry::{ClientConfig, Credentials, Stored, server_of};
pub use orlop_images::{DamagedImage, Finding, KeptLayer, Scrubbed, Why};
pub use orlop_images::{LayerEvent, Loaded, Progress, PullEvent, PullRequest, Pulled, Source};
pub use orlop_layers::{Change, ChangeKind};
pub use orlop_runtime::attach::DETACH_KEYS;
pub use orlop_runtime::log::Stream;
pub use orlop_runtime::shim::{HealthState, HealthStatus, adopt_main as shim_adopt_main, main as shim_main};
pub use orlop_state::events::Event;
pub use orlop_state::rows::trash::TrashContent;
pub use orlop_volumes::{CreateVolume, Volume};
pub use pull::login;
pub use remove::RemoveRequest;
pub use request::{CreateRequest, Created, Network};
pub use start::Foreground;
pub use stats::{ContainerStats, Usage as StatsUsage};
pub use system::{DiskUsage, Info, Pruned, VersionInfo};
pub use top::ProcessTable;
pub use update::UpdateRequest;
pub use volumes::VolumeUsage;

/// The result of a verb.
pub type Result<T> = std::result::Result<T, Error>;
