//! `system df`, `system prune`, `info` and `version`.

use crate::list::ContainerSize;
use crate::{Container, Engine, RemoveRequest, Result, VolumeUsage};
use orlop_images::ImagesUsage;
use orlop_model::{ErrorKind, Id, Kind};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// `system df`.
#[derive(Clone, Debug)]
pub struct DiskUsage {
    /// Images.
    pub images: ImagesUsage,
    /// Containers with their sizes, newest first.
    pub containers: Vec<(Container, ContainerSize)>,
    /// Volumes.
    pub volumes: Vec<VolumeUsage>,
    /// How many things lie in the trash, and the bytes that they hold.
    pub trash: (usize, u64),
}

/// What a prune of containers did.
#[derive(Clone, Debug, Default)]
pub struct Pruned {
    /// The containers that are gone.
    pub containers: Vec<Id>,
    /// Bytes of their writable layers, which wait in the trash.
    pub trashed_bytes: u64,
}

/// `info`.
#[derive(Clone, Debug)]
pub struct Info {
    /// Containers that run and aren't paused.
    pub running: usize,
    /// Containers that are paused.
    pub paused: usize,
    /// All others; those that wait for a restart are among them, as in Docker.
    pub stopped: usize,
    /// Images.
    pub images: usize,
    /// The storage driver in use.
    pub driver: &'static str,
    /// The file system that the data root lies on.
    pub backing_filesystem: String,
    /// The data root.
    pub data_root: PathBuf,
    /// The run root.
    pub run_root: PathBuf,
    /// The log drivers that `--log-driver` takes; Docker lists no `none` either.
    pub log_drivers: Vec<&'static str>,
    /// The OCI runtime.
    pub runtime: String,
    /// All of them by name, each with what is executed.
    pub runtimes: BTreeMap<String, String>,
    /// `1`, `2`, or `1` where the hierarchies are mixed.
    pub cgroup_version: &'static str,
    /// What confines containers: Docker's `name=…`.
    pub security_options: Vec<&'static str>,
    /// Of the kernel.
    pub kernel: String,
    /// PRETTY_NAME of /etc/os-release.
    pub operating_system: String,
    /// `x86_64` …
    pub architecture: String,
    /// Processors.
    pub cpus: usize,
    /// Bytes.
    pub memory: u64,
    /// The host's name.
    pub name: String,
}

/// `version`.
#[derive(Clone, Debug)]
pub struct VersionInfo {
    /// This program's.
    pub version: &'static str,
    /// Of the kernel.
    pub kernel: String,
    /// GOOS's word.
    pub os: &'static str,
    /// GOARCH's word.
    pub arch: String,
}

impl Engine {
    /// `system df`.
    pub fn disk_usage(&self) -> Result<DiskUsage> {
        let images = self.state.read(|tx| orlop_images::usage(&self.state, tx))?;
        let mut containers = Vec::new();
        for container in self.containers()? {
            let size = self.container_size(&container)?;
            containers.push((container, size));
        }
        let trash = self.trash_list()?;
        Ok(DiskUsage {
            images,
            containers,
            volumes: self.volume_usage()?,
            trash: (trash.len(), trash.iter().map(|(_, bytes)| bytes).sum()),
        })
    }

    /// Removes stopped containers; what was started or removed since the plan is left alone.
    pub fn container_prune(&self, plan: &[Container]) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        for container in plan {
            let size = match self.container_size(container) {
                Ok(size) => size.writable.disk,
                // Removed by another process since.
                Err(_) if self.row(container.id)?.is_none() => continue,
                Err(error) => return Err(error),
            };
            match self.remove(&container.id.hex(), RemoveRequest::default()) {
                Ok(()) => {
                    pruned.containers.push(container.id);
                    pruned.trashed_bytes += size;
                }
                Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(pruned)
    }

    /// `info`.
    pub fn info(&self) -> Result<Info> {
        let containers = self.containers()?;
        let count = |word| containers.iter().filter(|container| container.details.status.word() == word).count();
        let (running, paused) = (count("running"), count("paused"));
        let host = Host::read();
        Ok(Info {
            running,
            paused,
            stopped: containers.len() - running - paused,
            images: self.state.read(|tx| tx.images().list())?.len(),
            driver: self.driver()?.kind().name(),
            backing_filesystem: backing_filesystem(&self.roots.data),
            data_root: self.roots.data.clone(),
            run_root: self.roots.run.clone(),
            log_drivers: crate::logging::DRIVERS.into_iter().filter(|driver| *driver != "none").collect(),
            runtimes: self.runtimes(),
            runtime: self.config.runtime.binary.clone(),
            cgroup_version: if std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { "2" } else { "1" },
            security_options: security_options(),
            kernel: host.kernel,
            operating_system: host.operating_system,
            architecture: host.architecture,
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory: host.memory,
            name: host.name,
        })
    }

    /// `version`.
    pub fn version() -> VersionInfo {
        VersionInfo {
            version: env!("CARGO_PKG_VERSION"),
            kernel: Host::read().kernel,
            os: "linux",
            arch: orlop_model::Platform::host().architecture,
        }
    }
}

fn security_options() -> Vec<&'static str> {
    let all = [
        (orlop_runtime::apparmor::is_enabled(), "name=apparmor"),
        (true, "name=seccomp,profile=builtin"),
        (orlop_runtime::selinux::is_enforcing(), "name=selinux"),
        (orlop_runtime::spec::cgroups_are_unified(), "name=cgroupns"),
    ];
    all.into_iter().filter(|(is_on, _)| *is_on).map(|(_, name)| name).collect()
}

struct Host {
    kernel: String,
    architecture: String,
    name: String,
    operating_system: String,
    memory: u64,
}

impl Host {
    fn read() -> Self {
        let uname = rustix::system::uname();
        let text = |value: &std::ffi::CStr| value.to_string_lossy().into_owned();
        let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let pretty = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux");
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = memory
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"))
            .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
        Self {
            kernel: text(uname.release()),
            architecture: text(uname.machine()),
            name: text(uname.nodename()),
            operating_system: pretty.trim_matches('"').to_owned(),
            memory: kib.unwrap_or(0) * 1024,
        }
    }
}

/// The type of the file system that holds `path`, as mountinfo names it.
fn backing_filesystem(path: &std::path::Path) -> String {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mounts = orlop_sys::mount::mount_info().unwrap_or_default();
    // The last of the longest: a later mount at one place hides the earlier.
    let best = mounts.iter().filter(|mount| real.starts_with(&mount.mount_point));
    best.max_by_key(|mount| mount.mount_point.as_os_str().len())
        .map_or_else(|| "unknown".to_owned(), |mount| mount.file_system.clone())
}
