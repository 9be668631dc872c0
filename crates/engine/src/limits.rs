//! What of a container's limits this machine can keep: looked at when a container is made, told as Docker tells it
//! (moby `daemon/daemon_unix.go`), and left out.

use crate::{Error, Result};
use orlop_model::options::resources::parse_list;
use orlop_model::options::{HostOptions, Ulimit};
use orlop_runtime::spec;
use std::fs;
use std::path::Path;

/// What the kernel's cgroups offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Support {
    pub unified: bool,
    pub memory: bool,
    pub swap: bool,
    pub swappiness: bool,
    pub oom_kill_disable: bool,
    pub cpu: bool,
    pub cpu_realtime: bool,
    pub cpuset: bool,
    pub pids: bool,
    pub block_weight: bool,
    pub block_throttle: bool,
}

impl Support {
    /// Looks at this machine.
    pub(crate) fn probe() -> Self {
        let root = Path::new("/sys/fs/cgroup");
        if spec::cgroups_are_unified() {
            let text = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
            let has = |name: &str| text.split_whitespace().any(|controller| controller == name);
            // The root has no limits of its own, so one below it has to tell.
            let below = |file: &str| {
                let groups = fs::read_dir(root).into_iter().flatten().filter_map(std::result::Result::ok);
                groups.map(|group| group.path().join(file)).any(|path| path.exists())
            };
            return Self {
                unified: true,
                memory: has("memory"),
                swap: has("memory") && below("memory.swap.max"),
                swappiness: false,
                oom_kill_disable: false,
                cpu: has("cpu"),
                cpu_realtime: false,
                cpuset: has("cpuset"),
                pids: has("pids"),
                block_weight: has("io"),
                block_throttle: has("io"),
            };
        }
        let has = |file: &str| root.join(file).exists();
        Self {
            unified: false,
            memory: has("memory/memory.limit_in_bytes"),
            swap: has("memory/memory.memsw.limit_in_bytes"),
            swappiness: has("memory/memory.swappiness"),
            oom_kill_disable: has("memory/memory.oom_control"),
            cpu: has("cpu/cpu.cfs_quota_us"),
            cpu_realtime: has("cpu/cpu.rt_runtime_us"),
            cpuset: has("cpuset/cpuset.cpus"),
            pids: has("pids/cgroup.procs"),
            block_weight: has("blkio/blkio.weight") || has("blkio/blkio.bfq.weight"),
            block_throttle: has("blkio/blkio.throttle.read_bps_device"),
        }
    }
}

