//! The OCI runtime spec of a container: Docker's defaults (moby `oci/defaults.go`, OCI runtime-spec 1.0.2) around what
//! the engine has resolved.

use crate::seccomp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Everything about a container that its spec depends on, resolved: no names, no links, no defaults left to look up.
#[derive(Clone, Debug)]
pub struct SpecInput {
    /// The mounted root file system on the host.
    pub root: PathBuf,
    /// `--read-only`.
    pub read_only_rootfs: bool,
    /// The first process: program, environment, user, terminal.
    pub process: ProcessInput,
    /// Of the container's own UTS namespace; with the host's network the caller gives the host's name.
    pub hostname: String,
    /// In the order in which they are mounted, after Docker's own.
    pub mounts: Vec<SpecMount>,
    /// `--network`.
    pub network: Network,
    /// Below every controller's root, e.g. `/orlop/ID`.
    pub cgroup_path: String,
}

/// A process in a container: the first one or one of `exec`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInput {
    /// Program and arguments; the program is looked up in the environment's PATH.
    pub args: Vec<String>,
    /// `NAME=value`; defaults such as PATH, HOSTNAME and TERM are the caller's duty.
    pub env: Vec<String>,
    /// Absolute path in the container.
    pub cwd: String,
    /// User id in the container.
    pub uid: u32,
    /// Group id in the container.
    pub gid: u32,
    /// Supplementary groups.
    pub additional_gids: Vec<u32>,
    /// Give it a terminal.
    pub terminal: bool,
    /// The terminal's first size, rows and columns.
    pub console_size: Option<(u16, u16)>,
}

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

/// `--network`, as far as it is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// A namespace of its own with a loopback device only.
    None,
    /// The host's network.
    Host,
}

/// Docker's default capabilities.
pub const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// What a container sees empty.
pub const MASKED_PATHS: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// What a container may only read.
pub const READ_ONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// `config.json` of a container.
pub fn build(input: &SpecInput) -> Value {
    let unified = cgroups_are_unified();
    let mut linux = json!({
        "namespaces": namespaces(input.network, unified),
        "cgroupsPath": input.cgroup_path,
        "resources": { "devices": device_rules() },
        "seccomp": seccomp::profile(&CAPABILITIES),
        "maskedPaths": MASKED_PATHS,
        "readonlyPaths": READ_ONLY_PATHS,
    });
    if input.network == Network::None {
        // As Docker since 20.10: the network namespace is the container's own, so any user in it may do this.
        linux["sysctl"] = json!({
            "net.ipv4.ip_unprivileged_port_start": "0",
            "net.ipv4.ping_group_range": "0 2147483647",
        });
    }
    if let Some(propagation) = root_propagation(&input.mounts) {
        linux["rootfsPropagation"] = json!(propagation);
    }
    json!({
        "ociVersion": "1.0.2",
        "process": process(&input.process),
        "root": { "path": input.root, "readonly": input.read_only_rootfs },
        "hostname": input.hostname,
        "mounts": mounts(&input.mounts),
        "linux": linux,
    })
}

/// The `process` object, of a container or of an exec session.
pub fn process(input: &ProcessInput) -> Value {
    // Who isn't root gets no capability, only what a setuid program in the image may gain.
    let own: &[&str] = if input.uid == 0 { &CAPABILITIES } else { &[] };
    let mut process = json!({
        "terminal": input.terminal,
        "user": { "uid": input.uid, "gid": input.gid, "additionalGids": input.additional_gids },
        "args": input.args,
        "env": input.env,
        "cwd": input.cwd,
        "capabilities": { "bounding": CAPABILITIES, "effective": own, "permitted": own },
        "noNewPrivileges": false,
    });
    if let (true, Some((rows, cols))) = (input.terminal, input.console_size) {
        process["consoleSize"] = json!({ "height": rows, "width": cols });
    }
    process
}

const CGROUP2_SUPER_MAGIC: rustix::fs::FsWord = 0x6367_7270;

/// Whether this machine has cgroup v2 only; a hybrid tree counts as v1.
pub fn cgroups_are_unified() -> bool {
    rustix::fs::statfs("/sys/fs/cgroup").is_ok_and(|fs| fs.f_type == CGROUP2_SUPER_MAGIC)
}

fn namespaces(network: Network, unified: bool) -> Vec<Value> {
    let mut kinds = vec!["mount", "uts", "ipc", "pid"];
    if network == Network::None {
        kinds.push("network");
    }
    if unified {
        kinds.push("cgroup");
    }
    kinds.into_iter().map(|kind| json!({ "type": kind })).collect()
}

