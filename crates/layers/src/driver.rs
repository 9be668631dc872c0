//! Storage drivers: a root file system out of a chain of layers.

use crate::Result;
use orlop_model::Id;
use std::path::{Path, PathBuf};

/// Which driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverKind {
    /// The kernel's overlay file system.
    Overlay2,
    /// Plain copies, for file systems where overlay can't be used.
    Vfs,
}

impl DriverKind {
    /// Docker's name of it, and the name of its directory.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Overlay2 => "overlay2",
            Self::Vfs => "vfs",
        }
    }
}

/// Makes the root file system of a container out of a chain of layers.
///
/// Used in this order: [`prepare`](Self::prepare) once, then [`mount`](Self::mount) and
/// [`unmount`](Self::unmount) as often as the container starts and stops, at last [`release`](Self::release) and a
/// rename into the trash, or [`remove`](Self::remove). All may be called again after a crash.
pub trait Driver: Send + Sync {
    /// Which driver this is.
    fn kind(&self) -> DriverKind;

    /// `<data root>/<driver>`.
    fn home(&self) -> &Path;

    /// The directory of a layer.
    fn directory(&self, id: Id) -> PathBuf {
        self.home().join(id.hex())
    }

    /// The files of a layer.
    fn diff(&self, id: Id) -> PathBuf {
        self.directory(id).join("diff")
    }

    /// Makes a writable layer over `chain` (topmost first, may be empty).
    fn prepare(&self, id: Id, chain: &[Id]) -> Result<()>;

    /// Mounts a writable layer, or finds it mounted; returns the root file system.
    fn mount(&self, id: Id) -> Result<PathBuf>;

    /// Unmounts a writable layer; not mounted is no error.
    fn unmount(&self, id: Id) -> Result<()>;

    /// Whether it is mounted in this mount namespace.
    fn is_mounted(&self, id: Id) -> Result<bool>;

    /// `GraphDriver.Data` of `inspect`: names and values as Docker prints them, in its order.
    fn data(&self, id: Id) -> Result<Vec<(&'static str, String)>>;

    /// Unmounts and returns the directory that may now be renamed into the trash.
    fn release(&self, id: Id) -> Result<PathBuf>;

    /// Removes a layer, image layers included; not there is no error.
    fn remove(&self, id: Id) -> Result<()>;
}

/// Opens the driver `wanted`, or the best that works on the file system of `data_root`.
pub fn open(data_root: &Path, _wanted: Option<DriverKind>) -> Result<Box<dyn Driver>> {
    Err(crate::Error::DriverUnusable {
        driver: "overlay2",
        path: data_root.to_owned(),
        reason: "being built".to_owned(),
    })
}
