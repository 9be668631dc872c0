//! `HostConfig` of `inspect`: how a container is tied to its host, in the order of Docker's fields.

use super::some_list;
use crate::{Container, Engine};
use orlop_model::mount::{BindRecursive, MountKind, MountSpec, Propagation};
use orlop_model::options::{CgroupMode, DeviceRule, HostOptions, SecurityOptions, ThrottleDevice};
use serde_json::{Map, Value, json};

impl Engine {
    pub(super) fn describe_host_config(&self, container: &Container) -> Value {
        let host = &container.details.host;
        let volumes_from: Vec<String> = host
            .volumes_from
            .iter()
            .map(|from| if from.read_only { format!("{}:ro", from.container) } else { from.container.clone() })
            .collect();
        let options = &host.options;
        let resources = &options.resources;
        let is_open = options.privileged || self.has_open_system_paths(container);
        let none: &[&str] = &[];
        let mut object = json!({
            "Binds": some_list(&host.binds),
            "ContainerIDFile": options.id_file,
            "LogConfig": self.describe_log(container),
            "NetworkMode": host.network.name(),
            "PortBindings": {},
            "RestartPolicy": {
                "Name": options.restart.name.name(),
                "MaximumRetryCount": options.restart.maximum_retries,
            },
            "AutoRemove": host.auto_remove,
            "VolumeDriver": host.volume_driver,
            "VolumesFrom": some_list(&volumes_from),
            "ConsoleSize": [0, 0],
            "CapAdd": some_list(&options.cap_add),
            "CapDrop": some_list(&options.cap_drop),
            "CgroupnsMode": cgroup_mode(options),
            "Dns": options.dns,
            "DnsOptions": options.dns_options,
            "DnsSearch": options.dns_search,
            "ExtraHosts": some_list(&options.extra_hosts),
            "GroupAdd": some_list(&options.group_add),
            "IpcMode": options.ipc.to_string(),
            "Cgroup": "",
            "Links": null,
            "OomScoreAdj": options.oom_score_adj,
            "PidMode": options.pid.to_string(),
            "Privileged": options.privileged,
            "PublishAllPorts": false,
            "ReadonlyRootfs": host.read_only,
            "SecurityOpt": security_options(options),
            "UTSMode": options.uts.to_string(),
            "UsernsMode": options.user.to_string(),
            "ShmSize": options.shm_size.unwrap_or(HostOptions::SHM_SIZE),
            "Runtime": if options.runtime.is_empty() { &self.config.runtime.binary } else { &options.runtime },
            "Isolation": "",
        });
        let limits = json!({
            "CpuShares": resources.cpu_shares,
            "Memory": resources.memory,
            "NanoCpus": resources.nano_cpus,
            "CgroupParent": options.cgroup_parent,
            "BlkioWeight": resources.blkio_weight,
            "BlkioWeightDevice": resources.blkio_weight_devices.iter().map(|device| {
                json!({ "Path": device.path, "Weight": device.weight })
            }).collect::<Vec<_>>(),
            "BlkioDeviceReadBps": throttled(&resources.device_read_bps),
            "BlkioDeviceWriteBps": throttled(&resources.device_write_bps),
            "BlkioDeviceReadIOps": throttled(&resources.device_read_iops),
            "BlkioDeviceWriteIOps": throttled(&resources.device_write_iops),
            "CpuPeriod": resources.cpu_period,
            "CpuQuota": resources.cpu_quota,
            "CpuRealtimePeriod": resources.cpu_realtime_period,
            "CpuRealtimeRuntime": resources.cpu_realtime_runtime,
            "CpusetCpus": resources.cpuset_cpus,
            "CpusetMems": resources.cpuset_mems,
            "Devices": resources.devices.iter().map(|device| json!({
                "PathOnHost": device.host,
                "PathInContainer": device.container,
                "CgroupPermissions": device.permissions,
            })).collect::<Vec<_>>(),
            "DeviceCgroupRules": some_list(&resources.device_rules.iter().map(DeviceRule::text).collect::<Vec<_>>()),
            "DeviceRequests": null,
            "MemoryReservation": resources.memory_reservation,
            "MemorySwap": resources.effective_swap(),
            "MemorySwappiness": resources.memory_swappiness,
            "OomKillDisable": if orlop_runtime::spec::cgroups_are_unified() {
                Value::Null
            } else {
                json!(resources.oom_kill_disable)
            },
            "PidsLimit": resources.pids_limit,
            "Ulimits": resources.ulimits.iter().map(|ulimit| {
                json!({ "Name": ulimit.name, "Hard": ulimit.hard, "Soft": ulimit.soft })
            }).collect::<Vec<_>>(),
            "CpuCount": 0,
            "CpuPercent": 0,
            "IOMaximumIOps": 0,
            "IOMaximumBandwidth": 0,
        });
        let paths = json!({
            "MaskedPaths": if is_open { none } else { &orlop_runtime::spec::MASKED_PATHS },
            "ReadonlyPaths": if is_open { none } else { &orlop_runtime::spec::READ_ONLY_PATHS },
        });
        for more in [limits, paths] {
            if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
                object.extend(more);
            }
        }
        let optional = [
            ("Mounts", !host.mounts.is_empty(), json!(host.mounts.iter().map(api_mount).collect::<Vec<_>>())),
            ("Tmpfs", !host.tmpfs.is_empty(), json!(host.tmpfs)),
            ("Annotations", !options.annotations.is_empty(), json!(options.annotations)),
            ("Sysctls", !options.sysctls.is_empty(), json!(options.sysctls)),
            ("StorageOpt", !options.storage.is_empty(), json!(options.storage)),
            ("Init", options.init, json!(true)),
        ];
        for (key, present, value) in optional {
            if present {
                object[key] = value;
            }
        }
        object
    }

    fn has_open_system_paths(&self, container: &Container) -> bool {
        let security = SecurityOptions::parse(&container.details.host.options.security);
        security.is_ok_and(|security| security.open_system_paths)
    }

    /// The driver that is in effect, with what Docker's json-file would need to cut as this log is cut.
    fn describe_log(&self, container: &Container) -> Value {
        let log = &container.details.host.options.log;
        if !log.driver.is_empty() && log.driver != "json-file" {
            return json!({ "Type": log.driver, "Config": log.options });
        }
        let mut options = log.options.clone();
        options.entry("max-file".to_owned()).or_insert_with(|| self.config.log.max_files.to_string());
        options.entry("max-size".to_owned()).or_insert_with(|| self.config.log.max_size.to_string());
        json!({ "Type": "json-file", "Config": options })
    }
}

