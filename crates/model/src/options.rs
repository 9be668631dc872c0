//! The flags of `run` and `create` that tie a container to its host, parsed: resources, devices, namespaces, security,
//! health, restart and log. The rules and their words are Docker's (docker/cli `cli/command/container/opts.go`, moby
//! `daemon/daemon_unix.go`).
//!
//! Everything here is stored in a container's row, so a field that is added must have a default.

pub mod device;
pub mod health;
pub mod names;
pub mod namespace;
pub mod policy;
pub mod resources;
pub mod security;

pub use device::{DeviceMapping, DeviceRule, ThrottleDevice, WeightDevice};
pub use health::HealthCheck;
pub use namespace::{CgroupMode, IpcMode, PidMode, UserMode, UtsMode};
pub use policy::{LogConfig, RestartName, RestartPolicy};
pub use resources::{Resources, Ulimit};
pub use security::SecurityOptions;

use crate::{ErrorKind, Kind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A flag whose value makes no sense, in Docker's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidOption(pub String);

impl Kind for InvalidOption {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

pub(crate) fn invalid<T>(text: impl Into<String>) -> Result<T, InvalidOption> {
    Err(InvalidOption(text.into()))
}

/// Docker's `HostConfig`, as far as it is neither mounts nor ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostOptions {
    /// `--annotation`, for the OCI runtime.
    pub annotations: BTreeMap<String, String>,
    /// `--cap-add`: `CAP_…` or `ALL`.
    pub cap_add: Vec<String>,
    /// `--cap-drop`: `CAP_…` or `ALL`.
    pub cap_drop: Vec<String>,
    /// `--cgroup-parent`; empty for the engine's own.
    pub cgroup_parent: String,
    /// `--cgroupns`.
    pub cgroup: CgroupMode,
    /// `--cidfile`, as Docker shows it.
    pub id_file: String,
    /// `--dns`.
    pub dns: Vec<String>,
    /// `--dns-option`.
    pub dns_options: Vec<String>,
    /// `--dns-search`.
    pub dns_search: Vec<String>,
    /// `--add-host`: `NAME:ADDRESS`.
    pub extra_hosts: Vec<String>,
    /// `--group-add`: names or numbers.
    pub group_add: Vec<String>,
    /// `--init`.
    pub init: bool,
    /// `--ipc`.
    pub ipc: IpcMode,
    /// `--pid`.
    pub pid: PidMode,
    /// `--uts`.
    pub uts: UtsMode,
    /// `--userns`.
    pub user: UserMode,
    /// `--log-driver`, `--log-opt`.
    pub log: LogConfig,
    /// `--oom-score-adj`.
    pub oom_score_adj: i32,
    /// `--privileged`.
    pub privileged: bool,
    /// Memory, CPUs, devices and the like.
    pub resources: Resources,
    /// `--restart`.
    pub restart: RestartPolicy,
    /// `--runtime`; empty for the default.
    pub runtime: String,
    /// `--security-opt`, checked; a seccomp profile stands here with its text, as in Docker.
    pub security: Vec<String>,
    /// `--shm-size` in bytes; None for 64 MiB.
    pub shm_size: Option<u64>,
    /// `--storage-opt`.
    pub storage: BTreeMap<String, String>,
    /// `--sysctl`.
    pub sysctls: BTreeMap<String, String>,
}

impl HostOptions {
    /// `--shm-size` of who doesn't say any, in bytes.
    pub const SHM_SIZE: u64 = 64 << 20;

    /// Refuses what contradicts itself, whatever the machine; `network` is `host`, `container:…` or another name.
    pub fn check(&self, network: &str, hostname: Option<&str>) -> Result<(), InvalidOption> {
        self.resources.check()?;
        SecurityOptions::parse(&self.security)?;
        if !(-1000..=1000).contains(&self.oom_score_adj) {
            return invalid(format!("Invalid value {}, range for oom score adj is [-1000, 1000]", self.oom_score_adj));
        }
        if self.uts == UtsMode::Host && hostname.is_some_and(|name| !name.is_empty()) {
            return invalid("conflicting options: hostname and the UTS mode");
        }
        if self.privileged && self.user != UserMode::Own && self.user != UserMode::Host {
            return invalid("privileged mode is incompatible with user namespaces");
        }
        let joins = network.starts_with("container:");
        for (given, what) in [
            (hostname.is_some_and(|name| !name.is_empty()), "hostname"),
            (!self.dns.is_empty(), "dns"),
            (!self.extra_hosts.is_empty(), "custom host-to-IP mapping"),
        ] {
            if joins && given {
                return invalid(format!("conflicting options: {what} and the network mode"));
            }
        }
        self.check_sysctls(network)
    }

    fn check_sysctls(&self, network: &str) -> Result<(), InvalidOption> {
        const KERNEL: [&str; 8] = [
            "kernel.msgmax",
            "kernel.msgmnb",
            "kernel.msgmni",
            "kernel.sem",
            "kernel.shmall",
            "kernel.shmmax",
            "kernel.shmmni",
            "kernel.shm_rmid_forced",
        ];
        for name in self.sysctls.keys() {
            let is_network = name.starts_with("net.");
            let is_ipc = KERNEL.contains(&name.as_str()) || name.starts_with("fs.mqueue.");
            let is_uts = name == "kernel.domainname";
            match () {
                () if !(is_network || is_ipc || is_uts) => {
                    return invalid(format!(
                        "sysctl {name:?} is not allowed: it is not of a namespace of the container"
                    ));
                }
                () if is_network && network == "host" => {
                    return invalid(format!("sysctl {name:?} not allowed in host network namespace"));
                }
                () if is_ipc && self.ipc == IpcMode::Host => {
                    return invalid(format!("sysctl {name:?} not allowed in host ipc namespace"));
                }
                () if is_uts && self.uts == UtsMode::Host => {
                    return invalid(format!("sysctl {name:?} not allowed in host UTS namespace"));
                }
                () => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_have_dockers_words() {
        let sysctl = |name: &str| HostOptions {
            sysctls: BTreeMap::from([(name.to_owned(), "1".to_owned())]),
            ..HostOptions::default()
        };
        let ok = HostOptions::default();
        for (options, network, hostname, expected) in [
            (&ok, "none", None, ""),
            (&ok, "container:x", Some("a"), "conflicting options: hostname and the network mode"),
            (
                &HostOptions { uts: UtsMode::Host, ..ok.clone() },
                "none",
                Some("a"),
                "conflicting options: hostname and the UTS mode",
            ),
            (
                &HostOptions { dns: vec!["1.1.1.1".into()], ..ok.clone() },
                "container:x",
                None,
                "conflicting options: dns and the network mode",
            ),
            (
                &HostOptions { oom_score_adj: 1001, ..ok.clone() },
                "none",
                None,
                "Invalid value 1001, range for oom score adj is [-1000, 1000]",
            ),
            (&sysctl("net.ipv4.ip_forward"), "none", None, ""),
            (
                &sysctl("net.ipv4.ip_forward"),
                "host",
                None,
                "sysctl \"net.ipv4.ip_forward\" not allowed in host network namespace",
            ),
            (
                &sysctl("kernel.panic"),
                "none",
                None,
                "sysctl \"kernel.panic\" is not allowed: it is not of a namespace of the container",
            ),
        ] {
            let found = options.check(network, hostname).err().map(|error| error.to_string()).unwrap_or_default();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn rows_without_a_field_are_read() {
        assert_eq!(serde_json::from_str::<HostOptions>("{}").unwrap(), HostOptions::default());
    }
}
