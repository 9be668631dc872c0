//! What ties a container's program to its host, at the moment of its start: namespaces of other containers are looked
//! up, devices found, capabilities counted, the system calls' filter made. What the OCI runtime is told comes from here.

use crate::container::Phase;
use crate::{Container, Engine, Error, Network, Result};
use orlop_model::Id;
use orlop_model::options::security::Seccomp;
use orlop_model::options::{CgroupMode, HostOptions, IpcMode, PidMode, SecurityOptions, UtsMode};
use orlop_runtime::oci::Runc;
use orlop_runtime::spec::{self, Confinement, Device, HostInput, Namespace, Namespaces, SpecMount};
use orlop_runtime::{apparmor, seccomp, selinux};
use orlop_sys::mount::{self, Changes};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Where a container that is started with `--init` has it.
const INIT_TARGET: &str = "/sbin/docker-init";
/// Where this machine may have a small init without libraries, so that it runs in any image.
const INITS: [&str; 5] = [
    "/usr/bin/tini-static",
    "/usr/libexec/docker/docker-init",
    "/usr/local/bin/docker-init",
    "/usr/bin/docker-init",
    "/usr/local/bin/tini-static",
];

impl Engine {
    /// How the container is tied to the host.
    pub(crate) fn host_input(&self, container: &Container) -> Result<HostInput> {
        let options = &container.details.host.options;
        let security = SecurityOptions::parse(&options.security)?;
        let capabilities = spec::capabilities(options.privileged, &options.cap_add, &options.cap_drop)?;
        Ok(HostInput {
            namespaces: self.namespaces(container)?,
            domainname: container.details.config.domainname.clone(),
            resources: options.resources.clone(),
            devices: devices(container)?,
            privileged: options.privileged,
            open_system_paths: security.open_system_paths,
            seccomp: match (&security.seccomp, options.privileged) {
                (Seccomp::Unconfined, _) | (Seccomp::Default, true) => None,
                (Seccomp::Default, false) => Some(seccomp::profile(&capabilities)),
                (Seccomp::Profile(text), _) => Some(seccomp::from_docker(text, &capabilities)?),
            },
            mount_label: labels(container, &security).map(|labels| labels.mount),
            sysctls: options.sysctls.clone(),
            annotations: options.annotations.clone(),
            ipc: options.ipc.clone(),
            shm_size: options.shm_size,
        })
    }

    /// What its processes may do, also those of `exec`.
    pub(crate) fn confinement(&self, container: &Container) -> Result<Confinement> {
        let options = &container.details.host.options;
        let security = SecurityOptions::parse(&options.security)?;
        let apparmor = match &security.apparmor {
            // A profile that doesn't exist fails in the runtime; without AppArmor none can.
            Some(name) if apparmor::is_enabled() => Some(name.clone()),
            Some(name) if name != "unconfined" => {
                return Err(Error::Invalid(format!(
                    "--security-opt apparmor={name}: AppArmor is not enabled on this machine"
                )));
            }
            Some(_) => None,
            None if options.privileged => apparmor::is_enabled().then(|| "unconfined".to_owned()),
            None => apparmor::default_profile(&self.roots().run)?,
        };
        let mut ulimits = options.resources.ulimits.clone();
        let own = crate::limits::OwnLimits::read();
        own.clip(&mut ulimits);
        Ok(Confinement {
            capabilities: spec::capabilities(options.privileged, &options.cap_add, &options.cap_drop)?,
            no_new_privileges: security.no_new_privileges,
            apparmor,
            selinux: labels(container, &security).map(|labels| labels.process),
            ulimits,
            oom_score_adj: (options.oom_score_adj != 0).then(|| own.oom_score_adj(options.oom_score_adj)),
        })
    }

    fn namespaces(&self, container: &Container) -> Result<Namespaces> {
        let host = &container.details.host;
        let of = |id: &str, kind: &str| -> Result<Namespace> {
            let pid = self.joinable(id, kind)?.details.status.pid;
            Ok(Namespace::Path(format!("/proc/{pid}/ns/{kind}").into()))
        };
        let default = Namespaces::default();
        Ok(Namespaces {
            network: match &host.network {
                Network::None => Namespace::Own,
                Network::Host => Namespace::Host,
                Network::Container(id) => of(id, "net")?,
            },
            pid: match &host.options.pid {
                PidMode::Own => Namespace::Own,
                PidMode::Host => Namespace::Host,
                PidMode::Container(id) => of(id, "pid")?,
            },
            ipc: match &host.options.ipc {
                IpcMode::Private | IpcMode::None | IpcMode::Shareable => Namespace::Own,
                IpcMode::Host => Namespace::Host,
                IpcMode::Container(id) => of(id, "ipc")?,
            },
            uts: match host.options.uts {
                UtsMode::Own => Namespace::Own,
                UtsMode::Host => Namespace::Host,
            },
            cgroup: match host.options.cgroup {
                CgroupMode::Host => Namespace::Host,
                CgroupMode::Private => Namespace::Own,
                // Docker gives a privileged container the host's view.
                CgroupMode::Default if host.options.privileged => Namespace::Host,
                CgroupMode::Default => default.cgroup,
            },
        })
    }

