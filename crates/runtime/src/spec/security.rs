//! What a container may do: capabilities, and what it sees masked or read-only.

use crate::Error;
use orlop_model::options::security::{CAPABILITIES as ALL, tweak_capabilities};
use std::fs;

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

/// The capabilities that this process can give away: those in its bounding set that it has itself.
pub fn available() -> Vec<&'static str> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
    };
    let mask = set("CapBnd:") & set("CapPrm:");
    ALL.iter().enumerate().filter(|(number, _)| mask & (1 << number) != 0).map(|(_, name)| *name).collect()
}

/// The capabilities of a container: all with `--privileged`, else Docker's with what `add` and `drop` change.
pub fn capabilities(privileged: bool, add: &[String], drop: &[String]) -> Result<Vec<String>, Error> {
    let available = available();
    if privileged {
        return Ok(available.into_iter().map(str::to_owned).collect());
    }
    if let Some(missing) = add.iter().find(|name| *name != "ALL" && !available.contains(&name.as_str())) {
        return Err(Error::Invalid(format!(
            "capability not supported by your kernel or not available in the current environment: {missing:?}"
        )));
    }
    let mut capabilities = tweak_capabilities(&CAPABILITIES, &available, add, drop);
    capabilities.retain(|name| available.contains(&name.as_str()));
    Ok(capabilities)
}
