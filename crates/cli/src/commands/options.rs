//! From the flags in [`crate::args::options`] to the engine's options. What contradicts the machine is the engine's to
//! find; what can't be read is found here.

use super::request::label_map;
use crate::args::container::CreateArgs;
use crate::args::options::{NamespaceArgs, PolicyArgs, ResourceArgs, SecurityArgs};
use crate::failure::Failure;
use orlop_model::options::resources::parse_cpus;
use orlop_model::options::security::parse_capability;
use orlop_model::options::{
    DeviceMapping, DeviceRule, HealthCheck, HostOptions, InvalidOption, LogConfig, Resources, RestartPolicy,
    SecurityOptions, ThrottleDevice, Ulimit, WeightDevice, names,
};
use orlop_model::size::parse_bytes;
use std::fmt::Display;
use std::path::Path;
use std::str::FromStr;

/// pflag's words for a value that a flag can't take.
fn bad<E: Display>(text: &str, flag: &str) -> impl FnOnce(E) -> Failure {
    move |error| Failure::invalid(format!("invalid argument {text:?} for {flag:?} flag: {error}"))
}

fn list<T, E: Display>(texts: &[String], flag: &str, parse: impl Fn(&str) -> Result<T, E>) -> Result<Vec<T>, Failure> {
    texts.iter().map(|text| parse(text).map_err(bad(text, flag))).collect()
}

/// A size in bytes; nothing and an empty text are 0.
fn bytes(text: Option<&str>, flag: &str) -> Result<i64, Failure> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(0) };
    let size = parse_bytes(text).map_err(bad(text, flag))?;
    i64::try_from(size).map_err(bad(text, flag))
}

/// A namespace's mode; Docker gives no flag's name with what is wrong.
fn mode<T: FromStr<Err = InvalidOption>>(text: Option<&str>) -> Result<T, Failure> {
    text.unwrap_or_default().parse().map_err(|error: InvalidOption| Failure::invalid(error.to_string()))
}

/// All of them.
pub fn host_options(args: &CreateArgs) -> Result<HostOptions, Failure> {
    let NamespaceArgs { annotation, cgroup_parent, cgroupns, init, ipc, pid, runtime, userns, uts } = &args.namespaces;
    let security = &args.security;
    let names = &args.names;
    let restart = restart(&args.policies)?;
    if args.rm && restart != RestartPolicy::default() {
        return Err(Failure::invalid("conflicting options: cannot specify both --restart and --rm"));
    }
    Ok(HostOptions {
        annotations: label_map(annotation, "--annotation")?,
        cap_add: list(&security.cap_add, "--cap-add", parse_capability)?,
        cap_drop: list(&security.cap_drop, "--cap-drop", parse_capability)?,
        cgroup_parent: cgroup_parent.clone().unwrap_or_default(),
        cgroup: mode(cgroupns.as_deref())?,
        id_file: args.cidfile.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
        dns: list(&names.dns, "--dns", names::parse_server)?,
        dns_options: list(&names.dns_option, "--dns-option", names::parse_dns_option)?,
        dns_search: list(&names.dns_search, "--dns-search", names::parse_search)?,
        extra_hosts: list(&names.add_host, "--add-host", names::parse_host)?,
        group_add: security.group_add.clone(),
        init: *init,
        ipc: mode(ipc.as_deref())?,
        pid: mode(pid.as_deref())?,
        uts: mode(uts.as_deref())?,
        user: mode(userns.as_deref())?,
        log: log(&args.policies)?,
        oom_score_adj: number(args.resources.oom_score_adj, "--oom-score-adj")?,
        privileged: security.privileged,
        resources: resources(&args.resources, security)?,
        restart,
        runtime: runtime.clone().unwrap_or_default(),
        security: security_options(&security.security_opt)?,
        shm_size: shm_size(args.resources.shm_size.as_deref())?,
        storage: label_map(&args.resources.storage_opt, "--storage-opt")?,
        sysctls: label_map(&security.sysctl, "--sysctl")?,
    })
}

fn number<T: TryFrom<i64, Error: Display> + Default>(value: Option<i64>, flag: &str) -> Result<T, Failure> {
    value.map_or_else(|| Ok(T::default()), |value| T::try_from(value).map_err(bad(&value.to_string(), flag)))
}

fn shm_size(text: Option<&str>) -> Result<Option<u64>, Failure> {
    let size = bytes(text, "--shm-size")?;
    Ok(u64::try_from(size).ok().filter(|size| *size > 0))
}

