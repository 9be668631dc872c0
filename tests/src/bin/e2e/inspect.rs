//! `inspect` of the same container by a real dockerd, key by key: what tools read must be there, with the same type and,
//! where it doesn't speak of the machine, with the same value.

use std::fs;
use std::time::Duration;

use orlop_tests::Outcome;
use orlop_tests::world::World;
use serde_json::Value;

use crate::{Case, contains, missing_tools};

pub fn cases() -> Vec<Case> {
    vec![
        Case { name: "inspect::as_dockerd", missing: missing(), run: as_dockerd },
        Case { name: "inspect::kinds_and_sizes", missing: None, run: kinds_and_sizes },
    ]
}

const CLIENTS: [&str; 2] = ["/usr/bin/docker", "/usr/local/bin/docker"];

fn missing() -> Option<String> {
    let client = CLIENTS.iter().any(|path| fs::metadata(path).is_ok());
    missing_tools(&["dockerd"]).or_else(|| (!client).then(|| "this machine has no docker client".to_owned()))
}

/// A container with a bit of everything that both know.
const FLAGS: [&str; 2] = [
    "--name one --network none busybox sleep 1000",
    "--name two --network none -v vol:/data -v /tmp:/host:ro --tmpfs /t:size=1m --mount type=volume,source=v2,target=/m \
     -e A=1 -l x=y -w /data -u 5:6 -m 64m --cpus 0.5 --pids-limit 50 --ulimit nofile=100:200 --cap-add NET_ADMIN \
     --cap-drop MKNOD --add-host a:1.2.3.4 --dns 1.1.1.1 --dns-search x.example --restart on-failure:2 --health-cmd true \
     --health-interval 5s --expose 80 --stop-timeout 3 --stop-signal USR1 --device /dev/null:/dev/n:r \
     --sysctl net.ipv4.ip_forward=1 --security-opt no-new-privileges --group-add 9 --shm-size 1m --oom-score-adj 5 \
     --read-only --init --ipc shareable --pid host -h box --domainname example --device-cgroup-rule 'c 1:3 r' \
     --entrypoint sleep busybox 1000",
];

/// Paths whose value speaks of the machine, the engine or the moment; only key and type are compared.
const OWN: &[&str] = &[
    "Id",
    "Created",
    "State.Pid",
    "State.StartedAt",
    "State.Health",
    "ResolvConfPath",
    "HostnamePath",
    "HostsPath",
    "LogPath",
    "GraphDriver.Data",
    "SizeRootFs",
    "SizeRw",
    "Mounts.Source",
    "Config.Hostname",
    "NetworkSettings.SandboxID",
    "NetworkSettings.SandboxKey",
    "NetworkSettings.Networks.none.NetworkID",
    "NetworkSettings.Networks.none.EndpointID",
    "Image",
    "State.FinishedAt",
];

/// Known differences: a path, and why it differs.
const KNOWN: &[(&str, &str)] = &[
    ("HostConfig.LogConfig.Config.max-file", "a log is cut by default"),
    ("HostConfig.LogConfig.Config.max-size", "a log is cut by default"),
    ("HostConfig.KernelMemory", "gone since Docker 23"),
    ("HostConfig.KernelMemoryTCP", "gone since Docker 23"),
    ("HostConfig.CapAdd", "Docker's older clients hand the name on as it was typed"),
    ("HostConfig.CapDrop", "Docker's older clients hand the name on as it was typed"),
    ("HostConfig.MaskedPaths", "Docker 28 masks more than 20.10"),
    ("HostConfig.Annotations", "came with Docker 24"),
    ("NetworkSettings.Networks.none.DNSNames", "came with Docker 25"),
];

/// Lists without an order.
const UNORDERED: &[&str] = &["HostConfig.Binds", "Config.Env"];

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        _ => false,
    }
}

