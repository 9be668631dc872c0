//! What `create` and `run` are asked for. The CLI makes it of flags, the API of JSON.

use orlop_model::mount::{MountSpec, VolumesFrom};
use orlop_model::options::{HealthCheck, HostOptions};
use orlop_model::{ContainerName, Id};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A container to be made.
#[derive(Clone, Debug)]
pub struct CreateRequest {
    /// None for a random one.
    pub name: Option<ContainerName>,
    /// As typed.
    pub image: String,
    /// An image of another platform is none; None takes what there is.
    pub platform: Option<orlop_model::Platform>,
    /// Replaces the image's Cmd when not empty.
    pub command: Vec<String>,
    /// Replaces the image's Entrypoint, and drops its Cmd; an empty one has no entrypoint.
    pub entrypoint: Option<Vec<String>>,
    /// `NAME=value`; a bare `NAME` removes the image's.
    pub env: Vec<String>,
    /// None for the image's.
    pub working_dir: Option<String>,
    /// None for the image's.
    pub user: Option<String>,
    /// None for the short id.
    pub hostname: Option<String>,
    /// Added to the image's.
    pub labels: BTreeMap<String, String>,
    /// `-t`.
    pub tty: bool,
    /// `-i`.
    pub open_stdin: bool,
    /// The container's stdin ends with the first client's: true when the client attaches to it.
    pub stdin_once: bool,
    /// stdin, stdout, stderr: whether the client attaches.
    pub attach: [bool; 3],
    /// `--network`.
    pub network: Network,
    /// `--rm`.
    pub auto_remove: bool,
    /// `--read-only`.
    pub read_only: bool,
    /// `-v`: as typed and parsed.
    pub binds: Vec<(String, MountSpec)>,
    /// `--mount`.
    pub mounts: Vec<MountSpec>,
    /// `--tmpfs`: the options as typed, and parsed.
    pub tmpfs: Vec<(String, MountSpec)>,
    /// `--volumes-from`.
    pub volumes_from: Vec<VolumesFrom>,
    /// `--volume-driver`.
    pub volume_driver: Option<String>,
    /// None for the image's.
    pub stop_signal: Option<String>,
    /// Seconds; None for 10.
    pub stop_timeout: Option<i64>,
    /// `--domainname`; empty for none.
    pub domainname: String,
    /// `--expose`: `80/tcp`, beside the image's.
    pub exposed_ports: Vec<String>,
    /// `--health-*`; None for the image's.
    pub health: Option<HealthCheck>,
    /// Everything else that ties it to the host.
    pub options: HostOptions,
}

/// `--network`, as far as it is built.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// A loopback device only.
    #[default]
    None,
    /// The host's network and name.
    Host,
    /// That of another container, with its names: in a request by name, in a row by id.
    Container(String),
}

impl Network {
    /// Docker's name of it.
    pub fn name(&self) -> String {
        match self {
            Self::None => "none".to_owned(),
            Self::Host => "host".to_owned(),
            Self::Container(id) => format!("container:{id}"),
        }
    }
}

/// A container that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// Its id.
    pub id: Id,
    /// For stderr: what the user may not have meant.
    pub warnings: Vec<String>,
}