    /// The container whose namespace another one joins: it must run, and not keep it to itself.
    fn joinable(&self, id: &str, kind: &str) -> Result<Container> {
        let container = self.container(id)?;
        let what = match kind {
            "net" => "network",
            "pid" => "PID",
            _ => "IPC",
        };
        if container.details.status.phase != Phase::Running {
            return Err(Error::Conflict(format!("cannot join {what} of a non running container: {}", container.id)));
        }
        if kind == "ipc" && container.details.host.options.ipc != IpcMode::Shareable {
            return Err(Error::Conflict(format!(
                "cannot join IPC of container {}: non-shareable IPC (hint: use --ipc shareable for the donor container)",
                container.id
            )));
        }
        Ok(container)
    }

    /// `NAME` of `container:NAME`, as the id that stays when the container is renamed.
    pub(crate) fn join_by_id(&self, name: &mut String) -> Result<Container> {
        let container = self.container(name)?;
        *name = container.id.hex();
        Ok(container)
    }

    /// /dev/shm and the like, where they are somebody else's; less what the user mounts there.
    pub(crate) fn shared_memory(&self, container: &Container) -> Result<Vec<SpecMount>> {
        let options = &container.details.host.options;
        let bind = |source: PathBuf, target: &str| SpecMount::Bind {
            source,
            target: target.to_owned(),
            options: vec!["bind".to_owned(), "rprivate".to_owned()],
        };
        let mut mounts = match &options.ipc {
            IpcMode::Private | IpcMode::None => Vec::new(),
            IpcMode::Shareable => {
                let size = options.shm_size.unwrap_or(HostOptions::SHM_SIZE);
                let place = self.shared_memory_of(container.id);
                mount_shared_memory(&place, size)?;
                vec![bind(place, "/dev/shm")]
            }
            IpcMode::Host => vec![bind("/dev/shm".into(), "/dev/shm"), bind("/dev/mqueue".into(), "/dev/mqueue")],
            IpcMode::Container(id) => vec![bind(self.shared_memory_of(self.joinable(id, "ipc")?.id), "/dev/shm")],
        };
        mounts.retain(|mount| {
            let SpecMount::Bind { source, target, .. } = mount else { return true };
            // A host without POSIX message queues has none to share.
            source.exists() && !container.details.mounts.iter().any(|given| given.target == *target)
        });
        Ok(mounts)
    }

    fn shared_memory_of(&self, id: Id) -> PathBuf {
        self.bundle(id).join("shm")
    }

    /// Unmounts what [`Self::shared_memory`] mounted; who has it open keeps it.
    pub(crate) fn release_shared_memory(&self, id: Id) -> Result<()> {
        let place = self.shared_memory_of(id);
        if place.symlink_metadata().is_ok() {
            mount::unmount_tree(&place)?;
        }
        Ok(())
    }

    /// Program and arguments, and with `--init` what is mounted for it.
    pub(crate) fn program(&self, container: &Container) -> Result<(Vec<String>, Option<SpecMount>)> {
        let arguments = container.details.arguments();
        if !container.details.host.options.init {
            return Ok((arguments, None));
        }
        let source = INITS.iter().map(PathBuf::from).find(|path| is_static_program(path)).ok_or_else(|| {
            Error::Unsupported(
                "--init needs a small init without libraries, and this machine has none; install the package tini \
                 (apt-get install tini)"
                    .to_owned(),
            )
        })?;
        let source = source.canonicalize().map_err(Error::io("resolve", &source))?;
        let mount = SpecMount::Bind {
            source,
            target: INIT_TARGET.to_owned(),
            options: ["bind", "rprivate", "ro"].map(str::to_owned).to_vec(),
        };
        let with_init = [INIT_TARGET, "--"].map(str::to_owned).into_iter().chain(arguments).collect();
        Ok((with_init, Some(mount)))
    }

