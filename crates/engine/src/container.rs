//! A container's row as the engine reads it, and how a user names one.

use crate::{Engine, Error, Network, Result};
use orlop_model::mount::{MountSpec, VolumesFrom};
use orlop_model::near::near;
use orlop_model::options::{HealthCheck, HostOptions};
use orlop_model::{Id, Timestamp};
use orlop_mounts::ResolvedMount;
use orlop_runtime::shim::HealthState;
use orlop_state::{ContainerRow, ReadTx};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A container with all that the engine knows of it.
pub type Container = ContainerRow<Details>;

/// What the engine keeps of a container beside what the stores ask about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// When it was made.
    pub created: Timestamp,
    /// The image as the user named it.
    pub image_name: String,
    /// The storage driver that holds its writable layer.
    pub driver: String,
    /// What runs in it: the image's config and the user's flags, merged.
    pub config: ContainerConfig,
    /// How it is tied to the host.
    pub host: HostConfig,
    /// Its mounts, resolved.
    pub mounts: Vec<ResolvedMount>,
    /// Where it is in its life.
    pub status: Status,
}

/// Docker's `Config`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerConfig {
    /// The host name inside.
    pub hostname: String,
    /// As given: name or number, with or without a group; empty is root.
    pub user: String,
    /// stdin, stdout, stderr: whether the client that made it attached to them.
    pub attach: [bool; 3],
    /// Ports that the image declares.
    pub exposed_ports: Vec<String>,
    /// It has a terminal.
    pub tty: bool,
    /// Its stdin stays open.
    pub open_stdin: bool,
    /// Its stdin ends with the first client's.
    pub stdin_once: bool,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Arguments, or the program when there is no entrypoint.
    pub cmd: Vec<String>,
    /// The program.
    pub entrypoint: Vec<String>,
    /// Paths that the image declares as volumes.
    pub volumes: Vec<String>,
    /// Empty is `/`.
    pub working_dir: String,
    /// Labels of the image and of the user.
    pub labels: BTreeMap<String, String>,
    /// Empty is SIGTERM.
    pub stop_signal: String,
    /// Seconds until SIGKILL; None is 10.
    pub stop_timeout: Option<i64>,
    /// The NIS domain; empty for none.
    #[serde(default)]
    pub domainname: String,
    /// The health check, of the flags over the image's.
    #[serde(default)]
    pub health: Option<HealthCheck>,
}

/// Docker's `HostConfig`, as far as it is built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostConfig {
    /// `-v` of volumes and binds, as typed.
    pub binds: Vec<String>,
    /// `--mount`.
    pub mounts: Vec<MountSpec>,
    /// `--tmpfs`: path and options.
    pub tmpfs: BTreeMap<String, String>,
    /// `--volumes-from`.
    pub volumes_from: Vec<VolumesFrom>,
    /// `--volume-driver`.
    pub volume_driver: String,
    /// `--network`.
    pub network: Network,
    /// `--rm`.
    pub auto_remove: bool,
    /// `--read-only`.
    pub read_only: bool,
    /// Resources, security, namespaces, restart policy, log and the like.
    #[serde(default)]
    pub options: HostOptions,
}

/// Where a container is in its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The step.
    pub phase: Phase,
    /// Its first process as the host sees it while it runs, else 0.
    pub pid: u32,
    /// When that process was started, in clock ticks since boot (proc(5), field 22): tells it from a later process of
    /// the same number.
    pub pid_start: u64,
    /// The boot in which it runs.
    pub boot: String,
    /// The mount namespace that it was started from, where its mounts are; an inode number.
    #[serde(default)]
    pub mount_namespace: u64,
    /// The last start.
    pub started: Option<Timestamp>,
    /// The last end.
    pub finished: Option<Timestamp>,
    /// Of the last run.
    pub exit_code: i32,
    /// Why the last start failed.
    pub error: String,
    /// The kernel killed something in it for lack of memory.
    pub oom_killed: bool,
    /// The user asked to stop it; a restart policy then leaves it alone.
    pub stopping: bool,
    /// It was stopped because the machine goes down; the next boot may start it again.
    #[serde(default)]
    pub shutdown: bool,
    /// Its processes are frozen.
    #[serde(default)]
    pub paused: bool,
    /// Paused by a verb that is under way, and to go on after it.
    #[serde(default)]
    pub held: bool,
    /// Its restart policy starts it again.
    #[serde(default)]
    pub restarting: Option<Restarting>,
    /// How often the policy has, since the last `start`.
    #[serde(default)]
    pub restart_count: u32,
    /// The last back-off, in milliseconds; 0 before the first.
    #[serde(default)]
    pub backoff: u64,
    /// `restart` is at it: its end doesn't remove a `--rm` container.
    #[serde(default)]
    pub kept: bool,
    /// How the health check saw it last, of a container that has ended.
    #[serde(default)]
    pub health: Option<HealthState>,
}

