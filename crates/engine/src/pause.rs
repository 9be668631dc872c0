//! `pause` and `unpause`: the freezer of the container's cgroup; where there is none, what the OCI runtime has instead.

use crate::container::Phase;
use crate::open::remove_file;
use crate::{Container, Engine, Error, Result};
use orlop_runtime::freezer::Freezer;
use orlop_runtime::oci::OciRuntime;
use orlop_runtime::shim::PAUSED;
use orlop_sys::durable;

impl Engine {
    /// Stops every process of a container where it stands.
    pub fn pause(&self, name: &str) -> Result<()> {
        let id = self.container(name)?.id;
        let _lock = self.state.lock("container", &id.hex())?;
        let mut container = self.settled(id)?.ok_or_else(|| Error::NoSuchContainer(name.to_owned()))?;
        self.require_running(&container)?;
        if container.details.status.paused {
            return Err(Error::Conflict(format!("Container {id} is already paused")));
        }
        // First what others look at: a container that is frozen without a word of it would seem to hang.
        self.set_paused(&mut container, true)?;
        if let Err(error) = self.freeze(&container) {
            self.set_paused(&mut container, false)?;
            return Err(error);
        }
        self.emit_container(&container, "pause", &[]);
        Ok(())
    }

    /// Lets a paused container go on.
    pub fn unpause(&self, name: &str) -> Result<()> {
        let id = self.container(name)?.id;
        let _lock = self.state.lock("container", &id.hex())?;
        let mut container = self.settled(id)?.ok_or_else(|| Error::NoSuchContainer(name.to_owned()))?;
        if container.details.status.phase != Phase::Running || !container.details.status.paused {
            return Err(Error::Conflict(format!("Container {id} is not paused")));
        }
        self.unpause_locked(&mut container)
    }

    /// The caller holds the lock, and the container runs.
    pub(crate) fn unpause_locked(&self, container: &mut Container) -> Result<()> {
        self.thaw(container)?;
        self.set_paused(container, false)?;
        self.emit_container(container, "unpause", &[]);
        Ok(())
    }

    /// Runs `body` under the container's lock; with `still`, a running container is frozen meanwhile. When this is killed,
    /// the next command lets it go on: a lease says that something is under way.
    pub(crate) fn held<T>(
        &self,
        container: &Container,
        still: bool,
        body: impl FnOnce(&Container) -> Result<T>,
    ) -> Result<T> {
        let id = container.id;
        let _lock = self.state.lock("container", &id.hex())?;
        let mut container = self.settled(id)?.ok_or_else(|| Error::NoSuchContainer(container.name.to_string()))?;
        if !still || !self.is_running(&container) || container.details.status.paused {
            return body(&container);
        }
        let lease = self.state.lease()?;
        self.state.write(|tx| lease.put(tx, "hold", container.layers.clone()))?;
        container.details.status.held = true;
        self.set_paused(&mut container, true)?;
        let done = self.freeze(&container).and_then(|()| body(&container));
        let released = self.release_held(&mut container);
        self.state.write(|tx| lease.end(tx))?;
        done.and_then(|value| released.map(|()| value))
    }

    /// Lets a container go on that a verb has held. The caller holds its lock.
    pub(crate) fn release_held(&self, container: &mut Container) -> Result<()> {
        self.thaw(container)?;
        self.set_paused(container, false)
    }

    fn freeze(&self, container: &Container) -> Result<()> {
        match Freezer::of(&Self::cgroup_path(container)) {
            Some(freezer) => Ok(freezer.freeze()?),
            None => Ok(self.runtime_of(container)?.pause(&container.id.hex())?),
        }
    }

    /// Whatever the row says, its processes go on. The caller holds its lock.
    pub(crate) fn thaw(&self, container: &Container) -> Result<()> {
        if let Some(freezer) = Freezer::of(&Self::cgroup_path(container)) {
            return match freezer.thaw() {
                // It ended meanwhile.
                Err(_) if !self.is_alive(container) => Ok(()),
                thawed => Ok(thawed?),
            };
        }
        match self.runtime_of(container)?.resume(&container.id.hex()) {
            // A pause that was cut short: nothing was frozen yet. Or nothing is left that could be.
            Err(error) if error.to_string().contains("not paused") || !self.is_alive(container) => Ok(()),
            resumed => Ok(resumed?),
        }
    }

    fn set_paused(&self, container: &mut Container, paused: bool) -> Result<()> {
        self.update(container, |container| {
            let status = &mut container.details.status;
            status.paused = paused;
            status.held &= paused;
        })?;
        // The shim checks the health of nothing that stands still.
        let mark = self.bundle(container.id).join(PAUSED);
        if paused { Ok(durable::write_file_volatile(&mark, b"", 0o600)?) } else { remove_file(&mark) }
    }

    /// For verbs that need a program that runs, in Docker's words.
    pub(crate) fn require_running(&self, container: &Container) -> Result<()> {
        let status = &container.details.status;
        if status.restarting.is_some() {
            return Err(Error::Conflict(format!(
                "Container {} is restarting, wait until the container is running",
                container.id
            )));
        }
        match status.phase {
            Phase::Running => Ok(()),
            _ => Err(Error::Conflict(format!("container {} is not running", container.id))),
        }
    }
}
