//! The shim's own cgroup: outside of its caller's, so that the end of a login session or of a service doesn't take the
//! container's keeper with it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const NAME: &str = "orlop-shim";

/// Moves this process out of every cgroup that isn't a hierarchy's root. What can't be left is told to `note`: the
/// container has cgroups of its own either way.
pub(super) fn leave_callers() {
    let Ok(text) = fs::read_to_string("/proc/self/cgroup") else { return };
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        if path == "/" || path.trim_start_matches('/') == NAME {
            continue;
        }
        let Some(mount) = mount_of(controllers) else { continue };
        if let Err(error) = join(&mount.join(NAME), controllers) {
            super::note(&format!("staying in the caller's cgroup {path} of {controllers:?}: {error}"));
        }
    }
}

/// Where a hierarchy is mounted, by its line in /proc/self/cgroup (cgroups(7)).
fn mount_of(controllers: &str) -> Option<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let candidates = match controllers {
        "" if crate::spec::cgroups_are_unified() => vec![root.to_owned()],
        "" => vec![root.join("unified")],
        named if named.starts_with("name=") => vec![root.join(&named[5..])],
        // Joined controllers are mounted under both names, linked from each alone.
        joined => [joined].into_iter().chain(joined.split(',')).map(|name| root.join(name)).collect(),
    };
    candidates.into_iter().find(|path| path.join("cgroup.procs").exists())
}

fn join(dir: &Path, controllers: &str) -> io::Result<()> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if controllers.split(',').any(|controller| controller == "cpuset") {
        // A new cpuset of v1 has neither CPUs nor memory and takes no process until it has.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let parent = dir.parent().unwrap_or(dir).join(file);
            fs::write(dir.join(file), fs::read(parent)?)?;
        }
    }
    fs::write(dir.join("cgroup.procs"), "0")
}