/// A start that is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restarting {
    /// When it was planned.
    pub since: Timestamp,
    /// Milliseconds from then on.
    pub after: u64,
}

/// The step of a container's life. Creating, Starting and Removing are intents: whoever finds the container's lock
/// free undoes the first two and finishes the third.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Nobody has been told of it yet.
    Creating,
    /// Made, never run.
    Created,
    /// Being started.
    Starting,
    /// A program runs in it.
    Running,
    /// Its program has ended.
    Exited,
    /// On its way out.
    Removing {
        /// The directory of the trash that its writable layer goes to.
        trash: Id,
        /// `-v`: its anonymous volumes go as well.
        volumes: bool,
    },
}

impl Status {
    pub(crate) fn new() -> Self {
        Self {
            phase: Phase::Creating,
            pid: 0,
            pid_start: 0,
            boot: String::new(),
            mount_namespace: 0,
            started: None,
            finished: None,
            exit_code: 0,
            error: String::new(),
            oom_killed: false,
            stopping: false,
            shutdown: false,
            paused: false,
            held: false,
            restarting: None,
            restart_count: 0,
            backoff: 0,
            kept: false,
            health: None,
        }
    }

    /// Docker's word for it (`State.Status`).
    pub fn word(&self) -> &'static str {
        match self.phase {
            Phase::Creating | Phase::Created | Phase::Starting => "created",
            Phase::Running if self.paused => "paused",
            Phase::Running => "running",
            Phase::Exited if self.restarting.is_some() => "restarting",
            Phase::Exited => "exited",
            Phase::Removing { .. } => "removing",
        }
    }
}

impl Details {
    /// Program and arguments.
    pub fn arguments(&self) -> Vec<String> {
        self.config.entrypoint.iter().chain(&self.config.cmd).cloned().collect()
    }
}

/// Finds the container that the user means: by name, by id, or by a prefix that only one id has.
pub(crate) fn find(tx: &ReadTx<'_>, text: &str) -> Result<Container> {
    let containers = tx.table::<Container>();
    let missing = || {
        // The hint is no reason to fail otherwise than by what is missing.
        let names = containers.list().unwrap_or_default();
        let names = near(text.trim_start_matches('/'), names.iter().map(|container| container.name.as_str()));
        Error::NoSuchContainer(text.to_owned()).near(names)
    };
    let is_id = !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| b"0123456789abcdef".contains(&byte));
    if is_id
        && text.len() == 64
        && let Some(container) = containers.get(text)?
    {
        return Ok(container);
    }
    if let Ok(name) = text.strip_prefix('/').unwrap_or(text).parse()
        && let Some(container) = containers.named(&name)?
    {
        return Ok(container);
    }
    if !is_id {
        return Err(missing());
    }
    let mut found = containers.with_prefix(text)?;
    match found.len() {
        0 => Err(missing()),
        1 => Ok(found.remove(0)),
        _ => Err(Error::Ambiguous(text.to_owned())),
    }
}

impl Engine {
    /// The container that the user means, as it is now: one whose program has ended unnoticed is reaped first.
    pub fn container(&self, text: &str) -> Result<Container> {
        let container = self.state.read(|tx| find(tx, text))?;
        if self.needs_reaping(&container) {
            self.reap(container.id)?;
            return self.state.read(|tx| find(tx, text));
        }
        Ok(container)
    }

    /// Reads a container's row again; None when it is gone.
    pub(crate) fn row(&self, id: Id) -> Result<Option<Container>> {
        Ok(self.state.read(|tx| tx.table::<Container>().get(&id.hex()))?)
    }

    /// Changes a container's row in a transaction of its own. The caller holds the container's lock.
    pub(crate) fn update(&self, container: &mut Container, change: impl FnOnce(&mut Container)) -> Result<()> {
        change(container);
        container.running = container.details.status.phase == Phase::Running;
        Ok(self.state.write(|tx| tx.table::<Container>().put(container))?)
    }
}
