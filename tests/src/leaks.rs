//! What a program under test may leave on the machine: mounts, processes, loop devices, cgroups. Everything is looked
//! for by the directory of the world that made it, never by a name that somebody else may use.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal};

/// Mount points below `dir` in our own mount namespace, the innermost last.
#[must_use]
pub fn mounts(dir: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|path| PathBuf::from(path.replace("\\040", " ")))
        .filter(|path| path.starts_with(dir))
        .collect()
}

/// Processes that run a file of `dir`, stand in it, name it in their command line, or live in a mount namespace of
/// their own that has something of it mounted. Pid and command line.
#[must_use]
pub fn processes(dir: &Path) -> Vec<(i32, String)> {
    // Mounts may have been made in pid 1's namespace as well as in ours: a process that merely lives there is no finding.
    let shared = ["/proc/self/ns/mnt", "/proc/1/ns/mnt"].map(|link| fs::read_link(link).ok());
    let text = dir.to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if pid == i32::try_from(std::process::id()).unwrap_or_default() {
            continue;
        }
        let proc = entry.path();
        let below = |link: &str| fs::read_link(proc.join(link)).is_ok_and(|path| path.starts_with(dir));
        let command = fs::read(proc.join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let contained = || {
            !shared.contains(&fs::read_link(proc.join("ns/mnt")).ok())
                && fs::read_to_string(proc.join("mountinfo")).is_ok_and(|table| table.contains(&text))
        };
        if below("exe") || below("cwd") || command.contains(&text) || contained() {
            found.push((pid, command));
        }
    }
    found
}

/// Loop devices whose backing file lies below `dir`.
#[must_use]
pub fn loop_devices(dir: &Path) -> Vec<PathBuf> {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    devices
        .filter(|entry| {
            fs::read_to_string(entry.path().join("loop/backing_file"))
                .is_ok_and(|file| Path::new(file.trim()).starts_with(dir))
        })
        .map(|entry| Path::new("/dev").join(entry.file_name()))
        .collect()
}

/// Cgroups whose name ends in an id of 64 digits, as every container's does.
#[must_use]
pub fn cgroups() -> BTreeSet<PathBuf> {
    fn walk(dir: &Path, depth: usize, found: &mut BTreeSet<PathBuf>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            let name = name.trim_end_matches(".scope");
            if name.len() >= 64 && name.bytes().rev().take(64).all(|byte| byte.is_ascii_hexdigit()) {
                found.insert(entry.path());
            } else if depth > 0 {
                walk(&entry.path(), depth - 1, found);
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(Path::new("/sys/fs/cgroup"), 5, &mut found);
    found
}

/// Kills what `processes` finds, takes mounts and loop devices away, the innermost first. Says what it could not do.
pub fn force(dir: &Path) {
    for (pid, _) in processes(dir) {
        if let Some(pid) = Pid::from_raw(pid) {
            // It may have ended by itself in between.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
    for mount in mounts(dir).into_iter().rev() {
        if let Err(error) = rustix::mount::unmount(&mount, rustix::mount::UnmountFlags::DETACH) {
            crate::say(&format!("{} stays mounted: {error}", mount.display()));
        }
    }
    for device in loop_devices(dir) {
        let _ = std::process::Command::new("losetup").arg("-d").arg(&device).status();
    }
}

/// Everything that is left below `dir`, a line each.
#[must_use]
pub fn describe(dir: &Path) -> Vec<String> {
    let mounts = mounts(dir).into_iter().map(|mount| format!("mount {}", mount.display()));
    let processes = processes(dir).into_iter().map(|(pid, command)| format!("process {pid} {command}"));
    let loops = loop_devices(dir).into_iter().map(|device| format!("loop device {}", device.display()));
    mounts.chain(processes).chain(loops).collect()
}