/// Leaves out of `options` what can't be kept, and says so in Docker's words.
pub(crate) fn fit(options: &mut HostOptions, support: Support, own: &OwnLimits) -> Vec<String> {
    let mut warnings = Vec::new();
    let resources = &mut options.resources;
    let mut lacks = |given: bool, there: bool, text: &str| {
        let missing = given && !there;
        if missing {
            warnings.push(format!("Your kernel does not support {text}"));
        }
        missing
    };
    if lacks(
        resources.memory > 0 || resources.memory_reservation > 0,
        support.memory,
        "memory limit capabilities or the cgroup is not mounted. Limitation discarded.",
    ) {
        (resources.memory, resources.memory_swap, resources.memory_reservation) = (0, -1, 0);
    }
    if lacks(
        resources.memory > 0 && resources.memory_swap != -1,
        support.swap,
        "swap limit capabilities or the cgroup is not mounted. Memory limited without swap.",
    ) {
        resources.memory_swap = -1;
    }
    if lacks(
        resources.memory_swappiness.is_some(),
        support.swappiness,
        "memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.",
    ) {
        resources.memory_swappiness = None;
    }
    if lacks(resources.oom_kill_disable, support.oom_kill_disable, "OomKillDisable. OomKillDisable discarded.") {
        resources.oom_kill_disable = false;
    }
    if lacks(
        resources.pids_limit.is_some_and(|limit| limit > 0),
        support.pids,
        "PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.",
    ) {
        resources.pids_limit = None;
    }
    if lacks(resources.cpu_shares > 0, support.cpu, "CPU shares or the cgroup is not mounted. Shares discarded.") {
        resources.cpu_shares = 0;
    }
    if lacks(
        resources.cpu_quota > 0 || resources.cpu_period > 0 || resources.nano_cpus > 0,
        support.cpu,
        "CPU CFS scheduler or the cgroup is not mounted. The limit of CPU time discarded.",
    ) {
        (resources.cpu_quota, resources.cpu_period, resources.nano_cpus) = (0, 0, 0);
    }
    if lacks(
        !resources.cpuset_cpus.is_empty() || !resources.cpuset_mems.is_empty(),
        support.cpuset,
        "cpuset or the cgroup is not mounted. Cpuset discarded.",
    ) {
        resources.cpuset_cpus.clear();
        resources.cpuset_mems.clear();
    }
    if lacks(
        resources.blkio_weight > 0 || !resources.blkio_weight_devices.is_empty(),
        support.block_weight,
        "Block I/O weight or the cgroup is not mounted. Weight discarded.",
    ) {
        resources.blkio_weight = 0;
        resources.blkio_weight_devices.clear();
    }
    let lists = [
        &mut resources.device_read_bps,
        &mut resources.device_write_bps,
        &mut resources.device_read_iops,
        &mut resources.device_write_iops,
    ];
    let throttled = lists.iter().any(|list| !list.is_empty());
    if lacks(throttled, support.block_throttle, "Block I/O rate limits or the cgroup is not mounted. Limits discarded.")
    {
        lists.into_iter().for_each(|list| list.clear());
    }
    if resources.oom_kill_disable && resources.memory == 0 {
        warnings.push(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system \
             running out of resources."
                .to_owned(),
        );
    }
    if options.privileged && !options.resources.devices.is_empty() {
        warnings.push("Device mappings are not needed with --privileged: it has every device".to_owned());
    }
    let mut clipped = options.resources.ulimits.clone();
    warnings.extend(own.clip(&mut clipped));
    let adjusted = own.oom_score_adj(options.oom_score_adj);
    if options.oom_score_adj != 0 && adjusted != options.oom_score_adj {
        warnings.push(format!(
            "the oom score can't be lowered to {} without CAP_SYS_RESOURCE; it is {adjusted}",
            options.oom_score_adj
        ));
    }
    warnings
}

/// Refuses CPUs, memory nodes and a real-time scheduler that this machine hasn't.
pub(crate) fn check_machine(options: &HostOptions, support: Support) -> Result<()> {
    let resources = &options.resources;
    let available = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    resources.check_cpu_count(available)?;
    if (resources.cpu_realtime_period != 0 || resources.cpu_realtime_runtime != 0) && !support.cpu_realtime {
        return Err(Error::Invalid("Your kernel does not support CPU real-time scheduler".to_owned()));
    }
    for (wanted, file, what) in [
        (&resources.cpuset_cpus, "/sys/devices/system/cpu/online", "CPUs"),
        (&resources.cpuset_mems, "/sys/devices/system/node/online", "memory nodes"),
    ] {
        let text = fs::read_to_string(file).unwrap_or_else(|_| "0".to_owned());
        let online = parse_list(text.trim()).unwrap_or_default();
        let asked = parse_list(wanted).unwrap_or_default();
        if asked.iter().any(|number| !online.contains(number)) {
            return Err(Error::Invalid(format!(
                "Requested {what} are not available - requested {wanted}, available: {}",
                text.trim()
            )));
        }
    }
    Ok(())
}

/// What a container's process begins with, and whether it may be raised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OwnLimits {
    /// CAP_SYS_RESOURCE is there.
    pub may_raise: bool,
    /// Hard limits by name; None is without end.
    pub hard: Vec<(&'static str, Option<i64>)>,
    /// Of this process.
    pub oom_score_adj: i32,
}

/// Names in /proc/PID/limits.
const LIMIT_LINES: [(&str, &str); 15] = [
    ("core", "Max core file size"),
    ("cpu", "Max cpu time"),
    ("data", "Max data size"),
    ("fsize", "Max file size"),
    ("locks", "Max file locks"),
    ("memlock", "Max locked memory"),
    ("msgqueue", "Max msgqueue size"),
    ("nice", "Max nice priority"),
    ("nofile", "Max open files"),
    ("nproc", "Max processes"),
    ("rss", "Max resident set"),
    ("rtprio", "Max realtime priority"),
    ("rttime", "Max realtime timeout"),
    ("sigpending", "Max pending signals"),
    ("stack", "Max stack size"),
];

