//! What the engine's binary does for the runtime, for the tests: the shim, and a client in a process of its own.
//!
//! `shim DIR`, `run FILE`, `attach DIR OPTIONS`, `exec DIR ID OPTIONS ARGS…`; options are letters: `i` stdin, `t`
//! terminal.
#![forbid(unsafe_code)]

use orlop_model::{ErrorKind, Kind};
use orlop_runtime::attach::{self, Connection, DETACH_KEYS, SessionEnd, SessionOptions, Stdio};
use orlop_runtime::oci::Runc;
use orlop_runtime::shim::{LogConfig, ShimConfig};
use orlop_runtime::spec::{Confinement, HostInput, Namespace, Namespaces, ProcessInput, SpecInput};
use orlop_runtime::{Error, LaunchRequest, launch};
use serde::Deserialize;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A container as a test describes it.
#[derive(Deserialize)]
struct Run {
    id: String,
    dir: PathBuf,
    rootfs: PathBuf,
    data: PathBuf,
    runtime_root: PathBuf,
    process: ProcessInput,
    stdin: bool,
    detach: bool,
    network_host: bool,
    reap: Vec<String>,
    #[serde(default)]
    health: Option<orlop_runtime::shim::HealthConfig>,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    let ended = match words.as_slice() {
        ["shim", dir] => return ExitCode::from(orlop_runtime::shim::main(Path::new(dir))),
        ["adopted", dir] => return ExitCode::from(orlop_runtime::shim::adopt_main(Path::new(dir))),
        ["adopt", dir] => adopt(dir),
        ["run", file] => run(file),
        ["attach", dir, letters] => attach_to(Path::new(dir), letters),
        ["exec", dir, id, letters, command @ ..] => exec(Path::new(dir), id, letters, command),
        _ => Err(Error::Invalid("usage: orlop-shim-test shim|run|attach|exec …".into())),
    };
    let (code, text) = match ended {
        Ok(None) => (0, String::new()),
        Ok(Some(SessionEnd::Exited(code))) => (code, String::new()),
        Ok(Some(SessionEnd::Interrupted(signal))) => (128 + signal, String::new()),
        Ok(Some(SessionEnd::OutputClosed)) => (0, "output closed\n".to_owned()),
        Ok(Some(SessionEnd::Detached)) => (0, "detached\n".to_owned()),
        Err(error) => (code_of(&error), format!("{error}\n")),
    };
    let _ = std::io::stderr().write_all(text.as_bytes());
    ExitCode::from(u8::try_from(code).unwrap_or(255))
}

fn code_of(error: &Error) -> i32 {
    match error.kind() {
        ErrorKind::CommandNotFound => 127,
        ErrorKind::CommandNotExecutable => 126,
        _ => 125,
    }
}

fn options(letters: &str) -> SessionOptions {
    let terminal = letters.contains('t');
    SessionOptions {
        stdin: letters.contains('i'),
        stdout: true,
        stderr: true,
        terminal,
        sig_proxy: !terminal,
        detach_keys: DETACH_KEYS.to_vec(),
    }
}

fn run(file: &str) -> Result<Option<SessionEnd>, Error> {
    let text = std::fs::read(file).map_err(Error::io("read", file))?;
    let run: Run = serde_json::from_slice(&text).map_err(|error| Error::Invalid(error.to_string()))?;
    let mut options = options("");
    (options.stdin, options.terminal, options.sig_proxy) = (run.stdin, run.process.terminal, !run.process.terminal);
    let (connection, client) = if run.detach {
        (None, None)
    } else {
        let (connection, client) = Connection::first_client(&options)?;
        (Some(connection), Some(client))
    };
    let own = std::env::current_exe().map_err(Error::io("find", "the test's binary"))?;
    launch(LaunchRequest {
        shim: ShimConfig {
            id: run.id.clone(),
            dir: run.dir,
            runtime: Runc { binary: "runc".into(), root: run.runtime_root },
            terminal: run.process.terminal,
            open_stdin: run.stdin,
            stdin_once: run.stdin && !run.detach,
            log: Some(LogConfig::new(run.data.join("log"))),
            exit_record: run.data.join("exit.json"),
            durable: false,
            health: run.health,
            oom: Vec::new(),
            reap: run.reap,
        },
        spec: SpecInput {
            root: run.rootfs,
            read_only_rootfs: false,
            process: run.process,
            hostname: "box".into(),
            mounts: Vec::new(),
            cgroup_path: format!("/orlop-test/{}", run.id),
            host: HostInput {
                namespaces: Namespaces {
                    network: if run.network_host { Namespace::Host } else { Namespace::Own },
                    ..Namespaces::default()
                },
                ..HostInput::default()
            },
        },
        shim_command: vec![own.to_string_lossy().into_owned(), "shim".into()],
        client,
    })?;
    let Some(connection) = connection else { return Ok(None) };
    attach::session(connection, &options, Stdio::inherit()?).map(Some)
}

fn adopt(dir: &str) -> Result<Option<SessionEnd>, Error> {
    let own = std::env::current_exe().map_err(Error::io("find", "the test's binary"))?;
    let command = vec![own.to_string_lossy().into_owned(), "adopted".into()];
    orlop_runtime::launch::adopt(Path::new(dir), command).map(|()| None)
}

fn attach_to(dir: &Path, letters: &str) -> Result<Option<SessionEnd>, Error> {
    let options = options(letters);
    attach::session(attach::attach(dir, &options)?, &options, Stdio::inherit()?).map(Some)
}

fn exec(dir: &Path, id: &str, letters: &str, command: &[&str]) -> Result<Option<SessionEnd>, Error> {
    let options = options(letters);
    let process = ProcessInput {
        args: command.iter().map(|word| (*word).to_owned()).collect(),
        env: vec!["PATH=/bin".into(), "TERM=xterm".into()],
        cwd: "/".into(),
        uid: 0,
        gid: 0,
        additional_gids: Vec::new(),
        terminal: options.terminal,
        console_size: None,
        confinement: Confinement::default(),
    };
    if letters.contains('d') {
        return attach::exec_detached(dir, id, process).map(|()| None);
    }
    attach::session(attach::exec(dir, id, process, &options)?, &options, Stdio::inherit()?).map(Some)
}
