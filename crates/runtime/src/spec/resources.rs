//! What a container may use, as the OCI spec writes it.

use super::devices::{Device, number_of};
use orlop_model::options::{Resources, ThrottleDevice, Ulimit};
use serde_json::{Map, Value, json};

/// `linux.resources`. A block device that isn't there is left out: the caller has looked.
pub(super) fn to_json(resources: &Resources, devices: &[Device], privileged: bool) -> Value {
    let mut all = json!({ "devices": super::devices::rules(resources, devices, privileged) });
    let groups = [
        ("memory", memory(resources)),
        ("cpu", cpu(resources)),
        ("pids", pids(resources)),
        ("blockIO", block(resources)),
    ];
    for (name, group) in groups {
        if !group.is_empty() {
            all[name] = Value::Object(group);
        }
    }
    all
}

/// The entries whose value says something.
fn object<const N: usize>(entries: [(&str, bool, Value); N]) -> Map<String, Value> {
    let given = entries.into_iter().filter(|(_, given, _)| *given);
    given.map(|(name, _, value)| (name.to_owned(), value)).collect()
}

fn memory(resources: &Resources) -> Map<String, Value> {
    let swap = resources.effective_swap();
    object([
        ("limit", resources.memory != 0, json!(resources.memory)),
        ("swap", swap != 0, json!(swap)),
        ("reservation", resources.memory_reservation != 0, json!(resources.memory_reservation)),
        ("swappiness", resources.memory_swappiness.is_some(), json!(resources.memory_swappiness)),
        ("disableOOMKiller", resources.oom_kill_disable, json!(true)),
    ])
}

fn cpu(resources: &Resources) -> Map<String, Value> {
    let (quota, period) = resources.cpu_bandwidth();
    object([
        ("shares", resources.cpu_shares != 0, json!(resources.cpu_shares)),
        ("quota", quota != 0, json!(quota)),
        ("period", period != 0, json!(period)),
        ("realtimeRuntime", resources.cpu_realtime_runtime != 0, json!(resources.cpu_realtime_runtime)),
        ("realtimePeriod", resources.cpu_realtime_period != 0, json!(resources.cpu_realtime_period)),
        ("cpus", !resources.cpuset_cpus.is_empty(), json!(resources.cpuset_cpus)),
        ("mems", !resources.cpuset_mems.is_empty(), json!(resources.cpuset_mems)),
    ])
}

fn pids(resources: &Resources) -> Map<String, Value> {
    match resources.pids_limit {
        None => Map::new(),
        // runc takes what isn't positive for "without end".
        Some(limit) => object([("limit", true, json!(if limit == 0 { -1 } else { limit }))]),
    }
}

fn block(resources: &Resources) -> Map<String, Value> {
    let throttled = |devices: &[ThrottleDevice]| -> Vec<Value> {
        let found = devices.iter().filter_map(|device| Some((number_of(&device.path).ok()?, device.rate)));
        found.map(|((major, minor), rate)| json!({ "major": major, "minor": minor, "rate": rate })).collect()
    };
    let weights: Vec<Value> = resources
        .blkio_weight_devices
        .iter()
        .filter_map(|device| Some((number_of(&device.path).ok()?, device.weight)))
        .map(|((major, minor), weight)| json!({ "major": major, "minor": minor, "weight": weight }))
        .collect();
    object([
        ("weight", resources.blkio_weight != 0, json!(resources.blkio_weight)),
        ("weightDevice", !weights.is_empty(), json!(weights)),
        ("throttleReadBpsDevice", !resources.device_read_bps.is_empty(), json!(throttled(&resources.device_read_bps))),
        (
            "throttleWriteBpsDevice",
            !resources.device_write_bps.is_empty(),
            json!(throttled(&resources.device_write_bps)),
        ),
        (
            "throttleReadIOPSDevice",
            !resources.device_read_iops.is_empty(),
            json!(throttled(&resources.device_read_iops)),
        ),
        (
            "throttleWriteIOPSDevice",
            !resources.device_write_iops.is_empty(),
            json!(throttled(&resources.device_write_iops)),
        ),
    ])
}

/// `process.rlimits`; -1 is without end.
pub(super) fn rlimits(ulimits: &[Ulimit]) -> Vec<Value> {
    let number = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
    ulimits
        .iter()
        .map(|ulimit| {
            json!({
                "type": format!("RLIMIT_{}", ulimit.name.to_ascii_uppercase()),
                "hard": number(ulimit.hard),
                "soft": number(ulimit.soft),
            })
        })
        .collect()
}

/// What `runc update` reads: the same resources without devices, for a container that runs.
pub fn update(resources: &Resources) -> Value {
    let mut all = to_json(resources, &[], false);
    if let Some(object) = all.as_object_mut() {
        object.remove("devices");
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_given_is_said() {
        assert_eq!(update(&Resources::default()), json!({}));
        let given = Resources {
            memory: 8 << 20,
            nano_cpus: 500_000_000,
            cpuset_cpus: "0".into(),
            pids_limit: Some(0),
            oom_kill_disable: true,
            blkio_weight: 300,
            ..Resources::default()
        };
        assert_eq!(
            update(&given),
            json!({
                "memory": { "limit": 8 << 20, "swap": 16 << 20, "disableOOMKiller": true },
                "cpu": { "quota": 50_000, "period": 100_000, "cpus": "0" },
                "pids": { "limit": -1 },
                "blockIO": { "weight": 300 },
            })
        );
        let ulimit = Ulimit { name: "core".into(), soft: 0, hard: -1 };
        assert_eq!(rlimits(&[ulimit]), [json!({ "type": "RLIMIT_CORE", "hard": u64::MAX, "soft": 0 })]);
    }
}
