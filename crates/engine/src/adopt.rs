//! A new shim for a container whose own was killed.

use crate::container::Phase;
use crate::{Container, Engine, Error, Result};
use orlop_runtime::attach::Connection;

impl Engine {
    /// Gives a running container a shim again when it has lost its own. Whoever needs one calls this first.
    pub(crate) fn ensure_shim(&self, container: &Container) -> Result<()> {
        if container.details.status.phase != Phase::Running || self.has_shim(container) {
            return Ok(());
        }
        let _lock = self.state.lock("container", &container.id.hex())?;
        match self.row(container.id)? {
            Some(container) if container.details.status.phase == Phase::Running => self.adopt_locked(&container),
            _ => Ok(()),
        }
    }

    /// Asks the shim of a running container, which gets another when its own goes at this very moment.
    pub(crate) fn with_shim<T>(
        &self,
        container: &Container,
        ask: impl Fn() -> std::result::Result<T, orlop_runtime::Error>,
    ) -> Result<T> {
        self.ensure_shim(container)?;
        match ask() {
            // Nobody listened, so nothing was asked.
            Err(orlop_runtime::Error::NotRunning(_)) if self.is_alive(container) => {
                self.ensure_shim(container)?;
                Ok(ask()?)
            }
            // A verb holds it at this very moment, or was killed while it did.
            Err(orlop_runtime::Error::Runtime(text)) if text.contains("exec in a paused container") => {
                self.wait_until_let_go(container)?;
                Ok(ask()?)
            }
            answer => Ok(answer?),
        }
    }

    /// Waits for the verb that holds it still; an error when the user has paused it.
    fn wait_until_let_go(&self, container: &Container) -> Result<()> {
        let _lock = self.state.lock("container", &container.id.hex())?;
        match self.settled(container.id)? {
            Some(container) if container.details.status.paused => self.require_not_paused(&container),
            // With an OCI runtime that freezes in its own way, what a killed verb had called may have been late.
            Some(container) => self.thaw(&container),
            None => Err(Error::NoSuchContainer(container.name.to_string())),
        }
    }

    fn has_shim(&self, container: &Container) -> bool {
        Connection::connect(&self.bundle(container.id)).is_ok()
    }

    /// The caller holds the container's lock, and its row says Running.
    pub(crate) fn adopt_locked(&self, container: &Container) -> Result<()> {
        if self.has_shim(container) || !self.is_alive(container) {
            return Ok(());
        }
        match orlop_runtime::launch::adopt(&self.bundle(container.id), self.internal(&["adopt"])) {
            // It has ended at this very moment, and is reaped as any other.
            Err(orlop_runtime::Error::NotRunning(_)) => Ok(()),
            adopted => Ok(adopted?),
        }
    }
}
