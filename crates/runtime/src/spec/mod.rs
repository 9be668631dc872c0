//! The OCI runtime spec of a container: Docker's defaults (moby `oci/defaults.go`, OCI runtime-spec 1.0.2) around what
//! the engine has resolved.

mod devices;
mod mounts;
mod namespaces;
mod resources;
mod security;

pub use devices::{Device, all_of_host, mapped, number_of};
pub use mounts::SpecMount;
pub use namespaces::{Namespace, Namespaces};
pub use resources::update;
pub use security::{CAPABILITIES, MASKED_PATHS, READ_ONLY_PATHS, available, capabilities};

use orlop_model::options::{IpcMode, Resources, Ulimit};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
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
    /// Below every controller's root, e.g. `/orlop/ID`.
    pub cgroup_path: String,
    /// How it is tied to the host.
    pub host: HostInput,
}

/// How a container is tied to its host; by default as Docker's without any flag.
#[derive(Clone, Debug)]
pub struct HostInput {
    /// Whose namespaces it is in.
    pub namespaces: Namespaces,
    /// `--domainname`; empty for none.
    pub domainname: String,
    /// Limits.
    pub resources: Resources,
    /// Device nodes beside the ones that every container has.
    pub devices: Vec<Device>,
    /// `--privileged`: every device, and nothing masked or read-only.
    pub privileged: bool,
    /// `--security-opt systempaths=unconfined`.
    pub open_system_paths: bool,
    /// The system calls that are allowed; None for all.
    pub seccomp: Option<Value>,
    /// The label of what is mounted, where SELinux is enforcing.
    pub mount_label: Option<String>,
    /// `--sysctl`.
    pub sysctls: BTreeMap<String, String>,
    /// `--annotation`.
    pub annotations: BTreeMap<String, String>,
    /// `--ipc`, as far as it decides about /dev/shm.
    pub ipc: IpcMode,
    /// `--shm-size` in bytes; None for 64 MiB.
    pub shm_size: Option<u64>,
}

impl Default for HostInput {
    fn default() -> Self {
        Self {
            namespaces: Namespaces::default(),
            domainname: String::new(),
            resources: Resources::default(),
            devices: Vec::new(),
            privileged: false,
            open_system_paths: false,
            seccomp: Some(crate::seccomp::profile(&CAPABILITIES)),
            mount_label: None,
            sysctls: BTreeMap::new(),
            annotations: BTreeMap::new(),
            ipc: IpcMode::default(),
            shm_size: None,
        }
    }
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
    /// What it may do.
    #[serde(default)]
    pub confinement: Confinement,
}

/// What a process may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// `CAP_…`: the bounding set, and what root has.
    pub capabilities: Vec<String>,
    /// Neither setuid programs nor file capabilities give more.
    pub no_new_privileges: bool,
    /// An AppArmor profile that is loaded.
    pub apparmor: Option<String>,
    /// An SELinux label.
    pub selinux: Option<String>,
    /// Limits; those that aren't named are the shim's.
    pub ulimits: Vec<Ulimit>,
    /// -1000 to 1000; None for the shim's.
    pub oom_score_adj: Option<i32>,
}

impl Default for Confinement {
    fn default() -> Self {
        Self {
            capabilities: CAPABILITIES.map(str::to_owned).to_vec(),
            no_new_privileges: false,
            apparmor: None,
            selinux: None,
            ulimits: Vec::new(),
            oom_score_adj: None,
        }
    }
}

