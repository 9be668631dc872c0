//! `start`, and `run` as the two verbs in one: mounts the container and launches its program beside a shim.

use crate::attach::console_size;
use crate::container::Phase;
use crate::create::Reserved;
use crate::open::{remove_directory, remove_file};
use crate::{Container, CreateRequest, Created, Engine, Error, Result, files, user};
use orlop_model::{ErrorKind, Kind};
use orlop_mounts::{AppliedKind, AppliedMount, Place};
use orlop_runtime::attach::{Connection, SessionOptions};
use orlop_runtime::shim::ShimConfig;
use orlop_runtime::spec::{ProcessInput, SpecInput, SpecMount};
use orlop_runtime::{LaunchRequest, Launched};
use std::os::fd::AsFd;

/// A started container and, when one was asked for, the connection that sees its output from the first byte on.
pub struct Foreground {
    /// The container.
    pub created: Created,
    /// For [`Engine::session`].
    pub connection: Option<Connection>,
}

impl Engine {
    /// Makes a container and starts it. One that can't be started stays, as in Docker, unless it is `--rm`.
    pub fn run(&self, request: &CreateRequest, session: Option<&SessionOptions>) -> Result<Foreground> {
        let Reserved { mut container, warnings, lock } = self.reserve(request)?;
        let created = Created { id: container.id, warnings };
        match self.start_locked(&mut container, session) {
            Ok(connection) => {
                self.emit_container(&container, "create", &[]);
                self.emit_container(&container, "start", &[]);
                Ok(Foreground { created, connection })
            }
            Err(error) if request.auto_remove => {
                self.undo_create(&container)?;
                lock.remove();
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Starts a container that is there; one that runs already is left alone.
    pub fn start(&self, name: &str, session: Option<&SessionOptions>) -> Result<Foreground> {
        let id = self.container(name)?.id;
        let _lock = self.state.lock("container", &id.hex())?;
        let mut container = self.settled(id)?.ok_or_else(|| Error::NoSuchContainer(name.to_owned()))?;
        let created = Created { id, warnings: Vec::new() };
        match container.details.status.phase {
            Phase::Running => Ok(Foreground { created, connection: None }),
            Phase::Removing { .. } => {
                Err(Error::Conflict("container is marked for removal and cannot be started".to_owned()))
            }
            Phase::Creating | Phase::Created | Phase::Starting | Phase::Exited => {
                self.update(&mut container, |container| {
                    let status = &mut container.details.status;
                    status.phase = Phase::Starting;
                    (status.restarting, status.restart_count, status.backoff) = (None, 0, 0);
                })?;
                let connection = self.start_locked(&mut container, session)?;
                self.emit_container(&container, "start", &[]);
                Ok(Foreground { created, connection })
            }
        }
    }

    /// As its restart policy wants. The caller holds the container's lock, and its row says Starting.
    pub(crate) fn start_again(&self, container: &mut Container) -> Result<()> {
        self.start_locked(container, None)?;
        self.emit_container(container, "start", &[]);
        Ok(())
    }

    /// The caller holds the container's lock, and its row says Creating or Starting.
    fn start_locked(&self, container: &mut Container, session: Option<&SessionOptions>) -> Result<Option<Connection>> {
        let ran_before = container.details.status.started.is_some();
        let whole = self.leave_damaged_layers(container);
        let running = whole.and_then(|()| self.launch(container, session)).and_then(|(launched, connection)| {
            self.note_running(container, &launched)?;
            Ok(connection)
        });
        match running {
            Ok(connection) => Ok(connection),
            Err(error) => {
                // What runs without a row that says so must not run.
                self.delete_from_runtime(container)?;
                self.tear_down(container)?;
                // When this can't be written either, the intent stays, and the next command undoes it.
                let _ = self.update(container, |container| {
                    let status = &mut container.details.status;
                    status.phase = if ran_before { Phase::Exited } else { Phase::Created };
                    status.exit_code = match error.kind() {
                        ErrorKind::CommandNotFound => 127,
                        ErrorKind::CommandNotExecutable => 126,
                        _ => 128,
                    };
                    status.error = error.to_string();
                    status.restarting = None;
                });
                Err(error)
            }
        }
    }

    fn note_running(&self, container: &mut Container, launched: &Launched) -> Result<()> {
        let boot = self.boot().to_owned();
        self.update(container, |container| {
            let status = &mut container.details.status;
            status.phase = Phase::Running;
            status.pid = launched.pid;
            status.pid_start = launched.pid_start;
            status.boot = boot;
            status.mount_namespace = own_mount_namespace();
            status.started = Some(launched.started_at);
            status.finished = None;
            status.exit_code = 0;
            status.error = String::new();
            status.oom_killed = false;
            status.stopping = false;
            status.shutdown = false;
            status.paused = false;
            status.held = false;
            status.restarting = None;
            status.health = None;
        })
    }

    fn launch(
        &self,
        container: &Container,
        session: Option<&SessionOptions>,
    ) -> Result<(Launched, Option<Connection>)> {
        let id = container.id;
        let driver = self.driver()?;
        let layer = driver.diff(container.writable);
        if container.details.status.started.is_some() && !layer.is_dir() {
            return Err(Error::Conflict(format!(
                "the writable layer of container {} is gone: {} does not exist; what it held can only come from a backup, \
                 and `orlop rm` removes the container",
                container.name,
                layer.display()
            )));
        }
        // A power cut may have taken a layer that was made but never used.
        driver.prepare(container.writable, &crate::create::topmost_first(&container.layers))?;
        let root = match container.details.host.auto_remove {
            true => driver.mount_transient(container.writable)?,
            false => driver.mount(container.writable)?,
        };
        let root_fd = orlop_sys::path::open_directory(&root)?;
        let own_files = files::write(self, container)?;
        let user = user::resolve(&root_fd, &container.details.config.user, &container.details.host.options.group_add)?;
        let host = self.host_input(container)?;
        let (args, init) = self.program(container)?;
        // A volume that is new and empty belongs to who will write into it.
        let owner = (user.uid != 0).then_some((user.uid, user.gid));
        let applied = orlop_mounts::apply(
            &self.state,
            &container.details.mounts,
            &Place { container: id, rootfs: root_fd.as_fd(), run_dir: &self.mounts_dir(id), owner },
        )?;
        let mut mounts: Vec<SpecMount> = own_files;
        mounts.extend(self.shared_memory(container)?);
        mounts.extend(init);
        mounts.extend(applied.into_iter().map(spec_mount));
        let exit_record = self.exit_record(id);
        remove_file(&exit_record)?;
        let (connection, client) = match session {
            Some(options) => {
                let (connection, client) = Connection::first_client(options)?;
                (Some(connection), Some(client))
            }
            None => (None, None),
        };
        let launched = orlop_runtime::launch(LaunchRequest {
            spec: SpecInput {
                root,
                read_only_rootfs: container.details.host.read_only,
                process: ProcessInput {
                    console_size: session.and_then(console_size),
                    ..self.first_process(container, &user, args)?
                },
                hostname: container.details.config.hostname.clone(),
                mounts,
                cgroup_path: Self::cgroup_path(container),
                host,
            },
            shim: ShimConfig {
                id: id.hex(),
                dir: self.bundle(id),
                runtime: self.runtime_of(container)?,
                terminal: container.details.config.tty,
                open_stdin: container.details.config.open_stdin,
                stdin_once: container.details.config.stdin_once,
                log: crate::logging::config(self, container)?,
                exit_record,
                durable: !container.details.host.auto_remove,
                health: crate::health::config(self, container, &self.first_process(container, &user, Vec::new())?),
                oom: self.internal(&["oom", &id.hex()]),
                reap: self.internal(&["reap", &id.hex()]),
            },
            shim_command: self.internal(&["shim"]),
            client,
        })?;
        Ok((launched, connection))
    }

    fn first_process(&self, container: &Container, user: &user::User, args: Vec<String>) -> Result<ProcessInput> {
        let config = &container.details.config;
        Ok(ProcessInput {
            args,
            env: environment(&config.env, &config.hostname, config.tty, &user.home),
            cwd: absolute_or_root(&config.working_dir),
            uid: user.uid,
            gid: user.gid,
            additional_gids: user.additional_gids.clone(),
            terminal: config.tty,
            console_size: None,
            confinement: self.confinement(container)?,
        })
    }

    /// Unmounts and removes whatever a start made outside of the writable layer; all of it may be gone already.
    pub(crate) fn tear_down(&self, container: &Container) -> Result<()> {
        let id = container.id;
        orlop_mounts::release(&self.state, &container.details.mounts, id, &self.mounts_dir(id))?;
        self.driver()?.unmount(container.writable)?;
        self.release_shared_memory(id)?;
        remove_directory(&self.bundle(container.id))
    }
}

/// Docker's, for an image that says none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The variables of a process: the container's, and those that Docker adds.
pub(crate) fn environment(env: &[String], hostname: &str, tty: bool, home: &str) -> Vec<String> {
    let mut all = env.to_vec();
    let mut add = |name: &str, value: &str| {
        if !all.iter().any(|entry| entry.split_once('=').is_some_and(|(present, _)| present == name)) {
            all.push(format!("{name}={value}"));
        }
    };
    add("PATH", DEFAULT_PATH);
    add("HOSTNAME", hostname);
    if tty {
        add("TERM", "xterm");
    }
    add("HOME", home);
    all
}

pub(crate) fn absolute_or_root(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

fn spec_mount(mount: AppliedMount) -> SpecMount {
    match mount.kind {
        AppliedKind::Bind { source, options } => SpecMount::Bind { source, target: mount.target, options },
        AppliedKind::Tmpfs { options } => SpecMount::Tmpfs { target: mount.target, options },
    }
}

/// The signal that stops this container.
pub(crate) fn stop_signal(container: &Container) -> Result<i32> {
    match container.details.config.stop_signal.as_str() {
        "" => Ok(rustix::process::Signal::TERM.as_raw()),
        name => crate::kill::signal_number(name),
    }
}

/// Inode number of this process's mount namespace; 0 where the kernel doesn't tell.
pub(crate) fn own_mount_namespace() -> u64 {
    rustix::fs::stat("/proc/self/ns/mnt").map_or(0, |stat| stat.st_ino)
}