fn throttled(devices: &[ThrottleDevice]) -> Value {
    json!(devices.iter().map(|device| json!({ "Path": device.path, "Rate": device.rate })).collect::<Vec<_>>())
}

fn cgroup_mode(options: &HostOptions) -> &'static str {
    match options.cgroup {
        CgroupMode::Private => "private",
        CgroupMode::Host => "host",
        CgroupMode::Default if options.privileged || !orlop_runtime::spec::cgroups_are_unified() => "host",
        CgroupMode::Default => "private",
    }
}

/// As given, and what follows from sharing the host's processes: they aren't labelled.
fn security_options(options: &HostOptions) -> Value {
    let mut all = options.security.clone();
    let says_label = all.iter().any(|option| option.starts_with("label"));
    if !says_label && crate::confine::is_beside_the_host(options) {
        all.push("label=disable".to_owned());
    }
    some_list(&all)
}

/// Docker's `Mount`, as `--mount` says it.
fn api_mount(spec: &MountSpec) -> Value {
    let mut object = json!({ "Type": spec.kind.name() });
    let mut set = |key: &str, value: Value| object[key] = value;
    let source = match &spec.kind {
        MountKind::Volume(volume) => volume.name.as_ref().map(|name| name.as_str().to_owned()),
        MountKind::Bind(bind) => Some(bind.source.clone()),
        MountKind::Tmpfs(_) => None,
    };
    if let Some(source) = source {
        set("Source", json!(source));
    }
    set("Target", json!(spec.target));
    if spec.read_only {
        set("ReadOnly", json!(true));
    }
    match &spec.kind {
        MountKind::Volume(volume) => {
            let mut options = Map::new();
            if volume.no_copy {
                options.insert("NoCopy".to_owned(), json!(true));
            }
            if !volume.labels.is_empty() {
                options.insert("Labels".to_owned(), json!(volume.labels));
            }
            if let Some(subpath) = &volume.subpath {
                options.insert("Subpath".to_owned(), json!(subpath));
            }
            if volume.driver.is_some() || !volume.options.is_empty() {
                let driver = json!({ "Name": volume.driver.as_deref().unwrap_or("local"), "Options": volume.options });
                options.insert("DriverConfig".to_owned(), driver);
            }
            if !options.is_empty() {
                set("VolumeOptions", Value::Object(options));
            }
        }
        MountKind::Bind(bind) => {
            let mut options = Map::new();
            if bind.propagation != Propagation::Rprivate {
                options.insert("Propagation".to_owned(), json!(bind.propagation.name()));
            }
            match bind.recursive {
                BindRecursive::Enabled => {}
                BindRecursive::Disabled => drop(options.insert("NonRecursive".to_owned(), json!(true))),
                BindRecursive::Writable => drop(options.insert("ReadOnlyNonRecursive".to_owned(), json!(true))),
                BindRecursive::Readonly => drop(options.insert("ReadOnlyForceRecursive".to_owned(), json!(true))),
            }
            if bind.create_source {
                options.insert("CreateMountpoint".to_owned(), json!(true));
            }
            if !options.is_empty() {
                set("BindOptions", Value::Object(options));
            }
        }
        MountKind::Tmpfs(tmpfs) => {
            let mut options = Map::new();
            if let Some(size) = tmpfs.size {
                options.insert("SizeBytes".to_owned(), json!(size));
            }
            if let Some(mode) = tmpfs.mode {
                options.insert("Mode".to_owned(), json!(mode));
            }
            if !options.is_empty() {
                set("TmpfsOptions", Value::Object(options));
            }
        }
    }
    object
}
