//! The OCI runtime: runc, or another binary with its command line (crun, youki), behind a trait.
//!
//! What takes long (`run`, `exec`) is handed out as a [`Call`] that the shim starts and watches beside everything else;
//! the rest is short and waited for. The runtime tells its errors in a log file of JSON lines; [`explain`] turns them
//! into one line in Docker's words.

use crate::Error;
use orlop_sys::process::{Spawn, Ties, spawn};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// The PATH that the runtime and the shim run with, whatever the caller's is.
pub const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is asked of an OCI runtime. Ids are containers' ids.
pub trait OciRuntime {
    /// Creates and starts the container whose bundle is `files.dir`, in one call; done when the program runs.
    fn run_detached(&self, id: &str, files: &CallFiles) -> Call;
    /// Starts a further process, described by the OCI `process` object in `process`; done when the program runs.
    fn exec(&self, id: &str, process: &str, files: &CallFiles) -> Call;
    /// Signals the first process.
    fn kill(&self, id: &str, signal: i32) -> Result<(), Error>;
    /// Forgets an ended container and removes its cgroups; `force` kills what still runs and accepts an unknown one.
    fn delete(&self, id: &str, force: bool) -> Result<(), Error>;
    /// Freezes every process of a container.
    fn pause(&self, id: &str) -> Result<(), Error>;
    /// Lets them go on.
    fn resume(&self, id: &str) -> Result<(), Error>;
    /// The process ids of a container, as this process sees them.
    fn processes(&self, id: &str) -> Result<Vec<u32>, Error>;
    /// What the runtime knows of a container; none when it knows nothing.
    fn state(&self, id: &str) -> Result<Option<OciState>, Error>;
    /// Where the runtime keeps a container's state, for those whose format we read ourselves.
    fn state_dir(&self, id: &str) -> PathBuf;
}

/// The files that a call reads and writes, by name in `dir`, which is its working directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallFiles {
    /// The container's run directory, which is its bundle.
    pub dir: PathBuf,
    /// Receives the process's id.
    pub pid_file: String,
    /// A listening socket that receives the terminal.
    pub console_socket: Option<String>,
    /// Receives the runtime's messages.
    pub log: String,
}

/// A call of the runtime that isn't made yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// By absolute path.
    pub program: PathBuf,
    /// With the name first.
    pub args: Vec<String>,
    /// Where its messages go.
    pub log: PathBuf,
}

/// `runc state`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct OciState {
    /// `creating`, `created`, `running`, `stopped` or `paused`.
    pub status: String,
    /// The first process, 0 when it has ended.
    #[serde(default)]
    pub pid: u32,
}

/// runc, or what has its command line (crun, youki).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runc {
    /// A name that is looked up in PATH, or a path.
    pub binary: String,
    /// Where it keeps its state: `<run root>/runc`.
    pub root: PathBuf,
}

impl Runc {
    /// Gives a running container the limits in `resources` (`linux.resources` of the OCI spec, as JSON).
    pub fn update(&self, id: &str, resources: &str) -> Result<(), Error> {
        fs::create_dir_all(&self.root).map_err(Error::io("create", &self.root))?;
        let file = self.root.join(format!(".{id}.{}.resources", std::process::id()));
        fs::write(&file, resources).map_err(Error::io("write", &file))?;
        let updated = self.short_call(id, &["update", "--resources", &file.to_string_lossy(), id]);
        let _ = fs::remove_file(&file);
        updated.map(drop)
    }

    /// The same runtime by absolute path.
    pub fn resolved(&self) -> Result<Self, Error> {
        let missing = || Error::RuntimeMissing(self.binary.clone());
        let found = if self.binary.contains('/') {
            Some(PathBuf::from(&self.binary)).filter(|path| is_executable(path))
        } else {
            let own = std::env::var("PATH").unwrap_or_default();
            let places = own.split(':').chain(SYSTEM_PATH.split(':')).filter(|place| place.starts_with('/'));
            places.map(|place| Path::new(place).join(&self.binary)).find(|path| is_executable(path))
        };
        let binary = found.ok_or_else(missing)?.to_string_lossy().into_owned();
        Ok(Self { binary, root: self.root.clone() })
    }