/// The limits, also of `update`.
pub fn resources(args: &ResourceArgs, security: &SecurityArgs) -> Result<Resources, Failure> {
    let memory_swap = match args.memory_swap.as_deref() {
        Some("-1") => -1,
        text => bytes(text, "--memory-swap")?,
    };
    Ok(Resources {
        memory: bytes(args.memory.as_deref(), "-m, --memory")?,
        memory_swap,
        memory_reservation: bytes(args.memory_reservation.as_deref(), "--memory-reservation")?,
        memory_swappiness: args.memory_swappiness.filter(|value| *value != -1),
        nano_cpus: match args.cpus.as_deref() {
            Some(text) => parse_cpus(text).map_err(bad(text, "--cpus"))?,
            None => 0,
        },
        cpu_shares: args.cpu_shares.unwrap_or_default(),
        cpu_period: args.cpu_period.unwrap_or_default(),
        cpu_quota: args.cpu_quota.unwrap_or_default(),
        cpu_realtime_period: args.cpu_rt_period.unwrap_or_default(),
        cpu_realtime_runtime: args.cpu_rt_runtime.unwrap_or_default(),
        cpuset_cpus: args.cpuset_cpus.clone().unwrap_or_default(),
        cpuset_mems: args.cpuset_mems.clone().unwrap_or_default(),
        pids_limit: args.pids_limit,
        oom_kill_disable: args.oom_kill_disable,
        blkio_weight: number(args.blkio_weight, "--blkio-weight")?,
        blkio_weight_devices: list(&args.blkio_weight_device, "--blkio-weight-device", WeightDevice::parse)?,
        device_read_bps: list(&args.device_read_bps, "--device-read-bps", ThrottleDevice::parse_bytes)?,
        device_write_bps: list(&args.device_write_bps, "--device-write-bps", ThrottleDevice::parse_bytes)?,
        device_read_iops: list(&args.device_read_iops, "--device-read-iops", ThrottleDevice::parse_operations)?,
        device_write_iops: list(&args.device_write_iops, "--device-write-iops", ThrottleDevice::parse_operations)?,
        devices: list(&security.device, "--device", DeviceMapping::parse)?,
        device_rules: list(&security.device_cgroup_rule, "--device-cgroup-rule", DeviceRule::parse)?,
        ulimits: ulimits(&args.ulimit)?,
    })
}

/// Of several with one name the last counts, as in Docker.
fn ulimits(texts: &[String]) -> Result<Vec<Ulimit>, Failure> {
    let mut ulimits: Vec<Ulimit> = Vec::new();
    for ulimit in list(texts, "--ulimit", Ulimit::parse)? {
        ulimits.retain(|given| given.name != ulimit.name);
        ulimits.push(ulimit);
    }
    ulimits.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(ulimits)
}

/// A seccomp profile is read here, where the caller's files are; its text goes on.
fn security_options(texts: &[String]) -> Result<Vec<String>, Failure> {
    const LIMIT: u64 = 1 << 20;
    let mut options = Vec::new();
    for text in texts {
        let file = text.strip_prefix("seccomp=").or_else(|| text.strip_prefix("seccomp:"));
        match file.filter(|name| !["unconfined", "builtin", ""].contains(name)) {
            None => options.push(text.clone()),
            Some(file) => {
                let failed =
                    |reason: String| Failure::invalid(format!("opening seccomp profile ({file}) failed: {reason}"));
                let profile = super::request::bounded_text(Path::new(file), LIMIT).map_err(failed)?;
                let json: serde_json::Value = serde_json::from_str(&profile).map_err(|error| {
                    Failure::invalid(format!("compacting json for seccomp profile ({file}) failed: {error}"))
                })?;
                options.push(format!("seccomp={json}"));
            }
        }
    }
    SecurityOptions::parse(&options).map_err(|error| Failure::invalid(error.to_string()))?;
    Ok(options)
}

/// `--restart`, also of `update`.
fn restart(args: &PolicyArgs) -> Result<RestartPolicy, Failure> {
    let text = args.restart.as_deref().unwrap_or_default();
    RestartPolicy::parse(text).map_err(|error| Failure::invalid(error.to_string()))
}

fn log(args: &PolicyArgs) -> Result<LogConfig, Failure> {
    let driver = args.log_driver.clone().unwrap_or_default();
    if driver == "none" && !args.log_opt.is_empty() {
        return Err(Failure::invalid(format!("invalid logging opts for driver {driver}")));
    }
    Ok(LogConfig { driver, options: label_map(&args.log_opt, "--log-opt")? })
}

/// `--health-*`; None when none of them was given.
pub fn health(args: &PolicyArgs) -> Result<Option<HealthCheck>, Failure> {
    let duration = |text: &Option<String>, flag: &str| -> Result<i64, Failure> {
        let Some(text) = text.as_deref() else { return Ok(0) };
        if text.starts_with('-') {
            return Err(Failure::invalid(format!("{flag} cannot be negative")));
        }
        let found = orlop_model::filter::parse_duration(text);
        let nanos = found.and_then(|duration| i64::try_from(duration.as_nanos()).ok());
        nanos.ok_or_else(|| bad(text, flag)(format!("time: invalid duration {text:?}")))
    };
    let check = HealthCheck {
        test: match args.health_cmd.as_deref() {
            None | Some("") => Vec::new(),
            Some(line) => vec!["CMD-SHELL".to_owned(), line.to_owned()],
        },
        interval: duration(&args.health_interval, "--health-interval")?,
        timeout: duration(&args.health_timeout, "--health-timeout")?,
        start_period: duration(&args.health_start_period, "--health-start-period")?,
        start_interval: duration(&args.health_start_interval, "--health-start-interval")?,
        retries: args.health_retries.unwrap_or_default(),
    };
    if check.retries < 0 {
        return Err(Failure::invalid("--health-retries cannot be negative"));
    }
    let given = check != HealthCheck::default();
    match (args.no_healthcheck, given) {
        (true, true) => Err(Failure::invalid("--no-healthcheck conflicts with --health-* options")),
        (true, false) => Ok(Some(HealthCheck::none())),
        (false, _) => Ok(given.then_some(check)),
    }
}
