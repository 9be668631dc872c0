//! A new shim for a container whose own was killed.

use crate::container::Phase;
use crate::{Container, Engine, Result};
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
            // The runtime that a killed verb had called froze it after everybody had let go.
            Err(orlop_runtime::Error::Runtime(text)) if text.contains("exec in a paused container") => {
                self.thaw(container)?;
                Ok(ask()?)
            }
            answer => Ok(answer?),
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
