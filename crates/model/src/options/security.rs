//! `--security-opt`, `--cap-add` and `--cap-drop`.

use super::{InvalidOption, invalid};

/// Every capability, by its number in the kernel (capabilities(7)).
pub const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// `ALL` or the capability's full name, of any spelling of it.
pub fn parse_capability(text: &str) -> Result<String, InvalidOption> {
    let upper = text.trim().to_ascii_uppercase();
    let name = if upper.starts_with("CAP_") { upper.clone() } else { format!("CAP_{upper}") };
    match upper.as_str() {
        "ALL" | "CAP_ALL" => Ok("ALL".to_owned()),
        _ if CAPABILITIES.contains(&name.as_str()) => Ok(name),
        _ => invalid(format!("invalid capability: {text:?}")),
    }
}

/// The capabilities of a container: `defaults` with what the flags add and drop. `all` is what this machine can give.
pub fn tweak_capabilities(defaults: &[&str], all: &[&str], add: &[String], drop: &[String]) -> Vec<String> {
    let has = |list: &[String], name: &str| list.iter().any(|given| given == name);
    let dropped = |name: &str| has(drop, name);
    let own = |names: &[&str]| names.iter().filter(|name| !dropped(name)).map(|name| (*name).to_owned()).collect();
    let mut capabilities: Vec<String> = match (has(add, "ALL"), has(drop, "ALL")) {
        (true, _) => own(all),
        (false, true) => Vec::new(),
        (false, false) => own(defaults),
    };
    for name in add.iter().filter(|name| *name != "ALL") {
        if !has(&capabilities, name) {
            capabilities.push(name.clone());
        }
    }
    capabilities
}

/// Which system calls a container may make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Seccomp {
    /// The engine's profile.
    #[default]
    Default,
    /// All.
    Unconfined,
    /// A profile in Docker's JSON.
    Profile(String),
}

/// `--security-opt`, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecurityOptions {
    /// `no-new-privileges`.
    pub no_new_privileges: bool,
    /// `seccomp=`.
    pub seccomp: Seccomp,
    /// `apparmor=`: the profile, or `unconfined`; None for the engine's.
    pub apparmor: Option<String>,
    /// `label=`: `disable`, `user:U`, `role:R`, `type:T`, `level:L`.
    pub labels: Vec<String>,
    /// `systempaths=unconfined`: nothing below /proc is masked or read-only.
    pub open_system_paths: bool,
}

impl SecurityOptions {
    /// Reads the values of `--security-opt`; the text of a seccomp profile stands in its value.
    pub fn parse(options: &[String]) -> Result<Self, InvalidOption> {
        let mut parsed = Self::default();
        for option in options {
            // `label:disable` is Docker's older spelling.
            let (key, value) = match option.split_once('=').or_else(|| option.split_once(':')) {
                Some((key, value)) => (key, Some(value)),
                None => (option.as_str(), None),
            };
            match (key, value) {
                ("no-new-privileges", None | Some("true")) => parsed.no_new_privileges = true,
                ("no-new-privileges", Some("false")) => parsed.no_new_privileges = false,
                ("seccomp", Some("unconfined")) => parsed.seccomp = Seccomp::Unconfined,
                ("seccomp", Some("builtin")) => parsed.seccomp = Seccomp::Default,
                ("seccomp", Some(profile)) => parsed.seccomp = Seccomp::Profile(profile.to_owned()),
                ("apparmor", Some(profile)) if !profile.is_empty() => parsed.apparmor = Some(profile.to_owned()),
                ("label", Some(label)) => {
                    let is_known = label == "disable"
                        || label.split_once(':').is_some_and(|(part, value)| {
                            ["user", "role", "type", "level", "filetype"].contains(&part) && !value.is_empty()
                        });
                    if !is_known {
                        return invalid(format!(
                            "bad label option {label:?}, valid options 'disable' or 'user, role, level, type' followed \
                             by ':' and a value"
                        ));
                    }
                    parsed.labels.push(label.to_owned());
                }
                ("systempaths", Some("unconfined")) => parsed.open_system_paths = true,
                _ => return invalid(format!("invalid --security-opt: {option:?}")),
            }
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_in_any_spelling() {
        for (text, expected) in [
            ("net_admin", Some("CAP_NET_ADMIN")),
            ("CAP_NET_ADMIN", Some("CAP_NET_ADMIN")),
            ("cap_chown", Some("CAP_CHOWN")),
            ("all", Some("ALL")),
            ("CAP_ALL", Some("ALL")),
            ("nothing", None),
            ("", None),
        ] {
            assert_eq!(parse_capability(text).ok().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn flags_add_and_drop() {
        let (defaults, all) = (["CAP_CHOWN", "CAP_KILL"], ["CAP_CHOWN", "CAP_KILL", "CAP_BPF"]);
        for (add, drop, expected) in [
            ("", "", "CAP_CHOWN,CAP_KILL"),
            ("CAP_BPF", "CAP_CHOWN", "CAP_KILL,CAP_BPF"),
            ("ALL", "CAP_KILL", "CAP_CHOWN,CAP_BPF"),
            ("CAP_BPF", "ALL", "CAP_BPF"),
            ("", "ALL", ""),
            ("CAP_KILL", "", "CAP_CHOWN,CAP_KILL"),
        ] {
            let list =
                |text: &str| text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(tweak_capabilities(&defaults, &all, &list(add), &list(drop)).join(","), expected);
        }
    }

    #[test]
    fn options() {
        let parse =
            |texts: &[&str]| SecurityOptions::parse(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        let all = parse(&["no-new-privileges", "seccomp=unconfined", "apparmor=x", "label:disable"]).unwrap();
        assert!(all.no_new_privileges && all.seccomp == Seccomp::Unconfined && all.labels == ["disable"]);
        assert_eq!(all.apparmor.as_deref(), Some("x"));
        assert!(parse(&["systempaths=unconfined"]).unwrap().open_system_paths);
        for bad in ["", "x", "seccomp", "no-new-privileges=maybe", "label=x", "apparmor=", "systempaths=x"] {
            assert!(parse(&[bad]).is_err(), "{bad}");
        }
    }
}
