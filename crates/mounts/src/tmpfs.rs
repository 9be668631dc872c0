//! The options of a tmpfs, as the runtime takes them.

use orlop_model::mount::TmpfsMount;

/// Whether the content may be a secret, so that it must never reach a swap device.
pub(crate) fn is_secret(target: &str) -> bool {
    crate::lookup::is_within(target, "/run/secrets") || crate::lookup::is_within(target, "/var/run/secrets")
}

/// Whether the user asked for `noswap`.
pub(crate) fn wants_no_swap(mount: &TmpfsMount) -> bool {
    mount.options.iter().any(|option| option == "noswap")
}

/// Docker's `noexec,nosuid,nodev`, or what lifts them, then the rest. The mode is always given: the runtime would
/// otherwise copy that of the image's directory.
pub(crate) fn options(mount: &TmpfsMount, read_only: bool, no_swap: bool) -> Vec<String> {
    let has = |option: &str| mount.options.iter().any(|present| present == option);
    let mut options: Vec<String> = Vec::new();
    let mut add = |option: &str, is_set: bool| {
        if is_set {
            options.push(option.to_owned());
        }
    };
    add(if mount.exec { "exec" } else { "noexec" }, true);
    add(if has("suid") { "suid" } else { "nosuid" }, true);
    add(if has("dev") { "dev" } else { "nodev" }, true);
    add("rprivate", true);
    add("ro", read_only);
    for option in &mount.options {
        add(option, !matches!(option.as_str(), "suid" | "nosuid" | "dev" | "nodev" | "noswap"));
    }
    add("noswap", no_swap);
    add(&format!("mode={:o}", mount.mode.unwrap_or(0o1777)), true);
    let numbers = [("size", mount.size), ("uid", mount.uid.map(u64::from)), ("gid", mount.gid.map(u64::from))];
    for (key, value) in numbers {
        add(&format!("{key}={}", value.unwrap_or_default()), value.is_some());
    }
    options
}