    fn call(&self, log: PathBuf, rest: &[&str]) -> Call {
        let root = self.root.to_string_lossy().into_owned();
        let log_text = log.to_string_lossy().into_owned();
        let fixed = [self.binary.as_str(), "--root", &root, "--log", &log_text, "--log-format", "json"];
        let args = fixed.iter().chain(rest).map(|text| (*text).to_owned()).collect();
        Call { program: PathBuf::from(&self.binary), args, log }
    }

    fn start_call(&self, verb: &[&str], id: &str, files: &CallFiles) -> Call {
        let mut rest = verb.to_vec();
        rest.extend(["--pid-file", &files.pid_file]);
        if let Some(socket) = &files.console_socket {
            rest.extend(["--console-socket", socket]);
        }
        rest.push(id);
        self.call(files.dir.join(&files.log), &rest)
    }

    /// A call that is waited for. Its messages go to a file beside the runtime's state.
    fn short_call(&self, id: &str, rest: &[&str]) -> Result<String, Error> {
        let runtime = self.resolved()?;
        fs::create_dir_all(&self.root).map_err(Error::io("create", &self.root))?;
        // Names of containers are ids, so this can't collide with a state directory.
        let call = runtime.call(self.root.join(format!(".{id}.{}.log", std::process::id())), rest);
        let result = run_to_end(&call);
        let _ = fs::remove_file(&call.log);
        result
    }
}

impl OciRuntime for Runc {
    fn run_detached(&self, id: &str, files: &CallFiles) -> Call {
        self.start_call(&["run", "--detach", "--bundle", "."], id, files)
    }

    fn exec(&self, id: &str, process: &str, files: &CallFiles) -> Call {
        self.start_call(&["exec", "--detach", "--process", process], id, files)
    }

    fn kill(&self, id: &str, signal: i32) -> Result<(), Error> {
        self.short_call(id, &["kill", id, &signal.to_string()]).map(drop)
    }

    fn delete(&self, id: &str, force: bool) -> Result<(), Error> {
        let verb: &[&str] = if force { &["delete", "--force", id] } else { &["delete", id] };
        self.short_call(id, verb).map(drop)
    }

    fn pause(&self, id: &str) -> Result<(), Error> {
        self.short_call(id, &["pause", id]).map(drop)
    }

    fn resume(&self, id: &str) -> Result<(), Error> {
        self.short_call(id, &["resume", id]).map(drop)
    }

    fn processes(&self, id: &str) -> Result<Vec<u32>, Error> {
        let text = self.short_call(id, &["ps", "--format", "json", id])?;
        // runc writes null for none.
        let ids: Result<Option<Vec<u32>>, _> = serde_json::from_str(&text);
        ids.map(Option::unwrap_or_default).map_err(|error| Error::Runtime(format!("{} ps: {error}", self.binary)))
    }

    fn state(&self, id: &str) -> Result<Option<OciState>, Error> {
        if !self.state_dir(id).exists() {
            return Ok(None);
        }
        let text = self.short_call(id, &["state", id])?;
        let state = serde_json::from_str(&text);
        state.map(Some).map_err(|error| Error::Runtime(format!("{} state: {error}", self.binary)))
    }

    fn state_dir(&self, id: &str) -> PathBuf {
        self.root.join(id)
    }
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

/// Makes a call with stdin and stderr at /dev/null and returns its stdout.
fn run_to_end(call: &Call) -> Result<String, Error> {
    use std::io::Read;
    let null = File::options().read(true).write(true).open("/dev/null").map_err(Error::io("open", "/dev/null"))?;
    let (read, write) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(Error::io("call", &call.program))?;
    let fds = vec![null.as_fd(), write.as_fd(), null.as_fd()];
    let pid = spawn_call(call, Path::new("/"), fds)?;
    drop(write);
    let mut stdout = String::new();
    File::from(read).read_to_string(&mut stdout).map_err(Error::io("read the output of", &call.program))?;
    match wait_for(pid) {
        Some(0) => Ok(stdout),
        _ => Err(failure_of(call)),
    }
}

/// Starts a call as a child of this process.
pub(crate) fn spawn_call(call: &Call, cwd: &Path, fds: Vec<std::os::fd::BorrowedFd<'_>>) -> Result<i32, Error> {
    let request = Spawn {
        program: call.program.clone(),
        args: call.args.clone(),
        env: vec![format!("PATH={SYSTEM_PATH}")],
        cwd: Some(cwd.to_owned()),
        fds,
        ties: Ties::Child,
    };
    spawn(&request).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::RuntimeMissing(call.program.display().to_string()),
        _ => Error::Io { action: "start", path: call.program.clone(), source },
    })
}