/// `config.json` of a container.
pub fn build(input: &SpecInput) -> Value {
    let host = &input.host;
    let is_open = host.privileged || host.open_system_paths;
    let none: &[&str] = &[];
    let mut linux = json!({
        "namespaces": host.namespaces.to_json(),
        "cgroupsPath": input.cgroup_path,
        "resources": resources::to_json(&host.resources, &host.devices, host.privileged),
        "maskedPaths": if is_open { none } else { &MASKED_PATHS },
        "readonlyPaths": if is_open { none } else { &READ_ONLY_PATHS },
    });
    if let Some(seccomp) = &host.seccomp {
        linux["seccomp"] = seccomp.clone();
    }
    if !host.devices.is_empty() {
        linux["devices"] = host.devices.iter().map(Device::to_json).collect();
    }
    if let Some(label) = &host.mount_label {
        linux["mountLabel"] = json!(label);
    }
    let sysctls = sysctls(host);
    if !sysctls.is_empty() {
        linux["sysctl"] = json!(sysctls);
    }
    if let Some(propagation) = mounts::root_propagation(&input.mounts) {
        linux["rootfsPropagation"] = json!(propagation);
    }
    let mut spec = json!({
        "ociVersion": "1.0.2",
        "process": process(&input.process),
        "root": { "path": input.root, "readonly": input.read_only_rootfs },
        "mounts": mounts::all(&input.mounts, host, input.read_only_rootfs),
        "linux": linux,
    });
    if host.namespaces.uts == Namespace::Own {
        spec["hostname"] = json!(input.hostname);
    }
    if !host.annotations.is_empty() {
        spec["annotations"] = json!(host.annotations);
    }
    spec
}

fn sysctls(host: &HostInput) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut set = |name: &str, value: &str| drop(all.insert(name.to_owned(), value.to_owned()));
    if host.namespaces.network == Namespace::Own {
        // As Docker since 20.10: the network namespace is the container's own, so any user in it may do this.
        set("net.ipv4.ip_unprivileged_port_start", "0");
        set("net.ipv4.ping_group_range", "0 2147483647");
    }
    if host.namespaces.uts == Namespace::Own && !host.domainname.is_empty() {
        // Older versions of the OCI spec have no field for it.
        set("kernel.domainname", &host.domainname);
    }
    all.extend(host.sysctls.clone());
    all
}

/// The `process` object, of a container or of an exec session.
pub fn process(input: &ProcessInput) -> Value {
    let confinement = &input.confinement;
    // Who isn't root gets no capability, only what a setuid program in the image may gain.
    let own: &[String] = if input.uid == 0 { &confinement.capabilities } else { &[] };
    let mut process = json!({
        "terminal": input.terminal,
        "user": { "uid": input.uid, "gid": input.gid, "additionalGids": input.additional_gids },
        "args": input.args,
        "env": input.env,
        "cwd": input.cwd,
        "capabilities": { "bounding": confinement.capabilities, "effective": own, "permitted": own },
        "noNewPrivileges": confinement.no_new_privileges,
    });
    if let (true, Some((rows, cols))) = (input.terminal, input.console_size) {
        process["consoleSize"] = json!({ "height": rows, "width": cols });
    }
    if !confinement.ulimits.is_empty() {
        process["rlimits"] = resources::rlimits(&confinement.ulimits).into();
    }
    if let Some(adjustment) = confinement.oom_score_adj {
        process["oomScoreAdj"] = json!(adjustment);
    }
    for (key, value) in [("apparmorProfile", &confinement.apparmor), ("selinuxLabel", &confinement.selinux)] {
        if let Some(value) = value {
            process[key] = json!(value);
        }
    }
    process
}

const CGROUP2_SUPER_MAGIC: rustix::fs::FsWord = 0x6367_7270;

