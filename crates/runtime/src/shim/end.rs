//! What is done when a container has ended, in the order in which others rely on it.

use super::serve::Shim;
use super::{ExitRecord, ShimConfig, note};
use crate::oci::{OciRuntime, SYSTEM_PATH};
use orlop_model::Timestamp;
use orlop_sys::process::{Spawn, Ties, spawn};
use serde::Deserialize;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

/// The runtime's leftovers, the exit record, the socket. Clients hear of the end after that, so that whoever has heard
/// of it finds all of it done.
pub(super) fn finish(shim: &mut Shim, code: i32) {
    let oom_killed = forget(&shim.config, true);
    let oom_told = shim.oom_told && shim.oom.as_ref().is_none_or(|oom| oom.wait().is_none());
    let record = ExitRecord {
        version: 1,
        id: shim.config.id.clone(),
        code,
        oom_killed,
        oom_told,
        started_at: shim.started_at,
        finished_at: Timestamp::now(),
        stopping: shim.stopping,
        log_lines_dropped: shim.log.as_ref().map_or(0, crate::log::LogWriter::dropped),
        unknown: shim.exit_is_unknown,
        health: super::HealthState::read(&shim.config.dir),
    };
    if let Err(error) = record.write(&shim.config.exit_record, shim.config.durable) {
        note(&format!("the exit record goes to the run directory only: {error}"));
        if let Err(error) = record.write(&shim.config.dir.join(super::EXIT_RECORD), false) {
            note(&format!("there is no exit record: {error}"));
        }
    }
    // Nothing is left to adopt, even where nobody reaps the program.
    let _ = fs::remove_file(shim.config.dir.join(super::adopt::RUNNING));
    shim.stop_listening();
}

/// How long a client in the foreground has to reap.
const CLIENT_REAPS: std::time::Duration = std::time::Duration::from_millis(200);

/// Waits for a client to reap; its sign is that the run directory is gone. A client that is killed after that leaves a
/// row that the next command of the engine puts right.
pub(super) fn is_reaped_by_a_client(config: &ShimConfig) -> bool {
    std::thread::sleep(CLIENT_REAPS);
    !config.dir.exists()
}

/// Calls the engine, which owns rows and mounts.
pub(super) fn reap(config: &ShimConfig) {
    call(&config.reap, &[]);
}

/// Starts the engine's program and doesn't wait for it.
pub(super) fn call(command: &[String], more: &[&str]) {
    let [program, ..] = command else { return };
    let start = || -> io::Result<i32> {
        let null = fs::File::options().read(true).write(true).open("/dev/null")?;
        spawn(&Spawn {
            program: PathBuf::from(program),
            args: command.iter().cloned().chain(more.iter().map(|word| (*word).to_owned())).collect(),
            env: vec![format!("PATH={SYSTEM_PATH}")],
            cwd: Some("/".into()),
            fds: vec![null.as_fd(); 3],
            ties: Ties::None,
        })
    };
    if let Err(error) = start() {
        note(&format!("{program} could not be started; the next command of the engine notices instead: {error}"));
    }
}

/// Removes what the runtime keeps of a container whose processes are gone, and tells whether the kernel had killed
/// something in it for lack of memory.
///
/// runc's own `delete` costs half as much as starting a container. All it has left to do then is to remove the cgroups
/// and its state directory; where anything is unusual, it does it itself.
pub(super) fn forget(config: &ShimConfig, ran: bool) -> bool {
    let dir = config.runtime.state_dir(&config.id);
    if !dir.exists() {
        return false;
    }
    let paths = cgroup_paths(config);
    let oom_killed = paths.as_ref().is_some_and(oom_killed);
    let removed = match paths {
        Some(paths) if ran => remove_cgroups(&paths).and_then(|()| fs::remove_dir_all(&dir)),
        _ => Err(io::ErrorKind::Unsupported.into()),
    };
    if removed.is_err()
        && let Err(error) = config.runtime.delete(&config.id, true)
    {
        note(&format!("the runtime's state of the container stays: {error}"));
    }
    oom_killed
}

/// The container's cgroups by controller (the empty name is v2's), as runc writes them down.
pub(super) fn cgroup_paths(config: &ShimConfig) -> Option<HashMap<String, PathBuf>> {
    #[derive(Deserialize)]
    struct State {
        cgroup_paths: HashMap<String, PathBuf>,
    }
    let text = fs::read(config.runtime.state_dir(&config.id).join("state.json")).ok()?;
    serde_json::from_slice::<State>(&text).ok().map(|state| state.cgroup_paths)
}

fn remove_cgroups(paths: &HashMap<String, PathBuf>) -> io::Result<()> {
    for path in paths.values().filter(|path| path.starts_with("/sys/fs/cgroup/")) {
        match fs::remove_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// `oom_kill` of v1's memory.oom_control or v2's memory.events.
fn oom_killed(paths: &HashMap<String, PathBuf>) -> bool {
    let v1 = paths.get("memory").map(|path| path.join("memory.oom_control"));
    let v2 = paths.get("").map(|path| path.join("memory.events"));
    [v1, v2].into_iter().flatten().filter_map(|path| fs::read_to_string(path).ok()).any(|text| {
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.trim().parse::<u64>().ok()).is_some_and(|count| count > 0)
    })
}
