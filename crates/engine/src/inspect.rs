//! `inspect` of a container: Docker's ContainerInspect, field by field in its order (Engine API 1.47).
//!
//! Settings that this engine doesn't have yet are shown with the value that they have in effect: Docker's default.

mod host;

use crate::{Container, Engine, Result};
use orlop_model::Timestamp;
use orlop_mounts::{ResolvedKind, ResolvedMount};
use serde_json::{Map, Value, json};

impl Engine {
    /// The container as `inspect` shows it; with `size` also what it takes.
    pub fn inspect_container(&self, name: &str, size: bool) -> Result<Value> {
        let container = self.container(name)?;
        let mut object = self.describe(&container)?;
        if size {
            let size = self.container_size(&container)?;
            object.insert("SizeRw".to_owned(), json!(size.writable.size));
            object.insert("SizeRootFs".to_owned(), json!(size.writable.size + size.image));
        }
        Ok(Value::Object(object))
    }

    fn describe(&self, container: &Container) -> Result<Map<String, Value>> {
        let details = &container.details;
        let directory = self.container_dir(container.id);
        let mut arguments = details.arguments().into_iter();
        let path = arguments.next().unwrap_or_default();
        let graph: Map<String, Value> = self
            .driver()?
            .data(container.writable)?
            .into_iter()
            .map(|(key, value)| (key.to_owned(), Value::String(value)))
            .collect();
        let value = json!({
            "Id": container.id,
            "Created": details.created,
            "Path": path,
            "Args": arguments.collect::<Vec<_>>(),
            "State": self.describe_state(container),
            "Image": container.image,
            "ResolvConfPath": directory.join("resolv.conf"),
            "HostnamePath": directory.join("hostname"),
            "HostsPath": directory.join("hosts"),
            "LogPath": self.log_path(container.id),
            "Name": format!("/{}", container.name),
            "RestartCount": details.status.restart_count,
            "Driver": details.driver,
            "Platform": "linux",
            "MountLabel": "",
            "ProcessLabel": "",
            "AppArmorProfile": "",
            "ExecIDs": self.exec_ids(container),
            "HostConfig": self.describe_host_config(container),
            "GraphDriver": { "Data": graph, "Name": details.driver },
            "Mounts": describe_mounts(container),
            "Config": describe_config(container),
            "NetworkSettings": describe_network(container, self.is_running(container)),
        });
        match value {
            Value::Object(object) => Ok(object),
            _ => unreachable!("an object was made"),
        }
    }

    fn describe_state(&self, container: &Container) -> Value {
        let status = &container.details.status;
        let running = self.is_running(container);
        let time = |time: Option<Timestamp>| time.map_or_else(|| Timestamp::NEVER.to_owned(), |time| time.to_string());
        let mut state = json!({
            "Status": status.word(),
            "Running": running || status.restarting.is_some(),
            "Paused": running && status.paused,
            "Restarting": status.restarting.is_some(),
            "OOMKilled": status.oom_killed,
            "Dead": false,
            "Pid": if running { status.pid } else { 0 },
            "ExitCode": status.exit_code,
            "Error": status.error,
            "StartedAt": time(status.started),
            "FinishedAt": time(status.finished),
        });
        if let Some(health) = self.health(container) {
            state["Health"] = json!(health);
        }
        state
    }

    fn exec_ids(&self, container: &Container) -> Value {
        if !self.is_running(container) {
            return Value::Null;
        }
        match orlop_runtime::attach::state(&self.bundle(container.id)) {
            Ok(state) if !state.execs.is_empty() => json!(state.execs),
            _ => Value::Null,
        }
    }
}

/// Docker keeps what `--tmpfs` made in HostConfig.Tmpfs only; `--mount type=tmpfs` is here as well.
fn describe_mounts(container: &Container) -> Value {
    let flag = |mount: &&ResolvedMount| {
        let by_tmpfs_flag =
            || container.details.host.tmpfs.keys().any(|path| path.trim_end_matches('/') == mount.target);
        !(matches!(mount.kind, ResolvedKind::Tmpfs(_)) && by_tmpfs_flag())
    };
    json!(container.details.mounts.iter().filter(flag).map(ResolvedMount::point).collect::<Vec<_>>())
}

fn describe_config(container: &Container) -> Value {
    let config = &container.details.config;
    let set = |names: &[String]| names.iter().map(|name| (name.clone(), json!({}))).collect::<Map<_, _>>();
    let mut object = json!({
        "Hostname": config.hostname,
        "Domainname": config.domainname,
        "User": config.user,
        "AttachStdin": config.attach[0],
        "AttachStdout": config.attach[1],
        "AttachStderr": config.attach[2],
        "Tty": config.tty,
        "OpenStdin": config.open_stdin,
        "StdinOnce": config.stdin_once,
        "Env": config.env,
        "Cmd": some_list(&config.cmd),
        "Image": container.details.image_name,
        "Volumes": if config.volumes.is_empty() { Value::Null } else { Value::Object(set(&config.volumes)) },
        "WorkingDir": config.working_dir,
        "Entrypoint": some_list(&config.entrypoint),
        "OnBuild": null,
        "Labels": config.labels,
    });
    if !config.exposed_ports.is_empty() {
        object["ExposedPorts"] = Value::Object(set(&config.exposed_ports));
    }
    if let Some(check) = &config.health {
        object["Healthcheck"] = json!(check);
    }
    if !config.stop_signal.is_empty() {
        object["StopSignal"] = json!(config.stop_signal);
    }
    if let Some(timeout) = config.stop_timeout {
        object["StopTimeout"] = json!(timeout);
    }
    object
}

/// Go writes a list that was never made as null.
fn some_list(list: &[String]) -> Value {
    if list.is_empty() { Value::Null } else { json!(list) }
}

fn describe_network(container: &Container, running: bool) -> Value {
    let network = container.details.host.network.name();
    let name = network.split(':').next().unwrap_or_default();
    let key = if running { format!("/proc/{}/ns/net", container.details.status.pid) } else { String::new() };
    json!({
        "Bridge": "",
        "SandboxID": "",
        "SandboxKey": key,
        "Ports": {},
        "HairpinMode": false,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": null,
        "SecondaryIPv6Addresses": null,
        "EndpointID": "",
        "Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "MacAddress": "",
        "Networks": {
            name: {
                "IPAMConfig": null,
                "Links": null,
                "Aliases": null,
                "MacAddress": "",
                "DriverOpts": null,
                "NetworkID": "",
                "EndpointID": "",
                "Gateway": "",
                "IPAddress": "",
                "IPPrefixLen": 0,
                "IPv6Gateway": "",
                "GlobalIPv6Address": "",
                "GlobalIPv6PrefixLen": 0,
                "DNSNames": null,
            },
        },
    })
}