    /// The container's cgroup, below every controller's root.
    pub(crate) fn cgroup_path(container: &Container) -> String {
        let parent = container.details.host.options.cgroup_parent.trim_matches('/');
        let parent = if parent.is_empty() { "orlop" } else { parent };
        format!("/{parent}/{}", container.id)
    }

    /// The OCI runtime that this container runs with.
    pub(crate) fn runtime_of(&self, container: &Container) -> Result<Runc> {
        self.named_runtime(&container.details.host.options.runtime)
    }

    /// The OCI runtimes that `--runtime` takes, each with what is executed.
    pub(crate) fn runtimes(&self) -> BTreeMap<String, String> {
        let default = self.runtime().binary;
        self.config.runtimes.clone().into_iter().chain([(default.clone(), default)]).collect()
    }

    /// The OCI runtime of a name: the default one, or one of the configuration's `[runtimes]`.
    pub(crate) fn named_runtime(&self, name: &str) -> Result<Runc> {
        let default = self.runtime();
        if name.is_empty() || name == default.binary {
            return Ok(default);
        }
        match self.config.runtimes.get(name) {
            // Each keeps its state in a form of its own.
            Some(binary) => Ok(Runc { binary: binary.clone(), root: self.roots().run.join("runtimes").join(name) }),
            None => Err(Error::Invalid(format!("unknown or invalid runtime name: {name}"))),
        }
    }
}

/// Whether a container works on what is the host's own, so that a label of its own would only be in the way.
pub(crate) fn is_beside_the_host(options: &HostOptions) -> bool {
    options.privileged || options.pid == PidMode::Host || options.ipc == IpcMode::Host
}

fn labels(container: &Container, security: &SecurityOptions) -> Option<selinux::Labels> {
    let is_confined = selinux::is_enforcing() && !is_beside_the_host(&container.details.host.options);
    let id = container.id.hex();
    is_confined.then(|| selinux::labels(&security.labels, selinux::categories(id.as_bytes())))?
}

fn devices(container: &Container) -> Result<Vec<Device>> {
    let options = &container.details.host.options;
    let mut devices = if options.privileged { spec::all_of_host() } else { Vec::new() };
    for mapping in &options.resources.devices {
        for device in spec::mapped(mapping)? {
            devices.retain(|present| present.path != device.path);
            devices.push(device);
        }
    }
    let resources = &options.resources;
    let lists = [
        &resources.device_read_bps,
        &resources.device_write_bps,
        &resources.device_read_iops,
        &resources.device_write_iops,
    ];
    let throttled = lists.into_iter().flatten().map(|device| &device.path);
    for path in throttled.chain(resources.blkio_weight_devices.iter().map(|device| &device.path)) {
        spec::number_of(path)?;
    }
    Ok(devices)
}

/// A tmpfs that several containers see as /dev/shm.
fn mount_shared_memory(place: &Path, size: u64) -> Result<()> {
    // One of a start that was killed.
    if place.symlink_metadata().is_ok() {
        mount::unmount_tree(place)?;
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(place).map_err(Error::io("create directory", place))?;
    let changes = Changes { no_suid: true, no_dev: true, no_exec: true, ..Changes::NONE };
    let tmpfs = mount::tmpfs("shm", &["mode=1777".to_owned(), format!("size={size}")], changes)?;
    Ok(mount::attach(tmpfs, place)?)
}

/// Whether a file is an ELF program that needs no interpreter.
fn is_static_program(path: &Path) -> bool {
    const PT_INTERP: u32 = 3;
    let Ok(bytes) = fs::read(path) else { return false };
    let number = |at: usize, size: usize| -> Option<usize> {
        let field = bytes.get(at..at.checked_add(size)?)?;
        field.iter().rev().try_fold(0_usize, |number, byte| Some(number.checked_mul(256)? + usize::from(*byte)))
    };
    // 64 bits, least significant byte first: every architecture that there is a seccomp profile for.
    if bytes.get(..6) != Some(b"\x7fELF\x02\x01") {
        return false;
    }
    let (Some(headers), Some(size), Some(count)) = (number(0x20, 8), number(0x36, 2), number(0x38, 2)) else {
        return false;
    };
    let interpreters = (0..count).filter(|index| {
        let at = size.checked_mul(*index).and_then(|offset| offset.checked_add(headers));
        at.and_then(|at| number(at, 4)) == Some(PT_INTERP as usize)
    });
    interpreters.count() == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_static_program_is_an_init() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("text");
        fs::write(&text, "#!/bin/sh\n").unwrap();
        assert!(!is_static_program(&text));
        assert!(!is_static_program(Path::new("/bin/sh")) && !is_static_program(Path::new("/nonexistent")));
    }
}
