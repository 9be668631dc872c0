//! Installs Debian packages that are missing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::Outcome;
use crate::shell::{capture, is_root, pass, which};

/// What the tests use: a runtime, the tools whose images are read, static tools for images, file systems.
pub const FOR_TESTS: [&str; 21] = [
    "acl",
    "attr",
    "btrfs-progs",
    "buildah",
    "busybox-static",
    "docker-registry",
    "docker.io",
    "e2fsprogs",
    "file",
    "jq",
    "libarchive-tools",
    "mount",
    "openssl",
    "podman",
    "postgresql",
    "python3",
    "runc",
    "skopeo",
    "umoci",
    "xfsprogs",
    "zstd",
];

/// Installs those of `names` that are missing; without root, or on a system without apt, says which they are.
pub fn install(names: &[&str]) -> Outcome {
    if which("dpkg-query").is_none() || which("apt-get").is_none() {
        println!("not a Debian system: what is missing of {} has to be there already", names.join(" "));
        return Ok(());
    }
    let missing: Vec<&str> = names.iter().copied().filter(|name| !installed(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !is_root() {
        return Err(format!("missing packages: as root, apt-get install {}", missing.join(" ")));
    }
    println!("installing {}", missing.join(" "));
    let _quiet = NoServices::begin()?;
    let install = || {
        let mut command = apt(&["install", "--yes", "--no-install-recommends"]);
        pass(command.args(&missing))
    };
    // The lists may be missing or old on a fresh machine; fetching them when they are good costs more than a try.
    if Path::new("/var/lib/apt/lists")
        .read_dir()
        .is_ok_and(|mut lists| lists.any(|file| file.is_ok_and(|f| f.path().is_file())))
        && install().is_ok()
    {
        return Ok(());
    }
    pass(&mut apt(&["update"]))?;
    install()
}

fn installed(name: &str) -> bool {
    capture(Command::new("dpkg-query").args(["-W", "-f=${db:Status-Status}", name]))
        .is_ok_and(|state| state == "installed")
}

fn apt(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.arg("-qq").args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// While this lives, packages don't start the services that they bring (dockerd, PostgreSQL).
struct NoServices {
    ours: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl NoServices {
    fn begin() -> Outcome<Self> {
        if Path::new(POLICY).exists() {
            return Ok(Self { ours: false });
        }
        let write = || {
            fs::write(POLICY, "#!/bin/sh\nexit 101\n")?;
            fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))
        };
        write().map_err(|error| format!("{POLICY}: {error}"))?;
        Ok(Self { ours: true })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = fs::remove_file(POLICY)
        {
            eprintln!("{POLICY}: {error}; remove it, or no package can start its service");
        }
    }
}
