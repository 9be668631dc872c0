//! `image scrub`, `image why`, and containers that leave damaged layers behind.

use crate::create::topmost_first;
use crate::{Container, Engine, Result};
use orlop_images::{Scrubbed, Why};

impl Engine {
    /// `image scrub`: what differs from what was loaded, in these images or in all. Damaged layers are marked, so that
    /// the next load or pull stores them anew; a dry run marks nothing. `progress` hears how many layers of how many
    /// were checked.
    pub fn image_scrub(
        &self,
        names: &[String],
        dry_run: bool,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Scrubbed> {
        Ok(orlop_images::scrub(self.image_store()?, names, dry_run, progress)?)
    }

    /// `image why`: what keeps the layers of an image, or a layer.
    pub fn image_why(&self, name: &str) -> Result<Why> {
        Ok(orlop_images::why(self.image_store()?, name)?)
    }

    /// Puts a container that is about to start over the layers that have come in the place of damaged ones. The caller
    /// holds its lock. A crash in between leaves a row that names both, and the next start goes on from there.
    pub(crate) fn leave_damaged_layers(&self, container: &mut Container) -> Result<()> {
        let replaced = self.state.read(|tx| orlop_layers::store::replacements(tx, &container.layers))?;
        let Some(chain) = replaced else { return Ok(()) };
        let driver = self.driver()?;
        driver.unmount(container.writable)?;
        let old: Vec<_> = container.layers.iter().filter(|layer| !chain.contains(layer)).copied().collect();
        self.update(container, |container| container.layers = [&chain[..], &old[..]].concat())?;
        driver.rebase(container.writable, &topmost_first(&chain))?;
        self.update(container, |container| container.layers = chain)?;
        // The damaged ones, when no other container is on them.
        orlop_layers::store::remove_unreferenced(&self.state, driver)?;
        Ok(())
    }
}
