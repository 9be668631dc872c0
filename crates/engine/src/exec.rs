//! `exec`: a further process in a running container.

use crate::start::{absolute_or_root, environment};
use crate::{Container, Engine, Error, Result, user};
use orlop_model::Id;
use orlop_runtime::attach::{Connection, SessionOptions};
use orlop_runtime::spec::ProcessInput;
use std::os::fd::OwnedFd;
use std::path::Path;

/// `exec`.
#[derive(Clone, Debug)]
pub struct ExecRequest {
    /// Program and arguments.
    pub command: Vec<String>,
    /// `NAME=value`, over the container's own.
    pub env: Vec<String>,
    /// None for the container's.
    pub user: Option<String>,
    /// None for the container's.
    pub working_dir: Option<String>,
    /// `--privileged`: every capability, as in a container of that flag.
    pub privileged: bool,
    /// `-t`.
    pub tty: bool,
    /// None with `-d`: nobody follows it.
    pub session: Option<SessionOptions>,
}

impl Engine {
    /// The root directory of a running container, as its program sees it.
    pub(crate) fn root_of_running(&self, container: &Container) -> Result<OwnedFd> {
        let gone = || Error::Conflict(format!("container {} is not running", container.id));
        let path = format!("/proc/{}/root", container.details.status.pid);
        let root = orlop_sys::path::open_directory(Path::new(&path)).map_err(|_| gone())?;
        // Checked after the open: before, the number could have gone to another process.
        if self.is_alive(container) { Ok(root) } else { Err(gone()) }
    }

    pub(crate) fn require_not_paused(&self, container: &Container) -> Result<()> {
        if container.details.status.paused {
            let id = container.id;
            return Err(Error::Conflict(format!("Container {id} is paused, unpause the container before exec")));
        }
        Ok(())
    }

    /// Starts a process in a running container. The connection goes into [`Engine::session`].
    pub fn exec(&self, name: &str, request: &ExecRequest) -> Result<Option<Connection>> {
        let container = self.container(name)?;
        self.require_running(&container)?;
        self.require_not_paused(&container)?;
        if request.command.is_empty() {
            return Err(Error::NoCommand);
        }
        let config = &container.details.config;
        let root = self.root_of_running(&container)?;
        let user = user::resolve(
            &root,
            request.user.as_deref().unwrap_or(&config.user),
            &container.details.host.options.group_add,
        )?;
        let mut env = config.env.clone();
        for entry in &request.env {
            let name = entry.split_once('=').map_or(entry.as_str(), |(name, _)| name);
            env.retain(|present| present.split_once('=').is_none_or(|(present, _)| present != name));
            if entry.contains('=') {
                env.push(entry.clone());
            }
        }
        let mut confined = container.clone();
        confined.details.host.options.privileged |= request.privileged;
        let process = ProcessInput {
            args: request.command.clone(),
            env: environment(&env, &config.hostname, request.tty, &user.home),
            cwd: absolute_or_root(request.working_dir.as_deref().unwrap_or(&config.working_dir)),
            uid: user.uid,
            gid: user.gid,
            additional_gids: user.additional_gids,
            terminal: request.tty,
            console_size: request.session.as_ref().and_then(crate::attach::console_size),
            confinement: self.confinement(&confined)?,
        };
        let (bundle, id) = (self.bundle(container.id), Id::random().hex());
        self.emit_container(&container, &format!("exec_create: {}", request.command.join(" ")), &[("execID", &id)]);
        let connection = match &request.session {
            Some(options) => Some(
                self.with_shim(&container, || orlop_runtime::attach::exec(&bundle, &id, process.clone(), options))?,
            ),
            None => {
                self.with_shim(&container, || orlop_runtime::attach::exec_detached(&bundle, &id, process.clone()))?;
                None
            }
        };
        self.emit_container(&container, &format!("exec_start: {}", request.command.join(" ")), &[("execID", &id)]);
        Ok(connection)
    }
}