/// Whether this machine has cgroup v2 only; a hybrid tree counts as v1.
pub fn cgroups_are_unified() -> bool {
    rustix::fs::statfs("/sys/fs/cgroup").is_ok_and(|fs| fs.f_type == CGROUP2_SUPER_MAGIC)
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

    fn input(mounts: Vec<SpecMount>, network: Namespace) -> SpecInput {
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
                confinement: Confinement::default(),
            },
            hostname: "box".into(),
            mounts,
            cgroup_path: "/orlop/x".into(),
            host: HostInput { namespaces: Namespaces { network, ..Namespaces::default() }, ..HostInput::default() },
        }
    }

    fn destinations(spec: &Value) -> Vec<&str> {
        spec["mounts"].as_array().unwrap().iter().map(|mount| mount["destination"].as_str().unwrap()).collect()
    }

    #[test]
    fn user_mounts_replace_and_are_sorted() {
        let spec = build(&input(vec![bind("/a/b", "rprivate"), bind("/a/", "rprivate")], Namespace::Own));
        assert_eq!(&destinations(&spec)[7..], ["/a", "/a/b"]);
        let spec = build(&input(vec![bind("/dev/shm", "rprivate")], Namespace::Own));
        assert_eq!(destinations(&spec).iter().filter(|target| **target == "/dev/shm").count(), 1);
        let spec = build(&input(vec![bind("/dev", "rprivate")], Namespace::Own));
        assert_eq!(destinations(&spec), ["/proc", "/sys", "/sys/fs/cgroup", "/dev"]);
    }

    #[test]
    fn network_and_propagation() {
        for (mounts, network, namespaces, propagation) in [
            (vec![], Namespace::Own, true, Value::Null),
            (vec![bind("/a", "rslave")], Namespace::Host, false, json!("rslave")),
            (vec![bind("/a", "slave"), bind("/b", "rshared")], Namespace::Host, false, json!("shared")),
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
        let mut process_input = input(vec![], Namespace::Own).process;
        assert_eq!(process(&process_input)["capabilities"]["effective"].as_array().unwrap().len(), 14);
        process_input.uid = 999;
        let process = process(&process_input);
        assert_eq!(process["capabilities"]["effective"], json!([]));
        assert_eq!(process["capabilities"]["bounding"].as_array().unwrap().len(), 14);
    }

    fn with(host: HostInput) -> Value {
        build(&SpecInput { host, ..input(vec![], Namespace::Own) })
    }

    fn options<'a>(spec: &'a Value, target: &str) -> Vec<&'a str> {
        let mounts = spec["mounts"].as_array().unwrap();
        let mount = mounts.iter().find(|mount| mount["destination"] == target).unwrap();
        mount["options"].as_array().unwrap().iter().filter_map(Value::as_str).collect()
    }

    #[test]
    fn privileged_sees_and_may_all() {
        let spec = with(HostInput { privileged: true, seccomp: None, devices: all_of_host(), ..HostInput::default() });
        assert_eq!(spec["linux"]["maskedPaths"], json!([]));
        assert_eq!(spec["linux"]["readonlyPaths"], json!([]));
        assert_eq!(spec["linux"]["resources"]["devices"], json!([{ "allow": true, "access": "rwm" }]));
        assert!(!options(&spec, "/sys").contains(&"ro") && !options(&spec, "/sys/fs/cgroup").contains(&"ro"));
        assert!(spec["linux"]["seccomp"].is_null());
        assert!(options(&with(HostInput::default()), "/sys").contains(&"ro"));
    }

    #[test]
    fn shared_memory_names_and_sysctls() {
        let spec = with(HostInput { shm_size: Some(1 << 20), domainname: "example".into(), ..HostInput::default() });
        assert!(options(&spec, "/dev/shm").contains(&"size=1048576"));
        assert_eq!(spec["linux"]["sysctl"]["kernel.domainname"], "example");
        let spec = with(HostInput { ipc: IpcMode::None, ..HostInput::default() });
        assert!(!destinations(&spec).contains(&"/dev/shm"));
        let host = Namespaces { uts: Namespace::Host, ..Namespaces::default() };
        assert!(with(HostInput { namespaces: host, ..HostInput::default() })["hostname"].is_null());
    }

    #[test]
    fn confinement_is_written() {
        let mut input = input(vec![], Namespace::Own).process;
        input.confinement = Confinement {
            capabilities: vec!["CAP_CHOWN".into()],
            no_new_privileges: true,
            apparmor: Some("a".into()),
            selinux: Some("system_u:system_r:container_t:s0:c1,c2".into()),
            ulimits: vec![Ulimit { name: "nofile".into(), soft: 1, hard: 2 }],
            oom_score_adj: Some(5),
        };
        let process = process(&input);
        assert_eq!(process["capabilities"]["bounding"], json!(["CAP_CHOWN"]));
        assert_eq!((&process["noNewPrivileges"], &process["oomScoreAdj"]), (&json!(true), &json!(5)));
        assert_eq!(process["rlimits"][0]["type"], "RLIMIT_NOFILE");
        assert_eq!((&process["apparmorProfile"], process["selinuxLabel"].is_string()), (&json!("a"), true));
    }
}
