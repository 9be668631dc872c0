//! The driver that copies: a writable layer starts as a whole copy of what its chain shows, with shared blocks where
//! the file system can. Slow and large, but it works everywhere.

use super::{Driver, DriverKind, create_directory, read_lower, visible, write_lower};
use crate::Result;
use crate::merged::Merged;
use orlop_model::Id;
use orlop_sys::copy::remove_tree;
use std::path::{Path, PathBuf};

/// See the module.
#[derive(Debug)]
pub struct Vfs {
    home: PathBuf,
}

impl Vfs {
    /// Opens the driver below `data_root`.
    pub fn open(data_root: &Path) -> Result<Self> {
        let home = data_root.join(DriverKind::Vfs.name());
        create_directory(&home, 0o710)?;
        Ok(Self { home })
    }
}

impl Driver for Vfs {
    fn kind(&self) -> DriverKind {
        DriverKind::Vfs
    }

    fn home(&self) -> &Path {
        &self.home
    }

    fn prepare(&self, id: Id, chain: &[Id]) -> Result<()> {
        let chain = visible(self, chain)?;
        let directory = self.directory(id);
        create_directory(&directory, 0o710)?;
        let diff = directory.join("diff");
        // `lower` comes last, so without it an earlier attempt was not finished.
        if directory.join("lower").exists() {
            return Ok(());
        }
        remove_tree(&diff)?;
        create_directory(&diff, 0o755)?;
        let parents: Vec<PathBuf> = chain.iter().map(|&layer| self.diff(layer)).collect();
        Merged::open(&parents)?.copy_to(&diff)?;
        // `lower` says that the copy is whole, also after a power cut.
        orlop_sys::durable::sync_file_system(&diff)?;
        write_lower(&directory, &chain)
    }

    fn mount(&self, id: Id) -> Result<PathBuf> {
        read_lower(&self.directory(id), id)?;
        Ok(self.diff(id))
    }

    fn unmount(&self, _id: Id) -> Result<()> {
        Ok(())
    }

    /// There is nothing to mount: the directory itself is the root file system.
    fn is_mounted(&self, _id: Id) -> Result<bool> {
        Ok(false)
    }

    fn data(&self, id: Id) -> Result<Vec<(&'static str, String)>> {
        Ok(vec![("Dir", self.diff(id).display().to_string())])
    }

    fn image_data(&self, chain: &[Id]) -> Vec<(&'static str, String)> {
        chain.first().map(|&top| vec![("Dir", self.diff(top).display().to_string())]).unwrap_or_default()
    }
}
