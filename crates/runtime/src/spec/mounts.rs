//! What is mounted into a container: Docker's own mounts and those of the user.

use super::HostInput;
use orlop_model::options::{HostOptions, IpcMode};
use serde_json::{Value, json};
use std::path::PathBuf;

/// One mount of the container beside Docker's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpecMount {
    /// A directory or file of the host.
    Bind {
        /// Already cloned to a path of ours that only root can change.
        source: PathBuf,
        /// Absolute path in the container.
        target: String,
        /// `bind` or `rbind`, and the propagation. Neither `ro` nor `rw`: what the source is, the mount becomes, and
        /// either word would make the runtime remount it.
        options: Vec<String>,
    },
    /// A file system in memory.
    Tmpfs {
        /// Absolute path in the container.
        target: String,
        /// Mount options as mount(8) takes them (`size=64m`, `mode=1777`, `noexec` …).
        options: Vec<String>,
    },
}

/// Docker's own mounts, less those that the user replaces, then the user's, a parent before what lies below it.
pub(super) fn all(given: &[SpecMount], host: &HostInput, read_only: bool) -> Vec<Value> {
    let targets: Vec<&str> = given.iter().map(SpecMount::target).collect();
    let replaced = |target: &str| {
        targets.iter().any(|given| *given == target || (*given == "/dev" && target.starts_with("/dev/")))
    };
    let own = own(host, read_only);
    let mut all: Vec<Value> =
        own.into_iter().filter(|mount| !replaced(mount.target)).map(|mount| mount.to_json()).collect();
    let mut sorted: Vec<&SpecMount> = given.iter().collect();
    sorted.sort_by_key(|mount| mount.target().split('/').filter(|part| !part.is_empty()).count());
    all.extend(sorted.into_iter().map(SpecMount::to_json));
    all
}

/// One of Docker's own mounts.
struct OwnMount {
    target: &'static str,
    kind: &'static str,
    source: &'static str,
    options: Vec<String>,
}

/// Docker's own mounts.
fn own(host: &HostInput, read_only_rootfs: bool) -> Vec<OwnMount> {
    const ALWAYS_WRITABLE: [&str; 5] = ["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"];
    let size = host.shm_size.unwrap_or(HostOptions::SHM_SIZE);
    let shm = format!("nosuid,noexec,nodev,mode=1777,size={size}");
    let mut all: Vec<OwnMount> = [
        ("/proc", "proc", "proc", "nosuid,noexec,nodev"),
        ("/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
        ("/dev/pts", "devpts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"),
        ("/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro"),
        ("/sys/fs/cgroup", "cgroup", "cgroup", "ro,nosuid,noexec,nodev"),
        ("/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"),
        ("/dev/shm", "tmpfs", "shm", &shm),
    ]
    .into_iter()
    .map(|(target, kind, source, options)| OwnMount {
        target,
        kind,
        source,
        options: options.split(',').map(str::to_owned).collect(),
    })
    .collect();
    if host.ipc == IpcMode::None {
        all.retain(|mount| mount.target != "/dev/shm");
    }
    for mount in &mut all {
        let is_view = mount.target == "/sys" || mount.target == "/sys/fs/cgroup";
        if read_only_rootfs && !ALWAYS_WRITABLE.contains(&mount.target) && !mount.options.iter().any(|o| o == "ro") {
            mount.options.push("ro".to_owned());
        }
        if host.privileged && is_view {
            mount.options.retain(|option| option != "ro");
        }
    }
    all
}

impl OwnMount {
    fn to_json(&self) -> Value {
        json!({ "destination": self.target, "type": self.kind, "source": self.source, "options": self.options })
    }
}

impl SpecMount {
    fn target(&self) -> &str {
        let (Self::Bind { target, .. } | Self::Tmpfs { target, .. }) = self;
        if target.len() > 1 { target.trim_end_matches('/') } else { target }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Bind { source, options, .. } => {
                json!({ "destination": self.target(), "type": "bind", "source": source, "options": options })
            }
            Self::Tmpfs { options, .. } => {
                let options = tmpfs_options(options);
                json!({ "destination": self.target(), "type": "tmpfs", "source": "tmpfs", "options": options })
            }
        }
    }
}

/// Docker's `noexec,nosuid,nodev` with the user's options after them; of a pair that contradicts, the later one holds.
fn tmpfs_options(given: &[String]) -> Vec<&str> {
    const OPPOSITES: [(&str, &str); 4] = [("noexec", "exec"), ("nosuid", "suid"), ("nodev", "dev"), ("ro", "rw")];
    let mut options: Vec<&str> = vec!["noexec", "nosuid", "nodev"];
    for option in given.iter().map(String::as_str) {
        let key = option.split('=').next().unwrap_or(option);
        options.retain(|before| {
            let opposite = OPPOSITES.iter().any(|pair| *pair == (*before, key) || *pair == (key, *before));
            !opposite && before.split('=').next() != Some(key)
        });
        options.push(option);
    }
    options
}

/// A shared or slave mount needs a root that propagates; shared wins.
pub(super) fn root_propagation(mounts: &[SpecMount]) -> Option<&'static str> {
    let any = |wanted: [&str; 2]| {
        mounts
            .iter()
            .any(|mount| matches!(mount, SpecMount::Bind { options, .. } if options.iter().any(|option| wanted.contains(&option.as_str()))))
    };
    if any(["shared", "rshared"]) {
        Some("shared")
    } else if any(["slave", "rslave"]) {
        Some("rslave")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tmpfs_options_override() {
        for (given, wanted) in [
            ("", "noexec,nosuid,nodev"),
            ("size=1g,mode=1777", "noexec,nosuid,nodev,size=1g,mode=1777"),
            ("exec", "nosuid,nodev,exec"),
            ("exec,noexec,size=1,size=2", "nosuid,nodev,noexec,size=2"),
        ] {
            let given: Vec<String> = given.split(',').filter(|text| !text.is_empty()).map(String::from).collect();
            assert_eq!(tmpfs_options(&given).join(","), wanted);
        }
    }
}
