//! `diff`: what a container changed against its image.

use crate::create::topmost_first;
use crate::{Engine, Result};
use orlop_layers::Change;
use orlop_layers::changes::{changes, shown};

impl Engine {
    /// Paths that were added, modified or deleted, in their order; directories above a change count as modified, as in
    /// Docker. What the runtime itself puts in place is left out.
    pub fn diff(&self, name: &str) -> Result<Vec<Change>> {
        let container = self.container(name)?;
        // A removal waits until this has been read.
        let _lock = self.state.lock_shared("container", &container.id.hex())?;
        let chain = topmost_first(&container.layers);
        Ok(shown(changes(self.driver()?, container.writable, &chain)?))
    }
}