/// Differences between two values, as lines. Lists of objects are compared by their first entries.
fn differences(path: &str, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
    let is = |list: &[&str]| list.iter().any(|own| path == *own || path.starts_with(&format!("{own}.")));
    if KNOWN.iter().any(|(known, _)| *known == path) {
        return;
    }
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            let mut keys: Vec<&String> =
                theirs.keys().chain(ours.keys().filter(|key| !theirs.contains_key(*key))).collect();
            keys.dedup();
            for key in keys {
                let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                if KNOWN.iter().any(|(known, _)| *known == below) {
                    continue;
                }
                match (ours.get(key), theirs.get(key)) {
                    (Some(one), Some(other)) => differences(&below, one, other, found),
                    (None, _) => found.push(format!("missing: {below}")),
                    (_, None) => found.push(format!("not Docker's: {below}")),
                }
            }
        }
        (Value::Array(ours), Value::Array(theirs)) if ours.first().is_some_and(Value::is_object) => {
            let sorted = |list: &[Value]| {
                let mut list = list.to_vec();
                list.sort_by_key(|entry| entry.get("Destination").map(Value::to_string));
                list
            };
            if ours.len() != theirs.len() {
                found.push(format!("{path}: {} entries, Docker has {}", ours.len(), theirs.len()));
            }
            for (one, other) in sorted(ours).iter().zip(&sorted(theirs)) {
                differences(path, one, other, found);
            }
        }
        // Whether a list that is empty is written as null differs between Docker's versions.
        _ if is_empty(ours) && is_empty(theirs) => {}
        (Value::Array(ours), Value::Array(theirs)) if is(UNORDERED) => {
            let sorted = |list: &[Value]| {
                let mut list: Vec<String> = list.iter().map(Value::to_string).collect();
                list.sort_unstable();
                list
            };
            if sorted(ours) != sorted(theirs) {
                found.push(format!("{path}: {ours:?}, Docker has {theirs:?}"));
            }
        }
        _ if std::mem::discriminant(ours) != std::mem::discriminant(theirs) => {
            found.push(format!("{path}: {ours}, Docker has {theirs}"));
        }
        _ if ours != theirs && !is(OWN) => found.push(format!("{path}: {ours}, Docker has {theirs}")),
        _ => {}
    }
}

fn as_dockerd(world: &mut World) -> Outcome {
    let archive = world.archive("busybox")?;
    let archive = archive.display();
    let client = CLIENTS.iter().find(|path| fs::metadata(path).is_ok()).ok_or("no docker client")?;
    world.spawn(
        "dockerd",
        "exec dockerd --iptables=false --bridge=none --data-root $W/d --exec-root $W/e --pidfile $W/d.pid -H unix://$W/d.sock",
    )?;
    let theirs = format!("{client} -H unix://$W/d.sock");
    let compare = || -> Outcome {
        world.until(&format!("{theirs} version"), Duration::from_secs(30))?;
        for engine in [theirs.as_str(), "docker"] {
            world.sh(&format!("{engine} load -q -i {archive}"))?.ok()?;
            for flags in FLAGS {
                world.sh(&format!("{engine} run -d {flags}"))?.ok()?;
            }
        }
        let mut found = Vec::new();
        for name in ["one", "two"] {
            let object = |engine: &str| -> Outcome<Value> {
                let text = world.sh(&format!("{engine} inspect -s {name}"))?.ok()?;
                let list: Value = serde_json::from_str(&text).map_err(|error| format!("{engine}: {error}"))?;
                list.get(0).cloned().ok_or_else(|| format!("{engine}: an empty list"))
            };
            let mut differ = Vec::new();
            differences("", &object("docker")?, &object(&theirs)?, &mut differ);
            found.extend(differ.into_iter().map(|line| format!("{name}: {line}")));
        }
        if found.is_empty() { Ok(()) } else { Err(found.join("\n")) }
    };
    let compared = compare();
    world
        .sh(&format!(
            "{theirs} rm -fv one two; kill $(cat $W/d.pid); for i in $(seq 100); do [ -e $W/d.pid ] || break; sleep 0.1; done; \
             umount $W/d/* 2>/dev/null; true"
        ))?
        .ok()?;
    compared
}

fn kinds_and_sizes(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    world
        .sh("docker volume create data && docker run --name box busybox sh -c 'head -c 5000 /dev/zero > /file'")?
        .ok()?;
    let seen =
        world.sh("docker inspect box data busybox | grep -cE '^        \"(Image|Mountpoint|RepoTags)\"'")?.ok()?;
    contains("three kinds at once", &seen, "3")?;
    for (line, code, part) in [
        ("docker inspect --type volume -f '{{.Name}}' data", 0, "data"),
        ("docker inspect --type container -f '{{.Name}}' box", 0, "/box"),
        ("docker inspect -s -f '{{.SizeRw}}' box", 0, "5000"),
        ("docker container inspect -s -f '{{ge .SizeRootFs .SizeRw}}' box", 0, "true"),
        ("docker inspect --type image box", 1, "No such image: box"),
        ("docker inspect --type nothing box", 1, "unknown type: \"nothing\""),
        ("docker inspect box nothing", 1, "No such object: nothing"),
        ("docker inspect -f '{{.Nothing}}' box", 1, "map has no entry for key"),
    ] {
        let ran = world.sh(line)?;
        let said = if code == 0 { ran.ok()? } else { ran.fails(code)? };
        contains(line, &said, part)?;
    }
    Ok(())
}