/// A child's exit code; none when a signal ended it or somebody else has reaped it.
pub(crate) fn wait_for(pid: i32) -> Option<i32> {
    let pid = rustix::process::Pid::from_raw(pid)?;
    loop {
        match rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()) {
            Ok(status) => return status.and_then(|(_, status)| status.exit_status()),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

/// Why a call failed, from its log; the log is removed.
pub(crate) fn failure_of(call: &Call) -> Error {
    #[derive(Deserialize)]
    struct Line {
        level: String,
        msg: String,
    }
    let text = fs::read_to_string(&call.log).unwrap_or_default();
    let _ = fs::remove_file(&call.log);
    let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    match lines.rfind(|line| matches!(line.level.as_str(), "error" | "fatal" | "panic")) {
        Some(line) => explain(&line.msg),
        None => Error::Runtime(format!("{} failed without saying why", call.program.display())),
    }
}

/// Where the message itself begins: the runtime's own layers are of no use to a user.
const LAYERS: [&str; 7] = [
    "runc run failed: ",
    "runc create failed: ",
    "exec failed: ",
    "unable to start container process: ",
    "error during container init: ",
    "starting container process caused: ",
    "rpc error: ",
];

/// The error that a runtime's message stands for.
pub fn explain(message: &str) -> Error {
    let mut text = message.trim();
    while let Some(rest) = LAYERS.iter().find_map(|layer| text.strip_prefix(layer)) {
        text = rest;
    }
    let line = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    if line.starts_with("exec: ") || line.starts_with("exec ") || line.starts_with("executable file") {
        return if line.contains("not found") || line.contains("no such file or directory") {
            Error::CommandNotFound(line)
        } else {
            Error::CommandNotExecutable(line)
        };
    }
    if line.starts_with("chdir to cwd") && line.contains("permission denied") {
        return Error::CommandNotExecutable(line);
    }
    Error::Runtime(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use orlop_model::{ErrorKind, Kind};

    #[test]
    fn messages_become_kinds() {
        let start = "runc run failed: unable to start container process: ";
        for (message, kind, wanted) in [
            (
                r#"exec: "nosuch": executable file not found in $PATH"#,
                ErrorKind::CommandNotFound,
                r#"exec: "nosuch": executable file not found in $PATH"#,
            ),
            (
                r#"exec: "/nosuch": stat /nosuch: no such file or directory"#,
                ErrorKind::CommandNotFound,
                r#"exec: "/nosuch": stat /nosuch: no such file or directory"#,
            ),
            (
                r#"exec: "/etc": permission denied"#,
                ErrorKind::CommandNotExecutable,
                r#"exec: "/etc": permission denied"#,
            ),
            (r#"exec: "/etc": is a directory"#, ErrorKind::CommandNotExecutable, r#"exec: "/etc": is a directory"#),
            ("exec /x: exec format error", ErrorKind::CommandNotExecutable, "exec /x: exec format error"),
            (
                "error during container init: mkdir /bin/busybox: not a directory",
                ErrorKind::Internal,
                "mkdir /bin/busybox: not a directory",
            ),
            (
                "error during container init: error mounting \"/a\" to rootfs at \"/b\": no such file or directory",
                ErrorKind::Internal,
                "error mounting \"/a\" to rootfs at \"/b\": no such file or directory",
            ),
            (
                "chdir to cwd (\"/x\") set in config.json failed: permission denied",
                ErrorKind::CommandNotExecutable,
                "chdir to cwd (\"/x\") set in config.json failed: permission denied",
            ),
        ] {
            let error = explain(&format!("{start}{message}\n"));
            assert_eq!((error.kind(), error.to_string().as_str()), (kind, wanted));
        }
    }

    #[test]
    fn a_missing_runtime_says_how_to_install_it() {
        for binary in ["no-such-runtime", "/nonexistent/runc"] {
            let error = Runc { binary: binary.into(), root: "/x".into() }.resolved().unwrap_err();
            assert!(error.to_string().contains(binary) && error.to_string().contains("apt-get install runc"));
        }
    }
}