impl OwnLimits {
    /// The limits of process 1, which a shim takes.
    pub(crate) fn read() -> Self {
        let limits = fs::read_to_string("/proc/1/limits").unwrap_or_default();
        let score = fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
        Self {
            may_raise: spec::available().contains(&"CAP_SYS_RESOURCE"),
            hard: parse_limits(&limits),
            oom_score_adj: score.trim().parse().unwrap_or_default(),
        }
    }

    /// Lowers what can't be had, and says so.
    pub(crate) fn clip(&self, ulimits: &mut [Ulimit]) -> Vec<String> {
        let mut warnings = Vec::new();
        for ulimit in ulimits {
            let most = self.hard.iter().find(|(name, _)| *name == ulimit.name).and_then(|(_, limit)| *limit);
            let Some(most) = most.filter(|_| !self.may_raise) else { continue };
            if ulimit.hard == -1 || ulimit.hard > most {
                warnings.push(format!(
                    "ulimit {}: the limit can't be raised to {} without CAP_SYS_RESOURCE; it is {most}",
                    ulimit.name, ulimit.hard
                ));
                ulimit.hard = most;
            }
            if ulimit.soft == -1 || ulimit.soft > ulimit.hard {
                ulimit.soft = ulimit.hard;
            }
        }
        warnings
    }

    /// The nearest score that can be set.
    pub(crate) fn oom_score_adj(&self, wanted: i32) -> i32 {
        if self.may_raise { wanted } else { wanted.max(self.oom_score_adj) }
    }
}

/// Hard limits of /proc/PID/limits (proc_pid_limits(5)).
fn parse_limits(text: &str) -> Vec<(&'static str, Option<i64>)> {
    let hard = |title: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(title))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    LIMIT_LINES.iter().map(|(name, title)| (*name, hard(title))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Support = Support {
        unified: false,
        memory: true,
        swap: true,
        swappiness: true,
        oom_kill_disable: true,
        cpu: true,
        cpu_realtime: true,
        cpuset: true,
        pids: true,
        block_weight: true,
        block_throttle: true,
    };

    #[test]
    fn what_is_missing_is_left_out_and_told() {
        let given = || {
            let mut options = HostOptions::default();
            options.resources.memory = 64 << 20;
            options.resources.memory_swappiness = Some(5);
            options.resources.pids_limit = Some(9);
            options.resources.blkio_weight = 100;
            options.resources.cpuset_cpus = "0".into();
            options
        };
        let own = OwnLimits::default();
        let mut options = given();
        assert_eq!(fit(&mut options, ALL, &own), Vec::<String>::new());
        assert_eq!(options, given());
        let none = Support { memory: false, swappiness: false, pids: false, block_weight: false, cpuset: false, ..ALL };
        assert_eq!(fit(&mut options, none, &own).len(), 5);
        let left = &options.resources;
        assert_eq!((left.memory, left.memory_swappiness, left.pids_limit, left.blkio_weight), (0, None, None, 0));
        let mut options = given();
        assert_eq!(fit(&mut options, Support { swap: false, ..ALL }, &own).len(), 1);
        assert_eq!(options.resources.memory_swap, -1);
    }

    #[test]
    fn limits_are_clipped_without_the_capability() {
        let text = "Limit  Soft Limit  Hard Limit  Units\nMax open files  1024  4096  files\nMax core file size  0  unlimited  bytes\n";
        let mut own = OwnLimits { may_raise: false, hard: parse_limits(text), oom_score_adj: 10 };
        let given = || ["nofile=9000", "core=-1", "nofile=100:200"].map(|text| Ulimit::parse(text).unwrap());
        let mut ulimits = given();
        assert_eq!(own.clip(&mut ulimits).len(), 1);
        assert_eq!((ulimits[0].soft, ulimits[0].hard, ulimits[1].hard, ulimits[2].hard), (4096, 4096, -1, 200));
        assert_eq!((own.oom_score_adj(-5), own.oom_score_adj(500)), (10, 500));
        own.may_raise = true;
        let mut ulimits = given();
        assert!(own.clip(&mut ulimits).is_empty() && ulimits == given() && own.oom_score_adj(-5) == -5);
    }
}
