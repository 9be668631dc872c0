//! AppArmor: the profile that containers get where the kernel has it on, with Docker's rules (moby
//! `profiles/apparmor`). It is loaded by `apparmor_parser` when it isn't yet.

use crate::Error;
use crate::oci::SYSTEM_PATH;
use orlop_sys::durable;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The profile's name.
pub const DEFAULT_PROFILE: &str = "orlop-default";

/// Whether the kernel confines by profiles.
pub fn is_enabled() -> bool {
    fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|value| value.first() == Some(&b'Y'))
}

/// The profile of a container that asks for none; None where AppArmor is off. It is loaded first when it isn't there;
/// `directory` is where its text is written for that.
pub fn default_profile(directory: &Path) -> Result<Option<String>, Error> {
    if !is_enabled() {
        return Ok(None);
    }
    if !is_loaded(DEFAULT_PROFILE) {
        load(directory)?;
    }
    Ok(Some(DEFAULT_PROFILE.to_owned()))
}

fn is_loaded(name: &str) -> bool {
    let loaded = fs::read_to_string("/sys/kernel/security/apparmor/profiles").unwrap_or_default();
    loaded.lines().any(|line| line.split(" (").next() == Some(name))
}

fn load(directory: &Path) -> Result<(), Error> {
    let failed = |reason: String| {
        Error::Runtime(format!(
            "AppArmor is on, but the profile {DEFAULT_PROFILE} can't be loaded: {reason}; install the package apparmor, \
             or use --security-opt apparmor=unconfined"
        ))
    };
    let parser = parser().ok_or_else(|| failed("apparmor_parser was not found".to_owned()))?;
    let file = directory.join("apparmor.profile");
    durable::write_file_volatile(&file, profile().as_bytes(), 0o600).map_err(|error| failed(error.to_string()))?;
    let output = Command::new(&parser)
        .arg("-Kr")
        .arg(&file)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(error.to_string()))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(failed(String::from_utf8_lossy(&output.stderr).trim().replace('\n', " "))),
    }
}

fn parser() -> Option<PathBuf> {
    SYSTEM_PATH.split(':').map(|place| Path::new(place).join("apparmor_parser")).find(|path| path.exists())
}

/// Docker's rules. What a later parser has beside them (abi, tunables) isn't needed.
fn profile() -> String {
    let abi = if Path::new("/etc/apparmor.d/abi/3.0").exists() { "abi <abi/3.0>,\n" } else { "" };
    let tunables = if Path::new("/etc/apparmor.d/tunables/global").exists() {
        "#include <tunables/global>\n"
    } else {
        "@{PROC}=/proc/\n"
    };
    let base =
        if Path::new("/etc/apparmor.d/abstractions/base").exists() { "#include <abstractions/base>" } else { "" };
    format!(
        "{abi}{tunables}
profile {DEFAULT_PROFILE} flags=(attach_disconnected,mediate_deleted) {{
  {base}

  network,
  capability,
  file,
  umount,
  signal (receive) peer=unconfined,
  signal (receive) peer=runc,
  signal (receive) peer=crun,
  signal (send,receive) peer={DEFAULT_PROFILE},

  deny @{{PROC}}/* w,
  deny @{{PROC}}/{{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9/]*}}/** w,
  deny @{{PROC}}/sys/[^k]** w,
  deny @{{PROC}}/sys/kernel/{{?,??,[^s][^h][^m]**}} w,
  deny @{{PROC}}/sysrq-trigger rwklx,
  deny @{{PROC}}/kcore rwklx,

  deny mount,

  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,

  ptrace (trace,read,tracedby,readby) peer={DEFAULT_PROFILE},
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parser reads the profile without the kernel's help (`-Q` doesn't load, `-K` keeps no cache).
    #[test]
    fn the_profile_is_one() {
        let Some(parser) = parser() else { return };
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), profile()).unwrap();
        let output = Command::new(parser).args(["-QKS"]).arg(file.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // Without AppArmor's file system the parser can't tell what the kernel knows; that is no fault of the profile.
        assert!(output.status.success() || said.contains("interface") || said.contains("kernel"), "{said}");
    }
}