fn device_rules() -> Value {
    let character = |allow: bool, major: u32, minor: u32| json!({ "allow": allow, "type": "c", "major": major, "minor": minor, "access": "rwm" });
    // zero, null, urandom, random, tty, console; not fuse.
    json!([
        { "allow": false, "access": "rwm" },
        character(true, 1, 5),
        character(true, 1, 3),
        character(true, 1, 9),
        character(true, 1, 8),
        character(true, 5, 0),
        character(true, 5, 1),
        character(false, 10, 229),
    ])
}

/// Docker's own mounts, less those that the user replaces, then the user's, a parent before what lies below it.
fn mounts(given: &[SpecMount]) -> Vec<Value> {
    let targets: Vec<&str> = given.iter().map(SpecMount::target).collect();
    let replaced = |target: &str| {
        targets.iter().any(|given| *given == target || (*given == "/dev" && target.starts_with("/dev/")))
    };
    let mut all: Vec<Value> =
        docker_mounts().into_iter().filter(|(target, ..)| !replaced(target)).map(to_json).collect();
    let mut sorted: Vec<&SpecMount> = given.iter().collect();
    sorted.sort_by_key(|mount| mount.target().split('/').filter(|part| !part.is_empty()).count());
    all.extend(sorted.into_iter().map(SpecMount::to_json));
    all
}

type DockerMount = (&'static str, &'static str, &'static str, &'static str);

/// Target, type, source and options.
fn docker_mounts() -> [DockerMount; 7] {
    [
        ("/proc", "proc", "proc", "nosuid,noexec,nodev"),
        ("/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
        ("/dev/pts", "devpts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"),
        ("/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro"),
        ("/sys/fs/cgroup", "cgroup", "cgroup", "ro,nosuid,noexec,nodev"),
        ("/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"),
        ("/dev/shm", "tmpfs", "shm", "nosuid,noexec,nodev,mode=1777,size=67108864"),
    ]
}

fn to_json((target, kind, source, options): DockerMount) -> Value {
    json!({
        "destination": target,
        "type": kind,
        "source": source,
        "options": options.split(',').collect::<Vec<_>>(),
    })
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
fn root_propagation(mounts: &[SpecMount]) -> Option<&'static str> {
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

    fn bind(target: &str, propagation: &str) -> SpecMount {
        SpecMount::Bind {
            source: "/run/orlop/mounts/x/0".into(),
            target: target.into(),
            options: vec!["rbind".into(), propagation.into()],
        }
    }

    fn input(mounts: Vec<SpecMount>, network: Network) -> SpecInput {
        SpecInput {
            root: "/merged".into(),
            read_only_rootfs: false,
            process: ProcessInput {
                args: vec!["true".into()],
                env: vec![],
                cwd: "/".into(),
                uid: 0,
                gid: 0,
                additional_gids: vec![],
                terminal: false,
                console_size: None,
            },
            hostname: "box".into(),
            mounts,
            network,
            cgroup_path: "/orlop/x".into(),
        }
    }

    fn destinations(spec: &Value) -> Vec<&str> {
        spec["mounts"].as_array().unwrap().iter().map(|mount| mount["destination"].as_str().unwrap()).collect()
    }

    #[test]
    fn user_mounts_replace_and_are_sorted() {
        let spec = build(&input(vec![bind("/a/b", "rprivate"), bind("/a/", "rprivate")], Network::None));
        assert_eq!(&destinations(&spec)[7..], ["/a", "/a/b"]);
        let spec = build(&input(vec![bind("/dev/shm", "rprivate")], Network::None));
        assert_eq!(destinations(&spec).iter().filter(|target| **target == "/dev/shm").count(), 1);
        let spec = build(&input(vec![bind("/dev", "rprivate")], Network::None));
        assert_eq!(destinations(&spec), ["/proc", "/sys", "/sys/fs/cgroup", "/dev"]);
    }

    #[test]
    fn network_and_propagation() {
        for (mounts, network, namespaces, propagation) in [
            (vec![], Network::None, true, Value::Null),
            (vec![bind("/a", "rslave")], Network::Host, false, json!("rslave")),
            (vec![bind("/a", "slave"), bind("/b", "rshared")], Network::Host, false, json!("shared")),
        ] {
            let spec = build(&input(mounts, network));
            let list = spec["linux"]["namespaces"].as_array().unwrap();
            assert_eq!(list.contains(&json!({ "type": "network" })), namespaces);
            assert!(list.contains(&json!({ "type": "uts" })));
            assert_eq!(spec["linux"]["rootfsPropagation"], propagation);
        }
    }

    #[test]
    fn only_root_has_capabilities() {
        let mut process_input = input(vec![], Network::None).process;
        assert_eq!(process(&process_input)["capabilities"]["effective"].as_array().unwrap().len(), 14);
        process_input.uid = 999;
        let process = process(&process_input);
        assert_eq!(process["capabilities"]["effective"], json!([]));
        assert_eq!(process["capabilities"]["bounding"].as_array().unwrap().len(), 14);
    }

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
