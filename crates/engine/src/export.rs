//! `export`: a container's root file system as a tar archive.

use crate::{Container, Engine, Error, Result};
use orlop_images::Aside;
use orlop_layers::DriverKind;
use orlop_layers::pack::pack_tree;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

impl Engine {
    /// Writes the container's files to `out`, without what is in volumes and other mounts. Returns files that changed
    /// while they were read; what stands in the archive for them may be torn.
    pub fn export(&self, name: &str, out: &mut dyn Write) -> Result<Vec<PathBuf>> {
        let container = self.container(name)?;
        let torn = self.with_root(&container, |root| Ok(pack_tree(root, out)?))?;
        self.emit_container(&container, "export", &[]);
        Ok(torn)
    }

    /// [`Self::export`] into the file at `path`, which is whole and on the disk afterwards, or as it was before.
    pub fn export_file(&self, name: &str, path: &Path) -> Result<Vec<PathBuf>> {
        let container = self.container(name)?;
        let torn = self.with_root(&container, |root| {
            // Opened here, since a file can't be linked from the mount namespace before into the one that it is in now.
            let mut aside = Aside::beside(path)?;
            let torn = pack_tree(root, &mut aside.file)?;
            aside.replace()?;
            Ok(torn)
        })?;
        self.emit_container(&container, "export", &[]);
        Ok(torn)
    }

    /// Runs `body` on the container's root file system, which it must not follow out of. One that doesn't run is mounted
    /// for it, and neither started nor removed meanwhile.
    fn with_root<T>(&self, container: &Container, body: impl FnOnce(OwnedFd) -> Result<T>) -> Result<T> {
        let driver = self.driver()?;
        let lock = self.state.lock("container", &container.id.hex())?;
        let settled = self.settled(container.id)?.ok_or_else(|| Error::NoSuchContainer(container.name.to_string()))?;
        if self.is_running(&settled) {
            // Its start has mounted it, in this mount namespace or in another.
            let at_hand = driver.kind() == DriverKind::Vfs || driver.is_mounted(settled.writable)?;
            let root = match at_hand {
                true => orlop_sys::path::open_directory(&driver.mount(settled.writable)?)?,
                false => self.root_of_running(&settled)?,
            };
            drop(lock);
            return body(root);
        }
        body(self.mount_files_privately(&settled)?)
    }
}
