//! `stats`: what a container uses, read from its cgroups (v1 and v2) and its network namespace.

use crate::container::Phase;
use crate::{Container, Engine, Result};
use orlop_model::Id;
use std::fs;
use std::path::{Path, PathBuf};

/// What a container has used until a moment, and uses in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time of all its processes, in nanoseconds.
    pub cpu: u64,
    /// Time of all CPUs of the machine since boot, idle or not, in nanoseconds.
    pub system: u64,
    /// CPUs that are there.
    pub cpus: u64,
    /// Bytes of memory, without the cache that can be given back at once.
    pub memory: u64,
    /// Bytes that it may have: its limit, or what the machine has.
    pub memory_limit: u64,
    /// Bytes received and sent.
    pub network: (u64, u64),
    /// Bytes read and written.
    pub block: (u64, u64),
    /// Processes and threads.
    pub pids: u64,
}

/// One container's usage; None when it doesn't run.
#[derive(Clone, Debug)]
pub struct ContainerStats {
    /// Its id.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// What it uses.
    pub usage: Option<Usage>,
}

impl Engine {
    /// The usage of the named containers, or of all that run, or with `all` of all.
    pub fn stats(&self, names: &[String], all: bool) -> Result<Vec<ContainerStats>> {
        let containers = match names {
            [] => self.containers()?.into_iter().filter(|found| all || self.is_running(found)).collect(),
            names => names.iter().map(|name| self.container(name)).collect::<Result<Vec<Container>>>()?,
        };
        let of = |container: Container| ContainerStats {
            usage: (container.details.status.phase == Phase::Running)
                .then(|| usage(container.details.status.pid))
                .flatten(),
            id: container.id,
            name: container.name.to_string(),
        };
        Ok(containers.into_iter().map(of).collect())
    }
}

/// None when the process is gone.
fn usage(pid: u32) -> Option<Usage> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let directory = |controller: &str| directory_of(&groups, controller);
    let number = |path: Option<PathBuf>, file: &str| -> Option<u64> {
        fs::read_to_string(path?.join(file)).ok()?.trim().parse().ok()
    };
    let field = |path: Option<PathBuf>, file: &str, name: &str| -> Option<u64> {
        field_of(&fs::read_to_string(path?.join(file)).ok()?, name)
    };
    let unified = || directory("");
    let cpu = number(directory("cpuacct"), "cpuacct.usage")
        .or_else(|| field(unified(), "cpu.stat", "usage_usec").map(|micros| micros * 1000));
    let cache = field(directory("memory"), "memory.stat", "total_inactive_file")
        .or_else(|| field(unified(), "memory.stat", "inactive_file"))
        .unwrap_or(0);
    let memory = number(directory("memory"), "memory.usage_in_bytes").or_else(|| number(unified(), "memory.current"));
    let limit = number(directory("memory"), "memory.limit_in_bytes").or_else(|| number(unified(), "memory.max"));
    let machine = machine_memory();
    let v1 = directory("blkio").and_then(|path| fs::read_to_string(path.join("blkio.throttle.io_service_bytes")).ok());
    let v2 = unified().and_then(|path| fs::read_to_string(path.join("io.stat")).ok());
    let pids = number(directory("pids"), "pids.current").or_else(|| number(unified(), "pids.current"));
    let (system, cpus) = machine_time();
    let received = fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    Some(Usage {
        cpu: cpu.unwrap_or(0),
        system,
        cpus,
        memory: memory.unwrap_or(0).saturating_sub(cache),
        memory_limit: limit.unwrap_or(machine).min(machine),
        network: network(&received),
        block: v1.map(|text| block_v1(&text)).or_else(|| v2.map(|text| block_v2(&text))).unwrap_or_default(),
        pids: pids.unwrap_or(0),
    })
}

/// Where a controller's cgroup of a process is mounted; the empty name is v2's. None when it isn't.
fn directory_of(groups: &str, controller: &str) -> Option<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (names, path) = (fields.next()?, fields.next()?.trim_start_matches('/'));
        let is_it =
            if controller.is_empty() { names.is_empty() } else { names.split(',').any(|name| name == controller) };
        let mounts = match names {
            "" => vec![root.to_owned(), root.join("unified")],
            names => [names, controller].map(|name| root.join(name)).to_vec(),
        };
        is_it.then(|| mounts.into_iter().map(|mount| mount.join(path)).find(|path| path.is_dir())).flatten()
    })
}

fn field_of(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

fn machine_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok());
    total.unwrap_or(0) * 1024
}

/// The first line of /proc/stat in nanoseconds (proc(5), in ticks of a hundredth), and how many CPUs follow.
fn machine_time() -> (u64, u64) {
    const TICK: u64 = 10_000_000;
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let mut lines = text.lines().filter(|line| line.starts_with("cpu"));
    // Guests' time is part of the user's.
    let ticks = lines.next().unwrap_or_default().split_whitespace().skip(1).take(8);
    (ticks.filter_map(|number| number.parse::<u64>().ok()).sum::<u64>() * TICK, lines.count() as u64)
}

/// Received and sent bytes of all devices but the loopback one (/proc/PID/net/dev).
fn network(text: &str) -> (u64, u64) {
    let devices = text.lines().filter_map(|line| line.split_once(':')).filter(|(name, _)| name.trim() != "lo");
    devices.fold((0, 0), |sum, (_, numbers)| {
        let numbers: Vec<u64> = numbers.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        let at = |place: usize| numbers.get(place).copied().unwrap_or(0);
        (sum.0 + at(0), sum.1 + at(8))
    })
}

fn block_v1(text: &str) -> (u64, u64) {
    let sum = |what: &str| {
        let of = |line: &str| match line.split_whitespace().collect::<Vec<_>>()[..] {
            [_, kind, number] if kind == what => number.parse::<u64>().ok(),
            _ => None,
        };
        text.lines().filter_map(of).sum()
    };
    (sum("Read"), sum("Write"))
}

fn block_v2(text: &str) -> (u64, u64) {
    let sum = |what: &str| {
        let fields = text.split_whitespace().filter_map(|field| field.split_once('='));
        fields.filter(|(name, _)| *name == what).filter_map(|(_, number)| number.parse::<u64>().ok()).sum()
    };
    (sum("rbytes"), sum("wbytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read() {
        let net = "Inter-|\n face |bytes\n    lo: 5 0 0 0 0 0 0 0 5 0\n  eth0: 100 1 0 0 0 0 0 0 200 2\n";
        assert_eq!(network(net), (100, 200));
        assert_eq!(block_v1("8:0 Read 10\n8:0 Write 20\n8:16 Read 1\nTotal 31\n"), (11, 20));
        assert_eq!(block_v2("8:0 rbytes=10 wbytes=20 rios=1\n8:16 rbytes=1 wbytes=2\n"), (11, 22));
        assert_eq!(field_of("user 1\ninactive_file 7\n", "inactive_file"), Some(7));
        let (system, cpus) = machine_time();
        assert!(system > 0 && cpus > 0 && machine_memory() > 0);
    }
}
